# SPDX-License-Identifier: BSD-3-Clause
"""Pseudonyms in DER (X.690): certificates, distinguished names, OCSP answers.

Texts, serial numbers, keys, signatures and hashes are mapped: each of them can be looked up in
public logs of certificates. Of times the year stays. Object identifiers and small numbers stay.
"""

from __future__ import annotations

from midcall.captures.own.pseudonyms import Pseudonyms

INTEGER, BITS, OCTETS, UTC_TIME, TIME = 2, 3, 4, 23, 24
#: UTF8String, PrintableString, T61String, IA5String, VisibleString; names of RFC 5280 4.2.1.6.
TEXTS = (12, 18, 19, 20, 22, 26, 27, 0x81, 0x82, 0x86)
BMP, ADDRESS = 30, 0x87
#: Integers and hashes of fewer bytes identify nothing.
SHORT = 5
DEPTH = 16


def header(data: bytes | bytearray, at: int, end: int) -> tuple[int, int, int] | None:
    """Return (tag, begin, end) of the value at `at`; its end is clipped, None if there is none."""
    if at + 2 > end:
        return None
    size, begin = data[at + 1], at + 2
    if size & 0x80:
        count = size & 0x7F
        if not 1 <= count <= 3 or begin + count > end:
            return None
        size, begin = int.from_bytes(data[begin : begin + count], "big"), begin + count
    return data[at], begin, min(end, begin + size)


def fits(data: bytes | bytearray, at: int, end: int) -> bool:
    """Return whether data[at:end] is one SEQUENCE, to its end."""
    found = header(data, at, end)
    if found is None or found[0] != 0x30:
        return False
    size = data[at + 1]
    long = int.from_bytes(data[at + 2 : found[1]], "big") if size & 0x80 else size
    return found[1] + long == end


def mapped(data: bytearray, at: int, end: int, names: Pseudonyms, depth: int = 0) -> None:
    """Map the values of data[at:end], in place."""
    while depth < DEPTH:
        found = header(data, at, end)
        if found is None:
            return
        tag, begin, at = found
        if tag & 0x20:
            mapped(data, begin, at, names, depth + 1)
        else:
            value(data, tag, begin, at, names, depth)


def value(data: bytearray, tag: int, at: int, end: int, names: Pseudonyms, depth: int) -> None:
    """Map a primitive value, in place."""
    old = bytes(data[at:end])
    if tag in TEXTS:
        data[at:end] = names.hosts(old)
    elif tag == BMP:
        data[at:end] = wide(old, names)
    elif tag == ADDRESS and len(old) in (4, 16):
        data[at:end] = names.address(old)
    elif tag == INTEGER and len(old) >= SHORT:
        data[at:end] = old[:1] + names.opaque(b"\0" + old)[2:]
    elif tag == BITS and len(old) > SHORT:
        if fits(data, at + 1, end):
            mapped(data, at + 1, end, names, depth + 1)
        else:
            data[at:end] = old[:2] + names.opaque(b"\0" + old)[3:]
    elif tag == OCTETS:
        if fits(data, at, end):
            mapped(data, at, end, names, depth + 1)
        elif len(old) >= SHORT:
            data[at:end] = names.opaque(old)
    elif tag in (UTC_TIME, TIME) and old[-1:] == b"Z":
        year = 2 if tag == UTC_TIME else 4
        data[at:end] = (old[:year] + b"0101000000")[: len(old) - 1].ljust(len(old) - 1, b"0") + b"Z"
    elif tag in (0x80, 0x83, 0x85) and len(old) >= SHORT:
        data[at:end] = names.opaque(old)


def wide(text: bytes, names: Pseudonyms) -> bytes:
    """Return the image of a text of two bytes per character, high byte first."""
    image = bytearray(text)
    image[1::2] = names.hosts(text[1::2])
    return bytes(image)
