# SPDX-License-Identifier: BSD-3-Clause
"""Scores of an answer against the policy that was planted."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from midcall.experiments.probe.answer import OF_A_SHARE, direction
from midcall.experiments.probe.code_points import code_points_tried
from midcall.experiments.probe.prober import STREAM_PATIENCE
from midcall.experiments.probe.units import changed_packets, repeated_unit
from midcall.experiments.proofs.prober.random_policies import Case
from midcall.testbed.policy.language import INJECTED, Rule
from midcall.testbed.probing.probe import Probe
from midcall.testbed.probing.strikes import passing, strikes

#: Numbers of a rule that an answer gives with an interval.
NUMBERS = ("delay_ms", "jitter_ms", "loss", "burst", "rate_kbit", "bucket_bytes", "queue_ms",
           "probability", "lasts_s", "share")  # fmt: skip
CLOSE = 0.1
#: Share of losses from which a loss counts as a drop.
CERTAIN = 0.97


class Scored(NamedTuple):
    """One case and its answer.

    effect: whether the rules change how the call arrives; mechanism: act, direction and scope are
    right, or equal by the answer's own word (of a case without an effect: the verdict is "clean");
    numbers: (name, truth, value, low, high) of the first rule's.
    """

    name: str
    kind: str
    verdict: str
    effect: bool
    seen: bool
    act: bool
    direction: bool
    scope: bool
    mechanism: bool
    trigger: float
    begin: bool
    residual: bool
    probability: float
    probes: int
    line_s: float
    numbers: tuple[tuple[str, float, float, float, float], ...]
    truth: str
    answer: str


def score(case: Case, answer: dict[str, Any], found: Sequence[Rule]) -> Scored:
    """Return the scores of an answer. found: its rules."""
    truths = case.rules
    seen = answer["verdict"] in ("blocked", "degraded")
    if not any(case.effects):
        right = answer["verdict"] == "clean"
        return Scored(case.name, case.kind, answer["verdict"], False, seen, right, right, right,
                      right, 1.0, right, right, answer["probability"], answer["probes"],
                      answer["line_s"], (), truth_of(truths) or "no rule",
                      words(answer))  # fmt: skip
    first = truths[0]
    rules = [named_rules(answer), *([one, *one["equal"]] for one in as_well(answer))]
    order = best_order(truths, rules, case.sees)
    each = [names(truth, one, case.sees) for truth, one in zip(truths, order, strict=True)]
    right_act, right_way, right_scope = (all(flags) for flags in zip(*each, strict=True))
    mechanism = seen and right_act and right_way and right_scope
    return Scored(
        case.name, case.kind, answer["verdict"], True, seen, right_act, right_way, right_scope,
        mechanism, agreement(case, found) if found else 0.0, begins(first, answer),
        lasts(first, answer), answer["probability"], answer["probes"], answer["line_s"],
        tuple(numbers(first, answer)) if len(truths) == 1 else (),
        truth_of(truths), words(answer),
    )  # fmt: skip


def truth_of(rules: Sequence[Rule]) -> str:
    """Return the rules of a case in one line."""
    less = {"grade", "source", "name", "hypothesis", "note", "aims"}
    return "; ".join(repr(one.model_dump(exclude_unset=True, exclude=less)) for one in rules)


Named = list[dict[str, Any]]


def names(truth: Rule, named: Named, sees: str | None = None) -> tuple[bool, bool, bool]:
    """Return whether a rule's act, direction and scope are those of an answer, or of what it
    reports as equal. named: act, direction and scope, of the answer itself first; sees: the only
    direction that the box sees, in which alone it drops and delays."""
    if not named:
        return False, False, False
    acts = {one["act"] for one in named}
    if truth.act == "loss" and truth.loss < CERTAIN and named[0]["act"] != "loss":
        acts.discard("loss")  # a drop is equal to a loss of 1 alone
    if truth.match.one_in == 1 and (first := named[0]["act"]) in OF_A_SHARE:
        acts.discard(OF_A_SHARE[first][0])
    way = sees if sees is not None and truth.act not in INJECTED else direction(truth)
    return (
        truth.act in acts,
        way in {one["direction"] for one in named},
        truth.strikes in {one["scope"] for one in named},
    )


def best_order(
    truths: Sequence[Rule], rules: Sequence[Named], sees: str | None
) -> tuple[Named, ...]:
    """Return for each rule of a policy the one of the answer, so that most is right."""
    padded = [*rules, *([[]] * max(len(truths) - len(rules), 0))]
    orders = itertools.permutations(padded, len(truths))
    return max(orders, key=lambda order: sum(
        sum(names(truth, one, sees)) + 9 * all(names(truth, one, sees))
        for truth, one in zip(truths, order, strict=True)
    ))  # fmt: skip


def main(answer: dict[str, Any]) -> dict[str, Any]:
    """Return the first rule's mechanism."""
    return {"act": answer["act"]["name"], "direction": answer["direction"],
            "scope": answer["scope"]}  # fmt: skip


