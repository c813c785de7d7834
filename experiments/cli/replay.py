# SPDX-License-Identifier: BSD-3-Clause
"""The command `midcall replay`: one capture through one policy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from midcall.experiments.cli import completion
from midcall.experiments.cli.arguments import (
    ACCESS,
    CAPTURE,
    CORPUS,
    DATE,
    FLOW_HELP,
    JSON,
)
from midcall.experiments.cli.output import give, sentences

if TYPE_CHECKING:
    from midcall.experiments.results.tables import LadderLine
    from midcall.experiments.tools.replay import Order, Played


def replay(
    capture: CAPTURE,
    policy: Annotated[
        str,
        typer.Option(
            help="OPERATOR/HYPOTHESIS, PATH.toml/HYPOTHESIS, or none.",
            autocompletion=completion.policies,
        ),
    ],
    access: ACCESS = "4g",
    date: DATE = None,
    time: Annotated[
        str | None,
        typer.Option(help="A time of day, as 20:30 (default: one at which all `hours` hold)."),
    ] = None,
    call: Annotated[str | None, typer.Option(help="Id of one call (default: all).")] = None,
    app: Annotated[str | None, typer.Option(help="The app of an uncatalogued call.")] = None,
    flow: Annotated[
        list[str] | None,
        typer.Option(help=f"A flow of the call: {FLOW_HELP}."),
    ] = None,
    changed: Annotated[
        str,
        typer.Option(
            help="Parts that differ from the wire: addresses,names,... (docs/howto/replay.md)."
        ),
    ] = "",
    link: Annotated[str, typer.Option(help="captured, or preset (access network).")] = "captured",
    seed: Annotated[int, typer.Option(help="Seed of all random choices.")] = 2016,
    out: Annotated[
        Path | None, typer.Option("-o", "--out", help="Write the packets to a pcapng file.")
    ] = None,
    fates: Annotated[Path | None, typer.Option(help="Write packets' fates as CSV.")] = None,
    ladder: Annotated[
        bool, typer.Option("--ladder", help="Print each call's packets as a ladder.")
    ] = False,
    corpus: CORPUS = None,
    as_json: JSON = False,
) -> None:
    """Replay one capture through a policy.

    Prints the verdicts and what became of the packets. Runs in virtual time, without root. The
    capture that -o writes has one interface for each side of the box; a comment on each frame
    states its fate. A ladder has the caller on the left, the box in the middle, the callee on the
    right, and the bytes of the packet that decided.

    Example: midcall replay call.pcap --policy maroc-telecom/stun -o out.pcapng --fates fates.csv
    """
    with sentences(place="-o"):
        from midcall.experiments.localise.run import day_of
        from midcall.experiments.tools import replay as replaying

        request = replaying.Order(
            capture, policy, access, day_of(date), call, link, seed, app, flow or (), corpus,
            [word.strip() for word in changed.split(",") if word.strip()],
            replaying.clock_of(time),
        )  # fmt: skip
        result = replaying.play(request)
        replaying.write(result, out, fates)
        show(request, result, ladder, as_json)


def show(request: Order, result: Played, ladder: bool, as_json: bool) -> None:
    """Print the verdicts and fates, with the calls' ladders if they are asked for."""
    from midcall.experiments.tools import replay as replaying

    ladders = replaying.ladders(result) if ladder else {}
    if as_json:
        document = replaying.document(result)
        give(True, {**document, "ladders": ladders} if ladder else document, ())
    else:
        give(False, None, [*replaying.lines(request, result), *drawn(ladders)])


def drawn(ladders: Mapping[str, Sequence[LadderLine]]) -> Iterator[str]:
    """Yield ladders as text; ladders: by call id, "" for all packets of a capture without calls."""
    from midcall.experiments.report.ladder import text

    for call, rows in ladders.items():
        yield ""
        yield f"ladder of call {call}:" if call else "ladder of all packets:"
        yield from text(rows)
