# SPDX-License-Identifier: BSD-3-Clause
"""Rows of flows: classifies captures under every disturbance, one row per flow of the truth.

For each column (experiments.accuracy.perturb) a new engine reads the disturbed packets. A flow of
the truth is matched to the engine's flows through its packets, never through its addresses. Peers,
and classifiers that the user gives, read the same packets from a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.numbers import UDP
from midcall.captures.packets.pcap import read_with_notices
from midcall.captures.packets.writer import write_pcap, write_pcapng
from midcall.classifier.state.verdicts import APPS
from midcall.errors import CaptureError
from midcall.experiments.accuracy import baseline_tree as trees
from midcall.experiments.accuracy import content_free, scores
from midcall.experiments.accuracy.peers import TITLES, Peer, ends, given_rows
from midcall.experiments.accuracy.peers.cache import Answers
from midcall.experiments.accuracy.peers.given import Given
from midcall.experiments.accuracy.peers.labels import Answer, Claim, Key, claim
from midcall.experiments.accuracy.perturb import (
    COLUMNS,
    ELSEWHERE,
    Column,
    Disturbed,
    disturb,
    unscored,
)
from midcall.experiments.accuracy.support import repository, without
from midcall.experiments.cells import offline
from midcall.experiments.measure import baselines, metrics
from midcall.experiments.spec.corpus import Item
from midcall.testbed.replay.packet_index import PacketIndex, index_packets

Row = dict[str, Any]
#: Column name -> rows, one per scored flow of the truth.
Rows = dict[str, list[Row]]
Numbers = NDArray[np.int64]
PendingAnswer = Future[tuple[Answer, str]]

ORIGINAL = COLUMNS[0].name
TRANSPORTS = {"tcp": 6, "udp": UDP}


class Truth(NamedTuple):
    """The truth of one flow; `flow` is its number in the packet index, -1 for none."""

    flow: int
    frame: int
    proto: str
    app: str
    role: str
    call: str | None
    confidence: str


class PeerSelection(NamedTuple):
    """The peers that take part, in which columns, why others do not, and their failures.

    columns: names of disturbances, None for all; absent: name -> reason; failures: name ->
    sentences; given: classifiers of the user, asked about the same packets.
    """

    peers: Sequence[Peer]
    absent: dict[str, str]
    failures: dict[str, list[str]]
    answers: Answers
    columns: Sequence[str] | None = None
    given: Sequence[Given] = ()

    def asks(self, column: Column) -> bool:
        """Return whether peers classify the packets of a column."""
        return column.packets and (self.columns is None or column.name in self.columns)


class FlowClassifier:
    """Classifies one capture after the other under every column.

    jobs: parallel processes of one peer; folder: of the files that peers read.
    """

    def __init__(self, seed: int, ward: PeerSelection, folder: Path, jobs: int) -> None:
        self.seed, self.ward, self.folder = seed, ward, folder
        self.pools = {
            peer.name: ThreadPoolExecutor(1 if peer.name == "nfstream" else jobs)
            for peer in ward.peers
        }
        self.pools |= {
            one.name: ThreadPoolExecutor(jobs if one.parallel else 1) for one in ward.given
        }

    def close(self) -> None:
        """End the processes of the peers."""
        for pool in self.pools.values():
            pool.shutdown(wait=True, cancel_futures=True)
        for peer in (*self.ward.peers, *self.ward.given):
            peer.close()

    def look(self, item: Item, rows: Rows, unknown: dict[str, list[Row]]) -> None:
        """Add the rows of one capture to `rows`, and those without its apps to `unknown`."""
        packets, _ = read_with_notices(item.path)
        index = index_packets(packets)
        flow_truths = truths(item, index)
        if not flow_truths:
            return
        disturbed = {
            column.name: disturb(column, index, self.seed, item.capture.sha256)
            for column in COLUMNS
        }
        answers = self.ask_peers(disturbed) | self.ask_given(disturbed)
        new_rows = {
            column.name: column_rows(item, index, flow_truths, column, disturbed[column.name])
            for column in COLUMNS
        }
        self.add_peer_claims(item, answers, new_rows)
        for name, column in new_rows.items():
            rows[name] += column
        if not item.capture.synthetic:
            for app, app_rows in open_rows(item, index, flow_truths, disturbed[ORIGINAL]):
                unknown.setdefault(app, []).extend(app_rows)

    def ask_peers(
        self, disturbed: Mapping[str, Disturbed]
    ) -> dict[tuple[str, str], PendingAnswer | str]:
        """Start every peer on every column; (peer, column) -> pending answer, or a reason."""
        waiting: dict[tuple[str, str], PendingAnswer | str] = {}
        for column in COLUMNS:
            if not self.ward.peers or not self.ward.asks(column):
                continue
            path = self.folder / f"{column.name}.pcap"
            reason = ""
            try:
                write_pcap(path, disturbed[column.name].packets)
            except CaptureError:  # of several link types
                reason = "a pcap file holds one link type, this capture has several"
            for peer in self.ward.peers:
                pool = self.pools[peer.name]
                waiting[peer.name, column.name] = reason or pool.submit(
                    self.ward.answers.ask, peer, path
                )
        return waiting

    def ask_given(
        self, disturbed: Mapping[str, Disturbed]
    ) -> dict[tuple[str, str], PendingAnswer | str]:
        """Start every classifier of the user on every column, as `ask_peers` does.

        They read pcapng, which can hold several link types.
        """
        waiting: dict[tuple[str, str], PendingAnswer | str] = {}
        if not self.ward.given:
            return waiting
        uncached = Answers(None)
        for column in filter(self.ward.asks, COLUMNS):
            path = self.folder / f"{column.name}.pcapng"
            write_pcapng(path, disturbed[column.name].packets)
            for one in self.ward.given:
                answers = self.ward.answers if one.cached else uncached
                waiting[one.name, column.name] = self.pools[one.name].submit(answers.ask, one, path)
        return waiting

    def add_peer_claims(
        self, item: Item, answers: Mapping[tuple[str, str], PendingAnswer | str], new_rows: Rows
    ) -> None:
        """Add the claims of peers and of the user's classifiers to the rows of their columns."""
        for (peer, column), waiting in answers.items():
            labels_of, reason = ({}, waiting) if isinstance(waiting, str) else waiting.result()
            if reason:
                sentence = f"{item.capture.name}, {column}: {reason}"
                self.ward.failures.setdefault(peer, []).append(sentence)
            for row in new_rows[column]:
                labels = labels_of.get(row["key"], ()) if row["key"] else ()
                row["claims"][peer] = claimed(peer, labels, TRANSPORTS[row["proto"]])


