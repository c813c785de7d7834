# SPDX-License-Identifier: BSD-3-Clause
"""baresip as a caller: SIP over UDP with G.711 in RTP or SRTP, directly or through a registrar.

Both ends are new processes for each call. Commands and events go over baresip's control connection
on the loopback of their namespace; their traces contain every SIP message. The audio received by
each end is recorded and compared with the audio that the other played.
"""

from __future__ import annotations

import json
import re
import socket
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from midcall.testbed.live.box.rings import inside
from midcall.testbed.live.network.subscriber_line import CALLEE, CALLER, REGISTRAR, Line
from midcall.testbed.programs.calls import sip, voice
from midcall.testbed.programs.calls.plan import Plan
from midcall.testbed.programs.calls.report import Account, End, Sample, State, Stream
from midcall.testbed.programs.process import Program, lacking

MODULES = Path("/usr/lib/baresip/modules")
PORT, CONTROL_PORT = 5060, 4444
#: How long a program may take to start, and a call to be answered (SIP itself gives up at 32 s).
START_SECONDS, ANSWER_SECONDS, STEP_SECONDS = 10.0, 8.0, 0.05
#: How long the messages at the end of a call may take: BYE, RTCP.
LAST_SECONDS = 1.0
#: Interval between two samples of the received audio.
SAMPLE_S = 0.25

CONFIG = """poll_method epoll
sip_listen {address}:{port}
call_local_timeout 120
call_max_calls 4
audio_player aufile,{folder}/heard.wav
audio_source aufile,{folder}/voice.wav
audio_alert aufile,/dev/null
ring_aufile none
ringback_aufile none
callwaiting_aufile none
busy_aufile none
error_aufile none
notfound_aufile none
rtp_ports 10000-19998
rtp_stats yes
jitter_buffer_type fixed
jitter_buffer_delay 2-10
module_path {modules}
module g711.so
module aufile.so
module srtp.so
module_tmp uuid.so
module_tmp account.so
module_app menu.so
module_app ctrl_tcp.so
module_app rtcpsummary.so
ctrl_tcp_listen 127.0.0.1:{control}
"""
#: Output of an agent at the end of a call: packets sent and received; and, where RTCP arrived at
#: least once (every 5 s), packets lost and jitter in ms, each as the other end reports and its own.
COUNTS = re.compile(r"^packets: +(\d+) +(\d+)", re.MULTILINE)
QUALITY = re.compile(r"^EX=\S+;PL=(-?\d+),(-?\d+);\S*JI=([\d.]+),([\d.]+)", re.MULTILINE)
EVENTS = {
    "CALL_RINGING": "ringing", "CALL_ANSWERED": "answered", "CALL_ESTABLISHED": "established",
    "CALL_CLOSED": "closed", "CALL_RTPESTAB": "first media", "CALL_MENC": "media encrypted",
    "CALL_PROGRESS": "progress", "CALL_INCOMING": "incoming",
}  # fmt: skip


def missing() -> list[str]:
    """Return what SIP calls lack on this machine and how to get it, a sentence each."""
    lacks = lacking({"baresip": "baresip-core"})
    absent = [name for name in ("aufile", "g711", "srtp") if not (MODULES / f"{name}.so").exists()]
    if not lacks and absent:
        lacks.append(f"{MODULES} lacks {', '.join(absent)}: apt-get install baresip-core")
    return lacks


@contextmanager
def start(line: Line) -> Iterator[Baresip]:
    """Yield a driver that has started nothing yet; end all its programs afterwards."""
    one = Baresip(line)
    try:
        yield one
    finally:
        one.close()


