# SPDX-License-Identifier: BSD-3-Clause
"""STUN messages (RFC 8489), TURN (RFC 8656) and attributes of calling apps."""

from __future__ import annotations

import hashlib
import hmac
import struct
import zlib

from midcall.captures.packets.numbers import STUN_COOKIE
from midcall.captures.wire.host import Host

HEADER_LENGTH = 20

BINDING, ALLOCATE, REFRESH, SEND, DATA_INDICATION = 0x0001, 0x0003, 0x0004, 0x0016, 0x0017
CREATE_PERMISSION, CHANNEL_BIND = 0x0008, 0x0009
SUCCESS, ERROR = 0x0100, 0x0110

USERNAME, MESSAGE_INTEGRITY, ERROR_CODE = 0x0006, 0x0008, 0x0009
CHANNEL_NUMBER, LIFETIME, XOR_PEER, DATA, REALM, NONCE = 0x000C, 0x000D, 0x0012, 0x0013, 0x14, 0x15
XOR_RELAYED, REQUESTED_TRANSPORT, XOR_MAPPED = 0x0016, 0x0019, 0x0020
PRIORITY, USE_CANDIDATE = 0x0024, 0x0025
SOFTWARE, FINGERPRINT, ICE_CONTROLLED, ICE_CONTROLLING = 0x8022, 0x8028, 0x8029, 0x802A
NETWORK_COST = 0xC057

Attribute = tuple[int, bytes]


def attribute(kind: int, value: bytes) -> bytes:
    """Return a type, a length and a value padded to four bytes."""
    return struct.pack(">HH", kind, len(value)) + value + b"\0" * (-len(value) % 4)


def message(
    kind: int,
    transaction: bytes,
    attributes: list[Attribute],
    key: bytes | None = None,
    fingerprint: bool = False,
) -> bytes:
    """Return a STUN message; key: add MESSAGE-INTEGRITY made with it (RFC 8489 section 14.5)."""
    body = b"".join(attribute(code, value) for code, value in attributes)
    if key is not None:
        covered = header(kind, len(body) + 24, transaction) + body
        digest = hmac.new(key, covered, hashlib.sha1).digest()
        body += attribute(MESSAGE_INTEGRITY, digest)
    if fingerprint:
        covered = header(kind, len(body) + 8, transaction) + body
        body += attribute(FINGERPRINT, struct.pack(">I", zlib.crc32(covered) ^ 0x5354554E))
    return header(kind, len(body), transaction) + body


def method_bits(method: int) -> int:
    """Return the bits of a method in a message type (RFC 8489 section 5)."""
    return (method & 0x0F) | (method & 0x70) << 1 | (method & 0xF80) << 2


def header(kind: int, length: int, transaction: bytes) -> bytes:
    """Return the 20 bytes before the attributes; transaction: 12 bytes."""
    return struct.pack(">HHI", kind, length, STUN_COOKIE) + transaction


def xor_address(kind: int, host: Host, port: int, transaction: bytes) -> Attribute:
    """Return an XOR-MAPPED, XOR-PEER or XOR-RELAYED address (RFC 8489 section 14.2)."""
    mask = struct.pack(">I", STUN_COOKIE) + transaction
    masked = bytes(a ^ b for a, b in zip(host.packed, mask, strict=False))
    family = 2 if host.version == 6 else 1
    return kind, struct.pack(">BBH", 0, family, port ^ (STUN_COOKIE >> 16)) + masked


def channel_data(channel: int, inner: bytes) -> bytes:
    """Return a TURN ChannelData message (RFC 8656 section 12.4)."""
    return struct.pack(">HH", channel, len(inner)) + inner
