# SPDX-License-Identifier: BSD-3-Clause
"""Compiled scans of pcap and pcapng: the position and time of each packet in a buffer.

A scan fills the columns of captures.packets.pcap.Packets from `memory[AT]` on and returns how many
it wrote; `next_packets` also reads more of the file when the buffer holds no more packets.
Sources: draft-ietf-opsawg-pcap, draft-ietf-opsawg-pcapng.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.kernel import I, kernel, read_into
from midcall.captures.jit.reads import Octets, u16, u16le, u32, u32le

Numbers = NDArray[np.int64]

# Why a scan stopped.
MORE, END, CUT, BROKEN = 0, 1, 2, 3

# Columns of a pcapng interface: link type, resolution, offset in seconds, snaplen.
LINK, RESOLUTION, OFFSET, SNAPLEN = 0, 1, 2, 3
INTERFACES = 4096

#: An if_tsoffset is limited to this many seconds, and a time to this many ns, against overflow.
FARTHEST, LATEST = 1 << 32, (1 << 63) - 1

# Slots of the state of a file between two batches.
(
    AT,  # position of the scan in the buffer
    STATUS,
    WANTED,  # octets of an incomplete record
    BIG,  # 1: numbers are big endian
    FIRST,  # of the section's rows of interfaces
    LAST,
    SEEN,  # time of the packet before, ns
    HEADER,  # octets of a pcap record's header, 0: pcapng
    UNIT,  # ns of a pcap fraction
    TYPE,  # LINKTYPE of a pcap file
    NOW,  # the buffer in use, a row of the ring
    FILLED,  # octets in it
    SHOWN,  # 1: packets in it were returned to a caller
    BASE,  # where it starts in the (unpacked) file
    PACKETS,  # packets so far, and their captured octets
    OCTETS,
) = range(16)
MEMORY = 16
#: The most buffers without a packet that are read in one call.
IN_A_ROW = 64
#: LINKTYPE numbers.
TYPES = 1 << 16

SECTION, INTERFACE, OLD_PACKET, SIMPLE_PACKET, ENHANCED_PACKET = 0x0A0D0D0A, 1, 2, 3, 6


@kernel
def scan_pcap(
    b: Octets,
    memory: Numbers,
    offset: Numbers,
    captured: Numbers,
    wire: Numbers,
    time: Numbers,
    links: Numbers,
) -> int:
    """Index pcap records; see `Packets` for the columns."""
    big, unit, header, link = memory[BIG], memory[UNIT], memory[HEADER], memory[TYPE]
    at, size, n = memory[AT], len(b), 0
    while n < len(offset):
        if at == size:
            memory[STATUS] = END
            break
        if size - at < header:
            memory[STATUS], memory[WANTED] = CUT, header
            break
        if big:
            seconds, fraction, have, full = (
                u32(b, at),
                u32(b, at + 4),
                u32(b, at + 8),
                u32(b, at + 12),
            )
        else:
            seconds, fraction, have, full = (
                u32le(b, at),
                u32le(b, at + 4),
                u32le(b, at + 8),
                u32le(b, at + 12),
            )
        if size - at - header < have:
            memory[STATUS], memory[WANTED] = CUT, have
            break
        offset[n], captured[n], wire[n] = at + header, have, full
        time[n] = seconds * 1_000_000_000 + fraction * unit
        links[n] = link
        at += header + have
        n += 1
    memory[AT] = at
    return n


@kernel
def nanoseconds(high: int, low: int, resolution: int) -> int:
    """Return a pcapng timestamp in ns, at most LATEST (if_tsresol: bit 7 set: a power of two)."""
    power = resolution & 0x7F
    stamp = ((high & 0x7FFFFFFF) << 32) | low
    if resolution & 0x80:
        if power > 62:
            return I(0)
        whole = stamp >> power
        part = stamp - (whole << power)
        if power > 30:
            part >>= power - 30
            power = 30
        whole = min(whole, LATEST // 1_000_000_000 - 1)
        return whole * 1_000_000_000 + ((part * 1_000_000_000) >> power)
    scale = I(1)
    for _ in range(min(abs(power - 9), 18)):
        scale *= 10
    if power > 9:
        return stamp // scale
    return min(stamp, LATEST // scale) * scale


@kernel
def read_interface(b: Octets, at: int, end: int, big: int, row: Numbers) -> None:
    """Read an Interface Description Block's body (at the link type) into a row."""
    row[LINK] = u16(b, at) if big else u16le(b, at)
    row[SNAPLEN] = u32(b, at + 4) if big else u32le(b, at + 4)
    row[RESOLUTION], row[OFFSET] = 6, 0
    o = at + 8
    while end - o >= 4:
        code = u16(b, o) if big else u16le(b, o)
        size = u16(b, o + 2) if big else u16le(b, o + 2)
        o += 4
        if code == 0 or end - o < size:
            return
        if code == 9 and size >= 1:
            row[RESOLUTION] = I(b[o])
        if code == 14 and size >= 8:
            high = u32(b, o) if big else u32le(b, o + 4)
            low = u32(b, o + 4) if big else u32le(b, o)
            if high >= 0x80000000:
                high -= 0x100000000
            row[OFFSET] = min(max((high << 32) | low, -FARTHEST), FARTHEST)
        o += (size + 3) & ~3


