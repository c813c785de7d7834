# SPDX-License-Identifier: BSD-3-Clause
"""Obtain catalogued captures from the nearest source that has them.

Tried in order: the user's own and the project's committed captures; a corpus folder (argument or
MIDCALL_CORPUS); the cache; Debian source packages; pinned Git archives and files; Git histories. A
file is identified by its sha256, not its name. Captures that cannot be obtained are listed with the
reason; they are not an error.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from midcall.captures.fetch.archives import ArchiveError, search
from midcall.captures.fetch.debian import DebianError, tarballs
from midcall.captures.fetch.download import DownloadError, download
from midcall.captures.fetch.git_blob import HistoryError, fetch_blob, fetch_file
from midcall.captures.fetch.stall_guard import Progress
from midcall.captures.truth.catalogue import Capture, Catalogue, Origin, Source, home_name
from midcall.captures.truth.paths import Home, local, recorded, samples, shown
from midcall.errors import CaptureError

CORPUS = "MIDCALL_CORPUS"

#: Seconds for which a failure is remembered, so that a run without a network starts at once.
REMEMBERED_S = {"unreachable": 3600.0, "lacking": 86400.0}

#: Up to this many files of one repository are fetched one by one instead of with its archive.
FEW = 8


class Obtained(NamedTuple):
    """The result of `obtain`.

    paths: sha256 -> file; missing: sha256 -> why it could not be obtained; origins: sha256 -> its
    source ("added", "sample", "folder", "cache", or an origin's name); notices: sentences for the
    user.
    """

    paths: dict[str, Path]
    missing: dict[str, str]
    origins: dict[str, str]
    notices: list[str]


class Unavailable(Exception):
    """Why an origin provides nothing; kind: how long that is remembered ("": not at all)."""

    def __init__(self, reason: str, kind: str = "") -> None:
        super().__init__(reason)
        self.kind = kind


def kind_of(unreachable: bool) -> str:
    """Return the kind of a failure, a key of REMEMBERED_S."""
    return "unreachable" if unreachable else "lacking"


def quiet(_what: str, _done: int, _total: int | None) -> None:
    """Ignore the progress."""


def obtain(
    catalogue: Catalogue,
    corpus: str | os.PathLike[str] | None = None,
    cache: str | os.PathLike[str] | None = None,
    progress: Progress | None = None,
    offline: bool = False,
    retry: bool = False,
) -> Obtained:
    """Return the paths of the catalogue's captures on this machine, after fetching missing ones.

    corpus: a folder of captures, searched first; cache: a folder instead of the user's cache;
    progress: called with the name of what is fetched, bytes so far and bytes in total (None:
    unknown); offline: use no network; retry: try origins again that failed recently. Raises
    CaptureError only if `corpus` is not a folder.
    """
    search_ = Search(catalogue, cache_folder(cache), progress or quiet)
    search_.own(local(), "added")
    search_.own(samples(), "sample")
    search_.own(recorded(), "recorded")
    for folder, asked in corpus_folders(corpus):
        search_.folder(folder, asked)
    search_.cached()
    if search_.lacking() and not offline:
        try:
            with search_.alone():
                search_.cached()
                search_.fetch(retry)
        except OSError as error:
            what = f"{search_.cache}: cannot be written: {error.strerror}"
            search_.notices.append(f"{what}; nothing more is fetched")
    search_.hashes.save()
    return search_.outcome(offline)


def corpus_folders(corpus: str | os.PathLike[str] | None) -> Iterator[tuple[Path, bool]]:
    """Yield the corpus folder, and whether it was given as an argument."""
    if corpus is not None:
        yield Path(corpus), True
    elif os.environ.get(CORPUS):
        yield Path(os.environ[CORPUS]), False


def cache_folder(cache: str | os.PathLike[str] | None = None) -> Path:
    """Return the folder of obtained captures, by the XDG rules."""
    if cache is not None:
        return Path(cache)
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home) / "midcall" / "captures"


class Search:
    """One search for the captures of a catalogue."""

    def __init__(self, catalogue: Catalogue, cache: Path, progress: Progress) -> None:
        self.catalogue = catalogue
        self.cache = cache
        self.progress = progress
        self.paths: dict[str, Path] = {}
        self.origins: dict[str, str] = {}
        self.reasons: dict[str, list[str]] = {}
        self.notices: list[str] = []
        self.hashes = Hashes(cache / "hashes.json")
        with contextlib.suppress(OSError):
            cache.mkdir(parents=True, exist_ok=True)

    def lacking(self) -> list[Capture]:
        """Return the captures without a path yet."""
        return [one for one in self.catalogue.captures if one.sha256 not in self.paths]

    def record_path(self, sha256: str, path: Path, origin: str) -> None:
        """Store the path of a capture and its source."""
        self.paths[sha256] = path
        self.origins[sha256] = origin

    def complain(self, sha256: str, reason: str) -> None:
        """Add a reason why a capture could not be obtained."""
        self.reasons.setdefault(sha256, []).append(reason)

    # ---- places on this machine

    def own(self, home: Home, origin: str) -> None:
        """Look for captures in the folder of a home."""
        if home.files is None:
            return
        for one in self.lacking():
            if home_name(one) != home.name:
                continue
            path = home.files / one.file
            if not path.is_file():
                self.complain(one.sha256, f"{shown(path)} is not there")
                continue
            sha256 = self.hashes.of(path)
            if sha256 == one.sha256:
                self.record_path(sha256, path, origin)
            else:
                reason = f"{shown(path)} was changed: its sha256 is {sha256}, expected {one.sha256}"
                self.complain(one.sha256, reason)

    def folder(self, folder: Path, asked: bool) -> None:
        """Look for captures in a folder by content, whatever the names of its files.

        Raises CaptureError if the folder was given as an argument and does not exist.
        """
        if not folder.is_dir():
            what = f"{folder}: no such folder, expected one that holds captures"
            if asked:
                raise CaptureError(what)
            self.notices.append(f"{CORPUS}: {what}; it is passed over")
            return
        sizes = {one.bytes for one in self.lacking()}
        wanted = {one.sha256 for one in self.lacking()}
        for path in files_under(folder):
            with contextlib.suppress(OSError):
                if path.stat().st_size in sizes:
                    sha256 = self.hashes.of(path)
                    if sha256 in wanted and sha256 not in self.paths:
                        self.record_path(sha256, path, "folder")
        for one in self.lacking():
            self.complain(one.sha256, f"it is not in {folder}")

    def cached(self) -> None:
        """Look for captures in the cache; changed files are deleted."""
        for one in self.lacking():
            path = self.cache / one.sha256
            if not path.is_file():
                continue
            if self.hashes.of(path) == one.sha256:
                self.record_path(one.sha256, path, "cache")
            else:
                path.unlink(missing_ok=True)
                self.notices.append(f"{path}: was changed; it is fetched anew")

    def keep(self, sha256: str, content: bytes, origin: str) -> None:
        """Write a capture to the cache."""
        path = self.cache / sha256
        with tempfile.NamedTemporaryFile(dir=self.cache, delete=False) as out:
            out.write(content)
        os.replace(out.name, path)
        self.record_path(sha256, path, origin)

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Hold the cache's lock, so that two runs do not fetch the same files."""
        with open(self.cache / "lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    # ---- places on the network

    def fetch(self, retry: bool) -> None:
        """Fetch missing captures from their origins, the nearest kind first."""
        failures = Failures(self.cache / "failures.json", retry)
        dead: dict[str, str] = {}
        with tempfile.TemporaryDirectory(prefix="midcall-apt-") as workspace:
            for kind in ("debian", "archive", "git", "history"):
                for origin in self.catalogue.origins:
                    wanted = self.wanted_of(origin) if origin.kind == kind else []
                    if not wanted:
                        continue
                    place = origin.repository.split("/")[2:3] or [origin.kind]
                    try:
                        if place[0] in dead:
                            raise Unavailable(dead[place[0]], "unreachable")
                        if earlier := failures.remembered(origin.name):
                            raise Unavailable(earlier)
                        self.ask(origin, wanted, Path(workspace))
                    except Unavailable as error:
                        if error.kind == "unreachable":
                            dead[place[0]] = str(error)
                        if error.kind:
                            failures.note(origin.name, error.kind, str(error))
                        for one, _ in wanted:
                            if one.sha256 not in self.paths:
                                self.complain(one.sha256, f"{called(origin)}: {error}")
        failures.save()

    def wanted_of(self, origin: Origin) -> list[tuple[Capture, Source]]:
        """Return the missing captures that name an origin as their source."""
        return [
            (one, source)
            for one in self.lacking()
            for source in one.sources
            if source.origin == origin.name
        ]

    def ask(self, origin: Origin, wanted: list[tuple[Capture, Source]], workspace: Path) -> None:
        """Fetch captures from one origin; raises Unavailable if it does not have them all."""
        if origin.kind == "debian":
            self.ask_debian(origin, workspace)
        elif origin.kind in ("git", "history"):
            self.ask_git(origin, wanted)
        elif len(wanted) <= FEW:
            self.ask_files(origin, wanted)
        else:
            self.ask_archive(origin)
        lost = [one.name for one, _ in wanted if one.sha256 not in self.paths]
        if lost:
            raise Unavailable(f"it holds other versions of {', '.join(lost)}", "lacking")

    def ask_debian(self, origin: Origin, workspace: Path) -> None:
        """Fetch a Debian source package and search its tarballs."""
        target = self.cache / "downloads" / origin.name

        def tell(size: int) -> None:
            self.progress(called(origin), size, None)

        try:
            for path in tarballs(origin.package, workspace, target, tell):
                self.search_archive(path, origin)
        except DebianError as error:
            raise Unavailable(str(error), kind_of(error.unreachable)) from None
        shutil.rmtree(target, ignore_errors=True)

    def ask_archive(self, origin: Origin) -> None:
        """Fetch the archive of a repository at its pinned commit and search it."""
        url = f"{origin.repository}/archive/{origin.commit}.tar.gz"
        target = self.cache / "downloads" / f"{origin.name}-{origin.commit[:12]}.tar.gz"
        if not target.exists():
            self.download(origin, url, target)
        self.search_archive(target, origin)
        target.unlink(missing_ok=True)

    def ask_files(self, origin: Origin, wanted: list[tuple[Capture, Source]]) -> None:
        """Fetch single files of a repository at its pinned commit."""
        for one, source in wanted:
            url = f"{origin.repository}/raw/{origin.commit}/{source.path}"
            target = self.cache / "downloads" / f"{one.sha256}.file"
            self.download(origin, url, target, one.bytes)
            self.verify(one, target.read_bytes(), origin)
            target.unlink(missing_ok=True)

    def ask_git(self, origin: Origin, wanted: list[tuple[Capture, Source]]) -> None:
        """Fetch files of a repository at its pinned commit, or blobs of its history."""
        store = self.cache / "git"
        for one, source in wanted:

            def tell(size: int) -> None:
                self.progress(called(origin), size, None)

            try:
                if origin.kind == "history":
                    content = fetch_blob(origin.repository, source.blob, store, tell)
                else:
                    repository, commit = origin.repository, origin.commit
                    content = fetch_file(repository, commit, source.path, store, tell)
            except HistoryError as error:
                if error.unreachable or len(wanted) == 1:
                    raise Unavailable(str(error), kind_of(error.unreachable)) from None
                self.complain(one.sha256, f"{called(origin)}: {error}")
                continue
            self.verify(one, content, origin)

    def download(self, origin: Origin, url: str, target: Path, limit: int = 2 << 30) -> None:
        """Download one file of an origin; raises Unavailable."""

        def tell(done: int, total: int | None) -> None:
            self.progress(called(origin), done, total)

        try:
            download(url, target, tell, limit)
        except DownloadError as error:
            raise Unavailable(str(error), kind_of(error.unreachable)) from None

    def search_archive(self, path: Path, origin: Origin) -> None:
        """Keep every missing capture in an archive, under any name."""
        wanted = {one.sha256: one.bytes for one in self.lacking()}
        try:
            search(path, wanted, lambda sha256, content: self.keep(sha256, content, origin.name))
        except ArchiveError as error:
            path.unlink(missing_ok=True)
            raise Unavailable(str(error)) from None

    def verify(self, one: Capture, content: bytes, origin: Origin) -> None:
        """Keep a fetched file if its sha256 is right."""
        if hashlib.sha256(content).hexdigest() == one.sha256:
            self.keep(one.sha256, content, origin.name)

    # ---- outcome

    def outcome(self, offline: bool) -> Obtained:
        """Return the paths of the captures obtained, and why each other one is missing."""
        missing: dict[str, str] = {}
        origins = {origin.name: origin for origin in self.catalogue.origins}
        for one in self.lacking():
            reasons = list(dict.fromkeys(self.reasons.get(one.sha256, [])))
            for source in one.sources:
                origin = origins.get(source.origin)
                if origin and origin.kind == "none":
                    reasons.append(origin.note)
                elif origin and offline:
                    reasons.append(f"{called(origin)}: not asked, no network is to be used")
            missing[one.sha256] = "; ".join(reasons) or "no source is known"
        return Obtained(self.paths, missing, self.origins, self.notices)


def called(origin: Origin) -> str:
    """Return the name of an origin in messages."""
    if origin.kind == "debian":
        return f"Debian source package {origin.package}"
    name = "/".join(origin.repository.rstrip("/").split("/")[-2:])
    words = {"history": f"history of {name}", "git": f"repository {name}"}
    return words.get(origin.kind, f"archive of {name}")


def files_under(folder: Path) -> Iterator[Path]:
    """Yield the regular files under a folder, in order of name."""
    for place, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(place, name) for name in sorted(names))


class Hashes:
    """The sha256 sums of files, remembered while size, times and inode stay the same."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: dict[str, list[Any]] = stored(path)
        self.changed = False

    def of(self, path: Path) -> str:
        """Return a file's sha256."""
        about = path.stat()
        mark = [about.st_size, about.st_mtime_ns, about.st_ctime_ns, about.st_ino]
        key = str(path.resolve())
        entry = self.known.get(key)
        if entry and entry[:4] == mark:
            return str(entry[4])
        sha256 = sum_of(path)
        self.known[key] = [*mark, sha256]
        self.changed = True
        return sha256

    def save(self) -> None:
        """Write the known sums, if the cache is writable."""
        if self.changed:
            store(self.path, self.known)


class Failures:
    """Recent failures of origins, which are not tried again at every run."""

    def __init__(self, path: Path, retry: bool) -> None:
        self.path = path
        self.known: dict[str, list[Any]] = {} if retry else stored(path)
        self.changed = retry

    def remembered(self, name: str) -> str:
        """Return why an origin failed recently, "" if it did not."""
        entry = self.known.get(name)
        if not entry:
            return ""
        when, kind, reason = entry
        age = time.time() - float(when)
        if not 0 <= age < REMEMBERED_S.get(kind, 0):
            return ""
        return f"{reason} (tried {age / 60:.0f} min ago)"

    def note(self, name: str, kind: str, reason: str) -> None:
        """Store a failure."""
        self.known[name] = [time.time(), kind, reason]
        self.changed = True

    def save(self) -> None:
        """Write the failures, if they changed and the cache is writable."""
        if self.changed:
            store(self.path, self.known)


def sum_of(path: Path) -> str:
    """Return the sha256 of a file, in hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def stored(path: Path) -> dict[str, list[Any]]:
    """Return a table of the cache, {} if it is missing or damaged."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def store(path: Path, content: dict[str, list[Any]]) -> None:
    """Write a table of the cache; an unwritable cache is ignored."""
    with contextlib.suppress(OSError):
        part = path.with_suffix(".part")
        part.write_text(json.dumps(content), encoding="utf-8")
        os.replace(part, path)


def summary(catalogue: Catalogue, obtained: Obtained) -> Iterable[str]:
    """Yield the number of captures by source, then each missing capture with its reason."""
    counts: dict[str, int] = {}
    for origin in obtained.origins.values():
        counts[origin] = counts.get(origin, 0) + 1
    parts = ", ".join(f"{count} from {name}" for name, count in sorted(counts.items()))
    yield f"{len(obtained.paths)} of {len(catalogue.captures)} captures" + (
        f": {parts}" if parts else ""
    )
    names = catalogue.by_sha256()
    for sha256, reason in obtained.missing.items():
        yield f"missing: {names[sha256].name}: {reason}"
