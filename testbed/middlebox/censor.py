# SPDX-License-Identifier: BSD-3-Clause
"""Censors: a box's rule in plain Python, for conditions that the policy language cannot express.

A file holds `def censor(packet, flow)`, which returns PASS, DROP, RESET, DROP_FLOW or PASS_FLOW; it
may keep four numbers for each flow. It is compiled separately, in about a second, and called by the
packet path after the classifier's verdict; the path itself is not recompiled. An error in it is
reported as a sentence with file and line, and ends the run: no packet ever passes because a censor
failed.
"""

from __future__ import annotations

import ast
import difflib
import hashlib
import linecache
import re
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, cast

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core.errors import NumbaError
from numba.extending import intrinsic
from numpy.typing import NDArray

from midcall.captures.jit.code_folders import PLAIN
from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets
from midcall.classifier.state.packet_fields import (
    SIGN_PAYLOAD_AT,
    SIGN_PAYLOAD_END,
    SIGN_PAYLOAD_SIZE,
    SIGN_STUN,
    SIGN_TCP_FLAGS,
)
from midcall.classifier.state.verdicts import APPS, ROLES, VERDICTS
from midcall.errors import TestbedError

Numbers = NDArray[np.int64]

# Return values of a censor, and FAILED for one that raised.
ANSWERS = ("PASS", "DROP", "RESET", "DROP_FLOW", "PASS_FLOW")
GO_ON, DROP_IT, RESET_IT, DROP_ALL, PASS_ALL = range(5)
FAILED = -1


class Packet(NamedTuple):
    """The fields of a packet that a censor can read."""

    payload: Any  # its octets, as far as captured: packet.payload[0], len(packet.payload)
    size: Any  # payload octets on the wire
    up: Any  # True: from the subscriber
    seconds: Any  # since its flow began
    stun: Any  # STUN message type, -1 where it is none
    flags: Any  # of TCP


class Flow(NamedTuple):
    """The fields of the packet's flow that a censor can read, this packet counted."""

    app: Any  # WHATSAPP, SKYPE ... or NONE
    role: Any  # MEDIA, SETUP, CONTROL, MESSAGING or OTHER
    verdict: Any  # CERTAIN, UNSURE, NOT_CALL or UNDECIDED
    protocol: Any  # 6 TCP, 17 UDP ...
    port: Any  # of the remote end
    packets: Any
    bytes: Any
    packets_up: Any
    packets_down: Any
    bytes_up: Any
    bytes_down: Any
    memory: Any  # int64[MEMORY] of the censor's own, 0 at first


#: Numbers that a censor may keep for each flow.
MEMORY = 4
#: Fields of Packet and Flow in `facts`; those behind MEMORY_AT are what the censor keeps.
MEMORY_AT = 16
FACTS = MEMORY_AT + MEMORY


def constant(word: str) -> str:
    """Return a word as the name of a constant: other-rtc is OTHER_RTC."""
    return word.upper().replace("-", "_")


#: The names that a censor may use, besides Python's own.
CONSTANTS = {
    **{constant(word): number for number, word in enumerate(APPS)},
    **{constant(word): number for number, word in enumerate(ROLES)},
    **{constant(word): number for number, word in enumerate(VERDICTS)},
    **{word: number for number, word in enumerate(ANSWERS)},
}


class Censor(NamedTuple):
    """A compiled censor: `address` calls it from compiled code, `plain` is the Python function."""

    path: str
    address: int
    plain: Callable[[Any, Any], Any]
    keep: Any  # object that must not be freed while the address is in use
    remembers: bool = False  # it uses flow.memory


_compiled: dict[str, Censor] = {}
_plain: dict[int, Censor] = {}


def load(path: str) -> Censor:
    """Return the censor of a file, compiled; raises TestbedError with file and line."""
    try:
        source = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise TestbedError(f"{path}: a censor cannot be read from it ({error})") from None
    key = hashlib.sha256(f"{path}\0{source}".encode()).hexdigest()
    if key not in _compiled:
        _compiled[key] = build(path, source)
        _plain[_compiled[key].address] = _compiled[key]
    return _compiled[key]


def build(path: str, source: str) -> Censor:
    """Return a censor, checked and compiled; raises TestbedError with every problem."""
    problems = list(check(path, source))
    if problems:
        raise TestbedError("\n".join(problems))
    names: dict[str, Any] = {**CONSTANTS, "__name__": "censor"}
    linecache.cache[path] = (len(source), None, source.splitlines(keepends=True), path)
    try:
        exec(compile(source, path, "exec"), names)
    except Exception as error:
        raise TestbedError(sentence(path, error)) from None
    plain, remembers = names["censor"], uses_memory(source)
    if PLAIN:
        return Censor(path, len(_plain) + 1, plain, None, remembers)
    try:
        return compiled(path, plain)._replace(remembers=remembers)
    except NumbaError as error:
        raise TestbedError(numba_sentence(path, str(error))) from None


