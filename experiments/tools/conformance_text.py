# SPDX-License-Identifier: BSD-3-Clause
"""Conformance results as text: which scenarios of the policy language passed and which failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def outcomes() -> list[Any]:
    """Play every scenario in virtual time; returns Outcome[n] of testbed.conformance.run."""
    from midcall.testbed.conformance.run import check_all

    return check_all()


def lines(outcomes: Sequence[Any]) -> list[str]:
    """Return one line per scenario, and the total."""
    wide = max((len(one.scenario.key) for one in outcomes), default=0)
    rows = [
        f"{'ok ' if one.passed else 'NO '} {one.scenario.key.ljust(wide)}  "
        f"{one.problem or one.scenario.says}"
        for one in outcomes
    ]
    passed = counts(outcomes)
    return [*rows, f"{passed['passed']} of {passed['scenarios']} scenarios as the table says"]


def counts(outcomes: Sequence[Any]) -> dict[str, int]:
    """Return `conformance` of summary.json."""
    return {"scenarios": len(outcomes), "passed": sum(one.passed for one in outcomes)}


def rows(outcomes: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the scenarios as JSON values."""
    return [
        {"scenario": one.scenario.key, "says": one.scenario.says, "passed": one.passed}
        | {"problem": one.problem}
        for one in outcomes
    ]
