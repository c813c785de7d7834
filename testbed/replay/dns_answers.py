# SPDX-License-Identifier: BSD-3-Clause
"""DNS answers: the addresses in a captured response (RFC 1035, RFC 3596)."""

from __future__ import annotations

from collections.abc import Iterator

HEADER = 12
A, AAAA = 1, 28


def addresses(message: bytes) -> list[bytes]:
    """Return the IPv4 and IPv6 addresses (4 and 16 bytes) in a DNS response.

    [] for a question; for a truncated message, the addresses before the cut.
    """
    return list(_addresses(message))


def _addresses(message: bytes) -> Iterator[bytes]:
    if len(message) < HEADER or not message[2] & 0x80:
        return
    questions, answers = (int.from_bytes(message[at : at + 2], "big") for at in (4, 6))
    at = HEADER
    for _ in range(questions):
        at = after_name(message, at) + 4
    for _ in range(answers):
        at = after_name(message, at)
        if at + 10 > len(message):
            return
        kind = int.from_bytes(message[at : at + 2], "big")
        size = int.from_bytes(message[at + 8 : at + 10], "big")
        value = message[at + 10 : at + 10 + size]
        at += 10 + size
        if (kind, len(value)) in ((A, 4), (AAAA, 16)):
            yield value


def after_name(message: bytes, at: int) -> int:
    """Return where the name at `at` ends: behind its zero label or its pointer."""
    while at < len(message):
        length = message[at]
        if length == 0:
            return at + 1
        if length >= 0xC0:
            return at + 2
        at += 1 + length
    return len(message)
