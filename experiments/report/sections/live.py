# SPDX-License-Identifier: BSD-3-Clause
"""Live: parity, proof and timing of a live run, and the live bench's latency and throughput.

Read from the run's files alone (experiments.run.live_summary writes them). For a run in virtual
time the section only explains how to make a live run.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Literal, TypedDict, TypeVar

from midcall.experiments.measure import formatting
from midcall.experiments.report import charts, live_charts
from midcall.experiments.report.sections.facts import facts
from midcall.experiments.results.reader import Findings
from midcall.experiments.results.tables import Document, Json, LiveBenchRow, LiveCallRow

V = TypeVar("V")

#: The key of a call's rows whose dates share a play.
CALL_IN_PLAY: tuple[Literal["operator", "hypothesis", "access", "play", "capture", "call"], ...] = (
    "operator",
    "hypothesis",
    "access",
    "play",
    "capture",
    "call",
)
#: Descriptions of the paths.
PATHS = {
    "kernel": "the kernel forwards by its routes, no box",
    "conntrack": "the same, with the kernel's own table of connections",
    "empty": "the box without a rule: frames cross user space and nothing is decided",
    "classifier": "the box with one operator's policy, on undecided flows",
    "classifier-spin": "the same, never sleeping: a core for some microseconds",
    "offload": "decided flows, handed to an XDP program in the kernel",
    "suricata": "Suricata inline on packet rings, without rules",
    "nfqueue": "a bridge whose packets wait in a netfilter queue for a Python process",
    "command": "a program of somebody else's",
}
PERCENTILES: dict[Literal["p50", "p99", "p999"], str] = {
    "p50": "p50",
    "p99": "p99",
    "p999": "p99.9",
}


class Latency(TypedDict):
    """Quantiles of n latencies in µs; None without any."""

    n: int
    p50: float | None
    p99: float | None
    p999: float | None


class PlayedCall(LiveCallRow):
    """A call of a play, with all dates that share the play."""

    dates: list[str]


class RateRow(TypedDict):
    """The loss-free rate of a path at a frame size, and its share of the kernel's."""

    path: str
    frames: str
    pps: int
    share: float | None
    trials: int


class ExactRow(TypedDict):
    """A setting, and the value that was measured for it."""

    what: str
    found: str
    n: int | None


def build(run: Findings) -> dict[str, object]:
    """Return the values of the section."""
    return {"live": live(run)}


def live(run: Findings) -> dict[str, object] | None:
    """Return the values of the live part, None for a run in virtual time."""
    block = run.at("live")
    if not isinstance(block, Mapping):
        return None
    bench: Json = block.get("bench")
    trials = run["live_bench"]
    return {
        **block,
        "calls": joined(run["live_calls"]),
        "differences": [row for row in joined(run["live_calls"]) if row["agree"] is False],
        "paths": PATHS,
        "late": latency_rows(block.get("latency_us") or {}),
        "rates": rate_rows(bench, trials) if bench else [],
        "spread_chart": spread_chart(block.get("latency_us") or {}) if bench else None,
        "load_chart": load_chart(trials),
        "rate_chart": rate_chart(block.get("loss_free_pps") or {}, bench),
        "exact": exact_rows(bench) if bench else [],
        "machine": facts(bench["machine"]) if bench else [],
    }


def joined(rows: Sequence[LiveCallRow]) -> list[PlayedCall]:
    """Return a row per call and play, with all dates that share the play."""
    calls: dict[tuple[str, ...], PlayedCall] = {}
    for row in rows:
        key = tuple(row[name] for name in CALL_IN_PLAY)
        call = calls.setdefault(key, {**row, "dates": []})
        call["dates"].append(row["date"])
    return sorted(calls.values(), key=lambda row: (row["synthetic"], row["agree"] is not False))


def rank(path: str) -> int:
    """Return the position of a path in tables and charts: as in PATHS, others last."""
    names = list(PATHS)
    return names.index(path) if path in names else len(names)


def ordered(by_path: Mapping[str, V]) -> list[tuple[str, V]]:
    """Return (path, value) pairs in the order of PATHS."""
    return sorted(by_path.items(), key=lambda pair: rank(pair[0]))


def latency_rows(latency: Mapping[str, Mapping[str, Latency]]) -> list[dict[str, object]]:
    """Return a row per path and load of the latency block."""
    return [
        {"path": path, "load": load_name(load), **figures}
        for path, loads in ordered(latency)
        for load, figures in loads.items()
    ]


def load_name(load: str) -> str:
    """Return a load as text: packets per second, or the replayed captures themselves."""
    return f"{formatting.count(int(load))} packets/s" if load.isdigit() else "the replayed captures"


