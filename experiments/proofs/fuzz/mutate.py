# SPDX-License-Identifier: BSD-3-Clause
"""Mutation of packets: damaged copies of real frames, made by compiled code from a seed.

Frames of a pool are copied in their order, so that flows continue, and most of them are changed:
bits, octets, words with unusual values, parts removed, doubled or taken from elsewhere, ends cut
off or extended, sizes on the wire, times and link types. Every copy follows a gap of GAP octets, so
that a read past a packet meets the octets that `refill` wrote.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets
from midcall.captures.packets.pcap import Packets

Numbers = NDArray[np.int64]

#: Octets between two frames, and the largest frame.
GAP, LONGEST = 64, 4096
#: Values of length fields and counters that are likely to cause errors.
ODD = np.array(
    [0, 1, 2, 3, 4, 7, 8, 15, 16, 19, 20, 31, 63, 64, 127, 128, 254, 255, 256, 1023, 1024,
     0x0FFF, 0x1000, 0x7FFF, 0x8000, 0xFFFE, 0xFFFF],
    np.int64,
)  # fmt: skip
#: Link types that decode supports, and one that it does not.
LINKTYPES = np.array([1, 0, 9, 50, 51, 101, 105, 108, 113, 127, 228, 229, 276, 147], np.int64)
#: Octets lost to a snaplen, steps of the clock in ns, and invalid times.
LOST = np.array([0, 1, 65536, 1 << 31], np.int64)
STEPS = np.array([-1, -(10**9), -(10**15), 10**12, 10**17], np.int64)
MOMENTS = np.array([0, -1, (1 << 63) - 1, -(1 << 62)], np.int64)
MODULUS, FACTOR = (1 << 31) - 1, 48271
DAMAGES = 10


def dice_of(*names: object) -> Numbers:
    """Return the state of a generator, int64[1], from names: equal names give equal draws."""
    digest = hashlib.sha256(repr(names).encode()).digest()
    return np.array([int.from_bytes(digest[:4], "big") % (MODULUS - 1) + 1], np.int64)


#: Contents of gaps, eight octets each: a STUN message's type, length and cookie, a TLS record with
#: a ClientHello, RTP, ChannelData, a QUIC long header, an IPv4 header, and two random words.
WORDS = np.frombuffer(
    bytes.fromhex(
        "000100002112a4422112a44216030100160301020001000180601234000000004000001000000000"
        "c0000000010800c3450000544a6f40009b6d2f93e05c7a485ca7f1048e3b6d92"
    ),
    np.uint8,
).reshape(-1, 8)


@kernel
def draw(dice: Numbers, below: int) -> int:
    """Return a number from 0 to below - 1 and advance the generator (Park and Miller, 1988)."""
    dice[0] = (dice[0] * FACTOR) % MODULUS
    return I((dice[0] >> 3) % below)


@kernel
def damage(b: Octets, at: int, size: int, room: int, dice: Numbers) -> int:
    """Change b[at : at + size] once, within `room` octets; returns its new size."""
    kind, spot = draw(dice, DAMAGES), at + draw(dice, max(size, 1))
    if kind == 0 and size > 0:
        b[spot] ^= 1 << draw(dice, 8)
    elif kind == 1 and size > 0:
        b[spot] = draw(dice, 256)
    elif kind == 2 and size > 1:
        put16(b, min(spot, at + size - 2), ODD[draw(dice, len(ODD))])
    elif kind == 3 and size > 1:
        spot = min(spot, at + size - 2)
        put16(b, spot, ((I(b[spot]) << 8) | I(b[spot + 1])) + draw(dice, 17) - 8)
    elif kind == 4:
        return draw(dice, size + 1)
    elif kind == 5:
        return grow(b, at, size, min(room, size + 1 + draw(dice, 96)), dice)
    elif kind == 6 and size > 0:
        return cut_out(b, at, size, spot, 1 + draw(dice, 32))
    elif kind == 7 and size > 0:
        return double(b, at, size, room, spot, 1 + draw(dice, 32))
    elif kind == 8 and size > 3:
        spot, value = min(spot, at + size - 4), 255 * draw(dice, 2)
        for i in range(4):
            b[spot + i] = value
    elif kind == 9 and size > 0:
        for i in range(spot, min(spot + 1 + draw(dice, 16), at + size)):
            b[i] = draw(dice, 256)
    return size


@kernel
def put16(b: Octets, at: int, value: int) -> None:
    """Write a big-endian 16-bit number."""
    b[at], b[at + 1] = (value >> 8) & 255, value & 255


@kernel
def grow(b: Octets, at: int, size: int, wanted: int, dice: Numbers) -> int:
    """Append random octets; returns the new size."""
    for i in range(at + size, at + wanted):
        b[i] = draw(dice, 256)
    return wanted


@kernel
def cut_out(b: Octets, at: int, size: int, spot: int, length: int) -> int:
    """Remove a part; returns the new size."""
    length = min(length, at + size - spot)
    for i in range(spot, at + size - length):
        b[i] = b[i + length]
    return size - length


@kernel
def double(b: Octets, at: int, size: int, room: int, spot: int, length: int) -> int:
    """Duplicate a part; returns the new size."""
    length = min(length, at + size - spot, room - size)
    for i in range(at + size - 1, spot - 1, -1):
        b[i + length] = b[i]
    return size + length


@kernel
def fill(
    pool: Octets,
    starts: Numbers,
    sizes: Numbers,
    wires: Numbers,
    times: Numbers,
    links: Numbers,
    first: int,
    b: Octets,
    offset: Numbers,
    captured: Numbers,
    wire: Numbers,
    time: Numbers,
    link: Numbers,
    dice: Numbers,
) -> int:
    """Write damaged copies of a pool's frames from number `first` on; returns how many differ."""
    at, changed, count = I(GAP), I(0), len(starts)
    source = I(first)
    for n in range(len(offset)):
        if draw(dice, 64) == 0:
            source = draw(dice, count)
        i = source % count
        source += 1
        size = min(I(sizes[i]), LONGEST - 512)
        for k in range(size):
            b[at + k] = pool[starts[i] + k]
        lost, moment, kind = max(wires[i] - sizes[i], 0), I(times[i]), I(links[i])
        hits = max(draw(dice, 8) - 2, 0)
        for _ in range(hits):
            size = damage(b, at, size, LONGEST, dice)
        odd = draw(dice, 128)
        if odd == 0:
            lost = LOST[draw(dice, len(LOST))] - draw(dice, 2) * size
        elif odd == 1:
            moment += STEPS[draw(dice, len(STEPS))]
        elif odd == 2:
            moment = MOMENTS[draw(dice, len(MOMENTS))]
        elif odd == 3:
            kind = LINKTYPES[draw(dice, len(LINKTYPES))]
        offset[n], captured[n], wire[n] = at, size, size + lost
        time[n], link[n] = moment, kind
        changed += hits > 0 or odd < 4
        at += size + GAP
    return changed


