# SPDX-License-Identifier: BSD-3-Clause
"""`midcall policy`: policy files of operators."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from midcall.experiments.cli import completion, policy_engines
from midcall.experiments.cli.arguments import CAPTURE, CORPUS, HELP, JSON, located
from midcall.experiments.cli.output import FAILED, USER_ERROR, give, sentences, tell

app = typer.Typer(
    name="policy",
    help="Policies of operators: check, show, list fingerprints.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings=HELP,
)


@app.command("check")
def check_policy(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="An operator's TOML file.")],
    as_json: JSON = False,
) -> None:
    """List every problem in an operator's policy file.

    Problems are unknown keys and wrong values (exit code 2, the file cannot be used), rules that
    can never match, and rules hidden by earlier ones (exit code 1).

    Example: midcall policy check testbed/operators/inwi.toml
    """
    with sentences():
        from midcall.testbed.conformance.lint import check
        from midcall.testbed.policy.loader import try_load

        code = USER_ERROR if try_load(file)[0] is None else FAILED
        tell(as_json, check(file), f"{file}: no problem found", code)


@app.command("show")
def show_policy(
    name: Annotated[
        str | None,
        typer.Argument(
            metavar="NAME",
            help="A shipped operator or a TOML file (default: list all).",
            autocompletion=completion.operators,
        ),
    ] = None,
    as_json: JSON = False,
) -> None:
    """Show an operator's dates, hypotheses and rules.

    Each rule has its grade and its source.

    Example: midcall policy show maroc-telecom
    """
    with sentences():
        from midcall.experiments.cli import policy_text

        lines = policy_text.shown(name) if name else policy_text.listed()
        give(as_json, policy_text.plain(name) if as_json else None, lines)


@app.command("hellos")
def list_hellos(
    capture: CAPTURE,
    corpus: CORPUS = None,
    as_json: JSON = False,
) -> None:
    """List the ClientHello fingerprints of a capture.

    A rule's `match.hello` takes them in this form.

    Example: midcall policy hellos call.pcapng
    """
    with sentences():
        from midcall.experiments.cli import policy_text

        hellos = policy_text.hellos(located(capture, corpus))
        give(as_json, [one._asdict() for one in hellos], [one.line for one in hellos])


app.command("export")(policy_engines.export_policy)
app.command("import")(policy_engines.import_policy)
app.command("prove")(policy_engines.prove_policy)
