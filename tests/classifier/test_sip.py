# SPDX-License-Identifier: BSD-3-Clause
"""SIP, SDP and the other open telephony: messages by their first line, near-misses by name."""

from __future__ import annotations

import numpy as np
import pytest

from midcall.captures.wire import sip
from midcall.captures.wire.host import server
from midcall.classifier.apps.telephony import is_sip, telephony_tcp, telephony_udp
from midcall.classifier.protocols.sdp import learn_sdp, read_address
from midcall.classifier.state.endpoint_table import (
    CONTEXT,
    LEARN_ALL,
    LEARN_SDP,
    endpoint_key,
    recall,
)
from midcall.classifier.state.flow_table import METER_LEARN, METERS
from midcall.classifier.state.verdicts import MEDIA, SIP
from tests.classifier.payloads import HAND_MADE, invite, sccp, tpkt
from tests.classifier.wire import EPOCH, Wire, blank_note, noise, octets


def is_message(payload: bytes) -> bool:
    """Tell whether a payload is SIP."""
    return bool(is_sip(octets(payload), 0, len(payload)))


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (invite(), True),
        (b"SIP/2.0 180 Ringing\r\n", True),
        (b"REGISTER sip:example.org SIP/2.0\r\n", True),
        (b"OPTIONS sips:a@example.org SIP/2.0\r\n", True),
        (b"INVITE tel:+212500000000 SIP/2.0\r\n", True),
        (b"GET sip.html HTTP/1.1\r\n", False),
        (b"GET / HTTP/1.1\r\n", False),
        (b"OPTIONS rtsp://example.org RTSP/1.0\r\n", False),
        (b"HTTP/1.1 200 OK\r\n", False),
        (b"SIP/1.0 200 OK\r\n", False),
        (b"invite sip:a@example.org SIP/2.0\r\n", False),
        (b" sip:a@example.org", False),
        (b"VERYLONGMETHODNAME sip:a@b SIP/2.0", False),
        (b"INVITE si", False),
        (b"\r\n\r\n", False),
        (noise(40), False),
    ],
)
def test_a_message_is_known_by_its_first_line(payload: bytes, expected: bool) -> None:
    assert is_message(payload) is expected


def number(evidence: int) -> int:
    """Return the evidence's number within its app."""
    return int(evidence) & 0xFF


UDP_CASES = {
    "sip": (HAND_MADE["sip invite"], 5060, 1),
    "mgcp on any port": (HAND_MADE["mgcp"], 9999, 24),
    "mgcp's answer on its port": (HAND_MADE["mgcp answer"], 2427, 24),
    "mgcp's answer elsewhere": (HAND_MADE["mgcp answer"], 9999, 0),
    "megaco": (HAND_MADE["megaco"], 2944, 2),
    "ras on its port": (HAND_MADE["ras"], 1719, 22),
    "iax2 on its port": (HAND_MADE["iax2"], 4569, 26),
    "iax2 elsewhere": (HAND_MADE["iax2"], 9999, 0),
    "mini frame of iax2": (b"\x00\x01" + noise(40), 4569, 0),
    "four letters and no MGCP": (b"AUEP 1200 hello there\r\n", 2427, 0),
    "http on sip's port": (b"GET / HTTP/1.1\r\nHost: a.example\r\n", 5060, 0),
    "nothing known": (noise(40), 5060, 0),
}


@pytest.mark.parametrize("name", UDP_CASES)
def test_datagrams_of_telephony(name: str) -> None:
    payload, port, expected = UDP_CASES[name]
    size = len(payload)
    assert number(telephony_udp(octets(payload), 0, size, size, 40000, port)) == expected


def over_tcp(*payloads: bytes) -> int:
    """Return the evidence's number of the last of a stream's payloads."""
    note, evidence = blank_note(), 0
    for payload in payloads:
        evidence = telephony_tcp(note, octets(payload), 0, len(payload), len(payload), 2000)
    return number(evidence)


