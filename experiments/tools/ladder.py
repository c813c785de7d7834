# SPDX-License-Identifier: BSD-3-Clause
"""The ladder of a call: what each end sent, what the box did with it, and what arrived.

A ladder is a list of lines in order of time. The first packets, the packet that decided, the first
one that a rule acted on and the first fates after it have a line each. Between them, the packets of
one direction are one line with counts, so that a ladder has at most LINES lines of packets. Two
more lines may follow: packets that were never sent, and the other packets of the capture. So the
counts of all lines add up to those of the table of fates (testbed.replay.packet_trace). Addresses
are masked.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.numbers import ICMP, ICMP6, SCTP, TCP, UDP
from midcall.captures.truth.calls import Call
from midcall.classifier.engine import Engine
from midcall.classifier.explain.dissect import Packet, walk
from midcall.classifier.export import addresses
from midcall.classifier.state.packet_fields import SIGN_RTP_AT
from midcall.experiments.measure.redact import masked
from midcall.experiments.results.tables import LadderLine
from midcall.experiments.tools.deciding_packet import Decision, decision
from midcall.experiments.tools.explain import alone
from midcall.experiments.tools.packet_text import reading
from midcall.testbed.assess.call_verdict import CallMasks
from midcall.testbed.middlebox.decide import DELIVERED, DROPPED, FATES, FORGED, LOST, TOO_BIG
from midcall.testbed.middlebox.inject import FRAME_KINDS
from midcall.testbed.middlebox.rule_table import UP
from midcall.testbed.network import access as networks
from midcall.testbed.network.access import ETHERNET_LENGTH
from midcall.testbed.network.tcp import ACK, FIN, RST, SYN
from midcall.testbed.replay.packet_trace import DIRECTIONS, injected
from midcall.testbed.replay.script import LEG
from midcall.testbed.replay.sides import CALLER, FAR
from midcall.testbed.replay.simulator import Simulation

Mask = NDArray[np.bool_]
Numbers = NDArray[np.int64]

#: Lines of packets, at most.
LINES = 36
#: First packets of a call, and first packets from the first act of a rule on, with their own lines.
FIRST, AFTER = 5, 6
#: Between two lines of single packets, so many others are shown one by one if there is room.
FEW = 4
#: Acts that let a packet pass, some of them later.
SLOWING = ("delay", "jitter", "loss", "police", "shape")
#: The fate of an injected frame, behind those of packets.
INJECTED = len(FATES)
#: Sorts of events: only those of one sort are in one line.
OTHER, TCP_PACKET, STUN_PACKET, MEDIA_PACKET, FRAME = range(5)
SORTS = 5
GROUPS = 3 * SORTS

TRANSPORTS = {TCP: "TCP", UDP: "UDP", ICMP: "ICMP", ICMP6: "ICMP", SCTP: "SCTP"}
FLAGS = ((SYN, "SYN"), (FIN, "FIN"), (RST, "RST"), (ACK, "ACK"))
FORGED_WORDS = {"reset": "TCP reset", "finish": "TCP FIN", "dns answer": "DNS answer",
                "unreachable": "ICMP unreachable", "refused": "ICMP unreachable",
                "duplicate": "duplicate", "corrupted": "corrupted packet",
                "block page": "block page"}  # fmt: skip

#: A line without a packet.
EMPTY: LadderLine = {
    "line": 0, "kind": "", "direction": "", "frame": None, "attempt": None, "remote": None,
    "what": "", "begin_s": None, "end_s": None, "arrived_s": None, "bytes": 0, "sent": 0,
    "delivered": 0, "delayed": 0, "delay_ms": None, "dropped": 0, "lost": 0, "injected": 0,
    "not_sent": 0, "rule": None, "recognises": False, "acts": False, "decided_by": None,
    "evidence": None, "named": None, "octets_at": None, "payload_at": None, "octets": None,
    "marks": None, "no_marks": None,
}  # fmt: skip


class Events(NamedTuple):
    """Sendings of packets and frames that the box injected, in order of time; each int64[n].

    time: ns, when a packet left its sender, or when the box injected a frame; packet: its number,
    or that of the packet that the frame answers; attempt: row of the simulation's attempts, and
    letter: of its letters, -1 for none; side: CALLER for the way up, FAR for down, LOCAL;
    arrived: ns, -1 never; late: ns for which a rule kept the packet; fate: of FATES, or INJECTED;
    rule: -1 none; sort: OTHER, TCP_PACKET, STUN_PACKET, MEDIA_PACKET or FRAME.
    """

    time: Numbers
    packet: Numbers
    attempt: Numbers
    letter: Numbers
    side: Numbers
    arrived: Numbers
    late: Numbers
    fate: Numbers
    rule: Numbers
    sort: Numbers

    @property
    def group(self) -> Numbers:
        """Return by what events are folded, int64[n] below GROUPS: direction and sort."""
        return self.side * SORTS + self.sort

    def where(self, which: Numbers | Mask) -> Events:
        """Return some of the events."""
        return Events(*(column[which] for column in self))


def ladder(simulation: Simulation, control: Simulation, call: Call | None) -> list[LadderLine]:
    """Return the lines of a call's ladder; without a call, those of all packets of the capture.

    control: the same capture under the empty policy. The lines are those of the simulation; pass
    the control twice to draw a call that no rule acts on.
    """
    own = own_packets(simulation, control, call)
    events = events_of(simulation)
    acts = np.flatnonzero(own.watched[events.packet] & acted_on(simulation, events))
    act = int(events.attempt[acts[0]]) if len(acts) else None
    decided = decision(simulation, call, own.call, act)
    watched = own.watched.copy()
    if decided is not None:
        watched[simulation.attempts["packet"][decided.attempt]] = True
    mine = events.where(watched[events.packet])
    lines = [*drawn(simulation, mine, own.media, decided, act)]
    lines += remainder(simulation, events.where(~watched[events.packet]), watched)
    for number, line in enumerate(lines, 1):
        line["line"] = number
    return lines


class Own(NamedTuple):
    """Which packets are of a call, which of it or of flows it waits for, which are its media."""

    call: Mask
    watched: Mask
    media: Mask


def own_packets(simulation: Simulation, control: Simulation, call: Call | None) -> Own:
    """Return which packets belong to a call; without a call, all of them."""
    if call is None:
        count = len(simulation.fates)
        return Own(*(np.full(count, value) for value in (True, True, False)))
    part = next(one for one in simulation.script.calls if one.id == call.id)
    masks = CallMasks(simulation, control, call, part)
    return Own(masks.own, np.asarray(masks.own | masks.awaited), masks.media)


def events_of(simulation: Simulation) -> Events:
    """Return every sending and every injected frame of a simulation."""
    attempts, script = simulation.attempts, simulation.script
    packet = attempts["packet"].astype(np.int64)
    side = script.side[packet]
    base = script.base[packet]
    behind = np.where(side == CALLER, base - base // LEG, base // LEG)
    came = attempts["arrived"] >= 0
    late = np.where(
        came & (attempts["box"] >= 0), attempts["arrived"] - attempts["box"] - behind, 0
    )
    packets = (
        attempts["sent"], packet, np.arange(len(packet)), np.full(len(packet), -1), side,
        attempts["arrived"], late, attempts["fate"], attempts["rule"],
        packet_sorts(simulation)[packet],
    )  # fmt: skip
    row_of = {
        (int(row["packet"]), int(row["box"])): number
        for number, row in enumerate(attempts)
        if row["letters"] > 0
    }
    frames = [
        (
            int(letter["time"]), int(letter["packet"]),
            row_of[int(letter["packet"]), int(letter["time"])], number,
            CALLER if letter["toward"] == UP else FAR, arrived, 0, INJECTED, int(letter["rule"]),
            FRAME,
        )
        for number, (letter, _, arrived) in enumerate(injected(simulation))
    ]  # fmt: skip
    columns = zip(*frames, strict=True) if frames else [()] * len(packets)
    joined = [
        np.concatenate((one.astype(np.int64), np.array(more, np.int64)))
        for one, more in zip(packets, columns, strict=True)
    ]
    events = Events(*joined)
    return events.where(np.argsort(events.time, kind="stable"))


def packet_sorts(simulation: Simulation) -> Numbers:
    """Return the sort of each packet of a capture, int64[packets]."""
    script = simulation.script
    facts = script.held.facts
    sort = np.where(facts["proto"] == TCP, TCP_PACKET, OTHER)
    sort[facts["stun"] > 0] = STUN_PACKET
    sort[script.media == 1] = MEDIA_PACKET
    return np.where(facts["flow"] < 0, OTHER, sort).astype(np.int64)


def acted_on(simulation: Simulation, events: Events) -> Mask:
    """Return which sendings a rule dropped, answered, delayed or sent through its queue."""
    sending = (events.fate != INJECTED) & (events.rule >= 0)
    answered = np.zeros(len(events.fate), bool)
    answered[sending] = simulation.attempts["letters"][events.attempt[sending]] > 0
    stopped = (events.fate == DROPPED) | (events.fate == FORGED)
    return np.asarray(sending & (stopped | answered | slowed(simulation, events)))


def slowed(simulation: Simulation, events: Events) -> Mask:
    """Return which packets arrived after a rule whose act can delay packets, bool[n]."""
    slows = np.array([rule.act in SLOWING for rule in simulation.policy.rules] or [False])
    ruled = (events.fate == DELIVERED) & (events.rule >= 0)
    return np.asarray(ruled & slows[np.maximum(events.rule, 0)])


# ---- which events have a line of their own


def drawn(
    simulation: Simulation,
    events: Events,
    media: Mask,
    decided: Decision | None,
    act: int | None,
) -> Iterator[LadderLine]:
    """Yield the lines of some events."""
    packets = events.letter < 0
    deciding = position(events, packets, None if decided is None else decided.attempt)
    acting = position(events, packets, act)
    single = chosen(events, wanted(events, media, deciding, acting))
    reader = Reader(simulation, events)
    begin = int(events.time[0]) if len(events.time) else 0
    for line_events in folded(events, single):
        line = line_of(simulation, events.where(line_events), begin)
        here = set(line_events.tolist())
        if len(line_events) == 1:
            line["what"] = reader.what(int(line_events[0]))
        line["recognises"] = decided is not None and decided.by == "classifier" and deciding in here
        line["acts"] = acting in here
        if decided is not None and deciding in here:
            mark_decision(line, decided)
        yield line


def position(events: Events, packets: Mask, attempt: int | None) -> int:
    """Return the position of a sending among some events, -1 where it is None."""
    if attempt is None:
        return -1
    return int(np.flatnonzero(packets & (events.attempt == attempt))[0])


def wanted(events: Events, media: Mask, deciding: int, acting: int) -> list[int]:
    """Return the positions that should have a line of their own, the most important first."""
    count = len(events.time)
    order = [deciding, acting, *range(min(FIRST, count))]
    if acting >= 0:
        order += range(acting, min(acting + AFTER, count))
    kinds = events.group * (INJECTED + 1) + events.fate
    order += sorted(np.unique(kinds, return_index=True)[1].tolist())
    order += [deciding - 1, deciding + 1] if deciding >= 0 else []
    for side in (CALLER, FAR):
        order += np.flatnonzero(media[events.packet] & (events.side == side))[:1].tolist()
    return [at for at in dict.fromkeys(order) if 0 <= at < count]


def chosen(events: Events, order: Sequence[int]) -> Mask:
    """Return which events have a line of their own, bool[n], so that there are at most LINES."""
    single = np.zeros(len(events.time), bool)
    group = events.group

    def try_out(more: Sequence[int] | Numbers) -> None:
        single[more] = True
        if lines_of(group, single) > LINES:
            single[more] = False

    for at in order:
        try_out([at])
    for gap in gaps(single):
        if len(gap) <= FEW:
            try_out(gap)
    return single


def lines_of(group: Numbers, single: Mask) -> int:
    """Return how many lines there are if some events have one of their own."""
    stretch = np.cumsum(single)[~single] * GROUPS + group[~single]
    return int(single.sum() + np.count_nonzero(np.bincount(stretch))) if len(single) else 0


def gaps(single: Mask) -> list[Numbers]:
    """Return the positions between those that are true, one array per gap."""
    rest = np.flatnonzero(~single)
    return [gap for gap in np.split(rest, np.flatnonzero(np.diff(rest) > 1) + 1) if len(gap)]


def folded(events: Events, single: Mask) -> Iterator[Numbers]:
    """Yield the positions of the events of each line, lines in order of their first event."""
    group = events.group
    lines = [np.array([at]) for at in np.flatnonzero(single)]
    for gap in gaps(single):
        lines += [gap[group[gap] == one] for one in np.unique(group[gap])]
    yield from sorted(lines, key=lambda line: int(line[0]))


# ---- one line


def line_of(simulation: Simulation, events: Events, begin: int) -> LadderLine:
    """Return the line of one or more events of one group; begin: ns, the time 0."""
    facts = simulation.script.held.facts
    packet, box = int(events.packet[0]), events.fate == INJECTED
    single = len(events.time) == 1
    late = events.late[slowed(simulation, events) & (events.late > 0)]
    rules = sorted({simulation.rules[rule] for rule in np.unique(events.rule) if rule >= 0})
    came = events.arrived[events.arrived >= 0]
    size = sizes(simulation, events)
    kind = "injected" if box[0] else "packet"
    return {
        **EMPTY,
        "kind": kind if single else f"{kind}s",
        "direction": DIRECTIONS[int(events.side[0])],
        "frame": packet + 1 if single else None,
        "attempt": int(simulation.attempts["number"][events.attempt[0]]) if single else None,
        "remote": remote(simulation, packet) if single and facts[packet]["flow"] >= 0 else None,
        "what": sorts(simulation, events),
        "begin_s": (int(events.time[0]) - begin) / 1e9,
        "end_s": (int(events.time[-1]) - begin) / 1e9,
        "arrived_s": (int(came[0]) - begin) / 1e9 if single and len(came) else None,
        "bytes": int(size.sum()),
        "sent": int((~box).sum()),
        "delivered": int((events.fate == DELIVERED).sum()),
        "delayed": len(late),
        "delay_ms": float(late.mean()) / 1e6 if len(late) else None,
        "dropped": int(((events.fate == DROPPED) | (events.fate == FORGED)).sum()),
        "lost": int(((events.fate == LOST) | (events.fate == TOO_BIG)).sum()),
        "injected": int(box.sum()),
        "rule": ", ".join(rules) or None,
    }


def sizes(simulation: Simulation, events: Events) -> Numbers:
    """Return the bytes of each event's IP packet, of injected frames with their headers."""
    facts, packets = simulation.script.held.facts, simulation.script.held.packets
    ip = facts["ip_size"][events.packet]
    size = np.where(ip > 0, ip, packets.wire[events.packet])
    box = events.letter >= 0
    overhead = ETHERNET_LENGTH + networks.link(simulation.access).overhead
    size[box] = simulation.letters["length"][events.letter[box]] - overhead
    return np.asarray(size)


