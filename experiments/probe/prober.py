# SPDX-License-Identifier: BSD-3-Clause
"""Plays copies of a unit at once, each from a subscriber that the box has not seen.

A unit is a few packets whose fate is asked for. One probe plays several copies of it, because a
line loses packets by itself. Copies start at different times, so that one bad moment of the line
does not strike all of them.
"""

from __future__ import annotations

import bisect
import contextlib
import functools
import hashlib
import itertools
import random
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Concatenate, NamedTuple, ParamSpec, TypeVar

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.numbers import TCP
from midcall.testbed.network.link import PRESETS
from midcall.testbed.probing.leash import BudgetUsedUp
from midcall.testbed.probing.probe import Ends, Probe, Sent, ip_size
from midcall.testbed.probing.sockets import (
    ENDED,
    NOT_KNOWN,
    OPENED,
    RESET,
    Event,
    Played,
    Sockets,
    play,
)
from midcall.testbed.probing.virtual_line import DATAGRAM, SEGMENT

P = ParamSpec("P")
T = TypeVar("T")

MS = 1_000_000
#: How long the programs wait for the last packets, in ns: of datagrams, and of streams, whose
#: kernels send again what was lost.
PATIENCE, STREAM_PATIENCE = 500 * MS, 2_200 * MS
#: Time for the handshake of a stream before the first packet of a unit, in ns.
HANDSHAKE = 400 * MS
#: A packet of a stream that comes later than another copy by this, in ns, was sent again.
RESENT = 150 * MS
#: A segment of a stream that comes later than the quickest packet by this, in ns, was held up; how
#: far it may have been moved, beyond the line's jitter, in ns.
LATE_SEGMENT, NEARLY = 50 * MS, 10 * MS
#: Between the starts of two copies, in ns, at least.
APART = 23 * MS
#: Times between two copies that are tried, as multiples of what one takes in the access network.
ROOMIER = (1.15, 1.25, 1.4, 1.8, 2.5, 4.0)
#: Part of the time of a play by which it may last longer so that its copies do not meet.
MEET = 0.1
#: Share of the access network's rate that probes use at most, and that streams do: their kernels
#: send again what comes late.
SHARE, STREAM_SHARE = 0.8, 0.45
#: IP octets of an acknowledgement (RFC 9293, with the timestamps of RFC 7323).
ACKNOWLEDGEMENT = 52
#: Bits of an address that its network has, by the bits of an address.
NETWORK = {32: 24, 128: 64}
#: Instead of a delay: of a packet that did not arrive, and of one not sent or that says nothing.
LOST, NOT_SENT = -1, -2


class ProbesSpent(Exception):
    """The budget of probes, or of what a pair of sockets may send, is spent."""


class OutcomeFields(NamedTuple):
    """The fields of an Outcome.

    delay: int64[copies, packets] in ns, LOST or NOT_SENT; size: int64[packets], IP octets; up:
    bool[packets]; events, strange: of each copy, with the ends of the unit; jitter: ns by which
    the line's own delay varies; twice, overtaken: which datagrams came twice, and which came after
    a later one of their flow and direction (bool[copies, packets]; None for neither); points: code
    point of datagrams that came with another one than the line gives them, -1 for others
    (int64[copies, packets]; None for none); planned: when each packet was to be sent, in ns since
    the begin of its copy (int64[copies, packets]; None where that is not known): the access
    network's rate keeps packets apart, and other copies come between; held_up: in which share of
    copies the line itself holds up each packet (float64[packets]; None where that was not
    simulated).
    """

    unit: Probe
    delay: NDArray[np.int64]
    size: NDArray[np.int64]
    up: NDArray[np.bool_]
    events: list[list[Event]]
    strange: list[list[Event]]
    jitter: int = 0
    twice: NDArray[np.bool_] | None = None
    overtaken: NDArray[np.bool_] | None = None
    points: NDArray[np.int64] | None = None
    planned: NDArray[np.int64] | None = None
    held_up: NDArray[np.float64] | None = None


