# SPDX-License-Identifier: BSD-3-Clause
"""The mission table: who could call whom, and why not, counted from the rows of calls and cells.

Every count is k of n calls. Real and synthetic captures are never added up. Places of the grid
(operator x access x date) in which every hypothesis does the same to every call and to every
bystander are shown once, as one situation: the grouping is found in the results, not in policies.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from midcall.apps import FIVE
from midcall.experiments.measure.formatting import (
    access_name,
    days,
    listed,
    operator_name,
)
from midcall.experiments.results.schema import PACKET_GRADES

Row = Mapping[str, Any]
#: Operator, access network, date.
Place = tuple[str, str, str]

KINDS = ("audio", "video", "unknown")


def in_headline(row: Mapping[str, Any]) -> bool:
    """Tell whether a row may enter a headline figure: of a capture that no program invented and
    that the user did not add."""
    return not row.get("synthetic") and not row.get("added")


def hypothetical(grade: str | None) -> bool:
    """Tell whether no packet evidence stands behind a rule of a grade.

    Grades A and B are packets; "B?" is a rule that its profile supposes, in a case seen in packets.
    """
    return not grade or grade[0] not in PACKET_GRADES or grade.endswith("?")


class Column(NamedTuple):
    """One kind of call of one app, of the scenario's time or of a later client."""

    app: str
    kind: str
    later: bool


@dataclass
class Tally:
    """What became of some calls: counts, the words for it, and packets to the block.

    blocked: no call at all; unusable: those and the calls below the quality floor.
    """

    ok: int = 0
    blocked: int = 0
    unusable: int = 0
    inconclusive: int = 0
    invalid: int = 0
    verdicts: Counter[str] = field(default_factory=Counter)
    rules: Counter[str] = field(default_factory=Counter)
    waits: list[int] = field(default_factory=list)

    @property
    def n(self) -> int:
        """Return the calls that could be tested at all (they work under the empty policy)."""
        return self.ok + self.blocked + self.inconclusive

    @property
    def reason(self) -> str | None:
        """Return the commonest verdict of the blocked calls, None when none is blocked."""
        failed = [
            (n, word)
            for word, n in self.verdicts.items()
            if word not in ("OK", "INCONCLUSIVE", "INVALID", "FALLBACK", "DEGRADED")
        ]
        return max(failed)[1] if failed else None

    def add(self, row: Row) -> None:
        """Count one call."""
        verdict = str(row.get("verdict"))
        self.verdicts[verdict] += 1
        self.unusable += row.get("usable") is False or bool(row.get("blocked"))
        if verdict == "INVALID":
            self.invalid += 1
        elif verdict == "INCONCLUSIVE":
            self.inconclusive += 1
        elif row.get("blocked"):
            self._add_block(row)
        else:
            self.ok += 1

    def _add_block(self, row: Row) -> None:
        self.blocked += 1
        if row.get("rule"):
            self.rules[str(row["rule"])] += 1
        if row.get("packets_to_block") is not None:
            self.waits.append(int(row["packets_to_block"]))


class Hits(NamedTuple):
    """Innocent flows seen and hit, and their bytes; the interval of the share hit, None for none.

    Places shown as one can differ by a few flows seen (not by flows hit): `fewest` to `flows`.
    """

    flows: int
    hit: int
    bytes: int
    bytes_hit: int
    fewest: int
    interval: tuple[float, float] | None


@dataclass(frozen=True)
class Line:
    """One hypothesis in one situation: its calls by column, and the bystanders it hits."""

    hypothesis: str
    title: str
    grade: str | None
    tallies: Mapping[Column, Tally]
    total: Tally
    hits: Hits | None

    @property
    def hypothetical(self) -> bool:
        """Tell whether no packet evidence stands behind the rule (grades A and B are packets)."""
        return hypothetical(self.grade)

    @property
    def acts(self) -> bool:
        """Tell whether the hypothesis touches any call or bystander here."""
        struck = self.hits is not None and self.hits.hit > 0
        return struck or self.total.blocked > 0 or self.total.inconclusive > 0