@kernel
def holds_packet(kind: int, length: int) -> bool:
    """Return whether a block of this type and length holds a packet."""
    if kind == ENHANCED_PACKET or kind == OLD_PACKET:
        return length >= 32
    return kind == SIMPLE_PACKET and length >= 16


@kernel
def read_packet(
    b: Octets, body: int, end: int, kind: int, big: int, row: Numbers, memory: Numbers
) -> tuple[int, int, int]:
    """Read a packet block's head: (its length, captured bytes, bytes on the wire).

    The time goes to memory[SEEN]; a simple packet has none and keeps that of the packet before.
    """
    if kind == SIMPLE_PACKET:
        full = u32(b, body) if big else u32le(b, body)
        have = min(full, end - body - 4)
        if row[SNAPLEN] > 0:
            have = min(have, I(row[SNAPLEN]))
        return 4, have, full
    high = u32(b, body + 4) if big else u32le(b, body + 4)
    low = u32(b, body + 8) if big else u32le(b, body + 8)
    have = u32(b, body + 12) if big else u32le(b, body + 12)
    full = u32(b, body + 16) if big else u32le(b, body + 16)
    stamp = nanoseconds(high, low, I(row[RESOLUTION]))
    shift = I(row[OFFSET]) * 1_000_000_000
    memory[SEEN] = stamp + min(shift, LATEST - stamp)
    return 20, have, full


