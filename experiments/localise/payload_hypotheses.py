# SPDX-License-Identifier: BSD-3-Clause
"""What a box looks for in one packet's payload: hypotheses struck out by what it answers.

First come conditions on protocol fields, alone and in pairs, that the packet itself meets. Of the
messages that could be tried, the one on which the hypotheses left disagree most is asked about
next, until all that are left agree. Where none is left, octets are looked at: which of them are
needed, fields first, then which bits of each, then whether their place matters.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from midcall.experiments.localise.clause import ALL, Range
from midcall.experiments.localise.delta_debugging import needed
from midcall.experiments.localise.messages import exemplars, noise, resized_into, unlike, variants
from midcall.experiments.localise.packet_fields import attribute_types, fields, read
from midcall.experiments.localise.payload_conditions import (
    Anywhere,
    Attribute,
    Both,
    Condition,
    Disorder,
    Fixed,
    Hello,
    IsStun,
    Kind,
    Method,
    Named,
    Octet,
    runs,
)
from midcall.testbed.policy.language import METHODS, PAYLOADS
from midcall.testbed.probing.probe import Sent

Bools = NDArray[np.bool_]
#: Asks whether the box blocks when a packet's payload is this one.
Ask = Callable[[bytes], bool]

#: Messages that are asked about beyond those that strike hypotheses out.
CHECKS = 10
#: Octets of those that a condition says decide that are changed one by one.
SPOILT = 8
#: Octets of a field that may decide as it stands.
LONGEST_FIELD = 16
#: Steps in which the entropy of a payload is varied, octets that a payload needs for that, and has
#: for noise to be of high entropy.
STEPS, SMALLEST, FEW = 24, 4, 64


class Unexplained(Exception):
    """No condition on the payload agrees with what the box answers."""


def learn(
    one: Sent, ask: Ask, sizes: Range, tells: Callable[[bytes], bool] = lambda body: True
) -> Condition | None:
    """Return what a box looks for in a packet's payload, None where any payload will do.

    ask: whether the box blocks with another payload in its place; sizes: of payloads that may be
    tried, at least; others are tried first; tells: whether the answer to a payload tells of this
    condition, and not of another clause that was found before. Raises Unexplained.
    """
    if sizes != ALL and sizes[0] < sizes[1] and all(map(ask, samples(one, sizes, tells))):
        return None  # what other messages lack may be no more than the size
    octets, within = None, ALL  # conditions on protocol fields are preferred, at any sizes
    for span in dict.fromkeys((ALL, sizes)):
        seen = {body: ask(body) for body in samples(one, span, tells)}
        if all(seen.values()):
            return None
        more = list(filter(tells, variants(one, span)))
        found = survivor(one, hypotheses(one, seen), more, seen, ask)
        found = found or disorder(one, ask, span, seen)
        if isinstance(found, Fixed):
            if octets is None:
                octets, within = found, span
            continue
        odd = filter(tells, spoilt(one, found)) if found is not None else ()
        if found is not None and all(agrees(one, found, ask, body) for body in odd):
            return found
    return octets_of(one, ask, sizes) if octets is None else narrowed(one, octets, ask, within)


def samples(one: Sent, sizes: Range, tells: Callable[[bytes], bool]) -> list[bytes]:
    """Return a message of every kind that tells something, the same for every search."""
    bodies = exemplars(one.ends.proto).values()
    same = [unlike(one.payload, "one"), bytes(len(one.payload))]
    found = dict.fromkeys([*resized_into(bodies, sizes, len(one.payload)), *same])
    return list(filter(tells, found))


# ---- conditions on fields


def hypotheses(one: Sent, seen: dict[bytes, bool]) -> list[Condition]:
    """Return the conditions that a packet meets, alone and in pairs.

    seen: what the box said to other messages, which tells of lists of methods and kinds.
    """
    result = read(one)
    single: list[Condition] = []
    if result.method >= 0:
        methods = {read(one._replace(payload=body)).method for body, hit in seen.items() if hit}
        known = frozenset(methods & set(METHODS.values())) | {result.method}
        single += [IsStun(), Method(frozenset({result.method}))]
        single += [Method(known)] if len(known) > 1 else []
        single += [Attribute(kind) for kind in dict.fromkeys(attribute_types(one.payload))]
    kinds = dict.fromkeys(PAYLOADS, True)
    for body, hit in seen.items():
        word = read(one._replace(payload=body)).kind
        kinds[word] = kinds[word] and hit
    shown = {read(one._replace(payload=body)).kind for body in seen}
    met = frozenset(word for word in shown if kinds[word]) | {result.kind}
    single += [Kind(frozenset({result.kind}))] + ([Kind(met)] if len(met) > 1 else [])
    if result.where:
        single += named(result.where, result.name)
    if result.hello:
        single.append(Hello(result.hello))
    single += [
        Fixed(tuple(Octet(o, 255, one.payload[o]) for o in range(part.at, part.at + part.length)))
        for part in fields(one) if part.name != "data" and part.length <= LONGEST_FIELD
    ]  # fmt: skip
    single = [guess for guess in dict.fromkeys(single) if guess.meets(one)]
    pairs = [
        Both(a, b) for a, b in combinations(single, 2)
        if (type(a) is not type(b) or isinstance(a, Attribute)) and not isinstance(b, Fixed)
    ]  # fmt: skip
    return [*single, *pairs]


def named(where: str, name: str) -> list[Condition]:
    """Return patterns that a name meets, in its place alone and in every place of server names."""
    parts = name.split(".")
    patterns = [name] + [f"*.{'.'.join(parts[at:])}" for at in range(len(parts))]
    places = [frozenset({where})]
    if where != "dns":
        places.append(frozenset({"tls", "quic", "http"}))
    return [Named(place, pattern) for place in places for pattern in patterns]


def survivor(
    one: Sent,
    guesses: Sequence[Condition],
    more: Sequence[bytes],
    seen: dict[bytes, bool],
    ask: Ask,
) -> Condition | None:
    """Return the hypothesis that agrees with every answer, None where none does.

    more: messages that may be asked about; seen: those that were.
    """
    tries = [*seen, *(body for body in more if body not in seen)]
    table = predictions(one, guesses, tries)
    result = np.array([*seen.values()], bool)
    alive = (table[:, : len(seen)] == result).all(axis=1)
    asked = np.arange(len(tries)) < len(seen)

    def put(at: int) -> None:
        nonlocal alive
        asked[at] = True
        alive = alive & (table[:, at] == ask(tries[at]))

    while alive.any() and len(tries):
        share = table[alive].mean(axis=0)
        split = np.where(asked, 0.0, np.minimum(share, 1 - share))
        if split.max() <= 0:
            break
        put(int(split.argmax()))
    for at in spread(np.flatnonzero(~asked), CHECKS):
        if alive.any():
            put(int(at))
    if not alive.any():
        return None
    return min((guess for guess, here in zip(guesses, alive, strict=True) if here), key=cost)


def cost(guess: Condition) -> int:
    """Return how much a condition says."""
    return guess.cost


def spread(places: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return up to `count` of some numbers, evenly spread over them."""
    if len(places) <= count:
        return places
    return places[np.linspace(0, len(places) - 1, count).astype(np.int64)]


