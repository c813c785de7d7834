# SPDX-License-Identifier: BSD-3-Clause
"""A path whose box ended is sent no signal, and gives no figure."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from midcall.errors import TestbedError
from midcall.experiments.bench import live as bench_live
from midcall.experiments.bench.live import Options, longest
from midcall.experiments.bench.paths import NOWHERE, Path, load_of, resting, run_trial
from midcall.testbed.live.devices import paths
from midcall.testbed.live.devices.load_generator import Trial


def path(held: Any) -> Path:
    """Return a path of a peer that carries nothing."""
    lost = Trial(
        10, 1.0, 10, 10, 0, 0, 0.0, 0, 0, np.zeros(10, np.int64), np.zeros(0, np.float32)
    )  # fmt: skip
    generator: Any = SimpleNamespace(trial=lambda *_: lost, burst=lambda *_: lost)
    return Path("suricata", generator, held, NOWHERE)


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the process groups that are sent a signal; none is sent."""
    groups: list[int] = []
    monkeypatch.setattr(os, "killpg", lambda group, number: groups.append(group))
    return groups


@contextmanager
def box() -> Iterator[Any]:
    """Yield a box that runs until it is killed."""
    with subprocess.Popen(["sleep", "60"]) as process:
        alive = property(lambda self: process.poll() is None)
        yield type("Held", (), {"process": process, "alive": alive})()
        process.kill()


def test_only_boxes_that_run_are_stopped_and_woken(signals: list[int]) -> None:
    with box() as dead, box() as live:
        dead.process.kill()
        dead.process.wait()
        with resting([path(dead), path(live), path(None)]):
            pass
    assert signals == [live.process.pid, live.process.pid]


@pytest.mark.parametrize("seconds", [1.0, None])
def test_what_a_box_that_ended_did_not_carry_is_no_loss(
    seconds: float | None, signals: list[int]
) -> None:
    with box() as held:
        one = path(held)
        load = load_of(one, (200,), "200")
        assert run_trial(one, load, 10, seconds).lost == 10
        held.process.kill()
        held.process.wait()
        with pytest.raises(TestbedError, match="path suricata: its box ended"):
            run_trial(one, load, 10, seconds)


@pytest.mark.parametrize("name", paths.PEERS)
def test_a_peer_runs_as_long_as_the_bench_may_take(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    limits: list[float] = []

    class Seen:
        def __init__(self, *_: Any, limit_s: float, **__: Any) -> None:
            limits.append(limit_s)
            raise TestbedError("enough")

    monkeypatch.setattr(paths, "Blackbox", Seen)
    monkeypatch.setattr(bench_live, "require", lambda: None)
    monkeypatch.setattr(bench_live, "Network", nullcontext)
    monkeypatch.setattr(bench_live, "Generator", nullcontext)
    monkeypatch.setattr(bench_live, "KERNEL", name)
    options = Options(paths=(name,), share_seconds=600.0)
    with pytest.raises(TestbedError, match="enough"):
        bench_live.bench(options, lambda _: None)
    assert limits == [longest(options, 1)]


def test_the_longest_time_grows_with_every_trial_that_is_asked_for() -> None:
    least = longest(Options(), 1)
    ladder = len(Options().kpps) * Options().trials * Options().seconds
    assert least > ladder
    for more in (
        Options(trials=10),
        Options(seconds=60.0),
        Options(frames=("60", "200")),
        Options(bursts=50),
        Options(loads=(1, 2, 3)),
        Options(share_seconds=60.0),
    ):
        assert longest(more, 1) > least
    assert longest(Options(), 3) == 3 * least
