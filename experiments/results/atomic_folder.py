# SPDX-License-Identifier: BSD-3-Clause
"""The shelf: where folders of results appear, each whole or not at all.

A folder is filled under a hidden name and takes its own at the end, in one step. What a killed
process left is swept away by a later one.
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
#: Seconds after which what nobody fills any more is swept.
STALE = 600.0
#: Errors that say something of the disk or of permissions, not of the lab.
DISK = (
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM,
    errno.ENOTDIR, errno.EISDIR, errno.EIO,
)  # fmt: skip


def require(shelf: Path) -> None:
    """Make the folder where results go; raises ExperimentError where nothing can be written."""
    try:
        shelf.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=shelf):
            pass
    except OSError as error:
        raise ExperimentError(
            f"{shelf}: cannot be written ({error.strerror}), results go there: "
            "mend that, or say --runs with another folder"
        ) from None
    sweep(shelf)


def sweep(shelf: Path) -> None:
    """Remove what processes that have ended left half-written."""
    for entry in shelf.iterdir():
        left = HIDDEN.fullmatch(entry.name)
        if left is None or alive(int(left.group(1))):
            continue
        if time.time() - entry.lstat().st_mtime < STALE:
            continue
        if entry.is_symlink() or entry.is_file():
            entry.unlink(missing_ok=True)
        else:
            shutil.rmtree(entry, ignore_errors=True)


def alive(process: int) -> bool:
    """Tell whether a process of this number runs."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def free_folder(shelf: Path, name: str) -> Path:
    """Return a folder that does not exist yet: two runs can end in one second."""
    folder, count = shelf / name, 2
    while folder.exists():
        folder, count = shelf / f"{name}-{count}", count + 1
    return folder


@contextmanager
def whole_folder(folder: Path) -> Iterator[Path]:
    """Give a folder of the same name in a hidden one; it takes its place at the end, or is gone."""
    nest = folder.with_name(f".{folder.name}.{os.getpid()}")
    fresh = nest / folder.name
    fresh.mkdir(parents=True)
    try:
        yield fresh
        os.replace(fresh, folder)
    finally:
        shutil.rmtree(nest, ignore_errors=True)


def drawn(draw: Callable[[], object]) -> Exception | None:
    """Draw a report; return what went wrong, so that results are kept that cannot be drawn."""
    try:
        draw()
    except Exception as error:
        return error
    return None


def point_latest(shelf: Path, folder: Path) -> None:
    """Let `latest` name the folder; a reader never finds it missing."""
    fresh = shelf / f".latest.{os.getpid()}"
    fresh.unlink(missing_ok=True)
    fresh.symlink_to(folder.name)
    os.replace(fresh, shelf / "latest")


def told(error: OSError) -> str | None:
    """Return an error of disk or permissions as one sentence; None for any other."""
    if error.errno not in DISK:
        return None
    where = f"{error.filename}: " if error.filename else ""
    why = os.strerror(error.errno)
    mend = {
        errno.ENOSPC: "free space there, or say --runs with a folder elsewhere",
        errno.EDQUOT: "free space there, or say --runs with a folder elsewhere",
        errno.EFBIG: "raise the limit on the size of files (ulimit -f)",
        errno.EIO: "look at the disk",
    }.get(error.errno, "mend the permissions, or say another folder or file")
    return f"{where}cannot be read or written ({why}): {mend}; what was finished is kept"
