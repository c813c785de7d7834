# SPDX-License-Identifier: BSD-3-Clause
"""Two captures of one call, one at each end: what the path between them did.

A packet is the same where its UDP payload of at least SMALLEST octets is, and occurs once in either
capture. The clocks of two machines differ; so a delay is not known, but its variation is: the
smallest time that a packet took in a direction counts as zero (RFC 5481, section 4.2). Clocks that
drift apart are corrected by the slope of the smallest times of equal parts of the call. Loss counts
between the first and the last packet of a direction that both captures hold (RFC 7680).
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.numbers import UDP
from midcall.captures.packets.pcap import read
from midcall.experiments.measure.redact import masked
from midcall.testbed.replay.packet_index import Survey, survey
from midcall.testbed.replay.sides import places

Numbers = NDArray[np.int64]
Table = dict[str, Any]

SMALLEST = 20
#: Packets of a direction from which figures are given.
FEWEST = 20
#: Parts of a direction whose smallest times show how clocks drift apart.
PARTS = 10


class Datagrams(NamedTuple):
    """The UDP packets of a capture that can be found again in another."""

    payload: list[bytes]
    time: Numbers  # ns
    leaves: NDArray[np.bool_]  # sent by the near end
    ends: list[tuple[tuple[str, int], tuple[str, int]]]  # source and target of each
    every: frozenset[bytes]  # the payloads of all UDP packets


def datagrams(held: Survey) -> Datagrams:
    """Return the UDP packets of a survey whose payload occurs once."""
    facts, packets = held.facts, held.packets
    near = places(held.flows).near_is_source
    which = np.flatnonzero(
        (facts["proto"] == UDP)
        & (facts["flow"] >= 0)
        & (facts["end"] - facts["at"] >= SMALLEST)
        & (facts["end"] - facts["at"] == facts["size"])
    )
    payload = [packets.data[facts["at"][i] : facts["end"][i]].tobytes() for i in which]
    once = Counter(payload)
    kept = np.array([at for at, text in enumerate(payload) if once[text] == 1], np.int64)
    which = which[kept] if len(kept) else which[:0]
    flow, up = facts["flow"][which], facts["up"][which] == 1
    return Datagrams(
        [payload[at] for at in kept],
        packets.time[which],
        up == near[flow],
        [endpoints(held, int(number), bool(way)) for number, way in zip(flow, up, strict=True)],
        frozenset(payload),
    )


def endpoints(held: Survey, flow: int, up: bool) -> tuple[tuple[str, int], tuple[str, int]]:
    """Return source and target of a flow's packet: address and port of each."""
    from midcall.classifier.export import addresses

    record = held.flows[flow : flow + 1]
    ends = [
        (str(addresses(record[side], record["version"])[0]), int(record[f"{side}_port"][0]))
        for side in ("source", "target")
    ]
    return (ends[0], ends[1]) if up else (ends[1], ends[0])


def compared(here: Path, there: Path) -> Table:
    """Return what the path between two ends of a call did to its UDP packets, each way."""
    one, other = (datagrams(survey(read(path))) for path in (here, there))
    place = {text: at for at, text in enumerate(other.payload)}
    pairs = np.array(
        [(at, place[text]) for at, text in enumerate(one.payload) if text in place], np.int64
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


def way(sender: Datagrams, receiver: Datagrams, pairs: Numbers) -> Table | None:
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
    """Return how much of each time is two clocks drifting apart, ns, from their smallest times."""
    parts = [part for part in np.array_split(np.arange(len(sent)), PARTS) if len(part)]
    least = np.array([part[np.argmin(took[part])] for part in parts])
    if len(least) < 3:
        return np.zeros(len(sent), np.int64)
    seconds = (sent - sent[0]) / 1e9
    slope = float(np.polyfit(seconds[least], took[least].astype(np.float64), 1)[0])
    return np.asarray(np.round(slope * seconds), np.int64)


def rewritten(sender: Datagrams, receiver: Datagrams, pairs: Numbers) -> set[str]:
    """Return in words how addresses and ports changed between two ends, addresses masked."""
    changes = set()
    for mine, theirs in pairs.tolist():
        for name, before, after in zip(
            ("source", "target"), sender.ends[mine], receiver.ends[theirs], strict=True
        ):
            if before == after:
                continue
            port = "port kept" if before[1] == after[1] else "another port"
            changes.add(f"{name} {masked(before[0])} became {masked(after[0])}, {port}")
    return changes


def lines(found: Table, other: str) -> list[str]:
    """Return what a person reads of a comparison."""
    out = [f"{'both ends':12}{other}: {found['matched']} packets in both captures"]
    for title, held in found["ways"].items():
        if held is None:
            out.append(f"{'':12}{title}: fewer than {FEWEST} packets in both")
            continue
        late = ", ".join(f"{ms:.1f} ms ({name})" for name, ms in held["variation_ms"].items())
        lost = f"{held['lost']} of {held['sent']} lost in {held['seconds']:.1f} s"
        out.append(f"{'':12}{title}: {lost}; delay variation {late}")
    out += [f"{'':12}NAT: {words}" for words in found["nat"]] or [
        f"{'':12}NAT: no address or port changed"
    ]
    return out
