# SPDX-License-Identifier: BSD-3-Clause
"""The two directions of a live call's media: packets sent and received, times, and quality.

Media in datagrams is measured by the taps: a datagram that left one end is matched at the other by
its octets. Through TLS or TCP a tap records segments, which are sent again when lost, so there the
programs' own statistics are used. Both give the inputs of the E-model (testbed.assess.quality).
"""

from __future__ import annotations

import ipaddress
from collections import defaultdict, deque
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.headers import ends, layers, payload
from midcall.captures.packets.numbers import UDP
from midcall.classifier.state.flow_table import Records
from midcall.testbed.assess.quality import FEWEST, LOSS_RANGE, DirectionQuality, Rating, hear, rate
from midcall.testbed.programs.calls.report import CALLEE, CALLER, MEDIA, RELAY, Account

Numbers = NDArray[np.int64]

UP, DOWN = "up", "down"
#: Numbers of the caller's and the server's tap in testbed.live.network.Ports.
CALLER_TAP, SERVER_TAP = 0, 3
TAPS, PROGRAM = "taps", "program"


class Direction(NamedTuple):
    """One direction. source: of the counts, TAPS or PROGRAM; heard: the quality by that source,
    None where no media was expected; reported: the quality by the programs' reports in any case, to
    compare two directions by the same source.

    heard_s: seconds of received audio that the program played; concealed: share of the audio that
    it concealed; frozen_s: seconds of frozen video; None where it reports none.
    """

    source: str
    heard: DirectionQuality | None
    reported: DirectionQuality | None
    heard_s: float | None
    concealed: float | None
    frozen_s: float | None


def ways(account: Account, rows: Records, store: NDArray[np.uint8]) -> dict[str, Direction]:
    """Return both directions; rows, store: records of testbed.live.network.taps of the call."""
    voice = account.plan.media == "audio"
    tapped = {} if by_stream(account) else datagrams(account, rows, store)
    return {
        name: way(account, sender, receiver, tapped.get(name), voice)
        for name, sender, receiver in ((UP, CALLER, CALLEE), (DOWN, CALLEE, CALLER))
    }


def by_stream(account: Account) -> bool:
    """Tell whether a call's media went by TCP or TLS, at least for a time."""
    return any(relay in ("tcp", "tls") for relay in account.end(CALLER).relays)


def way(
    account: Account,
    sender: str,
    receiver: str,
    tapped: tuple[Numbers, Numbers] | None,
    voice: bool,
) -> Direction:
    """Return one direction; tapped: when each packet was sent and arrived (-1: never), ns."""
    streams = [one for one in account.end(receiver).streams if not one.out]
    audio = next((one for one in streams if one.kind == "audio"), None)
    video = next((one for one in streams if one.kind == "video"), None)
    played = (
        audio.heard_s if audio else None,
        audio.concealed if audio else None,
        video.frozen_s if video else None,
    )
    reported = by_report(account, sender, receiver, voice)
    if tapped is None:
        return Direction(PROGRAM, reported, reported, *played)
    return Direction(TAPS, hear(*tapped, voice), reported, *played)


def control_of(way: Direction, control: Direction) -> DirectionQuality | None:
    """Return the quality of a direction's control, by the same source as the direction."""
    return control.reported if way.source == PROGRAM else control.heard


def by_report(account: Account, sender: str, receiver: str, voice: bool) -> DirectionQuality | None:
    """Return the quality of a direction by the programs' reports: packets, and RTCP's delay."""
    sent = [one for one in account.end(sender).streams if one.out]
    came = [one for one in account.end(receiver).streams if not one.out]
    expected, arrived = sum(one.sent for one in sent), sum(one.received for one in came)
    if not expected:
        return None
    arrived = min(arrived, expected)
    loss = 1 - arrived / expected
    trips = [one.round_trip_ms for one in sent if one.round_trip_ms is not None]
    jitters = [one.jitter_ms for one in came if one.jitter_ms is not None]
    delay = max(trips) / 2 if trips else None
    buffer = max((one.delay_ms for one in came if one.delay_ms is not None), default=0.0)
    rated: Rating = (None, None, None, None)
    if voice and arrived >= FEWEST and delay is not None:
        rated = rate(delay + buffer, loss, 1.0)
    return DirectionQuality(
        expected, arrived, loss, 0.0, delay, max(jitters) if jitters else None, 1.0, *rated,
        loss > LOSS_RANGE,
    )  # fmt: skip


