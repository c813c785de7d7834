# SPDX-License-Identifier: BSD-3-Clause
"""The bounded flow table: bidirectional 5-tuples in dense 128-byte records behind a hash index.

`flows` holds the records in order of first packet; `index` is an open-addressing table of int64
words (hash in the high 31 bits, record number + 1 below, 0 empty), at most half full, so a probe
rarely touches a record that is not the wanted one. The hash is symmetric: both directions of a
flow have the same slot. It is keyed, so that an attacker cannot choose flows that share slots; no
result depends on the key. When `flows` is full, a clock hand evicts the least recently seen of the
next EVICT_SCAN records into `spill`, which the engine drains, so that no flow is lost.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.kernel import I, inlined, kernel
from midcall.captures.jit.reads import Octets, u32
from midcall.captures.packets.numbers import TCP
from midcall.classifier.state.packet_fields import (
    SIGN_FLOW,
    SIGN_PROTO,
    SIGN_SOURCE,
    SIGN_SOURCE_AT,
    SIGN_SOURCE_PORT,
    SIGN_TARGET,
    SIGN_TARGET_AT,
    SIGN_TARGET_PORT,
    SIGN_TCP_FLAGS,
    SIGN_UP,
    SIGN_VERSION,
)
from midcall.classifier.state.verdicts import APPS

Numbers = NDArray[np.int64]
Records = NDArray[np.void]

FLOW = np.dtype(
    [
        # 64 bytes to look up a packet's flow, seldom written ...
        ("source", "u4", (4,)),  # address lanes; IPv4 uses the first
        ("target", "u4", (4,)),
        ("source_port", "u2"),
        ("target_port", "u2"),
        ("proto", "u1"),
        ("version", "u1"),
        ("state", "u2"),  # bits of classifier.flow
        ("first_time", "i8"),  # ns
        ("first_record", "i8"),  # 0-based number of the first packet in its capture
        ("argument", "u4"),  # of the evidence
        ("hint", "u2"),  # an evidence of an app that does not suffice alone, 0: none
        ("spare", "u2"),
        # ... and 64 that packets write
        ("last_time", "i8"),
        ("packets_up", "u4"),  # source to target
        ("packets_down", "u4"),
        ("bytes_up", "i8"),  # IP packet bytes on the wire
        ("bytes_down", "i8"),
        ("verdict_time", "i8"),
        ("verdict", "u1"),
        ("app", "u1"),
        ("role", "u1"),
        ("confidence", "u1"),  # percent
        ("evidence", "u2"),
        ("verdict_packets", "u2"),  # payload packets used
        ("payload_packets", "u4"),
        ("note", "u4"),  # inspection note + 1, 0: none
        ("mark", "i8"),  # free for the caller of the path (a middlebox stores its decision)
    ]
)
assert FLOW.itemsize == 128

# Bits of `state`.
SETTLED = 1  # no packet of this flow will be inspected again
TURNED = 2  # source and target were exchanged after a SYN ACK came first
ALLOCATED = 4  # a TURN allocation was seen: ChannelData is possible
QUIC = 8  # a QUIC long header was seen
AWAITS = 16  # TLS without a host name: the server's certificate may hold one
SERVER_UP = 32  # ... and the server is the flow's source
WITHOUT = 11  # from this bit on: number of the app whose evidence is excluded, 0 for none

#: Records of which the least recently seen is evicted. On average it is among the oldest 6 % of all
#: (1 / 17); 64 would cost 0.5 µs more per flow. Redis likewise evicts the best of 5 sampled keys.
EVICT_SCAN = 16
#: The version in a record that `retire` emptied, and the time of its last packet.
RETIRED, LONG_AGO = 0, -(1 << 62)
#: Octets of a cache line.
LINE = 64

#: The prime of the hash's field, and the bits of each of the two secrets in one word.
PRIME, HALF_BITS = (1 << 31) - 1, 30
HALF = (1 << HALF_BITS) - 1

# Slots of `meter`, the counters of an engine.
(
    METER_FLOWS,  # records in use
    METER_HAND,  # the clock hand of eviction
    METER_EVICTED_WAITING,  # evicted records waiting in `spill`
    METER_EVICTED,
    METER_KEY,  # secret of the hash
    METER_NOTES,  # inspection notes ever assigned (free ones are listed in the pool)
    METER_FREE,  # free notes in the list
    METER_NOTE_HAND,
    METER_RECYCLED,  # flows whose note was taken before a verdict
    METER_LEARN,  # sources of endpoints that are switched on (bits)
    METER_PACKETS,
    METER_NOT_IP,
    METER_MALFORMED,
    METER_TOO_DEEP,
    METER_UNKNOWN_LINK,
    METER_INSPECTED,
    METER_CONTEXT_LOST,  # endpoint entries overwritten before they expired
    METER_EVICTED_NOTE,  # note of the flow just evicted, + 1
    METER_EXCLUDED,  # app whose evidence is excluded, shifted to its bits in `state`
    METER_HELLO_HAND,  # hello buffer at which the search for a free one starts
    METER_HELLOS_LOST,  # hello buffers reassigned before their hello was complete
    METER_INITIALS,  # QUIC Initials decrypted
    METER_NO_PAYLOAD,  # 1: no payload is read, the early model decides alone
    METER_LOG_SIZE,  # capacity of the evidence log below, 0: no log
    METER_LOGGED,  # evidences in the log
    METER_FRAGMENTS,  # 1: a session description announced an ICE user name fragment
    METER_CUTS,  # 1: the snaplen cut set-up of a call
) = range(27)
#: From here on: the claim of each evidence (classifier.state.evidence_support), by its low 16 bits;
#: those of innocent flows follow CLAIM_KEYS later.
CLAIMS, CLAIM_KEYS = 32, len(APPS) << 8
#: A claim holds the verdict from bit 16 on, the app from bit 8, the confidence in percent below;
#: from this bit on the confidence in the app's maker, where the app is unsure.
MAKER_AT = 18
#: From here on, in an engine with a log: pairs of a packed evidence and its flow's first record.
LOG = CLAIMS + 2 * CLAIM_KEYS
METERS = LOG


def no_flows(count: int) -> Records:
    """Return FLOW[count] of zeros, aligned so that each half of a record is a cache line."""
    octets = np.zeros(count * FLOW.itemsize + LINE, np.uint8)
    start = -octets.ctypes.data % LINE
    return octets[start : start + count * FLOW.itemsize].view(FLOW)


def copy_records(records: Records, into: Records) -> None:
    """Copy records to the start of another array of their kind.

    They are copied as octets: NumPy copies records one by one, which takes about five times as
    long.
    """
    octets = records.view(np.uint8)
    into.view(np.uint8)[: len(octets)] = octets


def join_records(parts: list[Records]) -> Records:
    """Return the concatenated copy of one or several record arrays of the same dtype."""
    octets = np.concatenate([part.view(np.uint8) for part in parts])
    return octets.view(parts[0].dtype)


@kernel
def mix(h: int, word: int) -> int:
    """Return a 32-bit hash h advanced by a 32-bit word (int64 arithmetic without overflow)."""
    h = ((h ^ word) * 0x2C1B3C6D) & 0xFFFFFFFF
    return h ^ (h >> 15)


@kernel
def fold(x: int) -> int:
    """Return a number of 33 bits that equals x (of 62) modulo the prime 2^31 - 1."""
    return (x & PRIME) + (x >> 31)


@kernel
def endpoint_hash(
    lane0: int, lane1: int, lane2: int, lane3: int, version: int, port: int, key: int
) -> int:
    """Return the hash of an address and its port, a polynomial in the lower half of the key.

    Words of 24 bits are its coefficients, so any two endpoints collide for at most 6 of 2^30 keys
    (Carter and Wegman 1979). No product reaches 2^63.
    """
    k = key & HALF
    if version == 4:
        h = (lane0 >> 8) * k + (((lane0 & 255) << 16) | port)
        return fold(fold(h) * k)
    h = fold((lane0 >> 8) * k + (((lane0 & 255) << 16) | (lane1 >> 16)))
    h = fold(h * k + (((lane1 & 0xFFFF) << 8) | (lane2 >> 24)))
    h = fold(h * k + (lane2 & 0xFFFFFF))
    h = fold(h * k + (lane3 >> 8))
    h = fold(h * k + (((lane3 & 255) << 16) | port))
    return fold(h * k)


@kernel
def flow_hash(one: int, other: int, proto: int, key: int) -> int:
    """Return the 31-bit hash of a flow from the hashes of its ends, the same in either order.

    With a sum of the two, ends of equal sums would collide under every key. Instead, the smaller
    and the larger are coefficients of a second polynomial, in the upper half of the key.
    """
    k = key >> HALF_BITS
    h = fold(fold(min(one, other) * k + max(one, other)) * k)
    return mix(h & 0xFFFFFFFF, proto) & 0x7FFFFFFF


@kernel
def lane_hash(signs: Numbers, at: int, version: int, port: int, key: int) -> int:
    """Return the hash of the address in four slots of `signs` and its port."""
    if version == 4:
        return endpoint_hash(signs[at], 0, 0, 0, 4, port, key)
    return endpoint_hash(signs[at], signs[at + 1], signs[at + 2], signs[at + 3], version, port, key)


@inlined
def locate(b: Octets, signs: Numbers, key: int) -> None:
    """Write the addresses of a decoded packet and the hash of its flow to `signs`."""
    version, source, target = signs[SIGN_VERSION], signs[SIGN_SOURCE_AT], signs[SIGN_TARGET_AT]
    signs[SIGN_SOURCE], signs[SIGN_TARGET] = u32(b, source), u32(b, target)
    if version == 6:
        for lane in range(1, 4):
            signs[SIGN_SOURCE + lane] = u32(b, source + 4 * lane)
            signs[SIGN_TARGET + lane] = u32(b, target + 4 * lane)
    source_hash = lane_hash(signs, SIGN_SOURCE, version, signs[SIGN_SOURCE_PORT], key)
    target_hash = lane_hash(signs, SIGN_TARGET, version, signs[SIGN_TARGET_PORT], key)
    signs[SIGN_FLOW] = flow_hash(source_hash, target_hash, signs[SIGN_PROTO], key)


@kernel
def same_address(lanes: Any, signs: Numbers, at: int, version: int) -> bool:
    """Return whether a record's address equals the one in four slots of `signs`."""
    if I(lanes[0]) != signs[at]:
        return False
    if version == 4:
        return True
    return bool(
        I(lanes[1]) == signs[at + 1]
        and I(lanes[2]) == signs[at + 2]
        and I(lanes[3]) == signs[at + 3]
    )


