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

from midcall.captures.jit.kernel import I, inlined, kernel
from midcall.captures.jit.reads import Octets, u8, u16
from midcall.captures.packets.numbers import TCP
from midcall.classifier.state.flow_table import SETTLED, Records, mix
from midcall.classifier.state.packet_fields import (
    SIGN_IP_AT,
    SIGN_IP_SIZE,
    SIGN_PAYLOAD_AT,
    SIGN_PAYLOAD_END,
    SIGN_PAYLOAD_SIZE,
    SIGN_PROTO,
    SIGN_TCP_FLAGS,
    SIGN_UP,
    SIGN_VERSION,
)
from midcall.testbed.middlebox.censor import (
    DROP_ALL,
    FAILED,
    GO_ON,
    MEMORY_AT,
    PASS_ALL,
    RESET_IT,
    ask,
    fill_facts,
)
from midcall.testbed.middlebox.inject import (
    CORRUPTED,
    DUPLICATE,
    FINISH,
    HOPS,
    OWN,
    PAGE,
    RESET,
    may_answer,
    send_answer,
    send_copy,
    send_segment,
    send_unreachable,
)
from midcall.testbed.middlebox.match import flow_meets, learn_answers, look, place_meets, rule_meets
from midcall.testbed.middlebox.media import media_at
from midcall.testbed.middlebox.rule_table import (
    ANY,
    BLOCK_PAGE,
    BY_PACKET,
    BY_TAINT,
    BY_WAITING,
    CENSOR,
    CORRUPT,
    DNS_LIE,
    DROP,
    DROP_MEDIA,
    DUPLICATED,
    FOREVER,
    MARK,
    METER_BEGAN,
    METER_CULPRIT,
    METER_FAILED,
    METER_FORGOTTEN,
    METER_MARKED,
    METER_NEEDS,
    METER_SEES,
    NEED_ANSWERS,
    NEED_BEGIN,
    NEED_HEADERS,
    NO_ROUTE,
    PASS,
    PRIORITISE,
    SEEN_DSCP,
    STALL,
    TCP_FINISH,
    TCP_RESET,
    UP,
    RuleTable,
    enforced,
)
from midcall.testbed.middlebox.state import FLOW_SCOPE, PACKET, known, recall, subject
from midcall.testbed.network.link import admit, draw, take_turn
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

#: Whether and why a rule applies to a packet (`applies`).
NOT_MET, MET, CONDEMNED = range(3)

#: Values of `side` in memory keys that are no direction: taints, `after` counters, copies, counters
#: of wider subjects, headers of both ends, numbers of a censor.
TAINT_SIDE, AFTER_SIDE, COPY_SIDE, QUOTA_SIDE, HEADER_SIDE = -1, 2, 3, 4, 5
CENSOR_SIDE = 7
#: The key of what a box remembers of the IP headers of a flow's ends, whatever the rule.
HEADER_KEY = 0x1D77
#: The purpose of a packet's draw by a rule that sends packets again (testbed.network.link.draw).
COPYING = 7
NEED_OBSERVING = NEED_HEADERS | NEED_ANSWERS | NEED_BEGIN
#: Octets of a payload that are hashed to recognise a copy.
COPY_OCTETS = 64


# ---- the box's memory


@kernel
def tainted(rule: Any, box: RuleTable, flow: Any, near_is_source: bool, time: int) -> bool:
    """Tell whether the packet's subject has the taint of a rule that remembers."""
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
    """Tell whether a packet is a copy of one of its flow that met the rule, which copies do."""
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
def pending(rule: Any, box: RuleTable, flow: Any, near_is_source: bool) -> bool:
    """Tell whether a flow has met a rule that has an `after` limit."""
    key = subject(FLOW_SCOPE, flow, near_is_source, rule["key"], AFTER_SIDE)
    row = known(box.memory, key)
    return row >= 0 and bool(box.memory[row]["begun"] >= 0)


@kernel
def flow_counts(flow: Any, near_is_source: bool, way: int) -> tuple[int, int]:
    """Return packets and IP bytes of a flow so far, in one direction or in both (ANY)."""
    up, down = I(flow["packets_up"]), I(flow["packets_down"])
    octets_up, octets_down = I(flow["bytes_up"]), I(flow["bytes_down"])
    if way == ANY:
        return up + down, octets_up + octets_down
    if near_is_source == (way == UP):
        return up, octets_up
    return down, octets_down


