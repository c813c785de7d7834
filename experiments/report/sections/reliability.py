# SPDX-License-Identifier: BSD-3-Clause
"""Reliability: what the lab's proofs, fuzzing and benches last gave on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from midcall.experiments.measure import formatting
from midcall.experiments.report import charts
from midcall.experiments.report.reliability_results import OWN
from midcall.experiments.results.reader import Findings

Row = Mapping[str, Any]

#: Tools of a bench as the page names them; any other goes by its own name.
TOOLS = {
    "midcall": "lab, 1 core",
    "two_cores": "lab, 2 cores",
    "two_passes": "lab, 2 files",
    "read": "reading",
}


def build(run: Findings) -> dict[str, Any] | None:
    """Return what the section shows; None where nothing was proven here."""
    told = run.at("proofs")
    if told is None:
        return None
    bench, growth = told["bench"], told["growth"]
    files = bench["files"] if bench else []
    shown = {
        "compared": [row for file in files for row in compared(file)],
        "given_up": [
            f"{', '.join(file['too_slow'])} on {file['file']}" for file in files if file["too_slow"]
        ],
        "pace": pace(files),
        "curve": curve(growth) if growth else None,
    }
    return {"proven": {**told, **shown}}


def compared(file: Row) -> Iterator[Row]:
    """Yield a row per tool that was measured on a file."""
    for row in file["tools"]:
        name = TOOLS.get(row["tool"], row["tool"])
        times = row["times"] and {key: short(value) for key, value in row["times"].items()}
        own = row["tool"] in OWN
        more = {"file": file["file"], "synthetic": file["synthetic"], "times": times, "own": own}
        yield {**row, **more, "tool": name}


def short(times: float) -> str:
    """Return a ratio in three digits."""
    return f"{times:,.0f}" if times >= 100 else f"{times:.3g}"


def pace(files: list[Row]) -> charts.Chart | None:
    """Return the picture of the first file of real captures: packets per second of each tool."""
    file = next((one for one in files if not one["synthetic"]), None)
    if file is None:
        return None
    rows = [
        {
            "label": row["tool"],
            "packets_per_s": row["packets_per_s"],
            "short": formatting.amount(row["packets_per_s"]),
            "tip": f"{row['tool']}: {formatting.amount(row['packets_per_s'])} packets/s "
            f"({formatting.count(row['packets'])} packets)",
        }
        for row in compared(file)
    ]
    title = f"Packets per second: {file['file']}"
    text = "Bars. " + "; ".join(row["tip"] for row in rows) + "."
    return charts.throughput(rows, text, "pace", title)


def curve(growth: Row) -> charts.Chart:
    """Return the picture of what a packet costs while the table fills."""
    rows = [
        {
            "packets": row["packets"],
            "ns_per_packet": row["ns_per_packet"],
            "tip": f"{formatting.amount(row['packets'])} packets, "
            f"{formatting.amount(row['flows'])} "
            f"flows: {row['ns_per_packet']:.0f} ns per packet",
        }
        for row in growth["rounds"]
    ]
    return charts.growth(rows, f"Dots. First {rows[0]['tip']}; last {rows[-1]['tip']}.")
