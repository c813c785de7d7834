# SPDX-License-Identifier: BSD-3-Clause
"""The decorator of all compiled code. Machine code that is in the cache runs without Numba.

A kernel is made into machine code for the types of its arguments when Python first calls it with
these types. The code is kept on disk; a later process loads it (`machine_code`) and calls it
through a C signature. Numba, which takes longer to import than a small capture to classify, is
imported only to compile (`linker`).

Each module's machine code is kept in a folder named by a digest of that module, of every module of
the lab that it imports, directly or indirectly, of the versions of the compilers, of the processor,
and of the settings that change the result. So a change recompiles only the modules that depend on
it, and code of another version or machine is never loaded.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial, update_wrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, cast

import numpy as np

from midcall.captures.jit.code_folders import CACHE, LINKED, PLAIN, all_modules, digest_of

F = TypeVar("F", bound=Callable[..., Any])
P = ParamSpec("P")
R = TypeVar("R")

if TYPE_CHECKING:
    #: Widens a value read from an array to the integer of the arithmetic (int64 when compiled).
    I = int
    #: Makes an index unsigned: a signed one needs a test for negative (from the end) indexing.
    U = int
else:
    I = int if PLAIN else np.int64
    U = int if PLAIN else np.uintp

_listeners: list[Callable[[], None]] = []


def when_compiling(callback: Callable[[], None]) -> None:
    """Call `callback` once, when this process first compiles code that is not cached on disk."""
    _listeners[:] = [callback]


def report_compilation() -> None:
    """Call what `when_compiling` registered."""
    while _listeners:
        _listeners.pop()()


class Kernel(Generic[P, R]):
    """A function of the packet path, compiled for each combination of argument types.

    function: its Python code. options: those of Numba.
    """

    def __init__(self, function: Callable[P, R], options: dict[str, Any]) -> None:
        """Wrap a function; nothing is compiled before a call."""
        update_wrapper(self, function)
        self.function, self.options = function, options
        self.loaded: dict[tuple[Any, ...], Callable[..., Any]] = {}
        self.arguments = function.__code__.co_argcount

    def __call__(self, *args: P.args, **names: P.kwargs) -> R:
        """Run the machine code for the types of the arguments; raises what the kernel raises.

        Raises TypeError for an argument that machine code cannot take.
        """
        if names or len(args) != self.arguments:
            args = self.in_order(args, names)
        key = kinds(args)
        code = self.loaded.get(key)
        if code is None:
            from midcall.captures.jit.machine_code import load

            code = self.loaded[key] = load(self, key, args)
        return cast("R", code(args))

    def in_order(self, args: tuple[Any, ...], names: dict[str, Any]) -> Any:
        """Return all arguments in order: those of a call, and defaults."""
        import inspect

        bound = inspect.signature(self.function).bind(*args, **names)
        bound.apply_defaults()
        return bound.args


class Bound:
    """A kernel with its first arguments, which are looked at once; see `bound`."""

    def __init__(self, kernel: Kernel[..., Any], first: tuple[Any, ...]) -> None:
        """Keep the first arguments of each call."""
        self.kernel, self.first, self.kinds = kernel, first, kinds(first)
        self.loaded: dict[tuple[Any, ...], Callable[..., Any]] = {}

    def __call__(self, *rest: Any) -> Any:
        """Run the machine code with the other arguments; raises what the kernel raises."""
        key = kinds(rest)
        code = self.loaded.get(key)
        if code is None:
            from midcall.captures.jit.machine_code import load

            args = (*self.first, *rest)
            code = load(self.kernel, (*self.kinds, *key), args, len(self.first))
            self.loaded[key] = code
        return code(rest)


def bound(function: Callable[..., R], *first: Any) -> Callable[..., R]:
    """Return a function of a kernel's other arguments, for many calls with the same first ones.

    A call looks at the kind of each array; a tuple of forty arrays takes longer than a packet does.
    The arrays must stay the same objects, with the same dtype, dimensions and layout; what is in
    them may change.
    """
    return Bound(function, first) if isinstance(function, Kernel) else partial(function, *first)


def kinds(args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Return `spelled` of each argument; most are arrays, and each call passes by here."""
    return tuple(
        [
            (one.dtype, one.ndim, one.flags.num & LAYOUT) if type(one) is ARRAY else spelled(one)
            for one in args
        ]
    )


