# SPDX-License-Identifier: BSD-3-Clause
"""Load a kernel's machine code from the cache, and call it through its C signature.

A file of the cache holds one line of JSON (`Entry`) and an object file. The object file has one
function with a C signature:

    const struct error *entry(const int64 *words, int64 *results)

words: the arguments. A number is one word. An array is the address of its Python object, in which
the entry finds the address of its data, its lengths and its strides (NumPy's C API keeps their
places: PyArrayObject_fields). A record is its address. A tuple is the words of its parts.
results: one word for each number that the kernel returns. The function returns a null pointer, or
the exception that the kernel raised, in Numba's format.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import pickle
import struct
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import llvmlite.binding as llvm
import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.code_folders import code_folder, write_whole
from midcall.captures.jit.kernel import SIGNED

if TYPE_CHECKING:
    from midcall.captures.jit.kernel import Kernel

#: Raise when the format of the cache's files or of the C signature changes.
FORMAT = 3
ENTRY = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
#: Where the fields of an array's object are, in bytes (PyArrayObject_fields, CPython on 64 bits).
DATA_AT, LENGTHS_AT, STRIDES_AT = 16, 32, 40
#: How a result is made from its word.
RESULTS: dict[str, Callable[[int], Any]] = {
    "bool": bool,
    "int": int,
    "unsigned": lambda word: word + (SIGNED << 1) if word < 0 else word,
    "float": lambda word: struct.unpack("d", struct.pack("q", word))[0],
}

_lock = threading.RLock()
#: Machine code that this process has loaded, by the file that holds it.
_entry_points: dict[Path, tuple[Any, Entry]] = {}


class Entry(NamedTuple):
    """What is written before an object file.

    symbol: the function's name; results: kinds (keys of RESULTS) of what it returns; single: False
    if the kernel returns a tuple; sha256: of the object file (hex).
    """

    symbol: str
    results: list[str]
    single: bool
    sha256: str


class Failure(ctypes.Structure):
    """The begin of Numba's description of an exception: a pickle of its class and arguments."""

    _fields_ = (("text", ctypes.c_void_p), ("size", ctypes.c_int32))


@cache
def engine() -> Any:
    """Return the loader of object files of this process."""
    check_layout(np.zeros((2, 3), np.int16)[:, 1:])
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    module = llvm.parse_assembly("")
    machine = llvm.Target.from_default_triple().create_target_machine(jit=True)
    return llvm.create_mcjit_compiler(module, machine)


def check_layout(array: NDArray[Any]) -> None:
    """Raise RuntimeError if an array's object does not have its fields where the entry reads."""
    words = ctypes.c_int64.from_address
    read = [words(id(array) + place).value for place in (DATA_AT, LENGTHS_AT, STRIDES_AT)]
    sizes = [[words(one + 8 * i).value for i in range(array.ndim)] for one in read[1:]]
    if [read[0], *sizes] != [array.ctypes.data, list(array.shape), list(array.strides)]:
        raise RuntimeError("this NumPy keeps an array's address, lengths or strides elsewhere")


def load(
    kernel: Kernel[..., Any], key: tuple[Any, ...], args: tuple[Any, ...], fixed: int = 0
) -> Callable[[tuple[Any, ...]], Any]:
    """Return a function of a kernel's arguments (one tuple) that runs its machine code.

    key: `spelled` of each argument. fixed: how many of the first arguments are those of each call;
    the function takes the others. The code is compiled if the cache does not hold it.
    """
    function, entry = entry_point(kernel, key, args)
    head = packed(key[:fixed])(args[:fixed])
    return caller(function, key[fixed:], entry, head)


def entry_point(
    kernel: Kernel[..., Any], key: tuple[Any, ...], args: tuple[Any, ...]
) -> tuple[Any, Entry]:
    """Return the machine code of a kernel for arguments of some kinds, and what it returns."""
    place = file_of(kernel, key)
    with _lock:
        if place in _entry_points:
            return _entry_points[place]
        found = stored(place)
        if found is None:
            from midcall.captures.jit.linker import build

            found = build(kernel, args)
            store(place, found)
        entry, code = found
        machine = engine()
        machine.add_object_file(llvm.ObjectFileRef.from_data(code))
        machine.finalize_object()
        function = ENTRY(machine.get_function_address(entry.symbol))
        _entry_points[place] = function, entry
        return _entry_points[place]


