# SPDX-License-Identifier: BSD-3-Clause
"""Quality of calls on the standard input, second by second while a capture is being written.

A second's row is written WAIT seconds after the second, because late packets are still counted in
it. Rows of a pause are written when it has ended.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa

from midcall.captures.packets.pcap import CaptureFile
from midcall.captures.packets.standard_input import NAME as STANDARD_INPUT
from midcall.classifier.call_quality import Meter
from midcall.classifier.engine import Engine
from midcall.experiments.cells.classify import IDLE, LIVE_FLOWS, from_numpy
from midcall.experiments.tools.quality import Writer, all_notices, table_of, table_of_rows

SECOND = 1_000_000_000
#: Seconds after which a second's row is written.
WAIT = 2
#: Seconds between two searches for flows that have ended.
SEARCH = 10


class Following:
    """The rows of a meter that are written already, by flow and direction."""

    def __init__(self, target: Writer) -> None:
        self.target = target
        self.written: dict[tuple[str, str], int] = {}

    def write(self, table: pa.Table, until: int | None = None) -> None:
        """Write the rows that are new, up to a second (None: all), in the order of seconds."""
        keys = zip(*(table.column(name).to_pylist() for name in ("flow", "direction")), strict=True)
        seconds, chosen = table.column("second").to_pylist(), np.zeros(table.num_rows, bool)
        for at, (key, second) in enumerate(zip(keys, seconds, strict=True)):
            if second > self.written.get(key, -1) and (until is None or second <= until):
                self.written[key], chosen[at] = second, True
        if chosen.any():
            self.target.write(table.filter(from_numpy(chosen, pa.bool_())).sort_by("second"))
            self.target.flush()


def follow(target: Writer, every: bool = False) -> list[str]:
    """Measure the calls on the standard input and write rows as it is read; returns notices.

    every: as in tools.quality.measure_file. Raises CaptureError or ClassifierError.
    """
    capture = CaptureFile(STANDARD_INPUT)
    meter = Meter(Engine(max_flows=LIVE_FLOWS), every)
    following, latest, searched = Following(target), -1, 0
    about: Any = (STANDARD_INPUT, every)
    for packets in capture.batches():
        meter.feed(packets)
        second = int(packets.time.max(initial=meter.start) - meter.start) // SECOND
        if second <= latest:
            continue
        latest = second
        following.write(table_of(meter, *about), latest - WAIT)
        if latest >= searched + SEARCH:
            searched = latest
            ended = meter.engine.ended(meter.start + latest * SECOND, IDLE)
            rows = meter.take(ended)
            following.write(table_of_rows(ended, rows, meter.start, *about))
    following.write(table_of(meter, *about))
    return all_notices(capture, meter)