class Agent:
    """One end: a baresip process, its control connection, and its events with their times."""

    def __init__(self, line: Line, name: str, namespace: int, address: str, account: str) -> None:
        """Start it and wait until it listens. Raises TestbedError."""
        self.name, self.address = name, address
        self.events: list[tuple[int, dict[str, Any]]] = []
        folder = line.network.folder / f"baresip.{name}"
        folder.mkdir(exist_ok=True)
        self.recording = folder / "heard.wav"
        self.recording.unlink(missing_ok=True)
        config = CONFIG.format(
            address=address, port=PORT, folder=folder, modules=MODULES, control=CONTROL_PORT
        )
        (folder / "config").write_text(config)
        (folder / "accounts").write_text(account + "\n")
        (folder / "contacts").write_text("")
        self.voice = folder / "voice.wav"
        self.program = Program(
            line, namespace, ["baresip", "-4", "-s", "-f", str(folder)], f"baresip-{name}"
        )
        self.control: socket.socket | None = None
        try:
            self.program.wait_for(lambda: self.connects(namespace), START_SECONDS, "its control")
        except BaseException:
            self.close()
            raise
        self.thread = threading.Thread(target=self.record_events, daemon=True)
        self.thread.start()

    def connects(self, namespace: int) -> bool:
        """Open the control connection; tells whether it is open."""
        with inside(namespace):
            one = socket.socket()
        try:
            one.connect(("127.0.0.1", CONTROL_PORT))
        except OSError:
            one.close()
            return False
        self.control = one
        return True

    def record_events(self) -> None:
        """Record its events, with the time in ns, until the connection ends."""
        control, buffer = self.control, b""
        assert control is not None
        with suppress(OSError):
            while octets := control.recv(65536):
                buffer += octets
                while b":" in buffer:
                    size, _, rest = buffer.partition(b":")
                    if len(rest) <= int(size):
                        break
                    event = json.loads(rest[: int(size)].decode("utf-8", "replace"))
                    self.events.append((time.time_ns(), event))
                    buffer = rest[int(size) + 1 :]

    def send_command(self, command: str, words: str = "") -> None:
        """Send it a command."""
        text = json.dumps({"command": command, "params": words}).encode()
        assert self.control is not None
        with suppress(OSError):
            self.control.sendall(b"%d:%s," % (len(text), text))

    def first_event(self, *kinds: str) -> int:
        """Return the time of its first event of some kinds, ns; 0 for never."""
        return next((at for at, one in self.events if one.get("type") in kinds), 0)

    def close(self) -> None:
        """End it."""
        if self.control is not None:
            with suppress(OSError):
                self.control.shutdown(socket.SHUT_RDWR)
            self.control.close()
        self.program.end()


class Baresip:
    """Two agents on a line, and a registrar where a plan needs one."""

    def __init__(self, line: Line) -> None:
        """Describe a caller; programs run once a call is prepared."""
        self.line = line
        self.agents: list[Agent] = []
        self.registrar: Program | None = None
        self.plan = Plan("baresip")
        self.placed = 0
        self.connected = False
        self.ended = 0.0

    def prepare(self, plan: Plan) -> None:
        """Start both agents (and the registrar); wait for their registration if one is planned."""
        self.end_agents()
        self.plan, self.placed, self.connected = plan, 0, False
        if self.registrar is not None and not self.registrar.renew():
            self.registrar = None
        if plan.registrar and self.registrar is None:
            command = [
                sys.executable,
                "-m",
                "midcall.testbed.programs.calls.registrar",
                REGISTRAR,
                str(PORT),
            ]
            one = Program(self.line, self.line.server_pid, command, "registrar")
            self.registrar = one
            one.wait_for(lambda: "ready" in one.written(), START_SECONDS, "being ready")
        self.agents = []
        for name, pid, address in (
            ("caller", self.line.caller_pid, CALLER),
            ("callee", self.line.server_pid, CALLEE),
        ):
            self.agents.append(Agent(self.line, name, pid, address, self.account(name, address)))
            voice.write(self.agents[-1].voice, plan.seconds + 2 * ANSWER_SECONDS)
        if plan.registrar:
            wait(lambda: all(map(registered, self.agents)), ANSWER_SECONDS)

    def account(self, name: str, address: str) -> str:
        """Return an agent's line of baresip's accounts file."""
        words = [f"<sip:{name}@{REGISTRAR if self.plan.registrar else address};transport=udp>"]
        words.append("regint=60" if self.plan.registrar else "regint=0")
        words.append("audio_codecs=PCMU/8000/1")
        if self.plan.security == "srtp":
            words.append("mediaenc=srtp-mand")
        if name == "callee":
            words.append("answermode=auto")
        return ";".join(words)

    def call(self) -> bool:
        """Place the call; returns whether both ends report it as established in time."""
        host = REGISTRAR if self.plan.registrar else CALLEE
        self.placed = time.time_ns()
        self.agents[0].send_command("dial", f"sip:callee@{host}")
        caller, callee = self.agents
        wait(
            lambda: (
                bool(caller.first_event("CALL_CLOSED"))
                or bool(
                    caller.first_event("CALL_ESTABLISHED")
                    and callee.first_event("CALL_ESTABLISHED")
                )
            ),
            ANSWER_SECONDS,
        )
        self.connected = bool(
            caller.first_event("CALL_ESTABLISHED") and callee.first_event("CALL_ESTABLISHED")
        )
        return self.connected

    def statistics(self) -> Account:
        """Return the account of both agents so far."""
        self.ended = self.ended or (time.time_ns() - self.placed) / 1e9
        traces = [sip.trace(one.program.written()) for one in self.agents]
        descriptions = [
            first_sdp(messages, one.address)
            for messages, one in zip(traces, self.agents, strict=True)
        ]
        ends = tuple(
            end_of(one, self.placed, self.ended, traces[at], descriptions[at], descriptions[1 - at])
            for at, one in enumerate(self.agents)
        )
        version = re.search(r"baresip v(\S+)", self.agents[0].program.written())
        dead = [one.name for one in self.agents if not one.program.alive]
        return Account(
            self.plan,
            self.connected,
            self.placed,
            self.ended,
            ends,
            int(self.connected),
            error=f"baresip of the {' and the '.join(dead)} died" if dead else "",
            version=f"baresip {version[1]}" if version else "baresip",
        )

    def hang_up(self) -> Account:
        """End the call at the caller's side, let both ends write, and return their account."""
        self.ended = (time.time_ns() - self.placed) / 1e9
        self.agents[0].send_command("hangup")
        wait(lambda: all(one.first_event("CALL_CLOSED") for one in self.agents), LAST_SECONDS)
        time.sleep(STEP_SECONDS)
        account = self.statistics()
        self.end_agents()
        return account

    def end_agents(self) -> None:
        """End both agents."""
        agents, self.agents, self.ended = self.agents, [], 0.0
        for one in agents:
            one.close()

    def close(self) -> None:
        """End everything."""
        self.end_agents()
        if self.registrar is not None:
            self.registrar.end()
        self.registrar = None


