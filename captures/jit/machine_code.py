# SPDX-License-Identifier: BSD-3-Clause
"""Load a kernel's machine code from the cache, and call it through its C signature.

A file of the cache holds one line of JSON (`Entry`) and an object file. The object file has one
function with a C signature:

    int32 entry(const int64 *words, int64 *results, const struct error **error)

words: the arguments. A number is one word. An array is the address of its Python object, in which
the entry finds the address of its data, its lengths and its strides (NumPy's C API keeps their
places: PyArrayObject_fields). A record is its address. A tuple is the words of its parts.
results: one word for each number that the kernel returns. The function returns 0, or another value
if the kernel raised the exception that `error` describes in Numba's format.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import os
import pickle
import struct
import tempfile
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import llvmlite.binding as llvm
import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.code_folders import CACHE, code_folder
from midcall.captures.jit.kernel import SIGNED

if TYPE_CHECKING:
    from midcall.captures.jit.kernel import Kernel

#: Raise when the format of the cache's files or of the C signature changes.
FORMAT = 2
ENTRY = ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_char_p, ctypes.c_void_p, ctypes.c_void_p)
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


def load(kernel: Kernel[..., Any], key: tuple[Any, ...], args: tuple[Any, ...]) -> Any:
    """Return a function of a kernel's arguments (one tuple) that runs its machine code.

    key: `spelled` of each argument. The code is compiled if the cache does not hold it.
    """
    place = file_of(kernel, key)
    with _lock:
        found = stored(place)
        if found is None:
            from midcall.captures.jit.linker import build

            found = build(kernel, args)
            store(place, found)
        entry, code = found
        machine = engine()
        machine.add_object_file(llvm.ObjectFileRef.from_data(code))
        machine.finalize_object()
        address = machine.get_function_address(entry.symbol)
    return caller(ENTRY(address), key, entry)


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
    if CACHE is None:
        return
    with suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=place.parent, delete=False) as file:
            try:
                file.write(json.dumps(entry._asdict()).encode() + b"\n" + code)
                file.close()
                os.replace(file.name, place)
            except OSError:
                os.unlink(file.name)
                raise


def caller(function: Any, key: tuple[Any, ...], entry: Entry) -> Callable[[tuple[Any, ...]], Any]:
    """Return a function that passes arguments of the given kinds to machine code."""
    puts = [put_for(one) for one in key]
    form = struct.Struct("".join(code for _, code in puts))
    pack, writers = form.pack, [put for put, _ in puts]
    results = [RESULTS[kind] for kind in entry.results]
    words = ctypes.c_int64 * max(len(results), 1)
    pointer, single = ctypes.c_void_p, entry.single

    def call(args: tuple[Any, ...]) -> Any:
        values: list[Any] = []
        for put, one in zip(writers, args, strict=True):
            put(values, one)
        out, error = words(), pointer()
        if function(pack(*values), out, ctypes.byref(error)):
            raise exception_of(error.value)
        if single:
            return results[0](out[0]) if results else None
        return tuple(make(word) for make, word in zip(results, out, strict=True))

    return call


def put_for(one: Any) -> tuple[Callable[[list[Any], Any], None], str]:
    """Return the function that appends an argument's words to a list, and their struct codes."""
    if is_tuple(one):
        parts = [put_for(part) for part in one[1]]
        writers = [put for put, _ in parts]

        def put_tuple(values: list[Any], whole: Any) -> None:
            for put, part in zip(writers, whole, strict=True):
                put(values, part)

        return put_tuple, "".join(codes for _, codes in parts)
    if one == "bool":
        return put_truth, "q"
    if isinstance(one, str):
        return list.append, "d" if one == "float64" else "q"
    if len(one) == 2:
        if one[0].names is None:
            return put_number, "d" if one[0].kind == "f" else "q"
        return put_record, "q"
    return put_object, "q"


def put_truth(values: list[Any], truth: Any) -> None:
    """Append a bool of Python or of NumPy."""
    values.append(bool(truth))


def put_number(values: list[Any], number: Any) -> None:
    """Append a number of NumPy."""
    values.append(number.item())


def put_object(values: list[Any], array: Any) -> None:
    """Append the address of an array's object; the caller keeps the array."""
    values.append(id(array))


def put_record(values: list[Any], record: Any) -> None:
    """Append the address of a record."""
    values.append(record.__array_interface__["data"][0])


def exception_of(address: int | None) -> BaseException:
    """Return the exception that Numba's code describes at an address."""
    if not address:
        return RuntimeError("compiled code failed without an exception")
    failure = Failure.from_address(address)
    kind, arguments, _ = pickle.loads(ctypes.string_at(failure.text, failure.size))
    made = kind(*(arguments or ()))
    return made if isinstance(made, BaseException) else RuntimeError(str(made))
