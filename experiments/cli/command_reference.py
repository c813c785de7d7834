# SPDX-License-Identifier: BSD-3-Clause
"""The reference page of the command line, generated from the commands."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from midcall.experiments.cli.app import app


def page() -> str:
    """Return the whole page as Markdown."""
    return "\n\n".join(["# The command line", *sections(typer.main.get_command(app))]) + "\n"


def commands(group: Any, *before: str) -> Iterator[tuple[str, Any]]:
    """Yield every command below a group with its full name: ("runs list", command)."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, *before, name)
        else:
            yield " ".join((*before, name)), command


def sections(group: Any) -> Iterator[str]:
    """Yield a section per command: what it does, and its arguments and options."""
    for name, command in commands(group):
        text, _, example = (command.help or "").partition("Example: ")
        yield f"## `midcall {name}`\n\n{text.strip()}"
        if example:
            yield f"```sh\n{example.strip()}\n```"
        rows = [row(one) for one in command.params if one.name != "help"]
        if rows:
            yield "\n".join(["| | |", "|---|---|", *rows])


def row(parameter: Any) -> str:
    """Return an argument or an option as a line of a table."""
    names = ", ".join(f"`{name}`" for name in parameter.opts)
    if parameter.param_type_name == "argument":
        names = f"`{parameter.metavar or parameter.name.upper()}`"
    default = parameter.default
    plain = isinstance(default, str | int | float) and not isinstance(default, bool)
    shown = f" Default: `{default}`." if plain or hasattr(default, "parts") else ""
    text = (getattr(parameter, "help", None) or "").replace("|", "\\|")
    return f"| {names} | {text}{shown} |"
