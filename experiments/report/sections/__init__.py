# SPDX-License-Identifier: BSD-3-Clause
"""Sections: the parts of the report, in the order in which they are read.

A section is a module of this package, whose `build` returns the values of a template from a run's
result files, and the template of the same id. Nothing is measured: rows are counted, joined and
sorted, and charts are drawn of them; the only statistics are exact intervals of counts. A part
without rows is empty or None, and the template has a sentence for it.

Imports measure and results.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from midcall.experiments.measure.formatting import N_
from midcall.experiments.report.sections import (
    accuracy,
    answer,
    calls,
    captures,
    collateral,
    disguises,
    engines,
    live,
    localise,
    probe,
    programs,
    quality,
    reaction,
    reliability,
    speed,
    time_to_verdict,
    your_captures,
)
from midcall.experiments.results.reader import Findings


class Section(NamedTuple):
    """One part: its id (and templates/<id>.html), its name in the navigation, and its values.

    build returns names and values for the page's templates; a chart among them, alone or in a list
    under "charts", is written as a figure too. follows: the filters that its figures follow, with
    spaces between.
    """

    id: str
    title: str
    build: Callable[[Findings], dict[str, object] | None]
    follows: str = ""


def method(run: Findings) -> dict[str, object]:
    """Return the values of the last section: results of null tests and of conformance scenarios."""
    return {"aa": run.at("aa"), "conformance": run.at("conformance")}


def outcomes(run: Findings) -> dict[str, object]:
    """Return nothing more: the outcome table shows the values of the answer."""
    del run
    return {}


def laws(run: Findings) -> dict[str, object] | None:
    """Return the results of the laws of verdicts, None where the spec asks for none."""
    return {"laws": run["laws"]} if run["laws"] else None


#: Filters that a section can follow.
PLACE = "operator access date"
EVERY = f"{PLACE} app"

SECTIONS = (
    Section("answer", N_("Answer"), answer.build),
    Section("outcomes", N_("Which calls, under which hypothesis"), outcomes, EVERY),
    Section("yours", N_("Your captures"), your_captures.build, "app"),
    Section("calls", N_("Which calls were recognised, and by which bytes"), calls.build, "app"),
    Section("quality", N_("Quality of calls"), quality.build, EVERY),
    Section("accuracy", N_("Accuracy of the classifier"), accuracy.build, "app"),
    Section("waits", N_("Time to verdict"), time_to_verdict.build),
    Section("collateral", N_("Innocent traffic that is hit"), collateral.build, PLACE),
    Section("disguises", N_("Disguises"), disguises.build),
    Section("localise", N_("Localiser"), localise.build),
    Section("probe", N_("Prober"), probe.build),
    Section("engines", N_("Real engines"), engines.build),
    Section("laws", N_("Laws of a verdict"), laws),
    Section("reaction", N_("Public reaction"), reaction.build),
    Section("speed", N_("Speed"), speed.build),
    Section("reliability", N_("Reliability"), reliability.build),
    Section("live", N_("Live network"), live.build),
    Section("programs", N_("Real programs"), programs.build),
    Section("captures", N_("Captures"), captures.build),
    Section("limits", N_("Method and limits"), method, EVERY),
)
