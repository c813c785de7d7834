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

#: Packets that show the phases, and how long they are sent: first, and at most, in ns. Where the
#: first ones show phases, but too few, they are sent so many times as long as the longest one seen.
PACKETS, SENT_FOR, MOST_SENT, AS_LONG = 800, 16_000 * MS, 80_000 * MS, 8.0
#: Neighbours of a packet, before and behind it, of which most decide: a line loses single packets.
NEAR = 3
#: Whole phases of one kind, at least, and how much one differs from their median, as a share.
LEAST_PHASES, UNLIKE = 2, 0.15
#: Share of the packets of a phase that are lost, or that pass, beyond the line's own losses.
NEARLY_ALL = 0.9
#: How much longer runs of losses are than by chance where phases are looked for, and shares of
#: losses between which they are.
LONGER, FEW, MANY = 2.0, 0.05, 0.95
#: Changes of the capture per length of the first play, above which a play that one phase fills
#: shows that there are no phases.
EXPECTED = 4.0


class Phases(NamedTuple):
    """Seconds in which a rule drops, and in which it does not, with 95 % intervals."""

    on_s: Number
    off_s: Number

    @property
    def act(self) -> dict[str, object]:
        """Return them as the policy language writes them."""
        return {"act": "drop", "on_s": round(self.on_s.value, 2),
                "off_s": round(self.off_s.value, 2)}  # fmt: skip


def struck_datagrams(outcome: Outcome, rule: Rule, tail: Tail) -> NDArray[np.int64]:
    """Return which packets of a unit are datagrams that a rule strikes, int64[packets]."""
    struck = strikes(tail.through(outcome.unit, False), [rule]).struck[0] & ~outcome.streams
    return np.flatnonzero(struck)


def changes_per_s(outcome: Outcome, rule: Rule, tail: Tail) -> float:
    """Return how often per second most of the datagrams that a rule strikes begin, or cease, to be
    lost; 0 where too few are sent to tell."""
    changes, seconds = 0, 0.0
    places = struck_datagrams(outcome, rule, tail)
    times = np.array([outcome.unit[at].time for at in places], np.int64)
    for row, sent in zip(outcome.lost[:, places], outcome.sent[:, places], strict=True):
        if sent.sum() >= 4 * NEAR:
            is_on, moments = smoothed(row[sent]), times[sent]
            changes += int((is_on[1:] != is_on[:-1]).sum())
            seconds += float(moments[-1] - moments[0]) / 1e9
    return changes / seconds if seconds > 0 else 0.0


def comes_in_runs(outcome: Outcome, rule: Rule, tail: Tail) -> bool:
    """Return whether the datagrams that a rule strikes are lost in runs, by more than chance."""
    places = struck_datagrams(outcome, rule, tail)
    lengths: list[int] = []
    lost = outcome.lost[:, places]
    for row, sent in zip(lost, outcome.sent[:, places], strict=True):
        lengths += runs(row[sent])
    share = float(lost.sum()) / max(int(outcome.sent[:, places].sum()), 1)
    if not lengths or not FEW < share < MANY:
        return False
    return float(np.mean(lengths)) > LONGER / (1 - share)


