# SPDX-License-Identifier: BSD-3-Clause
"""What a rule would strike but lets pass: kinds of payload, ports and addresses, an allow-list."""

from __future__ import annotations

import ipaddress
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from midcall.experiments.localise.messages import noise
from midcall.experiments.localise.mutations import flipped_bit
from midcall.experiments.localise.packet_fields import read
from midcall.experiments.probe.asking import edge
from midcall.experiments.probe.beliefs import WINDOWS
from midcall.experiments.probe.found import AllowList
from midcall.experiments.probe.line_oracle import DROP
from midcall.experiments.probe.refine import Refiner
from midcall.experiments.probe.tails import PAUSE
from midcall.experiments.probe.units import DNS, ends_of_kinds, other_kinds
from midcall.testbed.probing.probe import Ends, Probe, Sent

#: Keys of a match with which kinds of payload and ports may pass: it is on neither.
KEYS = {"protocol", "direction", "addresses", *WINDOWS}
#: Ports that an allow-list may have.
PORTS = (DNS, 80, 123, 443, 853)
#: Far addresses of the capture that are tried, and matches of those that pass, at most.
MOST_FARS, MOST_DESTINATIONS = 6, 3
#: Packets behind which the trigger is tried, at most, and what asks that.
MOST_BEFORE, IN_ORDER = 3, "what it spares behind the trigger, and before it"
#: Octets of a payload that are tried instead of a trigger's, at most, as a multiple of its own.
ALIKE = 1.5
#: Kinds of payload behind which noise may be taken for the same kind: a short header of QUIC has
#: one bit that is known, and begins as data in a channel do.
LIKE_NOISE = ("quic", "channel")


def destinations_of(capture: Probe, core: Probe) -> list[Ends]:
    """Return the ends of a core with the other far addresses of a capture, each with its port, of
    the core's protocols: those with the most packets first."""
    own = core[-1].ends
    counts = Counter(
        own._replace(far=one.ends.far, far_port=one.ends.far_port) for one in capture
        if one.ends.proto == own.proto and len(one.ends.far) == len(own.far)
        and one.ends.far != own.far
    )  # fmt: skip
    return [ends for ends, _ in counts.most_common(MOST_FARS)]


def allow_list(refiner: Refiner, capture: Probe, spares_kinds: bool = False) -> AllowList:
    """Return what a rule lets pass: far addresses of the capture; and, unless the match is on
    payloads, names or ports, of a drop, which few packets show, all kinds of payload and PORTS, of
    other acts the capture's kinds. What is tried is as large as the trigger, as far as it can be,
    and meets the match: elsewhere a payload may be of another kind. Where a rule strikes none of
    PORTS, its hypothesis gets the ports that it strikes. spares_kinds: whether the rule is known to
    strike all kinds of payload but a few, so that these are tried next to a match on ports, too.
    """
    keys = refiner.best.keys
    last = refiner.core[-1]
    kinds, ports = other_kinds(last), [one for one in PORTS if one != last.ends.far_port]
    if not keys or keys.keys() - KEYS:
        ports = []
    if not keys or keys.keys() - KEYS - ({"ports"} if spares_kinds else set()):
        kinds = {}
    elif refiner.sought.kind != DROP:
        known = {read(one).kind for one in capture if one.ends.proto == last.ends.proto}
        kinds, ports = {kind: one for kind, one in kinds.items() if kind in known}, []
    others = destinations_of(capture, refiner.core) if "addresses" not in keys else []
    form = refiner.tail.form
    refiner.take_form("again")  # whatever else followed, the rule would strike that
    try:
        kinds = {kind: one for kind, one in kinds.items() if meets(refiner, one)}
        return passing(refiner, kinds, ports, others)
    finally:
        refiner.take_form(form)


def meets(refiner: Refiner, last: Sent) -> bool:
    """Return whether a rule strikes its trigger with another last packet, or what follows that."""
    core = refiner.with_last(last)
    unit = refiner.tail.unit(core)
    return bool(refiner.tail.mask(refiner.best, unit, len(core)).any())


