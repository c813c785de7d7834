# SPDX-License-Identifier: BSD-3-Clause
"""The benchmark of the localiser: rules of which it receives answers only.

A rule is recovered exactly if three things hold:

- the search reports that it explained everything;
- the clauses found and the rule agree on every probe of a test set made afterwards
  (experiments.proofs.localiser.held_out_probes: over 150 probes a rule, drawn by a generator of its
  own, with probes just below and above the rule's numbers; answers of the rule without noise);
- the minimal sufficient sets found are those of the rule, if it has only one description. How many
  packets with a payload may precede ("loaded"), and what a flow must not have shown ("unless"),
  follow from the parsers of our own box and their state, not from these rules, and are left out of
  the comparison of sets.

Ends of times are measured to 1 ms (gaps 0.1 ms) and rounded; the test set keeps a distance of 10 ms
(1 ms) from them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, cast

from midcall.experiments.localise.clause import blocks
from midcall.experiments.localise.oracle_session import OracleSession
from midcall.experiments.localise.search import Localisation, localise
from midcall.experiments.measure.summary import by_noise
from midcall.experiments.proofs.localiser import held_out_probes
from midcall.experiments.proofs.localiser.listed_rules import LISTED_RULES
from midcall.experiments.proofs.localiser.rule import BenchmarkRule
from midcall.experiments.results.schema import write_atomically
from midcall.experiments.results.tables import LocaliseRow
from midcall.testbed.probing.oracle import NoisyOracle, Oracle
from midcall.testbed.probing.probe import Probe

Row = dict[str, Any]
#: Least share of correct answers, per answer, of a rule that is recovered partly.
MOSTLY = 0.9
#: Finds clauses: the search, or a baseline.
Search = Callable[[OracleSession, Probe], Localisation]


def seed_of(seed: int, *names: object) -> int:
    """Return a 48-bit seed that depends on a seed and names alone."""
    text = "/".join(map(str, (seed, *names)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")


def run(
    noises: Sequence[float],
    budget: int,
    seed: int,
    rules: Sequence[BenchmarkRule] = LISTED_RULES,
    search: Search = localise,
    step: Callable[[str], None] | None = None,
    rule_set: str = "listed",
    cache: Path | None = None,
) -> list[LocaliseRow]:
    """Return one row per rule and share of wrong answers, the table `localise`.

    rule_set: the name of the set of rules; cache: a folder that stores finished rows and from which
    they are read again.
    """
    rows: list[Row] = []
    for noise in noises:
        for rule in rules:
            base = rule.base()
            path = None if cache is None else cache / f"{rule_set}-{rule.name}-{noise:g}.json"
            rows.append(
                {
                    "set": rule_set,
                    **cached_row(
                        path, partial(score_rule, rule, base, noise, budget, seed, search)
                    ),
                }
            )
            if step is not None:
                step(f"{rule.name} {noise:.0%}")
    return cast("list[LocaliseRow]", rows)


def cached_row(path: Path | None, compute: Callable[[], Row]) -> Row:
    """Return a row from its file; if there is none, compute it and write the file."""
    if path is not None and path.is_file():
        row: Row = json.loads(path.read_bytes())
        return row
    row = compute()
    if path is not None:
        write_atomically(path, json.dumps(row).encode())
    return row


def score_rule(
    rule: BenchmarkRule,
    base: Probe,
    noise: float,
    budget: int,
    seed: int,
    search: Search = localise,
) -> Row:
    """Return the row of one rule; a rule that does not block its call has the outcome "never"."""
    box = rule.oracle()
    if not box.blocked(base):
        return {**row_of(rule, noise), "outcome": "never", "cause": "it never strikes its call"}
    noisy_box: Oracle = box
    if noise:
        noisy_box = NoisyOracle(box, noise, seed_of(seed, rule.name, noise))
    result = search(OracleSession(noisy_box, noise, budget=budget), base)
    tests = held_out_probes.probes(rule, base, seed)
    answers = [box.blocked(probe) for probe in tests]
    wrong_answers = [
        answer for probe, answer in zip(tests, answers, strict=True)
        if blocks(result.clauses, probe) != answer
    ]  # fmt: skip
    wrong = len(wrong_answers)
    sets = {without_memory(score_rule) - rule.implied for score_rule in result.sufficient}
    needs = {score_rule - rule.implied for score_rule in rule.needs}
    same = sets == needs if needs else None
    row = {
        **row_of(rule, noise),
        "recovered": result.complete and wrong == 0 and same is not False,
        "complete": result.complete,
        "tests": len(tests),
        "tests_blocked": sum(answers),
        "tests_wrong": wrong,
        "tests_missed": sum(wrong_answers),
        "sets_same": same,
        "questions": result.cost.questions,
        "probes": result.cost.probes,
        "packets": result.cost.packets,
        "octets": result.cost.octets,
        "found": " | ".join("; ".join(clause.words(True)) for clause in result.clauses),
        "cause": "; ".join(causes(result, wrong, len(tests), sets, needs)),
    }
    return {**row, "outcome": outcome(row)}


def without_memory(names: frozenset[str]) -> frozenset[str]:
    """Return factor names without those that follow from the state of a box's parsers."""
    return frozenset(
        score_rule
        for score_rule in names
        if score_rule != "loaded" and not score_rule.startswith("unless")
    )


def row_of(rule: BenchmarkRule, noise: float) -> Row:
    """Return an empty row of a rule."""
    numbers = ("tests", "tests_blocked", "tests_wrong", "tests_missed", "questions", "probes",
               "packets", "octets")  # fmt: skip
    return {
        "rule": rule.name, "kind": rule.kind, "noise": noise, "recovered": False,
        "complete": False, **dict.fromkeys(numbers, 0), "sets_same": None, "found": "",
    }  # fmt: skip


def outcome(row: Row) -> str:
    """Return the outcome of a rule: "exactly", "partly", "unexplained" or "wrong".

    Partly: for each of the two answers at least MOSTLY of the held-out probes are predicted
    correctly. Unexplained: the search reports that it did not explain everything. Wrong: it reports
    that it did.
    """
    if row["recovered"]:
        return "exactly"
    blocked, missed = row["tests_blocked"], row["tests_missed"]
    passed, alarms = row["tests"] - blocked, row["tests_wrong"] - missed
    if blocked - missed >= MOSTLY * blocked and passed - alarms >= MOSTLY * passed:
        return "partly"
    return "wrong" if row["complete"] else "unexplained"


def causes(
    result: Localisation,
    wrong: int,
    tests: int,
    sets: set[frozenset[str]],
    needs: set[frozenset[str]],
) -> Iterator[str]:
    """Yield the reasons why a rule is not recovered; nothing if it is."""
    if not result.complete:
        yield "the search says: " + ", ".join(result.notes)
    if wrong:
        yield f"{wrong} of {tests} held-out probes predicted wrongly"
    if needs and sets != needs:
        yield f"needs {sets_words(needs)}, found {sets_words(sets)}"


def sets_words(sets: Iterable[frozenset[str]]) -> str:
    """Return sets of factors in words."""
    return (
        " or ".join(sorted(" + ".join(sorted(score_rule)) or "anything" for score_rule in sets))
        or "nothing"
    )


def lines(rows: Sequence[LocaliseRow]) -> list[str]:
    """Return one line per rule that was not recovered, and one per share of noise."""
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
