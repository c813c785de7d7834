# SPDX-License-Identifier: BSD-3-Clause
"""Explanation of a verdict: one flow, packet by packet, through the same compiled path.

The path is run one packet at a time for that flow, and the flow's record is compared before and
after each packet; so the explanation shows the decisions of `midcall classify` itself.
"""

from __future__ import annotations

import copy
import ipaddress
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.reads import u32
from midcall.captures.packets.flow_names import FILTER_FORM, FlowName, chosen, display_filter, parse
from midcall.captures.packets.headers import End
from midcall.captures.packets.pcap import CaptureFile, Packets
from midcall.captures.packets.standard_input import held
from midcall.captures.packets.streams import PROTOCOLS as STREAMED
from midcall.captures.packets.streams import Counter as StreamCounter
from midcall.captures.packets.streams import frames_of_stream
from midcall.classifier.apps.webrtc import MEDIA_OF_CALL
from midcall.classifier.engine import Engine
from midcall.classifier.explain.dissect import Packet, layers, walk
from midcall.classifier.explain.highlights import Counted, Mark, marks
from midcall.classifier.export import columns
from midcall.classifier.protocols.rtp import clock_rate
from midcall.classifier.state.evidence import sentence
from midcall.classifier.state.evidence_support import in_words
from midcall.classifier.state.flow_table import METER_FREE, SETTLED
from midcall.classifier.state.packet_fields import (
    SIGN_PAYLOAD_AT,
    SIGN_PAYLOAD_SIZE,
    SIGN_RTP_AT,
    SIGN_UP,
)
from midcall.classifier.state.verdicts import APPS, NOT_CALL, ROLES, VERDICTS
from midcall.errors import ExperimentError
from midcall.experiments.cells.classify import notices_of, rows
from midcall.experiments.measure.redact import masked
from midcall.experiments.tools.hexdump_view import text
from midcall.experiments.tools.packet_text import Stream, reading, streams_of

SCHEMA = 1
#: Number of first packets of a flow that are shown even if nothing changed at them.
SHOWN = 8
#: The forms in which a flow is given.
FORM = f"a number of the list or 'udp 192.0.2.1:5000-198.51.100.2:3478' or {FILTER_FORM}"

#: Packets at most in which streams are counted for the list of flows: Python takes 20 us for each.
COUNTED = 200_000

Document = dict[str, Any]


class Survey(NamedTuple):
    """The result of `midcall classify` for a capture: its flows, and every packet's flow record."""

    file: str  # its name in messages
    path: str
    flows: Any  # FLOW[n]
    rows: list[dict[str, Any]]  # of classify
    numbers: NDArray[np.int64]  # of the engine, per packet
    notices: list[str]


class State(NamedTuple):
    """The verdict in a flow record."""

    verdict: str
    app: str
    role: str
    confidence: float


class Ended(NamedTuple):
    """A flow by its transport and both ends, packed."""

    proto: str
    source: End
    target: End


def survey(path: str, name: str | None = None) -> Survey:
    """Classify a whole capture. Raises CaptureError, ClassifierError or ExperimentError.

    name: that of the file in messages.
    """
    capture, engine = CaptureFile(path, name=name), Engine()
    name = capture.path
    numbers: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    for packets in capture.batches():
        numbers.append(engine.feed(packets))
    notices = notices_of(capture, engine)
    flows = engine.flows()
    if not len(flows):
        raise ExperimentError(f"{name}: holds no flows, there is nothing to explain")
    flow_rows = rows(columns(flows, name)).to_pylist()
    return Survey(name, path, flows, flow_rows, np.concatenate(numbers), notices)


# ---- which flow


def ends(row: dict[str, Any], reveal: bool) -> str:
    """Return a flow's 5-tuple in the form of --flow, masked unless `reveal`."""
    sides = []
    for side in ("src", "dst"):
        address = row[f"{side}_ip"] if reveal else masked(row[f"{side}_ip"])
        sides.append(
            f"[{address}]:{row[f'{side}_port']}"
            if ":" in address
            else f"{address}:{row[f'{side}_port']}"
        )
    return f"{row['proto']} {sides[0]}-{sides[1]}"


