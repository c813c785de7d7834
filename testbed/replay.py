# SPDX-License-Identifier: BSD-3-Clause
"""A causal script: a capture as two endpoints' orders, "send this after that was received".

A capture was taken at one place, taken to be the caller's. What the caller sent left at the time
captured; what the far side sent left a base delay earlier (BASE_DELAY, less in flows whose replies
came sooner: half of the shortest reply), and everything crosses in that base delay. Rules, each
with its source:

- A reply waits for its request: STUN by transaction id (RFC 8489), DNS by message id (RFC 1035),
  TCP by acknowledgement number (RFC 9293), SIP by Call-ID and CSeq (RFC 3261), and the
  request-reply pairs of captures/calls. It leaves its think time after the request came.
- A TCP segment is of use to nobody who waits for it until the bytes before it came.
  Retransmissions in the capture wait for what they acknowledge, no more; none are made up.
- A flow to an address that a DNS answer of the capture told waits for that answer.
- Whoever did not begin a UDP flow sends in it only once something of it came (RFC 4787: a NAT
  opens from inside), checks of ICE excepted, which both ends begin.
- Set-up and media of a call wait for the app's signalling as far as it had come to that end, media
  also for the set-up that gates them (captures/calls): the asking end for the reply, an end that
  only answered for the request. Media are clocked by the talker: what was due before its gate
  opened is not sent later, it is not sent.
- A call without set-up success when its app's timer ends gives up (captures/calls has the source).

Where no timer is documented, three models tell whether that matters: "time" (nothing waits),
"pairwise" (the rules above), "strict" (also: each end goes on in a UDP flow of a call only after it
heard there what it had heard in the capture, and flows of a call that began after its first set-up
success wait for that success).
"""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from captures.calls import Call, Gate
from captures.pcap import Packets
from classifier.decode import UDP
from classifier.verdicts import APPS
from testbed.answers import addresses
from testbed.dialogue import final_invite, transaction
from testbed.errors import TestbedError
from testbed.media import media_at
from testbed.places import CALLER, FAR, LOCAL, places
from testbed.stream import Streams, streams
from testbed.survey import DNS_PORT, Survey, answered, survey

Numbers = NDArray[np.int64]

#: One-way delay between the caller and the far side where no reply tells better, in ns.
BASE_DELAY = 10_000_000
#: The part of it between the caller and the box: 1 / LEG.
LEG = 2

NEVER = np.iinfo(np.int64).max
MODELS = ("time", "pairwise", "strict")

#: Latches that one packet may wait for: signalling, gate of the call, name, first success.
SIGNALLING, GATE, NAME, SUCCESS = 0, 1, 2, 3
#: Scripts are kept up to this many packets in all, about 250 bytes each.
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
    """Orders for two endpoints. Arrays are per packet of the capture unless said otherwise."""

    held: Survey
    near_is_source: NDArray[np.bool_]  # per flow
    flow: Numbers  # flow number, -1 where there is none
    side: Numbers  # of the sender: CALLER, FAR, LOCAL
    send: Numbers  # ns; when it leaves its sender if nothing is lost
    base: Numbers  # ns; one-way delay
    gate: Numbers  # the packet that its sender waits for, -1
    think: Numbers  # ns after that came
    first_child: Numbers  # [n + 1]: packets that wait for packet i are
    child: Numbers  # child[first_child[i] : first_child[i + 1]]
    latches: Numbers  # [n, 4 and more]: what must have opened at its time, -1
    need: Numbers  # per latch: how many of its packets must come
    first_opens: Numbers  # [n + 1]: latches that packet i opens
    opens: Numbers
    heard: NDArray[np.uint8]  # 1: only after something of its flow came
    call: Numbers  # number of its call, -1
    deadline: Numbers  # per call: when it gives up without success
    latch_call: Numbers  # per latch: the call whose set-up success it is, -1
    media: NDArray[np.uint8]  # 1: carries a call's voice or video
    streams: Streams
    calls: list[CallPart]
    model: str


