# SPDX-License-Identifier: BSD-3-Clause
"""Link kernels: turn functions of the packet path into machine code with less work than Numba.

Numba makes every compiled function callable on its own: optimised together with everything that it
calls, turned into machine code, with two wrappers. For several hundred small functions that only
call one another, nearly all of that work is wasted. This module compiles a function that another
kernel calls as a *part*: typed and lowered only. A function that Python calls becomes a *whole*: it
is linked with all parts that it reaches, and optimised once.

A part on disk names the parts that it needs, so that each part is stored once.
"""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import llvmlite.binding as llvm
from numba.core.bytecode import FunctionIdentity
from numba.core.caching import CompileResultCacheImpl, FunctionCache
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import Compiler, CompileResult, Flags
from numba.core.compiler_lock import global_compiler_lock
from numba.core.environment import lookup_environment
from numba.core.funcdesc import default_mangler
from numba.core.registry import CPUDispatcher
from numba.core.types.misc import unliteral
from numba.core.untyped_passes import ExtractByteCode

#: The prefix of the names of variables that hold a function's environment.
ENVIRONMENT = "_ZN08NumbaEnv"

_depth = 0
_listeners: list[Callable[[], None]] = []


def when_compiling(callback: Callable[[], None]) -> None:
    """Call `callback` once, when this process first compiles code that is not cached on disk."""
    _listeners[:] = [callback]


@contextmanager
def _deeper() -> Iterator[None]:
    """Count one more nested compilation; the caller must hold Numba's lock."""
    global _depth  # noqa: PLW0603 - compilations nest, one thread at a time
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1


def _for_a_caller() -> bool:
    """Return whether the current compilation was started by another one."""
    return _depth > 1


class _NoEngine:
    """A stand-in for a part's engine: a part has no address yet, so `Whole` sets environments."""

    @staticmethod
    def set_env(name: str, environment: Any) -> None:
        """Do nothing."""


class Part(JITCodeLibrary):  # type: ignore[misc]
    """The code of one kernel, to be linked into wholes.

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

    def finalize(self) -> None:
        """Link, optimise and generate machine code; then set the environment of every part."""
        self._linking_libraries = list(_reached(self._linking_libraries))
        super().finalize()
        engine = self._codegen._engine
        for variable in self._final_module.global_variables:
            if variable.name.startswith(ENVIRONMENT):
                environment = lookup_environment(variable.name)
                if environment is not None and engine.get_global_value_address(variable.name):
                    self._codegen.set_env(variable.name, environment)

    def _optimize_final_module(self) -> None:
        """Optimise with internal linkage of the parts, so that unused arguments are removed."""
        for function in self._final_module.functions:
            if function.linkage == llvm.Linkage.linkonce_odr:
                function.linkage = "internal"
        super()._optimize_final_module()


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


class _Flags(Flags):  # type: ignore[misc]
    """Numba's flags, without the missing wrapper of a part in mangled names."""

    __slots__ = ()

    def get_mangle_string(self) -> str:
        """Return the flags' part of a mangled function name."""
        plain = Flags(self)
        plain.no_cpython_wrapper = False
        return str(plain.get_mangle_string())


def _mangled(name: str, argtypes: Any, *, abi_tags: Any = (), uid: int | None = None) -> str:
    """Return a function's mangled name, the same in every process, unlike Numba's own."""
    digest = hashlib.sha256(repr(tuple(argtypes)).encode()).hexdigest()[:20]
    return str(default_mangler(name, (), abi_tags=(*abi_tags, digest), uid=uid))


class _Pipeline(Compiler):  # type: ignore[misc]
    """Numba's pipeline, with a part or a whole as its result.

    A kernel's mangled name is the same in each process, and for parts and wholes, so that any of
    them can be linked to any other.
    """

    def compile_extra(self, func: Callable[..., Any]) -> Any:
        """Compile a function."""
        while _listeners:
            _listeners.pop()()
        part, state = _for_a_caller(), self.state
        made = (Part if part else Whole)(state.targetctx.codegen(), func.__qualname__)
        made.enable_object_caching()
        state.library = made
        state.flags.no_cfunc_wrapper = True
        state.targetctx.mangler = _mangled
        state.flags = _Flags(state.flags)
        state.flags.no_cpython_wrapper = part
        state.func_id = FunctionIdentity.from_function(func)
        if "<locals>" not in func.__qualname__:
            state.func_id.unique_id = 0
        ExtractByteCode().run_pass(state)
        state.lifted, state.lifted_from = (), None
        return self._compile_bytecode()


class _CacheImpl(CompileResultCacheImpl):  # type: ignore[misc]
    """The disk format of parts; wholes have Numba's own format."""

    def reduce(self, result: CompileResult) -> Any:
        """Return the serialised form of a result."""
        library = result.library
        if not isinstance(library, Part):
            return super().reduce(result)
        result.fndesc.typemap = result.fndesc.calltypes = None
        environments = tuple(result._find_referenced_environments())
        code = (library.name, library.bitcode(), library.needs())
        return code, result.fndesc, result.environment, result.signature, environments

    def rebuild(self, target: Any, stored: Any) -> Any:
        """Return the result of a serialised form."""
        if len(stored) != 5:
            return super().rebuild(target, stored)
        (name, bitcode, needs), fndesc, environment, signature, environments = stored
        library = Part(target.codegen(), name)
        library._final_module = llvm.parse_bitcode(bitcode)
        for module, function, arguments in needs:
            kernel = getattr(importlib.import_module(module), function)
            kernel.compile(arguments)
            library.add_linking_library(kernel.overloads[arguments].library)
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
    """Numba's cache of a function, with separate entries for parts and wholes."""

    _impl_class = _CacheImpl

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        return (*super()._index_key(sig, codegen), "part" if _for_a_caller() else "whole")


class Kernel(CPUDispatcher):  # type: ignore[misc]
    """A compiled function of the packet path."""

    def __init__(
        self, py_func: Callable[..., Any], locals: Any = None, targetoptions: Any = None
    ) -> None:
        """Wrap a function; nothing is compiled before a call."""
        super().__init__(py_func, locals, targetoptions, pipeline_class=_Pipeline)

    def enable_caching(self) -> None:
        """Keep machine code and parts on disk."""
        self._cache = _Cache(self.py_func)

    def get_call_template(self, args: Any, kws: Any) -> Any:
        """Return the types of a call from another kernel, constants widened to their type.

        Otherwise Numba would compile a function once per constant argument.
        """
        plain = [unliteral(one) for one in args]
        return super().get_call_template(plain, {name: unliteral(one) for name, one in kws.items()})

    def compile(self, sig: Any) -> Any:
        """Compile for the argument types, as a part if another compilation started it."""
        with global_compiler_lock, _deeper():
            if not _for_a_caller():
                self._forget_part(sig)
            return super().compile(sig)

    def _forget_part(self, sig: Any) -> None:
        arguments = tuple(getattr(sig, "args", sig))
        overload = self.overloads.get(arguments)
        if overload is not None and isinstance(overload.library, Part):
            del self.overloads[arguments]

    def add_overload(self, cres: Any) -> None:
        """Store a result; Python may call only a whole."""
        arguments = tuple(cres.signature.args)
        cres.library.origin = (self.py_func.__module__, self.py_func.__name__, arguments)
        if isinstance(cres.library, Part):
            self.overloads[arguments] = cres
        else:
            super().add_overload(cres)