@dataclass(frozen=True)
class Situation:
    """Places (operator, access, date) in which everything comes out the same."""

    places: tuple[Place, ...]
    lines: tuple[Line, ...]

    @property
    def operators(self) -> list[str]:
        """Return the operators, each once, in order of appearance."""
        return list(dict.fromkeys(operator for operator, _, _ in self.places))

    @property
    def accesses(self) -> list[str]:
        """Return the access networks, each once, in order of appearance."""
        return list(dict.fromkeys(access for _, access, _ in self.places))

    @property
    def dates(self) -> list[str]:
        """Return the dates, each once, sorted."""
        return sorted({date for _, _, date in self.places})

    @property
    def quiet(self) -> bool:
        """Tell whether no hypothesis touches anything here."""
        return not any(line.acts for line in self.lines)

    @property
    def most(self) -> tuple[int, int]:
        """Return the calls that the harshest hypothesis blocks, then those of all of them."""
        blocked = [line.total.blocked for line in self.lines]
        return max(blocked, default=0), sum(blocked)

    @property
    def label(self) -> list[tuple[str, str]]:
        """Return (operators, networks and dates) in words, as few pairs as say it all."""
        by_operator: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for operator, access, date in self.places:
            by_operator[operator].append((access, date))
        alike: dict[str, list[str]] = defaultdict(list)
        for operator, held in by_operator.items():
            alike[_where(held)].append(operator_name(operator))
        return [(listed(names), where) for where, names in alike.items()]


def _where(held: Sequence[tuple[str, str]]) -> str:
    """Return access networks and dates in words: "3G and 4G on 20 Jan; ADSL on 15 Mar 2016"."""
    by_dates: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for access in dict.fromkeys(access for access, _ in held):
        dates = tuple(sorted(date for at, date in held if at == access))
        by_dates[dates].append(access_name(access))
    return "; ".join(f"{listed(names)} on {days(dates)}" for dates, names in by_dates.items())


class Square(NamedTuple):
    """One square of the calendar: fewest and most calls blocked over the hypotheses, of n.

    A hypothesis that cannot tell about some call is left out of the range (unless all are such);
    `unclear` counts them.
    """

    operator: str
    access: str
    date: str
    fewest: int
    most: int
    n: int
    unclear: int
    documented: bool
    failed: bool


def date_of(row: Row) -> str:
    """Return the row's date as ISO text, whatever type the file gave it."""
    return str(row.get("date"))[:10]


def column_of(row: Row) -> Column:
    """Return the column that a call is counted in."""
    return Column(
        str(row.get("app")), str(row.get("kind") or "unknown"), bool(row.get("later_client"))
    )


def session_of(row: Row) -> str:
    """Return the independent unit of a call or flow: its capture group, else its capture."""
    return str(row.get("group") or row["capture"])


def distinct_calls(rows: Iterable[Row]) -> dict[tuple[str, str], Row]:
    """Return one row per call, in order of appearance."""
    held: dict[tuple[str, str], Row] = {}
    for row in rows:
        held.setdefault((str(row["capture"]), str(row["call"])), row)
    return held


def column_rank(column: Column) -> tuple[int, str, int, str, bool]:
    """Order columns: mission apps first, then kinds, calls of the scenario's time first."""
    app = FIVE.index(column.app) if column.app in FIVE else len(FIVE)
    kind = KINDS.index(column.kind) if column.kind in KINDS else len(KINDS)
    return app, column.app, kind, column.kind, column.later


def columns(calls: Iterable[Row]) -> list[Column]:
    """Return every column that some call needs, in order."""
    return sorted({column_of(row) for row in calls}, key=column_rank)


def documented(calls: Iterable[Row]) -> list[Row]:
    """Return the rows of places where the operator's service is documented at all."""
    return [row for row in calls if row.get("documented") is not False]


def hits_of(rows: Iterable[Row]) -> Hits | None:
    """Add up rows of the collateral table (one per protocol of a cell), None for none."""
    held = list(rows)
    if not held:
        return None
    flows, hit, size, size_hit = (
        sum(int(row.get(key) or 0) for row in held)
        for key in ("flows", "hit", "bytes", "bytes_hit")
    )
    low, high = held[0].get("all_low"), held[0].get("all_high")
    interval = None if low is None or high is None else (float(low), float(high))
    return Hits(flows, hit, size, size_hit, flows, interval)


