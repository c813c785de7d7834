# SPDX-License-Identifier: BSD-3-Clause
"""Reliability: the latest results of the lab's proofs, fuzzing and benches on this machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypedDict

from midcall.experiments.measure import formatting
from midcall.experiments.measure.formatting import N_, gettext
from midcall.experiments.report import charts
from midcall.experiments.report.reliability_results import OWN
from midcall.experiments.results.reader import Findings
from midcall.experiments.results.tables import Document


class ToolFigures(TypedDict):
    """The figures of a tool on a file of a bench."""

    tool: str
    times: dict[str, float] | None
    packets: int
    packets_per_s: float
    peak_memory_bytes: float | None
    state_bytes_per_flow: float | None


class BenchFile(TypedDict):
    """A file of a bench with the figures of each tool."""

    file: str
    made_of: str
    synthetic: bool
    too_slow: list[str]
    tools: list[ToolFigures]


class ComparedTool(TypedDict):
    """A tool on a file as the page shows it; own: a row of the lab's own path."""

    tool: str
    times: dict[str, str] | None
    packets: int
    packets_per_s: float
    peak_memory_bytes: float | None
    state_bytes_per_flow: float | None
    file: str
    synthetic: bool
    own: bool


#: Names of a bench's tools on the page; the others have their own names.
TOOLS = {
    "midcall": N_("lab, 1 core"),
    "two_cores": N_("lab, 2 cores"),
    "two_passes": N_("lab, 2 files"),
    "read": N_("reading"),
}


def build(run: Findings) -> dict[str, object] | None:
    """Return the values of the section; None where there is no result on this machine."""
    block = run.at("proofs")
    if block is None:
        return None
    bench, growth = block["bench"], block["growth"]
    files: list[BenchFile] = bench["files"] if bench else []
    shown = {
        "compared": [row for file in files for row in compared(file)],
        "given_up": [
            f"{', '.join(file['too_slow'])} on {file['file']}" for file in files if file["too_slow"]
        ],
        "pace": pace(files),
        "curve": curve(growth) if growth else None,
    }
    return {"proven": {**block, **shown}}


def compared(file: BenchFile) -> Iterator[ComparedTool]:
    """Yield a row per tool that was measured on a file."""
    for row in file["tools"]:
        times = row["times"]
        yield {
            "tool": gettext(TOOLS.get(row["tool"], row["tool"])),
            "times": {key: short(value) for key, value in times.items()} if times else None,
            "packets": row["packets"],
            "packets_per_s": row["packets_per_s"],
            "peak_memory_bytes": row["peak_memory_bytes"],
            "state_bytes_per_flow": row["state_bytes_per_flow"],
            "file": file["file"],
            "synthetic": file["synthetic"],
            "own": row["tool"] in OWN,
        }


def short(times: float) -> str:
    """Return a ratio in three digits."""
    return formatting.count(times) if times >= 100 else formatting.brief(times)


def pace(files: Sequence[BenchFile]) -> charts.Chart | None:
    """Return the chart of the first file of real captures: packets per second of each tool."""
    file = next((one for one in files if not one["synthetic"]), None)
    if file is None:
        return None
    rows: list[charts.RateBar] = [
        {
            "label": row["tool"],
            "packets_per_s": row["packets_per_s"],
            "short": formatting.amount(row["packets_per_s"]),
            "tip": gettext("%(tool)s: %(rate)s packets/s (%(packets)s packets)")
            % {
                "tool": row["tool"],
                "rate": formatting.amount(row["packets_per_s"]),
                "packets": formatting.count(row["packets"]),
            },
        }
        for row in compared(file)
    ]
    title = gettext("Packets per second: %(file)s") % {"file": file["file"]}
    text = gettext("Bars. %(text)s.") % {"text": "; ".join(row["tip"] for row in rows)}
    return charts.throughput(rows, text, "pace", title)


def curve(growth: Document) -> charts.Chart:
    """Return the chart of the time per packet while the flow table fills."""
    rows: list[charts.GrowthPoint] = [
        {
            "packets": row["packets"],
            "ns_per_packet": row["ns_per_packet"],
            "tip": gettext("%(packets)s packets, %(flows)s flows: %(time)s per packet")
            % {
                "packets": formatting.amount(row["packets"]),
                "flows": formatting.amount(row["flows"]),
                "time": formatting.duration_ns(row["ns_per_packet"]),
            },
        }
        for row in growth["rounds"]
    ]
    text = gettext("Dots. First %(first)s; last %(last)s.")
    return charts.growth(rows, text % {"first": rows[0]["tip"], "last": rows[-1]["tip"]})
