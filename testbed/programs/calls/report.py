# SPDX-License-Identifier: BSD-3-Clause
"""The account of a call: the reports of its programs, one for each end.

Every value is a program's own report (getStats, SDP, RTCP, exit of a dialogue, sockets of its
process), never a classifier's or a tap's. None: the program does not report it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from midcall.testbed.programs.calls.plan import Plan

#: The purpose of a flow. "relay" is a client's leg to a TURN server, whatever it carries.
MEDIA, SIGNALLING, RELAY, CONTROL = "media", "signalling", "relay", "control"
ROLES = (MEDIA, SIGNALLING, RELAY, CONTROL)
#: The two ends; a relay is at the callee's side and has no account.
CALLER, CALLEE = "caller", "callee"


@dataclass(frozen=True)
class Flow:
    """A 5-tuple that a program used. `local` is the side of the reporting end."""

    proto: str  # "udp" or "tcp"
    local: str
    local_port: int
    remote: str
    remote_port: int
    role: str  # of ROLES


@dataclass(frozen=True)
class Candidate:
    """One end of an ICE candidate pair; relay: "udp", "tcp" or "tls" to the relay, "" for none."""

    kind: str  # host, srflx, prflx, relay
    address: str
    port: int
    proto: str
    relay: str = ""


@dataclass(frozen=True)
class Pair:
    """The candidate pair that was chosen; at_s: since the call was placed."""

    local: Candidate
    remote: Candidate
    at_s: float


@dataclass(frozen=True)
class Stream:
    """One medium in one direction, by the report of one end.

    sent: packets that this end sent (0 for a stream that it received); received, lost: packets;
    jitter_ms, round_trip_ms: RTCP's; delay_ms: of the de-jitter buffer, mean; freezes, frozen_s:
    of video; concealed: share of the audio played that was concealment; heard_s: seconds of
    received audio that were played.
    """

    kind: str  # audio, video, data
    out: bool
    sent: int = 0
    received: int = 0
    lost: int | None = None
    octets: int = 0
    jitter_ms: float | None = None
    round_trip_ms: float | None = None
    delay_ms: float | None = None
    freezes: int | None = None
    frozen_s: float | None = None
    concealed: float | None = None
    heard_s: float | None = None
    codec: str = ""


@dataclass(frozen=True)
class State:
    """An event of a call: seconds since it was placed, and what the program reported.

    kind: "ice", "connection", "gathering", "signalling", "path" (word: the new pair), "sip", "rtp",
    "restart", "error".
    """

    at_s: float
    kind: str
    word: str


@dataclass(frozen=True)
class Sample:
    """Totals that an end had received at a time: audio and video packets, data messages."""

    at_s: float
    audio: int = 0
    video: int = 0
    data: int = 0


@dataclass(frozen=True)
class End:
    """One end's account. sdp: its own session description, "" for none."""

    name: str  # CALLER or CALLEE
    address: str
    states: tuple[State, ...] = ()
    pairs: tuple[Pair, ...] = ()
    flows: tuple[Flow, ...] = ()
    streams: tuple[Stream, ...] = ()
    samples: tuple[Sample, ...] = ()
    sdp: str = ""

    def stream(self, kind: str, out: bool) -> Stream | None:
        """Return the stream of a medium in one direction."""
        return next((s for s in self.streams if s.kind == kind and s.out == out), None)

    @property
    def relays(self) -> tuple[str, ...]:
        """Return how each pair that was chosen in turn reached the other end ("" is direct)."""
        return tuple(pair.local.relay for pair in self.pairs)


@dataclass(frozen=True)
class Account:
    """A call by the reports of its two ends.

    connected: both ends reported that they were connected; placed: time of day in ns when the call
    was placed, which all `at_s` count from; ended_s: when the caller hung up or the call failed;
    ends: the caller's, then the callee's (of the first call, where a plan makes several); made: how
    many calls connected; error: a failure of a program itself (it died), not of the line.
    """

    plan: Plan
    connected: bool
    placed: int
    ended_s: float
    ends: tuple[End, ...]
    made: int = 1
    error: str = ""
    version: str = ""  # of the program
    more: dict[str, Any] = field(default_factory=dict)

    def end(self, name: str) -> End:
        """Return the account of CALLER or CALLEE."""
        return next(one for one in self.ends if one.name == name)

    def plain(self) -> dict[str, Any]:
        """Return the account as plain values, for JSON."""
        return asdict(self)
