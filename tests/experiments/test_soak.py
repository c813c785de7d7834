# SPDX-License-Identifier: BSD-3-Clause
"""The soak finds growing memory, loss and drifting latency, and nothing in sound windows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from midcall.errors import ExperimentError, TestbedError
from midcall.experiments.proofs import soak
from midcall.testbed.live.box.process import Box
from midcall.testbed.live.devices.load_generator import Trial

Row = dict[str, Any]


def rows(count: int = 24, **changes: Any) -> list[Row]:
    """Return windows of 10 s; a change is a function of the window's number."""
    made = []
    for n in range(count):
        row: Row = {
            "at_s": 10.0 * n, "sent": 1000, "lost": 0, "offered": True, "box_overload": 0,
            "memory_bytes": 100_000_000, "latency_us": {"n": 1000, "p50": 10.0},
            "stolen_generator_s": 0.01, "stolen_box_s": 0.0, "box_waited_s": 0.0,
        }  # fmt: skip
        made.append(row | {key: change(n) for key, change in changes.items()})
    return made


def test_sound_windows_are_no_problem() -> None:
    result = soak.summary(rows())
    assert result["problems"] == []
    assert (result["sent"], result["lost"], result["memory_bytes_per_hour"]) == (24_000, 0, 0)
    assert result["latency_drift"] == 1.0


def test_memory_that_grows_is_told_per_hour() -> None:
    result = soak.summary(rows(memory_bytes=lambda n: 100_000_000 + 50_000 * n))
    assert result["memory_bytes_per_hour"] == 18_000_000
    assert result["problems"] == ["memory grows by 18.0 MB an hour"]


def test_tables_that_fill_in_the_first_half_are_no_leak() -> None:
    result = soak.summary(rows(memory_bytes=lambda n: 100_000_000 + 4_000_000 * min(n, 12)))
    assert result["problems"] == []


def test_loss_counts_where_the_load_was_offered() -> None:
    result = soak.summary(rows(lost=lambda n: 3 * (n == 5), offered=lambda n: n != 6))
    assert result["problems"] == ["3 of 23000 packets were lost"]
    assert result["windows_not_offered"] == 1
    assert soak.summary(rows(lost=lambda n: 3 * (n == 6), offered=lambda n: n != 6))["lost"] == 0


def test_a_soak_of_which_too_much_was_not_offered_is_a_problem() -> None:
    (line,) = soak.summary(rows(offered=lambda n: n % 8 != 0))["problems"]
    assert line.startswith("3 of 24 windows were not offered")
    assert soak.summary(rows(offered=lambda n: n % 12 != 0))["problems"] == []


def trial(behind_us: float = 0.0, refused: int = 0) -> Trial:
    """Return a window of a second at 100,000 packets/s of which nothing came out."""
    nothing = np.zeros(0, np.int64)
    late = np.zeros(0, np.float32)
    return Trial(100_000, 1.0, 100_000, 7, 0, refused, behind_us, 0, 0, nothing, late)


def test_a_generator_that_rushes_after_a_stall_of_its_own_offered_nothing() -> None:
    steady, rushed = soak.row_of(trial(160_000.0)), soak.row_of(trial(167_000.0))
    assert (steady["offered"], rushed["offered"]) == (True, False)
    assert rushed["why"] == "the generator was 167 ms late, and sent that in one go"
    assert (steady["lost"], rushed["lost"]) == (7, 7)
    assert soak.row_of(trial(refused=3))["why"] == "3 packets could not be sent"


def test_the_time_that_a_process_waits_for_its_core_is_counted() -> None:
    core = min(os.sched_getaffinity(0))
    spin = f"import os; os.sched_setaffinity(0, {{{core}}})\nwhile True: pass"
    both = [subprocess.Popen([sys.executable, "-c", spin]) for _ in range(2)]
    try:
        until = time.monotonic() + 30
        while min(soak.waited(one.pid) for one in both) < 0.05 and time.monotonic() < until:
            time.sleep(0.05)
        assert min(soak.waited(one.pid) for one in both) >= 0.05
    finally:
        for one in both:
            one.kill()
            one.wait()
    assert soak.waited(both[0].pid) == 0.0


def test_what_the_host_took_is_read_of_the_core_that_is_meant(tmp_path: Path) -> None:
    counts, ticks = tmp_path / "stat", os.sysconf("SC_CLK_TCK")
    counts.write_text(
        f"cpu 1 2 3 4 5 6 7 {9 * ticks} 0 0\ncpu1 1 2 3 4 5 6 7 {2 * ticks} 0 0\n"
        f"cpu10 1 2 3 4 5 6 7 {4 * ticks} 0 0\n"
    )
    assert [soak.stolen(core, counts) for core in (1, 10, 0)] == [2.0, 4.0, 0.0]


def test_memory_of_a_box_that_died_is_one_sentence() -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    with pytest.raises(TestbedError, match="the box died"):
        soak.resident(gone.pid)


def test_latency_that_drifts_is_told() -> None:
    result = soak.summary(rows(latency_us=lambda n: {"n": 9, "p50": 10.0 + n}))
    assert result["latency_drift"] == pytest.approx(30.5 / 12.5, abs=0.01)
    assert len(result["problems"]) == 1


def test_a_few_windows_say_nothing_of_slope_and_drift() -> None:
    result = soak.summary(rows(4, memory_bytes=lambda n: 100_000_000 * (n + 1)))
    assert result["memory_bytes_per_hour"] is None
    assert result["latency_drift"] is None
    assert result["problems"] == [
        "too short for slope and drift: 4 windows offered, expected 8 timed"
    ]


def test_many_windows_of_which_few_were_offered_are_a_problem() -> None:
    (line,) = soak.summary(rows(offered=lambda n: n < 7))["problems"]
    assert line.startswith("too short for slope and drift: 7 windows offered")


def test_a_soak_in_which_nothing_was_offered_is_a_problem() -> None:
    result = soak.summary(rows(offered=lambda n: False))
    assert (result["sent"], result["lost"]) == (0, 0)
    assert [line.partition(":")[0] for line in result["problems"]] == ["nothing was offered"]


def test_the_rate_is_half_of_what_the_live_bench_found(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match="run midcall bench live first, or give --pps"):
        soak.half_of_loss_free(tmp_path)
    folder = tmp_path / "bench-live"
    folder.mkdir()
    result = {"schema": 1, "summary": {"live": {"loss_free_pps": {"classifier": 300_000}}}}
    (folder / "latest.json").write_text(json.dumps(result))
    assert soak.half_of_loss_free(tmp_path) == 150_000


def test_windows_are_kept_every_minute_so_a_soak_that_is_killed_has_them() -> None:
    class Idle:
        worker = os.getpid()

        def counters(self) -> dict[str, int]:
            return {"dropped_by_overload": 0}

    kept: list[list[Row]] = []
    wanted = 9

    def trial() -> Any:
        nonlocal wanted
        wanted -= 1
        if wanted < 0:
            raise KeyboardInterrupt
        raise TestbedError("the sender was late")

    keep = lambda rows: kept.append(list(rows))  # noqa: E731
    with pytest.raises(KeyboardInterrupt):
        soak.windows(cast(Box, Idle()), trial, (0, 0), 3600, lambda line: None, keep)
    assert [len(one) for one in kept] == [1, 7]
    assert kept[-1][0]["why"] == "the sender was late"
