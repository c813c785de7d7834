# SPDX-License-Identifier: BSD-3-Clause
"""Traces of SIP are read as their agents wrote them; the registrar passes messages on."""

from __future__ import annotations

from midcall.testbed.programs.calls import sip
from midcall.testbed.programs.calls.registrar import Registrar
from midcall.testbed.programs.calls.report import CONTROL, MEDIA, SIGNALLING, Flow

SDP = "v=0\nc=IN IP4 {}\nt=0 0\nm=audio {} RTP/AVP 0\na=rtpmap:0 PCMU/8000"
TRACE = (
    "call: connecting\n\x1b[36;1m#\nUDP 198.18.1.1:5060 -> 198.19.1.1:5060\r\nINVITE sip:b SIP/2.0"
    "\r\nContent-Type: application/sdp\r\n\r\n"
    + SDP.format("198.18.1.1", 10000)
    + "\n\x1b[;m\n\x1b[36;1m#\nUDP 198.19.1.1:5060 -> 198.18.1.1:5060\nSIP/2.0 200 OK\n"
    "Content-Type: application/sdp\n\n" + SDP.format("198.19.1.1", 12000) + "\n\x1b[;m\n"
)


def test_a_trace_gives_messages_and_their_media() -> None:
    invite, answer = sip.trace(TRACE)
    assert invite.first == "INVITE sip:b SIP/2.0"
    assert invite.target == ("198.19.1.1", 5060)
    assert sip.media_of(answer.sdp) == ("198.19.1.1", 12000)
    assert sip.codec_of(answer.sdp) == "pcmu"
    assert sip.media_of("") is None
    assert sip.trace("baresip is ready.\n") == []


def test_flows_are_told_from_the_side_of_their_end() -> None:
    messages = sip.trace(TRACE)
    own, other = messages[1].sdp, messages[0].sdp
    own_address, other_address = "198.19.1.1", "198.18.1.1"
    assert sip.flows(own_address, messages, own, other) == (
        Flow("udp", own_address, 5060, other_address, 5060, SIGNALLING),
        Flow("udp", own_address, 12000, other_address, 10000, MEDIA),
        Flow("udp", own_address, 12001, other_address, 10001, CONTROL),
    )


REGISTER = (
    "REGISTER sip:198.19.3.1 SIP/2.0\r\nVia: SIP/2.0/UDP 198.19.1.1:5060;branch=z9hG4bK1;rport\r\n"
    "To: <sip:callee@198.19.3.1>\r\nContact: <sip:callee-0x1@198.19.1.1:5060>\r\n\r\n"
)
INVITE = (
    "INVITE sip:{}@198.19.3.1 SIP/2.0\r\n"
    "Via: SIP/2.0/UDP 198.18.1.1:5060;branch=z9hG4bK2;rport\r\n"
    "CSeq: 1 INVITE\r\n\r\n"
)
CALLER, CALLEE = ("198.18.1.1", 5060), ("198.19.1.1", 5060)


def test_a_registrar_passes_a_request_to_who_registered_and_its_answer_back() -> None:
    registrar = Registrar("198.19.3.1", 5060)
    reply = registrar.handle(REGISTER, CALLEE)
    assert reply is not None
    assert reply[0].startswith("SIP/2.0 200 OK\r\nVia: ")
    passed = registrar.handle(INVITE.format("callee"), CALLER)
    assert passed is not None
    assert passed[1] == CALLEE
    assert passed[0].count("Via: ") == 2
    back = registrar.handle(passed[0].replace("INVITE sip", "SIP/2.0 180", 1), CALLEE)
    assert back is not None
    assert back[1] == CALLER
    assert back[0].count("Via: ") == 1


def test_nobody_is_reached_who_did_not_register() -> None:
    reply = Registrar("198.19.3.1", 5060).handle(INVITE.format("stranger"), CALLER)
    assert reply is not None
    assert reply[0].startswith("SIP/2.0 404 Not Found\r\n")
    assert reply[1] == CALLER
