# SPDX-License-Identifier: BSD-3-Clause
"""Compile kernels: turn functions of the packet path into machine code with less work than Numba.

Numba makes every compiled function callable on its own: optimised together with everything that it
calls, turned into machine code, with two wrappers. For several hundred small functions that only
call one another, nearly all of that work is wasted. This module compiles each kernel as a *part*:
typed and lowered only. A kernel that Python calls is linked with all parts that it reaches and with
an entry in C's calling convention (`machine_code`), optimised once, and written as an object file.

A part on disk names the parts that it needs, so that each part is stored once.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib
from collections.abc import Callable, Iterator
from typing import Any

import llvmlite.binding as llvm
import numba
from llvmlite import ir
from numba import types
from numba.core.bytecode import FunctionIdentity
from numba.core.caching import CompileResultCacheImpl, FunctionCache
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler, CompileResult
from numba.core.compiler_lock import global_compiler_lock
from numba.core.funcdesc import default_mangler
from numba.core.registry import CPUDispatcher, cpu_target
from numba.core.types.misc import unliteral
from numba.core.untyped_passes import ExtractByteCode
from numba.extending import typeof_impl
from numba.np.arrayobj import populate_array

from midcall.captures.jit.code_folders import code_folder
from midcall.captures.jit.kernel import External, Kernel, Primitive, report_compilation
from midcall.captures.jit.machine_code import DATA_AT, LENGTHS_AT, STRIDES_AT, Entry
from midcall.captures.jit.primitives import INTRINSICS, external_type

#: The prefix of the names of variables that hold a function's environment, which stay empty.
ENVIRONMENT = "_ZN08NumbaEnv"
WORD = ir.IntType(64)

_dispatchers: dict[int, Dispatcher] = {}


class _NoEngine:
    """A stand-in for a part's engine: a part has no address."""

    @staticmethod
    def set_env(name: str, environment: Any) -> None:
        """Do nothing."""


class Part(JITCodeLibrary):  # type: ignore[misc]
    """The code of one kernel, to be linked.

    origin: (module, name, argument types) of the kernel.
    """

    origin: tuple[str, str, Any] | None = None

    @property
    def codegen(self) -> Any:
        """Return the code generator, of which only `set_env` is used."""
        return _NoEngine

    def finalize(self) -> None:
        """Mark the part as ready to be linked."""
        self._raise_if_finalized()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """Return 0: there is no machine code."""
        del name
        return 0

    def bitcode(self) -> bytes:
        """Return the part's code with that of Numba's own functions which it calls.

        Numba numbers the latter differently in each process, so they become internal to the part.
        """
        module = self._get_module_for_linking().clone()
        own = {function.name for function in module.functions if not function.is_declaration}
        for library in _distinct(self._linking_libraries):
            if getattr(library, "origin", None) is None:
                module.link_in(library._get_module_for_linking(), preserve=True)
        for function in module.functions:
            if not function.is_declaration and function.name not in own:
                function.linkage = "internal"
        return bytes(module.as_bitcode())

    def needs(self) -> list[tuple[str, str, Any]]:
        """Return the origins of the kernels that it calls."""
        origins = [getattr(one, "origin", None) for one in _distinct(self._linking_libraries)]
        return [origin for origin in origins if origin is not None]


class Whole(JITCodeLibrary):  # type: ignore[misc]
    """The code of a kernel that Python calls, with all parts that it calls, also indirectly."""

    _linking_libraries: Any

    def object_file(self, symbol: str) -> bytes:
        """Link, optimise, and return an object file that exports the function `symbol` alone."""
        for library in _reached(self._linking_libraries):
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        for function in self._final_module.functions:
            if not function.is_declaration and function.name != symbol:
                function.linkage = "internal"  # so that unused arguments are removed
        for variable in self._final_module.global_variables:
            if variable.name.startswith(ENVIRONMENT):
                variable.linkage = "internal"
        self._optimize_final_module()
        self._final_module.verify()
        absent = sorted(_absent(self._final_module))
        if absent:
            raise RuntimeError(
                f"{self.name}: compiled code needs {', '.join(absent)}, which only Numba has"
            )
        return bytes(self._codegen._tm.emit_object(self._final_module))


