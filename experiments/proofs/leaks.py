# SPDX-License-Identifier: BSD-3-Clause
"""Leaks: whether live runs, some of them killed at any moment, leave anything on the machine.

Each run is a lab of its own process: a network, a box, a little traffic. Some are killed (SIGKILL,
which nobody can clean up after) at a moment drawn from the seed. Then one more starts, which sweeps
what dead ones left, and ends in peace; after that nothing of any run may be there: no process,
namespace, interface, file, cgroup.

    python -m midcall.experiments.proofs.leaks RUN MIDDLEBOX is such a lab
"""

from __future__ import annotations

import datetime
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from midcall.errors import ExperimentError
from midcall.experiments.bench.live import FOLDER, give
from midcall.experiments.bench.paths import NOWHERE
from midcall.experiments.results.provenance import git_state, machine
from midcall.locations import ROOT
from midcall.testbed.live.box.process import Box
from midcall.testbed.live.devices import blackbox
from midcall.testbed.live.devices.blackbox import Blackbox
from midcall.testbed.live.devices.load_generator import FRESH, Generator, Trial, traffic
from midcall.testbed.live.network.network import Network, require

Row = dict[str, Any]

#: What a killed lab may have as its box, in turn; "own" is the lab's.
BOXES = ("own", "offload", "command", "nfqueue")
COMMAND = f"command: {sys.executable} -m midcall.testbed.live.devices.drop_rtp"
#: Every third run ends in peace.
PEACE = 3
#: How long a lab may take, and how long the kernel to take down what is dead.
LAB_SECONDS, GONE_SECONDS = 300.0, 10.0
RATE, SECONDS = 2000, 0.3


def lab(run: str, box: str) -> None:
    """Be a lab: a tiny network, a box and a little traffic."""
    with Network(run=run) as network:
        load = traffic(FRESH, (200,), 8, NOWHERE, "200")
        if box in ("own", "offload"):
            offload = "auto" if box == "offload" else "off"
            with Box(network, None, 1, offload=offload), Generator(network, 64) as generator:
                passed(generator.trial(load, RATE, SECONDS), box)
        else:
            words = COMMAND if box == "command" else box
            with Blackbox(network, words), Generator(network, 64) as generator:
                passed(generator.trial(load, RATE, SECONDS), box)


def passed(trial: Trial, box: str) -> None:
    """Raise ExperimentError where nothing of a trial came out: such a run says little of leaks."""
    if not len(trial.late_us):
        raise ExperimentError(f"box {box}: none of {trial.sent} packets came out, expected some")


class Span(NamedTuple):
    """How long a lab ran, and whether it was killed."""

    seconds: float
    killed: bool

    def __str__(self) -> str:
        """Return it in words."""
        return f"{'killed' if self.killed else 'ended in peace'} after {self.seconds:.2f} s"


def leaks(times: int, seed: int, runs: Path, say: Callable[[str], None]) -> tuple[Row, Path]:
    """Do that many runs and tell what is left; returns the result and its file.

    Raises ExperimentError where a run that was not killed failed.
    """
    require()
    dice = random.Random(seed)
    began = datetime.datetime.now(datetime.UTC)
    boxes = [kind for kind in BOXES if kind in ("own", "offload") or not blackbox.missing(kind)]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="midcall-leaks-") as name:
        home = Path(name)
        for part in ("live", "tmp"):
            (home / part).mkdir()
        names = [f"{dice.getrandbits(24):06x}" for _ in range(times + 1)]
        took(home, names[-1], "own", None)  # compiles
        spans = [took(home, names[-1], "own", None).seconds]  # in which a kill can fall
        for number, run in enumerate(names[:-1]):
            box = boxes[number % len(boxes)]
            peace = number % PEACE == PEACE - 1
            moment = None if peace else dice.uniform(0.05, statistics.median(spans))
            span = took(home, run, box, moment)
            if not span.killed:
                spans.append(span.seconds)
            rows.append(
                {"run": run, "box": box, "killed": span.killed, "seconds": round(span.seconds, 3)}
            )
            say(f"{number + 1} of {times}: {box}, {span}")
        took(home, names[-1], "own", None)  # its start sweeps
        left = remains(home, names)
    told: Row = {
        "schema": 1,
        "kind": "leaks",
        "began": began.isoformat(timespec="seconds"),
        "runs": times,
        "killed": sum(row["killed"] for row in rows),
        "boxes": boxes,
        "seed": seed,
        "left": left,
        "rows": rows,
        "machine": machine(),
        "code": git_state(),
    }
    folder = runs / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "leaks.json"
    path.write_text(json.dumps(told, indent=1) + "\n")
    for made in (runs, folder, path):
        give(made)
    return told, path


