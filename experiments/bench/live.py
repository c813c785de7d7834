# SPDX-License-Identifier: BSD-3-Clause
"""The live bench: rate, latency and exactness of the box, compared with the kernel alone.

Trials at fixed rates, the paths in turn, in one run on one machine; every trial is a row of the
result. Loss-free means that every packet of every trial at that rate came out, and at every lower
rate too. The method is that of RFC 2544 (section 26.1) except for its 60 s trials, unless they are
requested, and for the search, which walks a ladder upwards instead of halving.
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
from midcall.experiments.bench.paths import TRIES, load_of, path_of, resting, run_trial
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
#: Folder of results below the folder of runs; `latest.json` is the newest of them.
FOLDER, LATEST, GOALS = "bench-live", "latest.json", "goals.md"
#: Packets of a trial at full speed, and its nominal rate: out of reach.
FLAT_PACKETS, FLAT_RATE = 400_000, 50_000_000
#: Shares of kernel forwarding's loss-free rate in the goals.
SHARES = (0.35, 0.75)
#: A generator that lagged by more than this share of a trial did not offer its rate.
BEHIND = 0.05
#: Additional time of a trial in s, in which flows are handed over and queues drain.
AROUND_SECONDS = 20.0
#: Path that others are compared with.
KERNEL = "kernel"


@dataclass(frozen=True)
class Options:
    """What is measured, and for how long.

    paths: of testbed.live.devices.paths; kpps: the ladder of rates, thousands of packets a second;
    frames: sizes in octets (without the check sequence), or imix; loads: rates at which latency is
    measured; share_seconds: length of the trials at the shares of the kernel's rate in the goals,
    None: as the others.
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
    generator_core, box_core = cores[0], cores[-1]
    trials: list[Row] = []
    with ExitStack() as stack:
        paths = []
        for name, opener in openers.items():
            say(f"starting {name}")
            network = stack.enter_context(Network())
            device = stack.enter_context(opener(network, box_core))
            generator = stack.enter_context(Generator(network))
            paths.append(path_of(name, network, generator, device))
        with preferred(generator_core), resting(paths):
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
    exact = exactness(generator_core, box_core)
    say(f"{CALLS_AT_ONCE} calls at once, {options.calls_seconds:g} s")
    result: Row = {
        "schema": SCHEMA,
        "kind": FOLDER,
        "began": began.isoformat(timespec="seconds"),
        "ended": "",
        "machine": machine() | surroundings(generator_core, box_core),
        "code": {"digest": code_digest(), "libraries": library_versions(), "git": git_state()},
        "options": {key: plain(value) for key, value in asdict(options).items()},
        "trials": trials,
        "exactness": exact,
        "calls": calls(generator_core, box_core, options.calls_seconds),
    }
    result["ended"] = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    result["summary"] = {"live": summary(result)}
    result["goals"] = result["summary"]["live"]["goals"] = goals.rows(result)
    return result, write(result, options.runs, began)


def longest(options: Options, paths: int) -> float:
    """Return an upper bound for the duration of the trials on so many paths, in s: every trial with
    all its repeats and its additional time."""
    rounds_s = (
        (len(options.kpps) * len(options.frames) * options.trials, options.seconds),
        (len(SHARES) * options.trials, options.share_seconds or options.seconds),
        (len(options.loads) * options.bursts, BURST_SECONDS),
        (options.trials, FLAT_PACKETS / FLAT_RATE),
    )
    start = paths * COMPILED_SECONDS
    return start + paths * sum(n * TRIES * (s + AROUND_SECONDS) for n, s in rounds_s)


def plain(value: Any) -> Any:
    """Return an option as a JSON value."""
    if isinstance(value, Path):
        return str(value)
    return list(value) if isinstance(value, tuple) else value


def sizes_of(name: str) -> tuple[int, ...]:
    """Return the frame sizes of an option. Raises ExperimentError."""
    if name == "imix":
        return IMIX
    if not name.isdigit():
        raise ExperimentError(f"frames: got {name!r}, expected a size in octets, or imix")
    return (int(name),)


