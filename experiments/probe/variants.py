# SPDX-License-Identifier: BSD-3-Clause
"""Hypotheses that probes may not distinguish from another one."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator

from midcall.experiments.probe.beliefs import (
    COUNTS,
    SCOPES,
    WINDOWS,
    Hypothesis,
    broken,
    without_media,
)

#: What flows share that a rule of a scope condemns together.
CONDEMNED = {"client": ("near",), "call": ("near",), "server": ("far",), "pair": ("near", "far"),
             "triple": ("near", "far", "far_port")}  # fmt: skip


def mechanism(one: Hypothesis) -> tuple[str | None, str, bool]:
    """Return the direction of the packets that a hypothesis strikes, its scope, and whether it
    strikes media alone."""
    way = one.way
    if way is None and one.scope == "packet":
        way = one.keys.get("direction")
    return way, one.scope, one.media


def alike(best: Hypothesis) -> Iterator[Hypothesis]:
    """Yield a hypothesis with every other scope, on media alone or on all instead, and on packets
    of one direction instead of that direction of their flows: what probes may not distinguish from
    it."""
    yield from without_media(best)
    yield from same_direction(best)
    if not best.media:
        yield from (best._replace(scope=scope) for scope in SCOPES)
    if best.after and best.scope in CONDEMNED:  # its flows may share the allowance alone
        after = json.dumps(best.allowance | {"per": best.scope})
        yield from (best._replace(scope=scope, after=after) for scope in ("packet", "flow"))
    rest = {key: value for key, value in best.keys.items() if key != "payload"}
    if best.scope == "packet" and not best.media:
        if rest and not broken(rest):
            yield best._replace(match=json.dumps(rest, sort_keys=True), scope="flow", media=True)
        if "payload" in best.keys:
            yield best._replace(scope="flow", media=True)


def other_subjects(best: Hypothesis) -> Iterator[Hypothesis]:
    """Yield a hypothesis with an allowance as one whose allowance another subject has: each flow,
    or what a rule of a scope condemns together; it strikes packets, flows or that subject."""
    if not best.after:
        return
    own = {key: value for key, value in best.allowance.items() if key != "per"}
    for scope in ("packet", "flow", *CONDEMNED):
        yield best._replace(scope=scope, after=json.dumps(own))
    for subject in CONDEMNED:
        after = json.dumps(own | {"per": subject})
        for scope in ("packet", "flow", subject):
            yield best._replace(scope=scope, after=after)


def same_direction(best: Hypothesis) -> Iterator[Hypothesis]:
    """Yield a hypothesis on single packets of one direction as one on that direction of their
    flows, and the other way round."""
    keys = best.keys
    way = keys.pop("direction", None)
    if way and best.scope == "packet" and not best.way and keys and not broken(keys):
        yield best._replace(match=json.dumps(keys, sort_keys=True), scope="flow", way=way)
    if best.way and best.scope == "flow" and not way:
        match = json.dumps(keys | {"direction": best.way}, sort_keys=True)
        yield best._replace(match=match, scope="packet", way=None)


def without_windows(best: Hypothesis) -> Iterator[Hypothesis]:
    """Yield a hypothesis, and it without some of the windows of its match and its allowance, each
    also with the flow as its scope."""
    own = [key for key in WINDOWS if key in best.keys]
    for some in itertools.chain.from_iterable(
        itertools.combinations(own, count) for count in range(len(own) + 1)
    ):
        rest = {key: value for key, value in best.keys.items() if key not in some}
        if rest and not broken(rest):
            one = best._replace(match=json.dumps(rest, sort_keys=True))
            plain = one._replace(after="")
            yield from dict.fromkeys(each._replace(scope=scope) for each in (one, plain)
                                     for scope in (best.scope, "flow"))  # fmt: skip


def other_ways(best: Hypothesis, up: bool) -> Iterator[Hypothesis]:
    """Yield a hypothesis of one direction as one of both, or one of both as one of the direction
    that shows an effect: the packets of the other one may be those of another rule."""
    rest = {key: value for key, value in best.keys.items() if key != "direction"}
    both = best._replace(match=json.dumps(rest, sort_keys=True), way=None)
    if not rest or broken(rest):
        return
    yield both
    way = "up" if up else "down"
    yield both._replace(match=json.dumps(rest | {"direction": way}, sort_keys=True))
    yield both._replace(way=way)


def as_allowance(best: Hypothesis) -> Iterator[Hypothesis]:
    """Yield a hypothesis with a window of its flow as one with an allowance instead, of the flow or
    of what the hypothesis condemns."""
    for key in COUNTS:
        low = str(best.keys.get(key, ""))
        if not low.endswith("-") or best.after:
            continue
        rest = {name: value for name, value in best.keys.items() if name != key}
        value = float(low[:-1]) - (0 if key == "seconds" else 1)
        if rest and value > 0:
            count = {key: value if key == "seconds" else int(value)}
            late = best._replace(match=json.dumps(rest, sort_keys=True), after=json.dumps(count))
            yield late
            if best.scope in CONDEMNED:
                shared = late._replace(after=json.dumps(count | {"per": best.scope}))
                yield from (shared._replace(scope=scope) for scope in ("packet", "flow"))


def of_subject(late: Iterable[Hypothesis], best: Hypothesis) -> Iterator[Hypothesis]:
    """Yield hypotheses with an allowance of a flow as those of the subject that another one has:
    what it condemns, or whose flows share its allowance."""
    pairs = {(best.scope, best.allowance.get("per"))}
    if best.scope in CONDEMNED:
        pairs |= {("flow", best.scope), ("packet", best.scope)}
    for one in late:
        for scope, subject in sorted(pairs, key=str):
            after = one.allowance | ({"per": subject} if subject else {})
            yield one._replace(scope="flow" if one.media else scope, after=json.dumps(after))
