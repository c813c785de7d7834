# SPDX-License-Identifier: BSD-3-Clause
"""The first screens of the report: the headline, the cost to others, and how sure the answer is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypedDict

from midcall.apps import FIVE
from midcall.experiments.measure import situations
from midcall.experiments.measure.formatting import N_
from midcall.experiments.report.policies import PACKET_GRADES, Evidence, PolicyFile, policy_files
from midcall.experiments.report.sections.answer import Answer, Lede
from midcall.experiments.results.reader import Findings
from midcall.experiments.results.schema import CALL_ROLES

#: Kind of spec -> headline. The kind is what the spec asks for, see `kind_of`.
HEADLINES = {
    "operators": N_("Which calls get through, and which do not"),
    "world": N_("What each documented block would do to these calls"),
    "mechanisms": N_("Which mechanism stops which call"),
    "disguises": N_("Which changed calls get past which rule"),
    "localise": N_("What the middlebox decides by"),
    "laws": N_("Whether a verdict depends on what it must not depend on"),
    "programs": N_("What real programs do when their calls are blocked"),
    "accuracy": N_("How well the classifier names flows"),
}
#: Kind -> the section that answers its question, shown open on the first screens.
FIRST = {"disguises": "disguises", "localise": "localise", "laws": "laws", "programs": "programs"}
#: With more operators than this, the answer is a table instead of sentences.
SENTENCES = 3
#: Hypotheses shown on the first screens; the others are in the details.
SHOWN = 8


class Cost(NamedTuple):
    """A hypothesis where it blocks most: its calls, the innocent flows it hits, its evidence."""

    operators: tuple[str, ...]
    title: str
    grade: str
    hypothetical: bool
    blocked: int
    calls: int
    inconclusive: int
    hits: situations.Hits | None


class Source(NamedTuple):
    """The documented periods of operators, and how many of their rules rest on packets."""

    titles: tuple[str, ...]
    periods: tuple[Evidence, ...]
    rules: int
    packets: int
    sources: tuple[Evidence, ...]


class Recognised(NamedTuple):
    """Call flows of an app by outcome; app is empty for all apps that are not among the five."""

    app: str
    right: int
    unsure: int
    other: int
    missed: int

    @property
    def n(self) -> int:
        """Return the number of flows."""
        return self.right + self.unsure + self.other + self.missed


class Front(TypedDict):
    """The values of the first screens."""

    kind: str
    headline: str
    first: str
    names: Mapping[str, str]
    as_table: bool
    costs: list[Cost]
    more: int
    sources: list[Source]
    rules: int
    packets: int
    recognised: list[Recognised]


def front(run: Findings, answer: Answer) -> Front:
    """Return the values of the first screens; answer: of the section with the same name."""
    files = policy_files(run.folder)
    kind = kind_of(run)
    costs = [cost for lede in answer["ledes"] for cost in costs_of(lede)]
    shown = [
        source(files[operator], run)
        for operator in dict.fromkeys(str(row["operator"]) for row in run["calls"])
        if operator in files
    ]
    return {
        "kind": kind,
        "headline": HEADLINES[kind],
        "first": FIRST.get(kind, ""),
        "names": {operator: short(one.title) for operator, one in files.items()},
        "as_table": len(answer["ledes"]) > SENTENCES,
        "costs": costs[:SHOWN],
        "more": max(0, len(costs) - SHOWN),
        "sources": joined(shown),
        "rules": sum(one.rules for one in shown),
        "packets": sum(one.packets for one in shown),
        "recognised": recognised(run),
    }


def recognised(run: Findings) -> list[Recognised]:
    """Return the outcomes of media and set-up flows of real calls: the five apps, then others."""
    counts: dict[str, Counter[str]] = {app: Counter() for app in (*FIVE, "")}
    for row in run["flows"]:
        if situations.in_headline(row) and row["truth_role"] in CALL_ROLES:
            app = str(row["truth_app"])
            counts[app if app in counts else ""][str(row["outcome"])] += 1
    rows = [
        Recognised(app, *(outcomes[key] for key in ("right", "unsure", "other_call", "missed")))
        for app, outcomes in counts.items()
    ]
    return [row for row in rows if row.n]


def kind_of(run: Findings) -> str:
    """Return the kind of a run's spec, a key of HEADLINES."""
    spec = run.spec
    operators = spec.get("operators") or []
    if not run["calls"] and run.localised:
        return "localise"
    if spec.get("disguises") and not spec.get("arms"):
        return "disguises"
    if run["laws"] and not run["calls"]:
        return "laws"
    if spec.get("programs"):
        return "programs"
    if list(operators) == ["mechanisms"]:
        return "mechanisms"
    return "world" if len(operators) > SENTENCES else "operators"


def costs_of(lede: Lede) -> list[Cost]:
    """Return the hypotheses of a lede that affect anything, those that block most first."""
    return [
        Cost(
            tuple(lede["operators"]),
            line.title,
            line.grade or "",
            line.hypothetical,
            line.total.blocked,
            line.total.n,
            line.total.inconclusive,
            line.hits,
        )
        for line in lede["lines"]
        if line.acts
    ]


def short(title: str) -> str:
    """Return a title without what stands in parentheses."""
    return title.partition(" (")[0]


def source(one: PolicyFile, run: Findings) -> Source:
    """Return the evidence of an operator's periods and of the rules of the run's hypotheses."""
    used = dict.fromkeys(str(row["hypothesis"]) for row in run["calls"])
    rules = [rule for name in used for rule in one.hypotheses.get(name, ())]
    distinct = tuple(dict.fromkeys(rule._replace(what="") for rule in rules))
    graded = sum(rule.grade in PACKET_GRADES for rule in rules)
    return Source((short(one.title),), one.periods, len(rules), graded, best_first(distinct))


def joined(sources: Sequence[Source]) -> list[Source]:
    """Return sources in which operators with the same evidence share an entry."""
    alike: dict[Source, list[str]] = {}
    for one in sources:
        alike.setdefault(one._replace(titles=()), []).extend(one.titles)
    return [one._replace(titles=tuple(titles)) for one, titles in alike.items()]


def best_first(rules: Sequence[Evidence]) -> tuple[Evidence, ...]:
    """Return evidence sorted by grade, A first, at most three entries."""
    return tuple(sorted(rules, key=lambda one: one.grade or "Z")[:3])
