# SPDX-License-Identifier: BSD-3-Clause
"""Arguments and options that several commands take."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from midcall.access import ACCESS_WORDS
from midcall.experiments.cli import completion

#: Settings of every group of commands: -h is --help.
HELP = {"help_option_names": ["-h", "--help"]}
#: How a flow is named, for the help of --flow.
FLOW_HELP = (
    "a frame number, 'udp A:PORT-B:PORT', or a display filter of Wireshark such as "
    "'ip.addr==A && udp.port==P' or 'udp.stream eq N'"
)
ONLY_FLOW = Annotated[
    list[str] | None, typer.Option("--flow", help=f"Play this flow alone: {FLOW_HELP}.")
]
RUNS = Annotated[Path, typer.Option(help="Folder of results.")]
NEW_RUNS = Annotated[Path, typer.Option(help="Folder for results.")]
SPEC = Annotated[
    str,
    typer.Argument(
        metavar="SPEC",
        help="A shipped spec (morocco-2016) or a TOML file.",
        autocompletion=completion.specs,
    ),
]
CORPUS = Annotated[
    Path | None,
    typer.Option(help="A folder of captures, searched first (default: MIDCALL_CORPUS)."),
]
#: How a capture is named, for the help of arguments; `located` finds it.
CAPTURE_HELP = "a path, a path in the folder of --corpus, or a name of the catalogue"
CAPTURE = Annotated[
    str,
    typer.Argument(
        metavar="CAPTURE",
        help=f"A pcap or pcapng file: {CAPTURE_HELP}; or - for the standard input.",
        autocompletion=completion.captures,
    ),
]
BACKEND = Annotated[
    str | None,
    typer.Option(help="virtual, live (root, Mininet), auto (default: of the spec)."),
]
CLUSTER = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="A Dask cluster: tcp://scheduler:8786, or local (docs/howto/cluster.md).",
    ),
]
JOBS = Annotated[
    int | None,
    typer.Option(
        "-j", "--jobs", min=1, metavar="N", help="Number of processes (default: all cores)."
    ),
]
ACCESS = Annotated[str, typer.Option(help=f"{ACCESS_WORDS}.")]
DATE = Annotated[
    str | None, typer.Option(help="A day, as 2016-03-15 (default: first day of the block).")
]
JSON = Annotated[bool, typer.Option("--json", help="Print JSON.")]


def located(words: str, corpus: Path | None, folders: bool = False) -> str:
    """Return the path of the capture that an argument names, as `captures.fetch.locate` finds it.

    "-" (the standard input) and URLs stay as they are. Raises CaptureError.
    """
    from midcall.captures.fetch.locate import locate
    from midcall.captures.packets.standard_input import NAME

    return words if words == NAME or "://" in words else str(locate(words, corpus, folders))


def all_located(words: Sequence[str], corpus: Path | None) -> list[str]:
    """Return the paths of several captures or folders of them.

    Of several words, one that names nothing stays as it is, so that the command reports it and goes
    on with the others. Raises CaptureError for a single one.
    """
    from midcall.errors import CaptureError

    paths = []
    for word in words:
        try:
            paths.append(located(word, corpus, folders=True))
        except CaptureError:
            if len(words) == 1:
                raise
            paths.append(word)
    return paths
