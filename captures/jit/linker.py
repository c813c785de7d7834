# SPDX-License-Identifier: BSD-3-Clause
"""Kernels: functions of the packet path, and how Numba makes machine code of them.

Numba makes each compiled function ready to be called by itself: optimised together with everything
that it calls, turned into machine code, with two wrappers. Of several hundred small functions that
only call one another, nearly all of that work is thrown away. Here a function that is compiled for
a caller is a *part*: typed, lowered and kept as it is. Only what Python itself calls is made whole:
it is linked with all the parts that it reaches, and optimised once.

A part that is kept on disk names the parts that it needs, so that each is kept once.
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

#: How the name of a variable begins that holds a function's environment.
ENVIRONMENT = "_ZN08NumbaEnv"

_depth = 0
_listeners: list[Callable[[], None]] = []


def when_compiling(tell: Callable[[], None]) -> None:
    """Have `tell` called once, when this process first makes machine code that no disk has kept."""
    _listeners[:] = [tell]


@contextmanager
def _deeper() -> Iterator[None]:
    """Count that one more compilation is going on; held under Numba's lock."""
    global _depth  # noqa: PLW0603 - compilations nest, one thread at a time
    _depth += 1
    try:
        yield
    finally:
        _depth -= 1


def _for_a_caller() -> bool:
    """Tell whether the compilation that goes on was begun by another one."""
    return _depth > 1


class _NoEngine:
    """What sets the environments of parts: they have no address yet, `Whole` sets them."""

    @staticmethod
    def set_env(name: str, environment: Any) -> None:
        """Do nothing."""


class Part(JITCodeLibrary):  # type: ignore[misc]
    """The code of one kernel, to be linked into whole ones.

    origin: (module, name, argument types) of the kernel; needs: origins of the parts that it calls
    where it came from the disk, whose libraries are then not known.
    """

    origin: tuple[str, str, Any] | None = None

    @property
    def codegen(self) -> Any:
        """Return the code generator; only environments are asked of it."""
        return _NoEngine

    def finalize(self) -> None:
        """Be ready to be linked."""
        self._raise_if_finalized()
        self._finalized = True

    def get_pointer_to_function(self, name: str) -> int:
        """Return 0: there is no machine code."""
        del name
        return 0

    def bitcode(self) -> bytes:
        """Return the part's code with that of Numba's own functions which it calls.

        The latter are numbered anew in each process, so their names are made the part's own.
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
        found = [getattr(one, "origin", None) for one in _distinct(self._linking_libraries)]
        return [origin for origin in found if origin is not None]


class Whole(JITCodeLibrary):  # type: ignore[misc]
    """The code of a kernel that Python calls, with all parts that it reaches."""

    _linking_libraries: Any

    def finalize(self) -> None:
        """Link, optimise and make machine code; then hand every part its environment."""
        self._linking_libraries = list(_reached(self._linking_libraries))
        super().finalize()
        engine = self._codegen._engine
        for variable in self._final_module.global_variables:
            if variable.name.startswith(ENVIRONMENT):
                environment = lookup_environment(variable.name)
                if environment is not None and engine.get_global_value_address(variable.name):
                    self._codegen.set_env(variable.name, environment)

    def _optimize_final_module(self) -> None:
        """Optimise, knowing that nobody else calls the parts: unused arguments go."""
        for function in self._final_module.functions:
            if function.linkage == llvm.Linkage.linkonce_odr:
                function.linkage = "internal"
        super()._optimize_final_module()


def _distinct(libraries: Any) -> list[Any]:
    return list(dict.fromkeys(libraries))


def _reached(libraries: Any) -> Iterator[Any]:
    """Yield libraries and, behind parts, those that they call, each once."""
    seen: dict[int, Any] = {}
    ahead = _distinct(libraries)[::-1]
    while ahead:
        library = ahead.pop()
        if id(library) in seen:
            continue
        seen[id(library)] = library
        if isinstance(library, Part):
            ahead += _distinct(library._linking_libraries)[::-1]
    yield from seen.values()


class _Flags(Flags):  # type: ignore[misc]
    """Numba's flags; that a part has no wrapper is no part of its name."""

    __slots__ = ()

    def get_mangle_string(self) -> str:
        """Return what the name of a function says of its flags."""
        plain = Flags(self)
        plain.no_cpython_wrapper = False
        return str(plain.get_mangle_string())


def _mangled(name: str, argtypes: Any, *, abi_tags: Any = (), uid: int | None = None) -> str:
    """Return a function's name in the code; Numba's names hold numbers of this very process."""
    digest = hashlib.sha256(repr(tuple(argtypes)).encode()).hexdigest()[:20]
    return str(default_mangler(name, (), abi_tags=(*abi_tags, digest), uid=uid))


class _Pipeline(Compiler):  # type: ignore[misc]
    """Numba's pipeline, into a part or a whole.

    A kernel's name in the code is the same in each process, and for parts and wholes, so that any
    of them can be linked to any other.
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
    """How parts are kept on disk; wholes are kept as Numba keeps them."""

    def reduce(self, result: CompileResult) -> Any:
        """Return what is written."""
        library = result.library
        if not isinstance(library, Part):
            return super().reduce(result)
        result.fndesc.typemap = result.fndesc.calltypes = None
        environments = tuple(result._find_referenced_environments())
        code = (library.name, library.bitcode(), library.needs())
        return code, result.fndesc, result.environment, result.signature, environments

    def rebuild(self, target: Any, kept: Any) -> Any:
        """Return the result that was written."""
        if len(kept) != 5:
            return super().rebuild(target, kept)
        (name, bitcode, needs), fndesc, environment, signature, environments = kept
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
    """Numba's cache of a function, with parts beside wholes."""

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
        """Return the types of a call from another kernel; a constant is any number of its type.

        Numba would compile a function once per constant that it is called with.
        """
        plain = [unliteral(one) for one in args]
        return super().get_call_template(plain, {name: unliteral(one) for name, one in kws.items()})

    def compile(self, sig: Any) -> Any:
        """Compile for the argument types, as a part where another compilation asks for it."""
        with global_compiler_lock, _deeper():
            if not _for_a_caller():
                self._forget_part(sig)
            return super().compile(sig)

    def _forget_part(self, sig: Any) -> None:
        arguments = tuple(getattr(sig, "args", sig))
        held = self.overloads.get(arguments)
        if held is not None and isinstance(held.library, Part):
            del self.overloads[arguments]

    def add_overload(self, cres: Any) -> None:
        """Keep a result; Python may call it only where it is whole."""
        arguments = tuple(cres.signature.args)
        cres.library.origin = (self.py_func.__module__, self.py_func.__name__, arguments)
        if isinstance(cres.library, Part):
            self.overloads[arguments] = cres
        else:
            super().add_overload(cres)
