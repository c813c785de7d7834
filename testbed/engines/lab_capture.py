# SPDX-License-Identifier: BSD-3-Clause
"""A capture as every engine gets it: IP packets with the lab's addresses, each with its side."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import u8
from midcall.captures.packets.numbers import TCP, UDP
from midcall.captures.packets.pcap import Packets
from midcall.classifier.engine import Engine, Tables, step_packet
from midcall.errors import TestbedError
from midcall.testbed.middlebox.decide import DELIVERED, DROPPED, decide
from midcall.testbed.middlebox.inject import (
    METER_LETTERS,
    METER_OCTETS,
    RESET,
    SYN_REFUSED,
    UNREACHABLE,
)
from midcall.testbed.middlebox.marking import dscp_of
from midcall.testbed.middlebox.rule_table import (
    METER_CULPRIT,
    METER_FAILED,
    METER_MARKED,
    UP,
    RuleTable,
    table,
)
from midcall.testbed.network.ip_packets import set_checksums
from midcall.testbed.policy.operator import Policy
from midcall.testbed.replay.addressing import Mapped, mapped
from midcall.testbed.replay.script import script
from midcall.testbed.replay.sides import CALLER, LOCAL

Numbers = NDArray[np.int64]

#: Link type of a packet without a link header (LINKTYPE_RAW), and of Ethernet.
RAW, ETHERNET = 101, 1
#: Packets longer than this do not fit into any link.
LONGEST = 65_535
DOWN = 1 - UP
#: Octets of the shortest headers (RFC 768, RFC 9293).
UDP_HEADER, TCP_HEADER = 8, 20
#: IPv6's header of a fragment (RFC 8200 section 4.5).
FRAGMENT = 44


class LabPacket(NamedTuple):
    """One IP packet: its bytes, whether the subscriber sends it, ns, its frame in the capture.

    frame: counted from 0; the flow is that of the classifier, -1 for none.
    """

    data: bytes
    up: bool
    time: int
    frame: int
    flow: int

    def address(self, source: bool) -> str:
        """Return the packet's source or target address as text."""
        at, size = (12, 4) if self.data[0] >> 4 == 4 else (8, 16)
        at += 0 if source else size
        return str(ip_address(self.data[at : at + size]))

    @property
    def subscriber(self) -> str:
        """Return the subscriber's address."""
        return self.address(self.up)


class LabCapture(NamedTuple):
    """A capture's packets that meet the box, in the order of the capture.

    whole: the mapped capture; left_out: packets that no router forwards, that were captured in
    part, that are longer than a link carries, or in which a length does not fit.
    """

    packets: list[LabPacket]
    whole: Mapped
    left_out: int

    def under(self, policy: Policy) -> Policy:
        """Return a policy with the images of its address sets."""
        return self.whole.policy(policy)


def lab_capture(packets: Packets) -> LabCapture:
    """Return a capture with the lab's addresses."""
    orders = script(packets)
    index = orders.held
    whole = mapped(index, "map")
    out = []
    for row, fact in enumerate(index.facts):
        at, end = int(whole.ip_at[row]), int(whole.ip_end[row])
        side = int(orders.side[row])
        data = whole.data[at:end].tobytes()
        if fact["flow"] < 0 or side == LOCAL or not complete(data):
            continue
        if not hops_left(data) or not fits(data):
            continue
        time, data = int(packets.time[row]), with_checksums(data)
        out.append(LabPacket(data, side == CALLER, time, row, int(fact["flow"])))
    return LabCapture(out, whole, packets.total - len(out))


def complete(data: bytes) -> bool:
    """Return whether the bytes are one whole IP packet, and no fragment."""
    if len(data) < 20 or len(data) > LONGEST:
        return False
    if data[0] >> 4 == 4:
        whole = int.from_bytes(data[2:4], "big") == len(data)
        return whole and int.from_bytes(data[6:8], "big") & 0x3FFF == 0
    whole = len(data) >= 40 and int.from_bytes(data[4:6], "big") + 40 == len(data)
    return whole and data[6] != FRAGMENT


def hops_left(data: bytes) -> int:
    """Return an IP packet's TTL or hop limit; no router forwards 0 (RFC 1812 section 5.3.1)."""
    return data[8 if data[0] >> 4 == 4 else 7]


def fits(data: bytes) -> bool:
    """Return whether the length that UDP gives, or that of TCP's header, fits into an IP packet.

    Engines do not read a packet in which it does not, and let it pass or leave it out of a count.
    """
    four = data[0] >> 4 == 4
    at, proto = (4 * (data[0] & 15), data[9]) if four else (40, data[6])
    held = len(data) - at
    if proto == UDP:
        return held >= UDP_HEADER <= int.from_bytes(data[at + 4 : at + 6], "big") <= held
    if proto == TCP:
        return held >= TCP_HEADER <= 4 * (data[at + 12] >> 4) <= held
    return True


def with_checksums(data: bytes) -> bytes:
    """Return a packet with right checksums: a sender's card may write them after the capture."""
    out = bytearray(data)
    set_checksums(out, len(out))
    return bytes(out)