def predictions(one: Sent, guesses: Sequence[Condition], tries: Sequence[bytes]) -> Bools:
    """Return bool[guesses, tries]: which hypothesis says that which message is met."""
    packets = [one._replace(payload=body) for body in tries]
    rows: dict[Condition, Bools] = {}
    for guess in guesses:
        if not isinstance(guess, Both):
            rows[guess] = np.array([guess.meets(packet) for packet in packets], bool)
    return np.array(
        [
            rows[guess.first] & rows[guess.second] if isinstance(guess, Both) else rows[guess]
            for guess in guesses
        ]
    ).reshape(len(guesses), len(tries))


def spoilt(one: Sent, found: Condition) -> Iterator[bytes]:
    """Yield a payload with single octets changed, of those that a condition says decide."""
    places = [o for at, length, _ in found.spans(one) for o in range(at, at + length)]
    for at in spread(np.array(sorted(set(places)), np.int64), SPOILT):
        body = bytearray(one.payload)
        body[at] ^= 0xFF
        yield bytes(body)


# ---- entropy


def ordered(size: int, step: int) -> bytes:
    """Return `size` octets of which about step / STEPS are noise and the rest zeros.

    Of a payload of few octets the noise is octets that all differ.
    """
    loud = size * step // STEPS
    result = noise(loud, "entropy", size) if size > FEW else bytes(range(1, loud + 1))
    return result + bytes(size - loud)


