# SPDX-License-Identifier: BSD-3-Clause
"""Sections: what each part of the report shows, arranged from a run's findings.

Nothing is measured here: rows are counted, joined and sorted, and charts are drawn of them. The
only statistics are exact intervals of counts. A part without rows comes back empty or None, and
the template says so in a sentence.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from experiments import charts, mission, wording
from experiments.findings import Findings
from experiments.statistics import clopper_pearson, ratio, rule_of_three

Row = Mapping[str, Any]
Table = dict[str, Any]

OUTCOMES = ("right", "unsure", "other_call", "missed")
CALL_ROLES = ("media", "setup")
#: Roles in which a certain verdict claims a call.
LOUD_ROLES = (*CALL_ROLES, "control")
CAPTURE_FACTS = ("capture", "sha256", "year", "group", "synthetic", "added", "innocent")


# --- the answer ---------------------------------------------------------------------------------


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
        "calls_n": len(_distinct_calls(real)),
        "sessions_n": len({_session(row) for row in real}),
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
            "calls": len(_distinct_calls(held)),
            "sessions": len({_session(row) for row in held}),
            "years": "–".join(dict.fromkeys(str(year) for year in (*years[:1], *years[-1:]))),
            "added": len(_distinct_calls([row for row in held if row.get("added")])),
        }
        by_app.setdefault(column.app, []).append(entry)
    return [{"app": app, "columns": held} for app, held in by_app.items()]


def _distinct_calls(rows: Iterable[Row]) -> dict[tuple[str, str], Row]:
    """Return one row per call, in order of appearance."""
    held: dict[tuple[str, str], Row] = {}
    for row in rows:
        held.setdefault((str(row["capture"]), str(row["call"])), row)
    return held


def _session(row: Row) -> str:
    """Return the independent unit of a call: its capture group, else its capture."""
    return str(row.get("group") or row["capture"])


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


# --- calls --------------------------------------------------------------------------------------


def recognised(run: Findings) -> list[Table]:
    """Return one row per call: whether, after what and by which bytes it was recognised."""
    own: dict[tuple[str, str], list[Table]] = defaultdict(list)
    by_capture: dict[str, list[Table]] = defaultdict(list)
    for flow in run["flows"]:
        by_capture[flow["capture"]].append(flow)
        if flow.get("truth_call"):
            own[flow["capture"], str(flow["truth_call"])].append(flow)
    fates: dict[tuple[str, str], dict[str, bool]] = defaultdict(dict)
    for row in mission.documented(run["calls"]):
        name = str(row["hypothesis"])
        held = fates[str(row["capture"]), str(row["call"])]
        held[name] = held.get(name, False) or bool(row.get("blocked"))
    rows = []
    for key, call in _distinct_calls(run["calls"]).items():
        seen = own.get(key) or by_capture.get(key[0]) or []
        proof = _proof(call, seen) if call["recognised"] else None
        rows.append(
            {
                **call,
                "proof": proof,
                "flows": len(own.get(key, [])),
                "blocked_under": sum(fates[key].values()),
                "hypotheses": len(fates[key]),
            }
        )
    rows.sort(
        key=lambda row: (bool(row["synthetic"]), *mission.column_rank(mission.column_of(row)))
    )
    return rows


def _proof(call: Row, flows: Iterable[Table]) -> Table | None:
    """Return the flow that gave the call away first: certain, of its app, fewest packets."""
    sure = [
        flow
        for flow in flows
        if flow["verdict"] == "certain"
        and flow["role"] in LOUD_ROLES
        and flow["packets_to_verdict"] is not None
        and (flow["app"] == call["app"] or flow.get("outcome") == "right")
    ]
    return min(sure, key=lambda flow: flow["packets_to_verdict"], default=None)


def recognition(run: Findings) -> list[Table]:
    """Return per app the real and the synthetic calls recognised, k of n, exact intervals.

    The runner counts every call of a capture that is no copy of another one. The last row adds up
    all apps.
    """
    counts: dict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
    for row in run.at("accuracy", "calls_recognised") or []:
        side = "synthetic" if row["synthetic"] else "real"
        counts[row["app"]][side] = (row["hits"], row["n"])
    order = sorted(counts, key=lambda app: mission.column_rank(mission.Column(app, "", False)))
    table = [_recognition(app, counts[app]) for app in order]
    if len(table) > 1:
        totals = {side: _added([held.get(side) for held in counts.values()])
                  for side in ("real", "synthetic")}  # fmt: skip
        table.append(_recognition(None, totals))
    return table


def _added(counts: Iterable[tuple[int, int] | None]) -> tuple[int, int]:
    known = [held for held in counts if held is not None]
    return sum(hits for hits, _ in known), sum(n for _, n in known)


def _recognition(app: str | None, counts: Mapping[str, tuple[int, int]]) -> Table:
    row: Table = {"app": app}
    for side in ("real", "synthetic"):
        held = counts.get(side)
        row[side] = (*held, clopper_pearson(*held)) if held and held[1] else None
    return row


def fates(run: Findings) -> list[Table]:
    """Return each call under each hypothesis, places with the same fate joined.

    Only places where the hypothesis does something to some call: elsewhere all calls get through.
    """
    rows = mission.documented(run["calls"])
    active = {
        (row["hypothesis"], mission.place_of(row))
        for row in rows
        if row.get("blocked") or row.get("verdict") not in ("OK", "INVALID")
    }
    joined: dict[tuple[Any, ...], Table] = {}
    for row in rows:
        place = mission.place_of(row)
        if (row["hypothesis"], place) in active:
            names = ("hypothesis", "capture", "call", "verdict", "rule", "reason")
            key = tuple(row.get(name) for name in names)
            joined.setdefault(key, {**row, "places": []})["places"].append(place)
    for entry in joined.values():
        entry["situation"] = mission.Situation(tuple(entry["places"]), ())
    return list(joined.values())


def own_captures(run: Findings, calls: Sequence[Row], told: Sequence[Row]) -> list[Table]:
    """Return the user's own captures with their flows, calls and fates."""
    names: dict[str, None] = {}
    for row in (*run["flows"], *run["calls"]):
        if row.get("added"):
            names[row["capture"]] = None
    return [
        {
            "name": name,
            "flows": [row for row in run["flows"] if row["capture"] == name],
            "calls": [row for row in calls if row["capture"] == name],
            "fates": [row for row in told if row["capture"] == name],
        }
        for name in names
    ]


