# SPDX-License-Identifier: GPL-2.0-or-later
"""Scene: a crafted network, and the capture and truth that result from its traffic.

A generator opens flows in a scene and sends on them at chosen times; `develop` puts the packets in
order, wraps them as the tapped link does, and names flows and gates by frame numbers.
"""

from __future__ import annotations

from typing import NamedTuple

from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.packet import Packet, Raw

from midcall.captures.packets.pcap import Packets, packets_of
from midcall.captures.synthetic.encapsulate import ETHERNET, Envelope
from midcall.captures.synthetic.plan import Plan
from midcall.captures.truth.calls import Alternative, Call, Gate
from midcall.captures.truth.labels import Label
from midcall.captures.wire.host import Host
from midcall.captures.wire.seeded import MS, SeededRandom

MSS = 1400

#: Time to live as seen at the tap: the subscriber is one hop away, servers are twelve.
NEAR, FAR = 63, 52


class Truth(NamedTuple):
    """The truth of a flow, and the bytes that are its evidence."""

    app: str
    role: str
    evidence: str
    call: str = ""


class Sent:
    """One packet that was sent; `frame` is its number in the capture, set by `develop`."""

    def __init__(self, time: int, serial: int, flow: Flow, layer: Packet, up: bool) -> None:
        self.time = time
        self.serial = serial
        self.flow = flow
        self.layer = layer
        self.up = up
        self.frame = 0


class Flow:
    """A bidirectional 5-tuple of a scene; `source` sends first."""

    proto = ""

    def __init__(
        self, scene: Scene, ends: tuple[Host, Host], ports: tuple[int, int], truth: Truth
    ) -> None:
        self.scene = scene
        self.source, self.target = ends
        self.source_port, self.target_port = ports
        self.truth = truth
        self.packets = 0
        self.frame = 0
        scene.flows.append(self)

    def send(self, at: int, up: bool, transport: Packet, payload: bytes) -> Sent:
        """Send one packet, `up` from source to target; at: ns since the epoch."""
        sender, receiver = (self.source, self.target) if up else (self.target, self.source)
        hops = NEAR if sender.inside else FAR
        network: Packet
        if sender.version == 6:
            network = IPv6(src=sender.address, dst=receiver.address, hlim=hops)
        else:
            number = self.scene.next_id(sender)
            network = IP(src=sender.address, dst=receiver.address, ttl=hops, id=number)
        layer = network / transport / Raw(payload) if payload else network / transport
        sent = Sent(at, len(self.scene.sent), self, layer, sender.inside)
        self.scene.sent.append(sent)
        return sent


class Udp(Flow):
    """A UDP flow."""

    proto = "udp"

    def up(self, at: int, payload: bytes) -> Sent:
        """Send a datagram from source to target."""
        return self.send(at, True, UDP(sport=self.source_port, dport=self.target_port), payload)

    def down(self, at: int, payload: bytes) -> Sent:
        """Send a datagram from target to source."""
        return self.send(at, False, UDP(sport=self.target_port, dport=self.source_port), payload)

    def either(self, at: int, up: bool, payload: bytes) -> Sent:
        """Send a datagram one way or the other."""
        return self.up(at, payload) if up else self.down(at, payload)


class Tcp(Flow):
    """A TCP flow: handshake, segments of at most MSS bytes, acknowledgements, end."""

    proto = "tcp"

    def open(self, at: int, rtt: int = 60 * MS) -> int:
        """Shake hands; return when the source may send."""
        dice = self.scene.dice.child(f"tcp {self.source_port} {self.target_port}")
        self.rtt = rtt
        self.next = {True: dice.number(1, 1 << 31), False: dice.number(1, 1 << 31)}
        size = [("MSS", MSS), ("SAckOK", b""), ("NOP", None), ("WScale", 7)]
        self._segment(at, True, "S", b"", size)
        self.next[True] += 1
        self._segment(at + rtt, False, "SA", b"", size)
        self.next[False] += 1
        self._segment(at + rtt + 200_000, True, "A", b"")
        return at + rtt + MS

    def up(self, at: int, payload: bytes) -> Sent:
        """Send bytes from source to target; return the first segment."""
        return self._stream(at, True, payload)

    def down(self, at: int, payload: bytes) -> Sent:
        """Send bytes from target to source; return the first segment."""
        return self._stream(at, False, payload)

    def close(self, at: int) -> None:
        """End both directions, the source first."""
        for up, flags, after in ((True, "FA", 0), (False, "FA", self.rtt)):
            self._segment(at + after, up, flags, b"")
            self.next[up] += 1
        self._segment(at + self.rtt + 200_000, True, "A", b"")

    def _stream(self, at: int, up: bool, payload: bytes) -> Sent:
        parts = [payload[i : i + MSS] for i in range(0, len(payload), MSS)]
        sent = []
        for number, part in enumerate(parts):
            flags = "PA" if number == len(parts) - 1 else "A"
            sent.append(self._segment(at + number * 120_000, up, flags, part))
            self.next[up] += len(part)
        self._segment(at + len(parts) * 120_000 + 400_000, not up, "A", b"")
        return sent[0]

    def _segment(
        self, at: int, up: bool, flags: str, payload: bytes, options: object = None
    ) -> Sent:
        ports = (self.source_port, self.target_port)
        sport, dport = ports if up else ports[::-1]
        acknowledged = 0 if flags == "S" else self.next[not up]
        layer = TCP(
            sport=sport,
            dport=dport,
            seq=self.next[up] & 0xFFFFFFFF,
            ack=acknowledged & 0xFFFFFFFF,
            flags=flags,
            window=4096,
            options=options or [],
        )
        return self.send(at, up, layer, payload)


