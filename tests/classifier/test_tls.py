# SPDX-License-Identifier: BSD-3-Clause
"""TLS and HTTP: the server name, and nothing beyond what the client sent."""

from __future__ import annotations

import pytest

from midcall.captures.wire import tls
from midcall.captures.wire.seeded import SeededRandom
from midcall.classifier.protocols.http import read_http
from midcall.classifier.protocols.tls import CLIENT_HELLO, NOT_TLS, TLS, read_tls
from midcall.classifier.state.packet_fields import (
    NAME_HTTP_HOST,
    NAME_SNI,
    SIGN_NAME_AT,
    SIGN_NAME_KIND,
    SIGN_NAME_LENGTH,
)
from tests.classifier.payloads import certified, tls_server
from tests.classifier.wire import FlowVerdict, Wire, blank_signs, noise, octets

DICE = SeededRandom("midcall", "tls")
HELLO = tls.client_hello(DICE, "chat.example.org")


def opened(payload: bytes) -> tuple[int, int, bytes]:
    """Return what a payload is, and kind and text of the name in it."""
    signs = blank_signs()
    kind = int(read_tls(octets(payload), 0, len(payload), signs))
    at, length = int(signs[SIGN_NAME_AT]), int(signs[SIGN_NAME_LENGTH])
    return kind, int(signs[SIGN_NAME_KIND]), payload[at : at + length]


@pytest.mark.parametrize("name", ["a.example", "chat.example.org", "x" * 60 + ".example.org"])
def test_a_hellos_name_is_read(name: str) -> None:
    hello = tls.client_hello(DICE, name)
    assert opened(hello) == (CLIENT_HELLO, NAME_SNI, name.encode())


def test_a_hello_without_a_name_has_none() -> None:
    assert opened(tls.client_hello(DICE, "")) == (CLIENT_HELLO, 0, b"")


def test_a_name_that_the_segment_cuts_is_not_half_read() -> None:
    at = HELLO.index(b"chat.example.org")
    assert opened(HELLO[: at + 5]) == (CLIENT_HELLO, 0, b"")
    assert opened(HELLO[: at + 16]) == (CLIENT_HELLO, NAME_SNI, b"chat.example.org")


def test_a_name_list_that_lies_about_its_length_gives_no_name() -> None:
    at = HELLO.index(b"chat.example.org")
    lying = HELLO[: at - 2] + b"\x7f\xff" + HELLO[at:]
    assert opened(lying) == (CLIENT_HELLO, 0, b"")


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (tls.server_hello(DICE, 900), TLS),
        (tls.record(23, noise(60)), TLS),
        (tls.record(21, b"\2\x28"), TLS),
        (tls.record(20, b"\1", 0x0300), TLS),
        (tls.record(23, noise(60), 0x0305), NOT_TLS),
        (tls.record(24, noise(60)), NOT_TLS),
        (tls.record(19, noise(60)), NOT_TLS),
        (b"\x17\3\3\x60\0" + noise(40), NOT_TLS),
        (HELLO[:5], NOT_TLS),
        (noise(60), NOT_TLS),
    ],
)
def test_a_record_is_known_by_its_header(payload: bytes, expected: int) -> None:
    assert opened(payload)[0] == expected


def host(payload: bytes) -> tuple[bool, int, bytes]:
    """Return whether a payload is HTTP, and kind and text of the host in it."""
    signs = blank_signs()
    kind = bool(read_http(octets(payload), 0, len(payload), signs))
    at, length = int(signs[SIGN_NAME_AT]), int(signs[SIGN_NAME_LENGTH])
    return kind, int(signs[SIGN_NAME_KIND]), payload[at : at + length]


@pytest.mark.parametrize(
    ("payload", "name"),
    [
        (b"GET / HTTP/1.1\r\nHost: example.org\r\n\r\n", b"example.org"),
        (b"GET / HTTP/1.1\r\nA: b\r\nhOST:   example.org:8080\r\n\r\n", b"example.org"),
        (b"GET / HTTP/1.1\r\nHOST: example.org\r\n\r\n", b"example.org"),
        (b"POST /x HTTP/1.1\nhost:example.org\n\n", b"example.org"),
        (b"GET / HTTP/1.1\r\nX-Host: a\r\nHost: b.example\r\n\r\n", b"b.example"),
    ],
)
def test_a_requests_host_is_read(payload: bytes, name: bytes) -> None:
    assert host(payload) == (True, NAME_HTTP_HOST, name)


