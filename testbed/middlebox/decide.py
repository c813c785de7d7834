# SPDX-License-Identifier: BSD-3-Clause
"""The middlebox: one packet in, its fate and its time out. No I/O, no clock but the packet's time.

The classifier processes a packet first; then the first rule that the packet meets, or whose taint
its subject has, decides. A rule of scope flow applies to every later packet of that flow; the
flow's `mark` stores that. Wider scopes and taints that expire are stored in
testbed.middlebox.state. A packet that the classifier cannot assign to a flow passes or is dropped,
as the policy's `fail` states, and is counted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets
from midcall.captures.packets.numbers import TCP
from midcall.classifier.state.flow_table import SETTLED, Records, mix
from midcall.classifier.state.packet_fields import (
    SIGN_IP_SIZE,
    SIGN_PAYLOAD_AT,
    SIGN_PAYLOAD_END,
    SIGN_PAYLOAD_SIZE,
    SIGN_PROTO,
    SIGN_TCP_FLAGS,
    SIGN_UP,
)
from midcall.testbed.middlebox.censor import (
    DROP_ALL,
    FAILED,
    GO_ON,
    PASS_ALL,
    RESET_IT,
    ask,
    fill_facts,
)
from midcall.testbed.middlebox.inject import FINISH, PAGE, RESET, send_answer, send_segment
from midcall.testbed.middlebox.match import flow_meets, look, place_meets, rule_meets
from midcall.testbed.middlebox.media import media_at
from midcall.testbed.middlebox.rule_table import (
    ANY,
    BLOCK_PAGE,
    BY_PACKET,
    BY_TAINT,
    BY_WAITING,
    CENSOR,
    DNS_LIE,
    DROP,
    DROP_MEDIA,
    FOREVER,
    METER_CULPRIT,
    METER_FAILED,
    METER_FORGOTTEN,
    METER_NEEDS,
    PASS,
    STALL,
    TCP_FINISH,
    TCP_RESET,
    UP,
    RuleTable,
    enforced,
)
from midcall.testbed.middlebox.state import FLOW_SCOPE, PACKET, known, recall, subject
from midcall.testbed.network.link import admit
from midcall.testbed.network.tcp import RST, SYN

Numbers = NDArray[np.int64]

# Fates of a packet. LOST: by the access link; a packet that a rule loses or polices is DROPPED.
FATES = ("not sent", "delivered", "dropped", "forged", "too big", "lost")
NOT_SENT, DELIVERED, DROPPED, FORGED, TOO_BIG, LOST = range(6)

# Return values of `settled`.
OPEN, PASSES, DROPS = 0, 1, 2
#: The mark of a flow that no rule can affect any more.
CLOSED = -1

#: Fate of a packet by a censor's answer, FAILED first.
FATE_OF = (DROPPED, DELIVERED, DROPPED, DROPPED, DROPPED, DELIVERED)

#: Values of `side` in memory keys that are no direction: taints, `after` counters, copies.
TAINT_SIDE, AFTER_SIDE, COPY_SIDE = -1, 2, 3
#: Octets of a payload that are hashed to recognise a copy.
COPY_OCTETS = 64


# ---- the box's memory


@kernel
def tainted(rule: Any, box: RuleTable, flow: Any, near_is_source: bool, time: int) -> bool:
    """Tell whether the packet's subject has the taint of a rule."""
    if rule["remembers"] == 0:
        return False
    key = subject(rule["scope"], flow, near_is_source, rule["key"], TAINT_SIDE)
    row = known(box.memory, key)
    return row >= 0 and bool(box.memory[row]["until"] > time)


@kernel
def copy_key(rule: Any, flow: Any, near_is_source: bool, b: Octets, signs: Numbers) -> int:
    """Return the memory key of a packet that met a rule."""
    at, end = signs[SIGN_PAYLOAD_AT], signs[SIGN_PAYLOAD_END]
    h = mix(I(rule["key"]), signs[SIGN_PAYLOAD_SIZE])
    for place in range(at, min(end, at + COPY_OCTETS)):
        h = mix(h, I(b[place]))
    return subject(FLOW_SCOPE, flow, near_is_source, h, COPY_SIDE)


@kernel
def is_copy(
    rule: Any, box: RuleTable, flow: Any, near_is_source: bool, b: Octets, signs: Numbers
) -> bool:
    """Tell whether a packet is a copy of one of its flow that met the rule."""
    if rule["copies"] == 0:
        return False
    mark = subject(FLOW_SCOPE, flow, near_is_source, rule["key"], COPY_SIDE)
    if known(box.memory, mark) < 0:
        return False
    return known(box.memory, copy_key(rule, flow, near_is_source, b, signs)) >= 0


@kernel
def remember_copy(
    rule: Any, box: RuleTable, flow: Any, near_is_source: bool, b: Octets, signs: Numbers, time: int
) -> None:
    """Remember a packet that met a rule, so that its copies meet it too."""
    forgotten = box.meter[METER_FORGOTTEN:]
    mark = subject(FLOW_SCOPE, flow, near_is_source, rule["key"], COPY_SIDE)
    recall(box.memory, mark, time, forgotten)
    recall(box.memory, copy_key(rule, flow, near_is_source, b, signs), time, forgotten)


