# SPDX-License-Identifier: BSD-3-Clause
"""Commands that try to break the lab; `experiments.cli` takes them in."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

JSON = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def fuzz(
    packets: Annotated[
        int, typer.Option(min=1, help="Mutated packets, those of earlier sessions included.")
    ] = 1_000_000,
    seed: Annotated[int, typer.Option(min=0, help="Of the mutations.")] = 1,
    corpus: Annotated[
        Path | None, typer.Option(help="A folder of captures, looked in first.")
    ] = None,
    first: Annotated[
        int | None, typer.Option(min=0, help="Begin at this stand, to see a finding again.")
    ] = None,
    runs: Annotated[Path, typer.Option(help="Where result folders go.")] = Path("runs"),
    as_json: JSON = False,
) -> None:
    """Mutate captures and send them through readers, path and boxes, with bounds checks.

    Goes on where the same seed, code and captures stopped. Exit code 1 where something was found.
    Example: midcall fuzz --packets 10000000 --seed 7
    """
    from experiments.cli import FAILED, give, say, sentences

    with sentences():
        from experiments.fuzz import session

        options = session.Options(packets, seed, corpus, runs, first)
        told = session.fuzz(options, lambda line: say(f"midcall fuzz: {line}"))
        give(as_json, told, [*session.lines(told), session.place(runs)])
        if told["finding"] is not None:
            raise typer.Exit(FAILED)


def soak(
    minutes: Annotated[float, typer.Option(min=0.1, help="How long.")] = 60.0,
    pps: Annotated[
        int | None,
        typer.Option(min=1, help="Packets/s (default: half of what the live bench found)."),
    ] = None,
    runs: Annotated[Path, typer.Option(help="Where results go, and the live bench's are.")] = Path(
        "runs"
    ),
    as_json: JSON = False,
) -> None:
    """Send live traffic for an hour: memory that grows, loss, latency that drifts.

    Needs root. Exit code 1 where one of them shows, or too little was offered to tell.
    Example: sudo .venv/bin/midcall bench soak --minutes 60
    """
    from experiments.cli import FAILED, give, say, sentences

    with sentences():
        from experiments import soak as soaking

        told, path = soaking.soak(minutes, pps, runs, lambda line: say(f"midcall bench: {line}"))
        give(as_json, {"file": path, **told}, [*soaking.lines(told), path])
        if told["summary"]["problems"]:
            raise typer.Exit(FAILED)
