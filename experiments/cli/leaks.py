# SPDX-License-Identifier: BSD-3-Clause
"""`midcall bench leaks`: whether live runs, some of them killed, leave anything behind."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from midcall.experiments.cli.arguments import JSON
from midcall.experiments.cli.output import FAILED, give, say, sentences


def bench_leaks(
    times: Annotated[int, typer.Option(min=1, help="How many live runs.")] = 50,
    seed: Annotated[int, typer.Option(min=0, help="Draws the moments of the kills.")] = 1,
    runs: Annotated[Path, typer.Option(help="Where the result goes.")] = Path("runs"),
    as_json: JSON = False,
) -> None:
    """Start many small live runs, kill up to two of three, and say what they leave behind.

    Needs root. Exit code 1 where anything is left. Example: sudo .venv/bin/midcall bench leaks
    """
    from midcall.experiments.proofs import leaks

    with sentences():
        told, path = leaks.leaks(times, seed, runs, lambda line: say(f"midcall bench: {line}"))
        give(as_json, {"file": path, **told}, [*leaks.lines(told), path])
    if told["left"]:
        raise typer.Exit(FAILED)