def as_well(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """Return further rules of an answer."""
    return [one for one in answer["alternatives"] if one["relation"] == "as well"]


def named_rules(answer: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the first mechanism and those that the answer reports as equal."""
    equal = [one for one in answer["alternatives"]
             if one["relation"] == "equal" and "act" in one]  # fmt: skip
    return [main(answer), *equal]


def words(answer: dict[str, Any]) -> str:
    """Return an answer in one line."""
    return (
        f"{answer['act']['name']} {answer['act']['parameters']} of {answer['scope']}, "
        f"{answer['direction']}: {answer['trigger'].get('match', {})}"
    )


def agreement(case: Case, found: Sequence[Rule]) -> float:
    """Return the share of fresh units on which the found rules strike what the policy strikes."""
    first = case.rules[0]
    base = case.base
    through = passing(base, case.access, STREAM_PATIENCE)
    plain = as_drop(first)
    hits = np.flatnonzero(strikes(through, [plain]).struck[0])
    at = int(hits[0]) if len(hits) else 0
    one = base[at]._replace(time=0)
    units: list[Probe] = [base]
    units += [repeated_unit((other,), 3, 20_000_000)
              for _, other in changed_packets(one, code_points_tried(base))]  # fmt: skip
    right = 0
    for unit in units:
        passed = through if unit is base else passing(unit, case.access, STREAM_PATIENCE)
        truth = strikes(passed, [as_drop(rule) for rule in case.rules]).struck.any(axis=0)
        answer = strikes(passed, [as_drop(rule) for rule in found]).struck.any(axis=0)
        right += bool((truth == answer).all())
    return right / len(units)


def as_drop(rule: Rule) -> Rule:
    """Return a rule whose act drops what it strikes."""
    act = "drop-media" if rule.act == "drop-media" else "drop"
    return rule.model_copy(update={"act": act, "probability": 1.0, "scope": rule.strikes})


def begins(rule: Rule, answer: dict[str, Any]) -> bool:
    """Return whether the begin is right to a tenth."""
    about = answer["begin"]
    if not about:
        return False
    if rule.after is None:
        return bool(about["value"] == 0 or rule.match.packets or rule.match.bytes
                    or rule.match.seconds)  # fmt: skip
    truth = getattr(rule.after, about["unit"], 0)
    return bool(truth) and abs(about["value"] - truth) <= max(CLOSE * truth, 1)


def lasts(rule: Rule, answer: dict[str, Any]) -> bool:
    """Return whether the residual time is right to a tenth, or the answer itself says that it
    is not known."""
    said = answer["residual_s"]
    if rule.lasts_s is None or said is None:
        not_known = any(one["why"].startswith("how long") for one in answer["alternatives"])
        return said is None and (rule.lasts_s is None or not_known)
    return bool(abs(said - rule.lasts_s) <= CLOSE * rule.lasts_s + 0.2)


def numbers(rule: Rule, answer: dict[str, Any]) -> list[tuple[str, float, float, float, float]]:
    """Return (name, truth, value, low, high) of the numbers that both the rule and the answer
    have."""
    result = []
    for key in NUMBERS:
        about = answer["act"]["parameters"].get(key)
        if key in rule.model_fields_set and isinstance(about, dict) and about["value"] is not None:
            truth = float(getattr(rule, key))
            result.append((key, truth, about["value"], about["low"], about["high"]))
    return result