def passing(
    refiner: Refiner, kinds: Mapping[str, Sent], ports: Sequence[int], others: Sequence[Ends],
    instead: bool = True,
) -> AllowList:  # fmt: skip
    """Return what passes where each packet is followed by itself. instead: whether another kind of
    payload may take the trigger's place in the core, where the trigger passes."""
    if not (kinds or ports):
        return AllowList(tuple(passing_destinations(refiner, others)))
    last = refiner.core[-1]
    noisy = last._replace(payload=noise(max(60, len(last.payload)), "spared"))
    at_ports = [noisy._replace(ends=last.ends._replace(far_port=port)) for port in ports]
    tried = [*kinds.values(), *at_ports]
    cores = [refiner.core, *(refiner.with_last(one) for one in tried)]
    struck, *answers = refiner.ask(cores, "what an allow-list spares")
    passed = [kind for kind, hit in zip(kinds, answers, strict=False) if not hit]
    other = None if struck or not instead else struck_instead(kinds, answers, last)
    if other is not None:  # the trigger itself is of a kind that passes
        kinds = {kind: one for kind, one in kinds.items() if one is not other}
        refiner.core = refiner.with_last(other)
        return passing(refiner, {**kinds, read(last).kind: last}, ports, others, False)
    if not struck or (refiner.sought.kind == DROP and not any(answers)):
        return AllowList()  # the answers are about the trigger, not about exceptions
    at = answers[len(kinds) :]
    own_ports = refiner.ports(refiner.best.keys) if at and not any(at) else None
    if own_ports:  # what was sent to another port passes for that
        match = json.dumps(refiner.best.keys | {"ports": own_ports}, sort_keys=True)
        refiner.best = refiner.best._replace(match=match)
        passed = [kind for kind in passed if kinds[kind].ends == ends_of_kinds(last)]
    free = [] if own_ports else [
        port for port, one, hit in zip(ports, at_ports, at, strict=True)
        if not hit and read(one).kind not in passed
    ]  # fmt: skip
    to = passing_destinations(refiner, [
        ends for ends in others if ends.far_port not in free
        and read(last._replace(ends=ends)).kind not in passed
    ])  # fmt: skip
    free += [port for match in to if match.keys() == {"ports"}
             for port in match["ports"]]  # fmt: skip
    passed = [kind for kind in passed if kinds[kind].ends.far_port not in free]
    matches: list[dict[str, Any]] = [{"payload": passed}] if passed else []
    matches += [{"ports": sorted(free)}] if free else []
    matches += [match for match in to if match.keys() != {"ports"}]
    own = {kind: kinds[kind] for kind in passed if kinds[kind].ends == ends_of_kinds(last)}
    behind = whole = None
    if own:
        some = {kind: own[kind]
                for kind in sorted(own, key=LIKE_NOISE.__contains__)[:MOST_BEFORE]}  # fmt: skip
        core = refiner.with_last(last._replace(ends=ends_of_kinds(last)))
        moved = [one._replace(time=one.time + PAUSE) for one in core]
        # behind an allowance the rule has condemned the flow only once it has struck a packet
        condemned = refiner.tail.unit(core) if refiner.best.after else core
        end = condemned[-1].time + PAUSE
        later = [(*condemned, one._replace(time=end)) for one in some.values()]
        before = [(one._replace(time=0), *moved) for one in some.values()]
        arrives = [not hit for hit in refiner.ask([*later, *before], IN_ORDER)]
        behind = any(arrives[: len(later)])
        shown = [one for kind, one in zip(some, arrives[len(later) :], strict=True)
                 if kind not in LIKE_NOISE]  # fmt: skip
        whole = any(shown) if shown else None
    return AllowList(tuple(matches), behind, whole)


def struck_instead(
    kinds: Mapping[str, Sent], hits: Sequence[bool], last: Sent
) -> Sent | None:  # fmt: skip
    """Return the packet of another kind that is struck and about as large as a trigger, None where
    there is none: of much larger ones the size may be the reason. hits: of each kind."""
    most = ALIKE * len(last.payload)
    return next((one for one, hit in zip(kinds.values(), hits, strict=False)
                 if hit and len(one.payload) <= most and read(one).kind != read(last).kind
                 and one.ends == last.ends), None)  # fmt: skip


def passing_destinations(refiner: Refiner, others: Sequence[Ends]) -> list[dict[str, Any]]:
    """Return the addresses, ports, or both to which the trigger passes although it meets the match
    there. others: ends of it with other far addresses and ports."""
    last = refiner.core[-1]
    tried = [ends for ends in others if meets(refiner, last._replace(ends=ends))]

    def passes(some: Sequence[Ends]) -> list[bool]:
        cores = [refiner.with_last(last._replace(ends=ends)) for ends in some]
        hits = refiner.ask(cores, "which addresses an allow-list spares", keep_far=True,
                           unknown=True)  # fmt: skip
        return [not hit for hit in hits]

    left = [ends for ends, free in zip(tried, passes(tried), strict=True) if free]
    found: list[dict[str, Any]] = []
    while left and len(found) < MOST_DESTINATIONS:
        ends, port = left[0], left[0].far_port
        alone = last.ends._replace(far=ends.far)
        at_port = last.ends._replace(far_port=port)
        by_address, by_port = passes([alone, at_port])
        if by_port and at_port != last.ends:
            found.append({"ports": [port]})
            left = [one for one in left if one.far_port != port]
            continue
        shown = alone if by_address else ends

        def asks(bits: Sequence[float], shown: Ends = shown) -> list[bool]:
            return passes([shown._replace(far=flipped_bit(shown.far, int(bit))) for bit in bits])

        good, _ = edge(8 * len(ends.far), -1, asks, 1)
        if good == 0:
            return []  # every address passes: the answers are about the trigger
        network = ipaddress.ip_network((ends.far, int(good)), strict=False)
        found.append({"addresses": [str(network)]} | ({} if by_address else {"ports": [port]}))
        left = [one for one in left if ipaddress.ip_address(one.far) not in network
                or not (by_address or one.far_port == port)]  # fmt: skip
    return found