def compiled(path: str, plain: Callable[[Any, Any], Any]) -> Censor:
    """Return a checked censor, compiled with bounds checks; raises NumbaError."""
    inner = numba.njit(boundscheck=True, error_model="python")(plain)

    def guarded(payload: Any, size: Any, facts: Any) -> Any:
        octets = numba.carray(payload, (size,))
        fact = numba.carray(facts, (FACTS,))
        try:
            return np.int64(
                inner(
                    Packet(
                        octets, fact[0], fact[1] == 1, fact[2] / 1e9, fact[3], fact[4]
                    ),
                    Flow(
                        fact[5], fact[6], fact[7], fact[8], fact[9], fact[10], fact[11],
                        fact[12], fact[13], fact[14], fact[15], fact[MEMORY_AT:],
                    ),
                )
            )  # fmt: skip
        except Exception:
            return np.int64(FAILED)

    signature = types.int64(types.CPointer(types.uint8), types.int64, types.CPointer(types.int64))
    callback = numba.cfunc(signature)(guarded)
    return Censor(path, int(callback.address), plain, callback)


def uses_memory(source: str) -> bool:
    """Tell whether a censor's source uses flow.memory."""
    nodes = ast.walk(ast.parse(source))
    return any(isinstance(node, ast.Attribute) and node.attr == "memory" for node in nodes)


# ---- checks before compilation


def check(path: str, source: str) -> Iterator[str]:
    """Yield the problems of a censor's file, one sentence with file and line each."""
    try:
        tree = ast.parse(source, path)
    except SyntaxError as error:
        yield f"{path}:{error.lineno}: not Python: {error.msg}"
        return
    functions = [
        one for one in tree.body if isinstance(one, ast.FunctionDef) and one.name == "censor"
    ]
    if not functions:
        yield f"{path}: no `def censor(packet, flow):` is in it"
        return
    function = functions[-1]
    names = [one.arg for one in function.args.args]
    if len(names) != 2:
        yield f"{path}:{function.lineno}: censor takes a packet and a flow, not {len(names)} values"
        return
    for name, fields in zip(names, (Packet._fields, Flow._fields), strict=True):
        yield from field_problems(path, function, name, fields)
    yield from return_problems(path, function)


def field_problems(
    path: str, function: ast.FunctionDef, name: str, fields: tuple[str, ...]
) -> Iterator[str]:
    """Yield unknown fields of a parameter, and attempts to change one."""
    for node in ast.walk(function):
        if not isinstance(node, ast.Attribute) or not isinstance(node.value, ast.Name):
            continue
        if node.value.id != name:
            continue
        if not isinstance(node.ctx, ast.Load):
            yield f"{path}:{node.lineno}: {name}.{node.attr} cannot be changed; a censor only looks"
        elif node.attr not in fields:
            close = difflib.get_close_matches(node.attr, fields, 1)
            suggestion = f"did you mean {close[0]}?" if close else f"known: {', '.join(fields)}"
            yield f"{path}:{node.lineno}: {name} has no {node.attr}; {suggestion}"


def return_problems(path: str, function: ast.FunctionDef) -> Iterator[str]:
    """Yield the lines at which the function can end without a value."""
    for node in ast.walk(function):
        if isinstance(node, ast.Return) and node.value is None:
            yield f"{path}:{node.lineno}: returns nothing; expected one of {', '.join(ANSWERS)}"
    if not ends(function.body):
        last = function.body[-1].end_lineno
        yield f"{path}:{last}: the function can end without a return; say PASS where it lets go on"


def ends(body: list[ast.stmt]) -> bool:
    """Tell whether statements always return or raise."""
    last = body[-1]
    if isinstance(last, ast.Return | ast.Raise):
        return True
    if isinstance(last, ast.If):
        return bool(last.orelse) and ends(last.body) and ends(last.orelse)
    return isinstance(last, ast.While) and isinstance(last.test, ast.Constant)


def sentence(path: str, error: Exception) -> str:
    """Return an error in a censor's own code as one sentence with its line."""
    lines = [
        one.lineno for one in traceback.extract_tb(error.__traceback__) if one.filename == path
    ]
    at = f"{path}:{lines[-1]}" if lines else path
    return f"{at}: {type(error).__name__}: {error}"


