# SPDX-License-Identifier: BSD-3-Clause
"""The command line `midcall`: the list of its commands. Each command is in experiments/cli.

Commands import the code that does the work when they are called, so that help and errors are fast.
"""

from __future__ import annotations

import atexit
import gc
import io
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Annotated, Any

import typer

from midcall.experiments.cli.arguments import HELP

if TYPE_CHECKING:
    app: typer.Typer

#: Each command and the module that defines it, in the order of the help.
COMMANDS = {
    "run": "experiment", "plan": "experiment", "replay": "replay", "evaluate": "experiment",
    "fuzz": "lab", "warm-up": "lab", "classify": "flows", "explain": "flows",
    "quality": "quality", "localise": "localise", "aa": "null_tests", "train": "lab",
    "support": "lab", "report": "results", "doctor": "lab", "conformance": "lab",
    "compare": "results", "badge": "results",
}  # fmt: skip
#: Each group of commands and its module.
GROUPS = {"captures": "captures", "bench": "bench", "policy": "policy", "probe": "probe",
          "runs": "runs", "new": "new"}  # fmt: skip


def show_version(wanted: bool) -> None:
    """Print the version and exit."""
    if wanted:
        from midcall.experiments.results.provenance import midcall_version

        print(f"midcall {midcall_version()}")
        raise typer.Exit


def top(
    version: Annotated[
        bool,
        typer.Option("--version", callback=show_version, is_eager=True, help="Print the version."),
    ] = False,
) -> None:
    """Replay real calls through an emulated operator and measure what it sees and blocks."""


def build(chosen: str | None = None) -> typer.Typer:
    """Return the command line: all commands, or for a quick start the chosen one alone."""
    made = typer.Typer(
        name="midcall",
        help="Replay real calls through an emulated operator and measure what it sees and blocks.",
        no_args_is_help=True,
        rich_markup_mode=None,
        context_settings=HELP,
        pretty_exceptions_enable=False,
    )
    made.callback()(top)
    known = chosen in COMMANDS or chosen in GROUPS
    for name, module in COMMANDS.items():
        if not known or name == chosen:
            made.command()(getattr(part(module), name.replace("-", "_")))
    for name, module in GROUPS.items():
        if not known or name == chosen:
            made.add_typer(part(module).app)
    return made


def part(module: str) -> Any:
    """Return a module of the commands."""
    return import_module(f"midcall.experiments.cli.{module}")


def __getattr__(name: str) -> typer.Typer:
    """Make the whole command line when it is asked for as `app`."""
    if name != "app":
        raise AttributeError(name)
    made = globals()["app"] = build()
    return made


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
    build(sys.argv[1] if len(sys.argv) > 1 else None)(prog_name="midcall")


if __name__ == "__main__":
    main()
