# SPDX-License-Identifier: BSD-3-Clause
"""Comparison of two runs: better, worse, equal or inconclusive, with the size of each difference.

Results in virtual time (verdicts, fates) are not random: two runs of equal captures differ because
something was changed, and every difference is listed. Shares of flows are compared on the flows of
both runs, as paired differences, resampled by capture group (evaluation.md): an interval that
contains 0 is inconclusive. Timings are compared between runs of one machine only.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TypedDict, TypeVar

import numpy as np

from midcall.errors import ExperimentError
from midcall.experiments.measure.intervals import FEWEST, RESAMPLES, derived_seed
from midcall.experiments.results import runs
from midcall.experiments.results.schema import rows_of
from midcall.experiments.results.tables import CallRow, Document, FlowRow

Row = TypeVar("Row")

BETTER, WORSE, EQUAL, INCONCLUSIVE = "better", "worse", "equal", "inconclusive"
#: Facts of a machine that timings depend on.
MACHINE = ("cpu", "cores", "governor", "kernel", "python")
#: A smaller relative difference of timings is inconclusive: runs are single trials.
NOISE = 0.2
#: Differences that are printed; all of them are in the JSON.
SHOWN = 20


class Finding(NamedTuple):
    """One comparison: a and b with their unit, the difference b - a and its 95 % interval."""

    what: str
    unit: str
    a: float | None
    b: float | None
    difference: float | None
    interval: tuple[float, float] | None
    verdict: str
    n: int
    note: str = ""


class ChangedCall(TypedDict):
    """A call in a cell with its verdict in run a and in run b."""

    capture: str
    call: str
    operator: str
    hypothesis: str
    access: str
    date: str
    a: str
    b: str


class ChangedFlow(TypedDict):
    """A flow with its verdict, app and role in run a and in run b."""

    capture: str
    frame: int
    truth: str | None
    a: str
    b: str


class Comparison(NamedTuple):
    """All comparisons of two runs, and the calls and flows with different results.

    inputs: a sentence for each input of the two runs that differs.
    """

    a: str
    b: str
    findings: list[Finding]
    calls: list[ChangedCall]
    flows: list[ChangedFlow]
    inputs: list[str]

    @property
    def value(self) -> dict[str, object]:
        """Return the comparison as plain values."""
        return {**self._asdict(), "findings": [one._asdict() for one in self.findings]}


def compare(a: Path, b: Path, any_machine: bool = False) -> Comparison:
    """Compare run b with run a.

    any_machine: compare timings although the machines differ (otherwise a note replaces them).
    Raises ExperimentError where a run is not finished or the two have no captures in common.
    """
    one, two = runs.summary(a), runs.summary(b)
    flows = pairs(
        rows_of(a, FlowRow), rows_of(b, FlowRow), lambda row: (row["sha256"], row["frame"])
    )
    if not flows:
        raise ExperimentError(f"{a.name} and {b.name} have no captures in common")
    calls = pairs(rows_of(a, CallRow), rows_of(b, CallRow), call_in_cell)
    seed = derived_seed(0, a.name, b.name)
    findings = [
        right_flows(flows, seed),
        false_calls(flows),
        *blocked_calls(calls),
        *timings(one, two, any_machine),
    ]
    return Comparison(
        a.name, b.name, findings, changed_calls(calls), changed_flows(flows),
        list(other_inputs(provenance_of(a), provenance_of(b))),
    )  # fmt: skip


def provenance_of(folder: Path) -> Document:
    """Return a run's provenance.json, {} where it has none."""
    path = folder / "provenance.json"
    document = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return document if isinstance(document, dict) else {}


def other_inputs(a: Document, b: Document) -> Iterator[str]:
    """Yield a sentence for each of spec, code, captures and policies that differ."""
    if (a.get("spec") or {}).get("sha256") != (b.get("spec") or {}).get("sha256"):
        yield "the specs differ"
    if (a.get("code") or {}).get("digest") != (b.get("code") or {}).get("digest"):
        yield "the code differs"
    for key in ("captures", "policies"):
        one, two = a.get(key) or {}, b.get(key) or {}
        odd = sorted(name for name in one.keys() | two.keys() if one.get(name) != two.get(name))
        if odd:
            more = f" and {len(odd) - 3} more" if len(odd) > 3 else ""
            yield f"{key} differ: {', '.join(odd[:3])}{more}"


