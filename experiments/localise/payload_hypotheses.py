# SPDX-License-Identifier: BSD-3-Clause
"""Learns what a box matches in one packet's payload, by eliminating hypotheses.

The first hypotheses are conditions on protocol fields, alone and in pairs, that the packet itself
meets. The message on which the remaining hypotheses disagree most is sent next, until all that
remain agree. If none remains, octets are tested: which of them are needed (whole fields first),
then which bits of each, then whether their position matters.
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
    Attribute,
    Both,
    EntropyRange,
    FixedOctets,
    HelloFingerprint,
    HostName,
    IsStun,
    Method,
    Octet,
    OctetsAnywhere,
    PayloadCondition,
    PayloadKind,
    runs,
)
from midcall.testbed.policy.language import METHODS, PAYLOADS
from midcall.testbed.probing.probe import Sent

Bools = NDArray[np.bool_]
#: Returns whether the box blocks with this payload in the packet's place.
Ask = Callable[[bytes], bool]

#: Number of further messages sent after those that eliminate hypotheses.
CHECKS = 10
#: Number of decisive octets of a condition that are changed one by one.
CORRUPTED = 8
#: Longest field, in octets, that is a hypothesis as a whole.
LONGEST_FIELD = 16
#: Steps in which the entropy of a payload is varied; smallest payload for that, and smallest
#: payload of noise with a high entropy, in octets.
STEPS, SMALLEST, FEW = 24, 4, 64


class Unexplained(Exception):
    """No condition on the payload agrees with the box's answers."""


def learn(
    packet: Sent, ask: Ask, sizes: Range, informative: Callable[[bytes], bool] = lambda body: True
) -> PayloadCondition | None:
    """Return what a box matches in a packet's payload, None if it accepts any payload.

    ask: whether the box blocks with another payload in its place; sizes: of payloads that may be
    tried at least; all sizes are tried first; informative: whether the answer to a payload depends
    on this condition and not on another clause that was found before. Raises Unexplained.
    """
    if sizes != ALL and sizes[0] < sizes[1] and all(map(ask, samples(packet, sizes, informative))):
        return None  # other messages may fail by their size alone
    octets, within = None, ALL  # conditions on protocol fields are preferred, at any sizes
    for span in dict.fromkeys((ALL, sizes)):
        answers = {body: ask(body) for body in samples(packet, span, informative)}
        if all(answers.values()):
            return None
        more = list(filter(informative, variants(packet, span)))
        condition = consistent_hypothesis(packet, hypotheses(packet, answers), more, answers, ask)
        condition = condition or entropy_condition(packet, ask, span, answers)
        if isinstance(condition, FixedOctets):
            if octets is None:
                octets, within = condition, span
            continue
        changed = filter(informative, corrupted(packet, condition)) if condition is not None else ()
        if condition is not None and all(agrees(packet, condition, ask, body) for body in changed):
            return condition
    return (
        octets_of(packet, ask, sizes)
        if octets is None
        else narrowed_field(packet, octets, ask, within)
    )


def samples(packet: Sent, sizes: Range, informative: Callable[[bytes], bool]) -> list[bytes]:
    """Return an informative message of every kind, the same for every search."""
    bodies = exemplars(packet.ends.proto).values()
    same = [unlike(packet.payload, "one"), bytes(len(packet.payload))]
    messages = dict.fromkeys([*resized_into(bodies, sizes, len(packet.payload)), *same])
    return list(filter(informative, messages))


# ---- conditions on fields


