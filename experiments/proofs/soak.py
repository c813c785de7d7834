# SPDX-License-Identifier: BSD-3-Clause
"""The soak: live traffic through the box at half of its loss-free rate, for as long as one likes.

Windows of WINDOW seconds, each a row: packets lost, latency, and the memory of the box's process.
What is looked for shows in the long run only: memory that grows (the slope over the second half,
when every table was filled once), loss, latency that drifts (the last quarter beside the first).
A window that the generator could not offer, or lost itself, tells nothing of the box and is said:
so is one in which the generator itself was kept from its core, since it then sends in one go what
had become due. Each window says what the host of a virtual machine took of both cores, and how long
the box waited for its own.
"""

from __future__ import annotations

import datetime
import os
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from midcall.errors import ExperimentError, TestbedError
from midcall.experiments.bench import live as bench_live
from midcall.experiments.bench.live import surroundings
from midcall.experiments.bench.paths import load_of, path_of
from midcall.experiments.results.provenance import code_digest, git_state, machine
from midcall.experiments.results.schema import write_json
from midcall.testbed.live.box.process import WAITING, Box
from midcall.testbed.live.devices.load_generator import Generator, Trial, preferred
from midcall.testbed.live.devices.paths import way
from midcall.testbed.live.network.network import Network, require

Row = dict[str, Any]

FOLDER, LATEST, PATH = "soak", "latest.json", "classifier"
WINDOW, SIZE = 10.0, 200
SHARE = 0.5
#: What is called a leak (share of the memory, per hour) and a drift (ratio of medians).
LEAK, DRIFT = 0.05, 1.5
#: Windows below which a slope or a drift says nothing.
FEW = 8
#: A generator that was late sends at once what became due meanwhile. Where that is more than this
#: share of the box's ring, it was no load of the rate asked for.
RUSH = 0.5
#: With more windows (a share of all) not offered than this, the rest says too little.
NOT_OFFERED = 0.1
#: Field of a core's line in /proc/stat that counts what the host gave to others (proc_stat(5)).
STEAL = 8


def soak(
    minutes: float, pps: int | None, runs: Path, say: Callable[[str], None]
) -> tuple[Row, Path]:
    """Send for so many minutes; returns the result and its file, which holds the windows so far
    at any moment. Raises TestbedError."""
    require()
    rate = pps or half_of_loss_free(runs)
    began = datetime.datetime.now(datetime.UTC)
    cores = sorted(os.sched_getaffinity(0))
    about: Row = {
        "schema": 1,
        "kind": FOLDER,
        "began": began.isoformat(timespec="seconds"),
        "minutes": minutes,
        "rate_pps": rate,
        "window_s": WINDOW,
        "frame_octets": SIZE,
        "machine": machine() | surroundings(cores[0], cores[-1]),
        "code": {"digest": code_digest(), "git": git_state()},
    }
    path = runs / FOLDER / f"{began:%Y%m%d-%H%M%S}.json"

    def keep(rows: Sequence[Row]) -> Row:
        told = about | {"windows": rows, "summary": summary(rows)}
        write_json(path, told)
        return told

    with ExitStack() as stack:
        network = stack.enter_context(Network())
        box = stack.enter_context(way(PATH)(network, cores[-1]))
        if not isinstance(box, Box):
            raise TestbedError(f"path {PATH}: expected a box of the lab's")
        generator = stack.enter_context(Generator(network))
        load = load_of(path_of(PATH, network, generator, box), (SIZE,), str(SIZE))
        stack.enter_context(preferred(cores[0]))
        trial = partial(generator.trial, load, rate, WINDOW)
        rows = windows(box, trial, (cores[0], cores[-1]), minutes * 60, say, keep)
    told = keep(rows)
    latest = runs / FOLDER / LATEST
    write_json(latest, told)
    return told, latest


def half_of_loss_free(runs: Path) -> int:
    """Return half of the rate that the newest live bench found; raises ExperimentError."""
    held = bench_live.latest(runs) or {}
    best = held.get("summary", {}).get("live", {}).get("loss_free_pps", {}).get(PATH)
    if not best:
        raise ExperimentError(
            f"{runs}: no live bench says what the box carries without loss: "
            "run midcall bench live first, or say --pps"
        )
    return int(best * SHARE)


def windows(
    box: Box,
    trial: Callable[[], Trial],
    cores: tuple[int, int],
    seconds: float,
    say: Callable[[str], None],
    keep: Callable[[Sequence[Row]], object],
) -> list[Row]:
    """Send window after window until the time is over; every minute say how it goes and keep it.

    cores: the generator's and the box's.
    """
    rows: list[Row] = []
    begin = time.monotonic()
    while not rows or time.monotonic() - begin < seconds:
        before = clocks(box, cores)
        try:
            row = row_of(trial())
        except TestbedError as error:
            row = {"sent": 0, "lost": 0, "offered": False, "why": str(error)}
        row |= {name: round(now - before[name], 3) for name, now in clocks(box, cores).items()}
        row |= {
            "at_s": round(time.monotonic() - begin, 1),
            "memory_bytes": resident(box.worker),
        }
        rows.append(row)
        if len(rows) % 6 == 1:
            say(f"{row['at_s']:.0f} of {seconds:.0f} s, lost {sum(one['lost'] for one in rows)}")
            keep(rows)
    return rows


