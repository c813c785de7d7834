# SPDX-License-Identifier: BSD-3-Clause
"""The benchmark of the localiser: planted rules, of which it sees nothing but answers.

A rule is recovered exactly where three things hold:

- the search says that it explained everything;
- the clauses found and the planted rule agree on every probe of a test set made afterwards
  (experiments.proofs.localiser.held_out_probes: over 150 probes a rule, drawn by a generator of its
  own, the edges of the rule's numbers among them; answers of the planted rule without noise);
- the minimal sufficient sets found are those of the planted rule, where it has only one
  description. How many packets with a payload may stand before ("loaded"), and what a flow must
  not have shown ("unless"), is how long our own box's readers look and what they remember: no part
  of these planted rules, and left out of the comparison of sets.

Half-known ends of times are stated to 1 ms (gaps 0.1 ms) and rounded; the test set keeps 10 ms (1
ms) away from them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from midcall.experiments.localise.clause import blocks
from midcall.experiments.localise.oracle_session import Asker
from midcall.experiments.localise.search import Found, localise
from midcall.experiments.measure.summary import by_noise
from midcall.experiments.proofs.localiser import held_out_probes
from midcall.experiments.proofs.localiser.listed_rules import PLANTED
from midcall.experiments.proofs.localiser.rule import Planted
from midcall.experiments.results.schema import write_atomically
from midcall.testbed.probing.oracle import NoisyOracle, Oracle
from midcall.testbed.probing.probe import Probe

Row = dict[str, Any]
#: Of the probes of each answer so many, at least, are answered rightly by what is right in part.
MOSTLY = 0.9
#: Finds clauses: the search, or another one to compare it with.
Search = Callable[[Asker, Probe], Found]


def seed_of(seed: int, *names: object) -> int:
    """Return a seed that depends on a seed and names alone."""
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")


def run(
    noises: Sequence[float],
    budget: int,
    seed: int,
    some: Sequence[Planted] = PLANTED,
    search: Search = localise,
    step: Callable[[str], None] | None = None,
    of: str = "listed",
    kept: Path | None = None,
) -> list[Row]:
    """Return one row per planted rule and share of wrong answers, as results.LOCALISED has them.

    of: what set of rules it is; kept: a folder in which rows that are done are kept and found.
    """
    rows = []
    for noise in noises:
        for planted in some:
            base = planted.base()
            place = None if kept is None else kept / f"{of}-{planted.name}-{noise:g}.json"
            rows.append(
                {"set": of, **held(place, partial(one, planted, base, noise, budget, seed, search))}
            )
            if step is not None:
                step(f"{planted.name} {noise:.0%}")
    return rows


def held(place: Path | None, make: Callable[[], Row]) -> Row:
    """Return a row from the file that keeps it, else make it and keep it there."""
    if place is not None and place.is_file():
        row: Row = json.loads(place.read_bytes())
        return row
    row = make()
    if place is not None:
        write_atomically(place, json.dumps(row).encode())
    return row


def one(
    planted: Planted, base: Probe, noise: float, budget: int, seed: int, search: Search = localise
) -> Row:
    """Return the row of one planted rule; one that lets its call pass is "never" found."""
    truth = planted.oracle()
    if not truth.blocked(base):
        return {**row_of(planted, noise), "outcome": "never", "cause": "it never strikes its call"}
    asked: Oracle = truth
    if noise:
        asked = NoisyOracle(truth, noise, seed_of(seed, planted.name, noise))
    found = search(Asker(asked, noise, budget=budget), base)
    tests = held_out_probes.probes(planted, base, seed)
    result = [truth.blocked(probe) for probe in tests]
    wrongly = [
        answer for probe, answer in zip(tests, result, strict=True)
        if blocks(found.clauses, probe) != answer
    ]  # fmt: skip
    wrong = len(wrongly)
    sets = {without_memory(one) - planted.implied for one in found.sufficient}
    needs = {one - planted.implied for one in planted.needs}
    same = sets == needs if needs else None
    row = {
        **row_of(planted, noise),
        "recovered": found.complete and wrong == 0 and same is not False,
        "complete": found.complete,
        "tests": len(tests),
        "tests_blocked": sum(result),
        "tests_wrong": wrong,
        "tests_missed": sum(wrongly),
        "sets_same": same,
        "questions": found.cost.questions,
        "probes": found.cost.probes,
        "packets": found.cost.packets,
        "octets": found.cost.octets,
        "found": " | ".join("; ".join(clause.words(True)) for clause in found.clauses),
        "cause": "; ".join(causes(found, wrong, len(tests), sets, needs)),
    }
    return {**row, "outcome": outcome(row)}


def without_memory(names: frozenset[str]) -> frozenset[str]:
    """Return the names of what decides without those of what a box's readers remember."""
    return frozenset(one for one in names if one != "loaded" and not one.startswith("unless"))


def row_of(planted: Planted, noise: float) -> Row:
    """Return the row of a rule of which nothing is known."""
    numbers = ("tests", "tests_blocked", "tests_wrong", "tests_missed", "questions", "probes",
               "packets", "octets")  # fmt: skip
    return {
        "rule": planted.name, "kind": planted.kind, "noise": noise, "recovered": False,
        "complete": False, **dict.fromkeys(numbers, 0), "sets_same": None, "found": "",
    }  # fmt: skip


def outcome(row: Row) -> str:
    """Return what came of a rule: "exactly", "partly", "unexplained" or "wrong".

    Partly: for each of the two answers, MOSTLY of its fresh probes are answered rightly.
    Unexplained: the search says itself that it did not explain everything. Wrong: it says that it
    did.
    """
    if row["recovered"]:
        return "exactly"
    blocked, missed = row["tests_blocked"], row["tests_missed"]
    passed, alarms = row["tests"] - blocked, row["tests_wrong"] - missed
    if blocked - missed >= MOSTLY * blocked and passed - alarms >= MOSTLY * passed:
        return "partly"
    return "wrong" if row["complete"] else "unexplained"


def causes(
    found: Found, wrong: int, tests: int, sets: set[frozenset[str]], needs: set[frozenset[str]]
) -> Iterator[str]:
    """Yield why a rule counts as not recovered, in words; nothing where it is recovered."""
    if not found.complete:
        yield "the search says: " + ", ".join(found.notes)
    if wrong:
        yield f"{wrong} of {tests} fresh probes otherwise"
    if needs and sets != needs:
        yield f"needs {sets_words(needs)}, found {sets_words(sets)}"


def sets_words(sets: Iterable[frozenset[str]]) -> str:
    """Return sets of what decides in words."""
    return " or ".join(sorted(" + ".join(sorted(one)) or "anything" for one in sets)) or "nothing"


def lines(rows: Sequence[Row]) -> list[str]:
    """Return the rules that were not recovered, a line each, and a line per share of noise."""
    result = [
        f"not recovered at {row['noise']:.0%} noise: {row['rule']} ({row['cause']}): "
        f"{row['found'] or 'nothing found'}"
        for row in rows
        if not row["recovered"]
    ]
    return result + [
        f"{entry['recovered']} of {entry['planted']} planted rules recovered exactly at "
        f"{entry['noise']:.0%} noise; probes: half of them at most {entry['probes_p50']}, 95 % at "
        f"most {entry['probes_p95']}"
        for entry in by_noise(rows)
    ]
