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

from midcall.experiments.report.sections import (
    accuracy,
    answer,
    calls,
    captures,
    collateral,
    disguises,
    live,
    localise,
    programs,
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
    under "charts", is written as a figure too.
    """

    id: str
    title: str
    build: Callable[[Findings], dict[str, object] | None]


def method(run: Findings) -> dict[str, object]:
    """Return the values of the last section: results of null tests and of conformance scenarios."""
    return {"aa": run.at("aa"), "conformance": run.at("conformance")}


def laws(run: Findings) -> dict[str, object] | None:
    """Return the results of the laws of verdicts, None where the spec asks for none."""
    return {"laws": run["laws"]} if run["laws"] else None


SECTIONS = (
    Section("answer", "Answer", answer.build),
    Section("yours", "Your captures", your_captures.build),
    Section("calls", "Calls", calls.build),
    Section("accuracy", "Accuracy", accuracy.build),
    Section("waits", "Time to verdict", time_to_verdict.build),
    Section("collateral", "Bystanders", collateral.build),
    Section("disguises", "Disguises", disguises.build),
    Section("localise", "Localiser", localise.build),
    Section("laws", "Laws of a verdict", laws),
    Section("reaction", "Public reaction", reaction.build),
    Section("speed", "Speed", speed.build),
    Section("reliability", "Reliability", reliability.build),
    Section("live", "Live", live.build),
    Section("programs", "Real calls", programs.build),
    Section("captures", "Captures", captures.build),
    Section("limits", "Method and limits", method),
)
