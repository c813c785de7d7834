# SPDX-License-Identifier: BSD-3-Clause
"""Public reaction: a series of likes per operator that the user gives, drawn with the run.

In 2016 #OpeUnlike counted how many people took their "like" from the operators' pages. The lab
does not measure it: the CSV (columns date, operator, likes) is the user's, is kept unchanged with
the run, and is marked as the user's everywhere.
"""

from __future__ import annotations

import csv
import datetime
from pathlib import Path
from typing import NamedTuple

from midcall.errors import ExperimentError
from midcall.suggestions import hint

#: The file's name in a run's folder, and its columns.
NAME, COLUMNS = "reaction.csv", ("date", "operator", "likes")


class Point(NamedTuple):
    """The likes of an operator's page on a day."""

    date: datetime.date
    operator: str
    likes: int


def read(path: Path) -> list[Point]:
    """Read a series; returns its points in order of operator (as they appear) and date.

    Raises ExperimentError with every problem at once: a missing column, a line that does not fit,
    a day given twice.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = list(csv.DictReader(file, skipinitialspace=True))
            present = list(lines[0]) if lines else []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ExperimentError(f"{path}: cannot be read as CSV: {error}") from None
    if not lines:
        raise ExperimentError(f"{path}: holds no line; expected columns {', '.join(COLUMNS)}")
    lacking = [name for name in COLUMNS if name not in present]
    if lacking:
        known = [str(name) for name in present]
        missing = "; ".join(f"no column {name} ({hint(name, known)})" for name in lacking)
        raise ExperimentError(f"{path}: {missing}; expected columns {', '.join(COLUMNS)}")
    problems: list[str] = []
    points: dict[tuple[str, datetime.date], Point] = {}
    for number, line in enumerate(lines, 2):
        try:
            point = _point(line)
        except ValueError as error:
            problems.append(f"line {number}: {error}")
            continue
        key = point.operator, point.date
        if key in points:
            problems.append(f"line {number}: {point.operator} has {point.date} twice")
        points[key] = point
    if problems:
        raise ExperimentError(f"{path}: " + "\n  ".join(problems))
    order = list(dict.fromkeys(operator for operator, _ in points))
    return sorted(points.values(), key=lambda one: (order.index(one.operator), one.date))


def _point(line: dict[str, str | None]) -> Point:
    date, operator, likes = ((line[name] or "").strip() for name in COLUMNS)
    try:
        day = datetime.date.fromisoformat(date)
    except ValueError:
        raise ValueError(f"date: got {date!r}, expected YYYY-MM-DD") from None
    if not operator:
        raise ValueError("operator: is empty")
    if not (likes.isascii() and likes.isdigit()):
        raise ValueError(f"likes: got {likes!r}, expected a whole number from 0 on")
    return Point(day, operator, int(likes))


def keep(path: Path, run: Path) -> None:
    """Check a series and copy it unchanged into a run's folder; raises as `read`."""
    read(path)
    copy = run / NAME
    if not (copy.exists() and copy.samefile(path)):
        copy.write_bytes(path.read_bytes())
