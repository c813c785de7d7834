# SPDX-License-Identifier: BSD-3-Clause
"""`midcall bench`: speed on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from midcall.experiments.cli.arguments import HELP, JSON, NEW_RUNS
from midcall.experiments.cli.leaks import bench_leaks
from midcall.experiments.cli.output import FAILED, give, say, sentences

app = typer.Typer(
    name="bench",
    help="Measure speed on this machine.",
    no_args_is_help=True,
    rich_markup_mode=None,
    context_settings=HELP,
)


@app.callback()
def bench_top() -> None:
    """Measure speed on this machine."""


@app.command("live")
def bench_live(
    path: Annotated[
        list[str] | None,
        typer.Option(help="A path: kernel, empty, classifier, classifier-spin, offload, ..."),
    ] = None,
    frames: Annotated[
        list[str] | None, typer.Option(help="A frame size in octets, or imix (default: 200).")
    ] = None,
    kpps: Annotated[
        list[int] | None, typer.Option(min=1, help="Rates to try, thousands of packets/s.")
    ] = None,
    trials: Annotated[int, typer.Option(min=1, help="Trials per rate and path.")] = 5,
    seconds: Annotated[
        float, typer.Option(min=0.1, help="Length of a trial, seconds; RFC 2544 asks for 60.")
    ] = 1.0,
    calls_seconds: Annotated[
        float, typer.Option(min=0.1, help="Length of the trial with a thousand calls, seconds.")
    ] = 10.0,
    share_seconds: Annotated[
        float | None,
        typer.Option(min=0.1, help="Length of trials at 0.35 and 0.75 of the kernel's rate."),
    ] = None,
    runs: NEW_RUNS = Path("runs"),
    as_json: JSON = False,
) -> None:
    """Compare the live box with plain kernel forwarding.

    Prints which performance goals are met. Needs root.
    Example: sudo .venv/bin/midcall bench live --frames 200 --frames imix
    """
    with sentences():
        from midcall.experiments.bench import lines as bench_lines
        from midcall.experiments.bench import live as benches

        lists = {"paths": path, "frames": frames, "kpps": kpps}
        chosen: dict[str, Any] = {name: tuple(value) for name, value in lists.items() if value}
        options = benches.Options(
            trials=trials, seconds=seconds, calls_seconds=calls_seconds, runs=runs,
            share_seconds=share_seconds, **chosen,
        )  # fmt: skip
        result, folder = benches.bench(options, lambda line: say(f"midcall bench: {line}"))
        give(as_json, {"folder": folder, **result}, [*bench_lines.lines(result), folder])


app.command("leaks")(bench_leaks)


@app.command()
def soak(
    minutes: Annotated[float, typer.Option(min=0.1, help="Duration in minutes.")] = 60.0,
    pps: Annotated[
        int | None,
        typer.Option(min=1, help="Packets/s (default: half of the live bench's result)."),
    ] = None,
    runs: Annotated[Path, typer.Option(help="Folder of results, also of the live bench.")] = Path(
        "runs"
    ),
    as_json: JSON = False,
) -> None:
    """Send live traffic for an hour, check for slow faults.

    Slow faults are memory that grows, lost packets, and latency that drifts. Needs root.
    Exit code 1 if one of them is found, or if too little traffic was offered to decide.
    Example: sudo .venv/bin/midcall bench soak --minutes 60
    """
    with sentences():
        from midcall.experiments.proofs import soak as soaking

        result, path = soaking.soak(minutes, pps, runs, lambda line: say(f"midcall bench: {line}"))
        give(as_json, {"file": path, **result}, [*soaking.lines(result), path])
        if result["summary"]["problems"]:
            raise typer.Exit(FAILED)
