# SPDX-License-Identifier: BSD-3-Clause
"""A live network for tests, frames to send through it, and policies that strike some of them."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest

from midcall.testbed.live.box.rings import inside
from midcall.testbed.live.network.network import Network
from midcall.testbed.policy.language import Rule
from midcall.testbed.policy.operator import Policy

CALLER, RELAY = (198, 18, 0, 1), (198, 19, 0, 1)


def datagram(
    payload: bytes = b"hello", port: int = 5000, number: int = 0, run: int = 0x77, near: int = 40000
) -> bytes:
    """Return a frame from caller to relay that carries a packet number in its MAC source."""
    udp = struct.pack(">HHHH", near, port, 8 + len(payload), 0) + payload
    head = struct.pack(">BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0x4000, 64, 17, 0)
    head += bytes(CALLER) + bytes(RELAY)
    total = sum(struct.unpack(">10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    head = head[:10] + struct.pack(">H", 0xFFFF - total) + head[12:]
    ends = bytes((2, run, 0, 0, 0, 2, 2, run)) + number.to_bytes(4, "big")
    return ends + b"\x08\x00" + head + udp


def dropping(port: int) -> Policy:
    """Return a policy that drops what goes to a port."""
    rule = {
        "name": "drop-port",
        "match": {"ports": [port]},
        "act": "drop",
        "grade": "C",
        "source": "made up for this test",
    }
    return Policy((Rule.model_validate(rule),))


def delaying(ms: float) -> Policy:
    """Return a policy that delays every datagram."""
    rule = {
        "name": "delay",
        "match": {"protocol": "udp"},
        "act": "delay",
        "delay_ms": ms,
        "grade": "C",
        "source": "made up for this test",
    }
    return Policy((Rule.model_validate(rule),))


class Tap:
    """A plain packet socket on one interface, for a test to send and to look."""

    def __init__(self, pid: int, interface: str) -> None:
        with inside(pid):
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.socket.setsockopt(263, 23, 1)  # what this end sends is not looked at
        self.socket.bind((interface, 3))

    def send(self, frame: bytes) -> None:
        self.socket.send(frame)

    def frames(self, count: int, seconds: float = 3.0) -> list[bytes]:
        """Return the frames that come, at most `count`, waiting for them no longer than that."""
        received: list[bytes] = []
        until = time.monotonic() + seconds
        while len(received) < count and (remaining := until - time.monotonic()) > 0:
            if select.select([self.socket], [], [], remaining)[0]:
                received.append(self.socket.recv(4096))
        return received


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    with Network() as made:
        yield made


@pytest.fixture
def taps(network: Network) -> Iterator[tuple[Tap, Tap]]:
    """Return taps at the caller's and at the server's end."""
    ends = Tap(network.caller_pid, network.ports.c0), Tap(network.server_pid, network.ports.s0)
    yield ends
    for tap in ends:
        tap.socket.close()


@pytest.fixture
def make() -> Any:
    """Return what frames and policies are made with."""

    class Make:
        pass

    made: Any = Make()
    made.datagram, made.dropping, made.Tap = datagram, dropping, Tap
    made.delaying = delaying
    return made
