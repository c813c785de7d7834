# SPDX-License-Identifier: BSD-3-Clause
"""Calls: which flows make up each call of a capture, and which set-up gates which media.

One TOML file per capture that holds calls, `calls/<name of the capture>.toml`. A flow is named by
its first frame number (see labels). What a capture cannot prove is written `inferred = true`. A
replay turns this into a causal script: a gated flow's packets after the reply are sent only once
the reply arrived, so a call whose set-up was blocked fails as a real one does.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from midcall.apps import APPS
from midcall.captures.truth.paths import Home, homes
from midcall.captures.truth.strict_toml import Table, block, toml, try_table
from midcall.errors import CaptureError

Kind = Literal["audio", "video", "unknown"]
GateKind = Literal["transaction", "request-reply", "time"]
TimerModel = Literal["time", "pairwise", "strict"]

#: Failure models of a call whose timers are not documented: all are tried, differences reported.
TIMER_MODELS: list[TimerModel] = ["time", "pairwise", "strict"]


class Gate(Table):
    """What must arrive before a flow continues.

    flow: the gated flow; by: the flows that carry the set-up (may be the flow itself); needs:
    whether one of them is enough or all are needed; kind: "transaction" (a reply with the
    request's transaction or call id), "request-reply" (the next answer of the other side), "time"
    (only their times relate them); pairs: frame numbers of requests and the replies that open the
    gate, one pair per set-up exchange in the capture. The end that receives a reply sends the
    packets of the gated flow that follow the reply in the capture only after it arrived. If there
    are pairs in both directions, each end waits for its own.
    """

    flow: int
    by: list[int]
    kind: GateKind
    needs: Literal["any", "all"] = "any"
    pairs: list[list[int]] = Field(default=[])
    note: str = ""


class Alternative(Table):
    """One of several paths of the media, best first: a peer, a relay, TCP or TLS."""

    flow: int
    path: Literal["peer", "relay", "tcp", "tls"]


class Call(Table):
    """One call. Frames are the first frame numbers of flows, counted from 1.

    signalling: flows of the app's own handshake (messaging or TLS) that set-up waits for;
    timer_s: how long the app tries before it gives up, in seconds, None if it is not documented
    (then `timer_models` lists the models to try); consent_s: seconds without consent after which
    media stop; year: if it differs from the capture's.
    """

    id: str
    app: str
    kind: Kind
    year: int | None = None
    media: list[int] = Field(default=[])
    setup: list[int] = Field(default=[])
    control: list[int] = Field(default=[])
    signalling: list[int] = Field(default=[])
    alternatives: list[Alternative] = Field(
        default=[], validation_alias="alternative", serialization_alias="alternative"
    )
    inferred: bool
    timer_s: float | None = None
    timer_models: list[TimerModel] = Field(default=[])
    timer_source: str
    consent_s: float | None = None
    note: str = ""
    gates: list[Gate] = Field(default=[], validation_alias="gate", serialization_alias="gate")

    @property
    def flows(self) -> set[int]:
        """Return every flow of the call."""
        return {*self.media, *self.setup, *self.control, *self.signalling}

    @model_validator(mode="after")
    def _sound(self) -> Call:
        problems = call_problems(self)
        if problems:
            raise ValueError("; ".join(problems))
        return self


class CallFile(Table):
    """The calls of one capture."""

    capture: str
    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    calls: list[Call] = Field(validation_alias="call", serialization_alias="call", min_length=1)


def call_problems(call: Call) -> list[str]:
    """Return the contradictions within one call."""
    problems = []
    if call.app not in APPS or call.app == "none":
        problems.append(f"app: got {call.app!r}, expected one of {', '.join(APPS[1:])}")
    roles = [*call.media, *call.setup, *call.control, *call.signalling]
    twice = sorted({frame for frame in roles if roles.count(frame) > 1})
    if twice:
        problems.append(f"flows {listed(twice)} have two roles; give each flow one")
    for gate in call.gates:
        strange = sorted({gate.flow, *gate.by} - call.flows)
        if strange:
            problems.append(f"gate {gate.flow}: flows {listed(strange)} are not of this call")
        if any(len(pair) != 2 or pair[0] >= pair[1] for pair in gate.pairs):
            problems.append(f"gate {gate.flow}: pairs must be [request frame, later reply frame]")
    for alternative in call.alternatives:
        if alternative.flow not in call.media:
            problems.append(f"alternative {alternative.flow} is not a media flow of this call")
    if (call.timer_s is None) != bool(call.timer_models):
        problems.append("give timer_s where it is documented, else timer_models, not both")
    return problems


def listed(frames: list[int]) -> str:
    """Return frame numbers as text, separated by commas."""
    return ", ".join(str(frame) for frame in frames)


# ---- files


def calls(sha256: str, with_local: bool = True) -> list[Call]:
    """Return the calls of a capture, [] for none; raises CaptureError for an invalid file."""
    result: list[Call] = []
    for home in homes(with_local):
        for path in call_files(home):
            call_file = read_calls(path)
            if call_file.sha256 == sha256:
                result = list(call_file.calls)
    return result


def call_files(home: Home) -> list[Path]:
    """Return the call files of a home, in order of name."""
    return sorted(home.calls.glob("*.toml"))


def read_calls(path: Path) -> CallFile:
    """Return one call file; raises CaptureError with every problem, one a line."""
    call_file, problems = try_calls(path)
    if call_file is None:
        raise CaptureError("\n".join(problems))
    return call_file


def try_calls(path: Path) -> tuple[CallFile | None, list[str]]:
    """Return one call file (None if it is invalid) and its problems."""
    about = path.stat()
    return _parsed(path, about.st_mtime_ns, about.st_size)


@lru_cache(maxsize=512)
def _parsed(path: Path, _changed: int, _size: int) -> tuple[CallFile | None, list[str]]:
    return try_table(path, CallFile)


def write_calls(path: Path, call_file: CallFile) -> None:
    """Write a call file; values that equal their default are left out."""
    path.parent.mkdir(parents=True, exist_ok=True)
    parts = [f"capture = {toml(call_file.capture)}\nsha256 = {toml(call_file.sha256)}\n"]
    for call in call_file.calls:
        table = call.model_dump(by_alias=True, exclude_defaults=True)
        gates, alternatives = table.pop("gate", []), table.pop("alternative", [])
        parts.append(block("call", table))
        parts += [block("call.alternative", alternative) for alternative in alternatives]
        parts += [block("call.gate", gate) for gate in gates]
    path.write_text("\n".join(parts), encoding="utf-8")
