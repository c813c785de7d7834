# SPDX-License-Identifier: BSD-3-Clause
"""Random edits of policies: whether a comparison with an engine notices each that changes a fate.

The engine gets the edited policy, the lab's box the one before the edit. Only policies are drawn
under which the two are equal before the edit, so that a difference is the edit's.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, TypedDict

from pydantic import ValidationError

from midcall.experiments.engines.prove import Engine, Inputs
from midcall.testbed.engines.export import export
from midcall.testbed.policy.language import Rule
from midcall.testbed.policy.operator import Policy

#: The most draws of a policy and an edit.
DRAWS = 20_000
PORTS: tuple[int | str, ...] = (
    53, 80, 443, 3478, 5060, 7000, 9, 65535, "1024-4999", "5000-9999", "10000-65535", "3478-3481",
)  # fmt: skip
SIZES = ("1-", "-39", "40-160", "8-8", "160-1472", "0-0", "13-60", "-1400")
PROTOCOLS = (None, "udp", "tcp", "other")
DIRECTIONS = (None, "up", "down")
WORDS = ("tls-hello", "sip", "http", "tls", "channel", "dtls-hello", "stun")
METHODS = ("binding", "allocate", "refresh", "send", "data", "create-permission", "channel-bind")
ACTS = ("drop", "drop", "drop", "reset", "pass")
ADDRESSES = (
    "198.19.0.0/16", "198.19.7.1/32", "192.0.2.0/24", "2001:2:0:1::/64", "198.18.7.2/32",
    "198.19.7.71/32",
)  # fmt: skip

Keys = dict[str, Any]


class Edits(TypedDict):
    """The edits under an engine.

    edits: those drawn; changed: those that change a packet's fate; noticed: of these, those after
    which the engine and the box differ; alarms: edits that change no fate and are noticed; missed:
    the edits that are not noticed, in words; exact: of the alarms and the missed edits, those after
    which the export names no difference between the engine and the box, in words.
    """

    engine: str
    edits: int
    changed: int
    noticed: int
    alarms: int
    missed: list[str]
    exact: list[str]


class Edit(NamedTuple):
    """A policy before and after an edit, and the edit in words."""

    before: Policy
    after: Policy
    words: str


def edits(
    running: Engine,
    engine: str,
    inputs: Inputs,
    access: str,
    seed: int,
    count: int,
    step: Callable[[int], None] = lambda _: None,
) -> Edits:
    """Return what becomes of `count` random edits; raises errors that a user can correct."""
    out: Edits = {
        "engine": engine, "edits": 0, "changed": 0, "noticed": 0, "alarms": 0, "missed": [],
        "exact": [],
    }  # fmt: skip
    chance = random.Random(f"midcall edits {engine} {seed}")
    for edit in drawn(chance, engine):
        if out["edits"] == count:
            break
        if differs(running, engine, inputs, access, edit.before, edit.before):
            continue
        out["edits"] += 1
        changed = fates_differ(running, engine, inputs, access, edit)
        noticed = differs(running, engine, inputs, access, edit.before, edit.after)
        out["changed"] += changed
        out["noticed"] += changed and noticed
        out["alarms"] += noticed and not changed
        if changed and not noticed:
            out["missed"].append(edit.words)
        if changed != noticed and export(edit.after, engine).exact:
            out["exact"].append(edit.words)
        step(out["edits"])
    return out


def fates_differ(running: Engine, engine: str, inputs: Inputs, access: str, edit: Edit) -> bool:
    """Return whether the edit changes the fate of a packet that is compared, in the lab's box."""
    valid = inputs.compared(running, engine)
    for name in inputs.names:
        lab = inputs.lab(name)
        one, other = (
            inputs.box(name, lab.under(policy), access, "").passes
            for policy in (edit.before, edit.after)
        )
        if (valid[name] & (one != other)).any():
            return True
    return False


