# SPDX-License-Identifier: BSD-3-Clause
"""DNS: the question's name, and the addresses that answers give to names of apps."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from midcall.captures.wire import dns
from midcall.captures.wire.host import Host, server
from midcall.classifier.protocols.dns import read_dns, skip_name
from midcall.classifier.state.endpoint_table import (
    CONTEXT,
    LEARN_ALL,
    LEARN_DNS,
    endpoint_key,
    recall,
)
from midcall.classifier.state.flow_table import METER_LEARN, METERS
from midcall.classifier.state.packet_fields import (
    NAME_DNS_ANSWER,
    NAME_DNS_QUESTION,
    SIGN_NAME_AT,
    SIGN_NAME_KIND,
    SIGN_NAME_LENGTH,
)
from midcall.classifier.state.verdicts import MESSAGING, VIBER
from tests.classifier.wire import EPOCH, Wire, blank_signs, noise, octets

HOST, HOST6 = server(9), Host("2001:2::9")


def opened(payload: bytes, context: np.ndarray | None = None) -> tuple[bool, int, bytes]:
    """Return whether a payload is DNS, and kind and wire form of its question's name."""
    signs, meter = blank_signs(), np.zeros(METERS, np.int64)
    meter[METER_LEARN] = LEARN_ALL
    known = np.zeros(64, CONTEXT) if context is None else context
    is_dns = bool(read_dns(octets(payload), 0, len(payload), EPOCH, known, meter, signs))
    at, length = int(signs[SIGN_NAME_AT]), int(signs[SIGN_NAME_LENGTH])
    return is_dns, int(signs[SIGN_NAME_KIND]), payload[at : at + length]


def test_a_questions_name_is_read() -> None:
    name = "chat.example.org"
    assert opened(dns.question(7, name)) == (True, NAME_DNS_QUESTION, dns.labels(name))


@pytest.mark.parametrize("host", [HOST, HOST6])
def test_an_answers_addresses_are_learned_for_names_of_apps(host: Host) -> None:
    context = np.zeros(64, CONTEXT)
    is_dns = opened(dns.answer(7, "aloha.viber.com", host), context)
    assert is_dns == (True, NAME_DNS_ANSWER, dns.labels("aloha.viber.com"))
    lanes = [*struct.unpack(f">{len(host.packed) // 4}I", host.packed), 0, 0, 0][:4]
    known = recall(context, endpoint_key(*lanes, 0), EPOCH)
    assert known == MESSAGING << 16 | LEARN_DNS << 8 | VIBER


def test_an_answer_for_anybodys_name_teaches_nothing() -> None:
    context = np.zeros(64, CONTEXT)
    opened(dns.answer(7, "www.example.org", HOST), context)
    assert not context["key"].any()


def test_aliases_before_the_address_are_walked() -> None:
    name = "aloha.viber.com"
    alias = dns.labels("edge.example.net")
    head = struct.pack(">HHHHHH", 7, 0x8180, 1, 2, 0, 0) + dns.labels(name)
    records = struct.pack(">HHHIH", 0xC00C, 5, 1, 60, len(alias)) + alias
    records += alias + struct.pack(">HHIH", 1, 1, 60, 4) + HOST.packed
    context = np.zeros(64, CONTEXT)
    assert opened(head + struct.pack(">HH", 1, 1) + records, context)[0]
    (lane,) = struct.unpack(">I", HOST.packed)
    assert recall(context, endpoint_key(lane, 0, 0, 0, 0), EPOCH) & 0xFF == VIBER


def test_multicast_answers_without_a_question_are_dns() -> None:
    payload = struct.pack(">HHHHHH", 0, 0x8400, 0, 1, 0, 0) + dns.labels("a.local") + bytes(14)
    assert opened(payload)[:2] == (True, 0)


QUESTION = dns.question(7, "chat.example.org")


@pytest.mark.parametrize(
    "payload",
    [
        QUESTION[:16],
        QUESTION[:-3],
        QUESTION[:12] + b"\x7f" + QUESTION[13:],
        QUESTION[:4] + b"\0\x11" + QUESTION[6:],
        QUESTION[:2] + b"\x18\0" + QUESTION[4:],
        QUESTION[:4] + bytes(8) + QUESTION[12:],
        QUESTION[:12] + b"\x3f" * 40,
    ],
    ids=["short", "cut", "label", "questions", "opcode", "nothing", "endless"],
)
def test_a_near_miss_is_no_dns(payload: bytes) -> None:
    assert not opened(payload)[0]


@pytest.mark.parametrize(
    ("name", "end"),
    [
        (b"\0", 1),
        (b"\3abc\0", 5),
        (b"\3abc\xc0\x0c", 6),
        (b"\3abc\xc0", -1),
        (b"\3abc", -1),
        (b"\3ab", -1),
        (b"\x40" + bytes(80), -1),
        (b"\1a" * 200, -1),
    ],
)
def test_a_name_is_skipped_to_its_end_and_never_beyond(name: bytes, end: int) -> None:
    assert skip_name(octets(name), 0, len(name)) == end


def test_dns_is_no_call_and_garbage_on_its_port_is_not_dns() -> None:
    asked = Wire().udp(QUESTION, ports=(40000, 53)).verdicts()[0]
    assert asked == ("not-call", "none", "other", "DNS")
    garbage = Wire().udp(noise(60), ports=(40000, 53)).verdicts()[0]
    assert garbage.evidence == "no sign of a call in 1 payloads"
