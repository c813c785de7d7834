# SPDX-License-Identifier: BSD-3-Clause
"""Live runs on an engine that is virtual time in disguise: results, parity, errors, report."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from midcall.errors import ExperimentError
from midcall.experiments.bench import goals
from midcall.experiments.bench import live as bench_live
from midcall.experiments.results import schema
from midcall.experiments.run import runner
from midcall.experiments.run.runner import Finished
from midcall.experiments.spec.options import Options
from midcall.testbed.live.network import network
from midcall.testbed.live.replay import run
from midcall.testbed.live.replay.fate_proof import SEEN
from midcall.testbed.live.replay.outcome import expect_blocking
from midcall.testbed.live.replay.run import Capture, Replay
from midcall.testbed.replay.simulator import Simulation
from midcall.testbed.replay.simulator import simulate as virtual

SPEC = """
schema = 1
name = "tiny-live"
title = "Tiny"
question = "What?"
seed = 7
backend = "live"
seconds = 4
operators = ["maroc-telecom"]
hypotheses = ["media-only"]
access = ["4g"]
apps = ["whatsapp", "viber"]
[[dates]]
date = 2015-12-15
label = "before"
[[dates]]
date = 2016-01-20
label = "during"
[captures]
real = false
added = false
names = ["sample-whatsapp-audio", "sample-viber-audio", "sample-dns"]
[timing]
packets = 200
seconds = 0.2
[evaluation]
enabled = false
"""

Played = Callable[[Capture, Simulation], Simulation]


class Engine:
    """An engine whose live simulations are virtual ones, changed by `spoil` where asked."""

    def __init__(self) -> None:
        self.plays: list[tuple[bool, str, list[str]]] = []
        self.spoil: Played = lambda capture, simulation: simulation
        self.words: list[dict[str, Any]] = []

    def simulate(
        self, captures: Sequence[Capture], policy: Any, access: str, seed: int, **words: Any
    ) -> Replay:
        """Play in virtual time."""
        ruled = policy is not None and bool(policy.rules)
        self.plays.append((ruled, access, [one.name for one in captures]))
        self.words.append(words)
        twins = tuple(virtual(one.packets, one.calls, [], policy, access, seed) for one in captures)
        live = tuple(self.spoil(*pair) for pair in zip(captures, twins, strict=True))
        if "middlebox" not in words:
            expect_blocking(live, twins)
        seen = tuple(self.seen(one) for one in live)
        sent = sum(int(one.fates["sent"].sum()) for one in live)
        return Replay(
            live,
            twins,
            seen,
            np.arange(sent, dtype=np.float64),
            np.full(sent, 25.0),
            {"frames": sent, "dropped_by_overload": 0},
            {},
            1.5,
        )

    @staticmethod
    def seen(live: Simulation) -> Any:
        """Prove every fate but the first packet's."""
        rows = np.zeros(len(live.attempts), SEEN)
        rows["times"] = rows["proven"] = True
        rows["proven"][0] = False
        return rows


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> Engine:
    """Put the engine in the place of the live one, on a machine that has what live needs."""
    made = Engine()
    monkeypatch.setattr(run, "simulate", made.simulate)
    monkeypatch.setattr(network, "missing", list)
    return made


@pytest.fixture
def spec(tmp_path: Path) -> Path:
    path = tmp_path / "tiny-live.toml"
    path.write_text(SPEC)
    return path


def made(spec: Path, folder: Path, **more: Any) -> Finished:
    options = Options(
        jobs=1, runs=folder / "runs", cells=folder / "cells", stream=io.StringIO(), **more
    )
    return runner.run(str(spec), options)


def unblocked(capture: Capture, simulation: Simulation) -> Simulation:
    """Return the simulation as if the box had struck nothing."""
    return virtual(capture.packets, capture.calls, [], None, simulation.access, simulation.seed)


def test_a_live_run_plays_each_distinct_policy_once_and_a_control(
    engine: Engine, spec: Path, tmp_path: Path
) -> None:
    done = made(spec, tmp_path)
    assert done.failed == 0
    assert sorted(ruled for ruled, _, _ in engine.plays) == [False, False, True]
    names = ["sample-viber-audio", "sample-whatsapp-audio"]
    assert all((access, played) == ("4g", names) for _, access, played in engine.plays)
    made(spec, tmp_path)
    assert len(engine.plays) == 6, "a measurement is never taken from the cache"


