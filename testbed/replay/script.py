# SPDX-License-Identifier: BSD-3-Clause
"""A causal script: a capture as send orders for two endpoints, "send this after that was received".

The capture point is assumed to be at the caller. A packet of the caller leaves at its captured
time. A packet of the remote side leaves a base delay earlier (BASE_DELAY; in flows whose replies
came sooner, half of the shortest reply time), and every packet crosses in that base delay.

Each end keeps its own clock. The next packet of an end is due at the latest of: its captured time;
the event that it waited for, plus the pause after that event in the capture; the packet before it
in the same flow and direction, plus the pause between the two in the capture. So a late event
delays all that follows by the same time, and no packet is left out. A pause longer than PAUSE is
attributed to a person (reading, dialling) or a timer: it absorbs lateness, down to PAUSE. The
events that an end waits for, each with its source:

- A reply waits for its request: STUN by transaction id (RFC 8489), DNS by message id (RFC 1035),
  TCP by acknowledgement number (RFC 9293), SIP by Call-ID and CSeq (RFC 3261), and the
  request-reply pairs of captures/calls.
- Packets of one flow and direction keep their order and their pauses. A reply over UDP is outside
  of that order: it is sent when its request comes, and delays no other packet.
- Voice and video over TCP wait for no acknowledgement: the sender's media clock times them.
- A packet that waits for a TCP segment waits until the bytes before that segment came, too.
- A flow to an address from a DNS answer of the capture waits for that answer.
- The end that did not begin a UDP flow sends in it only after it received a packet of it (RFC 4787:
  a NAT opens from inside). ICE checks are excepted: both ends begin them.
- Set-up and media of a call wait for the app's signalling that had reached that end in the capture.
  Media also wait for the set-up that gates them (captures/calls): the requesting end waits for the
  reply, an end that only answers waits for the request.

A packet is never sent where one of these timers ends first: the call's own (captures/calls has its
source), counted from the call's first packet; consent (RFC 7675) where the call uses it and the
capture shows it renewed in time; the last retransmission of what the packet waits for
(midcall.testbed.replay.retransmission).

Where no timer is documented, three models show whether that matters: "time" (nothing waits),
"pairwise" (the rules above), "strict" (also: each end continues in a UDP flow of a call only after
it received there what it had received in the capture, and flows of a call that began after its
first set-up success wait for that success).
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.numbers import DNS_PORT, TCP, UDP
from midcall.captures.packets.pcap import Packets
from midcall.captures.truth.calls import Call, Gate
from midcall.classifier.state.verdicts import APPS
from midcall.errors import TestbedError
from midcall.testbed.middlebox.media import media_at, renews_consent
from midcall.testbed.replay.dns_answers import addresses
from midcall.testbed.replay.packet_index import PacketIndex, answered, index_packets
from midcall.testbed.replay.retransmission import (
    APP_REQUEST,
    LAW_TABLE,
    NEVER_AGAIN,
    SIP_FINAL,
    SIP_INVITE,
    SIP_REQUEST,
    laws,
)
from midcall.testbed.replay.sides import CALLER, FAR, LOCAL, places
from midcall.testbed.replay.sip_dialogue import final_invite, transaction
from midcall.testbed.replay.tcp_stream import Streams, streams

Numbers = NDArray[np.int64]

#: One-way delay between the caller and the remote side where no reply bounds it, in ns.
BASE_DELAY = 10_000_000
#: The part of it between the caller and the box: 1 / LEG.
LEG = 2

#: The longest pause, in ns, that an end repeats in full after a late event. Longer ones absorb
#: lateness: a person does not read, dial or ring for longer because a packet was late.
PAUSE = 1_000_000_000

NEVER = np.iinfo(np.int64).max
MODELS = ("time", "pairwise", "strict")

#: Latches that one packet may wait for: signalling, gate of the call, name, first success.
SIGNALLING, GATE, NAME, SUCCESS = 0, 1, 2, 3
#: Scripts are cached up to this many packets in all, about 250 bytes each.
KEPT_PACKETS = 1_000_000


class CallPart(NamedTuple):
    """One call in terms of the script: numbers of flows and latches."""

    id: str
    flows: list[int]  # set-up, media and control
    media: list[int]
    setup: list[int]
    signalling: list[int]
    alternatives: list[int]
    latches: list[int]  # set-up successes
    signal_latches: list[int]


class Script(NamedTuple):
    """Send orders for two endpoints. Arrays are per packet of the capture unless stated otherwise.

    Times and pauses are int64 ns; numbers of packets, flows and latches are int64, -1 for none.
    """

    held: PacketIndex
    near_is_source: NDArray[np.bool_]  # per flow
    flow: Numbers  # flow number
    side: Numbers  # of the sender: CALLER, FAR, LOCAL
    send: Numbers  # when it leaves its sender if nothing is late
    base: Numbers  # one-way delay
    gate: Numbers  # the packet that its sender waits for
    think: Numbers  # pause after that came
    first_child: Numbers  # [n + 1]: packets that wait for packet i are
    child: Numbers  # child[first_child[i] : first_child[i + 1]]
    before: Numbers  # the packet of the same flow and sender that leaves before it
    gap: Numbers  # pause after that left
    after: Numbers  # the packet whose `before` it is
    latches: Numbers  # [n, 4 and more]: what must have opened
    need: Numbers  # per latch: how many of its packets must come
    first_opens: Numbers  # [n + 1]: latches that packet i opens
    opens: Numbers
    opens_at: Numbers  # per latch: when it opens if nothing is late
    heard: NDArray[np.uint8]  # 1: sent only after a packet of its flow was received
    first_reception: (
        Numbers  # [2 * flows + 2], per flow and side: first reception if nothing is late
    )
    call: Numbers  # number of its call
    timer: Numbers  # per call: how long it tries without success, NEVER where that is unknown
    latch_call: Numbers  # per latch: the call whose set-up success it is
    media: NDArray[np.uint8]  # 1: carries a call's voice or video
    law: NDArray[np.uint8]  # of testbed.retransmission.LAWS
    consent: NDArray[np.uint8]  # 1: renews its receiver's consent to send (RFC 7675)
    consent_ns: Numbers  # [2 * flows + 2], per flow and side: media stop so long after; 0: never
    streams: Streams
    calls: list[CallPart]
    model: str


def timed(orders: Script) -> Script:
    """Return a script with the pauses that follow from its `send`, `base` and what waits for what.

    Fills think, gap, opens_at and first_reception.
    """
    send, arrival = orders.send, orders.send + orders.base

    def pause(since: Numbers, events: Numbers) -> Numbers:
        known = since >= 0
        pauses = send - events[np.where(known, since, 0)] if len(send) else send
        return np.where(known, np.maximum(pauses, 0), 0).astype(np.int64)

    openers = np.repeat(np.arange(len(send)), np.diff(orders.first_opens))
    opens_at = np.zeros(len(orders.need), np.int64)
    order = np.lexsort((arrival[openers], orders.opens))
    starts = np.searchsorted(orders.opens[order], np.arange(len(orders.need)))
    counts = np.bincount(orders.opens, minlength=len(orders.need))
    for latch in np.flatnonzero(counts):
        last = starts[latch] + min(int(orders.need[latch]), int(counts[latch])) - 1
        opens_at[latch] = arrival[openers[order[last]]]
    first_reception = np.full(2 * len(orders.held.flows) + 2, NEVER, np.int64)
    inside = np.flatnonzero((orders.flow >= 0) & (orders.side != LOCAL))
    np.minimum.at(
        first_reception, 2 * orders.flow[inside] + 1 - orders.side[inside], arrival[inside]
    )
    return orders._replace(
        think=pause(orders.gate, arrival),
        gap=pause(orders.before, send),
        opens_at=opens_at,
        first_reception=first_reception,
    )


# ---- one script per capture, calls and model, cached for the next policy

_cache: OrderedDict[tuple[int, str, str], tuple[Packets, Script]] = OrderedDict()


def script(packets: Packets, calls: Sequence[Call] = (), model: str = "pairwise") -> Script:
    """Return the causal script of a capture; raises TestbedError for an unknown model.

    The last scripts are cached, since one capture is replayed under many policies.
    """
    if model not in MODELS:
        raise TestbedError(f"timer model: got {model!r}, expected one of {', '.join(MODELS)}")
    key = (id(packets.offset), repr(list(calls)), model)
    cached = _cache.get(key)
    if cached is not None and cached[0].offset is packets.offset:
        _cache.move_to_end(key)
        return cached[1]
    script_of_capture = write_script(packets, calls, model)
    _cache[key] = (packets, script_of_capture)
    while len(_cache) > 1 and sum(owner.total for owner, _ in _cache.values()) > KEPT_PACKETS:
        _cache.popitem(last=False)
    return script_of_capture


def write_script(packets: Packets, calls: Sequence[Call], model: str) -> Script:
    """Compile a capture to a script."""
    index = index_packets(packets)
    draft = Draft(index, calls, model)
    return draft.script()


class Draft:
    """Builds a script: each method adds the rules of one kind."""

    def __init__(self, index: PacketIndex, calls: Sequence[Call], model: str) -> None:
        self.index, self.calls, self.model = index, list(calls), model
        facts, count = index.facts, len(index.facts)
        self.flow = facts["flow"].copy()
        self.time = index.packets.time
        where = places(index.flows)
        self.near_is_source = where.near_is_source
        inside = self.flow >= 0
        slot = np.where(inside, self.flow, 0)
        up = (facts["up"] == 1) == (where.near_is_source[slot] if len(index.flows) else inside)
        self.side = np.where(up, CALLER, FAR)
        if len(index.flows):
            self.side[where.local[slot]] = LOCAL
        self.side[~inside] = LOCAL
        self.gate = np.full(count, -1, np.int64)
        self.latches = np.full((count, 4), -1, np.int64)
        self.after_reception = np.zeros(count, np.uint8)
        self.call = np.full(count, -1, np.int64)
        self.media = np.zeros(count, np.uint8)
        self.law = laws(index)
        self.need: list[int] = []
        self.latch_call: list[int] = []
        self.openers: list[tuple[int, int]] = []
        self.members = self._members()
        self.first = np.array([own[0] if len(own) else -1 for own in self.members], np.int64)
        self.parts: list[CallPart] = []

    def _members(self) -> list[Numbers]:
        """Return per flow the numbers of its packets, in order."""
        order = np.argsort(self.flow, kind="stable")
        bounds = np.searchsorted(self.flow[order], np.arange(len(self.index.flows) + 1))
        return [order[a:b] for a, b in pairwise(bounds)]

    def script(self) -> Script:
        """Apply every rule of the model and return the script."""
        self._name_calls()
        if self.model != "time":
            self.gate = answered(self.index)
            clocked = (self.media == 1) & (self.index.facts["proto"] == TCP)
            self.gate[(self.side == LOCAL) | clocked] = -1
            self._dialogues()
            self._declared_replies()
            self._listeners()
        self._delays()
        if self.model != "time":
            for number, call in enumerate(self.calls):
                self._signalling(number, call)
                self._gates(number, call)
            self._names()
        if self.model == "strict":
            for number in range(len(self.calls)):
                self._strict(number)
        return self._finish()

    # -- calls

    def _numbers(self, frames: Iterable[int]) -> list[int]:
        """Return the flows whose first frames are given."""
        total = len(self.flow)
        numbers = [int(self.flow[frame - 1]) for frame in frames if 0 < frame <= total]
        return list(dict.fromkeys(number for number in numbers if number >= 0))

    def _name_calls(self) -> None:
        for number, call in enumerate(self.calls):
            media, setup = self._numbers(call.media), self._numbers(call.setup)
            flows = list(dict.fromkeys([*media, *setup, *self._numbers(call.control)]))
            alternatives = self._numbers(path.flow for path in call.alternatives)
            signalling = [one for one in self._numbers(call.signalling) if one not in flows]
            self.parts.append(
                CallPart(call.id, flows, media, setup, signalling, alternatives, [], [])
            )
            for flow in flows:
                self.call[self.members[flow]] = number
            for flow in media:
                self._mark_media(flow, APPS.index(call.app))

    def _mark_media(self, flow: int, app: int) -> None:
        facts, data = self.index.facts, self.index.packets.data
        for i in self.members[flow]:
            at, end = int(facts["at"][i]), int(facts["end"][i])
            self.media[i] = end > at and media_at(data, at, end, app)

    # -- what waits for a packet

    def _payload(self, i: Any) -> bytes:
        facts = self.index.facts
        return self.index.packets.data[int(facts["at"][i]) : int(facts["end"][i])].tobytes()

    def _dialogues(self) -> None:
        """SIP: a response waits for its request, an ACK for the final response."""
        facts, data = self.index.facts, self.index.packets.data
        long = np.flatnonzero((facts["end"] - facts["at"] > 60) & (self.flow >= 0))
        letters = data[facts["at"][long]]
        asked: dict[tuple[int, int, tuple[bytes, bytes]], int] = {}
        for i in long[(letters >= 65) & (letters <= 83)]:
            message = self._payload(i)
            key = transaction(message)
            if key is None:
                continue
            self._sip_law(i, message, key)
            flow, side = int(self.flow[i]), int(self.side[i])
            if key[0]:
                self.gate[i] = asked.get((flow, 1 - side, key[1]), self.gate[i])
            else:
                asked[flow, side, key[1]] = int(i)
            final = final_invite(message)
            if final is not None:
                asked[flow, side, final] = int(i)

    def _sip_law(self, i: Any, message: bytes, key: tuple[bool, tuple[bytes, bytes]]) -> None:
        """Set when a SIP message over UDP is sent again."""
        if self.index.facts["proto"][i] != UDP:
            return
        if message.startswith(b"INVITE "):
            self.law[i] = SIP_INVITE
        elif not key[0]:
            self.law[i] = SIP_REQUEST
        elif final_invite(message) is not None:
            self.law[i] = SIP_FINAL

    def _declared_replies(self) -> None:
        """Requests and replies that captures/calls pairs."""
        for gate in self._all_gates():
            if gate.kind == "time":
                continue
            for request, reply in self._pairs(gate):
                if self.gate[reply] < 0:
                    self.gate[reply] = request
                    udp = self.index.facts["proto"][request] == UDP
                    if udp and self.law[request] == NEVER_AGAIN:
                        self.law[request] = APP_REQUEST

    def _all_gates(self) -> list[Gate]:
        return [gate for call in self.calls for gate in call.gates]

    def _pairs(self, gate: Gate) -> list[tuple[int, int]]:
        """Return the (request, reply) packets of a gate that go opposite ways."""
        total = len(self.flow)
        pairs = [(a - 1, b - 1) for a, b in gate.pairs if b <= total]
        return [(a, b) for a, b in pairs if self.side[a] + self.side[b] == CALLER + FAR]

    def _listeners(self) -> None:
        """UDP: the end that did not begin a flow sends after it received a packet of it."""
        facts = self.index.facts
        stun = facts["stun"] - 1
        check = (facts["stun"] > 0) & (stun & 0x0100 == 0)
        for own in self.members:
            if len(own) and facts["proto"][own[0]] == UDP:
                answering = self.side[own] != self.side[own[0]]
                self.after_reception[own] = answering & ~check[own] & (self.side[own] != LOCAL)

    # -- delays

    def _delays(self) -> None:
        """Set each flow's base delay so that no reply leaves before its request arrives."""
        limit = np.full(max(len(self.index.flows), 1), BASE_DELAY, np.int64)
        replies = np.flatnonzero((self.gate >= 0) & (self.side == FAR))
        gaps = (self.time[replies] - self.time[self.gate[replies]]) // 2
        np.minimum.at(limit, self.flow[replies], np.maximum(gaps, 0))
        for flow, own in enumerate(self.members):
            back = own[self.after_reception[own] == 1]
            if len(back) and self.side[back[0]] == FAR:
                gap = (self.time[back] - self.time[own[0]]).min() // 2
                limit[flow] = min(limit[flow], max(int(gap), 0))
        self.base = np.where(self.flow >= 0, limit[np.maximum(self.flow, 0)], 0)
        self.base[self.side == LOCAL] = 0
        self.send = np.where(self.side == FAR, self.time - self.base, self.time)

    def _arrival(self, packets: Numbers) -> Numbers:
        return self.send[packets] + self.base[packets]

    # -- latches

    def _latch(self, openers: Sequence[int], need: int = 1, call: int = -1) -> int:
        """Make a latch that opens once `need` of its packets came; returns its number."""
        number = len(self.need)
        self.need.append(need)
        self.latch_call.append(call)
        self.openers += [(int(packet), number) for packet in openers]
        return number

    def _signalling(self, number: int, call: Call) -> None:
        """Each flow of a call waits, at each end, for the signalling that had arrived there."""
        part, facts = self.parts[number], self.index.facts
        if not part.signalling:
            return
        signals = np.concatenate([self.members[flow] for flow in part.signalling])
        signals = signals[facts["size"][signals] > 0]
        latch_of: dict[int, int] = {}
        for flow in part.flows:
            own = self.members[flow]
            for side in (CALLER, FAR):
                mine = own[self.side[own] == side]
                if not len(mine):
                    continue
                known = signals[self.side[signals] == 1 - side]
                known = known[self._arrival(known) <= self.send[mine].min()]
                if not len(known):
                    continue
                last = int(known[np.argmax(self._arrival(known))])
                if last not in latch_of:
                    latch_of[last] = self._latch([last])
                    part.signal_latches.append(latch_of[last])
                self.latches[mine, SIGNALLING] = latch_of[last]

    def _gates(self, number: int, call: Call) -> None:
        """Packets of a gated flow after the reply wait for it, at the end that received it."""
        for gate in call.gates:
            flows = self._numbers([gate.flow])
            if gate.kind == "time" or not flows:
                continue
            own, pairs = self.members[flows[0]], self._pairs(gate)
            for side in (CALLER, FAR):
                mine = own[self.side[own] == side]
                replies = [b for _, b in pairs if self.side[b] == 1 - side]
                if replies:
                    self._gate_end(number, gate, mine, replies)
                elif pairs:
                    self._asked_end(mine, [a for a, _ in pairs])

    def _gate_end(self, number: int, gate: Gate, mine: Numbers, replies: list[int]) -> None:
        distinct = {int(self.flow[reply]) for reply in replies}
        need = len(distinct) if gate.needs == "all" else 1
        latch = self._latch(replies, need, number)
        self.parts[number].latches.append(latch)
        came = np.sort(self._arrival(np.array(replies)))[need - 1]
        first = replies[0] if need == 1 else max(replies)
        behind = mine[(mine > first) & (self.send[mine] >= came)]
        self.latches[behind, GATE] = latch

    def _asked_end(self, mine: Numbers, requests: list[int]) -> None:
        """An end that only answers sends its media after it received one of the requests."""
        came = self._arrival(np.array(requests)).min()
        behind = mine[self.send[mine] >= came]
        if len(behind):
            self.latches[behind, GATE] = self._latch(requests)

    def _names(self) -> None:
        """Flows to an address from a DNS answer wait, at the caller's end, for that answer."""
        flows, facts = self.index.flows, self.index.facts
        port = (flows["source_port"] == DNS_PORT) | (flows["target_port"] == DNS_PORT)
        if not port.any():
            return
        answers: dict[bytes, list[int]] = defaultdict(list)
        asks = (self.flow >= 0) & port[np.maximum(self.flow, 0)] & (facts["proto"] == UDP)
        for i in np.flatnonzero(asks & (self.side == FAR)):
            for address in addresses(self._payload(i)):
                answers[address].append(int(i))
        latch_of: dict[int, int] = {}
        for flow, own in enumerate(self.members):
            mine = own[self.side[own] == CALLER] if len(own) and not port[flow] else own[:0]
            if not len(mine) or mine[0] != own[0]:
                continue
            before = [i for i in answers.get(self._remote_address(flow), []) if i < mine[0]]
            if before:
                answer = before[-1]
                if answer not in latch_of:
                    latch_of[answer] = self._latch([answer])
                self.latches[mine, NAME] = latch_of[answer]

    def _remote_address(self, flow: int) -> bytes:
        row = self.index.flows[flow]
        lanes = row["target"] if self.near_is_source[flow] else row["source"]
        count = 4 if row["version"] == 6 else 1
        return b"".join(int(lane).to_bytes(4, "big") for lane in lanes[:count])

    def _strict(self, number: int) -> None:
        part, facts = self.parts[number], self.index.facts
        openers = [packet for packet, latch in self.openers if latch in part.latches]
        for flow in part.flows:
            own = self.members[flow]
            if facts["proto"][own[0]] != UDP:
                continue
            for side in (CALLER, FAR):
                mine, other = own[self.side[own] == side], own[self.side[own] == 1 - side]
                if len(other) and len(mine):
                    came = self._arrival(other).min()
                    self.after_reception[mine[self.send[mine] >= came]] = 1
        if not openers:
            return
        opened = int(self._arrival(np.array(openers)).min())
        success: int | None = None
        for flow in part.flows:
            own = self.members[flow]
            if self.send[own].min() > opened:
                if success is None:
                    success = self._latch([one for one in openers if self._came_at(one, opened)])
                self.latches[own, SUCCESS] = success

    def _came_at(self, packet: int, time: int) -> bool:
        return int(self.send[packet] + self.base[packet]) <= time

    # -- timers, order and retransmission

    def _timers(self) -> Numbers:
        """Return how long each call tries without success, ns; NEVER where that is unknown.

        A timer that ends before the first success of the capture itself is not the app's.
        """
        out = np.full(max(len(self.calls), 1), NEVER, np.int64)
        if self.model == "time":
            return out
        for number, call in enumerate(self.calls):
            part = self.parts[number]
            if call.timer_s is None or not part.latches:
                continue
            begin = min(int(self.send[self.members[flow]].min()) for flow in part.flows)
            timer = int(call.timer_s * 1e9)
            openers = [packet for packet, latch in self.openers if latch in part.latches]
            if int(self._arrival(np.array(openers)).min()) <= begin + timer:
                out[number] = timer
        return out

    def _order(self) -> tuple[Numbers, Numbers]:
        """Return per packet the one before it and the one after it in its flow and direction.

        Replies over UDP are outside of the order, as are packets that meet no box.
        """
        count = len(self.flow)
        before, after = np.full(count, -1, np.int64), np.full(count, -1, np.int64)
        if self.model == "time":
            return before, after
        tcp = self.index.facts["proto"] == TCP
        rows = np.flatnonzero((self.flow >= 0) & (self.side != LOCAL) & (tcp | (self.gate < 0)))
        way = self.flow[rows] * 2 + self.side[rows]
        rows = rows[np.lexsort((rows, self.send[rows], way))]
        way = self.flow[rows] * 2 + self.side[rows]
        same = np.flatnonzero(way[1:] == way[:-1]) if len(rows) else rows
        before[rows[same + 1]] = rows[same]
        after[rows[same]] = rows[same + 1]
        return before, after

    def _laws(self) -> NDArray[np.uint8]:
        """Return each packet's rule of retransmission.

        A request without an answer in the capture is not repeated: the copies that its sender made
        are in the capture. The model "time" waits for no answer, so it repeats nothing.
        """
        answered_by = np.zeros(len(self.flow), bool)
        answered_by[self.gate[self.gate >= 0]] = True
        waits = LAW_TABLE[self.law, 3] == 1
        return np.where(waits & ~answered_by, NEVER_AGAIN, self.law).astype(np.uint8)

    def _consent(self) -> tuple[NDArray[np.uint8], Numbers]:
        """Return which packets renew consent, and after how long without renewal media stop, ns.

        Consent applies in a direction whose sender had it renewed throughout the capture, at the
        pace of RFC 7675 (5.1: a check every 4 to 6 s): at least twice within the limit. Elsewhere
        the capture shows that the app does not use consent, or does not show how.
        """
        facts, data = self.index.facts, self.index.packets.data
        renews = np.zeros(len(self.flow), np.uint8)
        out = np.zeros(2 * len(self.index.flows) + 2, np.int64)
        for number, call in enumerate(self.calls):
            if call.consent_s is None or self.model == "time":
                continue
            limit = int(call.consent_s * 1e9)
            for flow in self.parts[number].media:
                own = self.members[flow]
                for i in own[facts["proto"][own] == UDP]:
                    renews[i] = renews_consent(data, int(facts["at"][i]), int(facts["end"][i]))
                for side in (CALLER, FAR):
                    talk = self.send[own[(self.side[own] == side) & (self.media[own] == 1)]]
                    renewals = self._arrival(own[(self.side[own] == 1 - side) & (renews[own] == 1)])
                    if not len(talk) or not len(renewals):
                        continue
                    inside = renewals[(renewals > talk.min()) & (renewals < talk.max())]
                    edges = np.concatenate(([talk.min()], np.sort(inside), [talk.max()]))
                    if np.diff(edges).max() <= limit // 2:
                        out[2 * flow + side] = limit
        return renews, out

    # -- the arrays of the event loop

    def _finish(self) -> Script:
        count = len(self.flow)
        gated = np.flatnonzero(self.gate >= 0)
        order = gated[np.argsort(self.gate[gated], kind="stable")]
        opening = sorted(self.openers)
        keys = np.array([packet for packet, _ in opening], np.int64)
        steps = np.arange(count + 1)
        empty = np.zeros(0, np.int64)
        before, after = self._order()
        renews, consent_ns = self._consent()
        return timed(
            Script(
                held=self.index,
                near_is_source=self.near_is_source,
                flow=self.flow,
                side=self.side,
                send=self.send,
                base=self.base,
                gate=self.gate,
                think=empty,
                first_child=np.searchsorted(self.gate[order], steps).astype(np.int64),
                child=order.astype(np.int64),
                before=before,
                gap=empty,
                after=after,
                latches=self.latches,
                need=np.array(self.need or [0], np.int64),
                first_opens=np.searchsorted(keys, steps).astype(np.int64),
                opens=np.array([latch for _, latch in opening], np.int64),
                opens_at=empty,
                heard=self.after_reception,
                first_reception=empty,
                call=self.call,
                timer=self._timers(),
                latch_call=np.array(self.latch_call or [-1], np.int64),
                media=self.media,
                law=self._laws(),
                consent=renews,
                consent_ns=consent_ns,
                streams=streams(self.index.facts, self.side),
                calls=self.parts,
                model=self.model,
            )
        )