def file_of(kernel: Kernel[..., Any], key: tuple[Any, ...]) -> Path:
    """Return the path of a kernel's machine code for arguments of the given kinds."""
    text = repr([FORMAT, *(spelling(one) for one in key)])
    name = kernel.function.__qualname__.replace("<locals>.", "")
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return code_folder(kernel.function.__module__) / f"{name}-{digest}.code"


def spelling(one: Any) -> str:
    """Return an element of a key as text that is the same in each process."""
    if is_tuple(one):
        return f"{one[0].__module__}.{one[0].__qualname__} {[spelling(part) for part in one[1]]}"
    return one if isinstance(one, str) else f"{written(one[0])} {one[1:]}"


def is_tuple(one: Any) -> bool:
    """Return whether an element of a key stands for a tuple."""
    return isinstance(one, tuple) and isinstance(one[0], type)


@cache
def written(dtype: np.dtype[Any]) -> str:
    """Return a dtype as text, with the names, types and offsets of its fields."""
    if dtype.fields is None:
        return dtype.str
    fields = [(name, str(about[0]), about[1]) for name, about in dtype.fields.items()]
    return f"{dtype.itemsize} {fields}"


def stored(place: Path) -> tuple[Entry, bytes] | None:
    """Return what a file of the cache holds, None if there is none or it is damaged."""
    try:
        head, _, code = place.read_bytes().partition(b"\n")
        entry = Entry(**json.loads(head))
    except (OSError, ValueError, TypeError):
        return None
    return (entry, code) if hashlib.sha256(code).hexdigest() == entry.sha256 else None


def store(place: Path, found: tuple[Entry, bytes]) -> None:
    """Write a file of the cache, whole or not at all; a full disk is no error."""
    entry, code = found
    write_whole(place, json.dumps(entry._asdict()).encode() + b"\n" + code)


def packed(key: tuple[Any, ...]) -> Callable[[tuple[Any, ...]], bytes]:
    """Return a function that makes the words of arguments of the given kinds."""
    nested = any(map(is_tuple, key))
    parts = parts_of(key)
    words = [word_of(one) for one in parts]
    pack = struct.Struct("".join("d" if is_float(one) else "q" for one in parts)).pack

    def pack_words(args: tuple[Any, ...]) -> bytes:
        values: Any = flat(args) if nested else args
        return pack(*[word(one) for word, one in zip(words, values, strict=True)])

    return pack_words


def caller(
    function: Any, key: tuple[Any, ...], entry: Entry, head: bytes
) -> Callable[[tuple[Any, ...]], Any]:
    """Return a function that passes arguments of the given kinds to machine code.

    head: the words of the arguments before them.
    """
    words = packed(key)
    results = [RESULTS[kind] for kind in entry.results]
    room = ctypes.c_int64 * len(results)

    def call(args: tuple[Any, ...]) -> Any:
        out = room() if results else None
        failure = function(head + words(args), out)
        if failure:
            raise exception_of(failure)
        if out is None:
            return None if entry.single else ()
        if entry.single:
            return results[0](out[0])
        return tuple(make(word) for make, word in zip(results, out, strict=True))

    return call


def parts_of(key: tuple[Any, ...]) -> list[Any]:
    """Return the elements of a key, those of tuples in their places."""
    return [part for one in key for part in (parts_of(one[1]) if is_tuple(one) else [one])]


def flat(args: tuple[Any, ...]) -> list[Any]:
    """Return arguments, those in tuples in their places."""
    return [part for one in args for part in (flat(one) if isinstance(one, tuple) else [one])]


def is_float(one: Any) -> bool:
    """Return whether an element of a key stands for a floating-point number."""
    return one == "float64" or (len(one) == 2 and one[0].kind == "f")


def word_of(one: Any) -> Callable[[Any], int | float]:
    """Return the function that makes an argument's word."""
    if isinstance(one, str):
        return {"int64": int, "bool": bool, "float64": float}[one]
    if len(one) == 3:
        return id  # the caller keeps the array
    return address_of_record if one[0].names else number_of


def number_of(number: Any) -> int | float:
    """Return a number of NumPy as one of Python."""
    value: int | float = number.item()
    return value


def address_of_record(record: Any) -> int:
    """Return the address of a record's bytes."""
    return int(record.__array_interface__["data"][0])


def exception_of(address: int) -> BaseException:
    """Return the exception that Numba's code describes at an address."""
    failure = Failure.from_address(address)
    kind, arguments, _ = pickle.loads(ctypes.string_at(failure.text, failure.size))
    made = kind(*(arguments or ()))
    return made if isinstance(made, BaseException) else RuntimeError(str(made))