@kernel
def waits(rule: Any) -> bool:
    """Tell whether a rule has an `after` limit."""
    return bool(rule["after"][0] > 0 or rule["after"][1] > 0 or rule["after"][2] > 0)


@kernel
def pending(rule: Any, box: RuleTable, flow: Any, near_is_source: bool) -> bool:
    """Tell whether a flow has met a rule with an `after` limit."""
    if not waits(rule):
        return False
    key = subject(FLOW_SCOPE, flow, near_is_source, rule["key"], AFTER_SIDE)
    row = known(box.memory, key)
    return row >= 0 and bool(box.memory[row]["begun"] >= 0)


@kernel
def is_over(
    rule: Any, box: RuleTable, flow: Any, near_is_source: bool, size: int, time: int
) -> bool:
    """Count a packet of a flow that met a rule; return True once its `after` limit is exceeded."""
    key = subject(FLOW_SCOPE, flow, near_is_source, rule["key"], AFTER_SIDE)
    row = box.memory[recall(box.memory, key, time, box.meter[METER_FORGOTTEN:])]
    packets = I(flow["packets_up"]) + I(flow["packets_down"])
    octets = flow["bytes_up"] + flow["bytes_down"]
    if row["begun"] < 0:
        row["begun"], row["packets"], row["bytes"] = time, packets - 1, octets - size
    after = rule["after"]
    if after[0] > 0 and packets - row["packets"] <= after[0]:
        return False
    if after[1] > 0 and octets - row["bytes"] <= after[1]:
        return False
    return bool(time - row["begun"] >= after[2])


@kernel
def condemn(
    number: int, rule: Any, box: RuleTable, flow: Any, near_is_source: bool, time: int
) -> None:
    """Store that a rule was met: in the flow's mark, or as a taint of its subject."""
    if rule["scope"] == PACKET:
        return
    if rule["scope"] == FLOW_SCOPE and rule["lasts"] == FOREVER:
        flow["mark"] = number + 1
        return
    key = subject(rule["scope"], flow, near_is_source, rule["key"], TAINT_SIDE)
    row = recall(box.memory, key, time, box.meter[METER_FORGOTTEN:])
    box.memory[row]["until"] = FOREVER if rule["lasts"] == FOREVER else time + rule["lasts"]


# ---- acts


@kernel
def inject(
    number: int,
    box: RuleTable,
    flow: Any,
    side: int,
    b: Octets,
    signs: Numbers,
    time: int,
    packet: int,
) -> None:
    """Forge a rule's answer to a packet; none in answer to a reset or a bare ACK."""
    rule = box.rules[number]
    mail, meter, letters = box.mail, box.meter, box.letters
    if rule["act"] == DNS_LIE:
        send_answer(
            mail, meter, letters, flow, b, signs, side, rule["answer"], time, number, packet
        )
        return
    flags = signs[SIGN_TCP_FLAGS]
    if signs[SIGN_PROTO] != TCP or flags & RST or not (signs[SIGN_PAYLOAD_SIZE] or flags & SYN):
        return
    passes = rule["on_path"] == 1
    for back in (True, False):
        to_client = back == (side == UP)
        if rule["act"] == BLOCK_PAGE:
            kind = PAGE if to_client else RESET
        else:
            kind = FINISH if rule["act"] == TCP_FINISH else RESET
        if (rule["towards"] >> (0 if to_client else 1)) & 1:
            send_segment(
                mail,
                meter,
                letters,
                flow,
                b,
                signs,
                side,
                back,
                passes,
                kind,
                time,
                number,
                packet,
            )


@kernel
def censored(
    number: int,
    box: RuleTable,
    flow: Any,
    side: int,
    near_is_source: bool,
    b: Octets,
    signs: Numbers,
    time: int,
    packet: int,
) -> int:
    """Call a censor on a packet and apply its answer to the flow; returns the answer.

    A failure is recorded in the meter: the packet is dropped, and the run must end.
    """
    fill_facts(box.facts, flow, side, near_is_source, signs, time)
    answer = ask(box.rules[number]["censor"], b, signs, box.facts)
    if answer < GO_ON or answer > PASS_ALL:
        if box.meter[METER_FAILED] == 0:
            box.meter[METER_FAILED], box.meter[METER_CULPRIT] = packet + 1, number
        return FAILED
    if answer == DROP_ALL:
        flow["mark"] = number + 1
    elif answer == PASS_ALL:
        flow["mark"] = CLOSED
    elif answer == RESET_IT:
        inject(number, box, flow, side, b, signs, time, packet)
    return answer


