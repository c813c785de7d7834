# SPDX-License-Identifier: BSD-3-Clause
"""Scenes: descriptions of recordings, one capture each; a set of scenes is a TOML file.

scenes = [
  { caller = "chromium", media = "audio", path = "turn-udp", access = "4g" },
  { bystander = "web-http2", access = "3g", seconds = 4.0 },
]
"""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, model_validator

from midcall.access import Access
from midcall.captures.truth.strict_toml import Table, read_table
from midcall.errors import CaptureError, TestbedError
from midcall.testbed.programs.background.driver import KINDS
from midcall.testbed.programs.calls.plan import CALLERS, Plan

SETS = Path(__file__).resolve().parent / "sets"


class Scene(Table):
    """One recording: a call or background traffic, over an access network.

    caller, media, path, security, registrar: as in testbed.programs.calls.plan.Plan, one call at a
    time; bystander: of testbed.programs.background.driver.KINDS; seconds: duration of the call, or
    about that of the background traffic; packets: keep this many first packets of the caller's tap,
    None for all; take: number that distinguishes otherwise equal scenes.
    """

    caller: str = ""
    media: str = "audio"
    path: str = "direct"
    security: str = "rtp"
    registrar: bool = False
    bystander: str = ""
    access: Access = "fibre"
    seconds: float = Field(default=3.0, gt=0, le=600)
    packets: int | None = Field(default=None, ge=10)
    take: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _one(self) -> Scene:
        if bool(self.caller) == bool(self.bystander):
            raise ValueError("a scene has either a caller or a bystander")
        if self.caller and self.caller not in CALLERS:
            known = ", ".join(CALLERS)
            raise ValueError(f"caller: got {self.caller!r}, expected one of {known}")
        if self.bystander and self.bystander not in KINDS:
            known = ", ".join(KINDS)
            raise ValueError(f"bystander: got {self.bystander!r}, expected one of {known}")
        if self.caller and (problems := self.plan.problems()):
            raise ValueError("; ".join(problems))
        return self

    @property
    def plan(self) -> Plan:
        """Return the plan of the call."""
        return Plan(
            self.caller, self.media, self.path, self.seconds, self.security, self.registrar
        )  # fmt: skip

    @property
    def name(self) -> str:
        """Return the name of the capture: "lab-chromium-audio-turn-udp-4g"."""
        what = self.plan.name if self.caller else self.bystander
        again = f"-{self.take}" if self.take > 1 else ""
        return f"lab-{what}-{self.access}{again}"


class SceneSet(Table):
    """The content of a file of scenes."""

    scenes: list[Scene] = Field(min_length=1)

    @model_validator(mode="after")
    def _different(self) -> SceneSet:
        names = [one.name for one in self.scenes]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"scenes stand twice, give them a take: {', '.join(twice)}")
        return self


def scene_set(name: str) -> list[Scene]:
    """Return the scenes of an included set, or of a file; raises TestbedError."""
    path = Path(name) if name.endswith(".toml") else SETS / f"{name}.toml"
    if not path.exists():
        shipped = ", ".join(sorted(one.stem for one in SETS.glob("*.toml")))
        raise TestbedError(
            f"scenes: {name}: no such set; expected one of {shipped}, or a .toml file"
        )
    try:
        return list(read_table(path, SceneSet).scenes)
    except CaptureError as error:
        raise TestbedError(str(error)) from None
