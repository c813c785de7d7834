# SPDX-License-Identifier: BSD-3-Clause
"""The folders of runs: list them, find one, read its summary, remove old ones."""

from __future__ import annotations

import datetime
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from midcall.errors import ExperimentError
from midcall.experiments.results.tables import Document
from midcall.suggestions import hint

#: A run's folder has at least this, written first; the summary comes last.
MARK, LAST = "spec.toml", "summary.json"
#: The name that points at the newest run.
LATEST = "latest"


class Entry(NamedTuple):
    """One run: its folder, spec, when it was made (UTC), whether it was finished, its size."""

    folder: Path
    spec: str
    made: str
    finished: bool
    bytes: int

    @property
    def row(self) -> dict[str, object]:
        """Return the run as plain values."""
        return {**self._asdict(), "folder": str(self.folder), "name": self.folder.name}


def is_run(folder: Path) -> bool:
    """Return whether a folder was made by a run."""
    return folder.is_dir() and not folder.is_symlink() and (folder / MARK).is_file()


def entry(folder: Path) -> Entry:
    """Return the spec, time and size of a run from its folder."""
    stamp, _, rest = folder.name.partition("-")
    spec = rest.rpartition("-")[0] or rest
    try:
        made = datetime.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").strftime("%Y-%m-%d %H:%M:%S")
    except ValueError:
        made = ""
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return Entry(folder, spec, made, (folder / LAST).is_file(), size)


def listed(runs: Path) -> list[Entry]:
    """Return the runs of a folder, oldest first; [] where the folder is not there."""
    if not runs.is_dir():
        return []
    return [entry(path) for path in sorted(runs.iterdir()) if is_run(path)]


def find(runs: Path, name: str) -> Path:
    """Return a run's folder by its path, its name, or the beginning of its name.

    Raises ExperimentError where none fits, with the closest, or where several do.
    """
    for path in (Path(name), runs / name):
        if is_run(path.resolve()):
            return path.resolve()
    names = [one.folder.name for one in listed(runs)]
    matches = [one for one in names if one.startswith(name)]
    if len(matches) == 1:
        return runs / matches[0]
    if matches:
        raise ExperimentError(
            f"{name!r} begins {len(matches)} runs of {runs}: {', '.join(matches)}"
        )
    raise ExperimentError(f"no run {name!r} in {runs}: {hint(name, names)}; midcall runs list")


def summary(folder: Path) -> Document:
    """Return a run's summary; raises ExperimentError where it has none or is damaged."""
    path = folder / LAST
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ExperimentError(
            f"{folder}: the run did not finish (no {LAST}); run its spec again, "
            "what is finished is kept"
        ) from None
    except (OSError, ValueError) as error:
        raise ExperimentError(f"{path}: cannot be read: {error}") from None
    if not isinstance(document, dict):
        raise ExperimentError(f"{path}: expected an object, got {type(document).__name__}")
    return document


def spare(runs: Path, keep: int) -> list[Entry]:
    """Return the runs that `clean` removes: all but the newest `keep` of each spec."""
    newest: dict[str, list[Entry]] = {}
    for one in listed(runs):
        newest.setdefault(one.spec, []).append(one)
    kept = {one.folder for group in newest.values() for one in group[len(group) - keep :]}
    if keep == 0:
        kept = set()
    return [one for one in listed(runs) if one.folder not in kept]


def remove(entries: Sequence[Entry]) -> int:
    """Remove runs' folders, and the link `latest` where its target is removed.

    Returns the bytes freed. Anything else in a folder of runs is left alone.
    """
    for one in entries:
        shutil.rmtree(one.folder)
        pointer = one.folder.parent / LATEST
        if pointer.is_symlink() and not pointer.exists():
            pointer.unlink()
    return sum(one.bytes for one in entries)


def lines(entries: Sequence[Entry]) -> list[str]:
    """Return a table of runs for a terminal."""
    if not entries:
        return ["no runs; midcall run morocco-2016 makes one"]
    width = max(len(one.folder.name) for one in entries)
    return [
        f"{one.folder.name:<{width}}  {one.made}  {one.bytes / 1e6:7.1f} MB  "
        f"{'finished' if one.finished else 'not finished'}"
        for one in entries
    ]
