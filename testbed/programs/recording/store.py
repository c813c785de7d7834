# SPDX-License-Identifier: BSD-3-Clause
"""Store recordings in a home: each capture with its catalogue row, labels and call.

A recording replaces an earlier one of the same name.
"""

from __future__ import annotations

from pathlib import Path

from midcall.captures.packets.writer import write_pcapng
from midcall.captures.truth.calls import CallFile, write_calls
from midcall.captures.truth.catalogue import Capture, Catalogue, CatalogueFile, write_catalogue
from midcall.captures.truth.labels import label_file, write_labels
from midcall.captures.truth.paths import Home
from midcall.captures.truth.strict_toml import read_table
from midcall.errors import TestbedError
from midcall.testbed.programs.recording.recorder import CALLER_TAP, Recording, entry


def rows(home: Home) -> list[Capture]:
    """Return the catalogue rows of a home; raises CaptureError."""
    if not home.catalogue.exists():
        return []
    return list(read_table(home.catalogue, CatalogueFile).captures)


def keep(home: Home, one: Recording) -> Capture:
    """Write a recording into a home and return its row of the catalogue."""
    folder = home.files or home.folder
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{one.scene.name}.pcapng"
    others = [row for row in rows(home) if not (row.name == one.scene.name and replaced(home, row))]
    write_pcapng(path, one.taps[CALLER_TAP])
    row = entry(one, path)
    write_labels(label_file(home, row.sha256), one.labels)
    if one.call is not None:
        file = CallFile(capture=row.name, sha256=row.sha256, calls=[one.call])
        write_calls(home.calls / f"{row.name}.toml", file)
    ordered = sorted([*others, row], key=lambda each: each.name)
    write_catalogue(home.catalogue, Catalogue(ordered, []))
    return row


def replaced(home: Home, row: Capture) -> bool:
    """Remove the files of a capture that is recorded again; returns True.

    Raises TestbedError where the capture of that name is not a recording.
    """
    if not row.recorded:
        raise TestbedError(f"{row.name}: a capture of that name is there and was not recorded here")
    folder = home.files or home.folder
    for path in (
        folder / row.file,
        label_file(home, row.sha256),
        home.calls / f"{row.name}.toml",
    ):
        path.unlink(missing_ok=True)
    return True


def at(folder: Path) -> Home:
    """Return a home of recordings in a folder."""
    return Home("recorded", folder, folder)
