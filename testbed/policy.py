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
import hashlib
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
from testbed.link import Link

OPERATORS = Path(__file__).resolve().parent / "operators"

Access = Literal["3g", "4g", "adsl", "fibre", "wifi"]
Grade = Literal["A", "B", "C", "D"]
Act = Literal[
    "pass", "drop", "stall", "drop-media", "dns-lie", "reset", "finish", "block-page", "delay",
    "jitter", "loss", "police", "shape", "censor",
]  # fmt: skip
Scope = Literal["packet", "flow", "call", "client", "pair", "server"]
Fail = Literal["open", "closed"]

ACCESS: tuple[Access, ...] = ("3g", "4g", "adsl", "fibre", "wifi")

#: What a payload can look like; its bit in a rule is its position.
PAYLOADS = ("unknown", "stun", "channel", "dtls-hello", "dtls", "rtp", "rtcp", "quic", "tls-hello",
            "tls", "dns", "sip", "http")  # fmt: skip
#: STUN and TURN methods by name (RFC 8489 section 18.2, RFC 8656 section 18.1).
METHODS = {"binding": 1, "allocate": 3, "refresh": 4, "send": 6, "data": 7, "create-permission": 8,
           "channel-bind": 9}  # fmt: skip
#: Acts that send frames in somebody else's name.
INJECTED = ("dns-lie", "reset", "finish", "block-page")
#: Acts that may send such frames.
FORGING = (*INJECTED, "censor")
#: Acts that look at each packet anew.
BY_PACKET = ("drop-media", "dns-lie", "censor")
#: What an act needs, and what else may be said of it.
PARAMETERS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "delay": (("delay_ms",), ("jitter_ms",)),
    "jitter": (("jitter_ms",), ()),
    "loss": (("loss",), ("burst",)),
    "police": (("rate_kbit", "bucket_bytes"), ()),
    "shape": (("rate_kbit", "queue_ms"), ()),
    "dns-lie": ((), ("answer",)),
    "censor": (("file",), ()),
    "reset": ((), ("towards",)),
    "finish": ((), ("towards",)),
}

NAME = re.compile(r"(\*\.)?([a-z0-9_]([a-z0-9_-]*[a-z0-9_])?\.)*[a-z0-9]([a-z0-9-]*[a-z0-9])?")
PORTS = re.compile(r"(\d{1,5})-(\d{1,5})")
HELLO = re.compile(r"[0-3][0-9a-f]{15}")
SPAN = re.compile(r"(\d+(?:\.\d+)?)?-(\d+(?:\.\d+)?)?")


