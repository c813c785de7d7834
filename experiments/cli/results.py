# SPDX-License-Identifier: BSD-3-Clause
"""Commands that show the results of runs: report, compare, badge."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from midcall.experiments.cli import completion
from midcall.experiments.cli.arguments import JSON, RUNS
from midcall.experiments.cli.output import give, sentences


def report(
    folder: Annotated[
        Path,
        typer.Argument(
            metavar="RUN",
            help="A run, by folder or name (default: the latest).",
            autocompletion=completion.run_folders,
        ),
    ] = Path("runs/latest"),
    reaction: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="A CSV file of date, operator, likes, drawn in the report."
        ),
    ] = None,
    runs: RUNS = Path("runs"),
    as_json: JSON = False,
) -> None:
    """Draw the report of a run again from its result files.

    Example: midcall report runs/latest --reaction likes.csv
    """
    with sentences():
        from midcall.experiments.report.html import render
        from midcall.experiments.results import runs as folders

        bare = len(folder.parts) == 1 and not folder.exists()
        page = render(folders.find(runs, str(folder)) if bare else folder, reaction)
        give(as_json, {"run": page.parent, "report": page}, [page])


def compare(
    first: Annotated[
        str,
        typer.Argument(
            metavar="A", help="A run, by folder or name.", autocompletion=completion.runs
        ),
    ],
    second: Annotated[
        str,
        typer.Argument(
            metavar="B", help="The run to compare with it.", autocompletion=completion.runs
        ),
    ],
    runs: RUNS = Path("runs"),
    any_machine: Annotated[
        bool, typer.Option(help="Compare timings even if machines differ.")
    ] = False,
    as_json: JSON = False,
) -> None:
    """Compare run B with run A and list every difference.

    Improvements and regressions have intervals. For live runs, give several runs per side,
    separated by commas: their differences are then tested.

    Example: midcall compare 20260101T1200 latest
    """
    with sentences():
        from midcall.experiments.measure import compare as comparing
        from midcall.experiments.measure import compare_live
        from midcall.experiments.results import runs as folders

        if "," in first + second:
            sides = [[folders.find(runs, one) for one in side.split(",")]
                     for side in (first, second)]  # fmt: skip
            tests = compare_live.compare(*sides)
            give(as_json, tests.value, compare_live.lines(tests))
            return
        before, after = folders.find(runs, first), folders.find(runs, second)
        comparison = comparing.compare(before, after, any_machine)
        give(as_json, comparison.value, comparing.lines(comparison))


def badge(
    name: Annotated[
        str,
        typer.Argument(
            metavar="RUN", help="A run, by folder or name.", autocompletion=completion.runs
        ),
    ] = "latest",
    operator: Annotated[str, typer.Option(help="Operator of the block.")] = "maroc-telecom",
    access: Annotated[str, typer.Option(help="Access network.")] = "4g",
    hypothesis: Annotated[
        str | None, typer.Option(help="Hypothesis shown (default: the range over all).")
    ] = None,
    day: Annotated[
        str | None, typer.Option(metavar="YYYY-MM-DD", help="The day shown (default: today).")
    ] = None,
    out: Annotated[Path, typer.Option("-o", "--out", help="Folder of the files.")] = Path("badge"),
    runs: RUNS = Path("runs"),
    as_json: JSON = False,
) -> None:
    """Write a counter "day N of the block" for web pages.

    Written as SVG, HTML snippet and WordPress shortcode.

    Example: midcall badge latest --operator inwi --access 4g
    """
    with sentences():
        from midcall.experiments.results import runs as folders
        from midcall.experiments.tools import badge as badges

        folder = folders.find(runs, name)
        day_shown = badges.a_day(day) if day else None
        drawing = badges.draw(folder, operator, access, hypothesis, day_shown)
        files = badges.write(drawing, out)
        give(as_json, {"files": files, **badges.row(drawing)}, files)
