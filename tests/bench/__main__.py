# SPDX-License-Identifier: BSD-3-Clause
"""The bench's command line."""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rich.console import Console

import tests.bench as bench
from tests.bench.figures import Run, compared, file_of, own_row, peer_row, row_of, table_of
from tests.bench.growth import grow
from tests.bench.loads import NAMES, PACKETS, Load, first_part, gather, new_flows, write_frames
from tests.bench.start_up import start_up
from tests.bench.tools import PATIENCE, TOOLS, OutOfPatienceError, Tool, run
from tests.bench.worker import Worker, at_once, work

REPEATS = 5
BLOCK = 1 << 20


def read_all(path: Path) -> float:
    """Return the seconds that reading a file takes."""
    room = bytearray(BLOCK)
    started = time.perf_counter()
    with path.open("rb", buffering=0) as file:
        while file.readinto(room):
            pass
    return time.perf_counter() - started


def measure(load: Load, repeats: int, tools: dict[str, Tool], folder: Path) -> dict[str, Any]:
    """Measure all tools on one file, in turn."""
    empty = folder / "single.pcap"
    write_frames(empty, new_flows(1))
    worker = Worker(load.path)
    cores = range(os.cpu_count() or 1)
    here = os.sched_getaffinity(0)
    pair = Worker(load.path, 2) if len(cores) > 1 else None
    free = next((core for core in cores if core not in here), None)
    other = None if free is None else Worker(load.path, 1, free)
    files = {
        name: first_part(load.path, tool.packets, folder) if tool.packets else load.path
        for name, tool in tools.items()
    }
    read_all(load.path)
    passes: list[dict[str, Any]] = []
    paired: list[dict[str, Any]] = []
    apart: list[dict[str, Any]] = []
    reads: list[float] = []
    runs: dict[str, tuple[list[Run], list[Run]]] = {name: ([], []) for name in tools}
    for _ in range(repeats):
        passes.append(worker.run())
        if pair:
            paired.append(pair.run())
        if other:
            apart.append(at_once([worker, other]))
        reads.append(read_all(load.path))
        for name in tuple(runs):
            program, command = tools[name].found() or "", tools[name].command
            try:
                runs[name][0].append(run(command(program, str(files[name]))))
                runs[name][1].append(run(command(program, str(empty))))
            except OutOfPatienceError:
                del runs[name]
    for process in (worker, pair, other):
        if process:
            process.close()
    last = passes[-1]
    if not last["packets"]:
        raise SystemExit(f"bench: {load.path}: holds no packets, there is nothing to measure")
    rows: dict[str, dict[str, Any] | None] = {
        "midcall": own_row(passes),
        **({"two_cores": own_row(paired)} if paired else {}),
        **({"two_passes": own_row(apart)} if apart else {}),
        "read": row_of(reads, last["packets"], last["bytes"], None, None),
    }
    for name, (whole, idle) in runs.items():
        count = min(tools[name].packets or last["packets"], last["packets"])
        rows[name] = peer_row(whole, idle, count, last)
    return file_of(load, last, rows) | {"too_slow": sorted(tools.keys() - runs.keys())}


def chosen(words: str | None) -> dict[str, Tool]:
    """Return the peers to measure: those named, else all that are installed."""
    names = list(TOOLS) if words is None else [word for word in words.split(",") if word]
    names = ["command", *(name for name in names if name != "command")]
    unknown = [name for name in names if name not in TOOLS]
    if unknown:
        raise SystemExit(f"bench: no peer {unknown[0]!r}; expected some of {', '.join(TOOLS)}")
    return {name: TOOLS[name] for name in names if TOOLS[name].found()}


def notes(results: list[dict[str, Any]], core: int, repeats: int, tools: dict[str, Tool]) -> str:
    """Return what the figures mean, in one paragraph."""
    said = f"Core {core} only (two_cores, two_passes: any); medians of {repeats}, tools in turn; "
    said += "files in the page cache. "
    said += "midcall: how many times faster (least-most of the pairs). "
    said += "two_cores: the path on two cores, and how many times faster than midcall on one; "
    said += "two_passes: two files at once, one a core, the limit of whatever shares one file. "
    said += "command: midcall classify, its whole process with rows as Parquet; its column: how "
    said += "many times faster it is. start: the whole process on a file of one packet. "
    said += "Command and peers without their start-up; "
    said += "tshark, dpkt, scapy and nfstream on the first packets. "
    missing = [name for name in TOOLS if name not in tools]
    if missing:
        said += f"Not measured (not installed, or not asked for): {', '.join(missing)}. "
    for one in results:
        if one["not_told_from_start_up"]:
            names = ", ".join(one["not_told_from_start_up"])
            said += f"{one['file']}: {names} took no longer than their start-up. "
        if one["too_slow"]:
            names = ", ".join(one["too_slow"])
            said += f"{one['file']}: {names} took longer than {PATIENCE} s and were given up. "
    if any(one["synthetic"] for one in results):
        said += "SYNTHETIC files are made up or of the project's samples; no headline is theirs. "
    return said + "read: the bare reading of the file, the limit of any tool."


