# SPDX-License-Identifier: BSD-3-Clause
"""Speed: wall time per packet and throughput, with the machine they were taken on."""

from __future__ import annotations

from collections.abc import Sequence

from midcall.experiments.measure import formatting
from midcall.experiments.report import charts
from midcall.experiments.report.sections.facts import facts
from midcall.experiments.results.reader import Findings
from midcall.experiments.results.tables import LatencyRow, ThroughputRow


class ThroughputBar(ThroughputRow):
    """A row of the table `throughput` as a bar."""

    label: str
    short: str
    tip: str


def build(run: Findings) -> dict[str, object]:
    """Return the values of the section."""
    return {"speed": speed(run)}


def speed(run: Findings) -> dict[str, object]:
    """Return latency and throughput with their charts, and the machine of the measurement."""
    return {
        "latency": run["latency"],
        "throughput": run["throughput"],
        "latency_chart": _latency_chart(run["latency"]),
        "throughput_chart": _throughput_chart(run["throughput"]),
        "latency_method": run.at("latency", "offline", "method") or run.at("latency", "method"),
        "throughput_method": run.at("throughput", "offline", "method")
        or run.at("throughput", "method"),
        "machine": facts(run.at("machine") or run.provenance.get("machine") or {}),
        "p50": run.at("latency", "offline", "ns_per_packet", "p50"),
        "p99": run.at("latency", "offline", "ns_per_packet", "p99"),
        "pps": run.at("throughput", "offline", "packets_per_s"),
    }


def _latency_chart(table: Sequence[LatencyRow]) -> charts.Chart | None:
    rows: list[charts.LatencyPoint] = [
        {
            "path": row["path"],
            "percentile": f"p{float(row['percentile']):g}",
            "ns_per_packet": time,
            "batch": row["batch"],
            "n": row["n"],
            "short": formatting.duration_ns(time),
            "tip": f"{row['path']}, p{float(row['percentile']):g}: "
            f"{formatting.duration_ns(time)} per packet "
            f"(batches of {row['batch']}, n = {formatting.count(row['n'])} batches)",
        }
        for row in sorted(table, key=lambda row: float(row["percentile"]))
        if (time := row["ns_per_packet"])
    ]
    if not rows:
        return None
    return charts.latency(rows, "Line over percentiles. " + "; ".join(r["tip"] for r in rows) + ".")


def _throughput_chart(table: Sequence[ThroughputRow]) -> charts.Chart | None:
    rows: list[ThroughputBar] = [
        {
            **row,
            "label": f"{row['path']} · {row['file']}",
            "short": f"{formatting.amount(row['packets_per_s'])}",
            "tip": f"{row['path']}, {row['file']}: "
            f"{formatting.amount(row['packets_per_s'])} packets/s, "
            f"{formatting.amount(row['bytes_per_s'], 'B')}/s "
            f"({formatting.count(row['packets'])} packets in {row['seconds']:.3g} s)",
        }
        for row in table
        if row["packets_per_s"]
    ]
    if not rows:
        return None
    return charts.throughput(rows, "Bars. " + "; ".join(row["tip"] for row in rows) + ".")
