# SPDX-License-Identifier: BSD-3-Clause
"""`midcall bench`: speed on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from midcall.experiments.cli.arguments import JSON, NEW_RUNS
from midcall.experiments.cli.leaks import bench_leaks
from midcall.experiments.cli.output import FAILED, give, say, sentences

app = typer.Typer(
    name="bench",
    help="Measure speed on this machine.",
    no_args_is_help=True,
    rich_markup_mode=None,
)


@app.callback()
def bench_top() -> None:
    """Measure speed on this machine."""


@app.command("live")
def bench_live(
    path: Annotated[
        list[str] | None,
        typer.Option(help="kernel, empty, classifier, classifier-spin, offload, ..."),
    ] = None,
    frames: Annotated[
        list[str] | None, typer.Option(help="A frame size in octets, or imix (default: 200).")
    ] = None,
    kpps: Annotated[
        list[int] | None, typer.Option(min=1, help="Rates to try, thousands of packets/s.")
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Trials per rate and path.")] = 5,
    seconds: Annotated[
        float, typer.Option(min=0.1, help="Length of a trial; RFC 2544 asks for 60.")
    ] = 1.0,
    calls_seconds: Annotated[
        float, typer.Option(min=0.1, help="How long a thousand calls are carried.")
    ] = 10.0,
    share_seconds: Annotated[
        float | None,
        typer.Option(min=0.1, help="Length of the trials at 0.35 and 0.75 of the kernel's rate."),
    ] = None,
    runs: NEW_RUNS = Path("runs"),
    as_json: JSON = False,
) -> None:
    """Measure the live box beside the kernel alone, and say which goals are met.

    Needs root. Example: sudo .venv/bin/midcall bench live --frames 200 --frames imix
    """
    with sentences():
        from midcall.experiments.bench import lines as bench_lines
        from midcall.experiments.bench import live as benches

        given = {"paths": path, "frames": frames, "kpps": kpps}
        chosen: dict[str, Any] = {name: tuple(value) for name, value in given.items() if value}
        options = benches.Options(
            trials=trials, seconds=seconds, calls_seconds=calls_seconds, runs=runs,
            share_seconds=share_seconds, **chosen,
        )  # fmt: skip
        told, where = benches.bench(options, lambda line: say(f"midcall bench: {line}"))
        give(as_json, {"folder": where, **told}, [*bench_lines.lines(told), where])


app.command("leaks")(bench_leaks)


@app.command()
def soak(
    minutes: Annotated[float, typer.Option(min=0.1, help="How long.")] = 60.0,
    pps: Annotated[
        int | None,
        typer.Option(min=1, help="Packets/s (default: half of what the live bench found)."),
    ] = None,
    runs: Annotated[Path, typer.Option(help="Where results go, and the live bench's are.")] = Path(
        "runs"
    ),
    as_json: JSON = False,
) -> None:
    """Send live traffic for an hour: memory that grows, loss, latency that drifts.

    Needs root. Exit code 1 where one of them shows, or too little was offered to tell.
    Example: sudo .venv/bin/midcall bench soak --minutes 60
    """
    with sentences():
        from midcall.experiments.proofs import soak as soaking

        told, path = soaking.soak(minutes, pps, runs, lambda line: say(f"midcall bench: {line}"))
        give(as_json, {"file": path, **told}, [*soaking.lines(told), path])
        if told["summary"]["problems"]:
            raise typer.Exit(FAILED)