def choose(classified: Survey, wanted: str | None, reveal: bool) -> int:
    """Return the index of the flow that a text names; without a text the first flow of a call.

    Raises ExperimentError, with the closest flow, if none matches.
    """
    if wanted is None:
        for verdict in ("certain", "unsure"):
            for at, row in enumerate(classified.rows):
                if row["verdict"] == verdict:
                    return at
        return 0
    wanted = wanted.strip()
    try:
        name = parse(wanted, FORM)
        if name.number is None:
            return named(classified, wanted, name, reveal)
    except ValueError as error:
        raise ExperimentError(f"{classified.file}: flow {wanted!r}: {error}") from error
    if 1 <= name.number <= len(classified.rows):
        return name.number - 1
    raise ExperimentError(
        f"{classified.file}: no flow {wanted}, the capture has flows 1 to {len(classified.rows)}"
    )


def named(classified: Survey, wanted: str, name: FlowName, reveal: bool) -> int:
    """Return the index of the flow that a name without a number means, in either direction.

    Raises ExperimentError where it means none or several, and ValueError.
    """
    flow_of_packet = flows_of_packets(classified)

    def flow_of_frame(frame: int) -> int:
        return int(flow_of_packet[frame - 1]) if 1 <= frame <= len(flow_of_packet) else -1

    def frames(proto: str, number: int) -> list[int]:
        return frames_of_stream(CaptureFile(classified.path).batches(), proto, number)

    found = chosen(name, [packed(row) for row in classified.rows], flow_of_frame, frames)
    if len(found) == 1 or (found and name.both is not None):
        return found[0]
    if found:
        listed = ", ".join(str(at + 1) for at in found[:8]) + (" ..." if len(found) > 8 else "")
        raise ExperimentError(
            f"{classified.file}: flow {wanted!r}: names {len(found)} flows ({listed}), "
            "expected one; give its number, or more ports and addresses"
        )
    if name.both is None:
        raise ExperimentError(
            f"{classified.file}: no flow {wanted!r}; without --flow the list of flows is printed, "
            "with a display filter for each"
        )
    proto = name.protocols[0]
    sought = {(str(ipaddress.ip_address(end)), port) for end, port in name.both}
    best, most = 0, -1
    for at, row in enumerate(classified.rows):
        both = {(row["src_ip"], row["src_port"]), (row["dst_ip"], row["dst_port"])}
        alike = 2 * len(both & sought) + (row["proto"] == proto)
        alike += len({part for end in both for part in end} & {p for end in sought for p in end})
        if alike > most:
            best, most = at, alike
    close = f"did you mean --flow {best + 1} ({ends(classified.rows[best], reveal)})?"
    raise ExperimentError(f"{classified.file}: no flow {wanted!r}, {close}")


def packed(row: dict[str, Any]) -> Ended:
    """Return the ends of a row of `classify`."""
    source, target = (
        (ipaddress.ip_address(row[f"{side}_ip"]).packed, row[f"{side}_port"])
        for side in ("src", "dst")
    )
    return Ended(row["proto"], source, target)


def flows_of_packets(classified: Survey) -> NDArray[np.int64]:
    """Return int64[n], the index of each packet's flow, -1 for none.

    The engine's numbers of evicted records are used again, so a packet belongs to the last flow of
    its number that had begun.
    """
    numbers, first = classified.numbers, classified.flows["first_record"].astype(np.int64)
    begins = numbers[first] * len(numbers) + first
    order = np.argsort(begins)
    keys = numbers * len(numbers) + np.arange(len(numbers))
    which = order[np.maximum(np.searchsorted(begins[order], keys, side="right") - 1, 0)]
    return np.where(numbers >= 0, which, -1).astype(np.int64)


