# SPDX-License-Identifier: BSD-3-Clause
"""A box is urgent while it sleeps between packets, and shares its core while it hardly does."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from midcall.testbed.live.box import process
from midcall.testbed.live.box.pump import COUNTERS, SLEPT


class Lull:
    """A worker whose clock and sleep a test sets; `asked` is what it asked the kernel for."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **options: Any) -> None:
        self.clock, self.asked = 1000.0, list[bool]()
        self.worker = object.__new__(process.Worker)
        self.worker.options = process.Options(**options)
        self.worker.shared = SimpleNamespace(counters=np.zeros(len(COUNTERS), np.int64))  # type: ignore[assignment]
        self.worker.looked, self.worker.slept, self.worker.urgent = self.clock, 0, False
        monkeypatch.setattr(process.time, "monotonic", lambda: self.clock)
        monkeypatch.setattr(process, "urgent", self.grant)

    def grant(self, yes: bool) -> bool:
        """Do as the kernel that allows it."""
        self.asked.append(yes)
        return yes

    def after(self, seconds: float, asleep: float) -> bool:
        """Let time pass, a share of it asleep; tells whether the worker is urgent then."""
        self.clock += seconds
        self.worker.shared.counters[SLEPT] += round(seconds * asleep * 1e9)
        self.worker.hurry()
        return self.worker.urgent


def test_a_box_is_urgent_while_it_sleeps_a_good_part_of_its_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lull = Lull(monkeypatch)
    assert lull.after(0.2, 0.9)
    assert lull.after(0.2, 0.25), "between the two shares it stays what it is"
    assert not lull.after(0.2, 0.15)
    assert not lull.after(0.2, 0.25)
    assert not lull.after(0.2, 0.0)
    assert lull.after(0.2, 0.35)
    assert lull.asked == [True, False, True]


def test_a_box_that_sleeps_a_little_now_and_then_is_not_urgent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    lull = Lull(monkeypatch)
    assert not any(lull.after(0.1, 0.02) for _ in range(20))


def test_it_looks_seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    lull = Lull(monkeypatch)
    assert lull.after(0.2, 0.9)
    assert all(lull.after(0.01, 0.0) for _ in range(9)), "too short to say"
    assert not lull.after(0.02, 0.0)


@pytest.mark.parametrize("options", [{"realtime": False}, {"busy_poll": True}])
def test_who_may_not_be_urgent_never_asks(
    monkeypatch: pytest.MonkeyPatch, options: dict[str, bool]
) -> None:
    lull = Lull(monkeypatch, **options)
    assert not lull.after(1.0, 1.0)
    assert lull.asked == []
