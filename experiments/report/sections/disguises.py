# SPDX-License-Identifier: BSD-3-Clause
"""Disguises and control arms: what defeats each rule, what each rule keys on, and the price."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, NotRequired, TypedDict

from midcall.experiments.measure import formatting
from midcall.experiments.measure.formatting import gettext
from midcall.experiments.results.reader import Findings

Key = tuple[str, str]


class RuleCounts(TypedDict):
    """Calls of a variant that a rule set blocks, of n; more keys are for the template."""

    operator: str
    hypothesis: str
    n: int
    blocked: int


class Variant(TypedDict):
    """The figures of a variant in summary.json; more keys are for the template."""

    name: str
    sort: str
    calls: int
    synthetic: bool
    rules: list[RuleCounts]
    follower: RuleCounts | None
    errors: NotRequired[list[str]]


class MatrixRow(TypedDict):
    """A rule set, with its counts for each variant."""

    operator: str
    hypothesis: str
    title: str
    cells: list[RuleCounts]


class Matrix(TypedDict):
    """Rule sets as rows, variants as columns; idle: rule sets that block no call."""

    dresses: list[Variant]
    rows: list[MatrixRow]
    idle: list[str]


def build(run: Findings) -> dict[str, object]:
    """Return the values of the section: a matrix of disguises, one of arms, and the costs."""
    variants: list[Variant] = run.at("disguises") or []
    titles = {
        (str(row["operator"]), str(row["hypothesis"])): str(row["hypothesis_title"])
        for row in run["calls"]
    }
    plain = next((one for one in variants if one["sort"] == "none"), None)
    if plain is None:
        return {"dressed": None}
    disguises = [one for one in variants if one["sort"] == "disguise"]
    arms = [one for one in variants if one["sort"] == "arm"]
    return {
        "dressed": {
            "calls": plain["calls"],
            "errors": [error for one in variants for error in one.get("errors") or []],
            "synthetic": plain["synthetic"],
            "apps": apps(run, plain["synthetic"]),
            "plain": pairs(plain),
            "best": min(map(pairs, disguises), key=lambda one: one.blocked, default=None),
            "disguises": matrix(plain, disguises, titles) if disguises else None,
            "arms": matrix(plain, arms, titles) if arms else None,
            "costs": [
                {**one, "rule": followed(one["follower"], titles)} for one in [plain, *disguises]
            ]
            if disguises
            else [],
        }
    }


class Pairs(NamedTuple):
    """Pairs of a call and a rule set: all that could be tested, and those that end in a block."""

    name: str
    blocked: int
    n: int


def pairs(variant: Variant) -> Pairs:
    """Return the sums over the rule sets of a variant."""
    rules = variant["rules"]
    return Pairs(
        variant["name"], sum(one["blocked"] for one in rules), sum(one["n"] for one in rules)
    )


def apps(run: Findings, synthetic: bool) -> str:
    """Return the apps of the calls and their number as text: "WhatsApp 4, Telegram 2"."""
    calls = {
        (row["capture"], row["call"]): row["app"]
        for row in run["dress_costs"]
        if row["synthetic"] == synthetic
    }
    names = list(calls.values())
    counts = sorted(((names.count(app), app) for app in set(names)), reverse=True)
    return gettext(", ").join(f"{formatting.app_name(app)} {n}" for n, app in counts)


def matrix(plain: Variant, variants: Sequence[Variant], titles: Mapping[Key, str]) -> Matrix:
    """Return rule sets as rows of counts per variant, the captured one first.

    Rule sets that block no call in any variant are named alone.
    """
    order = [plain, *variants]
    cells = {
        one["name"]: {(rule["operator"], rule["hypothesis"]): rule for rule in one["rules"]}
        for one in order
    }
    keys = list(cells[plain["name"]])
    busy = [key for key in keys if any(cells[one["name"]][key]["blocked"] for one in order)]
    return {
        "dresses": order,
        "rows": [
            {
                "operator": key[0],
                "hypothesis": key[1],
                "title": titles.get(key, key[1]),
                "cells": [cells[one["name"]][key] for one in order],
            }
            for key in busy
        ],
        "idle": [titles.get(key, key[1]) for key in keys if key not in busy],
    }


def followed(rule: RuleCounts | None, titles: Mapping[Key, str]) -> dict[str, object] | None:
    """Return the rule that follows a disguise, with its title."""
    if rule is None:
        return None
    key = (rule["operator"], rule["hypothesis"])
    return {**rule, "title": titles.get(key, rule["hypothesis"])}
