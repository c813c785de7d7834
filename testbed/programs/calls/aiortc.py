# SPDX-License-Identifier: BSD-3-Clause
"""aiortc as a caller: many WebRTC calls at once, all of one end in one process.

Direct paths only: aiortc has no option to use a relay alone. The driver carries the descriptions.
States and statistics are those of the first call; flows are those of all calls.
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
from midcall.testbed.programs.calls.webrtc import samples, states, to_ms
from midcall.testbed.programs.json_worker import JsonWorker
from midcall.testbed.programs.process import Program, lacking

START_SECONDS, ORDER_SECONDS, CONNECT_SECONDS = 30.0, 30.0, 12.0
ADDRESSES = {"caller": CALLER, "callee": CALLEE}
CANDIDATE = re.compile(r"^a=candidate:\S+ 1 udp \d+ (\S+) (\d+) typ host", re.MULTILINE | re.I)
#: RTP clock of Opus, the unit of aiortc's jitter.
OPUS_HZ = 48000


def missing() -> list[str]:
    """Return what aiortc calls lack on this machine and how to get it, a sentence each."""
    lacks = lacking({})
    if find_spec("aiortc") is None:
        lacks.append("aiortc cannot be imported: pip install 'midcall[callers]'")
    return lacks


@contextmanager
def start(line: Line) -> Iterator[Aiortc]:
    """Yield a driver that has started nothing yet; end all its programs afterwards."""
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
        self.ends: dict[str, JsonWorker] = {}
        self.plan = Plan("aiortc")
        self.sdp: dict[str, list[str]] = {}
        self.up: list[bool] = []
        self.placed = 0

    def prepare(self, plan: Plan) -> None:
        """Start both processes, and let the caller's make its offers."""
        self.plan, self.placed, self.up = plan, 0, []
        for name, pid in (("caller", self.line.caller_pid), ("callee", self.line.server_pid)):
            if name not in self.ends or not self.ends[name].program.renew():
                command = [sys.executable, "-m", "midcall.testbed.programs.calls.webrtc_peer"]
                program = Program(self.line, pid, command, f"aiortc-{name}", talks=True)
                self.ends[name] = JsonWorker(program, START_SECONDS)
        offers = self.ask("caller", do="offer", media=plan.media, calls=plan.calls)
        self.sdp = {"caller": offers}

    def ask(self, end: str, **order: Any) -> Any:
        """Send an order to an end's process; returns its answer."""
        return self.ends[end].ask(ORDER_SECONDS, **order)

    def call(self) -> bool:
        """Place all calls; returns whether the first was connected at both ends in time."""
        self.placed = time.time_ns()
        offers = self.sdp["caller"]
        answers = self.ask("callee", do="answer", sdp=offers, media=self.plan.media)
        self.sdp["callee"] = answers
        self.ask("caller", do="take", sdp=answers)
        at_caller, at_callee = (
            self.ask(end, do="connected", patience_s=CONNECT_SECONDS) for end in ADDRESSES
        )
        self.up = [all(both) for both in zip(at_caller, at_callee, strict=True)]
        return self.up[0]

    def statistics(self) -> Account:
        """Return the account of both ends so far."""
        reports = {end: self.ask(end, do="report") for end in ADDRESSES}
        ended = (time.time_ns() - self.placed) / 1e9
        ends = tuple(
            end_of(name, reports[name][0], self.placed, self.sdp[name], self.sdp[other], self.up)
            for name, other in (("caller", "callee"), ("callee", "caller"))
        )
        connected = bool(self.up and self.up[0])
        version = f"aiortc {self.ends['caller'].ready}"
        return Account(
            self.plan, connected, self.placed, ended, ends, sum(self.up), version=version
        )

    def hang_up(self) -> Account:
        """Return the final account of both ends; closes all connections."""
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
    name: str, report: dict[str, Any], placed: int, own: list[str], other: list[str], up: list[bool]
) -> End:
    """Return an end's account; own, other: the descriptions of both ends, call by call."""
    flows = []
    for own_sdp, other_sdp in zip(own, other, strict=True):
        local, remote = candidate(own_sdp), candidate(other_sdp)
        flows.append(Flow("udp", local.address, local.port, remote.address, remote.port, MEDIA))
    state_list = states(report, placed)
    at = next((one.at_s for one in state_list if one.word == "connected"), 0.0)
    pairs = (Pair(candidate(own[0]), candidate(other[0]), at),) if up and up[0] else ()
    return End(
        name, ADDRESSES[name], state_list, pairs, tuple(flows), tuple(streams(report)),
        samples(report, placed), report["sdp"],
    )  # fmt: skip


def candidate(sdp: str) -> Candidate:
    """Return the host candidate of a description."""
    match = CANDIDATE.search(sdp)
    return Candidate("host", match[1], int(match[2]), "udp") if match else Candidate(
        "host", "", 0, "udp"
    )  # fmt: skip


def streams(report: dict[str, Any]) -> Iterator[Stream]:
    """Yield every medium of a call in each direction."""
    rows = {row["type"]: row for row in report["rows"]}
    if (out := rows.get("outbound-rtp")) is not None:
        remote = rows.get("remote-inbound-rtp", {})
        yield Stream(
            "audio", True, sent=out["packetsSent"], octets=out["bytesSent"],
            lost=remote.get("packetsLost"), round_trip_ms=to_ms(remote.get("roundTripTime")),
            codec="opus",
        )  # fmt: skip
    if (came := rows.get("inbound-rtp")) is not None:
        yield Stream(
            "audio", False, received=came["packetsReceived"], lost=came["packetsLost"],
            jitter_ms=1e3 * came["jitter"] / OPUS_HZ, codec="opus",
        )  # fmt: skip
    if report["sent"] or report["heard"]:
        yield Stream("data", True, sent=report["sent"])
        yield Stream("data", False, received=report["heard"])
