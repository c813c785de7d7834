# SPDX-License-Identifier: BSD-3-Clause
"""`midcall bench leaks`: check that live runs, also killed ones, leave nothing behind."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from midcall.experiments.cli.arguments import JSON
from midcall.experiments.cli.output import FAILED, give, say, sentences


def bench_leaks(
    times: Annotated[int, typer.Option(min=1, help="Number of live runs.")] = 50,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the times of the kills.")] = 1,
    runs: Annotated[Path, typer.Option(help="Folder of the result.")] = Path("runs"),
    as_json: JSON = False,
) -> None:
    """Kill live runs and check that they leave nothing behind.

    Starts many small live runs and kills up to two of three. Needs root. Exit code 1 if anything is
    left.
    Example: sudo .venv/bin/midcall bench leaks
    """
    from midcall.experiments.proofs import leaks

    with sentences():
        result, path = leaks.leaks(times, seed, runs, lambda line: say(f"midcall bench: {line}"))
        give(as_json, {"file": path, **result}, [*leaks.lines(result), path])
    if result["left"]:
        raise typer.Exit(FAILED)
