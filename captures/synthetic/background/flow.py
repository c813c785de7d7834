# SPDX-License-Identifier: BSD-3-Clause
"""Crafted flows, and helpers to make them."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import NamedTuple

from midcall.captures.packets.numbers import UDP


class Flow(NamedTuple):
    """One planned flow: messages are (from the opener, payload), `gap` ns apart."""

    proto: int
    port: int
    gap: int
    messages: list[tuple[bool, bytes]]


MS = 1_000_000
Maker = Callable[[Random], Flow]


def number(value: int, size: int) -> bytes:
    """Return a number in network order, what does not fit cut off."""
    return (value % (1 << (8 * size))).to_bytes(size)


def little(value: int, size: int) -> bytes:
    """Return a number with the lowest octet first, what does not fit cut off."""
    return (value % (1 << (8 * size))).to_bytes(size, "little")


def label(r: Random) -> str:
    """Return a random word of letters."""
    return "".join(r.choices("abcdefghijklmnopqrstuvwxyz", k=r.randint(3, 12)))


def high_port(r: Random) -> int:
    """Return a random port above the well-known ones."""
    return r.randint(1024, 65535)


def talk(r: Random, count: int, make: Callable[[int, bool], bytes]) -> list[tuple[bool, bytes]]:
    """Return messages in random directions, the opener's first; make(turn, up) is a payload."""
    sides = [True, *(r.random() < 0.5 for _ in range(count - 1))]
    return [(up, make(at, up)) for at, up in enumerate(sides)]


class Session(NamedTuple):
    """What the messages of one flow share: two random ids of 16 octets, and a first number."""

    ours: bytes
    theirs: bytes
    start: int


#: A message from its randomness, its place in the flow, whether the opener sends it, its session.
Message = Callable[[Random, int, bool, Session], bytes]


def repeated(
    make: Message,
    port: int | Callable[[Random], int] = high_port,
    gap: int = 40,
    count: int = 30,
    proto: int = UDP,
) -> Maker:
    """Return a maker of flows of one kind of message; gap is in ms."""

    def flow(r: Random) -> Flow:
        session = Session(r.randbytes(16), r.randbytes(16), r.randint(0, 1 << 30))
        where = port if isinstance(port, int) else port(r)
        return Flow(proto, where, gap * MS, talk(r, count, lambda at, up: make(r, at, up, session)))

    return flow


def some(r: Random, least: int, most: int) -> bytes:
    """Return random octets, as many as a random number in a range."""
    return r.randbytes(r.randint(least, most))


def sized(body: bytes, head: bytes = b"", width: int = 2, more: int = 0) -> bytes:
    """Return a body behind a head and its length in network order, `more` added to the length."""
    return head + number(len(body) + more, width) + body
