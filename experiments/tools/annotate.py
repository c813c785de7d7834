# SPDX-License-Identifier: BSD-3-Clause
"""A capture as pcapng with the classifier's verdicts as comments of packets.

A comment is on the first packet of each flow, and on the packet at which its verdict was reached.
Every program that reads comments of pcapng shows them (Wireshark: `frame.comment`).
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.pcap import CaptureFile
from midcall.captures.packets.standard_input import held
from midcall.captures.packets.writer import PcapngWriter
from midcall.classifier.engine import Engine
from midcall.classifier.export import columns
from midcall.errors import ExperimentError
from midcall.experiments.cells.classify import notices_of, output, rows
from midcall.experiments.tools.explain import Survey, flows_of_packets

Numbers = NDArray[np.int64]


class Decided(NamedTuple):
    """A classified capture: its flows, and the packet of each verdict (-1: none)."""

    survey: Survey
    packets: Numbers  # int64[flows]


def annotate(name: str, out: str | None, say: Callable[[str], None]) -> None:
    """Write a capture with comments; raises CaptureError, ClassifierError or ExperimentError.

    name: a file, or `-`; out: a file, `-` or None for the standard output; say: called with one
    sentence per notice on the capture.
    """
    with held(name) as capture:
        if out not in (None, "-") and same_file(capture.path, Path(str(out))):
            raise ExperimentError(f"{capture.shown}: is the input, give another file as -o OUT")
        decided = classified(str(capture.path), capture.shown)
        for notice in decided.survey.notices:
            say(f"warning: {notice}")
        with output(out) as stream:
            write(stream, decided.survey.path, comments(decided))


def same_file(one: Path, other: Path) -> bool:
    """Return whether two paths lead to one file."""
    try:
        return os.path.samefile(one, other)
    except OSError:
        return False


def classified(path: str, name: str) -> Decided:
    """Classify a capture, and find the packet at which each verdict was reached."""
    capture, engine = CaptureFile(path, name=name), Engine()
    numbers: list[Numbers] = [np.zeros(0, np.int64)]
    times: list[Numbers] = [np.zeros(0, np.int64)]
    for packets in capture.batches():
        numbers.append(engine.feed(packets))
        times.append(packets.time.copy())
    notices = notices_of(capture, engine)
    flows = engine.flows()
    table = rows(columns(flows, name)).to_pylist()
    survey = Survey(name, path, flows, table, np.concatenate(numbers), notices)
    return Decided(survey, deciders(survey, np.concatenate(times)))


def deciders(survey: Survey, times: Numbers) -> Numbers:
    """Return int64[flows], the packet at which each flow's verdict was reached, -1 for none.

    That is the packet of the flow at the time of the verdict. Where several have this time, the
    packets are classified again up to each of them.
    """
    flows, found = survey.flows, np.full(len(survey.flows), -1, np.int64)
    if not len(flows):
        return found
    of_packet = flows_of_packets(survey)
    reached = (flows["verdict"] != 0) & (flows["verdict_packets"] > 0)
    at = (of_packet >= 0) & reached[of_packet] & (flows["verdict_time"][of_packet] == times)
    candidates: dict[int, list[int]] = defaultdict(list)
    for packet in np.flatnonzero(at).tolist():
        candidates[int(of_packet[packet])].append(packet)
    for flow, packets in candidates.items():
        found[flow] = packets[0]
    tied = sorted(
        packet for packets in candidates.values() if len(packets) > 1 for packet in packets
    )
    if tied:
        done: set[int] = set()
        for packet, payloads in payloads_up_to(survey, tied):
            flow = int(of_packet[packet])
            if flow not in done and payloads == flows["verdict_packets"][flow]:
                found[flow] = packet
                done.add(flow)
    return found


def payloads_up_to(survey: Survey, wanted: list[int]) -> Iterator[tuple[int, int]]:
    """Yield some packets in order, each with its flow's number of payloads up to it, inclusive."""
    engine, base, rest = Engine(), 0, list(reversed(wanted))
    for batch in CaptureFile(survey.path, name=survey.file).batches():
        at = 0
        while rest and rest[-1] < base + batch.total:
            packet = rest.pop()
            engine.feed(batch.take(slice(at, packet - base + 1)))
            at = packet - base + 1
            number = int(survey.numbers[packet])
            yield packet, int(engine.tables.flows[number]["payload_packets"])
        if not rest:
            return
        engine.feed(batch.take(slice(at, batch.total)))
        base += batch.total


def comments(decided: Decided) -> dict[int, str]:
    """Return the comments of a capture by the position of their packet."""
    texts: dict[int, str] = {}
    survey = decided.survey
    for at, row in enumerate(survey.rows):
        first, packet = int(survey.flows["first_record"][at]), int(decided.packets[at])
        where = "first and deciding packet" if packet == first else "first packet"
        texts[first] = text(at + 1, where, row)
        if packet >= 0 and packet != first:
            texts[packet] = text(at + 1, "deciding packet", row)
    return texts


def text(number: int, where: str, row: Mapping[str, Any]) -> str:
    """Return a comment: which packet of which flow it is, and the flow's verdict."""
    return (
        f"midcall: flow {number}, {where}; verdict {row['verdict']}, app {row['app']}, "
        f"role {row['role']}, confidence {row['confidence']:.2f}, "
        f"evidence: {row['evidence'] or 'none'}"
    )


def write(out: BinaryIO, path: str, texts: Mapping[int, str]) -> None:
    """Write a capture as pcapng, with comments."""
    writer, base = PcapngWriter(out), 0
    for batch in CaptureFile(path).batches():
        inside = {i: texts[base + i] for i in range(batch.total) if base + i in texts}
        writer.write(batch, inside)
        base += batch.total
