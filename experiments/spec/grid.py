# SPDX-License-Identifier: BSD-3-Clause
"""The grid of a run: one cell per operator, hypothesis, access network and date of its spec."""

from __future__ import annotations

from typing import Any, NamedTuple

from midcall.errors import ExperimentError
from midcall.experiments.results.schema import PACKET_GRADES
from midcall.experiments.results.tables import Place
from midcall.experiments.spec.spec import OWN, Spec
from midcall.suggestions import hint


class Cell(NamedTuple):
    """One point of the grid. `policy` has the rules in force at that point (none before the block).

    targets: apps whose calls the operator targeted, None if its profile does not say.
    """

    operator: str
    hypothesis: str
    title: str
    access: str
    date: str
    documented: bool
    policy: Any
    targets: tuple[str, ...] | None = None

    @property
    def name(self) -> str:
        """Return the name of the cell, for logs and errors."""
        return f"{self.operator}, {self.hypothesis}, {self.access}, {self.date}"

    def grade(self, rule: str | None) -> str | None:
        """Return the grade of a rule, else the weakest grade in force; None without rules.

        A "?" after the grade: the block was seen in packets, but the rule is a hypothesis.
        """
        rules = [one for one in self.policy.rules if rule is None or one.name == rule]
        packet_grades = PACKET_GRADES
        grades = [f"{r.grade}{'?' * (r.hypothesis and r.grade in packet_grades)}" for r in rules]
        return max(grades, default=None)

    def place(self) -> Place:
        """Return the columns that name this cell in every table."""
        return {
            "operator": self.operator,
            "hypothesis": self.hypothesis,
            "access": self.access,
            "date": self.date,
        }


def load_operators(spec: Spec) -> dict[str, Any]:
    """Return the spec's operators, by the name or path that the spec gives; tables have their ids.

    Raises ExperimentError that lists every operator that cannot be loaded or has the id of another,
    or every hypothesis of the spec that no operator has.
    """
    from midcall.errors import TestbedError
    from midcall.testbed.policy.loader import load

    operators: dict[str, Any] = {}
    problems = []
    for name in spec.operators:
        try:
            operator = load(name)
        except TestbedError as error:
            problems.append(str(error))
            continue
        twin = next((word for word, one in operators.items() if one.id == operator.id), None)
        if twin is not None:
            problems.append(
                f"{twin} and {name} have the same id {operator.id!r}: change one of them"
            )
        operators[name] = operator
    if problems:
        raise ExperimentError(f"spec {spec.name}: operators: " + "\n".join(problems))
    if spec.hypotheses != "all":
        known = {one.id for operator in operators.values() for one in operator.hypotheses}
        unknown = [name for name in spec.hypotheses if name not in known]
        if unknown:
            hints = "; ".join(f"{name} ({hint(name, known)})" for name in unknown)
            raise ExperimentError(f"spec {spec.name}: hypotheses: unknown: {hints}")
    return operators


def cells(spec: Spec, operators: dict[str, Any]) -> list[Cell]:
    """Return every cell of the grid, in the order of the spec."""
    if spec.middlebox != OWN:
        return box_cells(spec)
    return [
        Cell(
            operator.id,
            hypothesis.id,
            hypothesis.title,
            access,
            day.date.isoformat(),
            bool(operator.service(access)),
            operator.policy(hypothesis.id, access, day.date, day.time),
            None if operator.targets is None else tuple(operator.targets),
        )
        for operator in operators.values()
        for hypothesis in operator.hypotheses
        if spec.hypotheses == "all" or hypothesis.id in spec.hypotheses
        for access in spec.access
        for day in spec.dates
    ]


def box_cells(spec: Spec) -> list[Cell]:
    """Return the grid of a third-party middlebox: one hypothesis, since it has its own rules."""
    from midcall.testbed.policy.operator import EMPTY

    kind = spec.middlebox.partition(":")[0]
    return [
        Cell(
            f"blackbox:{kind}",
            "as-it-is",
            spec.middlebox,
            access,
            day.date.isoformat(),
            True,
            EMPTY,
        )
        for access in spec.access
        for day in spec.dates
    ]
