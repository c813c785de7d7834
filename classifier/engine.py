# SPDX-License-Identifier: BSD-3-Clause
"""The engine: turns packets into flows with verdicts, by one compiled function per packet.

`step` is the packet path, used offline, in virtual time and live. `Engine` owns the arrays of the
path, grows them between batches, and returns the flow table.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.kernel import I, bound, inlined, kernel
from midcall.captures.jit.reads import Octets
from midcall.captures.packets.pcap import Packets
from midcall.classifier.path.decode import DECODED, FRAGMENTS, decode
from midcall.classifier.path.dispatch import inspect
from midcall.classifier.path.give_up import finish, settle
from midcall.classifier.state.endpoint_table import CONTEXT, LEARN_ALL
from midcall.classifier.state.evidence_support import shipped as shipped_claims
from midcall.classifier.state.flow_scratch import NOTE, give_back
from midcall.classifier.state.flow_table import (
    CLAIMS,
    HALF,
    HALF_BITS,
    LOG,
    METER_EVICTED,
    METER_EVICTED_NOTE,
    METER_EVICTED_WAITING,
    METER_EXCLUDED,
    METER_FLOWS,
    METER_FREE,
    METER_KEY,
    METER_LEARN,
    METER_LOG_SIZE,
    METER_LOGGED,
    METER_NO_PAYLOAD,
    METER_NOT_IP,
    METER_NOTES,
    METER_PACKETS,
    METERS,
    RETIRED,
    SETTLED,
    WITHOUT,
    Numbers,
    Records,
    copy_records,
    find,
    join_records,
    locate,
    no_flows,
    reindex,
    retire,
)
from midcall.classifier.state.hello_buffers import HELLOS, ROW
from midcall.classifier.state.packet_fields import (
    SIGN_HELLO_PRINT,
    SIGN_IP_SIZE,
    SIGN_NAME_AT,
    SIGN_NAME_KIND,
    SIGN_NAME_LENGTH,
    SIGN_NAMELESS,
    SIGN_PAYLOAD_SIZE,
    SIGN_STUN,
    SIGN_UP,
    SIGNS,
)
from midcall.classifier.state.verdicts import SKYPE, TEAMS
from midcall.classifier.statistical.inference import check, none, shipped

#: The secret from which this process derives the keys of its flow tables.
SECRET = secrets.token_bytes(16)
#: Records that `Engine.ended` removes at once.
SPILL = 1 << 12
#: Records an engine starts with; it doubles them as needed, up to its bound.
START = 1 << 15


class Tables(NamedTuple):
    """The arrays of the packet path, which `step` takes together."""

    flows: Records  # FLOW[capacity]
    slots: Numbers  # int64[2 * capacity, a power of two]
    notes: Records  # NOTE[...], inspection state of undecided flows
    context: Records  # CONTEXT[...], endpoints learned from set-up
    hellos: Octets  # uint8[HELLOS, ROW], hellos under reassembly
    fragments: Numbers  # int64[FRAGMENTS, 2]
    spill: Records  # FLOW[...], evicted flows of the current batch
    meter: Numbers  # int64[METERS], counters
    model: Records  # NODE[...], the early model and its scratch; empty: none


@inlined
def step(
    tables: Tables,
    data: Octets,
    at: int,
    end: int,
    wire: int,
    time: int,
    link: int,
    record: int,
    signs: Numbers,
) -> int:
    """Process the frame data[at:end]; returns its flow's number, -1 for none.

    `wire` is the frame's length on the wire, `time` its time in ns, `link` its LINKTYPE, `record`
    its 0-based number in the capture. Fills `signs`, updates the flow's record and its verdict.
    """
    if not read(tables.fragments, tables.meter, data, at, end, wire, link, signs):
        return -1
    return take(tables, data, time, record, signs)


@inlined
def step_packet(tables: Tables, packets: Packets, i: int, record: int, signs: Numbers) -> int:
    """Process packet i of a batch, as `step` does."""
    return step(
        tables,
        packets.data,
        packets.offset[i],
        packets.offset[i] + packets.captured[i],
        packets.wire[i],
        packets.time[i],
        packets.link[i],
        record,
        signs,
    )


@inlined
def read(
    fragments: Numbers,
    meter: Numbers,
    data: Octets,
    at: int,
    end: int,
    wire: int,
    link: int,
    signs: Numbers,
) -> bool:
    """Decode the frame and hash its flow: the first half of `step`, which needs no flow table."""
    meter[METER_PACKETS] += 1
    outcome = decode(data, at, end, wire, link, signs, fragments)
    if outcome != DECODED:
        meter[METER_NOT_IP + outcome - 1] += 1
        return False
    locate(data, signs, meter[METER_KEY])
    return True


@inlined
def take(tables: Tables, data: Octets, time: int, record: int, signs: Numbers) -> int:
    """Count a decoded packet in its flow's record, and inspect it unless the flow is settled.

    The second half of `step`; returns the flow's number.
    """
    flows, index, notes, context, hellos, _, spill, meter, model = tables
    number = find(flows, index, spill, meter, signs, time, record)
    if meter[METER_EVICTED_NOTE]:
        close_evicted(notes, spill, meter, model)
    flow = flows[number]
    size = signs[SIGN_IP_SIZE]
    if signs[SIGN_UP]:
        flow["packets_up"] += 1
        flow["bytes_up"] += size
    else:
        flow["packets_down"] += 1
        flow["bytes_down"] += size
    if time > flow["last_time"]:
        flow["last_time"] = time
    signs[SIGN_NAME_AT] = signs[SIGN_NAME_LENGTH] = signs[SIGN_NAME_KIND] = 0
    signs[SIGN_STUN] = signs[SIGN_HELLO_PRINT] = 0
    if signs[SIGN_PAYLOAD_SIZE] > 0:
        flow["payload_packets"] += 1
        if not flow["state"] & SETTLED:
            inspect(flows, number, notes, context, hellos, meter, model, data, time, signs)
    return number


@kernel
def close_evicted(notes: Records, spill: Records, meter: Numbers, model: Records) -> None:
    """Give the flow that was just evicted its verdict, and return its note to the pool."""
    note_number = meter[METER_EVICTED_NOTE] - 1
    row = spill[meter[METER_EVICTED_WAITING] - 1]
    finish(row, notes[note_number], meter, model)
    row["note"] = 0
    give_back(notes, meter, note_number)
    meter[METER_EVICTED_NOTE] = 0


@kernel
def retire_before(
    flows: Records,
    index: Numbers,
    notes: Records,
    spill: Records,
    meter: Numbers,
    model: Records,
    before: int,
) -> int:
    """Retire flows whose last packet came before a time (ns) while `spill` has room.

    Returns the time of the oldest last packet of the flows that remain.
    """
    oldest = I(1 << 62)
    for number in range(meter[METER_FLOWS]):
        flow = flows[number]
        if flow["version"] == RETIRED:
            continue
        if flow["last_time"] < before and meter[METER_EVICTED_WAITING] < len(spill):
            retire(flows, index, spill, meter, number)
            if meter[METER_EVICTED_NOTE]:
                close_evicted(notes, spill, meter, model)
        elif flow["last_time"] < oldest:
            oldest = I(flow["last_time"])
    return oldest


@kernel
def roomy(flows: Records, notes: Records, meter: Numbers, packets: int) -> bool:
    """Return whether the tables have room for a batch of `packets` packets (`Engine.reserve`)."""
    spare = len(notes) - meter[METER_NOTES] + meter[METER_FREE]
    return bool(meter[METER_FLOWS] + packets <= len(flows) and packets <= spare)


@kernel
def pump(tables: Tables, packets: Packets, first: int, signs: Numbers, numbers: Numbers) -> None:
    """Process a batch of packets; numbers[i] becomes packet i's flow number, -1 for none."""
    for i in range(len(packets.offset)):
        numbers[i] = step_packet(tables, packets, i, first + i, signs)