class Match(Table):
    """What a packet must meet: every key given must hold; of a list, one entry is enough.

    A range is written `"200-"`, `"-200"`, `"100-200"` or `200`, both ends included.
    """

    app: list[str] = Field(default=[], description="apps, as the classifier names the flow")
    role: list[str] = Field(
        default=[],
        description="what the flow is for: media, setup, control, messaging or other",
    )
    verdict: Literal["unsure", "certain"] = Field(
        default="certain", description="how sure the classifier must be of app and role, at least"
    )
    stun: bool | None = Field(
        default=None, description="whether the payload is STUN: the magic cookie, on any port"
    )
    stun_method: list[str | int] = Field(
        default=[],
        description="STUN and TURN methods, by name (binding, allocate, refresh, send, data, "
        "create-permission, channel-bind) or number; requests and answers alike",
    )
    stun_attribute: list[int] = Field(
        default=[], description="types of STUN attributes, one of which the message must hold"
    )
    payload: list[str] = Field(
        default=[],
        description="what one packet's payload looks like by its first octets: stun, channel "
        "(TURN ChannelData), dtls-hello, dtls, rtp, rtcp, quic, tls-hello, tls, dns, sip, http, "
        "or unknown, which is none of them",
    )
    name: list[str] = Field(
        default=[],
        description="server names in TLS, QUIC and HTTP: `host.example` is that name, "
        "`*.host.example` that name and every name under it",
    )
    name_in: list[Literal["tls", "quic", "http"]] = Field(
        default=[], description="where `name` is looked for; left out, in all three"
    )
    dns: list[str] = Field(default=[], description="names that a DNS question asks for")
    hello: list[str] = Field(
        default=[],
        description="fingerprints of ClientHellos of TLS, DTLS and QUIC, 16 hexadecimal digits "
        "each, as `midcall policy hellos CAPTURE` lists them",
    )
    addresses: list[str] = Field(
        default=[],
        description="prefixes, or names of [[set]]s, of the end away from the subscriber",
    )
    ports: list[int | str] = Field(
        default=[], description="ports, or ranges, of the end away from the subscriber"
    )
    protocol: Literal["tcp", "udp", "other"] | None = Field(
        default=None, description="of the transport; `other` is neither TCP nor UDP"
    )
    size: int | str | None = Field(default=None, description="range of payload octets")
    direction: Literal["up", "down"] | None = Field(
        default=None, description="of the packet: up is away from the subscriber"
    )
    packets: int | str | None = Field(
        default=None, description="range of packets of the flow so far, this one included"
    )
    bytes: int | str | None = Field(
        default=None, description="range of IP bytes of the flow so far, this packet included"
    )
    seconds: float | str | None = Field(
        default=None, description="range of the flow's age when the packet comes"
    )
    entropy: float | str | None = Field(
        default=None,
        description="range, within 0 and 1, of the payload's Shannon entropy over the most that "
        "a payload of its length can have",
    )

    @field_validator("app")
    @classmethod
    def _apps(cls, words: list[str]) -> list[str]:
        return known_words(words, APPS[1:])

    @field_validator("role")
    @classmethod
    def _roles(cls, words: list[str]) -> list[str]:
        return known_words(words, ROLES)

    @field_validator("payload")
    @classmethod
    def _payloads(cls, words: list[str]) -> list[str]:
        return known_words(words, PAYLOADS)

    @field_validator("stun_method")
    @classmethod
    def _methods(cls, words: list[str | int]) -> list[str | int]:
        known_words([word for word in words if isinstance(word, str)], tuple(METHODS))
        return words

    @field_validator("name", "dns")
    @classmethod
    def _names(cls, words: list[str]) -> list[str]:
        for word in words:
            if not NAME.fullmatch(word):
                raise ValueError(
                    f"got {word!r}, expected a host name in lower case, or *. and a host name"
                )
        return words

    @field_validator("hello")
    @classmethod
    def _hellos(cls, words: list[str]) -> list[str]:
        for word in words:
            if not HELLO.fullmatch(word):
                raise ValueError(f"got {word!r}, expected 16 hexadecimal digits in lower case")
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

    @field_validator("size", "packets", "bytes", "seconds", "entropy")
    @classmethod
    def _ranges(cls, word: float | str | None) -> float | str | None:
        if word is not None:
            span(word)
        return word

    @model_validator(mode="after")
    def _sound(self) -> Match:
        if self.name_in and not self.name:
            raise ValueError("name_in says where `name` is looked for, and there is no `name`")
        if "verdict" in self.model_fields_set and not self.flow_words:
            raise ValueError("verdict says how sure app or role must be, and neither is there")
        return self

    @property
    def flow_words(self) -> bool:
        """Tell whether the classifier's verdict on the flow is asked for."""
        return bool(self.app or self.role)


class After(Table):
    """What a flow may still do, counted from its first packet that met the match, that included.

    Of several keys, all must be over.
    """

    packets: int = Field(default=0, ge=0, description="packets of the flow that still pass")
    bytes: int = Field(default=0, ge=0, description="IP bytes of the flow that still pass")
    seconds: float = Field(default=0.0, ge=0.0, description="time in which the flow still passes")

    @model_validator(mode="after")
    def _sound(self) -> After:
        if not (self.packets or self.bytes or self.seconds):
            raise ValueError("give packets, bytes or seconds")
        return self


