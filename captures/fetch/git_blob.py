# SPDX-License-Identifier: BSD-3-Clause
"""Fetch single files of a Git repository without its other contents.

A blob of the history is requested by its id. If the server refuses that, a partial clone (commits
and trees, no blobs) is made, into which Git fetches the one blob. A file at a commit is requested
by a partial fetch of that commit only; a server without partial fetches sends all files of the
commit.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

from midcall.captures.fetch.stall_guard import Done, run

QUIET = {"GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "true", "LC_ALL": "C"}
PATIENT = ["-c", "protocol.version=2", "-c", "gc.auto=0"]


class HistoryError(Exception):
    """Why a blob could not be obtained; `unreachable`: the repository did not answer."""

    def __init__(self, reason: str, unreachable: bool = False) -> None:
        super().__init__(reason)
        self.unreachable = unreachable


def fetch_blob(
    repository: str, blob: str, folder: Path, tell: Callable[[int], None] = lambda _size: None
) -> bytes:
    """Return a blob of a repository's history; Git's objects are kept in `folder`.

    tell: called with the bytes fetched so far. Raises HistoryError if the blob cannot be obtained.
    """
    if shutil.which("git") is None:
        raise HistoryError("git is not on this machine")
    store = folder / hashlib.sha256(repository.encode()).hexdigest()[:16]
    alone, partial = store / "blobs.git", store / "partial.git"
    if not alone.exists():
        git(["init", "--quiet", "--bare", str(alone)], store, tell)
    content = read_blob(alone, blob)
    if content is not None:
        return content
    fetch = ["-C", str(alone), "fetch", "--quiet", "--no-tags", "--depth=1", repository, blob]
    done = git(fetch, store, tell)
    content = None if done.code else read_blob(alone, blob)
    if content is not None:
        return content
    if done.stalled or unreachable(done):
        raise HistoryError(complaint(done), done.stalled or unreachable(done))
    return from_partial_clone(repository, blob, partial, tell)


def fetch_file(
    repository: str,
    commit: str,
    path: str,
    folder: Path,
    tell: Callable[[int], None] = lambda _size: None,
) -> bytes:
    """Return a file of a repository at a commit; Git's objects are kept in `folder`.

    tell: called with the bytes fetched so far. Raises HistoryError if the file cannot be obtained.
    """
    if shutil.which("git") is None:
        raise HistoryError("git is not on this machine")
    store = folder / hashlib.sha256(repository.encode()).hexdigest()[:16]
    alone = store / "commits.git"
    if not alone.exists():
        git(["init", "--quiet", "--bare", str(alone)], store, tell)
        for key, value in (
            ("remote.origin.url", repository),
            ("remote.origin.promisor", "true"),
            ("remote.origin.partialclonefilter", "blob:none"),
        ):
            git(["-C", str(alone), "config", key, value], store, tell)
    content = read_blob(alone, f"{commit}:{path}")
    if content is not None:
        return content
    options = ["--quiet", "--no-tags", "--depth=1", "--filter=blob:none"]
    done = git(["-C", str(alone), "fetch", *options, "origin", commit], store, tell)
    if done.code:
        raise HistoryError(complaint(done), done.stalled or unreachable(done))
    done = git(["-C", str(alone), "cat-file", "-e", f"{commit}:{path}"], store, tell)
    content = None if done.code else read_blob(alone, f"{commit}:{path}")
    if content is None:
        if done.stalled or unreachable(done):
            raise HistoryError(complaint(done), True)
        raise HistoryError(f"{repository} does not hold {path} at {commit[:12]}")
    return content


def from_partial_clone(
    repository: str, blob: str, clone: Path, tell: Callable[[int], None]
) -> bytes:
    """Return a blob from a partial clone, which is made if it does not exist; HistoryError."""
    if not (clone / "config").exists():
        shutil.rmtree(clone, ignore_errors=True)
        options = ["--quiet", "--bare", "--filter=blob:none"]
        done = git(["clone", *options, repository, str(clone)], clone.parent, tell)
        if done.code:
            shutil.rmtree(clone, ignore_errors=True)
            raise HistoryError(complaint(done), done.stalled or unreachable(done))
    done = git(["-C", str(clone), "cat-file", "-e", blob], clone.parent, tell)
    content = None if done.code else read_blob(clone, blob)
    if content is None:
        raise HistoryError(f"{repository} does not hold the blob {blob}")
    return content


def git(arguments: list[str], watch: Path, tell: Callable[[int], None]) -> Done:
    """Run git under the stall guard; it never prompts on the terminal."""
    watch.mkdir(parents=True, exist_ok=True)
    return run(["git", *PATIENT, *arguments], watch, QUIET, tell=tell)


def read_blob(store: Path, blob: str) -> bytes | None:
    """Return a blob that a local repository holds, or None; never fetches."""
    command = ["git", "-C", str(store), "cat-file", "blob", blob]
    environment = {**os.environ, "GIT_NO_LAZY_FETCH": "1"}
    done = subprocess.run(command, capture_output=True, env=environment, timeout=60, check=False)
    return None if done.returncode else done.stdout


def unreachable(done: Done) -> bool:
    """Return whether git could not connect to the server."""
    words = ("Could not resolve", "Failed to connect", "unable to access", "Connection")
    return any(word in done.errors for word in words)


def complaint(done: Done) -> str:
    """Return git's error message, in one line."""
    if done.stalled:
        return "the repository does not answer"
    lines = [line for line in done.errors.splitlines() if line.startswith(("fatal:", "error:"))]
    return (lines[0].split(":", 1)[1].strip() if lines else "git failed") or "git failed"