def remote(simulation: Simulation, packet: int) -> str:
    """Return the transport and the masked remote end of a packet, "UDP 31.13.x.x:3478"."""
    held = simulation.script.held
    number = int(held.facts["flow"][packet])
    flow = held.flows[number]
    side = "target" if simulation.script.near_is_source[number] else "source"
    [address] = addresses(flow[side][None, :], np.array([flow["version"]])).tolist()
    hidden = f"[{masked(address)}]" if flow["version"] == 6 else masked(address)
    proto = int(flow["proto"])
    port = f":{int(flow[f'{side}_port'])}" if proto in (TCP, UDP, SCTP) else ""
    return f"{TRANSPORTS.get(proto, f'IP protocol {proto}')} {hidden}{port}"


def mark_decision(line: LadderLine, decided: Decision) -> None:
    """Write the decision of a line's packet into the line."""
    line["decided_by"], line["evidence"] = decided.by, decided.evidence
    line["named"], line["no_marks"] = decided.named, decided.no_marks
    if decided.octets:
        line["octets_at"], line["payload_at"] = decided.octets_at, decided.payload_at
        line["octets"] = " ".join(decided.octets)
        line["marks"] = json.dumps([[one.at, one.length, one.caption] for one in decided.marks])


# ---- the content of a packet


