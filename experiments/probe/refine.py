# SPDX-License-Identifier: BSD-3-Clause
"""Exact numbers and lists of a trigger: ports, prefixes, sizes, windows, allowances, kinds.

Each is found by bisection, with several values in one probe. A unit is the trigger with one thing
changed, and packets after it that show whether the rule was met.
"""

from __future__ import annotations

import ipaddress
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from midcall.captures.packets.numbers import TCP
from midcall.captures.wire.stun import method_bits
from midcall.experiments.localise.messages import noise, resized
from midcall.experiments.localise.mutations import LISTED, flipped_bit, with_ends
from midcall.experiments.localise.packet_fields import read
from midcall.experiments.localise.payload_conditions import METHOD_WORDS
from midcall.experiments.localise.payload_hypotheses import roundest
from midcall.experiments.probe.asking import Question, ask_all, edge, edges
from midcall.experiments.probe.atoms import WITH_PAYLOAD, places, size_of
from midcall.experiments.probe.beliefs import COUNTS, Hypothesis
from midcall.experiments.probe.change_points import Bound, likeliest_window
from midcall.experiments.probe.code_points import word_of
from midcall.experiments.probe.fit import affected_of
from midcall.experiments.probe.found import NEARLY_ALL
from midcall.experiments.probe.line_oracle import (
    DELAY,
    DROP,
    INJECT,
    MARK,
    PARTIAL,
    SHARES,
    Effect,
)
from midcall.experiments.probe.prober import APART, MS, SHARE, one_by_one
from midcall.experiments.probe.tails import FORMS, PAUSE, Tail
from midcall.experiments.probe.units import ends_of_kinds, numbered, other_kinds
from midcall.testbed.policy.language import METHODS
from midcall.testbed.policy.syntax import CODE_POINTS, span
from midcall.testbed.probing.probe import Probe, Sent, in_order, ip_size
from midcall.testbed.probing.strikes import Passing, strikes
from midcall.testbed.probing.virtual_line import SEGMENT

LAST_PORT = 65_535
#: Part of the access network's rate that copies take together whose packets must be in time.
UNDISTURBED = 0.2
#: Ports at which ranges often begin or end, and how much farther from a port each next one is that
#: is tried.
ROUND, NEARER = (1024, 10_000, 16_384, 32_768, 49_152, 50_000, 60_000), 4
#: STUN methods before and behind the trigger's own that are tried, and the largest one (RFC 8489).
NEAR_METHODS, LAST_METHOD = 4, 0xFFF
#: Kinds of payload that are struck for each one that passes, at least, where a rule strikes all but
#: a few.
MOSTLY_STRUCK = 2
#: Packets of each direction that show an act which strikes nearly all: of several, some may pass.
FEW = 1
#: Largest windows that are searched: packets, IP octets, seconds.
MOST_PACKETS, MOST_OCTETS, MOST_SECONDS = 400, 60_000, 12.0

#: Octets of the largest datagram that is tried.
MOST_SIZE = 1400
#: Of a share of datagrams: how many struck ones show where a window begins, to which part of its
#: count; the part of that count which other packets make up; the least share that is looked for.
COPIES_OF_SHARE, COUNT_CLOSE, SKIPPED, LEAST_OF_SHARE = 2.0, 0.02, 0.7, 0.03
#: How far apart these datagrams are at least, in ns, how many are sent at most, and how many
#: struck ones more than to BEYOND the count.
SPREAD_APART, MOST_SPREAD, SPREAD_MORE = 4 * MS, 900, 12.0

#: How much more of a count is sent than before the trigger, and how old a flow becomes, in s, where
#: it is asked which count decides.
BEYOND, AGED = 1.3, 8.5

Through = Callable[[Probe, bool], Passing]


