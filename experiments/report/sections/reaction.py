# SPDX-License-Identifier: BSD-3-Clause
"""Public reaction: the user's series of likes beside what the lab found for the same dates."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

from midcall.experiments.measure import formatting, situations
from midcall.experiments.report import charts, reaction
from midcall.experiments.report.reaction import Point
from midcall.experiments.results.reader import Findings

Table = dict[str, Any]


def build(run: Findings) -> Table | None:
    """Return what the section shows, None where the user brought no series."""
    path = run.folder / reaction.NAME
    if not path.is_file():
        return None
    points = reaction.read(path)
    squares = lab_squares(run)
    return {
        "reaction": {
            "chart": chart(points, squares),
            "rows": changes(points),
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
    }


def lab_squares(run: Findings) -> list[Table]:
    """Return per operator and date of the run the most real calls blocked, over its networks."""
    found: dict[tuple[str, str], situations.Square] = {}
    for square in situations.calendar(run["calls"], run["cells"]):
        key = square.operator, square.date
        if square.documented and square.n and square.most >= found.get(key, square).most:
            found[key] = square
    return [
        {
            "operator": formatting.operator_name(operator),
            "date": date,
            "blocked": square.most > 0,
            "tip": f"{formatting.operator_name(operator)}, {formatting.day(date)}: "
            "in the lab up to "
            f"{square.most} of {square.n} real calls blocked",
        }
        for (operator, date), square in found.items()
    ]


def changes(points: Sequence[Point]) -> list[Table]:
    """Return per operator the first and the last point, and what lies between."""
    rows = []
    for operator in dict.fromkeys(point.operator for point in points):
        own = [point for point in points if point.operator == operator]
        rows.append(
            {
                "operator": operator,
                "n": len(own),
                "first": own[0],
                "last": own[-1],
                "change": own[-1].likes - own[0].likes,
            }
        )
    return rows


def chart(points: Sequence[Point], squares: Sequence[Table]) -> charts.Chart:
    """Return the series over the lab's dates."""
    rows = [
        {
            "operator": formatting.operator_name(point.operator),
            "date": point.date.isoformat(),
            "likes": point.likes,
            "tip": f"{formatting.operator_name(point.operator)}, {formatting.day(point.date)}: "
            f"{formatting.count(point.likes)} likes",
        }
        for point in points
    ]
    words = "; ".join(
        f"{formatting.operator_name(row['operator'])} from "
        f"{formatting.count(row['first'].likes)} on "
        f"{formatting.day(row['first'].date)} to {formatting.count(row['last'].likes)} on "
        f"{formatting.day(row['last'].date)}"
        for row in changes(points)
    )
    return charts.reaction(rows, squares, f"Lines of likes given by the user. {words}.")
