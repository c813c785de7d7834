# SPDX-License-Identifier: BSD-3-Clause
"""The live bench: how much the box carries, how late, and how exactly, beside the kernel alone.

Trials of fixed rates, the paths taking turns, in one run on one machine; every trial is a row of
the result. Loss-free means that every packet of every trial at that rate came out, and at every
lower rate too. The method is RFC 2544's (section 26.1) but for its 60 s trials, unless they are
asked for, and for the search, which walks a ladder upwards instead of halving.
"""

from __future__ import annotations

import datetime
import json
import os
import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from midcall.errors import ExperimentError
from midcall.experiments.bench import goals
from midcall.experiments.bench.exactness import CALLS_AT_ONCE, calls, exactness
from midcall.experiments.bench.paths import TRIES, load_of, path_of, resting, tried
from midcall.experiments.bench.paths import Path as Bench
from midcall.experiments.results.provenance import code_digest, git_state, library_versions, machine
from midcall.testbed.live.box.process import Box
from midcall.testbed.live.devices.blackbox import COMPILED_SECONDS
from midcall.testbed.live.devices.load_generator import (
    BURST_SECONDS,
    IMIX,
    Generator,
    Traffic,
    Trial,
    merged,
    preferred,
)
from midcall.testbed.live.devices.paths import IN_KERNEL, installed, way
from midcall.testbed.live.network.network import Network, require

Row = dict[str, Any]

SCHEMA = 1
#: Where results stand below the folder of runs; `latest.json` is the newest of them.
FOLDER, LATEST, GOALS = "bench-live", "latest.json", "goals.md"
#: Packets of a trial that is sent as fast as can be, and the rate that is asked for: out of reach.
FLAT_PACKETS, FLAT_RATE = 400_000, 50_000_000
#: Shares of kernel forwarding's loss-free rate that the goals name.
SHARES = (0.35, 0.75)
#: A generator that was later than this share of a trial did not offer its rate.
BEHIND = 0.05
#: How much longer than its packets a trial may take: flows are handed over, and it settles.
AROUND_SECONDS = 20.0
#: Path that others are compared with.
KERNEL = "kernel"


@dataclass(frozen=True)
class Options:
    """What is measured, and for how long.

    paths: of testbed.live.devices.paths; kpps: the ladder of rates, thousands of packets a second;
    frames: sizes in octets (without the check sequence), or imix; loads: rates at which latency is
    taken;
    share_seconds: length of the trials at the shares of the kernel's rate that the goals name, None
    as the others.
    """

    paths: tuple[str, ...] = field(default_factory=installed)
    kpps: tuple[int, ...] = (
        50, 100, 150, 200, 250, 300, 350, 400, 450, 500, 600, 700, 800, 900, 1000, 1200, 1400,
    )  # fmt: skip
    trials: int = 5
    seconds: float = 1.0
    frames: tuple[str, ...] = ("200",)
    loads: tuple[int, ...] = (10_000, 100_000)
    bursts: int = 5
    calls_seconds: float = 10.0
    share_seconds: float | None = None
    runs: Path = Path("runs")


