# SPDX-License-Identifier: BSD-3-Clause
"""The one decorator of all compiled code, and the cache that can never be stale.

Numba keys its cache on the file of the decorated function alone: a changed callee in another
file, or another NUMBA_BOUNDSCHECK, would load old machine code. So each module's kernels are kept
in a folder named by a digest of that module and of every module of the lab that it imports, near
or far, of the versions of what compiles them, and of the settings that change the result: a change
compiles again what it can reach and nothing else. The folder is set as each kernel is decorated,
which is why every file with a kernel imports `kernel` from here.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
import re
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

import llvmlite
import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from midcall.captures.jit.linker import Kernel
from midcall.locations import HOME, ROOT

F = TypeVar("F", bound=Callable[..., Any])

PACKAGE = "midcall"
FOLDERS = ("captures", "classifier", "testbed", "experiments")
IMPORT = re.compile(
    r"^[ \t]*(?:from ([\w.]+) import (\([^)]*\)|[^(#\n]*)|import ([\w., ]+))", re.MULTILINE
)

#: True where kernels run as plain Python (NUMBA_DISABLE_JIT=1): slow, checked, same verdicts.
PLAIN: bool = bool(numba.config.DISABLE_JIT)
#: False where kernels are Numba's ordinary ones (MIDCALL_LINKER=no): they take minutes to compile.
LINKED: bool = os.environ.get("MIDCALL_LINKER") != "no"

if TYPE_CHECKING:
    #: Widens a value read from an array to the integer of the arithmetic (int64 when compiled).
    I = int
    #: Makes an index unsigned: a signed one costs a test for Python's counting from the end.
    U = int
else:
    I = int if PLAIN else np.int64
    U = int if PLAIN else np.uintp


def settings() -> bytes:
    """Return what decides the machine code of a kernel, apart from the sources."""
    config = (numba.config.BOUNDSCHECK, numba.config.OPT, numba.config.CPU_NAME, LINKED)
    versions = (platform.python_version(), numba.__version__, llvmlite.__version__, np.__version__)
    return repr((config, versions)).encode()


def source(module: str) -> Path | None:
    """Return the file of a module of the lab, None for anything else."""
    if module.partition(".")[0] != PACKAGE:
        return None
    path = ROOT.joinpath(*module.split("."))
    for file in (path.with_suffix(".py"), path / "__init__.py"):
        if file.is_file():
            return file
    return None


@cache
def imported(module: str) -> frozenset[str]:
    """Return the modules of the lab that a module's text imports, wherever in it."""
    file = source(module)
    if file is None:
        return frozenset()
    found = set()
    for line in IMPORT.finditer(file.read_text(encoding="utf-8")):
        near, names, plain = line.groups()
        if near:
            words = [word.split()[0] for word in names.strip("() ").split(",") if word.strip()]
            found |= {near, *(f"{near}.{word}" for word in words)}
        else:
            found |= {word.split()[0] for word in plain.split(",")}
    return frozenset(word for word in found if source(word) is not None)


def reach(module: str) -> list[str]:
    """Return a module and every module of the lab that it imports, near or far, in order."""
    seen, ahead = {module}, [module]
    while ahead:
        new = imported(ahead.pop()) - seen
        seen |= new
        ahead += new
    return sorted(seen)


def digest_of(modules: Iterable[str]) -> str:
    """Return the sha256 (hex) of some modules' texts and of the settings."""
    digest = hashlib.sha256(settings())
    for module in modules:
        file = source(module)
        if file is not None:
            digest.update(module.encode() + b"\0" + file.read_bytes() + b"\0")
    return digest.hexdigest()


def all_modules() -> Iterator[str]:
    """Yield every module of the four folders, in order."""
    for folder in FOLDERS:
        for path in sorted((HOME / folder).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def cache_folder() -> Path:
    """Return a writable folder for compiled code: the user's cache, else a temporary one."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    folder = Path(home) / "midcall" / "compiled"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            return folder
    except OSError:
        return Path(tempfile.mkdtemp(prefix="midcall-compiled-"))


CACHE: Path | None = None if PLAIN else cache_folder()


@cache
def module_cache(module: str) -> str:
    """Return the folder of one module's machine code."""
    name = f"{module}-{digest_of(reach(module))[:16]}"
    return str((CACHE or Path()) / name)


def kernel(function: F) -> F:
    """Compile a function of the packet path: cached, GIL released, division by NumPy's rules."""
    return compiled(function, inline=False)


def inlined(function: F) -> F:
    """Compile a kernel that is copied into its callers; for steps that every packet takes.

    A call hands every array over as seven words: between two steps of the path that is more work
    than the steps. Not for what has many callers, whose code would grow.
    """
    return compiled(function, inline=True)


def fencing(context: Any) -> Any:
    """Say how compiled code keeps memory accesses before a point from those after it."""

    def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), code


