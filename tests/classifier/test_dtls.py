# SPDX-License-Identifier: BSD-3-Clause
"""DTLS: hellos that agree on SRTP keys are a call's, others are anybody's."""

from __future__ import annotations

import pytest

from midcall.captures.wire import dtls
from midcall.captures.wire.seeded import SeededRandom
from midcall.classifier.protocols.dtls import (
    CLIENT_HELLO,
    CLIENT_HELLO_SRTP,
    DTLS,
    NOT_DTLS,
    SERVER_HELLO,
    SERVER_HELLO_SRTP,
    read_dtls,
)
from tests.classifier.wire import Wire, noise, octets

DICE = SeededRandom("midcall", "dtls")
HELLO = dtls.client_hello(DICE)


def opened(payload: bytes, size: int | None = None) -> int:
    """Return what a payload is."""
    wire = len(payload) if size is None else size
    return int(read_dtls(octets(payload), 0, len(payload), wire))


CASES = {
    "client hello with use_srtp": (HELLO, CLIENT_HELLO_SRTP),
    "client hello without": (dtls.client_hello(DICE, srtp=False), CLIENT_HELLO),
    "server flight with use_srtp": (dtls.server_flight(DICE), SERVER_HELLO_SRTP),
    "server flight without": (dtls.server_flight(DICE, srtp=False), SERVER_HELLO),
    "client's second flight": (dtls.client_flight(DICE), DTLS),
    "finish": (dtls.server_finish(DICE), DTLS),
    "application data": (dtls.record(23, 1, noise(60), epoch=1), DTLS),
    "version 1.0": (dtls.record(23, 1, noise(60), version=0xFEFF), DTLS),
    "old OpenSSL": (dtls.record(22, 1, noise(60), version=0x0100), DTLS),
    "a version nobody has": (dtls.record(22, 1, noise(60), version=0xFEFA), NOT_DTLS),
    "TLS": (dtls.record(22, 1, noise(60), version=0x0303), NOT_DTLS),
    "a content type too small": (dtls.record(19, 1, noise(60)), NOT_DTLS),
    "a content type too large": (dtls.record(26, 1, noise(60)), NOT_DTLS),
    "an empty record": (dtls.record(22, 1, b""), NOT_DTLS),
    "a record longer than its datagram": (HELLO[:-1], NOT_DTLS),
    "half a header": (HELLO[:12], NOT_DTLS),
    "an encrypted handshake": (dtls.record(22, 1, HELLO[13:], epoch=1), DTLS),
    "a later fragment of a hello": (
        HELLO[:19] + b"\0\0\7" + HELLO[22:],
        DTLS,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_record_is_what_it_is(name: str) -> None:
    payload, expected = CASES[name]
    assert opened(payload) == expected


def test_a_hello_cut_by_the_snaplen_is_still_a_hello() -> None:
    assert opened(HELLO[:70], len(HELLO)) == CLIENT_HELLO
    assert opened(HELLO[:30], len(HELLO)) == DTLS


def test_use_srtp_is_a_calls_setup_and_its_lack_is_not() -> None:
    with_srtp = Wire().udp(HELLO).udp(dtls.server_flight(DICE), up=False)
    assert with_srtp.verdicts()[0] == (
        "certain",
        "rtc",
        "setup",
        "DTLS hello with use_srtp, packet 1",
    )
    without = Wire()
    for i in range(12):
        without.udp(dtls.client_hello(DICE.child(str(i)), srtp=False))
    assert without.verdicts()[0].verdict == "not-call"