def call_in_cell(row: CallRow) -> tuple[object, ...]:
    """Return the key of a call in a cell."""
    return (row["capture"], row["call"], row["operator"], row["hypothesis"], row["access"],
            row["date"])  # fmt: skip


def pairs(
    a: Sequence[Row], b: Sequence[Row], key_of: Callable[[Row], object]
) -> list[tuple[Row, Row]]:
    """Return pairs (row of a, row of b) with the same key."""
    by_key = {key_of(row): row for row in a}
    matches = ((by_key.get(key_of(row)), row) for row in b)
    return [(before, after) for before, after in matches if before is not None]


# ---- accuracy


def right_flows(flows: Sequence[tuple[FlowRow, FlowRow]], seed: int) -> Finding:
    """Compare the share of labelled real call flows whose app is right."""
    scored = [pair for pair in flows if is_scored(pair[0]) and is_scored(pair[1])]
    differences: dict[str, list[int]] = {}
    for before, after in scored:
        gain = (after["outcome"] == "right") - (before["outcome"] == "right")
        differences.setdefault(str(before["group"]), []).append(gain)
    n = len(scored)
    a = sum(row["outcome"] == "right" for row, _ in scored) / n if n else None
    b = sum(row["outcome"] == "right" for _, row in scored) / n if n else None
    interval = paired_interval(list(differences.values()), seed)
    gap = None if a is None or b is None else b - a
    return Finding(
        "call flows named right", "share", a, b, gap, interval,
        judge(gap, interval, exact=all(not any(part) for part in differences.values())),
        n, f"{len(differences)} capture groups",
    )  # fmt: skip


def is_scored(row: FlowRow) -> bool:
    """Return whether a flow counts: real, labelled as part of a call with high or medium truth."""
    return not row["synthetic"] and row["outcome"] in ("right", "other_call", "unsure", "missed")


def paired_interval(parts: Sequence[Sequence[int]], seed: int) -> tuple[float, float] | None:
    """Return the 95 % interval of a mean difference, whole groups resampled; None below ten."""
    if len(parts) < FEWEST:
        return None
    sums = np.array([sum(part) for part in parts])
    sizes = np.array([len(part) for part in parts])
    picks = np.random.default_rng(seed).integers(0, len(parts), size=(RESAMPLES, len(parts)))
    means = sums[picks].sum(axis=1) / sizes[picks].sum(axis=1)
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def judge(
    difference: float | None, interval: tuple[float, float] | None, exact: bool, more: str = BETTER
) -> str:
    """Return the verdict on a difference; more: the verdict on a larger value."""
    if difference is None:
        return INCONCLUSIVE
    if exact and difference == 0:
        return EQUAL
    less = WORSE if more == BETTER else BETTER
    if interval is None or interval[0] <= 0 <= interval[1]:
        return INCONCLUSIVE
    return more if difference > 0 else less


def false_calls(flows: Sequence[tuple[FlowRow, FlowRow]]) -> Finding:
    """Compare the number of innocent real flows that were called a call."""
    quiet = ("false_call", "quiet")
    scored = [
        (x, y)
        for x, y in flows
        if not x["synthetic"] and x["outcome"] in quiet and y["outcome"] in quiet
    ]
    a = sum(x["outcome"] == "false_call" for x, _ in scored)
    b = sum(y["outcome"] == "false_call" for _, y in scored)
    verdict = EQUAL if a == b else WORSE if b > a else BETTER
    return Finding("innocent flows called a call", "flows", a, b, b - a, None, verdict, len(scored))


def changed_flows(flows: Sequence[tuple[FlowRow, FlowRow]]) -> list[ChangedFlow]:
    """Return the flows whose verdict, app or role changed."""
    return [
        {
            "capture": x["capture"],
            "frame": x["frame"],
            "truth": x["truth_app"],
            "a": verdict_words(x),
            "b": verdict_words(y),
        }
        for x, y in flows
        if (x["verdict"], x["app"], x["role"]) != (y["verdict"], y["app"], y["role"])
    ]


def verdict_words(row: FlowRow) -> str:
    """Return a flow's verdict, app and role as text."""
    return f"{row['verdict']} {row['app']} {row['role']}"


# ---- verdicts of the calls