def no_fence() -> None:
    """Do nothing: plain Python has a lock around every access."""


#: A fence between what threads write and read in each other's memory, also for the compiler.
fence: Callable[[], None] = no_fence if PLAIN else intrinsic(fencing)


def asking(write: int) -> Callable[..., Any]:
    """Return how compiled code asks for a line of memory before it needs it."""

    def ask(context: Any, array: Any, record: Any, octet: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:
            held = context.make_array(signature.args[0])(context, builder, given[0])
            pointer, number = cgutils.voidptr_t, ir.IntType(32)
            place = builder.bitcast(builder.gep(held.data, [given[1]]), pointer)
            kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
            prefetch = builder.module.declare_intrinsic("llvm.prefetch", [pointer], kind)
            how = [number(write), number(3), number(1)]  # ... into the nearest cache, data
            builder.call(prefetch, [builder.gep(place, [given[2]]), *how])
            return context.get_dummy_value()

        return types.void(array, types.intp, types.intp), code

    return ask


def no_asking(array: Any, record: int, octet: int) -> None:
    """Do nothing: plain Python has no use for it."""


#: Ask for the line of the cache with an octet of an array's record, to be read or written soon.
ask_for: Callable[[Any, int, int], None] = no_asking if PLAIN else intrinsic(asking(0))
ask_to_write: Callable[[Any, int, int], None] = no_asking if PLAIN else intrinsic(asking(1))


def reading(context: Any, file: Any, array: Any, at: Any) -> Any:
    """Say how compiled code reads a file on into an array."""

    def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        held = context.make_array(signature.args[1])(context, builder, given[1])
        pointer, word, number = cgutils.voidptr_t, cgutils.intp_t, ir.IntType(32)
        place = builder.bitcast(builder.gep(held.data, [given[2]]), pointer)
        room = builder.sub(held.nitems, given[2])
        kind = ir.FunctionType(word, [number, pointer, word])
        function = cgutils.get_or_insert_function(builder.module, kind, "read")
        return builder.call(function, [builder.trunc(given[0], number), place, room])

    return types.intp(types.intp, array, types.intp), code


def plainly_reading(file: int, array: Any, at: int) -> int:
    """Read a file on into array[at:]."""
    return os.readv(file, [array[at:]])


#: Read a file descriptor on into array[at:], uint8; returns how many octets came, negative where
#: it failed (POSIX read).
read_into: Callable[[int, Any, int], int] = plainly_reading if PLAIN else intrinsic(reading)


def compiled(function: F, inline: bool) -> F:
    """Return a function as machine code, kept in the folder of its module."""
    if CACHE is not None:
        numba.config.CACHE_DIR = module_cache(function.__module__)
    if PLAIN:
        return function
    options = {
        "nopython": True,
        "boundscheck": None,
        "nogil": True,
        "error_model": "numpy",
        "_nrt": False,
        "forceinline": inline,
    }
    if not LINKED:
        return cast(F, numba.njit(cache=True, **options)(function))
    made: Any = Kernel(function, targetoptions=options)
    made.enable_caching()
    return cast(F, made)


def warm_mark(folder: Path) -> Path:
    """Return the file that stands where this very source tree was warmed up."""
    return folder / f"warm-{digest_of(all_modules())[:16]}"


def is_warm() -> bool:
    """Tell whether this very source tree was warmed up here before."""
    return CACHE is not None and warm_mark(CACHE).exists()


@contextmanager
def compile_lock() -> Iterator[bool]:
    """Hold the lock under which kernels are warmed up, so that one process compiles for all.

    Yields True where this source tree was never warmed up before (the caller may announce it).
    """
    if CACHE is None:
        yield False
        return
    done = warm_mark(CACHE)
    with open(CACHE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield not done.exists()
        done.touch()
