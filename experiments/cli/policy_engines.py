# SPDX-License-Identifier: BSD-3-Clause
"""`midcall policy export`, `import`, `prove`: policies and real packet engines."""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated

import typer

from midcall.experiments.cli.arguments import CAPTURE_HELP, CORPUS, JSON
from midcall.experiments.cli.output import FAILED, USER_ERROR, give, say, sentences

ENGINE_WORDS = "suricata, nftables, iptables or ndpi"
POLICY = Annotated[
    str, typer.Argument(metavar="OPERATOR/HYPOTHESIS", help="A policy, as --policy names it.")
]
ACCESS = Annotated[str, typer.Option(help="The access network.")]
DATE = Annotated[
    datetime.datetime | None,
    typer.Option(formats=["%Y-%m-%d"], help="The day (default: the first day of the block)."),
]


def export_policy(
    name: POLICY,
    to: Annotated[str, typer.Option("--to", metavar="ENGINE", help=f"{ENGINE_WORDS}.")],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="DIR", help="A folder to write to.")],
    access: ACCESS = "4g",
    date: DATE = None,
    as_json: JSON = False,
) -> None:
    """Write a policy as the configuration of a packet engine.

    A policy that the engine cannot say is refused with the reasons (exit code 1).

    Example: midcall policy export mechanisms/stun --to nftables -o stun-nft
    """
    with sentences():
        from midcall.experiments.engines.prove import places
        from midcall.experiments.spec import policy_names
        from midcall.testbed.engines.export import export, place_of, sentence, write

        named = policy_names.named(name, access, date.date() if date else None)
        where = places(named)
        made = export(named.policy, to, where)
        paths = [] if made.refused else write(out, made)
        document = {
            "files": [str(path) for path in paths],
            "refused": [{**one._asdict(), "place": place_of(one, where)} for one in made.refused],
            "approximate": [
                {**one._asdict(), "place": place_of(one, where)} for one in made.nearly
            ],
            "exact": made.exact,
        }
        lines = [f"wrote {path}" for path in paths]
        lines += [f"approximate: {sentence(one, where)}" for one in made.nearly]
        if as_json or paths:
            give(as_json, document, lines)
        for one in made.refused:
            say(f"midcall: refused: {sentence(one, where)}")
        if made.refused:
            raise typer.Exit(FAILED)


def import_policy(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A file of the engine's rules.")],
    source: Annotated[
        str, typer.Option("--from", metavar="ENGINE", help="suricata, nftables or iptables.")
    ],
    out: Annotated[Path, typer.Option("-o", "--out", metavar="FILE", help="A TOML file to write.")],
    as_json: JSON = False,
) -> None:
    """Read rules of a packet engine as a policy.

    Rules that the policy language cannot say are listed, and left out.

    Example: midcall policy import rules.nft --from nftables -o mine.toml
    """
    with sentences():
        from midcall.testbed.engines.engine_import import imported, write

        found = imported(file, source)
        if found.rules:
            write(out, found)
        document = {
            "file": str(out) if found.rules else None,
            "rules": len(found.rules),
            "left_out": [one._asdict() for one in found.left_out],
        }
        lines = [f"{file}:{one.line}: left out: {one.reason}" for one in found.left_out]
        lines.append(f"wrote {out}: {len(found.rules)} rules, {len(found.left_out)} left out")
        if found.rules:
            give(as_json, document, lines)
            return
        give(as_json, document, lines[:-1])
        say(f"midcall: {file}: the policy language can express none of its rules")
        raise typer.Exit(USER_ERROR)


def prove_policy(
    name: POLICY,
    engine: Annotated[str, typer.Option("--engine", metavar="ENGINE", help=f"{ENGINE_WORDS}.")],
    captures: Annotated[
        list[str] | None,
        typer.Option(help=f"A capture: {CAPTURE_HELP}; repeatable (default: all that are here)."),
    ] = None,
    access: ACCESS = "4g",
    date: DATE = None,
    out: Annotated[
        Path, typer.Option("-o", "--out", help="The file for the smallest difference.")
    ] = Path("difference.pcapng"),
    rules: Annotated[
        Path | None,
        typer.Option(help="Rules that the engine gets instead of the exported policy."),
    ] = None,
    translated: Annotated[
        bool,
        typer.Option(
            "--translated", help="Without the lines of --rules that `policy import` leaves out."
        ),
    ] = False,
    corpus: CORPUS = None,
    as_json: JSON = False,
) -> None:
    """Compare a packet engine under a policy with the lab's box.

    The same packets go through both. Where a fate differs, the capture is reduced to the smallest
    one that shows it (exit code 1). nftables and iptables need root on Linux. With --rules, it
    shows whether an imported policy does what the file does that it was imported from.

    Example: midcall policy prove mechanisms/stun --engine suricata
    """
    with sentences():
        from midcall.errors import ExperimentError
        from midcall.experiments.engines.captures_here import captures_here
        from midcall.experiments.engines.prove import prove

        chosen = list(captures or captures_here(corpus))
        day = date.date() if date else None
        if translated and rules is None:
            raise ExperimentError("--translated says which lines of --rules count; give --rules")
        proof = prove(
            name, engine, chosen, out, access, day, corpus, rules=rules, translated=translated
        )
        smallest = proof["smallest"]
        lines = [
            f"packets {proof['packets']}, equal {proof['equal']}, differ {proof['differs']}",
            *(
                [f"smallest {smallest['packets']} packets in {smallest['file']}"]
                if smallest
                else []
            ),
            *([f"reason  {proof['reason']}"] if proof["reason"] else []),
        ]
        give(as_json, proof, lines)
        if proof["differs"] or not proof["packets"]:
            raise typer.Exit(FAILED)