# ---- taps


def datagrams(
    account: Account, rows: Records, store: NDArray[np.uint8]
) -> dict[str, tuple[Numbers, Numbers]]:
    """Return, per direction, when each datagram of media was sent and arrived, ns, -1: never."""
    tuples = {
        (flow.local, flow.local_port, flow.remote, flow.remote_port)
        for flow in account.end(CALLER).flows
        if flow.proto == "udp" and flow.role in (MEDIA, RELAY)
    }
    tuples |= {(*key[2:], *key[:2]) for key in tuples}
    left, came = (
        {
            UP: media_at_tap(rows, store, CALLER_TAP if out else SERVER_TAP, tuples, out),
            DOWN: media_at_tap(rows, store, SERVER_TAP if out else CALLER_TAP, tuples, out),
        }
        for out in (True, False)
    )
    return {name: paired(left[name], came[name]) for name in (UP, DOWN)}


Key = tuple[str, int, str, int]
#: Time, ns; 5-tuple; payload.
Datagram = tuple[int, Key, bytes]
Waiting = dict[tuple[Key, bytes], deque[int]]


def media_at_tap(
    rows: Records, store: NDArray[np.uint8], tap: int, tuples: set[Key], out: bool
) -> list[Datagram]:
    """Return (ns, 5-tuple, payload) of the media that left or came at a tap, in order of time."""
    chosen = rows[(rows["tap"] == tap) & (rows["out"] == out)]
    datagram_list = []
    for row in chosen[np.argsort(chosen["stamp"], kind="stable")]:
        at = int(row["at"])
        key, body = udp(store[at : at + int(row["size"])].tobytes())
        if key in tuples and is_media(body):
            datagram_list.append((int(row["stamp"]), key, body))
    return datagram_list


def udp(frame: bytes) -> tuple[Key, bytes]:
    """Return addresses, ports and payload of a datagram; of another frame ports 0."""
    stack = layers(frame, 1)
    if not stack or stack[-1].proto != UDP:
        return ("", 0, "", 0), b""
    source, target = ends(frame, stack[-1])
    start, end = payload(frame, stack[-1])
    texts = (str(ipaddress.ip_address(address)) for address, _ in (source, target))
    return (next(texts), source[1], next(texts), target[1]), frame[start:end]


def is_media(payload: bytes) -> bool:
    """Tell whether a payload is RTP, alone or in TURN's ChannelData (RFC 7983, RFC 5761)."""
    if len(payload) > 16 and 64 <= payload[0] < 80:
        payload = payload[4:]
    return len(payload) > 12 and payload[0] >> 6 == 2 and not 192 <= payload[1] < 224


def paired(left: list[Datagram], came: list[Datagram]) -> tuple[Numbers, Numbers]:
    """Return when each packet was sent, in order, and when its octets arrived, ns, -1: never."""
    waiting: Waiting = defaultdict(deque)
    for time, key, body in came:
        waiting[key, body].append(time)
    sent = np.array([time for time, _, _ in left], np.int64)
    return sent, np.array(list(first_of(left, waiting)), np.int64).reshape(len(sent))


def first_of(left: list[Datagram], waiting: Waiting) -> Iterator[int]:
    """Yield the arrival of each packet; identical packets arrive in the order of sending."""
    for _, key, body in left:
        arrivals = waiting[key, body]
        yield arrivals.popleft() if arrivals else -1