def differs(
    running: Engine, engine: str, inputs: Inputs, access: str, box: Policy, other: Policy
) -> bool:
    """Return whether the engine under one policy and the box under another differ in a packet."""
    valid = inputs.compared(running, engine)
    for name in inputs.names:
        lab = inputs.lab(name)
        running.load(lab.under(other))
        passes = running.play(lab.packets).passes
        ours = inputs.box(name, lab.under(box), access, "").passes
        if (valid[name] & (passes != ours)).any():
            return True
    return False


def drawn(chance: random.Random, engine: str) -> Iterator[Edit]:
    """Yield edits of policies that the engine can be given before and after; DRAWS in all."""
    for _ in range(DRAWS):
        rules = [drawn_rule(chance) for _ in range(chance.randint(1, 3))]
        changed, words = edited(chance, rules)
        before, after = policy_of(rules), policy_of(changed)
        if before is None or after is None or before == after:
            continue
        if not export(before, engine).refused and not export(after, engine).refused:
            yield Edit(before, after, f"{words} of {[one['match'] for one in rules]}")


def policy_of(rules: list[Keys]) -> Policy | None:
    """Return a policy of rules, None where the language does not allow one of them."""
    about = {"grade": "D", "source": "drawn", "hypothesis": True}
    try:
        return Policy(
            tuple(
                Rule.model_validate({**about, "name": f"rule-{i}", **keys})
                for i, keys in enumerate(rules)
            )
        )
    except ValidationError:
        return None


def drawn_rule(chance: random.Random) -> Keys:
    """Return the keys of a rule."""
    match: Keys = {}
    for key, pick in MATCH_KEYS.items():
        if chance.random() < SHARES[key] and (value := pick(chance)):
            match[key] = value
    if not match:
        match = {"protocol": "udp"}
    keys: Keys = {"match": match, "act": chance.choice(ACTS)}
    return {**keys, "scope": chance.choice(("packet", "flow"))}


def some(*words: int | str) -> Callable[[random.Random], list[int | str]]:
    """Return a function that draws one or two of some words."""
    return lambda chance: chance.sample(words, chance.randint(1, 2))


def one_of(*words: str | None) -> Callable[[random.Random], str | None]:
    """Return a function that draws one of some words."""
    return lambda chance: chance.choice(words)


#: How each key of a match is drawn, and how often it is there.
MATCH_KEYS: dict[str, Callable[[random.Random], Any]] = {
    "protocol": one_of(*PROTOCOLS),
    "ports": some(*PORTS),
    "size": one_of(*SIZES),
    "direction": one_of(*DIRECTIONS),
    "payload": some(*WORDS),
    "stun_method": some(*METHODS),
    "addresses": some(*ADDRESSES),
}
SHARES = {
    "protocol": 0.8, "ports": 0.5, "size": 0.3, "direction": 0.3, "payload": 0.2,
    "stun_method": 0.1, "addresses": 0.2,
}  # fmt: skip


def edited(chance: random.Random, rules: list[Keys]) -> tuple[list[Keys], str]:
    """Return rules with one edit, and the edit in words."""
    out = [{**keys, "match": dict(keys["match"])} for keys in rules]
    at = chance.randrange(len(out))
    kind = chance.choice(("match", "match", "match", "act", "scope", "way", "leave", "swap"))
    if kind == "leave" and len(out) > 1:
        del out[at]
        return out, f"rule {at} left out"
    if kind == "swap" and len(out) > 1:
        other = (at + 1) % len(out)
        out[at], out[other] = out[other], out[at]
        return out, f"rules {at} and {other} swapped"
    if kind == "act":
        out[at]["act"] = chance.choice(ACTS)
    elif kind == "scope":
        out[at]["scope"] = "flow" if out[at]["scope"] == "packet" else "packet"
    elif kind == "way":
        out[at]["way"] = chance.choice(("up", "down"))
    else:
        kind = chance.choice(tuple(MATCH_KEYS))
        value = MATCH_KEYS[kind](chance)
        if value:
            out[at]["match"][kind] = value
        else:
            out[at]["match"].pop(kind, None)
        return out, f"rule {at}: match.{kind} = {value}"
    return out, f"rule {at}: {kind} = {out[at].get(kind)}"
