# SPDX-License-Identifier: BSD-3-Clause
"""A capture, a policy: what of the capture's packets the policy's box decides by."""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from captures.pcap import read
from experiments.errors import ExperimentError
from experiments.localiser.asking import Asker, Cost, digest
from experiments.localiser.document import Document, document
from experiments.localiser.search import localise
from experiments.nearest import hint
from testbed.oracle import NoisyOracle, Oracle, PolicyOracle
from testbed.policy import Operator, Policy, load
from testbed.probe import Probe, probe_of

FORM = "OPERATOR/HYPOTHESIS or OPERATOR/HYPOTHESIS/RULE"


class Options(NamedTuple):
    """How a box is asked. noise, error, step: of experiments.localiser.asking; wrong: the share of
    answers that the virtual box is made to give wrongly; state: of an interrupted search."""

    noise: float = 0.0
    error: float = 1e-4
    budget: int = 20_000
    state: Path | None = None
    reveal: bool = False
    seed: int = 0
    wrong: float = 0.0
    step: Callable[[Cost], None] | None = None


def policy_named(words: str, access: str, date: datetime.date | None) -> Policy:
    """Return the rules that FORM names, on an access network and a day.

    Without a day, the first of the operator's dated table. Raises TestbedError or ExperimentError.
    """
    parts = words.rsplit("/", 2 if words.count("/") > 1 and not words.endswith(".toml") else 1)
    if len(parts) < 2:
        raise ExperimentError(f"policy {words!r}: expected {FORM}")
    operator = load(parts[0])
    hypothesis = operator.hypothesis(parts[1])
    found = operator.policy(hypothesis.id, access, date or first_day(operator, parts[1], access))
    if not found.rules:
        raise ExperimentError(
            f"policy {words}: no rule is in force on {access}"
            f"{f' on {date}' if date else ''}; give another --access or --date"
        )
    if len(parts) == 2:
        return found
    named = tuple(rule for rule in found.rules if rule.name == parts[2])
    if not named:
        known = [rule.name for rule in found.rules]
        raise ExperimentError(f"policy {words}: no rule {parts[2]!r} ({hint(parts[2], known)})")
    return Policy(named, found.sets, found.fail)


def day_of(word: str | None) -> datetime.date | None:
    """Return a day as it was typed; raises ExperimentError."""
    try:
        return None if word is None else datetime.date.fromisoformat(word)
    except ValueError:
        raise ExperimentError(f"date {word!r}: expected a day such as 2016-03-15") from None


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


def of_capture(
    path: Path | str, words: str, access: str, date: datetime.date | None, options: Options
) -> Document:
    """Return what the box of a policy decides by in a capture, as experiments' document.

    Raises ExperimentError where the box does not block the capture's packets.
    """
    policy = policy_named(words, access, date)
    base = probe_of(read(path))
    oracle: Oracle = PolicyOracle(policy, access, options.seed)
    if options.wrong:
        oracle = NoisyOracle(oracle, options.wrong, options.seed)
    rules = hashlib.sha256(repr(policy).encode()).hexdigest()[:12]
    about = {"file": str(path), "box": f"{words} on {access}", "rules": rules}
    told = examined(oracle, base, about, options)
    chances = [rule.name for rule in policy.rules if rule.probability < 1.0]
    if chances:
        told["notes"].append(
            f"{', '.join(chances)}: enforced by chance, drawn by a flow's ends, which are tried too"
        )
    return told


def examined(oracle: Oracle, base: Probe, about: Document, options: Options) -> Document:
    """Return what any box decides by in a probe that it blocks, as a document.

    about: what was asked, `file` and `box` at least, in words; a state file is of it and the probe.
    """
    name = " ".join([*map(str, about.values()), digest(base)])
    asker = Asker(
        oracle, options.noise, options.error, options.budget, options.state, name, options.step
    )
    found = localise(asker, base)
    return document(found, asker, base, about, options.reveal)
