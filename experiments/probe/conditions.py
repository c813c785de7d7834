# SPDX-License-Identifier: BSD-3-Clause
"""Conditions and hypotheses around an effect: of the packets of a unit that show it."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from midcall.captures.packets.numbers import TCP
from midcall.experiments.localise.packet_fields import read, with_before
from midcall.experiments.probe.atoms import (
    Match,
    allowance,
    atoms,
    places,
    references,
    windows_with_ends,
)
from midcall.experiments.probe.baseline import Baseline
from midcall.experiments.probe.beliefs import Beliefs, Hypothesis, combined, hypothesis
from midcall.experiments.probe.change_points import likeliest_window
from midcall.experiments.probe.effects import SHOWN, findings, groups_of
from midcall.experiments.probe.evidence import least_share
from midcall.experiments.probe.fit import affected_of, events_of, gains
from midcall.experiments.probe.line_oracle import DELAY, DROP, INJECT, PARTIAL, SHARES, Effect
from midcall.experiments.probe.plays import Plays
from midcall.experiments.probe.prober import Outcome
from midcall.experiments.probe.quotas import quotas
from midcall.experiments.probe.units import NAMED
from midcall.testbed.probing.probe import Ends, Probe, flow_numbers
from midcall.testbed.probing.strikes import Passing, strikes

#: Far addresses, or names, of a list that a rule may have, at most.
MOST_LISTED = 12
#: How many last labels the names below a listed pattern share.
LABELS = (3, 2)
#: Packets of a flow of which one may be the first that is struck after an allowance of seconds.
FIRST_STRUCK = 4
#: Log-likelihood ratio by which an end of condemnations must explain a unit better than none, and
#: the least time after which one ends, in s: packets less far apart show none.
SURE_END, LEAST_END = 8.0, 0.1
#: Log-likelihood ratio by which the begin or end of a share must explain more than none, and the
#: least share that is supposed.
SURE_BEGIN, LEAST_AMOUNT = 12.0, 0.1
#: Packets of one size that show whether it is struck, at least.
FEW_OF_SIZE = 8


def how_surely(outcome: Outcome, base: Baseline, sought: Effect) -> np.ndarray[Any, Any]:
    """Return how surely each packet of a unit shows an effect, float64[packets]."""
    if sought.kind == INJECT:
        hit = np.asarray(events_of(outcome).any(axis=0))
        shown_ = hit[flow_numbers(outcome.unit)].astype(float)
        dropped = how_surely(outcome, base, Effect(DROP, 1.0, sought.chance))
        return np.where(outcome.streams, shown_, np.maximum(shown_, dropped))
    affected, usable, other = affected_of(outcome, base, sought)
    count = usable.sum(axis=0)
    share = (affected & usable).sum(axis=0) / np.maximum(count, 1)
    least = np.maximum(0.6 * min(sought.chance, 1.0), 3 * other)
    if sought.kind in SHARES:
        least = np.full(len(share), min(0.2, 0.4 * max(sought.amount, LEAST_AMOUNT)))
        count = np.where(in_sure_groups(outcome, base, sought), count, 0)
        shows = (count > 0) & (share > least)
        return np.where(shows & in_windows(outcome, base, sought), 1.0, 0.0)
    return np.where((count > 0) & (share > least), 1.0, 0.0)


def in_windows(
    outcome: Outcome, base: Baseline, sought: Effect
) -> np.ndarray[Any, Any]:  # fmt: skip
    """Return which packets are in the window in which their flow and direction shows an effect of
    which they show a share, bool[packets]: the line itself may lose few copies of others. Of a
    stream it has no end."""
    affected, usable, other = affected_of(outcome, base, sought)
    result = np.ones(len(outcome.unit), bool)
    for ends, _, own in groups_of(outcome):
        rows, columns = np.nonzero(usable[:, own])
        seen = likeliest_window(
            columns.astype(np.float64), affected[:, own][rows, columns], other[own][columns],
            max(sought.amount, LEAST_AMOUNT), SURE_BEGIN,
        )  # fmt: skip
        if seen is not None:
            begin, end = seen
            result[own[: int(begin.value)]] = False
            if end is not None and ends.proto != TCP:
                result[own[int(end.value) + 1 :]] = False
    return result


def in_sure_groups(outcome: Outcome, base: Baseline, sought: Effect) -> np.ndarray[Any, Any]:
    """Return which packets are of a flow and direction that surely shows a share of an effect,
    bool[packets]; all where none does: the line itself may lose one packet of another as often."""
    kinds = (sought.kind, *((DROP,) if sought.kind == PARTIAL else ()),
             *((DELAY,) if sought.limit else ()))  # fmt: skip
    sure = {(one.ends, one.up) for one in findings(outcome, base)
            if one.kind in kinds and one.score > SHOWN}  # fmt: skip
    return np.array([not sure or (one.ends, one.up) in sure for one in outcome.unit])


def conditions_around(plays: Plays, outcome: Outcome, sought: Effect) -> list[Match]:
    """Return the conditions that packets around the effect meet."""
    through = plays.through(outcome.unit, False)
    where = places(through)
    shows = how_surely(outcome, plays.base, sought)
    if sought.detail == "block-page":  # a condemned client's other streams get a page, too
        requests = {one.ends for at, one in enumerate(outcome.unit) if one.payload and one.up
                    and read(with_before(outcome.unit, at)).where == "http"}  # fmt: skip
        shows = shows * [one.ends in requests for one in outcome.unit]
    found: dict[str, Match] = {}
    for at in references(outcome.unit, shows):
        if at in where:
            for part in atoms(outcome.unit, at, where[at]):
                found.setdefault(json.dumps(part, sort_keys=True), part)
    # which writes of a stream are sent again is chance, the last ones rarely among them
    ends = np.where(outcome.streams, 0.0, shows) if sought.kind in SHARES else shows
    for part in windows_with_ends(outcome.unit, where, ends):
        found.setdefault(json.dumps(part, sort_keys=True), part)
    fars = {str(ipaddress.ip_network(one.ends.far)): None
            for one, hit in zip(outcome.unit, shows, strict=True) if hit > 0.5}  # fmt: skip
    if found and 1 < len(fars) <= MOST_LISTED:
        found.setdefault(json.dumps(list(fars)), {"addresses": list(fars)})
    if found:
        lists = (*lists_of_names(outcome.unit, shows), *list_of_kinds(outcome, shows),
                 *lists_of_ports(outcome.unit, shows))  # fmt: skip
        found |= {json.dumps(one): one for one in lists}
    if plays.prober.fresh_far:  # addresses are drawn ones then, to which the effect does not belong
        return [one for one in found.values() if "addresses" not in one]
    return list(found.values())


def lists_of_ports(unit: Probe, shows: np.ndarray[Any, Any]) -> Iterator[Match]:
    """Yield the ports of the flows of which a packet shows an effect, of the streams and of the
    datagrams among them, where they are several: their range, and a list."""
    shown = {one.ends for one, hit in zip(unit, shows, strict=True) if hit > 0.5}
    streams = {ends for ends in shown if ends.proto == TCP}
    for flows in (shown, streams, shown - streams):
        ports = sorted({ends.far_port for ends in flows})
        if len(ports) > 1:
            yield {"ports": [f"{ports[0]}-{ports[-1]}"]}
            if len(ports) <= MOST_LISTED:
                yield {"ports": ports}


def lists_of_names(unit: Probe, shows: np.ndarray[Any, Any]) -> Iterator[Match]:
    """Yield lists of the names that flows ask for, or open with, of which a packet shows an effect:
    names that are asked for, server names, and server names of one protocol; each list also as
    patterns of the names' last labels."""
    flows = {one.ends for one, hit in zip(unit, shows, strict=True) if hit > 0.5}
    looked: dict[Ends, int] = dict.fromkeys(flows, 0)
    names: dict[str, list[str]] = {}  # by protocol
    for at, one in enumerate(unit):
        if one.payload and one.up and looked.get(one.ends, NAMED) < NAMED:
            looked[one.ends] += 1
            reading = read(with_before(unit, at))
            if reading.where and reading.name:
                names.setdefault(reading.where, []).append(reading.name)
    asked = names.pop("dns", [])
    servers = [name for listed in names.values() for name in listed]
    lists: list[tuple[str, list[str], Match]] = [("dns", asked, {}), ("name", servers, {})]
    lists += [("name", listed, {"name_in": [where]}) for where, listed in names.items()]
    for key, listed, more in lists:
        patterns = ([".".join(["*", *name.split(".")[-labels:]]) for name in listed]
                    for labels in LABELS)  # fmt: skip
        different = dict.fromkeys(tuple(dict.fromkeys(some)) for some in (listed, *patterns))
        yield from ({key: list(one)} | more for one in different if 1 < len(one) <= MOST_LISTED)


