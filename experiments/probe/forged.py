# SPDX-License-Identifier: BSD-3-Clause
"""Forged answers: which act they show, and whether what they answer arrives as well."""

from __future__ import annotations

import ipaddress
from collections import Counter
from typing import Any

import numpy as np

from midcall.captures.packets.numbers import TCP
from midcall.experiments.probe.fit import events_of
from midcall.experiments.probe.prober import NOT_SENT, Outcome
from midcall.testbed.probing.probe import Ends, flows_of
from midcall.testbed.probing.sockets import ENDED, RESET


def forged_act(outcome: Outcome) -> dict[str, Any]:
    """Return the act that explains the forged answers of a unit's copies."""
    to_client = to_server = page = answers = 0
    kinds = {RESET: 0, ENDED: 0}
    answer = ""
    for copy in range(len(outcome.delay)):
        for event in outcome.events[copy]:
            kinds[event.kind] += 1
            to_client += not event.up
            to_server += event.up
        for event in outcome.strange[copy]:
            if event.ends.proto == TCP:
                page += event.payload.startswith(b"HTTP/")
            else:
                answers += 1
                answer = answer_in(event.payload) or answer
    if answers:
        return {"act": "dns-lie", "answer": answer or "nxdomain"}
    if page:
        return {"act": "block-page"}
    act = "reset" if kinds[RESET] >= kinds[ENDED] else "finish"
    towards = "both"
    if to_client and not to_server:
        towards = "client"
    elif to_server and not to_client:
        towards = "server"
    return {"act": act, "towards": towards}


def of_same_act(outcome: Outcome, ends: Ends) -> Outcome:
    """Return an outcome in which flows say nothing that receive forged answers of another kind than
    one flow does, to whichever address: those are another rule's. A stream that receives a FIN may
    be reset behind it: what comes first in most copies counts."""
    firsts: dict[Ends, Counter[str]] = {}
    for some in zip(outcome.events, outcome.strange, strict=True):
        first: dict[Ends, str] = {}
        for event in sorted((*some[0], *some[1]), key=lambda one: one.time):
            page = event.payload.startswith(b"HTTP/")
            kind = "answer" if event.ends.proto != TCP else "page" if page else event.kind
            first[event.ends] = kind if page else first.get(event.ends, kind)
        for flow, kind in first.items():
            firsts.setdefault(flow, Counter())[kind] += 1
    kinds = {flow: "page" if "page" in count else count.most_common(1)[0][0]
             for flow, count in firsts.items()}  # fmt: skip
    near = ends._replace(far=b"")
    own = {kind for flow, kind in kinds.items() if flow._replace(far=b"") == near}
    other = {flow for flow, kind in kinds.items() if own and kind not in own}
    if not other:
        return outcome
    hit = np.array([one.ends in other for one in outcome.unit])
    events, strange = ([[one for one in some if one.ends not in other] for some in listed]
                       for listed in (outcome.events, outcome.strange))  # fmt: skip
    return outcome.without(hit)._replace(events=events, strange=strange)


def refused(outcome: Outcome) -> bool:
    """Return whether no stream that received a forged answer carried anything before."""
    answered = events_of(outcome)
    for number, ends in enumerate(flows_of(outcome.unit)):
        own = np.array([one.ends == ends for one in outcome.unit])
        if (outcome.delay[answered[:, number]][:, own] >= 0).any():
            return False
    return True


def questions_pass(outcome: Outcome) -> bool:
    """Return whether datagrams of the subscriber that a forged answer answers arrive as well."""
    questions = np.array([one.up and one.ends.proto != TCP for one in outcome.unit])
    sent, arrived = answered_pass(outcome, questions)
    return 2 * arrived > sent


def answered_pass(outcome: Outcome, struck: np.ndarray[Any, Any]) -> tuple[int, int]:
    """Return (sent, arrived) of the first struck packet of each flow that a forged answer ended.

    struck: bool[packets].
    """
    answered = events_of(outcome)
    sent = arrived = 0
    for number, ends in enumerate(flows_of(outcome.unit)):
        own = [at for at in np.flatnonzero(struck) if outcome.unit[at].ends == ends]
        if own:
            delay = outcome.delay[answered[:, number], own[0]]
            sent, arrived = sent + int((delay != NOT_SENT).sum()), arrived + int((delay >= 0).sum())
    return sent, arrived


def answer_in(payload: bytes) -> str:
    """Return the address that a DNS answer tells, "" for none."""
    if len(payload) < 12 or payload[3] & 15:
        return ""
    if payload[-6:-4] == b"\0\4":
        return str(ipaddress.ip_address(payload[-4:]))
    if payload[-18:-16] == b"\0\x10":
        return str(ipaddress.ip_address(payload[-16:]))
    return ""
