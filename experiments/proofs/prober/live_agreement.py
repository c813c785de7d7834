# SPDX-License-Identifier: BSD-3-Clause
"""Drawn policies, each probed in virtual time and between namespaces, and compared.

Both searches get the same call, seed and budget, and both map the far addresses to the lab's. A
live line loses and delays packets by itself, so that a search may end with "cannot tell"; a verdict
or a mechanism that differs otherwise is a disagreement.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

from midcall.errors import TestbedError
from midcall.experiments.localise.run import shorten_gaps
from midcall.experiments.probe import live
from midcall.experiments.probe.run import Probed, over
from midcall.experiments.proofs.prober.random_policies import Case, case, effects_of
from midcall.experiments.proofs.prober.score import (
    Named,
    as_well,
    main,
    named_rules,
    score,
    truth_of,
    words,
)
from midcall.experiments.results.tables import ProbePairRow
from midcall.testbed.probing.probe import Probe
from midcall.testbed.probing.virtual_line import Noise, VirtualSockets

#: One case in so many has no rule.
CLEAN = 6
#: Packets of a call, its longest pause in ns, and its seconds: a live search takes real time.
PACKETS, PAUSE, SECONDS = 60, 60_000_000, 3.0
#: Probes of a search, and seconds of a live one, at most.
PROBES, LIMIT = 60, 150.0
UNKNOWN = "cannot tell"


def cases(count: int, seed: int) -> Iterator[Case]:
    """Yield drawn policies of one rule that has an effect on its call, and lines without a rule.

    Rules on addresses are left out: addresses are mapped to the lab's.
    """
    numbers = itertools.count()
    for place in range(count):
        if place % CLEAN == CLEAN - 1:
            drawn = case(seed, next(numbers), "clean")
            yield shortened(drawn)._replace(effects=())
            continue
        while True:
            drawn = shortened(case(seed, next(numbers), "one"))
            if not drawn.rules[0].match.addresses and all(effects_of(drawn)):
                yield drawn._replace(effects=(True,))
                break


def shortened(drawn: Case) -> Case:
    """Return a case whose call is short, on the access network and without the noise of a live
    line."""
    base: Probe = shorten_gaps(drawn.base[:PACKETS], PAUSE)
    base = tuple(one for one in base if one.time <= SECONDS * 1e9)
    return drawn._replace(base=base, access=live.ACCESS, noise=Noise())


def pairs(count: int, seed: int, log: Callable[[str], None]) -> list[ProbePairRow]:
    """Probe drawn policies in virtual time and live, one after the other (root)."""
    rows = []
    for drawn in cases(count, seed):
        rows.append(pair(drawn))
        log(f"{drawn.name} live: {rows[-1]['agreement']}, {rows[-1]['live_answer']}")
    return rows


def pair(drawn: Case) -> ProbePairRow:
    """Probe one policy in virtual time and between namespaces."""
    sockets = VirtualSockets(drawn.policy, drawn.access, drawn.seed, drawn.noise)
    virtual = over(sockets, drawn.base, drawn.access, drawn.seed, PROBES, True, live.WATCH)
    began = time.monotonic()
    real: Probed | None = None
    failure = ""
    try:
        real = live.against(drawn.policy, drawn.base, drawn.seed, PROBES, LIMIT)
    except TestbedError as error:
        failure = str(error)
    seconds = time.monotonic() - began
    agreement, reason = compared(virtual.answer, real.answer if real else None)
    return {
        "case": drawn.name,
        "rule": truth_of(drawn.rules) or "no rule",
        "virtual": virtual.answer["verdict"],
        "live": real.answer["verdict"] if real else UNKNOWN,
        "virtual_answer": shown(virtual.answer),
        "live_answer": shown(real.answer) if real else failure,
        "virtual_right": right(drawn, virtual),
        "live_right": real is not None and right(drawn, real),
        "agreement": agreement,
        "reason": reason or failure,
        "probes": real.answer["probes"] if real else 0,
        "seconds": seconds,
    }


def right(drawn: Case, probed: Probed) -> bool:
    """Return whether an answer names the policy's mechanism."""
    return score(drawn, probed.answer, [one.rule for one in probed.result.found]).mechanism


def shown(answer: dict[str, Any]) -> str:
    """Return an answer in a line, "" for a clean line."""
    return words(answer) if answer["act"]["name"] is not None else ""


def compared(one: dict[str, Any], other: dict[str, Any] | None) -> tuple[str, str]:
    """Return whether two answers agree ("agree", "disagree" or UNKNOWN), and why not.

    Mechanisms agree where the one answer's is the other's, or equal to it by the other's word.
    """
    places = [name for name, answer in (("virtual", one), ("live", other)) if is_open(answer)]
    if other is None or places:
        return UNKNOWN, f"no verdict or no rule: {' and '.join(places)}"
    if one["verdict"] == other["verdict"] == "clean":
        return "agree", ""
    if "clean" in (one["verdict"], other["verdict"]):
        return "disagree", f"verdict: {one['verdict']} and {other['verdict']}"
    if any(same(main(first), every_named(second)) for first, second in
           ((one, other), (other, one))):  # fmt: skip
        return "agree", ""
    differ = [f"{key}: {main(one)[key]} and {main(other)[key]}" for key in main(one)
              if main(one)[key] != main(other)[key]]  # fmt: skip
    return "disagree", "; ".join(differ)


def is_open(answer: dict[str, Any] | None) -> bool:
    """Return whether an answer leaves open whether there is a rule, or which."""
    if answer is None or answer["verdict"] == UNKNOWN:
        return True
    return answer["verdict"] != "clean" and answer["act"]["name"] is None


def every_named(answer: dict[str, Any]) -> Named:
    """Return the mechanisms that an answer names: of its rules, and those equal to them."""
    rules = [named_rules(answer)]
    rules += [[one, *one["equal"]] for one in as_well(answer)]
    return [one for named in rules for one in named]


def same(mechanism: dict[str, Any], named: Named) -> bool:
    """Return whether a mechanism is among those named."""
    return any(all(mechanism[key] == one.get(key) for key in mechanism) for one in named)