@kernel
def settle_all(flows: Records, count: int, notes: Records, meter: Numbers, model: Records) -> None:
    """Give every undecided flow the verdict that its packets so far allow."""
    for number in range(count):
        if flows[number]["verdict"] == 0:
            settle(flows[number], notes, meter, model)


def own_copy(model: Records | str | None) -> Records:
    """Return an engine's own copy of a model, because the path writes columns into it."""
    if model is None:
        return none()
    return (shipped() if isinstance(model, str) else check(model)).copy()


def hash_key(seed: int | None) -> int:
    """Return the key of a flow table's hash, two secrets of 30 bits each, neither of them 0."""
    digest = SECRET if seed is None else hashlib.sha256(b"flow hash %d" % seed).digest()
    low, high = (int.from_bytes(half, "big") % HALF + 1 for half in (digest[:8], digest[8:16]))
    return high << HALF_BITS | low


def power_of_two(n: int) -> int:
    """Return the smallest power of two that is at least n."""
    return 1 << max(n - 1, 1).bit_length()


class Engine:
    """A classifier with its state.

    max_flows: bound on concurrent flows; beyond it the least recently seen are evicted and counted.
    learn: bits of midcall.classifier.state.endpoint_table, the sources that may identify later
    flows.
    seed: of the hash key; None: a secret random key. No result depends on it.
    names: False for an engine that ignores host names (SNI, DNS, HTTP Host).
    without: number of an app whose evidence is excluded (0: none).
    model: NODE[...] of classifier.statistical.inference for flows without any sign; "shipped": the
    committed model; None: no model.
    fingerprints: False: no payload is read, the model decides alone.
    claims: int64[2 * CLAIM_KEYS], the claim of each evidence (classifier.state.evidence_support);
    None: those of the committed table; zeros: each gives the strongest verdict of its rule.
    listen: capacity of the evidence log that `spoken` returns; 0: no log.
    """

    def __init__(
        self,
        *,
        max_flows: int = 1 << 22,
        learn: int = LEARN_ALL,
        seed: int | None = None,
        room: int = START,
        names: bool = True,
        without: int = 0,
        model: Records | str | None = "shipped",
        fingerprints: bool = True,
        claims: Numbers | None = None,
        listen: int = 0,
    ) -> None:
        self.max_flows = max(max_flows, 64)
        room = min(max(room, 64), self.max_flows)
        self.signs = np.zeros(SIGNS, np.int64)
        self.signs[SIGN_NAMELESS] = not names
        self.evicted: list[Records] = []
        self.retired = False
        self.oldest = 0
        self.records = 0
        meter = np.zeros(METERS + 2 * listen, np.int64)
        meter[CLAIMS:LOG] = shipped_claims() if claims is None else claims
        meter[METER_LOG_SIZE] = listen
        meter[METER_KEY] = hash_key(seed)
        meter[METER_LEARN] = learn
        meter[METER_EXCLUDED] = (SKYPE if without == TEAMS else without) << WITHOUT
        meter[METER_NO_PAYLOAD] = 0 if fingerprints else 1
        self.tables = Tables(
            no_flows(room),
            np.zeros(2 * power_of_two(room), np.int64),
            np.zeros(1024, NOTE),
            np.zeros(1 << 14, CONTEXT),
            np.zeros((HELLOS, ROW), np.uint8),
            np.zeros((FRAGMENTS, 2), np.int64),
            no_flows(0),
            meter,
            own_copy(model),
        )

    def spoken(self) -> Numbers:
        """Return int64[n, 2]: packed evidences in order of packets, and their flows' first records.

        Empty unless the engine was made with `listen`. Evidences beyond that capacity are left out.
        """
        meter = self.tables.meter
        return meter[LOG : LOG + 2 * int(meter[METER_LOGGED])].reshape(-1, 2).copy()

    def reserve(self, packets: int) -> None:
        """Grow the tables for a batch of `packets` packets, within the bound."""
        self.reserve_flows(int(self.tables.meter[METER_FLOWS]), packets)
        self.reserve_notes(packets)

    def reserve_flows(self, used: int, packets: int) -> None:
        """Grow the flow table for one more flow per packet, in addition to the `used` ones."""
        tables = self.tables
        want = min(used + packets, self.max_flows)
        if want > len(tables.flows):
            index = tables.slots
            flows = no_flows(min(max(want, 2 * len(tables.flows)), self.max_flows))
            copy_records(tables.flows[:used], flows)
            if 2 * len(flows) > len(index):
                index = np.zeros(2 * power_of_two(len(flows)), np.int64)
                reindex(tables.slots, index)
            self.tables = tables._replace(flows=flows, slots=index)
        if used + packets > self.max_flows and len(tables.spill) < packets:
            self.tables = self.tables._replace(spill=no_flows(packets))

    def reserve_notes(self, packets: int) -> None:
        """Grow the pool of notes for one more note per packet."""
        notes, meter = self.tables.notes, self.tables.meter
        spare = len(notes) - int(meter[METER_NOTES]) + int(meter[METER_FREE])
        room = min(len(notes) + max(packets, len(notes)), self.max_flows, 1 << 18)
        if spare < packets and room > len(notes):
            larger = np.zeros(room, NOTE)
            copy_records(notes, larger)
            self.tables = self.tables._replace(notes=larger)

    def feed(self, packets: Packets) -> NDArray[np.int64]:
        """Classify packets in order; returns int64[n], each one's flow number (-1: no flow)."""
        numbers = np.empty(packets.total, np.int64)
        self.reserve(packets.total)
        self.advance(partial(pump, self.tables, packets), numbers)
        return numbers

    def advance(self, pump_packets: Callable[..., None], numbers: NDArray[np.int64]) -> None:
        """Classify as many packets as `numbers` has places, and write their flows' numbers there.

        pump_packets: `pump` with the tables and the packets.
        """
        pump_packets(self.records, self.signs, numbers)
        self.records += len(numbers)
        self.drain()

    def one_by_one(self, slot: Packets) -> Callable[[], int]:
        """Return a function that classifies the packet that is in a slot and returns its flow's
        number (-1: no flow): `feed` for one packet at a time, without its cost per call.

        slot: room for one packet; what is in its arrays changes between calls.
        """
        numbers, tables = np.empty(1, np.int64), self.tables
        pump_packet = bound(pump, tables, slot)

        def feed_one() -> int:
            nonlocal tables, pump_packet
            self.reserve(1)
            if tables is not self.tables:  # they have grown
                tables = self.tables
                pump_packet = bound(pump, tables, slot)
            self.advance(pump_packet, numbers)
            return int(numbers[0])

        return feed_one

    def drain(self) -> None:
        """Move the records of evicted flows to a list, so that `flows` stays complete."""
        meter = self.tables.meter
        waiting = int(meter[METER_EVICTED_WAITING])
        if waiting:
            self.evicted.append(join_records([self.tables.spill[:waiting]]))
            meter[METER_EVICTED_WAITING] = 0

    def ended(self, now: int, idle: int) -> Records:
        """Remove flows without a packet for `idle` ns; return FLOW[n] of them, with verdicts.

        now: the time in ns, not before that of any packet so far. They are in order of their first
        packets. A later packet of such a flow begins a new one.
        """
        before = now - idle
        self.retired = True
        while self.oldest < before:
            if not len(self.tables.spill):
                self.tables = self.tables._replace(spill=no_flows(SPILL))
            flows, index, notes, _, _, _, spill, meter, model = self.tables
            oldest = retire_before(flows, index, notes, spill, meter, model, before)
            self.oldest = min(oldest, now)
            self.drain()
        parts, self.evicted = self.evicted, []
        table = join_records([no_flows(0), *parts])
        settle_all(table, len(table), self.tables.notes, self.tables.meter, self.tables.model)
        return table[np.argsort(table["first_record"], kind="stable")]

    def flows(self) -> Records:
        """Return FLOW[n] of every flow seen, in order of first packet, each with a verdict.

        This is a copy: undecided flows get a verdict by their packets so far in it, but the engine
        continues to inspect them.
        """
        tables = self.tables
        used = int(tables.meter[METER_FLOWS])
        parts = [*self.evicted, tables.flows[:used]]
        table = join_records(parts)
        if self.retired:
            table = table[table["version"] != RETIRED]
        settle_all(table, len(table), tables.notes, tables.meter, tables.model)
        if self.evicted:
            table = table[np.argsort(table["first_record"], kind="stable")]
        return table

    @property
    def counters(self) -> dict[str, int]:
        """Return the counts of packets by outcome of decoding, of flows and of evictions."""
        meter = self.tables.meter
        names = ("not_ip", "malformed", "too_deep", "unknown_link")
        undecoded = {name: int(meter[METER_NOT_IP + i]) for i, name in enumerate(names)}
        return {
            "packets": int(meter[METER_PACKETS]),
            **undecoded,
            "flows": int(meter[METER_FLOWS]) + int(meter[METER_EVICTED]),
            "evicted": int(meter[METER_EVICTED]),
        }