def took(home: Path, run: str, box: str, moment: float | None) -> Span:
    """Start a lab and kill it after `moment` seconds, should it still run (None: not at all)."""
    command = [sys.executable, "-m", "midcall.experiments.proofs.leaks", run, box]
    environment = os.environ | {"MIDCALL_LIVE": str(home / "live"), "TMPDIR": str(home / "tmp")}
    begin = time.monotonic()
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        env=environment, cwd=ROOT,
    )  # fmt: skip
    try:
        _, said = process.communicate(timeout=LAB_SECONDS if moment is None else moment)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()
        if moment is None:
            raise ExperimentError(f"run {run}: {box}: not over after {LAB_SECONDS:g} s") from None
        return Span(time.monotonic() - begin, True)
    if process.returncode:
        last = said.decode(errors="replace").strip().splitlines()[-1:]
        raise ExperimentError(f"run {run}: {box}: failed: {' '.join(last) or 'no word'}")
    return Span(time.monotonic() - begin, False)


# ---- what is left


def remains(home: Path, runs: Sequence[str]) -> list[str]:
    """Return what is left of some runs, a line each; the kernel gets a little time first."""
    until = time.monotonic() + GONE_SECONDS
    while (left := found(home, runs)) and time.monotonic() < until:
        time.sleep(0.1)
    return left


def found(home: Path, runs: Sequence[str]) -> list[str]:
    """Return what is there of some runs now, a line each."""
    names = [f"mc{run}" for run in runs]
    lines = [f"file: {path}" for path in sorted(home.rglob("*")) if path.parent != home]
    lines += processes(f"MIDCALL_LIVE={home / 'live'}".encode())
    for line in Path("/proc/net/dev").read_text().splitlines()[2:]:
        word = line.partition(":")[0].strip()
        if any(word.startswith(name) for name in names):
            lines.append(f"interface: {word}")
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        if any(name in line for name in names):
            lines.append(f"mount: {line}")
    for path in Path("/sys/fs/cgroup").glob("**/*mc*"):
        if any(name in path.name for name in names):
            lines.append(f"cgroup: {path}")
    return lines


def processes(mark: bytes) -> list[str]:
    """Return the processes that have a mark in their environment, and the namespaces they hold.

    A network namespace lives as long as a process is in it or a mount holds it (`found` looks for
    those), so one that is left shows here.
    """
    lines = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if path.name == str(os.getpid()) or mark not in path.joinpath("environ").read_bytes():
                continue
            words = (
                path.joinpath("cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            )
            space = os.readlink(path / "ns" / "net")
        except OSError:
            continue
        lines.append(f"process {path.name} in {space}: {words.strip()}")
    return lines


def lines(told: Row) -> list[str]:
    """Return a result as text for people."""
    left = told["left"]
    return [
        f"{told['runs']} live runs ({', '.join(told['boxes'])} in turn), {told['killed']} of them "
        f"killed, then one more: {len(left) or 'nothing'} left",
        *left,
    ]


if __name__ == "__main__":
    lab(sys.argv[1], sys.argv[2])
