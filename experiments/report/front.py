# SPDX-License-Identifier: BSD-3-Clause
"""The first screens of the report: the headline and the picture for each kind of spec."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, TypedDict

from midcall.experiments.measure.formatting import N_
from midcall.experiments.report.policies import PolicyFile, policy_files
from midcall.experiments.report.views import Choice, Recognised, Source, View, Views, joined
from midcall.experiments.results.reader import Findings

#: With more operators than this, the answer is a picture of operators and apps.
SENTENCES = 3


class Kind(NamedTuple):
    """What a spec asks, and how the first screens answer.

    first: the id of a section that is the answer ("": none); picture: see views.PICTURES; answer:
    whether the calls of the run belong to the answer.
    """

    headline: str
    first: str = ""
    picture: str = ""
    answer: bool = True


#: Name -> kind. The name is what the spec asks for, see `kind_of`.
KINDS = {
    "operators": Kind(N_("Which calls get through, and which do not")),
    "world": Kind(N_("What each documented block would do to these calls"), picture="operators"),
    "mechanisms": Kind(N_("Which mechanism stops which call"), picture="hypotheses"),
    "disguises": Kind(
        N_("Which changed calls get past which rule"), first="disguises", picture="hypotheses"
    ),
    "localise": Kind(N_("What the middlebox decides by"), first="localise", answer=False),
    "laws": Kind(
        N_("Whether a verdict depends on what it must not depend on"), first="laws", answer=False
    ),
    "engines": Kind(
        N_("What real engines can do of the policy language"), first="engines", answer=False
    ),
    "quality": Kind(
        N_("What loss, rate limits and jitter do to a call"), first="quality", answer=False
    ),
    "programs": Kind(N_("What real programs do when their calls are blocked"), first="programs"),
}


class Front(TypedDict):
    """The values of the first screens; base: the view without a filter."""

    name: str
    kind: Kind
    base: View
    options: dict[str, tuple[str, ...]]
    apps: tuple[str, ...]
    sources: list[Source]
    recognised: list[Recognised]
    widest: float
    filters: bool
    calendar: bool


def front(run: Findings, views: Views, name: str) -> Front:
    """Return the values of the first screens; name: a key of KINDS."""
    base = views.view(Choice())
    kind = KINDS[name]
    return {
        "name": name,
        "kind": kind,
        "base": base,
        "options": views.options._asdict(),
        "apps": views.apps,
        "sources": joined(list(views.sources.values())),
        "recognised": views.recognised,
        "widest": views.widest,
        "filters": bool(run["calls"]),
        "calendar": bool(base.calendar["groups"]),
    }


def kind_of(run: Findings) -> str:
    """Return the kind of a run's spec, a key of KINDS."""
    spec = run.spec
    operators = list(spec.get("operators") or [])
    checks = (
        ("localise", bool(spec.get("localise") and run.localised)),
        ("laws", bool(spec.get("laws") and run["laws"])),
        ("engines", bool(spec.get("engines"))),
        ("quality", bool(spec.get("quality"))),
        ("disguises", bool(spec.get("disguises"))),
        ("programs", bool(spec.get("programs"))),
        ("mechanisms", operators == ["mechanisms"]),
        ("world", len(operators) > SENTENCES),
    )
    return next((name for name, true in checks if true), "operators")


def short_names(files: Mapping[str, PolicyFile]) -> dict[str, str]:
    """Return operator id -> its title without what stands in parentheses."""
    return {operator: one.title.partition(" (")[0] for operator, one in files.items()}


def views_of(run: Findings) -> Views:
    """Return the views of a run."""
    return Views(run, policy_files(run.folder), KINDS[kind_of(run)].picture)