def claimed(engine: str, labels: Sequence[str], proto: int) -> Claim:
    """Return the claim of the labels of one flow by a peer or by a classifier of the user."""
    return claim(engine, labels, proto) if engine in TITLES else given_rows.claim(labels)


# ---- rows


def truths(item: Item, index: PacketIndex) -> list[Truth]:
    """Return the truth of every flow that can be scored."""
    flows = index.flows
    if item.innocent:
        wanted = {number: word for word, number in TRANSPORTS.items()}
        return [
            Truth(at, int(flow["first_record"]) + 1, wanted[int(flow["proto"])],
                  "none", "other", None, "high")
            for at, flow in enumerate(flows)
            if int(flow["proto"]) in wanted
        ]  # fmt: skip
    number = index.facts["flow"]
    return [
        Truth(
            int(number[label.frame - 1]) if 0 < label.frame <= len(number) else -1,
            label.frame,
            label.proto,
            label.app,
            label.role,
            label.call or None,
            label.confidence,
        )
        for label in item.labels
        if label.scored and label.proto in TRANSPORTS
    ]


def met(index: PacketIndex, after: Disturbed, numbers: Numbers) -> dict[int, list[int]]:
    """Return flow of the packet index -> flows of the engine that have its packets.

    numbers: int64[n], the engine's flow of each disturbed packet, -1 for none.
    """
    pairs = np.stack((index.facts["flow"][after.origin], numbers), 1)
    engine_flows: dict[int, list[int]] = {}
    for flow, number in np.unique(pairs[(pairs >= 0).all(axis=1)], axis=0).tolist():
        engine_flows.setdefault(flow, []).append(number)
    return engine_flows