def phases_of(tail: Tail, core: Probe, per_s: float) -> Phases | None:
    """Return the phases of a rule on single packets, None where there are none.

    tail: of the rule; its last packet is sent again and again. per_s: changes per second in the
    capture (`changes_per_s`): where many come there, and none in the first play, those of the
    capture are no phases.
    """
    rule, seconds = tail.best.rule(), SENT_FOR
    if rule is None or core[-1].ends.proto == TCP:
        return None
    while True:
        unit, struck = repeated(tail, core, rule, seconds // PACKETS)
        if 2 * struck.sum() <= len(unit):
            return None
        outcome = tail.prober.ask("whether the rule comes and goes", [unit], 1)[0]
        places = np.flatnonzero(struck & outcome.sent[0])
        moments = np.array([unit[at].time for at in places], np.int64)
        lost, own = outcome.lost[0, places], max(tail.base.loss)
        found = phases(moments, lost, own)
        longest = longest_phase(moments, lost, own)
        longer = 0 if longest is None else int(min(AS_LONG * longest, MOST_SENT))
        none = longest is not None and longest >= NEARLY_ALL * (moments[-1] - moments[0])
        if found is not None or longer <= seconds or (none and per_s * seconds / 1e9 > EXPECTED):
            break
        tail.prober.taught("more seldom than can be seen in this time")
        seconds = longer
    tail.prober.taught("no" if found is None else f"{found.on_s.value:.2f} s of "
                       f"{found.on_s.value + found.off_s.value:.2f} s")  # fmt: skip
    return found


def repeated(
    tail: Tail, core: Probe, rule: Rule, every: int
) -> tuple[Probe, NDArray[np.bool_]]:  # fmt: skip
    """Return a core and its last packet again and again, every so many ns, and which packets the
    rule strikes, bool[packets]: with noise if it strikes that, as of equal datagrams it is not
    known which one is lost."""
    last = core[-1]
    times = [last.time + 100 * MS + number * every for number in range(PACKETS)]
    for noisy in (True, False):
        again = [last._replace(time=time, before=(), payload=noise(OCTETS, "phase", number)
                               if noisy else marked(last, number))
                 for number, time in enumerate(times)]  # fmt: skip
        unit = in_order([*core, *again])
        struck = strikes(tail.through(unit, True), [rule]).struck[0]
        if 2 * struck.sum() > len(unit):
            break
    return unit, struck


def longest_phase(times: NDArray[np.int64], lost: NDArray[np.bool_], own: float) -> float | None:
    """Return the longest phase that losses show, in ns, a first or last one that may be longer
    included; None where they come otherwise than in phases, or in enough for `phases` to judge.

    times, lost, own: as those of `phases`.
    """
    if len(times) < 4 * NEAR:
        return None
    is_on = smoothed(lost)
    edges = np.flatnonzero(is_on[1:] != is_on[:-1]) + 1
    if len(edges) > 2 * LEAST_PHASES or not in_phases(lost, is_on, own):
        return None
    return float(np.diff(times[[0, *edges.tolist(), len(times) - 1]]).max())


def smoothed(lost: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return whether most packets around each one are lost, bool[packets]."""
    padded = np.pad(lost.astype(float), NEAR, "edge")
    return np.asarray(np.convolve(padded, np.ones(2 * NEAR + 1), "valid") > NEAR)


def in_phases(lost: NDArray[np.bool_], is_on: NDArray[np.bool_], own: float) -> bool:
    """Return whether nearly all packets of some phases are lost, and nearly none of the others."""
    if is_on.all() or not is_on.any():
        return bool(len(lost) > 0)
    return bool(lost[is_on].mean() >= NEARLY_ALL and lost[~is_on].mean() <= own + 0.1)


def phases(times: NDArray[np.int64], lost: NDArray[np.bool_], own: float) -> Phases | None:
    """Return the phases that losses show, None where they follow none.

    times: ns, when each packet was sent, int64[packets]; lost: bool[packets]; own: the line's own
    share of losses.
    """
    if len(times) < 4 * NEAR:
        return None
    is_on, every = smoothed(lost), float(np.median(np.diff(times))) / 1e9
    edges = np.flatnonzero(is_on[1:] != is_on[:-1]) + 1
    if len(edges) <= 2 * LEAST_PHASES:
        return None
    lengths = np.diff(times[edges]) / 1e9
    state = is_on[edges[:-1]]
    whole = slice(edges[0], edges[-1])
    if not in_phases(lost[whole], is_on[whole], own):
        return None
    numbers = []
    for kind in (True, False):
        some = lengths[state == kind]
        middle = float(np.median(some))
        slack = max(3 * every, UNLIKE * middle)
        if len(some) < LEAST_PHASES or np.abs(some - middle).max() > slack:
            return None
        doubt = 2 * every / np.sqrt(len(some)) + 0.01
        mean = float(some.mean())
        numbers.append(Number(mean, mean - doubt, mean + doubt))
    return Phases(*numbers)
