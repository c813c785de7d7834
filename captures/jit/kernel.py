# SPDX-License-Identifier: BSD-3-Clause
"""The decorator of all compiled code, and a cache that is never stale.

Numba keys its cache on the file of the decorated function alone: a changed callee in another
file, or another NUMBA_BOUNDSCHECK, would load old machine code. So each module's kernels are kept
in a folder named by a digest of that module, of every module of the lab that it imports, directly
or indirectly, of the versions of the compilers, and of the settings that change the result. So a
change recompiles only the modules that depend on it. The folder is set as each kernel is decorated,
which is why every file with a kernel imports `kernel` from this module.
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
    #: Makes an index unsigned: a signed one needs a test for negative (from the end) indexing.
    U = int
else:
    I = int if PLAIN else np.int64
    U = int if PLAIN else np.uintp


def settings() -> bytes:
    """Return the settings and versions on which the machine code of a kernel depends."""
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
    """Return the modules of the lab that a module imports, anywhere in its text."""
    file = source(module)
    if file is None:
        return frozenset()
    names_found = set()
    for line in IMPORT.finditer(file.read_text(encoding="utf-8")):
        package, names, plain = line.groups()
        if package:
            words = [word.split()[0] for word in names.strip("() ").split(",") if word.strip()]
            names_found |= {package, *(f"{package}.{word}" for word in words)}
        else:
            names_found |= {word.split()[0] for word in plain.split(",")}
    # The package itself imports its parts when a program calls them: no kernel depends on that.
    return frozenset(word for word in names_found - {PACKAGE} if source(word) is not None)


def reach(module: str) -> list[str]:
    """Return a module and all modules of the lab it imports, also indirectly, in order of name."""
    visited, pending = {module}, [module]
    while pending:
        unvisited = imported(pending.pop()) - visited
        visited |= unvisited
        pending += unvisited
    return sorted(visited)


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
    """Compile a kernel that is copied into its callers, for steps that every packet takes.

    A call passes every array as seven words, which costs more than a step of the path itself. Do
    not use it for functions with many callers, because their code would grow.
    """
    return compiled(function, inline=True)


def fencing(context: Any) -> Any:
    """Return the Numba intrinsic of a fence: memory accesses are not reordered across it."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), code


def no_fence() -> None:
    """Do nothing: in plain Python, the interpreter lock orders all accesses."""


#: A sequentially consistent memory fence between threads, which also binds the compiler.
fence: Callable[[], None] = no_fence if PLAIN else intrinsic(fencing)


def prefetching(write: int) -> Callable[..., Any]:
    """Return the Numba intrinsic of a prefetch of a cache line; write: 1 for writing, else 0."""

    def ask(context: Any, array: Any, record: Any, octet: Any) -> Any:
        def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            struct = context.make_array(signature.args[0])(context, builder, arguments[0])
            pointer, number = cgutils.voidptr_t, ir.IntType(32)
            place = builder.bitcast(builder.gep(struct.data, [arguments[1]]), pointer)
            kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
            prefetch = builder.module.declare_intrinsic("llvm.prefetch", [pointer], kind)
            how = [number(write), number(3), number(1)]  # ... into the nearest cache, data
            builder.call(prefetch, [builder.gep(place, [arguments[2]]), *how])
            return context.get_dummy_value()

        return types.void(array, types.intp, types.intp), code

    return ask


def no_prefetch(array: Any, record: int, octet: int) -> None:
    """Do nothing: plain Python cannot prefetch."""


#: Prefetch the cache line of an octet of an array's record, for reading or for writing.
prefetch_for_read: Callable[[Any, int, int], None] = (
    no_prefetch if PLAIN else intrinsic(prefetching(0))
)
prefetch_for_write: Callable[[Any, int, int], None] = (
    no_prefetch if PLAIN else intrinsic(prefetching(1))
)


def reading(context: Any, file: Any, array: Any, at: Any) -> Any:
    """Return the Numba intrinsic that reads from a file into an array (POSIX read)."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        struct = context.make_array(signature.args[1])(context, builder, arguments[1])
        pointer, word, number = cgutils.voidptr_t, cgutils.intp_t, ir.IntType(32)
        place = builder.bitcast(builder.gep(struct.data, [arguments[2]]), pointer)
        room = builder.sub(struct.nitems, arguments[2])
        kind = ir.FunctionType(word, [number, pointer, word])
        function = cgutils.get_or_insert_function(builder.module, kind, "read")
        return builder.call(function, [builder.trunc(arguments[0], number), place, room])

    return types.intp(types.intp, array, types.intp), code


def plain_read(file: int, array: Any, at: int) -> int:
    """Read from a file into array[at:]; returns the number of octets."""
    return os.readv(file, [array[at:]])


#: Read from a file descriptor into array[at:], uint8; returns the number of octets, negative on
#: failure (POSIX read).
read_into: Callable[[int, Any, int], int] = plain_read if PLAIN else intrinsic(reading)


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
    """Return the path of the file that marks this version of the sources as warmed up."""
    return folder / f"warm-{digest_of(all_modules())[:16]}"


def is_warm() -> bool:
    """Return whether this version of the sources was warmed up on this machine before."""
    return CACHE is not None and warm_mark(CACHE).exists()


@contextmanager
def compile_lock() -> Iterator[bool]:
    """Hold the lock under which kernels are warmed up, so that one process compiles for all.

    Yields True if these sources were never warmed up before (the caller may announce it).
    """
    if CACHE is None:
        yield False
        return
    done = warm_mark(CACHE)
    with open(CACHE / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield not done.exists()
        done.touch()