def column_rows(
    item: Item, index: PacketIndex, flow_truths: Sequence[Truth], column: Column, after: Disturbed
) -> list[Row]:
    """Return the rows of one capture under one column, with the claims of simple rules."""
    switches = dict(column.engine)
    if column.name == ELSEWHERE:
        switches["claims"] = without(repository(item.capture))
    records, numbers = offline.classify_packets(after.packets, item.capture.name, switches)
    streams = baselines.rtp_flows(after.packets, numbers, len(records))
    places = met(index, after, numbers)
    why = unscored(column, index, after)
    payloads, sizes = Payloads(index, after), flow_octets(index, after)
    rows = []
    for truth in flow_truths:
        flows = places.get(truth.flow, [])
        row = flow_row(item, truth, [records[at] for at in flows], why.get(truth.flow, ""))
        row["strict_rtp"] = any(bool(streams[at]) for at in flows)
        if column.packets:
            row["features"] = trees.features(*payloads.first(truth.flow))
        row["octets"] = int(sizes[truth.flow]) if truth.flow >= 0 else 0
        row["claims"] = {name: rule(row) for name, rule in baselines.RULES.items()}
        if row["outcome"] in ("unsure", "missed", "other_call") and not row["synthetic"]:
            row["left"], row["bare"] = content_free.left(after.packets, payloads.of(truth.flow))
        rows.append(row)
    return rows


def flow_octets(index: PacketIndex, after: Disturbed) -> NDArray[Any]:
    """Return the bytes on the wire of each flow of the packet index, after the disturbance."""
    flow = index.facts["flow"][after.origin]
    known = flow >= 0
    size: NDArray[Any] = np.bincount(
        flow[known], weights=after.packets.wire[known], minlength=len(index.flows)
    )
    return size


class Payloads:
    """The payload packets of each flow of the packet index, after the disturbance."""

    def __init__(self, index: PacketIndex, after: Disturbed) -> None:
        self.packets, self.facts = after.packets, index.facts[after.origin]
        full = np.flatnonzero((self.facts["size"] > 0) & (self.facts["flow"] >= 0))
        self.order = full[np.argsort(self.facts["flow"][full], kind="stable")]
        self.flow = self.facts["flow"][self.order]

    def of(self, number: int) -> Numbers:
        """Return the positions of a flow's payload packets."""
        first, last = np.searchsorted(self.flow, (number, number + 1))
        return self.order[first:last]

    def first(self, number: int) -> tuple[Numbers, Numbers, Numbers]:
        """Return sizes, times and directions of as many packets as the baseline tree uses."""
        which = self.of(number)[: trees.PACKETS]
        return self.facts["size"][which], self.packets.time[which], self.facts["up"][which]


def flow_row(item: Item, truth: Truth, records: Sequence[Mapping[str, Any]], why: str) -> Row:
    """Return the row of one flow: its truth and the strongest of its records in the engine."""
    capture = item.capture
    none = dict.fromkeys(("src_ip", "src_port", "dst_ip", "dst_port", "confidence"))
    waits = dict.fromkeys(("packets_to_verdict", "ms_to_verdict"))
    blank: Row = {
        **offline.NO_VERDICT,
        **none,
        **waits,
        "evidence": "no flow in the engine's table",
    }
    best = max(records, key=metrics.rank) if records else blank
    row = {
        **{name: best[name] for name in blank},
        "key": key_of(best, truth.proto),
        "capture": capture.name,
        "content": capture.content,
        "synthetic": capture.synthetic,
        "group": capture.group,
        "innocent": item.innocent,
        "frame": truth.frame,
        "proto": truth.proto,
        "truth_app": truth.app,
        "truth_role": truth.role,
        "truth_call": truth.call,
        "truth_confidence": truth.confidence,
        "why": why,
        "octets": 0,
        "left": "",
        "bare": False,
    }
    row["outcome"] = "unscored" if why else scores.outcome(row)
    return row


def key_of(row: Mapping[str, Any], proto: str) -> Key | None:
    """Return the flow's key in the answers of peers; None if the engine has no such flow."""
    if row["src_ip"] is None:
        return None
    source, target = row["src_ip"], row["dst_ip"]
    return ends.key(TRANSPORTS[proto], source, row["src_port"], target, row["dst_port"])


def open_rows(
    item: Item, index: PacketIndex, flow_truths: Sequence[Truth], after: Disturbed
) -> Iterator[tuple[str, list[Row]]]:
    """Yield each app of the capture with its rows from an engine without that app."""
    families = {
        metrics.family(truth.app) for truth in flow_truths if truth.role in metrics.SCORED_ROLES
    }
    for app in sorted(families - {metrics.NO_APP, "none"}):
        switches = {"without": APPS.index(app)}
        records, numbers = offline.classify_packets(after.packets, item.capture.name, switches)
        places = met(index, after, numbers)
        yield (
            app,
            [
                flow_row(item, truth, [records[at] for at in places.get(truth.flow, [])], "")
                for truth in flow_truths
                if metrics.family(truth.app) == app
            ],
        )