@kernel
def matches(flow: Any, signs: Numbers) -> int:
    """Return 1 if a packet goes from source to target of the flow, 0 if back, -1 if neither."""
    version = signs[SIGN_VERSION]
    if I(flow["proto"]) != signs[SIGN_PROTO] or I(flow["version"]) != version:
        return -1
    source_port, target_port = signs[SIGN_SOURCE_PORT], signs[SIGN_TARGET_PORT]
    flow_source_port, flow_target_port = I(flow["source_port"]), I(flow["target_port"])
    if flow_source_port == source_port and flow_target_port == target_port:
        if same_address(flow["source"], signs, SIGN_SOURCE, version) and same_address(
            flow["target"], signs, SIGN_TARGET, version
        ):
            return 1
    if flow_source_port == target_port and flow_target_port == source_port:
        if same_address(flow["target"], signs, SIGN_SOURCE, version) and same_address(
            flow["source"], signs, SIGN_TARGET, version
        ):
            return 0
    return -1


@kernel
def copy_address(lanes: Any, signs: Numbers, at: int, version: int) -> None:
    """Copy an address from four slots of `signs` into a record."""
    lanes[0] = signs[at]
    lanes[1] = lanes[2] = lanes[3] = 0
    if version == 6:
        lanes[1], lanes[2], lanes[3] = signs[at + 1], signs[at + 2], signs[at + 3]


