# SPDX-License-Identifier: BSD-3-Clause
"""Speed: wall time per packet and throughput, with the machine they were taken on."""

from __future__ import annotations

from collections.abc import Sequence

from midcall.experiments.measure import formatting
from midcall.experiments.measure.formatting import gettext
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
            "tip": gettext("%(path)s, %(percentile)s: %(time)s per packet (n = %(n)s batches)")
            % {
                "path": row["path"],
                "percentile": f"p{float(row['percentile']):g}",
                "time": formatting.duration_ns(time),
                "n": formatting.count(row["n"]),
            },
        }
        for row in sorted(table, key=lambda row: float(row["percentile"]))
        if (time := row["ns_per_packet"])
    ]
    if not rows:
        return None
    text = gettext("Line over percentiles. %(text)s.") % {"text": "; ".join(r["tip"] for r in rows)}
    return charts.latency(rows, text)


def _throughput_chart(table: Sequence[ThroughputRow]) -> charts.Chart | None:
    rows: list[ThroughputBar] = [
        {
            **row,
            "label": f"{row['path']} · {row['file']}",
            "short": f"{formatting.amount(row['packets_per_s'])}",
            "tip": gettext(
                "%(path)s, %(file)s: %(rate)s packets/s (%(packets)s packets in %(seconds)s s)"
            )
            % {
                "path": row["path"],
                "file": row["file"],
                "rate": formatting.amount(row["packets_per_s"]),
                "packets": formatting.count(row["packets"]),
                "seconds": formatting.brief(row["seconds"]),
            },
        }
        for row in table
        if row["packets_per_s"]
    ]
    if not rows:
        return None
    text = gettext("Bars. %(text)s.") % {"text": "; ".join(row["tip"] for row in rows)}
    return charts.throughput(rows, text)
