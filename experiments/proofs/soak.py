# SPDX-License-Identifier: BSD-3-Clause
"""Soak test: live traffic through the box at half of its loss-free rate, for a given time.

Each window of WINDOW seconds is a row: packets lost, latency, and the memory of the box's process.
The test looks for slow effects: memory that grows (the slope over the second half, when every table
has been filled once), loss, latency that drifts (the last quarter against the first). A window that
the generator could not offer, or lost itself, is no evidence on the box and is reported as not
offered; so is a window in which the generator was kept from its core, since it then sends in one
burst what had become due. Each window records how much time of both cores the host of a virtual
machine took, and how long the box waited for its own.
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
#: Thresholds of a leak (share of the memory, per hour) and of a drift (ratio of medians).
LEAK, DRIFT = 0.05, 1.5
#: Least number of windows for a slope or a drift.
FEW = 8
#: A generator that was late sends at once what became due meanwhile. If that is more than this
#: share of the box's ring, the load did not have the requested rate.
RUSH = 0.5
#: Largest share of windows not offered with which the rest is sufficient evidence.
NOT_OFFERED = 0.1
#: Field of a core's line in /proc/stat that counts what the host gave to others (proc_stat(5)).
STEAL = 8


def soak(
    minutes: float, pps: int | None, runs: Path, say: Callable[[str], None]
) -> tuple[Row, Path]:
    """Send for so many minutes; returns the result and its file, which has the windows so far at
    any moment. Raises TestbedError."""
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
        result = about | {"windows": rows, "summary": summary(rows)}
        write_json(path, result)
        return result

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
    result = keep(rows)
    latest = runs / FOLDER / LATEST
    write_json(latest, result)
    return result, latest


def half_of_loss_free(runs: Path) -> int:
    """Return half of the loss-free rate of the newest live bench. Raises ExperimentError."""
    bench = bench_live.latest(runs) or {}
    best = bench.get("summary", {}).get("live", {}).get("loss_free_pps", {}).get(PATH)
    if not best:
        raise ExperimentError(
            f"{runs}: no live bench with a loss-free rate of the box: "
            "run midcall bench live first, or give --pps"
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
    """Send window after window until the time is over; report and write the rows every minute.

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
    """Return one window as a row; `why` is the reason why it was not offered."""
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
    """Return counters that only grow: packets lost to a full ring, and seconds of both cores."""
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
    """Return the seconds that a process was ready to run and had no core (proc_schedstat).

    0 if the kernel does not count them.
    """
    try:
        return int(Path(f"/proc/{process}/schedstat").read_text().split()[1]) / 1e9
    except OSError:
        return 0.0


def resident(process: int) -> int:
    """Return the box's resident memory in bytes. Raises TestbedError if it died."""
    try:
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    except OSError:
        raise TestbedError("the box died during the soak") from None
    return pages * os.sysconf("SC_PAGE_SIZE")


# ---- summary


def summary(rows: Sequence[Row]) -> Row:
    """Return the figures and the problems among them."""
    offered = [row for row in rows if row["offered"]]
    not_offered = [row for row in rows if not row["offered"]]
    second_half = rows[len(rows) // 2 :]
    grown = slope(
        [row["at_s"] for row in second_half], [row["memory_bytes"] for row in second_half]
    )
    ratio = drift([row["latency_us"]["p50"] for row in offered if row["latency_us"]["n"]])
    figures: Row = {
        "windows": len(rows),
        "windows_not_offered": len(not_offered),
        "sent": sum(row["sent"] for row in offered),
        "lost": sum(row["lost"] for row in offered),
        "lost_not_offered": sum(row["lost"] for row in not_offered),
        "stolen_s": round(sum(row["stolen_generator_s"] + row["stolen_box_s"] for row in rows), 3),
        "box_overload": sum(row["box_overload"] for row in rows),
        "memory_bytes": rows[-1]["memory_bytes"],
        "memory_bytes_per_hour": None if len(rows) < FEW else round(grown * 3600),
        "latency_drift": None if len(offered) < FEW else ratio,
    }
    return figures | {"problems": problems(figures)}


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Return the slope of y over x by least squares, 0 for fewer than two points."""
    if len(x) < 2:
        return 0.0
    deviation = np.asarray(x, float) - np.mean(x)
    return float((deviation * (np.asarray(y, float) - np.mean(y))).sum() / (deviation**2).sum())


def drift(values: Sequence[float]) -> float | None:
    """Return the median of the last quarter over that of the first, None without values."""
    quarter = max(len(values) // 4, 1)
    if not values:
        return None
    return round(float(np.median(values[-quarter:]) / np.median(values[:quarter])), 3)


def problems(figures: Row) -> list[str]:
    """Return the problems among a soak's figures, one sentence each."""
    sentences = []
    if not figures["sent"]:
        sentences.append("nothing was offered: a lower rate (--pps) or a quieter machine is needed")
    elif figures["memory_bytes_per_hour"] is None or figures["latency_drift"] is None:
        offered = figures["windows"] - figures["windows_not_offered"]
        sentences.append(
            f"too short for slope and drift: {offered} windows offered, expected {FEW} timed"
        )
    elif figures["windows_not_offered"] > NOT_OFFERED * figures["windows"]:
        sentences.append(
            f"{figures['windows_not_offered']} of {figures['windows']} windows were not offered: "
            "a quieter machine is needed"
        )
    if figures["lost"]:
        sentences.append(f"{figures['lost']} of {figures['sent']} packets were lost")
    growth = figures["memory_bytes_per_hour"]
    if growth is not None and growth > LEAK * figures["memory_bytes"]:
        sentences.append(f"memory grows by {growth / 1e6:.1f} MB an hour")
    if figures["latency_drift"] is not None and figures["latency_drift"] > DRIFT:
        sentences.append(
            f"latency drifts: the last quarter has {figures['latency_drift']} times the first"
        )
    return sentences


def lines(result: Row) -> list[str]:
    """Return the result as lines of text."""
    figures = result["summary"]
    growth, ratio = figures["memory_bytes_per_hour"], figures["latency_drift"]
    return [
        f"{figures['sent']:,} packets at {result['rate_pps']:,}/s in {figures['windows']} windows "
        f"({figures['windows_not_offered']} not offered, {figures['lost_not_offered']:,} lost in "
        f"them), {figures['lost']:,} lost",
        f"{figures['stolen_s']:.1f} s of both cores went to others on this machine's host",
        f"memory {figures['memory_bytes'] / 1e6:.1f} MB, "
        + ("too short for a slope" if growth is None else f"{growth / 1e6:+.2f} MB an hour"),
        "latency: " + ("too short for a drift" if ratio is None else f"last over first {ratio}"),
        *(f"PROBLEM: {line}" for line in figures["problems"]),
    ]
