# SPDX-License-Identifier: BSD-3-Clause
"""The reference page of the command line, written from the commands themselves."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import typer

from midcall.experiments.cli.app import app


def page() -> str:
    """Return the whole page as Markdown."""
    return "\n\n".join(["# The command line", *sections(typer.main.get_command(app))]) + "\n"


def commands(group: Any, *before: str) -> Iterator[tuple[str, Any]]:
    """Yield every command below a group with its whole name, as ("runs list", command)."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from commands(command, *before, name)
        else:
            yield " ".join((*before, name)), command


def sections(group: Any) -> Iterator[str]:
    """Yield a section per command: what it does, and its arguments and options."""
    for name, command in commands(group):
        words, _, example = (command.help or "").partition("Example: ")
        yield f"## `midcall {name}`\n\n{words.strip()}"
        if example:
            yield f"```sh\n{example.strip()}\n```"
        rows = [row(one) for one in command.params if one.name != "help"]
        if rows:
            yield "\n".join(["| | |", "|---|---|", *rows])


def row(one: Any) -> str:
    """Return an argument or an option as a line of a table."""
    names = ", ".join(f"`{name}`" for name in one.opts)
    if one.param_type_name == "argument":
        names = f"`{one.metavar or one.name.upper()}`"
    default = one.default
    plain = isinstance(default, str | int | float) and not isinstance(default, bool)
    shown = f" Default: `{default}`." if plain or hasattr(default, "parts") else ""
    words = (getattr(one, "help", None) or "").replace("|", "\\|")
    return f"| {names} | {words}{shown} |"
