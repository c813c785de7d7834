# SPDX-License-Identifier: BSD-3-Clause
"""The answer: who could call whom, under which hypothesis, and who else is hit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from experiments import charts, mission, wording
from experiments.findings import Findings
from experiments.statistics import ratio

Row = Mapping[str, Any]
Table = dict[str, Any]


def build(run: Findings) -> Table:
    """Return what the section shows."""
    told = answer(run)
    return {"answer": told, "price": price_chart(told["ledes"])}


def answer(run: Findings) -> Table:
    """Return the mission: calendar, situations of real and synthetic calls, the ledes."""
    calls = mission.documented(run["calls"])
    real = [row for row in calls if not row.get("synthetic")]
    made = [row for row in calls if row.get("synthetic")]
    situations = mission.situations(real, run["collateral"])
    return {
        "calls": real,
        "operators": list(dict.fromkeys(str(row["operator"]) for row in [*real, *made])),
        "columns": headings(real, run.spec.get("apps") or []),
        "situations": situations,
        "made_columns": headings(made, []),
        "made_situations": mission.situations(made, run["collateral"]),
        "calendar": calendar(run),
        "ledes": ledes(situations),
        "gaps": _gaps(run),
        "calls_n": len(mission.distinct_calls(real)),
        "sessions_n": len({mission.session_of(row) for row in real}),
    }


def ledes(situations: Sequence[mission.Situation]) -> list[Table]:
    """Return, for operators where they block most, the harshest and the mildest hypothesis.

    Operators that block most in one and the same situation share an entry. The mildest is chosen
    among hypotheses that can tell about every call.
    """
    hardest: dict[int, list[str]] = defaultdict(list)
    operators = [operator for situation in situations for operator in situation.operators]
    for operator in dict.fromkeys(operators):
        own = [at for at, held in enumerate(situations) if operator in held.operators]
        hardest[max(own, key=lambda at: situations[at].most)].append(operator)
    return [_lede(situations[at], held) for at, held in hardest.items()]


def _lede(situation: mission.Situation, operators: Sequence[str]) -> Table:
    lines = sorted(situation.lines, key=lambda line: -line.total.blocked)
    told = [line for line in lines if line.total.ok + line.total.blocked]
    whole = [line for line in told if not line.total.inconclusive]
    return {
        "situation": situation,
        "operators": list(operators),
        "most": told[0] if told else None,
        "least": whole[-1] if whole and whole[-1] is not told[0] else None,
        "unclear": len(lines) - len(whole),
        "lines": lines,
    }


def headings(calls: Sequence[Row], wanted: Sequence[str]) -> list[Table]:
    """Return the mission table's columns by app; an app asked for without a call has none."""
    by_app: dict[str, list[Table]] = {app: [] for app in mission.FIRST_APPS if app in wanted}
    for column in mission.columns(calls):
        held = [row for row in calls if mission.column_of(row) == column]
        years = sorted({int(row["capture_year"]) for row in held if row.get("capture_year")})
        entry = {
            "key": column,
            "calls": len(mission.distinct_calls(held)),
            "sessions": len({mission.session_of(row) for row in held}),
            "years": "–".join(dict.fromkeys(str(year) for year in (*years[:1], *years[-1:]))),
            "added": len(mission.distinct_calls([row for row in held if row.get("added")])),
        }
        by_app.setdefault(column.app, []).append(entry)
    return [{"app": app, "columns": held} for app, held in by_app.items()]


def calendar(run: Findings) -> Table:
    """Return the calendar's rows (operator, access) with a square per date, and date headings."""
    squares = mission.calendar(run["calls"], run["cells"])
    labels = {
        str(entry.get("date"))[:10]: str(entry.get("label") or "")
        for entry in run.spec.get("dates") or []
        if isinstance(entry, Mapping)
    }
    dates = sorted({square.date for square in squares})
    rows: dict[tuple[str, str], dict[str, mission.Square]] = defaultdict(dict)
    for square in squares:
        rows[square.operator, square.access][square.date] = square
    return {
        "dates": [(date, labels.get(date, "")) for date in dates],
        "operators": list(dict.fromkeys(operator for operator, _ in rows)),
        "accesses": list(dict.fromkeys(access for _, access in rows)),
        "rows": _joined_gaps(
            (operator, [access], [held.get(date) for date in dates])
            for (operator, access), held in rows.items()
        ),
    }


CalendarRow = tuple[str, list[str], list[mission.Square | None]]


def _joined_gaps(rows: Iterable[CalendarRow]) -> list[CalendarRow]:
    """Join an operator's rows without any documented service into one."""
    joined: list[CalendarRow] = []
    for operator, accesses, squares in rows:
        last = joined[-1] if joined else None
        if last and last[0] == operator and _is_gap(last[2]) and _is_gap(squares):
            last[1].extend(accesses)
        else:
            joined.append((operator, accesses, squares))
    return joined


def _is_gap(squares: Sequence[mission.Square | None]) -> bool:
    return not any(square is None or square.documented for square in squares)


def _gaps(run: Findings) -> list[Table]:
    """Return access networks on which operators have no documented service, alike ones joined."""
    bare: dict[str, dict[str, None]] = defaultdict(dict)
    for square in mission.calendar(run["calls"], run["cells"]):
        if not square.documented:
            bare[square.operator][square.access] = None
    alike: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for operator, held in bare.items():
        alike[tuple(held)].append(operator)
    return [{"operators": names, "accesses": list(held)} for held, names in alike.items()]


def price_chart(told: Sequence[Row]) -> charts.Chart | None:
    """Return the chart of calls blocked beside bystanders hit, where operators block most."""
    rows = [
        _price_row(line, lede["operators"] if len(told) > 1 else [])
        for lede in told
        for line in lede["lines"]
    ]
    if not rows:
        return None
    words = "; ".join(
        f"{row['label']}: {row['blocked']} of {row['calls']} calls blocked, "
        f"{row['inconclusive']} cannot tell, "
        f"{row['short_flows']} innocent flows hit"
        for row in rows
    )
    return charts.price(rows, f"Two bars per hypothesis. {words}.")


def _price_row(line: mission.Line, operators: Sequence[str]) -> Table:
    names = wording.listed(wording.operator_name(operator) for operator in operators)
    label = f"{names}: {line.title}" if names else line.title
    total, hits = line.total, line.hits
    struck = f"{wording.count(hits.hit)} of {wording.count(hits.flows)}" if hits else "not measured"
    blocked = f"{total.blocked} of {total.n}"
    unknown = f", {total.inconclusive} cannot tell" if total.inconclusive else ""
    return {
        "label": label,
        "hypothesis": line.hypothesis,
        "blocked": total.blocked,
        "inconclusive": total.inconclusive,
        "calls": total.n,
        "blocked_share": ratio(total.blocked, total.n) or 0.0,
        "hit": hits.hit if hits else None,
        "flows": hits.flows if hits else None,
        "hit_share": (ratio(hits.hit, hits.flows) or 0.0) if hits else None,
        "reach": (ratio(total.blocked, total.n) or 0.0) + (ratio(total.inconclusive, total.n) or 0),
        "short_calls": blocked + (f", {total.inconclusive} ?" if total.inconclusive else ""),
        "short_flows": struck,
        "tip_calls": f"{label}: {blocked} calls blocked{unknown}",
        "tip_flows": f"{label}: {struck} innocent flows hit",
    }
