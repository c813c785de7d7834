# SPDX-License-Identifier: BSD-3-Clause
"""The command `midcall localise`: one capture and one box, or all pairs of a spec."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, NamedTuple

import typer

from midcall.access import ACCESS_WORDS
from midcall.experiments.cli import completion
from midcall.experiments.cli.arguments import CAPTURE_HELP, CORPUS, DATE, ONLY_FLOW, located
from midcall.experiments.cli.output import sentences


def localise(
    what: Annotated[
        str,
        typer.Argument(
            metavar="SPEC|CAPTURE",
            help="A spec with a [localise] table, or with --policy or --box a pcap or pcapng "
            f"file: {CAPTURE_HELP}.",
            autocompletion=completion.specs_and_captures,
        ),
    ],
    policy: Annotated[
        str | None,
        typer.Option(
            help="Policy of the box: OPERATOR/HYPOTHESIS or OPERATOR/HYPOTHESIS/RULE.",
            autocompletion=completion.policies,
        ),
    ] = None,
    box: Annotated[
        str | None,
        typer.Option(
            help='A live box: "suricata: RULES", "command: WORDS" or "live: OPERATOR/HYPOTHESIS".'
        ),
    ] = None,
    access: Annotated[str | None, typer.Option(help=f"{ACCESS_WORDS} (default: 4g).")] = None,
    flow: ONLY_FLOW = None,
    date: DATE = None,
    noise: Annotated[
        float | None,
        typer.Option(
            help="Largest share of the box's answers that may be wrong, from 0 to below 0.5 "
            "(default: 0; a live box: 0.02 at least)."
        ),
    ] = None,
    error: Annotated[
        float | None,
        typer.Option(
            help="Maximum error probability of one question, above 0 and below 0.5 (default: "
            "0.0001)."
        ),
    ] = None,
    budget: Annotated[int | None, typer.Option(min=1, help="Maximum number of probes.")] = None,
    wrong: Annotated[
        float | None, typer.Option(help="Share of wrong answers of the virtual box.")
    ] = None,
    state: Annotated[
        Path | None, typer.Option(help="A file of answers, to continue an interrupted search.")
    ] = None,
    corpus: CORPUS = None,
    form: Annotated[str, typer.Option("--format", help="text or json.")] = "text",
    reveal: Annotated[
        bool, typer.Option(help="Show addresses, names and payload in full.")
    ] = False,
) -> None:
    """Find which packets and bytes make a box block a call.

    The box is a black box: each probe is either blocked or not. The result names bytes, sizes,
    ports and time windows. A live box needs root. A spec has its own captures, boxes, noise and
    budget; an interrupted spec continues where it stopped.

    Example: midcall localise localise; midcall localise call.pcap --policy maroc-telecom/stun
    """
    box_options = BoxOptions(access, date, noise, error, budget, wrong, state, flow or None)
    with sentences(state is not None or (policy is None and box is None), place=""):
        words = box_of(policy, box)
        if words is None:
            of_spec(what, box_options, corpus, form, reveal)
        else:
            of_capture(what, words, box_options, corpus, form, reveal)


class BoxOptions(NamedTuple):
    """Options for one capture and one box; None for options that were not given."""

    access: str | None
    date: str | None
    noise: float | None
    error: float | None
    budget: int | None
    wrong: float | None
    state: Path | None
    flow: list[str] | None


def box_of(policy: str | None, box: str | None) -> str | None:
    """Return the name of the box, None if the spec names boxes; raises ExperimentError."""
    from midcall.errors import ExperimentError

    if policy is not None and box is not None:
        raise ExperimentError("--policy, --box: both name a box; give one of them")
    return policy or box


def of_capture(
    name: str, words: str, box_options: BoxOptions, corpus: Path | None, form: str, reveal: bool
) -> None:
    """Localise one box with one capture and print the result."""
    from midcall.experiments.localise import run
    from midcall.experiments.localise.document import formatted
    from midcall.experiments.proofs.localiser.spec_run import ProgressLine

    path = located(name, corpus)
    defaults = run.Options()
    with ProgressLine(None) as teller:
        options = run.Options(
            defaults.noise if box_options.noise is None else box_options.noise,
            defaults.error if box_options.error is None else box_options.error,
            box_options.budget or defaults.budget,
            box_options.state,
            reveal,
            wrong=box_options.wrong or 0.0,
            step=teller.step,
            flows=tuple(box_options.flow or ()),
        )
        teller.begin(f"{name}, {words}", options.budget)
        day = run.day_of(box_options.date)
        result = run.localise_capture(path, words, box_options.access or "4g", day, options)
    print(formatted(result, form, is_terminal()), end="")


def of_spec(
    name: str, box_options: BoxOptions, corpus: Path | None, form: str, reveal: bool
) -> None:
    """Localise every box of a spec and print the results."""
    from midcall.errors import ExperimentError
    from midcall.experiments.proofs.localiser import spec_run
    from midcall.experiments.spec import spec as specs

    misplaced = [
        f"--{option}" for option, value in box_options._asdict().items() if value is not None
    ]
    if misplaced:
        raise ExperimentError(
            f"{', '.join(misplaced)}: belongs to a capture and --policy or --box; a spec says it "
            "in its [localise] table"
        )
    if Path(name).is_file() and Path(name).suffix != ".toml":
        raise ExperimentError(
            f"{name}: a capture needs --policy OPERATOR/HYPOTHESIS (or --box), whose box is asked"
        )
    spec, _ = specs.load(name)
    if not spec_run.localise_table(spec).boxes:
        raise ExperimentError(
            f"spec {spec.name}: its [localise] table names no captures and boxes; the benchmark "
            f"alone is run by: midcall run {name}"
        )
    result = spec_run.localise_spec(spec, spec_run.Locations(corpus), reveal)
    print(spec_run.formatted(result, form, is_terminal()), end="")


def is_terminal() -> bool:
    """Return whether the standard output is a terminal with colours."""
    return sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
