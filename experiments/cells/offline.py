# SPDX-License-Identifier: BSD-3-Clause
"""The offline part of a run: every capture through the engine, its flows joined to the truth.

A label names a flow by its first frame, the engine tells each packet's flow: so the join needs no
address. Where the engine holds several records of one 5-tuple, the strongest one answers.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.pcap import Packets, read_with_notices
from midcall.captures.truth.calls import Call
from midcall.captures.truth.labels import Label
from midcall.experiments.cells.classify import rows as classified
from midcall.experiments.measure import metrics
from midcall.experiments.measure.baselines import rtp_flows
from midcall.experiments.measure.redact import masked
from midcall.experiments.spec.corpus import Item

Row = dict[str, Any]
SILENT: Row = {"verdict": "", "app": "none", "role": "other", "packets": 0}


class Seen(NamedTuple):
    """What the engine said of one capture."""

    rows: list[Row]  # rows of flows.parquet, addresses in full
    recognised: dict[str, bool]  # call id -> whether any of its flows was certainly named
    notices: list[str]  # the file was cut, ...
    packets: Packets


def classify_packets(
    packets: Packets, name: str, switches: Mapping[str, Any] | None = None
) -> tuple[list[Row], NDArray[np.int64]]:
    """Return one classify row per flow and each packet's flow number.

    switches: options of the engine, for an engine that lacks something.
    """
    from midcall.classifier.engine import Engine
    from midcall.classifier.export import columns

    engine = Engine(**(switches or {}))
    numbers = engine.feed(packets)
    flows = engine.flows()
    frames = (flows["first_record"] + 1).tolist()
    said = classified(columns(flows, name)).to_pylist()
    return [row | {"frame": frame} for row, frame in zip(said, frames, strict=True)], numbers


def classified_rows(item: Item, switches: Mapping[str, Any] | None = None) -> list[Row]:
    """Return the rows of one capture's flows, each held against its truth.

    switches: options of the engine.
    """
    said, numbers = classify_packets(read_with_notices(item.path)[0], item.capture.name, switches)
    rows = [_row(item, flow) for flow in said]
    _attach_truth(item, rows, numbers)
    return rows


def examine(item: Item) -> Seen:
    """Classify one capture and hold every flow against its truth."""
    packets, notices = read_with_notices(item.path)
    said, numbers = classify_packets(packets, item.capture.name)
    streams = rtp_flows(packets, numbers, len(said))
    rows = [_row(item, flow) | {"strict_rtp": bool(streams[at])} for at, flow in enumerate(said)]
    _attach_truth(item, rows, numbers)
    recognised = {call.id: call_recognised(call, item.labels, rows, numbers) for call in item.calls}
    return Seen(rows, recognised, notices, packets)


def _row(item: Item, flow: Mapping[str, Any]) -> Row:
    """Return a flows.parquet row without truth."""
    capture = item.capture
    kept = {key: value for key, value in flow.items() if key != "file"}
    return {
        "capture": capture.name,
        "sha256": capture.sha256,
        "synthetic": capture.synthetic,
        "added": capture.added,
        "year": capture.year,
        "group": capture.group,
        "innocent": item.innocent,
        **kept,
        "truth_app": None,
        "truth_role": None,
        "truth_call": None,
        "truth_confidence": None,
        "outcome": "unscored",
    }


def endpoints(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """Return a key equal for all records of one 5-tuple, whichever side came first."""
    ends = sorted([(row["src_ip"], row["src_port"]), (row["dst_ip"], row["dst_port"])])
    return (row["proto"], *ends)


def _attach_truth(item: Item, rows: list[Row], numbers: NDArray[np.int64]) -> None:
    """Write truth and outcome into the rows; a labelled flow the engine lacks gets its own row."""
    by_ends: dict[tuple[Any, ...], list[Row]] = defaultdict(list)
    for row in rows:
        by_ends[endpoints(row)].append(row)
    if item.innocent:
        for group in by_ends.values():
            if group[0]["proto"] in ("tcp", "udp"):
                _score(group, "none", "other", None, "high")
        return
    for label in item.labels:
        at = int(numbers[label.frame - 1]) if 0 < label.frame <= len(numbers) else -1
        group = by_ends[endpoints(rows[at])] if at >= 0 else [_unseen(item, label)]
        if at < 0:
            rows.extend(group)
        _score(group, label.app, label.role, label.call or None, label.confidence)


def _score(group: list[Row], app: str, role: str, call: str | None, confidence: str) -> None:
    """Write one truth into a flow's records; the strongest record carries the outcome."""
    best = max(group, key=metrics.rank)
    for row in group:
        row |= {"truth_app": app, "truth_role": role, "truth_call": call}
        row |= {"truth_confidence": confidence, "outcome": "unscored"}
    best["outcome"] = metrics.outcome(app, role, confidence, best)


def _unseen(item: Item, label: Label) -> Row:
    """Return the row of a labelled flow that the engine did not report."""
    nothing = dict.fromkeys(
        ("src_ip", "src_port", "dst_ip", "dst_port", "bytes", "first_ts", "last_ts", "confidence")
    )
    more = dict.fromkeys(("packets_to_verdict", "ms_to_verdict"))
    flow = {**SILENT, **nothing, **more, "evidence": "no flow in the engine's table"}
    row = _row(item, flow | {"family": "none", "proto": label.proto, "frame": label.frame})
    return row | {"strict_rtp": False}


def call_recognised(
    call: Call, labels: Sequence[Label], rows: Sequence[Row], numbers: NDArray[np.int64]
) -> bool:
    """Tell whether a flow of the call was certainly claimed to be of a call of its app.

    With flow labels only the call's own flows count; with the call's label alone, any flow.
    """
    frames = [*call.media, *call.setup] if labels else []
    if labels and frames:
        own = {int(numbers[frame - 1]) for frame in frames if 0 < frame <= len(numbers)}
        keys = {endpoints(rows[at]) for at in own if at >= 0}
        flows = [row for row in rows if endpoints(row) in keys]
    else:
        flows = list(rows)
    return any(metrics.call_outcome(call.app, row) == "right" for row in flows)


def shown(rows: Sequence[Row], reveal: bool) -> list[Row]:
    """Return rows of flows.parquet: without the baselines' marks, masked unless `reveal`."""
    rows = [{key: value for key, value in row.items() if key != "strict_rtp"} for row in rows]
    if reveal:
        return list(rows)
    cache: dict[str, str] = {}

    def hide(address: str | None) -> str | None:
        if address is None:
            return None
        if address not in cache:
            cache[address] = masked(address)
        return cache[address]

    return [row | {"src_ip": hide(row["src_ip"]), "dst_ip": hide(row["dst_ip"])} for row in rows]
