# SPDX-License-Identifier: BSD-3-Clause
"""SIPp as a caller: many SIP calls at once, each with G.711 both ways, for load.

Both ends play the same voice in RTP from ports of their own. SIPp reports which calls succeeded and
logs every SIP message; it reports nothing on RTP, so its account has flows but no streams.
"""

from __future__ import annotations

import csv
import datetime
import re
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from midcall.testbed.live.network.subscriber_line import CALLEE, CALLER, Line
from midcall.testbed.programs.calls import sip, voice
from midcall.testbed.programs.calls.plan import Plan
from midcall.testbed.programs.calls.report import (
    CONTROL,
    MEDIA,
    SIGNALLING,
    Account,
    End,
    Flow,
    State,
)
from midcall.testbed.programs.calls.sockets import held
from midcall.testbed.programs.process import Program, lacking

HERE = Path(__file__).parent
PORT, RTP_PORTS = 5060, ("20000", "29998")
#: How long the callee may take to listen, a call to be answered, and the end of all calls.
START_SECONDS, ANSWER_SECONDS, LAST_SECONDS, STEP_SECONDS = 10.0, 8.0, 4.0, 0.05
VOICE_SECONDS = 2.0
MESSAGE = re.compile(
    r"^-{20,} (\S+ \S+)\nUDP message (sent|received)[^\n]*:\n\n(.*?)(?=^-{20,} |\Z)", re.M | re.S
)


def missing() -> list[str]:
    """Return what SIPp calls lack on this machine and how to get it, a sentence each."""
    return lacking({"sipp": "sip-tester", "ss": "iproute2"})


@contextmanager
def start(line: Line) -> Iterator[Sipp]:
    """Yield a driver that has started nothing yet; end all its programs afterwards."""
    one = Sipp(line)
    try:
        yield one
    finally:
        one.close()


class Logged(NamedTuple):
    """A message of SIPp's log: when, ns; whether this end sent it; its text and call."""

    at: int
    sent: bool
    text: str
    call: str

    @property
    def first(self) -> str:
        """Return its first line."""
        return self.text.partition("\n")[0].strip()

    @property
    def sdp(self) -> str:
        """Return the SDP that it carries, "" for none."""
        return sip.sdp_of(self.text)


def log(path: Path) -> list[Logged]:
    """Return the messages of a log that SIPp wrote (-trace_msg), in order."""
    words = path.read_text(errors="replace").replace("\r", "") if path.exists() else ""
    messages = []
    for when, direction, text in MESSAGE.findall(words):
        at = datetime.datetime.fromisoformat(when).timestamp()
        call = re.search(r"^Call-ID: *(\S+)", text, re.M)
        call_id = call[1] if call else ""
        messages.append(Logged(int(at * 1e9), direction == "sent", text.strip(), call_id))
    return messages


