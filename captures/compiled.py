# SPDX-License-Identifier: BSD-3-Clause
"""The one decorator of all compiled code, and the cache that can never be stale.

Numba keys its cache on the file of the decorated function alone: a changed callee in another
file, or another NUMBA_BOUNDSCHECK, would load old machine code. So the cache directory is named
by a digest of every source file of the four packages, the versions of what compiles them, and the
settings that change the result. This module sets it before any kernel is decorated, which is why
every file with a kernel imports `kernel` from here.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import llvmlite
import numba
import numpy as np

F = TypeVar("F", bound=Callable[..., Any])

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("captures", "classifier", "testbed", "experiments")

#: True where kernels run as plain Python (NUMBA_DISABLE_JIT=1): slow, checked, same verdicts.
PLAIN: bool = bool(numba.config.DISABLE_JIT)

if TYPE_CHECKING:
    #: Widens a value read from an array to the integer of the arithmetic (int64 when compiled).
    I = int
    #: Makes an index unsigned: a signed one costs a test for Python's counting from the end.
    U = int
else:
    I = int if PLAIN else np.int64
    U = int if PLAIN else np.uintp


def sources_digest() -> str:
    """Return the sha256 (hex) of everything that decides the machine code of the kernels."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            text = path.read_bytes()
            if b"kernel" in text:
                digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + text + b"\0")
    settings = (numba.config.BOUNDSCHECK, numba.config.OPT, numba.config.CPU_NAME)
    versions = (platform.python_version(), numba.__version__, llvmlite.__version__, np.__version__)
    digest.update(repr((settings, versions)).encode())
    return digest.hexdigest()


def cache_folder() -> Path:
    """Return a writable folder for compiled code: the user's cache, else a temporary one."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    folder = Path(home) / "midcall" / "compiled" / sources_digest()[:16]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        return Path(tempfile.mkdtemp(prefix="midcall-compiled-"))


CACHE: Path | None = None
if not PLAIN:
    CACHE = cache_folder()
    numba.config.CACHE_DIR = str(CACHE)


def kernel(function: F) -> F:
    """Compile a function of the packet path: cached, GIL released, division by NumPy's rules."""
    compiled: F = numba.njit(cache=True, nogil=True, error_model="numpy", _nrt=False)(function)
    return compiled


@contextmanager
def compile_lock() -> Iterator[bool]:
    """Hold the lock under which kernels are warmed up, so that one process compiles for all.

    Yields True where this source tree was never warmed up before (the caller may announce it).
    """
    if CACHE is None:
        yield False
        return
    done = CACHE / "warm"
    with open(CACHE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield not done.exists()
        done.touch()
