# SPDX-License-Identifier: BSD-3-Clause
"""The flows of a capture with their verdicts, as a table for programs: `midcall.classify`."""

from __future__ import annotations

import os

import numpy as np
import pyarrow as pa

from midcall.captures.packets.pcap import Packets
from midcall.experiments.cells.classify import as_arrow, link_notices, rows
from midcall.experiments.cells.offline import ClassifiedFlow
from midcall.experiments.results.frame import Frame

FRAME = pa.field("frame", pa.int64())


class ClassifiedFlows(Frame[ClassifiedFlow]):
    """The flows of a capture, in order of their first packets.

    Columns are those of `midcall classify`, and `frame`: the number of the flow's first packet in
    the capture, from 1, by which labels name a flow. notices: what was wrong with the file.
    """

    def __init__(self, arrow: pa.Table, notices: list[str]) -> None:
        super().__init__(arrow)
        self.notices = notices


def classify(capture: str | os.PathLike[str] | Packets, cores: int = 1) -> ClassifiedFlows:
    """Classify every flow of a capture file or of packets; see `midcall.classify`."""
    from midcall.captures.packets.pcap import CaptureFile
    from midcall.classifier.engine import Engine
    from midcall.classifier.export import columns
    from midcall.classifier.parallel import through

    engine = Engine()
    if isinstance(capture, Packets):
        name, notices = "", list[str]()
        engine.feed(capture)
        links = {int(link) for link in np.unique(capture.link)}
    else:
        name = os.fspath(capture)
        file = CaptureFile(name)
        through(engine, file, cores)
        notices, links = list(file.notices), file.links
    notices += link_notices(name, engine.counters, links)
    flows = engine.flows()
    table = rows(columns(flows, name))
    frames = as_arrow(flows["first_record"].astype(np.int64) + 1, FRAME)
    return ClassifiedFlows(table.add_column(1, FRAME, frames), notices)
