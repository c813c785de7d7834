# SPDX-License-Identifier: BSD-3-Clause
"""Policies by their names: OPERATOR/HYPOTHESIS, wherever a command takes --policy.

OPERATOR is one that ships, or the path of a TOML file: some/folder/mine.toml/HYPOTHESIS. A third
part, /RULE, takes one rule alone. `none` is the empty policy.
"""

from __future__ import annotations

import datetime
import hashlib
from pathlib import Path
from typing import NamedTuple

from midcall.errors import ExperimentError
from midcall.suggestions import hint
from midcall.testbed.policy.loader import file_of, load
from midcall.testbed.policy.operator import EMPTY, Operator, Policy

FORM = "OPERATOR/HYPOTHESIS, PATH.toml/HYPOTHESIS or either with /RULE behind it"
NONE = "none"


class Named(NamedTuple):
    """What the words of a policy mean.

    date: of the rules in force, None for the empty policy; file: the operator's, None for the empty
    policy.
    """

    policy: Policy
    date: datetime.date | None
    file: Path | None

    @property
    def sha256(self) -> str:
        """Return the sha256 (hex) of the operator's file, of nothing for the empty policy."""
        return hashlib.sha256(self.file.read_bytes() if self.file else b"").hexdigest()


def split(words: str) -> list[str]:
    """Return operator, hypothesis and, where one is given, rule; raises ExperimentError."""
    path, ending, rest = words.rpartition(".toml/")
    parts = [path + ".toml", *rest.split("/")] if ending else words.split("/")
    if not 2 <= len(parts) <= 3 or not all(parts):
        raise ExperimentError(f"policy {words!r}: expected {FORM}")
    return parts


def named(words: str, access: str, date: datetime.date | None) -> Named:
    """Return the rules that some words name, on an access network and a day.

    Without a day, the first of the operator's dated table on which the hypothesis is in force.
    Raises TestbedError or ExperimentError, also where no rule is in force.
    """
    if words == NONE:
        return Named(EMPTY, None, None)
    parts = split(words)
    operator = load(parts[0])
    hypothesis = operator.hypothesis(parts[1])
    day = date or first_day(operator, hypothesis.id, access)
    found = operator.policy(hypothesis.id, access, day)
    if not found.rules:
        raise ExperimentError(
            f"policy {words}: no rule is in force on {access}"
            f"{f' on {date}' if date else ''}; give another --access or --date"
        )
    file = file_of(parts[0])
    if len(parts) == 2:
        return Named(found, day, file)
    rules = tuple(rule for rule in found.rules if rule.name == parts[2])
    if not rules:
        known = [rule.name for rule in found.rules]
        raise ExperimentError(f"policy {words}: no rule {parts[2]!r} ({hint(parts[2], known)})")
    return Named(Policy(rules, found.sets, found.fail), day, file)


def policy_named(words: str, access: str, date: datetime.date | None) -> Policy:
    """Return the rules that some words name; see `named`."""
    return named(words, access, date).policy


def first_day(operator: Operator, hypothesis: str, access: str) -> datetime.date:
    """Return the first day on which a hypothesis is in force on an access network."""
    days = [
        period.begin
        for period in operator.periods
        if period.covers(hypothesis, access, period.begin)
    ]
    if not days:
        raise ExperimentError(
            f"operator {operator.id}: {hypothesis} was never in force on {access}; give another "
            "--access"
        )
    return min(days)
