# SPDX-License-Identifier: BSD-3-Clause
"""Drawn rules: planted rules that a generator makes by a seed, each with a call of its own.

The search was developed on the listed rules (experiments.proofs.localiser.listed_rules); of these
it has seen none, nor the calls. A rule is kept where it can be told at all: it strikes the call,
the fresh probes hold both answers, and each part of an OR strikes a packet that the other does not.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from midcall.experiments.localise.packet_fields import read
from midcall.experiments.proofs.localiser import held_out_probes
from midcall.experiments.proofs.localiser.random_calls import call
from midcall.experiments.proofs.localiser.rule import (
    Box,
    Planted,
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

#: Both answers must be among a rule's fresh probes so often, at least.
BOTH = 8
#: Drawings of one rule until it can be told.
PATIENCE = 200

#: Draws a rule that may strike a call.
Rule = Callable[[random.Random, Probe], Planted | None]


def drawn(seed: int, count: int) -> tuple[Planted, ...]:
    """Return so many drawn rules, all kinds by turns; equal seeds, equal rules."""
    kinds = list(KINDS)
    return tuple(one_rule(seed, number, kinds[number % len(kinds)]) for number in range(count))


def one_rule(seed: int, number: int, kind: str) -> Planted:
    """Return a drawn rule of a kind that can be told in its call."""
    dice = random.Random(f"drawn rule/{seed}/{number}")
    for _ in range(PATIENCE):
        text = call(dice)
        base = probe_of(scene(text))
        found = KINDS[kind](dice, base)
        if found is None:
            continue
        planted = found._replace(name=f"{kind}-{number}", kind=kind, call=text)
        if can_be_told(planted, base, seed):
            return planted
    raise AssertionError(f"no rule of kind {kind} was drawn in {PATIENCE} attempts")


def can_be_told(planted: Planted, base: Probe, seed: int) -> bool:
    """Tell whether a rule strikes its call and its fresh probes hold both answers."""
    truth = planted.oracle()
    if not truth.blocked(base):
        return False
    told = [truth.blocked(probe) for probe in held_out_probes.probes(planted, base, seed)]
    return min(sum(told), len(told) - sum(told)) >= BOTH


def loaded(dice: random.Random, base: Probe, least: int = 1) -> Sent:
    """Return a packet of a call that has a payload of so many octets; each flow is as likely."""
    held = [one for one in base if len(one.payload) >= least]
    flow = dice.choice(list(dict.fromkeys(one.ends for one in held)))
    return dice.choice([one for one in held if one.ends == flow])


# ---- of parts

#: Parts of which one or more make a rule; of the last ones, which look into the payload, one.
OF_FLOW: tuple[Draw, ...] = (port, address, size, direction)
INSIDE: tuple[Draw, ...] = (stun, kind, name)


def rule_of(parts: Sequence[Part], more: str = "") -> Planted:
    """Return the rule of all of some parts."""
    edges: Edges = {}
    for part in parts:
        edges |= part.edges
    text = match(", ".join(part.text for part in parts), more)
    return Planted("", "", text, sets(", ".join(part.called for part in parts)), edges)


def alone(draw: Draw, more: str = "") -> Rule:
    """Return the rule of one part."""

    def rule(dice: random.Random, base: Probe) -> Planted | None:
        part = draw(dice, loaded(dice, base))
        return None if part is None else rule_of([part], more)

    return rule


def both(dice: random.Random, base: Probe) -> Planted | None:
    """Draw a rule of two or three parts that must hold together."""
    one = loaded(dice, base)
    wanted = dice.sample(OF_FLOW, dice.choice((1, 1, 2)))
    draws = [*wanted, dice.choice((*INSIDE, protocol))]
    parts = [draw(dice, one) for draw in draws]
    if any(part is None for part in parts):
        return None
    kept = [part for part in parts if part is not None]
    if read(one).where == "dns" and any(part.called == "far port" for part in kept):
        return None  # a question is one by its port
    return rule_of(kept, 'scope = "packet"')


def one_of(dice: random.Random, base: Probe) -> Planted | None:
    """Draw a rule of two parts of which one is enough; each strikes what the other does not."""
    draws = dice.sample((port, address, size, stun, kind, name), 2)
    parts = [draw(dice, loaded(dice, base)) for draw in draws]
    held = [part for part in parts if part is not None]
    if len(held) < 2:
        return None
    struck = [
        {n for n, one in enumerate(base) if policy_box(match(part.text)).blocked((one,))}
        for part in held
    ]
    if not struck[0] - struck[1] or not struck[1] - struck[0]:
        return None
    edges = held[0].edges | held[1].edges
    needs = sets(*dict.fromkeys(part.called for part in held))
    return Planted("", "", either(*(part.text for part in held)), needs, edges)


# ---- octets


def literal(dice: random.Random, base: Probe) -> Planted:
    """Draw octets at a place, mostly near the beginning."""
    body = loaded(dice, base, 8).payload
    count = dice.randint(1, 4)
    place = dice.randrange(min(len(body) - count + 1, dice.choice((4, 24, 60))))
    return Planted("", "", at(place, body[place : place + count].hex()),
                   sets(f"octets[{place}:{place + count}]"))  # fmt: skip


def bits(dice: random.Random, base: Probe) -> Planted:
    """Draw some bits of one octet."""
    body = loaded(dice, base, 8).payload
    place = dice.randrange(min(len(body), 24))
    mask = dice.choice((0x80, 0xC0, 0xF0, 0x7F, 0x0F, 0x3F, dice.randint(1, 254)))
    value = body[place] & mask
    return Planted("", "", octet(place, lambda o: o & mask == value),
                   sets(f"octets[{place}:{place + 1}]"))  # fmt: skip


def octet_range(dice: random.Random, base: Probe) -> Planted:
    """Draw a range of one octet that is no matter of bits."""
    body = loaded(dice, base, 8).payload
    place = dice.randrange(min(len(body), 24))
    low = max(body[place] - dice.randint(0, 40), 0)
    high = min(body[place] + dice.randint(1, 40), 255)
    return Planted("", "", octet(place, lambda o: low <= o <= high),
                   sets(f"octets[{place}:{place + 1}]"))  # fmt: skip


def places(dice: random.Random, base: Probe) -> Planted:
    """Draw single octets at two or three places that do not touch."""
    body = loaded(dice, base, 24).payload
    count = dice.choice((2, 3))
    chosen = sorted(2 * n for n in dice.sample(range(min(len(body), 40) // 2), count))
    tests = [at(place, body[place : place + 1].hex()) for place in chosen]
    return Planted("", "", all_of(*tests), sets(" ".join(f"octets[{n}:{n + 1}]" for n in chosen)))


def prefix(dice: random.Random, base: Probe) -> Planted:
    """Draw the first octets of a payload."""
    body = loaded(dice, base, 8).payload
    count = dice.randint(1, 8)
    return Planted("", "", at(0, body[:count].hex()), sets(f"octets[0:{count}]"))


def anywhere(dice: random.Random, base: Probe) -> Planted:
    """Draw octets in a row, wherever they stand."""
    body = loaded(dice, base, 12).payload
    count = dice.randint(3, 8)
    place = dice.randrange(len(body) - count + 1)
    text = body[place : place + count]
    return Planted("", "", lambda one, memory: text in one.payload, sets("octets anywhere"))


def octets_sized(dice: random.Random, base: Probe) -> Planted | None:
    """Draw octets at a place together with a size."""
    one = loaded(dice, base, 12)
    place = dice.randrange(8)
    part = size(dice, one)
    if part is None:
        return None
    low, high = part.edges["size"][0], part.edges["size"][-1]
    top = high if len(part.edges["size"]) > 1 else 65_000
    test: Box = lambda packet, memory: low <= len(packet.payload) <= top  # noqa: E731
    octets = at(place, one.payload[place : place + 2].hex())
    return Planted("", "", all_of(octets, test), sets(f"octets[{place}:{place + 2}], size"),
                   part.edges)  # fmt: skip


# ---- where in the flow, rows, order


def window(unit: str) -> Rule:
    """Return the drawing of a rule with a window of packets, bytes or seconds."""

    def rule(dice: random.Random, base: Probe) -> Planted | None:
        one = loaded(dice, base)
        own = [other for other in base if other.ends == one.ends]
        part = dice.choice((port, protocol, size, stun, kind))(dice, one)
        if part is None:
            return None
        most = {"packets": len(own), "bytes": 40 * len(own) + 600,
                "seconds": (own[-1].time - own[0].time) / 1e9 + 0.5}[unit]  # fmt: skip
        low, high = sorted(dice.uniform(0.05, 1) * most for _ in range(2))
        ends = [round(low, 1), round(high, 1)] if unit == "seconds" else [int(low), int(high)]
        if ends[0] < (0.1 if unit == "seconds" else 2) or ends[0] == ends[1]:
            return None
        form = dice.choice(("from", "to", "both"))
        if form == "to" and part.called in ("far port", "protocol"):
            return None  # the flow's first packet decides: the window cannot be told
        if unit == "bytes" and part.called == "size" and ends[0] < part.edges["size"][0] + 40:
            return None  # the packet alone brings so many bytes
        word = {"from": f"{ends[0]}-", "to": f"-{ends[1]}", "both": f"{ends[0]}-{ends[1]}"}[form]
        numbers = {"from": ends[:1], "to": ends[1:], "both": ends}[form]
        held = Part(f'{unit} = "{word}"', unit, {unit: tuple(numbers)})
        return rule_of([part, held], 'scope = "packet"')

    return rule


def pace(dice: random.Random, base: Probe) -> Planted:
    """Draw packets in a row, some time apart, perhaps of a size."""
    own = [one for one in base if one.ends == loaded(dice, base).ends]
    step = dice.choice((0.02, 0.03, 0.1, 0.5, 1.0, 3.0))
    low, high = round(step * dice.uniform(0.3, 0.9), 4), round(step * dice.uniform(1.1, 2.0), 4)
    count = dice.randint(2, min(max(len(own), 2), 8))
    if dice.random() < 0.5:
        return Planted("", "", gap(low, high, count), sets("times, gap"), {"gap": (low, high)})
    own_size = len(dice.choice(own).payload)
    sizes = around(dice, own_size, 40, 1, 1300)
    return Planted("", "", gap(low, high, count, sizes), sets("times, gap, size"),
                   {"gap": (low, high), "size": sizes})  # fmt: skip


def rate(dice: random.Random, base: Probe) -> Planted:
    """Draw so many packets within so many seconds."""
    count, seconds = dice.randint(4, 30), round(dice.uniform(0.2, 2.0), 1)
    text = match(f'packets = "{count}-", seconds = "-{seconds}"', 'scope = "packet"')
    return Planted("", "", text, sets("packets, seconds"),
                   {"packets": (count,), "seconds": (seconds,)})  # fmt: skip


def ordered(dice: random.Random, base: Probe) -> Planted | None:
    """Draw a flow to a port within some seconds of one to another port."""
    ports = list(dict.fromkeys(one.ends.far_port for one in base))
    first, then = dice.sample(ports, 2)
    within = round(dice.uniform(0.5, 15.0), 1)
    return Planted("", "", order(to_port(first), to_port(then), within),
                   sets("earlier, earlier far port, far port, since seconds"),
                   {"since": (within,)})  # fmt: skip


def after(dice: random.Random, base: Probe) -> Planted | None:
    """Draw a rule that acts only after packets, bytes or seconds."""
    part = dice.choice((port, stun, size, name))(dice, loaded(dice, base))
    if part is None:
        return None
    unit = dice.choice(("packets", "bytes", "seconds"))
    amount = {"packets": dice.randint(2, 15), "bytes": dice.randint(200, 2500),
              "seconds": round(dice.uniform(0.1, 1.5), 2)}[unit]  # fmt: skip
    found = rule_of([part], f"after = {{ {unit} = {amount} }}")
    edges = found.edges | {"since" if unit == "seconds" else unit: (amount,)}
    return found._replace(needs=(), edges=edges)


def print_of(word: str) -> Rule:
    """Return the drawing of a hello's fingerprint; see experiments.proofs.localiser.rule.HELLOS."""

    def rule(dice: random.Random, base: Probe) -> Planted:
        return Planted("", "", match(f'hello = ["{word}"]'), sets("hello"))

    return rule


