# SPDX-License-Identifier: BSD-3-Clause
"""Packet rings: frames of one network interface in memory shared with the kernel.

AF_PACKET sockets with TPACKET_V2 rings (packet(7), Linux Documentation/networking/packet_mmap).
V2, not V3: V3 hands over blocks and adds milliseconds. Frames that this machine's own kernel sends
are not received (PACKET_IGNORE_OUTGOING), so a box that forwards never receives its own frames.
A ring is used by one process at a time; a child that inherits it continues at its parent's
position.
"""

from __future__ import annotations

import mmap
import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets
from midcall.errors import TestbedError
from midcall.testbed.live.box.system import copy, enter, kick

Numbers = NDArray[np.int64]
Words = NDArray[np.uint32]

SOL_PACKET = 263
(
    PACKET_RX_RING, PACKET_STATISTICS, PACKET_VERSION, PACKET_RESERVE, PACKET_TX_RING, PACKET_LOSS,
    PACKET_QDISC_BYPASS, PACKET_IGNORE_OUTGOING,
) = 5, 6, 10, 12, 13, 14, 20, 23  # fmt: skip
TPACKET_V2 = 1
ETH_P_ALL = 3

#: Bytes of a ring's frame: header (at most 84), a tag's room, and the largest frame.
FRAME = 2048
BLOCK = 1 << 16
FRAMES = 16384
#: ... to send: few are in flight at once, and a small ring stays in the cache.
SENDING = 256
#: Room before each received frame, for restoring a VLAN tag that the kernel removed.
RESERVE = 16
#: The largest frame that a ring's frame holds whole.
LARGEST = FRAME - 32 - 64 - RESERVE

# tp_status of received frames and of frames to send.
RX_FREE, RX_USER, RX_TRUNCATED, RX_CHECKSUM_NOT_READY, RX_VLAN, RX_VLAN_TPID = 0, 1, 2, 8, 16, 64
TX_FREE, TX_SEND, TX_SENDING, TX_WRONG = 0, 1, 2, 4

#: Offset of a received frame's kind from its slot's start (sockaddr_ll behind the header), and the
#: kind of frames that this machine sent.
PACKET_TYPE, PACKET_OUTGOING = 42, 4

#: Offset of a frame to send from its slot's start.
TX_START = 32

# Slots of a port's row: descriptor, frames to receive, next frame to receive, next to send,
# frames that wait for a kick.
PORT_FD, PORT_FRAMES, PORT_RX_AT, PORT_TX_AT, PORT_PENDING = range(5)
PORT_SLOTS = 8


class Port(NamedTuple):
    """The arrays of a ring, as compiled code uses them."""

    octets: Octets  # uint8[(frames + SENDING) * FRAME], the received frames first
    words: Words  # the same memory as uint32, for the status words
    row: Numbers  # int64[PORT_SLOTS], state of the port in compiled code


class Ring:
    """The packet rings of one interface; compiled code works on `port`."""

    def __init__(
        self,
        pid: int,
        interface: str,
        frames: int = FRAMES,
        row: Numbers | None = None,
        outgoing: bool = False,
        visible: bool = False,
    ) -> None:
        """Open rings on an interface inside the network namespace of a process.

        frames: that can wait to be received, a power of two, 32 at least; 16,384 are 32 MiB.
        row: memory for the port's state, where a child is to share it. outgoing: receive what
        other sockets send on the interface, too; visible: let them receive what this one sends
        (such frames take a slower path through the kernel). Raises TestbedError.
        """
        self.interface = interface
        self.socket = open_socket(pid, interface, frames, outgoing, visible)
        size = (frames + SENDING) * FRAME
        self.memory = mmap.mmap(self.socket.fileno(), size)
        octets = np.frombuffer(self.memory, np.uint8)
        row = np.zeros(PORT_SLOTS, np.int64) if row is None else row
        row[PORT_FD], row[PORT_FRAMES] = self.socket.fileno(), frames
        self.port = Port(octets, octets.view(np.uint32), row)

    def overloads(self) -> int:
        """Return how many frames the kernel dropped for a full ring since the last call."""
        statistics = self.socket.getsockopt(SOL_PACKET, PACKET_STATISTICS, 8)
        return int(struct.unpack("II", statistics)[1])

    def close(self) -> None:
        """Give the memory back to the kernel."""
        self.port = Port(np.zeros(0, np.uint8), np.zeros(0, np.uint32), self.port.row)
        self.socket.close()


@contextmanager
def inside(pid: int) -> Iterator[None]:
    """Run the block inside the network namespace of a process; affects this thread only."""
    own_namespace = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        namespace = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY)
        try:
            enter(namespace)
        finally:
            os.close(namespace)
        yield
    finally:
        enter(own_namespace)
        os.close(own_namespace)


