# SPDX-License-Identifier: BSD-3-Clause
"""The looker: reads one capture after the other under every disturbance, one row per true flow.

Per column (experiments.accuracy.perturb) the engine reads the disturbed packets from nothing; a
flow of the truth is met again through its packets, never through its address. Peers get the same
packets as a file.
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
from midcall.captures.packets.writer import write_pcap
from midcall.classifier.state.verdicts import APPS
from midcall.errors import CaptureError
from midcall.experiments.accuracy import baseline_tree as trees
from midcall.experiments.accuracy import content_free, scores
from midcall.experiments.accuracy.peers import Peer, ends
from midcall.experiments.accuracy.peers.cache import Answers
from midcall.experiments.accuracy.peers.labels import Answer, Key, claim
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
from midcall.testbed.replay.packet_index import Survey, survey

Row = dict[str, Any]
#: Column name -> rows, one per scored flow of the truth.
Rows = dict[str, list[Row]]
Numbers = NDArray[np.int64]
Asked = Future[tuple[Answer, str]]

ORIGINAL = COLUMNS[0].name
TRANSPORTS = {"tcp": 6, "udp": UDP}


class Truth(NamedTuple):
    """The truth of one flow; `flow` is its number in the survey, -1 where no packet is one."""

    flow: int
    frame: int
    proto: str
    app: str
    role: str
    call: str | None
    confidence: str


class Ward(NamedTuple):
    """The peers that take part, in which columns, why others do not, and what went wrong.

    columns: names of disturbances, None for all; absent: name -> reason; failures: name ->
    sentences.
    """

    peers: Sequence[Peer]
    absent: dict[str, str]
    failures: dict[str, list[str]]
    answers: Answers
    columns: Sequence[str] | None = None

    def asks(self, column: Column) -> bool:
        """Tell whether peers are asked about a column."""
        return column.packets and (self.columns is None or column.name in self.columns)


class Looker:
    """Looks at one capture after the other under every column.

    jobs: processes of one peer at once. folder: takes the files that peers read.
    """

    def __init__(self, seed: int, ward: Ward, folder: Path, jobs: int) -> None:
        self.seed, self.ward, self.folder = seed, ward, folder
        self.pools = {
            peer.name: ThreadPoolExecutor(1 if peer.name == "nfstream" else jobs)
            for peer in ward.peers
        }

    def close(self) -> None:
        """End what the peers left running."""
        for pool in self.pools.values():
            pool.shutdown(wait=True, cancel_futures=True)
        for peer in self.ward.peers:
            peer.close()

    def look(self, item: Item, rows: Rows, unknown: dict[str, list[Row]]) -> None:
        """Add the rows of one capture."""
        packets, _ = read_with_notices(item.path)
        held = survey(packets)
        known = truths(item, held)
        if not known:
            return
        made = {
            column.name: disturb(column, held, self.seed, item.capture.sha256) for column in COLUMNS
        }
        asked = self.asked(made)
        fresh = {
            column.name: column_rows(item, held, known, column, made[column.name])
            for column in COLUMNS
        }
        self.hear(item, asked, fresh)
        for name, held_rows in fresh.items():
            rows[name] += held_rows
        if not item.capture.synthetic:
            for app, found in open_rows(item, held, known, made[ORIGINAL]):
                unknown.setdefault(app, []).extend(found)

    def asked(self, made: Mapping[str, Disturbed]) -> dict[tuple[str, str], Asked | str]:
        """Begin to ask every peer about every column; (peer, column) -> answer to come, or why."""
        waiting: dict[tuple[str, str], Asked | str] = {}
        for column in COLUMNS:
            if not self.ward.peers or not self.ward.asks(column):
                continue
            path = self.folder / f"{column.name}.pcap"
            reason = ""
            try:
                write_pcap(path, made[column.name].packets)
            except CaptureError:  # of several link types
                reason = "a pcap file holds one link type, this capture has several"
            for peer in self.ward.peers:
                pool = self.pools[peer.name]
                waiting[peer.name, column.name] = reason or pool.submit(
                    self.ward.answers.ask, peer, path
                )
        return waiting

    def hear(self, item: Item, asked: Mapping[tuple[str, str], Asked | str], fresh: Rows) -> None:
        """Put the peers' claims into the rows of the columns they were asked about."""
        for (peer, column), waiting in asked.items():
            found, reason = ({}, waiting) if isinstance(waiting, str) else waiting.result()
            if reason:
                sentence = f"{item.capture.name}, {column}: {reason}"
                self.ward.failures.setdefault(peer, []).append(sentence)
            for row in fresh[column]:
                said = found.get(row["key"], ()) if row["key"] else ()
                row["claims"][peer] = claim(peer, said, TRANSPORTS[row["proto"]])


# ---- rows


