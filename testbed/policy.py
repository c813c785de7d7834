# SPDX-License-Identifier: BSD-3-Clause
"""Operator policies: who blocked what, where, when, and how well each of that is documented.

An operator is a TOML file: its dated table ([[period]]: access networks, from, to), what is
documented of its service ([[service]]), and one [[hypothesis]] per mechanism that could explain the
symptoms, each a list of rules (`match` -> `act`, first match wins). Nothing is known of the
mechanisms in packets, so a rule states its evidence grade, its source, and `hypothesis = true`.
Hypotheses that several operators share stand in a file of their own, named by `include`.

Evidence grades: A measured or peer-reviewed; B packet captures or developers' reverse engineering;
C users' symptoms or press; D legal or official text.
"""

from __future__ import annotations

import datetime
import ipaddress
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, field_validator, model_validator

from captures.folders import shown
from captures.tables import Table, hint, try_table
from classifier.verdicts import APPS, ROLES
from testbed.errors import TestbedError

OPERATORS = Path(__file__).resolve().parent / "operators"

Access = Literal["3g", "4g", "adsl", "fibre", "wifi"]
Grade = Literal["A", "B", "C", "D"]
Act = Literal["pass", "drop", "drop-media", "dns-lie"]
Scope = Literal["packet", "flow"]

ACCESS: tuple[Access, ...] = ("3g", "4g", "adsl", "fibre", "wifi")

NAME = re.compile(r"(\*\.)?([a-z0-9_]([a-z0-9_-]*[a-z0-9_])?\.)*[a-z0-9]([a-z0-9-]*[a-z0-9])?")
PORTS = re.compile(r"(\d{1,5})-(\d{1,5})")


class Match(Table):
    """What a packet must meet: every key given must hold; of a list, one entry is enough.

    app, role, verdict: what the classifier says of the flow, at least that sure; stun: whether the
    payload is STUN (the magic cookie, on any port); name: host names in TLS, QUIC and HTTP, dns:
    names asked for in DNS, both as `host.example` (that name) or `*.example` (that name and every
    name under it); addresses, ports: of the end away from the subscriber, addresses as prefixes or
    names of sets; protocol: of the transport; direction: up is away from the subscriber.
    """

    app: list[str] = Field(default=[])
    role: list[str] = Field(default=[])
    verdict: Literal["unsure", "certain"] = "certain"
    stun: bool | None = None
    name: list[str] = Field(default=[])
    dns: list[str] = Field(default=[])
    addresses: list[str] = Field(default=[])
    ports: list[int | str] = Field(default=[])
    protocol: Literal["tcp", "udp"] | None = None
    direction: Literal["up", "down"] | None = None

    @field_validator("app")
    @classmethod
    def _apps(cls, words: list[str]) -> list[str]:
        return known_words(words, APPS[1:])

    @field_validator("role")
    @classmethod
    def _roles(cls, words: list[str]) -> list[str]:
        return known_words(words, ROLES)

    @field_validator("name", "dns")
    @classmethod
    def _names(cls, words: list[str]) -> list[str]:
        for word in words:
            if not NAME.fullmatch(word):
                raise ValueError(
                    f"got {word!r}, expected a host name in lower case, or *. and a host name"
                )
        return words

    @field_validator("ports")
    @classmethod
    def _ports(cls, words: list[int | str]) -> list[int | str]:
        for word in words:
            port_range(word)
        return words

    @field_validator("addresses")
    @classmethod
    def _prefixes(cls, words: list[str]) -> list[str]:
        for word in words:
            if "/" in word or word[:1].isdigit():
                prefix(word)
        return words

    @property
    def flow_words(self) -> bool:
        """Tell whether the classifier's verdict on the flow is asked for."""
        return bool(self.app or self.role)