def situations(calls: Sequence[Row], collateral: Sequence[Row]) -> list[Situation]:
    """Group the places that cannot be told apart by what happens in them, the harshest first.

    `calls` holds documented rows, either of real captures or of synthetic ones; rows of both tables
    carry operator, hypothesis, access and date.
    """
    by_place: dict[Place, list[Row]] = defaultdict(list)
    for row in calls:
        by_place[place_of(row)].append(row)
    hit: dict[Place, list[Row]] = defaultdict(list)
    for row in collateral:
        hit[place_of(row)].append(row)
    alike: dict[Hashable, list[Place]] = defaultdict(list)
    for place, rows in by_place.items():
        alike[_signature(rows, hit[place])].append(place)
    found = [
        Situation(tuple(places), _lines(by_place[places[0]], [hit[place] for place in places]))
        for places in alike.values()
    ]
    loud = sorted((one for one in found if not one.quiet), key=lambda one: one.dates)
    loud.sort(key=lambda one: one.most, reverse=True)
    return [*loud, *_joined([one for one in found if one.quiet])]


def _joined(quiet: Sequence[Situation]) -> list[Situation]:
    """Return quiet situations as one: nothing happens in any of them."""
    if not quiet:
        return []
    return [Situation(tuple(place for one in quiet for place in one.places), quiet[0].lines)]


def place_of(row: Row) -> Place:
    """Return the row's operator, access network and date."""
    return str(row["operator"]), str(row["access"]), date_of(row)


def _signature(calls: Iterable[Row], hits: Iterable[Row]) -> Hashable:
    """Return what a place does to calls and bystanders, in a form that can be compared."""
    told = frozenset(
        (row["hypothesis"], row["capture"], row["call"], row.get("verdict"), row.get("rule"))
        for row in calls
    )
    struck = frozenset(
        (row["hypothesis"], row["protocol"], row.get("hit")) for row in hits if row.get("hit")
    )
    return told, struck


def _lines(calls: Sequence[Row], hits: Sequence[Sequence[Row]]) -> tuple[Line, ...]:
    """Return a line per hypothesis; `hits` holds the collateral rows of each place."""
    by_hypothesis: dict[str, list[Row]] = defaultdict(list)
    for row in calls:
        by_hypothesis[str(row["hypothesis"])].append(row)
    return tuple(
        _line(rows, [[row for row in held if row["hypothesis"] == name] for held in hits])
        for name, rows in by_hypothesis.items()
    )


def _line(calls: Sequence[Row], hits: Sequence[Sequence[Row]]) -> Line:
    first = calls[0]
    tallies: dict[Column, Tally] = defaultdict(Tally)
    total = Tally()
    for row in calls:
        tallies[column_of(row)].add(row)
        total.add(row)
    grades = sorted({str(row["grade"]) for row in calls if row.get("grade")})
    return Line(
        hypothesis=str(first["hypothesis"]),
        title=str(first.get("hypothesis_title") or first["hypothesis"]),
        grade=grades[-1] if grades else None,
        tallies=dict(tallies),
        total=total,
        hits=_widest([hits_of(rows) for rows in hits]),
    )


def _widest(held: Sequence[Hits | None]) -> Hits | None:
    """Return the hits of the place that saw most flows, with the fewest that a place saw."""
    known = [one for one in held if one is not None]
    if not known:
        return None
    widest = max(known, key=lambda one: one[:4])
    return widest._replace(fewest=min(one.flows for one in known))


def calendar(calls: Sequence[Row], cells: Sequence[Row]) -> list[Square]:
    """Return one square per operator x access x date, over real calls and all hypotheses."""
    tallies: dict[Place, dict[str, Tally]] = defaultdict(dict)
    for row in calls:
        if in_headline(row):
            tallies[place_of(row)].setdefault(str(row["hypothesis"]), Tally()).add(row)
    states: dict[Place, set[str]] = defaultdict(set)
    for row in cells:
        states[place_of(row)].add(str(row["status"]))
    bare = {place_of(row) for row in calls if row.get("documented") is False}
    bare |= {place for place, held in states.items() if held == {"undocumented"}}
    places = dict.fromkeys([*states, *tallies])
    return [
        _square(place, list(tallies[place].values()), place not in bare, "failed" in states[place])
        for place in places
    ]


def _square(place: Place, tallies: Sequence[Tally], documented: bool, failed: bool) -> Square:
    n = max((tally.n for tally in tallies), default=0)
    whole = [tally.blocked for tally in tallies if tally.n and not tally.inconclusive]
    clear = whole or [tally.blocked for tally in tallies if tally.ok + tally.blocked]
    unclear = len(tallies) - len(whole)
    if not clear:
        return Square(*place, 0, 0, n, unclear, documented, failed)
    return Square(*place, min(clear), max(clear), n, unclear, documented, failed)
