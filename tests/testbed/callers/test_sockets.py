# SPDX-License-Identifier: BSD-3-Clause
"""Sockets are those of the kernel's list that a program holds, with both ends."""

from __future__ import annotations

import os
import socket
import sys

import pytest

from midcall.testbed.programs.calls.sockets import held, listening, packed

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


@pytest.mark.parametrize(
    "text", ["0101A8C0", "0000000000000000FFFF00000101A8C0"], ids=["plain", "mapped into IPv6"]
)
def test_the_kernels_words_are_addresses(text: str) -> None:
    assert packed(text) == bytes((192, 168, 1, 1))


def test_a_socket_that_waits_is_listening_and_one_that_is_connected_is_not() -> None:
    own = os.getpid()
    with socket.socket() as tcp, socket.socket(type=socket.SOCK_DGRAM) as udp:
        tcp.bind(("127.0.0.1", 0))
        udp.bind(("127.0.0.1", 0))
        ports = tcp.getsockname()[1], udp.getsockname()[1]
        assert not listening(own, "tcp", ports[0])
        tcp.listen()
        assert listening(own, "tcp", ports[0])
        assert listening(own, "udp", ports[1])
        udp.connect(("127.0.0.1", 9))
        assert not listening(own, "udp", ports[1])


def test_a_programs_sockets_are_told_without_those_that_listen_or_stay_on_the_machine() -> None:
    own = os.getpid()
    before = held(own, own)
    with (
        socket.create_server(("0.0.0.0", 0)),
        socket.socket(type=socket.SOCK_DGRAM) as free,
        socket.socket(type=socket.SOCK_DGRAM) as inside,
    ):
        free.bind(("0.0.0.0", 0))
        inside.bind(("127.0.0.1", 0))
        opened = [one for one in held(own, own) if one not in before]
        assert opened == [("udp", "0.0.0.0", free.getsockname()[1], "", 0)]
        assert not [one for one in held(own, 2**22) if one in opened]