@kernel
def begin(flow: Any, signs: Numbers, time: int, record: int) -> None:
    """Initialise a record with the packet's endpoints, exchanged if the packet is a SYN ACK."""
    version = signs[SIGN_VERSION]
    turned = signs[SIGN_PROTO] == TCP and signs[SIGN_TCP_FLAGS] & 0x12 == 0x12
    source, target = SIGN_SOURCE, SIGN_TARGET
    source_port, target_port = signs[SIGN_SOURCE_PORT], signs[SIGN_TARGET_PORT]
    if turned:
        source, target, source_port, target_port = target, source, target_port, source_port
    copy_address(flow["source"], signs, source, version)
    copy_address(flow["target"], signs, target, version)
    flow["source_port"], flow["target_port"] = source_port, target_port
    flow["proto"], flow["version"] = signs[SIGN_PROTO], version
    flow["state"] = TURNED if turned else 0
    flow["first_time"] = flow["last_time"] = time
    flow["packets_up"] = flow["packets_down"] = 0
    flow["bytes_up"] = flow["bytes_down"] = 0
    flow["first_record"] = record
    flow["verdict_time"] = 0
    flow["verdict"] = flow["app"] = flow["role"] = flow["confidence"] = 0
    flow["evidence"] = flow["verdict_packets"] = 0
    flow["payload_packets"] = flow["note"] = 0
    flow["argument"] = flow["hint"] = flow["spare"] = flow["mark"] = 0
    signs[SIGN_UP] = 0 if turned else 1


@kernel
def record_hash(flow: Any, key: int) -> int:
    """Return a 31-bit hash of a flow's ends and a key, the same in any process."""
    h = I(0)
    for side in range(2):
        lanes = flow["source"] if side == 0 else flow["target"]
        part = mix(key, I(flow["source_port"]) if side == 0 else I(flow["target_port"]))
        part = mix(part, I(lanes[0]))
        if flow["version"] == 6:
            part = mix(mix(mix(part, I(lanes[1])), I(lanes[2])), I(lanes[3]))
        h += part
    return I(mix(h & 0xFFFFFFFF, I(flow["proto"])) & 0x7FFFFFFF)


