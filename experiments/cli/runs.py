# SPDX-License-Identifier: BSD-3-Clause
"""`midcall runs`: result folders of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from midcall.experiments.cli import completion
from midcall.experiments.cli.arguments import HELP, JSON, RUNS
from midcall.experiments.cli.output import give, sentences

app = typer.Typer(
    name="runs",
    help="Result folders of runs: list, show, clean.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings=HELP,
)


@app.command("list")
def list_runs(runs: RUNS = Path("runs"), as_json: JSON = False) -> None:
    """List the runs, oldest first.

    Example: midcall runs list
    """
    with sentences():
        from midcall.experiments.results import runs as folders

        listed = folders.listed(runs)
        give(as_json, [one.row for one in listed], folders.lines(listed))


@app.command("show")
def show_run(
    name: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="A run, by folder or name.", autocompletion=completion.runs
        ),
    ] = "latest",
    runs: RUNS = Path("runs"),
    as_json: JSON = False,
) -> None:
    """Print the main figures of a run again.

    Example: midcall runs show latest
    """
    with sentences():
        from midcall.experiments.measure import summary as summaries
        from midcall.experiments.results import runs as folders

        folder = folders.find(runs, name)
        figures = folders.summary(folder)
        give(as_json, figures, [] if as_json else [folder, *summaries.lines(figures)])


@app.command("clean")
def clean_runs(
    keep: Annotated[
        int, typer.Option(min=0, metavar="N", help="Newest runs of each spec to keep.")
    ] = 1,
    runs: RUNS = Path("runs"),
    yes: Annotated[bool, typer.Option("--yes", help="Remove; without it only list.")] = False,
    as_json: JSON = False,
) -> None:
    """Remove old runs, all but the newest of each spec.

    Example: midcall runs clean --keep 2 --yes
    """
    with sentences():
        from midcall.experiments.results import runs as folders

        old_runs = folders.spare(runs, keep)
        lines = folders.lines(old_runs) if old_runs else ["nothing to remove"]
        if old_runs and yes:
            lines.append(f"removed {len(old_runs)} runs, {folders.remove(old_runs) / 1e6:.1f} MB")
        elif old_runs:
            lines.append(f"{len(old_runs)} runs would be removed; --yes removes them")
        give(as_json, {"removed": yes, "runs": [one.row for one in old_runs]}, lines)