def disorder(one: Sent, ask: Ask, sizes: Range, seen: dict[bytes, bool]) -> Condition | None:
    """Return a range of entropy that agrees with every answer, None where none does."""
    size = 256 if sizes == ALL else len(one.payload)
    if size < SMALLEST:
        return None
    steps = [ordered(size, step) for step in range(STEPS + 1)]
    shares = [read(one._replace(payload=body)).entropy for body in steps]
    hits = [ask(body) for body in steps]
    if all(hits) or not any(hits):
        return None
    first, last = hits.index(True), STEPS - hits[::-1].index(True)
    if not all(hits[first : last + 1]):
        return None
    low = 0.0 if first == 0 else edge(one, ask, steps[first - 1], steps[first])
    high = 1.0 if last == STEPS else edge(one, ask, steps[last + 1], steps[last])
    found = Disorder(low, high)
    sure = shares[first] >= low and all(
        found.meets(one._replace(payload=body)) == hit
        for body, hit in seen.items()
        if len(body) > 1
    )
    return (
        found if sure and all(agrees(one, found, ask, body) for body in disguised(steps)) else None
    )


def disguised(steps: Sequence[bytes]) -> Iterator[bytes]:
    """Yield payloads of the same entropies whose octets stand elsewhere and are others."""
    for body in steps[:: STEPS // 6]:
        yield body[::-1]
        yield bytes(octet ^ 0xA5 for octet in body)


def agrees(one: Sent, found: Condition, ask: Ask, body: bytes) -> bool:
    """Tell whether a condition says of a payload what the box does."""
    return found.meets(one._replace(payload=body)) == ask(body)


def edge(one: Sent, ask: Ask, out: bytes, inside: bytes) -> float:
    """Return the entropy at which the answer changes, between two payloads of equal length."""
    differ = [at for at, (a, b) in enumerate(zip(out, inside, strict=True)) if a != b]
    low, high = 0, len(differ)
    while high - low > 1:
        middle = (low + high) // 2
        if ask(mixed(out, inside, differ[:middle])):
            high = middle
        else:
            low = middle
    ends = [
        read(one._replace(payload=mixed(out, inside, differ[:count]))).entropy
        for count in (low, high)
    ]
    return roundest(*ends)


def roundest(out: float, inside: float) -> float:
    """Return the number with the fewest decimals between two, the second one included: who sets a
    rule up sets round numbers."""
    low, high = sorted((out, inside))
    for decimals in range(1, 5):
        unit = 10**decimals
        near = round((math.floor(low * unit) + 1) / unit, decimals)
        if near < high or near == inside:
            return float(near)
    return float(out + inside) / 2


def mixed(out: bytes, inside: bytes, places: Sequence[int]) -> bytes:
    """Return a payload with some of its octets taken from another one."""
    body = bytearray(out)
    for at in places:
        body[at] = inside[at]
    return bytes(body)


# ---- octets


def octets_of(one: Sent, ask: Ask, sizes: Range) -> Condition:
    """Return the octets that a box needs, where they stand or anywhere; raises Unexplained."""
    kept = keeping(one, ask)

    def kept_fields(some: Sequence[tuple[int, int]]) -> bool:
        return kept([o for at, size in some for o in range(at, at + size)])

    whole = [(field.at, field.length) for field in fields(one)]
    some = needed(whole, kept_fields)
    places = needed([o for at, size in some for o in range(at, at + size)], kept)
    if not places:
        raise Unexplained
    return fixed(one, places, ask, sizes)


def narrowed(one: Sent, found: Fixed, ask: Ask, sizes: Range) -> Condition:
    """Return which octets of a field, and which of their bits, a box needs of those it held."""
    kept = keeping(one, ask)
    if not kept(found.places):
        return octets_of(one, ask, sizes)
    return fixed(one, needed(found.places, kept), ask, sizes)


def keeping(one: Sent, ask: Ask) -> Callable[[Sequence[int]], bool]:
    """Return the test whether a packet is blocked with the octets of some places alone."""
    body = one.payload
    fillings = [unlike(body, "filling", number) for number in (1, 2)]
    return lambda places: all(ask(mixed(filling, body, places)) for filling in fillings)


def fixed(one: Sent, places: Sequence[int], ask: Ask, sizes: Range) -> Condition:
    """Return what the octets at some places may be, or that they may stand anywhere."""
    plain = mixed(unlike(one.payload, "filling", 1), one.payload, places)
    found = Fixed(tuple(octet(plain, at, ask) for at in places))
    return anywhere(one, found, ask, sizes == ALL) or found


def octet(body: bytes, at: int, ask: Ask) -> Octet:
    """Return what the octet at a place may be."""
    value = body[at]

    def hit(other: int) -> bool:
        return other == value or ask(body[:at] + bytes([other]) + body[at + 1 :])

    mask = sum(1 << bit for bit in range(8) if not hit(value ^ (1 << bit)))
    if mask == 255:
        return Octet(at, 255, value)
    masked = Octet(at, mask, value)
    ranged = Octet(at, 0, value, bound(value, 0, hit), bound(value, 255, hit))
    odd = [one for one in range(256) if masked.holds(one) != ranged.holds(one)]
    for other in spread(np.array(odd, np.int64), 4):
        result = hit(int(other))
        if result != masked.holds(int(other)):
            return ranged
        if result != ranged.holds(int(other)):
            return masked
    return masked


def bound(inside: int, outmost: int, hit: Callable[[int], bool]) -> int:
    """Return the last number towards `outmost` that is hit, from one that is, by halving."""
    if hit(outmost):
        return outmost
    near, far = inside, outmost
    while abs(far - near) > 1:
        middle = (near + far) // 2
        if hit(middle):
            near = middle
        else:
            far = middle
    return near


def anywhere(one: Sent, found: Fixed, ask: Ask, free: bool) -> Condition | None:
    """Return the octets as a text that may stand anywhere, None where its place matters."""
    stretches = runs(found.places)
    if len(stretches) != 1 or stretches[0][1] < 2:
        return None
    at, size = stretches[0]
    text = one.payload[at : at + size]
    masks = {part.at: part.mask for part in found.octets}
    letters = [masks[at + o] == 0xDF and chr(octet).isalpha() for o, octet in enumerate(text)]
    if not all(here or masks[at + o] == 255 for o, here in enumerate(letters)):
        return None
    rest = len(one.payload) - at - size
    for shift in (3, -at if at else 5):
        front = max(at + shift, 0)
        back = max(rest - (0 if free else shift), 0)
        if front == at or (not free and front + size + back != len(one.payload)):
            continue
        if not ask(noise(front, "front", shift) + text + noise(back, "back", shift)):
            return None
    return Anywhere(text, any(letters))
