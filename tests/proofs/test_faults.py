# SPDX-License-Identifier: BSD-3-Clause
"""Faults: kills leave nothing half-written, and disks and permissions are one sentence each."""

from __future__ import annotations

import datetime
import errno
import io
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from midcall.errors import ExperimentError
from midcall.experiments.cells import virtual_cell as simulate
from midcall.experiments.cli.app import app
from midcall.experiments.results import atomic_folder
from midcall.experiments.run import runner
from midcall.experiments.spec.options import Options
from midcall.locations import ROOT
from tests.proofs import faults

ROOT_ONLY = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("unshare") is None, reason="mounts a small disk: needs root"
)


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "midcall.experiments.cli.app", *words]


def sentence(done: subprocess.CompletedProcess[str]) -> str:
    """Return what a failed command says, which is one line."""
    assert done.returncode == 2, done.stderr[-2000:]
    assert "Traceback" not in done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("midcall: ")]
    return line


def mounted(options: str, shell: str) -> subprocess.CompletedProcess[str]:
    """Run a shell line where a small disk of its own is mounted on /mnt."""
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", f"mount -t tmpfs -o {options} none /mnt && {shell}"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


@pytest.mark.slow
def test_a_few_kills_lose_nothing(tmp_path: Path) -> None:
    problems, facts = faults.carried_out(tmp_path, 3, seed=4)
    assert problems == []
    assert facts["kills"] == 3


@pytest.mark.slow
def test_what_was_kept_is_counted_where_it_is_reused(tmp_path: Path) -> None:
    _, first = faults.whole(tmp_path)
    _, again = faults.whole(tmp_path)
    assert (first, again > 0) == (0, True)
    assert faults.unused(len(faults.cells(tmp_path)), again) == []
    assert faults.unused(3, 0) == ["after kills: 3 cells were kept and none was reused"]
    assert faults.unused(0, 0) == []


@pytest.mark.parametrize(("code", "fine"), [(0, True), (1, False), (2, False), (3, True)])
def test_a_run_that_lost_a_worker_may_lose_cells_and_no_more(code: int, fine: bool) -> None:
    one = faults.Play.__new__(faults.Play)
    one.process = subprocess.Popen(["sh", "-c", f"exit {code}"])
    one.process.wait()
    assert (faults.worker_killed(one, 0.0) == []) == fine


def test_failed_cells_have_an_exit_code_of_their_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for failed, code in ((0, 0), (2, faults.CELLS_FAILED)):
        done = SimpleNamespace(failed=failed)
        monkeypatch.setattr(runner, "run", lambda *_, done=done: done)
        assert faults.play(tmp_path, 1) == code


def test_what_is_half_written_is_told(tmp_path: Path) -> None:
    run = tmp_path / "runs" / "20260101T000000Z-smoke"
    run.mkdir(parents=True)
    (run / "spec.toml").touch()
    (tmp_path / "runs" / "latest").symlink_to("gone")
    cell = tmp_path / "cells" / "ab" / "abc.json"
    cell.parent.mkdir(parents=True)
    cell.write_text('{"key": "ab')
    result = list(faults.broken(tmp_path))
    assert result[0].startswith("20260101T000000Z-smoke lacks provenance.json, summary.json")
    assert result[1:] == ["latest names a folder that is not there", "cell abc.json cannot be read"]


def test_a_folder_that_a_dead_process_filled_is_swept_and_a_live_one_s_is_not(
    tmp_path: Path,
) -> None:
    gone = subprocess.Popen(["true"])
    gone.wait()
    dead, fresh, own = (
        tmp_path / f".run.{number}" for number in (gone.pid, f"x.{gone.pid}", os.getpid())
    )
    for folder in (dead, fresh, own):
        folder.mkdir()
    for folder in (dead, own):
        os.utime(folder, (time.time() - atomic_folder.STALE - 1,) * 2)
    atomic_folder.sweep(tmp_path)
    assert sorted(tmp_path.iterdir()) == sorted([fresh, own])


def test_results_that_cannot_be_drawn_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise ExperimentError("no ink")

    monkeypatch.setattr(runner, "render", fails)
    options = Options(
        jobs=1, runs=tmp_path / "runs", cells=tmp_path / "cells", stream=io.StringIO()
    )
    with pytest.raises(ExperimentError, match="no ink"):
        runner.run("smoke", options)
    (run,) = faults.visible(tmp_path / "runs")
    assert (run / "summary.json").is_file()
    assert [one for one in run.parent.iterdir() if one.name.startswith(".")] == []


