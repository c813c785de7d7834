# SPDX-License-Identifier: BSD-3-Clause
"""Censors: a box's rule in plain Python, for what the policy language cannot say.

A file holds `def censor(packet, flow)`, which returns PASS, DROP, RESET, DROP_FLOW or PASS_FLOW. It
is compiled by itself, in about a second, and called by the packet path after the classifier's
verdict; the path itself is not compiled anew. A mistake in it is a sentence with file and line, and
ends the run: nothing is ever let through because a censor failed.
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

from midcall.captures.jit.kernel import PLAIN, I, kernel
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

# What a censor may return, and what it returned where it failed.
ANSWERS = ("PASS", "DROP", "RESET", "DROP_FLOW", "PASS_FLOW")
GO_ON, DROP_IT, RESET_IT, DROP_ALL, PASS_ALL = range(5)
FAILED = -1


class Packet(NamedTuple):
    """What a censor sees of a packet."""

    payload: Any  # its octets, as far as captured: packet.payload[0], len(packet.payload)
    size: Any  # payload octets on the wire
    up: Any  # True: from the subscriber
    seconds: Any  # since its flow began
    stun: Any  # STUN message type, -1 where it is none
    flags: Any  # of TCP


class Flow(NamedTuple):
    """What a censor sees of the packet's flow, this packet counted."""

    app: Any  # WHATSAPP, SKYPE ... or NONE
    role: Any  # MEDIA, SETUP, CONTROL, MESSAGING or OTHER
    verdict: Any  # CERTAIN, UNSURE, NOT_CALL or UNDECIDED
    protocol: Any  # 6 TCP, 17 UDP ...
    port: Any  # of the far end
    packets: Any
    bytes: Any
    packets_up: Any
    packets_down: Any
    bytes_up: Any
    bytes_down: Any


FACTS = 16


def constant(word: str) -> str:
    """Return a word as the name of a constant: other-rtc is OTHER_RTC."""
    return word.upper().replace("-", "_")


#: The names that a censor may use beside Python's own.
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
    keep: Any  # what must live as long as the address


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
    """Check and compile a censor."""
    problems = list(check(path, source))
    if problems:
        raise TestbedError("\n".join(problems))
    names: dict[str, Any] = {**CONSTANTS, "__name__": "censor"}
    linecache.cache[path] = (len(source), None, source.splitlines(keepends=True), path)
    try:
        exec(compile(source, path, "exec"), names)
    except Exception as error:
        raise TestbedError(sentence(path, error)) from None
    plain = names["censor"]
    if PLAIN:
        return Censor(path, len(_plain) + 1, plain, None)
    try:
        return compiled(path, plain)
    except NumbaError as error:
        raise TestbedError(numba_sentence(path, str(error))) from None


def compiled(path: str, plain: Callable[[Any, Any], Any]) -> Censor:
    """Compile a checked censor, with every read checked."""
    inner = numba.njit(boundscheck=True, error_model="python")(plain)

    def guarded(payload: Any, size: Any, facts: Any) -> Any:
        octets = numba.carray(payload, (size,))
        seen = numba.carray(facts, (FACTS,))
        try:
            return np.int64(
                inner(
                    Packet(
                        octets, seen[0], seen[1] == 1, seen[2] / 1e9, seen[3], seen[4]
                    ),
                    Flow(
                        seen[5], seen[6], seen[7], seen[8], seen[9], seen[10], seen[11],
                        seen[12], seen[13], seen[14], seen[15],
                    ),
                )
            )  # fmt: skip
        except Exception:
            return np.int64(FAILED)

    signature = types.int64(types.CPointer(types.uint8), types.int64, types.CPointer(types.int64))
    callback = numba.cfunc(signature)(guarded)
    return Censor(path, int(callback.address), plain, callback)


# ---- what can be told before it is compiled