def near_port(dice: random.Random, base: Probe) -> Planted:
    """Draw the subscriber's own ports."""
    own = loaded(dice, base).ends.near_port
    low, high = around(dice, own, 4, 1, 65_535)
    test: Box = lambda one, memory: low <= one.ends.near_port <= high  # noqa: E731
    return Planted("", "", test, sets("near port"), {"near_port": (low, high)})


def directed(dice: random.Random, base: Probe) -> Planted:
    """Draw octets in one direction alone."""
    one = loaded(dice, base, 8)
    wanted = at(0, one.payload[:2].hex())
    way: Box = lambda packet, memory: is_up(packet) == one.up  # noqa: E731
    return Planted("", "", all_of(wanted, way), sets("octets[0:2], direction"))


KINDS: dict[str, Rule] = {
    "literal": literal, "bits": bits, "range": octet_range, "places": places, "prefix": prefix,
    "anywhere": anywhere, "stun": alone(stun), "name": alone(name), "port": alone(port),
    "near-port": near_port, "address": alone(address), "protocol": alone(protocol),
    "size": alone(size), "kind": alone(kind, 'scope = "packet"'), "tls-print": print_of("TLS"),
    "dtls-print": print_of("DTLS"), "packets": window("packets"), "bytes": window("bytes"),
    "seconds": window("seconds"), "rate": rate, "gap": pace, "order": ordered, "and": both,
    "octets-and-size": octets_sized, "octets-and-direction": directed, "or": one_of,
    "after": after,
}  # fmt: skip
