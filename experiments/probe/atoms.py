# SPDX-License-Identifier: BSD-3-Clause
"""Conditions of the policy language that a packet of a unit meets: the parts of hypotheses."""

from __future__ import annotations

import ipaddress
import math
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from midcall.captures.packets.numbers import TCP, UDP
from midcall.classifier.state.flow_table import QUIC
from midcall.classifier.state.verdicts import APPS, ROLES, VERDICTS
from midcall.experiments.localise.packet_fields import read, with_before
from midcall.experiments.localise.payload_conditions import METHOD_WORDS, HostName, PayloadCondition
from midcall.experiments.localise.payload_hypotheses import name_patterns
from midcall.experiments.probe.code_points import code_points_of, word_of
from midcall.testbed.probing.probe import Ends, Probe, Sent, flows_of
from midcall.testbed.probing.strikes import Passing
from midcall.testbed.probing.virtual_line import SEGMENT

Match = dict[str, Any]

#: Last packet of a flow at which a window may end that is made from one packet.
EARLY = 8
#: Packets of a flow behind the last one that shows the effect from which a window ends there.
AFTER_END = 4
#: The sizes of packets with a payload: of a stream, those that do not open it or acknowledge alone.
WITH_PAYLOAD = "1-"
#: Flows and directions with the most packets that show an effect, of which the sizes are looked at.
BUSY_FLOWS = 4
#: Packets that say what a flow is for, around which hypotheses are made besides the nearest ones.
OPENERS = 4
#: Seconds since a flow began that are a condition, at least.
LEAST_AGE = 0.05
#: Packets that open a flow, around which hypotheses are made.
OPENING = 2


class Place(NamedTuple):
    """Where a packet stands in its flow, as the box counts: packets, IP octets, seconds, what the
    classifier says of the flow then, and whether the flow is QUIC, whose packets are recognised by
    that."""

    packets: int
    octets: int
    age: float
    app: str
    role: str
    verdict: str
    quic: bool = False


def places(through: Passing, way: str | None = None) -> dict[int, Place]:
    """Return the place of each packet of a unit that passes the box. way: "up" or "down" where
    packets and octets of one direction are counted alone."""
    result: dict[int, Place] = {}
    for at in range(len(through.packet)):
        number = int(through.packet[at])
        if number < 0 or number in result:
            continue
        result[number] = place_at(through, at, way)
    return result


def place_at(through: Passing, at: int, way: str | None = None) -> Place:
    """Return the place of one packet. at: its number among those that pass the box."""
    state = through.states[at]
    age = (int(through.time[at]) - int(state["first_time"])) / 1e9
    return Place(
        *through.counts(at, way),
        age,
        APPS[int(state["app"])],
        ROLES[int(state["role"])],
        VERDICTS[int(state["verdict"])],
        bool(int(state["state"]) & QUIC),
    )


def counts_from(place: Place) -> list[Match]:
    """Return the conditions that a flow has sent, or lasted, as much as at a place, or more."""
    result: list[Match] = [{"packets": f"{place.packets}-"}, {"bytes": f"{place.octets}-"}]
    if place.age > LEAST_AGE:
        result.append({"seconds": f"{math.floor(place.age * 100) / 100:g}-"})
    return result


