# SPDX-License-Identifier: BSD-3-Clause
"""Code points of Differentiated Services: those of a capture, and what a line itself makes of them.

An access network may rewrite code points, most often to 0. Controls with the capture's code points
show that; a packet counts as marked by a rule where it comes with a code point that the line does
not explain.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from midcall.captures.packets.numbers import TCP
from midcall.experiments.probe.prober import Outcome
from midcall.testbed.policy.syntax import CODE_POINTS
from midcall.testbed.probing.probe import Sent

#: Code points of which the first one that a capture does not use is tried in its packets.
UNUSED = (CODE_POINTS["cs1"], CODE_POINTS["af11"], CODE_POINTS["cs2"])
WORDS = {number: word for word, number in CODE_POINTS.items() if number}


def word_of(dscp: int) -> int | str:
    """Return a code point as the policy language writes it."""
    return WORDS.get(dscp, dscp)


def code_points_of(packets: Iterable[Sent]) -> tuple[int, ...]:
    """Return the code points of a capture, the smallest first; () where all packets have 0."""
    found = sorted({one.dscp for one in packets})
    return tuple(found) if found != [0] else ()


def code_points_tried(packets: Iterable[Sent]) -> tuple[int, ...]:
    """Return the code points of a capture, 0, and one that it does not use; () where all its
    packets have 0."""
    found = code_points_of(packets)
    other = next(number for number in UNUSED if number not in found)
    return tuple(dict.fromkeys((*found, 0, other))) if found else ()


def rewrites_of(controls: Sequence[Outcome]) -> dict[tuple[bool, int], int]:
    """Return the code point with which datagrams come, by (upwards, code point sent); {} where the
    line rewrites none. What most datagrams of one kind of control keep, the line does not rewrite.

    controls: as played before the prober knows what the line rewrites.
    """
    came: dict[tuple[bool, int], Counter[int]] = {}
    for outcome in controls:
        own: dict[tuple[bool, int], Counter[int]] = {}
        for at, one in enumerate(outcome.unit):
            if outcome.points is not None and one.ends.proto != TCP:
                points = outcome.points[outcome.delay[:, at] >= 0, at]
                counts = own.setdefault((one.up, one.dscp), Counter())
                counts.update(np.where(points >= 0, points, one.dscp).tolist())
        for key, counts in own.items():
            came.setdefault(key, Counter()).update(dict(counts.most_common(1)))
    usual = {key: key[1] if key[1] in counts else counts.most_common(1)[0][0]
             for key, counts in came.items() if counts}  # fmt: skip
    return usual if any(point != sent for (_, sent), point in usual.items()) else {}


def is_bleaching(rewrites: Mapping[tuple[bool, int], int]) -> bool:
    """Return whether a line sets all code points to 0, as many access networks do."""
    others = [came for (_, sent), came in rewrites.items() if sent]
    return bool(others) and not any(others)


def marks_of(rewrites: Mapping[tuple[bool, int], int]) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield the conditions under which all datagrams of a line come with another code point, and
    that code point; nothing for a line that sets all of them to 0.

    Where every code point that was tried becomes the same one, the condition is that it is a
    datagram: the code points of streams are not known.
    """
    if is_bleaching(rewrites):
        return
    tried = {sent for _, sent in rewrites}
    for came in sorted({came for (_, sent), came in rewrites.items() if came != sent}):
        by_way = {up: {sent for (way, sent), other in rewrites.items()
                       if way == up and other == came} for up in (True, False)}  # fmt: skip
        sources = {up: sent - {came} for up, sent in by_way.items()}
        ways = [None] if sources[True] == sources[False] else [True, False]
        for way in ways:
            own = sources[way is not False]
            if own:
                whole = own | {came} >= tried
                match: dict[str, Any] = {"protocol": "udp"} if whole else {
                    "dscp": [word_of(one) for one in sorted(own)]}  # fmt: skip
                yield match | ({} if way is None else {"direction": "up" if way else "down"}), came
