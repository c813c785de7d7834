# SPDX-License-Identifier: BSD-3-Clause
"""Views: the values of the first screens for every choice of the reader's filters.

The page embeds all of them (see fragments), so that a script only looks up what to show. A choice
without a filter is the page as it is read without a script. A view is what the page of a run would
say that had nothing but the chosen operator, access network, date and app.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from functools import cached_property
from itertools import product
from typing import NamedTuple

from midcall.apps import FIVE
from midcall.experiments.measure import situations
from midcall.experiments.measure.intervals import (
    Interval,
    by_group,
    derived_seed,
    interval_of_groups,
    ratio,
)
from midcall.experiments.measure.situations import Hardest, Hits, Line, Place, Situation
from midcall.experiments.report.policies import Evidence, PolicyFile
from midcall.experiments.report.sections.calendar import Calendar, calendar
from midcall.experiments.results import tables
from midcall.experiments.results.reader import Findings
from midcall.experiments.results.schema import CALL_ROLES, INNOCENT_OUTCOMES
from midcall.experiments.results.tables import CallRow, FlowRow, ShareOfRight

#: The filters, in the order of the page.
KEYS = ("operator", "access", "date", "app")
#: Hypotheses in the cost table of the first screens, and where a picture of operators stands above
#: it; the others are in the details.
SHOWN, SHOWN_BELOW = 6, 4
#: Identity of a call: its capture and its number there.
Call = tuple[str, str]
NO_CALL: frozenset[Call] = frozenset()
#: Calls of an app under a hypothesis: blocked, n, inconclusive.
Sums = tuple[int, int, int]


class Choice(NamedTuple):
    """A value of each filter, "" for all."""

    operator: str = ""
    access: str = ""
    date: str = ""
    app: str = ""

    def fits(self, place: Place) -> bool:
        """Return whether a place (operator, access network, date) is chosen."""
        return all(wanted in ("", own) for wanted, own in zip(self, place, strict=False))


class Options(NamedTuple):
    """The values of each filter, without the one for all."""

    operator: tuple[str, ...]
    access: tuple[str, ...]
    date: tuple[str, ...]
    app: tuple[str, ...]

    def choices(self) -> Iterator[Choice]:
        """Yield every choice; the last filter changes first, and "" comes first."""
        return (Choice(*values) for values in product(*(("", *own) for own in self)))


class AppAnswer(NamedTuple):
    """The fewest and the most calls of an app that a hypothesis blocks, of n.

    hypotheses: those that are conclusive for all calls of the app; blocking: those of them that
    block some; unclear: the others. reason: the commonest verdict under the hypothesis that blocks
    most calls of all apps.
    """

    app: str
    n: int
    fewest: int
    most: int
    hypotheses: int
    blocking: int
    unclear: int
    reason: str | None


class Cost(NamedTuple):
    """A hypothesis where it blocks most: its calls, the innocent flows it hits, its evidence."""

    operators: tuple[str, ...]
    hypothesis: str
    title: str
    grade: str
    hypothetical: bool
    blocked: int
    calls: int
    inconclusive: int
    hits: Hits | None


class MatrixRow(NamedTuple):
    """A row of the picture of apps: operators, or a hypothesis of them, by app.

    line: the hypothesis, or the one that blocks most.
    """

    operators: tuple[str, ...]
    line: Line | None
    apps: tuple[AppAnswer, ...]


class Recognised(NamedTuple):
    """Call flows of an app by outcome; app is "" for all apps that are not among the five.

    extra: whether the app is one of those, so that its row is shown where it is chosen alone.
    """

    app: str
    extra: bool
    right: int
    unsure: int
    other: int
    missed: int

    @property
    def n(self) -> int:
        """Return the number of flows."""
        return self.right + self.unsure + self.other + self.missed


class Named(NamedTuple):
    """Call flows named right, of n in `sessions` sessions, with the interval of the share."""

    right: int
    n: int
    sessions: int
    interval: Interval | None


class FalseCalls(NamedTuple):
    """Innocent flows that are certainly called a call (of an app, if one is chosen), of flows.

    groups: their recordings; interval: of the share, None below ten recordings.
    """

    hits: int
    flows: int
    groups: int
    interval: Interval | None


class Rules(NamedTuple):
    """Rules of the hypotheses of operators, and those whose evidence is a measurement or packets.

    invented: whether all the operators' files are studies of rules, of no operator.
    """

    rules: int
    packets: int
    operators: int
    invented: bool


@dataclasses.dataclass(frozen=True)
class View:
    """The values of the first screens under one choice.

    ledes: the operators where they block most; yours: the same for added captures; shown: the
    number of costs that the table shows.
    """

    choice: Choice
    ledes: tuple[Hardest, ...]
    yours: tuple[Hardest, ...]
    yours_n: int
    calls_n: int
    sessions_n: int
    apps: tuple[AppAnswer, ...]
    matrix: tuple[MatrixRow, ...]
    costs: tuple[Cost, ...]
    calendar: Calendar
    named: Named | None
    false_calls: FalseCalls | None
    rules: Rules
    shown: int

    @property
    def nothing(self) -> bool:
        """Return whether no call of the run, real or added, is chosen."""
        return not self.ledes and not self.yours


class Views:
    """The views of a run.

    files: the policy files of its operators by id; picture: the rows of the picture of apps, a key
    of PICTURES.
    """

    def __init__(self, run: Findings, files: Mapping[str, PolicyFile], picture: str = "") -> None:
        self.run, self.files, self.picture = run, files, picture
        calls = situations.documented(run["calls"])
        self.real = [row for row in calls if situations.in_headline(row)]
        self.own = [row for row in calls if row.get("added") and not row.get("synthetic")]
        self.made = [row for row in calls if row.get("synthetic")]
        self._groups: dict[tuple[str, bool], list[Situation]] = {}
        self._sums: dict[tuple[int, str], Sums] = {}
        self._chosen: dict[Choice, frozenset[Place]] = {}
        self._calendars: dict[str, Calendar] = {}

    @cached_property
    def options(self) -> Options:
        """Return the values of the filters: those of the run's calls and cells."""
        rows = [*self.real, *self.own, *self.made]
        present = {str(row["app"]) for row in rows}
        wanted = [str(app) for app in self.run.spec.get("apps") or []]
        places = [situations.place_of(row) for row in self.run["cells"]]
        places += [situations.place_of(row) for row in rows]
        return Options(
            tuple(dict.fromkeys(operator for operator, _, _ in places)),
            tuple(dict.fromkeys(access for _, access, _ in places)),
            tuple(sorted({date for _, _, date in places})),
            (*(app for app in FIVE if app in present or app in wanted),
             *sorted(present - set(FIVE))),
        )  # fmt: skip

    @cached_property
    def apps(self) -> tuple[str, ...]:
        """Return the apps of real calls and those of the spec, in the order of the page."""
        present = {str(row["app"]) for row in self.real}
        wanted = [str(app) for app in self.run.spec.get("apps") or []]
        return tuple(app for app in self.options.app if app in present or app in wanted)

    @cached_property
    def sources(self) -> Mapping[str, Source]:
        """Return the evidence of the operators that have a policy file, by id."""
        used: dict[str, dict[str, None]] = defaultdict(dict)
        for row in self.run["calls"]:
            used[str(row["operator"])][str(row["hypothesis"])] = None
        return {
            operator: source(self.files[operator], tuple(hypotheses), operator)
            for operator, hypotheses in used.items()
            if operator in self.files
        }

    @cached_property
    def recognised(self) -> list[Recognised]:
        """Return the outcomes of media and set-up flows of real calls: five apps, then others."""
        counts: dict[str, Counter[str]] = {app: Counter() for app in (*FIVE, "")}
        for row in self.run["flows"]:
            if situations.in_headline(row) and row["truth_role"] in CALL_ROLES:
                app, outcome = str(row["truth_app"]), str(row["outcome"])
                counts.setdefault(app, Counter())[outcome] += 1
                counts[""][outcome] += app not in FIVE
        keys = ("right", "unsure", "other_call", "missed")
        rows = [
            Recognised(app, bool(app) and app not in FIVE, *(outcomes[key] for key in keys))
            for app, outcomes in counts.items()
        ]
        return [row for row in rows if row.n]

    @cached_property
    def widest(self) -> float:
        """Return the largest share of innocent flows that a hypothesis of the run hits."""
        every = [line.hits for one in self.groups("", False) for line in one.lines if line.hits]
        return max((ratio(hits.hit, hits.tested) or 0.0 for hits in every), default=0.0)

    def every(self) -> Iterator[View]:
        """Yield a view for each choice, in the order of the options."""
        return map(self.view, self.options.choices())

    def view(self, choice: Choice) -> View:
        """Return the values under a choice."""
        ledes = self._hardest(choice, False)
        calls, sessions = self._counts(choice, False)
        lines = [line for lede in ledes for line in lede.lines]
        lines.sort(key=lambda line: -line.total.blocked)
        rows = PICTURES[self.picture](ledes)
        return View(
            choice,
            ledes,
            self._hardest(choice, True),
            self._counts(choice, True)[0],
            calls,
            sessions,
            self._answers(lines, choice.app),
            tuple(MatrixRow(operators, most, self._answers(own, choice.app))
                  for operators, most, own in rows),
            tuple(cost(lede, line) for lede in ledes for line in lede.lines if line.acts),
            self.calendar(choice.app),
            self._named(choice.app),
            self._false_calls(choice.app),
            self._rules(choice.operator),
            SHOWN_BELOW if self.picture else SHOWN,
        )  # fmt: skip

    def groups(self, app: str, own: bool) -> list[Situation]:
        """Return the situations of the calls of an app ("": of all); own: of added captures."""
        if (app, own) not in self._groups:
            rows = [row for row in (self.own if own else self.real) if app in ("", row["app"])]
            self._groups[app, own] = situations.situations(rows, self.run["collateral"])
        return self._groups[app, own]

    def calendar(self, app: str) -> Calendar:
        """Return the calendar of the calls of an app ("": of all)."""
        if app not in self._calendars:
            rows = [row for row in self.run["calls"] if app in ("", row["app"])]
            self._calendars[app] = calendar(self.run, rows)
        return self._calendars[app]

    @cached_property
    def _places(self) -> frozenset[Place]:
        return frozenset(situations.place_of(row) for row in [*self.real, *self.own])

    def _fitting(self, choice: Choice) -> frozenset[Place]:
        """Return the places that are chosen."""
        place = choice._replace(app="")
        if place not in self._chosen:
            self._chosen[place] = frozenset(one for one in self._places if place.fits(one))
        return self._chosen[place]

    def _hardest(self, choice: Choice, own: bool) -> tuple[Hardest, ...]:
        fitting = self._fitting(choice)
        chosen = [
            dataclasses.replace(one, places=places)
            for one in self.groups(choice.app, own)
            if (places := tuple(place for place in one.places if place in fitting))
        ]
        return tuple(situations.hardest(situations.ordered(chosen)))

    def _counts(self, choice: Choice, own: bool) -> tuple[int, int]:
        """Return the calls and sessions of a choice."""
        known = self._calls[own]
        parts = {known.get((place, choice.app), NO_CALL) for place in self._fitting(choice)}
        calls = frozenset[Call]().union(*parts)
        return len(calls), len({self._session[call] for call in calls})

    @cached_property
    def _calls(self) -> tuple[Mapping[tuple[Place, str], frozenset[Call]], ...]:
        """Return place and app ("": all) -> calls, of real captures and of added ones."""
        parts = []
        for rows in (self.real, self.own):
            found: dict[tuple[Place, str], set[Call]] = defaultdict(set)
            for row in rows:
                place, call = situations.place_of(row), call_of(row)
                found[place, str(row["app"])].add(call)
                found[place, ""].add(call)
            parts.append({key: frozenset(calls) for key, calls in found.items()})
        return tuple(parts)

    @cached_property
    def _session(self) -> Mapping[Call, str]:
        return {call_of(row): situations.session_of(row) for row in [*self.real, *self.own]}

    def _answers(self, lines: Sequence[Line], chosen: str) -> tuple[AppAnswer, ...]:
        """Return a row per app of the run, or of the chosen one; lines: most blocked first."""
        return tuple(
            answer_of(app, [self._sum(line, app) for line in lines], reasons(app, lines))
            for app in self.apps
            if chosen in ("", app)
        )

    def _sum(self, line: Line, app: str) -> Sums:
        key = id(line), app  # lines live as long as their groups
        if key not in self._sums:
            own = [tally for column, tally in line.tallies.items() if column.app == app]
            self._sums[key] = (
                sum(tally.blocked for tally in own),
                sum(tally.n for tally in own),
                sum(tally.inconclusive for tally in own),
            )
        return self._sums[key]

    def _named(self, app: str) -> Named | None:
        block = (
            self.run.at("accuracy", "named", app)
            if app
            else self.run.at("accuracy", "five") or self.run.at("accuracy", "all")
        )
        if not block or not block["n"]:
            return None
        return Named(block["right"], block["n"], block["clusters"], interval_of(block))

    def _false_calls(self, app: str) -> FalseCalls | None:
        block = self.run.at("accuracy", "false_calls")
        if not block or not block["flows"]:
            return None
        if not app:
            return FalseCalls(block["hits"], block["flows"], block["groups"], interval_of(block))
        sizes, hits = by_group(
            self._quiet, lambda row: row["outcome"] == "false_call" and row["app"] == app
        )
        interval = interval_of_groups(sizes, hits, derived_seed(0, "false_calls", app))
        return FalseCalls(hits.total(), sizes.total(), len(sizes), interval)

    @cached_property
    def _quiet(self) -> list[FlowRow]:
        """Return the innocent flows that headline figures count."""
        return [
            row
            for row in self.run["flows"]
            if row["outcome"] in INNOCENT_OUTCOMES
            and situations.in_headline(row)
            and row.get("replayed") is not False
        ]

    def _rules(self, operator: str) -> Rules:
        shown = [one for name, one in self.sources.items() if operator in ("", name)]
        return Rules(
            sum(one.rules for one in shown),
            sum(one.packets for one in shown),
            len(shown),
            bool(shown) and all(one.invented for one in shown),
        )


