# SPDX-License-Identifier: BSD-3-Clause
"""Commands about the lab itself: what it has, whether it keeps its word, what it learned."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from midcall.experiments.cli.arguments import CORPUS, JSON, NEW_RUNS
from midcall.experiments.cli.output import FAILED, give, say, sentences


def doctor(as_json: JSON = False) -> None:
    """Say what is here, what is missing, and how to get it.

    Example: midcall doctor
    """
    with sentences():
        from midcall.experiments.cli import doctor as doctors

        found = doctors.examine()
        give(as_json, [one._asdict() for one in found], [one.line for one in found])
        if any(finding.state == doctors.NEEDED for finding in found):
            raise typer.Exit(FAILED)


def warm_up() -> None:
    """Compile the packet path now, so that no later command has to (about half a minute, once)."""
    with sentences():
        import tempfile

        from midcall.experiments.run import runner
        from midcall.experiments.spec.options import Options

        with tempfile.TemporaryDirectory(prefix="midcall-") as folder:
            place = Path(folder)
            runner.run("smoke", Options(None, False, False, 1, place / "runs", place / "cells"))


def conformance(as_json: JSON = False) -> None:
    """Play a scenario for every word of the policy language and hold each packet's fate against it.

    Example: midcall conformance
    """
    with sentences():
        from midcall.experiments.tools import conformance_text as conform

        outcomes = conform.outcomes()
        give(as_json, conform.rows(outcomes), conform.lines(outcomes))
        if not all(outcome.passed for outcome in outcomes):
            raise typer.Exit(FAILED)


def fuzz(
    packets: Annotated[
        int, typer.Option(min=1, help="Mutated packets, those of earlier sessions included.")
    ] = 1_000_000,
    seed: Annotated[int, typer.Option(min=0, help="Of the mutations.")] = 1,
    corpus: CORPUS = None,
    first: Annotated[
        int | None, typer.Option(min=0, help="Begin at this stand, to see a finding again.")
    ] = None,
    runs: NEW_RUNS = Path("runs"),
    as_json: JSON = False,
) -> None:
    """Mutate captures and send them through readers, path and boxes, with bounds checks.

    Goes on where the same seed, code and captures stopped. Exit code 1 where something was found.
    Example: midcall fuzz --packets 10000000 --seed 7
    """
    with sentences(resumes=first is None):
        from midcall.experiments.proofs.fuzz import session

        options = session.Options(packets, seed, corpus, runs, first)
        result = session.fuzz(options, lambda line: say(f"midcall fuzz: {line}"))
        give(as_json, result, [*session.lines(result), session.place(runs)])
        if result["finding"] is not None:
            raise typer.Exit(FAILED)


def support(
    corpus: CORPUS = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="Where the table goes.")] = Path(
        "runs/support.csv"
    ),
    as_json: JSON = False,
) -> None:
    """Count in which real captures each sign of an app was right or wrong, and write the table.

    Prints the accuracy with every repository in view, and of each repository's captures with
    claims that rest on the others alone; the rules were written with all of them in view.
    -o classifier/support.csv replaces the committed table.
    Example: midcall support --corpus ~/pcaps
    """
    with sentences():
        from midcall.experiments.accuracy import support as supporting

        result, lines = supporting.support(corpus, out)
        give(as_json, result, lines)


def train(
    corpus: CORPUS = None,
    out: Annotated[
        Path, typer.Option("-o", "--out", help="Where early.npz and its card go.")
    ] = Path("runs/early"),
    as_json: JSON = False,
) -> None:
    """Train the early model (sizes, gaps, directions) on real captures; writes its card beside it.

    -o classifier/models replaces the committed one. Example: midcall train --corpus ~/pcaps
    """
    with sentences():
        from midcall.experiments.accuracy import train as training

        arrays, page = training.train(corpus, out, lambda name: say(f"midcall train: {name}"))
        give(as_json, {"model": arrays, "card": page}, [arrays, page])
