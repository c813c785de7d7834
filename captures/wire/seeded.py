# SPDX-License-Identifier: BSD-3-Clause
"""Seeded random numbers and octets, which depend only on names, on any machine and Python."""

from __future__ import annotations

import hashlib

MS = 1_000_000  # nanoseconds
SECOND = 1_000 * MS


class SeededRandom:
    """A stream of octets: SHA-256 in counter mode, keyed by names."""

    def __init__(self, *names: str) -> None:
        self.names = names
        self._key = hashlib.sha256("\0".join(names).encode()).digest()
        self._counter = 0
        self._left = b""

    def child(self, name: str) -> SeededRandom:
        """Return an independent stream for a part, so that parts do not affect each other."""
        return SeededRandom(*self.names, name)

    def octets(self, n: int) -> bytes:
        """Return the next n octets."""
        while len(self._left) < n:
            block = hashlib.sha256(self._key + self._counter.to_bytes(8, "big")).digest()
            self._left += block
            self._counter += 1
        out, self._left = self._left[:n], self._left[n:]
        return out

    def number(self, low: int, high: int) -> int:
        """Return a number from low to high, both included."""
        return low + int.from_bytes(self.octets(8), "big") % (high - low + 1)

    def one_in(self, n: int) -> bool:
        """Return True once in n throws."""
        return self.number(1, n) == 1

    def printable(self, n: int) -> bytes:
        """Return n letters and digits, as names and tokens have."""
        letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
        return bytes(letters[octet & 63] for octet in self.octets(n))
