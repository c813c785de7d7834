# SPDX-License-Identifier: BSD-3-Clause
"""The mission table: who could call whom, and why not, counted from the rows of calls and cells.

Every count is k of n calls. Real and synthetic captures are never added up. Cells of the grid
(access x date) in which every hypothesis does the same to every call and to every bystander are
shown once, as one situation: the grouping is found in the results, not in the policy.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from experiments.wording import access_name, day, listed

Row = Mapping[str, Any]
Place = tuple[str, str]

#: Apps in the order of the mission; others follow by name.
FIRST_APPS = ("whatsapp", "skype", "viber", "facetime", "messenger")
KINDS = ("audio", "video", "unknown")
#: Grades whose evidence is packets: measurements, captures, developers' reverse engineering.
PACKET_GRADES = frozenset("AB")


class Column(NamedTuple):
    """One kind of call of one app, of the scenario's time or of a later client."""

    app: str
    kind: str
    later: bool


@dataclass
class Tally:
    """What became of some calls: counts, the words for it, and packets to the block."""

    ok: int = 0
    blocked: int = 0
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
    """Innocent flows seen and hit, and their bytes."""

    flows: int
    hit: int
    bytes: int
    bytes_hit: int


@dataclass(frozen=True)
class Line:
    """One hypothesis in one situation: its calls by column, and the bystanders it hits."""

    operator: str
    hypothesis: str
    title: str
    grade: str | None
    tallies: Mapping[Column, Tally]
    total: Tally
    hits: Hits | None

    @property
    def hypothetical(self) -> bool:
        """Tell whether no packet evidence stands behind the rule (grades A and B are packets)."""
        return not self.grade or self.grade[0].upper() not in PACKET_GRADES


@dataclass(frozen=True)
class Situation:
    """Places (access, date) of one operator in which everything comes out the same."""

    operator: str
    places: tuple[Place, ...]
    lines: tuple[Line, ...]

    @property
    def accesses(self) -> list[str]:
        """Return the access networks, each once, in order of appearance."""
        return list(dict.fromkeys(access for access, _ in self.places))

    @property
    def dates(self) -> list[str]:
        """Return the dates, each once, sorted."""
        return sorted({date for _, date in self.places})

    @property
    def quiet(self) -> bool:
        """Tell whether nothing is blocked and nobody is hit under any hypothesis."""
        return not any(
            line.total.blocked or (line.hits is not None and line.hits.hit) for line in self.lines
        )

    @property
    def label(self) -> str:
        """Return the places in words: "3G and 4G on 20 Jan 2016; ADSL on 15 Mar 2016"."""
        by_access: dict[str, tuple[str, ...]] = {
            access: tuple(sorted(date for at, date in self.places if at == access))
            for access in self.accesses
        }
        by_dates: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for access, dates in by_access.items():
            by_dates[dates].append(access_name(access))
        return "; ".join(
            f"{listed(names)} on {listed(day(date) for date in dates)}"
            for dates, names in by_dates.items()
        )


class Square(NamedTuple):
    """One square of the calendar: fewest and most calls blocked over the hypotheses, of n."""

    operator: str
    access: str
    date: str
    fewest: int
    most: int
    n: int
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


def column_rank(column: Column) -> tuple[int, str, int, str, bool]:
    """Order columns: mission apps first, then kinds, calls of the scenario's time first."""
    app = FIRST_APPS.index(column.app) if column.app in FIRST_APPS else len(FIRST_APPS)
    kind = KINDS.index(column.kind) if column.kind in KINDS else len(KINDS)
    return app, column.app, kind, column.kind, column.later


def columns(calls: Iterable[Row]) -> list[Column]:
    """Return every column that some call needs, in order."""
    return sorted({column_of(row) for row in calls}, key=column_rank)


def documented(calls: Iterable[Row]) -> list[Row]:
    """Return the rows of places where the operator's service is documented at all."""
    return [row for row in calls if row.get("documented") is not False]


def hits_of(rows: Iterable[Row]) -> Hits | None:
    """Add up rows of the collateral table (one per protocol), None when there are none."""
    held = list(rows)
    if not held:
        return None
    flows, hit, size, size_hit = (
        sum(int(row.get(key) or 0) for row in held)
        for key in ("flows", "hit", "bytes", "bytes_hit")
    )
    return Hits(flows, hit, size, size_hit)


