# SPDX-License-Identifier: BSD-3-Clause
"""Public reaction: the user's series of likes, with the calls blocked at the run's dates."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TypedDict

from midcall.experiments.measure import formatting, situations
from midcall.experiments.measure.formatting import gettext
from midcall.experiments.report import charts, reaction
from midcall.experiments.report.reaction import Point
from midcall.experiments.results.reader import Findings


class Change(TypedDict):
    """The first and the last point of an operator, and the change of likes between them."""

    operator: str
    n: int
    first: Point
    last: Point
    change: int


def build(run: Findings) -> dict[str, object] | None:
    """Return the values of the section, None where the user gave no series."""
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


def lab_squares(run: Findings) -> list[charts.LabPoint]:
    """Return per operator and date of the run the most real calls blocked, over its networks."""
    most: dict[tuple[str, str], situations.Square] = {}
    for square in situations.calendar(run["calls"], run["cells"]):
        key = square.operator, square.date
        if square.documented and square.n and square.most >= most.get(key, square).most:
            most[key] = square
    return [
        {
            "operator": formatting.operator_name(operator),
            "date": date,
            "blocked": square.most > 0,
            "tip": gettext("%(operator)s, %(day)s: up to %(counts)s real calls blocked in the lab")
            % {
                "operator": formatting.operator_name(operator),
                "day": formatting.day(date),
                "counts": formatting.of(square.most, square.n),
            },
        }
        for (operator, date), square in most.items()
    ]


def changes(points: Sequence[Point]) -> list[Change]:
    """Return per operator the first and the last point, and the change between them."""
    rows: list[Change] = []
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


def chart(points: Sequence[Point], squares: Sequence[charts.LabPoint]) -> charts.Chart:
    """Return the series over the run's dates."""
    rows: list[charts.LikesPoint] = [
        {
            "operator": formatting.operator_name(point.operator),
            "date": point.date.isoformat(),
            "likes": point.likes,
            "tip": gettext("%(operator)s, %(day)s: %(likes)s likes")
            % {
                "operator": formatting.operator_name(point.operator),
                "day": formatting.day(point.date),
                "likes": formatting.count(point.likes),
            },
        }
        for point in points
    ]
    line = gettext("%(operator)s from %(first)s on %(begin)s to %(last)s on %(end)s")
    words = "; ".join(
        line
        % {
            "operator": formatting.operator_name(row["operator"]),
            "first": formatting.count(row["first"].likes),
            "begin": formatting.day(row["first"].date),
            "last": formatting.count(row["last"].likes),
            "end": formatting.day(row["last"].date),
        }
        for row in changes(points)
    )
    text = gettext("Lines of likes given by the user. %(text)s.") % {"text": words}
    return charts.reaction(rows, squares, text)