def surroundings(generator_core: int, box_core: int) -> Row:
    """Return the properties of this machine, besides its processor, that affect live figures."""
    return {
        "generator_core": generator_core,
        "box_core": box_core,
        "load_average": list(os.getloadavg()),
        "clocksource": line("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
        "netdev_max_backlog": line("/proc/sys/net/core/netdev_max_backlog"),
        "sched_autogroup": line("/proc/sys/kernel/sched_autogroup_enabled"),
        "sched_rt_runtime_us": line("/proc/sys/kernel/sched_rt_runtime_us"),
        "offloads": "off on every interface (checksum, segmentation, receive), probed",
    }


def line(path: str) -> str | None:
    """Return a file's first line, None if there is none."""
    try:
        return Path(path).read_text().splitlines()[0].strip()
    except (OSError, IndexError):
        return None


def write(result: Row, runs: Path, began: datetime.datetime) -> Path:
    """Write a result to its own file and as the latest; returns the former."""
    folder = runs / FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(result, indent=1) + "\n"
    path = folder / f"{began:%Y%m%d-%H%M%S}.json"
    path.write_text(text)
    draft = folder / "latest.new"
    draft.write_text(text)
    draft.replace(folder / LATEST)
    (folder / GOALS).write_text("\n".join(goals.markdown(result)) + "\n")
    for made in (runs, folder, path, folder / LATEST, folder / GOALS):
        give(made)
    return path


def give(path: Path) -> None:
    """Change the owner of a path from root to the user of sudo."""
    user, group = os.environ.get("SUDO_UID", ""), os.environ.get("SUDO_GID", "")
    if os.geteuid() == 0 and user.isdigit() and group.isdigit():
        os.chown(path, int(user), int(group))


def latest(runs: Path) -> Row | None:
    """Return the newest result of a folder of runs, None if it cannot be read."""
    try:
        result = json.loads((runs / FOLDER / LATEST).read_text())
    except (OSError, ValueError):
        return None
    return result if isinstance(result, dict) and result.get("schema") == SCHEMA else None


# ---- trials


def turns(paths: list[Bench], round_: int) -> list[Bench]:
    """Return the paths in this round's order: forwards, then backwards, so that drift cancels."""
    return paths if round_ % 2 == 0 else paths[::-1]


def overloads(box: Box | None) -> int:
    """Return how many packets a box has dropped by overload so far."""
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
        trials: dict[str, list[Trial]] = {path.name: [] for path in paths}
        before = {path.name: overloads(path.box) for path in paths}
        loads = {path.name: load_of(path, sizes, options.frames[0]) for path in paths}
        for round_ in range(options.bursts):
            for path in turns(paths, round_):
                trials[path.name].append(run_trial(path, loads[path.name], rate, None))
        for path in paths:
            whole = merged(trials[path.name])
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
    """Walk the rates upwards; a path that lost packets in most trials of a rate is left out
    afterwards."""
    rows: list[Row] = []
    remaining = list(paths)
    for kpps in sorted(options.kpps):
        if not remaining:
            break
        say(f"  {kpps},000 packets/s: {', '.join(path.name for path in remaining)}")
        rate_rows = rounds(remaining, options, kpps * 1000, name, sizes, "ladder")
        rows += rate_rows
        failed = {path.name: 0 for path in remaining}
        for row in rate_rows:
            failed[row["path"]] += not whole(row)
        remaining = [path for path in remaining if 2 * failed[path.name] <= options.trials]
    return rows


def rounds(
    paths: list[Bench], options: Options, rate: int, name: str, sizes: Sequence[int], what: str,
    seconds: float | None = None,
) -> list[Row]:  # fmt: skip
    """Run the trials of one rate, the paths in turn."""
    rows = []
    loads = {path.name: load_of(path, sizes, name) for path in paths}
    for round_ in range(options.trials):
        for path in turns(paths, round_):
            before = overloads(path.box)
            trial = run_trial(path, loads[path.name], rate, seconds or options.seconds)
            rows.append(row_of(path, what, loads[path.name], trial, round_, before))
    return rows


def flat_out(paths: list[Bench], options: Options, sizes: Sequence[int]) -> list[Row]:
    """Send at full speed through the paths inside the kernel, where the sender also forwards.

    The rate reached is what one core sends and forwards: `pps` of these rows is measured, not set.
    """
    rows: list[Row] = []
    kernel_paths = [path for path in paths if path.name in IN_KERNEL]
    loads = {path.name: load_of(path, sizes, options.frames[0]) for path in kernel_paths}
    for round_ in range(options.trials):
        for path in turns(kernel_paths, round_):
            trial = run_trial(path, loads[path.name], FLAT_RATE, FLAT_PACKETS / FLAT_RATE)
            row = row_of(path, "flat out", loads[path.name], trial, round_, 0)
            took = trial.behind_us / 1e6 + trial.seconds
            rows.append(row | {"pps": round(trial.sent / took), "seconds": round(took, 3)})
    return rows


def whole(row: Row) -> bool:
    """Return whether a trial offered its rate and lost nothing."""
    return bool(row["offered"] and row["lost"] == 0 and row["refused"] == 0)


def loss_free(rows: Sequence[Row], name: str) -> dict[str, int]:
    """Return per path the highest rate of the ladder at and below which every trial was whole."""
    best: dict[str, int] = {}
    for path in dict.fromkeys(row["path"] for row in rows):
        own_rows = [
            row
            for row in rows
            if row["path"] == path and row["what"] == "ladder" and row["frames"] == name
        ]
        best[path] = 0
        for rate in sorted({row["pps"] for row in own_rows}):
            if not all(whole(row) for row in own_rows if row["pps"] == rate):
                break
            best[path] = rate
    return best


def limit_of(rows: Sequence[Row], path: str, name: str, best: int) -> str:
    """Return what ended a path's ladder: loss, its sender, the generator, or the ladder's end.

    "sender": nothing was lost, but the generator could not send at a rate at which it sent on other
    paths, so the limit is the kernel's work for this path in the sender's context.
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
    """Run trials at the shares of the kernel's loss-free rate in the goals."""
    rows: list[Row] = []
    for share in SHARES if kernel else ():
        rate = round(share * kernel)
        others = [path for path in paths if path.name != KERNEL]
        seconds = options.share_seconds
        rows += rounds(others, options, rate, options.frames[0], sizes, f"share {share}", seconds)
    return rows


# ---- summary


def summary(result: Row) -> Row:
    """Return the figures of the report, keyed as in summary.json."""
    rows, first = result["trials"], result["options"]["frames"][0]
    latency: Row = {}
    for row in rows:
        if row["what"] == "latency":
            latency.setdefault(row["path"], {})[str(row["pps"])] = row["latency_us"]
    best = loss_free(rows, first)
    by_share: Row = {}
    for row in rows:
        if row["what"].startswith("share "):
            share = row["what"].removeprefix("share ")
            cell = by_share.setdefault(row["path"], {}).setdefault(share, {"whole": 0, "trials": 0})
            cell["whole"] += whole(row)
            cell["trials"] += 1
    return {
        "latency_us": latency,
        "loss_free_pps": best,
        "loss_free_limit": {path: limit_of(rows, path, first, best[path]) for path in best},
        "loss_free_by_frames": {
            name: loss_free(rows, name) for name in result["options"]["frames"]
        },
        "share_of_kernel": by_share,
        "flat_out_pps": flat_out_pps(rows),
        "trial_seconds": result["options"]["seconds"],
        "delay_error_us": {
            str(row["pps"]): row["error_us"] | {"set_ms": row["set_ms"], "n": row["n"]}
            for row in result["exactness"]["delay"]
        },
        "police": result["exactness"]["police"],
        "shape": result["exactness"]["shape"],
        "crash": result["exactness"]["crash"],
        "replay_error_us": result["exactness"].get("replay_error_us"),
        "calls": result["calls"],
    }


def flat_out_pps(rows: Sequence[Row]) -> Row:
    """Return per path the median rate of the trials at full speed that lost nothing."""
    rates_of: dict[str, list[int]] = {}
    for row in rows:
        if row["what"] == "flat out" and row["lost"] == 0 and row["refused"] == 0:
            rates_of.setdefault(row["path"], []).append(row["pps"])
    return {path: round(statistics.median(rates)) for path, rates in rates_of.items()}
