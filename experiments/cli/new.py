# SPDX-License-Identifier: BSD-3-Clause
"""`midcall new`: a spec or an app from a template."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from midcall.experiments.cli.arguments import JSON
from midcall.experiments.cli.output import give, say, sentences

app = typer.Typer(
    name="new",
    help="Start from a template: a spec of your own, an app's fingerprints and their test.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.command("spec")
def new_spec(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the study, as my-study.")],
    folder: Annotated[Path, typer.Option("-o", "--out", help="Where it goes.")] = Path("."),
    as_json: JSON = False,
) -> None:
    """Write a spec that runs as it is, to be changed.

    Example: midcall new spec my-study && midcall run my-study.toml
    """
    with sentences():
        from midcall.experiments.cli import templates

        made = templates.new_spec(name, folder)
        give(as_json, {"files": [made]}, [made])


@app.command("app")
def new_app(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the app, as myapp.")],
    as_json: JSON = False,
) -> None:
    """Write an app's fingerprints and their test into this source tree; says what else to add.

    Example: midcall new app myapp
    """
    with sentences():
        from midcall.experiments.cli import templates

        made, todo = templates.new_app(name)
        give(as_json, {"files": made, "todo": todo}, made)
        if not as_json:
            say("\n".join(["then by hand:", *(f"  {line}" for line in todo)]))
