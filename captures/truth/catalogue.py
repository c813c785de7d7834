# SPDX-License-Identifier: BSD-3-Clause
"""The catalogue: one table per capture, and the sources of each.

`captures/catalogue.toml` lists other people's captures, which are obtained and never committed;
`captures/samples/catalogue.toml` the project's own, flagged synthetic; `captures/recorded/
catalogue.toml` recordings of real programs in the lab, flagged recorded; `captures/local/
catalogue.toml` (git-ignored) the user's. Captures are identified by their sha256.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import Field, field_validator, model_validator

from midcall.access import CapturedAccess
from midcall.apps import APPS
from midcall.captures.truth.calls import CallFile, call_files, try_calls
from midcall.captures.truth.labels import Label, label_file, try_labels
from midcall.captures.truth.paths import Home, homes, shown
from midcall.captures.truth.strict_toml import Table, block, hint, try_table
from midcall.errors import CaptureError

#: In what a capture can differ from the packets on the wire; "tails": payloads were cut after their
#: first octets.
Change = Literal["addresses", "ports", "names", "payload", "tails", "sizes", "times"]

#: Roles of labels that belong to a call; messaging and other flows do not.
CALL_ROLES = ("media", "setup", "control")


class Source(Table):
    """One place of a capture: an origin and the path in it (and the blob's id, in a history)."""

    origin: str
    path: str
    blob: str = Field(default="", pattern="^([0-9a-f]{40})?$")


class Origin(Table):
    """Where captures come from.

    kind: "debian" (a Debian source package), "archive" (the archive of a Git repository at a
    commit), "git" (single files of a Git repository at a commit, over Git's own protocol),
    "history" (blobs of a repository's history), "none" (a corpus folder only; `note` says why).
    """

    name: str
    kind: Literal["debian", "archive", "git", "history", "none"]
    package: str = ""
    repository: str = ""
    commit: str = Field(default="", pattern="^([0-9a-f]{40})?$")
    note: str = ""

    @model_validator(mode="after")
    def _whole(self) -> Origin:
        needed = {"debian": ["package"], "archive": ["repository", "commit"]}
        needed |= {"git": ["repository", "commit"], "history": ["repository"], "none": ["note"]}
        lacking = [key for key in needed[self.kind] if not getattr(self, key)]
        if lacking:
            raise ValueError(f"an origin of kind {self.kind} needs {' and '.join(lacking)}")
        return self


class Capture(Table):
    """One capture.

    role: "call" where it holds flows of a call, else "innocent"; app: the app called with, "none"
    for innocent ones (`content` says what they are); media: whether call media are in it; year:
    when it was taken, None if its clock is wrong or it was assembled from several years; group: the
    same for captures of one session, and never divided between training and test; copy_of: a more
    complete capture of the same call; synthetic: made by a program; recorded: of real programs in
    the lab, whose own records are the truth (docs/howto/record.md); changed: in what it differs
    from the wire (anonymised, rebuilt or cut), so that a rule which reads this cannot be tested;
    other_end: the capture of the same call at its other end; added: it is in the user's catalogue.
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
    access: CapturedAccess
    group: str = Field(min_length=1)
    licence: str = Field(min_length=1)
    content: str = ""
    copy_of: str = ""
    other_end: str = ""
    synthetic: bool = False
    recorded: bool = False
    changed: list[Change] = Field(default=[])
    notes: str = ""
    sources: list[Source] = Field(default=[])
    added: bool = Field(default=False, exclude=True)

    @property
    def ours(self) -> bool:
        """Return whether the project made the capture (synthetic or recorded)."""
        return self.synthetic or self.recorded

    @field_validator("app")
    @classmethod
    def _known_app(cls, app: str) -> str:
        if app not in APPS:
            suggestion = hint(app, list(APPS))
            raise ValueError(f"got {app!r}, expected one of {', '.join(APPS)}{suggestion}")
        return app

    @model_validator(mode="after")
    def _agreeing(self) -> Capture:
        if self.role == "innocent" and (self.app != "none" or self.kind != "none" or self.media):
            raise ValueError("an innocent capture has app none, kind none and media false")
        if self.role == "call" and (self.app == "none" or self.kind == "none"):
            raise ValueError("a call capture names its app, and its kind (or unknown)")
        if self.synthetic and self.recorded:
            raise ValueError("a capture is synthetic or recorded, not both")
        return self


class CatalogueFile(Table):
    """The content of one catalogue file."""

    origins: list[Origin] = Field(default=[], validation_alias="origin")
    captures: list[Capture] = Field(default=[], validation_alias="capture")


class Catalogue(NamedTuple):
    """All captures that are known, and the origins they name."""

    captures: list[Capture]
    origins: list[Origin]

    def named(self, name: str) -> Capture:
        """Return the capture of a name; raises CaptureError with the closest one."""
        for capture in self.captures:
            if capture.name == name:
                return capture
        suggestion = hint(name, [capture.name for capture in self.captures])
        raise CaptureError(f"no capture is named {name!r}{suggestion}")

    def by_sha256(self) -> dict[str, Capture]:
        """Return the captures by their sha256."""
        return {capture.sha256: capture for capture in self.captures}


def load(local: bool = True) -> Catalogue:
    """Return the committed catalogue, the samples' and (unless local is False) the user's.

    Raises CaptureError with every problem of the tables, one a line; see `check` for the rest.
    """
    catalogue, problems = gather(homes(local))
    if problems:
        raise CaptureError("\n".join(problems))
    return catalogue


def gather(places: list[Home]) -> tuple[Catalogue, list[str]]:
    """Return the catalogue of the valid tables of some homes, and the problems of the others."""
    captures: list[Capture] = []
    origins: list[Origin] = []
    problems: list[str] = []
    for home in places:
        if home.name != "committed" and not home.catalogue.exists():
            continue
        table, wrong = try_table(home.catalogue, CatalogueFile)
        problems += wrong
        if table is not None:
            mine = home.name == "local"
            captures += [one.model_copy(update={"added": mine}) for one in table.captures]
            origins += table.origins
    return Catalogue(captures, origins), problems


def write_catalogue(path: Path, catalogue: Catalogue) -> None:
    """Write a catalogue file; keys that equal their default are left out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = [block("origin", one.model_dump(exclude_defaults=True)) for one in catalogue.origins]
    for one in catalogue.captures:
        table = one.model_dump(exclude_defaults=True, exclude={"sources", "added"})
        table |= {"sources": [source.model_dump(exclude_defaults=True) for source in one.sources]}
        parts.append(block("capture", table))
    path.write_text("\n".join(parts), encoding="utf-8")


# ---- check


def check(local: bool = True) -> list[str]:
    """Return every problem of the catalogue, its labels and its calls; [] where all is sound."""
    places = homes(local)
    catalogue, problems = gather(places)
    problems += duplicate_problems(catalogue.captures)
    problems += reference_problems(catalogue)
    problems += group_problems(catalogue.captures)
    problems += address_problems(catalogue)
    for home in places:
        problems += home_problems(home, catalogue)
    return problems


def duplicate_problems(captures: list[Capture]) -> Iterator[str]:
    """Yield names, sums and sum prefixes (the names of label files) that occur twice."""
    names: dict[str, Capture] = {}
    sums: dict[str, Capture] = {}
    for one in captures:
        if one.name in names:
            yield f"capture {one.name}: the name stands twice; names must be unique"
        names.setdefault(one.name, one)
        other = sums.setdefault(one.sha256[:16], one)
        if other is not one:
            same = "sha256" if other.sha256 == one.sha256 else "first 16 digits of the sha256"
            yield f"capture {one.name}: has the same {same} as capture {other.name}"


def reference_problems(catalogue: Catalogue) -> Iterator[str]:
    """Yield unknown origins, captures without a source, and copies of unknown captures."""
    origins = {origin.name: origin for origin in catalogue.origins}
    names = {capture.name: capture for capture in catalogue.captures}
    for one in catalogue.captures:
        for source in one.sources:
            if source.origin not in origins:
                suggestion = hint(source.origin, list(origins))
                yield f"capture {one.name}: unknown origin {source.origin!r}{suggestion}"
            elif origins[source.origin].kind == "history" and not source.blob:
                yield f"capture {one.name}: a source of {source.origin} needs its blob id"
        if not one.sources and not (one.ours or one.added):
            yield f"capture {one.name}: has no source; say where it can be had"
        if one.copy_of and one.copy_of not in names:
            yield f"capture {one.name}: is a copy of {one.copy_of!r}, which is not catalogued"
        elif one.copy_of and names[one.copy_of].group != one.group:
            yield f"capture {one.name}: is a copy of {one.copy_of} but of another group"
        if one.other_end:
            other = names.get(one.other_end)
            if other is None:
                yield f"capture {one.name}: its other end {one.other_end!r} is not catalogued"
            elif other.other_end != one.name or other.group != one.group:
                yield f"capture {one.name}: {one.other_end} does not name it as its other end"


def group_problems(captures: list[Capture]) -> Iterator[str]:
    """Yield groups that span synthetic, recorded and other captures: a split could mix them."""
    groups: dict[str, list[Capture]] = defaultdict(list)
    for one in captures:
        groups[one.group].append(one)
    for group, members in groups.items():
        if len({(one.synthetic, one.recorded) for one in members}) > 1:
            names = ", ".join(one.name for one in members)
            kinds = (
                "recorded and other"
                if any(one.recorded for one in members)
                else "synthetic and real"
            )
            yield f"group {group}: spans {kinds} captures: {names}"


IPV4 = re.compile(r"(?<![\d.])\d{1,3}(?:\.\d{1,3}){3}(?![\d.])")
IPV6 = re.compile(r"(?<![\w:])(?:[0-9a-fA-F]{1,4}:){2,7}(?:[0-9a-fA-F]{1,4}|:)(?![\w:])|\w::\w")
MAC = re.compile(r"(?<!\w)[0-9a-fA-F]{2}(?:[:-][0-9a-fA-F]{2}){5}(?!\w)")
MAIL = re.compile(r"[\w.+-]+@[\w-]+\.\w|\bsips?:|\btel:", re.I)
PHONE = re.compile(r"(?<![\w.])\+?\d{9,15}(?![\w.])")


def addresses_in(text: str) -> list[str]:
    """Return the parts of a text that look like an address or number of a third party."""
    return [hit.group() for rule in (IPV4, IPV6, MAC, MAIL, PHONE) for hit in rule.finditer(text)]


def address_problems(catalogue: Catalogue) -> Iterator[str]:
    """Yield committed notes that hold addresses (what a user adds stays on the user's machine)."""
    for one in catalogue.captures:
        if not one.added and addresses_in(f"{one.notes} {one.content}"):
            yield f"capture {one.name}: its notes hold an address; leave it out"


def home_problems(home: Home, catalogue: Catalogue) -> Iterator[str]:
    """Yield the problems of one home's labels and calls."""
    by_stem = {one.sha256[:16]: one for one in catalogue.captures}
    truth: dict[str, list[Label]] = {}
    for path in sorted(home.labels.glob("*")):
        capture = by_stem.get(path.stem)
        if capture is None or path.suffix != ".csv":
            yield f"{shown(path)}: labels of no catalogued capture"
            continue
        truth[capture.sha256], wrong = try_labels(path)
        yield from wrong
        yield from label_problems(path, capture, truth[capture.sha256])
    described: dict[str, CallFile] = {}
    for path in call_files(home):
        call_file, wrong = try_calls(path)
        yield from wrong
        if call_file is not None:
            described[call_file.sha256] = call_file
            yield from call_file_problems(path, call_file, catalogue, truth.get(call_file.sha256))
    yield from omissions(home, catalogue, truth, described)


def home_name(capture: Capture) -> str:
    """Return the name of the home that holds a capture's table."""
    if capture.added:
        return "local"
    return "samples" if capture.synthetic else "recorded" if capture.recorded else "committed"


def label_problems(path: Path, capture: Capture, rows: list[Label]) -> Iterator[str]:
    """Yield labels that do not fit their capture."""
    where = shown(path)
    for row in rows:
        if row.frame > capture.packets:
            yield f"{where}: frame {row.frame}: {capture.name} has {capture.packets} packets"
        if addresses_in(row.evidence):
            yield f"{where}: frame {row.frame}: its evidence holds an address; leave it out"
    total = sum(row.packets for row in rows)
    if total > capture.packets:
        yield f"{where}: labels {total} packets, {capture.name} has {capture.packets}"
    media = any(row.role == "media" for row in rows)
    if media != capture.media:
        has = "media flows are" if media else "no media flow is"
        yield f"capture {capture.name}: media is {toml_bool(capture.media)}, but {has} labelled"
    scored = [row for row in rows if row.scored and row.role in CALL_ROLES and row.app != "none"]
    if scored and capture.role == "innocent":
        yield f"capture {capture.name}: is innocent, but frame {scored[0].frame} is of a call"


def toml_bool(value: bool) -> str:
    """Return a boolean as the catalogue writes it."""
    return "true" if value else "false"


def call_file_problems(
    path: Path, call_file: CallFile, catalogue: Catalogue, rows: list[Label] | None
) -> Iterator[str]:
    """Yield contradictions between a call file and the catalogue or the labels."""
    where = shown(path)
    capture = catalogue.by_sha256().get(call_file.sha256)
    if capture is None:
        yield f"{where}: calls of no catalogued capture: {call_file.sha256}"
        return
    if capture.name != call_file.capture or path.stem != call_file.capture:
        yield f"{where}: names the capture {call_file.capture}, but its sha256 is {capture.name}'s"
    if capture.role == "innocent":
        yield f"{where}: {capture.name} is innocent, expected a call capture"
    ids = [call.id for call in call_file.calls]
    for twice in sorted({one for one in ids if ids.count(one) > 1}):
        yield f"{where}: call {twice} stands twice"
    known = {row.frame: row for row in rows or []}
    for call in call_file.calls:
        flows = {("media", frame) for frame in call.media}
        flows |= {("setup", frame) for frame in call.setup}
        flows |= {("control", frame) for frame in call.control}
        for role, frame in sorted(flows):
            label = known.get(frame)
            if label is None:
                yield f"{where}: call {call.id}: {role} flow {frame} has no label"
            elif label.role != role or label.call != call.id:
                got = f"{label.role} of {label.call or 'no call'}"
                yield f"{where}: call {call.id}: {role} flow {frame} is labelled {got}"
        for frame in call.signalling:
            if frame not in known:
                yield f"{where}: call {call.id}: signalling flow {frame} has no label"
        for gate in call.gates:
            if any(frame > capture.packets for pair in gate.pairs for frame in pair):
                yield (
                    f"{where}: call {call.id}: gate {gate.flow}: a frame is beyond the "
                    f"{capture.packets} of the capture"
                )


def omissions(
    home: Home,
    catalogue: Catalogue,
    truth: dict[str, list[Label]],
    described: dict[str, CallFile],
) -> Iterator[str]:
    """Yield call captures of a home without labels, and labelled calls without a description."""
    for one in catalogue.captures:
        if home_name(one) != home.name:
            continue
        rows = truth.get(one.sha256, [])
        if one.role == "call" and not rows and not one.added:
            expected = shown(label_file(home, one.sha256))
            yield f"capture {one.name}: has no labels; expected {expected}"
        ids = {row.call for row in rows if row.call and row.role in CALL_ROLES and row.scored}
        call_file = described.get(one.sha256)
        for lost in sorted(ids - {call.id for call in call_file.calls} if call_file else ids):
            yield f"capture {one.name}: call {lost} is labelled but not described in calls/"