def situations(calls: Sequence[Row], collateral: Sequence[Row]) -> list[Situation]:
    """Group the places of each operator that cannot be told apart by what happens in them.

    `calls` holds documented rows, either of real captures or of synthetic ones; rows of both tables
    carry operator, hypothesis, access and date.
    """
    by_place: dict[tuple[str, Place], list[Row]] = defaultdict(list)
    for row in calls:
        by_place[str(row["operator"]), (str(row["access"]), date_of(row))].append(row)
    hit: dict[tuple[str, Place], list[Row]] = defaultdict(list)
    for row in collateral:
        hit[str(row["operator"]), (str(row["access"]), date_of(row))].append(row)
    alike: dict[Hashable, list[tuple[str, Place]]] = defaultdict(list)
    for (operator, place), rows in by_place.items():
        alike[operator, _signature(rows, hit[operator, place])].append((operator, place))
    found = [
        Situation(keys[0][0], tuple(place for _, place in keys), _lines(by_place[keys[0]],
                                                                        hit[keys[0]]))
        for keys in alike.values()
    ]  # fmt: skip
    order = list(dict.fromkeys(str(row["operator"]) for row in calls))
    return sorted(found, key=lambda held: (order.index(held.operator), held.quiet, held.dates))


def _signature(calls: Iterable[Row], hits: Iterable[Row]) -> Hashable:
    """Return what a place does to calls and bystanders, in a form that can be compared."""
    told = frozenset(
        (row["hypothesis"], row["capture"], row["call"], row.get("verdict"), row.get("rule"))
        for row in calls
    )
    struck = frozenset(
        (row["hypothesis"], row["protocol"], row.get("flows"), row.get("hit")) for row in hits
    )
    return told, struck


def _lines(calls: Sequence[Row], hits: Sequence[Row]) -> tuple[Line, ...]:
    by_hypothesis: dict[str, list[Row]] = defaultdict(list)
    for row in calls:
        by_hypothesis[str(row["hypothesis"])].append(row)
    return tuple(
        _line(rows, [row for row in hits if row["hypothesis"] == name])
        for name, rows in by_hypothesis.items()
    )


def _line(calls: Sequence[Row], hits: Sequence[Row]) -> Line:
    first = calls[0]
    tallies: dict[Column, Tally] = defaultdict(Tally)
    total = Tally()
    for row in calls:
        tallies[column_of(row)].add(row)
        total.add(row)
    grades = sorted({str(row["grade"]) for row in calls if row.get("grade")})
    return Line(
        operator=str(first["operator"]),
        hypothesis=str(first["hypothesis"]),
        title=str(first.get("hypothesis_title") or first["hypothesis"]),
        grade=grades[-1] if grades else None,
        tallies=dict(tallies),
        total=total,
        hits=hits_of(hits),
    )


def calendar(calls: Sequence[Row], cells: Sequence[Row]) -> list[Square]:
    """Return one square per operator x access x date, over real calls and all hypotheses."""
    blocked: dict[tuple[str, str, str], dict[str, Tally]] = defaultdict(dict)
    for row in calls:
        if not row.get("synthetic"):
            key = (str(row["operator"]), str(row["access"]), date_of(row))
            blocked[key].setdefault(str(row["hypothesis"]), Tally()).add(row)
    states: dict[tuple[str, str, str], set[str]] = defaultdict(set)
    for row in cells:
        states[str(row["operator"]), str(row["access"]), date_of(row)].add(str(row["status"]))
    undocumented = {
        (str(row["operator"]), str(row["access"]), date_of(row))
        for row in calls
        if row.get("documented") is False
    }
    keys = list(dict.fromkeys([*states, *blocked]))
    return [_square(key, blocked.get(key, {}), states[key], key in undocumented) for key in keys]


def _square(
    key: tuple[str, str, str], tallies: Mapping[str, Tally], states: set[str], bare: bool
) -> Square:
    counts = [tally.blocked for tally in tallies.values()] or [0]
    n = max((tally.n for tally in tallies.values()), default=0)
    documented_here = not bare and states != {"undocumented"}
    return Square(*key, min(counts), max(counts), n, documented_here, "failed" in states)
