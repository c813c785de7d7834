# SPDX-License-Identifier: BSD-3-Clause
"""The command `midcall aa`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from midcall.experiments.cli.arguments import BACKEND, CORPUS, JSON, RUNS
from midcall.experiments.cli.output import give, say, sentences


def aa(
    spec: Annotated[
        str,
        typer.Argument(metavar="SPEC", help="The spec of captures and access network."),
    ] = "smoke",
    corpus: CORPUS = None,
    tests: Annotated[int, typer.Option(min=1, help="Minimum number of null tests.")] = 300,
    pairs: Annotated[
        int, typer.Option(min=8, help="Plays of each arm in a round; fewer give no result.")
    ] = 8,
    backend: BACKEND = None,
    runs: RUNS = Path("runs"),
    as_json: JSON = False,
) -> None:
    """Compare the empty policy with itself (null tests).

    Shows how often the lab's tests have p < 0.01. A round plays both arms (ABBA) and tests every
    measure of every call; each p is uncorrected. Results are written below runs/aa. The summary and
    report of the next run show them pooled.

    Example: midcall aa smoke; midcall aa live-smoke
    """
    with sentences():
        from midcall.experiments.proofs import null_tests as work

        options = work.Options(spec, corpus, tests, pairs, backend, runs)
        result = work.run(options, lambda n: say(f"{n} of {tests} null tests"))
        give(as_json, result, work.lines(result))
