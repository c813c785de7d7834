# SPDX-License-Identifier: BSD-3-Clause
"""The offline part of a run: every capture through the engine, its flows joined to the truth.

A label names a flow by its first frame, the engine tells each packet's flow: so the join needs no
address. Where the engine holds several records of one 5-tuple, the strongest one is scored.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypedDict, cast

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.pcap import Packets, read_with_notices
from midcall.captures.truth.calls import Call
from midcall.captures.truth.labels import Label
from midcall.experiments.cells.classify import rows as classified
from midcall.experiments.measure import metrics
from midcall.experiments.measure.baselines import rtp_flows
from midcall.experiments.measure.redact import masked
from midcall.experiments.results.tables import EngineFlow, FlowRow, SeenFlow
from midcall.experiments.spec.corpus import Item


class Silent(TypedDict):
    """The columns of a flow for which there is no verdict."""

    verdict: str
    app: str
    role: str
    packets: int


NO_VERDICT: Silent = {"verdict": "", "app": "none", "role": "other", "packets": 0}


class EngineOptions(TypedDict, total=False):
    """Options of the engine that an evaluation sets."""

    names: bool
    without: int
    fingerprints: bool
    claims: NDArray[np.int64]


class ClassifiedFlow(EngineFlow):
    """A row of `midcall classify`, and the number of the flow's first packet."""

    file: str


class ClassifiedCapture(NamedTuple):
    """The verdicts of the engine on one capture."""

    rows: list[SeenFlow]  # rows of flows.parquet, addresses in full
    recognised: dict[str, bool]  # call id -> whether any of its flows was certainly named
    notices: list[str]  # the file was cut, ...
    packets: Packets


def classify_packets(
    packets: Packets, name: str, switches: Mapping[str, object] | None = None
) -> tuple[list[ClassifiedFlow], NDArray[np.int64]]:
    """Return one classify row per flow and each packet's flow number, int64[packets].

    switches: options of the engine, for an engine that lacks something.
    """
    rows, numbers, _ = _classified(packets, name, switches)
    return rows, numbers


def _classified(
    packets: Packets, name: str, switches: Mapping[str, object] | None
) -> tuple[list[ClassifiedFlow], NDArray[np.int64], NDArray[np.void]]:
    """Return the same as `classify_packets`, and the engine's flows FLOW[rows]."""
    from midcall.classifier.engine import Engine
    from midcall.classifier.export import columns

    engine = Engine(**cast("EngineOptions", switches or {}))
    numbers = engine.feed(packets)
    flows = engine.flows()
    frames = (flows["first_record"] + 1).tolist()
    rows = classified(columns(flows, name)).to_pylist()
    framed = [row | {"frame": frame} for row, frame in zip(rows, frames, strict=True)]
    return framed, numbers, flows


def classified_rows(item: Item, switches: Mapping[str, object] | None = None) -> list[SeenFlow]:
    """Return the rows of one capture's flows, each scored against its truth.

    switches: options of the engine.
    """
    flows, numbers = classify_packets(read_with_notices(item.path)[0], item.capture.name, switches)
    rows = [cast("SeenFlow", _row(item, flow)) for flow in flows]
    _attach_truth(item, rows, numbers)
    return rows


def examine(item: Item) -> ClassifiedCapture:
    """Classify one capture and score every flow against its truth.

    A row is marked as replayed if routers forward the flow; the caller clears the mark for captures
    that take no part in the grid.
    """
    from midcall.testbed.replay.sides import places

    packets, notices = read_with_notices(item.path)
    flows, numbers, records = _classified(packets, item.capture.name, None)
    streams, local = rtp_flows(packets, numbers, len(flows)), places(records).local
    rows: list[SeenFlow] = [
        {**_row(item, flow), "replayed": not local[at], "strict_rtp": bool(streams[at])}
        for at, flow in enumerate(flows)
    ]
    _attach_truth(item, rows, numbers)
    recognised = {call.id: call_recognised(call, item.labels, rows, numbers) for call in item.calls}
    return ClassifiedCapture(rows, recognised, notices, packets)


def _row(item: Item, flow: EngineFlow) -> FlowRow:
    """Return a flows.parquet row without truth."""
    capture = item.capture
    verdict = cast("EngineFlow", {key: value for key, value in flow.items() if key != "file"})
    return {
        "capture": capture.name,
        "sha256": capture.sha256,
        "synthetic": capture.synthetic,
        "added": capture.added,
        "year": capture.year,
        "group": capture.group,
        "innocent": item.innocent,
        **verdict,
        "truth_app": None,
        "truth_role": None,
        "truth_call": None,
        "truth_confidence": None,
        "outcome": "unscored",
        "replayed": False,
    }


def endpoints(row: EngineFlow) -> tuple[object, ...]:
    """Return a key equal for all records of one 5-tuple, whichever side came first."""
    ends = [(row["src_ip"], row["src_port"]), (row["dst_ip"], row["dst_port"])]
    return (row["proto"], *sorted(cast("list[tuple[str, int]]", ends)))


def _attach_truth(item: Item, rows: list[SeenFlow], numbers: NDArray[np.int64]) -> None:
    """Write truth and outcome into the rows; a labelled flow the engine lacks gets its own row."""
    by_ends: dict[tuple[object, ...], list[SeenFlow]] = defaultdict(list)
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


def _score(group: list[SeenFlow], app: str, role: str, call: str | None, confidence: str) -> None:
    """Write one truth into a flow's records; the strongest record carries the outcome."""
    best = max(group, key=metrics.rank)
    for row in group:
        row["truth_app"], row["truth_role"], row["truth_call"] = app, role, call
        row["truth_confidence"], row["outcome"] = confidence, "unscored"
    best["outcome"] = metrics.outcome(app, role, confidence, best)


def _unseen(item: Item, label: Label) -> SeenFlow:
    """Return the row of a labelled flow that the engine did not report."""
    flow: EngineFlow = {
        **NO_VERDICT,
        "frame": label.frame,
        "proto": label.proto,
        "src_ip": None,
        "src_port": None,
        "dst_ip": None,
        "dst_port": None,
        "bytes": None,
        "first_ts": None,
        "last_ts": None,
        "family": "none",
        "confidence": None,
        "packets_to_verdict": None,
        "ms_to_verdict": None,
        "evidence": "no flow in the engine's table",
    }
    return {**_row(item, flow), "strict_rtp": False}


def call_recognised(
    call: Call, labels: Sequence[Label], rows: Sequence[EngineFlow], numbers: NDArray[np.int64]
) -> bool:
    """Return whether a flow of the call was certainly claimed to be of a call of its app.

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


def written_rows(rows: Sequence[SeenFlow], reveal: bool) -> list[FlowRow]:
    """Return rows of flows.parquet: without the baselines' marks, masked unless `reveal`."""
    written = [
        cast("FlowRow", {key: value for key, value in row.items() if key != "strict_rtp"})
        for row in rows
    ]
    if reveal:
        return written
    cache: dict[str, str] = {}

    def hide(address: str | None) -> str | None:
        if address is None:
            return None
        if address not in cache:
            cache[address] = masked(address)
        return cache[address]

    return [
        {**row, "src_ip": hide(row["src_ip"]), "dst_ip": hide(row["dst_ip"])} for row in written
    ]