def _absent(module: Any) -> Iterator[str]:
    """Yield the functions that a module calls and this process, without Numba, has not."""
    process = ctypes.CDLL(None)
    for function in module.functions:
        if function.is_declaration and not function.name.startswith("llvm."):
            if not hasattr(process, function.name):
                yield function.name


def _distinct(libraries: Any) -> list[Any]:
    return list(dict.fromkeys(libraries))


def _reached(libraries: Any) -> Iterator[Any]:
    """Yield libraries and those that their parts call, also indirectly, each once."""
    visited: dict[int, Any] = {}
    ahead = _distinct(libraries)[::-1]
    while ahead:
        library = ahead.pop()
        if id(library) in visited:
            continue
        visited[id(library)] = library
        if isinstance(library, Part):
            ahead += _distinct(library._linking_libraries)[::-1]
    yield from visited.values()


def _mangled(name: str, argtypes: Any, *, abi_tags: Any = (), uid: int | None = None) -> str:
    """Return a function's mangled name, the same in every process, unlike Numba's own."""
    digest = hashlib.sha256(repr(tuple(argtypes)).encode()).hexdigest()[:20]
    return str(default_mangler(name, (), abi_tags=(*abi_tags, digest), uid=uid))


class _Pipeline(Compiler):  # type: ignore[misc]
    """Numba's pipeline, with a part as its result.

    A kernel's mangled name is the same in each process, so that parts of different processes can be
    linked.
    """

    def compile_extra(self, func: Callable[..., Any]) -> Any:
        """Compile a function."""
        report_compilation()
        state = self.state
        state.library = Part(state.targetctx.codegen(), func.__qualname__)
        state.library.enable_object_caching()
        state.flags.no_cfunc_wrapper = state.flags.no_cpython_wrapper = True
        state.targetctx.mangler = _mangled
        state.func_id = FunctionIdentity.from_function(func)
        if "<locals>" not in func.__qualname__:
            state.func_id.unique_id = 0
        ExtractByteCode().run_pass(state)
        state.lifted, state.lifted_from = (), None
        return self._compile_bytecode()


class _CacheImpl(CompileResultCacheImpl):  # type: ignore[misc]
    """The disk format of parts."""

    def reduce(self, result: CompileResult) -> Any:
        """Return the serialised form of a result."""
        library = result.library
        result.fndesc.typemap = result.fndesc.calltypes = None
        environments = tuple(result._find_referenced_environments())
        code = (library.name, library.bitcode(), library.needs())
        return code, result.fndesc, result.environment, result.signature, environments

    def rebuild(self, target: Any, stored: Any) -> Any:
        """Return the result of a serialised form."""
        (name, bitcode, needs), fndesc, environment, signature, environments = stored
        library = Part(target.codegen(), name)
        library._final_module = llvm.parse_bitcode(bitcode)
        for module, function, arguments in needs:
            needed = dispatcher(getattr(importlib.import_module(module), function))
            needed.compile(arguments)
            library.add_linking_library(needed.overloads[arguments].library)
        library.finalize()
        return CompileResult(
            target_context=target,
            typing_context=target.typing_context,
            library=library,
            environment=environment,
            entry_point=target.get_executable(library, fndesc, environment),
            fndesc=fndesc,
            type_annotation="",
            signature=signature,
            objectmode=False,
            lifted=(),
            typing_error=None,
            call_helper=None,
            metadata=None,
            reload_init=(),
            referenced_envs=environments,
        )


class _Cache(FunctionCache):  # type: ignore[misc]
    """Numba's cache of a function, for parts."""

    _impl_class = _CacheImpl


