# SPDX-License-Identifier: BSD-3-Clause
"""What follows a trigger so that it shows whether the rule was met: its own kind of packets, or
noise in the flow, in the directions that the rule strikes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.numbers import TCP
from midcall.experiments.localise.messages import noise
from midcall.experiments.probe.baseline import Baseline
from midcall.experiments.probe.beliefs import Hypothesis, with_act
from midcall.experiments.probe.fit import strikes_of_limit
from midcall.experiments.probe.line_oracle import (
    BY_ITSELF,
    DELAY,
    INJECT,
    PARTIAL,
    SHARES,
    Effect,
)
from midcall.experiments.probe.prober import MS, Prober
from midcall.experiments.probe.units import again, point_after, zeros
from midcall.testbed.probing.probe import Probe, Sent, in_order, ip_size
from midcall.testbed.probing.strikes import Passing, strikes

#: Between a trigger and what follows, in ns.
PAUSE = 60 * MS
#: Writes of a stream that show a share of losses, and ns between two of them: what follows a lost
#: one waits until a kernel has sent it again.
STREAM_COUNT, STREAM_APART = 24, 300 * MS
#: Packets that use up an allowance, at most, and IP octets of a pair of them, about.
MOST_USED, OF_PAIR = 300, 150
#: Between packets that only use up an allowance, in ns.
USED_APART = 12 * MS
#: How much longer than an allowance of seconds is waited for its end, and how long at most, in s; a
#: distance of packets that none of them uses up, in ms.
LATER, MOST_WAIT, FOREVER = 1.15, 60.0, 1 << 40
#: Forms of packets that need not meet a match, see Tail.
FORMS = ("noise", "zeros", "tiny", "long")
#: How often its room a limited rate is exceeded by, the largest payload that does, and octets of
#: the headers of a datagram (IPv4, UDP).
BEYOND_ROOM, MOST_LARGE, HEADERS = 1.6, 1200, 28
#: Pairs of packets in which an allowance of seconds is used up, at most.
SLOW = 40


def beyond(best: Hypothesis, apart_ms: int, packets: int = 2, octets: int = OF_PAIR) -> int:
    """Return in how many moments packets use up an allowance. apart_ms: time between two moments;
    packets, octets: of one."""
    after = best.allowance
    wanted = max(int(after.get("packets", 0)) // packets, int(after.get("bytes", 0)) // octets,
                 int(after.get("seconds", 0) * 1000 // apart_ms))  # fmt: skip
    return min(wanted + 2 if wanted else 0, MOST_USED // packets)


def apart_for(best: Hypothesis, least: int) -> int:
    """Return how far apart pairs of packets are, in ns, so that SLOW of them use up an allowance of
    seconds; `least` at least."""
    after = best.allowance
    return max(least, int(after.get("seconds", 0.0) * 1e9 / SLOW))


def over_limit(sought: Effect, size: int) -> int:
    """Return how many packets of a direction exceed a limited rate, 0 for other effects.

    size: IP octets of a packet.
    """
    return int(min(BEYOND_ROOM * sought.room / size + 20, 240)) if sought.limit else 0


def size_over_limit(sought: Effect, least: int, count: int) -> int:
    """Return how many octets of payload so many packets of a direction need to exceed a limited
    rate, `least` for other effects."""
    return int(min(max(BEYOND_ROOM * sought.room / max(count, 1), least), MOST_LARGE))


class Tail:
    """Makes units from triggers for one hypothesis.

    decided: returns which packets of a unit other rules decide, bool[packets]; those say nothing.
    form: what follows a trigger, "" for what the hypothesis needs. "again": its last packet (rules
    that strike packets, and matches that any packet of the flow meets); "noise", "zeros", "tiny",
    "long": packets that the match does not meet itself, so that they are struck for the trigger's
    sake alone.
    """

    def __init__(
        self, prober: Prober, base: Baseline, sought: Effect, best: Hypothesis,
        through: Callable[[Probe, bool], Passing], core: Probe,
        decided: Callable[[Probe], NDArray[np.bool_]] | None = None, form: str = "",
    ) -> None:  # fmt: skip
        self.prober, self.base, self.sought, self.through = prober, base, sought, through
        self.best, self.decided = best, decided or (lambda unit: np.zeros(len(unit), bool))
        self.shown, self.apart = 5, 12 * MS
        if sought.kind == PARTIAL:
            loss = max(base.loss)
            amount = max(sought.amount, 0.03)
            share = loss + amount * (1 - loss)
            self.shown = int(min(max(40 * share / max(amount, 0.02) ** 2 * 0.35, 24), 160))
            self.apart = 3 * MS
            if core[-1].ends.proto == TCP and not sought.limit:
                self.shown, self.apart = min(self.shown, STREAM_COUNT), STREAM_APART
        elif sought.kind in SHARES:
            self.shown, self.apart = int(min(max(12 / max(sought.amount, 0.03), 12), 160)), 4 * MS
        elif sought.kind == DELAY:
            self.shown, self.apart = 4, 20 * MS
        after = best.allowance
        self.wait = int(min(LATER * after.get("seconds", 0.0), MOST_WAIT) * 1e9)
        self.trigger_octets = ip_size(core[-1])
        again = best.scope == "packet" or best.media
        self.form = form or ("again" if again else self.chosen(core))
        if sought.limit:  # as many packets as exceed it, of their own size
            following = self.carriers(core[-1], 0, 1)
            self.shown = over_limit(sought, min(map(ip_size, following)))

    @property
    def used(self) -> int:
        """Return in how many moments what follows a trigger uses up an allowance."""
        apart = FOREVER if self.wait else self.apart // MS
        one, octets = (1, self.trigger_octets) if self.repeats else (2, OF_PAIR)
        return beyond(self.best, apart, one, octets)

    @property
    def count(self) -> int:
        """Return in how many moments packets follow a trigger."""
        return self.used + self.shown

    @property
    def repeats(self) -> bool:
        """Return whether the trigger's last packet follows it."""
        return self.form == "again"

    def chosen(self, core: Probe) -> str:
        """Return the form of packets that the rule strikes and the match does not meet, the first
        one of which other rules decide none, if there is one."""
        plain = self.best._replace(scope="packet", way=None, after="").rule()
        rule = self.best.rule()
        if plain is None or rule is None:
            return "again"
        second = ""
        for form in reversed(FORMS) if self.sought.limit else FORMS:
            self.form = form
            unit = self.unit(core)
            found = strikes(self.through(unit, True), [plain, rule]).struck[:, len(core) :]
            if not found[0].any() and found[1].any():
                if not (found[1] & self.decided(unit)[len(core) :]).any():
                    return form
                second = second or form
        return second or "noise"

    def body(self, number: int, up: bool) -> bytes:
        """Return the payload of a packet that follows."""
        if self.form == "zeros":
            return zeros(48 + number % 5, "tail", number, up)
        size = {"tiny": 12, "long": 500}.get(self.form, 48 + number % 5)
        return noise(size, "tail", number, up)

    @staticmethod
    def moment(number: int, used: int, apart: int) -> int:
        """Return when the packets of one of several moments are sent, in ns since the first. used:
        how many moments only use up an allowance; apart: ns between two of the others."""
        return min(number, used) * min(apart, USED_APART) + max(number - used, 0) * apart

    def carriers(self, last: Sent, begin: int, count: int = 0) -> list[Sent]:
        """Return the packets that follow a trigger. count: of each direction, 0 for as many as show
        the effect."""
        result = []
        used = 0 if count else self.used
        for number in range(count or self.count):
            time = begin + self.moment(number, used, self.apart)
            if self.repeats:
                result.append(again(last, number, self.sought.kind)._replace(time=time))
            else:
                for up in (True, False):
                    result.append(
                        last._replace(time=time + (0 if up else 2 * MS), up=up,
                                      payload=self.body(number, up), before=(),
                                      dscp=point_after(last))
                    )  # fmt: skip
        return result

    def unit(self, core: Probe) -> Probe:
        """Return a trigger with what follows it."""
        last = core[-1]
        if self.sought.kind == INJECT and last.ends.proto == TCP and not self.used:
            return core
        return in_order([*core, *self.carriers(last, last.time + PAUSE + self.wait)])

    def mask(self, best: Hypothesis, unit: Probe, core: int) -> NDArray[np.bool_]:
        """Return which packets a hypothesis strikes in a unit, of those from the core's last on."""
        rule = best.rule()
        if rule is None:
            return np.zeros(len(unit), bool)
        through, limit = self.through(unit, True), self.sought
        found = strikes(through, [rule])
        if limit.limit:
            found = strikes_of_limit(through, with_act([rule], limit), self.base)
        shown = found.struck if self.sought.kind in BY_ITSELF else found.lost
        mask = np.array(shown[0], bool)
        mask[: max(core - 1, 0)] = False
        if self.sought.kind == INJECT and not mask.any():
            mask[-1] = bool(found.opened[0].any())
        return mask