class Rule(Table):
    """One rule.

    act: "pass", "drop", "drop-media" (drops what carries media and lets set-up through) or
    "dns-lie" (answers the question itself, wrongly); scope: whether a match condemns the packet
    or its whole flow from then on; probability: of enforcement, drawn once per flow or once per
    client (`per`); aims: apps the rule is meant for, where `match.app` does not say.
    """

    name: str
    match: Match
    act: Act
    scope: Scope = "flow"
    probability: float = Field(default=1.0, gt=0.0, le=1.0)
    per: Literal["flow", "client"] = "flow"
    grade: Grade
    source: str
    hypothesis: bool = False
    aims: list[str] = Field(default=[])
    note: str = ""

    @field_validator("aims")
    @classmethod
    def _aims(cls, words: list[str]) -> list[str]:
        return known_words(words, APPS[1:])

    @model_validator(mode="after")
    def _sound(self) -> Rule:
        given = self.match.model_dump(exclude_defaults=True)
        if not given:
            raise ValueError("match is empty and would meet every packet; say what it must meet")
        if self.act == "dns-lie" and not self.match.dns:
            raise ValueError("act dns-lie needs match.dns, the names to lie about")
        if self.act == "drop-media" and "scope" in self.model_fields_set:
            raise ValueError("act drop-media is decided packet by packet; leave scope out")
        return self

    @property
    def aimed_at(self) -> list[str]:
        """Return the apps this rule is meant for; [] where it is meant for all."""
        return self.aims or self.match.app


class Hypothesis(Table):
    """One mechanism that could explain what users saw; `rules_of` takes another's rules over."""

    id: str = Field(pattern="^[a-z0-9][a-z0-9-]*$")
    title: str
    description: str
    rules_of: str | None = None
    rules: list[Rule] = Field(default=[], alias="rule")

    @model_validator(mode="after")
    def _sound(self) -> Hypothesis:
        if bool(self.rules_of) == bool(self.rules):
            raise ValueError("give either [[hypothesis.rule]] tables or rules_of, one of the two")
        names = [rule.name for rule in self.rules]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two rules are called {twice[0]!r}; give each a name of its own")
        return self


class Period(Table):
    """From when (included) to when (excluded) calls were blocked on some access networks.

    only: ids of the hypotheses it holds for, [] for all; probability scales that of every rule,
    and is then drawn once per flow or client (`per`).
    """

    access: list[Access] = Field(min_length=1)
    begin: datetime.date = Field(alias="from")
    end: datetime.date = Field(alias="to")
    grade: Grade
    source: str
    hypothesis: bool = False
    only: list[str] = Field(default=[])
    probability: float = Field(default=1.0, gt=0.0, le=1.0)
    per: Literal["flow", "client"] = "client"
    note: str = ""

    @model_validator(mode="after")
    def _sound(self) -> Period:
        if self.end <= self.begin:
            raise ValueError(f"from {self.begin} to {self.end} holds no day; `to` is excluded")
        return self

    def covers(self, hypothesis: str, access: str, date: datetime.date) -> bool:
        """Tell whether the block is in force for a hypothesis, an access network and a day."""
        if self.only and hypothesis not in self.only:
            return False
        return access in self.access and self.begin <= date < self.end


class Service(Table):
    """Whether an operator's service on some access networks is documented at all."""

    access: list[Access] = Field(min_length=1)
    documented: bool
    source: str


class AddressSet(Table):
    """A named set of address prefixes."""

    name: str = Field(pattern="^[a-z][a-z0-9-]*$")
    addresses: list[str] = Field(min_length=1)
    grade: Grade
    source: str

    @field_validator("addresses")
    @classmethod
    def _prefixes(cls, words: list[str]) -> list[str]:
        for word in words:
            prefix(word)
        return words


class Mechanisms(Table):
    """A file of hypotheses that several operators share."""

    sets: list[AddressSet] = Field(default=[], alias="set")
    hypotheses: list[Hypothesis] = Field(default=[], alias="hypothesis")