# --- accuracy -----------------------------------------------------------------------------------


def accuracy(run: Findings) -> Table:
    """Return accuracy by app and role, confusion, false calls, and the flows that went wrong."""
    scored = [row for row in run["flows"] if not row.get("synthetic")]
    table = _accuracy_rows(run, scored)
    wrong = [row for row in scored if row["outcome"] in ("missed", "other_call", "unsure")]
    return {
        "rows": table,
        "chart": outcomes_chart(table),
        "by_app": run.at("accuracy", "by_app") or {},
        "confusion": confusion(run.at("accuracy", "confusion") or []),
        "false_calls": run.at("accuracy", "false_calls"),
        "false_bound": rule_of_three(run.at("accuracy", "false_calls", "flows") or 0),
        "wrong": wrong,
        "alarms": [row for row in scored if row["outcome"] == "false_call"],
        "headline": run.at("accuracy", "five") or run.at("accuracy", "all"),
        "distinct": run.at("accuracy", "five_without_copies")
        or run.at("accuracy", "five_distinct"),
        "baselines": run.at("accuracy", "baselines") or [],
        "made": [
            {"app": app, "role": role, **entry}
            for app, roles in (run.at("accuracy", "synthetic", "apps") or {}).items()
            for role, entry in roles.items()
        ],
        "macro_f1": run.at("accuracy", "macro_f1"),
        "macro_f1_apps": run.at("accuracy", "macro_f1_apps"),
        "macro_f1_five": run.at("accuracy", "macro_f1_five"),
    }


def _accuracy_rows(run: Findings, flows: Sequence[Row]) -> list[Table]:
    """Return a row per app and role of summary.json, with the sessions that are wholly right."""
    sessions: dict[tuple[str, str], dict[str, bool]] = defaultdict(dict)
    for row in flows:
        if row["outcome"] in OUTCOMES:
            held = sessions[str(row["truth_app"]), str(row["truth_role"])]
            session = _session(row)
            held[session] = held.get(session, True) and row["outcome"] == "right"
    apps = run.at("accuracy", "apps") or {}
    order = sorted(apps, key=lambda app: mission.column_rank(mission.Column(app, "", False)))
    rows = []
    for app in order:
        for role, entry in apps[app].items():
            whole = sessions.get((app, role), {})
            good = sum(whole.values())
            rows.append(
                {
                    "app": app,
                    "role": role,
                    "sessions": len(whole),
                    "sessions_right": good,
                    "sessions_interval": clopper_pearson(good, len(whole)),
                    **entry,
                }
            )
    return rows


