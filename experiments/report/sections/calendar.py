# SPDX-License-Identifier: BSD-3-Clause
"""The calendar: calls blocked by operator, access network and date; equal ones are joined."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from typing import NamedTuple, TypedDict

from midcall.experiments.measure import situations
from midcall.experiments.results.reader import Findings
from midcall.experiments.results.tables import CallRow


class Networks(NamedTuple):
    """Access networks of an operator with the same outcomes: a square per date."""

    accesses: tuple[str, ...]
    squares: tuple[situations.Square | None, ...]

    @property
    def documented(self) -> bool:
        """Return whether a service is documented on some date, or was not run there."""
        return any(square is None or square.documented for square in self.squares)

    @property
    def outcome(self) -> Hashable:
        """Return a value that is equal for networks with the same outcomes."""
        if not self.documented:
            return None
        return tuple(square and square[3:] for square in self.squares)


class Operators(NamedTuple):
    """Operators whose networks have the same outcomes."""

    operators: tuple[str, ...]
    networks: tuple[Networks, ...]

    @property
    def outcome(self) -> Hashable:
        """Return a value that is equal for operators with the same outcomes."""
        return tuple((one.accesses, one.outcome) for one in self.networks)


class Calendar(TypedDict):
    """The calendar: dates with their labels, all access networks, and groups of operators."""

    dates: list[tuple[str, str]]
    accesses: list[str]
    groups: list[Operators]


def calendar(run: Findings, calls: Sequence[CallRow]) -> Calendar:
    """Return the calendar of calls of a run."""
    squares = situations.calendar(calls, run["cells"])
    labels = {
        str(entry.get("date"))[:10]: str(entry.get("label") or "")
        for entry in run.spec.get("dates") or []
        if isinstance(entry, Mapping)
    }
    dates = sorted({square.date for square in squares})
    by_place: dict[str, dict[str, dict[str, situations.Square]]] = defaultdict(
        lambda: defaultdict(dict)
    )
    for square in squares:
        by_place[square.operator][square.access][square.date] = square
    single = [
        Operators((operator,), _networks(accesses, dates))
        for operator, accesses in by_place.items()
    ]
    return {
        "dates": [(date, labels.get(date, "")) for date in dates],
        "accesses": list(dict.fromkeys(square.access for square in squares)),
        "groups": _operators(single),
    }


def _networks(
    accesses: Mapping[str, Mapping[str, situations.Square]], dates: Sequence[str]
) -> tuple[Networks, ...]:
    """Return an operator's access networks, those with the same squares joined."""
    alike: dict[Hashable, Networks] = {}
    for access, by_date in accesses.items():
        one = Networks((access,), tuple(by_date.get(date) for date in dates))
        known = alike.get(one.outcome, Networks((), one.squares))
        alike[one.outcome] = known._replace(accesses=(*known.accesses, access))
    return tuple(alike.values())


def _operators(single: Sequence[Operators]) -> list[Operators]:
    """Join operators with the same networks."""
    alike: dict[Hashable, Operators] = {}
    for one in single:
        known = alike.get(one.outcome, Operators((), one.networks))
        alike[one.outcome] = known._replace(operators=(*known.operators, *one.operators))
    return list(alike.values())