def spread_chart(latency: Mapping[str, Mapping[str, Latency]]) -> charts.Chart | None:
    """Return the chart of latency by path at each fixed load of the bench."""
    rows: list[live_charts.SpreadDot] = []
    loads = sorted(
        {int(load) for by_load in latency.values() for load in by_load if load.isdigit()}
    )
    for load in loads:
        for path, by_load in ordered(latency):
            figures = by_load.get(str(load))
            if figures is None:
                continue
            values = [value for name in PERCENTILES if (value := figures.get(name))]
            for name, words in PERCENTILES.items():
                us = figures.get(name)
                if us:
                    rows.append(
                        {
                            "load": load_name(str(load)),
                            "path": path,
                            "percentile": words,
                            "us": us,
                            "low": min(values),
                            "high": max(values),
                            "n": figures["n"],
                            "tip": f"{path} at {load_name(str(load))}: {words} "
                            f"{us:g} µs (n = {formatting.count(figures['n'])})",
                        }
                    )
    if not rows:
        return None
    return live_charts.spread(rows, "Dots. " + "; ".join(row["tip"] for row in rows) + ".")


def load_chart(trials: Sequence[LiveBenchRow]) -> charts.Chart | None:
    """Return p99 against the load offered: the median over a rate's trials, and packets lost."""
    by_rate: dict[tuple[str, int], list[LiveBenchRow]] = defaultdict(list)
    frames = next((row["frames"] for row in trials), None)
    for row in trials:
        if row["what"] == "ladder" and row["frames"] == frames and row["p99_us"]:
            by_rate[row["path"], row["pps"]].append(row)
    rows: list[live_charts.LoadPoint] = []
    for (path, pps), own in by_rate.items():
        p99 = statistics.median(us for row in own if (us := row["p99_us"]))
        lost = sum(row["lost"] for row in own)
        sent = sum(row["sent"] for row in own)
        rows.append(
            {
                "path": path,
                "kpps": pps / 1000,
                "us": p99,
                "trials": len(own),
                "lost": lost,
                "tip": f"{path} at {formatting.count(pps)} packets/s: p99 {p99:g} µs (median of "
                f"{len(own)} trials), {formatting.count(lost)} of {formatting.count(sent)} lost",
            }
        )
    if not rows:
        return None
    rows.sort(key=lambda row: (rank(row["path"]), row["kpps"]))
    return live_charts.curves(rows, "A line per path. " + "; ".join(r["tip"] for r in rows) + ".")


def rate_chart(best: Mapping[str, int], bench: Document | None) -> charts.Chart | None:
    """Return the bars of loss-free rates."""
    if not best or bench is None:
        return None
    kernel = best.get("kernel") or 0
    rows: list[live_charts.PathRate] = []
    for path, pps in ordered(best):
        share = f", {pps / kernel:.2f} of the kernel's" if kernel and path != "kernel" else ""
        end = (bench.get("loss_free_limit") or {}).get(path)
        more = " or more: the generator ended it" if end == "generator" else ""
        rows.append(
            {
                "path": path,
                "pps": pps,
                "short": formatting.amount(pps) + (" +" if end in ("generator", "ladder") else ""),
                "tip": f"{path}: {formatting.count(pps)} packets/s without loss{share}{more}",
            }
        )
    return live_charts.rates(rows, "Bars. " + "; ".join(row["tip"] for row in rows) + ".")


def rate_rows(bench: Document, trials: Sequence[LiveBenchRow]) -> list[RateRow]:
    """Return a row per path and frame size: the loss-free rate, its share of the kernel's."""
    rows: list[RateRow] = []
    by_frames: dict[str, dict[str, int]] = bench.get("loss_free_by_frames") or {}
    for frames, best in by_frames.items():
        kernel = best.get("kernel") or 0
        for path, pps in ordered(best):
            own = [
                row
                for row in trials
                if (row["path"], row["frames"], row["what"]) == (path, frames, "ladder")
            ]
            rows.append(
                {
                    "path": path,
                    "frames": frames,
                    "pps": pps,
                    "share": pps / kernel if kernel else None,
                    "trials": len(own),
                }
            )
    return rows


def exact_rows(bench: Document) -> list[ExactRow]:
    """Return the measured values of settings, a sentence each."""
    rows: list[ExactRow] = [
        {
            "what": f"delay of {error['set_ms']:g} ms at {formatting.count(int(rate))} packets/s",
            "found": f"error p50 {error['p50']:.1f} µs, p99 {error['p99']:.1f} µs",
            "n": error["n"],
        }
        for rate, error in (bench.get("delay_error_us") or {}).items()
    ]
    police, shape, calls = (bench.get(key) or {} for key in ("police", "shape", "calls"))
    if police:
        rows.append(
            {
                "what": f"police to {police['set_kbit']:g} kbit/s",
                "found": f"{police['passed']} packets passed, an ideal bucket passes "
                f"{police['ideal']}",
                "n": police["passed"],
            }
        )
    if shape:
        rows.append(
            {
                "what": f"shape to {shape['set_kbit']:g} kbit/s",
                "found": f"{shape['measured_kbit']:g} kbit/s",
                "n": None,
            }
        )
    if calls:
        rows.append(
            {
                "what": f"{formatting.count(calls['calls'])} calls at once, "
                f"{formatting.count(calls['pps'])} packets/s, {calls['seconds']:g} s",
                "found": f"{formatting.count(calls['lost_by_overload'])} lost by overload, "
                f"{formatting.count(calls['lost'])} lost in all",
                "n": calls["sent"],
            }
        )
    return rows
