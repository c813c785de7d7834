# SPDX-License-Identifier: BSD-3-Clause
"""Commands that tell what flows are: classify, explain."""

from __future__ import annotations

from typing import Annotated

import typer

from midcall.experiments.cli.arguments import CLUSTER
from midcall.experiments.cli.output import MENDABLE, say, sentences


def classify(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...", help="pcap or pcapng files (also gzip), folders, or their URLs."
        ),
    ],
    form: Annotated[
        str | None,
        typer.Option("--format", help="table, csv, json or parquet (default: by OUT, else table)."),
    ] = None,
    out: Annotated[
        str | None, typer.Option("-o", "--out", help="A file, - (default), or a folder as OUT/.")
    ] = None,
    cores: Annotated[
        int, typer.Option(min=1, max=2, help="2: cores take turns; same verdicts.")
    ] = 1,
    cluster: CLUSTER = None,
) -> None:
    """Name every flow of captures: one row per bidirectional flow.

    A folder (-o OUT/) gets Parquet in parts, goes on where it was stopped, and can be filled by a
    cluster.

    Example: midcall classify call.pcapng --format csv -o flows.csv
    """
    with sentences(resumes=out is not None and out.endswith("/")):
        from midcall.experiments.cli import classifying

        whole = classifying.run(files, form, out, cores, cluster)
    if not whole:
        raise typer.Exit(MENDABLE)


def explain(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A pcap or pcapng file (also gzip).")],
    flow: Annotated[
        str | None,
        typer.Option(help="A number of the list, or 'udp A:PORT-B:PORT' (default: first call)."),
    ] = None,
    packets: Annotated[
        int, typer.Option(min=0, metavar="N", help="Packets shown though nothing changed at them.")
    ] = 8,
    form: Annotated[str, typer.Option("--format", help="text or json.")] = "text",
    reveal: Annotated[
        bool, typer.Option(help="Show addresses, names and payload in full.")
    ] = False,
) -> None:
    """Tell packet by packet how a flow got its verdict, with the decisive bytes marked.

    Example: midcall explain call.pcapng --flow 2
    """
    with sentences():
        from midcall.experiments.cli.classifying import announce

        announce()
        from midcall.experiments.tools.explain import explain as explain_flow
        from midcall.experiments.tools.explain_text import write

        write(lambda: explain_flow(file, flow, packets, reveal), form, say)
