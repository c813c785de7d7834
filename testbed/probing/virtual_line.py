# SPDX-License-Identifier: BSD-3-Clause
"""A line in virtual time: sockets at both ends, an access network, and our box between them.

The two hosts have a small TCP (RFC 9293: handshake, retransmission with a doubled timer, fast
retransmission after three duplicate acknowledgements, resets as RFC 5961 accepts them), so that a
prober sees of TCP what a socket shows. Noise is that of the line, not of the box: background loss,
jitter and reordering on the subscriber's side, and a NAT that changes the subscriber's ports.
"""

from __future__ import annotations

import hashlib
import heapq
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.kernel import bound, kernel
from midcall.captures.jit.reads import Octets
from midcall.captures.packets.numbers import TCP, UDP
from midcall.captures.packets.pcap import Packets
from midcall.classifier.engine import Engine
from midcall.classifier.state.flow_table import Records
from midcall.errors import TestbedError
from midcall.testbed.middlebox.decide import DELIVERED, decide, sees
from midcall.testbed.middlebox.inject import CORRUPTED, METER_LETTERS, METER_OCTETS, SYN_REFUSED
from midcall.testbed.middlebox.marking import dscp_of
from midcall.testbed.middlebox.rule_table import METER_MARKED, UP, RuleTable, table
from midcall.testbed.network import access as networks
from midcall.testbed.network.access import ETHERNET_LENGTH
from midcall.testbed.network.ip_packets import RAW_IP, ip_packet
from midcall.testbed.network.link import (
    STATE,
    Link,
    access_links,
    admit,
    fill_link,
    no_links,
    seed_of,
)
from midcall.testbed.policy.operator import Policy
from midcall.testbed.probing.oracle import DOWN, raise_failure
from midcall.testbed.probing.probe import BEGIN, Ends, tcp_head, udp_head
from midcall.testbed.probing.sockets import DATA, ENDED, OPENED, RESET, Event

#: Delay between the box and the helper, ns each way.
FAR_LEG = 15_000_000
#: Octets of a TCP segment, at most, and of a datagram.
SEGMENT, DATAGRAM = 1360, 1472
#: TCP: first timers in ns (RFC 6298: 1 s for a SYN), and how often a segment is sent at most.
SYN_TIMER, LEAST_TIMER, TRIES = 1_000_000_000, 250_000_000, 6
FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16


@kernel
def admitted(links: Records, states: Records, side: int, size: int, time: int, number: int) -> int:
    """Return when a packet leaves one direction of a link, as `admit` does; links: LINK[2];
    states: STATE[2]."""
    return admit(links[side], states[side], size, time, number)


@kernel
def decided(
    box: RuleTable, flows: Records, flow: int, side: int, data: Octets,
    signs: NDArray[np.int64], time: int, packet: int,
) -> tuple[int, int, int]:  # fmt: skip
    """Decide one packet of a flow by its number, as `decide` does; flows: FLOW[n]."""
    return decide(box, flows[flow], side, data, signs, time, packet)


class Noise(NamedTuple):
    """What a line does to packets by itself, each way.

    loss: share; burst: packets that a bad time lasts, 0 for independent losses; jitter_ms: standard
    deviation of the delay; reorder: share of packets that others overtake, by reorder_ms; nat: the
    subscriber's ports are changed, and nothing comes in before something went out.
    """

    loss: float = 0.0
    burst: float = 0.0
    jitter_ms: float = 0.0
    reorder: float = 0.0
    reorder_ms: float = 10.0
    nat: bool = False


def noise_of(words: str) -> Noise:
    """Return noise from words as `loss=0.02,jitter_ms=20`. Raises TestbedError."""
    fields: dict[str, Any] = {}
    for word in filter(None, words.split(",")):
        key, sign, value = word.partition("=")
        if key.strip() not in Noise._fields or not sign:
            raise TestbedError(
                f"noise: got {word!r}, expected {', '.join(f'{one}=' for one in Noise._fields)}"
            )
        try:
            number = float(value)
        except ValueError:
            raise TestbedError(f"noise: got {word!r}, expected a number") from None
        most = 1.0 if key.strip() in ("loss", "reorder", "nat") else 10_000.0
        if not 0.0 <= number <= most:
            raise TestbedError(f"noise: got {word!r}, expected a number from 0 to {most:g}")
        fields[key.strip()] = bool(number) if key.strip() == "nat" else number
    return Noise(**fields)


