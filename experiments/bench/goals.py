# SPDX-License-Identifier: BSD-3-Clause
"""Goals of the live box, each with the measurement of a live bench.

A goal that has a "must" may be missed by less; without a measurement (a peer that is not installed,
a rate of zero) a goal is not met. A rate at which the generator or the ladder ended is a bound, "at
least".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Row = dict[str, Any]
Result = Mapping[str, Any]

#: Verdicts on a goal: met, only its "must" met, missed, not measured.
MET, MUST, MISSED, UNKNOWN = "met", "must only", "missed", "not measured"
#: Shares of the kernel's loss-free rate that undecided flows must and should reach without loss.
MUST_SHARE, SHARE = "0.35", "0.75"
LATENCY_LOAD = "10000"
#: Ends of a ladder (experiments.bench.live.limit_of) that are not the path's own limit.
OPEN = ("generator", "ladder")


def rows(result: Result) -> list[Row]:
    """Return a row per goal: goal, wanted, must, measured (words), verdict."""
    live = result["summary"]["live"]
    return [
        *shares(live),
        *ratios(live),
        *latencies(live),
        *delays(live),
        police(live),
        replay(live),
        many_calls(live),
    ]


def row(goal: str, wanted: str, must: str, measured: str, verdict: str) -> Row:
    """Return the row of one goal."""
    return {
        "goal": goal, "wanted": wanted, "must": must, "measured": measured, "verdict": verdict,
    }  # fmt: skip


def least(value: float | None, wanted: float, must: float | None = None) -> str:
    """Return the verdict on a figure that should be at least `wanted`."""
    if value is None:
        return UNKNOWN
    return MET if value >= wanted else MUST if must is not None and value >= must else MISSED


def most(value: float | None, wanted: float, must: float | None = None) -> str:
    """Return the verdict on a figure that should be at most `wanted`."""
    return UNKNOWN if value is None else least(-value, -wanted, None if must is None else -must)


def shares(live: Result) -> list[Row]:
    """Return the goal on undecided flows at shares of the kernel's rate."""
    cell = (live["share_of_kernel"] or {}).get("classifier") or {}
    if SHARE not in cell:
        verdict, words = UNKNOWN, unshared(live)
    else:
        whole = {share: one["whole"] == one["trials"] for share, one in cell.items()}
        verdict = MET if whole[SHARE] else MUST if whole.get(MUST_SHARE) else MISSED
        words = ", ".join(
            f"{one['whole']} of {one['trials']} trials whole at {share}"
            for share, one in sorted(cell.items())
        )
    return [
        row("undecided flows, share of the kernel's loss-free rate", SHARE, MUST_SHARE, words,
            verdict)
    ]  # fmt: skip


def unshared(live: Result) -> str:
    """Return the reason why there are no shares of the kernel's rate."""
    for path in ("kernel", "classifier"):
        if path not in live["loss_free_pps"]:
            return f"the path {path} was not measured"
    if not live["loss_free_pps"]["kernel"]:
        return "the kernel carried no rate without loss"
    return "not measured"


def ratios(live: Result) -> list[Row]:
    """Return the goals on rates compared with other boxes and the kernel."""
    free, end, flat = live["loss_free_pps"], live["loss_free_limit"], live["flat_out_pps"]
    return [
        ratio(
            "undecided flows beside Suricata inline", free, "classifier", "suricata", 1.0, end=end
        ),
        ratio("undecided flows beside NFQUEUE", free, "classifier", "nfqueue", 2.5, end=end),
        ratio("decided flows beside kernel forwarding", flat, "offload", "kernel", 1.0, 0.95),
        ratio("decided flows beside forwarding with conntrack", flat, "offload", "conntrack", 1.3),
    ]


def ratio(
    goal: str, rates: Mapping[str, int], path: str, other: str, wanted: float,
    must: float | None = None, end: Mapping[str, str] | None = None,
) -> Row:  # fmt: skip
    """Return a goal on the ratio of two paths' rates."""
    ours, theirs = rates.get(path), rates.get(other)
    value = ours / theirs if ours and theirs else None
    words = f"{path} {pps(path, rates, end)}, {other} {pps(other, rates, end)}"
    if value is not None:
        words = f"{value:.2f}: {words}"
    bound = f"{must:g} times" if must is not None else ""
    verdict = least(value, wanted, must)
    if verdict in (MET, MUST) and end and end.get(other) in OPEN:
        verdict = UNKNOWN  # the other path may carry more
    if verdict == MISSED and end and end.get(path) in OPEN:
        verdict = UNKNOWN  # this path may carry more
    return row(goal, f"{wanted:g} times", bound, words, verdict)