def sort_of(simulation: Simulation, packet: int) -> str:
    """Return the kind of a packet in one or two words, as far as its headers show it."""
    script = simulation.script
    fact = script.held.facts[packet]
    if fact["flow"] < 0:
        return "no IP"
    proto = int(fact["proto"])
    if script.media[packet]:
        return "media"
    if fact["stun"]:
        return "STUN"
    word = TRANSPORTS.get(proto, f"IP protocol {proto}")
    if proto == TCP and not fact["size"]:
        return " ".join([word, *(name for flag, name in FLAGS if fact["flags"] & flag)])
    return f"{word} data" if fact["size"] else word


def sorts(simulation: Simulation, events: Events) -> str:
    """Return the kinds of some events, the most frequent first, three at most."""
    if events.letter[0] >= 0:
        kinds = simulation.letters["kind"][events.letter].tolist()
        counts = Counter(FORGED_WORDS[FRAME_KINDS[kind]] for kind in kinds)
    else:
        numbers, times = np.unique(events.packet, return_counts=True)
        counts = Counter[str]()
        for packet, n in zip(numbers.tolist(), times.tolist(), strict=True):
            counts[sort_of(simulation, packet)] += n
    return ", ".join(word for word, _ in sorted(counts.items(), key=lambda one: -one[1])[:3])


