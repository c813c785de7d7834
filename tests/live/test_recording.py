# SPDX-License-Identifier: BSD-3-Clause
"""Bystanders on a real line: recorded with the truth of every flow, and nothing is left behind."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from midcall.captures.packets.pcap import read
from midcall.experiments.proofs import leaks
from midcall.testbed.live.network.subscriber_line import Line
from midcall.testbed.programs.calls.sockets import descendants
from midcall.testbed.programs.recording import dissected, recorder
from midcall.testbed.programs.recording.scenes import Scene
from midcall.testbed.programs.recording.store import at, keep, rows

pytestmark = pytest.mark.live

#: Quick ones, of programs that need little; each is left out where its programs are missing.
KINDS = ("game", "dns", "stun", "web-http3")
ACCESS_MS = {"adsl": 49.0}


@pytest.fixture
def folders(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Return the private folders of the networks that the recorder makes."""
    made: list[Path] = []
    line_of = recorder.line_of

    @contextmanager
    def noted(access: str) -> Iterator[Line]:
        with line_of(access) as line:
            made.append(line.network.folder)
            yield line

    monkeypatch.setattr(recorder, "line_of", noted)
    return made


def test_bystanders_are_recorded_with_their_truth_and_leave_nothing(
    tmp_path: Path, folders: list[Path]
) -> None:
    skipped: list[str] = []
    scenes = [Scene(bystander=kind, access="adsl", seconds=1.0) for kind in KINDS]
    place = at(tmp_path)
    for one in recorder.record(scenes, lambda scene, why: skipped.append(f"{scene.name}: {why}")):
        assert not any((folders[-1] / name).exists() for name in ("site", "resolver"))
        row = keep(place, one)
        assert {label.app for label in one.labels} == {"none"}
        assert set(one.taps) == {"c0", "b0", "b1", "s0"}
        if not dissected.missing():
            assert dissected.differences(tmp_path / row.file, one.labels) == []
    assert [why for why in skipped if "is missing" not in why] == []
    assert {row.name for row in rows(place)} == {
        scene.name for scene in scenes if not recorder.missing(scene)
    }
    assert not any(path.exists() for path in folders)


def test_the_access_link_stands_between_caller_and_server(tmp_path: Path) -> None:
    (one,) = recorder.record([Scene(bystander="game", access="adsl", seconds=1.0)])
    row = keep(at(tmp_path), one)
    packets = read(tmp_path / row.file)
    ups = [packets.time[i] for i in range(packets.total) if packets.frame(i)[5] == 2]
    downs = [packets.time[i] for i in range(packets.total) if packets.frame(i)[5] == 1]
    assert (min(downs) - min(ups)) / 1e6 > ACCESS_MS["adsl"] - 1


@pytest.mark.parametrize(
    ("scene", "program"),
    [
        (Scene(caller="chromium", access="4g"), "chromium"),
        (Scene(bystander="wireguard", access="4g"), "wireguard-go"),
    ],
    ids=["call", "bystander"],
)
def test_a_recording_that_is_killed_leaves_nothing(scene: Scene, program: str) -> None:
    if lacks := recorder.missing(scene):
        pytest.skip("; ".join(lacks))
    kind = ("--caller", scene.caller) if scene.caller else ("--bystander", scene.bystander)
    command = [sys.executable, "-m", "midcall", "captures", "record", *kind, "--access",
               scene.access, "--seconds", "60"]  # fmt: skip
    with tempfile.TemporaryDirectory(prefix="midcall-") as name:  # sockets' names must be short
        home = Path(name)
        for part in ("live", "tmp"):
            (home / part).mkdir()
        around = os.environ | {"MIDCALL_LIVE": f"{home}/live", "TMPDIR": f"{home}/tmp"}
        lab = subprocess.Popen([*command, "--out", f"{home}/out"], env=around)
        try:
            assert holds(lambda: lab.poll() is not None or program in names(lab.pid), 120.0)
            assert lab.poll() is None, "it ended before it was killed"
            (run,) = [path.name.removeprefix("mc") for path in (home / "live").glob("mc*")]
            assert {"process", "file:"} <= words(home, run)
        finally:
            lab.kill()
            lab.wait()
        assert holds(lambda: words(home, run) <= {"file:"}, leaks.GONE_SECONDS)
        leaks.took(home, "0a1b2c", "own", None)  # a next lab sweeps the files
        assert leaks.remains(home, [run]) == []


def names(pid: int) -> set[str]:
    """Return the names of a process and of all that it started."""
    names = set()
    for one in descendants(pid):
        try:
            names.add(Path(f"/proc/{one}/comm").read_text().strip())
        except OSError:
            continue
    return names


def words(home: Path, run: str) -> set[str]:
    """Return of which kinds is what is there of a run: "process", "interface:", "file:" ..."""
    return {line.split()[0] for line in leaks.remains_now(home, [run])}


def holds(done: Callable[[], bool], seconds: float) -> bool:
    """Wait until something holds, no longer than that; tells whether it does."""
    until = time.monotonic() + seconds
    while not done() and time.monotonic() < until:
        time.sleep(0.05)
    return done()
