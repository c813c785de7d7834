# SPDX-License-Identifier: BSD-3-Clause
"""`midcall captures record`: record traffic of real programs with the truth of each flow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from midcall.experiments.cli.arguments import ACCESS, JSON
from midcall.experiments.cli.output import FAILED, give, say, sentences

COMMITTED = "samples"


def record_captures(
    spec: Annotated[
        str | None,
        typer.Option(help=f"Scenes: the committed set ({COMMITTED}) or a TOML file."),
    ] = None,
    caller: Annotated[
        str | None, typer.Option(help="The calling program: chromium, aiortc, baresip, sipp.")
    ] = None,
    media: Annotated[
        str, typer.Option(help="Media of the call: audio, audio+video, screen, data.")
    ] = "audio",
    path: Annotated[
        str, typer.Option(help="Path of the media: direct, turn-udp, turn-tcp, turn-tls, any.")
    ] = "direct",
    security: Annotated[str, typer.Option(help="Media of SIP calls: rtp, srtp.")] = "rtp",
    registrar: Annotated[
        bool, typer.Option("--registrar", help="Call through a SIP registrar.")
    ] = False,
    bystander: Annotated[
        str | None,
        typer.Option(help="Innocent traffic instead of a call; see docs/howto/record.md."),
    ] = None,
    access: ACCESS = "4g",
    seconds: Annotated[float, typer.Option(help="Duration of the call.")] = 10.0,
    only: Annotated[
        str | None, typer.Option(help="Record only scenes whose name contains TEXT.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="A folder for captures and truth (default: your catalogue)."),
    ] = None,
    taps: Annotated[
        Path | None, typer.Option(help="A folder for the packets at every tap, as pcapng files.")
    ] = None,
    as_json: JSON = False,
) -> None:
    """Record calls and other traffic of real programs.

    Writes captures with the truth of each flow. Needs root.
    Example: midcall captures record --caller chromium --path turn-tls --access 3g --seconds 20
    """
    scene = {
        "caller": caller or "", "media": media, "path": path, "security": security,
        "registrar": registrar, "bystander": bystander or "", "access": access,
        "seconds": seconds,
    }  # fmt: skip
    with sentences():
        record(chosen(spec, only, scene), home_of(spec, out), taps, as_json)


def chosen(spec: str | None, only: str | None, fields: dict[str, Any]) -> list[Any]:
    """Return the scenes to record; raises ExperimentError or TestbedError."""
    from pydantic import ValidationError

    from midcall.captures.truth.strict_toml import sentences as problem_lines
    from midcall.errors import ExperimentError
    from midcall.testbed.programs.recording.scenes import Scene, scene_set

    one = bool(fields["caller"] or fields["bystander"])
    if one == (spec is not None):
        raise ExperimentError(
            "say what to record: either --spec, or one of --caller and --bystander"
        )
    if spec is None:
        try:
            return [Scene.model_validate(fields)]
        except ValidationError as error:
            raise ExperimentError("\n".join(problem_lines(error, fields, Scene))) from None
    scenes = [scene for scene in scene_set(spec) if (only or "") in scene.name]
    if not scenes:
        raise ExperimentError(f"--only {only}: no scene of {spec} has that in its name")
    return scenes


def home_of(spec: str | None, out: Path | None) -> Any:
    """Return the home of recordings: a folder, the committed set, or the user's catalogue."""
    from midcall.captures.truth import paths
    from midcall.testbed.programs.recording import store

    if out is not None:
        return store.at(out)
    return paths.recorded() if spec == COMMITTED else paths.local()


def record(scenes: list[Any], place: Any, taps: Path | None, as_json: bool) -> None:
    """Record scenes and print a line for each; a scene that fails gives exit code 1."""
    from midcall.experiments.cli.capture_lists import row as plain
    from midcall.testbed.live.network import network
    from midcall.testbed.programs.recording import recorder, store

    network.require()
    failures: dict[str, str] = {}
    recorded: list[dict[str, Any]] = []

    def report_failure(scene: Any, why: str) -> None:
        failures[scene.name] = why
        say(f"midcall: {scene.name}: not recorded: {why}")

    for one in recorder.record(scenes, report_failure):
        row = store.keep(place, one)
        recorded.append(plain(row, []))
        if taps is not None:
            recorder.write_taps(one, taps)
        media = sum(label.role == "media" for label in one.labels)
        say(
            f"{row.name}: {row.packets} packets, {row.bytes} bytes, {len(one.labels)} flows, "
            f"{media} of media"
        )
    message = f"{len(recorded)} of {len(scenes)} scenes recorded into {place.folder}"
    give(as_json, {"recorded": recorded, "left": failures}, [message])
    if failures:
        raise typer.Exit(FAILED)
