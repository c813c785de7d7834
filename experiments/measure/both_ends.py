# SPDX-License-Identifier: BSD-3-Clause
"""Two captures of one call, one at each end: loss, delay variation and NAT of the path.

Two packets are the same if their UDP payloads of at least SMALLEST octets are equal and occur once
in either capture. Two RTP packets are the same if their headers are (payload type, sequence number,
timestamp, SSRC), also where one end has them in TURN (ChannelData, Send and Data indications) or in
Microsoft's frames; one that is sent again is lost if no copy arrives.

The clocks of two machines differ, so only the variation of the delay is known: the smallest time
that a packet took in a direction counts as zero (RFC 5481, section 4.2). Clocks that drift apart
are corrected by the slope of the smallest times of equal parts of the call. Loss counts between the
first and the last packet of a direction that are in both captures (RFC 7680).

Where a direction has RTP, only RTP counts: requests to a relay never reach the other end.

`by_second` gives loss and delay of each second. There the smallest delays of the two directions are
taken as equal: each is half of the smallest round trip, which does not depend on the clocks.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.numbers import UDP
from midcall.captures.packets.pcap import read
from midcall.classifier.state.packet_fields import SIGNS
from midcall.experiments.measure import rtp_truth
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
#: Octets of an RTP header (RFC 3550, section 5.1).
RTP_HEADER = 12
#: Packets of a direction from which figures are given.
FEWEST = 20
#: Time of a packet that is not in both captures.
UNMATCHED = np.iinfo(np.int64).min
#: Parts of a direction whose smallest times show how clocks drift apart.
PARTS = 10


class Datagrams(NamedTuple):
    """The UDP packets of a capture that can be matched with those of another."""

    payload: list[bytes]
    time: Numbers  # ns
    leaves: NDArray[np.bool_]  # sent by the end at which the capture was made
    ends: list[tuple[tuple[str, int], tuple[str, int]]]  # source and target of each
    every: frozenset[bytes]  # the payloads of all UDP packets
    flow: Numbers  # number of the first packet of each packet's flow
    up: Numbers  # 1: from the flow's source
    start: int  # ns, the capture's first packet
    rtp: NDArray[np.bool_]


class Carried(NamedTuple):
    """The packets of a direction between the first and the last one that both captures have.

    position: int64[n], at the sender, in the order of sending; lost: bool[n]; took: int64[n], ns
    from sender to receiver without the drift of the clocks, UNMATCHED where it is unknown.
    """

    position: Numbers
    lost: NDArray[np.bool_]
    took: Numbers


class PathSecond(NamedTuple):
    """One second of a direction: packets sent, the share of them that did not arrive, and the
    median of their one-way delay in ms, None where it is unknown."""

    sent: int
    loss: float
    delay_ms: float | None


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
    begin, stop = (facts[name][which].astype(np.int64) for name in ("at", "end"))
    rtp, signs = np.zeros(len(which), bool), np.zeros(SIGNS, np.int64)
    for number in range(len(which)):
        at, end = int(begin[number]), int(stop[number])
        inner = int(rtp_truth.rtp_at(packets.data, at, end, end - at, signs))
        rtp[number] = inner >= 0
        if inner >= 0:  # the header without its first octet (version, padding, extension)
            begin[number], stop[number] = inner + 1, inner + RTP_HEADER
    payload = [packets.data[a:b].tobytes() for a, b in zip(begin, stop, strict=True)]
    times = Counter(payload)
    first = {text: at for at, text in reversed(list(enumerate(payload)))}
    unique = np.array(
        [
            at
            for at, text in enumerate(payload)
            if times[text] == 1 or (rtp[at] and first[text] == at)
        ],
        np.int64,
    )
    which, rtp = which[unique], rtp[unique]
    flow, up = facts["flow"][which], facts["up"][which] == 1
    return Datagrams(
        [payload[at] for at in unique],
        packets.time[which],
        up == local_is_source[flow],
        [endpoints(index, int(number), bool(way)) for number, way in zip(flow, up, strict=True)],
        frozenset(payload),
        index.flows["first_record"][flow].astype(np.int64),
        up.astype(np.int64),
        int(packets.time[0]) if packets.total else 0,
        rtp,
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


def matched(one: Datagrams, other: Datagrams) -> tuple[Numbers, Numbers]:
    """Return the packets in both captures, by direction: from one to other, and to one.

    Each is int64[n, 2], the position at the sender and at the receiver.
    """
    position = {text: at for at, text in enumerate(other.payload)}
    pairs = np.array(
        [(at, position[text]) for at, text in enumerate(one.payload) if text in position], np.int64
    ).reshape(-1, 2)
    outward = one.leaves[pairs[:, 0]] & ~other.leaves[pairs[:, 1]]
    inward = ~one.leaves[pairs[:, 0]] & other.leaves[pairs[:, 1]]
    return pairs[outward], pairs[inward][:, ::-1]


def compared(first: Path, second: Path) -> Table:
    """Return loss, delay variation and NAT of a call's UDP packets between two captures of it."""
    one, other = (datagrams(index_packets(read(path))) for path in (first, second))
    outward, inward = matched(one, other)
    return {
        "matched": len(outward) + len(inward),
        "ways": {
            "from here": way(one, other, outward),
            "to here": way(other, one, inward),
        },
        "nat": sorted(rewritten(one, other, outward) | rewritten(other, one, inward)),
    }


