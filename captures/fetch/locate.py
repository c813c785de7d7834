# SPDX-License-Identifier: BSD-3-Clause
"""The capture that a word of a command names: a path, a path in the corpus folder, or a name."""

from __future__ import annotations

import os
from pathlib import Path

from midcall.captures.fetch.fetch import corpus_folders, obtain, sum_of
from midcall.captures.packets.names import printable
from midcall.captures.truth import catalogue as catalogues
from midcall.captures.truth.catalogue import Capture
from midcall.errors import CaptureError
from midcall.suggestions import closest


def locate(words: str, corpus: str | os.PathLike[str] | None = None, folders: bool = False) -> Path:
    """Return the path of the capture that some words name.

    Tried in order: a path; a path relative to the corpus folder (`corpus`, or else MIDCALL_CORPUS);
    a name of the catalogue, whose file is taken from this machine (`obtain`). folders: a folder
    stands for the captures in it; otherwise a name of the catalogue goes before a folder. Raises
    CaptureError where nothing has these words, where the capture of a name is not on this machine,
    and where `corpus` is not a folder.
    """
    if corpus is not None and not Path(corpus).is_dir():
        raise CaptureError(f"{corpus}: no such folder, expected one that holds captures")
    paths = [Path(words), *(folder / words for folder, _ in corpus_folders(corpus))]
    there = [path for path in paths if path.exists()]
    files = [path for path in there if folders or not path.is_dir()]
    if files:
        return files[0]
    known = catalogues.load()
    entry = next((one for one in known.captures if one.name == words), None)
    if entry is not None:
        obtained = obtain(known._replace(captures=[entry]), corpus=corpus, offline=True)
        if entry.sha256 in obtained.paths:
            return Path(obtained.paths[entry.sha256])
        raise CaptureError(
            f"capture {words}: is not on this machine; get it with `midcall captures fetch`, or "
            "give a folder of captures with --corpus"
        )
    if there:
        return there[0]
    raise CaptureError(unknown(words, [one.name for one in known.captures]))


def unknown(words: str, names: list[str]) -> str:
    """Return the sentence that no file and no capture of the catalogue has some words.

    names: those of the catalogue; the sentence has the closest ones. An absolute path is no name.
    """
    sentence = f"{printable(words)}: no such file"
    if os.path.isabs(words):
        return sentence
    alike = closest(Path(words).stem, names)
    meant = f"; did you mean {', '.join(alike)}?" if alike else ";"
    return (
        f"{sentence}, and the catalogue has no such name{meant} `midcall captures list` lists all "
        "names"
    )


def locate_capture(
    words: str, corpus: str | os.PathLike[str] | None = None
) -> tuple[Path, Capture | None]:
    """Return the file of the capture that some words name (see `locate`), and its entry in the
    catalogue, found by its content. Raises CaptureError."""
    path = locate(words, corpus)
    if not path.is_file():
        raise CaptureError(f"{printable(words)}: is a folder or a pipe, expected a capture file")
    return path, catalogues.load().by_sha256().get(sum_of(path))


def catalogued(words: str, corpus: str | os.PathLike[str] | None = None) -> Capture:
    """Return the entry of the catalogue for a name, or for a file that `locate` finds. Raises
    CaptureError."""
    entry = next((one for one in catalogues.load().captures if one.name == words), None)
    if entry is None:
        entry = locate_capture(words, corpus)[1]
    if entry is None:
        raise CaptureError(
            f"{printable(words)}: is not in the catalogue; `midcall captures add` adds a capture"
        )
    return entry