def test_a_cache_on_a_full_disk_costs_reuse_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(simulate, "write_atomically", full)
    simulate.keep(tmp_path, {"key": "abc"})
    assert simulate.cached(tmp_path, "abc") is None


def test_a_file_where_results_should_go_is_told_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "runs").touch()
    done = CliRunner().invoke(app, ["run", "smoke", "--runs", str(tmp_path / "runs")])
    assert done.exit_code == 2
    assert done.stderr == (
        f"midcall: {tmp_path}/runs: cannot be written (File exists), results go there: "
        "correct that, or give another folder with --runs\n"
    )


@ROOT_ONLY
def test_a_read_only_folder_is_told_before_the_work() -> None:
    done = mounted("ro,size=1m", " ".join(command("run", "smoke", "--runs", "/mnt")))
    assert "/mnt: cannot be written (Read-only file system), results go there" in sentence(done)


@pytest.mark.slow
@ROOT_ONLY
def test_a_full_disk_is_one_sentence_and_leaves_nothing_behind() -> None:
    line = " ".join(command("run", "smoke", "--runs", "/mnt"))
    done = mounted("size=128k", f"{{ {line}; code=$?; ls -A /mnt >&2; exit $code; }}")
    result = sentence(done)
    assert "No space left on device" in result
    assert "free space there, or say --runs with a folder elsewhere" in result
    assert done.stderr.rstrip().endswith(result)


@pytest.mark.skipif(os.geteuid() == 0 and shutil.which("setpriv") is None, reason="needs setpriv")
def test_a_folder_of_somebody_else_is_told(tmp_path: Path) -> None:
    place = tmp_path / "theirs"
    place.mkdir(mode=0o555)
    program = (
        "from pathlib import Path\n"
        "from midcall.experiments.results import atomic_folder\n"
        f"atomic_folder.require(Path({str(place)!r}))"
    )
    prefix = []
    if os.geteuid() == 0:
        prefix = ["setpriv", "--bounding-set=-all", "--inh-caps=-all", "--"]
    done = subprocess.run(
        [*prefix, sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert f"{place}: cannot be written (Permission denied)" in done.stderr


def test_a_file_that_may_not_be_larger_is_one_sentence(tmp_path: Path) -> None:
    sample = ROOT / "captures" / "samples" / "sample-web.pcap"
    program = (
        "import resource, sys\n"
        "from midcall.experiments.cli.app import main\n"
        "import midcall.experiments.cells.classify, midcall.captures.packets.pcap\n"
        "import midcall.classifier.export\n"
        "sys.argv[1:] = sys.argv[2:]\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))\n"
        "main()"
    )
    words = ["classify", str(sample), "-o", str(tmp_path / "flows.csv")]
    done = subprocess.run(
        [sys.executable, "-c", program, "midcall", *words], cwd=ROOT, capture_output=True,
        text=True, check=False,
    )  # fmt: skip
    assert "File too large" in sentence(done)
    assert list(tmp_path.iterdir()) == []


def test_errors_that_are_no_disk_s_are_not_explained_away() -> None:
    assert (
        atomic_folder.disk_error_sentence(OSError(errno.ECONNREFUSED, "Connection refused")) is None
    )
    result = atomic_folder.disk_error_sentence(OSError(errno.EACCES, "Permission denied", "runs/x"))
    assert result == (
        "runs/x: cannot be read or written (Permission denied): correct the permissions, "
        "or give another folder or file; what was finished is kept"
    )


@pytest.mark.longest
def test_a_clock_that_is_set_back_disturbs_no_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    for moment in ("2026-03-02T10:00:00", "2026-03-01T10:00:00", "2026-03-01T10:00:00"):

        class Clock(datetime.datetime):
            at = datetime.datetime.fromisoformat(moment).replace(tzinfo=datetime.UTC)

            @classmethod
            def now(cls, tz: Any = None) -> datetime.datetime:
                return cls.at.astimezone(tz)

        monkeypatch.setattr(runner, "datetime", SimpleNamespace(datetime=Clock, UTC=datetime.UTC))
        options = Options(
            jobs=1, runs=tmp_path / "runs", cells=tmp_path / "cells", stream=io.StringIO()
        )
        runs.append(runner.run("smoke", options).folder)
        assert (tmp_path / "runs" / "latest").resolve() == runs[-1].resolve()
    assert len(set(runs)) == 3
    result = [json.loads((run / "summary.json").read_text())["calls"] for run in runs]
    assert result[0] == result[1] == result[2]