def open_socket(
    pid: int, interface: str, frames: int, outgoing: bool = False, visible: bool = False
) -> socket.socket:
    """Return a packet socket with its rings, bound to an interface; raises TestbedError.

    outgoing, visible: as of `Ring`.
    """
    try:
        with inside(pid):
            port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        shapes = [
            struct.pack("IIII", BLOCK, count * FRAME // BLOCK, FRAME, count)
            for count in (frames, SENDING)
        ]
        for name, value in (
            (PACKET_VERSION, TPACKET_V2),
            (PACKET_RESERVE, RESERVE),
            (PACKET_LOSS, 1),
            (PACKET_QDISC_BYPASS, 0 if visible else 1),
            (PACKET_IGNORE_OUTGOING, 0 if outgoing else 1),
        ):
            port.setsockopt(SOL_PACKET, name, value)
        port.setsockopt(SOL_PACKET, PACKET_RX_RING, shapes[0])
        port.setsockopt(SOL_PACKET, PACKET_TX_RING, shapes[1])
        port.bind((interface, ETH_P_ALL))
    except OSError as error:
        memory = (frames + SENDING) * FRAME >> 20
        raise TestbedError(
            f"packet ring on {interface}: {error.strerror}; it needs root (CAP_NET_RAW, "
            f"CAP_SYS_ADMIN), Linux 4.20 or newer, and {memory} MiB of memory"
        ) from None
    return port


# ---- compiled


@kernel
def next_frame(port: Port) -> int:
    """Return the offset of the next received frame's slot in the ring, -1 when none is there."""
    slot = port.row[PORT_RX_AT] * FRAME
    return I(slot if I(port.words[slot >> 2]) & RX_USER else -1)


@kernel
def frame_ahead(port: Port, ahead: int) -> tuple[int, int]:
    """Return start and end offset of the frame that waits `ahead` places behind the next one.

    (-1, -1) where there is none. A VLAN tag that the kernel removed is not included.
    """
    slot = ((port.row[PORT_RX_AT] + ahead) & (port.row[PORT_FRAMES] - 1)) * FRAME
    at = slot >> 2
    if I(port.words[at]) & RX_USER == 0:
        return I(-1), I(-1)
    start = slot + (I(port.words[at + 3]) & 0xFFFF)
    return I(start), I(start + I(port.words[at + 2]))


@kernel
def give_back(port: Port, slot: int) -> None:
    """Return a received frame's slot to the kernel and advance to the next."""
    port.words[slot >> 2] = RX_FREE
    port.row[PORT_RX_AT] = (port.row[PORT_RX_AT] + 1) & (port.row[PORT_FRAMES] - 1)


@kernel
def stamp(port: Port, slot: int) -> int:
    """Return when a frame was received, ns of the time of day (tpacket2_hdr tp_sec, tp_nsec)."""
    at = slot >> 2
    return I(port.words[at + 4]) * 1_000_000_000 + I(port.words[at + 5])


@kernel
def frame_start(port: Port, slot: int) -> int:
    """Return the start offset of a received frame, restoring a VLAN tag that the kernel removed."""
    words, octets = port.words, port.octets
    at = slot >> 2
    status = I(words[at])
    start = slot + (I(words[at + 3]) & 0xFFFF)
    if status & RX_VLAN == 0:
        return I(start)
    tag = I(words[at + 6])
    kind = tag >> 16 if status & RX_VLAN_TPID else 0x8100
    for place in range(start, start + 12):
        octets[place - 4] = octets[place]
    octets[start + 8], octets[start + 9] = kind >> 8, kind & 0xFF
    octets[start + 10], octets[start + 11] = (tag >> 8) & 0xFF, tag & 0xFF
    return I(start - 4)


@kernel
def frame_end(port: Port, slot: int) -> int:
    """Return the end offset of a received frame."""
    at = slot >> 2
    return I(slot + (I(port.words[at + 3]) & 0xFFFF) + I(port.words[at + 2]))


@kernel
def is_outgoing(port: Port, slot: int) -> bool:
    """Tell whether a frame left by this interface (sll_pkttype, packet(7))."""
    return bool(port.octets[slot + PACKET_TYPE] == PACKET_OUTGOING)


@kernel
def whole(port: Port, slot: int) -> bool:
    """Tell whether a received frame is finished: not cut by the ring, its checksum written."""
    at = slot >> 2
    if I(port.words[at]) & RX_CHECKSUM_NOT_READY:
        return False
    return bool(port.words[at + 1] == port.words[at + 2])


@kernel
def put(port: Port, source: int, size: int) -> bool:
    """Write a frame from an address into the transmit ring; False when the ring is full.

    `flush` sends it.
    """
    words, row = port.words, port.row
    slot = (row[PORT_FRAMES] + row[PORT_TX_AT]) * FRAME
    if I(words[slot >> 2]) & (TX_SEND | TX_SENDING):
        flush(port)
        if I(words[slot >> 2]) & (TX_SEND | TX_SENDING):
            return False
    copy(port.octets.ctypes.data + slot + TX_START, source, size)
    words[(slot >> 2) + 1] = size
    words[slot >> 2] = TX_SEND
    row[PORT_TX_AT] = (row[PORT_TX_AT] + 1) & (SENDING - 1)
    row[PORT_PENDING] += 1
    return True


@kernel
def flush(port: Port) -> None:
    """Have the kernel send the frames that `put` wrote."""
    if port.row[PORT_PENDING] > 0:
        port.row[PORT_PENDING] = 0
        kick(port.row[PORT_FD])
