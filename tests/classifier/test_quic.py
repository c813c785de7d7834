# SPDX-License-Identifier: BSD-3-Clause
"""QUIC: long headers of known versions, and nothing that only looks like one."""

from __future__ import annotations

import pytest

from midcall.classifier.protocols.quic import is_quic
from tests.classifier.payloads import chlo, quic
from tests.classifier.wire import Wire, classify, noise, octets, rtp, sample

GOOGLE = int.from_bytes(b"Q050", "big")


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (quic(1), True),
        (quic(0x6B3343CF), True),
        (quic(0x709A50C4), True),
        (quic(0xFF00001D), True),
        (quic(0xFACEB002), True),
        (quic(GOOGLE), True),
        (quic(int.from_bytes(b"T051", "big")), True),
        (quic(1, first=0x80), True),
        (bytes([0x0D]) + noise(8) + b"Q039" + noise(20), True),
        (bytes([0x09]) + noise(8) + b"Q0x9" + noise(20), False),
        (bytes([0x01]) + noise(8) + b"Q039" + noise(20), False),
        (quic(2), False),
        (quic(int.from_bytes(b"QABC", "big")), False),
        (quic(0), False),
        (b"\xc3\0\0\0\1\x15" + noise(40), False),
        (quic(1, first=0x40), False),
        (quic(1)[:6], False),
        (rtp(96, 1, 160), False),
        (noise(60), False),
    ],
)
def test_a_long_header_is_known_by_its_version(payload: bytes, expected: bool) -> None:
    assert bool(is_quic(octets(payload), 0, len(payload))) is expected


def test_a_quic_connection_is_no_call() -> None:
    passing = Wire().udp(quic(), ports=(50000, 443))
    for i in range(80):
        passing.udp(b"\x43" + noise(900, i), up=False, ports=(50000, 443))
    assert passing.verdicts()[0] == ("not-call", "none", "other", "QUIC")


def test_the_samples_pages_over_quic_are_no_calls() -> None:
    flows = classify(sample("sample-web"))
    assert (flows["verdict"] == 1).all()


@pytest.mark.parametrize(
    ("name", "app"),
    [(b"g.whatsapp.net", "whatsapp"), (b"mtalk.example.org", "none"), (b"", "none")],
)
def test_googles_quic_tells_its_host_name_in_plain(name: bytes, app: str) -> None:
    flow = Wire().udp(chlo(name), ports=(40000, 443)).verdicts()[0]
    assert (flow.verdict, flow.app) == ("not-call", app)
