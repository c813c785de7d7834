# SPDX-License-Identifier: BSD-3-Clause
"""Windows: runs of a UDP flow's payload packets, as columns for training and for measuring.

The packet path itself reads them, with fingerprints switched off, so that the columns for training
are identical to the bit to the columns at classification.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.kernel import kernel
from midcall.captures.packets.numbers import UDP
from midcall.captures.packets.pcap import Packets
from midcall.classifier.engine import Engine, Tables, step_packet
from midcall.classifier.state.features import COLUMNS, KEPT, LENGTHS, observe, write_columns
from midcall.classifier.state.flow_scratch import NOTE, clear
from midcall.classifier.state.flow_table import Numbers, Records
from midcall.classifier.state.packet_fields import SIGN_PAYLOAD_SIZE, SIGN_PROTO, SIGN_UP
from midcall.classifier.statistical.inference import NODE

#: Payload packets of a flow before a window begins: none, and two positions mid-flow.
STARTS = (0, 64, 512)


class Windows(NamedTuple):
    """Windows of a capture's flows, in order of flow and start.

    frame: int64[n], 1-based first frame of the flow; start: int64[n], payload packets before the
    window; packets: int64[n], packets in it, at most 16; columns: length -> float32[n, COLUMNS]
    (rows of shorter windows are 0 and must not be used).
    """

    frame: Numbers
    start: Numbers
    packets: Numbers
    columns: dict[int, NDArray[np.float32]]


@kernel
def trace(tables: Tables, packets: Packets, signs: Numbers, packet_info: Numbers) -> None:
    """Process a capture; packet_info[i] = (flow or -1, payload bytes if UDP else 0, direction)."""
    for i in range(len(packets.offset)):
        packet_info[i, 0] = step_packet(tables, packets, i, i, signs)
        if packet_info[i, 0] >= 0 and signs[SIGN_PROTO] == UDP:
            packet_info[i, 1] = max(signs[SIGN_PAYLOAD_SIZE], 0)
            packet_info[i, 2] = signs[SIGN_UP]


@kernel
def read_window(note: Any, packet_numbers: Numbers, packet_info: Numbers, time: Numbers) -> None:
    """Store the packets `packet_numbers` in a note as the packet path does."""
    clear(note, 0, time[packet_numbers[0]])
    for i in range(len(packet_numbers)):
        note["seen"] = i + 1
        observe(
            note,
            packet_info[packet_numbers[i], 1],
            time[packet_numbers[i]],
            packet_info[packet_numbers[i], 2],
        )


@kernel
def copy_columns(note: Any, n: int, scratch: Records, out: Any) -> None:
    """Write a note's columns of n packets into out, float32[COLUMNS]."""
    write_columns(note, n, scratch)
    for column in range(len(out)):
        out[column] = scratch[column]["column"]


def windows(packets: Packets, starts: tuple[int, ...] = STARTS) -> Windows:
    """Return the windows of every UDP flow with at least 4 payload packets after a start."""
    engine = Engine(model=None, fingerprints=False)
    engine.reserve(packets.total)
    packet_info = np.zeros((packets.total, 3), np.int64)
    trace(engine.tables, packets, engine.signs, packet_info)
    first = engine.tables.flows["first_record"]
    carrying = np.flatnonzero((packet_info[:, 0] >= 0) & (packet_info[:, 1] > 0))
    carrying = carrying[np.argsort(packet_info[carrying, 0], kind="stable")]
    numbers, begins = np.unique(packet_info[carrying, 0], return_index=True)
    parts = np.split(carrying, begins[1:]) if len(numbers) else []
    selected: list[tuple[int, int, NDArray[np.int64]]] = [
        (int(first[number]) + 1, start, part[start : start + KEPT])
        for number, part in zip(numbers, parts, strict=True)
        for start in starts
        if len(part) - start >= LENGTHS[0]
    ]
    return tabulate(selected, packet_info, packets.time)


def tabulate(
    selected: list[tuple[int, int, NDArray[np.int64]]], packet_info: Numbers, time: Numbers
) -> Windows:
    """Return the columns of (first frame, start, packet numbers) windows."""
    count = len(selected)
    columns = {n: np.zeros((count, len(COLUMNS)), np.float32) for n in LENGTHS}
    notes, scratch = np.zeros(1, NOTE), np.zeros(len(COLUMNS), NODE)
    for row, (_, _, packet_numbers) in enumerate(selected):
        read_window(notes[0], packet_numbers, packet_info, time)
        for n in LENGTHS:
            if len(packet_numbers) >= n:
                copy_columns(notes[0], n, scratch, columns[n][row])
    return Windows(
        np.array([frame for frame, _, _ in selected], np.int64),
        np.array([start for _, start, _ in selected], np.int64),
        np.array([len(packet_numbers) for _, _, packet_numbers in selected], np.int64),
        columns,
    )
