# SPDX-License-Identifier: BSD-3-Clause
"""A session: one line with an access link and no operator, on which one scene after another is
recorded.

The box forwards everything and adds the access network's delay, loss and rate
(testbed.network.link); the taps see every frame at the four interfaces. A recording is cut out of
what they saw by time.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.pcap import Packets
from midcall.classifier.state.flow_table import Records
from midcall.testbed.live.box.process import Box
from midcall.testbed.live.network.network import Network, Ports
from midcall.testbed.live.network.subscriber_line import Line
from midcall.testbed.live.network.taps import Taps
from midcall.testbed.live.replay.merge import Frames
from midcall.testbed.programs.recording.socket_owner import Witness

T = TypeVar("T")

#: What is sent is not known before: no frame is tagged.
UNKNOWN = Frames(np.zeros(0, np.uint8), np.zeros(0, np.int64), np.zeros(0, np.int64), 0)
#: Room for what one scene says, at four taps together: frames and octets.
ROOM = (1 << 17, 1 << 26)
#: Addresses that stand for those of the links, which are drawn at random: caller's side, far side.
NEAR_MAC, FAR_MAC = b"\x02\0\0\0\0\x01", b"\x02\0\0\0\0\x02"


class Seen(NamedTuple):
    """What the taps and the witness saw of one scene; taps: by interface, in order of time."""

    taps: dict[str, Packets]
    witness: Witness


@contextmanager
def line_of(access: str, seed: int = 0) -> Iterator[Line]:
    """Make a network, addresses and the box of an access network without an operator."""
    with ExitStack() as stack:
        network = stack.enter_context(Network())
        line = stack.enter_context(Line(network, access))
        core = sorted(os.sched_getaffinity(0))[-1]
        stack.enter_context(Box(network, None, seed, access=access, link="preset", core=core))
        yield line


def recorded(line: Line, scene: Callable[[], T]) -> tuple[T, Seen]:
    """Play a scene while taps and witness look; returns what it returns, and what they saw.

    Raises TestbedError where a tap missed a frame.
    """
    with Witness(line) as witness, Taps(line.network, UNKNOWN, 0, more=ROOM) as taps:
        told = scene()
        taps.stop()
        rows, store = taps.seen().copy(), taps.store
    near = hardware_of(line, 0)
    seen = {
        name: packets_at(rows[rows["tap"] == number], store, near)
        for number, name in enumerate(Ports._fields)
    }
    return told, Seen(seen, witness)


def hardware_of(line: Line, end: int) -> bytes:
    """Return the hardware address of one of the four ends of a network's links."""
    from midcall.testbed.live.network.subscriber_line import hardware

    return bytes.fromhex(hardware(*line.network.ends()[end]).replace(":", ""))


def packets_at(rows: Records, store: NDArray[np.uint8], near: bytes) -> Packets:
    """Return what one tap saw, in order of time, under addresses that are the same in every run."""
    rows = rows[np.argsort(rows["stamp"], kind="stable")]
    at, size = rows["at"].astype(np.int64), rows["size"].astype(np.int64)
    for place, length in zip(at.tolist(), size.tolist(), strict=True):
        if length >= 12:
            up = store[place + 6 : place + 12].tobytes() == near
            ends = FAR_MAC + NEAR_MAC if up else NEAR_MAC + FAR_MAC
            store[place : place + 12] = np.frombuffer(ends, np.uint8)
    stamps = rows["stamp"].astype(np.int64)
    return Packets(store, at, size, size, stamps, np.ones(len(rows), np.int64))
