# SPDX-License-Identifier: BSD-3-Clause
"""Folders of results that appear whole or not at all.

A folder is filled under a hidden name and renamed at the end, in one step. A later process removes
what a killed process left.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from midcall.errors import ExperimentError

#: A hidden name ends in the number of the process that fills it.
HIDDEN = re.compile(r"\.(?:.+)\.(\d+)")
#: Seconds after which a hidden folder of an ended process is removed.
STALE = 600.0
#: Errors of the disk or of permissions, not of the lab.
DISK = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM,
    errno.ENOTDIR, errno.EISDIR, errno.EIO,
)  # fmt: skip


def require(parent: Path) -> None:
    """Make the folder of results; raises ExperimentError where nothing can be written there."""
    try:
        parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise ExperimentError(
            f"{parent}: cannot be written ({error.strerror}), results go there: "
            "correct that, or give another folder with --runs"
        ) from None
    sweep(parent)


def sweep(parent: Path) -> None:
    """Remove half-written files and folders of processes that have ended."""
    for entry in parent.iterdir():
        match = HIDDEN.fullmatch(entry.name)
        if match is None or alive(int(match.group(1))):
            continue
        if time.time() - entry.lstat().st_mtime < STALE:
            continue
        if entry.is_symlink() or entry.is_file():
            entry.unlink(missing_ok=True)
        else:
            shutil.rmtree(entry, ignore_errors=True)


def alive(process: int) -> bool:
    """Return whether a process of this number runs."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def free_folder(parent: Path, name: str) -> Path:
    """Return a folder that does not exist yet: two runs can end in one second."""
    folder, count = parent / name, 2
    while folder.exists():
        folder, count = parent / f"{name}-{count}", count + 1
    return folder


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Yield a hidden folder to fill; it becomes `folder` at the end, or is removed on an error."""
    hidden = folder.with_name(f".{folder.name}.{os.getpid()}")
    temporary = hidden / folder.name
    temporary.mkdir(parents=True)
    try:
        yield temporary
        os.replace(temporary, folder)
    finally:
        shutil.rmtree(hidden, ignore_errors=True)


def drawn(draw: Callable[[], object]) -> Exception | None:
    """Draw a report; return its exception, so that the results are kept without a report."""
    try:
        draw()
    except Exception as error:
        return error
    return None


def point_latest(parent: Path, folder: Path) -> None:
    """Point the link `latest` at the folder, in one step: it is never missing."""
    temporary = parent / f".latest.{os.getpid()}"
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(folder.name)
    os.replace(temporary, parent / "latest")


def disk_error_sentence(error: OSError, option: str = "--runs") -> str | None:
    """Return an error of disk or permissions as one sentence; None for any other.

    option: the command's option that chooses where results go, "" for none.
    """
    if error.errno not in DISK:
        return None
    where = f"{error.filename}: " if error.filename else ""
    reason = os.strerror(error.errno)
    other = {
        "": "",
        "--runs": ", or say --runs with a folder elsewhere",
    }.get(option, f", or give a file on another disk as {option} OUT")
    advice = {
        errno.ENOSPC: f"free space there{other}",
        errno.EDQUOT: f"free space there{other}",
        errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
        errno.EIO: "look at the disk",
    }.get(error.errno, "correct the permissions, or give another folder or file")
    kept = "; what was finished is kept" if option == "--runs" else ""
    return f"{where}cannot be read or written ({reason}): {advice}{kept}"