def hypotheses(packet: Sent, answers: dict[bytes, bool]) -> list[PayloadCondition]:
    """Return the conditions that a packet meets, alone and in pairs.

    answers: of the box to other messages, from which lists of methods and kinds are derived.
    """
    reading = read(packet)
    single: list[PayloadCondition] = []
    if reading.method >= 0:
        methods = {
            read(packet._replace(payload=body)).method
            for body, blocked in answers.items()
            if blocked
        }
        known = frozenset(methods & set(METHODS.values())) | {reading.method}
        single += [IsStun(), Method(frozenset({reading.method}))]
        single += [Method(known)] if len(known) > 1 else []
        single += [Attribute(kind) for kind in dict.fromkeys(attribute_types(packet.payload))]
    kinds = dict.fromkeys(PAYLOADS, True)
    for body, blocked in answers.items():
        word = read(packet._replace(payload=body)).kind
        kinds[word] = kinds[word] and blocked
    kinds_seen = {read(packet._replace(payload=body)).kind for body in answers}
    matching = frozenset(word for word in kinds_seen if kinds[word]) | {reading.kind}
    single += [PayloadKind(frozenset({reading.kind}))] + (
        [PayloadKind(matching)] if len(matching) > 1 else []
    )
    if reading.where:
        single += name_patterns(reading.where, reading.name)
    if reading.hello:
        single.append(HelloFingerprint(reading.hello))
    single += [
        FixedOctets(
            tuple(Octet(o, 255, packet.payload[o]) for o in range(part.at, part.at + part.length))
        )
        for part in fields(packet) if part.name != "data" and part.length <= LONGEST_FIELD
    ]  # fmt: skip
    single = [condition for condition in dict.fromkeys(single) if condition.meets(packet)]
    pairs = [
        Both(a, b) for a, b in combinations(single, 2)
        if (type(a) is not type(b) or isinstance(a, Attribute)) and not isinstance(b, FixedOctets)
    ]  # fmt: skip
    return [*single, *pairs]


def name_patterns(where: str, name: str) -> list[PayloadCondition]:
    """Return patterns that a name meets, for its own protocol and for all protocols with server
    names."""
    parts = name.split(".")
    patterns = [name] + [f"*.{'.'.join(parts[at:])}" for at in range(len(parts))]
    places = [frozenset({where})]
    if where != "dns":
        places.append(frozenset({"tls", "quic", "http"}))
    return [HostName(place, pattern) for place in places for pattern in patterns]


def consistent_hypothesis(
    packet: Sent,
    guesses: Sequence[PayloadCondition],
    more: Sequence[bytes],
    answers: dict[bytes, bool],
    ask: Ask,
) -> PayloadCondition | None:
    """Return the hypothesis that agrees with every answer, None if none does.

    more: messages that may be sent; answers: those that were sent, with their answers.
    """
    tries = [*answers, *(body for body in more if body not in answers)]
    table = predictions(packet, guesses, tries)
    outcomes = np.array([*answers.values()], bool)
    alive = (table[:, : len(answers)] == outcomes).all(axis=1)
    sent = np.arange(len(tries)) < len(answers)

    def send(at: int) -> None:
        nonlocal alive
        sent[at] = True
        alive = alive & (table[:, at] == ask(tries[at]))

    while alive.any() and len(tries):
        share = table[alive].mean(axis=0)
        split = np.where(sent, 0.0, np.minimum(share, 1 - share))
        if split.max() <= 0:
            break
        send(int(split.argmax()))
    for at in evenly_spaced(np.flatnonzero(~sent), CHECKS):
        if alive.any():
            send(int(at))
    if not alive.any():
        return None
    return min(
        (guess for guess, is_alive in zip(guesses, alive, strict=True) if is_alive), key=cost
    )


def cost(guess: PayloadCondition) -> int:
    """Return the complexity of a condition."""
    return guess.cost


