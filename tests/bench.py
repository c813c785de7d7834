# SPDX-License-Identifier: BSD-3-Clause
"""Bench: packets per second of the offline path, beside ndpiReader and the bare reading of a file.

`python -m tests.bench` (`make bench`) mixes the captures that this machine has into a file of a
million packets, every round of them with addresses of its own, so that its flows are new, and
measures, pinned to one core and in turn: the path (file in, flow table out), ndpiReader where it is
installed, and reading the file. Figures are medians of the repeats. Writes bench.json.

What is measured, exactly. midcall: a process that has compiled and run the path once (start-up is
excluded) reads the file from the page cache in batches and feeds a fresh engine. ndpireader: the
wall time of `ndpiReader -q -i FILE` less that of an empty capture (its start-up). read: the
file through one buffer of a mebibyte, which no tool can beat. Peak memory is the process's maximum
resident set, interpreter and libraries included. State per flow: midcall's arrays by the flows in
them; ndpiReader's peak less that of its empty run, by as many flows.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console
from rich.table import Table

from captures.layers import layers
from captures.pcap import Packets, batches, read

PACKETS, REPEATS = 1_000_000, 5
BLOCK = 1 << 20
EPOCH = 1_600_000_000
PCAP_HEAD = struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262144, 1)


# ---- the load


class Load(NamedTuple):
    """A file to measure with, and what it is made of."""

    path: Path
    made_of: str
    synthetic: bool


class Row(NamedTuple):
    """A packet of the mix: when (ns from the start), its Ethernet frame, size on the wire.

    places: where the low octets of the innermost addresses stand.
    """

    time: int
    frame: bytes
    wire: int
    places: tuple[int, ...]


def ethernet(frame: bytes, link: int) -> tuple[bytes, tuple[int, ...]]:
    """Return a frame as it looks on Ethernet, and where its innermost addresses end.

    The end of an address is not its last octet but the one before: a round changes that.
    """
    found = layers(frame, link)
    shift = 0
    if link != 1:
        if not found:
            return b"", ()
        kind = b"\x08\0" if found[0].version == 4 else b"\x86\xdd"
        shift = 14 - found[0].at
        frame = bytes(12) + kind + frame[found[0].at :]
    if not found:
        return frame, ()
    source, target, size = found[-1].addresses
    return frame, (source + size - 2 + shift, target + size - 2 + shift)


def interleaved(captures: list[Packets]) -> list[Row]:
    """Return the packets of captures by time, each capture starting within half a minute."""
    dice = np.random.default_rng(1)
    rows = []
    for packets in captures:
        start, first = int(dice.integers(30_000_000_000)), int(packets.time.min())
        for i in range(packets.total):
            frame, places = ethernet(packets.frame(i), int(packets.link[i]))
            if frame:
                lost = int(packets.wire[i]) - int(packets.captured[i])
                after = min(int(packets.time[i]) - first, 600_000_000_000)
                rows.append(Row(start + after, frame, len(frame) + lost, places))
    return sorted(rows, key=lambda row: row.time)


def rounds(rows: list[Row], packets: int) -> Iterator[tuple[int, Row]]:
    """Yield (round, row) until there are enough."""
    for number in range(packets):
        yield number // len(rows), rows[number % len(rows)]


def write_mix(path: Path, captures: list[Packets], packets: int) -> None:
    """Write a pcap file of that many packets; every round of the captures has its own addresses."""
    rows = interleaved(captures)
    span = rows[-1].time + 1_000_000_000
    with path.open("wb") as out:
        out.write(PCAP_HEAD)
        for turn, row in rounds(rows, packets):
            frame = bytearray(row.frame)
            if turn:
                for place in row.places:
                    frame[place] ^= turn & 0xFF
            seconds, rest = divmod(row.time + turn * span, 1_000_000_000)
            out.write(struct.pack("<IIII", EPOCH + seconds, rest // 1000, len(frame), row.wire))
            out.write(frame)


def gather(folder: Path, packets: int, samples_only: bool) -> Load:
    """Make the file of a bench from the captures that this machine has."""
    from tests.conftest import corpus_folder
    from tests.golden import available

    found = available(None if samples_only else corpus_folder())
    real = [path for one, path in found if not one.synthetic and not samples_only]
    paths = real or [path for one, path in found if one.synthetic]
    parts = [one for one in map(read, paths) if one.total]
    path = folder / "mix.pcap"
    write_mix(path, parts, packets)
    kind = "real captures" if real else "samples (synthetic)"
    return Load(path, f"{len(parts)} {kind}, interleaved", not real)


# ---- the worker: a warm process that is told to run


def state_bytes(engine: Any) -> int:
    """Return the size of an engine's arrays."""
    return sum(array.nbytes for array in engine.tables)


