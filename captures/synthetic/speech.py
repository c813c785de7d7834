# SPDX-License-Identifier: GPL-2.0-or-later
"""Speech: the RTP packets of both sides of a call, sent on a flow."""

from __future__ import annotations

from collections.abc import Callable

from midcall.captures.synthetic.scene import Udp
from midcall.captures.synthetic.voice import Talker, talk
from midcall.captures.wire.rtp import Stream

Framing = Callable[[bytes, bool], bytes]


def as_is(packet: bytes, up: bool) -> bytes:
    """Return an RTP packet as the whole payload."""
    return packet


def converse(
    flow: Udp,
    streams: tuple[Stream, Stream],
    talkers: tuple[Talker, Talker],
    start: int,
    seconds: float,
    framing: Framing = as_is,
) -> None:
    """Send both sides' voice, the first of each pair from source to target."""
    for up, stream, talker in zip((True, False), streams, talkers, strict=True):
        for frame in talk(stream.dice.child("talk"), talker, start, seconds):
            stream.pause(frame.skipped)
            payload = stream.packet(frame.size, frame.first)
            flow.either(frame.time, up, framing(payload, up))


def report(
    flow: Udp,
    streams: tuple[Stream, Stream],
    start: int,
    end: int,
    every: int,
    kinds: tuple[int, int] = (200, 200),
    words: int = 6,
    extra: int = 40,
    framing: Framing = as_is,
) -> None:
    """Send both sides' RTCP from start to end (ns), one each per interval."""
    for at in range(start, end, every):
        for up, stream, kind in zip((True, False), streams, kinds, strict=True):
            late = stream.dice.number(0, every // 3)
            flow.either(at + late, up, framing(stream.report(kind, words, extra), up))
