# SPDX-License-Identifier: BSD-3-Clause
"""Taps: record the frames on the wires of a live network, independently of ends and box.

A tap is a ring of its own on one of the four interfaces. At the caller's and the server's
interface it records outgoing and incoming frames; at the box's two interfaces incoming ones. The
kernel stamps every frame, on one clock for all taps (CLOCK_REALTIME). Frames are kept whole, to be
saved and compared with the frames that were sent, octet by octet. A thread empties the rings.
"""

from __future__ import annotations

import struct
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets, u8, u32
from midcall.captures.packets.scan import ENHANCED_PACKET, INTERFACE, SECTION
from midcall.captures.packets.writer import block, comment
from midcall.classifier.state.flow_table import Records
from midcall.errors import TestbedError
from midcall.testbed.live.box.pump import BOX_LOG, FORGED_HERE, TAGGED
from midcall.testbed.live.box.rings import (
    Port,
    Ring,
    frame_end,
    frame_start,
    give_back,
    is_outgoing,
    next_frame,
    stamp,
)
from midcall.testbed.live.box.system import copy
from midcall.testbed.live.network.network import Network, Ports
from midcall.testbed.live.replay.merge import Frames

Numbers = NDArray[np.int64]

#: Frames that a tap's ring holds until the thread reads them, and the thread's pause.
FRAMES, REST_SECONDS = 8192, 0.004

#: A frame that a tap recorded. tap: index of the interface in testbed.live.network.Ports; out: it
#: left by that interface; kind: TAGGED, FORGED_HERE or 0; row: of the sending, -1 for none; stamp:
#: ns of the time of day; at, size: its octets in the store.
TAPPED = np.dtype(
    [
        ("tap", "u1"),
        ("out", "?"),
        ("kind", "u1"),
        ("whole", "?"),  # the octets are those that were sent
        ("row", "i4"),
        ("stamp", "i8"),
        ("at", "i8"),
        ("size", "i4"),
    ]
)
ROWS, OCTETS, FULL = 0, 1, 2


class Taps:
    """Taps on all interfaces of a network; a context manager that records while it is open."""

    def __init__(
        self,
        network: Network,
        frames: Frames,
        run: int,
        copies: int = 5,
        more: tuple[int, int] = (4096, 1 << 20),
        log: Records | None = None,
    ) -> None:
        """Open the rings; nothing is recorded yet. frames: what will be sent; run: its octet.

        log: the box's (testbed.live.box.pump), which names the packet of each later sending; None
        where nothing is sent twice. copies: upper bound of how often a frame is recorded on
        average: each crosses two wires, at three taps, and may be sent again. more: room for other
        frames, and for their octets.
        """
        count, octets = len(frames.at), int(frames.size.sum())
        self.frames, self.run = frames, run
        self.log = np.zeros(len(frames.at), BOX_LOG) if log is None else log
        self.rows: Records = np.zeros(copies * count + more[0], TAPPED)
        self.store = np.zeros(copies * octets + more[1], np.uint8)
        self.state = np.zeros(3, np.int64)
        self.rings: list[Ring] = []
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._run, name="taps", daemon=True)
        self.error: BaseException | None = None
        try:
            for number, (pid, name) in enumerate(network.ends()):
                self.rings.append(Ring(pid, name, FRAMES, outgoing=number in (0, 3)))
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Taps:
        """Start recording."""
        self._empty()
        self.state[:] = 0
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop recording."""
        self.stop()
        self.close()

    def stop(self) -> None:
        """Stop recording after everything in the rings has been recorded."""
        self.done.set()
        if self.thread.is_alive():
            self.thread.join()

    def close(self) -> None:
        """Close the rings."""
        for ring in self.rings:
            ring.close()
        self.rings = []

    def _empty(self) -> int:
        """Record the frames in the rings; returns how many."""
        rows, store, state, count = self.rows, self.store, self.state, 0
        for number, ring in enumerate(self.rings):
            count += record(number, ring.port, self.run, self.frames, self.log, rows, store, state)
        return count

    def _run(self) -> None:
        try:
            while not self.done.is_set():
                if not self._empty():
                    time.sleep(REST_SECONDS)
            self._empty()
        except BaseException as error:  # raised by `seen`
            self.error = error

    def seen(self) -> Records:
        """Return TAPPED[k], recorded frames, unordered. Raises TestbedError if any was missed."""
        if self.error is not None:
            raise TestbedError(f"the taps stopped: {self.error}") from self.error
        missed = sum(ring.overloads() for ring in self.rings) + int(self.state[FULL])
        if missed:
            raise TestbedError(f"the taps missed {missed} frames; the run is void, try it again")
        return self.rows[: self.state[ROWS]]


@kernel
def record(
    tap: int, port: Port, run: int, frames: Frames, log: Records, rows: Records, store: Octets,
    state: Numbers,
) -> int:  # fmt: skip
    """Record the frames in a tap's ring; returns how many."""
    b, count = port.octets, I(0)
    slot = next_frame(port)
    while slot >= 0:
        count += 1
        at = frame_start(port, slot)
        size = frame_end(port, slot) - at
        if state[ROWS] >= len(rows) or state[OCTETS] + size > len(store):
            state[FULL] += 1
        else:
            row, place = rows[state[ROWS]], state[OCTETS]
            copy(store.ctypes.data + place, b.ctypes.data + at, size)
            row["tap"], row["out"], row["stamp"] = tap, is_outgoing(port, slot), stamp(port, slot)
            row["at"], row["size"], row["row"], row["kind"] = place, size, -1, 0
            if size >= 14 and u8(b, at + 7) == run and u8(b, at + 6) in (TAGGED, FORGED_HERE):
                number = u32(b, at + 8)
                if number < len(log):
                    packet = I(number)
                    if log[number]["number"] > 0:
                        packet = I(log[number]["packet"])
                    row["kind"], row["row"] = b[at + 6], number
                    row["whole"] = packet < len(frames.at) and same(b, at, size, frames, packet)
            state[ROWS] += 1
            state[OCTETS] += size
        give_back(port, slot)
        slot = next_frame(port)
    return count


@kernel
def same(b: Octets, at: int, size: int, frames: Frames, number: int) -> bool:
    """Tell whether octets equal a packet's frame, except for the number of the sending."""
    if size != frames.size[number]:
        return False
    place = frames.at[number]
    for octet in range(size):
        if b[at + octet] != frames.data[place + octet] and not 8 <= octet < 12:
            return False
    return True


# ---- files


def write_tap(
    path: Path, rows: Records, store: Octets, frame_comment: Callable[[np.void], str]
) -> None:
    """Write one tap's records to a pcapng file, in order of time, each frame with a comment."""
    section = struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1)
    resolution = struct.pack("<HHB3xI", 9, 1, 9, 0)
    with path.open("wb") as out:
        out.write(block(SECTION, section))
        out.write(block(INTERFACE, struct.pack("<HHI", 1, 0, 262144) + resolution))
        for row in rows[np.argsort(rows["stamp"], kind="stable")]:
            at, size, stamp_ns = int(row["at"]), int(row["size"]), int(row["stamp"])
            head = struct.pack("<IIIII", 0, stamp_ns >> 32, stamp_ns & 0xFFFFFFFF, size, size)
            frame = store[at : at + size].tobytes()
            frame += b"\0" * (-len(frame) % 4)
            out.write(block(ENHANCED_PACKET, head + frame + comment(frame_comment(row))))


assert Ports._fields == ("c0", "b0", "b1", "s0")