@kernel
def refill(b: Octets, offset: Numbers, captured: Numbers, value: int) -> None:
    """Fill every gap between frames with an octet, or, if it is -1, with words of WORDS in turn,
    each from the end of the frame before: a read past the end would take them for a header."""
    at = I(0)
    for n in range(len(offset) + 1):
        end = offset[n] if n < len(offset) else min(at + GAP, len(b))
        for i in range(at, end):
            b[i] = value if value >= 0 else WORDS[n % len(WORDS), (i - at) % 8]
        if n < len(offset):
            at = offset[n] + captured[n]


@kernel
def damage_file(b: Octets, size: int, heads: Numbers, times: int, dice: Numbers) -> int:
    """Change a capture file in b[:size], half of the changes near heads of records; returns its
    size."""
    for _ in range(times):
        if draw(dice, 2) and size > 0:
            spot = heads[draw(dice, len(heads))] - 20 + draw(dice, 28)
            if 0 <= spot < size:
                b[spot] = ODD[draw(dice, len(ODD))] & 255
        elif draw(dice, 8) == 0:
            size = damage(b, 0, size, len(b), dice)
        elif size > 0:
            b[draw(dice, size)] = draw(dice, 256)
    return size


def mutated(pool: Packets, first: int, count: int, *names: object) -> tuple[Packets, int]:
    """Return `count` damaged copies of a pool's packets, and how many of them were changed.

    Gaps are zero. Equal pools and names give equal packets.
    """
    b = np.zeros(count * (LONGEST + GAP) + GAP, np.uint8)
    made = Packets(b, *(np.zeros(count, np.int64) for _ in range(5)))
    changed = int(fill(*pool, first, *made, dice_of(*names)))
    used = int(made.offset[-1] + made.captured[-1]) + GAP if count else GAP
    return made._replace(data=b[:used]), changed