class Rule(Table):
    """One rule: what it must meet, what is then done, to whom, and how well that is documented."""

    name: str = Field(description="its name, which results and taps show")
    match: Match = Field(description="what a packet must meet")
    act: Act = Field(description="what is done")
    scope: Scope = Field(
        default="flow",
        description="whom a match condemns from then on: the packet alone, its flow, call (a "
        "client's flows of one app), client, server, or pair (a client and a server)",
    )
    lasts_s: float | None = Field(
        default=None,
        gt=0.0,
        description="seconds after which a condemnation ends (residual taint); each match begins "
        "it anew; left out, it never ends",
    )
    after: After | None = Field(
        default=None, description="what the flow may still do before the act begins"
    )
    way: Literal["up", "down"] | None = Field(
        default=None, description="strikes packets of this direction alone, whatever matched"
    )
    probability: float = Field(
        default=1.0, gt=0.0, le=1.0, description="of enforcement, drawn once per flow or client"
    )
    per: Literal["flow", "client"] = Field(
        default="flow", description="what `probability` is drawn for"
    )
    access: list[Access] = Field(
        default=[], description="access networks it holds on; left out, on all"
    )
    begin: datetime.date | None = Field(
        default=None, alias="from", description="first day on which it holds"
    )
    end: datetime.date | None = Field(
        default=None, alias="to", description="day from which it holds no more"
    )
    delay_ms: float = Field(default=0.0, ge=0.0, le=60_000, description="mean delay")
    jitter_ms: float = Field(
        default=0.0, ge=0.0, le=10_000, description="standard deviation of the delay"
    )
    loss: float = Field(default=0.0, ge=0.0, le=1.0, description="share of packets lost")
    burst: float = Field(
        default=0.0,
        ge=0.0,
        description="packets that a bad time lasts on average (Gilbert and Elliott); left out, "
        "losses are independent",
    )
    rate_kbit: float = Field(
        default=0.0, ge=0.0, description="kbit/s of IP packets that get through, each direction"
    )
    bucket_bytes: int = Field(default=0, ge=0, description="depth of the policer's bucket")
    queue_ms: float = Field(default=0.0, ge=0.0, description="longest wait in the shaper's queue")
    path: Literal["in", "on"] = Field(
        default="in",
        description="in: the box stands in the way, and what it answers itself goes no further; "
        "on: it sees a copy, so the original passes and it can only inject",
    )
    towards: Literal["client", "server", "both"] = Field(
        default="both", description="who gets the forged reset or FIN"
    )
    answer: str = Field(
        default="198.18.0.66",
        description="the address that a false DNS answer tells (or `nxdomain`); a question for the "
        "other family is told an address of the lab",
    )
    file: str = Field(
        default="", description="a censor in Python, beside the policy's file (docs/censors.md)"
    )
    digest: str = Field(default="", exclude=True, description="of that file; the lab fills it in")
    grade: Grade = Field(description="evidence grade, A to D")
    source: str = Field(description="who says so")
    hypothesis: bool = Field(default=False, description="true: no packet evidence is public")
    aims: list[str] = Field(
        default=[], description="apps the rule is meant for, where `match.app` does not say"
    )
    note: str = Field(default="", description="anything else")

    @field_validator("aims")
    @classmethod
    def _aims(cls, words: list[str]) -> list[str]:
        return known_words(words, APPS[1:])

    @model_validator(mode="after")
    def _sound(self) -> Rule:
        given = self.match.model_dump(exclude_defaults=True)
        if not given and self.act != "censor":
            raise ValueError("match is empty and would meet every packet; say what it must meet")
        if self.act == "dns-lie" and not self.match.dns:
            raise ValueError("act dns-lie needs match.dns, the names to lie about")
        if self.act in BY_PACKET and "scope" in self.model_fields_set:
            raise ValueError(f"act {self.act} is decided packet by packet; leave scope out")
        if self.lasts_s is not None and self.strikes == "packet":
            raise ValueError("lasts_s needs a scope that lasts: flow, call, client, server or pair")
        if self.begin is not None and self.end is not None and self.end <= self.begin:
            raise ValueError(f"from {self.begin} to {self.end} holds no day; `to` is excluded")
        if self.path == "on" and self.act not in INJECTED:
            raise ValueError(
                f"path on sees copies and can only inject ({', '.join(INJECTED)}), not {self.act}"
            )
        if self.act == "stall" and self.after is None:
            raise ValueError("act stall needs after: what the flow may still do")
        if self.act == "block-page" and self.match.name_in != ["http"]:
            raise ValueError('act block-page answers HTTP; give match.name and name_in = ["http"]')
        if self.answer != "nxdomain":
            host_address(self.answer)
        if "digest" in self.model_fields_set:
            raise ValueError("digest: unknown key; the lab finds it out")
        for problem in parameter_problems(self.act, self.model_fields_set):
            raise ValueError(problem)
        return self

    def holds(self, access: str, date: datetime.date) -> bool:
        """Tell whether the rule is in force on an access network on a day."""
        late = self.begin is not None and date < self.begin
        over = self.end is not None and date >= self.end
        return not late and not over and (not self.access or access in self.access)

    @property
    def strikes(self) -> Scope:
        """Return whom a match condemns."""
        return "packet" if self.act in BY_PACKET else self.scope

    @property
    def aimed_at(self) -> list[str]:
        """Return the apps this rule is meant for; [] where it is meant for all."""
        return self.aims or self.match.app

    @property
    def link(self) -> Link:
        """Return what the act does to packets in time."""
        policing = self.act == "police"
        least = 3.5 * self.jitter_ms if self.act == "jitter" else 0.0
        return Link(
            delay_ms=max(self.delay_ms, least),
            jitter_ms=self.jitter_ms,
            loss=self.loss,
            burst=self.burst,
            rate_kbit=0.0 if policing else self.rate_kbit,
            queue_ms=self.queue_ms,
            police_kbit=self.rate_kbit if policing else 0.0,
            bucket_bytes=self.bucket_bytes,
        )


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

    Without `to` it is not known to have ended.

    only: ids of the hypotheses it holds for, [] for all; probability scales that of every rule,
    and is then drawn once per flow or client (`per`).
    """

    access: list[Access] = Field(min_length=1)
    begin: datetime.date = Field(alias="from")
    end: datetime.date | None = Field(default=None, alias="to")
    grade: Grade
    source: str
    hypothesis: bool = False
    only: list[str] = Field(default=[])
    probability: float = Field(default=1.0, gt=0.0, le=1.0)
    per: Literal["flow", "client"] = "client"
    note: str = ""

    @model_validator(mode="after")
    def _sound(self) -> Period:
        if self.end is not None and self.end <= self.begin:
            raise ValueError(f"from {self.begin} to {self.end} holds no day; `to` is excluded")
        return self

    def covers(self, hypothesis: str, access: str, date: datetime.date) -> bool:
        """Tell whether the block is in force for a hypothesis, an access network and a day."""
        if self.only and hypothesis not in self.only:
            return False
        return access in self.access and self.begin <= date < self.until

    @property
    def until(self) -> datetime.date:
        """Return the day on which it is over, the last one of the calendar where none is known."""
        return self.end or datetime.date.max


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

    sets and hypotheses include those of the files that `include` names. targets: apps whose calls
    it was after, as the periods' sources say ([]: no app's calls), left out where nobody says;
    calls of other apps are bystanders. fail: whether the box lets through ("open") or drops
    ("closed") what it cannot read, and everything when it dies.
    """

    id: str = Field(pattern="^[a-z0-9][a-z0-9-]*$")
    title: str
    country: str = Field(pattern="^[A-Z]{2}$")
    include: list[str] = Field(default=[])
    periods: list[Period] = Field(default=[], alias="period")
    services: list[Service] = Field(default=[], alias="service")
    targets: list[str] | None = None
    fail: Fail = "open"

    @field_validator("targets")
    @classmethod
    def _targets(cls, words: list[str] | None) -> list[str] | None:
        return None if words is None else known_words(words, APPS[1:])

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
            held = [rule for rule in self.rules_of(about) if rule.holds(access, date)]
            rules = tuple(scaled(rule, period) for rule in held)
        return Policy(
            rules,
            self.sets_of(rules),
            self.fail if rules else "open",
            self.id,
            about.id,
            about.title,
            access,
            date,
            period,
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
    fail: Fail = "open"
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


def host_address(word: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return an address; raises ValueError."""
    try:
        return ipaddress.ip_address(word)
    except ValueError:
        raise ValueError(f"got {word!r}, expected an address, or nxdomain") from None


def span(word: float | str) -> tuple[float, float]:
    """Return both ends of a range (infinity for an open one); raises ValueError."""
    if isinstance(word, int | float):
        return float(word), float(word)
    found = SPAN.fullmatch(word)
    if found is None or not (found[1] or found[2]):
        raise ValueError(f'got {word!r}, expected a range: "200-", "-200", "100-200" or 200')
    low, high = float(found[1] or 0), float(found[2] or "inf")
    if high < low:
        raise ValueError(f"got {word!r}: the range ends before it begins")
    return low, high


def parameter_problems(act: str, given: set[str]) -> Iterator[str]:
    """Yield what an act lacks, and what says nothing about it."""
    needed, optional = PARAMETERS.get(act, ((), ()))
    for key in needed:
        if key not in given:
            yield f"act {act} needs {key}"
    known = {key for both in PARAMETERS.values() for keys in both for key in keys}
    for key in sorted(known & given - {*needed, *optional}):
        yield f"{key} says nothing about act {act}; leave it out"


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
    here = path.parent
    raws = [raw]
    for word in words_of(raw, "include"):
        shared, found = try_table(path.parent / word, Mechanisms)
        problems += found
        raws.append(raw_table(path.parent / word))
        if shared is not None:
            sets += shared.sets
            hypotheses += [at_home(one, (here / word).parent) for one in shared.hypotheses]
    problems += [f"{shown(path)}: {line}" for line in reference_problems(raws)]
    if operator is None or problems:
        return None, problems
    own = [at_home(one, here) for one in operator.hypotheses]
    whole = {"sets": [*operator.sets, *sets], "hypotheses": [*own, *hypotheses]}
    return operator.model_copy(update=whole), []


def at_home(hypothesis: Hypothesis, folder: Path) -> Hypothesis:
    """Return a hypothesis whose censors are named by whole paths, from the folder of its file."""
    return hypothesis.model_copy(update={"rules": located(hypothesis.rules, folder)})


def located(rules: list[Rule], folder: Path) -> list[Rule]:
    """Return rules whose censors are named by whole paths, with their digests."""
    out = []
    for rule in rules:
        if rule.file:
            path = str((folder / rule.file).resolve())
            rule = rule.model_copy(update={"file": path, "digest": file_digest(path)})
        out.append(rule)
    return out


def file_digest(path: str) -> str:
    """Return the sha256 (hex) of a file, "" where it cannot be read (which loading it tells)."""
    try:
        return hashlib.sha256(Path(path).read_bytes()).hexdigest()
    except OSError:
        return ""


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
