# SPDX-License-Identifier: BSD-3-Clause
"""Rules that come and go: seconds in which a rule drops packets, and in which it lets all pass."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.numbers import TCP
from midcall.experiments.localise.messages import noise
from midcall.experiments.probe.acts import OCTETS, Number
from midcall.experiments.probe.baseline import runs
from midcall.experiments.probe.prober import MS, Outcome
from midcall.experiments.probe.tails import Tail
from midcall.experiments.probe.units import marked
from midcall.testbed.policy.language import Rule
from midcall.testbed.probing.probe import Probe, in_order
from midcall.testbed.probing.strikes import strikes

#: Distance of the packets that show the phases, and how long they are sent, in ns.
EVERY, SENT_FOR = 20 * MS, 16_000 * MS
#: Neighbours of a packet, before and behind it, of which most decide: a line loses single packets.
NEAR = 3
#: Whole phases of one kind, at least, and how much one differs from their median, as a share.
LEAST_PHASES, UNLIKE = 2, 0.15
#: Share of the packets of a phase that are lost, or that pass, beyond the line's own losses.
NEARLY_ALL = 0.9
#: How much longer runs of losses are than by chance where phases are looked for, and shares of
#: losses between which they are.
LONGER, FEW, MANY = 2.0, 0.05, 0.95


class Phases(NamedTuple):
    """Seconds in which a rule drops, and in which it does not, with 95 % intervals."""

    on_s: Number
    off_s: Number

    @property
    def act(self) -> dict[str, object]:
        """Return them as the policy language writes them."""
        return {"act": "drop", "on_s": round(self.on_s.value, 2),
                "off_s": round(self.off_s.value, 2)}  # fmt: skip


def comes_in_runs(outcome: Outcome, rule: Rule, tail: Tail) -> bool:
    """Return whether the datagrams that a rule strikes are lost in runs, by more than chance."""
    struck = strikes(tail.through(outcome.unit, False), [rule]).struck[0] & ~outcome.streams
    places = np.flatnonzero(struck)
    lengths: list[int] = []
    lost = outcome.lost[:, places]
    for row, sent in zip(lost, outcome.sent[:, places], strict=True):
        lengths += runs(row[sent])
    share = float(lost.sum()) / max(int(outcome.sent[:, places].sum()), 1)
    if not lengths or not FEW < share < MANY:
        return False
    return float(np.mean(lengths)) > LONGER / (1 - share)


def phases_of(tail: Tail, core: Probe) -> Phases | None:
    """Return the phases of a rule on single packets, None where there are none.

    tail: of the rule; its last packet is sent again and again.
    """
    last = core[-1]
    rule = tail.best.rule()
    if rule is None or last.ends.proto == TCP:
        return None
    begin = last.time + 100 * MS
    times = [begin + number * EVERY for number in range(SENT_FOR // EVERY)]
    for noisy in (True, False):  # which of equal datagrams is lost is not known
        again = [last._replace(time=time, before=(), payload=noise(OCTETS, "phase", number)
                               if noisy else marked(last, number))
                 for number, time in enumerate(times)]  # fmt: skip
        unit = in_order([*core, *again])
        struck = strikes(tail.through(unit, True), [rule]).struck[0]
        if 2 * struck.sum() > len(unit):
            break
    else:
        return None
    outcome = tail.prober.ask("whether the rule comes and goes", [unit], 1)[0]
    places = np.flatnonzero(struck & outcome.sent[0])
    moments = np.array([unit[at].time for at in places], np.int64)
    found = phases(moments, outcome.lost[0, places], max(tail.base.loss))
    tail.prober.taught("no" if found is None else f"{found.on_s.value:.2f} s of "
                       f"{found.on_s.value + found.off_s.value:.2f} s")  # fmt: skip
    return found


def phases(times: NDArray[np.int64], lost: NDArray[np.bool_], own: float) -> Phases | None:
    """Return the phases that losses show, None where they follow none.

    times: ns, when each packet was sent, int64[packets]; lost: bool[packets]; own: the line's own
    share of losses.
    """
    if len(times) < 4 * NEAR:
        return None
    padded = np.pad(lost.astype(float), NEAR, "edge")
    is_on = np.convolve(padded, np.ones(2 * NEAR + 1), "valid") > NEAR
    edges = np.flatnonzero(is_on[1:] != is_on[:-1]) + 1
    if len(edges) < 2 * LEAST_PHASES + 1:
        return None
    lengths = np.diff(times[edges]) / 1e9
    state = is_on[edges[:-1]]
    whole = np.arange(len(times))
    whole = (whole >= edges[0]) & (whole < edges[-1])
    if lost[whole & is_on].mean() < NEARLY_ALL or lost[whole & ~is_on].mean() > own + 0.1:
        return None
    numbers = []
    for kind in (True, False):
        some = lengths[state == kind]
        middle = float(np.median(some))
        slack = max(3 * EVERY / 1e9, UNLIKE * middle)
        if len(some) < LEAST_PHASES or np.abs(some - middle).max() > slack:
            return None
        doubt = 2 * EVERY / 1e9 / np.sqrt(len(some)) + 0.01
        mean = float(some.mean())
        numbers.append(Number(mean, mean - doubt, mean + doubt))
    return Phases(*numbers)
