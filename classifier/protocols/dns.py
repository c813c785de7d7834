# SPDX-License-Identifier: BSD-3-Clause
"""DNS over UDP (RFC 1035): the question's name, and the addresses that answers give it."""

from __future__ import annotations

from midcall.captures.jit.kernel import kernel
from midcall.captures.jit.reads import Octets, u8, u16, u32
from midcall.classifier.state.endpoint_table import LEARN_DNS, endpoint_key, learn
from midcall.classifier.state.flow_table import Numbers, Records
from midcall.classifier.state.hostnames import name_rule
from midcall.classifier.state.packet_fields import (
    NAME_DNS_ANSWER,
    NAME_DNS_QUESTION,
    SIGN_NAME_AT,
    SIGN_NAME_KIND,
    SIGN_NAME_LENGTH,
)

HEADER = 12
PORTS = (53, 5353, 5355)
ANSWERS = 32


@kernel
def skip_name(b: Octets, o: int, end: int) -> int:
    """Return where a name in wire format ends, -1 when it is damaged."""
    for _ in range(128):
        if o >= end:
            return -1
        length = u8(b, o)
        if length == 0:
            return o + 1
        if length >= 0xC0:
            return o + 2 if end - o >= 2 else -1
        if length > 63:
            return -1
        o += 1 + length
    return -1


@kernel
def read_dns(
    b: Octets, at: int, end: int, time: int, context: Records, meter: Numbers, signs: Numbers
) -> int:
    """Read a message; its question's name goes to signs, answers with addresses are learned.

    Returns 0 where it is none, else 1 + the rule of the question's name
    (classifier.state.hostnames).
    """
    if end - at < HEADER + 5:
        return 0
    flags, questions, answers = u16(b, at + 2), u16(b, at + 4), u16(b, at + 6)
    if questions > 16 or answers > 256 or flags & 0x7800 not in (0, 0x2800):
        return 0
    o = at + HEADER
    if questions == 0:
        return 1 if answers > 0 else 0
    name = o
    for turn in range(questions):
        o = skip_name(b, o, end)
        if o < 0 or end - o < 4:
            return 0
        if turn == 0:
            signs[SIGN_NAME_AT], signs[SIGN_NAME_LENGTH] = name, o - name
        o += 4
    signs[SIGN_NAME_KIND] = NAME_DNS_ANSWER if flags & 0x8000 else NAME_DNS_QUESTION
    rule = name_rule(b, name, signs[SIGN_NAME_LENGTH], 1, signs)
    if rule and flags & 0x8000 and answers:
        learn_answers(b, o, end, min(answers, ANSWERS), rule, time, context, meter)
    return 1 + rule


@kernel
def learn_answers(
    b: Octets,
    o: int,
    end: int,
    answers: int,
    rule: int,
    time: int,
    context: Records,
    meter: Numbers,
) -> None:
    """Remember the addresses of A and AAAA records as an app's (rule: its app and role)."""
    app, role = rule >> 8, rule & 0xFF
    for _ in range(answers):
        o = skip_name(b, o, end)
        if o < 0 or end - o < 10:
            return
        kind, length = u16(b, o), u16(b, o + 8)
        o += 10
        if end - o < length:
            return
        if kind == 1 and length == 4:
            key = endpoint_key(u32(b, o), 0, 0, 0, 0)
            learn(context, meter, key, app, role, LEARN_DNS, time)
        elif kind == 28 and length == 16:
            key = endpoint_key(u32(b, o), u32(b, o + 4), u32(b, o + 8), u32(b, o + 12), 0)
            learn(context, meter, key, app, role, LEARN_DNS, time)
        o += length