def test_responses_and_requests_without_a_host_have_no_name() -> None:
    assert host(b"HTTP/1.1 200 OK\r\nHost: x.example\r\n\r\n") == (True, 0, b"")
    assert host(b"GET / HTTP/1.0\r\nAccept: */*\r\n\r\n") == (True, 0, b"")


def test_what_is_no_http_is_none() -> None:
    for payload in (b"GETS / HTTP/1.1\r\n", b"get / http/1.1\r\n", b"GET /", noise(40)):
        assert not host(payload)[0]


def test_names_decide_what_a_connection_is() -> None:
    cases = {
        "web.whatsapp.com": ("not-call", "whatsapp", "messaging"),
        "www.example.org": ("not-call", "none", "other"),
        "zoomsjczc.zoom.us": ("certain", "zoom", "setup"),
        "us02web.zoom.us": ("not-call", "zoom", "messaging"),
    }
    for name, expected in cases.items():
        passing = Wire().tcp(tls.client_hello(DICE, name)).tcp(tls.record(23, noise(99)), False)
        assert passing.verdicts()[0][:3] == expected, name


def test_a_host_field_decides_too_but_never_makes_a_call() -> None:
    request = b"GET / HTTP/1.1\r\nHost: zoomsjczc.zoom.us\r\n\r\n"
    assert Wire().tcp(request, ports=(40000, 80)).verdicts()[0][:3] == (
        "not-call",
        "zoom",
        "messaging",
    )


# ---- certificates, where no hello names anybody

NAMELESS = tls.client_hello(SeededRandom("midcall", "certificates"), "")
IN_DIGITS = tls.client_hello(SeededRandom("midcall", "certificates"), "192.0.2.7")


def after_server(hello: bytes, *answers: bytes) -> FlowVerdict:
    """Return the verdict of a flow whose server answers a hello."""
    passing = Wire().tcp(hello) if hello else Wire()
    for answer in answers:
        passing.tcp(answer, up=False)
    return passing.verdicts()[0]


CHAT = FlowVerdict("not-call", "zoom", "messaging", "certificate for a name of this app")
RELAY = FlowVerdict("certain", "teams", "setup", "certificate for a name of this app, packet 2")
NOBODY = FlowVerdict("not-call", "none", "other", "TLS, no name of an app with calls")


@pytest.mark.parametrize(
    ("hello", "answer", "expected"),
    [
        (NAMELESS, tls_server(b"*.zoom.us"), CHAT),
        (IN_DIGITS, tls_server(b"tr.teams.microsoft.com"), RELAY),
        (NAMELESS, tls_server(b"x", b"relay.teams.microsoft.com"), RELAY),
        (NAMELESS, tls_server(b"*.example.org", b"a.zoom.us"), CHAT),
        (NAMELESS, tls_server(b"*.example.org"), NOBODY),
        (b"", tls_server(b"*.zoom.us"), CHAT),
        (
            tls.client_hello(SeededRandom("midcall", "c"), "example.org"),
            tls_server(b"zoom.us"),
            NOBODY,
        ),
    ],
)
def test_a_servers_certificate_names_a_flow_that_no_hello_named(
    hello: bytes, answer: bytes, expected: FlowVerdict
) -> None:
    assert after_server(hello, answer) == expected


def test_a_certificates_later_segment_is_searched_too() -> None:
    whole = tls_server(b"tr.teams.microsoft.com")
    assert after_server(NAMELESS, whole[:60], whole[60:])[1] == "teams"


def test_nothing_is_searched_behind_the_end_of_plain_text() -> None:
    done = b"\x14\3\3\0\1\1"
    assert after_server(NAMELESS, done, tls_server(b"zoom.us")) == NOBODY


def test_only_the_first_alternative_name_counts() -> None:
    both = certified(b"x", b"a.facebook.example\x82\x0dmessenger.com")
    assert Wire().udp(both).verdicts()[0].app == "none"