def prefix_of(address: str, reveal: bool) -> str:
    """Return an address for a display filter: masked, the prefix that `masked` leaves."""
    parsed = ipaddress.ip_address(address)
    if reveal:
        return str(parsed)
    mapped = parsed.version == 6 and parsed.ipv4_mapped is not None
    size = 16 if parsed.version == 4 else 112 if mapped else 32
    return str(ipaddress.ip_network((parsed, size), strict=False))


def filters(classified: Survey, reveal: bool) -> list[str]:
    """Return a display filter of Wireshark for each flow.

    Without `reveal` it has the prefixes that `masked` leaves; where other flows have the same ones,
    also the number of the stream (or, beyond COUNTED packets, the first frame).
    """
    found, first = [], classified.flows["first_record"].astype(np.int64)
    for row in classified.rows:
        source, target = ((prefix_of(row[f"{side}_ip"], reveal), row[f"{side}_port"])
                          for side in ("src", "dst"))  # fmt: skip
        found.append(display_filter(row["proto"], source, target))
    keys = [" ".join(sorted(text.split(" && "))) for text in found]
    counts = Counter(keys)
    alike = [at for at, key in enumerate(keys) if counts[key] > 1]
    streams = streams_at(classified, [int(first[at]) for at in alike])
    for at in alike:
        proto = classified.rows[at]["proto"]
        number = streams.get(int(first[at]), {}).get(proto)
        found[at] += (
            f" && frame.number=={int(first[at]) + 1}"
            if number is None
            else f" && {proto}.stream=={number}"
        )
    return found


def streams_at(classified: Survey, records: Sequence[int]) -> dict[int, dict[str, int]]:
    """Return the streams of some packets by transport: those of their innermost layer."""
    wanted, found = {record for record in records if record < COUNTED}, {}
    if not wanted:
        return {}
    counters = {name: StreamCounter(number) for name, number in STREAMED.items()}
    last, record = max(wanted), 0
    for batch in CaptureFile(classified.path).batches():
        for i in range(batch.total):
            frame, link = batch.frame(i), int(batch.link[i])
            numbers = {name: one.numbers(frame, link) for name, one in counters.items()}
            if record in wanted:
                found[record] = {name: each[-1] for name, each in numbers.items() if each}
            if record == last:
                return found
            record += 1
    return found


def packets_of_flow(classified: Survey, position: int) -> NDArray[np.int64]:
    """Return the record numbers of a flow's packets, int64[n] (numbers of evicted records are
    reused)."""
    first = int(classified.flows["first_record"][position])
    number = classified.numbers[first]
    later = [
        int(start)
        for start in classified.flows["first_record"]
        if start > first and classified.numbers[start] == number
    ]
    which = np.flatnonzero(classified.numbers == number)
    stop = min(later, default=len(classified.numbers))
    return which[(which >= first) & (which < stop)]


# ---- packet by packet


class Moment(NamedTuple):
    """One packet of the flow, with its flow record before and after, and the state of RTP
    sources."""

    record: int
    packets: Packets  # of one packet
    before: Any | None  # FLOW, None at the first packet
    after: Any
    evidence: tuple[int, int] | None  # evidence (low 16 bits) and its argument
    signs: NDArray[np.int64]
    streams: dict[int, Stream]


def drive(classified: Survey, position: int) -> Iterator[Moment]:
    """Step through a capture and yield every packet of a flow."""
    engine, base, at = Engine(), 0, 0
    which = packets_of_flow(classified, position)
    tape = Tape(engine, int(classified.numbers[which[0]]))
    wanted = iter([*map(int, which), -1])
    record = next(wanted)
    for batch in CaptureFile(classified.path).batches():
        while 0 <= record < base + batch.total:
            engine.feed(batch.take(slice(at - base, record - base)))
            at = record + 1
            yield tape.step(record, alone(batch, record - base))
            record = next(wanted)
        if record < 0:
            return
        engine.feed(batch.take(slice(at - base, batch.total)))
        base = at = base + batch.total


