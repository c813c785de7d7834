# SPDX-License-Identifier: BSD-3-Clause
"""Two captures of one call, one at each end: loss, delay variation and NAT of the path.

Two packets are the same if their UDP payloads of at least SMALLEST octets are equal and occur once
in either capture. The clocks of two machines differ, so only the variation of the delay is known:
the smallest time that a packet took in a direction counts as zero (RFC 5481, section 4.2). Clocks
that drift apart are corrected by the slope of the smallest times of equal parts of the call. Loss
counts between the first and the last packet of a direction that are in both captures (RFC 7680).
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.numbers import UDP
from midcall.captures.packets.pcap import read
from midcall.experiments.measure.redact import masked
from midcall.testbed.replay.packet_index import PacketIndex, index_packets
from midcall.testbed.replay.sides import places

Numbers = NDArray[np.int64]


class PathFigures(TypedDict):
    """Packets sent and lost in one direction, and the variation of their delay by quantile."""

    sent: int
    lost: int
    seconds: float
    variation_ms: dict[str, float]


class Table(TypedDict):
    """A comparison of two ends: packets in both captures, figures of each direction, NAT."""

    matched: int
    ways: dict[str, PathFigures | None]
    nat: list[str]


SMALLEST = 20
#: Packets of a direction from which figures are given.
FEWEST = 20
#: Parts of a direction whose smallest times show how clocks drift apart.
PARTS = 10


class Datagrams(NamedTuple):
    """The UDP packets of a capture that can be matched with those of another."""

    payload: list[bytes]
    time: Numbers  # ns
    leaves: NDArray[np.bool_]  # sent by the end at which the capture was made
    ends: list[tuple[tuple[str, int], tuple[str, int]]]  # source and target of each
    every: frozenset[bytes]  # the payloads of all UDP packets


def datagrams(index: PacketIndex) -> Datagrams:
    """Return the UDP packets of a packet index whose payload occurs once."""
    facts, packets = index.facts, index.packets
    local_is_source = places(index.flows).near_is_source
    which = np.flatnonzero(
        (facts["proto"] == UDP)
        & (facts["flow"] >= 0)
        & (facts["end"] - facts["at"] >= SMALLEST)
        & (facts["end"] - facts["at"] == facts["size"])
    )
    payload = [packets.data[facts["at"][i] : facts["end"][i]].tobytes() for i in which]
    once = Counter(payload)
    unique = np.array([at for at, text in enumerate(payload) if once[text] == 1], np.int64)
    which = which[unique] if len(unique) else which[:0]
    flow, up = facts["flow"][which], facts["up"][which] == 1
    return Datagrams(
        [payload[at] for at in unique],
        packets.time[which],
        up == local_is_source[flow],
        [endpoints(index, int(number), bool(way)) for number, way in zip(flow, up, strict=True)],
        frozenset(payload),
    )


def endpoints(index: PacketIndex, flow: int, up: bool) -> tuple[tuple[str, int], tuple[str, int]]:
    """Return source and target of a flow's packet: address and port of each."""
    from midcall.classifier.export import addresses

    record = index.flows[flow : flow + 1]
    ends = [
        (addresses(record[side], record["version"]).tolist()[0], int(record[f"{side}_port"][0]))
        for side in ("source", "target")
    ]
    return (ends[0], ends[1]) if up else (ends[1], ends[0])


def compared(first: Path, second: Path) -> Table:
    """Return loss, delay variation and NAT of a call's UDP packets between two captures of it."""
    one, other = (datagrams(index_packets(read(path))) for path in (first, second))
    position = {text: at for at, text in enumerate(other.payload)}
    pairs = np.array(
        [(at, position[text]) for at, text in enumerate(one.payload) if text in position], np.int64
    ).reshape(-1, 2)
    outward = one.leaves[pairs[:, 0]] & ~other.leaves[pairs[:, 1]]
    inward = ~one.leaves[pairs[:, 0]] & other.leaves[pairs[:, 1]]
    return {
        "matched": int(outward.sum() + inward.sum()),
        "ways": {
            "from here": way(one, other, pairs[outward]),
            "to here": way(other, one, pairs[inward][:, ::-1]),
        },
        "nat": sorted(
            rewritten(one, other, pairs[outward]) | rewritten(other, one, pairs[inward][:, ::-1])
        ),
    }


def way(sender: Datagrams, receiver: Datagrams, pairs: Numbers) -> PathFigures | None:
    """Return loss and delay variation from a sender to a receiver; None below FEWEST packets.

    pairs: int64[n, 2], the position of each packet at either end. Times are in ms.
    """
    if len(pairs) < FEWEST:
        return None
    sent, came = sender.time[pairs[:, 0]], receiver.time[pairs[:, 1]]
    order = np.argsort(sent, kind="stable")
    sent, took = sent[order], (came - sent)[order]
    took = took - drift(sent, took)
    late = (took - took.min()) / 1e6
    used = {sender.ends[at] for at in pairs[:, 0].tolist()}
    inside = sender.leaves & (sender.time >= sent[0]) & (sender.time <= sent[-1])
    offered = [at for at in np.flatnonzero(inside).tolist() if sender.ends[at] in used]
    return {
        "sent": len(offered),
        "lost": sum(sender.payload[at] not in receiver.every for at in offered),
        "seconds": round(float(sent[-1] - sent[0]) / 1e9, 3),
        "variation_ms": {
            name: round(float(np.quantile(late, share)), 3)
            for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
        },
    }


def drift(sent: Numbers, took: Numbers) -> Numbers:
    """Return the drift of two clocks at each packet, int64[packets] in ns, from the smallest times.

    sent, took: int64[packets], in ns.
    """
    parts = [part for part in np.array_split(np.arange(len(sent)), PARTS) if len(part)]
    least = np.array([part[np.argmin(took[part])] for part in parts])
    if len(least) < 3:
        return np.zeros(len(sent), np.int64)
    seconds = (sent - sent[0]) / 1e9
    slope = float(np.polyfit(seconds[least], took[least].astype(np.float64), 1)[0])
    return np.asarray(np.round(slope * seconds), np.int64)


def rewritten(sender: Datagrams, receiver: Datagrams, pairs: Numbers) -> set[str]:
    """Return sentences on changes of addresses and ports between two ends, addresses masked."""
    changes = set()
    for at_sender, at_receiver in pairs.tolist():
        for name, before, after in zip(
            ("source", "target"), sender.ends[at_sender], receiver.ends[at_receiver], strict=True
        ):
            if before == after:
                continue
            port = "port kept" if before[1] == after[1] else "another port"
            changes.add(f"{name} {masked(before[0])} became {masked(after[0])}, {port}")
    return changes


def lines(comparison: Table, other: str) -> list[str]:
    """Return a comparison as lines for a terminal."""
    out = [f"{'both ends':12}{other}: {comparison['matched']} packets in both captures"]
    for title, figures in comparison["ways"].items():
        if figures is None:
            out.append(f"{'':12}{title}: fewer than {FEWEST} packets in both")
            continue
        late = ", ".join(f"{ms:.1f} ms ({name})" for name, ms in figures["variation_ms"].items())
        lost = f"{figures['lost']} of {figures['sent']} lost in {figures['seconds']:.1f} s"
        out.append(f"{'':12}{title}: {lost}; delay variation {late}")
    out += [f"{'':12}NAT: {words}" for words in comparison["nat"]] or [
        f"{'':12}NAT: no address or port changed"
    ]
    return out
