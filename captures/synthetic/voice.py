# SPDX-License-Identifier: GPL-2.0-or-later
"""Voice: times and sizes of a talker's packets, the same for every app that sends voice frames."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from midcall.captures.wire.seeded import MS, SECOND, SeededRandom


class Frame(NamedTuple):
    """One voice packet: when (ns), its size, whether it begins a talk spurt, steps of silence."""

    time: int
    size: int
    first: bool
    skipped: int


class Talker(NamedTuple):
    """The parameters of one side's voice.

    every_ms: packet interval; speech, quiet: (least, most) bytes of a packet while talking and
    while silent; silent_every: packets between two comfort packets in silence (1: no gaps);
    jitter_us: how late a packet may be, less than half of the interval.
    """

    every_ms: int
    speech: tuple[int, int]
    quiet: tuple[int, int]
    silent_every: int = 1
    jitter_us: int = 2500


def talk(dice: SeededRandom, talker: Talker, start: int, seconds: float) -> Iterator[Frame]:
    """Yield the packets of one side from start on.

    Spurts last 0.5 to 1.5 s and pauses 0.8 to 2.4 s: means of 1.0 and 1.6 s, those of ITU-T P.59.
    """
    interval = talker.every_ms * MS
    total = int(seconds * SECOND) // interval
    talking, left = not dice.one_in(2), 0
    size, skipped, first = sum(talker.speech) // 2, 0, True
    for number in range(total):
        if left == 0:
            talking = not talking if number else talking
            span = dice.number(500, 1500) if talking else dice.number(800, 2400)
            left = max(span // talker.every_ms, 1)
            first = first or talking
        left -= 1
        if not talking and number % talker.silent_every:
            skipped += 1
            continue
        low, high = talker.speech if talking else talker.quiet
        size = min(max((2 * size + dice.number(low, high)) // 3, low), high)
        late = dice.number(0, talker.jitter_us) * 1000
        yield Frame(start + number * interval + late, size, first, skipped)
        skipped, first = 0, False