def list_of_kinds(outcome: Outcome, shows: np.ndarray[Any, Any]) -> Iterator[Match]:
    """Yield the kinds of payload of datagrams that mostly show an effect, if there are several, and
    others that mostly do not."""
    counts: dict[str, list[int]] = {}
    for at in np.flatnonzero(outcome.sent.any(axis=0) & ~outcome.streams):
        counts.setdefault(read(outcome.unit[at]).kind, []).append(int(shows[at] > 0.5))
    struck = [kind for kind, hits in counts.items() if 2 * sum(hits) > len(hits)]
    if 1 < len(struck) < len(counts):
        yield {"payload": struck}


def with_allowances(
    plays: Plays, parts: Sequence[Match], outcome: Outcome, sought: Effect
) -> Iterator[Hypothesis]:
    """Yield conditions with an allowance that fits what was seen: a flow meets the condition
    some packets before its first packet that shows the effect."""
    through = plays.through(outcome.unit, False)
    shows = how_surely(outcome, plays.base, sought)
    unit = outcome.unit
    # of a limit, whose numbers are measured, few matches have one
    wide = [] if sought.limit else [one for one in parts if one.keys() & {"protocol", "direction"}]
    matches = [*parts, *(joined_ for one in wide for other in parts
                         if (joined_ := combined(one, other)) is not None)]  # fmt: skip
    for plain, hits in met_by(through, matches):
        first = {unit[n].ends: int(n) for n in np.flatnonzero(hits)[::-1]}
        for ends, begin in first.items():
            struck = [n for n in range(begin, len(unit))
                      if unit[n].ends == ends and shows[n] > 0.5]  # fmt: skip
            if struck and struck[0] > begin:
                listed = allowance(through, begin, struck[0])
                for other in struck[1:FIRST_STRUCK]:  # a few copies may be struck earlier than most
                    listed += [one for one in allowance(through, begin, other) if "seconds" in one]
                up = unit[struck[0]].up
                way, back = ("up", "down") if up else ("down", "up")
                if ends.proto == TCP:  # what stops one direction may reach the other one first
                    of_back = [n for n in struck if unit[n].up != up][:1]
                    listed += [one for n in of_back for one in allowance(through, begin, n)
                               if one.get("direction") == back]  # fmt: skip
                for after in listed:
                    late = plain._replace(after=json.dumps(after))
                    for scope in ("flow", "packet"):
                        yield late._replace(scope=scope)
                    if sought.kind == DROP:
                        yield late._replace(scope="flow", media=True)
                        if ends.proto == TCP:  # without answers the other direction stops, too
                            yield late._replace(scope="flow", way=way)
                break
        for after in quotas(through, hits, shows > 0.5):
            for scope in ("flow", "packet"):
                yield plain._replace(after=json.dumps(after), scope=scope)


