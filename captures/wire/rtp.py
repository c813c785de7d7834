# SPDX-License-Identifier: BSD-3-Clause
"""RTP and RTCP as they look encrypted (RFC 3550, RFC 3711): clear headers, random bodies."""

from __future__ import annotations

import struct
from collections.abc import Callable

from midcall.captures.wire.seeded import SeededRandom

TAG = 10  # AES_CM_128_HMAC_SHA1_80: bytes after the payload


class Stream:
    """One synchronisation source: sequence numbers and timestamps rise as packets are made."""

    def __init__(
        self,
        dice: SeededRandom,
        payload_type: int,
        step: int,
        profile: int | None = None,
        extension: Callable[[int], bytes] | None = None,
    ) -> None:
        self.dice = dice
        self.payload_type = payload_type
        self.step = step
        self.profile = profile
        self.extension = extension
        self.ssrc = dice.number(1, 0xFFFFFFFF)
        self.sequence = dice.number(0, 20000)
        self.stamp = dice.number(0, 1 << 24)
        self.sent = 0
        self.reports = 0

    def packet(self, size: int, marker: bool = False, advance: bool = True) -> bytes:
        """Return the next packet, `size` bytes in all (header, extension, payload, tag)."""
        first = 0x80 | (0x10 if self.profile is not None else 0)
        second = self.payload_type | (0x80 if marker else 0)
        head = struct.pack(
            ">BBHII", first, second, self.sequence & 0xFFFF, self.stamp & 0xFFFFFFFF, self.ssrc
        )
        if self.profile is not None:
            words = self.extension(self.sent) if self.extension else self.dice.octets(4)
            head += struct.pack(">HH", self.profile, len(words) // 4) + words
        self.sequence += 1
        self.sent += 1
        if advance:
            self.stamp += self.step
        return head + self.dice.octets(max(size - len(head), TAG))

    def pause(self, steps: int) -> None:
        """Let time pass without packets."""
        self.stamp += steps * self.step

    def report(self, kind: int = 200, words: int = 6, extra: int = 40) -> bytes:
        """Return an SRTCP packet: header, encrypted body, E bit with index, tag (RFC 3711 3.4)."""
        self.reports += 1
        head = struct.pack(">BBHI", 0x81, kind, words, self.ssrc)
        trailer = struct.pack(">I", 0x80000000 | self.reports) + self.dice.octets(TAG)
        return head + self.dice.octets(extra) + trailer