def test_the_summary_of_a_live_run_has_the_keys_of_its_contract(
    engine: Engine, spec: Path, tmp_path: Path
) -> None:
    live = made(spec, tmp_path).summary["live"]
    assert live["parity"] == {"cells": 2, "agree": 2, "calls": 4, "calls_agree": 4}
    assert live["fates"]["packets"] - live["fates"]["proven"] == 2 * len(engine.plays)
    assert live["replay_error_us"]["p50"] < live["replay_error_us"]["p99"]
    assert live["latency_us"]["classifier"]["replay"]["p99"] == 25.0
    assert set(live["latency_us"]["empty"]["replay"]) == {"p50", "p99", "p999", "n"}
    assert live["loss_free_pps"] == {}
    assert live["bench"] is None


def test_a_call_that_comes_out_otherwise_is_listed_with_its_cause(
    engine: Engine, spec: Path, tmp_path: Path
) -> None:
    def one_spared(capture: Capture, simulation: Simulation) -> Simulation:
        spared = capture.name == "sample-viber-audio"
        return unblocked(capture, simulation) if spared else simulation

    engine.spoil = one_spared
    done = made(spec, tmp_path)
    assert done.summary["live"]["parity"] == {
        "cells": 2, "agree": 1, "calls": 4, "calls_agree": 3,
    }  # fmt: skip
    rows = schema.read_table(done.folder, "live_calls")
    odd = [row for row in rows if not row["agree"]]
    assert [(row["capture"], row["date"]) for row in odd] == [("sample-viber-audio", "2016-01-20")]
    assert odd[0]["verdict"] == "OK"
    assert odd[0]["virtual"] == "DEGRADED"
    cause = odd[0]["cause"]
    assert "delivered live, dropped (" in cause
    assert "packets of the call differ" in cause
    page = (done.folder / "report.html").read_text()
    assert "1 of 2</b> cells agree" in page
    assert "delivered live, dropped (" in page


def test_a_blocking_policy_that_struck_nothing_live_is_an_error_and_no_result(
    engine: Engine, spec: Path, tmp_path: Path
) -> None:
    engine.spoil = unblocked
    done = made(spec, tmp_path)
    assert done.failed == 1
    cells = schema.read_table(done.folder, "cells")
    assert [row["status"] for row in cells] == ["done", "failed"]
    assert "struck none live: the box did not do its work" in cells[1]["error"]
    assert {row["date"] for row in schema.read_table(done.folder, "live_calls")} == {"2015-12-15"}


def test_virtual_runs_of_a_live_spec_are_cut_alike_and_say_how_to_get_the_live_pages(
    engine: Engine, spec: Path, tmp_path: Path
) -> None:
    live = made(spec, tmp_path)
    plain = made(spec, tmp_path, backend="virtual")
    assert "live" not in plain.summary
    assert plain.summary["spec"]["backend"] == "virtual"
    sent = [
        [row["media_control"] for row in schema.read_table(one.folder, "calls")]
        for one in (live, plain)
    ]
    assert sent[0] == sent[1]
    page = (plain.folder / "report.html").read_text()
    assert "played in virtual time" in page
    assert "sudo make experiment-live" in page