class Reader:
    """Reads single packets as `midcall explain` does, without names and addresses."""

    def __init__(self, simulation: Simulation, events: Events) -> None:
        self.simulation, self.events = simulation, events
        self.engine = Engine(room=64, model=None)

    def what(self, at: int) -> str:
        """Return what the packet of an event holds: its messages, the outermost first."""
        events, simulation = self.events, self.simulation
        plain = sorts(simulation, events.where(np.array([at])))
        packet = int(events.packet[at])
        fact = simulation.script.held.facts[packet]
        if events.letter[at] >= 0 or fact["flow"] < 0 or not fact["size"]:
            return plain
        words = [word.partition(";")[0] for word in self.read(packet)]
        words = [*(word.partition(",")[0] for word in words[:-1]), *words[-1:]]
        known = [word for word in words if not word.endswith("no standard reader takes")]
        return " / ".join(known) or plain

    def read(self, packet: int) -> list[str]:
        """Return the messages in a packet in words."""
        one = alone(self.simulation.dressed or self.simulation.script.held.packets, packet)
        self.engine.signs[SIGN_RTP_AT] = 0
        self.engine.feed(one)
        walked: Packet = walk(one.data, self.engine.signs)
        return reading(walked, None, reveal=False)


# ---- what is left


def remainder(simulation: Simulation, others: Events, watched: Mask) -> Iterator[LadderLine]:
    """Yield a line for the call's packets that were never sent, one for all other packets."""
    unsent = ~simulation.fates["sent"]
    if (unsent & watched).any():
        yield {**EMPTY, "kind": "not_sent", "not_sent": int((unsent & watched).sum())}
    left = int((unsent & ~watched).sum())
    if len(others.time):
        line = line_of(simulation, others, int(others.time[0]))
        line["kind"], line["direction"], line["not_sent"] = "others", "", left
        line["begin_s"] = line["end_s"] = line["arrived_s"] = None
        line["frame"] = line["attempt"] = line["remote"] = None
        yield line
    elif left:
        yield {**EMPTY, "kind": "others", "not_sent": left}
