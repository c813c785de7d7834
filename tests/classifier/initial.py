# SPDX-License-Identifier: BSD-3-Clause
"""QUIC Initials as a client makes them, by the library `cryptography`, not by the packet path."""

from __future__ import annotations

import struct

from midcall.captures.wire.quic import keys_of, salt_of, sealed
from midcall.captures.wire.tls import sized

V1, V2, DRAFT_29 = 1, 0x6B3343CF, 0xFF00001D
#: The connection id of the examples in RFC 9001 and RFC 9369.
ID = bytes.fromhex("8394c8f03e515708")


def varint(number: int) -> bytes:
    """Return a variable-length integer in the fewest octets."""
    for width, bits, mark in ((1, 6, 0), (2, 14, 1), (4, 30, 2), (8, 62, 3)):
        if number < 1 << bits:
            return (number | mark << bits).to_bytes(width, "big")
    raise ValueError(number)


def crypto(offset: int, piece: bytes) -> bytes:
    """Return a CRYPTO frame."""
    return b"\6" + varint(offset) + varint(len(piece)) + piece


def initial(
    frames: bytes,
    identity: bytes = ID,
    number: int = 2,
    version: int = V1,
    token: bytes = b"",
    size: int = 1162,
    source: bytes = b"",
    made_by: bytes | None = None,
) -> bytes:
    """Return a protected Initial whose payload is padded to `size` octets.

    made_by: the connection id that the keys come from, when it is not the packet's own.
    """
    payload = frames + bytes(max(0, size - len(frames)))
    head = bytes([0xD3 if version == V2 else 0xC3]) + struct.pack(">I", version)
    head += sized(identity, 1) + sized(source, 1) + varint(len(token)) + token
    head += struct.pack(">H", 0x4000 | (4 + len(payload) + 16))
    counter = struct.pack(">I", number)
    keys = keys_of(salt_of(version), identity if made_by is None else made_by)
    return sealed(keys, head + counter, counter, payload)


#: The CRYPTO frame of RFC 9001, appendix A.2, and of RFC 9369, appendix A.2.
EXAMPLE = bytes.fromhex(
    "060040f1010000ed0303ebf8fa56f12939b9584a3896472ec40bb863cfd3e86804fe3a47f06a2b69484c"
    "00000413011302010000c000000010000e00000b6578616d706c652e636f6dff01000100000a00080006"
    "001d0017001800100007000504616c706e000500050100000000003300260024001d00209370b2c9caa4"
    "7fbabaf4559fedba753de171fa71f50f1ce15d43e994ec74d748002b0003020304000d0010000e040305"
    "0306030203080408050806002d00020101001c00024001003900320408ffffffffffffffff05048000ff"
    "ff07048000ffff0801100104800075300901100f088394c8f03e51570806048000ffff"
)
#: First octets and last of the protected packets that the two RFCs print.
PRINTED = {
    V1: (
        "c000000001088394c8f03e5157080000449e7b9aec34d1b1c98dd7689fb8ec11d242b123dc9b",
        "e221af44860018ab0856972e194cd934",
    ),
    V2: (
        "d76b3343cf088394c8f03e5157080000449ea0c95e82ffe67b6abcdb4298b485dd04de806071",
        "a18b2faa745b6fe189cf772a9f84cbfc",
    ),
}