def check(path: str, source: str) -> Iterator[str]:
    """Yield what is wrong with a censor's file, a sentence with file and line each."""
    try:
        tree = ast.parse(source, path)
    except SyntaxError as error:
        yield f"{path}:{error.lineno}: not Python: {error.msg}"
        return
    found = [one for one in tree.body if isinstance(one, ast.FunctionDef) and one.name == "censor"]
    if not found:
        yield f"{path}: no `def censor(packet, flow):` is in it"
        return
    function = found[-1]
    given = [one.arg for one in function.args.args]
    if len(given) != 2:
        yield f"{path}:{function.lineno}: censor takes a packet and a flow, not {len(given)} values"
        return
    for name, fields in zip(given, (Packet._fields, Flow._fields), strict=True):
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
            mend = f"did you mean {close[0]}?" if close else f"known: {', '.join(fields)}"
            yield f"{path}:{node.lineno}: {name} has no {node.attr}; {mend}"


def return_problems(path: str, function: ast.FunctionDef) -> Iterator[str]:
    """Yield a way through the function that returns nothing."""
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
    """Return what the compiler could not do as one sentence with file and line."""
    places = re.findall(rf'File "{re.escape(Path(path).name)}", line (\d+)', text)
    places = places or re.findall(r"line (\d+)", text)
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    told = [line.strip() for line in plain.splitlines() if line.strip()]
    useful = [line for line in told if not line.startswith(("Failed in", "During:", "File", "---"))]
    why = useful[0] if useful else "it cannot be compiled"
    at = f"{path}:{places[-1]}" if places else path
    return f"{at}: cannot be compiled: {why}"


# ---- what went wrong with a packet


def complaint(path: str, payload: bytes, facts: Numbers) -> str:
    """Return in one sentence, with file and line, why a censor failed on a packet."""
    plain = load(path).plain
    octets = np.frombuffer(payload, np.uint8)
    try:
        told = plain(*views(octets, facts))
    except Exception as error:
        return sentence(path, error)
    return f"{path}: returned {told!r}, expected one of {', '.join(ANSWERS)}"


class Bounded(np.ndarray[Any, Any]):
    """Octets as compiled code sees them: integers, none beyond the end."""

    def __getitem__(self, key: Any) -> Any:
        """Return an octet as a Python integer."""
        found = super().__getitem__(key)
        return int(found) if np.ndim(found) == 0 else found


def views(payload: Octets, facts: Numbers) -> tuple[Packet, Flow]:
    """Return what a censor is given, for a call in plain Python."""
    seen = [int(one) for one in facts]
    packet = Packet(payload.view(Bounded), seen[0], seen[1] == 1, seen[2] / 1e9, seen[3], seen[4])
    return packet, Flow(*seen[5:16])


# ---- compiled


def calling(context: Any, address: Any, payload: Any, size: Any, facts: Any) -> Any:
    """Say how compiled code calls a censor by its address."""

    def code(context: Any, builder: Any, signature: Any, given: Any) -> Any:
        word = ir.IntType(64)
        kind = ir.FunctionType(word, [word, word, word])
        return builder.call(builder.inttoptr(given[0], kind.as_pointer()), given[1:])

    return types.int64(types.int64, types.int64, types.int64, types.int64), code


call_at: Any = intrinsic(calling)


@kernel
def fill_facts(
    facts: Numbers, flow: Any, side: int, near_is_source: bool, signs: Numbers, time: int
) -> None:
    """Write down what a censor may ask."""
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
    """Call a censor without its compiled form."""
    at, end = int(signs[SIGN_PAYLOAD_AT]), int(signs[SIGN_PAYLOAD_END])
    try:
        return int(_plain[address].plain(*views(b[at : max(at, end)], facts)))
    except Exception:
        return FAILED


@kernel
def ask_compiled(address: int, b: Octets, signs: Numbers, facts: Numbers) -> int:
    """Call a censor on the payload at hand; returns one of ANSWERS, FAILED."""
    at, end = signs[SIGN_PAYLOAD_AT], signs[SIGN_PAYLOAD_END]
    size = max(end - at, 0)
    return I(call_at(address, b.ctypes.data + at, size, facts.ctypes.data))


ask = cast(Callable[[int, Octets, Numbers, Numbers], int], ask_plainly if PLAIN else ask_compiled)
