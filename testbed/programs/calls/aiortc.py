# SPDX-License-Identifier: BSD-3-Clause
"""aiortc as a caller: many WebRTC calls at once, all of one end in one process.

Direct paths only: aiortc cannot be told to use a relay alone. Descriptions are carried by the
driver; what is told of states and statistics is of the first call, flows are of all.
"""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from midcall.testbed.live.network.subscriber_line import CALLEE, CALLER, Line
from midcall.testbed.programs.calls.plan import Plan
from midcall.testbed.programs.calls.report import MEDIA, Account, Candidate, End, Flow, Pair, Stream
from midcall.testbed.programs.calls.webrtc import samples, states, thousandfold
from midcall.testbed.programs.json_worker import Servant
from midcall.testbed.programs.process import Program, lacking

START_SECONDS, ORDER_SECONDS, PATIENCE_SECONDS = 30.0, 30.0, 12.0
ADDRESSES = {"caller": CALLER, "callee": CALLEE}
CANDIDATE = re.compile(r"^a=candidate:\S+ 1 udp \d+ (\S+) (\d+) typ host", re.MULTILINE | re.I)
#: RTP clock of Opus, in which aiortc tells jitter.
OPUS_HZ = 48000


def missing() -> list[str]:
    """Return what aiortc calls lack on this machine and how to get it, a sentence each."""
    found = lacking({})
    if find_spec("aiortc") is None:
        found.append("aiortc cannot be imported: pip install 'midcall[callers]'")
    return found


@contextmanager
def start(line: Line) -> Iterator[Aiortc]:
    """Start nothing yet; end everything at the end."""
    one = Aiortc(line)
    try:
        yield one
    finally:
        one.close()


class Aiortc:
    """Two processes on a line, kept for the next call."""

    def __init__(self, line: Line) -> None:
        """Describe a caller; programs run once a call is prepared."""
        self.line = line
        self.ends: dict[str, Servant] = {}
        self.plan = Plan("aiortc")
        self.sdp: dict[str, list[str]] = {}
        self.up: list[bool] = []
        self.placed = 0

    def prepare(self, plan: Plan) -> None:
        """Start both processes, and have the caller's make its offers."""
        self.plan, self.placed, self.up = plan, 0, []
        for name, pid in (("caller", self.line.caller_pid), ("callee", self.line.server_pid)):
            if name not in self.ends or not self.ends[name].program.renew():
                command = [sys.executable, "-m", "midcall.testbed.programs.calls.webrtc_peer"]
                program = Program(self.line, pid, command, f"aiortc-{name}", talks=True)
                self.ends[name] = Servant(program, START_SECONDS)
        offers = self.ask("caller", do="offer", media=plan.media, calls=plan.calls)
        self.sdp = {"caller": offers}

    def ask(self, end: str, **order: Any) -> Any:
        """Give an end's process an order; returns what it gave."""
        return self.ends[end].ask(ORDER_SECONDS, **order)

    def call(self) -> bool:
        """Place all calls; returns whether the first was connected at both ends in time."""
        self.placed = time.time_ns()
        offers = self.sdp["caller"]
        answers = self.ask("callee", do="answer", sdp=offers, media=self.plan.media)
        self.sdp["callee"] = answers
        self.ask("caller", do="take", sdp=answers)
        here, there = (
            self.ask(end, do="connected", patience_s=PATIENCE_SECONDS) for end in ADDRESSES
        )
        self.up = [near and far for near, far in zip(here, there, strict=True)]
        return self.up[0]

    def statistics(self) -> Account:
        """Return what both ends say by now."""
        told = {end: self.ask(end, do="report") for end in ADDRESSES}
        ended = (time.time_ns() - self.placed) / 1e9
        ends = tuple(
            end_of(name, told[name][0], self.placed, self.sdp[name], self.sdp[other], self.up)
            for name, other in (("caller", "callee"), ("callee", "caller"))
        )
        connected = bool(self.up and self.up[0])
        version = f"aiortc {self.ends['caller'].ready}"
        return Account(
            self.plan, connected, self.placed, ended, ends, sum(self.up), version=version
        )

    def hang_up(self) -> Account:
        """Take both ends' last word, then close all connections."""
        account = self.statistics()
        for end in ADDRESSES:
            self.ask(end, do="close")
        return account

    def close(self) -> None:
        """End both processes."""
        ends, self.ends = self.ends, {}
        for one in ends.values():
            one.program.end()


def end_of(
    name: str, told: dict[str, Any], placed: int, own: list[str], other: list[str], up: list[bool]
) -> End:
    """Return an end's account; own, other: the descriptions of both ends, call by call."""
    flows = []
    for near_sdp, far_sdp in zip(own, other, strict=True):
        near, far = candidate(near_sdp), candidate(far_sdp)
        flows.append(Flow("udp", near.address, near.port, far.address, far.port, MEDIA))
    said = states(told, placed)
    at = next((one.at_s for one in said if one.word == "connected"), 0.0)
    pairs = (Pair(candidate(own[0]), candidate(other[0]), at),) if up and up[0] else ()
    return End(
        name, ADDRESSES[name], said, pairs, tuple(flows), tuple(streams(told)),
        samples(told, placed), told["sdp"],
    )  # fmt: skip


def candidate(sdp: str) -> Candidate:
    """Return the host candidate of a description."""
    found = CANDIDATE.search(sdp)
    return Candidate("host", found[1], int(found[2]), "udp") if found else Candidate(
        "host", "", 0, "udp"
    )  # fmt: skip


def streams(told: dict[str, Any]) -> Iterator[Stream]:
    """Yield every medium of a call in each direction."""
    rows = {row["type"]: row for row in told["rows"]}
    if (out := rows.get("outbound-rtp")) is not None:
        far = rows.get("remote-inbound-rtp", {})
        yield Stream(
            "audio", True, sent=out["packetsSent"], octets=out["bytesSent"],
            lost=far.get("packetsLost"), round_trip_ms=thousandfold(far.get("roundTripTime")),
            codec="opus",
        )  # fmt: skip
    if (came := rows.get("inbound-rtp")) is not None:
        yield Stream(
            "audio", False, received=came["packetsReceived"], lost=came["packetsLost"],
            jitter_ms=1e3 * came["jitter"] / OPUS_HZ, codec="opus",
        )  # fmt: skip
    if told["sent"] or told["heard"]:
        yield Stream("data", True, sent=told["sent"])
        yield Stream("data", False, received=told["heard"])
