# SPDX-License-Identifier: BSD-3-Clause
"""Splice: insert packets into a capture, and renumber the frames of its calls.

A disguise with a handshake or cover traffic needs packets that are not in the capture.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.pcap import Packets
from midcall.captures.truth.calls import Call

Numbers = NDArray[np.int64]

ETHERNET = bytes.fromhex("020000000002020000000001")


class Added(NamedTuple):
    """One packet to add: an IP packet, when it is captured, and the packet it comes before.

    before: where it goes among packets of the same time, -1 for behind all of them.
    """

    time: int
    packet: bytes
    before: int = -1


class Spliced(NamedTuple):
    """A capture with packets added: `kept[i]` is the place of its packet i, `added[k]` of k."""

    packets: Packets
    calls: list[Call]
    kept: Numbers
    added: Numbers


def spliced(packets: Packets, calls: Sequence[Call], extra: Sequence[Added]) -> Spliced:
    """Return a capture with packets added, each after all that were captured up to its time."""
    count = packets.total
    latest = np.maximum.accumulate(packets.time) if count else packets.time
    spots = np.array(
        [
            one.before if one.before >= 0 else int(np.searchsorted(latest, one.time, "right"))
            for one in extra
        ],
        np.int64,
    )
    keys = np.concatenate((np.arange(count), spots - 0.5))
    times = np.concatenate((np.zeros(count), [float(one.time) for one in extra]))
    order = np.lexsort((times, keys))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))
    kept, added = place[:count], place[count:]
    moved = [renumbered(call, kept) for call in calls]
    return Spliced(joined(packets, extra, order), moved, kept, added)


def joined(packets: Packets, extra: Sequence[Added], order: Numbers) -> Packets:
    """Return captured and added packets in an order."""
    frames = [framed(one.packet) for one in extra]
    sizes = np.array([len(frame) for frame in frames], np.int64)
    starts = len(packets.data) + np.concatenate((np.zeros(1, np.int64), np.cumsum(sizes)))[:-1]
    data = np.concatenate((packets.data, np.frombuffer(b"".join(frames), np.uint8)))
    columns = (
        (packets.offset, starts.astype(np.int64)),
        (packets.captured, sizes),
        (packets.wire, sizes),
        (packets.time, np.array([one.time for one in extra], np.int64)),
        (packets.link, np.ones(len(extra), np.int64)),
    )
    return Packets(data, *(np.concatenate(pair)[order] for pair in columns))


def framed(packet: bytes) -> bytes:
    """Return an IP packet in an Ethernet frame."""
    return ETHERNET + (b"\x86\xdd" if packet[0] >> 4 == 6 else b"\x08\x00") + packet


def renumbered(call: Call, kept: Numbers) -> Call:
    """Return a call whose frame numbers are those of the spliced capture."""

    def frame(number: int) -> int:
        return int(kept[number - 1]) + 1 if 0 < number <= len(kept) else number

    def frames(numbers: Iterable[int]) -> list[int]:
        return [frame(number) for number in numbers]

    frame_lists: dict[str, Any] = {
        name: frames(getattr(call, name)) for name in ("media", "setup", "control", "signalling")
    }
    alternatives = [one.model_copy(update={"flow": frame(one.flow)}) for one in call.alternatives]
    gates = [
        one.model_copy(
            update={
                "flow": frame(one.flow),
                "by": frames(one.by),
                "pairs": [frames(pair) for pair in one.pairs],
            }
        )
        for one in call.gates
    ]
    return call.model_copy(update={**frame_lists, "alternatives": alternatives, "gates": gates})
