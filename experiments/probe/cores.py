# SPDX-License-Identifier: BSD-3-Clause
"""The fewest packets of a unit that bring a hypothesis about."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, pairwise

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.numbers import TCP
from midcall.experiments.localise.messages import noise
from midcall.experiments.localise.run import shorten_gaps
from midcall.experiments.probe.beliefs import COUNTS, Hypothesis
from midcall.experiments.probe.effects import Finding
from midcall.experiments.probe.excerpts import OPENED
from midcall.experiments.probe.line_oracle import DROP
from midcall.experiments.probe.plays import Plays, place_of
from midcall.experiments.probe.prober import MS
from midcall.experiments.probe.units import repeated_unit, zeros
from midcall.testbed.policy.language import Rule
from midcall.testbed.probing.probe import Ends, Probe, Sent, in_order
from midcall.testbed.probing.strikes import strikes

#: Share of copies from which a packet counts as lost.
MOSTLY = 0.5
#: Packets of a core beyond which some are left out, where the rule strikes the last one without
#: them, too, and how far apart the others are, in ns.
FEW, THINNED = 100, 400 * MS
#: Between two packets of a stream in different directions, in ns, at least.
TURN = 150 * MS
#: Packets that a rule would strike which are added to a core of which it strikes none: close
#: packets of the other direction meet the box late.
LONGER = (4, 24, 44, 64)


def core_of(plays: Plays, best: Hypothesis, unit: Probe, finding: Finding, forged: bool) -> Probe:
    """Return the fewest packets of a unit that bring a hypothesis about, of the flow
    (and direction) that shows the effect, if it does: what others show may be another rule's.
    """
    keys = best.keys
    through = plays.through(unit, False)
    # media that are dropped may come behind what meets the match
    plain = best._replace(scope="flow" if best.media else "packet", way=None, after="").rule()
    if plain is None:
        return shorten_gaps(unit[:1])
    hits = np.flatnonzero(strikes(through, [plain]).struck[0])
    for taken in (plays.blocked(unit), plays.decided(unit, False)):
        spared = ~taken[hits]
        hits = hits[spared] if spared.any() else hits
    if finding.kind == DROP and not best.after:
        hits = lost_of(plays, unit, hits)
    datagrams = [at for at in hits if unit[at].ends.proto != TCP]
    if datagrams and not forged:  # what a stream shows depends on what its kernels resend
        hits = np.array(datagrams)
    place = place_of(finding)[1:]
    for width in (2, 1):
        same = [at for at in hits if place[:width] == place_of(
            finding._replace(ends=unit[at].ends, up=unit[at].up))[1 : 1 + width]]  # fmt: skip
        if same:
            hits = np.array(same)
            break
    at = int(hits[0]) if len(hits) else 0
    one = unit[at]
    needs = keys.keys() & {*COUNTS, "app", "role"}
    own = in_order(other for other in unit[: at + 1] if other.ends == one.ends)
    if needs:
        shorten = "seconds" not in keys
        later = [int(hit) for hit in hits if unit[hit].ends == one.ends and unit[hit].up == one.up]
        shortest = up_to(plays, plain, unit[: at + 1], shorten)
        longer = (up_to(plays, plain, unit[: later[more] + 1], shorten)
                  for more in LONGER if more < len(later))  # fmt: skip
        whole = next((part for part in chain([shortest], longer) if strikes(
            plays.through(part, True), [plain]).struck[0].any()), shortest)  # fmt: skip
        if best.condemns:
            whole = until_struck(plays, plain, whole)
        if len(whole) <= FEW:
            return whole
        few = thinned(whole)
        return few if strikes(plays.through(few, True), [plain]).struck[0, -1] else whole
    core: Probe = (one._replace(time=0),)
    if not one.up and one.ends.proto != TCP:
        # a NAT lets nothing in before something went out
        cores = [(one._replace(time=0, up=True, payload=body, before=()), one._replace(time=OPENED))
                 for body in (noise(8, "opener"), zeros(8, "opener"))]  # fmt: skip
        idle = [one for one in cores
                if not strikes(plays.through(one, True), [plain]).struck[0, 0]]  # fmt: skip
        core = (idle or cores)[0]
    if one.ends.proto != TCP and not is_struck_again(plays, plain, core):
        return shorten_gaps(own)  # what the packet is depends on those before it
    return core


def lost_of(plays: Plays, unit: Probe, hits: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return those of some packets that are lost in a play of a unit, all of them if none is known:
    a rule before the one that is looked for may let others pass. hits: their places."""
    for outcome in plays.shown:
        if outcome.unit == unit:
            lost = hits[outcome.lost[:, hits].mean(axis=0) > MOSTLY]
            return lost if len(lost) else hits
    return hits