class Source(NamedTuple):
    """The documented periods of operators, and how many of their rules rest on packets."""

    operators: tuple[str, ...]
    periods: tuple[Evidence, ...]
    rules: int
    packets: int
    invented: bool


def interval_of(block: ShareOfRight | tables.FalseCalls) -> Interval | None:
    """Return the interval of a share in the run's metrics."""
    ends = block["interval"]
    return None if ends is None else (float(ends[0]), float(ends[1]))


def call_of(row: CallRow) -> Call:
    """Return the identity of a row's call."""
    return str(row["capture"]), str(row["call"])


def answer_of(app: str, sums: Sequence[Sums], reason: str | None) -> AppAnswer:
    """Return the row of an app; sums: of each hypothesis, see `Views._sums`.

    A hypothesis that is inconclusive for some call of the app is left out of the range, unless all
    are, and of `hypotheses`, and counted as `unclear`.
    """
    clear = [blocked for blocked, n, unknown in sums if n and not unknown]
    ranged = clear or [blocked for blocked, n, _ in sums if n]
    return AppAnswer(
        app,
        max((n for _, n, _ in sums), default=0),
        min(ranged, default=0),
        max(ranged, default=0),
        len(clear),
        sum(blocked > 0 for blocked in clear),
        sum(bool(n and unknown) for _, n, unknown in sums),
        reason,
    )


