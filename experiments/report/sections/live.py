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
from midcall.experiments.measure.formatting import N_, gettext
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
    "kernel": N_("the kernel forwards by its routes, no box"),
    "conntrack": N_("the same, with the kernel's own table of connections"),
    "empty": N_("the box without a rule: frames cross user space and nothing is decided"),
    "classifier": N_("the box with one operator's policy, on undecided flows"),
    "classifier-spin": N_("the same, never sleeping: a core for some microseconds"),
    "offload": N_("decided flows, handed to an XDP program in the kernel"),
    "suricata": N_("Suricata inline on packet rings, without rules"),
    "nfqueue": N_("a bridge whose packets wait in a netfilter queue for a Python process"),
    "command": N_("a third-party program"),
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
    if not load.isdigit():
        return gettext("the replayed captures")
    return gettext("%(rate)s packets/s") % {"rate": formatting.count(int(load))}


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
                            "tip": gettext("%(path)s at %(load)s: %(percentile)s %(time)s µs")
                            % {
                                "path": path,
                                "load": load_name(str(load)),
                                "percentile": words,
                                "time": formatting.brief(us),
                            },
                        }
                    )
    if not rows:
        return None
    text = gettext("Dots. %(text)s.") % {"text": "; ".join(row["tip"] for row in rows)}
    return live_charts.spread(rows, text)


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
                "tip": gettext(
                    "%(path)s at %(load)s: p99 %(time)s µs "
                    "(median of %(n)s trials), %(counts)s lost"
                )
                % {
                    "path": path,
                    "load": load_name(str(pps)),
                    "time": formatting.brief(p99),
                    "n": len(own),
                    "counts": formatting.of(formatting.count(lost), formatting.count(sent)),
                },
            }
        )
    if not rows:
        return None
    rows.sort(key=lambda row: (rank(row["path"]), row["kpps"]))
    text = gettext("A line per path. %(text)s.") % {"text": "; ".join(r["tip"] for r in rows)}
    return live_charts.curves(rows, text)


def rate_chart(best: Mapping[str, int], bench: Document | None) -> charts.Chart | None:
    """Return the bars of loss-free rates."""
    if not best or bench is None:
        return None
    kernel = best.get("kernel") or 0
    rows: list[live_charts.PathRate] = []
    for path, pps in ordered(best):
        words = gettext("%(path)s: %(rate)s packets/s without loss")
        words %= {"path": path, "rate": formatting.count(pps)}
        if kernel and path != "kernel":
            words += gettext(", %(ratio)s of the kernel's rate") % {
                "ratio": formatting.decimal(pps / kernel, 2)
            }
        end = (bench.get("loss_free_limit") or {}).get(path)
        if end == "generator":
            words += gettext(" (or more: the generator was the limit)")
        rows.append(
            {
                "path": path,
                "pps": pps,
                "short": formatting.amount(pps) + (" +" if end in ("generator", "ladder") else ""),
                "tip": words,
            }
        )
    text = gettext("Bars. %(text)s.") % {"text": "; ".join(row["tip"] for row in rows)}
    return live_charts.rates(rows, text)


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
            "what": gettext("delay of %(time)s ms at %(load)s")
            % {"time": formatting.brief(error["set_ms"]), "load": load_name(rate)},
            "found": gettext("error p50 %(half)s µs, p99 %(most)s µs")
            % {
                "half": formatting.decimal(error["p50"], 1),
                "most": formatting.decimal(error["p99"], 1),
            },
            "n": error["n"],
        }
        for rate, error in (bench.get("delay_error_us") or {}).items()
    ]
    police, shape, calls = (bench.get(key) or {} for key in ("police", "shape", "calls"))
    if police:
        rows.append(
            {
                "what": gettext("police to %(rate)s kbit/s")
                % {"rate": formatting.brief(police["set_kbit"])},
                "found": gettext("%(passed)s packets passed, an ideal bucket passes %(ideal)s")
                % {
                    "passed": formatting.count(police["passed"]),
                    "ideal": formatting.count(police["ideal"]),
                },
                "n": police["passed"],
            }
        )
    if shape:
        rows.append(
            {
                "what": gettext("shape to %(rate)s kbit/s")
                % {"rate": formatting.brief(shape["set_kbit"])},
                "found": gettext("%(rate)s kbit/s")
                % {"rate": formatting.brief(shape["measured_kbit"])},
                "n": None,
            }
        )
    if calls:
        rows.append(
            {
                "what": gettext("%(calls)s calls at once, %(rate)s packets/s, %(seconds)s s")
                % {
                    "calls": formatting.count(calls["calls"]),
                    "rate": formatting.count(calls["pps"]),
                    "seconds": formatting.brief(calls["seconds"]),
                },
                "found": gettext("%(overload)s lost by overload, %(lost)s lost in all")
                % {
                    "overload": formatting.count(calls["lost_by_overload"]),
                    "lost": formatting.count(calls["lost"]),
                },
                "n": calls["sent"],
            }
        )
    return rows
