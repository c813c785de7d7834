# SPDX-License-Identifier: BSD-3-Clause
"""Bare flows: what every call sends is told from what one app alone sends."""

from __future__ import annotations

import numpy as np
import pytest

from midcall.captures.packets.pcap import packets_of
from midcall.experiments.accuracy import content_free

UDP_HEAD = bytes.fromhex("4500000000000000401100000a000001c61200011f400d96")
COOKIE = bytes.fromhex("2112a442") + bytes(12)


def left(*payloads: bytes) -> content_free.Left:
    """Return what is left in a flow of these UDP payloads."""
    frames = []
    for payload in payloads:
        length = (8 + len(payload)).to_bytes(2)
        whole = UDP_HEAD[:2] + (28 + len(payload)).to_bytes(2) + UDP_HEAD[4:] + length + b"\0\0"
        frames.append(whole + payload)
    packets = packets_of(frames, [0] * len(frames), link=101)
    return content_free.left(packets, np.arange(len(frames)))


def rtp(at: int) -> bytes:
    """Return an RTP packet of a stream."""
    return b"\x80\x6f" + at.to_bytes(2) + bytes(4) + b"\1\2\3\4" + bytes(40)


def attribute(kind: int, value: bytes) -> bytes:
    """Return a STUN attribute, padded."""
    return kind.to_bytes(2) + len(value).to_bytes(2) + value + bytes(-len(value) % 4)


def stun(*held: bytes) -> bytes:
    """Return a Binding request with attributes."""
    body = b"".join(held)
    return b"\0\1" + len(body).to_bytes(2) + COOKIE + body


PRIORITY = attribute(0x0024, bytes(4))
RTCP = bytes.fromhex("80c80006") + bytes(24)
DTLS_DATA = bytes.fromhex("17fefd000100000000000100 20".replace(" ", "")) + bytes(32)
DTLS_HELLO = bytes.fromhex("16fefd000000000000000000 20".replace(" ", "")) + b"\1" + bytes(31)


def test_rtp_rtcp_and_plain_stun_say_nothing_of_an_app() -> None:
    found = left(*(rtp(at) for at in range(5)), RTCP, stun(PRIORITY))
    assert found.bare
    assert found.words.startswith("RTP 5")
    assert "RTCP 1" in found.words
    assert "STUN 1" in found.words


@pytest.mark.parametrize(
    "own",
    [
        stun(attribute(0x4000, bytes(4))),
        stun(attribute(0x0006, b"abcd:efgh")),
        stun(attribute(0x0014, b"realm")),
        DTLS_HELLO,
        bytes.fromhex("c00000000108") + bytes(60),
        b"\x17\x01" + bytes(50),
    ],
)
def test_one_message_of_its_own_makes_a_flow_an_apps(own: bytes) -> None:
    assert not left(rtp(1), rtp(2), own).bare
    assert left(rtp(1), rtp(2)).bare


def test_a_record_of_dtls_that_is_no_hello_is_plain() -> None:
    assert left(DTLS_DATA).bare
    assert left(DTLS_DATA).words == "DTLS 1"


def test_a_flow_without_payload_is_not_bare() -> None:
    assert left() == content_free.Left("no payload", False)


def test_a_relays_frame_is_what_stands_in_it() -> None:
    def framed(inner: bytes) -> bytes:
        return b"\x40\0" + len(inner).to_bytes(2) + inner

    assert left(framed(rtp(1)), framed(rtp(2))).bare
    assert not left(framed(stun(attribute(0x4000, bytes(4))))).bare