def way(sender: Datagrams, receiver: Datagrams, pairs: Numbers) -> PathFigures | None:
    """Return loss and delay variation from a sender to a receiver; None below FEWEST packets.

    pairs: int64[n, 2], the position of each packet at either end. Times are in ms.
    """
    found = media(sender, carried(sender, receiver, pairs))
    if found is None:
        return None
    took = found.took[found.took != UNMATCHED]
    late, sent = (took - took.min()) / 1e6, sender.time[found.position]
    return {
        "sent": len(found.position),
        "lost": int(found.lost.sum()),
        "seconds": round(float(sent.max() - sent.min()) / 1e9, 3),
        "variation_ms": {
            name: round(float(np.quantile(late, share)), 3)
            for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))
        },
    }


def carried(sender: Datagrams, receiver: Datagrams, pairs: Numbers) -> Carried | None:
    """Return the packets of a direction; None below FEWEST pairs.

    pairs: int64[n, 2], the position of each packet at either end.
    """
    if len(pairs) < FEWEST:
        return None
    pairs = pairs[np.argsort(sender.time[pairs[:, 0]], kind="stable")]
    sent, came = sender.time[pairs[:, 0]], receiver.time[pairs[:, 1]]
    took = np.full(len(sender.payload), UNMATCHED)
    took[pairs[:, 0]] = came - sent - drift(sent, came - sent)
    used = {sender.ends[at] for at in pairs[:, 0].tolist()}
    inside = sender.leaves & (sender.time >= sent[0]) & (sender.time <= sent[-1])
    offered = [at for at in np.flatnonzero(inside).tolist() if sender.ends[at] in used]
    lost = [sender.payload[at] not in receiver.every for at in offered]
    position = np.array(offered, np.int64)
    return Carried(position, np.array(lost, bool), took[position])


def by_second(first: Path, second: Path) -> dict[tuple[int, int, int], PathSecond]:
    """Return loss and delay by flow, direction and second of the first capture.

    The key is (number of the flow's first packet, 1 from the flow's source, second from the first
    packet of the first capture). A packet towards the first capture counts in the second in which
    it would have come with the smallest delay. The delay is unknown unless both directions have
    FEWEST packets in both captures.
    """
    one, other = (datagrams(index_packets(read(path))) for path in (first, second))
    outward, inward = matched(one, other)
    there, back = (
        media(sender, carried(sender, receiver, pairs))
        for sender, receiver, pairs in ((one, other, outward), (other, one, inward))
    )
    least = [int(each.took[each.took != UNMATCHED].min()) for each in (there, back) if each]
    shortest = max(sum(least) / 2, 0.0) if len(least) == 2 else None
    result: dict[tuple[int, int, int], PathSecond] = {}
    if there is not None:
        keys = list(zip(one.flow[there.position], one.up[there.position], strict=True))
        time = one.time[there.position] - one.start
        result |= grouped(there, [(int(a), int(b)) for a, b in keys], time, shortest)
    if back is not None:
        # The same direction at the first capture, by addresses at the second one.
        at_first = {other.ends[at]: (int(one.flow[to]), int(one.up[to])) for at, to in inward}
        ends = [at_first[other.ends[at]] for at in back.position.tolist()]
        time = other.time[back.position] + least[-1] - one.start
        result |= grouped(back, ends, time, shortest)
    return result


def media(sender: Datagrams, found: Carried | None) -> Carried | None:
    """Return the RTP packets of a direction if it has RTP in both captures, else all packets."""
    if found is None:
        return None
    rtp = sender.rtp[found.position]
    if not (rtp & (found.took != UNMATCHED)).any():
        return found
    return Carried(found.position[rtp], found.lost[rtp], found.took[rtp])


def grouped(
    found: Carried, keys: list[tuple[int, int]], time: Numbers, shortest: float | None
) -> dict[tuple[int, int, int], PathSecond]:
    """Return a direction's packets by flow, direction and second.

    keys: flow and direction of each packet; time: ns from second 0; shortest: the smallest delay in
    ns, None: unknown.
    """
    groups: dict[tuple[int, int, int], list[int]] = {}
    for at, (key, when) in enumerate(zip(keys, (time // 1_000_000_000).tolist(), strict=True)):
        groups.setdefault((*key, when), []).append(at)
    timed = found.took != UNMATCHED
    least = int(found.took[timed].min())
    result = {}
    for place, own in groups.items():
        took = found.took[own][timed[own]]
        delay = None
        if shortest is not None and len(took):
            delay = (float(np.median(took)) - least + shortest) / 1e6
        result[place] = PathSecond(len(own), float(found.lost[own].mean()), delay)
    return result


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