def blocked_calls(calls: Sequence[tuple[CallRow, CallRow]]) -> list[Finding]:
    """Compare per operator the (call, cell) pairs that were blocked, without an interval.

    They are not random, and more blocking is neither better nor worse.
    """
    findings = []
    for operator in sorted({str(row["operator"]) for row, _ in calls}):
        own = [pair for pair in calls if pair[0]["operator"] == operator]
        a = sum(bool(row["blocked"]) for row, _ in own)
        b = sum(bool(row["blocked"]) for _, row in own)
        moved = Counter(x["verdict"] == y["verdict"] for x, y in own)[False]
        verdict = EQUAL if not moved else "different"
        what = f"calls blocked, {operator}"
        note = f"{moved} verdicts differ" if moved else ""
        findings.append(Finding(what, "cells", a, b, b - a, None, verdict, len(own), note))
    return findings


def changed_calls(calls: Sequence[tuple[CallRow, CallRow]]) -> list[ChangedCall]:
    """Return the calls whose verdict changed."""
    return [
        {
            "capture": x["capture"],
            "call": x["call"],
            "operator": x["operator"],
            "hypothesis": x["hypothesis"],
            "access": x["access"],
            "date": x["date"],
            "a": x["verdict"],
            "b": y["verdict"],
        }
        for x, y in calls
        if x["verdict"] != y["verdict"]
    ]


# ---- timings


def timings(a: Document, b: Document, any_machine: bool) -> list[Finding]:
    """Compare throughput and latency, if both runs come from one machine."""
    odd = [key for key in MACHINE if a["machine"].get(key) != b["machine"].get(key)]
    if odd and not any_machine:
        note = f"not compared: {', '.join(odd)} of the machines differ (--any-machine compares)"
        return [Finding("timings", "", None, None, None, None, INCONCLUSIVE, 0, note)]
    note = f"other {', '.join(odd)}" if odd else "single runs: under a fifth is noise"
    rows = [
        ("throughput, offline", "packets/s", path(a, "throughput"), path(b, "throughput"), BETTER),
        ("latency p50, offline", "ns/packet", path(a, "latency"), path(b, "latency"), WORSE),
    ]
    return [timing(*row, note) for row in rows]


def path(summary: Document, key: str) -> float | None:
    """Return the offline path's headline figure of a summary."""
    row = summary.get(key, {}).get("offline") or {}
    figure = row.get("packets_per_s") if key == "throughput" else row.get("ns_per_packet", {})
    return figure.get("p50") if isinstance(figure, dict) else figure


def timing(what: str, unit: str, a: float | None, b: float | None, more: str, note: str) -> Finding:
    """Compare one timing."""
    if not a or b is None:
        return Finding(what, unit, a, b, None, None, INCONCLUSIVE, 0, note)
    less = WORSE if more == BETTER else BETTER
    share = b / a - 1
    verdict = INCONCLUSIVE if abs(share) < NOISE else more if share > 0 else less
    return Finding(what, unit, a, b, b - a, None, verdict, 1, note)


# ---- for a terminal


def lines(comparison: Comparison) -> list[str]:
    """Return a comparison as lines for a terminal."""
    out = [f"a: {comparison.a}", f"b: {comparison.b}", *comparison.inputs, ""]
    for one in comparison.findings:
        ends = one.interval and f" [{one.interval[0]:+.3f}, {one.interval[1]:+.3f}]"
        gap = "" if one.difference is None else f"{short(one.difference, True)}{ends or ''}"
        words = f"{one.what:<36} {short(one.a):>12} {short(one.b):>12}  {gap:<26} {one.verdict}"
        tail = f"  ({one.n} {one.unit}{'; ' + one.note if one.note else ''})" if one.n else one.note
        out.append(f"{words}  {tail}".rstrip())
    for title, rows in (("calls", comparison.calls), ("flows", comparison.flows)):
        if rows:
            out += ["", f"{title} that came out differently: {len(rows)}"]
            out += [f"  {spelt(row)}" for row in rows[:SHOWN]]
        if len(rows) > SHOWN:
            out.append(f"  ... and {len(rows) - SHOWN} more (--json has all)")
    return out


def short(value: float | None, sign: bool = False) -> str:
    """Return a number in few digits."""
    if value is None:
        return "n/a"
    text = f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 1000 else f"{value:.3f}"
    return f"+{text}" if sign and value > 0 else text


def spelt(row: Mapping[str, object]) -> str:
    """Return a difference in one line."""
    place = " ".join(str(value) for key, value in row.items() if key not in ("a", "b"))
    return f"{place}: {row['a']} -> {row['b']}"
