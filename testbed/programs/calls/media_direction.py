# SPDX-License-Identifier: BSD-3-Clause
"""The two directions of a live call's media: what was sent, what came, when, and how it sounded.

Where media goes in datagrams, the taps tell: a datagram that left one end is found again at the
other by its octets. Through TLS or TCP a tap sees segments, which are sent again when lost, so
there the programs' own statistics count. Both end in what the E-model takes
(testbed.assess.quality).
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
from midcall.testbed.assess.quality import FEWEST, LOSS_RANGE, Heard, Rating, hear, rate
from midcall.testbed.programs.calls.report import CALLEE, CALLER, MEDIA, RELAY, Account

Numbers = NDArray[np.int64]

UP, DOWN = "up", "down"
#: Numbers of the caller's and the server's tap in testbed.live.network.Ports.
NEAR_TAP, FAR_TAP = 0, 3
TAPS, PROGRAM = "taps", "program"


class Way(NamedTuple):
    """One direction. source: who counted, TAPS or PROGRAM; heard: None where nothing was to come;
    said: the same as the programs tell, whoever counted, to compare like with like.

    heard_s: seconds of audio that the receiving program played and did not make up; concealed: the
    share that it made up; frozen_s: seconds of frozen video; None where it does not say.
    """

    source: str
    heard: Heard | None
    said: Heard | None
    heard_s: float | None
    concealed: float | None
    frozen_s: float | None


def ways(account: Account, rows: Records, store: NDArray[np.uint8]) -> dict[str, Way]:
    """Return both directions; rows, store: what testbed.live.network.taps saw of the call."""
    voice = account.plan.media == "audio"
    tapped = {} if by_stream(account) else datagrams(account, rows, store)
    return {
        name: way(account, sender, receiver, tapped.get(name), voice)
        for name, sender, receiver in ((UP, CALLER, CALLEE), (DOWN, CALLEE, CALLER))
    }


def by_stream(account: Account) -> bool:
    """Tell whether a call's media went by TCP or TLS, for a while at least."""
    return any(relay in ("tcp", "tls") for relay in account.end(CALLER).relays)


def way(
    account: Account,
    sender: str,
    receiver: str,
    tapped: tuple[Numbers, Numbers] | None,
    voice: bool,
) -> Way:
    """Return one direction; tapped: when each packet was sent and came (-1: never), ns."""
    streams = [one for one in account.end(receiver).streams if not one.out]
    audio = next((one for one in streams if one.kind == "audio"), None)
    video = next((one for one in streams if one.kind == "video"), None)
    played = (
        audio.heard_s if audio else None,
        audio.concealed if audio else None,
        video.frozen_s if video else None,
    )
    said = by_word(account, sender, receiver, voice)
    if tapped is None:
        return Way(PROGRAM, said, said, *played)
    return Way(TAPS, hear(*tapped, voice), said, *played)


def control_of(way: Way, control: Way) -> Heard | None:
    """Return the control of a direction, counted by whoever counted the direction."""
    return control.said if way.source == PROGRAM else control.heard


def by_word(account: Account, sender: str, receiver: str, voice: bool) -> Heard | None:
    """Return a direction as the programs tell: sent by one, received by the other, RTCP's delay."""
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
    return Heard(
        expected, arrived, loss, 0.0, delay, max(jitters) if jitters else None, 1.0, *rated,
        loss > LOSS_RANGE,
    )  # fmt: skip


# ---- taps


def datagrams(
    account: Account, rows: Records, store: NDArray[np.uint8]
) -> dict[str, tuple[Numbers, Numbers]]:
    """Return, per direction, when each datagram of media was sent and when it came, -1: never."""
    tuples = {
        (flow.local, flow.local_port, flow.remote, flow.remote_port)
        for flow in account.end(CALLER).flows
        if flow.proto == "udp" and flow.role in (MEDIA, RELAY)
    }
    tuples |= {(*key[2:], *key[:2]) for key in tuples}
    left, came = (
        {
            UP: seen(rows, store, NEAR_TAP if out else FAR_TAP, tuples, out),
            DOWN: seen(rows, store, FAR_TAP if out else NEAR_TAP, tuples, out),
        }
        for out in (True, False)
    )
    return {name: paired(left[name], came[name]) for name in (UP, DOWN)}


Key = tuple[str, int, str, int]
#: When, ns; 5-tuple; payload.
Seen = tuple[int, Key, bytes]
Waiting = dict[tuple[Key, bytes], deque[int]]


def seen(
    rows: Records, store: NDArray[np.uint8], tap: int, tuples: set[Key], out: bool
) -> list[Seen]:
    """Return (ns, 5-tuple, payload) of the media that left or came at a tap, in order of time."""
    chosen = rows[(rows["tap"] == tap) & (rows["out"] == out)]
    found = []
    for row in chosen[np.argsort(chosen["stamp"], kind="stable")]:
        at = int(row["at"])
        key, body = udp(store[at : at + int(row["size"])].tobytes())
        if key in tuples and is_media(body):
            found.append((int(row["stamp"]), key, body))
    return found


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
    """Tell RTP, alone or in TURN's ChannelData, from all else (RFC 7983, RFC 5761)."""
    if len(payload) > 16 and 64 <= payload[0] < 80:
        payload = payload[4:]
    return len(payload) > 12 and payload[0] >> 6 == 2 and not 192 <= payload[1] < 224


def paired(left: list[Seen], came: list[Seen]) -> tuple[Numbers, Numbers]:
    """Return when each packet was sent, in order, and when the same octets came, -1: never."""
    waiting: Waiting = defaultdict(deque)
    for when, key, body in came:
        waiting[key, body].append(when)
    sent = np.array([when for when, _, _ in left], np.int64)
    return sent, np.array(list(first_of(left, waiting)), np.int64).reshape(len(sent))


def first_of(left: list[Seen], waiting: Waiting) -> Iterator[int]:
    """Yield when each packet came; what was sent twice came in the order in which it was sent."""
    for _, key, body in left:
        held = waiting[key, body]
        yield held.popleft() if held else -1
