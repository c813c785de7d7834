# SPDX-License-Identifier: BSD-3-Clause
"""The command `midcall replay`: one capture through one policy, with its packets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from midcall.experiments.cli import completion
from midcall.experiments.cli.arguments import CORPUS, JSON
from midcall.experiments.cli.output import give, sentences


def replay(
    capture: Annotated[
        str,
        typer.Argument(
            metavar="CAPTURE",
            help="A pcap or pcapng file, or the name of a catalogued capture.",
            autocompletion=completion.captures,
        ),
    ],
    policy: Annotated[
        str,
        typer.Option(
            help="OPERATOR/HYPOTHESIS, PATH.toml/HYPOTHESIS, or none.",
            autocompletion=completion.policies,
        ),
    ],
    access: Annotated[str, typer.Option(help="3g, 4g, adsl, fibre or wifi.")] = "4g",
    date: Annotated[
        str | None, typer.Option(help="A day, as 2016-03-15 (default: the first of the block).")
    ] = None,
    call: Annotated[str | None, typer.Option(help="One call (default: all).")] = None,
    app: Annotated[str | None, typer.Option(help="The app of an uncatalogued call.")] = None,
    flow: Annotated[
        list[str] | None,
        typer.Option(help='A flow of the call: a frame, or "udp ADDRESS:PORT-ADDRESS:PORT".'),
    ] = None,
    changed: Annotated[
        str,
        typer.Option(
            help="What is not as on the wire: addresses,names,... (docs/howto/replay.md)."
        ),
    ] = "",
    link: Annotated[str, typer.Option(help="captured, or preset: the access network's.")] = (
        "captured"
    ),
    seed: Annotated[int, typer.Option(help="Of every chance.")] = 2016,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Write the packets, a pcapng file.")
    ] = None,
    fates: Annotated[
        Path | None, typer.Option(help="Write each packet's fate, a CSV file.")
    ] = None,
    corpus: CORPUS = None,
    as_json: JSON = False,
) -> None:
    """Replay one capture through a policy: verdicts, and every packet's fate.

    Virtual time, no root. The capture that -o writes has one interface for each side of the box,
    and a comment on each frame says what became of it.

    Example: midcall replay call.pcap --policy maroc-telecom/stun -o out.pcapng --fates fates.csv
    """
    with sentences():
        from midcall.experiments.localise.run import day_of
        from midcall.experiments.tools import replay as replaying

        order = replaying.Order(
            capture, policy, access, day_of(date), call, link, seed, app, flow or (), corpus,
            [word.strip() for word in changed.split(",") if word.strip()],
        )  # fmt: skip
        played = replaying.play(order)
        replaying.write(played, out, fates)
        give(
            as_json,
            replaying.document(played) if as_json else None,
            () if as_json else replaying.lines(order, played),
        )
