# SPDX-License-Identifier: BSD-3-Clause
"""`midcall probe`: name a middlebox's whole rule from both ends of a line."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from midcall.experiments.cli import completion
from midcall.experiments.cli.arguments import (
    ACCESS,
    CAPTURE_HELP,
    CORPUS,
    DATE,
    HELP,
    JSON,
    ONLY_FLOW,
)
from midcall.experiments.cli.output import give, say, sentences

if TYPE_CHECKING:
    from midcall.experiments.probe.run import Probed, Request

app = typer.Typer(
    name="probe",
    help="Name a middlebox's whole rule from both ends of a line.",
    invoke_without_command=True,
    rich_markup_mode=None,
    context_settings=HELP,
)

KEY = Annotated[Path, typer.Option(help="A file with the key that both programs share.")]
YES = Annotated[bool, typer.Option("--yes", help="Confirm the budget without asking.")]
NOISE = Annotated[
    str,
    typer.Option(
        help="What the line itself does in each direction, as loss=0.02,jitter_ms=20. loss: "
        "share lost, 0 to 1; burst: packets that a burst of losses lasts on average, 0 "
        "(independent losses) to 10000, needs loss; jitter_ms: standard deviation of the "
        "delay, 0 to 10000 ms; reorder: share that comes reorder_ms later (0 to 10000 ms, "
        "default 10), 0 to 1; nat=1: a NAT changes the subscriber's ports."
    ),
]
#: Packets, octets and seconds that may be sent.
BUDGET = "20000,20000000,900"


@app.callback()
def probe(
    context: typer.Context,
    policy: Annotated[
        str | None,
        typer.Option(
            "--against",
            help="The box: OPERATOR/HYPOTHESIS, PATH.toml/HYPOTHESIS, or none; with --live also "
            "'suricata: RULES', nfqueue, or 'command: WORDS'.",
            autocompletion=completion.policies,
        ),
    ] = None,
    capture: Annotated[
        str | None,
        typer.Option(
            help=f"A pcap or pcapng file: {CAPTURE_HELP}.",
            autocompletion=completion.captures,
        ),
    ] = None,
    app_name: Annotated[
        str | None, typer.Option("--app", help="The app whose flows --flow names.")
    ] = None,
    flow: ONLY_FLOW = None,
    access: ACCESS = "4g",
    date: DATE = None,
    seed: Annotated[int, typer.Option(help="Seed of the line and of the prober.")] = 0,
    noise: NOISE = "",
    budget: Annotated[int, typer.Option(min=1, help="Maximum number of probes.")] = 2_000,
    live: Annotated[
        bool, typer.Option("--live", help="Between network namespaces (root).")
    ] = False,
    ooni: Annotated[
        Path | None, typer.Option(help="Write a measurement in OONI's data format to a file.")
    ] = None,
    corpus: CORPUS = None,
    as_json: JSON = False,
) -> None:
    """Name a middlebox's whole rule from both ends of a line.

    A caller and a helper play the capture and controls, compare what arrives, and choose each next
    probe by what it would teach. The answer is the trigger, the act, its direction, scope and
    times, each with its probability, and the equivalent rule in the policy language.

    Example: midcall probe --against maroc-telecom/stun --capture sample-whatsapp-audio --json
    """
    if context.invoked_subcommand is not None:
        return
    with sentences(place="--ooni"):
        from midcall.errors import ExperimentError
        from midcall.experiments.localise.run import day_of
        from midcall.experiments.probe import ooni as measurement
        from midcall.experiments.probe import run

        if policy is None or capture is None:
            raise ExperimentError("give the box with --against and a capture with --capture")
        if live and noise:
            raise ExperimentError("--noise: is that of a line in virtual time; leave out --live")
        request = run.Request(
            policy, capture, access, seed, noise, day_of(date), app_name, tuple(flow or ()),
            corpus, budget,
        )  # fmt: skip
        result = answered(request, live)
        if ooni is not None:
            measurement.write(ooni, request, result)
        give(as_json, result.answer, () if as_json else result.lines())


def answered(request: Request, live: bool) -> Probed:
    """Return what the prober found, between namespaces or in virtual time."""
    if live:
        from midcall.experiments.probe.live import probe as play
    else:
        from midcall.experiments.probe.run import probe as play
    return play(request)


@app.command("serve")
def serve(
    key: KEY,
    address: Annotated[
        str, typer.Option(help="An address of this host, within 198.18.0.0/15 or fd00::/8.")
    ],
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port of the control stream.")] = 7331,
    budget: Annotated[
        str, typer.Option(help="Most packets, octets and seconds for one caller.")
    ] = BUDGET,
    yes: YES = False,
) -> None:
    """Wait for a caller that proves the key, and play the far end of its probes.

    Before the proof nothing is sent but one answer that is not longer than the question. This
    version refuses every address outside 198.18.0.0/15 and fd00::/8.

    Example: midcall probe serve --key probe.key --address 198.18.0.2
    """
    with sentences(place=""):
        from midcall.testbed.probing.helper import serve as wait_for_callers
        from midcall.testbed.probing.leash import Budget, confirmed, read_key

        limit = Budget.of(budget)
        if not confirmed(limit, yes, say, typer.confirm):
            raise typer.Exit(1)
        wait_for_callers(address, port, read_key(key), limit, say)


@app.command("run")
def run_apart(
    helper: Annotated[str, typer.Option(help="ADDRESS or ADDRESS:PORT of the helper.")],
    key: KEY,
    capture: Annotated[
        str,
        typer.Option(
            help=f"A pcap or pcapng file: {CAPTURE_HELP}.", autocompletion=completion.captures
        ),
    ],
    access: ACCESS = "4g",
    seed: Annotated[int, typer.Option(help="Seed of the prober.")] = 0,
    budget: Annotated[str, typer.Option(help="Most packets, octets and seconds in all.")] = BUDGET,
    probes: Annotated[int, typer.Option(min=1, help="Maximum number of probes.")] = 300,
    yes: YES = False,
    corpus: CORPUS = None,
    as_json: JSON = False,
) -> None:
    """Probe the line to a helper that proves the key.

    The budget is printed and must be confirmed. This version refuses every address outside
    198.18.0.0/15 and fd00::/8.

    Example: midcall probe run --helper 198.18.0.2 --key probe.key --capture call.pcap
    """
    with sentences(place=""):
        from midcall.experiments.probe import run
        from midcall.testbed.probing.leash import Budget, confirmed, endpoint, read_key
        from midcall.testbed.probing.real_sockets import RemoteSockets

        host, port = endpoint(helper)
        limit = Budget.of(budget)
        secret = read_key(key)
        if not confirmed(limit, yes, say, typer.confirm):
            raise typer.Exit(1)
        packets = run.capture_of(run.Request("none", capture, access, corpus=corpus))
        with RemoteSockets(host, port, secret, limit) as sockets:
            result = run.over(sockets, packets, access, seed, probes)
        give(as_json, result.answer, () if as_json else result.lines())
