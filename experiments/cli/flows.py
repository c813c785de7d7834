# SPDX-License-Identifier: BSD-3-Clause
"""Commands that classify flows: classify, explain."""

from __future__ import annotations

from typing import Annotated

import typer

from midcall.experiments.cli.arguments import (
    CAPTURE_HELP,
    CLUSTER,
    CORPUS,
    all_located,
    located,
)
from midcall.experiments.cli.output import USER_ERROR, say, sentences


def classify(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="pcap or pcapng files (also .gz, .zst, .xz, .bz2), folders, their URLs, or - for "
            f"the standard input. A file is {CAPTURE_HELP}.",
        ),
    ],
    form: Annotated[
        str | None,
        typer.Option(
            "--format",
            help="table, csv, json, parquet or pcapng (default: by OUT's name, or table).",
        ),
    ] = None,
    out: Annotated[
        str | None, typer.Option("-o", "--out", help="A file, - (default), or a folder as OUT/.")
    ] = None,
    cores: Annotated[
        int, typer.Option(min=1, max=2, help="Processor cores for one file; same verdicts.")
    ] = 1,
    jobs: Annotated[
        int | None,
        typer.Option(
            "-j", "--jobs", min=1, help="Files at once (default: as many as there are free cores)."
        ),
    ] = None,
    cluster: CLUSTER = None,
    quality: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="Also write the quality of calls per second, as midcall quality does (.csv, "
            ".json, .parquet or text).",
        ),
    ] = None,
    corpus: CORPUS = None,
) -> None:
    """Classify every flow of captures, one row per flow.

    A flow is bidirectional. With a folder (-o OUT/) the rows are written as Parquet parts; an
    interrupted command continues where it stopped, and a cluster can do the work. With
    -o OUT.pcapng the packets are written, with the verdicts as comments of packets.

    Example: midcall classify call.pcapng --format csv -o flows.csv
    """
    with sentences(resumes=out is not None and out.endswith("/"), place="-o"):
        from midcall.experiments.cli import classifying

        names = all_located(files, corpus)
        complete = classifying.run(names, form, out, cores, cluster, jobs, quality)
    if not complete:
        raise typer.Exit(USER_ERROR)


def explain(
    file: Annotated[
        str,
        typer.Argument(
            metavar="FILE",
            help="A pcap or pcapng file (also .gz, .zst, .xz, .bz2), or - for the standard input. "
            f"A file is {CAPTURE_HELP}.",
        ),
    ],
    flow: Annotated[
        str | None,
        typer.Option(
            help="A number of the list, 'udp A:PORT-B:PORT', or a display filter of Wireshark such "
            "as 'ip.addr==A && udp.port==P' or 'udp.stream eq N' (default: first call)."
        ),
    ] = None,
    packets: Annotated[
        int, typer.Option(min=0, metavar="N", help="Packets shown even if they change nothing.")
    ] = 8,
    form: Annotated[str, typer.Option("--format", help="text or json.")] = "text",
    reveal: Annotated[
        bool, typer.Option(help="Show addresses, names and payload in full.")
    ] = False,
    corpus: CORPUS = None,
) -> None:
    """Show packet by packet how a flow got its verdict.

    The decisive bytes are marked.

    Example: midcall explain call.pcapng --flow 2
    """
    with sentences(place=""):
        from midcall.experiments.cli.classifying import announce

        path = located(file, corpus)
        announce()
        from midcall.experiments.tools.explain import explain as explain_flow
        from midcall.experiments.tools.explain_text import write

        write(lambda: explain_flow(path, flow, packets, reveal), form, say)
