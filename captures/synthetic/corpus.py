# SPDX-License-Identifier: GPL-2.0-or-later
"""Write the samples, their labels, their calls and their catalogue."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Sequence
from pathlib import Path

from midcall.captures.packets.writer import write_pcap, write_pcapng
from midcall.captures.synthetic.samples import RECIPES, Recipe
from midcall.captures.synthetic.scene import Crafted
from midcall.captures.truth.calls import CallFile, write_calls
from midcall.captures.truth.catalogue import Capture, Catalogue, write_catalogue
from midcall.captures.truth.labels import label_file, write_labels
from midcall.captures.truth.paths import Home, samples


def write_sample(home: Home, recipe: Recipe) -> Capture:
    """Write one sample and its truth into a home; return its row of the catalogue."""
    crafted = recipe.craft()
    path = home.folder / recipe.file
    write = write_pcapng if recipe.suffix == "pcapng" else write_pcap
    write(path, crafted.packets)
    content = path.read_bytes()
    row = entry(recipe, crafted, hashlib.sha256(content).hexdigest(), len(content))
    write_labels(label_file(home, row.sha256), crafted.labels)
    if crafted.calls:
        call_file = CallFile(capture=row.name, sha256=row.sha256, calls=crafted.calls)
        write_calls(home.calls / f"{row.name}.toml", call_file)
    return row


def entry(recipe: Recipe, crafted: Crafted, sha256: str, size: int) -> Capture:
    """Return a sample's row of the catalogue."""
    return Capture(
        name=recipe.name,
        file=recipe.file,
        sha256=sha256,
        bytes=size,
        packets=crafted.packets.total,
        role="call" if crafted.calls else "innocent",
        app=recipe.app,
        kind=recipe.kind,
        media=any(label.role == "media" for label in crafted.labels),
        year=recipe.year,
        access=recipe.access,
        group=recipe.name,
        licence="CC0-1.0",
        content=recipe.content,
        synthetic=True,
        changed=["addresses"],
        notes=recipe.notes,
    )


def write(home: Home, recipes: Sequence[Recipe] = RECIPES) -> list[Capture]:
    """Write samples into a home after deleting its labels and calls; return their rows."""
    home.folder.mkdir(parents=True, exist_ok=True)
    for folder in (home.labels, home.calls):
        shutil.rmtree(folder, ignore_errors=True)
    rows = [write_sample(home, recipe) for recipe in recipes]
    write_catalogue(home.catalogue, Catalogue(rows, []))
    return rows


def at(folder: Path) -> Home:
    """Return a home of samples in a folder."""
    return Home("samples", folder, folder)


def main() -> None:
    """Regenerate the committed samples and print their catalogue."""
    rows = write(samples())
    for row in rows:
        print(f"{row.sha256[:16]}  {row.bytes:7d} bytes  {row.packets:5d} packets  {row.file}")
    print(f"{len(rows)} samples, {sum(row.bytes for row in rows)} bytes")
