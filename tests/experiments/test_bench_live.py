# SPDX-License-Identifier: BSD-3-Clause
"""The live bench says loss-free only of what lost nothing, and names what ended a ladder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from midcall.errors import ExperimentError
from midcall.experiments.bench import lines as bench_lines
from midcall.experiments.bench import live as bench_live
from midcall.experiments.bench.live import KERNEL, Options
from midcall.experiments.report import live_charts
from midcall.experiments.report.charts import PALETTE
from midcall.testbed.live.devices.paths import WAYS


def row(path: str, pps: int, lost: int = 0, **more: Any) -> dict[str, Any]:
    """Return a trial of the ladder."""
    result = {"what": "ladder", "path": path, "frames": "200", "pps": pps, "lost": lost}
    return result | {"refused": 0, "offered": True} | more


LADDERS = [
    # trials as (rate, lost, offered) -> best, ended by
    ([(100, 0, True), (100, 0, True), (200, 0, True)], 200, "ladder"),
    ([(100, 0, True), (200, 0, True), (200, 1, True)], 100, "loss"),
    ([(100, 1, True), (200, 0, True)], 0, "loss"),  # a rate counts with every lower one
    ([(100, 0, True), (200, 0, False)], 100, "generator"),
    ([(100, 0, True), (200, 5, False)], 100, "loss"),
]


@pytest.mark.parametrize(("trials", "best", "ended"), LADDERS)
def test_a_rate_is_loss_free_when_every_trial_up_to_it_is_whole(
    trials: list[tuple[int, int, bool]], best: int, ended: str
) -> None:
    rows = [row("empty", pps, lost, offered=offered) for pps, lost, offered in trials]
    assert bench_live.loss_free(rows, "200") == {"empty": best}
    assert bench_live.limit_of(rows, "empty", "200", best) == ended


def test_a_path_that_holds_up_its_sender_is_its_own_limit() -> None:
    rows = [row("nfqueue", 100), row("nfqueue", 200, offered=False), row("empty", 200)]
    assert bench_live.limit_of(rows, "nfqueue", "200", 100) == "sender"
    assert bench_live.limit_of(rows[:2], "nfqueue", "200", 100) == "generator"


def test_another_frame_size_has_a_rate_of_its_own() -> None:
    rows = [row("empty", 100), row("empty", 50, frames="imix"), row("empty", 90, 1, frames="imix")]
    assert bench_live.loss_free(rows, "imix") == {"empty": 50}


def test_a_frame_size_that_is_none_is_told() -> None:
    assert bench_live.sizes_of("200") == (200,)
    assert len(bench_live.sizes_of("imix")) == 12
    with pytest.raises(ExperimentError, match="frames: got 'big', expected a size"):
        bench_live.sizes_of("big")


def test_a_result_that_is_not_there_or_not_whole_is_none(tmp_path: Path) -> None:
    assert bench_live.latest(tmp_path) is None
    (tmp_path / "bench-live").mkdir()
    (tmp_path / "bench-live" / "latest.json").write_text('{"schema": 0}')
    assert bench_live.latest(tmp_path) is None


@pytest.mark.live
def test_a_short_bench_measures_everything_and_writes_it(tmp_path: Path) -> None:
    options = Options(
        paths=("empty",), kpps=(5,), trials=2, seconds=0.2, loads=(1000,), bursts=1,
        calls_seconds=0.1, runs=tmp_path,
    )  # fmt: skip
    result, path = bench_live.bench(options, lambda line: None)
    assert json.loads(path.read_text()) == result == bench_live.latest(tmp_path)
    live = result["summary"]["live"]
    assert set(live["latency_us"]) == set(live["loss_free_pps"]) == {KERNEL, "empty"}
    assert set(live["latency_us"]["empty"]["1000"]) == {"p50", "p99", "p999", "n"}
    assert live["police"]["passed"] == pytest.approx(live["police"]["ideal"], abs=1)
    opened, closed = live["crash"]
    assert opened["lost"] < closed["lost"] < closed["sent"]
    assert live["calls"]["flows_seen"] == live["calls"]["calls"]
    assert live["calls"]["lost_by_overload"] == 0
    text = "\n".join(bench_lines.lines(result))
    assert "RFC 2544-style" in text
    assert "fail closed" in text


def test_each_path_is_drawn_in_a_colour_and_dash_of_its_own() -> None:
    drawn = [(live_charts.COLOURS[path], path in live_charts.DASHED) for path in WAYS]
    assert len(set(drawn)) == len(WAYS)
    assert set(live_charts.COLOURS.values()) <= set(PALETTE)
