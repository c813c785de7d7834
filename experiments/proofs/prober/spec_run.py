# SPDX-License-Identifier: BSD-3-Clause
"""The prober's part of a run: the benchmark, the incidents, and live searches next to virtual."""

from __future__ import annotations

import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, TextIO

from midcall.errors import CaptureError, ExperimentError
from midcall.experiments.probe import incidents, run
from midcall.experiments.probe.incidents import Incident
from midcall.experiments.proofs.prober import benchmark, live_agreement
from midcall.experiments.proofs.prober.score import as_well, named_rules, names, truth_of
from midcall.experiments.results.tables import Tables
from midcall.experiments.spec import backends
from midcall.experiments.spec.options import default_jobs
from midcall.experiments.spec.policy_names import policy_named
from midcall.experiments.spec.spec import Spec
from midcall.testbed.probing.probe import probe_of
from midcall.testbed.probing.virtual_line import noise_of

#: Noise of the lines on which the prober is asked about incidents.
NOISE = "loss=0.01,jitter_ms=5"


def within(
    spec: Spec, corpus: Path | None, jobs: int | None, stream: TextIO | None,
    log: Callable[[str], None],
) -> tuple[Tables, dict[str, Any]]:  # fmt: skip
    """Return the tables and the block of summary.json that a spec orders."""
    assert spec.probe is not None
    tables: Tables = {}
    document = benchmark.within(spec, jobs, stream, log)
    notices: list[str] = []
    if spec.probe.incidents:
        heard, missing = incidents.heard(spec.seed, corpus)
        tables["workarounds"] = [one.row() for one in heard]
        answers, without = answered(spec.seed, corpus, jobs or default_jobs())
        document |= {"incidents": answers, "not_played": missing + without}
        notices += missing + without
    if spec.probe.live:
        lacking = backends.lacking()
        document["live_lacks"] = lacking
        notices += lacking
        if not lacking:
            tables["probe_pairs"] = live_agreement.pairs(
                spec.probe.live, benchmark.sealed_seed(spec.seed), log
            )
    for words in notices:
        log(f"notice: {words}")
        print(f"notice: {words}", file=stream or sys.stderr, flush=True)
    return tables, document


def answered(seed: int, corpus: Path | None, jobs: int) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the prober's answer on each incident, and why some could not be asked about."""
    listed = incidents.load().incident
    with ProcessPoolExecutor(jobs) as pool:
        results = list(pool.map(one_answer, [(one, seed, corpus) for one in listed]))
    answers = [one for one in results if isinstance(one, dict)]
    return answers, [one for one in results if isinstance(one, str)]


def one_answer(job: tuple[Incident, int, Path | None]) -> dict[str, Any] | str:
    """Probe one incident's hypothesis on its recorded call; returns why not as a string."""
    one, seed, corpus = job
    policy = policy_named(one.policy, one.access, one.date)
    try:
        _, packets = incidents.obtained(one, corpus)
    except (CaptureError, ExperimentError) as error:
        return f"incident {one.policy}: {error}"
    noise = noise_of(NOISE)
    probed = run.against(policy, probe_of(packets), one.access, seed, noise)
    answer = probed.answer
    named = [named_rules(answer), *([two, *two["equal"]] for two in as_well(answer))]
    return {
        "name": f"{one.policy}, {one.capture}",
        "policy": one.policy,
        "capture": one.capture,
        "truth": truth_of(policy.rules),
        "right": any(all(names(rule, some)) for rule in policy.rules for some in named),
        "answer": answer,
        "record": [asked._asdict() for asked in probed.prober.record],
        "beliefs": probed.result.beliefs,
    }
