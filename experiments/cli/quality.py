# SPDX-License-Identifier: BSD-3-Clause
"""The command `midcall quality`."""

from __future__ import annotations

from typing import Annotated

import typer

from midcall.experiments.cli.arguments import CAPTURE_HELP, CORPUS, all_located, located
from midcall.experiments.cli.output import USER_ERROR, say, sentences


def quality(
    captures: Annotated[
        list[str],
        typer.Argument(
            metavar="CAPTURE...",
            help="pcap or pcapng files (also .gz, .zst, .xz, .bz2), folders, or - for the standard "
            f"input. A file is {CAPTURE_HELP}.",
        ),
    ],
    form: Annotated[
        str | None,
        typer.Option(
            "--format", help="table, csv, json or parquet (default: by OUT's name, or table)."
        ),
    ] = None,
    out: Annotated[str | None, typer.Option("-o", "--out", help="A file, or - (default).")] = None,
    truth: Annotated[
        bool,
        typer.Option(
            "--truth", help="Add columns ..._true, computed from RTP headers where they are clear."
        ),
    ] = False,
    far: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="A capture of the same call at its other end: add one-way loss and delay of the "
            "path (columns path_...).",
        ),
    ] = None,
    flows: Annotated[
        str,
        typer.Option(
            metavar="WHICH",
            help="media (flows that classify takes for call media) or all (UDP and TCP flows).",
        ),
    ] = "media",
    corpus: CORPUS = None,
) -> None:
    """Estimate the quality of calls, one row per second.

    A row is one second of one direction of a flow: frame rate, loss, gaps, silence, jitter and MOS.
    The estimate reads sizes and times of packets only. A field is empty where it cannot be known.

    Example: midcall quality call.pcapng --format csv -o quality.csv
    """
    with sentences(place="-o"):
        from midcall.experiments.cli.classifying import announce

        names = all_located(captures, corpus)
        other = None if far is None else located(far, corpus)
        announce()
        from midcall.experiments.tools.quality import write

        complete = write(
            names, form, out, flows, truth, lambda line: say(f"midcall: {line}"), other
        )
    if not complete:
        raise typer.Exit(USER_ERROR)