def row_of(trial: Trial) -> Row:
    """Return one window as a row; `why` says why it was not offered."""
    row = {
        "sent": trial.sent,
        "lost": trial.lost,
        "offered": True,
        "behind_us": round(trial.behind_us),
        "latency_us": trial.percentiles(),
    }
    if trial.refused:
        row |= {"offered": False, "why": f"{trial.refused} packets could not be sent"}
    elif trial.behind_us / 1e6 * trial.rate > RUSH * WAITING:
        late = f"the generator was {trial.behind_us / 1000:.0f} ms late, and sent that in one go"
        row |= {"offered": False, "why": late}
    return row


def clocks(box: Box, cores: tuple[int, int]) -> dict[str, float]:
    """Return what only grows: packets that a full ring cost, and seconds of both cores."""
    return {
        "box_overload": box.counters()["dropped_by_overload"],
        "stolen_generator_s": stolen(cores[0]),
        "stolen_box_s": stolen(cores[1]),
        "box_waited_s": waited(box.worker),
    }


def stolen(core: int, counts: Path = Path("/proc/stat")) -> float:
    """Return the seconds that the host gave to others while this core had work."""
    for line in counts.read_text().splitlines():
        if line.startswith(f"cpu{core} "):
            return int(line.split()[STEAL]) / os.sysconf("SC_CLK_TCK")
    return 0.0


def waited(process: int) -> float:
    """Return the seconds that a process could have run and had no core (proc_schedstat).

    0 where the kernel does not count them.
    """
    try:
        return int(Path(f"/proc/{process}/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0


def resident(process: int) -> int:
    """Return the box's resident memory in bytes; raises TestbedError where it died."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except OSError:
        raise TestbedError("the box died during the soak") from None
    return pages * os.sysconf("SC_PAGE_SIZE")


# ---- what it says


def summary(rows: Sequence[Row]) -> Row:
    """Return the figures, and what of them is a problem."""
    good = [row for row in rows if row["offered"]]
    left = [row for row in rows if not row["offered"]]
    late = rows[len(rows) // 2 :]
    grown = slope([row["at_s"] for row in late], [row["memory_bytes"] for row in late])
    ratio = drift([row["latency_us"]["p50"] for row in good if row["latency_us"]["n"]])
    told: Row = {
        "windows": len(rows),
        "windows_not_offered": len(left),
        "sent": sum(row["sent"] for row in good),
        "lost": sum(row["lost"] for row in good),
        "lost_not_offered": sum(row["lost"] for row in left),
        "stolen_s": round(sum(row["stolen_generator_s"] + row["stolen_box_s"] for row in rows), 3),
        "box_overload": sum(row["box_overload"] for row in rows),
        "memory_bytes": rows[-1]["memory_bytes"],
        "memory_bytes_per_hour": None if len(rows) < FEW else round(grown * 3600),
        "latency_drift": None if len(good) < FEW else ratio,
    }
    return told | {"problems": problems(told)}


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Return the slope of y over x by least squares, 0 for fewer than two points."""
    if len(x) < 2:
        return 0.0
    away = np.asarray(x, float) - np.mean(x)
    return float((away * (np.asarray(y, float) - np.mean(y))).sum() / (away**2).sum())


def drift(values: Sequence[float]) -> float | None:
    """Return the median of the last quarter over that of the first, None without values."""
    quarter = max(len(values) // 4, 1)
    if not values:
        return None
    return round(float(np.median(values[-quarter:]) / np.median(values[:quarter])), 3)


def problems(told: Row) -> list[str]:
    """Return what of a soak's figures is not as it should be."""
    found = []
    if not told["sent"]:
        found.append("nothing was offered: a lower rate (--pps) or a quieter machine is needed")
    elif told["memory_bytes_per_hour"] is None or told["latency_drift"] is None:
        offered = told["windows"] - told["windows_not_offered"]
        found.append(
            f"too short for slope and drift: {offered} windows offered, expected {FEW} timed"
        )
    elif told["windows_not_offered"] > NOT_OFFERED * told["windows"]:
        found.append(
            f"{told['windows_not_offered']} of {told['windows']} windows were not offered: "
            "a quieter machine is needed"
        )
    if told["lost"]:
        found.append(f"{told['lost']} of {told['sent']} packets were lost")
    growth = told["memory_bytes_per_hour"]
    if growth is not None and growth > LEAK * told["memory_bytes"]:
        found.append(f"memory grows by {growth / 1e6:.1f} MB an hour")
    if told["latency_drift"] is not None and told["latency_drift"] > DRIFT:
        found.append(
            f"latency drifts: the last quarter has {told['latency_drift']} times the first"
        )
    return found


def lines(told: Row) -> list[str]:
    """Return the result as a person reads it."""
    held = told["summary"]
    growth, ratio = held["memory_bytes_per_hour"], held["latency_drift"]
    return [
        f"{held['sent']:,} packets at {told['rate_pps']:,}/s in {held['windows']} windows "
        f"({held['windows_not_offered']} not offered, {held['lost_not_offered']:,} lost in them), "
        f"{held['lost']:,} lost",
        f"{held['stolen_s']:.1f} s of both cores went to others on this machine's host",
        f"memory {held['memory_bytes'] / 1e6:.1f} MB, "
        + ("too short for a slope" if growth is None else f"{growth / 1e6:+.2f} MB an hour"),
        "latency: " + ("too short for a drift" if ratio is None else f"last over first {ratio}"),
        *(f"PROBLEM: {line}" for line in held["problems"]),
    ]
