# SPDX-License-Identifier: BSD-3-Clause
"""`midcall runs`: the folders of runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from midcall.experiments.cli import completion
from midcall.experiments.cli.arguments import JSON, RUNS
from midcall.experiments.cli.output import give, sentences

app = typer.Typer(
    name="runs",
    help="The folders of runs: list, show, clean.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("list")
def list_runs(runs: RUNS = Path("runs"), as_json: JSON = False) -> None:
    """List the runs, oldest first.

    Example: midcall runs list
    """
    with sentences():
        from midcall.experiments.results import runs as folders

        found = folders.listed(runs)
        give(as_json, [one.row for one in found], folders.lines(found))


@app.command("show")
def show_run(
    name: Annotated[
        str,
        typer.Argument(metavar="RUN", help="Its folder or name.", autocompletion=completion.runs),
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
        found = folders.summary(folder)
        give(as_json, found, [] if as_json else [folder, *summaries.lines(found)])


@app.command("clean")
def clean_runs(
    keep: Annotated[
        int, typer.Option(min=0, metavar="N", help="Newest runs of each spec that stay.")
    ] = 1,
    runs: RUNS = Path("runs"),
    yes: Annotated[bool, typer.Option("--yes", help="Remove; without it they are listed.")] = False,
    as_json: JSON = False,
) -> None:
    """Remove old runs, all but the newest of each spec.

    Example: midcall runs clean --keep 2 --yes
    """
    with sentences():
        from midcall.experiments.results import runs as folders

        found = folders.spare(runs, keep)
        lines = folders.lines(found) if found else ["nothing to remove"]
        if found and yes:
            lines.append(f"removed {len(found)} runs, {folders.remove(found) / 1e6:.1f} MB")
        elif found:
            lines.append(f"{len(found)} runs would be removed; --yes removes them")
        give(as_json, {"removed": yes, "runs": [one.row for one in found]}, lines)