def test_streams_of_telephony() -> None:
    assert over_tcp(HAND_MADE["sip invite"]) == 1
    assert over_tcp(HAND_MADE["h225"]) == 20
    assert over_tcp(HAND_MADE["h245"]) == 21
    assert over_tcp(tpkt(2, 0x71, 1, 2, 3)) == 0
    assert over_tcp(tpkt(9, 2, 0, 1, 5, 4)) == 0
    assert over_tcp(sccp(1)) == 0
    assert over_tcp(sccp(1), sccp(0)) == 23
    assert over_tcp(sccp(1), b"\xff" * 20) == 0


# ---- session descriptions


def learned(*lines: str) -> list[tuple[str, int]]:
    """Return the (host, port) pairs, of the tests' hosts and ports, that a description teaches."""
    context, meter = np.zeros(64, CONTEXT), np.zeros(METERS, np.int64)
    meter[METER_LEARN] = LEARN_ALL
    text = octets("\r\n".join([*lines, ""]).encode())
    learn_sdp(text, 0, len(text), SIP, EPOCH, context, meter)
    evidence = []
    for host in (server(7), server(8)):
        for port in range(40000, 40010):
            key = endpoint_key(int.from_bytes(host.packed, "big"), 0, 0, 0, port)
            if recall(context, key, EPOCH) == MEDIA << 16 | LEARN_SDP << 8 | SIP:
                evidence.append((host.address, port))
    return evidence


A, B = server(7).address, server(8).address


def test_a_description_teaches_its_port_and_the_one_of_rtcp() -> None:
    assert learned(f"c=IN IP4 {A}", "m=audio 40000 RTP/AVP 0") == [(A, 40000), (A, 40001)]


def test_an_address_behind_its_media_line_counts_too() -> None:
    lines = ("m=audio 40000 RTP/AVP 0", f"c=IN IP4 {A}")
    assert learned(*lines) == [(A, 40000), (A, 40001)]


def test_every_media_line_is_learned() -> None:
    lines = (f"c=IN IP4 {A}", "m=audio 40000 RTP/AVP 0", "a=x", "m=video 40004 RTP/AVP 96")
    assert learned(*lines) == [(A, p) for p in (40000, 40001, 40004, 40005)]


def test_a_media_lines_own_address_counts_beside_the_sessions() -> None:
    lines = (f"c=IN IP4 {A}", "m=audio 40000 RTP/AVP 0", f"c=IN IP4 {B}")
    assert (B, 40000) in learned(*lines)


@pytest.mark.parametrize(
    "lines",
    [
        ("m=audio 40000 RTP/AVP 0",),
        (f"c=IN IP4 {A}",),
        (f"c=IN IP4 {A}", "m=audio 0 RTP/AVP 0"),
        (f"c=IN IP4 {A}", "m=audio x RTP/AVP 0"),
        (f"c=IN IP4 {A}", "m=audio 400000 RTP/AVP 0"),
        ("c=IN IP4 0.0.0.0", "m=audio 40000 RTP/AVP 0"),
        ("c=IN IP4 example.org", "m=audio 40000 RTP/AVP 0"),
        ("c=IN IP4 198.19.0.999", "m=audio 40000 RTP/AVP 0"),
    ],
)
def test_half_a_description_teaches_nothing(lines: tuple[str, ...]) -> None:
    assert learned(*lines) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"198.19.0.7", 0xC6130007),
        (b"198.19.0.7\r\n", 0xC6130007),
        (b"1.2.3", -1),
        (b"1.2.3.", -1),
        (b"1.2.3.256", -1),
        (b"", -1),
    ],
)
def test_an_address_is_read_from_its_dotted_form(text: bytes, expected: int) -> None:
    assert read_address(octets(text), 0, len(text)) == expected


def test_sip_over_udp_and_tcp_is_certain() -> None:
    for passing in (Wire().udp(invite(), ports=(5060, 5060)), Wire().tcp(invite())):
        assert passing.verdicts()[0] == ("certain", "sip", "setup", "SIP message, packet 1")


def test_the_crafts_messages_are_sip_in_long_and_compact_form() -> None:
    for compact in (True, False):
        headers = sip.dialogue("a@example.org", "b@example.org", "f00dcafe", "1", "1 BYE")
        assert is_message(sip.request("BYE", "sip:b@example.org", headers, compact=compact))
        assert is_message(sip.response("200 OK", headers, compact=compact))
