# SPDX-License-Identifier: BSD-3-Clause
"""A badge for websites: "day N of the block", with the lab's results for each app's calls.

Made from an operator's dated table (testbed/operators) and a run: an SVG picture of the day it was
drawn, an HTML snippet whose few lines of JavaScript update the day, and a WordPress shortcode
([midcall_badge]) that does so on the server. No external resource is loaded. How an operator
blocked is a hypothesis unless packet evidence is public. The badge says so in the size of its
figures, which are a range over all hypotheses unless the user chose one. Synthetic captures and
captures that the user added are not counted.
"""

from __future__ import annotations

import datetime
import textwrap
from collections import defaultdict
from collections.abc import Mapping, Sequence
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
    """The fewest and the most of an app's n real captured calls that a hypothesis blocks."""

    name: str
    fewest: int
    most: int
    n: int

    @property
    def words(self) -> str:
        """Return "2 to 5 of 6 calls blocked"."""
        blocked = f"{self.fewest} to {self.most}" if self.fewest != self.most else f"{self.most}"
        return f"{blocked} of {self.n} calls blocked"


class Badge(NamedTuple):
    """The contents of a badge.

    end: the first day after the block; day: the day it was drawn; mechanisms: titles of the
    hypotheses that the figures are over; supposed: whether a rule of one has no packet evidence.
    """

    operator: str
    access: str
    begin: datetime.date
    end: datetime.date
    day: datetime.date
    mechanisms: list[str]
    supposed: bool
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
    def statement(self) -> str:
        """Return how certain the figures are, and which mechanisms they are of."""
        if len(self.mechanisms) == 1:
            how = f"Mechanism: {self.mechanisms[0]}."
        else:
            how = f"From the mildest to the harshest of {len(self.mechanisms)} mechanisms."
        return (
            f"A hypothesis: how the operator blocks is not public. {how}" if self.supposed else how
        )

    @property
    def statement_lines(self) -> list[str]:
        """Return the statement in lines that fit a picture of 360 pixels."""
        return textwrap.wrap(self.statement, 44)

    @property
    def small_print(self) -> str:
        """Return the source of the figures."""
        return (
            "Real captured calls, replayed in Midcall's lab. No synthetic capture and no capture "
            "that a user added is counted."
        )

    @property
    def small_lines(self) -> list[str]:
        """Return the small print in lines that fit a picture of 360 pixels."""
        return textwrap.wrap(self.small_print, 60)

    @property
    def height(self) -> int:
        """Return the height of the picture in pixels."""
        lines = len(self.statement_lines)
        return 82 + 20 * len(self.apps) + 18 * lines + 14 * len(self.small_lines)


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

    hypothesis: the mechanism whose figures are shown (default: the range over all of the run); day:
    default today (UTC). Raises ExperimentError if the run has no such cell.
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
    known = sorted({str(row["hypothesis"]) for row in rows})
    if hypothesis and hypothesis not in known:
        raise ExperimentError(
            f"{folder}: no hypothesis {hypothesis!r} of {operator}: {hint(hypothesis, known)}; "
            f"it has {', '.join(known)}"
        )
    chosen = [hypothesis] if hypothesis else known
    periods = [
        one
        for one in about.periods
        if access in one.access
        and not one.hypothesis
        and (not one.only or any(name in one.only for name in chosen))
    ]
    if not periods:
        raise ExperimentError(f"operator {operator}: no block on {access} is in its dated table")
    begin, end = min(one.begin for one in periods), max(one.until for one in periods)
    own = [row for row in rows if row["hypothesis"] in chosen and in_force(row, begin, end)]
    mechanisms = [about.hypothesis(name) for name in chosen]
    supposed = any(rule.hypothesis for one in mechanisms for rule in about.rules_of(one))
    today = day or datetime.datetime.now(datetime.UTC).date()
    names = operator_name(operator), access_name(access)
    titles = [one.title for one in mechanisms]
    return Badge(*names, begin, end, today, titles, supposed, counted(own))


def in_force(row: Row, begin: datetime.date, end: datetime.date) -> bool:
    """Return whether a cell's date lies within the block."""
    return begin <= datetime.date.fromisoformat(row["date"]) < end


def counted(rows: Sequence[Row]) -> list[App]:
    """Return per app the fewest and the most calls that a hypothesis blocks.

    Each hypothesis counts on the day on which it blocks most calls of the app. One that is
    inconclusive for some call is left out, unless all are.
    """
    days: dict[str, dict[tuple[str, str], list[int]]] = defaultdict(dict)
    for row in rows:
        sums = days[row["app"]].setdefault((row["hypothesis"], row["date"]), [0, 0, 0])
        for at, key in enumerate(("blocked", "inconclusive", "n")):
            sums[at] += row[key]
    apps = []
    for app, by_day in days.items():
        worst: dict[str, list[int]] = {}
        for (hypothesis, _), sums in by_day.items():
            worst[hypothesis] = max(worst.get(hypothesis, sums), sums)
        judged = [sums for sums in worst.values() if sums[2]]
        clear = [sums for sums in judged if not sums[1]] or judged
        if clear:
            blocked = [sums[0] for sums in clear]
            most = max(sums[2] for sums in judged)
            apps.append(App(app_name(app), min(blocked), max(blocked), most))
    return apps


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