@kernel
def perform(
    number: int,
    box: RuleTable,
    flow: Any,
    side: int,
    near_is_source: bool,
    b: Octets,
    signs: Numbers,
    time: int,
    packet: int,
) -> tuple[int, int, int]:
    """Apply a rule's act to a packet; returns (fate, rule or -1, time of release in ns)."""
    rule = box.rules[number]
    act = rule["act"]
    if act == PASS:
        return DELIVERED, number, time
    if rule["way"] != ANY and rule["way"] != side:
        return DELIVERED, -1, time
    if act in (DROP, STALL, CENSOR):
        return DROPPED, number, time
    if act in (DNS_LIE, TCP_RESET, TCP_FINISH, BLOCK_PAGE):
        inject(number, box, flow, side, b, signs, time, packet)
        if rule["on_path"] == 1:
            return DELIVERED, number, time
        return FORGED if act == DNS_LIE else DROPPED, number, time
    if act == DROP_MEDIA:
        if media_at(b, signs[SIGN_PAYLOAD_AT], signs[SIGN_PAYLOAD_END], I(flow["app"])):
            return DROPPED, number, time
        return DELIVERED, -1, time
    key = subject(rule["scope"], flow, near_is_source, rule["key"], side)
    row = recall(box.memory, key, time, box.meter[METER_FORGOTTEN:])
    out = admit(box.links[number], box.memory[row], signs[SIGN_IP_SIZE], time, packet)
    if out < 0:
        return DROPPED, number, time
    return DELIVERED, number, out


@kernel
def decide(
    box: RuleTable,
    flow: Any,
    side: int,
    b: Octets,
    signs: Numbers,
    time: int,
    packet: int,
) -> tuple[int, int, int]:
    """Decide one packet after the classifier's step; returns (fate, rule or -1, release in ns).

    side: UP for a packet from the subscriber; time: of the packet, ns; packet: its number, the
    key of its chances: the same in every backend. box.met[r] counts the packets that met rule r,
    enforced or not. A match that is not enforced on this flow or client leaves the packet to the
    rules after it. `release` is `time` unless a rule delays the packet.
    """
    rules = box.rules
    mark = I(flow["mark"])
    if mark == CLOSED or len(rules) == 0:
        return DELIVERED, -1, time
    near_is_source = (signs[SIGN_UP] == 1) == (side == UP)
    if mark > 0:
        box.met[mark - 1] += 1
        return perform(mark - 1, box, flow, side, near_is_source, b, signs, time, packet)
    look(box.meter[METER_NEEDS], flow, b, signs, box.name, box.seen)
    for number in range(len(rules)):
        rule = rules[number]
        if not tainted(rule, box, flow, near_is_source, time):
            if not pending(rule, box, flow, near_is_source):
                if rule_meets(number, box, flow, side, near_is_source, b, signs, time):
                    if rule["copies"] == 1:
                        remember_copy(rule, box, flow, near_is_source, b, signs, time)
                elif not is_copy(rule, box, flow, near_is_source, b, signs):
                    continue
            box.met[number] += 1
            if not enforced(rule, flow, near_is_source):
                continue
            if waits(rule):
                if not is_over(rule, box, flow, near_is_source, signs[SIGN_IP_SIZE], time):
                    continue
            if rule["act"] == CENSOR:
                answer = censored(number, box, flow, side, near_is_source, b, signs, time, packet)
                if answer == GO_ON:
                    continue
                return FATE_OF[answer + 1], number, time
            condemn(number, rule, box, flow, near_is_source, time)
        else:
            box.met[number] += 1
            if rule_meets(number, box, flow, side, near_is_source, b, signs, time):
                condemn(number, rule, box, flow, near_is_source, time)
        return perform(number, box, flow, side, near_is_source, b, signs, time, packet)
    if I(flow["state"]) & SETTLED and not can_change(box, flow, near_is_source):
        flow["mark"] = CLOSED
    return DELIVERED, -1, time


# ---- flows that no rule can change


@kernel
def can_change(box: RuleTable, flow: Any, near_is_source: bool) -> bool:
    """Tell whether a rule can still affect a settled flow that meets none now."""
    for number in range(len(box.rules)):
        rule = box.rules[number]
        fluid = rule["fluid"]
        if fluid & BY_TAINT:
            return True
        if rule["copies"] == 1:
            mark = subject(FLOW_SCOPE, flow, near_is_source, rule["key"], COPY_SIDE)
            if known(box.memory, mark) >= 0:
                return True
        if fluid & BY_WAITING and pending(rule, box, flow, near_is_source):
            return True
        if fluid & BY_PACKET and flow_meets(rule, flow) and enforced(rule, flow, near_is_source):
            if place_meets(rule, box.prefixes, box.ports, flow, near_is_source):
                return True
    return False


@kernel
def settled(rules: Records, flow: Any) -> int:
    """Return the fate of all later packets of a flow, PASSES or DROPS; OPEN where it can change.

    PASSES and DROPS are terminal: no rule can change them, so the flow can be offloaded. Delayed,
    policed and tainted flows stay OPEN, as do those that can still meet a rule.
    """
    mark = I(flow["mark"])
    if mark == CLOSED or len(rules) == 0:
        return PASSES
    if mark <= 0:
        return OPEN
    rule = rules[mark - 1]
    if rule["act"] == PASS:
        return PASSES
    if rule["act"] in (DROP, STALL, CENSOR) and rule["way"] == ANY:
        return DROPS
    return OPEN
