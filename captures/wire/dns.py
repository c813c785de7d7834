# SPDX-License-Identifier: BSD-3-Clause
"""DNS lookups (RFC 1035): a question and its answer."""

from __future__ import annotations

import struct

from midcall.captures.wire.host import Host

A, AAAA = 1, 28


def labels(name: str) -> bytes:
    """Return a name as length-prefixed labels."""
    parts = [bytes([len(part)]) + part.encode() for part in name.split(".")]
    return b"".join(parts) + b"\0"


def question(ident: int, name: str, kind: int = A) -> bytes:
    """Return a query for one name."""
    return (
        struct.pack(">HHHHHH", ident, 0x0100, 1, 0, 0, 0)
        + labels(name)
        + struct.pack(">HH", kind, 1)
    )


def answer(ident: int, name: str, host: Host) -> bytes:
    """Return the reply that gives a name one address."""
    kind = AAAA if host.version == 6 else A
    head = struct.pack(">HHHHHH", ident, 0x8180, 1, 1, 0, 0)
    record = struct.pack(">HHHIH", 0xC00C, kind, 1, 60, len(host.packed)) + host.packed
    return head + labels(name) + struct.pack(">HH", kind, 1) + record
