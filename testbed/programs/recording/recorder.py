# SPDX-License-Identifier: BSD-3-Clause
"""Play scenes on lines without an operator, and return their captures with truth."""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple

from midcall.captures.packets.pcap import Packets
from midcall.captures.packets.writer import write_pcapng
from midcall.captures.truth.calls import Call
from midcall.captures.truth.catalogue import Capture
from midcall.captures.truth.labels import Label
from midcall.errors import TestbedError
from midcall.testbed.live.network.subscriber_line import Line
from midcall.testbed.programs.background import driver as bystanders
from midcall.testbed.programs.calls import caller as callers
from midcall.testbed.programs.calls.caller import Caller
from midcall.testbed.programs.recording.calls import call_of
from midcall.testbed.programs.recording.scenes import Scene
from midcall.testbed.programs.recording.session import line_of, recorded
from midcall.testbed.programs.recording.truth import Truth

CALLER_TAP = "c0"


class Recording(NamedTuple):
    """The captures, labels and call of one scene."""

    scene: Scene
    taps: dict[str, Packets]
    labels: list[Label]
    call: Call | None
    version: str


def missing(scene: Scene) -> list[str]:
    """Return what a scene lacks on this machine and how to get it, a sentence each."""
    if scene.caller:
        return callers.missing(scene.caller)
    return bystanders.missing(scene.bystander)


def record(
    scenes: Sequence[Scene], on_failure: Callable[[Scene, str], None] = lambda _scene, _why: None
) -> Iterator[Recording]:
    """Yield the recordings of scenes, grouped by access network.

    on_failure: called with each scene that was left out or failed, and the reason; the other scenes
    are still recorded.
    """
    by_access: dict[str, list[Scene]] = defaultdict(list)
    for scene in scenes:
        if lacks := missing(scene):
            on_failure(scene, "; ".join(lacks))
        else:
            by_access[scene.access].append(scene)
    for access, chosen in by_access.items():
        with line_of(access) as line, Cast(line) as cast:
            for scene in chosen:
                try:
                    yield played(line, scene, cast)
                except TestbedError as error:
                    cast.dismiss(scene.caller)
                    on_failure(scene, str(error))


class Cast:
    """The callers on a line, kept running for their next call; a context manager."""

    def __init__(self, line: Line) -> None:
        """Start nothing yet."""
        self.line = line
        self.running: dict[str, tuple[Caller, AbstractContextManager[Caller]]] = {}

    def __enter__(self) -> Cast:
        """Return it."""
        return self

    def __exit__(self, *_: object) -> None:
        """End every program."""
        for name in list(self.running):
            self.dismiss(name)

    def caller(self, name: str) -> Caller:
        """Return a program by its name, started on first use; raises TestbedError."""
        if name not in self.running:
            context = callers.caller(name, self.line)
            self.running[name] = context.__enter__(), context
        return self.running[name][0]

    def dismiss(self, name: str) -> None:
        """End a program, if it runs."""
        if name in self.running:
            self.running.pop(name)[1].__exit__(None, None, None)


def played(line: Line, scene: Scene, cast: Cast) -> Recording:
    """Play one scene and return its recording; raises TestbedError where it failed."""
    if scene.caller:
        return call_played(line, scene, cast)
    with bystanders.bystander(scene.bystander, line) as one:
        _, seen = recorded(line, lambda: one.act(scene.seconds))
        truth = Truth(line, seen.witness, one.services)
        taps = cut(scene, seen.taps)
        labels = checked(scene, truth, taps[CALLER_TAP])
    return Recording(scene, taps, labels, None, "")


def cut(scene: Scene, taps: dict[str, Packets]) -> dict[str, Packets]:
    """Return the taps' packets, the caller's truncated to the scene's limit."""
    return taps | {CALLER_TAP: taps[CALLER_TAP].take(slice(scene.packets))}


def call_played(line: Line, scene: Scene, cast: Cast) -> Recording:
    """Make a call and return its recording; raises TestbedError where it did not connect."""
    one = cast.caller(scene.caller)
    account, seen = recorded(line, lambda: callers.made(one, scene.plan))
    if not account.connected:
        raise TestbedError(f"the call did not connect: {account.error or 'no reason given'}")
    taps = cut(scene, seen.taps)
    packets = taps[CALLER_TAP]
    labels = checked(scene, Truth(line, seen.witness, account=account), packets)
    call = call_of(account, packets, labels) if any(row.call for row in labels) else None
    return Recording(scene, taps, labels, call, account.version)


def checked(scene: Scene, truth: Truth, packets: Packets) -> list[Label]:
    """Return the labels of a recording; raises TestbedError where a flow has no program."""
    if packets.total == 0:
        raise TestbedError("no packet was recorded")
    labels, problems = truth.labels(packets)
    if problems:
        raise TestbedError("\n".join(problems))
    if scene.caller and scene.media != "data" and not any(row.role == "media" for row in labels):
        raise TestbedError("no flow is of media, by the program's own account")
    return labels


def entry(one: Recording, path: Path) -> Capture:
    """Return the catalogue's row of a recording whose file is written."""
    scene, content = one.scene, path.read_bytes()
    call = one.call is not None
    words = content_of(scene)
    version = f"{one.version}; " if one.version else ""
    return Capture(
        name=scene.name,
        file=path.name,
        sha256=hashlib.sha256(content).hexdigest(),
        bytes=len(content),
        packets=one.taps[CALLER_TAP].total,
        role="call" if call else "innocent",
        app=one.call.app if one.call else "none",
        kind=one.call.kind if one.call and one.call.kind != "unknown" else "none",
        media=any(row.role == "media" for row in one.labels),
        year=time.gmtime().tm_year,
        access=scene.access,
        group=f"recorded-{scene.caller or bystanders.KINDS[scene.bystander][0]}",
        licence="CC0-1.0",
        content=words,
        recorded=True,
        notes=f"{version}recorded at the caller's tap, access link {scene.access}, no operator",
    )


def content_of(scene: Scene) -> str:
    """Return a description of a scene."""
    if scene.bystander:
        return bystanders.KINDS[scene.bystander][1]
    plan = scene.plan
    what = "a data channel alone, no call" if plan.media == "data" else f"a call, {plan.media}"
    if plan.caller in ("baresip", "sipp"):
        way = f"{plan.security.upper()}, {'by a registrar' if plan.registrar else 'direct'}"
    else:
        way = plan.path
    return f"{plan.caller}: {what}, {way}"


def write_taps(one: Recording, folder: Path) -> list[Path]:
    """Write every tap's packets to a folder, one file each; returns their paths."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for tap, packets in one.taps.items():
        paths.append(folder / f"{one.scene.name}-{tap}.pcapng")
        write_pcapng(paths[-1], packets)
    return paths