def atoms(unit: Probe, at: int, place: Place) -> list[Match]:
    """Return the conditions that a packet meets, each of one or two keys."""
    one = with_before(unit, at)
    ends = one.ends
    reading = read(one, place.quic)
    result: list[Match] = [
        {"protocol": {TCP: "tcp", UDP: "udp"}.get(ends.proto, "other")},
        {"direction": "up" if one.up else "down"},
        {"ports": [ends.far_port]},
    ]
    size = 8 * len(ends.far)
    for bits in (size, size * 3 // 4, size // 2):
        result.append({"addresses": [str(ipaddress.ip_network((ends.far, bits), strict=False))]})
    if reading.method >= 0:
        result.append({"stun": True})
        result.append({"stun_method": [METHOD_WORDS.get(reading.method, reading.method)]})
        result += [{"stun_attribute": [kind]} for kind in sorted(reading.attributes)]
    result.append({"payload": [reading.kind]})
    if code_points_of(unit):
        result.append({"dscp": [word_of(one.dscp)]})
    if reading.where:
        for condition in name_patterns(reading.where, reading.name):
            result.append(name_match(condition))
    if reading.hello:
        result.append({"hello": [f"{reading.hello:016x}"]})
    own = size_of(one)
    if own:
        result += [{"size": f"{own}-"}, {"size": f"1-{own}"}]
        result += [{"size": WITH_PAYLOAD}] if ends.proto == TCP else []
    if reading.entropy > 0.1 and own >= 8:
        result.append({"entropy": f"{max(math.floor(reading.entropy * 100 - 2) / 100, 0.01):g}-"})
        result.append({"entropy": f"0-{min(math.ceil(reading.entropy * 100 + 2) / 100, 1.0):g}"})
    if place.app != APPS[0] and place.verdict != VERDICTS[0]:
        more = {} if place.verdict == "certain" else {"verdict": "unsure"}
        result.append({"app": [place.app], **more})
        result.append({"role": [place.role], **more})
    if place.packets > 1:
        result += counts_from(place)
    if place.packets <= EARLY:
        result.append({"packets": f"1-{place.packets}"})
    return result


def name_match(condition: PayloadCondition) -> Match:
    """Return a condition on a name as a match."""
    assert isinstance(condition, HostName)
    if "dns" in condition.where:
        return {"dns": [condition.pattern]}
    if len(condition.where) == 3:
        return {"name": [condition.pattern]}
    return {"name": [condition.pattern], "name_in": sorted(condition.where)}


def references(unit: Probe, shows: np.ndarray[Any, Any], most: int = 10) -> list[int]:
    """Return packets around which hypotheses are made: the first packets that show an effect, of
    each flow, packets of other shapes before them, those that open the flow of each, and one in the
    middle of those of the flow and direction with the most.

    shows: float64[packets], how surely each packet shows the effect. Packets over TCP without a
    payload are left out: kernels send their own.
    """
    chosen: list[int] = []
    struck = [at for at, one in enumerate(unit)
              if shows[at] > 0.5 and (one.payload or one.ends.proto != TCP)]  # fmt: skip
    if not struck:
        return []
    groups: dict[tuple[Ends, bool], list[int]] = {}
    for at in struck:
        groups.setdefault((unit[at].ends, unit[at].up), []).append(at)
    by_flow = list(groups.values())
    firsts = [own[0] for own in by_flow]
    firsts.sort(key=lambda at: unit[at].time)
    earliest = sorted(struck, key=lambda at: unit[at].time)[:2]
    chosen += dict.fromkeys([*earliest, *firsts[:4]])
    around, opening = list[int](), list[int]()
    for first in firsts[:4]:
        before = [at for at in range(first) if unit[at].payload]
        same = [at for at in before if unit[at].ends == unit[first].ends]
        around += [*same[:4], *same[-2:], *before[:4], *before[-3:]]
        opening += same[:OPENING]
    shapes = set()
    for at in around:
        shape = (unit[at].ends, unit[at].up, unit[at].payload[:2], len(unit[at].payload) // 64)
        if shape not in shapes and at not in chosen:
            shapes.add(shape)
            chosen.append(at)
    chosen = chosen[:most]
    # the first ones may be those that the line itself lost
    most_struck = max(by_flow, key=len)
    opening.append(most_struck[len(most_struck) // 2])
    chosen += [at for at in dict.fromkeys(opening) if at not in chosen]
    if len({unit[at].ends for at in struck}) > 1:  # one packet may have condemned a host
        chosen += openers(unit, firsts[0], chosen)
    return chosen


def openers(unit: Probe, first: int, known: Sequence[int], most: int = OPENERS) -> list[int]:
    """Return packets before the first one that shows an effect which say what a flow is for: a
    name, a hello or STUN; of each name one, the latest first. known: packets that are left out."""
    seen = {(one.kind, one.name) for one in (read(unit[at]) for at in known)}
    result: list[int] = []
    for at in reversed(range(first)):
        reading = read(unit[at])
        key = reading.kind, reading.name
        if (reading.name or reading.hello or reading.method >= 0) and key not in seen:
            seen.add(key)
            result.append(at)
            if len(result) == most:
                break
    return result


def windows_with_ends(
    unit: Probe, where: dict[int, Place], shows: np.ndarray[Any, Any]
) -> Iterator[Match]:  # fmt: skip
    """Yield the windows of packets and of seconds of flows in which the effect begins and ends, the
    window of sizes that show it, and the code points that do, where these are several ones.

    shows: float64[packets], how surely each packet shows the effect.
    """
    points = code_points_of(one for one, hit in zip(unit, shows, strict=True) if hit > 0.5)
    if len(points) > 1:
        yield {"dscp": [word_of(one) for one in points]}
    yield from size_windows(unit, shows)
    for ends in flows_of(unit):
        own = [at for at, one in enumerate(unit) if one.ends == ends and at in where]
        hit = [at for at in own if shows[at] > 0.5]
        if len(hit) > AFTER_END and hit[-1] in own[:-AFTER_END]:
            yield {"packets": f"{where[hit[0]].packets}-{where[hit[-1]].packets}"}
            begin, end = (where[at].age for at in (hit[0], hit[-1]))
            if end > begin:
                low, high = math.floor(begin * 100) / 100, math.ceil(end * 100) / 100
                yield {"seconds": f"{low:g}-{high:g}"}


def size_of(one: Sent) -> int:
    """Return the octets of a payload as the box sees it: of what a kernel sends as several segments
    those of the first one."""
    octets = len(one.payload)
    return min(octets, SEGMENT) if one.ends.proto == TCP else octets


def size_windows(unit: Probe, shows: np.ndarray[Any, Any]) -> Iterator[Match]:
    """Yield the sizes of the packets of each transport and direction that show an effect, where
    smaller and larger ones do not; and of the flows and directions with the most such packets the
    sizes from, or up to, which they show it."""
    for sizes, hit in sizes_by(unit, shows, lambda one: (one.ends.proto, one.up)):
        if min(sizes) < min(hit) and max(hit) < max(sizes):
            yield {"size": f"{min(hit)}-{max(hit)}"}
    of_flows = sizes_by(unit, shows, lambda one: (one.ends, one.up))
    for sizes, hit in sorted(of_flows, key=lambda one: -len(one[1]))[:BUSY_FLOWS]:
        if min(sizes) < min(hit):
            yield {"size": f"{min(hit)}-"}
        if max(hit) < max(sizes):
            yield {"size": f"1-{max(hit)}"}


def sizes_by(
    unit: Probe, shows: np.ndarray[Any, Any], key_of: Callable[[Sent], Hashable]
) -> Iterator[tuple[list[int], list[int]]]:
    """Yield of each group of packets with a payload, some of which show an effect, their sizes, and
    those of the ones that show it. key_of: what the packets of a group have in common."""
    sizes: dict[Hashable, list[int]] = {}
    hits: dict[Hashable, list[int]] = {}
    for one, shown in zip(unit, shows, strict=True):
        if one.payload:
            sizes.setdefault(key_of(one), []).append(size_of(one))
            if shown > 0.5:
                hits.setdefault(key_of(one), []).append(size_of(one))
    yield from ((sizes[key], hit) for key, hit in hits.items())


def allowance(through: Passing, first: int, struck: int) -> list[dict[str, Any]]:
    """Return the allowances of `after` that a flow has used up when a packet is struck: of packets
    and octets of both directions, or of this packet's alone.

    first: the packet that met the match; struck: the first packet that is struck, of one flow. The
    seconds end between that one and the packet of its flow before it.
    """
    a, b = np.flatnonzero(through.packet == first), np.flatnonzero(through.packet == struck)
    if not len(a) or not len(b) or through.flow[a[0]] != through.flow[b[0]] or a[0] >= b[0]:
        return []
    begin, end = int(a[0]), int(b[0])
    up = through.unit[struck].up
    result: list[dict[str, Any]] = []
    for way in (None, "up" if up else "down"):
        only = {} if way is None else {"direction": way}
        (sent, octets), (later, more) = through.counts(begin, way), through.counts(end, way)
        counted = int(way is None or through.unit[first].up == up)
        packets = later - sent + counted - 1
        octets = more - octets + counted * _own(through, begin)
        octets -= max(_own(through, end) // 2, 1)
        if packets > 0:
            result.append({"packets": packets} | only)
        if octets > 0:
            result.append({"bytes": octets} | only)
    own = np.flatnonzero(through.flow[: b[0]] == through.flow[b[0]])
    middle = (int(through.time[b[0]]) + int(through.time[own[-1]])) / 2
    seconds = (middle - int(through.time[a[0]])) / 1e9
    if seconds > 0.02:
        result.append({"seconds": round(seconds, 3)})
    return result


def _own(through: Passing, at: int) -> int:
    """Return the octets of a frame."""
    end = int(through.offset[at + 1]) if at + 1 < len(through.offset) else len(through.data)
    return end - int(through.offset[at])
