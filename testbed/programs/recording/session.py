# SPDX-License-Identifier: BSD-3-Clause
"""A recording session: a line without an operator, on which real programs run and are recorded.

A scene is one run of programs; a session records several scenes, one after the other. The box of
the line has no rules: it forwards every packet, with the delay, loss and rate of the access network
(testbed.network.link). During a scene, the taps record every frame at the four interfaces.
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

#: For Taps, which recognise tagged frames of a script. Here programs send, so there is no script
#: and no frame is tagged.
UNKNOWN = Frames(np.zeros(0, np.uint8), np.zeros(0, np.int64), np.zeros(0, np.int64), 0)
#: How many frames, and how many octets, the four taps together can record in one scene.
ROOM = (1 << 17, 1 << 26)
#: The links have random MAC addresses. These replace them: caller's side, server's side.
NEAR_MAC, FAR_MAC = b"\x02\0\0\0\0\x01", b"\x02\0\0\0\0\x02"


class Seen(NamedTuple):
    """What was recorded in one scene.

    taps: interface name -> its packets in order of time; witness: the process behind each socket.
    """

    taps: dict[str, Packets]
    witness: SocketOwners


@contextmanager
def line_of(access: str, seed: int = 0) -> Iterator[Line]:
    """Yield a line with an access network, whose box has no operator's rules.

    access: name of the access network; seed: of the random draws of its link.
    """
    with ExitStack() as stack:
        network = stack.enter_context(Network())
        line = stack.enter_context(Line(network, access))
        core = sorted(os.sched_getaffinity(0))[-1]
        stack.enter_context(Box(network, None, seed, access=access, link="preset", core=core))
        yield line


def recorded(line: Line, scene: Callable[[], T]) -> tuple[T, Seen]:
    """Run a scene, and record its frames at the taps and the owner of each socket.

    Returns the result of the scene and the records. Raises TestbedError if a tap missed a frame.
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
    """Return the MAC address of one of the four interfaces; end: its index in Ports."""
    from midcall.testbed.live.network.subscriber_line import hardware

    return bytes.fromhex(hardware(*line.network.ends()[end]).replace(":", ""))


def packets_at(rows: Records, store: NDArray[np.uint8], caller_mac: bytes) -> Packets:
    """Return one tap's packets in order of time, with NEAR_MAC and FAR_MAC as MAC addresses.

    rows: the tap's records; store: their octets, in which the addresses are replaced.
    """
    rows = rows[np.argsort(rows["stamp"], kind="stable")]
    at, size = rows["at"].astype(np.int64), rows["size"].astype(np.int64)
    for place, length in zip(at.tolist(), size.tolist(), strict=True):
        if length >= 12:
            up = store[place + 6 : place + 12].tobytes() == caller_mac
            ends = FAR_MAC + NEAR_MAC if up else NEAR_MAC + FAR_MAC
            store[place : place + 12] = np.frombuffer(ends, np.uint8)
    stamps = rows["stamp"].astype(np.int64)
    return Packets(store, at, size, size, stamps, np.ones(len(rows), np.int64))
