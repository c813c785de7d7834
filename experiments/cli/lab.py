# SPDX-License-Identifier: BSD-3-Clause
"""Commands that check or train the lab: doctor, warm-up, conformance, fuzz, support, train."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from midcall.experiments.cli.arguments import CORPUS, JSON, NEW_RUNS
from midcall.experiments.cli.output import FAILED, give, say, sentences


def doctor(as_json: JSON = False) -> None:
    """List what is installed, what is missing, how to get it.

    Example: midcall doctor
    """
    with sentences():
        from midcall.experiments.cli import doctor as doctors

        findings = doctors.examine()
        give(as_json, [one._asdict() for one in findings], [one.line for one in findings])
        if any(finding.state == doctors.NEEDED for finding in findings):
            raise typer.Exit(FAILED)


def warm_up() -> None:
    """Compile the packet path now (about half a minute, once).

    Later commands then start without compiling.
    """
    with sentences():
        import compileall
        import tempfile

        from midcall.captures.jit.code_folders import FOLDERS
        from midcall.experiments.run import runner
        from midcall.experiments.spec.options import Options
        from midcall.locations import HOME

        for folder in FOLDERS:  # some set-ups do not keep the bytecode of imported modules
            compileall.compile_dir(HOME / folder, quiet=2)
        with tempfile.TemporaryDirectory(prefix="midcall-") as work:
            home = Path(work)
            runner.run("smoke", Options(None, False, False, 1, home / "runs", home / "cells"))


def conformance(as_json: JSON = False) -> None:
    """Check that policies act as the policy language defines.

    Replays a scenario for every word of the language and compares the fate of each packet with the
    expected one.

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
        int, typer.Option(min=1, help="Mutated packets, including earlier sessions.")
    ] = 1_000_000,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the mutations.")] = 1,
    corpus: CORPUS = None,
    first: Annotated[
        int | None, typer.Option(min=0, help="Start at this position, to reproduce a finding.")
    ] = None,
    runs: NEW_RUNS = Path("runs"),
    as_json: JSON = False,
) -> None:
    """Feed mutated captures to readers, classifier and boxes.

    Array bounds are checked. Continues where a session with the same seed, code and captures
    stopped. Exit code 1 if a fault was found.
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
    out: Annotated[Path, typer.Option("-o", "--out", help="File of the table.")] = Path(
        "runs/support.csv"
    ),
    as_json: JSON = False,
) -> None:
    """Count where each sign of an app was right or wrong.

    Reads the real captures and writes the support table. Prints two accuracies: with claims from
    all repositories, and for each repository with claims from the other repositories alone. The
    rules themselves were written with all captures known.
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
        Path, typer.Option("-o", "--out", help="Folder of early.npz and its card.")
    ] = Path("runs/early"),
    as_json: JSON = False,
) -> None:
    """Train the early model on real captures.

    The model reads packet sizes, gaps and directions. Its model card is written to the same folder.
    -o classifier/models replaces the committed model.
    Example: midcall train --corpus ~/pcaps
    """
    with sentences():
        from midcall.experiments.accuracy import train as training

        arrays, page = training.train(corpus, out, lambda name: say(f"midcall train: {name}"))
        give(as_json, {"model": arrays, "card": page}, [arrays, page])