class Outcome(OutcomeFields):
    """What became of one unit, over its copies; what follows from its fields is computed once."""

    def of(self, rows: Sequence[int] | NDArray[np.int64]) -> Outcome:
        """Return some of the copies."""
        return self._replace(
            delay=self.delay[list(rows)],
            events=[self.events[at] for at in rows],
            strange=[self.strange[at] for at in rows],
            twice=None if self.twice is None else self.twice[list(rows)],
            overtaken=None if self.overtaken is None else self.overtaken[list(rows)],
            points=None if self.points is None else self.points[list(rows)],
            planned=None if self.planned is None else self.planned[list(rows)],
        )

    def part(self, places: Sequence[int]) -> Outcome:
        """Return some of the packets, and what their flows received."""
        unit, at = tuple(self.unit[one] for one in places), list(places)
        flows = {one.ends for one in unit}
        events, strange = ([[one for one in some if one.ends in flows] for some in listed]
                           for listed in (self.events, self.strange))  # fmt: skip
        return self._replace(
            unit=unit, delay=self.delay[:, at], size=self.size[at], up=self.up[at],
            events=events, strange=strange,
            twice=None if self.twice is None else self.twice[:, at],
            overtaken=None if self.overtaken is None else self.overtaken[:, at],
            points=None if self.points is None else self.points[:, at],
            planned=None if self.planned is None else self.planned[:, at],
            held_up=None if self.held_up is None else self.held_up[at],
        )  # fmt: skip

    def without(self, packets: NDArray[np.bool_]) -> Outcome:
        """Return what became of the other packets: of some, bool[packets] or bool[copies, packets],
        nothing is known."""
        return self._replace(delay=np.where(packets, NOT_SENT, self.delay))

    @property
    def as_sent(self) -> Probe:
        """Return the unit with the times at which most copies send its packets."""
        if self.planned is None or not self.unit:
            return self.unit
        times = np.median(self.planned - self.planned[:, :1], axis=0).astype(np.int64)
        times = np.maximum.accumulate(times)
        return tuple(one._replace(time=int(time))
                     for one, time in zip(self.unit, times, strict=True))  # fmt: skip

    @functools.cached_property
    def lost(self) -> NDArray[np.bool_]:
        """Return which packets did not arrive, bool[copies, packets]."""
        return np.asarray(self.delay == LOST)

    @functools.cached_property
    def streams(self) -> NDArray[np.bool_]:
        """Return which packets are part of a stream, bool[packets]."""
        return np.array([one.ends.proto == TCP for one in self.unit], bool)

    def _later_than(self, least: int) -> NDArray[np.bool_]:
        """Return which packets came later than the first copy by more than `least` ns and the
        line's jitter."""
        known = np.where(self.delay >= 0, self.delay, np.iinfo(np.int64).max)
        late = self.delay - known.min(axis=0) > least + self.jitter
        return np.asarray((self.delay >= 0) & late)

    @functools.cached_property
    def resent(self) -> NDArray[np.bool_]:
        """Return which packets of streams came so late, compared with other copies, that a kernel
        has sent them again."""
        return np.asarray((self._later_than(RESENT) | self.lost) & self.streams)

    @functools.cached_property
    def behind(self) -> NDArray[np.bool_]:
        """Return which packets of streams had to wait for an earlier one that was sent again; they
        say nothing about their own loss."""
        late, waits = self.resent, self._later_than(RESENT // 2)
        result = np.zeros_like(late)
        last: dict[tuple[Ends, bool], int] = {}
        for at, one in enumerate(self.unit):
            if one.ends.proto == TCP and one.payload:
                before = last.get((one.ends, one.up))
                if before is not None:
                    waited = result[:, before] & waits[:, before]
                    result[:, at] = late[:, before] | waited & late[:, at]
                last[one.ends, one.up] = at
        return result

    @functools.cached_property
    def cut(self) -> NDArray[np.bool_]:
        """Return which packets of streams come after one that never arrived; they say nothing."""
        result = np.zeros_like(self.lost)
        if not self.streams.any():
            return result
        last: dict[tuple[Ends, bool], int] = {}
        for at, one in enumerate(self.unit):
            if one.ends.proto == TCP and one.payload:
                before = last.get((one.ends, one.up))
                if before is not None:
                    result[:, at] = self.lost[:, before] | result[:, before]
                last[one.ends, one.up] = at
        return result

    @functools.cached_property
    def sent(self) -> NDArray[np.bool_]:
        """Return which packets were sent."""
        return np.asarray(self.delay != NOT_SENT)


def one_by_one(unit: Probe) -> int:
    """Return the time between the starts of copies that come one after another, in ns: copies that
    take turns move each other's packets, and share a limit."""
    return unit[-1].time + 500 * MS


def once(compute: Callable[Concatenate[Outcome, P], T]) -> Callable[Concatenate[Outcome, P], T]:
    """Return a function of an outcome that computes once what it returns of it, for each value of
    its other arguments. The result is not to be changed."""

    @functools.wraps(compute)
    def computed(outcome: Outcome, /, *args: P.args, **kwargs: P.kwargs) -> T:
        known: dict[Hashable, T] = outcome.__dict__.setdefault("known", {})
        key = compute, args, *kwargs.items()
        if key not in known:
            known[key] = compute(outcome, *args, **kwargs)
        return known[key]

    return computed


class Asked(NamedTuple):
    """One probe of the record: what it asked, copies, line time in s, packets, octets, and what it
    taught."""

    question: str
    copies: int
    seconds: float
    packets: int
    octets: int
    answer: str


class Prober:
    """Plays units through Sockets and counts what that costs.

    lab_only: no packet goes to an address outside the lab's ranges. Raises ProbesSpent where more
    than `most_probes` would be played.
    """

    def __init__(
        self, sockets: Sockets, access: str = "4g", seed: int = 0, most_probes: int = 2_000,
        lab_only: bool = False,
    ) -> None:  # fmt: skip
        self.sockets, self.access, self.most_probes = sockets, access, most_probes
        self.rng = random.Random(f"prober/{seed}")
        self.probes, self.line, self.watched = 0, 0.0, 0.0
        self.record: list[Asked] = []
        self.numbers = 0
        self.jitter = 0  # ns by which the line's own delay varies
        self.usual = NOT_KNOWN
        # of a line that rewrites code points, those that are known: (upwards, sent) -> received
        self.rewrites: dict[tuple[bool, int], int] = {}
        preset = PRESETS[access]
        self.rate = {True: preset.up.rate_kbit, False: preset.down.rate_kbit}
        self.lab_only = lab_only  # every far address is mapped into the lab's range
        self.fresh_far = False
        self.same_network = False  # whether fresh far addresses are of the network of the own ones

    # -- addresses

    def client(self, size: int) -> bytes:
        """Return an address of a subscriber that was not used before; 4 or 16 octets."""
        self.numbers += 1
        number = self.numbers
        if size == 4:
            return bytes([198, 18, 1 + (number >> 8) % 250, number & 0xFF])
        return bytes.fromhex("fd4d1944") + number.to_bytes(12, "big")

    def server(self, like: bytes) -> bytes:
        """Return a far address that was not used before, of the lab's range or of the network of
        another one."""
        self.numbers += 1
        size = 8 * len(like)
        drawn = self.rng.getrandbits(size)
        base = int.from_bytes(
            bytes([198, 19]) + bytes(2) if size == 32 else bytes.fromhex("fd4d1945") + bytes(12),
            "big",
        )
        keep, prefix = (16 if size == 32 else 32), base
        if self.same_network:
            keep, prefix = NETWORK[size], int.from_bytes(like, "big")
        mask = ((1 << keep) - 1) << (size - keep)
        return ((prefix & mask) | (drawn & ~mask & ((1 << size) - 1))).to_bytes(size // 8, "big")

    @contextlib.contextmanager
    def other_hosts(self) -> Iterator[None]:
        """Play to hosts that were not used before, of the networks of those that units name."""
        before = self.fresh_far
        self.fresh_far = self.same_network = True
        try:
            yield
        finally:
            self.fresh_far, self.same_network = before, False

    def port(self) -> int:
        """Return a port of the subscriber."""
        return self.rng.randint(20_000, 60_000)

    # -- plays

    def ask(
        self,
        question: str,
        units: Sequence[Probe],
        copies: int = 1,
        tight: bool = True,
        patience: int | None = None,
        apart: int = APART,
        watch: bool = False,
        keep_far: Sequence[bool] = (),
    ) -> list[Outcome]:
        """Play `copies` of each unit at once; returns one Outcome per unit.

        tight: streams are opened before the first packet, and packets are only as far apart as the
        access network needs; otherwise all copies of a unit are sent at the same times; apart: ns
        between the starts of two copies, at least (more where the access network's rate needs it);
        watch: the time is counted as a residual watch; keep_far: per unit, whether its far
        addresses are kept although `fresh_far` holds. Raises ProbesSpent.
        """
        if self.probes >= self.most_probes:
            raise ProbesSpent(f"the budget of {self.most_probes} probes is spent")
        apart = max(apart, self.least_apart(units))
        timed = units
        if not tight:
            apart, timed = self.soonest_in_turn(units, copies, apart)
        entries: list[tuple[Sent, int, int, int]] = []
        back: dict[Ends, tuple[int, int, Ends]] = {}
        for number, unit in enumerate(timed):
            has_stream = any(one.ends.proto == TCP for one in unit)
            lead = HANDSHAKE if has_stream and tight else 0
            for copy in range(copies):
                mapped = self._mapped(unit, number < len(keep_far) and keep_far[number])
                for old, new in mapped.items():
                    back[new] = number, copy, old
                start = (copy * len(units) + number) * apart
                if lead:
                    for new in mapped.values():
                        if new.proto == TCP:
                            entries.append((Sent(start, True, new, b""), -1, 0, 0))
                for at, one in enumerate(unit):
                    moved = one._replace(time=one.time + start + lead, ends=mapped[one.ends])
                    entries += [(part, number, copy, at) for part in parts_of(moved)]
        if not entries:
            return [self._empty(unit, copies) for unit in units]
        entries.sort(key=lambda entry: entry[0].time)
        plan = self.paced([entry[0] for entry in entries])
        planned = [np.full((copies, len(unit)), -1, np.int64) for unit in units]
        for one, (moved, number, copy, at) in zip(plan, entries, strict=True):
            if number >= 0 and planned[number][copy, at] < 0:
                own = timed[number][at].time - moved.time + one.time
                planned[number][copy, at] = own
        streams = any(one.ends.proto == TCP for one in plan)
        wait = patience or (STREAM_PATIENCE if streams else PATIENCE)
        try:
            played = play(self.sockets, plan, wait, self.usual)
        except BudgetUsedUp as error:
            raise ProbesSpent(str(error)) from error
        self.probes += 1
        if watch:
            self.watched += played.seconds
        else:
            self.line += played.seconds
        outcomes = [self._empty(unit, copies) for unit in units]
        self._fill(outcomes, played, entries, back, wait)
        self.record.append(
            Asked(question, copies, played.seconds, len(plan), sum(map(ip_size, plan)), "")
        )
        return [one._replace(planned=times) for one, times in zip(outcomes, planned, strict=True)]

    def taught(self, answer: str) -> None:
        """Note what the last probe taught."""
        if self.record:
            self.record[-1] = self.record[-1]._replace(answer=answer)

    def _mapped(self, unit: Probe, keep_far: bool) -> dict[Ends, Ends]:
        """Return the ends of one copy of a unit, by the unit's own."""
        clients: dict[bytes, bytes] = {}
        fars: dict[bytes, bytes] = {}
        ports: dict[tuple[bytes, int], int] = {}
        result: dict[Ends, Ends] = {}
        for one in unit:
            ends = one.ends
            if ends in result:
                continue
            near = clients.setdefault(ends.near, self.client(len(ends.near)))
            far = ends.far
            if self.fresh_far and not keep_far:
                far = fars.setdefault(far, self.server(far))
            if self.lab_only:
                far = in_lab(far)
            port = ports.get((ends.near, ends.near_port))
            if port is None:
                taken = set(ports.values())
                port = self.port()
                while port in taken:
                    port = self.port()
                ports[ends.near, ends.near_port] = port
            result[ends] = Ends(ends.proto, near, port, far, ends.far_port)
        return result

    def moved(self, outcome: Outcome, unit: Probe) -> Outcome:
        """Return an outcome as of a unit that differs in its flows' ends alone."""
        ends = {one.ends: other.ends for one, other in zip(outcome.unit, unit, strict=True)}
        events = [[event._replace(ends=ends[event.ends]) for event in some]
                  for some in outcome.events]  # fmt: skip
        strange = [[event._replace(ends=ends[event.ends]) for event in some]
                   for some in outcome.strange]  # fmt: skip
        return outcome._replace(unit=unit, events=events, strange=strange)

    def least_apart(self, units: Sequence[Probe]) -> int:
        """Return the time between the starts of two copies in which the access network carries one
        and the acknowledgements of its streams, in ns."""
        longest = 0.0
        for up in (True, False):
            acknowledged = ACKNOWLEDGEMENT * 8e6 / (self.rate[up] * SHARE)
            needed = sum(
                self._time_of(one) if one.up == up else acknowledged * (one.ends.proto == TCP)
                for unit in units for one in unit
            )  # fmt: skip
            longest = max(longest, needed / len(units))
        return int(longest)

    def soonest_in_turn(
        self, units: Sequence[Probe], copies: int, apart: int
    ) -> tuple[int, list[Probe]]:  # fmt: skip
        """Return the time between two copies with which all of them end first, at least `apart` ns,
        and the units as they are sent then. One with which no copies meet in the access network may
        end later by MEET."""
        least = self.least_apart(units)
        spacings = sorted({max(apart, int(more * least)) for more in ROOMIER})
        listed = [(wider, *self.in_turn(units, wider)) for wider in spacings]

        def rank(one: tuple[int, list[Probe], bool]) -> float:
            starts = ((copies - 1) * len(units) + np.arange(len(units))) * one[0]
            ends = (int(start) + unit[-1].time
                    for start, unit in zip(starts, one[1], strict=True) if unit)  # fmt: skip
            return max(ends) * (1.0 if one[2] else 1.0 + MEET)

        return min(listed, key=rank)[:2]

    def in_turn(self, units: Sequence[Probe], apart: int) -> tuple[list[Probe], bool]:
        """Return units whose copies, `apart` ns after each other in turn, do not meet in the access
        network, so that all copies of one are sent at the same times since their begin; and
        whether there is room for all packets: where gaps are too short, some meet."""
        period = apart * len(units)
        busy: dict[bool, list[tuple[int, int]]] = {True: [], False: []}
        result = []
        for number, unit in enumerate(units):
            begin, time, moved = number * apart, 0, []
            for one in unit:
                earliest = begin + max(one.time, time)
                time = free_from(busy[one.up], earliest, int(self._time_of(one)), period) - begin
                moved.append(one._replace(time=time))
            result.append(tuple(moved))
        taken = sum(end - begin for own in busy.values() for begin, end in own)
        return result, taken == sum(int(self._time_of(one)) for unit in units for one in unit)

    def _time_of(self, one: Sent) -> float:
        """Return the time in which the access network may carry one packet, in ns."""
        share = STREAM_SHARE if one.ends.proto == TCP else SHARE
        return ip_size(one) * 8e6 / (self.rate[one.up] * share)

    def paced(self, packets: Sequence[Sent]) -> Probe:
        """Return packets as far apart as the access network's rate needs."""
        free = {True: 0, False: 0}
        paced = []
        least = 0
        for one in packets:
            time = max(one.time, free[one.up], least)
            free[one.up] = time + int(self._time_of(one))
            least = time
            paced.append(one._replace(time=time))
        return tuple(paced)

    def waits(self, played: Played) -> list[int]:
        """Return how long each packet of a plan waits for those before it in the access network's
        queue, in ns: streams send all at once what had to wait for their opening, and what a box
        holds up on its way to the subscriber comes to that queue later."""
        result = [0] * len(played.plan)
        free = {True: 0, False: 0}
        begins = [max(played.sent[at], played.ready.get((one.ends, one.up), 0))
                  for at, one in enumerate(played.plan)]  # fmt: skip
        for at in sorted(range(len(begins)), key=begins.__getitem__):
            one = played.plan[at]
            if played.sent[at] >= 0:
                leaves = max(begins[at], free[one.up])
                result[at] = leaves - begins[at]
                free[one.up] = leaves + int(ip_size(one) * 8e6 / self.rate[one.up])
        return self.behind_late_streams(played, result)

    def behind_late_streams(self, played: Played, waits: list[int]) -> list[int]:
        """Return the waits of packets, in ns, with those of datagrams to the subscriber behind
        segments of streams that come LATE_SEGMENT later than the quickest packet: as long as the
        access network takes for the segments that come while the datagram is late."""
        down = [at for at, one in enumerate(played.plan) if not one.up and played.arrived[at] >= 0]
        delays = {at: played.delay(at) - waits[at] for at in down}
        least = min((delay for at, delay in delays.items() if not waits[at]), default=0)
        late = sorted((played.arrived[at], played.plan[at]) for at in down
                      if played.plan[at].ends.proto == TCP and played.plan[at].payload
                      and delays[at] > least + LATE_SEGMENT)  # fmt: skip
        times = [time for time, _ in late]
        taken = [0, *itertools.accumulate(int(ip_size(one) * 8e6 / self.rate[False])
                                          for _, one in late)]  # fmt: skip
        result, about = list(waits), NEARLY + self.jitter
        for at in down:
            beyond = delays[at] - least
            if late and played.plan[at].ends.proto != TCP and beyond > 0:
                first = bisect.bisect(times, played.arrived[at] - beyond - about)
                last = bisect.bisect(times, played.arrived[at] + about)
                result[at] += min(taken[last] - taken[first], beyond)
        return result

    def line_points(self, one: Sent) -> Sequence[int]:
        """Return with which code points the line itself may deliver a datagram."""
        if not self.rewrites:
            return (one.dscp,)
        came = self.rewrites.get((one.up, one.dscp))
        return range(64) if came is None else (came,)

    def _empty(self, unit: Probe, copies: int) -> Outcome:
        return Outcome(
            unit,
            np.full((copies, len(unit)), NOT_SENT, np.int64),
            np.array([ip_size(one) for one in unit], np.int64),
            np.array([one.up for one in unit], bool),
            [[] for _ in range(copies)],
            [[] for _ in range(copies)],
            self.jitter,
            np.zeros((copies, len(unit)), bool),
            np.zeros((copies, len(unit)), bool),
            np.full((copies, len(unit)), -1, np.int64),
        )

    def _fill(
        self,
        outcomes: list[Outcome],
        played: Played,
        entries: Sequence[tuple[Sent, int, int, int]],
        back: dict[Ends, tuple[int, int, Ends]],
        wait: int,
    ) -> None:
        """Note what each packet of a play shows. wait: ns after which it counts as lost, even if
        the play goes on."""
        opened: set[Ends] = set()
        waits, late = self.waits(played), overtaken(played)
        first: dict[Ends, int] = {}
        for place, (_, number, copy, at) in enumerate(entries):
            if number < 0 or played.sent[place] < 0:
                continue
            one = played.plan[place]
            if one.up:
                if played.arrived[place] >= 0 or not self.sockets.answers_only:
                    opened.add(one.ends)
            elif one.ends.proto != TCP and one.ends not in opened:
                continue  # a NAT may let nothing in before something went out
            row, delay = outcomes[number].delay[copy], played.delay(place)
            delay = max(delay - waits[place], 0) if delay >= 0 else delay
            begun = first.setdefault(one.ends, played.sent[place])
            ready = played.ready.get((one.ends, one.up), 0)
            if one.ends.proto == TCP and (delay > wait or ready - begun > wait):
                delay = -1  # sent again until a block had ended
            row[at] = delay if row[at] == -2 else -1 if -1 in (delay, row[at]) else delay
            for flags, places in ((outcomes[number].twice, played.twice),
                                  (outcomes[number].overtaken, late)):  # fmt: skip
                if place in places and flags is not None:
                    flags[copy, at] = True
            came, points = played.points.get(place), outcomes[number].points
            if came is not None and points is not None and came not in self.line_points(one):
                points[copy, at] = came
        for event in played.events:
            number, copy, old = back[event.ends]
            if event.kind != OPENED:
                outcomes[number].events[copy].append(event._replace(ends=old))
        for event in played.strange:
            number, copy, old = back[event.ends]
            outcomes[number].strange[copy].append(event._replace(ends=old))


def free_from(busy: list[tuple[int, int]], time: int, need: int, period: int) -> int:
    """Return the first time from `time` on at which `need` ns of each period are free, and take
    them; `time` where no gap is long enough. busy: begins and ends within the period, in order."""
    phase = time % period
    at = bisect.bisect(busy, (phase, period))
    if at and busy[at - 1][1] > phase:
        phase = busy[at - 1][1]
    for turn in (0, period):
        while at < len(busy) and phase + need > busy[at][0]:
            phase = busy[at][1]
            at += 1
        if phase + need <= period:
            begin, end = phase, phase + need
            if at and busy[at - 1][1] == begin:
                at -= 1
                begin = busy.pop(at)[0]
            if at < len(busy) and busy[at][0] == end:
                end = busy.pop(at)[1]
            busy.insert(at, (begin, end))
            return time - time % period + turn + phase
        at, phase = 0, 0
    return time


def parts_of(one: Sent) -> Iterator[Sent]:
    """Yield a packet, and one that is too long for a datagram, or that holds several segments which
    the capturing host had joined, as several."""
    body = one.payload
    most = SEGMENT if one.ends.proto == TCP else DATAGRAM
    if len(body) <= (2 * most if one.ends.proto == TCP else most):
        yield one
        return
    for place in range(0, len(body), most):
        yield one._replace(payload=body[place : place + most])


def overtaken(played: Played) -> set[int]:
    """Return which datagrams of a plan came after a later one of their flow and direction.

    Of several equal ones it is not known which came.
    """
    result: set[int] = set()
    counts = Counter((one.ends, one.up, one.payload) for one in played.plan)
    first: dict[tuple[Ends, bool], int] = {}
    for at in reversed(range(len(played.plan))):
        one, time = played.plan[at], played.arrived[at]
        alone = counts[one.ends, one.up, one.payload] == 1
        if time >= 0 and one.ends.proto != TCP and alone:
            before = first.get((one.ends, one.up))
            if before is not None and before < time:
                result.add(at)
            first[one.ends, one.up] = time if before is None else min(time, before)
    return result


def in_lab(far: bytes) -> bytes:
    """Return the lab's address for a far address: its own if it is the lab's, else by a hash."""
    lab = bytes([198, 19]) if len(far) == 4 else bytes.fromhex("fd4d1945")
    if far.startswith(lab):
        return far
    return lab + hashlib.sha256(far).digest()[: len(far) - len(lab)]


def has_injection(outcome: Outcome, copy: int) -> str:
    """Return which forged answer one copy of a unit received: "reset", "ended", "data" or ""."""
    if outcome.strange[copy]:
        return "data"
    kinds = {event.kind for event in outcome.events[copy]}
    return "reset" if RESET in kinds else "ended" if ENDED in kinds else ""
