# SPDX-License-Identifier: BSD-3-Clause
"""One capture for programs: its packets, its truth, its licence and source; and the list of them.

`midcall.captures()` gives these (docs/howto/import.md). Nothing is read before it is asked for.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from midcall.captures.fetch.fetch import Obtained, called, obtain
from midcall.captures.truth import calls as call_truth
from midcall.captures.truth import labels as label_truth
from midcall.captures.truth.calls import Call
from midcall.captures.truth.catalogue import Capture, Catalogue, Origin, home_name, load
from midcall.captures.truth.labels import Label
from midcall.errors import CaptureError

if TYPE_CHECKING:
    from midcall.captures.packets.pcap import Packets

#: Who made a capture: other people, a program of this project, real programs in the lab, the user.
Kind = Literal["catalogued", "sample", "recorded", "own"]
KINDS: dict[str, Kind] = {
    "committed": "catalogued",
    "samples": "sample",
    "recorded": "recorded",
    "local": "own",
}


@dataclass(frozen=True)
class CaptureItem:
    """One capture. `path` is None where its file is not on this machine; `missing` says why.

    truth: what the catalogue says of the capture (app, role, kind, media, year, access, group,
    changed, copy_of; see midcall.captures.truth.catalogue.Capture).
    """

    truth: Capture
    path: Path | None
    missing: str
    origins: tuple[Origin, ...]

    @property
    def name(self) -> str:
        """Return the name of the capture in the catalogue."""
        return self.truth.name

    @property
    def sha256(self) -> str:
        """Return the SHA-256 sum of the file, in hex."""
        return self.truth.sha256

    @property
    def kind(self) -> Kind:
        """Return who made the capture: catalogued, sample, recorded or own."""
        return KINDS[home_name(self.truth)]

    @property
    def real(self) -> bool:
        """Return whether real people's programs made the packets outside of this lab."""
        return not self.truth.ours

    @property
    def licence(self) -> str:
        """Return the licence of the capture, as the catalogue states it."""
        return self.truth.licence

    @property
    def sources(self) -> list[str]:
        """Return where the capture can be had: repository, commit or blob, and path."""
        named = {one.name: one for one in self.origins}
        return [
            place(named[one.origin], one.path, one.blob)
            for one in self.truth.sources
            if one.origin in named
        ]

    @property
    def citation(self) -> str:
        """Return one line that names the file, its sum, its source and its licence."""
        made = {"sample": "made by Midcall", "recorded": "recorded with Midcall", "own": "own"}
        source = "; ".join(self.sources) or made.get(self.kind, "source unknown")
        return f"{self.truth.file}, sha256 {self.sha256}, {source}, licence: {self.licence}"

    @cached_property
    def packets(self) -> Packets:
        """Read the packets of the capture. Raises CaptureError where the file is not here.

        data: uint8[m], the bytes of all packets; offset, captured, wire: int64[n], in bytes; time:
        int64[n], ns since 1970-01-01 00:00 UTC; link: int64[n], LINKTYPE numbers. Packet i is
        `data[offset[i] : offset[i] + captured[i]]`, or `frame(i)` as bytes; `wire` is its length on
        the wire; `total` is n.
        """
        from midcall.captures.packets.pcap import read

        if self.path is None:
            raise CaptureError(
                f"capture {self.name}: is not on this machine: {self.missing}; get it with "
                "`midcall captures fetch`, or set MIDCALL_CORPUS to a folder of captures"
            )
        return read(self.path)

    @cached_property
    def flows(self) -> list[Label]:
        """Return the truth of each flow, in order of first packet; [] where only calls are known.

        A label has `frame` (the flow's first packet, from 1), `proto`, `packets`, `app`, `role`,
        `call` (an id of `calls`, or ""), `confidence` (high, medium, low) and `evidence`.
        """
        return label_truth.labels(self.sha256)

    @cached_property
    def calls(self) -> list[Call]:
        """Return the calls of the capture: app, kind, and the first packets of their flows."""
        return call_truth.calls(self.sha256)

    def __repr__(self) -> str:
        where = str(self.path) if self.path is not None else "not here"
        return f"<capture {self.name}: {self.truth.role}, {self.truth.app}, {where}>"


def place(origin: Origin, path: str, blob: str) -> str:
    """Return a source in words: its origin, version and path."""
    version = blob or origin.commit
    at = f" at {version[:12]}" if version else ""
    home = origin.repository or called(origin)
    return f"{home}{at}: {path}" if origin.kind != "none" else f"{path} ({origin.note})"


def items(
    name: str | Iterable[str] | None = None,
    app: str | Iterable[str] | None = None,
    role: str | None = None,
    kind: str | Iterable[str] | None = None,
    real_only: bool = False,
    missing: bool = False,
    corpus: str | os.PathLike[str] | None = None,
    fetch: bool = False,
) -> list[CaptureItem]:
    """Return the captures that pass every filter, sorted by name; see `midcall.captures`."""
    catalogue = load()
    names = words(name)
    for one in names or []:
        if not any(letter in one for letter in "*?["):
            catalogue.named(one)
    chosen = [
        one
        for one in catalogue.captures
        if (names is None or any(fnmatch.fnmatchcase(one.name, pattern) for pattern in names))
        and passes(one.app, app)
        and passes(one.role, role)
        and passes(KINDS[home_name(one)], kind)
        and not (real_only and one.ours)
    ]
    obtained = obtain(Catalogue(chosen, catalogue.origins), corpus=corpus, offline=not fetch)
    found = [item(one, obtained, catalogue) for one in sorted(chosen, key=lambda one: one.name)]
    return [one for one in found if missing or one.path is not None]


def item(capture: Capture, obtained: Obtained, catalogue: Catalogue) -> CaptureItem:
    """Return one capture, with its file if that is here."""
    named = {one.origin for one in capture.sources}
    return CaptureItem(
        capture,
        obtained.paths.get(capture.sha256),
        obtained.missing.get(capture.sha256, ""),
        tuple(one for one in catalogue.origins if one.name in named),
    )


def words(given: str | Iterable[str] | None) -> list[str] | None:
    """Return a filter as a list of words, None for no filter."""
    return None if given is None else [given] if isinstance(given, str) else list(given)


def passes(value: str, given: str | Iterable[str] | None) -> bool:
    """Return whether a value is among the words of a filter."""
    wanted = words(given)
    return wanted is None or value in wanted