def numba_sentence(path: str, text: str) -> str:
    """Return a compiler error as one sentence with file and line."""
    places = re.findall(rf'File "{re.escape(Path(path).name)}", line (\d+)', text)
    places = places or re.findall(r"line (\d+)", text)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    lines = [line.strip() for line in plain.splitlines() if line.strip()]
    useful = [
        line for line in lines if not line.startswith(("Failed in", "During:", "File", "---"))
    ]
    why = useful[0] if useful else "it cannot be compiled"
    at = f"{path}:{places[-1]}" if places else path
    return f"{at}: cannot be compiled: {why}"


# ---- failure on a packet


def complaint(path: str, payload: bytes, facts: Numbers) -> str:
    """Return one sentence, with file and line: why a censor failed on a packet."""
    plain = load(path).plain
    octets = np.frombuffer(payload, np.uint8)
    try:
        answer = plain(*views(octets, facts))
    except Exception as error:
        return sentence(path, error)
    return f"{path}: returned {answer!r}, expected one of {', '.join(ANSWERS)}"


class Bounded(np.ndarray[Any, Any]):
    """Octets with the semantics of compiled code: Python integers, no index beyond the end."""

    def __getitem__(self, key: Any) -> Any:
        """Return an octet as a Python integer."""
        octet = super().__getitem__(key)
        return int(octet) if np.ndim(octet) == 0 else octet


def views(payload: Octets, facts: Numbers) -> tuple[Packet, Flow]:
    """Return a censor's two arguments, for a call in plain Python."""
    fact = [int(one) for one in facts]
    packet = Packet(payload.view(Bounded), fact[0], fact[1] == 1, fact[2] / 1e9, fact[3], fact[4])
    fields: list[Any] = [*fact[5:MEMORY_AT], facts[MEMORY_AT:]]
    return packet, Flow(*fields)


# ---- compiled


def calling(context: Any, address: Any, payload: Any, size: Any, facts: Any) -> Any:
    """Return signature and code generator of a call by address (Numba intrinsic)."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        word = ir.IntType(64)
        kind = ir.FunctionType(word, [word, word, word])
        return builder.call(builder.inttoptr(arguments[0], kind.as_pointer()), arguments[1:])

    return types.int64(types.int64, types.int64, types.int64, types.int64), code


call_at: Any = intrinsic(calling)


@kernel
def fill_facts(
    facts: Numbers, flow: Any, side: int, near_is_source: bool, signs: Numbers, time: int
) -> None:
    """Fill int64[FACTS], the fields of Packet and Flow that a censor can read."""
    up, down = I(flow["packets_up"]), I(flow["packets_down"])
    bytes_up, bytes_down = I(flow["bytes_up"]), I(flow["bytes_down"])
    if not near_is_source:
        up, down, bytes_up, bytes_down = down, up, bytes_down, bytes_up
    facts[0] = signs[SIGN_PAYLOAD_SIZE]
    facts[1] = 1 if side == 0 else 0
    facts[2] = time - flow["first_time"]
    facts[3] = signs[SIGN_STUN] - 1
    facts[4] = signs[SIGN_TCP_FLAGS] if flow["proto"] == 6 else 0
    facts[5], facts[6], facts[7] = flow["app"], flow["role"], flow["verdict"]
    facts[8] = flow["proto"]
    facts[9] = flow["target_port"] if near_is_source else flow["source_port"]
    facts[10], facts[11] = up + down, bytes_up + bytes_down
    facts[12], facts[13] = up, down
    facts[14], facts[15] = bytes_up, bytes_down


def ask_plainly(address: int, b: Octets, signs: Numbers, facts: Numbers) -> int:
    """Call a censor as plain Python; returns one of ANSWERS, or FAILED."""
    at, end = int(signs[SIGN_PAYLOAD_AT]), int(signs[SIGN_PAYLOAD_END])
    try:
        return int(_plain[address].plain(*views(b[at : max(at, end)], facts)))
    except Exception:
        return FAILED


@kernel
def ask_compiled(address: int, b: Octets, signs: Numbers, facts: Numbers) -> int:
    """Call a compiled censor on the current payload; returns one of ANSWERS, or FAILED."""
    at, end = signs[SIGN_PAYLOAD_AT], signs[SIGN_PAYLOAD_END]
    size = max(end - at, 0)
    return I(call_at(address, b.ctypes.data + at, size, facts.ctypes.data))


ask = cast(Callable[[int, Octets, Numbers, Numbers], int], ask_plainly if PLAIN else ask_compiled)