class Refiner:
    """Refines one hypothesis. tail: makes units from packets, see Tail; refuted: the trigger alone
    did not show the effect again; spares_kinds: the rule strikes all kinds of payload but a few."""

    def __init__(self, tail: Tail, best: Hypothesis, core: Probe) -> None:
        self.tail, self.best, self.core = tail, best, core
        self.prober, self.base, self.sought = tail.prober, tail.base, tail.sought
        self.take_form(tail.form)
        self.intervals: dict[str, tuple[float, float]] = {}
        self.spares_kinds = False
        self.refuted = False

    def ask(
        self, cores: Sequence[Probe], words: str, bare: bool = False, keep_far: bool = False,
        timed: bool = False, unknown: bool = False,
    ) -> list[bool]:  # fmt: skip
        """Return for each core whether the rule is met.

        bare: nothing follows the core, whose own last packet shows it (what follows would come into
        a window by itself); keep_far: they are sent to their own far addresses; timed: packets must
        be sent at their own times, so that copies must not move each other's; unknown: the answer
        where no packet says anything.
        """
        questions = []
        for core in cores:
            if bare:
                unit, mask = core, np.zeros(len(core), bool)
                mask[-1] = True
            else:
                unit = self.tail.unit(core)
                mask = np.zeros(len(unit), bool)
                shift = len(unit) - len(self.reference)
                own = self.mask[len(self.core) - 1 :]
                mask[len(self.core) - 1 + shift :] = own
            questions.append(Question(unit, mask))
        spread = (self.undisturbed(one.unit) for one in questions if timed)
        apart = max(spread, default=APART)
        return ask_all(self.prober, self.base, self.sought, questions, words, keep_far, apart,
                       unknown)  # fmt: skip

    def undisturbed(self, unit: Probe) -> int:
        """Return how far apart units begin of which few packets wait for those of others, in ns: a
        small part of the access network's rate is used then."""
        used = [sum(ip_size(one) for one in unit if one.up == up) * 8e6 / self.prober.rate[up]
                for up in (True, False)]  # fmt: skip
        return int(max(*used, APART) / UNDISTURBED)

    @property
    def last_shows(self) -> bool:
        """Return whether the trigger's last packet alone shows the effect."""
        up = self.core[-1].up
        way = self.best.way
        return self.sought.kind in (DROP, DELAY, MARK) and way in (None, "up" if up else "down")

    def run(self) -> Hypothesis:
        """Return the hypothesis with exact numbers."""
        if not self.mask.any():
            return self.best
        if not self.triggers_again():
            forged = self.sought.kind == INJECT and self.sought.detail != "dns-lie"
            self.refuted = not forged or self.core[-1].ends.proto == TCP  # datagrams get no reset
            return self.best
        keys = self.which_count(self.best.keys)
        result = dict(keys)
        for key, refine in (
            ("ports", self.ports), ("addresses", self.addresses), ("size", self.sizes),
            ("entropy", self.entropy), ("payload", self.kinds), ("stun_method", self.methods),
            ("packets", self.packets), ("bytes", self.octets), ("seconds", self.seconds),
            ("dscp", self.code_points),
        ):  # fmt: skip
            if key in keys:
                found = refine(keys)
                if found:
                    result[key] = found
                elif found is not None and (len(result) > 1 or key == "payload"):
                    del result[key]  # every value is struck
                    result = result or {"protocol": self.transport}
        best = self.best._replace(match=json.dumps(result, sort_keys=True))
        if best.rule() is None:  # numbers that noise has shown need not fit each other
            self.refuted = True
            return self.best
        if best.after:
            best = self.allowance(best)
        return best

    @property
    def transport(self) -> str:
        """Return the trigger's transport protocol, as the policy language writes it."""
        return "tcp" if self.core[-1].ends.proto == TCP else "udp"

    def take_form(self, form: str) -> None:
        """Let packets of another form follow each trigger."""
        self.tail.form = form
        self.reference = self.tail.unit(self.core)
        self.mask = self.tail.mask(self.best, self.reference, len(self.core))

    def triggers_again(self) -> bool:
        """Return whether the trigger shows the effect again. What follows it gets another form
        where it meets the rule by itself, although the hypothesis says that it does not."""
        form = self.tail.form
        for other in (form, *(one for one in FORMS if one != form)):
            self.take_form(other)
            blank = self.blank()
            if other != form and not (blank and self.mask.any()):
                continue
            answers = self.ask([self.core, *blank], "the trigger again")
            if not any(answers[1:]):
                return answers[0] or self.repeats_show()
        self.take_form(form)  # whatever follows shows the effect
        return True

    def repeats_show(self) -> bool:
        """Return whether the trigger's last packet shows the effect when it comes again, and let it
        follow each trigger then: what follows it otherwise may lack a condition that is not known
        yet, such as a size."""
        form = self.tail.form
        if form == "again" or not self.sought.limit:
            return False
        self.take_form("again")
        if self.mask.any() and self.ask([self.core], "the trigger again and again")[0]:
            return True
        self.take_form(form)
        return False

    def blank(self) -> list[Probe]:
        """Return the core with a packet like those that follow instead of the trigger; [] where the
        hypothesis strikes even so."""
        rule, last = self.best.rule(), self.core[-1]
        if self.tail.repeats or rule is None:
            return []
        core = (*self.core[:-1], last._replace(payload=self.tail.body(-1, last.up)))
        unit = self.tail.unit(core)
        idle = (
            len(unit) > len(core)
            and not strikes(self.tail.through(unit, True), [rule]).struck.any()
        )
        return [core] if idle else []

    # -- fields of the flow

    def with_last(self, last: Sent) -> Probe:
        """Return the core with another last packet; its flow follows the packet's ends."""
        return (*with_ends(self.core[:-1], self.core[-1].ends, last.ends), last)

    def of_port(self, port: int) -> Probe:
        """Return the core at another far port."""
        last = self.core[-1]
        return self.with_last(last._replace(ends=last.ends._replace(far_port=port)))

    def ports(self, keys: dict[str, Any]) -> list[int | str] | None:
        """Return the ports around the core's own, and listed ones."""
        own = self.core[-1].ends.far_port

        def asks(values: Sequence[float]) -> list[bool]:
            return self.ask([self.of_port(int(one)) for one in values], "which ports")

        low, high, below, above = asks([1, LAST_PORT, max(own - 1, 1), min(own + 1, LAST_PORT)])
        # mostly a rule lists single ports: further ones are asked where the next one is struck
        ends: list[tuple[float, float]] = [
            (own, 1 if below and not low else own), (own, LAST_PORT if above and not high else own)
        ]  # fmt: skip
        likely = sorted({port for some in ends for port in likely_ends(*some)})
        known = dict(zip(likely, asks(likely), strict=True))
        ends = edges([within(*some, known) for some in ends], asks, 1)
        first = 1 if below and low else int(ends[0][0])
        last = LAST_PORT if above and high else int(ends[1][0])
        if first == 1 and last == LAST_PORT:
            return []
        named = [port for port in keys.get("ports", ()) if isinstance(port, int)]
        others = [port for port in sorted({*LISTED, *named}) if not first <= port <= last]
        hits = [port for port, hit in zip(others, asks(others), strict=True) if hit]
        self.intervals["ports"] = (first, last)
        return [*hits, first if first == last else f"{first}-{last}"]

    def addresses(self, keys: dict[str, Any]) -> list[str] | None:
        """Return the shortest prefix of the far address that is struck, and the others of a
        list."""
        last = self.core[-1]
        own = last.ends.far
        count = 8 * len(own)

        def of_bit(bit: float) -> Probe:
            far = own if bit >= count else flipped_bit(own, int(bit))
            return self.with_last(last._replace(ends=last.ends._replace(far=far)))

        def asks(values: Sequence[float]) -> list[bool]:
            return self.ask([of_bit(one) for one in values], "which prefix")

        if asks([0])[0]:
            return None
        # bit n decides if flipping it unblocks; bits from the prefix's length on do not
        good, _ = edge(count, 0, asks, 1)
        bits = int(good)
        found = [ipaddress.ip_network((own, bits), strict=False)]
        others = [one for word in keys["addresses"] if not
                  (one := ipaddress.ip_network(word)).overlaps(found[0])]  # fmt: skip
        # the core has one version of IP
        alike = [one for one in others if one.version == found[0].version]
        if alike and bits < count:  # as long as the own one, if their neighbours are struck, too
            fars = [flipped_bit(one.network_address.packed, bits) for one in alike]
            cores = [self.with_last(last._replace(ends=last.ends._replace(far=far)))
                     for far in fars]  # fmt: skip
            hits = dict(zip(alike, self.ask(cores, "which other prefixes"), strict=True))
            others = [one.supernet(new_prefix=min(bits, one.prefixlen)) if hits.get(one) else one
                      for one in others]  # fmt: skip
        return [str(one) for one in dict.fromkeys([*found, *others])]

    # -- payload

    def sizes(self, keys: dict[str, Any]) -> int | str | None:
        """Return the range of sizes."""
        last = self.core[-1]
        own, most = size_of(last), MOST_SIZE
        if last.ends.proto == TCP:  # the second segment of a larger write would be small
            last, most = last._replace(payload=last.payload[:own]), SEGMENT
        most = max(own, most)
        other = not {"stun", "stun_method", "stun_attribute", "payload", "name", "dns", "hello",
                     "entropy", "app", "role"} & keys.keys()  # fmt: skip

        def of_size(size: float) -> Probe:
            count = int(size)
            if other or count == own:
                body = last.payload if count == own else noise(count, "sized", count)
            else:
                forms = [body for body in resized(last, count) if self.same(last, body, keys)]
                body = forms[0] if forms else b""
            return self.with_last(last._replace(payload=body))

        def possible(size: float) -> bool:
            count = int(size)
            return (
                other
                or count == own
                or any(self.same(last, body, keys) for body in resized(last, count))
            )

        def asks(values: Sequence[float]) -> list[bool]:
            usable = [value for value in values if possible(value)]
            answers = dict(zip(usable, self.ask([of_size(one) for one in usable], "which sizes"),
                               strict=True)) if usable else {}  # fmt: skip
            result, state = [], True
            for value in values:
                state = answers.get(value, state)
                result.append(state)
            return result

        floor = next((size for size in range(1, own + 1) if possible(size)), own)
        low, high = asks([floor, most]) if floor < own else (True, asks([most])[0])
        below, above = edges([(own, own if low else floor), (own, own if high else most)], asks, 1)
        first = 1 if low else int(below[0])
        last_size = None if high else int(above[0])
        self.intervals["size"] = (first, last_size or most)
        if last_size is None:
            every = f"{first}-" if keys["size"] == WITH_PAYLOAD else ""
            return f"{first}-" if first > 1 else every
        return f"{first}-{last_size}"

    def same(self, last: Sent, body: bytes, keys: dict[str, Any]) -> bool:
        """Return whether another payload meets the other conditions on it."""
        one, two = read(last), read(last._replace(payload=body))
        if {"stun", "stun_method"} & keys.keys() and one.method != two.method:
            return False
        if "stun_attribute" in keys and not set(keys["stun_attribute"]) & two.attributes:
            return False
        if {"name", "dns"} & keys.keys() and one.name != two.name:
            return False
        if "hello" in keys and one.hello != two.hello:
            return False
        if "entropy" in keys:
            low, high = span(keys["entropy"])
            if not low <= two.entropy <= high:
                return False
        return "payload" not in keys or one.kind == two.kind

    def entropy(self, keys: dict[str, Any]) -> str | None:
        """Return the range of entropy."""
        last = self.core[-1]
        size = max(len(last.payload), 64) if "size" not in keys else len(last.payload)
        steps = 96
        bodies = {n: mixed(size, n, steps) for n in range(steps + 1)}
        values = {n: read(last._replace(payload=body)).entropy for n, body in bodies.items()}
        own = read(last).entropy
        inside = min(values, key=lambda n: abs(values[n] - min(own, max(values.values()))))

        def asks(numbers: Sequence[float]) -> list[bool]:
            cores = [self.with_last(last._replace(payload=bodies[int(n)])) for n in numbers]
            return self.ask(cores, "which entropy")

        answers = asks([inside, 0, steps])
        if not answers[0]:
            return None
        if answers[1] and answers[2]:
            return ""
        low, high = 0.0, 1.0
        if not answers[1]:
            good, bad = edge(inside, 0, asks, 1)
            low = roundest(values[int(bad)], values[int(good)])
            self.intervals["entropy"] = (values[int(bad)], values[int(good)])
        if not answers[2]:
            good, bad = edge(inside, steps, asks, 1)
            high = roundest(values[int(bad)], values[int(good)])
        return f"{low:g}-" if high >= 1.0 else f"{low:g}-{high:g}"

    def kinds(self, keys: dict[str, Any]) -> list[str] | None:
        """Return the kinds of payload that are struck, [] for all, also where few pass that an
        allow-list can name."""
        last = self.core[-1]
        ends = last.ends if "ports" in keys else ends_of_kinds(last)
        by_kind = {kind: one for kind, one in other_kinds(last).items() if one.ends == ends}
        own = read(last).kind
        if "size" in keys or not by_kind:
            return None
        cores = [self.with_last(one) for one in by_kind.values()]
        answers = self.ask(cores, "which kinds of payload")
        hits = [kind for kind, hit in zip(by_kind, answers, strict=True) if hit]
        spared = len(by_kind) - len(hits)
        wide = keys.keys() <= {"payload", "protocol", "direction", "ports"}
        few = wide and self.sought.kind == DROP and MOSTLY_STRUCK * spared <= 1 + len(hits)
        self.spares_kinds = few and bool(spared)
        return [] if few or not spared else [own, *hits]

    def methods(self, keys: dict[str, Any]) -> list[str | int] | None:
        """Return the STUN methods that are struck, of those with a name and the trigger's
        neighbours: a vendor's own methods follow each other."""
        last = self.core[-1]
        own = read(last).method
        near = range(max(own - NEAR_METHODS, 0), min(own + NEAR_METHODS, LAST_METHOD) + 1)
        numbers = sorted({*METHODS.values(), *near} - {own})
        cores = []
        for number in numbers:
            kind = method_bits(number) | int.from_bytes(last.payload[:2], "big") & 0x0110
            body = kind.to_bytes(2, "big") + last.payload[2:]
            cores.append(self.with_last(last._replace(payload=body)))
        answers = self.ask(cores, "which STUN methods")
        hits = [number for number, hit in zip(numbers, answers, strict=True) if hit]
        return [METHOD_WORDS.get(one, one) for one in (own, *hits)]

    def code_points(self, keys: dict[str, Any]) -> list[int | str] | None:
        """Return the code points that are struck, of those with a name and the trigger's own."""
        last = self.core[-1]
        others = [number for number in sorted(set(CODE_POINTS.values())) if number != last.dscp]
        cores = [self.with_last(last._replace(dscp=number)) for number in others]
        answers = self.ask(cores, "which code points")
        hits = [number for number, hit in zip(others, answers, strict=True) if hit]
        return [] if len(hits) == len(others) else [word_of(one) for one in (last.dscp, *hits)]

    # -- windows

    def which_count(self, keys: dict[str, Any]) -> dict[str, Any]:
        """Return a match whose window is of the count that decides: of a capture's packets, octets
        and seconds all grow together."""
        windows = [key for key in COUNTS
                   if str(keys.get(key, "")).endswith("-")]  # fmt: skip
        if len(windows) != 1 or not self.last_shows:
            return keys
        sent = {"packets": len(self.core), "bytes": sum(map(ip_size, self.core)), "seconds": AGED}
        packets, octets = int(BEYOND * sent["packets"]) + 4, int(BEYOND * sent["bytes"]) + 300
        cores = {
            "packets": self.preceded(packets, 0, 0.0),
            "bytes": self.preceded(-(-octets // 1300), octets, 0.0),
            "seconds": self.preceded(1, 0, AGED),
        }
        answers = dict(zip(cores, self.ask(list(cores.values()), "which count", True), strict=True))
        found = [key for key, answer in answers.items() if answer]
        if len(found) != 1 or found == windows:
            return keys
        return {key: one for key, one in keys.items() if key != windows[0]} | {
            found[0]: f"{sent[found[0]]:g}-"}  # fmt: skip

    def ends(
        self, asks: Callable[[Sequence[float]], list[bool]], start: float, fine: float,
        most: float, whole: bool,
    ) -> tuple[float, float] | None:  # fmt: skip
        """Return (last value that shows the effect, first that does not) beyond one that does, None
        where no value does not."""
        tries = [value for value in (2 * start, 4 * start, most) if start < value <= most]
        answers = asks(tries)
        if all(answers):
            return None
        at = answers.index(False)
        return edge(tries[at - 1] if at else start, tries[at], asks, fine, whole)

    def preceded(self, count: int, octets: int, seconds: float) -> Probe:
        """Return the last packet of the core behind fillers in its flow."""
        last = self.core[-1]
        fill = list(fillers(last, count, octets))
        begin = len(fill) * 3 * MS
        age = max(begin + 20 * MS, int(seconds * 1e9))
        return in_order([*fill, last._replace(time=age if fill or seconds else 0)])

    def packets(self, keys: dict[str, Any]) -> str | None:
        """Return the window of packets."""
        return self.window("packets", keys, lambda n: self.preceded(int(n), 0, 0.0), MOST_PACKETS)

    def octets(self, keys: dict[str, Any]) -> str | None:
        """Return the window of octets."""

        def make(octets: float) -> Probe:
            count = max(1, -(-int(octets) // 1300)) if octets else 0
            return self.preceded(count, int(octets), 0.0)

        return self.window("bytes", keys, make, MOST_OCTETS)

    def seconds(self, keys: dict[str, Any]) -> str | None:
        """Return the window of seconds."""
        return self.window(
            "seconds", keys, lambda value: self.preceded(1, 0, value), MOST_SECONDS, False
        )

    def window(
        self, key: str, keys: dict[str, Any], make: Callable[[float], Probe], most: float,
        whole: bool = True,
    ) -> str | None:  # fmt: skip
        """Return a window of a count: its lower and upper end."""

        if self.sought.kind in SHARES and not self.sought.limit and (
            self.core[-1].ends.proto != TCP
        ):  # fmt: skip
            return self.window_of_share(key, *span(keys[key]))

        def asks(values: Sequence[float]) -> list[bool]:
            return self.ask([make(value) for value in values], f"which {key}", self.last_shows,
                            timed=key == "seconds")  # fmt: skip

        def count(value: float) -> float:
            core = make(value)
            place = places(self.tail.through(core, True)).get(len(core) - 1)
            if place is None:
                return value
            return {"packets": place.packets, "bytes": place.octets, "seconds": place.age}[key]

        low, high = span(keys[key])
        inside = self.inside(key, low, high)
        tries = [0.0, inside, inside * 1.5 + 4 if whole else inside + 0.4]
        none, some, more = asks(tries)
        if none and not some and not more:
            good, bad = edge(0.0, inside, asks, self.fine(key, inside), whole)
            first, limit = count(good), count(bad)
            self.intervals[key] = (first, limit)
            return until(key, first, limit)
        if none:
            return self.upper(key, asks, count, most, whole, 0.0)
        start = inside if some else tries[2]
        if not some and not more:
            self.refuted = True  # the count alone does not bring the effect about
            return None
        good, bad = edge(start, 0.0, asks, self.fine(key, start), whole)
        first, limit = count(good), count(bad)
        self.intervals[key] = (limit, first)
        beyond = self.ends(asks, start, self.fine(key, start), most, whole)
        last = end_of(key, *map(count, beyond)) if beyond is not None else ""
        return since(key, limit, first) + last

    def window_of_share(self, key: str, low: float, high: float) -> str | None:
        """Return the window of a count in which a share of datagrams shows the effect, "" for all
        counts: of one flow with many datagrams, as few of them say little."""
        last = low if math.isinf(high) else high
        first, seen = self.seen_window(key, SKIPPED * low, last)
        if seen is not None and seen[0].value == first and low > 1:
            first, seen = self.seen_window(key, 0.0, last)
        if seen is None:
            self.refuted = True
            return None
        begin, end = seen
        if begin.value == first:
            if end is None:
                return ""
            self.intervals[key] = (end.low, end.high)
            return until(key, end.value, end.high)
        self.intervals[key] = (begin.low, begin.high)
        words = since(key, begin.low, begin.value if key == "packets" else begin.high)
        return words + (end_of(key, end.value, end.high) if end else "")

    def seen_window(
        self, key: str, skipped: float, last: float
    ) -> tuple[float, tuple[Bound, Bound | None] | None]:
        """Return the first count that could show an effect, and where one begins and ends of which
        a share of datagrams shows it; see `spread_over`."""
        share = max(self.sought.amount, LEAST_OF_SHARE)
        unit, others = self.spread_over(key, skipped, last)
        copies = math.ceil(COPIES_OF_SHARE / (share * max(COUNT_CLOSE * skipped, 1.0)))
        apart = one_by_one(unit) if key == "seconds" else APART
        outcome = self.prober.ask(f"which {key}", [unit], min(max(copies, 4), 24), apart=apart)[0]
        affected, usable, other = affected_of(outcome, self.base, self.sought)
        at_box = places(self.tail.through(outcome.as_sent, True))
        counts = np.array([
            {"packets": at_box[at].packets, "bytes": at_box[at].octets,
             "seconds": at_box[at].age}[key] if at in at_box else np.nan
            for at in range(len(unit))
        ])  # fmt: skip
        own = np.isfinite(counts) & (np.arange(len(unit)) >= others)
        rows, columns = np.nonzero(usable & own)
        seen = likeliest_window(counts[columns], affected[rows, columns], other[columns], share)
        if seen is not None:
            self.prober.taught(f"from {seen[0].low:g} to {seen[0].high:g} on")
        return float(counts[own].min()), seen

    def spread_over(self, key: str, skipped: float, last_count: float) -> tuple[Probe, int]:
        """Return a flow in which the trigger comes again and again over a window, from the count
        that is skipped to beyond the last one, and how many packets make up the first part."""
        last = self.core[-1]
        beyond = BEYOND * last_count - skipped
        size, carried = ip_size(last), self.prober.rate[last.up] * SHARE
        apart = max(SPREAD_APART, int(size * 8e6 / carried))
        fill: list[Sent] = []
        if key == "seconds":
            apart = max(apart, int(beyond * 1e9 / MOST_SPREAD))
            count, begin = beyond * 1e9 / apart, int(skipped * 1e9)
        else:
            octets = int(skipped) if key == "bytes" else 0
            fill = list(fillers(last, -(-octets // 1300) if octets else int(skipped), octets))
            count, begin = beyond / (size if key == "bytes" else 1), len(fill) * 3 * MS
        fill = fill or list(fillers(last, 1, 0))
        begin += PAUSE
        many = int(min(count + SPREAD_MORE / max(self.sought.amount, LEAST_OF_SHARE), MOST_SPREAD))
        # of equal datagrams it is not known which were lost
        shown = [numbered(last, number)._replace(time=begin + number * apart)
                 for number in range(many)]  # fmt: skip
        return in_order([*fill, *shown]), len(fill)

    def upper(
        self, key: str, asks: Callable[[Sequence[float]], list[bool]],
        count: Callable[[float], float], most: float, whole: bool, start: float,
    ) -> str | None:  # fmt: skip
        """Return the window from the flow's begin to an end, None without an end."""
        tries = [value for value in (8.0, 30.0, 100.0, most) if value <= most]
        answers = asks(tries)
        if all(answers):
            return None
        bad = tries[answers.index(False)]
        earlier = [start, *tries[: answers.index(False)]]
        good, bad = edge(earlier[-1], bad, asks, self.fine(key, bad), whole)
        first, limit = count(good), count(bad)
        self.intervals[key] = (first, limit)
        return until(key, first, limit)

    def inside(self, key: str, low: float, high: float) -> float:
        """Return how much must precede the last packet so that its count is surely inside."""
        if key == "packets":
            return max(low - 1, 1.0)
        if key == "bytes":
            return max(low, 1.0)
        return max(low, 0.02)

    def fine(self, key: str, value: float) -> float:
        """Return how exact an edge must be."""
        return {"packets": 1.0, "bytes": max(value * 0.02, 8.0),
                "seconds": max(value * 0.03, 0.02)}[key]  # fmt: skip

    # -- allowances

    def allowance(self, best: Hypothesis) -> Hypothesis:
        """Return the hypothesis with the exact allowance of `after`."""
        after = best.allowance
        key, value = next(iter(after.items()))
        if "per" in after:  # what one flow sends is not all that counts
            return best
        if "direction" in after and self.core[-1].ends.proto == TCP:
            return best  # behind the first write that is lost nothing shows whether others are
        found = Allowance(self, best, key, float(value), after.get("direction")).run()
        if found is None:
            return best
        self.intervals[f"after {key}"] = (found[1], found[2])
        exact = round(found[0], 3) if key == "seconds" else int(found[0])
        return best._replace(after=json.dumps(after | {key: exact}))


class Allowance:
    """What a flow may still send after the trigger: fillers, then packets that show the act.

    direction: the one that counts, None for both.
    """

    def __init__(
        self, refiner: Refiner, best: Hypothesis, key: str, value: float, direction: str | None
    ) -> None:
        self.refiner, self.best, self.key, self.value = refiner, best, key, value
        self.direction = direction
        self.most = value * 2 + {"packets": 12, "bytes": 2000, "seconds": 0.5}[key]
        self.tail = refiner.tail
        # the fillers use up the allowance; what shows the act is not to do so, too
        self.sought = self.tail.sought
        stream = refiner.core[-1].ends.proto == TCP  # behind a lost write it says little of others
        if self.sought.kind == PARTIAL and (stream or self.sought.amount > NEARLY_ALL):
            self.sought = Effect(DROP, 1.0, self.sought.chance)
        shares = self.sought.kind in SHARES
        self.shown = self.tail.shown if shares else FEW

    def unit(self, amount: float) -> tuple[Probe, np.ndarray[Any, Any]]:
        """Return the core, `amount` of fillers, and packets that show the act; which of them the
        answer depends on, bool[packets]: where all are struck, the first one that meets the box."""
        core = self.refiner.core
        last = core[-1]
        packets = list(core)
        begin = last.time + PAUSE + int(self.tail.base.fixed[1])  # the box meets the trigger first
        if self.key == "seconds":
            begin = last.time + int(amount * 1e9)
        else:
            count = int(amount) if self.key == "packets" else -(-int(amount) // 1300)
            octets = 0 if self.key == "packets" else int(amount)
            fill = [one._replace(up=one.up if self.direction is None else self.direction == "up")
                    for one in fillers(last, count, octets, first=False)]  # fmt: skip
            packets += [one._replace(time=begin + one.time) for one in fill]
            carried = sum(map(ip_size, fill)) * 8e6 / self.tail.prober.rate[True]  # at most, in ns
            begin += len(fill) * 3 * MS + PAUSE + int(self.tail.base.fixed[1] + carried)
        shown = self.tail.carriers(last, begin, self.shown)
        unit = in_order([*packets, *shown])
        mask = np.array([one in set(shown[-6:]) for one in unit], bool)
        mask &= self.tail.mask(self.best._replace(after=""), unit, 0)
        if self.sought.kind not in SHARES:
            order = self.tail.through(unit, True).packet
            first = next((at for at in order if at >= 0 and mask[at]), -1)
            mask &= np.arange(len(unit)) == first
        return unit, mask

    def run(self) -> tuple[float, float, float] | None:
        """Return (value, low, high) of the allowance, None where it cannot be measured."""
        if self.best._replace(after="").rule() is None:
            return None

        def asks(values: Sequence[float]) -> list[bool]:
            questions = [Question(*self.unit(value)) for value in values]
            return ask_all(self.tail.prober, self.tail.base, self.sought, questions,
                           f"after how many {self.key}")  # fmt: skip

        fine = {"packets": 1.0, "bytes": max(self.value * 0.02, 16.0),
                "seconds": max(self.value * 0.015, 0.01)}[self.key]  # fmt: skip
        none, all_ = asks([0.0, self.most])
        if none or not all_:
            return None
        good, bad = edge(self.most, 0.0, asks, fine, self.key != "seconds")
        return self.measured(good, bad)

    def measured(self, good: float, bad: float) -> tuple[float, float, float]:
        """Return (value, low, high) of the allowance. good, bad: amounts of fillers behind which
        the act showed, and did not."""
        low, high = self.used_up(bad), self.used_up(good)
        if self.key == "packets":
            return high - 1, min(low, high - 1), high - 1
        middle = (low + high) / 2
        if self.key == "bytes":
            return middle, low, high
        doubt = 2 * max(self.tail.base.spread) / 1e9  # of when a packet meets the box
        low, high = low - doubt, high + doubt
        return min(max(rounded(middle), low), high), low, high

    def used_up(self, amount: float) -> float:
        """Return the least allowance that leaves some of what shows the act alone, as the box
        counts: a stream's SYN may meet the match, and packets may overtake each other."""
        unit, mask = self.unit(amount)
        through = self.tail.through(unit, True)
        fine = {"packets": 1.0, "bytes": 1.0, "seconds": 1e-3}[self.key]
        low, high = 0.0, self.most * 2
        while high - low > fine:
            middle = (low + high) / 2
            exact = middle if self.key == "seconds" else round(middle)
            after = json.dumps(self.best.allowance | {self.key: exact})
            rule = self.best._replace(after=after).rule()
            struck = rule is not None and strikes(through, [rule]).struck[0, mask].all()
            low, high = (exact, high) if struck else (low, exact)
        return high


def likely_ends(good: float, bad: float) -> list[int]:
    """Return ports between two at which a range often ends: near the first one, ever farther away,
    and on both sides of ROUND."""
    step = 1 if bad > good else -1
    near = [int(good) + step * NEARER**number for number in range(1, 8)]
    around = [port for one in ROUND for port in (one - 1, one)]
    return [port for port in (*near, *around) if min(good, bad) < port < max(good, bad)]


def within(good: float, bad: float, known: Mapping[int, bool]) -> tuple[float, float]:
    """Return a value that shows an effect and one beyond it that does not, of two such values and
    of answers for some between them."""
    between = sorted((abs(port - good), port) for port in known
                     if min(good, bad) < port < max(good, bad))  # fmt: skip
    for _, port in between:
        if not known[port]:
            return good, port
        good = port
    return good, bad


def fillers(last: Sent, count: int, octets: int, first: bool = True) -> Iterator[Sent]:
    """Yield `count` packets of the last packet's flow with `octets` IP octets in total.

    They come from the helper, so that a lossy uplink does not change what the box counts; the first
    one is the subscriber's, if nothing was sent before.
    """
    head = ip_size(last) - len(last.payload)
    spare = max(octets - count * head, 0)
    stream = last.ends.proto == TCP
    for number in range(count):
        size = spare * (number + 1) // count - spare * number // count
        up = first and number == 0
        body = noise(max(size, 1 if stream else 4), "filler", number, octets)
        yield last._replace(time=number * 3 * MS, up=up, payload=body)


def mixed(size: int, step: int, steps: int) -> bytes:
    """Return octets of which about step / steps are noise, and the rest zeros."""
    noisy = size * step // steps
    if size <= 64:
        return bytes(range(1, noisy + 1)) + bytes(size - noisy)
    return noise(noisy, "entropy", size) + bytes(size - noisy)


def until(key: str, last: float, beyond: float) -> str:
    """Return a window from the flow's begin to between the last count that shows the effect and the
    first that does not. key: packets, bytes or seconds."""
    return f"{0 if key == 'seconds' else 1}-{end_of(key, last, beyond)}"


def end_of(key: str, last: float, beyond: float) -> str:
    """Return the end of a window, see `until`."""
    if key == "packets":
        return f"{last:.0f}"
    middle = (last + beyond) / 2
    return f"{rounded(middle):g}" if key == "seconds" else f"{middle:.0f}"


def since(key: str, beyond: float, first: float) -> str:
    """Return a window without an end that begins between the last count that does not show the
    effect and the first that does. key: packets, bytes or seconds."""
    if key == "packets":
        return f"{first:.0f}-"
    middle = (beyond + first) / 2
    return f"{rounded(middle):g}-" if key == "seconds" else f"{middle + 0.5:.0f}-"


def rounded(value: float) -> float:
    """Return a time rounded to two digits, or to a tenth of a second where that is close."""
    for unit in (1.0, 0.5, 0.1, 0.05, 0.01):
        near = round(value / unit) * unit
        if near > 0 and abs(near - value) <= 0.02 * value:
            return round(near, 3)
    return round(value, 3)