class Dispatcher(CPUDispatcher):  # type: ignore[misc]
    """The Numba object of a kernel, which other kernels call."""

    def __init__(
        self, py_func: Callable[..., Any], locals: Any = None, targetoptions: Any = None
    ) -> None:
        """Wrap a function; nothing is compiled yet."""
        super().__init__(py_func, locals, targetoptions, pipeline_class=_Pipeline)

    def enable_caching(self) -> None:
        """Keep parts on disk."""
        self._cache = _Cache(self.py_func)

    def get_call_template(self, args: Any, kws: Any) -> Any:
        """Return the types of a call from another kernel, constants widened to their type.

        Otherwise Numba would compile a function once per constant argument.
        """
        plain = [unliteral(one) for one in args]
        return super().get_call_template(plain, {name: unliteral(one) for name, one in kws.items()})

    def add_overload(self, cres: Any) -> None:
        """Store a result, which Python may not call."""
        arguments = tuple(cres.signature.args)
        cres.library.origin = (self.py_func.__module__, self.py_func.__name__, arguments)
        self.overloads[arguments] = cres


def dispatcher(kernel: Kernel[..., Any]) -> Dispatcher:
    """Return the Numba object of a kernel, made once."""
    made = _dispatchers.get(id(kernel))
    if made is None:
        made = _dispatchers[id(kernel)] = Dispatcher(
            kernel.function, targetoptions=dict(kernel.options)
        )
        numba.config.CACHE_DIR = str(code_folder(kernel.function.__module__))
        made.enable_caching()
    return made


@typeof_impl.register(Kernel)  # type: ignore[untyped-decorator]
def _typeof_kernel(kernel: Kernel[..., Any], _context: Any) -> Any:
    return types.Dispatcher(dispatcher(kernel))


@typeof_impl.register(Primitive)  # type: ignore[untyped-decorator]
def _typeof_primitive(primitive: Primitive, _context: Any) -> Any:
    return cpu_target.typing_context.resolve_value_type(INTRINSICS[primitive.name])


@typeof_impl.register(External)  # type: ignore[untyped-decorator]
def _typeof_external(function: External, _context: Any) -> Any:
    return external_type(function.name, function.count)


# ---- the entry in C's calling convention


def build(kernel: Kernel[..., Any], args: tuple[Any, ...]) -> tuple[Entry, bytes]:
    """Return the object file of a kernel for the types of some arguments, and its description."""
    with global_compiler_lock:
        of_kernel = dispatcher(kernel)
        arguments = tuple(numba.typeof(one) for one in args)
        of_kernel.compile(arguments)
        part = of_kernel.overloads[arguments]
        name = kernel.function.__qualname__
        symbol = (
            "midcall_"
            + hashlib.sha256(f"{kernel.function.__module__}.{name}{arguments}".encode()).hexdigest()
        )
        whole = Whole(part.target_context.codegen(), name)
        module, results, single = entry_module(part, symbol)
        whole.add_ir_module(module)
        whole.add_linking_library(part.library)
        code = whole.object_file(symbol)
    return Entry(symbol, results, single, hashlib.sha256(code).hexdigest()), code


def entry_module(part: CompileResult, symbol: str) -> tuple[Any, list[str], bool]:
    """Return a module with the entry of a kernel, the kinds of its results, and if it is one."""
    context, about = part.target_context, part.fndesc
    module = context.codegen()._create_empty_module(symbol)
    pointer, failure = WORD.as_pointer(), ir.IntType(8).as_pointer()
    entry = ir.Function(module, ir.FunctionType(failure, [pointer, pointer]), symbol)
    words, results = entry.args
    builder = ir.IRBuilder(entry.append_basic_block("entry"))
    reader = _Words(context, builder, words)
    values = [reader.argument(one) for one in about.argtypes]
    function = context.declare_function(module, about)
    status, result = context.call_conv.call_function(
        builder, function, about.restype, about.argtypes, values
    )
    with builder.if_then(status.is_error):
        builder.ret(builder.bitcast(status.excinfoptr, failure))
    restype = about.restype
    single = not isinstance(restype, types.BaseTuple)
    kinds: list[str] = []
    parts = [(restype, result)] if single else _elements(builder, restype, result)
    for one, value in parts:
        if one == types.none:
            continue
        word, spelled = _as_word(context, builder, one, value)
        builder.store(word, builder.gep(results, [WORD(len(kinds))]))
        kinds.append(spelled)
    builder.ret(failure(None))
    return module, kinds, single


