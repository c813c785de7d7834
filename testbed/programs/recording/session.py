# SPDX-License-Identifier: BSD-3-Clause
"""A recording session: a line with an access link and no operator, for several scenes in turn.

The box forwards everything and adds the access network's delay, loss and rate
(testbed.network.link); the taps record every frame at the four interfaces while a scene is played.
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
from midcall.testbed.programs.recording.socket_owner import SocketOwners

T = TypeVar("T")

#: The frames to be sent are not known in advance: none is tagged.
UNKNOWN = Frames(np.zeros(0, np.uint8), np.zeros(0, np.int64), np.zeros(0, np.int64), 0)
#: Room for one scene at four taps together: frames and octets.
ROOM = (1 << 17, 1 << 26)
#: MAC addresses that replace the random ones of the links: caller's side, server's side.
NEAR_MAC, FAR_MAC = b"\x02\0\0\0\0\x01", b"\x02\0\0\0\0\x02"


class Seen(NamedTuple):
    """The records of one scene. taps: packets by interface, in order; witness: socket owners."""

    taps: dict[str, Packets]
    witness: SocketOwners


@contextmanager
def line_of(access: str, seed: int = 0) -> Iterator[Line]:
    """Yield a line with the box of an access network, without an operator."""
    with ExitStack() as stack:
        network = stack.enter_context(Network())
        line = stack.enter_context(Line(network, access))
        core = sorted(os.sched_getaffinity(0))[-1]
        stack.enter_context(Box(network, None, seed, access=access, link="preset", core=core))
        yield line


def recorded(line: Line, scene: Callable[[], T]) -> tuple[T, Seen]:
    """Play a scene while taps and socket owners are recorded; returns its result and the records.

    Raises TestbedError where a tap missed a frame.
    """
    with SocketOwners(line) as witness, Taps(line.network, UNKNOWN, 0, more=ROOM) as taps:
        result = scene()
        taps.stop()
        rows, store = taps.seen().copy(), taps.store
    caller_mac = hardware_of(line, 0)
    packets = {
        name: packets_at(rows[rows["tap"] == number], store, caller_mac)
        for number, name in enumerate(Ports._fields)
    }
    return result, Seen(packets, witness)


def hardware_of(line: Line, end: int) -> bytes:
    """Return the hardware address of one of the four ends of a network's links."""
    from midcall.testbed.live.network.subscriber_line import hardware

    return bytes.fromhex(hardware(*line.network.ends()[end]).replace(":", ""))


def packets_at(rows: Records, store: NDArray[np.uint8], caller_mac: bytes) -> Packets:
    """Return one tap's packets, in order of time, with MAC addresses that are equal in all runs."""
    rows = rows[np.argsort(rows["stamp"], kind="stable")]
    at, size = rows["at"].astype(np.int64), rows["size"].astype(np.int64)
    for place, length in zip(at.tolist(), size.tolist(), strict=True):
        if length >= 12:
            up = store[place + 6 : place + 12].tobytes() == caller_mac
            ends = FAR_MAC + NEAR_MAC if up else NEAR_MAC + FAR_MAC
            store[place : place + 12] = np.frombuffer(ends, np.uint8)
    stamps = rows["stamp"].astype(np.int64)
    return Packets(store, at, size, size, stamps, np.ones(len(rows), np.int64))