def alone(batch: Packets, i: int) -> Packets:
    """Return one packet with its own buffer, so that offsets count from its frame's start."""
    one = batch.take(slice(i, i + 1))
    frame = np.frombuffer(batch.frame(i), np.uint8).copy()
    return one._replace(data=frame, offset=np.zeros(1, np.int64))


class Tape:
    """Feeds the packets of one flow, one by one, and keeps track of its note."""

    def __init__(self, engine: Engine, number: int) -> None:
        self.engine, self.number = engine, number
        self.started = False
        self.note = -1

    def step(self, record: int, packets: Packets) -> Moment:
        """Feed one packet; returns the flow's record before and after it."""
        engine = self.engine
        engine.reserve(1)
        before = self.record() if self.started else None
        if before is not None and before["note"]:
            self.note = int(before["note"]) - 1
        note = engine.tables.notes[self.note].copy() if self.note >= 0 else None
        engine.signs[SIGN_RTP_AT] = 0
        engine.feed(packets)
        self.started = True
        after, streams = self.record(), {}
        if after["note"]:
            self.note = int(after["note"]) - 1
        if self.note >= 0 and engine.signs[SIGN_RTP_AT]:
            flow_note = engine.tables.notes[self.note]
            streams = streams_of(flow_note, int(packets.time[0]), clock_rate)
        evidence = evidence_of(before, after)
        if before is not None and not evidence and before["role"] != after["role"]:
            evidence = grown(engine, before, after, note, packets)
        return Moment(record, packets, before, after, evidence, engine.signs.copy(), streams)

    def record(self) -> Any:
        """Return a copy of the flow's record."""
        return self.engine.tables.flows[self.number].copy()


def evidence_of(before: Any | None, after: Any) -> tuple[int, int] | None:
    """Return the evidence (low 16 bits, argument) that a packet added to a record, None for
    none."""
    keys = ("evidence", "argument", "verdict", "app", "verdict_packets", "verdict_time")
    same = before is not None and all(before[key] == after[key] for key in keys)
    if same or not after["evidence"]:
        return None
    return int(after["evidence"]), int(after["argument"])


def grown(engine: Engine, before: Any, after: Any, note: Any, packets: Packets) -> tuple[int, int]:
    """Return the evidence that changed a call's role, which a record does not store.

    The packet is judged again, in a copy of the engine, for the same flow without its verdict: an
    evidence of the app itself then appears; if none does, the packet was media in a flow that
    set-up had named.
    """
    if not before["note"]:
        return int(after["app"]) << 8 | MEDIA_OF_CALL, 0
    engine_copy = copy.deepcopy(engine)
    number, tables = int(note["flow"]), engine_copy.tables
    if not after["note"]:  # the packet released the note; allocate it again
        tables.meter[METER_FREE] -= 1
    tables.notes[int(before["note"]) - 1] = note
    tables.flows[number] = before
    tables.flows[number]["verdict"], tables.flows[number]["evidence"] = NOT_CALL, 0
    engine_copy.feed(packets)
    record = engine_copy.tables.flows[number]
    if record["app"] == after["app"] and record["role"] == after["role"] and record["evidence"]:
        return int(record["evidence"]), int(record["argument"])
    return int(after["app"]) << 8 | MEDIA_OF_CALL, 0


# ---- the document


def explain(
    path: str, wanted: str | None = None, shown: int = SHOWN, reveal: bool = False
) -> tuple[Document, list[str]]:
    """Return the explanation of one flow as a JSON document (SCHEMA), and notices on the file.

    wanted: see FORM; shown: number of first packets of the flow that are included even if nothing
    changed at them. Raises CaptureError, ClassifierError, or ExperimentError for an unknown flow.
    """
    with held(path) as capture:
        return explain_file(survey(str(capture.path), capture.shown), wanted, shown, reveal)


