# SPDX-License-Identifier: BSD-3-Clause
"""Limits of the two programs of a probe: addresses, a shared key, and a budget.

An address must lie in the lab's own ranges. The other side must have proved the shared key (HMAC
over both sides' random octets, RFC 2104) before anything but the proof itself is sent to it. A
budget of packets, octets and seconds is printed and confirmed, and ends the program when spent.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from midcall.errors import TestbedError

#: The only ranges that this version sends to (RFC 2544, RFC 4193).
LAB = (ipaddress.ip_network("198.18.0.0/15"), ipaddress.ip_network("fd00::/8"))
#: Octets of a challenge and of a proof.
CHALLENGE, PROOF = 32, 32
#: Octets that a key has at least.
LEAST_KEY = 16
#: Octets of a program's first message: the helper's answer to it is not longer.
HELLO = 4 + CHALLENGE + PROOF
MAGIC = b"MCP1"


def allowed(address: str) -> str:
    """Return an address of the lab. Raises TestbedError for any other one."""
    try:
        one = ipaddress.ip_address(address)
    except ValueError:
        raise TestbedError(f"address {address!r}: expected an IP address") from None
    if not any(one.version == net.version and one in net for net in LAB):
        raise TestbedError(
            f"address {address}: this version probes only within 198.18.0.0/15 and fd00::/8"
        )
    return address


def endpoint(words: str, port: int = 7331) -> tuple[str, int]:
    """Return (address, port) of `ADDRESS` or `ADDRESS:PORT`; `[ADDRESS]:PORT` for IPv6."""
    host, number = words, str(port)
    if words.startswith("["):
        host, _, rest = words[1:].partition("]")
        number = rest.lstrip(":") or number
    elif words.count(":") == 1:
        host, _, number = words.partition(":")
    if not number.isdigit() or not 0 < int(number) < 65_536:
        raise TestbedError(f"helper {words!r}: expected ADDRESS or ADDRESS:PORT")
    return allowed(host), int(number)


def read_key(path: Path) -> bytes:
    """Return the key in a file. Raises TestbedError if it is too short or readable by others."""
    try:
        key = path.read_bytes().strip()
        mode = path.stat().st_mode
    except OSError as error:
        raise TestbedError(f"key {path}: {error.strerror}") from None
    if len(key) < LEAST_KEY:
        raise TestbedError(f"key {path}: got {len(key)} octets, expected {LEAST_KEY} at least")
    if mode & 0o077:
        raise TestbedError(f"key {path}: others can read it; run chmod 600 {path}")
    return key


def proof(key: bytes, side: bytes, first: bytes, second: bytes) -> bytes:
    """Return the proof of one side over both challenges."""
    return hmac.new(key, MAGIC + side + first + second, hashlib.sha256).digest()


def proven(key: bytes, side: bytes, first: bytes, second: bytes, got: bytes) -> bool:
    """Return whether a proof is right, in constant time."""
    return hmac.compare_digest(proof(key, side, first, second), got)


class BudgetUsedUp(TestbedError):
    """The packets, octets or seconds of a budget are used up."""


@dataclass
class Budget:
    """What may be sent, and how long. Raises TestbedError when it is spent."""

    packets: int
    octets: int
    seconds: float
    used_packets: int = 0
    used_octets: int = 0
    began: float | None = None

    @classmethod
    def of(cls, words: str) -> Budget:
        """Return a budget from `PACKETS,OCTETS,SECONDS`. Raises TestbedError."""
        parts = words.split(",")
        if len(parts) != 3 or not all(part.strip().isdigit() for part in parts):
            raise TestbedError(f"budget {words!r}: expected PACKETS,OCTETS,SECONDS")
        packets, octets, seconds = (int(part) for part in parts)
        if not (packets and octets and seconds):
            raise TestbedError(f"budget {words!r}: expected numbers above 0")
        return cls(packets, octets, float(seconds))

    @property
    def words(self) -> str:
        """Return the budget in words."""
        return (
            f"at most {self.packets} packets, {self.octets} octets and {self.seconds:g} s, only "
            "to an address that has proved the key"
        )

    def spend(self, octets: int) -> None:
        """Count a packet that is about to be sent. Raises BudgetUsedUp."""
        if self.began is None:
            self.began = time.monotonic()
        self.used_packets += 1
        self.used_octets += octets
        spent = time.monotonic() - self.began
        if (
            self.used_packets > self.packets or self.used_octets > self.octets
            or spent > self.seconds
        ):  # fmt: skip
            raise BudgetUsedUp(f"the budget is spent: {self.words}")


def confirmed(
    budget: Budget, yes: bool, say: Callable[[str], None], ask: Callable[[str], bool]
) -> bool:
    """Print a budget and return whether it is confirmed."""
    say(f"midcall: {budget.words}")
    return yes or ask("Send this?")
