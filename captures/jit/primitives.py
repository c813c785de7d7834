# SPDX-License-Identifier: BSD-3-Clause
"""Operations of the machine for kernels, as Numba's intrinsics; imported only to compile."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic


def fencing(context: Any) -> Any:
    """Return the Numba intrinsic of a fence: memory accesses are not reordered across it."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        builder.fence("seq_cst")
        return context.get_dummy_value()

    return types.void(), code


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


INTRINSICS: dict[str, Any] = {
    "fence": intrinsic(fencing),
    "prefetch_for_read": intrinsic(prefetching(0)),
    "prefetch_for_write": intrinsic(prefetching(1)),
    "read_into": intrinsic(reading),
}


def external_type(name: str, count: int) -> Any:
    """Return Numba's type of a C function of `count` integer or pointer arguments."""
    return types.ExternalFunction(name, types.int64(*(types.int64,) * count))
