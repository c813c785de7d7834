# SPDX-License-Identifier: BSD-3-Clause
"""Random rules: benchmark rules that a generator draws by a seed, each with a call of its own.

The search was developed on the listed rules (experiments.proofs.localiser.listed_rules); none of
these rules and calls was used. A rule is kept only if it can be identified: it blocks its call, the
held-out probes have both answers, and each part of an OR matches a packet that the other does not.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from midcall.experiments.localise.packet_fields import read
from midcall.experiments.proofs.localiser import held_out_probes
from midcall.experiments.proofs.localiser.random_calls import call
from midcall.experiments.proofs.localiser.rule import (
    BenchmarkRule,
    Box,
    all_of,
    at,
    either,
    gap,
    is_up,
    match,
    octet,
    order,
    policy_box,
    sets,
    to_port,
)
from midcall.experiments.proofs.localiser.rule_parts import (
    Draw,
    Edges,
    Part,
    address,
    around,
    direction,
    kind,
    name,
    port,
    protocol,
    size,
    stun,
)
from midcall.testbed.conformance.transcript import scene
from midcall.testbed.probing.probe import Probe, Sent, probe_of

#: Least number of held-out probes of a rule with each of the two answers.
BOTH = 8
#: Largest number of draws of one rule until it can be identified.
MOST_DRAWS = 200

#: Draws a rule that may block a call.
DrawRule = Callable[[random.Random, Probe], BenchmarkRule | None]


def draw_rules(seed: int, count: int) -> tuple[BenchmarkRule, ...]:
    """Return `count` random rules, all kinds in turn; equal seeds give equal rules."""
    kinds = list(KINDS)
    return tuple(one_rule(seed, number, kinds[number % len(kinds)]) for number in range(count))


def one_rule(seed: int, number: int, kind: str) -> BenchmarkRule:
    """Return a random rule of a kind that can be identified with its call."""
    rng = random.Random(f"drawn rule/{seed}/{number}")
    for _ in range(MOST_DRAWS):
        text = call(rng)
        base = probe_of(scene(text))
        candidate = KINDS[kind](rng, base)
        if candidate is None:
            continue
        rule = candidate._replace(name=f"{kind}-{number}", kind=kind, call=text)
        if is_identifiable(rule, base, seed):
            return rule
    raise AssertionError(f"no rule of kind {kind} was drawn in {MOST_DRAWS} attempts")


def is_identifiable(rule: BenchmarkRule, base: Probe, seed: int) -> bool:
    """Return whether a rule blocks its call and its held-out probes have both answers."""
    box = rule.oracle()
    if not box.blocked(base):
        return False
    answers = [box.blocked(probe) for probe in held_out_probes.probes(rule, base, seed)]
    return min(sum(answers), len(answers) - sum(answers)) >= BOTH


def loaded(rng: random.Random, base: Probe, least: int = 1) -> Sent:
    """Return a packet of a call with a payload of at least `least` octets; each flow is equally
    likely."""
    candidates = [one for one in base if len(one.payload) >= least]
    flow = rng.choice(list(dict.fromkeys(one.ends for one in candidates)))
    return rng.choice([one for one in candidates if one.ends == flow])


# ---- of parts

#: Parts that are combined to rules: some of OF_FLOW and one of INSIDE, which read the payload.
OF_FLOW: tuple[Draw, ...] = (port, address, size, direction)
INSIDE: tuple[Draw, ...] = (stun, kind, name)


def rule_of(parts: Sequence[Part], more: str = "") -> BenchmarkRule:
    """Return the rule that requires all of some parts."""
    edges: Edges = {}
    for part in parts:
        edges |= part.edges
    text = match(", ".join(part.text for part in parts), more)
    return BenchmarkRule("", "", text, sets(", ".join(part.factor for part in parts)), edges)


def alone(draw: Draw, more: str = "") -> DrawRule:
    """Return a function that draws a rule of one part."""

    def rule(rng: random.Random, base: Probe) -> BenchmarkRule | None:
        part = draw(rng, loaded(rng, base))
        return None if part is None else rule_of([part], more)

    return rule


def both(rng: random.Random, base: Probe) -> BenchmarkRule | None:
    """Draw a rule of two or three parts that must hold together."""
    one = loaded(rng, base)
    wanted = rng.sample(OF_FLOW, rng.choice((1, 1, 2)))
    draws = [*wanted, rng.choice((*INSIDE, protocol))]
    parts = [draw(rng, one) for draw in draws]
    if any(part is None for part in parts):
        return None
    usable = [part for part in parts if part is not None]
    if read(one).where == "dns" and any(part.factor == "far port" for part in usable):
        return None  # a DNS question is recognised by its port
    return rule_of(usable, 'scope = "packet"')


def one_of(rng: random.Random, base: Probe) -> BenchmarkRule | None:
    """Draw a rule of two alternative parts; each matches packets that the other does not."""
    draws = rng.sample((port, address, size, stun, kind, name), 2)
    parts = [draw(rng, loaded(rng, base)) for draw in draws]
    usable = [part for part in parts if part is not None]
    if len(usable) < 2:
        return None
    blocked = [
        {n for n, one in enumerate(base) if policy_box(match(part.text)).blocked((one,))}
        for part in usable
    ]
    if not blocked[0] - blocked[1] or not blocked[1] - blocked[0]:
        return None
    edges = usable[0].edges | usable[1].edges
    needs = sets(*dict.fromkeys(part.factor for part in usable))
    return BenchmarkRule("", "", either(*(part.text for part in usable)), needs, edges)


# ---- octets


def literal(rng: random.Random, base: Probe) -> BenchmarkRule:
    """Draw octets at a place, mostly near the beginning."""
    body = loaded(rng, base, 8).payload
    count = rng.randint(1, 4)
    place = rng.randrange(min(len(body) - count + 1, rng.choice((4, 24, 60))))
    return BenchmarkRule("", "", at(place, body[place : place + count].hex()),
                   sets(f"octets[{place}:{place + count}]"))  # fmt: skip


def bits(rng: random.Random, base: Probe) -> BenchmarkRule:
    """Draw some bits of one octet."""
    body = loaded(rng, base, 8).payload
    place = rng.randrange(min(len(body), 24))
    mask = rng.choice((0x80, 0xC0, 0xF0, 0x7F, 0x0F, 0x3F, rng.randint(1, 254)))
    value = body[place] & mask
    return BenchmarkRule("", "", octet(place, lambda o: o & mask == value),
                   sets(f"octets[{place}:{place + 1}]"))  # fmt: skip


def octet_range(rng: random.Random, base: Probe) -> BenchmarkRule:
    """Draw a range of values of one octet."""
    body = loaded(rng, base, 8).payload
    place = rng.randrange(min(len(body), 24))
    low = max(body[place] - rng.randint(0, 40), 0)
    high = min(body[place] + rng.randint(1, 40), 255)
    return BenchmarkRule("", "", octet(place, lambda o: low <= o <= high),
                   sets(f"octets[{place}:{place + 1}]"))  # fmt: skip


def places(rng: random.Random, base: Probe) -> BenchmarkRule:
    """Draw single octets at two or three places that are not adjacent."""
    body = loaded(rng, base, 24).payload
    count = rng.choice((2, 3))
    chosen = sorted(2 * n for n in rng.sample(range(min(len(body), 40) // 2), count))
    tests = [at(place, body[place : place + 1].hex()) for place in chosen]
    return BenchmarkRule(
        "", "", all_of(*tests), sets(" ".join(f"octets[{n}:{n + 1}]" for n in chosen))
    )


def prefix(rng: random.Random, base: Probe) -> BenchmarkRule:
    """Draw the first octets of a payload."""
    body = loaded(rng, base, 8).payload
    count = rng.randint(1, 8)
    return BenchmarkRule("", "", at(0, body[:count].hex()), sets(f"octets[0:{count}]"))


def anywhere(rng: random.Random, base: Probe) -> BenchmarkRule:
    """Draw a sequence of octets that may stand anywhere."""
    body = loaded(rng, base, 12).payload
    count = rng.randint(3, 8)
    place = rng.randrange(len(body) - count + 1)
    text = body[place : place + count]
    return BenchmarkRule("", "", lambda one, state: text in one.payload, sets("octets anywhere"))


def octets_sized(rng: random.Random, base: Probe) -> BenchmarkRule | None:
    """Draw octets at a place together with a size."""
    one = loaded(rng, base, 12)
    place = rng.randrange(8)
    part = size(rng, one)
    if part is None:
        return None
    low, high = part.edges["size"][0], part.edges["size"][-1]
    top = high if len(part.edges["size"]) > 1 else 65_000
    test: Box = lambda packet, state: low <= len(packet.payload) <= top  # noqa: E731
    octets = at(place, one.payload[place : place + 2].hex())
    return BenchmarkRule("", "", all_of(octets, test), sets(f"octets[{place}:{place + 2}], size"),
                   part.edges)  # fmt: skip


# ---- where in the flow, rows, order


def window(unit: str) -> DrawRule:
    """Return a function that draws a rule with a window of packets, bytes or seconds."""

    def rule(rng: random.Random, base: Probe) -> BenchmarkRule | None:
        one = loaded(rng, base)
        own = [other for other in base if other.ends == one.ends]
        part = rng.choice((port, protocol, size, stun, kind))(rng, one)
        if part is None:
            return None
        most = {"packets": len(own), "bytes": 40 * len(own) + 600,
                "seconds": (own[-1].time - own[0].time) / 1e9 + 0.5}[unit]  # fmt: skip
        low, high = sorted(rng.uniform(0.05, 1) * most for _ in range(2))
        ends = [round(low, 1), round(high, 1)] if unit == "seconds" else [int(low), int(high)]
        if ends[0] < (0.1 if unit == "seconds" else 2) or ends[0] == ends[1]:
            return None
        form = rng.choice(("from", "to", "both"))
        if form == "to" and part.factor in ("far port", "protocol"):
            return None  # the flow's first packet decides: the window cannot be identified
        if unit == "bytes" and part.factor == "size" and ends[0] < part.edges["size"][0] + 40:
            return None  # the packet alone has that many bytes
        word = {"from": f"{ends[0]}-", "to": f"-{ends[1]}", "both": f"{ends[0]}-{ends[1]}"}[form]
        numbers = {"from": ends[:1], "to": ends[1:], "both": ends}[form]
        limit = Part(f'{unit} = "{word}"', unit, {unit: tuple(numbers)})
        return rule_of([part, limit], 'scope = "packet"')

    return rule


def pace(rng: random.Random, base: Probe) -> BenchmarkRule:
    """Draw a run of packets some time apart, perhaps of a size."""
    own = [one for one in base if one.ends == loaded(rng, base).ends]
    step = rng.choice((0.02, 0.03, 0.1, 0.5, 1.0, 3.0))
    low, high = round(step * rng.uniform(0.3, 0.9), 4), round(step * rng.uniform(1.1, 2.0), 4)
    count = rng.randint(2, min(max(len(own), 2), 8))
    if rng.random() < 0.5:
        return BenchmarkRule(
            "", "", gap(low, high, count), sets("times, gap"), {"gap": (low, high)}
        )
    own_size = len(rng.choice(own).payload)
    sizes = around(rng, own_size, 40, 1, 1300)
    return BenchmarkRule("", "", gap(low, high, count, sizes), sets("times, gap, size"),
                   {"gap": (low, high), "size": sizes})  # fmt: skip


def rate(rng: random.Random, base: Probe) -> BenchmarkRule:
    """Draw a number of packets within a number of seconds."""
    count, seconds = rng.randint(4, 30), round(rng.uniform(0.2, 2.0), 1)
    text = match(f'packets = "{count}-", seconds = "-{seconds}"', 'scope = "packet"')
    return BenchmarkRule("", "", text, sets("packets, seconds"),
                   {"packets": (count,), "seconds": (seconds,)})  # fmt: skip


def ordered(rng: random.Random, base: Probe) -> BenchmarkRule | None:
    """Draw a flow to a port within some seconds after one to another port."""
    ports = list(dict.fromkeys(one.ends.far_port for one in base))
    first, then = rng.sample(ports, 2)
    within = round(rng.uniform(0.5, 15.0), 1)
    return BenchmarkRule("", "", order(to_port(first), to_port(then), within),
                   sets("earlier, earlier far port, far port, since seconds"),
                   {"since": (within,)})  # fmt: skip


def after(rng: random.Random, base: Probe) -> BenchmarkRule | None:
    """Draw a rule that acts only after packets, bytes or seconds."""
    part = rng.choice((port, stun, size, name))(rng, loaded(rng, base))
    if part is None:
        return None
    unit = rng.choice(("packets", "bytes", "seconds"))
    amount = {"packets": rng.randint(2, 15), "bytes": rng.randint(200, 2500),
              "seconds": round(rng.uniform(0.1, 1.5), 2)}[unit]  # fmt: skip
    rule = rule_of([part], f"after = {{ {unit} = {amount} }}")
    edges = rule.edges | {"since" if unit == "seconds" else unit: (amount,)}
    return rule._replace(needs=(), edges=edges)


def print_of(word: str) -> DrawRule:
    """Return a function that draws a rule on a ClientHello's fingerprint; see rule.HELLOS."""

    def rule(rng: random.Random, base: Probe) -> BenchmarkRule:
        return BenchmarkRule("", "", match(f'hello = ["{word}"]'), sets("hello"))

    return rule


