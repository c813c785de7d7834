# SPDX-License-Identifier: BSD-3-Clause
"""The benchmark of the prober: drawn policies and lines, probed and scored, and its figures.

The policies are drawn with a seed that depends on the prober's own source: each change of the
prober is measured with policies that were not drawn before.
"""

from __future__ import annotations

import hashlib
import statistics
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from midcall.experiments import probe as room
from midcall.experiments.measure.intervals import clopper_pearson
from midcall.experiments.probe import run
from midcall.experiments.proofs.prober.random_policies import case
from midcall.experiments.proofs.prober.score import Scored, score
from midcall.experiments.spec.options import default_jobs
from midcall.experiments.spec.spec import Spec

#: Bins of probabilities for the calibration error.
BINS = 5


class Plan(NamedTuple):
    """How many cases of each kind are probed, and the seed from which theirs are made."""

    clean: int
    one: int
    two: int
    seed: int
    jobs: int = 2


class Shown(NamedTuple):
    """What the report draws of one case."""

    name: str
    truth: str
    answer: dict[str, Any]
    record: list[dict[str, Any]]
    beliefs: list[dict[str, Any]]


def sealed_seed(seed: int) -> int:
    """Return the seed of the draws: a digest of a seed and of the prober's source."""
    digest = hashlib.sha256(str(seed).encode())
    for path in sorted(Path(str(room.__file__)).parent.glob("*.py")):
        digest.update(path.read_bytes())
    return int.from_bytes(digest.digest()[:6], "big")


def one_case(job: tuple[int, int, str]) -> tuple[Scored, Shown]:
    """Probe one drawn case and score the answer."""
    seed, number, kind = job
    drawn = case(seed, number, kind)
    probed = run.against(drawn.policy, drawn.base, drawn.access, drawn.seed, drawn.noise)
    found = [one.rule for one in probed.result.found]
    scored = score(drawn, probed.answer, found)
    shown = Shown(
        drawn.name, scored.truth, probed.answer,
        [one._asdict() for one in probed.prober.record], probed.result.beliefs,
    )  # fmt: skip
    return scored, shown


def benchmark(plan: Plan, step: Any = None) -> dict[str, Any]:
    """Return the figures of a benchmark and one case in full. step: called after each case."""
    seed = sealed_seed(plan.seed)
    jobs = [(seed, number, kind) for kind, count in
            (("one", plan.one), ("two", plan.two), ("clean", plan.clean))
            for number in range(count)]  # fmt: skip
    rows: list[Scored] = []
    shown: Shown | None = None
    with ProcessPoolExecutor(plan.jobs) as pool:
        for scored, about in pool.map(one_case, jobs):
            rows.append(scored)
            better = scored.mechanism and scored.kind == "one"
            if shown is None or (better and len(about.record) > len(shown.record)):
                shown = about
            if step is not None:
                step(f"{scored.name}: {scored.verdict}, {'right' if scored.mechanism else 'wrong'}")
    return {
        "plan": plan._asdict() | {"seed": plan.seed},
        "sealed_seed": f"{seed:012x}",
        "figures": figures(rows),
        "shown": shown._asdict() if shown is not None else None,
        "cases": [row._asdict() for row in rows],
    }


def within(
    spec: Spec, jobs: int | None, stream: TextIO | None, log: Callable[[str], None]
) -> dict[str, Any]:
    """Return the benchmark that a spec orders, and print its figures as lines."""
    assert spec.probe is not None
    about = spec.probe
    plan = Plan(about.clean, about.one, about.two, spec.seed, jobs or default_jobs())
    document = benchmark(plan, log)
    for line in lines(document):
        print(line, file=stream or sys.stderr, flush=True)
    return document


