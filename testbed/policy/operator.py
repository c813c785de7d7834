# SPDX-License-Identifier: BSD-3-Clause
"""Operator policies: which operator blocked what, where and when, and how well it is documented.

An operator is a TOML file (testbed.policy.loader): its dated table ([[period]]: access networks,
from, to), the documentation of its service ([[service]]), and one [[hypothesis]] per mechanism
that could explain the symptoms, each a list of rules (`match` -> `act`, first match wins) in the
policy language (testbed.policy.language). Hypotheses that several operators share stand in a file
of their own, named by `include`.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass, field
from typing import Literal

from pydantic import Field, field_validator, model_validator

from midcall.access import ACCESS, Access
from midcall.captures.truth.strict_toml import Table, hint
from midcall.classifier.state.verdicts import APPS
from midcall.errors import TestbedError
from midcall.testbed.policy.language import Grade, Rule
from midcall.testbed.policy.syntax import known_words, prefix, repeated

Fail = Literal["open", "closed"]


class Hypothesis(Table):
    """One mechanism that could explain the symptoms; `rules_of` copies another's rules.

    sees: the direction of the packets that the box sees, where routing takes the other direction
    past it; None for both. Packets that it does not see pass, whatever `fail` is.
    """

    id: str = Field(pattern="^[a-z0-9][a-z0-9-]*$")
    title: str
    description: str
    rules_of: str | None = None
    sees: Literal["up", "down"] | None = None
    rules: list[Rule] = Field(default=[], alias="rule")

    @model_validator(mode="after")
    def _sound(self) -> Hypothesis:
        if bool(self.rules_of) == bool(self.rules):
            raise ValueError("give either [[hypothesis.rule]] tables or rules_of, one of the two")
        if twice := repeated([rule.name for rule in self.rules]):
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
        """Return the day on which it ended, datetime.date.max where none is known."""
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
    it blocked on purpose, by the periods' sources ([]: no app's calls), None where no source states
    it; calls of other apps are collateral. fail: whether the box passes ("open") or drops
    ("closed") packets that it cannot read, and all packets when it dies.
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
        """Return a hypothesis by its id; raises TestbedError that names the closest id."""
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

    def policy(
        self,
        hypothesis: str,
        access: str,
        date: datetime.date,
        clock: datetime.time | None = None,
    ) -> Policy:
        """Return the rules in force under a hypothesis; none outside the dated table.

        clock: the time of day, None for one at which rules with `hours` are in force. Raises
        TestbedError for an unknown access network or hypothesis.
        """
        if access not in ACCESS:
            raise TestbedError(f"access: got {access!r}, expected one of {', '.join(ACCESS)}")
        chosen = self.hypothesis(hypothesis)
        period = self.period(hypothesis, access, date)
        rules: tuple[Rule, ...] = ()
        if period is not None:
            in_force = [rule for rule in self.rules_of(chosen) if rule.holds(access, date, clock)]
            rules = tuple(scaled(rule, period) for rule in in_force)
        return Policy(
            rules,
            self.sets_of(rules),
            self.fail if rules else "open",
            self.id,
            chosen.id,
            chosen.title,
            access,
            date,
            period,
            chosen.sees if rules else None,
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

    Two policies of equal rules have equal `repr` and compare equal, whatever the operator or day,
    so that results that depend on the rules alone are computed once. sees: of `Hypothesis`.
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
    sees: Literal["up", "down"] | None = None

    @property
    def name(self) -> str:
        """Return "OPERATOR/HYPOTHESIS", "a policy" for one of no operator."""
        return f"{self.operator}/{self.hypothesis}" if self.operator else "a policy"

    def prefixes(self, rule: Rule) -> list[str]:
        """Return the address prefixes of a rule, sets spelt out."""
        sets = {one.name: one.addresses for one in self.sets}
        return [part for word in rule.match.addresses for part in sets.get(word, [word])]


EMPTY = Policy()


def scaled(rule: Rule, period: Period) -> Rule:
    """Return a rule with its probability multiplied by its period's."""
    if period.probability == 1.0:
        return rule
    chance = rule.probability * period.probability
    return rule.model_copy(update={"probability": chance, "per": period.per})
