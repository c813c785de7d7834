# SPDX-License-Identifier: BSD-3-Clause
"""The control stream between caller and helper: messages of JSON behind their length.

Every message is authenticated with a key of the session (HMAC-SHA256) and numbered, so that a
change on the path is noticed.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import socket
import struct
from typing import Any

from midcall.errors import TestbedError
from midcall.testbed.probing.leash import CHALLENGE, HELLO, MAGIC, PROOF, proof, proven
from midcall.testbed.probing.probe import Ends

#: Octets of a message, at most.
LONGEST = 1 << 22
#: Seconds in which the other side must prove the key.
PATIENCE = 10.0


class Control:
    """A control stream whose two sides have proved the key to each other."""

    def __init__(self, stream: socket.socket, session: bytes) -> None:
        self.stream, self.session = stream, session
        self.sent = self.got = 0
        self.buffer = b""

    def tell(self, message: dict[str, Any]) -> None:
        """Send a message."""
        body = json.dumps(message).encode()
        self.sent += 1
        tag = self._tag(self.sent, body)
        self.stream.sendall(struct.pack(">I", len(body)) + tag + body)

    def hear(self) -> dict[str, Any] | None:
        """Return the next message, None at the end. Raises TestbedError if it is forged."""
        head = self._read(4 + PROOF)
        if head is None:
            return None
        (size,) = struct.unpack(">I", head[:4])
        if size > LONGEST:
            raise TestbedError("control stream: a message is too long")
        body = self._read(size)
        if body is None:
            return None
        self.got += 1
        if not hmac.compare_digest(self._tag(self.got, body), head[4:]):
            raise TestbedError("control stream: a message is not by the other side")
        message: dict[str, Any] = json.loads(body)
        return message

    def _tag(self, number: int, body: bytes) -> bytes:
        return hmac.new(self.session, struct.pack(">Q", number) + body, hashlib.sha256).digest()

    def _read(self, size: int) -> bytes | None:
        while len(self.buffer) < size:
            more = self.stream.recv(65_536)
            if not more:
                return None
            self.buffer += more
        result, self.buffer = self.buffer[:size], self.buffer[size:]
        return result


def exactly(stream: socket.socket, size: int) -> bytes:
    """Return octets of a stream. Raises TestbedError if it ends before."""
    result = b""
    while len(result) < size:
        more = stream.recv(size - len(result))
        if not more:
            raise TestbedError("the other side closed before it proved the key")
        result += more
    return result


def greet(stream: socket.socket, key: bytes) -> Control:
    """Prove the key to a helper, and let it prove it. Raises TestbedError.

    The caller's first message is as long as the helper's answer, so nothing is amplified.
    """
    stream.settimeout(PATIENCE)
    mine = os.urandom(CHALLENGE)
    stream.sendall(MAGIC + mine + bytes(PROOF))
    answer = exactly(stream, HELLO)
    theirs, got = answer[4 : 4 + CHALLENGE], answer[4 + CHALLENGE :]
    if answer[:4] != MAGIC or not proven(key, b"helper", mine, theirs, got):
        raise TestbedError("the helper did not prove the key; nothing more is sent to it")
    stream.sendall(proof(key, b"caller", theirs, mine))
    stream.settimeout(None)
    return Control(stream, proof(key, b"session", mine, theirs))


def welcome(stream: socket.socket, key: bytes) -> Control:
    """Let a caller prove the key. Raises TestbedError if it does not."""
    stream.settimeout(PATIENCE)
    hello = exactly(stream, HELLO)
    if hello[:4] != MAGIC:
        raise TestbedError("a caller that does not speak this protocol")
    theirs, mine = hello[4 : 4 + CHALLENGE], os.urandom(CHALLENGE)
    stream.sendall(MAGIC + mine + proof(key, b"helper", theirs, mine))
    if not proven(key, b"caller", mine, theirs, exactly(stream, PROOF)):
        raise TestbedError("a caller that does not know the key")
    stream.settimeout(None)
    return Control(stream, proof(key, b"session", theirs, mine))


# ---- values of messages


def packed(octets: bytes) -> str:
    """Return octets as text."""
    return base64.b64encode(octets).decode()


def unpacked(text: str) -> bytes:
    """Return the octets of a text."""
    return base64.b64decode(text)


def ends_words(ends: Ends) -> list[Any]:
    """Return a flow's ends as plain values."""
    return [ends.proto, ends.near.hex(), ends.near_port, ends.far.hex(), ends.far_port]


def ends_of(words: list[Any]) -> Ends:
    """Return a flow's ends from plain values."""
    proto, near, near_port, far, far_port = words
    return Ends(int(proto), bytes.fromhex(near), int(near_port), bytes.fromhex(far), int(far_port))
