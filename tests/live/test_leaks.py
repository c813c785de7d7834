# SPDX-License-Identifier: BSD-3-Clause
"""Live runs that are killed leave nothing, and what is left is found."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from midcall.errors import ExperimentError
from midcall.experiments.proofs import leaks
from midcall.testbed.live.devices import blackbox
from midcall.testbed.live.devices.load_generator import Trial
from midcall.testbed.live.network import network as networks


@pytest.mark.live
def test_a_few_runs_killed_at_random_leave_nothing(tmp_path: Path) -> None:
    summary, path = leaks.leaks(3, 5, tmp_path, lambda line: None)
    assert summary["left"] == []
    assert summary["runs"] == 3
    assert summary["killed"] >= 1
    assert json.loads(path.read_text()) == summary
    assert "then one more: nothing left" in leaks.lines(summary)[0]


@pytest.mark.live
@pytest.mark.parametrize("box", leaks.BOXES)
def test_a_run_carries_traffic(box: str) -> None:
    if lacks := blackbox.missing(box) if box == "nfqueue" else []:
        pytest.skip("; ".join(lacks))
    leaks.lab("0a1b2c", box)


def test_a_run_without_traffic_is_an_error() -> None:
    none = np.zeros(0, np.float32)
    trial = Trial(2000, 0.3, 600, 600, 0, 0, 0.0, 0, 0, np.zeros(600, np.int64), none)
    with pytest.raises(ExperimentError, match="box nfqueue: none of 600 packets came out"):
        leaks.passed(trial, "nfqueue")


def test_what_is_left_is_found(tmp_path: Path) -> None:
    home = tmp_path / "live"
    (home / "mc0a1b2c").mkdir(parents=True)
    environment = os.environ | {"MIDCALL_LIVE": str(home)}
    with subprocess.Popen(
        [sys.executable, "-c", "print(flush=True); input()"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment,
    ) as leftover:  # fmt: skip
        assert leftover.stdout is not None
        leftover.stdout.readline()
        lines = leaks.remains_now(tmp_path, ["0a1b2c"])
        leftover.kill()
    assert f"file: {home / 'mc0a1b2c'}" in lines
    assert any(line.startswith(f"process {leftover.pid} in net:[") for line in lines)
    (home / "mc0a1b2c").rmdir()
    assert leaks.remains_now(tmp_path, ["0a1b2c"]) == []


def test_a_folder_whose_maker_died_before_it_was_one_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(networks, "RUNS", tmp_path)
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    dead, made = tmp_path / f".mc0a1b2c.{gone.pid}", tmp_path / f".mc0a1b2d.{os.getpid()}"
    for folder in (dead, made):
        folder.mkdir()
    networks.sweep()
    assert not dead.exists()
    assert made.exists()
