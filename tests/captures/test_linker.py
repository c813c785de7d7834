# SPDX-License-Identifier: BSD-3-Clause
"""Names inside Numba that the linker uses: a newer Numba that moves one of them fails here."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from importlib import import_module

import pytest

#: Module, name of the object in it, and the parameters that the linker gives or overrides.
INTERNALS = [
    ("numba.core.bytecode", "FunctionIdentity.from_function", ["pyfunc"]),
    ("numba.core.caching", "CompileResultCacheImpl.reduce", ["self", "cres"]),
    ("numba.core.caching", "CompileResultCacheImpl.rebuild", ["self", "target_context", "payload"]),
    ("numba.core.codegen", "JITCodeLibrary.add_ir_module", ["self", "ir_module"]),
    ("numba.core.codegen", "JITCodeLibrary.finalize", ["self"]),
    ("numba.core.codegen", "JITCodeLibrary._optimize_final_module", ["self"]),
    ("numba.core.codegen", "JITCodeLibrary._get_module_for_linking", ["self"]),
    ("numba.core.codegen", "JITCodeLibrary._raise_if_finalized", ["self"]),
    ("numba.core.codegen", "JITCodeLibrary.add_linking_library", ["self", "library"]),
    ("numba.core.codegen", "JITCodeLibrary.enable_object_caching", ["self"]),
    ("numba.core.compiler", "CompilerBase.compile_extra", ["self", "func"]),
    ("numba.core.compiler", "CompilerBase._compile_bytecode", ["self"]),
    ("numba.core.compiler", "Flags.get_mangle_string", ["self"]),
    (
        "numba.core.callconv",
        "CPUCallConv.call_function",
        ["self", "builder", "callee", "resty", "argtys", "args", "attrs"],
    ),
    ("numba.core.codegen", "JITCPUCodegen._create_empty_module", ["self", "name"]),
    ("numba.core.funcdesc", "default_mangler", ["name", "argtypes", "abi_tags", "uid"]),
    ("numba.core.registry", "CPUDispatcher.get_call_template", ["self", "args", "kws"]),
    ("numba.core.registry", "CPUDispatcher.compile", ["self", "sig"]),
    ("numba.core.registry", "CPUDispatcher.add_overload", ["self", "cres"]),
    ("numba.core.typing.context", "BaseContext.resolve_value_type", ["self", "val"]),
    (
        "numba.np.arrayobj",
        "populate_array",
        ["array", "data", "shape", "strides", "itemsize", "meminfo", "parent"],
    ),
    ("numba.core.types.misc", "unliteral", ["lit_type"]),
    ("numba.core.untyped_passes", "ExtractByteCode.run_pass", ["self", "state"]),
]

ORDINARY = """
import numpy as np
from midcall.captures.jit.code_folders import LINKED
from midcall.captures.jit.kernel import Kernel
from midcall.captures.jit.reads import u32
assert not LINKED and not isinstance(u32, Kernel)
print(u32(np.arange(4, dtype=np.uint8), 0))
"""


@pytest.mark.parametrize(("module", "name", "parameters"), INTERNALS)
def test_numba_has_what_the_linker_stands_on(module: str, name: str, parameters: list[str]) -> None:
    thing = import_module(module)
    for part in name.split("."):
        thing = getattr(thing, part)
    assert list(inspect.signature(thing).parameters)[-len(parameters) :] == parameters


def test_without_the_linker_kernels_are_ordinary_ones_of_numba() -> None:
    if os.environ.get("NUMBA_DISABLE_JIT") == "1":
        pytest.skip("nothing is compiled")
    done = subprocess.run(
        [sys.executable, "-c", ORDINARY],
        env={**os.environ, "MIDCALL_LINKER": "no"},
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert done.stdout == "66051\n"