class Operator(Mechanisms):
    """One operator: its dated table, its documented service, its hypotheses.

    sets and hypotheses include those of the files that `include` names.
    """

    id: str = Field(pattern="^[a-z0-9][a-z0-9-]*$")
    title: str
    country: str = Field(pattern="^[A-Z]{2}$")
    include: list[str] = Field(default=[])
    periods: list[Period] = Field(default=[], alias="period")
    services: list[Service] = Field(default=[], alias="service")

    def service(self, access: str) -> bool:
        """Tell whether this operator's service on an access network is documented."""
        return all(one.documented for one in self.services if access in one.access)

    def hypothesis(self, name: str) -> Hypothesis:
        """Return a hypothesis by its id; raises TestbedError with the closest match."""
        for one in self.hypotheses:
            if one.id == name:
                return one
        known = [one.id for one in self.hypotheses]
        raise TestbedError(f"operator {self.id}: no hypothesis {name!r}{hint(name, known)}")

    def period(self, hypothesis: str, access: str, date: datetime.date) -> Period | None:
        """Return the first period in force, None outside the dated table."""
        for one in self.periods:
            if one.covers(hypothesis, access, date):
                return one
        return None

    def policy(self, hypothesis: str, access: str, date: datetime.date) -> Policy:
        """Return the rules in force under a hypothesis; none outside the dated table."""
        if access not in ACCESS:
            raise TestbedError(f"access: got {access!r}, expected one of {', '.join(ACCESS)}")
        about = self.hypothesis(hypothesis)
        period = self.period(hypothesis, access, date)
        rules: tuple[Rule, ...] = ()
        if period is not None:
            rules = tuple(scaled(rule, period) for rule in self.rules_of(about))
        return Policy(
            rules, self.sets_of(rules), self.id, about.id, about.title, access, date, period
        )

    def rules_of(self, hypothesis: Hypothesis) -> list[Rule]:
        """Return the rules of a hypothesis, its own or the ones it takes over."""
        if hypothesis.rules_of is None:
            return hypothesis.rules
        return self.rules_of(self.hypothesis(hypothesis.rules_of))

    def sets_of(self, rules: tuple[Rule, ...]) -> tuple[AddressSet, ...]:
        """Return the address sets that some rules name."""
        named = {word for rule in rules for word in rule.match.addresses}
        return tuple(one for one in self.sets if one.name in named)


@dataclass(frozen=True)
class Policy:
    """The rules in force for one operator, hypothesis, access network and day.

    Two policies of equal rules print and compare equal whatever they are in force for, so that
    what depends on the rules alone need not be computed twice.
    """

    rules: tuple[Rule, ...] = ()
    sets: tuple[AddressSet, ...] = ()
    operator: str = field(default="", repr=False, compare=False)
    hypothesis: str = field(default="", repr=False, compare=False)
    title: str = field(default="", repr=False, compare=False)
    access: str = field(default="", repr=False, compare=False)
    date: datetime.date | None = field(default=None, repr=False, compare=False)
    period: Period | None = field(default=None, repr=False, compare=False)

    def prefixes(self, rule: Rule) -> list[str]:
        """Return the address prefixes of a rule, sets spelt out."""
        sets = {one.name: one.addresses for one in self.sets}
        return [part for word in rule.match.addresses for part in sets.get(word, [word])]


EMPTY = Policy()


# ---- words


def known_words(words: list[str], choices: tuple[str, ...]) -> list[str]:
    """Return the words; raises ValueError with the closest match of one that is no choice."""
    for word in words:
        if word not in choices:
            expected = ", ".join(choices)
            raise ValueError(
                f"got {word!r}, expected some of {expected}{hint(word, list(choices))}"
            )
    return words


def port_range(word: int | str) -> tuple[int, int]:
    """Return the first and last port of `5060` or `"3478-3481"`; raises ValueError."""
    if isinstance(word, int):
        first = last = word
    else:
        found = PORTS.fullmatch(word)
        first, last = (int(found[1]), int(found[2])) if found else (-1, -1)
    if not 0 < first <= last < 65536:
        raise ValueError(f'got {word!r}, expected a port (5060) or a range ("3478-3481")')
    return first, last


