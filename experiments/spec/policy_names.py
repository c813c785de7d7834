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
    """The policy that a name refers to.

    date: of the rules in force; file: of the operator. Both are None for the empty policy.
    """

    policy: Policy
    date: datetime.date | None
    file: Path | None

    @property
    def sha256(self) -> str:
        """Return the sha256 (hex) of the operator's file, of no bytes for the empty policy."""
        return hashlib.sha256(self.file.read_bytes() if self.file else b"").hexdigest()


def split(words: str) -> list[str]:
    """Return operator, hypothesis and, if present, rule of a name; raises ExperimentError."""
    path, ending, rest = words.rpartition(".toml/")
    parts = [path + ".toml", *rest.split("/")] if ending else words.split("/")
    if not 2 <= len(parts) <= 3 or not all(parts):
        raise ExperimentError(f"policy {words!r}: expected {FORM}")
    return parts


def named(
    words: str, access: str, date: datetime.date | None, clock: datetime.time | None = None
) -> Named:
    """Return the rules of a policy name on an access network and a day.

    Without a day, on the first day of the operator's dated table on which the hypothesis is in
    force. clock: the time of day, None for one at which rules with `hours` are in force. Raises
    TestbedError or ExperimentError, also if no rule is in force.
    """
    if words == NONE:
        return Named(EMPTY, None, None)
    parts = split(words)
    operator = load(parts[0])
    hypothesis = operator.hypothesis(parts[1])
    day = date or first_day(operator, hypothesis.id, access)
    policy = operator.policy(hypothesis.id, access, day, clock)
    if not policy.rules:
        raise ExperimentError(
            f"policy {words}: no rule is in force on {access}"
            f"{f' on {date}' if date else ''}{f' at {clock:%H:%M}' if clock else ''}; give another "
            f"--access or --date{' or --time' if clock else ''}"
        )
    file = file_of(parts[0])
    if len(parts) == 2:
        return Named(policy, day, file)
    rules = tuple(rule for rule in policy.rules if rule.name == parts[2])
    if not rules:
        known = [rule.name for rule in policy.rules]
        raise ExperimentError(f"policy {words}: no rule {parts[2]!r} ({hint(parts[2], known)})")
    return Named(Policy(rules, policy.sets, policy.fail, sees=policy.sees), day, file)


def policy_named(words: str, access: str, date: datetime.date | None) -> Policy:
    """Return the rules of a policy name; see `named`."""
    return named(words, access, date).policy


def first_day(operator: Operator, hypothesis: str, access: str) -> datetime.date:
    """Return the first day on which a hypothesis is in force on an access network.

    Raises ExperimentError if there is no such day.
    """
    days = [
        period.begin
        for period in operator.periods
        if period.covers(hypothesis, access, period.begin)
    ]
    if not operator.periods:
        raise ExperimentError(
            f"operator {operator.id}: its file has no [[period]], so that {hypothesis} is never in "
            "force; add one with access and from"
        )
    if not days:
        raise ExperimentError(
            f"operator {operator.id}: {hypothesis} was never in force on {access}; give another "
            "--access"
        )
    return min(days)