def met_by(
    through: Passing, matches: Sequence[Match]
) -> Iterator[tuple[Hypothesis, np.ndarray[Any, Any]]]:
    """Yield the matches that the language allows, as hypotheses on single packets, each with the
    packets of a unit that meet it, bool[packets]."""
    pairs = [(one, rule) for one in (hypothesis(match, "packet") for match in matches)
             if (rule := one.rule()) is not None]  # fmt: skip
    hits = strikes(through, [rule for _, rule in pairs]).struck
    yield from zip((one for one, _ in pairs), hits, strict=True)


def with_ends(
    plays: Plays, parts: Sequence[Match], outcome: Outcome, sought: Effect
) -> Iterator[Hypothesis]:
    """Yield conditions whose condemnations end within a unit: after the time since the last packet
    that meets the condition, of a flow or of any, which best separates packets that show the effect
    from others."""
    through = plays.through(outcome.unit, False)
    gain = gains(outcome, plays.base, sought)
    flows = flow_numbers(outcome.unit)
    for one, struck in met_by(through, parts):
        for scope, flow in (("flow", flows), ("client", np.zeros_like(flows))):
            lasts = end_between(since_last(outcome.unit, struck, flow), gain)
            if lasts is not None:
                yield one._replace(scope=scope, lasts=lasts)


def since_last(
    unit: Probe, struck: np.ndarray[Any, Any], flow: np.ndarray[Any, Any]
) -> np.ndarray[Any, Any]:
    """Return how long before each packet of a unit the last one of its flow was struck, in s,
    float64[packets], infinite where none was."""
    result, last = np.full(len(unit), np.inf), dict[int, int]()
    for at, one in enumerate(unit):
        if struck[at]:
            last[int(flow[at])] = one.time
        if int(flow[at]) in last:
            result[at] = (one.time - last[int(flow[at])]) / 1e9
    return result


def end_between(age: np.ndarray[Any, Any], gain: np.ndarray[Any, Any]) -> float | None:
    """Return the age at which packets no longer show an effect, in s; None where no age separates
    them well. gain: log-likelihood ratio of each packet that it shows the effect."""
    known = np.flatnonzero(np.isfinite(age))
    order = known[np.argsort(age[known], kind="stable")]
    ages = age[order]
    whole = np.concatenate([[0.0], np.cumsum(gain[order])])
    best = int(whole.argmax())
    if not 0 < best < len(ages) or ages[best] <= 0 or whole[best] - whole[-1] < SURE_END:
        return None
    lasts = round(float(ages[best - 1] + ages[best]) / 2, 3)
    return lasts if lasts >= LEAST_END else None


def sizes_seen(beliefs: Beliefs, base: Baseline, outcome: Outcome) -> Iterator[Match]:
    """Yield the likeliest hypothesis's window of sizes, widened to those of a unit's packets
    that show the effect."""
    window = str(beliefs.best.keys.get("size", ""))
    if "-" not in window:
        return
    low, high = (int(one) if one else None for one in window.split("-"))
    sought = beliefs.sought
    affected, usable, _ = affected_of(outcome, base, sought)
    sizes = np.array([len(one.payload) for one in outcome.unit])
    least = least_share(sought)
    for size in np.unique(sizes[sizes > 0]):
        own = usable[:, sizes == size]
        if own.sum() < FEW_OF_SIZE or (affected[:, sizes == size] & own).mean() < least:
            continue
        if low is not None and size < low:
            yield {"size": f"{size}-{high or ''}"}
        if high is not None and size > high:
            yield {"size": f"{low or 1}-{size}"}
