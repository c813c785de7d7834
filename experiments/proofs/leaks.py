# SPDX-License-Identifier: BSD-3-Clause
"""Leaks: whether live runs, some of them killed at a random moment, leave anything on the machine.

Each run is a lab in a process of its own: a network, a box, a little traffic. Some are killed
(SIGKILL, after which a process cannot clean up) at a moment drawn from the seed. Then one more
starts, which removes the remains of dead ones, and ends normally; after that nothing of any run may
remain: no process, namespace, interface, file, cgroup.

    python -m midcall.experiments.proofs.leaks RUN MIDDLEBOX runs such a lab
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

#: Boxes of the labs that are killed, in turn; "own" is our own box.
BOXES = ("own", "offload", "command", "nfqueue")
COMMAND = f"command: {sys.executable} -m midcall.testbed.live.devices.drop_rtp"
#: Every third run ends normally.
PEACE = 3
#: Time limit of a lab, and of the kernel for removing the remains of dead processes, in s.
LAB_SECONDS, GONE_SECONDS = 300.0, 10.0
RATE, SECONDS = 2000, 0.3


def lab(run: str, box: str) -> None:
    """Run a lab: a small network, a box and a little traffic."""
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
    """Raise ExperimentError if no packet of a trial came out: such a run is no test of leaks."""
    if not len(trial.late_us):
        raise ExperimentError(f"box {box}: none of {trial.sent} packets came out, expected some")


class Span(NamedTuple):
    """The duration of a lab in s, and whether it was killed."""

    seconds: float
    killed: bool

    def __str__(self) -> str:
        """Return the span in words."""
        return f"{'killed' if self.killed else 'ended in peace'} after {self.seconds:.2f} s"


def leaks(times: int, seed: int, runs: Path, say: Callable[[str], None]) -> tuple[Row, Path]:
    """Run that many labs and look for remains; returns the result and its file.

    Raises ExperimentError if a run that was not killed failed.
    """
    require()
    rng = random.Random(seed)
    began = datetime.datetime.now(datetime.UTC)
    boxes = [kind for kind in BOXES if kind in ("own", "offload") or not blackbox.missing(kind)]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="midcall-leaks-") as name:
        home = Path(name)
        for part in ("live", "tmp"):
            (home / part).mkdir()
        names = [f"{rng.getrandbits(24):06x}" for _ in range(times + 1)]
        took(home, names[-1], "own", None)  # compiles the code
        spans = [
            took(home, names[-1], "own", None).seconds
        ]  # durations within which a kill is drawn
        for number, run in enumerate(names[:-1]):
            box = boxes[number % len(boxes)]
            ends_normally = number % PEACE == PEACE - 1
            moment = None if ends_normally else rng.uniform(0.05, statistics.median(spans))
            span = took(home, run, box, moment)
            if not span.killed:
                spans.append(span.seconds)
            rows.append(
                {"run": run, "box": box, "killed": span.killed, "seconds": round(span.seconds, 3)}
            )
            say(f"{number + 1} of {times}: {box}, {span}")
        took(home, names[-1], "own", None)  # its start removes remains
        remaining = remains(home, names)
    result: Row = {
        "schema": 1,
        "kind": "leaks",
        "began": began.isoformat(timespec="seconds"),
        "runs": times,
        "killed": sum(row["killed"] for row in rows),
        "boxes": boxes,
        "seed": seed,
        "left": remaining,
        "rows": rows,
        "machine": machine(),
        "code": git_state(),
    }
    folder = runs / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "leaks.json"
    path.write_text(json.dumps(result, indent=1) + "\n")
    for made in (runs, folder, path):
        give(made)
    return result, path


def took(home: Path, run: str, box: str, moment: float | None) -> Span:
    """Start a lab and kill it after `moment` seconds if it still runs (None: do not kill it).

    Raises ExperimentError if it failed, or did not end.
    """
    command = [sys.executable, "-m", "midcall.experiments.proofs.leaks", run, box]
    environment = os.environ | {"MIDCALL_LIVE": str(home / "live"), "TMPDIR": str(home / "tmp")}
    begin = time.monotonic()
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        env=environment, cwd=ROOT,
    )  # fmt: skip
    try:
        _, stderr = process.communicate(timeout=LAB_SECONDS if moment is None else moment)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        if process.stderr is not None:
            process.stderr.close()
        if moment is None:
            raise ExperimentError(f"run {run}: {box}: not over after {LAB_SECONDS:g} s") from None
        return Span(time.monotonic() - begin, True)
    if process.returncode:
        last = stderr.decode(errors="replace").strip().splitlines()[-1:]
        raise ExperimentError(f"run {run}: {box}: failed: {' '.join(last) or 'no word'}")
    return Span(time.monotonic() - begin, False)


# ---- remains


def remains(home: Path, runs: Sequence[str]) -> list[str]:
    """Return what remains of some runs, one line each; the kernel gets GONE_SECONDS first."""
    until = time.monotonic() + GONE_SECONDS
    while (remaining := remains_now(home, runs)) and time.monotonic() < until:
        time.sleep(0.1)
    return remaining


def remains_now(home: Path, runs: Sequence[str]) -> list[str]:
    """Return what exists of some runs now, one line each."""
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
    """Return the processes that have a mark in their environment, and their network namespaces.

    A network namespace lives as long as a process or a mount refers to it (`remains_now` looks for
    mounts), so one that remains appears here.
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


def lines(result: Row) -> list[str]:
    """Return a result as lines of text."""
    remaining = result["left"]
    return [
        f"{result['runs']} live runs ({', '.join(result['boxes'])} in turn), {result['killed']} of "
        f"them killed, then one more: {len(remaining) or 'nothing'} left",
        *remaining,
    ]


if __name__ == "__main__":
    lab(sys.argv[1], sys.argv[2])