@kernel
def record_end(lanes: Any, version: int, port: int, key: int) -> int:
    """Return the hash of an address in a record and its port."""
    return endpoint_hash(I(lanes[0]), I(lanes[1]), I(lanes[2]), I(lanes[3]), version, port, key)


@kernel
def record_place(flow: Any, key: int) -> int:
    """Return the hash under which a record is stored in the index."""
    version = I(flow["version"])
    one = record_end(flow["source"], version, I(flow["source_port"]), key)
    other = record_end(flow["target"], version, I(flow["target_port"]), key)
    return flow_hash(one, other, I(flow["proto"]), key)


@kernel
def unlink(index: Numbers, h: int, number: int) -> None:
    """Remove a record from the index and close the gap (backward shift deletion)."""
    mask = len(index) - 1
    slot = h & mask
    while index[slot] & 0xFFFFFFFF != number + 1:
        slot = (slot + 1) & mask
    hole = slot
    while True:
        slot = (slot + 1) & mask
        word = index[slot]
        if word == 0:
            break
        home = (word >> 32) & mask
        if ((slot - home) & mask) >= ((slot - hole) & mask):
            index[hole] = word
            hole = slot
    index[hole] = 0


@kernel
def evict(flows: Records, index: Numbers, spill: Records, meter: Numbers) -> int:
    """Evict the least recently seen of the next EVICT_SCAN records; returns its number."""
    hand = I(meter[METER_HAND])
    best, oldest = hand, I(flows[hand]["last_time"])
    for _ in range(1, EVICT_SCAN):
        hand = I(hand + 1 if hand + 1 < len(flows) else 0)
        last_time = I(flows[hand]["last_time"])
        if last_time < oldest:
            best, oldest = hand, last_time
    meter[METER_HAND] = hand + 1 if hand + 1 < len(flows) else 0
    meter[METER_EVICTED] += 1
    if flows[best]["version"] == RETIRED:
        return best
    unlink(index, record_place(flows[best], meter[METER_KEY]), best)
    spill[meter[METER_EVICTED_WAITING]] = flows[best]
    meter[METER_EVICTED_NOTE] = flows[best]["note"]
    meter[METER_EVICTED_WAITING] += 1
    return best


@kernel
def retire(flows: Records, index: Numbers, spill: Records, meter: Numbers, number: int) -> None:
    """Move a flow's record to `spill`; its place is used again when the table is full."""
    flow = flows[number]
    unlink(index, record_place(flow, meter[METER_KEY]), number)
    spill[meter[METER_EVICTED_WAITING]] = flow
    meter[METER_EVICTED_NOTE] = flow["note"]
    meter[METER_EVICTED_WAITING] += 1
    flow["version"] = RETIRED
    flow["last_time"] = LONG_AGO
    flow["note"] = 0


@inlined
def find(
    flows: Records,
    index: Numbers,
    spill: Records,
    meter: Numbers,
    signs: Numbers,
    time: int,
    record: int,
) -> int:
    """Return the number of the flow that `locate` hashed, a new one if none is known; sets SIGN_UP.

    `time` is the packet's in ns, `record` its 0-based number in the capture.
    """
    h, mask = signs[SIGN_FLOW], len(index) - 1
    slot = h & mask
    while True:
        word = index[slot]
        if word == 0:
            break
        if word >> 32 == h:
            number = I((word & 0xFFFFFFFF) - 1)
            up = matches(flows[number], signs)
            if up >= 0:
                signs[SIGN_UP] = up
                return number
        slot = (slot + 1) & mask
    if meter[METER_FLOWS] < len(flows):
        number = I(meter[METER_FLOWS])
        meter[METER_FLOWS] += 1
    else:
        number = evict(flows, index, spill, meter)
        slot = h & mask
        while index[slot] != 0:
            slot = (slot + 1) & mask
    begin(flows[number], signs, time, record)
    if meter[METER_EXCLUDED]:
        flows[number]["state"] = I(flows[number]["state"]) | I(meter[METER_EXCLUDED])
    index[slot] = (h << 32) | (number + 1)
    return number


@kernel
def reindex(old: Numbers, index: Numbers) -> None:
    """Fill a larger index from the old one (the words hold their hash)."""
    mask = len(index) - 1
    for word in old:
        if word:
            slot = (word >> 32) & mask
            while index[slot] != 0:
                slot = (slot + 1) & mask
            index[slot] = word