QUIET = Noise()


class VirtualSockets:
    """Sockets at both ends of a line in virtual time, with our box under a policy between them.

    The box keeps its state from one play to the next, and the clock goes on. ideal: the access
    network has its delays and rates, but neither jitter nor loss (used to predict what a hypothesis
    would show). Raises TestbedError where a censor fails.
    """

    answers_only = False

    def __init__(
        self,
        policy: Policy,
        access: str = "4g",
        seed: int = 0,
        noise: Noise = QUIET,
        ideal: bool = False,
    ) -> None:
        self.policy, self.noise = policy, noise
        self.box = table(policy, seed, access)
        self.seen = {up: bool(policy.rules) and bool(sees(self.box, UP if up else DOWN))
                     for up in (True, False)}  # fmt: skip
        self.engine = Engine(room=64)
        self.head = ETHERNET_LENGTH + networks.link(access).overhead
        self.links = access_links(access, seed)
        if ideal:
            for row in self.links:
                row["jitter"] = row["loss"] = row["loss_bad"] = row["to_bad"] = 0
        self.states = np.zeros(2, STATE)
        self.noisy, self.noise_states = no_links(), np.zeros(2, STATE)
        for side, word in ((UP, "up"), (DOWN, "down")):
            fill_link(self.noisy[side], noise_link(noise), seed_of(seed, f"noise {word}"))
        self.disturbed = noise != QUIET and any(noise[:4])
        self.seed = seed
        self.clock = BEGIN
        self.number = 0
        self.order = 0
        self.queue: list[tuple[int, int, Callable[..., None], tuple[Any, ...]]] = []
        self.events: list[Event] = []
        self.streams: dict[Ends, Stream] = {}
        self.flows: dict[Ends, Ends] = {}  # as the helper sees them -> as the caller does
        self.inside: dict[Ends, Ends] = {}
        self.reached: set[Ends] = set()  # flows from which something went out (NAT)
        self.packets = self.octets = 0
        self.last_flow = -1
        one = np.zeros(1, np.int64)
        self.slot = Packets(
            np.zeros(2048, np.uint8), one.copy(), one.copy(), one.copy(), one.copy(),
            np.full(1, RAW_IP, np.int64),
        )  # fmt: skip
        self.classify = self.engine.one_by_one(self.slot)
        self.decided = bound(decided, self.box)
        self.admitted = bound(admitted, self.links, self.states)
        self.admitted_with_noise = bound(admitted, self.noisy, self.noise_states)

    # -- the calls of a socket

    def now(self) -> int:
        """Return the time, ns since 1970."""
        return self.clock

    def open(self, ends: Ends, dscp: int = 0) -> None:
        """Bind both ends of a flow; over TCP the subscriber connects. dscp: code point of a SYN."""
        outside = self.translated(ends)
        self.flows[outside], self.inside[ends] = ends, outside
        if ends.proto == TCP:
            self.streams[ends] = Stream(self, ends)
            self.streams[ends].ends[0].connect(dscp)

    def send(self, ends: Ends, up: bool, payload: bytes, dscp: int = 0) -> None:
        """Send a datagram, or add octets to a stream. Raises TestbedError if it is too long.

        dscp: code point of the datagram, or of all that this end of the stream sends from now on.
        """
        if ends.proto == TCP:
            self.streams[ends].ends[0 if up else 1].write(payload, dscp)
            return
        if len(payload) > DATAGRAM and ends.proto == UDP:
            raise TestbedError(f"a datagram of {len(payload)} octets does not fit one packet")
        head = b""
        if ends.proto == UDP:
            outside = self.inside[ends]
            ports = (outside.near_port, ends.far_port)
            head = udp_head(ports if up else ports[::-1], len(payload))
        self.leave(ends, up, head + payload, Event(0, up, ends, DATA, payload, dscp), dscp)

    def sleep(self, until: int) -> bool:
        """Wait; return True as soon as anything was received, False when the time has come."""
        while self.queue and self.queue[0][0] <= until:
            time, _, act, values = heapq.heappop(self.queue)
            self.clock = max(self.clock, time)
            act(*values)
            if self.events:
                return True
        self.clock = max(self.clock, until)
        return False

    def receive(self) -> list[Event]:
        """Return what both ends received since the last call."""
        events, self.events = self.events, []
        return events

    def abort(self, ends: Ends) -> None:
        """Close a stream at once at both ends."""
        if ends in self.streams:
            for end in self.streams[ends].ends:
                end.is_dead = True

    def close(self) -> None:
        """Close all sockets; packets under way arrive nowhere."""
        self.streams.clear()
        self.flows.clear()
        self.inside.clear()
        self.queue.clear()

    # -- the line

    def translated(self, ends: Ends) -> Ends:
        """Return a flow's ends as the world sees them: behind a NAT with another port."""
        if not self.noise.nat:
            return ends
        words = f"{self.seed} {ends.near.hex()} {ends.near_port} {ends.proto}".encode()
        port = 1024 + int.from_bytes(hashlib.sha256(words).digest()[:4], "big") % 64_000
        return ends._replace(near_port=port)

    def at(self, time: int, act: Callable[..., None], *values: Any) -> None:
        """Do something at a time."""
        self.order += 1
        heapq.heappush(self.queue, (time, self.order, act, values))

    def leave(self, ends: Ends, up: bool, transport: bytes, news: Any, dscp: int = 0) -> None:
        """Send a packet from one end. news: what its receiver then has; dscp: its code point."""
        outside = self.inside.get(ends)
        if outside is None:
            return
        if up:
            self.reached.add(outside)
        elif self.noise.nat and outside not in self.reached:
            return
        addresses = (ends.near, ends.far) if up else (ends.far, ends.near)
        frame = ip_packet(*addresses, ends.proto, transport, dscp=dscp)
        self.number += 1
        self.packets += 1
        self.octets += len(frame)
        if up:
            time = self.access(UP, len(frame), self.clock, self.number)
        else:
            time = self.clock + FAR_LEG
        if time >= 0:
            self.at(time, self.meet, frame, up, news, self.number)

    def access(self, side: int, size: int, time: int, number: int) -> int:
        """Return when a packet leaves the access network, -1 never."""
        time = self.admitted(side, size, time, number)
        if time >= 0 and self.disturbed:
            time = self.admitted_with_noise(side, size, time, number)
        return time

    def meet(self, frame: bytes, up: bool, news: Any, number: int) -> None:
        """Let a packet meet the box, or pass it where the box has no rules, or does not see its
        direction."""
        slot, size = self.slot, len(frame)
        if not self.seen[up]:
            self.forward(self.clock, up, size, news, number)
            return
        slot.data[:size] = np.frombuffer(frame, np.uint8)
        slot.captured[0] = slot.wire[0] = size
        slot.time[0] = self.clock
        flow = self.last_flow = self.classify()
        release = self.clock
        if flow >= 0:
            box, side = self.box, UP if up else DOWN
            fate, _, release = self.decided(
                self.engine.tables.flows, flow, side, slot.data, self.engine.signs,
                self.clock, number,
            )  # fmt: skip
            raise_failure(box, self.policy)
            if box.meter[METER_MARKED]:  # a packet that is marked arrives with this code point
                if isinstance(news, Event):
                    news = news._replace(dscp=int(box.meter[METER_MARKED]) - 1)
                box.meter[METER_MARKED] = 0
            if box.meter[METER_LETTERS]:
                self.post()
            if fate != DELIVERED:
                return
        elif self.policy.fail == "closed":
            return
        self.forward(int(release), up, size, news, number)

    def forward(self, time: int, up: bool, size: int, news: Any, number: int) -> None:
        """Carry a packet from the box to its receiver."""
        if up:
            self.at(time + FAR_LEG, self.arrive, up, news)
        elif time > self.clock:
            self.at(time, self.descend, size, news, number)
        else:
            self.descend(size, news, number)

    def descend(self, size: int, news: Any, number: int) -> None:
        """Carry a packet from the box to the subscriber."""
        time = self.access(DOWN, size, self.clock, number)
        if time >= 0:
            self.at(time, self.arrive, False, news)

    def arrive(self, up: bool, news: Any) -> None:
        """Give a packet to its receiver."""
        if isinstance(news, Event):
            if news.ends in self.inside:
                self.events.append(news._replace(time=self.clock))
        elif news.ends in self.streams:
            self.streams[news.ends].ends[1 if up else 0].take(news)

    def post(self) -> None:
        """Carry the frames that the box forged to their receivers."""
        box = self.box
        for row in box.letters[: int(box.meter[METER_LETTERS])]:
            at, length = int(row["at"]) + self.head, int(row["length"]) - self.head
            packet = box.mail[at : at + length].tobytes()
            up = int(row["toward"]) == UP
            self.number += 1
            news = self.news_of(packet, up, int(row["kind"]))
            if news is not None:
                self.forward(int(row["time"]), up, length, news, self.number)
        box.meter[METER_LETTERS] = box.meter[METER_OCTETS] = 0

    def news_of(self, packet: bytes, up: bool, kind: int) -> Any:
        """Return a forged packet as its receiver takes it; None where it has no such socket, or
        discards the packet for its checksum.

        kind: of FRAME_KINDS. An ICMP error that answers a SYN ends the attempt to connect, as a
        reset does; other ICMP errors show in no socket.
        """
        first = packet[0] >> 4 == 4
        start, proto = (20, packet[9]) if first else (40, packet[6])
        if kind == CORRUPTED:
            return None
        if kind == SYN_REFUSED:
            syn = self.news_of(packet[start + 8 :], not up, -1)
            return syn and Segment(syn.ends, 0, syn.sequence + syn.length, RST, b"")
        source, target = (packet[12:16], packet[16:20]) if first else (packet[8:24], packet[24:40])
        ports = struct.unpack(">HH", packet[start : start + 4])
        near, far = (source, target) if up else (target, source)
        near_port, far_port = ports if up else ports[::-1]
        ends = self.flows.get(Ends(proto, near, near_port, far, far_port))
        if ends is None:
            return None
        if proto == UDP:
            dscp = int(dscp_of(np.frombuffer(packet, np.uint8), 0, packet[0] >> 4))
            return Event(0, up, ends, DATA, packet[start + 8 :], dscp)
        sequence, acknowledged, offset, flags = struct.unpack(
            ">IIBB", packet[start + 4 : start + 14]
        )
        return Segment(ends, sequence, acknowledged, flags, packet[start + 4 * (offset >> 4) :])


