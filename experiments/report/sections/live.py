# SPDX-License-Identifier: BSD-3-Clause
"""Live: parity, proof and timing of a live run, and the live bench's latency and throughput.

Read from the run's files alone (experiments.run.live_summary writes them). In a run in virtual time
there is nothing to show but how to get it.
"""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from midcall.experiments.measure import formatting
from midcall.experiments.report import charts, live_charts
from midcall.experiments.report.sections.facts import facts
from midcall.experiments.results.reader import Findings

Row = Mapping[str, Any]
Table = dict[str, Any]

#: What tells a call's rows apart, but for the dates that share a play.
CALL_IN_PLAY = ("operator", "hypothesis", "access", "play", "capture", "call")
#: What each path is, in the words of the page.
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
PERCENTILES = {"p50": "p50", "p99": "p99", "p999": "p99.9"}


def build(run: Findings) -> Table:
    """Return what the section shows."""
    return {"live": live(run)}


def live(run: Findings) -> Table | None:
    """Return what the live part shows, None for a run in virtual time."""
    told = run.at("live")
    if not isinstance(told, Mapping):
        return None
    bench = told.get("bench")
    trials = run["live_bench"]
    return {
        **told,
        "calls": joined(run["live_calls"]),
        "differences": [row for row in joined(run["live_calls"]) if row["agree"] is False],
        "paths": PATHS,
        "late": latency_rows(told.get("latency_us") or {}),
        "rates": rate_rows(bench, trials) if bench else [],
        "spread_chart": spread_chart(told.get("latency_us") or {}) if bench else None,
        "load_chart": load_chart(trials),
        "rate_chart": rate_chart(told.get("loss_free_pps") or {}, bench),
        "exact": exact_rows(bench) if bench else [],
        "machine": facts(bench["machine"]) if bench else [],
    }


def joined(rows: Sequence[Row]) -> list[Table]:
    """Return a row per call and play; the dates that share a play stand together."""
    held: dict[tuple[Any, ...], Table] = {}
    for row in rows:
        key = tuple(row[name] for name in CALL_IN_PLAY)
        entry = held.setdefault(key, {**row, "dates": []})
        entry["dates"].append(row["date"])
    return sorted(held.values(), key=lambda row: (row["synthetic"], row["agree"] is not False))


def rank(path: str) -> int:
    """Return where a path stands in tables and charts: as in PATHS, others last."""
    names = list(PATHS)
    return names.index(path) if path in names else len(names)


def ordered(told: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return what is keyed by path, in the order of PATHS."""
    return sorted(told.items(), key=lambda held: rank(held[0]))


def latency_rows(told: Mapping[str, Any]) -> list[Table]:
    """Return a row per path and load of the latency block."""
    return [
        {"path": path, "load": load_name(load), **figures}
        for path, loads in ordered(told)
        for load, figures in loads.items()
    ]


def load_name(load: str) -> str:
    """Return a load in words: packets per second, or the replayed captures themselves."""
    return f"{formatting.count(int(load))} packets/s" if load.isdigit() else "the replayed captures"


def spread_chart(told: Mapping[str, Any]) -> charts.Chart | None:
    """Return the chart of latency by path at each fixed load of the bench."""
    rows: list[Table] = []
    loads = sorted({int(load) for held in told.values() for load in held if load.isdigit()})
    for load in loads:
        for path, held in ordered(told):
            figures = held.get(str(load)) or {}
            values = [figures[name] for name in PERCENTILES if figures.get(name)]
            for name, words in PERCENTILES.items():
                if figures.get(name):
                    rows.append(
                        {
                            "load": load_name(str(load)),
                            "path": path,
                            "percentile": words,
                            "us": figures[name],
                            "low": min(values),
                            "high": max(values),
                            "n": figures["n"],
                            "tip": f"{path} at {load_name(str(load))}: {words} "
                            f"{figures[name]:g} µs (n = {formatting.count(figures['n'])})",
                        }
                    )
    if not rows:
        return None
    return live_charts.spread(rows, "Dots. " + "; ".join(row["tip"] for row in rows) + ".")


def load_chart(trials: Sequence[Row]) -> charts.Chart | None:
    """Return p99 against the load offered: the median over a rate's trials, and what was lost."""
    held: dict[tuple[str, int], list[Row]] = defaultdict(list)
    frames = next((row["frames"] for row in trials), None)
    for row in trials:
        if row["what"] == "ladder" and row["frames"] == frames and row["p99_us"]:
            held[row["path"], row["pps"]].append(row)
    rows: list[Table] = []
    for (path, pps), mine in held.items():
        p99 = statistics.median(row["p99_us"] for row in mine)
        lost = sum(row["lost"] for row in mine)
        sent = sum(row["sent"] for row in mine)
        rows.append(
            {
                "path": path,
                "kpps": pps / 1000,
                "us": p99,
                "trials": len(mine),
                "lost": lost,
                "tip": f"{path} at {formatting.count(pps)} packets/s: p99 {p99:g} µs (median of "
                f"{len(mine)} trials), {formatting.count(lost)} of {formatting.count(sent)} lost",
            }
        )
    if not rows:
        return None
    rows.sort(key=lambda row: (rank(row["path"]), row["kpps"]))
    return live_charts.curves(rows, "A line per path. " + "; ".join(r["tip"] for r in rows) + ".")


def rate_chart(best: Mapping[str, int], bench: Row | None) -> charts.Chart | None:
    """Return the bars of loss-free rates."""
    if not best or bench is None:
        return None
    kernel = best.get("kernel") or 0
    rows: list[Table] = []
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


def rate_rows(bench: Row, trials: Sequence[Row]) -> list[Table]:
    """Return a row per path and frame size: the loss-free rate, its share of the kernel's."""
    rows = []
    for frames, best in (bench.get("loss_free_by_frames") or {}).items():
        kernel = best.get("kernel") or 0
        for path, pps in ordered(best):
            mine = [
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
                    "trials": len(mine),
                }
            )
    return rows


def exact_rows(bench: Row) -> list[Table]:
    """Return what was measured against what was set, a sentence each with its figures."""
    rows = [
        {
            "what": f"delay of {held['set_ms']:g} ms at {formatting.count(int(rate))} packets/s",
            "found": f"error p50 {held['p50']:.1f} µs, p99 {held['p99']:.1f} µs",
            "n": held["n"],
        }
        for rate, held in (bench.get("delay_error_us") or {}).items()
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
