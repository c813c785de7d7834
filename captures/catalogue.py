# SPDX-License-Identifier: BSD-3-Clause
"""The catalogue: one table per capture, and where each can be had.

`captures/catalogue.toml` lists other people's captures, which are obtained and never committed;
`captures/samples/catalogue.toml` the project's own, flagged synthetic; `captures/local/
catalogue.toml` (git-ignored) what the user added. Captures are known by their sha256.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field, field_validator, model_validator

from captures.calls import CallFile, call_files, try_calls
from captures.errors import CaptureError
from captures.folders import Home, homes, shown
from captures.labels import APPS, Label, label_file, try_labels
from captures.tables import Table, block, hint, try_table

Access = Literal["3g", "4g", "adsl", "fibre", "wifi", "unknown"]
ACCESS = ("3g", "4g", "adsl", "fibre", "wifi", "unknown")

#: Labels that make a call of a capture; messaging and other flows alone do not.
CALL_ROLES = ("media", "setup", "control")


class Source(Table):
    """One place of a capture: an origin and the path in it (and the blob's id, in a history)."""

    origin: str
    path: str
    blob: str = Field(default="", pattern="^([0-9a-f]{40})?$")


class Origin(Table):
    """Where captures come from.

    kind: "debian" (a Debian source package), "archive" (the archive of a Git repository at a
    commit), "history" (blobs of a repository's history), "none" (a corpus folder only; `note`
    says why).
    """

    name: str
    kind: Literal["debian", "archive", "history", "none"]
    package: str = ""
    repository: str = ""
    commit: str = Field(default="", pattern="^([0-9a-f]{40})?$")
    note: str = ""

    @model_validator(mode="after")
    def _whole(self) -> Origin:
        needed = {"debian": ["package"], "archive": ["repository", "commit"]}
        needed |= {"history": ["repository"], "none": ["note"]}
        lacking = [key for key in needed[self.kind] if not getattr(self, key)]
        if lacking:
            raise ValueError(f"an origin of kind {self.kind} needs {' and '.join(lacking)}")
        return self


class Capture(Table):
    """One capture.

    role: "call" where it holds flows of a call, else "innocent"; app: the app called with, "none"
    for innocent ones (`content` says what they are); media: whether call media are in it; year:
    when it was taken, None where its clock is wrong or it was put together from several years;
    group: captures of one session share it, and a split never parts a group; copy_of: the capture
    that holds the same call, more completely; added: it is of the user's catalogue.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.\-]*$")
    file: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)
    packets: int = Field(ge=0)
    role: Literal["call", "innocent"]
    app: str
    kind: Literal["audio", "video", "unknown", "none"]
    media: bool
    year: int | None = Field(default=None, ge=1980, le=2100)
    access: Access
    group: str = Field(min_length=1)
    licence: str = Field(min_length=1)
    content: str = ""
    copy_of: str = ""
    synthetic: bool = False
    notes: str = ""
    sources: list[Source] = Field(default=[])
    added: bool = Field(default=False, exclude=True)

    @field_validator("app")
    @classmethod
    def _known_app(cls, app: str) -> str:
        if app not in APPS:
            mend = hint(app, list(APPS))
            raise ValueError(f"got {app!r}, expected one of {', '.join(APPS)}{mend}")
        return app

    @model_validator(mode="after")
    def _agreeing(self) -> Capture:
        if self.role == "innocent" and (self.app != "none" or self.kind != "none" or self.media):
            raise ValueError("an innocent capture has app none, kind none and media false")
        if self.role == "call" and (self.app == "none" or self.kind == "none"):
            raise ValueError("a call capture names its app, and its kind (or unknown)")
        return self


class Table_(Table):
    """The content of one catalogue file."""

    origins: list[Origin] = Field(default=[], alias="origin")
    captures: list[Capture] = Field(default=[], alias="capture")


class Catalogue(NamedTuple):
    """All captures that are known, and the origins they name."""

    captures: list[Capture]
    origins: list[Origin]

    def named(self, name: str) -> Capture:
        """Return the capture of a name; raises CaptureError with the closest one."""
        for capture in self.captures:
            if capture.name == name:
                return capture
        mend = hint(name, [capture.name for capture in self.captures])
        raise CaptureError(f"no capture is named {name!r}{mend}")

    def by_sha256(self) -> dict[str, Capture]:
        """Return the captures by their sha256."""
        return {capture.sha256: capture for capture in self.captures}