def outcomes_chart(table: Sequence[Row]) -> charts.Chart | None:
    """Return the stacked bars of outcomes, None without scored flows."""
    rows = []
    for entry in table:
        label = f"{wording.app_name(entry['app'])} {entry['role']}"
        for rank, name in enumerate(OUTCOMES):
            words = wording.OUTCOME_NAMES[name]
            tip = f"{label}: {entry[name]} of {wording.plural(entry['n'], 'flow')} {words}"
            rows.append(
                {"label": label, "outcome": words, "n": entry[name], "rank": rank, "tip": tip}
            )
    if not rows:
        return None
    told = "; ".join(
        f"{wording.app_name(entry['app'])} {entry['role']} {entry['right']} of {entry['n']} right"
        for entry in table
    )
    order = [wording.OUTCOME_NAMES[name] for name in OUTCOMES]
    return charts.outcomes(rows, order, f"Stacked bars, one per app and role. {told}.")


def confusion(entries: Sequence[Row]) -> Table | None:
    """Return the confusion matrix: truths as rows, what was said as columns, unknown ones last."""
    if not entries:
        return None
    counts: Counter[tuple[str, str]] = Counter()
    for entry in entries:
        counts[entry["truth"], entry["said"]] += entry["n"]

    def rank(app: str) -> tuple[Any, ...]:
        return mission.column_rank(mission.Column(app, "", False))

    last = ("unsure", "missed")
    truths = sorted({truth for truth, _ in counts}, key=rank)
    apps = sorted({said for _, said in counts} - set(last), key=rank)
    return {
        "said": [*apps, *last],
        "rows": [
            {
                "truth": truth,
                "n": sum(counts[truth, said] for said in (*apps, *last)),
                "cells": [(said, counts[truth, said]) for said in (*apps, *last)],
            }
            for truth in truths
        ],
    }


# --- waits, collateral, speed -------------------------------------------------------------------


def waits(run: Findings) -> Table:
    """Return the distributions of packets and milliseconds to a right verdict (real call flows)."""
    right = [
        row
        for row in run["flows"]
        if row["outcome"] == "right"
        and not row.get("synthetic")
        and row["truth_role"] in CALL_ROLES
    ]
    return {
        "packets": run.at("verdict", "packets"),
        "ms": run.at("verdict", "ms"),
        "charts": [
            made
            for made in (
                _settled(right, "packets", "packets_to_verdict", "payload packets seen", log=False),
                _settled(right, "ms", "ms_to_verdict", "ms since the flow began (log scale)",
                         log=True),
            )
            if made is not None
        ],
    }  # fmt: skip


def _settled(
    flows: Sequence[Row], unit: str, column: str, axis: str, *, log: bool
) -> charts.Chart | None:
    """Return the cumulative chart of one wait, by role; a log axis draws 0 at 0.1."""
    rows: list[Table] = []
    for role in CALL_ROLES:
        values = sorted(
            float(row[column])
            for row in flows
            if row["truth_role"] == role and row[column] is not None
        )
        for value in sorted(set(values)):
            done = sum(held <= value for held in values)
            rows.append(
                {
                    "series": f"{role} flows (n = {len(values)})",
                    "value": max(value, 0.1) if log else value,
                    "share": done / len(values),
                    "tip": f"{role}: {done} of {len(values)} flows settled within {value:g} {unit}",
                }
            )
    if not rows:
        return None
    text = f"Rising steps: share of call flows with their right verdict after so many {unit}."
    for series in dict.fromkeys(row["series"] for row in rows):
        half = next(row for row in rows if row["series"] == series and row["share"] >= 0.5)
        full = [row for row in rows if row["series"] == series][-1]
        text += f" {series}: half within {half['value']:g} {unit}, all within {full['value']:g}."
    title = f"{'Packets' if unit == 'packets' else 'Milliseconds'} to the right verdict"
    return charts.settled(f"{unit}-to-verdict", title, axis, rows, text, log=log)


def collateral(run: Findings, told: Sequence[Row]) -> list[Table]:
    """Return, where operators block most, innocent flows hit by protocol and hypothesis."""
    tables = []
    for lede in told:
        place = lede["situation"].places[0]
        rows = [row for row in run["collateral"] if mission.place_of(row) == place]
        if rows:
            tables.append({**lede, **_by_protocol(rows)})
    return tables


def _by_protocol(rows: Sequence[Row]) -> Table:
    """Return protocols with a hit as rows of (hit, flows) per hypothesis, the others joined."""
    names = list(dict.fromkeys(str(row["hypothesis"]) for row in rows))
    cells: dict[str, dict[str, tuple[int, int]]] = defaultdict(dict)
    for row in rows:
        cells[str(row["protocol"])][str(row["hypothesis"])] = (int(row["hit"]), int(row["flows"]))
    struck = [name for name, held in cells.items() if any(hit for hit, _ in held.values())]
    spared = [name for name in cells if name not in struck]
    struck.sort(key=lambda name: -max(hit for hit, _ in cells[name].values()))
    return {
        "hypotheses": names,
        "protocols": [(name, [cells[name].get(one) for one in names]) for name in struck],
        "spared": sorted(spared),
        "spared_flows": max(
            (sum(cells[name].get(one, (0, 0))[1] for name in spared) for one in names), default=0
        ),
        "totals": [mission.hits_of(row for row in rows if row["hypothesis"] == one)
                   for one in names],
    }  # fmt: skip


