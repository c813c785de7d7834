# SPDX-License-Identifier: BSD-3-Clause
"""Conformance in words: which scenario of the policy language came out, and which did not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def outcomes() -> list[Any]:
    """Play every scenario in virtual time; returns Outcome[n] of testbed.conformance.run."""
    from midcall.testbed.conformance.run import check_all

    return check_all()


def lines(told: Sequence[Any]) -> list[str]:
    """Return one line per scenario, and the sum of all."""
    wide = max((len(one.scenario.key) for one in told), default=0)
    rows = [
        f"{'ok ' if one.passed else 'NO '} {one.scenario.key.ljust(wide)}  "
        f"{one.problem or one.scenario.says}"
        for one in told
    ]
    passed = counts(told)
    return [*rows, f"{passed['passed']} of {passed['scenarios']} scenarios as the table says"]


def counts(told: Sequence[Any]) -> dict[str, int]:
    """Return `conformance` of summary.json."""
    return {"scenarios": len(told), "passed": sum(one.passed for one in told)}


def rows(told: Sequence[Any]) -> list[dict[str, Any]]:
    """Return the scenarios as plain values."""
    return [
        {"scenario": one.scenario.key, "says": one.scenario.says, "passed": one.passed}
        | {"problem": one.problem}
        for one in told
    ]
