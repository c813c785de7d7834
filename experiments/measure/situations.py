# SPDX-License-Identifier: BSD-3-Clause
"""The outcome table: calls blocked and the reasons, counted from the rows of calls and cells.

Every count is k of n calls. Real and synthetic captures are never added up. Places of the grid
(operator x access x date) in which every hypothesis has the same outcome for every call and every
innocent flow are shown once, as one situation: the grouping comes from results, not from policies.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from midcall.apps import FIVE
from midcall.experiments.measure.formatting import (
    access_name,
    days,
    gettext,
    listed,
    operator_name,
)
from midcall.experiments.results.schema import PACKET_GRADES
from midcall.experiments.results.tables import (
    BystanderCallRow,
    CallRow,
    CellRow,
    CollateralRow,
    FlowRow,
    OtherCalls,
)

#: A row that names its cell of the grid.
Placed = CallRow | CellRow | CollateralRow | BystanderCallRow | OtherCalls
#: Operator, access network, date.
Place = tuple[str, str, str]

KINDS = ("audio", "video", "unknown")


def in_headline(row: Mapping[str, object]) -> bool:
    """Return whether a row counts in headline figures.

    Its capture must be neither synthetic nor added by the user.
    """
    return not row.get("synthetic") and not row.get("added")


def hypothetical(grade: str | None) -> bool:
    """Return whether a rule of a grade has no packet evidence.

    Grades A and B are packets; "B?": the case was seen in packets, the rule is the profile's
    hypothesis.
    """
    return not grade or grade[0] not in PACKET_GRADES or grade.endswith("?")


class Column(NamedTuple):
    """One kind of call of one app, of the scenario's time or of a later client."""

    app: str
    kind: str
    later: bool


@dataclass
class Tally:
    """Outcomes of some calls: counts, verdicts, rules, and packets to the block.

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
        """Return the number of calls that could be tested (they work under the empty policy)."""
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

    def add(self, row: CallRow) -> None:
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

    def _add_block(self, row: CallRow) -> None:
        self.blocked += 1
        if row.get("rule"):
            self.rules[str(row["rule"])] += 1
        packets = row.get("packets_to_block")
        if packets is not None:
            self.waits.append(int(packets))


class Hits(NamedTuple):
    """Innocent flows and those hit; of the flows that are tested also bytes, and an interval.

    flows: all, the same number in every cell of a run; untested: those of them that the cell does
    not test; bytes: of tested flows; interval: of hit / tested, None where none can be given.
    """

    flows: int
    hit: int
    untested: int
    bytes: int
    bytes_hit: int
    interval: tuple[float, float] | None

    @property
    def tested(self) -> int:
        """Return the number of flows that could be hit."""
        return self.flows - self.untested


@dataclass(frozen=True)
class Line:
    """One hypothesis in one situation: its calls by column, and the innocent flows it hits."""

    hypothesis: str
    title: str
    grade: str | None
    tallies: Mapping[Column, Tally]
    total: Tally
    hits: Hits | None

    @property
    def hypothetical(self) -> bool:
        """Return whether the rule has no packet evidence (grades A and B are packets)."""
        return hypothetical(self.grade)

    @property
    def acts(self) -> bool:
        """Return whether the hypothesis affects any call or innocent flow in the situation."""
        hit = self.hits is not None and self.hits.hit > 0
        return hit or self.total.blocked > 0 or self.total.inconclusive > 0


@dataclass(frozen=True)
class Situation:
    """Places (operator, access, date) with the same outcomes."""

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
        """Return whether no hypothesis affects anything in the situation."""
        return not any(line.acts for line in self.lines)

    @property
    def most(self) -> tuple[int, int]:
        """Return the calls that the harshest hypothesis blocks, then those of all of them."""
        blocked = [line.total.blocked for line in self.lines]
        return max(blocked, default=0), sum(blocked)

    @property
    def label(self) -> list[tuple[str, str]]:
        """Return (operators, networks and dates) as text, in as few pairs as possible."""
        by_operator: dict[str, list[tuple[str, str]]] = defaultdict(list)
        for operator, access, date in self.places:
            by_operator[operator].append((access, date))
        alike: dict[str, list[str]] = defaultdict(list)
        for operator, pairs in by_operator.items():
            alike[_where(pairs)].append(operator_name(operator))
        return [(listed(names), where) for where, names in alike.items()]


def _where(pairs: Sequence[tuple[str, str]]) -> str:
    """Return access networks and dates as text: "3G and 4G on 20 Jan; ADSL on 15 Mar 2016"."""
    by_dates: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for access in dict.fromkeys(access for access, _ in pairs):
        dates = tuple(sorted(date for at, date in pairs if at == access))
        by_dates[dates].append(access_name(access))
    words = gettext("%(networks)s on %(dates)s")
    return gettext("; ").join(
        words % {"networks": listed(names), "dates": days(dates)}
        for dates, names in by_dates.items()
    )


class Square(NamedTuple):
    """One square of the calendar: fewest and most calls blocked over the hypotheses, of n.

    A hypothesis that is inconclusive for some call is left out of the range, unless all are;
    unclear: the number of such hypotheses.
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


