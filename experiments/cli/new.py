# SPDX-License-Identifier: BSD-3-Clause
"""`midcall new`: a spec, an operator, a censor, an app or an act from a template."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from midcall.experiments.cli.arguments import HELP, JSON
from midcall.experiments.cli.output import give, say, sentences

app = typer.Typer(
    name="new",
    help="Start a spec, operator, censor, app or act from a template.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings=HELP,
)

Out = Annotated[Path, typer.Option("-o", "--out", help="The folder for the new files.")]


def show(as_json: bool, made: list[Path], steps: list[str]) -> None:
    """Print the paths of new files, and the next steps."""
    give(as_json, {"files": made, "todo": steps}, made)
    if steps and not as_json:
        say("\n".join(["next:", *(f"  {line}" for line in steps)]))


@app.command("spec")
def new_spec(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the study: my-study.")],
    folder: Out = Path("."),
    as_json: JSON = False,
) -> None:
    """Write a spec that runs as it is.

    Example: midcall new spec my-study && midcall run my-study.toml
    """
    with sentences():
        from midcall.experiments.cli import templates

        made = templates.new_spec(name, folder)
        give(as_json, {"files": [made]}, [made])


@app.command("policy")
def new_policy(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Id of the operator: my-operator.")],
    folder: Out = Path("."),
    as_json: JSON = False,
) -> None:
    """Write an operator's policy file and its test.

    Example: midcall new policy my-operator && midcall policy check my-operator.toml
    """
    with sentences():
        from midcall.experiments.cli import templates

        show(as_json, *templates.new_policy(name, folder))


@app.command("censor")
def new_censor(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the censor: my-censor.")],
    folder: Out = Path("."),
    as_json: JSON = False,
) -> None:
    """Write a censor in Python, its policy and its test.

    Example: midcall new censor my-censor && midcall policy check my-censor.toml
    """
    with sentences():
        from midcall.experiments.cli import templates

        show(as_json, *templates.new_censor(name, folder))


@app.command("app")
def new_app(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the app: myapp.")],
    as_json: JSON = False,
) -> None:
    """Write an app's fingerprint and its test into this source tree.

    Example: midcall new app myapp
    """
    with sentences():
        from midcall.experiments.cli import templates

        show(as_json, *templates.new_app(name))


@app.command("action")
def new_action(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Name of the act: my-act.")],
    as_json: JSON = False,
) -> None:
    """Write the test that leads through a new act of a policy.

    Example: midcall new action my-act
    """
    with sentences():
        from midcall.experiments.cli import templates

        show(as_json, *templates.new_action(name))
