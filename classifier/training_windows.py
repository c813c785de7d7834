# SPDX-License-Identifier: BSD-3-Clause
"""Windows: runs of a UDP flow's payload packets, as columns for training and for measuring.

They are read by the packet path itself, with fingerprints switched off: what a model learns from
is to the bit what it will be asked with.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.kernel import kernel
from midcall.captures.jit.reads import Octets
from midcall.captures.packets.numbers import UDP
from midcall.captures.packets.pcap import Packets
from midcall.classifier.engine import Engine, step
from midcall.classifier.state.features import COLUMNS, KEPT, LENGTHS, observe, write_columns
from midcall.classifier.state.flow_scratch import NOTE, clear
from midcall.classifier.state.flow_table import Numbers, Records
from midcall.classifier.state.packet_fields import SIGN_PAYLOAD_SIZE, SIGN_PROTO, SIGN_UP
from midcall.classifier.statistical.inference import NODE

#: Payload packets that a flow has behind it where a window begins: its start, and mid-flow.
STARTS = (0, 64, 512)


class Windows(NamedTuple):
    """Windows of a capture's flows, in order of flow and start.

    frame: int64[n], 1-based first frame of the flow; start: int64[n], payload packets before the
    window; packets: int64[n], packets in it, at most 16; columns: length -> float32[n, COLUMNS]
    (rows of shorter windows are 0 and not to be used).
    """

    frame: Numbers
    start: Numbers
    packets: Numbers
    columns: dict[int, NDArray[np.float32]]


@kernel
def trace(
    flows: Records,
    index: Numbers,
    notes: Records,
    context: Records,
    hellos: Octets,
    fragments: Numbers,
    spill: Records,
    meter: Numbers,
    model: Records,
    data: Octets,
    offset: Numbers,
    captured: Numbers,
    wire: Numbers,
    time: Numbers,
    link: Numbers,
    signs: Numbers,
    seen: Numbers,
) -> None:
    """Walk a capture; seen[i] = (flow or -1, payload bytes where UDP else 0, direction)."""
    for i in range(len(offset)):
        seen[i, 0] = step(
            flows,
            index,
            notes,
            context,
            hellos,
            fragments,
            spill,
            meter,
            model,
            data,
            offset[i],
            offset[i] + captured[i],
            wire[i],
            time[i],
            link[i],
            i,
            signs,
        )
        if seen[i, 0] >= 0 and signs[SIGN_PROTO] == UDP:
            seen[i, 1] = max(signs[SIGN_PAYLOAD_SIZE], 0)
            seen[i, 2] = signs[SIGN_UP]


@kernel
def read_window(note: Any, which: Numbers, seen: Numbers, time: Numbers) -> None:
    """Put the packets `which` into a note as the path would."""
    clear(note, 0, time[which[0]])
    for i in range(len(which)):
        note["seen"] = i + 1
        observe(note, seen[which[i], 1], time[which[i]], seen[which[i], 2])


@kernel
def copy_columns(note: Any, n: int, scratch: Records, out: Any) -> None:
    """Write a note's columns of n packets into out, float32[COLUMNS]."""
    write_columns(note, n, scratch)
    for column in range(len(out)):
        out[column] = scratch[column]["column"]


def windows(packets: Packets, starts: tuple[int, ...] = STARTS) -> Windows:
    """Return the windows of every UDP flow with at least 4 payload packets behind a start."""
    engine = Engine(model=None, fingerprints=False)
    engine.reserve(packets.total)
    seen = np.zeros((packets.total, 3), np.int64)
    trace(*engine.tables, *packets, engine.signs, seen)
    first = engine.tables.flows["first_record"]
    carrying = np.flatnonzero((seen[:, 0] >= 0) & (seen[:, 1] > 0))
    carrying = carrying[np.argsort(seen[carrying, 0], kind="stable")]
    numbers, begins = np.unique(seen[carrying, 0], return_index=True)
    parts = np.split(carrying, begins[1:]) if len(numbers) else []
    found: list[tuple[int, int, NDArray[np.int64]]] = [
        (int(first[number]) + 1, start, part[start : start + KEPT])
        for number, part in zip(numbers, parts, strict=True)
        for start in starts
        if len(part) - start >= LENGTHS[0]
    ]
    return tabulate(found, seen, packets.time)


def tabulate(
    found: list[tuple[int, int, NDArray[np.int64]]], seen: Numbers, time: Numbers
) -> Windows:
    """Return the columns of (first frame, start, packet numbers) windows."""
    count = len(found)
    columns = {n: np.zeros((count, len(COLUMNS)), np.float32) for n in LENGTHS}
    notes, scratch = np.zeros(1, NOTE), np.zeros(len(COLUMNS), NODE)
    for row, (_, _, which) in enumerate(found):
        read_window(notes[0], which, seen, time)
        for n in LENGTHS:
            if len(which) >= n:
                copy_columns(notes[0], n, scratch, columns[n][row])
    return Windows(
        np.array([frame for frame, _, _ in found], np.int64),
        np.array([start for _, start, _ in found], np.int64),
        np.array([len(which) for _, _, which in found], np.int64),
        columns,
    )