class Sipp:
    """Two SIPp processes on a line, restarted for each plan."""

    def __init__(self, line: Line) -> None:
        """Describe a caller; programs run once a call is prepared."""
        self.line = line
        self.plan = Plan("sipp")
        self.callee: Program | None = None
        self.caller: Program | None = None
        self.placed = 0

    def folder(self, end: str) -> Path:
        """Return the folder of an end's files."""
        folder = self.line.network.folder / f"sipp.{end}"
        folder.mkdir(exist_ok=True)
        return folder

    def command(self, end: str, address: str) -> list[str]:
        """Return an end's command; writes its scenario and voice, and removes old logs."""
        folder = self.folder(end)
        for leftover in folder.iterdir():
            leftover.unlink()
        (folder / "voice").write_bytes(voice.mu_law(voice.reference(VOICE_SECONDS)))
        scenario = (HERE / f"sipp-{end}.xml").read_text().replace("{voice}", str(folder / "voice"))
        (folder / "scenario.xml").write_text(scenario)
        return [
            "sipp", "-sf", str(folder / "scenario.xml"), "-i", address, "-mi", address, "-p",
            str(PORT), "-nostdin", "-trace_msg", "-message_file", str(folder / "messages"),
            "-trace_stat", "-stf", str(folder / "statistics"), "-fd", "1", "-min_rtp_port",
            RTP_PORTS[0], "-max_rtp_port", RTP_PORTS[1],
        ]  # fmt: skip

    def prepare(self, plan: Plan) -> None:
        """Start the callee and wait until it listens."""
        self.close()
        self.plan, self.placed = plan, 0
        pid = self.line.server_pid
        one = Program(self.line, pid, self.command("callee", CALLEE), "sipp-callee")
        self.callee = one
        one.wait_for(
            lambda: any(sock.local_port == PORT for sock in held(pid, one.pid)), START_SECONDS,
            "listening",
        )  # fmt: skip

    def call(self) -> bool:
        """Place all calls; returns whether one at least was answered in time."""
        command = self.command("caller", CALLER)
        many = str(self.plan.calls)
        command += [
            f"{CALLEE}:{PORT}", "-s", "callee", "-m", many, "-l", many, "-r", many, "-d",
            str(int(1000 * self.plan.seconds)),
        ]  # fmt: skip
        self.placed = time.time_ns()
        self.caller = Program(self.line, self.line.caller_pid, command, "sipp-caller")
        self.wait(self.answered, ANSWER_SECONDS)
        return self.answered()

    def answered(self) -> bool:
        """Tell whether the caller accepted an answer (200) of the callee: it sent an ACK."""
        return any(one.sent and one.first.startswith("ACK ") for one in self.messages("caller"))

    def messages(self, end: str) -> list[Logged]:
        """Return the messages that an end logged."""
        return log(self.folder(end) / "messages")

    def wait(self, done: Callable[[], bool], seconds: float) -> None:
        """Wait until `done()` is true or the caller has ended, at most `seconds`."""
        until = time.monotonic() + seconds
        while time.monotonic() < until and self.caller is not None and self.caller.alive:
            if done():
                return
            time.sleep(STEP_SECONDS)

    def statistics(self) -> Account:
        """Return the account of both ends so far."""
        logs = {end: self.messages(end) for end in ("caller", "callee")}
        ended = (time.time_ns() - self.placed) / 1e9
        made = self.successes()
        ends = tuple(
            End(
                end,
                address,
                states=states(logs[end], self.placed),
                flows=flows(logs["caller"], end == "callee"),
                sdp=next((one.sdp for one in logs[end] if one.sent and one.sdp), ""),
            )
            for end, address in (("caller", CALLER), ("callee", CALLEE))
        )
        dead = self.callee is None or not self.callee.alive
        return Account(
            self.plan, self.answered(), self.placed, ended, ends, made,
            error="sipp of the callee died" if dead else "", version="SIPp",
        )  # fmt: skip

    def successes(self) -> int:
        """Return how many calls succeeded to their end, by the caller's statistics."""
        path = self.folder("caller") / "statistics"
        if not path.exists():
            return 0
        rows = list(csv.DictReader(path.read_text().splitlines(), delimiter=";"))
        return int(rows[-1]["SuccessfulCall(C)"]) if rows else 0

    def hang_up(self) -> Account:
        """Wait for the calls' end, as SIPp hangs up by its own clock; returns their account."""
        self.wait(lambda: False, LAST_SECONDS if self.answered() else 0.0)
        account = self.statistics()
        self.close()
        return account

    def close(self) -> None:
        """End both ends."""
        for program in (self.caller, self.callee):
            if program is not None:
                program.end()
        self.caller = self.callee = None


def states(messages: list[Logged], placed: int) -> tuple[State, ...]:
    """Return the messages of an end's first call as its states."""
    first = messages[0].call if messages else ""
    return tuple(
        State(
            round((one.at - placed) / 1e9, 3),
            "sip",
            f"{'sent' if one.sent else 'received'} {' '.join(one.first.split()[:3])}",
        )
        for one in messages
        if one.call == first
    )


def flows(messages: list[Logged], mirrored: bool) -> tuple[Flow, ...]:
    """Return the 5-tuples of all calls, by the caller's log; mirrored: from the callee's side."""
    media: dict[str, dict[bool, tuple[str, int]]] = defaultdict(dict)
    for one in messages:
        if (place := sip.media_of(one.sdp)) is not None:
            media[one.call][one.sent] = place
    tuples = [Flow("udp", CALLER, PORT, CALLEE, PORT, SIGNALLING)] if messages else []
    for places in media.values():
        if len(places) == 2:
            for step, role in ((0, MEDIA), (1, CONTROL)):
                (local, local_port), (remote, remote_port) = places[True], places[False]
                tuples.append(
                    Flow("udp", local, local_port + step, remote, remote_port + step, role)
                )
    if not mirrored:
        return tuple(tuples)
    return tuple(
        Flow(one.proto, one.remote, one.remote_port, one.local, one.local_port, one.role)
        for one in tuples
    )
