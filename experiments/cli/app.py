# SPDX-License-Identifier: BSD-3-Clause
"""The command line `midcall`: the list of its commands. Each command is in experiments/cli.

Commands import the code that does the work when they are called, so that help and errors are fast.
"""

from __future__ import annotations

import atexit
import gc
import io
import sys
from typing import Annotated

import typer

from midcall.experiments.cli import bench, captures, new, policy, runs
from midcall.experiments.cli.arguments import HELP
from midcall.experiments.cli.experiment import evaluate, plan, run
from midcall.experiments.cli.flows import classify, explain
from midcall.experiments.cli.lab import conformance, doctor, fuzz, support, train, warm_up
from midcall.experiments.cli.localise import localise
from midcall.experiments.cli.null_tests import aa
from midcall.experiments.cli.replay import replay
from midcall.experiments.cli.results import badge, compare, report

app = typer.Typer(
    name="midcall",
    help="Replay real calls through an emulated operator and measure what it sees and blocks.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings=HELP,
    pretty_exceptions_enable=False,
)

#: In the order of the help.
COMMANDS = (
    run, plan, replay, evaluate, fuzz, warm_up, classify, explain, localise, aa, train, support,
    report, doctor,
    conformance, compare, badge,
)  # fmt: skip
GROUPS = (captures.app, bench.app, policy.app, runs.app, new.app)


def show_version(wanted: bool) -> None:
    """Print the version and exit."""
    if wanted:
        from midcall.experiments.results.provenance import midcall_version

        print(f"midcall {midcall_version()}")
        raise typer.Exit


@app.callback()
def top(
    version: Annotated[
        bool,
        typer.Option("--version", callback=show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Replay real calls through an emulated operator and measure what it sees and blocks."""


for command in COMMANDS:
    app.command()(command)
for group in GROUPS:
    app.add_typer(group)


def main() -> None:
    """Run the command line.

    Loading creates a million objects and almost no reference cycles. Garbage collection while
    loading, and once more at exit, took a fourth of a short command's time.
    """
    gc.set_threshold(50_000)
    atexit.register(gc.freeze)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a file's name may not be UTF-8
            stream.reconfigure(errors="backslashreplace")
    app(prog_name="midcall")


if __name__ == "__main__":
    main()