def pps(path: str, rates: Mapping[str, int], end: Mapping[str, str] | None) -> str:
    """Return a path's rate in words, "at least" if the path itself did not end it."""
    if path not in rates:
        return "not measured"
    bound = "at least " if end and end.get(path) in OPEN else ""
    return f"{bound}{rates[path]:,}/s"


def latencies(live: Result) -> list[Row]:
    """Return the goals on one-way latency at 10,000 packets/s, in µs."""
    by_path = {path: loads.get(LATENCY_LOAD) or {} for path, loads in live["latency_us"].items()}
    goal_rows = []
    for path, words, goals in (
        ("classifier", "undecided flows", {"p50": (30.0, 50.0), "p99": (100.0, 300.0)}),
        ("classifier-spin", "undecided flows, spinning", {"p50": (3.0, None), "p99": (10.0, None)}),
    ):
        for name, (wanted, must) in goals.items():
            value = by_path.get(path, {}).get(name)
            goal_rows.append(
                row(
                    f"latency {name} at 10,000/s, {words}",
                    f"{wanted:g} µs",
                    "" if must is None else f"{must:g} µs",
                    shown(value),
                    most(value, wanted, must),
                )
            )
    ours, kernel = (by_path.get(path, {}).get("p99") for path in ("offload", "kernel"))
    value = ours - kernel if ours is not None and kernel is not None else None
    words = f"{shown(value)}: {shown(ours)} beside {shown(kernel)}"
    goal_rows.append(
        row("latency p99 at 10,000/s, decided flows above the kernel", "2 µs", "", words,
            most(value, 2.0))
    )  # fmt: skip
    return goal_rows


def shown(value: float | None) -> str:
    """Return a latency in words."""
    return "not measured" if value is None else f"{value:.1f} µs"


def delays(live: Result) -> list[Row]:
    """Return the goals on a delay of 20 ms: the worst over all rates."""
    errors = list((live["delay_error_us"] or {}).values())
    goal_rows = []
    for name, wanted, must in (("p50", 5.0, 100.0), ("p99", 60.0, 300.0)):
        value = max((abs(one[name]) for one in errors), default=None)
        rates = ", ".join(f"{int(rate):,}" for rate in live["delay_error_us"] or {})
        words = f"{shown(value)}, the worst of {rates} packets/s"
        goal_rows.append(
            row(f"error of a delay of 20 ms, {name}", f"{wanted:g} µs", f"{must:g} µs", words,
                most(value, wanted, must))
        )  # fmt: skip
    return goal_rows


def police(live: Result) -> Row:
    """Return the goal on policing."""
    measured = live["police"]
    off = abs(measured["passed"] - measured["ideal"]) if measured else None
    words = (
        f"{measured['passed']} passed, {measured['ideal']} by the bucket" if measured else UNKNOWN
    )
    return row("police, beside the ideal token bucket", "1 packet", "", words, most(off, 1))


def replay(live: Result) -> Row:
    """Return the goal on the timing of a replay at original speed."""
    measured = live.get("replay_error_us") or {}
    value = measured.get("p99")
    words = f"{shown(value)} (n = {measured['n']:,})" if measured else UNKNOWN
    return row("replay at original speed, timing error p99", "1,000 µs", "", words,
               most(value, 1000.0))  # fmt: skip


def many_calls(live: Result) -> Row:
    """Return the goal on a thousand calls at once; less than a minute is no verdict."""
    measured = live["calls"] or {}
    wanted = "0 lost by overload in 60 s"
    if not measured:
        return row("1,000 calls at once, 100,000 packets/s", wanted, "", UNKNOWN, UNKNOWN)
    lost = measured["lost_by_overload"]
    words = (
        f"{lost:,} lost by overload and {measured['lost']:,} in all, of {measured['sent']:,} in "
        f"{measured['seconds']:g} s"
    )
    verdict = MISSED if lost else MET if measured["seconds"] >= 60 else UNKNOWN
    return row("1,000 calls at once, 100,000 packets/s", wanted, "", words, verdict)


def lines(result: Result) -> list[str]:
    """Return the goals as lines of text."""
    goals = result.get("goals") or []
    texts = ["goals of the live box", f"{'goal':58}{'wanted':>28}{'must':>11}  measured"]
    for one in goals:
        texts.append(
            f"{one['goal']:58}{one['wanted']:>28}{one['must'] or '-':>11}  {one['verdict']}: "
            f"{one['measured']}"
        )
    return texts


def markdown(result: Result) -> list[str]:
    """Return the goals as lines of a Markdown table."""
    texts = ["| goal | wanted | at least | measured | |", "|---|---|---|---|---|"]
    for one in result.get("goals") or []:
        cells = (one["goal"], one["wanted"], one["must"] or "", one["measured"], one["verdict"])
        texts.append(f"| {' | '.join(cells)} |")
    return texts
