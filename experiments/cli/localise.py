# SPDX-License-Identifier: BSD-3-Clause
"""The command `midcall localise`: of one capture and one box, or of all that a spec orders."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from midcall.experiments.cli import completion
from midcall.experiments.cli.output import sentences


def localise(
    what: Annotated[
        str,
        typer.Argument(
            metavar="SPEC|CAPTURE",
            help="A spec with a [localise] table, or with --policy or --box a pcap or pcapng file.",
            autocompletion=completion.specs,
        ),
    ],
    policy: Annotated[
        str | None,
        typer.Option(
            help="Whose box: OPERATOR/HYPOTHESIS or OPERATOR/HYPOTHESIS/RULE.",
            autocompletion=completion.policies,
        ),
    ] = None,
    box: Annotated[
        str | None,
        typer.Option(
            help='A live box: "suricata: RULES", "command: WORDS" or "live: OPERATOR/HYPOTHESIS".'
        ),
    ] = None,
    access: Annotated[
        str | None, typer.Option(help="3g, 4g, adsl, fibre or wifi (default: 4g).")
    ] = None,
    date: Annotated[
        str | None, typer.Option(help="A day, as 2016-03-15 (default: the first of the block).")
    ] = None,
    noise: Annotated[
        float | None, typer.Option(help="Share of the box's answers that may be wrong.")
    ] = None,
    error: Annotated[
        float | None, typer.Option(help="Chance, at most, that one question ends wrongly.")
    ] = None,
    budget: Annotated[int | None, typer.Option(min=1, help="Probes that may be sent.")] = None,
    wrong: Annotated[
        float | None, typer.Option(help="Share of answers that the virtual box gives wrongly.")
    ] = None,
    state: Annotated[
        Path | None, typer.Option(help="A file that keeps answers, to go on where it stopped.")
    ] = None,
    corpus: Annotated[
        Path | None, typer.Option(help="A folder of captures, looked in first (of a spec).")
    ] = None,
    form: Annotated[str, typer.Option("--format", help="text or json.")] = "text",
    reveal: Annotated[
        bool, typer.Option(help="Show addresses, names and payload in full.")
    ] = False,
) -> None:
    """Find out what a box decides by, from its answers alone: bytes, sizes, ports, windows.

    The box is seen as a black one: a probe is blocked or not. A live box needs root. A spec says
    by itself which captures and boxes, at what noise and budget; interrupted, it goes on where it
    stood.

    Example: midcall localise localise; midcall localise call.pcap --policy maroc-telecom/stun
    """
    given = Given(access, date, noise, error, budget, wrong, state)
    with sentences(resumes=state is not None or (policy is None and box is None)):
        words = box_of(policy, box)
        if words is None:
            of_spec(what, given, corpus, form, reveal)
        else:
            of_capture(what, words, given, corpus, form, reveal)


class Given(NamedTuple):
    """What was said of one capture and one box; None where nothing was."""

    access: str | None
    date: str | None
    noise: float | None
    error: float | None
    budget: int | None
    wrong: float | None
    state: Path | None


def box_of(policy: str | None, box: str | None) -> str | None:
    """Return the words that name a box, None where a spec is to; raises ExperimentError."""
    from midcall.errors import ExperimentError

    if policy is not None and box is not None:
        raise ExperimentError("--policy, --box: both name a box; give one of them")
    return policy or box


def of_capture(
    name: str, words: str, given: Given, corpus: Path | None, form: str, reveal: bool
) -> None:
    """Print what was found of one box, asked with one capture."""
    from midcall.errors import ExperimentError
    from midcall.experiments.localise import run
    from midcall.experiments.localise.document import shown
    from midcall.experiments.proofs.localiser.spec_run import Teller

    if corpus is not None:
        raise ExperimentError("--corpus: belongs to a spec; give the capture by its path")
    usual = run.Options()
    with Teller(None) as teller:
        options = run.Options(
            usual.noise if given.noise is None else given.noise,
            usual.error if given.error is None else given.error,
            given.budget or usual.budget,
            given.state,
            reveal,
            wrong=given.wrong or 0.0,
            step=teller.step,
        )
        teller.begin(f"{name}, {words}", options.budget)
        day = run.day_of(given.date)
        told = run.of_capture(name, words, given.access or "4g", day, options)
    print(shown(told, form, is_terminal()), end="")


def of_spec(name: str, given: Given, corpus: Path | None, form: str, reveal: bool) -> None:
    """Print what was found of every box of a spec."""
    from midcall.errors import ExperimentError
    from midcall.experiments.proofs.localiser import spec_run
    from midcall.experiments.spec import spec as specs

    odd = [f"--{option}" for option, value in given._asdict().items() if value is not None]
    if odd:
        raise ExperimentError(
            f"{', '.join(odd)}: belongs to a capture and --policy or --box; a spec says it in its "
            "[localise] table"
        )
    if Path(name).is_file() and Path(name).suffix != ".toml":
        raise ExperimentError(
            f"{name}: a capture needs --policy OPERATOR/HYPOTHESIS (or --box), whose box is asked"
        )
    spec, _ = specs.load(name)
    if not spec_run.wanted(spec).boxes:
        raise ExperimentError(
            f"spec {spec.name}: its [localise] table names no captures and boxes; the benchmark "
            f"alone is run by: midcall run {name}"
        )
    told = spec_run.localised(spec, spec_run.Where(corpus), reveal)
    print(spec_run.shown(told, form, is_terminal()), end="")


def is_terminal() -> bool:
    """Tell whether the standard output is a terminal with colours."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