def evenly_spaced(places: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return up to `count` of some numbers (int64[n]), evenly spaced."""
    if len(places) <= count:
        return places
    return places[np.linspace(0, len(places) - 1, count).astype(np.int64)]


def predictions(one: Sent, guesses: Sequence[PayloadCondition], tries: Sequence[bytes]) -> Bools:
    """Return bool[guesses, tries]: whether each hypothesis matches each message."""
    packets = [one._replace(payload=body) for body in tries]
    rows: dict[PayloadCondition, Bools] = {}
    for guess in guesses:
        if not isinstance(guess, Both):
            rows[guess] = np.array([guess.meets(packet) for packet in packets], bool)
    return np.array(
        [
            rows[guess.first] & rows[guess.second] if isinstance(guess, Both) else rows[guess]
            for guess in guesses
        ]
    ).reshape(len(guesses), len(tries))


def corrupted(packet: Sent, condition: PayloadCondition) -> Iterator[bytes]:
    """Yield a payload with single octets changed, of those that a condition needs."""
    places = [o for at, length, _ in condition.spans(packet) for o in range(at, at + length)]
    for at in evenly_spaced(np.array(sorted(set(places)), np.int64), CORRUPTED):
        body = bytearray(packet.payload)
        body[at] ^= 0xFF
        yield bytes(body)


# ---- entropy


def entropy_step(size: int, step: int) -> bytes:
    """Return `size` octets of which about step / STEPS are noise and the rest zeros.

    In short payloads the noise consists of distinct octets.
    """
    noisy = size * step // STEPS
    head = noise(noisy, "entropy", size) if size > FEW else bytes(range(1, noisy + 1))
    return head + bytes(size - noisy)


def entropy_condition(
    packet: Sent, ask: Ask, sizes: Range, answers: dict[bytes, bool]
) -> PayloadCondition | None:
    """Return a range of entropy that agrees with every answer, None if none does."""
    size = 256 if sizes == ALL else len(packet.payload)
    if size < SMALLEST:
        return None
    steps = [entropy_step(size, step) for step in range(STEPS + 1)]
    shares = [read(packet._replace(payload=body)).entropy for body in steps]
    blocked_steps = [ask(body) for body in steps]
    if all(blocked_steps) or not any(blocked_steps):
        return None
    first, last = blocked_steps.index(True), STEPS - blocked_steps[::-1].index(True)
    if not all(blocked_steps[first : last + 1]):
        return None
    low = 0.0 if first == 0 else entropy_edge(packet, ask, steps[first - 1], steps[first])
    high = 1.0 if last == STEPS else entropy_edge(packet, ask, steps[last + 1], steps[last])
    condition = EntropyRange(low, high)
    consistent = shares[first] >= low and all(
        condition.meets(packet._replace(payload=body)) == blocked
        for body, blocked in answers.items()
        if len(body) > 1
    )
    return (
        condition
        if consistent and all(agrees(packet, condition, ask, body) for body in same_entropy(steps))
        else None
    )


def same_entropy(steps: Sequence[bytes]) -> Iterator[bytes]:
    """Yield payloads of the same entropies with other octets in other places."""
    for body in steps[:: STEPS // 6]:
        yield body[::-1]
        yield bytes(octet ^ 0xA5 for octet in body)


def agrees(packet: Sent, condition: PayloadCondition, ask: Ask, body: bytes) -> bool:
    """Return whether a condition and the box decide equally on a payload."""
    return condition.meets(packet._replace(payload=body)) == ask(body)


def entropy_edge(packet: Sent, ask: Ask, out: bytes, inside: bytes) -> float:
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
        read(packet._replace(payload=mixed(out, inside, differ[:count]))).entropy
        for count in (low, high)
    ]
    return roundest(*ends)


def roundest(out: float, inside: float) -> float:
    """Return the number with the fewest decimals between two, the second one included: rules
    usually contain round numbers."""
    low, high = sorted((out, inside))
    for decimals in range(1, 5):
        unit = 10**decimals
        rounded = round((math.floor(low * unit) + 1) / unit, decimals)
        if rounded < high or rounded == inside:
            return float(rounded)
    return float(out + inside) / 2


def mixed(out: bytes, inside: bytes, places: Sequence[int]) -> bytes:
    """Return a payload with the octets at some places taken from another one."""
    body = bytearray(out)
    for at in places:
        body[at] = inside[at]
    return bytes(body)


# ---- octets


def octets_of(packet: Sent, ask: Ask, sizes: Range) -> PayloadCondition:
    """Return the octets that a box needs, at fixed places or anywhere. Raises Unexplained."""
    suffices = sufficiency_test(packet, ask)

    def fields_suffice(needed_fields: Sequence[tuple[int, int]]) -> bool:
        return suffices([o for at, size in needed_fields for o in range(at, at + size)])

    spans = [(field.at, field.length) for field in fields(packet)]
    needed_fields = needed(spans, fields_suffice)
    places = needed([o for at, size in needed_fields for o in range(at, at + size)], suffices)
    if not places:
        raise Unexplained
    return octet_conditions(packet, places, ask, sizes)


def narrowed_field(
    packet: Sent, field_octets: FixedOctets, ask: Ask, sizes: Range
) -> PayloadCondition:
    """Return which octets of a field, and which of their bits, a box needs."""
    suffices = sufficiency_test(packet, ask)
    if not suffices(field_octets.places):
        return octets_of(packet, ask, sizes)
    return octet_conditions(packet, needed(field_octets.places, suffices), ask, sizes)


def sufficiency_test(packet: Sent, ask: Ask) -> Callable[[Sequence[int]], bool]:
    """Return the test whether a packet is blocked with only the octets at some places."""
    body = packet.payload
    fillings = [unlike(body, "filling", number) for number in (1, 2)]
    return lambda places: all(ask(mixed(filling, body, places)) for filling in fillings)


def octet_conditions(
    packet: Sent, places: Sequence[int], ask: Ask, sizes: Range
) -> PayloadCondition:
    """Return the conditions on the octets at some places, or that they may stand anywhere."""
    plain = mixed(unlike(packet.payload, "filling", 1), packet.payload, places)
    condition = FixedOctets(tuple(octet(plain, at, ask) for at in places))
    return anywhere(packet, condition, ask, sizes == ALL) or condition


def octet(body: bytes, at: int, ask: Ask) -> Octet:
    """Return the condition on the octet at a place: a bit mask or a range."""
    value = body[at]

    def is_blocked(other: int) -> bool:
        return other == value or ask(body[:at] + bytes([other]) + body[at + 1 :])

    mask = sum(1 << bit for bit in range(8) if not is_blocked(value ^ (1 << bit)))
    if mask == 255:
        return Octet(at, 255, value)
    masked = Octet(at, mask, value)
    ranged = Octet(at, 0, value, bound(value, 0, is_blocked), bound(value, 255, is_blocked))
    differing = [one for one in range(256) if masked.holds(one) != ranged.holds(one)]
    for other in evenly_spaced(np.array(differing, np.int64), 4):
        answer = is_blocked(int(other))
        if answer != masked.holds(int(other)):
            return ranged
        if answer != ranged.holds(int(other)):
            return masked
    return masked


def bound(inside: int, outmost: int, is_blocked: Callable[[int], bool]) -> int:
    """Return the last number towards `outmost` that is blocked, from one that is, by bisection."""
    if is_blocked(outmost):
        return outmost
    good, bad = inside, outmost
    while abs(bad - good) > 1:
        middle = (good + bad) // 2
        if is_blocked(middle):
            good = middle
        else:
            bad = middle
    return good


def anywhere(packet: Sent, condition: FixedOctets, ask: Ask, free: bool) -> PayloadCondition | None:
    """Return the octets as a text that may stand anywhere, None if its place matters."""
    stretches = runs(condition.places)
    if len(stretches) != 1 or stretches[0][1] < 2:
        return None
    at, size = stretches[0]
    text = packet.payload[at : at + size]
    masks = {part.at: part.mask for part in condition.octets}
    letters = [masks[at + o] == 0xDF and chr(octet).isalpha() for o, octet in enumerate(text)]
    if not all(is_letter or masks[at + o] == 255 for o, is_letter in enumerate(letters)):
        return None
    rest = len(packet.payload) - at - size
    for shift in (3, -at if at else 5):
        front = max(at + shift, 0)
        back = max(rest - (0 if free else shift), 0)
        if front == at or (not free and front + size + back != len(packet.payload)):
            continue
        if not ask(noise(front, "front", shift) + text + noise(back, "back", shift)):
            return None
    return OctetsAnywhere(text, any(letters))
