# SPDX-License-Identifier: BSD-3-Clause
"""Random policies of one to four rules: with subjects, allowances, counts, marks, directions."""

from __future__ import annotations

import random
from collections.abc import Iterator

from midcall.experiments.engines import edits
from midcall.experiments.engines.prove import Engine, Inputs, compared
from midcall.testbed.engines.export import export
from midcall.testbed.policy.operator import Policy

SCOPES = ("packet", "packet", "flow", "flow", "client", "pair", "server", "triple")


def drawn_policies(seed: str) -> Iterator[Policy]:
    """Yield policies without end."""
    chance = random.Random(seed)
    while True:
        rules = [drawn_rule(chance) for _ in range(chance.randint(1, 4))]
        policy = edits.policy_of(rules)
        if policy is not None:
            yield policy


def drawn_rule(chance: random.Random) -> edits.Keys:
    """Return the keys of a rule."""
    keys = edits.drawn_rule(chance)
    keys["match"].pop("stun_method", None)
    keys["scope"] = chance.choice(SCOPES)
    kind = chance.random()
    if kind < 0.15:
        keys.update(act="mark", code_point=chance.choice((0, 8, 46)))
        del keys["scope"]
    elif kind < 0.25:
        octets, per = chance.choice((60, 150, 400)), chance.choice(("flow", "client", "pair"))
        keys.update(act="drop", after={"bytes": octets, "per": per})
    elif keys["act"] == "reset":
        keys["act"] = "drop"
    if chance.random() < 0.2:
        counted = chance.choice(("packets", "bytes"))
        keys["match"][counted] = chance.choice(("2-", "3-5", "-2", "100-", "2000-"))
    if chance.random() < 0.15:
        keys["match"]["dscp"] = chance.sample((0, 8, 46, 34), 2)
    if chance.random() < 0.2 and keys["act"] != "pass":
        keys["way"] = chance.choice(("up", "down"))
    return keys


def exact_differences(
    running: Engine, engine: str, inputs: Inputs, seed: str, count: int
) -> list[str]:
    """Return those of `count` policies with an exact translation under which a packet differs."""
    out: list[str] = []
    for policy in drawn_policies(seed):
        if count == 0:
            break
        if export(policy, engine).exact:
            count -= 1
            if compared(running, policy, engine, inputs, "4g")[1]:
                out.append(str([rule.model_dump(exclude_defaults=True) for rule in policy.rules]))
    return out