def bench(options: Options, say: Callable[[str], None]) -> tuple[Row, Path]:
    """Measure everything and write the result; returns it and its file. Raises TestbedError."""
    require()
    names = tuple(dict.fromkeys((KERNEL, *options.paths)))
    openers = {name: way(name, longest(options, len(names))) for name in names}
    loads = {name: sizes_of(name) for name in options.frames}
    began = datetime.datetime.now(datetime.UTC)
    cores = sorted(os.sched_getaffinity(0))
    here, there = cores[0], cores[-1]
    trials: list[Row] = []
    with ExitStack() as stack:
        paths = []
        for name, opener in openers.items():
            say(f"starting {name}")
            network = stack.enter_context(Network())
            held = stack.enter_context(opener(network, there))
            generator = stack.enter_context(Generator(network))
            paths.append(path_of(name, network, generator, held))
        with preferred(here), resting(paths):
            say("as fast as can be")
            trials += flat_out(paths, options, next(iter(loads.values())))
            say("latency")
            trials += latencies(paths, options, next(iter(loads.values())), say)
            for name, sizes in loads.items():
                say(f"loss-free rate, frames of {name}")
                trials += ladder(paths, options, name, sizes, say)
            best = loss_free(trials, options.frames[0])
            trials += shares(paths, options, best[KERNEL], next(iter(loads.values())))
    say("exactness: delay, rate, a crash")
    exact = exactness(here, there)
    say(f"{CALLS_AT_ONCE} calls at once, {options.calls_seconds:g} s")
    told: Row = {
        "schema": SCHEMA,
        "kind": FOLDER,
        "began": began.isoformat(timespec="seconds"),
        "ended": "",
        "machine": machine() | surroundings(here, there),
        "code": {"digest": code_digest(), "libraries": library_versions(), "git": git_state()},
        "options": {key: plain(value) for key, value in asdict(options).items()},
        "trials": trials,
        "exactness": exact,
        "calls": calls(here, there, options.calls_seconds),
    }
    told["ended"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    told["summary"] = {"live": summary(told)}
    told["goals"] = told["summary"]["live"]["goals"] = goals.rows(told)
    return told, write(told, options.runs, began)


def longest(options: Options, paths: int) -> float:
    """Return how long the trials on so many paths may take at most, in seconds: every one as often
    as it may be tried, with all that may come around it.
    """
    rounds_s = (
        (len(options.kpps) * len(options.frames) * options.trials, options.seconds),
        (len(SHARES) * options.trials, options.share_seconds or options.seconds),
        (len(options.loads) * options.bursts, BURST_SECONDS),
        (options.trials, FLAT_PACKETS / FLAT_RATE),
    )
    start = paths * COMPILED_SECONDS
    return start + paths * sum(n * TRIES * (s + AROUND_SECONDS) for n, s in rounds_s)


def plain(value: Any) -> Any:
    """Return an option as JSON knows it."""
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def sizes_of(name: str) -> tuple[int, ...]:
    """Return the frame sizes that an option names; raises ExperimentError."""
    if name == "imix":
        return IMIX
    if not name.isdigit():
        raise ExperimentError(f"frames: got {name!r}, expected a size in octets, or imix")
    return (int(name),)


def surroundings(here: int, there: int) -> Row:
    """Return what of this machine a live figure depends on, beside its processor."""
    return {
        "generator_core": here,
        "box_core": there,
        "load_average": list(os.getloadavg()),
        "clocksource": line("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "netdev_max_backlog": line("/proc/sys/net/core/netdev_max_backlog"),
        "sched_autogroup": line("/proc/sys/kernel/sched_autogroup_enabled"),
        "sched_rt_runtime_us": line("/proc/sys/kernel/sched_rt_runtime_us"),
        "offloads": "off on every interface (checksum, segmentation, receive), probed",
    }


def line(path: str) -> str | None:
    """Return a file's first line, None where there is none."""
    try:
        return Path(path).read_text().splitlines()[0].strip()
    except (OSError, IndexError):
        return None


def write(told: Row, runs: Path, began: datetime.datetime) -> Path:
    """Write a result as a file of its own and as the latest; returns the former."""
    folder = runs / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(told, indent=1) + "\n"
    path = folder / f"{began:%Y%m%d-%H%M%S}.json"
    path.write_text(text)
    draft = folder / "latest.new"
    draft.write_text(text)
    draft.replace(folder / LATEST)
    (folder / GOALS).write_text("\n".join(goals.markdown(told)) + "\n")
    for made in (runs, folder, path, folder / LATEST, folder / GOALS):
        give(made)
    return path


def give(path: Path) -> None:
    """Hand what root made to the user who said sudo."""
    user, group = os.environ.get("SUDO_UID", ""), os.environ.get("SUDO_GID", "")
    if os.geteuid() == 0 and user.isdigit() and group.isdigit():
        os.chown(path, int(user), int(group))


def latest(runs: Path) -> Row | None:
    """Return the newest result of a folder of runs, None where none can be read."""
    try:
        told = json.loads((runs / FOLDER / LATEST).read_text())
    except (OSError, ValueError):
        return None
    return told if isinstance(told, dict) and told.get("schema") == SCHEMA else None


# ---- trials


def turns(paths: list[Bench], round_: int) -> list[Bench]:
    """Return the paths in this round's order: forwards, then backwards, so that drift cancels."""
    return paths if round_ % 2 == 0 else paths[::-1]


def overloads(box: Box | None) -> int:
    """Return how many packets a box dropped by overload so far."""
    return 0 if box is None else box.counters()["dropped_by_overload"]


def row_of(path: Bench, what: str, load: Traffic, trial: Trial, round_: int, before: int) -> Row:
    """Return one trial as a row of the result."""
    return {
        "what": what,
        "path": path.name,
        "frames": load.name,
        "pps": trial.rate,
        "trial": round_ + 1,
        "seconds": round(trial.seconds, 3),
        "sent": trial.sent,
        "lost": trial.lost,
        "twice": trial.twice,
        "refused": trial.refused,
        "box_overload": overloads(path.box) - before,
        "offered": trial.behind_us / 1e6 <= BEHIND * trial.seconds,
        "behind_us": round(trial.behind_us, 1),
        "sent_late": trial.sent_late,
        "latency_us": trial.percentiles(),
    }


def latencies(
    paths: list[Bench], options: Options, sizes: Sequence[int], say: Callable[[str], None]
) -> list[Row]:
    """Measure latency at each load: bursts of every path in turn, joined per path."""
    rows = []
    for rate in options.loads:
        say(f"  {rate} packets/s")
        found: dict[str, list[Trial]] = {path.name: [] for path in paths}
        before = {path.name: overloads(path.box) for path in paths}
        loads = {path.name: load_of(path, sizes, options.frames[0]) for path in paths}
        for round_ in range(options.bursts):
            for path in turns(paths, round_):
                found[path.name].append(tried(path, loads[path.name], rate, None))
        for path in paths:
            whole = merged(found[path.name])
            rows.append(
                row_of(path, "latency", loads[path.name], whole, 0, before[path.name])
            )  # fmt: skip
    return rows


def ladder(
    paths: list[Bench],
    options: Options,
    name: str,
    sizes: Sequence[int],
    say: Callable[[str], None],
) -> list[Row]:
    """Walk the rates upwards; a path that lost in most trials of a rate is not asked for more."""
    rows: list[Row] = []
    left = list(paths)
    for kpps in sorted(options.kpps):
        if not left:
            break
        say(f"  {kpps},000 packets/s: {', '.join(path.name for path in left)}")
        found = rounds(left, options, kpps * 1000, name, sizes, "ladder")
        rows += found
        failed = {path.name: 0 for path in left}
        for row in found:
            failed[row["path"]] += not whole(row)
        left = [path for path in left if 2 * failed[path.name] <= options.trials]
    return rows


def rounds(
    paths: list[Bench], options: Options, rate: int, name: str, sizes: Sequence[int], what: str,
    seconds: float | None = None,
) -> list[Row]:  # fmt: skip
    """Run the trials of one rate, the paths taking turns."""
    rows = []
    loads = {path.name: load_of(path, sizes, name) for path in paths}
    for round_ in range(options.trials):
        for path in turns(paths, round_):
            before = overloads(path.box)
            trial = tried(path, loads[path.name], rate, seconds or options.seconds)
            rows.append(row_of(path, what, loads[path.name], trial, round_, before))
    return rows


def flat_out(paths: list[Bench], options: Options, sizes: Sequence[int]) -> list[Row]:
    """Send as fast as can be through what stays in the kernel, where the sender forwards, too.

    The rate reached is what one core sends and forwards: `pps` of these rows is measured, not set.
    """
    rows: list[Row] = []
    some = [path for path in paths if path.name in IN_KERNEL]
    loads = {path.name: load_of(path, sizes, options.frames[0]) for path in some}
    for round_ in range(options.trials):
        for path in turns(some, round_):
            trial = tried(path, loads[path.name], FLAT_RATE, FLAT_PACKETS / FLAT_RATE)
            row = row_of(path, "flat out", loads[path.name], trial, round_, 0)
            took = trial.behind_us / 1e6 + trial.seconds
            rows.append(row | {"pps": round(trial.sent / took), "seconds": round(took, 3)})
    return rows


def whole(row: Row) -> bool:
    """Tell whether a trial offered its rate and lost nothing."""
    return bool(row["offered"] and row["lost"] == 0 and row["refused"] == 0)


def loss_free(rows: Sequence[Row], name: str) -> dict[str, int]:
    """Return per path the highest rate of the ladder at and below which every trial was whole."""
    best: dict[str, int] = {}
    for path in dict.fromkeys(row["path"] for row in rows):
        mine = [
            row
            for row in rows
            if row["path"] == path and row["what"] == "ladder" and row["frames"] == name
        ]
        best[path] = 0
        for rate in sorted({row["pps"] for row in mine}):
            if not all(whole(row) for row in mine if row["pps"] == rate):
                break
            best[path] = rate
    return best


def limit_of(rows: Sequence[Row], path: str, name: str, best: int) -> str:
    """Return what ended a path's ladder: loss, its sender, the generator, or the ladder's end.

    "sender": nothing was lost, but the generator could not send at a rate at which it sent on other
    paths, so what the kernel does for this path in the sender's context is the limit.
    """
    above = [
        row
        for row in rows
        if (row["path"], row["what"], row["frames"]) == (path, "ladder", name) and row["pps"] > best
    ]
    if not above:
        return "ladder"
    first = min(row["pps"] for row in above)
    lost = any(row["lost"] or row["refused"] for row in above if row["pps"] == first)
    if lost:
        return "loss"
    elsewhere = any(
        row["offered"] and row["what"] == "ladder" and row["path"] != path
        for row in rows
        if row["frames"] == name and row["pps"] == first
    )
    return "sender" if elsewhere else "generator"


def shares(paths: list[Bench], options: Options, kernel: int, sizes: Sequence[int]) -> list[Row]:
    """Run trials at the shares of the kernel's loss-free rate that the goals name."""
    rows: list[Row] = []
    for share in SHARES if kernel else ():
        rate = round(share * kernel)
        others = [path for path in paths if path.name != KERNEL]
        long = options.share_seconds
        rows += rounds(others, options, rate, options.frames[0], sizes, f"share {share}", long)
    return rows


# ---- summary


def summary(told: Row) -> Row:
    """Return the figures that a report takes, keyed as summary.json has them."""
    rows, first = told["trials"], told["options"]["frames"][0]
    latency: Row = {}
    for row in rows:
        if row["what"] == "latency":
            latency.setdefault(row["path"], {})[str(row["pps"])] = row["latency_us"]
    best = loss_free(rows, first)
    kept: Row = {}
    for row in rows:
        if row["what"].startswith("share "):
            share = row["what"].removeprefix("share ")
            cell = kept.setdefault(row["path"], {}).setdefault(share, {"whole": 0, "trials": 0})
            cell["whole"] += whole(row)
            cell["trials"] += 1
    return {
        "latency_us": latency,
        "loss_free_pps": best,
        "loss_free_limit": {path: limit_of(rows, path, first, best[path]) for path in best},
        "loss_free_by_frames": {name: loss_free(rows, name) for name in told["options"]["frames"]},
        "share_of_kernel": kept,
        "flat_out_pps": flat_out_pps(rows),
        "trial_seconds": told["options"]["seconds"],
        "delay_error_us": {
            str(row["pps"]): row["error_us"] | {"set_ms": row["set_ms"], "n": row["n"]}
            for row in told["exactness"]["delay"]
        },
        "police": told["exactness"]["police"],
        "shape": told["exactness"]["shape"],
        "crash": told["exactness"]["crash"],
        "replay_error_us": told["exactness"].get("replay_error_us"),
        "calls": told["calls"],
    }


def flat_out_pps(rows: Sequence[Row]) -> Row:
    """Return per path the median rate of the trials as fast as can be that lost nothing."""
    held: dict[str, list[int]] = {}
    for row in rows:
        if row["what"] == "flat out" and row["lost"] == 0 and row["refused"] == 0:
            held.setdefault(row["path"], []).append(row["pps"])
    return {path: round(statistics.median(rates)) for path, rates in held.items()}
