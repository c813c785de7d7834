# SPDX-License-Identifier: BSD-3-Clause
"""`midcall captures record`: real programs call and talk, captured with the truth of each flow."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from midcall.experiments.cli.arguments import JSON
from midcall.experiments.cli.output import FAILED, give, say, sentences

COMMITTED = "samples"


def record_captures(
    spec: Annotated[
        str | None,
        typer.Option(help=f"Scenes: the committed set ({COMMITTED}), or a TOML file of yours."),
    ] = None,
    caller: Annotated[
        str | None, typer.Option(help="A program that calls: chromium, aiortc, baresip, sipp.")
    ] = None,
    media: Annotated[str, typer.Option(help="audio, audio+video, screen, data.")] = "audio",
    path: Annotated[
        str, typer.Option(help="direct, turn-udp, turn-tcp, turn-tls, any.")
    ] = "direct",
    security: Annotated[str, typer.Option(help="Of SIP's media: rtp, srtp.")] = "rtp",
    registrar: Annotated[bool, typer.Option("--registrar", help="SIP by a registrar.")] = False,
    bystander: Annotated[
        str | None,
        typer.Option(help="Innocent traffic instead of a call; see docs/howto/record.md."),
    ] = None,
    access: Annotated[str, typer.Option(help="3g, 4g, adsl, fibre, wifi.")] = "4g",
    seconds: Annotated[float, typer.Option(help="How long the call lasts.")] = 10.0,
    only: Annotated[
        str | None, typer.Option(help="Of the spec's scenes, those whose name holds this.")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="A folder for captures and truth; otherwise your own catalogue."),
    ] = None,
    taps: Annotated[
        Path | None, typer.Option(help="A folder for what every tap saw, a pcapng file each.")
    ] = None,
    as_json: JSON = False,
) -> None:
    """Record calls and other traffic of real programs, with the truth of each flow. Needs root.

    Example: midcall captures record --caller chromium --path turn-tls --access 3g --seconds 20
    """
    words = {
        "caller": caller or "", "media": media, "path": path, "security": security,
        "registrar": registrar, "bystander": bystander or "", "access": access,
        "seconds": seconds,
    }  # fmt: skip
    with sentences():
        record(chosen(spec, only, words), home_of(spec, out), taps, as_json)


def chosen(spec: str | None, only: str | None, words: dict[str, Any]) -> list[Any]:
    """Return the scenes that were asked for; raises ExperimentError or TestbedError."""
    from pydantic import ValidationError

    from midcall.captures.truth.strict_toml import sentences as told
    from midcall.errors import ExperimentError
    from midcall.testbed.programs.recording.scenes import Scene, scene_set

    one = bool(words["caller"] or words["bystander"])
    if one == (spec is not None):
        raise ExperimentError(
            "say what to record: either --spec, or one of --caller and --bystander"
        )
    if spec is None:
        try:
            return [Scene.model_validate(words)]
        except ValidationError as error:
            raise ExperimentError("\n".join(told(error, words, Scene))) from None
    scenes = [scene for scene in scene_set(spec) if (only or "") in scene.name]
    if not scenes:
        raise ExperimentError(f"--only {only}: no scene of {spec} has that in its name")
    return scenes


def home_of(spec: str | None, out: Path | None) -> Any:
    """Return where recordings go: a folder, the committed set's, or the user's own catalogue."""
    from midcall.captures.truth import paths
    from midcall.testbed.programs.recording import store

    if out is not None:
        return store.at(out)
    return paths.recorded() if spec == COMMITTED else paths.local()


def record(scenes: list[Any], place: Any, taps: Path | None, as_json: bool) -> None:
    """Record scenes into a home, say what came of each; what could not be recorded ends with 1."""
    from midcall.experiments.cli.capture_lists import row as plain
    from midcall.testbed.live.network import network
    from midcall.testbed.programs.recording import recorder, store

    network.require()
    left: dict[str, str] = {}
    kept: list[dict[str, Any]] = []

    def lost(scene: Any, why: str) -> None:
        left[scene.name] = why
        say(f"midcall: {scene.name}: not recorded: {why}")

    for one in recorder.record(scenes, lost):
        row = store.keep(place, one)
        kept.append(plain(row, []))
        if taps is not None:
            recorder.write_taps(one, taps)
        media = sum(label.role == "media" for label in one.labels)
        say(
            f"{row.name}: {row.packets} packets, {row.bytes} bytes, {len(one.labels)} flows, "
            f"{media} of media"
        )
    words = f"{len(kept)} of {len(scenes)} scenes recorded into {place.folder}"
    give(as_json, {"recorded": kept, "left": left}, [words])
    if left:
        raise typer.Exit(FAILED)
