# SPDX-License-Identifier: BSD-3-Clause
"""Commands that carry out experiments: run, plan, evaluate."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from midcall.experiments.cli.arguments import BACKEND, CLUSTER, CORPUS, JOBS, JSON, NEW_RUNS, SPEC
from midcall.experiments.cli.output import FAILED, give, say, sentences


def run(
    spec: SPEC,
    corpus: CORPUS = None,
    force: Annotated[bool, typer.Option(help="Do not reuse finished cells.")] = False,
    reveal: Annotated[bool, typer.Option(help="Write addresses in full.")] = False,
    jobs: JOBS = None,
    runs: NEW_RUNS = Path("runs"),
    as_json: JSON = False,
    backend: BACKEND = None,
    cluster: CLUSTER = None,
) -> None:
    """Run an experiment: captures, verdicts, operators, report.

    Example: midcall run morocco-2016 --corpus ~/pcaps
    """
    with sentences(resumes=True):
        from midcall.experiments.measure import summary
        from midcall.experiments.run import runner
        from midcall.experiments.spec.options import Options

        options = Options(corpus, force, reveal, jobs or 0, runs, backend=backend, cluster=cluster)
        done = runner.run(spec, options)
        result = {"run": done.folder, "report": done.report, "failed_cells": done.failed}
        result |= {"summary": done.folder / "summary.json"}
        give(as_json, result, [*summary.lines(done.summary), done.report])
        if done.failed:
            say(f"midcall: {done.failed} cells failed: see cells.csv and run.log in {done.folder}")
            raise typer.Exit(FAILED)


def plan(
    spec: SPEC,
    corpus: CORPUS = None,
    backend: BACKEND = None,
    jobs: JOBS = None,
    as_json: JSON = False,
) -> None:
    """Print what a run will take: cells, captures, time, disk.

    Example: midcall plan live-morocco --backend live
    """
    with sentences():
        from midcall.experiments.run import plan as plans
        from midcall.experiments.spec.options import Options

        options = Options(corpus, jobs=jobs or 0, backend=backend)
        budget = plans.plan(spec, options)
        value = {**budget._asdict(), "spec": budget.spec.model_dump(mode="json", by_alias=True)}
        give(as_json, value, plans.lines(budget))


def evaluate(
    spec: SPEC = "morocco-2016",
    corpus: CORPUS = None,
    jobs: Annotated[
        int | None,
        typer.Option(
            "-j",
            "--jobs",
            min=1,
            metavar="N",
            help="Parallel processes (default: all cores).",
        ),
    ] = None,
    runs: NEW_RUNS = Path("runs"),
    peers: Annotated[
        str, typer.Option(help="all, none, or names with commas: ndpi, nfstream, tshark.")
    ] = "all",
    classifier: Annotated[
        list[str] | None,
        typer.Option(
            metavar="[NAME=]COMMAND",
            help="Your classifier: a program that reads {capture} and prints CSV "
            "(docs/howto/evaluate.md). Repeatable.",
        ),
    ] = None,
    classifier_seconds: Annotated[
        float,
        typer.Option(min=0.1, metavar="S", help="Time limit of a classifier for one file."),
    ] = 60.0,
    regression: Annotated[
        int, typer.Option(min=0, metavar="N", help="Innocent flows, generated or re-addressed.")
    ] = 150_000,
    as_json: JSON = False,
) -> None:
    """Measure the classifier's accuracy on disturbed captures.

    Baselines and other engines (peers) classify the same packets for comparison. The peers take
    some minutes the first time; their answers are cached.

    Example: midcall evaluate --corpus ~/pcaps --classifier "mine=python3 mine.py {capture}"
    """
    with sentences(resumes=True):
        from midcall.experiments.accuracy import run as evaluation

        options = evaluation.Options(
            corpus,
            jobs or 0,
            runs,
            peers=peers,
            flows=regression,
            classifiers=classifier or (),
            seconds=classifier_seconds,
        )
        done = evaluation.evaluate(spec, options)
        result = {"run": done.folder, "page": done.page, "summary": done.folder / "summary.json"}
        give(as_json, result, [*evaluation.lines(done.summary), done.page])