def reasons(app: str, lines: Sequence[Line]) -> str | None:
    """Return the commonest verdict of an app's blocked calls; lines: most blocked first."""
    for line in lines:
        for column, tally in line.tallies.items():
            if column.app == app and tally.reason:
                return tally.reason
    return None


#: Rows of the picture of apps: operators, the hypothesis shown, and those that its counts are over.
Rows = Sequence[tuple[tuple[str, ...], Line | None, Sequence[Line]]]


def no_rows(ledes: Sequence[Hardest]) -> Rows:
    """Return no row: the kind of run has another picture."""
    del ledes
    return ()


def by_operator(ledes: Sequence[Hardest]) -> Rows:
    """Return a row for operators where they block most, over their hypotheses."""
    return [(one.operators, one.most, one.lines) for one in ledes]


def by_hypothesis(ledes: Sequence[Hardest]) -> Rows:
    """Return a row for each hypothesis that affects anything, most blocked first."""
    rows = [(one.operators, line, [line]) for one in ledes for line in one.lines if line.acts]
    return sorted(rows, key=lambda row: -row[1].total.blocked)


#: Picture -> its rows.
PICTURES: Mapping[str, Callable[[Sequence[Hardest]], Rows]] = {
    "": no_rows, "operators": by_operator, "hypotheses": by_hypothesis,
}  # fmt: skip


def cost(lede: Hardest, line: Line) -> Cost:
    """Return a hypothesis of a lede with its cost."""
    return Cost(
        lede.operators,
        line.hypothesis,
        line.title,
        line.grade or "",
        line.hypothetical,
        line.total.blocked,
        line.total.n,
        line.total.inconclusive,
        line.hits,
    )


def source(one: PolicyFile, hypotheses: Sequence[str], operator: str) -> Source:
    """Return the evidence of an operator's periods and of the rules of some hypotheses."""
    rules = [rule for name in hypotheses for rule in one.hypotheses.get(name, ())]
    return Source(
        (operator,), one.periods, len(rules), sum(rule.measured for rule in rules), one.invented
    )


def joined(sources: Sequence[Source]) -> list[Source]:
    """Return sources in which operators with the same evidence share an entry."""
    alike: dict[Hashable, list[Source]] = {}
    for one in sources:
        alike.setdefault(one[1:], []).append(one)
    return [
        own[0]._replace(operators=tuple(name for one in own for name in one.operators))
        for own in alike.values()
    ]