def figures(rows: Sequence[Scored]) -> dict[str, Any]:
    """Return rates with 95 % intervals, coverage, calibration, and medians of the cost."""
    one = [row for row in rows if row.kind == "one" and row.effect]
    without = [row for row in rows if row.kind == "one" and not row.effect]
    two = [row for row in rows if row.kind == "two"]
    clean = [row for row in rows if row.kind == "clean"]
    seen = [row for row in one if row.seen]
    numbers = [number for row in seen if row.act for number in row.numbers]
    return {
        "mechanism": rate(row.mechanism for row in one),
        "mechanism_of_seen": rate(row.mechanism for row in seen),
        "mechanism_two": rate(row.mechanism for row in two),
        "without_effect": rate(row.mechanism for row in without),
        "seen": rate(row.seen for row in one),
        "act": rate(row.act for row in seen),
        "direction": rate(row.direction for row in seen),
        "scope": rate(row.scope for row in seen),
        "begin": rate(row.begin for row in seen),
        "residual": rate(row.residual for row in seen),
        "trigger": rate(row.trigger > 0.9 for row in seen),
        "coverage": rate(low <= truth <= high for _, truth, _, low, high in numbers),
        "within_tenth": rate(
            abs(value - truth) <= 0.1 * abs(truth) for _, truth, value, _, _ in numbers
        ),
        "false_blocked": rate(row.verdict == "blocked" for row in clean),
        "false_effect": rate(row.seen for row in clean),
        "calibration_error": calibration([*one, *without, *two, *clean]),
        "median_probes": middle(row.probes for row in rows if row.kind != "clean"),
        "median_line_s": middle(row.line_s for row in rows if row.kind != "clean"),
    }


def rate(flags: Iterable[bool]) -> dict[str, Any]:
    """Return a share, its 95 % interval (Clopper and Pearson) and its counts; None of nothing."""
    listed = [bool(one) for one in flags]
    count, hits = len(listed), sum(listed)
    if not count:
        return {"share": None, "low": 0.0, "high": 1.0, "hits": 0, "count": 0}
    low, high = clopper_pearson(hits, count) or (0.0, 1.0)
    return {"share": hits / count, "low": low, "high": high, "hits": hits, "count": count}


def calibration(rows: Sequence[Scored]) -> float | None:
    """Return the expected calibration error: |probability - share right|, over equal bins.

    Verdicts "cannot tell" claim nothing and are left out.
    """
    claims = [row for row in rows if row.verdict != "cannot tell"]
    if not claims:
        return None
    total = 0.0
    for number in range(BINS):
        some = [row for row in claims
                if min(int(row.probability * BINS), BINS - 1) == number]  # fmt: skip
        total += abs(sum(row.probability - row.mechanism for row in some))
    return round(total / len(claims), 4)


def middle(values: Iterable[float]) -> float | None:
    """Return a median, None of nothing."""
    listed = list(values)
    return float(statistics.median(listed)) if listed else None


def lines(document: dict[str, Any]) -> list[str]:
    """Return the figures as lines for a terminal."""
    about = document["figures"]
    names = {
        "mechanism": "mechanism right, one rule", "mechanism_of_seen": "  of those that were seen",
        "without_effect": "clean, one rule without an effect",
        "mechanism_two": "mechanism right, two rules", "direction": "direction right",
        "scope": "scope right", "trigger": "trigger right", "begin": "begin right",
        "residual": "residual time right", "coverage": "95 % intervals cover the truth",
        "within_tenth": "numbers within 10 %", "false_blocked": 'false "blocked", clean lines',
        "false_effect": "any false effect, clean lines",
    }  # fmt: skip
    result = []
    for key, words in names.items():
        one = about[key]
        if one["share"] is None:
            continue
        result.append(
            f"{words:32} {one['share']:7.1%}  ({one['low']:.1%} to {one['high']:.1%}; "
            f"{one['hits']} of {one['count']})"
        )
    if about["calibration_error"] is not None:
        result.append(f"{'calibration error':32} {about['calibration_error']:7.3f}")
    if about["median_probes"] is not None:
        result.append(f"{'median probes, line time':32} {about['median_probes']:7.0f}  "
                      f"{about['median_line_s']:.0f} s")  # fmt: skip
    return result