def one_pass(path: Path) -> dict[str, int | float]:
    """Return what one pass over a file took, its packets, bytes and flows."""
    from classifier.engine import Engine

    started = time.perf_counter()
    engine, packets, octets = Engine(), 0, 0
    for batch in batches(path):
        engine.feed(batch)
        packets += batch.total
        octets += int(batch.wire.sum())
    flows = len(engine.flows())
    seconds = time.perf_counter() - started
    state = state_bytes(engine)
    return {
        "seconds": seconds,
        "packets": packets,
        "bytes": octets,
        "flows": flows,
        "state": state,
    }


def peak_memory() -> int:
    """Return this process's maximum resident set in bytes."""
    status = Path("/proc/self/status")
    if status.exists():  # of this program alone, not of whoever started it
        lines = status.read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def work(path: Path) -> None:
    """Warm up, then run a pass for every line on standard input; print each as JSON."""
    one_pass(path)
    print("{}", flush=True)
    for _ in sys.stdin:
        row = one_pass(path)
        row["peak"] = peak_memory()
        print(json.dumps(row), flush=True)


class Worker:
    """The process that runs the path."""

    def __init__(self, path: Path) -> None:
        command = [sys.executable, "-m", "tests.bench", "--worker", str(path)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.answer()

    def answer(self) -> dict[str, Any]:
        """Return what the worker says next."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("bench: the process that runs the path has failed, see above")
        row: dict[str, Any] = json.loads(line)
        return row

    def run(self) -> dict[str, Any]:
        """Run one pass."""
        assert self.process.stdin is not None
        self.process.stdin.write("run\n")
        self.process.stdin.flush()
        return self.answer()

    def close(self) -> None:
        """End the process."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()


# ---- the others


def read_all(path: Path) -> float:
    """Return the seconds that reading a file takes."""
    room = bytearray(BLOCK)
    started = time.perf_counter()
    with path.open("rb", buffering=0) as file:
        while file.readinto(room):
            pass
    return time.perf_counter() - started


#: Runs a program and says how long it took and its peak memory (bytes). It is a small process of
#: its own: Linux counts the memory of whoever forked as the child's until that grows larger.
LAUNCH = """
import os, sys, time
started = time.perf_counter()
quiet = os.open(os.devnull, os.O_WRONLY)
actions = [(os.POSIX_SPAWN_DUP2, quiet, 1), (os.POSIX_SPAWN_DUP2, quiet, 2)]
pid = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=actions)
_, status, usage = os.wait4(pid, 0)
print(os.waitstatus_to_exitcode(status), time.perf_counter() - started, usage.ru_maxrss * 1024)
"""


def run_ndpi(program: str, path: Path) -> tuple[float, int]:
    """Return the seconds and the peak memory (bytes) of one run of ndpiReader."""
    command = [program, "-q", "-i", str(path)]
    launcher = [sys.executable, "-I", "-S", "-c", LAUNCH, *command]
    done = subprocess.run(launcher, capture_output=True, text=True, check=True)
    code, seconds, peak = done.stdout.split()
    if code != "0":
        raise SystemExit(f"bench: {' '.join(command)} ended with code {code}")
    return float(seconds), int(peak)


# ---- one file


def row_of(seconds: float, packets: int, octets: int, peak: int | None, state: float | None) -> Any:
    """Return the figures of one tool."""
    return {
        "packets": packets,
        "seconds": round(seconds, 6),
        "packets_per_s": round(packets / seconds),
        "bytes_per_s": round(octets / seconds),
        "peak_memory_bytes": peak,
        "state_bytes_per_flow": None if state is None else round(state, 1),
    }


def peer(
    runs: list[tuple[float, int]], empty: list[tuple[float, int]], ours: dict[str, Any]
) -> Any:
    """Return ndpiReader's figures, its start-up taken off."""
    whole = statistics.median(seconds for seconds, _ in runs)
    start = statistics.median(seconds for seconds, _ in empty)
    peak, idle = max(peak for _, peak in runs), max(peak for _, peak in empty)
    state = max(peak - idle, 0) / max(ours["flows"], 1)
    net = max(whole - start, 1e-6)
    row = row_of(net, ours["packets"], ours["bytes"], peak, state)
    return row | {"wall_seconds": round(whole, 6), "start_up_seconds": round(start, 6)}


def measure(load: Load, repeats: int, program: str | None, folder: Path) -> dict[str, Any]:
    """Measure all tools on one file, in turn."""
    empty = folder / "empty.pcap"
    empty.write_bytes(PCAP_HEAD)
    worker = Worker(load.path)
    read_all(load.path)
    passes: list[dict[str, Any]] = []
    reads: list[float] = []
    peers: list[tuple[float, int]] = []
    starts: list[tuple[float, int]] = []
    for _ in range(repeats):
        passes.append(worker.run())
        reads.append(read_all(load.path))
        if program:
            starts.append(run_ndpi(program, empty))
            peers.append(run_ndpi(program, load.path))
    worker.close()
    return figures(load, passes, reads, peers, starts)


def figures(
    load: Load,
    passes: list[dict[str, Any]],
    reads: list[float],
    peers: list[tuple[float, int]],
    starts: list[tuple[float, int]],
) -> dict[str, Any]:
    """Return everything that is said of one file."""
    last = passes[-1]
    if not last["packets"]:
        raise SystemExit(f"bench: {load.path}: holds no packets, there is nothing to measure")
    seconds = statistics.median(row["seconds"] for row in passes)
    packets, octets = last["packets"], last["bytes"]
    state = last["state"] / max(last["flows"], 1)
    tools = {
        "midcall": row_of(seconds, packets, octets, max(row["peak"] for row in passes), state),
        "read": row_of(statistics.median(reads), packets, octets, None, None),
    }
    tools["midcall"]["all_seconds"] = [round(row["seconds"], 6) for row in passes]
    if peers:
        tools["ndpireader"] = peer(peers, starts, last)
    ours = tools["midcall"]["packets_per_s"]
    others = {name: row["packets_per_s"] for name, row in tools.items() if name != "midcall"}
    return {
        "file": load.path.name,
        "made_of": load.made_of,
        "synthetic": load.synthetic,
        "file_bytes": load.path.stat().st_size,
        "packets": packets,
        "bytes": octets,
        "flows": last["flows"],
        "tools": tools,
        "ratios": {name: ours / others[name] if name in others else None for name in PEERS},
    }


PEERS = ("ndpireader", "read")


def table_of(result: dict[str, Any]) -> Table:
    """Return the figures of one file as a person reads them."""
    title = (
        f"{result['file']} ({result['made_of']}): {result['packets']:,} packets, "
        f"{result['flows']:,} flows, {result['file_bytes'] / 1e6:.0f} MB"
    )
    table = Table(title=title, title_justify="left")
    for name in ("tool", "seconds", "Mpackets/s", "MB/s", "peak MB", "state B/flow", "midcall is"):
        table.add_column(name, justify="left" if name == "tool" else "right")
    for name, row in result["tools"].items():
        peak, state, ratio = (
            row["peak_memory_bytes"],
            row["state_bytes_per_flow"],
            result["ratios"].get(name),
        )
        table.add_row(
            name,
            f"{row['seconds']:.3f}",
            f"{row['packets_per_s'] / 1e6:.2f}",
            f"{row['bytes_per_s'] / 1e6:.0f}",
            "" if peak is None else f"{peak / 1e6:.0f}",
            "" if state is None else f"{state:.0f}",
            "" if ratio is None else f"{ratio:.2f} x",
        )
    return table


def notes(results: list[dict[str, Any]], core: int, repeats: int) -> str:
    """Return what the figures mean, in one paragraph."""
    said = f"Core {core} only; median of {repeats}, tools in turn; files in the page cache. "
    peers = [one["tools"]["ndpireader"] for one in results if "ndpireader" in one["tools"]]
    if peers:
        parts = ", ".join(
            f"{row['wall_seconds']:.3f} s less {row['start_up_seconds']:.3f} s of start-up"
            for row in peers
        )
        said += f"ndpireader: wall time of `ndpiReader -q -i FILE`, {parts} (an empty capture). "
    else:
        said += "ndpiReader is not installed here (Debian, Ubuntu: apt install libndpi-bin). "
    if any(one["synthetic"] for one in results):
        said += "SYNTHETIC: no real captures are here, the load is made of the project's samples. "
    return said + "read: the bare reading of the file, the limit of any tool."


def arguments() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="bench the path")
    parser.add_argument("files", nargs="*", type=Path, help="captures to measure with, as they are")
    parser.add_argument("--packets", type=int, default=PACKETS, help="size of the mix")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--samples", action="store_true", help="mix the samples only")
    parser.add_argument("--no-peers", action="store_true", help="leave ndpiReader out")
    parser.add_argument("--json", type=Path, default=Path("bench.json"), help="where figures go")
    parser.add_argument("--worker", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> int:
    """Measure, print a table and write bench.json."""
    given = arguments()
    if given.worker:
        work(given.worker)
        return 0
    from experiments.provenance import machine

    facts = machine()  # asked before this process is pinned: it counts the cores
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    program = None if given.no_peers else shutil.which("ndpiReader")
    with tempfile.TemporaryDirectory(prefix="midcall-bench-") as name:
        folder = Path(name)
        loads = [Load(path, "as given", False) for path in given.files]
        loads = loads or [gather(folder, given.packets, given.samples)]
        results = [measure(load, given.repeats, program, folder) for load in loads]
    report = {
        "schema": 1,
        "method": " ".join((__doc__ or "").split()),
        "repeats": given.repeats,
        "core": core,
        "machine": facts,
        "files": results,
        "ratios": results[0]["ratios"],
    }
    given.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    console = Console(width=None if sys.stdout.isatty() else 110)
    for result in results:
        console.print(table_of(result))
    console.print(notes(results, core, given.repeats), soft_wrap=False)
    console.print(f"wrote {given.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