# ---- one script per capture, calls and model, kept for the next policy

_kept: OrderedDict[tuple[int, str, str], tuple[Packets, Script]] = OrderedDict()


def script(packets: Packets, calls: Sequence[Call] = (), model: str = "pairwise") -> Script:
    """Return the causal script of a capture; raises TestbedError for an unknown model.

    The last scripts are kept, since one capture is replayed under many policies.
    """
    if model not in MODELS:
        raise TestbedError(f"timer model: got {model!r}, expected one of {', '.join(MODELS)}")
    key = (id(packets.offset), repr(list(calls)), model)
    found = _kept.get(key)
    if found is not None and found[0].offset is packets.offset:
        _kept.move_to_end(key)
        return found[1]
    made = write_script(packets, calls, model)
    _kept[key] = (packets, made)
    while len(_kept) > 1 and sum(held.total for held, _ in _kept.values()) > KEPT_PACKETS:
        _kept.popitem(last=False)
    return made


def write_script(packets: Packets, calls: Sequence[Call], model: str) -> Script:
    """Compile a capture to a script."""
    held = survey(packets)
    draft = Draft(held, calls, model)
    return draft.script()


class Draft:
    """A script in the making: each method adds the rules of one kind."""

    def __init__(self, held: Survey, calls: Sequence[Call], model: str) -> None:
        self.held, self.calls, self.model = held, list(calls), model
        facts, count = held.facts, len(held.facts)
        self.flow = facts["flow"].copy()
        self.time = held.packets.time
        where = places(held.flows)
        self.near_is_source = where.near_is_source
        inside = self.flow >= 0
        slot = np.where(inside, self.flow, 0)
        up = (facts["up"] == 1) == (where.near_is_source[slot] if len(held.flows) else inside)
        self.side = np.where(up, CALLER, FAR)
        if len(held.flows):
            self.side[where.local[slot]] = LOCAL
        self.side[~inside] = LOCAL
        self.gate = np.full(count, -1, np.int64)
        self.latches = np.full((count, 4), -1, np.int64)
        self.heard = np.zeros(count, np.uint8)
        self.call = np.full(count, -1, np.int64)
        self.media = np.zeros(count, np.uint8)
        self.need: list[int] = []
        self.latch_call: list[int] = []
        self.openers: list[tuple[int, int]] = []
        self.members = self._members()
        self.first = np.array([own[0] if len(own) else -1 for own in self.members], np.int64)
        self.parts: list[CallPart] = []

    def _members(self) -> list[Numbers]:
        """Return per flow the numbers of its packets, in order."""
        order = np.argsort(self.flow, kind="stable")
        bounds = np.searchsorted(self.flow[order], np.arange(len(self.held.flows) + 1))
        return [order[a:b] for a, b in pairwise(bounds)]

    def script(self) -> Script:
        """Apply every rule of the model and return the script."""
        self._name_calls()
        if self.model != "time":
            self.gate = answered(self.held)
            self.gate[self.side == LOCAL] = -1
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
        found = [int(self.flow[frame - 1]) for frame in frames if 0 < frame <= total]
        return list(dict.fromkeys(number for number in found if number >= 0))

    def _name_calls(self) -> None:
        for number, call in enumerate(self.calls):
            media, setup = self._numbers(call.media), self._numbers(call.setup)
            flows = list(dict.fromkeys([*media, *setup, *self._numbers(call.control)]))
            ways = self._numbers(way.flow for way in call.alternatives)
            signalling = [one for one in self._numbers(call.signalling) if one not in flows]
            self.parts.append(CallPart(call.id, flows, media, setup, signalling, ways, [], []))
            for flow in flows:
                self.call[self.members[flow]] = number
            for flow in media:
                self._mark_media(flow, APPS.index(call.app))

    def _mark_media(self, flow: int, app: int) -> None:
        facts, data = self.held.facts, self.held.packets.data
        for i in self.members[flow]:
            at, end = int(facts["at"][i]), int(facts["end"][i])
            self.media[i] = end > at and media_at(data, at, end, app)

    # -- what waits for a packet

    def _payload(self, i: Any) -> bytes:
        facts = self.held.facts
        return self.held.packets.data[int(facts["at"][i]) : int(facts["end"][i])].tobytes()

    def _dialogues(self) -> None:
        """SIP: a response waits for its request, an ACK for the final response."""
        facts, data = self.held.facts, self.held.packets.data
        long = np.flatnonzero((facts["end"] - facts["at"] > 60) & (self.flow >= 0))
        letters = data[facts["at"][long]]
        asked: dict[tuple[int, int, tuple[bytes, bytes]], int] = {}
        for i in long[(letters >= 65) & (letters <= 83)]:
            message = self._payload(i)
            told = transaction(message)
            if told is None:
                continue
            flow, side = int(self.flow[i]), int(self.side[i])
            if told[0]:
                self.gate[i] = asked.get((flow, 1 - side, told[1]), self.gate[i])
            else:
                asked[flow, side, told[1]] = int(i)
            final = final_invite(message)
            if final is not None:
                asked[flow, side, final] = int(i)

    def _declared_replies(self) -> None:
        """Requests and replies that captures/calls pairs."""
        for gate in self._all_gates():
            if gate.kind == "time":
                continue
            for request, reply in self._pairs(gate):
                if self.gate[reply] < 0:
                    self.gate[reply] = request

    def _all_gates(self) -> list[Gate]:
        return [gate for call in self.calls for gate in call.gates]

    def _pairs(self, gate: Gate) -> list[tuple[int, int]]:
        """Return the (request, reply) packets of a gate that go opposite ways."""
        total = len(self.flow)
        found = [(a - 1, b - 1) for a, b in gate.pairs if b <= total]
        return [(a, b) for a, b in found if self.side[a] + self.side[b] == CALLER + FAR]

    def _listeners(self) -> None:
        """UDP: who did not begin a flow sends in it only once something of it came."""
        facts = self.held.facts
        stun = facts["stun"] - 1
        check = (facts["stun"] > 0) & (stun & 0x0100 == 0)
        for own in self.members:
            if len(own) and facts["proto"][own[0]] == UDP:
                answering = self.side[own] != self.side[own[0]]
                self.heard[own] = answering & ~check[own] & (self.side[own] != LOCAL)

    # -- delays

    def _delays(self) -> None:
        """Set each flow's base delay so that no reply was sent before what it answers came."""
        limit = np.full(max(len(self.held.flows), 1), BASE_DELAY, np.int64)
        replies = np.flatnonzero((self.gate >= 0) & (self.side == FAR))
        gaps = (self.time[replies] - self.time[self.gate[replies]]) // 2
        np.minimum.at(limit, self.flow[replies], np.maximum(gaps, 0))
        for flow, own in enumerate(self.members):
            back = own[self.heard[own] == 1]
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
        """Each flow of a call waits, at each end, for the signalling that had come there."""
        part, facts = self.parts[number], self.held.facts
        if not part.signalling:
            return
        said = np.concatenate([self.members[flow] for flow in part.signalling])
        said = said[facts["size"][said] > 0]
        made: dict[int, int] = {}
        for flow in part.flows:
            own = self.members[flow]
            for side in (CALLER, FAR):
                mine = own[self.side[own] == side]
                if not len(mine):
                    continue
                known = said[self.side[said] == 1 - side]
                known = known[self._arrival(known) <= self.send[mine].min()]
                if not len(known):
                    continue
                last = int(known[np.argmax(self._arrival(known))])
                if last not in made:
                    made[last] = self._latch([last])
                    part.signal_latches.append(made[last])
                self.latches[mine, SIGNALLING] = made[last]

    def _gates(self, number: int, call: Call) -> None:
        """Packets of a gated flow behind the reply wait for it, at the end it came to."""
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
        """An end that only answers knows of the call once one of the requests came."""
        came = self._arrival(np.array(requests)).min()
        behind = mine[self.send[mine] >= came]
        if len(behind):
            self.latches[behind, GATE] = self._latch(requests)

    def _names(self) -> None:
        """Flows to an address that a DNS answer told wait, at the caller's end, for the answer."""
        flows, facts = self.held.flows, self.held.facts
        port = (flows["source_port"] == DNS_PORT) | (flows["target_port"] == DNS_PORT)
        if not port.any():
            return
        told: dict[bytes, list[int]] = defaultdict(list)
        asks = (self.flow >= 0) & port[np.maximum(self.flow, 0)] & (facts["proto"] == UDP)
        for i in np.flatnonzero(asks & (self.side == FAR)):
            for address in addresses(self._payload(i)):
                told[address].append(int(i))
        made: dict[int, int] = {}
        for flow, own in enumerate(self.members):
            mine = own[self.side[own] == CALLER] if len(own) and not port[flow] else own[:0]
            if not len(mine) or mine[0] != own[0]:
                continue
            before = [i for i in told.get(self._far_address(flow), []) if i < mine[0]]
            if before:
                answer = before[-1]
                if answer not in made:
                    made[answer] = self._latch([answer])
                self.latches[mine, NAME] = made[answer]

    def _far_address(self, flow: int) -> bytes:
        row = self.held.flows[flow]
        lanes = row["target"] if self.near_is_source[flow] else row["source"]
        count = 4 if row["version"] == 6 else 1
        return b"".join(int(lane).to_bytes(4, "big") for lane in lanes[:count])

    def _strict(self, number: int) -> None:
        part, facts = self.parts[number], self.held.facts
        openers = [packet for packet, latch in self.openers if latch in part.latches]
        for flow in part.flows:
            own = self.members[flow]
            if facts["proto"][own[0]] != UDP:
                continue
            for side in (CALLER, FAR):
                mine, other = own[self.side[own] == side], own[self.side[own] == 1 - side]
                if len(other) and len(mine):
                    came = self._arrival(other).min()
                    self.heard[mine[self.send[mine] >= came]] = 1
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

    # -- the arrays of the event loop

    def _deadlines(self) -> Numbers:
        """Return when each call gives up: its timer after its first packet, where one is known."""
        out = np.full(max(len(self.calls), 1), NEVER, np.int64)
        if self.model == "time":
            return out
        for number, call in enumerate(self.calls):
            part = self.parts[number]
            if call.timer_s is None or not part.latches:
                continue
            begin = min(int(self.send[self.members[flow]].min()) for flow in part.flows)
            end = begin + int(call.timer_s * 1e9)
            openers = [packet for packet, latch in self.openers if latch in part.latches]
            if int(self._arrival(np.array(openers)).min()) <= end:
                out[number] = end
        return out

    def _finish(self) -> Script:
        count = len(self.flow)
        gated = np.flatnonzero(self.gate >= 0)
        think = np.zeros(count, np.int64)
        think[gated] = np.maximum(self.send[gated] - self._arrival(self.gate[gated]), 0)
        order = gated[np.argsort(self.gate[gated], kind="stable")]
        opening = sorted(self.openers)
        keys = np.array([packet for packet, _ in opening], np.int64)
        steps = np.arange(count + 1)
        return Script(
            self.held,
            self.near_is_source,
            self.flow,
            self.side,
            self.send,
            self.base,
            self.gate,
            think,
            np.searchsorted(self.gate[order], steps).astype(np.int64),
            order.astype(np.int64),
            self.latches,
            np.array(self.need or [0], np.int64),
            np.searchsorted(keys, steps).astype(np.int64),
            np.array([latch for _, latch in opening], np.int64),
            self.heard,
            self.call,
            self._deadlines(),
            np.array(self.latch_call or [-1], np.int64),
            self.media,
            streams(self.held.facts, self.side),
            self.parts,
            self.model,
        )