def spelled(value: Any) -> Any:
    """Return what the machine code for an argument depends on: its type, and an array's layout.

    A number: its name, or (dtype, 0); an array: (dtype, dimensions, flags); a record: (dtype, 0); a
    tuple: (its class, a tuple of these).

    Equal for int and numpy.int64. Raises TypeError for a value that machine code cannot take.
    """
    kind = type(value)
    if kind is int or kind is np.int64:
        if not -SIGNED <= value < SIGNED:
            raise TypeError(f"got {value}, expected an integer of 64 bits with a sign")
        return "int64"
    if kind is bool or kind is np.bool_:
        return "bool"
    if kind is float or kind is np.float64:
        return "float64"
    if isinstance(value, np.ndarray):
        return value.dtype, value.ndim, value.flags.num & LAYOUT
    if isinstance(value, np.generic):
        return value.dtype, 0
    if isinstance(value, tuple):
        return kind, kinds(value)
    if isinstance(value, int):
        return spelled(int(value))
    raise TypeError(
        f"got a {kind.__name__}, expected a number, an array, a record or a tuple of these"
    )


SIGNED, ARRAY = 1 << 63, np.ndarray
#: Flags of an array: contiguous by rows, by columns; aligned; writeable (numpy's ndarraytypes.h).
BY_ROWS, BY_COLUMNS, ALIGNED, WRITEABLE = 0x1, 0x2, 0x100, 0x400
LAYOUT = BY_ROWS | BY_COLUMNS | ALIGNED | WRITEABLE


def kernel(function: F) -> F:
    """Compile a function of the packet path: cached, GIL released, division by NumPy's rules."""
    return compiled(function, inline=False)


def inlined(function: F) -> F:
    """Compile a kernel that is copied into its callers, for steps that every packet takes.

    A call passes every array as seven words, which costs more than a step of the path itself. Do
    not use it for functions with many callers, because their code would grow.
    """
    return compiled(function, inline=True)


def as_python(function: F) -> F:
    """Return the Python code of a kernel, for a few calls with numbers while a module loads."""
    return cast(F, getattr(function, "function", getattr(function, "py_func", function)))


def compiled(function: F, inline: bool) -> F:
    """Return a function as machine code, kept in the folder of its module."""
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
        from midcall.captures.jit.ordinary import compiled_by_numba

        return cast(F, compiled_by_numba(function, options))
    return cast(F, Kernel(function, options))


class Primitive:
    """An operation of the machine that kernels call, and that Python code can replace.

    name: of its Numba form in `primitives`; plain: what plain Python does instead.
    """

    def __init__(self, name: str, plain: Callable[..., Any]) -> None:
        """Name an operation."""
        self.name, self.plain = name, plain

    def __call__(self, *args: Any) -> Any:
        """Do what plain Python does."""
        return self.plain(*args)


class External(Primitive):
    """A function of the C library with integer or pointer arguments; see `library_function`."""

    def __init__(self, name: str, count: int, plain: Callable[..., Any]) -> None:
        """Name a C function of `count` arguments."""
        super().__init__(name, plain)
        self.count = count


def primitive(name: str, plain: Callable[..., Any]) -> Callable[..., Any]:
    """Return an operation for kernels: a Primitive, or Numba's intrinsic without the linker."""
    if PLAIN:
        return plain
    if not LINKED:
        from midcall.captures.jit.primitives import INTRINSICS

        return cast("Callable[..., Any]", INTRINSICS[name])
    return Primitive(name, plain)


def library_function(name: str, count: int, plain: Callable[..., Any]) -> Callable[..., Any]:
    """Return a C function of that many integer or pointer arguments, callable from kernels."""
    if PLAIN:
        return plain
    if not LINKED:
        from midcall.captures.jit.primitives import external_type

        return cast("Callable[..., Any]", external_type(name, count))
    return External(name, count, plain)


def no_fence() -> None:
    """Do nothing: in plain Python, the interpreter lock orders all accesses."""


def no_prefetch(array: Any, record: int, octet: int) -> None:
    """Do nothing: plain Python cannot prefetch."""


def plain_read(file: int, array: Any, at: int) -> int:
    """Read from a file into array[at:]; returns the number of octets."""
    return os.readv(file, [array[at:]])


#: A sequentially consistent memory fence between threads, which also binds the compiler.
fence: Callable[[], None] = primitive("fence", no_fence)
#: Prefetch the cache line of an octet of an array's record, for reading or for writing.
prefetch_for_read: Callable[[Any, int, int], None] = primitive("prefetch_for_read", no_prefetch)
prefetch_for_write: Callable[[Any, int, int], None] = primitive("prefetch_for_write", no_prefetch)
#: Read from a file descriptor into array[at:], uint8; returns the number of octets, negative on
#: failure (POSIX read).
read_into: Callable[[int, Any, int], int] = primitive("read_into", plain_read)


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