def arguments() -> argparse.Namespace:
    """Return the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description="bench the path")
    add = parser.add_argument
    add("files", nargs="*", type=Path, help="captures to measure with, as they are")
    add("--loads", default="mix,whole,calls", help=f"files to make, of {','.join(NAMES)}; or all")
    add("--packets", type=int, default=PACKETS, help="size of each file")
    add("--repeats", type=int, default=REPEATS)
    add("--samples", action="store_true", help="of the samples only")
    add("--peers", default="ndpireader,nfstream", help=f"of {','.join(TOOLS)}; or all; empty: none")
    add("--json", type=Path, default=Path("bench.json"), help="where figures go")
    add("--against", type=Path, help="an earlier bench.json to compare with, in ratios")
    add("--start-up", action="store_true", help="the command's own start, warm and compiling")
    add("--growth", type=int, metavar="PACKETS", help="feed the mix again and again: the curve")
    add("--worker", type=Path, help=argparse.SUPPRESS)
    add("--cores", type=int, default=1, help=argparse.SUPPRESS)
    add("--core", type=int, help=argparse.SUPPRESS)
    return parser.parse_args()


def loads_of(given: argparse.Namespace, folder: Path) -> list[Load]:
    """Return the files to measure with."""
    if given.files:
        return [Load(path, "as given", False) for path in given.files]
    names = tuple(NAMES) if given.loads == "all" else tuple(given.loads.split(","))
    unknown = [name for name in names if name not in NAMES]
    if unknown:
        raise SystemExit(f"bench: no load {unknown[0]!r}; expected some of {', '.join(NAMES)}")
    return gather(folder, given.packets, given.samples, names)


def begins(folder: Path, repeats: int) -> dict[str, float] | None:
    """Return the command's start-up, None where it took too long to be told."""
    try:
        return start_up(folder / "single.pcap", repeats, folder)
    except OutOfPatienceError:
        return None


def main() -> int:
    """Measure, print a table a file and write bench.json."""
    given = arguments()
    if given.worker:
        work(given.worker, given.cores, given.core)
        return 0
    from midcall.experiments.results.provenance import machine

    facts = machine()  # asked before this process is pinned: it counts the cores
    core = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    if given.growth:
        with tempfile.TemporaryDirectory(prefix="midcall-bench-") as name:
            (load,) = gather(Path(name), given.packets, given.samples, ("mix",))
            print(grow(load, given.growth, given.json, facts))
        print(f"wrote {given.json} and {given.json.with_suffix('.svg')}")
        return 0
    tools = chosen(None if given.peers == "all" else given.peers)
    with tempfile.TemporaryDirectory(prefix="midcall-bench-") as name:
        folder = Path(name)
        loads = loads_of(given, folder)
        results = [measure(load, given.repeats, tools, folder) for load in loads]
        begun = begins(folder, given.repeats) if given.start_up else None
    report = {
        "schema": 2,
        "method": " ".join((bench.__doc__ or "").split()),
        "repeats": given.repeats,
        "core": core,
        "machine": facts,
        "versions": {name: tool.version() for name, tool in tools.items()},
        "files": results,
        "ratios": results[0]["ratios"],
    }
    if begun:
        report["start_up"] = begun
    given.json.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    console = Console(width=None if sys.stdout.isatty() else 120)
    for result in results:
        console.print(table_of(result))
    console.print(notes(results, core, given.repeats, tools), soft_wrap=False)
    if begun:
        warm, first = begun["warm_seconds"], begun["first_seconds"]
        console.print(f"midcall classify of one packet: {warm} s, the first time {first} s.")
    if given.against:
        console.print(compared(report, json.loads(given.against.read_text(encoding="utf-8"))))
    console.print(f"wrote {given.json}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