def truths(item: Item, held: Survey) -> list[Truth]:
    """Return the truth of every flow that may be scored."""
    flows = held.flows
    if item.innocent:
        wanted = {number: word for word, number in TRANSPORTS.items()}
        return [
            Truth(at, int(flow["first_record"]) + 1, wanted[int(flow["proto"])],
                  "none", "other", None, "high")
            for at, flow in enumerate(flows)
            if int(flow["proto"]) in wanted
        ]  # fmt: skip
    number = held.facts["flow"]
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


def met(held: Survey, after: Disturbed, numbers: Numbers) -> dict[int, list[int]]:
    """Return flow of the survey -> flows of the engine in which its packets went."""
    pairs = np.stack((held.facts["flow"][after.origin], numbers), 1)
    found: dict[int, list[int]] = {}
    for flow, number in np.unique(pairs[(pairs >= 0).all(axis=1)], axis=0).tolist():
        found.setdefault(flow, []).append(number)
    return found


def column_rows(
    item: Item, held: Survey, known: Sequence[Truth], column: Column, after: Disturbed
) -> list[Row]:
    """Return the rows of one capture under one column, with the claims of simple rules."""
    switches = dict(column.engine)
    if column.name == ELSEWHERE:
        switches["claims"] = without(repository(item.capture))
    said, numbers = offline.classify_packets(after.packets, item.capture.name, switches)
    streams = baselines.rtp_flows(after.packets, numbers, len(said))
    places = met(held, after, numbers)
    why = unscored(column, held, after)
    seen, sizes = Payloads(held, after), flow_octets(held, after)
    rows = []
    for truth in known:
        flows = places.get(truth.flow, [])
        row = flow_row(item, truth, [said[at] for at in flows], why.get(truth.flow, ""))
        row["strict_rtp"] = any(bool(streams[at]) for at in flows)
        if column.packets:
            row["features"] = trees.features(*seen.first(truth.flow))
        row["octets"] = int(sizes[truth.flow]) if truth.flow >= 0 else 0
        row["claims"] = {name: rule(row) for name, rule in baselines.RULES.items()}
        if row["outcome"] in ("unsure", "missed", "other_call") and not row["synthetic"]:
            row["left"], row["bare"] = content_free.left(after.packets, seen.of(truth.flow))
        rows.append(row)
    return rows


def flow_octets(held: Survey, after: Disturbed) -> NDArray[Any]:
    """Return the bytes on the wire of each flow of the survey, as they are disturbed."""
    flow = held.facts["flow"][after.origin]
    known = flow >= 0
    size: NDArray[Any] = np.bincount(
        flow[known], weights=after.packets.wire[known], minlength=len(held.flows)
    )
    return size


class Payloads:
    """The payload packets of each flow of the survey, as they are disturbed."""

    def __init__(self, held: Survey, after: Disturbed) -> None:
        self.packets, self.facts = after.packets, held.facts[after.origin]
        full = np.flatnonzero((self.facts["size"] > 0) & (self.facts["flow"] >= 0))
        self.order = full[np.argsort(self.facts["flow"][full], kind="stable")]
        self.flow = self.facts["flow"][self.order]

    def of(self, number: int) -> Numbers:
        """Return the positions of a flow's payload packets."""
        first, last = np.searchsorted(self.flow, (number, number + 1))
        return self.order[first:last]

    def first(self, number: int) -> tuple[Numbers, Numbers, Numbers]:
        """Return sizes, times and directions of as many packets as the small tree sees."""
        which = self.of(number)[: trees.PACKETS]
        return self.facts["size"][which], self.packets.time[which], self.facts["up"][which]


def flow_row(item: Item, truth: Truth, said: Sequence[Row], why: str) -> Row:
    """Return one flow's truth beside the strongest record that the engine has of it."""
    capture = item.capture
    none = dict.fromkeys(("src_ip", "src_port", "dst_ip", "dst_port", "confidence"))
    waits = dict.fromkeys(("packets_to_verdict", "ms_to_verdict"))
    blank: Row = {**offline.SILENT, **none, **waits, "evidence": "no flow in the engine's table"}
    best = max(said, key=metrics.rank) if said else blank
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


def key_of(row: Row, proto: str) -> Key | None:
    """Return the key under which a peer knows the flow; None where the engine has no flow."""
    if row["src_ip"] is None:
        return None
    source, target = row["src_ip"], row["dst_ip"]
    return ends.key(TRANSPORTS[proto], source, row["src_port"], target, row["dst_port"])


def open_rows(
    item: Item, held: Survey, known: Sequence[Truth], after: Disturbed
) -> Iterator[tuple[str, list[Row]]]:
    """Yield each app of the capture with its flows as an engine without that app sees them."""
    families = {metrics.family(truth.app) for truth in known if truth.role in metrics.SCORED_ROLES}
    for app in sorted(families - {metrics.NO_APP, "none"}):
        switches = {"without": APPS.index(app)}
        said, numbers = offline.classify_packets(after.packets, item.capture.name, switches)
        places = met(held, after, numbers)
        yield (
            app,
            [
                flow_row(item, truth, [said[at] for at in places.get(truth.flow, [])], "")
                for truth in known
                if metrics.family(truth.app) == app
            ],
        )