def wait(done: Any, seconds: float) -> None:
    """Wait until `done()` is true, at most `seconds`."""
    until = time.monotonic() + seconds
    while not done() and time.monotonic() < until:
        time.sleep(STEP_SECONDS)


def registered(agent: Agent) -> bool:
    """Tell whether an agent's trace contains the answer to its registration."""
    return any(
        one.first.startswith("SIP/2.0 200") and " REGISTER\n" in one.text
        for one in sip.trace(agent.program.written())
    )


def first_sdp(messages: list[sip.Message], address: str) -> str:
    """Return the first SDP that an end sent, "" for none."""
    return next((one.sdp for one in messages if one.source[0] == address and one.sdp), "")


def end_of(
    agent: Agent, placed: int, ended: float, messages: list[sip.Message], own: str, other: str
) -> End:
    """Return an end's account; own, other: SDP of this end and of the other."""
    states = [
        State(round((at - placed) / 1e9, 3), "sip", EVENTS[one["type"]])
        for at, one in agent.events
        if one.get("type") in EVENTS
    ]
    return End(
        agent.name,
        agent.address,
        tuple(states),
        flows=sip.flows(agent.address, messages, own, other),
        streams=streams(agent, own),
        samples=samples(agent, placed, ended),
        sdp=own,
    )


def streams(agent: Agent, own: str) -> tuple[Stream, ...]:
    """Return both directions of the audio: counts by the agent's own RTCP, and seconds received."""
    codec, received_voice = sip.codec_of(own), voice.windows_with_voice(agent.recording)
    words = agent.program.written()
    counts, quality = COUNTS.findall(words), QUALITY.findall(words)
    if not counts:
        return ()
    sent, received = (int(word) for word in counts[-1])
    lost_out = lost_in = jitter_out = jitter_in = None
    if quality:
        lost_out, lost_in = (int(word) for word in quality[-1][:2])
        jitter_out, jitter_in = (float(word) for word in quality[-1][2:])
    return (
        Stream("audio", True, sent=sent, lost=lost_out, jitter_ms=jitter_out, codec=codec),
        Stream(
            "audio",
            False,
            received=received,
            lost=lost_in,
            jitter_ms=jitter_in,
            heard_s=float(received_voice.sum()) * voice.WINDOW_S,
            codec=codec,
        ),
    )


def samples(agent: Agent, placed: int, ended: float) -> tuple[Sample, ...]:
    """Return how many 20 ms windows of voice an end had received by each time, by its recording.

    The recording begins when the call is established (a callee's a moment earlier).
    """
    begin = agent.first_event("CALL_ESTABLISHED")
    received_voice = voice.windows_with_voice(agent.recording)
    if not begin or not len(received_voice):
        return ()
    total, step = received_voice.cumsum(), int(SAMPLE_S / voice.WINDOW_S)
    start = (begin - placed) / 1e9
    return tuple(
        Sample(round(start + (at + 1) * voice.WINDOW_S, 3), int(total[at]))
        for at in range(step - 1, len(received_voice), step)
        if start + at * voice.WINDOW_S <= ended
    )