@kernel
def quota_is_over(
    rule: Any, box: RuleTable, flow: Any, near_is_source: bool, side: int, size: int, time: int
) -> bool:
    """Count a packet of a flow that met a rule for the rule's wider subject.

    Returns True once the subject's `after` limit is exceeded. The flow's own row keeps its place in
    the order of the subject's flows.
    """
    forgotten = box.meter[METER_FORGOTTEN:]
    key = subject(rule["after_scope"], flow, near_is_source, rule["key"], QUOTA_SIDE)
    at = known(box.memory, key)
    renewal = rule["renewal"]
    stale = at < 0 or (renewal[1] > 0 and time - box.memory[at]["seen"] >= renewal[1])
    row = box.memory[recall(box.memory, key, time, forgotten)]
    if stale or (renewal[0] > 0 and time - row["begun"] >= renewal[0]):
        row["begun"], row["packets"], row["bytes"], row["drawn"] = time, 0, 0, 0
    begun, counted = I(row["begun"]), rule["after_way"] == ANY or rule["after_way"] == side
    if counted:
        row["packets"] += 1
        row["bytes"] += size
    packets, octets = I(row["packets"]), I(row["bytes"])
    key = subject(FLOW_SCOPE, flow, near_is_source, rule["key"], AFTER_SIDE)
    own = known(box.memory, key)
    if own < 0 or box.memory[own]["begun"] < begun:
        row["drawn"] += 1
    place = I(row["drawn"])
    row = box.memory[recall(box.memory, key, time, forgotten)]
    if row["begun"] < begun:
        row["begun"], row["packets"] = max(time, begun), place  # a clock may go back
    after = rule["after"]
    if after[0] > 0 and packets <= after[0]:
        return False
    if after[1] > 0 and octets <= after[1]:
        return False
    if after[3] > 0 and row["packets"] <= after[3]:
        return False
    return bool(after[2] <= 0 or time - begun >= after[2])


@kernel
def is_over(
    rule: Any, box: RuleTable, flow: Any, near_is_source: bool, side: int, size: int, time: int
) -> bool:
    """Count a packet of a flow that met a rule; return True once its `after` limit is exceeded."""
    if rule["after_scope"] > FLOW_SCOPE:
        return quota_is_over(rule, box, flow, near_is_source, side, size, time)
    key = subject(FLOW_SCOPE, flow, near_is_source, rule["key"], AFTER_SIDE)
    row = box.memory[recall(box.memory, key, time, box.meter[METER_FORGOTTEN:])]
    way = rule["after_way"]
    packets, octets = flow_counts(flow, near_is_source, way)
    if row["begun"] < 0:
        own = 1 if way == ANY or way == side else 0
        row["begun"], row["packets"], row["bytes"] = time, packets - own, octets - own * size
    after = rule["after"]
    if after[0] > 0 and packets - row["packets"] <= after[0]:
        return False
    if after[1] > 0 and octets - row["bytes"] <= after[1]:
        return False
    return bool(after[2] <= 0 or time - row["begun"] >= after[2])


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


@kernel
def remember_header(
    box: RuleTable, flow: Any, near_is_source: bool, side: int, b: Octets, signs: Numbers, time: int
) -> None:
    """Remember TTL and IP id of the packet's sender."""
    ip, version = signs[SIGN_IP_AT], signs[SIGN_VERSION]
    key = subject(FLOW_SCOPE, flow, near_is_source, HEADER_KEY, HEADER_SIDE + side)
    row = box.memory[recall(box.memory, key, time, box.meter[METER_FORGOTTEN:])]
    row["packets"] = u8(b, ip + 7) if version == 6 else u8(b, ip + 8)
    row["bytes"] = 0 if version == 6 else u16(b, ip + 4)


@kernel
def own_header(
    box: RuleTable, flow: Any, near_is_source: bool, side: int, ahead: int
) -> tuple[int, int]:
    """Return TTL and next IP id of the end that sends in a direction.

    ahead: forged packets of this end before this one. (HOPS, 0) where the box saw none of it.
    """
    key = subject(FLOW_SCOPE, flow, near_is_source, HEADER_KEY, HEADER_SIDE + side)
    at = known(box.memory, key)
    if at < 0:
        return I(HOPS), I(0)
    row = box.memory[at]
    return I(row["packets"]), I((row["bytes"] + 1 + ahead) & 0xFFFF)