def in_context(plays: Plays, rule: Rule, packets: Probe, shorten: bool) -> Probe:
    """Return the last packet's flow, with another flow or with all where it needs their packets for
    a rule to strike it: what app a flow is of may follow from others. () where it is never struck.

    packets: those up to the last one; shorten: see `packets_of`.
    """
    own = packets[-1].ends
    others = [ends for ends in dict.fromkeys(one.ends for one in reversed(packets)) if ends != own]
    for needed in ({own}, *({own, ends} for ends in others), {own, *others}):
        core = packets_of((one for one in packets if one.ends in needed), shorten)
        if strikes(plays.through(core, True), [rule]).struck[0, -1]:
            return core
    return ()


def up_to(plays: Plays, rule: Rule, part: Probe, shorten: bool) -> Probe:
    """Return the packets of the flow of a part's last one, and of other flows, that a rule needs to
    strike that. shorten: the gaps between them, too."""
    own = in_order(one for one in part if one.ends == part[-1].ends)
    return in_context(plays, rule, part, shorten) or packets_of(own, shorten)


def until_struck(plays: Plays, rule: Rule, core: Probe) -> Probe:
    """Return a core up to the first packet that a rule strikes and that no other rule decides: what
    comes behind it is condemned whatever it is. Packets sent behind it may meet the box before it:
    they remain as far as the rule needs them."""

    def hits(part: Probe) -> NDArray[np.bool_]:
        struck = strikes(plays.through(part, True), [rule]).struck[0]
        return np.asarray(struck & ~plays.decided(part, True))

    struck = hits(core)
    if not struck.any():
        return core
    ends = range(int(struck.argmax()) + 1, len(core))
    return next((core[:end] for end in ends if hits(core[:end]).any()), core)


def packets_of(packets: Iterable[Sent], shorten: bool) -> Probe:
    """Return packets in the order of their times. shorten: whether without long gaps; the ends of a
    stream then wait for each other's packets."""
    core = in_order(packets)
    return in_turns(shorten_gaps(core)) if shorten else core


def in_turns(core: Probe) -> Probe:
    """Return a flow whose ends wait for each other's packets: of a stream, a packet of the other
    direction would else meet the box before the one that it answers."""
    packets = list(core[:1])
    for before, one in pairwise(core):
        turns = one.ends.proto == TCP and one.up != before.up
        gap = max(one.time - before.time, TURN if turns else 0)
        packets.append(one._replace(time=packets[-1].time + gap))
    return tuple(packets)


def thinned(core: Probe) -> Probe:
    """Return the last packet of a core, and of the others of each flow and direction the first one,
    and those that come THINNED or more after one that is kept: a window of seconds needs no more.
    """
    kept: list[Sent] = []
    known: dict[tuple[Ends, bool], int] = {}
    for one in core[:-1]:
        last = known.get((one.ends, one.up))
        if last is None or one.time - last >= THINNED:
            known[one.ends, one.up] = one.time
            kept.append(one)
    return (*kept, *core[-1:])


def is_struck_again(plays: Plays, rule: Rule, core: Probe) -> bool:
    """Return whether a rule strikes the last packet of a core when it comes again, too."""
    unit = repeated_unit(core, 4, 15 * MS)
    struck = strikes(plays.through(unit, True), [rule]).struck[0]
    again = [hit for one, hit in zip(unit, struck, strict=True)
             if one.payload == core[-1].payload and one.up == core[-1].up]  # fmt: skip
    return bool(2 * sum(again) > len(again))
