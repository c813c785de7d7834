# SPDX-License-Identifier: BSD-3-Clause
"""A badge for websites: "day N of the block", with the lab's results for each app's calls.

Made from an operator's dated table (testbed/operators) and a run: an SVG picture of the day it was
drawn, an HTML snippet whose few lines of JavaScript update the day, and a WordPress shortcode
([midcall_badge]) that does so on the server. No external resource is loaded. How an operator
blocked is a hypothesis unless packet evidence is public, and the badge states this.
"""

from __future__ import annotations

import datetime
import textwrap
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from midcall.errors import ExperimentError
from midcall.experiments.measure.formatting import access_name, app_name, operator_name
from midcall.experiments.measure.situations import in_headline
from midcall.experiments.results import runs
from midcall.locations import TEMPLATES
from midcall.suggestions import hint

#: File name -> template.
FILES = {
    "badge.svg": "badge.svg",
    "badge.html": "badge_snippet.html",
    "midcall-badge.php": "badge.php",
}

Row = Mapping[str, Any]


class App(NamedTuple):
    """The result of an app's real captured calls: blocked, of n that could be judged."""

    name: str
    blocked: int
    n: int


class Badge(NamedTuple):
    """The contents of a badge; `end` is the first day after the block, `day` the day it was
    drawn."""

    operator: str
    access: str
    begin: datetime.date
    end: datetime.date
    day: datetime.date
    mechanism: str
    hypothesis: bool
    apps: list[App]

    @property
    def state(self) -> str:
        """Return "before", "during" or "after" the block."""
        return "before" if self.day < self.begin else "during" if self.day < self.end else "after"

    @property
    def days(self) -> int:
        """Return the number of the day of the block (the first is 1), or how many days it had."""
        last = min(self.day, self.end - datetime.timedelta(days=1))
        return max((last - self.begin).days + 1, 0)

    @property
    def headline(self) -> str:
        """Return the badge's first line."""
        if self.state == "during":
            return f"Day {self.days} of the block"
        if self.state == "after":
            return f"Blocked for {self.days} days"
        return f"{(self.begin - self.day).days} days before the block"

    @property
    def small_print(self) -> str:
        """Return the source of the figures, and their certainty."""
        doubt = " A hypothesis: how the operator blocks is not public." if self.hypothesis else ""
        return f"Captured calls, replayed in Midcall's lab. Mechanism: {self.mechanism}.{doubt}"

    @property
    def small_lines(self) -> list[str]:
        """Return the small print in lines that fit a picture of 360 pixels."""
        return textwrap.wrap(self.small_print, 60)


def a_day(text: str) -> datetime.date:
    """Return a day given as YYYY-MM-DD. Raises ExperimentError."""
    try:
        return datetime.date.fromisoformat(text)
    except ValueError:
        raise ExperimentError(f"day: got {text!r}, expected YYYY-MM-DD") from None


def draw(
    folder: Path,
    operator: str,
    access: str,
    hypothesis: str | None = None,
    day: datetime.date | None = None,
) -> Badge:
    """Return the badge of an operator and access network, from a run's summary.

    hypothesis: the mechanism whose figures are shown (default: the operator's first); day: default
    today (UTC). Raises ExperimentError if the run has no such cell.
    """
    from midcall.testbed.policy.loader import load

    about = load(operator)
    rows = [
        row
        for row in runs.summary(folder)["mission"]
        if row["operator"] == operator and row["access"] == access and in_headline(row)
    ]
    if not rows:
        raise ExperimentError(f"{folder}: no cell of operator {operator} on {access}")
    chosen = hypothesis or about.hypotheses[0].id
    known = sorted({str(row["hypothesis"]) for row in rows})
    if chosen not in known:
        raise ExperimentError(
            f"{folder}: no hypothesis {chosen!r} of {operator}: {hint(chosen, known)}; "
            f"it has {', '.join(known)}"
        )
    periods = [
        one
        for one in about.periods
        if access in one.access and not one.hypothesis and (not one.only or chosen in one.only)
    ]
    if not periods:
        raise ExperimentError(f"operator {operator}: no block on {access} is in its dated table")
    begin, end = min(one.begin for one in periods), max(one.until for one in periods)
    own = [row for row in rows if row["hypothesis"] == chosen and in_force(row, begin, end)]
    mechanism = about.hypothesis(chosen)
    doubtful = any(rule.hypothesis for rule in about.rules_of(mechanism))
    today = day or datetime.datetime.now(datetime.UTC).date()
    names = operator_name(operator), access_name(access)
    return Badge(*names, begin, end, today, mechanism.title, doubtful, counted(own))


def in_force(row: Row, begin: datetime.date, end: datetime.date) -> bool:
    """Return whether a cell's date lies within the block."""
    return begin <= datetime.date.fromisoformat(row["date"]) < end


def counted(rows: list[Row]) -> list[App]:
    """Return per app the blocked calls, of n judged, on the day on which most were blocked."""
    days: dict[str, dict[str, Counter[str]]] = {}
    for row in rows:
        counts = days.setdefault(row["app"], {}).setdefault(row["date"], Counter())
        counts["blocked"] += row["blocked"]
        counts["n"] += row["blocked"] + row["ok"]
    worst = {
        app: max(per_day.values(), key=lambda one: one["blocked"]) for app, per_day in days.items()
    }
    return [
        App(app_name(app), per_day["blocked"], per_day["n"])
        for app, per_day in worst.items()
        if per_day["n"]
    ]


def write(badge: Badge, folder: Path) -> list[Path]:
    """Write the badge's three files into a folder; returns their paths."""
    engine = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        keep_trailing_newline=True,
    )
    engine.filters["php"] = php
    folder.mkdir(parents=True, exist_ok=True)
    snippet = engine.get_template(FILES["badge.html"]).render(badge=badge)
    made = []
    for name, template in FILES.items():
        text = engine.get_template(template).render(badge=badge, snippet=snippet)
        path = folder / name
        path.write_text(text, encoding="utf-8")
        made.append(path)
    return made


def row(badge: Badge) -> dict[str, Any]:
    """Return the contents of a badge as JSON values."""
    return {
        **badge._asdict(),
        "apps": [app._asdict() for app in badge.apps],
        "state": badge.state,
        "days": badge.days,
        "headline": badge.headline,
    }


def php(text: str) -> str:
    """Return text escaped for single quotes in PHP."""
    return text.replace("\\", "\\\\").replace("'", "\\'")