def test_auto_is_live_where_it_can_be_else_virtual_and_says_so(
    engine: Engine, spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = io.StringIO()
    options = Options(jobs=1, runs=tmp_path / "runs", cells=tmp_path / "cells", stream=stream)
    done = runner.run(str(spec), options._replace(backend="auto"))
    assert done.summary["spec"]["backend"] == "live"
    assert "backend auto: live" in stream.getvalue()
    monkeypatch.setattr(network, "missing", lambda: ["it needs root: say sudo"])
    done = runner.run(str(spec), options._replace(backend="auto"))
    assert done.summary["spec"]["backend"] == "virtual"
    assert "virtual time, since live: it needs root: say sudo" in stream.getvalue()
    with pytest.raises(ExperimentError) as caught:
        runner.run(str(spec), options._replace(backend="live"))
    assert str(caught.value) == "live: it needs root: say sudo (or say --backend virtual)"


def test_the_newest_live_bench_is_joined_with_the_machine_it_ran_on(
    engine: Engine, spec: Path, tmp_path: Path
) -> None:
    result = bench()
    folder = tmp_path / "runs" / bench_live.FOLDER
    folder.mkdir(parents=True)
    (folder / bench_live.LATEST).write_text(json.dumps(result))
    done = made(spec, tmp_path)
    live = done.summary["live"]
    assert live["latency_us"]["kernel"]["10000"] == {"p50": 1.0, "p99": 2.0, "p999": 3.0, "n": 90}
    assert live["latency_us"]["classifier"].keys() == {"10000", "replay"}
    assert live["loss_free_pps"] == {"kernel": 200_000, "classifier": 100_000}
    assert live["bench"]["same_code"] is False
    rows = schema.read_table(done.folder, "live_bench")
    assert [(row["path"], row["pps"], row["lost"]) for row in rows] == [
        ("kernel", 10_000, 0), ("classifier", 10_000, 0), ("kernel", 200_000, 0),
        ("classifier", 100_000, 0), ("classifier", 200_000, 7),
    ]  # fmt: skip
    page = (done.folder / "report.html").read_text()
    for words in ("Goals of the live box", "classifier 100,000/s, nfqueue not measured",
                  "Latency and throughput", "RFC 2544-style", "The code has changed since", "0.50",
                  "classifier at 200,000 packets/s: p99 40 µs (median of 1 trials), 7 of 100 lost",
                  "a thousand-core wonder"):  # fmt: skip
        assert words in page
    assert {path.stem for path in (done.folder / "figures").glob("live-*.csv")} == {
        "live-latency", "live-load", "live-rates",
    }  # fmt: skip


def bench() -> dict[str, Any]:
    """Return a result of the live bench in small."""

    def trial(what: str, path: str, pps: int, lost: int, p50: float) -> dict[str, Any]:
        late = {"p50": p50, "p99": 2 * p50, "p999": 3 * p50, "n": 90}
        return {
            "what": what, "path": path, "frames": "200", "pps": pps, "trial": 1, "seconds": 1.0,
            "sent": 100, "lost": lost, "twice": 0, "refused": 0, "box_overload": 0,
            "offered": True, "behind_us": 0.0, "sent_late": 0, "latency_us": late,
        }  # fmt: skip

    result: dict[str, Any] = {
        "schema": 1,
        "kind": "bench-live",
        "began": "2026-01-01T10:00:00+00:00",
        "ended": "2026-01-01T10:05:00+00:00",
        "machine": {"cpu": "a thousand-core wonder", "load_average": [0.1, 0.1, 0.1]},
        "code": {"digest": "of other code"},
        "options": {"frames": ["200"], "trials": 1, "seconds": 1.0},
        "trials": [
            trial("latency", "kernel", 10_000, 0, 1.0),
            trial("latency", "classifier", 10_000, 0, 10.0),
            trial("ladder", "kernel", 200_000, 0, 1.0),
            trial("ladder", "classifier", 100_000, 0, 10.0),
            trial("ladder", "classifier", 200_000, 7, 20.0),
        ],
        "exactness": {
            "delay": [{"pps": 100, "set_ms": 20.0, "n": 9, "error_us": {"p50": 1.0, "p99": 2.0}}],
            "police": {"set_kbit": 130.0, "measured_kbit": 129.9, "passed": 3, "ideal": 3},
            "shape": {"set_kbit": 1000.0, "measured_kbit": 999.0},
            "crash": [],
        },
        "calls": {
            "calls": 1000, "pps": 100_000, "seconds": 1.0, "sent": 9, "lost_by_overload": 0,
            "lost": 0, "latency_us": {"p99": 9.0},
        },
    }  # fmt: skip
    result["summary"] = {"live": bench_live.summary(result)}
    result["goals"] = result["summary"]["live"]["goals"] = goals.rows(result)
    return result


def box_spec(spec: Path, box: str) -> None:
    """Put somebody else's box in the place of the operators."""
    text = SPEC.replace('operators = ["maroc-telecom"]\nhypotheses = ["media-only"]\n', "")
    spec.write_text(text.replace("seed = 7", f"seed = 7\nmiddlebox = '{box}'"))


def test_somebody_elses_box_is_refused_in_virtual_time_and_where_it_is_missing(
    engine: Engine, spec: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    box_spec(spec, "suricata")
    with pytest.raises(ExperimentError) as caught:
        made(spec, tmp_path, backend="virtual")
    assert str(caught.value) == (
        "spec tiny-live: backend: got virtual, expected live: middlebox 'suricata' is a program "
        "and runs on real time (say --backend live)"
    )
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(ExperimentError, match=r"live: middlebox suricata: suricata is missing"):
        made(spec, tmp_path)
    assert engine.plays == []


def test_rows_of_somebody_elses_box_name_it_and_have_no_twin(
    engine: Engine, spec: Path, tmp_path: Path
) -> None:
    box_spec(spec, "command: my-filter {caller_port}")
    done = made(spec, tmp_path)
    assert [words.get("middlebox") for words in engine.words] == [
        None, "command: my-filter {caller_port}",
    ]  # fmt: skip
    live = done.summary["live"]
    assert live["middlebox"] == "command: my-filter {caller_port}"
    assert live["parity"]["cells"] == 0
    assert "replay" in live["latency_us"]["command"]
    rows = schema.read_table(done.folder, "live_calls")
    assert {(row["operator"], row["hypothesis"]) for row in rows} == {
        ("blackbox:command", "as-it-is")
    }
    assert {row["virtual"] for row in rows} == {None}
    page = (done.folder / "report.html").read_text()
    assert "black box: command" in page
    assert "It is a black box: what it decides by is not known here." in page
