# SPDX-License-Identifier: BSD-3-Clause
"""Figures: what was measured on one file, as rows with units, and as a person reads them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from rich.table import Table

from midcall.experiments.report.reliability_results import OWN
from tests.bench.loads import Load

#: A peer's work on a file must take this share of its start-up to be told from it.
LEAST = 0.1

#: A run's seconds and its peak memory in bytes.
Run = tuple[float, int]


def row_of(
    seconds: Sequence[float], packets: int, octets: int, peak: int | None, state: float | None
) -> dict[str, Any]:
    """Return the figures of one tool: medians, and every run's seconds."""
    middle = statistics.median(seconds)
    return {
        "packets": packets,
        "seconds": round(middle, 6),
        "packets_per_s": round(packets / middle),
        "bytes_per_s": round(octets / middle),
        "peak_memory_bytes": peak,
        "state_bytes_per_flow": None if state is None else round(state, 1),
        "all_seconds": [round(one, 6) for one in seconds],
    }


def own_row(passes: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the path's own figures."""
    last, seconds = passes[-1], [row["seconds"] for row in passes]
    state = last["state"] / max(last["flows"], 1)
    peak = max(row["peak"] for row in passes)
    return row_of(seconds, last["packets"], last["bytes"], peak, state)


def peer_row(
    runs: list[Run], empty: list[Run], packets: int, ours: dict[str, Any]
) -> dict[str, Any] | None:
    """Return a peer's figures, its start-up taken off; None where that leaves too little."""
    start = statistics.median(seconds for seconds, _ in empty)
    whole = statistics.median(seconds for seconds, _ in runs)
    if whole - start < LEAST * start:
        return None
    peak, idle = max(peak for _, peak in runs), max(peak for _, peak in empty)
    share = packets / ours["packets"]
    state = max(peak - idle, 0) / max(ours["flows"] * share, 1)
    net = [max(seconds - start, 1e-6) for seconds, _ in runs]
    row = row_of(net, packets, round(ours["bytes"] * share), peak, state)
    return row | {"wall_seconds": round(whole, 6), "start_up_seconds": round(start, 6)}


def ratio(ours: dict[str, Any], theirs: dict[str, Any]) -> dict[str, float]:
    """Return how many times faster the path is: by medians, and the least and the most of pairs."""
    pace = theirs["packets"] / ours["packets"]
    pairs = [b / a / pace for a, b in zip(ours["all_seconds"], theirs["all_seconds"], strict=False)]
    middle = ours["packets_per_s"] / theirs["packets_per_s"]
    return {"median": middle, "least": min(pairs), "most": max(pairs)}


def file_of(
    load: Load, last: dict[str, Any], found: dict[str, dict[str, Any] | None]
) -> dict[str, Any]:
    """Return everything that is said of one file."""
    tools = {name: row for name, row in found.items() if row is not None}
    spread = {name: ratio(tools["midcall"], tools[name]) for name in tools if name != "midcall"}
    for name in tools.keys() & OWN:
        spread[name] = ratio(tools[name], tools["midcall"])
    command = tools.get("command")
    peers = [name for name in tools if name not in {"midcall", "command", *OWN}]
    of_command = {name: ratio(command, tools[name]) for name in peers} if command else {}
    return {
        "file": load.path.name,
        "made_of": load.made_of,
        "synthetic": load.synthetic,
        "file_bytes": load.path.stat().st_size,
        "packets": last["packets"],
        "bytes": last["bytes"],
        "flows": last["flows"],
        "tools": tools,
        "not_told_from_start_up": sorted(found.keys() - tools.keys()),
        "ratios": {name: one["median"] for name, one in spread.items()},
        "spread": spread,
        "command_ratios": {name: one["median"] for name, one in of_command.items()},
        "command_spread": of_command,
    }


def table_of(result: dict[str, Any]) -> Table:
    """Return the figures of one file as a person reads them."""
    title = (
        f"{result['file']} ({result['made_of']}): {result['packets']:,} packets, "
        f"{result['flows']:,} flows, {result['file_bytes'] / 1e6:.0f} MB"
    )
    table = Table(title=title, title_justify="left")
    heads = ("tool", "packets", "seconds", "Mpackets/s", "start s", "peak MB", "state B/flow")
    for name in (*heads, "midcall", "command"):
        table.add_column(name, justify="left" if name == "tool" else "right")
    for name, row in result["tools"].items():
        table.add_row(
            name,
            f"{row['packets']:,}",
            f"{row['seconds']:.3f}",
            f"{row['packets_per_s'] / 1e6:.3f}",
            f"{row['start_up_seconds']:.2f}" if "start_up_seconds" in row else "",
            blank(row["peak_memory_bytes"], 1e6),
            blank(row["state_bytes_per_flow"], 1),
            times(result["spread"].get(name)),
            times(result["command_spread"].get(name)),
        )
    return table


def blank(value: float | None, unit: float) -> str:
    """Return a number in a unit, nothing where there is none."""
    return "" if value is None else f"{value / unit:.0f}"


def times(spread: dict[str, float] | None) -> str:
    """Return a ratio with its spread."""
    if spread is None:
        return ""
    return f"{spread['median']:.2f} x ({spread['least']:.2f}-{spread['most']:.2f})"


def compared(new: dict[str, Any], old: dict[str, Any]) -> Table:
    """Return a table of two results: how each ratio of the path to a tool moved.

    Ratios within one run are what two runs, or two machines, have in common; seconds are not.
    """
    table = Table(title="midcall against each tool, then and now", title_justify="left")
    for name in ("file", "tool", "then", "now", "now / then"):
        table.add_column(name, justify="left" if name in ("file", "tool") else "right")
    before = {one["file"]: one["ratios"] for one in old["files"]}
    for one in new["files"]:
        for tool, now in one["ratios"].items():
            then = before.get(one["file"], {}).get(tool)
            if then:
                words = (f"{then:.2f} x", f"{now:.2f} x", f"{now / then:.2f}")
                table.add_row(one["file"], tool, *words)
    return table