@kernel
def observe(box: RuleTable, flow: Any, side: int, b: Octets, signs: Numbers, time: int) -> None:
    """Remember what rules may ask later: TTL and IP id, addresses in DNS answers, the begin."""
    needs = box.meter[METER_NEEDS]
    near_is_source = (signs[SIGN_UP] == 1) == (side == UP)
    if needs & NEED_BEGIN and box.meter[METER_BEGAN] == 0:
        box.meter[METER_BEGAN] = time
    if needs & NEED_HEADERS:
        remember_header(box, flow, near_is_source, side, b, signs, time)
    if needs & NEED_ANSWERS:
        learn_answers(box, b, signs, time)


# ---- acts


@kernel
def inject(
    number: int,
    box: RuleTable,
    flow: Any,
    side: int,
    near_is_source: bool,
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
    if rule["act"] == NO_ROUTE:
        if may_answer(b, signs):
            send_unreachable(
                mail, meter, letters, flow, b, signs, side, rule["icmp"], time, number, packet
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
        if (rule["towards"] >> (0 if to_client else 1)) & 1 == 0:
            continue
        for turn in range(len(rule["resets"]) if kind == RESET else 1):
            ahead = rule["resets"][turn] if kind == RESET else I(0)
            if ahead < 0:
                break
            hops, ip_id = rule["hops"], rule["ip_id"]
            if hops == OWN or ip_id == OWN:
                whose = 1 - side if back else side
                own, next_id = own_header(box, flow, near_is_source, whose, turn)
                hops, ip_id = own if hops == OWN else hops, next_id if ip_id == OWN else ip_id
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
                ahead,
                hops,
                ip_id,
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
    rule, facts = box.rules[number], box.facts
    fill_facts(facts, flow, side, near_is_source, signs, time)
    if rule["keeps"] == 1:
        key = subject(FLOW_SCOPE, flow, near_is_source, rule["key"], CENSOR_SIDE)
        row = box.memory[recall(box.memory, key, time, box.meter[METER_FORGOTTEN:])]
        facts[MEMORY_AT], facts[MEMORY_AT + 1] = row["packets"], row["bytes"]
        facts[MEMORY_AT + 2], facts[MEMORY_AT + 3] = row["due"], row["busy"]
        answer = ask(rule["censor"], b, signs, facts)
        row["packets"], row["bytes"] = facts[MEMORY_AT], facts[MEMORY_AT + 1]
        row["due"], row["busy"] = facts[MEMORY_AT + 2], facts[MEMORY_AT + 3]
    else:
        answer = ask(rule["censor"], b, signs, facts)
    if answer < GO_ON or answer > PASS_ALL:
        if box.meter[METER_FAILED] == 0:
            box.meter[METER_FAILED], box.meter[METER_CULPRIT] = packet + 1, number
        return FAILED
    if answer == DROP_ALL:
        flow["mark"] = number + 1
    elif answer == PASS_ALL:
        flow["mark"] = CLOSED
    elif answer == RESET_IT:
        inject(number, box, flow, side, near_is_source, b, signs, time, packet)
    return answer


@kernel
def copied(
    number: int, box: RuleTable, side: int, b: Octets, signs: Numbers, time: int, packet: int
) -> tuple[int, int, int]:
    """Send a share of packets twice, or corrupted instead; returns as `perform` does."""
    rule = box.rules[number]
    kind = DUPLICATE if rule["act"] == DUPLICATED else CORRUPTED
    if kind == CORRUPTED and signs[SIGN_PAYLOAD_SIZE] == 0:
        return DELIVERED, -1, time
    if draw(rule["key"], packet, COPYING) >= rule["share"]:
        return DELIVERED, -1, time
    send_copy(box.mail, box.meter, box.letters, b, signs, side, kind, time, number, packet)
    return DELIVERED if kind == DUPLICATE else DROPPED, number, time


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
    if act in (DNS_LIE, TCP_RESET, TCP_FINISH, BLOCK_PAGE, NO_ROUTE):
        inject(number, box, flow, side, near_is_source, b, signs, time, packet)
        if rule["on_path"] == 1:
            return DELIVERED, number, time
        return FORGED if act == DNS_LIE else DROPPED, number, time
    if act in (DUPLICATED, CORRUPT):
        return copied(number, box, side, b, signs, time, packet)
    if act == DROP_MEDIA:
        if media_at(b, signs[SIGN_PAYLOAD_AT], signs[SIGN_PAYLOAD_END], I(flow["app"])):
            return DROPPED, number, time
        return DELIVERED, -1, time
    key = subject(rule["scope"], flow, near_is_source, rule["key"], side)
    row = recall(box.memory, key, time, box.meter[METER_FORGOTTEN:])
    link, size = box.links[number], signs[SIGN_IP_SIZE]
    if act == PRIORITISE:
        out = take_turn(link, box.memory[row], size, time, side, box.seen[SEEN_DSCP])
    else:
        out = admit(link, box.memory[row], size, time, packet)
    if out < 0:
        return DROPPED, number, time
    return DELIVERED, number, out


@inlined
def perform_own(
    number: int,
    box: RuleTable,
    flow: Any,
    side: int,
    b: Octets,
    signs: Numbers,
    time: int,
    packet: int,
) -> tuple[int, int, int]:
    """Apply the act of the rule that a flow keeps to its end; returns as `perform` does."""
    box.met[number] += 1
    rule = box.rules[number]
    act, acts_on_it = rule["act"], rule["way"] == ANY or rule["way"] == side
    # The most frequent acts, without a call that passes the whole table.
    if act == PASS or (acts_on_it and (act == DROP or act == STALL)):
        return I(DELIVERED if act == PASS else DROPPED), number, time
    near_is_source = (signs[SIGN_UP] == 1) == (side == UP)
    return perform(number, box, flow, side, near_is_source, b, signs, time, packet)


# ---- the decision


@inlined
def applies(
    number: int,
    box: RuleTable,
    flow: Any,
    side: int,
    near_is_source: bool,
    b: Octets,
    signs: Numbers,
    time: int,
) -> int:
    """Return why a rule applies to a packet: MET, CONDEMNED, or NOT_MET where it does not.

    MET: the packet meets the match, or copies one that did, or its flow has an allowance.
    CONDEMNED: its subject has the rule's taint, which a packet that meets the match starts again.
    """
    rule = box.rules[number]
    condemned = rule["remembers"] == 1 and tainted(rule, box, flow, near_is_source, time)
    if not condemned and rule["waits"] == 1 and pending(rule, box, flow, near_is_source):
        return MET
    if rule_meets(number, box, flow, side, near_is_source, b, signs, time):
        if condemned:
            condemn(number, rule, box, flow, near_is_source, time)
        elif rule["copies"] == 1:
            remember_copy(rule, box, flow, near_is_source, b, signs, time)
    elif not condemned:
        if rule["copies"] == 0 or not is_copy(rule, box, flow, near_is_source, b, signs):
            return NOT_MET
    return CONDEMNED if condemned else MET


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
    needs = box.meter[METER_NEEDS]
    if needs & NEED_OBSERVING:
        observe(box, flow, side, b, signs, time)
    if mark > 0:
        return perform_own(mark - 1, box, flow, side, b, signs, time, packet)
    near_is_source = (signs[SIGN_UP] == 1) == (side == UP)
    look(needs, flow, b, signs, packet, box.name, box.seen)
    for number in range(len(rules)):
        reason = applies(number, box, flow, side, near_is_source, b, signs, time)
        if reason == NOT_MET:
            continue
        box.met[number] += 1
        rule = rules[number]
        if reason == MET:
            if not enforced(rule, flow, near_is_source):
                continue
            if rule["waits"] == 1:
                if not is_over(rule, box, flow, near_is_source, side, signs[SIGN_IP_SIZE], time):
                    continue
            if rule["act"] == MARK:
                if rule["way"] == ANY or rule["way"] == side:
                    box.meter[METER_MARKED] = rule["code_point"] + 1
                    box.seen[SEEN_DSCP] = rule["code_point"]
                continue
            if rule["act"] == CENSOR:
                answer = censored(number, box, flow, side, near_is_source, b, signs, time, packet)
                if answer == GO_ON:
                    continue
                return FATE_OF[answer + 1], number, time
            condemn(number, rule, box, flow, near_is_source, time)
        return perform(number, box, flow, side, near_is_source, b, signs, time, packet)
    if I(flow["state"]) & SETTLED and not can_change(box, flow, near_is_source):
        flow["mark"] = CLOSED
    return DELIVERED, -1, time


@kernel
def sees(box: RuleTable, side: int) -> bool:
    """Tell whether a box sees packets of a direction; others pass it, and it counts none."""
    return bool(box.meter[METER_SEES] == ANY or box.meter[METER_SEES] == side)


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
        return OPEN if rule["watched"] == 1 else PASSES
    if rule["act"] in (DROP, STALL, CENSOR) and rule["way"] == ANY:
        return DROPS
    return OPEN