@kernel
def scan_pcapng(
    b: Octets,
    memory: Numbers,
    interfaces: Numbers,
    offset: Numbers,
    captured: Numbers,
    wire: Numbers,
    time: Numbers,
    links: Numbers,
) -> int:
    """Index pcapng packet blocks; memory[FIRST:LAST] are the section's interface rows."""
    at, size, n = memory[AT], len(b), 0
    while n < len(offset):
        if at == size:
            memory[STATUS] = END
            break
        if size - at < 12:
            memory[STATUS], memory[WANTED] = CUT, 12
            break
        kind = u32(b, at)
        if kind == SECTION:
            memory[BIG] = 1 if u32(b, at + 8) == 0x1A2B3C4D else 0
            memory[FIRST] = memory[LAST]
        big = memory[BIG]
        if not big:
            kind = u32le(b, at)
        length = u32(b, at + 4) if big else u32le(b, at + 4)
        if length < 12 or length & 3 or (kind == SECTION and length < 28):
            memory[STATUS], memory[WANTED] = BROKEN, length
            break
        if size - at < length:
            memory[STATUS], memory[WANTED] = CUT, length
            break
        body, end = at + 8, at + length - 4
        if kind == INTERFACE and length >= 20:
            if memory[LAST] == len(interfaces):
                memory[STATUS], memory[WANTED] = BROKEN, -1
                break
            read_interface(b, body, end, big, interfaces[memory[LAST]])
            memory[LAST] += 1
        if holds_packet(kind, length):
            port = memory[FIRST]
            if kind == ENHANCED_PACKET:
                port += u32(b, body) if big else u32le(b, body)
            elif kind == OLD_PACKET:
                port += u16(b, body) if big else u16le(b, body)
            if port >= memory[LAST]:
                memory[STATUS], memory[WANTED] = BROKEN, -2
                break
            row = interfaces[port]
            head, have, full = read_packet(b, body, end, kind, big, row, memory)
            if end - body - head < have:
                memory[STATUS], memory[WANTED] = BROKEN, have
                break
            offset[n], captured[n], wire[n], links[n] = body + head, have, full, row[LINK]
            time[n] = memory[SEEN]
            n += 1
        at += length
    memory[AT] = at
    return n


@kernel
def turn_over(ring: NDArray[np.uint8], memory: Numbers) -> None:
    """Continue in the ring's next buffer, or in this one if no packets of it were returned.

    The part that was not scanned yet is copied there.
    """
    now, at = memory[NOW], memory[AT]
    following = (now + 1) % len(ring) if memory[SHOWN] else now
    rest = memory[FILLED] - at
    old, new = ring[now], ring[following]
    for i in range(rest):
        new[i] = old[at + i]
    memory[NOW], memory[FILLED], memory[SHOWN] = following, rest, 0
    memory[BASE] += at
    memory[AT] = 0


@kernel
def read_on(file: int, ring: NDArray[np.uint8], memory: Numbers) -> bool:
    """Fill the buffer from a file; returns whether it grew."""
    before, row = memory[FILLED], ring[memory[NOW]]
    while memory[FILLED] < len(row):
        count = read_into(file, row, memory[FILLED])
        if count <= 0:
            break
        memory[FILLED] += count
    return bool(memory[FILLED] > before)


@kernel
def next_packets(
    file: int,
    ring: NDArray[np.uint8],
    memory: Numbers,
    interfaces: Numbers,
    types: Octets,
    offset: Numbers,
    captured: Numbers,
    wire: Numbers,
    time: Numbers,
    links: Numbers,
) -> int:
    """Index the next packets of a capture in the buffer memory[NOW]; returns how many.

    Returns 0 if there are no more, if the file is damaged, or if Python has to read it: `file` is
    -1, or a record is larger than a buffer, or reading fails. Also returns 0, with memory[STATUS]
    MORE, after IN_A_ROW buffers without a packet, so that Python can handle an interrupt.
    types: uint8[TYPES], set to 1 for each LINKTYPE that occurs.
    """
    n = I(0)
    for _ in range(IN_A_ROW):
        b = ring[memory[NOW]][: memory[FILLED]]
        memory[STATUS], memory[WANTED] = MORE, 0
        if memory[HEADER]:
            n = scan_pcap(b, memory, offset, captured, wire, time, links)
        else:
            n = scan_pcapng(b, memory, interfaces, offset, captured, wire, time, links)
        if n > 0:
            break
        if memory[STATUS] == BROKEN or file < 0:
            return 0
        if memory[WANTED] + memory[HEADER] > ring.shape[1]:
            return 0
        turn_over(ring, memory)
        if not read_on(file, ring, memory):
            return 0
    if n == 0:
        memory[STATUS] = MORE
        return 0
    memory[SHOWN] = 1
    octets, last = I(0), I(-1)
    for i in range(n):
        octets += captured[i]
        if links[i] != last:
            last = links[i]
            types[last] = 1
    memory[PACKETS] += n
    memory[OCTETS] += octets
    return n
