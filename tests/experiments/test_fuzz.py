# SPDX-License-Identifier: BSD-3-Clause
"""Fuzzing: mutations are repeatable, findings are told, and a short session finds nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from midcall.captures.jit.code_folders import PLAIN
from midcall.captures.packets.pcap import read
from midcall.experiments.cli.app import app
from midcall.experiments.proofs.fuzz import session
from midcall.experiments.proofs.fuzz.files import Container, containers, damaged, read_twice
from midcall.experiments.proofs.fuzz.mutate import GAP, LONGEST, mutated, refill
from midcall.experiments.proofs.fuzz.path import Finding, Stand, boxes
from midcall.locations import ROOT

SAMPLE = ROOT / "captures" / "samples" / "sample-whatsapp-audio.pcap"


def test_equal_names_give_equal_packets_and_others_give_others() -> None:
    pool = read(SAMPLE)
    one, changed = mutated(pool, 0, 500, "a", 1)
    same, _ = mutated(pool, 0, 500, "a", 1)
    other, _ = mutated(pool, 0, 500, "a", 2)
    assert one.data.tobytes() == same.data.tobytes()
    assert one.data.tobytes() != other.data.tobytes()
    assert 250 < changed < 450


def test_packets_lie_apart_and_within_their_bounds() -> None:
    packets, _ = mutated(read(SAMPLE), 7, 2000, "b")
    ends = packets.offset + packets.captured
    assert (packets.captured >= 0).all()
    assert (packets.captured <= LONGEST).all()
    assert (packets.offset[1:] - ends[:-1] == GAP).all()
    before = [packets.frame(i) for i in range(packets.total)]
    refill(packets.data, packets.offset, packets.captured, 0xFF)
    assert before == [packets.frame(i) for i in range(packets.total)]
    assert packets.data[int(ends[0])] == packets.data[int(ends[-1])] == 0xFF


def test_a_sound_container_of_every_format_gives_its_packets(tmp_path: Path) -> None:
    for number, one in enumerate(containers(read(SAMPLE), 0)):
        path = tmp_path / f"{number}.bin"
        path.write_bytes(one.content)
        assert read_twice(path, number).packets == 200


def test_damaged_files_are_read_or_refused(tmp_path: Path) -> None:
    forms = containers(read(SAMPLE), 0)
    outcomes = []
    for turn in range(120):
        path = tmp_path / f"{turn}.bin"
        path.write_bytes(damaged(forms[turn % len(forms)], turn))
        outcomes.append(read_twice(path, turn))
    assert any(one.refused for one in outcomes)
    assert any(0 < one.packets < 200 for one in outcomes)


def test_a_file_that_is_no_capture_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(damaged(Container("none", bytes(64), np.array([20])), 1))
    assert read_twice(path, 0).refused


@pytest.mark.slow
def test_lanes_that_differ_are_a_finding() -> None:
    stand = Stand(1, 1, read(SAMPLE), boxes())
    packets, _ = stand.batch(0)
    stand.feed(packets)
    stand.lanes[1].engine.tables.flows["app"][0] ^= 1
    with pytest.raises(Finding, match="flows: depends on what lies around"):
        stand.feed(stand.batch(1)[0])


def test_packets_that_are_counted_nowhere_are_a_finding() -> None:
    stand = Stand(1, 2, read(SAMPLE), boxes())
    stand.feed(stand.batch(0)[0])
    stand.close()
    stand.lanes[0].engine.tables.flows["packets_up"][0] += 1
    with pytest.raises(Finding, match="do not add up"):
        stand.close()


@pytest.mark.skipif(PLAIN, reason="bounds checks are an option of compiled code")
def test_bounds_checks_are_on_in_a_worker() -> None:
    program = (
        "import numpy as np; from midcall.captures.jit.reads import u8; "
        "u8(np.zeros(4, np.uint8), np.int64(9))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "NUMBA_BOUNDSCHECK": "1"},
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "IndexError: index is out of bounds" in done.stderr


def test_a_worker_that_dies_is_a_finding_that_says_where(tmp_path: Path) -> None:
    with session.Worker(1, 41, [SAMPLE], tmp_path) as worker:
        os.kill(worker.process.pid, signal.SIGKILL)
        result = worker.answer()
    assert result == {"stand": 41, "error": "the process that fuzzed ended by SIGKILL"}


@pytest.mark.longest
@pytest.mark.skipif(PLAIN, reason="a worker compiles")
def test_a_short_session_finds_nothing_and_is_gone_on_with(tmp_path: Path) -> None:
    for packets in (40_000, 80_000):
        words = ["fuzz", "--packets", str(packets), "--runs", str(tmp_path), "--json"]
        done = CliRunner().invoke(app, words)
        assert done.exit_code == 0, done.output
        result = json.loads((tmp_path / "fuzz" / "latest.json").read_text())
        assert result["finding"] is None
        assert packets <= result["mutated"] <= packets + 65_536
    assert result["next"] == 2
    assert result["file_packets"] > 0