def noise_link(noise: Noise) -> Link:
    """Return noise as a link: jitter adds its mean, so that no delay is negative."""
    return Link(
        delay_ms=3.5 * noise.jitter_ms,
        jitter_ms=noise.jitter_ms,
        loss=noise.loss,
        burst=noise.burst,
        reorder=noise.reorder,
        reorder_ms=noise.reorder_ms,
    )


# ---- TCP of the two hosts


class Segment(NamedTuple):
    """A TCP segment."""

    ends: Ends
    sequence: int
    acknowledged: int
    flags: int
    payload: bytes

    @property
    def length(self) -> int:
        """Return the sequence numbers that it takes: octets, SYN and FIN."""
        return len(self.payload) + (1 if self.flags & SYN else 0) + (1 if self.flags & FIN else 0)


class Stream:
    """One TCP connection: the subscriber's end and the helper's."""

    def __init__(self, line: VirtualSockets, ends: Ends) -> None:
        self.line, self.flow = line, ends
        number = line.number * 64_000 + 1
        self.ends = (
            StreamEnd(self, True, number & 0xFFFFFFFF),
            StreamEnd(self, False, (number + 7_777_777) & 0xFFFFFFFF),
        )


class StreamEnd:
    """One end of a TCP connection."""

    def __init__(self, stream: Stream, is_near: bool, first: int) -> None:
        self.stream, self.line, self.is_near = stream, stream.line, is_near
        self.next = self.unacknowledged = first
        self.expected = -1  # sequence number from the other side
        self.is_open = self.is_dead = False
        self.unsent: list[tuple[bytes, int]] = []
        self.flying: list[Segment] = []
        self.early: dict[int, Segment] = {}
        self.late: set[int] = set()  # overdue segments behind the earliest, by sequence number
        self.doubles = 0
        self.began = self.line.now()
        self.timer = SYN_TIMER
        self.dscp = 0  # code point of all that it sends

    def connect(self, dscp: int = 0) -> None:
        """Send a SYN. dscp: its code point."""
        self.dscp = dscp
        self.add(b"", SYN)

    def write(self, payload: bytes, dscp: int = 0) -> None:
        """Send octets, or keep them until the stream is open. dscp: code point of all that this end
        sends from now on, as of a socket's option."""
        pieces = [payload[at : at + SEGMENT] for at in range(0, len(payload), SEGMENT)]
        if self.is_dead:
            return
        if not self.is_open:
            self.unsent += [(piece, dscp) for piece in pieces]
            return
        self.dscp = dscp
        for piece in pieces:
            self.add(piece, PSH)

    def add(self, payload: bytes, flags: int) -> None:
        """Send a segment that must be acknowledged."""
        flags |= ACK if self.expected >= 0 else 0
        one = Segment(self.stream.flow, self.next, max(self.expected, 0), flags, payload)
        self.next = (self.next + one.length) & 0xFFFFFFFF
        self.flying.append(one)
        self.put(one)
        self.line.at(self.line.now() + self.timer, self.overdue, one, 1)

    def put(self, one: Segment) -> None:
        """Put a segment on the line."""
        outside = self.line.inside.get(one.ends)
        if outside is None:
            return
        ports = (outside.near_port, one.ends.far_port)
        ports = ports if self.is_near else ports[::-1]
        head = tcp_head(ports, one.sequence, one.acknowledged, one.flags)
        self.line.leave(one.ends, self.is_near, head + one.payload, one, self.dscp)

    def overdue(self, one: Segment, tries: int) -> None:
        """Send a segment again if it is not acknowledged: at once if it is the earliest, else as
        soon as it is (RFC 6298, 5.4: a timer sends the earliest one alone)."""
        if self.is_dead or one not in self.flying or tries >= TRIES:
            return
        if one is self.flying[0]:
            self.put(one._replace(acknowledged=max(self.expected, 0)))
        else:
            self.late.add(one.sequence)
        self.line.at(self.line.now() + (self.timer << tries), self.overdue, one, tries + 1)

    def acknowledge(self) -> None:
        """Send a bare acknowledgement."""
        self.put(Segment(self.stream.flow, self.next, max(self.expected, 0), ACK, b""))

    def report(self, kind: str, payload: bytes = b"") -> None:
        """Let the program know."""
        line = self.line
        line.events.append(Event(line.now(), not self.is_near, self.stream.flow, kind, payload))

    def take(self, one: Segment) -> None:
        """Handle a segment that came."""
        if self.is_dead:
            if not one.flags & RST:
                self.put(Segment(one.ends, one.acknowledged, 0, RST, b""))
            return
        if one.flags & RST:
            in_window = one.sequence == self.expected
            if in_window or (self.expected < 0 and one.acknowledged == self.next):
                self.is_dead = True
                self.report(RESET)
            return
        if one.flags & SYN:
            if self.expected < 0:
                self.expected = (one.sequence + 1) & 0xFFFFFFFF
                if not self.is_near:
                    self.add(b"", SYN)
                    return
            if self.is_near:
                self.heard(one)
                self.established()
                self.acknowledge()
            return
        if self.expected < 0:
            return
        self.heard(one)
        if not self.is_open:
            self.established()
        if one.length:
            self.early[one.sequence] = one
            before = self.expected
            while self.expected in self.early:
                now = self.early.pop(self.expected)
                self.expected = (self.expected + now.length) & 0xFFFFFFFF
                if now.payload:
                    self.report(DATA, now.payload)
                if now.flags & FIN:
                    self.report(ENDED)
            self.acknowledge()
            if self.expected == before:
                self.early = {
                    at: kept for at, kept in self.early.items()
                    if (at - self.expected) & 0xFFFFFFFF < 1 << 31
                }  # fmt: skip

    def heard(self, one: Segment) -> None:
        """Take note of an acknowledgement."""
        if not one.flags & ACK or not self.flying:
            return
        done = (one.acknowledged - self.flying[0].sequence) & 0xFFFFFFFF
        if 0 < done < 1 << 31:
            self.flying = [
                kept for kept in self.flying
                if 0 < ((kept.sequence + kept.length - one.acknowledged) & 0xFFFFFFFF) < 1 << 31
            ]  # fmt: skip
            self.doubles = 0
            if self.flying and self.flying[0].sequence in self.late:
                self.late.remove(self.flying[0].sequence)
                self.put(self.flying[0]._replace(acknowledged=max(self.expected, 0)))
        elif done == 0 and not one.length:
            self.doubles += 1
            if self.doubles == 3:
                self.put(self.flying[0]._replace(acknowledged=max(self.expected, 0)))

    def established(self) -> None:
        """Open the stream and send what waited for that."""
        if self.is_open:
            return
        self.is_open = True
        self.timer = max(LEAST_TIMER, (self.line.now() - self.began) * 3 // 2)
        self.report(OPENED)
        for piece, dscp in self.unsent:
            self.dscp = dscp
            self.add(piece, PSH)
        self.unsent = []
