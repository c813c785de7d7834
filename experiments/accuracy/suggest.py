# SPDX-License-Identifier: BSD-3-Clause
"""Suggestions: the classifier's verdicts on the flows of an added capture, for the user.

A suggestion is not truth: truth comes from how a capture was made. Suggestions are written to a
separate file that scoring, training and tests never read. A user who agrees names the flow with
--flow.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from midcall.captures.packets.pcap import read
from midcall.captures.truth.catalogue import Capture
from midcall.captures.truth.paths import local
from midcall.experiments.cells.offline import classify_packets

Row = dict[str, Any]
COLUMNS = ("status", "frame", "flow", "packets", "app", "role", "verdict", "confidence", "evidence")


def suggest(capture: Capture) -> list[Row]:
    """Return the flows of an added capture that the classifier names, and write their file."""
    files = local().files
    assert files is not None
    flows, _ = classify_packets(read(files / capture.file), capture.name)
    rows = [row_of(flow) for flow in flows if flow["app"] not in (None, "", "none", "unknown")]
    path = suggestion_file(capture)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    return rows


def suggestion_file(capture: Capture) -> Path:
    """Return the file of a capture's suggestions, separate from the labels."""
    return local().folder / "suggestions" / f"{capture.sha256}.csv"


def row_of(flow: Mapping[str, Any]) -> Row:
    """Return one suggestion: first frame, ends and verdict of a flow."""
    ends = f"{flow['src_ip']}:{flow['src_port']}-{flow['dst_ip']}:{flow['dst_port']}"
    return {
        "status": "suggestion",
        "flow": f"{flow['proto']} {ends}",
        **{key: flow[key] for key in COLUMNS[3:] if key != "flow"},
        "frame": flow["frame"],
    }


def lines(rows: list[Row]) -> Iterator[str]:
    """Yield suggestions as lines of text."""
    if not rows:
        yield "suggestions: none, the classifier names no flow of it"
        return
    yield "suggestions by the classifier (no truth: never scored; --flow FRAME makes one truth):"
    for row in rows:
        yield (
            f"  frame {row['frame']}: {row['flow']}, {row['packets']} packets: {row['verdict']} "
            f"{row['app']} {row['role']} ({row['evidence']})"
        )