def date_of(row: Placed) -> str:
    """Return the row's date as ISO text, whatever type the file gave it."""
    return str(row.get("date"))[:10]


def column_of(row: CallRow) -> Column:
    """Return the column that a call is counted in."""
    return Column(
        str(row.get("app")), str(row.get("kind") or "unknown"), bool(row.get("later_client"))
    )


def session_of(row: CallRow | FlowRow) -> str:
    """Return the independent unit of a call or flow: its capture group, else its capture."""
    return str(row.get("group") or row["capture"])


def distinct_calls(rows: Iterable[CallRow]) -> dict[tuple[str, str], CallRow]:
    """Return one row per call, in order of appearance."""
    calls: dict[tuple[str, str], CallRow] = {}
    for row in rows:
        calls.setdefault((str(row["capture"]), str(row["call"])), row)
    return calls


def column_rank(column: Column) -> tuple[int, str, int, str, bool]:
    """Return the sort key of a column: the five apps first, then kinds; later clients last."""
    app = FIVE.index(column.app) if column.app in FIVE else len(FIVE)
    kind = KINDS.index(column.kind) if column.kind in KINDS else len(KINDS)
    return app, column.app, kind, column.kind, column.later


def columns(calls: Iterable[CallRow]) -> list[Column]:
    """Return the columns of some calls, in order."""
    return sorted({column_of(row) for row in calls}, key=column_rank)


def documented(calls: Iterable[CallRow]) -> list[CallRow]:
    """Return the rows of places where the operator's service is documented."""
    return [row for row in calls if row.get("documented") is not False]


def hits_of(rows: Iterable[CollateralRow]) -> Hits | None:
    """Add up rows of the collateral table (one per protocol of a cell), None for none."""
    kinds = list(rows)
    if not kinds:
        return None
    untested = sum(int(row.get("untested") or 0) for row in kinds)
    flows = sum(int(row.get("flows") or 0) for row in kinds) + untested
    hit = sum(int(row.get("hit") or 0) for row in kinds)
    size = sum(int(row.get("bytes") or 0) for row in kinds)
    size_hit = sum(int(row.get("bytes_hit") or 0) for row in kinds)
    low, high = kinds[0].get("all_low"), kinds[0].get("all_high")
    interval = None if low is None or high is None else (float(low), float(high))
    return Hits(flows, hit, untested, size, size_hit, interval)


def situations(calls: Sequence[CallRow], collateral: Sequence[CollateralRow]) -> list[Situation]:
    """Group the places with the same outcomes; the situation in which most is blocked comes first.

    calls: documented rows, either of real captures or of synthetic ones.
    """
    by_place: dict[Place, list[CallRow]] = defaultdict(list)
    for call in calls:
        by_place[place_of(call)].append(call)
    hits: dict[Place, list[CollateralRow]] = defaultdict(list)
    for kind in collateral:
        hits[place_of(kind)].append(kind)
    alike: dict[Hashable, list[Place]] = defaultdict(list)
    for place, rows in by_place.items():
        alike[_signature(rows, hits[place])].append(place)
    groups = [
        Situation(tuple(places), _lines(by_place[places[0]], [hits[place] for place in places]))
        for places in alike.values()
    ]
    return ordered([*(one for one in groups if not one.quiet),
                    *_joined([one for one in groups if one.quiet])])  # fmt: skip


def ordered(groups: Sequence[Situation]) -> list[Situation]:
    """Return situations in the order of the page: most blocked first, then by date; quiet last."""
    active = sorted((one for one in groups if not one.quiet), key=lambda one: one.dates)
    active.sort(key=lambda one: one.most, reverse=True)
    return [*active, *(one for one in groups if one.quiet)]


