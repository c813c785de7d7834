# SPDX-License-Identifier: BSD-3-Clause
"""Comparison of two sides of several live runs: the run is the unit, so differences can be tested.

Block or no block is Fisher's exact test; media lost is a paired permutation test with the
Hodges-Lehmann shift of the paired differences, runs paired in the order given (they should be
interleaved, ABBA: a drift over the runs then cancels). All tests of a comparison are corrected
together (Holm). A degradation is different where both p and the shift's interval show it; a
difference that is not shown is inconclusive, never equal. Runs in virtual time are copies of each
other, so there is nothing to test.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple

from midcall.errors import ExperimentError
from midcall.experiments.measure import significance
from midcall.experiments.measure.intervals import Interval, clopper_pearson, derived_seed
from midcall.experiments.results import runs
from midcall.experiments.results.schema import rows_of
from midcall.experiments.results.tables import CallRow
from midcall.experiments.spec.backends import LIVE

Place = tuple[str, ...]

#: Level of a test, after correction.
ALPHA = 0.01
PLACE: tuple[Literal["capture", "call", "operator", "hypothesis", "access", "date"], ...] = (
    "capture",
    "call",
    "operator",
    "hypothesis",
    "access",
    "date",
)
DIFFERENT, INCONCLUSIVE = "different", "inconclusive"
BLOCKED, LOST = "blocked", "media lost"
#: Tests that are printed; all of them are in the JSON.
SHOWN = 20


class Trial(NamedTuple):
    """One test: a and b with their intervals (shares blocked) or the shift (media lost)."""

    place: Place
    what: str
    a: float
    b: float
    a_interval: Interval | None
    b_interval: Interval | None
    shift: float | None
    shift_interval: Interval | None
    p: float
    p_corrected: float
    verdict: str


class Trials(NamedTuple):
    """All tests of two sides, of n runs each."""

    a: list[str]
    b: list[str]
    tests: list[Trial]

    @property
    def value(self) -> dict[str, object]:
        """Return the comparison as plain values."""
        return {**self._asdict(), "tests": [one._asdict() for one in self.tests]}


def compare(a: Sequence[Path], b: Sequence[Path]) -> Trials:
    """Test every call of runs b against runs a.

    Raises ExperimentError where a run is not live, or the sides are not equally many, at least two.
    """
    if len(a) != len(b) or len(a) < 2:
        raise ExperimentError(
            f"{len(a)} runs against {len(b)}: tests need as many on both sides, at least two"
        )
    for folder in (*a, *b):
        backend = runs.summary(folder).get("spec", {}).get("backend")
        if backend != LIVE:
            raise ExperimentError(
                f"{folder.name}: backend: got {backend}, expected live: runs in virtual time are "
                "copies, compare two of them instead"
            )
    sides = [[by_place(folder) for folder in side] for side in (a, b)]
    seed = derived_seed(0, *(folder.name for folder in (*a, *b)))
    trials = list(tested(sides[0], sides[1], seed))
    corrected = significance.holm([one.p for one in trials])
    tests = [judged(one, p) for one, p in zip(trials, corrected, strict=True)]
    return Trials([one.name for one in a], [one.name for one in b], tests)


def by_place(folder: Path) -> dict[Place, CallRow]:
    """Return a run's calls by call and cell."""
    rows = rows_of(folder, CallRow)
    return {tuple(str(row[key]) for key in PLACE): row for row in rows}


def tested(
    a: Sequence[Mapping[Place, CallRow]], b: Sequence[Mapping[Place, CallRow]], seed: int
) -> Iterator[Trial]:
    """Yield the tests of every call that is in all runs and differs in some of them."""
    for place in a[0]:
        if not all(place in run for run in (*a, *b)):
            continue
        one, other = ([run[place] for run in side] for side in (a, b))
        yield from blocks(place, one, other)
        yield from losses(place, one, other, derived_seed(seed, *place))


def blocks(place: Place, a: Sequence[CallRow], b: Sequence[CallRow]) -> Iterator[Trial]:
    """Yield the test of blocks, unless all runs of both sides have the same result."""
    hits, others = (sum(bool(row["blocked"]) for row in side) for side in (a, b))
    n = len(a)
    if hits + others in (0, 2 * n):
        return
    p = significance.fisher(hits, n, others, n)
    spans = clopper_pearson(hits, n), clopper_pearson(others, n)
    yield Trial(place, BLOCKED, hits / n, others / n, *spans, None, None, p, p, "")


def losses(place: Place, a: Sequence[CallRow], b: Sequence[CallRow], seed: int) -> Iterator[Trial]:
    """Yield the test of media lost, if every run has a figure and the figures differ."""
    one, other = (
        [row["media_lost"] for row in side if row["media_lost"] is not None] for side in (a, b)
    )
    if len(one) < len(a) or len(other) < len(b) or len({*one, *other}) < 2:
        return
    p = significance.paired_permutation(one, other, seed)
    shift = significance.hodges_lehmann(one, other)
    span = significance.shift_interval(one, other, seed)
    means = sum(one) / len(one), sum(other) / len(other)
    yield Trial(place, LOST, *means, None, None, shift, span, p, p, "")


def judged(one: Trial, corrected: float) -> Trial:
    """Return a test with its corrected p and its verdict."""
    span = one.shift_interval
    effect = span is None or not span[0] <= 0 <= span[1]
    verdict = DIFFERENT if corrected < ALPHA and effect else INCONCLUSIVE
    return one._replace(p_corrected=corrected, verdict=verdict)


def lines(trials: Trials) -> list[str]:
    """Return a comparison as lines for a terminal."""
    different = [one for one in trials.tests if one.verdict == DIFFERENT]
    out = [
        f"a: {', '.join(trials.a)}",
        f"b: {', '.join(trials.b)}",
        f"{len(trials.tests)} tests, {len(different)} different at {ALPHA:g} (Holm), "
        f"{len(trials.tests) - len(different)} inconclusive",
    ]
    shown = sorted(trials.tests, key=lambda one: one.p_corrected)[:SHOWN]
    out += [line(one) for one in shown]
    if len(trials.tests) > SHOWN:
        out.append(f"... and {len(trials.tests) - SHOWN} more (--json has all)")
    if not trials.tests:
        out.append("no call came out differently in any of these runs")
    return out


def line(one: Trial) -> str:
    """Return a test in one line."""
    shift = ""
    if one.shift is not None and one.shift_interval is not None:
        low, high = one.shift_interval
        shift = f", shift {one.shift:+.3f} [{low:+.3f}, {high:+.3f}]"
    return (
        f"{' '.join(one.place)}: {one.what} {one.a:.3g} -> {one.b:.3g}{shift}, "
        f"p {one.p:.2g}, corrected {one.p_corrected:.2g}: {one.verdict}"
    )