def speed(run: Findings) -> Table:
    """Return latency and throughput with their charts, and what machine they were taken on."""
    return {
        "latency": run["latency"],
        "throughput": run["throughput"],
        "latency_chart": _latency_chart(run["latency"]),
        "throughput_chart": _throughput_chart(run["throughput"]),
        "latency_method": run.at("latency", "offline", "method") or run.at("latency", "method"),
        "throughput_method": run.at("throughput", "offline", "method")
        or run.at("throughput", "method"),
        "machine": facts(run.at("machine") or run.provenance.get("machine") or {}),
        "p50": run.at("latency", "offline", "ns_per_packet", "p50"),
        "p99": run.at("latency", "offline", "ns_per_packet", "p99"),
        "pps": run.at("throughput", "offline", "packets_per_s"),
    }


def _latency_chart(table: Sequence[Row]) -> charts.Chart | None:
    rows = [
        {
            **row,
            "percentile": f"p{float(row['percentile']):g}",
            "short": wording.duration_ns(row["ns_per_packet"]),
            "tip": f"{row['path']}, p{float(row['percentile']):g}: "
            f"{wording.duration_ns(row['ns_per_packet'])} per packet "
            f"(batches of {row['batch']}, n = {wording.count(row['n'])} batches)",
        }
        for row in sorted(table, key=lambda row: float(row["percentile"]))
        if row["ns_per_packet"]
    ]
    if not rows:
        return None
    return charts.latency(rows, "Line over percentiles. " + "; ".join(r["tip"] for r in rows) + ".")


def _throughput_chart(table: Sequence[Row]) -> charts.Chart | None:
    rows = [
        {
            **row,
            "label": f"{row['path']} · {row['file']}",
            "short": f"{wording.amount(row['packets_per_s'])}",
            "tip": f"{row['path']}, {row['file']}: "
            f"{wording.amount(row['packets_per_s'])} packets/s, "
            f"{wording.amount(row['bytes_per_s'], 'B')}/s "
            f"({wording.count(row['packets'])} packets in {row['seconds']:.3g} s)",
        }
        for row in table
        if row["packets_per_s"]
    ]
    if not rows:
        return None
    return charts.throughput(rows, "Bars. " + "; ".join(row["tip"] for row in rows) + ".")


# --- captures and provenance --------------------------------------------------------------------


def captures(run: Findings) -> Table:
    """Return one row per capture with its hash, the missing ones, and the files that were cut."""
    held: dict[str, Table] = {}
    for row in run["flows"]:
        entry = held.setdefault(
            row["capture"],
            {key: row.get(key) for key in CAPTURE_FACTS} | {"flows": 0, "packets": 0, "bytes": 0},
        )
        entry["flows"] += 1
        entry["packets"] += int(row["packets"] or 0)
        entry["bytes"] += int(row["bytes"] or 0)
    return {
        "rows": sorted(held.values(), key=lambda row: (bool(row["synthetic"]), row["capture"])),
        "missing": reasons(run.at("captures", "missing_list") or run.at("captures", "missing")),
        "notices": [str(notice) for notice in run.at("warnings") or []],
        "copies": [str(name) for name in run.at("captures", "copies") or []],
        "real": run.at("captures", "real"),
        "synthetic": run.at("captures", "synthetic"),
        "added": run.at("captures", "added"),
    }


def reasons(value: Any) -> list[tuple[str, str]]:
    """Return (name, reason) pairs of missing captures, from their list or from a bare count."""
    if isinstance(value, int) and value:
        return [(wording.plural(value, "capture"), "no reason recorded")]
    if not isinstance(value, list):
        return []
    return [
        (str(entry.get("capture") or entry.get("sha256")), str(entry.get("reason") or ""))
        for entry in value
    ]


def _said(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def facts(value: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Return nested facts as flat (name, text) pairs, lists joined; nothing is left out."""
    if isinstance(value, Mapping):
        return [pair for key, held in value.items() for pair in facts(held, f"{prefix}{key}.")]
    name = prefix.rstrip(".").replace("_", " ").replace(".", " › ")
    if isinstance(value, list) and any(isinstance(entry, Mapping) for entry in value):
        return [(name, f"{len(value)} entries, in provenance.json")]
    return [(name, "not known" if value is None else _said(value))]