def prefix(word: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    """Return an address prefix; raises ValueError."""
    try:
        return ipaddress.ip_network(word)
    except ValueError as error:
        raise ValueError(
            f"got {word!r}, expected an address prefix such as 198.18.0.0/15 ({error})"
        ) from None


def scaled(rule: Rule, period: Period) -> Rule:
    """Return a rule as rarely enforced as its period says."""
    if period.probability == 1.0:
        return rule
    chance = rule.probability * period.probability
    return rule.model_copy(update={"probability": chance, "per": period.per})


# ---- files


def available() -> list[str]:
    """Return the ids of the operators that ship with the lab."""
    return sorted(path.stem for path in OPERATORS.glob("*.toml"))


def load(name: str | Path) -> Operator:
    """Return an operator by the name of one that ships, or by the path of a file.

    Raises TestbedError with every problem of the file and of those it includes, one a line.
    """
    path = Path(name)
    if path.suffix != ".toml":
        path = OPERATORS / f"{name}.toml"
        if not path.is_file():
            known = available()
            raise TestbedError(
                f"no operator {str(name)!r} ships with the lab; give one of {', '.join(known)}, "
                f"or the path of a .toml file{hint(str(name), known)}"
            )
    operator, problems = try_load(path)
    if operator is None:
        raise TestbedError("\n".join(problems))
    return operator


def try_load(path: Path) -> tuple[Operator | None, list[str]]:
    """Return an operator file (None where it is not sound) and its problems."""
    operator, problems = try_table(path, Operator)
    raw = raw_table(path)
    sets, hypotheses = [], []
    raws = [raw]
    for word in words_of(raw, "include"):
        shared, found = try_table(path.parent / word, Mechanisms)
        problems += found
        raws.append(raw_table(path.parent / word))
        if shared is not None:
            sets += shared.sets
            hypotheses += shared.hypotheses
    problems += [f"{shown(path)}: {line}" for line in reference_problems(raws)]
    if operator is None or problems:
        return None, problems
    whole = {"sets": [*operator.sets, *sets], "hypotheses": [*operator.hypotheses, *hypotheses]}
    return operator.model_copy(update=whole), []


def raw_table(path: Path) -> dict[str, Any]:
    """Return a TOML file as plain values, {} where it cannot be read (told elsewhere)."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}


def tables_of(raw: Any, key: str) -> list[dict[str, Any]]:
    """Return the tables of a list, whatever else is wrong with the file."""
    found = raw.get(key, []) if isinstance(raw, dict) else []
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def words_of(raw: Any, key: str) -> list[str]:
    """Return the words of a list, whatever else is wrong with the file."""
    found = raw.get(key, []) if isinstance(raw, dict) else []
    return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []


def reference_problems(raws: list[dict[str, Any]]) -> Iterator[str]:
    """Yield every name that refers to nothing, in a file and what it includes."""
    hypotheses = [one for raw in raws for one in tables_of(raw, "hypothesis")]
    known = [str(one.get("id")) for one in hypotheses]
    sets = [str(one.get("name")) for raw in raws for one in tables_of(raw, "set")]
    for name in sorted({name for name in known if known.count(name) > 1}):
        yield f"hypothesis {name}: two hypotheses have this id; give each its own"
    for one in hypotheses:
        title, taken = one.get("id"), one.get("rules_of")
        own = [str(other.get("id")) for other in hypotheses if "rules_of" not in other]
        if isinstance(taken, str) and taken not in own:
            yield (
                f"hypothesis {title}: rules_of: no hypothesis {taken!r} with rules of its own"
                f"{hint(taken, own)}"
            )
        for rule in tables_of(one, "rule"):
            for word in words_of(rule.get("match"), "addresses"):
                if "/" not in word and not word[:1].isdigit() and word not in sets:
                    yield (
                        f"hypothesis {title}: rule {rule.get('name')}: match: addresses: "
                        f"no [[set]] {word!r}{hint(word, sets)}"
                    )
    for at, period in enumerate(tables_of(raws[0], "period"), 1):
        for word in words_of(period, "only"):
            if word not in known:
                yield f"period {at}: only: no hypothesis {word!r}{hint(word, known)}"
