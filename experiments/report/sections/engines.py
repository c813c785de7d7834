# SPDX-License-Identifier: BSD-3-Clause
"""Engines: what real packet engines can do of the policy language, packet by packet."""

from __future__ import annotations

from typing import Any, NamedTuple

from midcall.experiments.measure.formatting import N_, gettext
from midcall.experiments.results.reader import Findings

#: Kinds of rows, in the order of the tables.
KINDS = {
    "match": N_("Matches"),
    "payload": N_("Kinds of payload"),
    "act": N_("Acts"),
    "scope": N_("Scopes"),
    "key": N_("Other keys of a rule"),
    "mechanism": N_("Mechanisms"),
}
NAMES = {"suricata": "Suricata", "nftables": "nftables", "iptables": "iptables", "ndpi": "nDPI"}
PATHS = {"kernel": N_("kernel without rules"), "midcall": N_("Midcall's box")}
#: Answers that are a comparison of packets.
COMPARED = ("equal", "differs")


class Row(NamedTuple):
    """A policy's name and its cell under each engine, None where it has none."""

    name: str
    cells: list[dict[str, Any] | None]


class Reason(NamedTuple):
    """Why a cell is refused or approximate: its number, engines and cells; file: a witness."""

    number: int
    words: str
    engines: list[str]
    cells: int
    file: str


def build(run: Findings) -> dict[str, object] | None:
    """Return the values of the section, None where the spec compares no engines."""
    found: Any = run.at("engines")
    if not found:
        return None
    engines = list(dict.fromkeys(cell["engine"] for cell in found))
    reasons = reasons_of(found)
    numbers = {one.words: one.number for one in reasons}
    compared = [cell for cell in found if cell["answer"] in COMPARED]
    exact = [cell for cell in compared if cell["exact"]]
    timed: Any = run.at("engine_speed")
    return {
        "engines": {
            "names": [NAMES.get(engine, engine) for engine in engines],
            "tables": [
                (kind, gettext(title), rows)
                for kind, title in KINDS.items()
                if (rows := rows_of([one for one in found if one["kind"] == kind], engines))
            ],
            "numbers": numbers,
            "reasons": reasons,
            "compared": len(compared),
            "exact": len(exact),
            "exact_packets": sum(cell["packets"] for cell in exact),
            "exact_differ": sum(cell["differs"] for cell in exact),
            "refused": sum(cell["answer"] == "refused" for cell in found),
            "not_run": sum(cell["answer"] == "not run" for cell in found),
            "edits": [
                {**one, "name": NAMES.get(one["engine"], one["engine"])}
                for one in run.at("engine_edits") or []
            ],
            "speed": speed(timed) if timed else None,
        }
    }


def rows_of(cells: list[dict[str, Any]], engines: list[str]) -> list[Row]:
    """Return the cells of one kind by policy and engine."""
    by_name: dict[str, dict[str, dict[str, Any]]] = {}
    for cell in cells:
        name = str(cell["policy"]).rpartition("/")[2]
        by_name.setdefault(name, {})[cell["engine"]] = cell
    return [Row(name, [own.get(one) for one in engines]) for name, own in by_name.items()]


def reasons_of(cells: list[dict[str, Any]]) -> list[Reason]:
    """Return every reason once, approximations first.

    Its witness is the capture of a cell that differs, with fewest other reasons.
    """
    own: dict[str, list[dict[str, Any]]] = {}
    for cell in sorted(cells, key=lambda cell: cell["answer"] not in COMPARED):
        for words in cell["reasons"]:
            own.setdefault(words, []).append(cell)
    out = []
    for number, (words, some) in enumerate(own.items(), 1):
        differ = sorted((one for one in some if one["file"]), key=lambda one: len(one["reasons"]))
        engines = list(dict.fromkeys(NAMES.get(one["engine"], one["engine"]) for one in some))
        file = str(differ[0]["file"]) if differ else ""
        out.append(Reason(number, words, engines, len(some), file))
    return out


def speed(timed: dict[str, Any]) -> dict[str, object]:
    """Return the speed of each path, with its ratio to Midcall's box and the added latency."""
    paths = {one["path"]: one for one in timed["paths"]}
    own, kernel = paths.get("midcall"), paths.get("kernel")
    rows = []
    for name, one in paths.items():
        added = None
        if kernel and name != "kernel" and None not in (one["p50_us"], kernel["p50_us"]):
            added = one["p50_us"] - kernel["p50_us"]
        words = gettext(PATHS[name]) if name in PATHS else NAMES.get(name, name)
        share = one["pps"] / own["pps"] if own and own["pps"] else None
        rows.append({**one, "name": words, "ratio": share, "added_us": added})
    return {"policy": timed["policy"], "missing": timed["missing"], "rows": rows}