class Crafted(NamedTuple):
    """A capture and its truth."""

    packets: Packets
    labels: list[Label]
    calls: list[Call]


class Scene:
    """A network on which generators act; `epoch` is the time (ns) at which it starts."""

    def __init__(self, name: str, epoch: int) -> None:
        self.name = name
        self.epoch = epoch
        self.dice = SeededRandom("midcall", name)
        self.flows: list[Flow] = []
        self.sent: list[Sent] = []
        self.plans: list[Plan] = []
        self._ids: dict[Host, int] = {}

    def udp(self, source: Host, sport: int, target: Host, dport: int, truth: Truth) -> Udp:
        """Open a UDP flow."""
        return Udp(self, (source, target), (sport, dport), truth)

    def tcp(self, source: Host, sport: int, target: Host, dport: int, truth: Truth) -> Tcp:
        """Open a TCP flow (its handshake is `open`)."""
        return Tcp(self, (source, target), (sport, dport), truth)

    def next_id(self, host: Host) -> int:
        """Return the IPv4 identification of a host's next packet."""
        last = self._ids.get(host)
        if last is None:
            last = self.dice.child(f"id {host.address}").number(0, 65535)
        self._ids[host] = (last + 1) & 0xFFFF
        return self._ids[host]

    def develop(self, envelope: Envelope = ETHERNET) -> Crafted:
        """Return the capture that a tap on a link with this envelope takes, and its truth."""
        frames: list[bytes] = []
        times: list[int] = []
        for sent in sorted(self.sent, key=lambda one: (one.time, one.serial)):
            wrapped = envelope.wrap(sent.layer, sent.up)
            sent.frame = len(frames) + 1
            sent.flow.frame = sent.flow.frame or sent.frame
            sent.flow.packets += len(wrapped)
            frames += wrapped
            times += [sent.time + 2_000 * i for i in range(len(wrapped))]
        labels = [label(flow) for flow in self.flows if flow.packets]
        calls = [described(plan) for plan in self.plans]
        return Crafted(packets_of(frames, times, envelope.link), sorted(labels), calls)


def label(flow: Flow) -> Label:
    """Return a flow's truth as a row."""
    truth = flow.truth
    return Label(
        flow.frame,
        flow.proto,
        flow.packets,
        truth.app,
        truth.role,
        truth.call,
        "high",
        f"crafted: {truth.evidence}",
    )


def described(plan: Plan) -> Call:
    """Return a plan with its flows and packets named by frame numbers."""
    gates = [
        Gate(
            flow=gate.flow.frame,
            by=[flow.frame for flow in gate.by],
            kind=gate.kind,
            needs=gate.needs,
            pairs=sorted([asked.frame, answered.frame] for asked, answered in gate.pairs),
        )
        for gate in plan.gates
    ]
    return Call(
        id=plan.id,
        app=plan.app,
        kind=plan.kind,
        media=[flow.frame for flow in plan.media],
        setup=sorted(flow.frame for flow in plan.setup),
        control=[flow.frame for flow in plan.control],
        signalling=[flow.frame for flow in plan.signalling],
        alternatives=[Alternative(flow=flow.frame, path=path) for flow, path in plan.alternatives],
        inferred=False,
        timer_s=plan.timer_s,
        timer_models=[] if plan.timer_s is not None else ["time", "pairwise", "strict"],
        timer_source=plan.timer_source,
        consent_s=plan.consent_s,
        note="crafted: the generator wrote the order of events, so nothing here is guessed",
        gates=gates,
    )