def explain_file(
    classified: Survey, wanted: str | None, shown: int, reveal: bool
) -> tuple[Document, list[str]]:
    """Return the explanation of one flow of a classified capture, see `explain`."""
    position = choose(classified, wanted, reveal)
    packets: list[Document] = []
    settled, last = None, state_of(None)
    for total, moment in enumerate(drive(classified, position), 1):
        packet = packet_document(moment, total, reveal)
        if total <= shown or packet["changed"]:
            packets.append(packet)
        if packet["settles"]:
            settled = packet["frame"]
        last = state_of(moment.after)
        if moment.after["state"] & SETTLED and total >= shown:
            break
    shown_filters = filters(classified, reveal)
    document = {
        "schema": SCHEMA,
        "file": classified.file,
        "masked": not reveal,
        "packets": len(classified.numbers),
        "flows": [
            flow_document(classified, at, reveal) | {"filter": shown_filters[at]}
            for at in range(len(classified.rows))
        ],
        "flow": position + 1,
        "shown": packets,
        "settled_frame": settled,
        "decided_at_end": last.verdict == VERDICTS[0],
    }
    return document, classified.notices


def flow_document(classified: Survey, at: int, reveal: bool) -> Document:
    """Return the result of `midcall classify` for a flow."""
    row = classified.rows[at]
    keys = ("packets", "bytes", "verdict", "app", "role", "confidence", "evidence")
    return {
        "number": at + 1,
        "frame": int(classified.flows["first_record"][at]) + 1,
        "flow": ends(row, reveal),
        **{key: row[key] for key in keys},
        "packets_to_verdict": row["packets_to_verdict"],
    }


def state_of(record: Any | None) -> State:
    """Return the verdict in a record, "undecided" for a flow without a record."""
    if record is None:
        return State(VERDICTS[0], APPS[0], ROLES[0], 0.0)
    return State(
        VERDICTS[int(record["verdict"])],
        APPS[int(record["app"])],
        ROLES[int(record["role"])],
        int(record["confidence"]) / 100,
    )


def packet_document(moment: Moment, number: int, reveal: bool) -> Document:
    """Return what one packet contains and what it changed."""
    signs, one = moment.signs, moment.packets
    before, after = state_of(moment.before), state_of(moment.after)
    closed = moment.before is not None and bool(moment.before["state"] & SETTLED)
    packet = Packet(one.data, signs, ()) if closed else walk(one.data, signs)
    marked: list[Mark] | Counted = marks(packet, moment.evidence[0]) if moment.evidence else []
    decisive = marked if isinstance(marked, list) else []
    return {
        "number": number,
        "frame": moment.record + 1,
        "ms": round((int(one.time[0]) - int(moment.after["first_time"])) / 1e6, 3),
        "direction": "up" if signs[SIGN_UP] else "down",
        "captured": int(one.captured[0]),
        "payload": int(signs[SIGN_PAYLOAD_SIZE]),
        "payload_at": int(signs[SIGN_PAYLOAD_AT]),
        "layers": layers(one.data, int(one.link[0]), signs),
        "read": reading(packet, stream_of(packet, moment.streams, reveal), reveal),
        "inspected": not closed,
        "rule": sentence(*moment.evidence, 0) if moment.evidence else None,
        "support": in_words(moment.evidence[0]) if moment.evidence else None,
        "counted": marked.what if isinstance(marked, Counted) else None,
        "before": before._asdict(),
        "after": after._asdict(),
        "changed": before != after or moment.evidence is not None,
        "settles": not closed and bool(moment.after["state"] & SETTLED),
        "marks": [mark._asdict() for mark in decisive],
        "hex": " ".join(text(packet, decisive, reveal)),
    }


def stream_of(packet: Packet, streams: dict[int, Stream], reveal: bool) -> Stream | None:
    """Return the state of the source of a packet's RTP header."""
    for piece in packet.of("rtp")[-1:]:
        source = int(u32(packet.octets, piece.at + 8))
        stream = streams.get(source)
        if stream is not None and reveal:
            return stream._replace(source=f"0x{source:08X}")
        return stream
    return None