def near_port(rng: random.Random, base: Probe) -> BenchmarkRule:
    """Draw a range of the subscriber's own ports."""
    own = loaded(rng, base).ends.near_port
    low, high = around(rng, own, 4, 1, 65_535)
    test: Box = lambda one, state: low <= one.ends.near_port <= high  # noqa: E731
    return BenchmarkRule("", "", test, sets("near port"), {"near_port": (low, high)})


def directed(rng: random.Random, base: Probe) -> BenchmarkRule:
    """Draw octets in one direction."""
    one = loaded(rng, base, 8)
    wanted = at(0, one.payload[:2].hex())
    same_direction: Box = lambda packet, state: is_up(packet) == one.up  # noqa: E731
    return BenchmarkRule("", "", all_of(wanted, same_direction), sets("octets[0:2], direction"))


KINDS: dict[str, DrawRule] = {
    "literal": literal, "bits": bits, "range": octet_range, "places": places, "prefix": prefix,
    "anywhere": anywhere, "stun": alone(stun), "name": alone(name), "port": alone(port),
    "near-port": near_port, "address": alone(address), "protocol": alone(protocol),
    "size": alone(size), "kind": alone(kind, 'scope = "packet"'), "tls-print": print_of("TLS"),
    "dtls-print": print_of("DTLS"), "packets": window("packets"), "bytes": window("bytes"),
    "seconds": window("seconds"), "rate": rate, "gap": pace, "order": ordered, "and": both,
    "octets-and-size": octets_sized, "octets-and-direction": directed, "or": one_of,
    "after": after,
}  # fmt: skip