def as_packets(chosen: Sequence[LabPacket]) -> Packets:
    """Return packets without a link header."""
    sizes = np.array([len(one.data) for one in chosen], np.int64)
    offsets = np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes)))[:-1].astype(np.int64)
    data = np.frombuffer(b"".join(one.data for one in chosen), np.uint8).copy()
    time = np.array([one.time for one in chosen], np.int64)
    return Packets(data, offsets, sizes, sizes.copy(), time, np.full(len(chosen), RAW, np.int64))


#: Bits of replies: a TCP reset to the subscriber, to the far end; an ICMP error to either; and
#: whether the error's source is another address than the target of the packet that it answers. Type
#: and code of the error stand above ERROR_CODE bits.
TO_SUBSCRIBER, TO_FAR, ERROR_TO_SUBSCRIBER, ERROR_TO_FAR, FOREIGN = 1, 2, 4, 8, 16
ERROR_CODE = 8


class Answers(NamedTuple):
    """A box or an engine on packets.

    passes: bool[n]; replies: int64[n], resets and ICMP errors in answer to each packet, as above,
    None where they cannot be seen; points: int64[n], the code point with which each leaves, None
    where it cannot be seen; rules: of the lab's box, the rule that decided each ("" for none).
    """

    passes: NDArray[np.bool_]
    replies: Numbers | None = None
    points: Numbers | None = None
    rules: Sequence[str] = ()

    def differ(self, other: Answers) -> NDArray[np.bool_]:
        """Return bool[n], where two do not do the same, as far as both can be seen.

        The code points of packets that both let pass are compared.
        """
        out = self.passes != other.passes
        if self.replies is not None and other.replies is not None:
            out |= self.replies != other.replies
        if self.points is not None and other.points is not None:
            out |= self.passes & other.passes & (self.points != other.points)
        return np.asarray(out)


def our_box(chosen: Sequence[LabPacket], policy: Policy, access: str, seed: int = 0) -> Answers:
    """Return what the lab's box does with packets, in their order and at their times.

    The ends do not answer to what the box does: every engine gets the same packets. Raises
    TestbedError where a censor of the policy fails.
    """
    count = len(chosen)
    fates, numbers = np.full(count, DELIVERED, np.int64), np.full(count, -1, np.int64)
    replies, points = np.zeros(count, np.int64), np.zeros(count, np.int64)
    if count:
        box, engine = table(policy, seed, access), Engine(room=64)
        engine.reserve(count)
        up = np.array([one.up for one in chosen], np.int8)
        refused = I(DROPPED if policy.fail == "closed" else DELIVERED)
        decide_all(
            engine.tables,
            as_packets(chosen),
            box,
            up,
            engine.signs,
            refused,
            fates,
            numbers,
            replies,
            points,
        )
        if box.meter[METER_FAILED]:
            culprit = policy.rules[int(box.meter[METER_CULPRIT])]
            raise TestbedError(f"{culprit.file}: the censor failed (rule {culprit.name})")
    rules = [policy.rules[number].name if number >= 0 else "" for number in numbers.tolist()]
    return Answers(fates == DELIVERED, replies, points, rules)


@kernel
def decide_all(
    tables: Tables,
    packets: Packets,
    box: RuleTable,
    up: NDArray[np.int8],
    signs: Numbers,
    refused: int,
    fates: Numbers,
    rules: Numbers,
    replies: Numbers,
    points: Numbers,
) -> None:
    """Pass packets through the classifier and the box, in order; stops where a censor fails.

    up: whether the subscriber sends each; refused: the fate of a packet without a flow. Fills fates
    (as decide returns them), rules (-1 for none), replies and points (as in Answers).
    """
    for i in range(len(packets.offset)):
        ip = packets.offset[i]
        points[i] = dscp_of(packets.data, ip, u8(packets.data, ip) >> 4)
        number = step_packet(tables, packets, i, i, signs)
        if number < 0:
            fates[i] = refused
            continue
        side = I(UP if up[i] else DOWN)
        fates[i], rules[i], _ = decide(
            box, tables.flows[number], side, packets.data, signs, packets.time[i], i
        )
        if box.meter[METER_FAILED]:
            return
        if box.meter[METER_MARKED] > 0:
            points[i] = box.meter[METER_MARKED] - 1
            box.meter[METER_MARKED] = 0
        for place in range(box.meter[METER_LETTERS]):
            letter = box.letters[place]
            if letter["kind"] == RESET:
                replies[i] |= TO_FAR if letter["toward"] == UP else TO_SUBSCRIBER
            elif letter["kind"] == UNREACHABLE or letter["kind"] == SYN_REFUSED:
                replies[i] |= ERROR_TO_FAR if letter["toward"] == UP else ERROR_TO_SUBSCRIBER
                code = box.rules[rules[i]]["icmp"][1 if u8(packets.data, ip) >> 4 == 6 else 0]
                replies[i] |= code << ERROR_CODE
        box.meter[METER_LETTERS] = box.meter[METER_OCTETS] = 0