def _joined(quiet: Sequence[Situation]) -> list[Situation]:
    """Return quiet situations, those with the same hypotheses as one."""
    alike: dict[Hashable, list[Situation]] = defaultdict(list)
    for one in quiet:
        alike[tuple((line.title, line.grade) for line in one.lines)].append(one)
    return [
        Situation(tuple(place for one in same for place in one.places), same[0].lines)
        for same in alike.values()
    ]


class Hardest(NamedTuple):
    """Operators in the situation in which they block most.

    lines: its hypotheses, those that block most first; most, least: the ones that block most and
    least, None where no call can be judged; `least` is conclusive for every call, and None where it
    would be `most`; unclear: the number of hypotheses that are inconclusive for some call.
    """

    situation: Situation
    operators: tuple[str, ...]
    lines: tuple[Line, ...]
    most: Line | None
    least: Line | None
    unclear: int


def hardest(groups: Sequence[Situation]) -> list[Hardest]:
    """Return each operator in the situation in which it blocks most.

    Operators that block most in one and the same situation share an entry. groups: in the order of
    `ordered`.
    """
    chosen: dict[int, list[str]] = defaultdict(list)
    operators = [operator for one in groups for operator in one.operators]
    for operator in dict.fromkeys(operators):
        own = [at for at, one in enumerate(groups) if operator in one.operators]
        chosen[max(own, key=lambda at: groups[at].most)].append(operator)
    return [_hardest(groups[at], names) for at, names in chosen.items()]


def _hardest(situation: Situation, operators: Sequence[str]) -> Hardest:
    lines = sorted(situation.lines, key=lambda line: -line.total.blocked)
    judged = [line for line in lines if line.total.ok + line.total.blocked]
    whole = [line for line in judged if not line.total.inconclusive]
    return Hardest(
        situation,
        tuple(operators),
        tuple(lines),
        judged[0] if judged else None,
        whole[-1] if whole and whole[-1] is not judged[0] else None,
        len(lines) - len(whole),
    )


def place_of(row: Placed) -> Place:
    """Return the row's operator, access network and date."""
    return str(row["operator"]), str(row["access"]), date_of(row)


def _signature(calls: Iterable[CallRow], hits: Iterable[CollateralRow]) -> Hashable:
    """Return a place's outcomes for calls and innocent flows, in a form that can be compared."""
    verdicts = frozenset(
        (row["hypothesis"], row["capture"], row["call"], row.get("verdict"), row.get("rule"))
        for row in calls
    )
    kinds = frozenset(
        (row["hypothesis"], row["protocol"], row.get("hit")) for row in hits if row.get("hit")
    )
    return verdicts, kinds


def _lines(calls: Sequence[CallRow], hits: Sequence[Sequence[CollateralRow]]) -> tuple[Line, ...]:
    """Return a line per hypothesis; hits: the collateral rows of each place."""
    by_hypothesis: dict[str, list[CallRow]] = defaultdict(list)
    for row in calls:
        by_hypothesis[str(row["hypothesis"])].append(row)
    return tuple(
        _line(rows, [[row for row in kinds if row["hypothesis"] == name] for kinds in hits])
        for name, rows in by_hypothesis.items()
    )


def _line(calls: Sequence[CallRow], hits: Sequence[Sequence[CollateralRow]]) -> Line:
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


def _widest(hits: Sequence[Hits | None]) -> Hits | None:
    """Return the hits of the place that tests most flows; places of a situation hit the same."""
    known = [one for one in hits if one is not None]
    return max(known, key=lambda one: (one.tested, one.hit, one.bytes), default=None)


def calendar(calls: Sequence[CallRow], cells: Sequence[CellRow]) -> list[Square]:
    """Return one square per operator x access x date, over real calls and all hypotheses."""
    tallies: dict[Place, dict[str, Tally]] = defaultdict(dict)
    for call in calls:
        if in_headline(call):
            tallies[place_of(call)].setdefault(str(call["hypothesis"]), Tally()).add(call)
    states: dict[Place, set[str]] = defaultdict(set)
    for cell in cells:
        states[place_of(cell)].add(str(cell["status"]))
    bare = {place_of(call) for call in calls if call.get("documented") is False}
    bare |= {place for place, status in states.items() if status == {"undocumented"}}
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