def _elements(builder: Any, kind: Any, value: Any) -> list[tuple[Any, Any]]:
    return [(one, builder.extract_value(value, at)) for at, one in enumerate(kind.types)]


def _as_word(context: Any, builder: Any, kind: Any, value: Any) -> tuple[Any, str]:
    """Return a result as a word, and the name of its kind."""
    kind = unliteral(kind)
    if isinstance(kind, types.Boolean):
        return builder.zext(value, WORD), "bool"
    if isinstance(kind, types.Integer):
        wide = builder.sext if kind.signed else builder.zext
        word = value if kind.bitwidth == 64 else wide(value, WORD)
        return word, "int" if kind.signed or kind.bitwidth < 64 else "unsigned"
    if isinstance(kind, types.Float):
        full = context.cast(builder, value, kind, types.float64)
        return builder.bitcast(full, WORD), "float"
    raise TypeError(f"a kernel that Python calls cannot return {kind}")


class _Words:
    """Reads the arguments of an entry from its words."""

    def __init__(self, context: Any, builder: Any, words: Any) -> None:
        self.context, self.builder, self.words, self.at = context, builder, words, 0

    def word(self) -> Any:
        """Return the next word."""
        place = self.builder.gep(self.words, [WORD(self.at)])
        self.at += 1
        return self.builder.load(place)

    def field(self, place: Any, offset: int) -> Any:
        """Return the word at an address and an offset in bytes."""
        address = self.builder.add(place, WORD(offset))
        return self.builder.load(self.builder.inttoptr(address, WORD.as_pointer()))

    def argument(self, kind: Any) -> Any:
        """Return the next argument, as Numba passes it."""
        context, builder, kind = self.context, self.builder, unliteral(kind)
        if isinstance(kind, types.Boolean):
            return builder.trunc(self.word(), ir.IntType(1))
        if isinstance(kind, types.Integer):
            word = self.word()
            return word if kind.bitwidth == 64 else builder.trunc(word, ir.IntType(kind.bitwidth))
        if isinstance(kind, types.Float):
            full = builder.bitcast(self.word(), ir.DoubleType())
            return context.cast(builder, full, types.float64, kind)
        if isinstance(kind, types.Record):
            return builder.inttoptr(self.word(), context.get_value_type(kind))
        if isinstance(kind, types.Array):
            return self.array(kind)
        if isinstance(kind, types.BaseTuple):
            return context.make_tuple(builder, kind, [self.argument(one) for one in kind.types])
        raise TypeError(f"Python cannot pass {kind} to a kernel")

    def array(self, kind: Any) -> Any:
        """Return the next array."""
        context, builder = self.context, self.builder
        array = context.make_array(kind)(context, builder)
        place = self.word()
        data = builder.inttoptr(self.field(place, DATA_AT), array.data.type)
        lengths = self.field(place, LENGTHS_AT)
        shape = [self.field(lengths, 8 * i) for i in range(kind.ndim)]
        size = WORD(context.get_abi_sizeof(context.get_data_type(kind.dtype)))
        if kind.layout == "C":
            strides = [size]
            for length in shape[:0:-1]:
                strides.insert(0, builder.mul(strides[0], length))
            strides = strides[: kind.ndim]
        else:
            steps = self.field(place, STRIDES_AT)
            strides = [self.field(steps, 8 * i) for i in range(kind.ndim)]
        populate_array(array, data=data, shape=shape, strides=strides, itemsize=size, meminfo=None)
        return array._getvalue()
