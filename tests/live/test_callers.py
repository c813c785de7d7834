# SPDX-License-Identifier: BSD-3-Clause
"""Real programs make real calls over a line, tell of them, and leave nothing behind."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from midcall.testbed.live.box.process import Box
from midcall.testbed.live.box.rings import inside
from midcall.testbed.live.network import network as networks
from midcall.testbed.live.network.network import Network
from midcall.testbed.live.network.network import start_time as started
from midcall.testbed.live.network.subscriber_line import CALLEE, CALLER, REGISTRAR, Line
from midcall.testbed.live.network.subscriber_line import RELAY as RELAY_ADDRESS
from midcall.testbed.programs.calls import caller as callers
from midcall.testbed.programs.calls.caller import caller, made
from midcall.testbed.programs.calls.chromium import Chromium
from midcall.testbed.programs.calls.plan import Plan
from midcall.testbed.programs.calls.report import CONTROL, MEDIA, RELAY, SIGNALLING, Account
from midcall.testbed.programs.calls.sockets import descendants, held

pytestmark = pytest.mark.live

SECONDS = 1.5


def needs(name: str) -> None:
    if lacks := callers.missing(name):
        pytest.skip(f"caller {name}: {'; '.join(lacks)}")


@pytest.fixture(scope="module")
def line(network: Network) -> Iterator[Line]:
    with Box(network, None, 1), Line(network) as one:
        yield one


@pytest.fixture(scope="module")
def chromium(line: Line) -> Iterator[Chromium]:
    needs("chromium")
    with caller("chromium", line) as one:
        assert isinstance(one, Chromium)
        yield one


def received_counts(account: Account, kind: str) -> list[int]:
    """Return the packets (messages of data) that caller and callee received."""
    streams = [end.stream(kind, out=False) for end in account.ends]
    return [0 if one is None else one.received for one in streams]


def test_two_browsers_talk_and_say_by_which_ports(chromium: Chromium) -> None:
    account = made(chromium, Plan(media="audio", seconds=SECONDS))
    assert account.connected
    assert min(received_counts(account, "audio")) > 20
    at_caller, at_callee = account.ends
    assert [one.role for one in at_caller.flows] == [MEDIA]
    assert at_caller.flows[0].local == CALLER
    assert at_caller.flows[0].remote == CALLEE
    assert (at_caller.flows[0].local_port, at_caller.flows[0].remote_port) == (
        at_callee.flows[0].remote_port,
        at_callee.flows[0].local_port,
    )
    assert at_caller.pairs[0].local.port == at_caller.flows[0].local_port
    assert ("connection", "connected") in [(one.kind, one.word) for one in at_caller.states]
    assert "a=fingerprint:" in at_caller.sdp


@pytest.mark.parametrize(("path", "leg"), [("turn-udp", ("udp", 3478)), ("turn-tls", ("tcp", 443))])
def test_a_relayed_call_has_one_leg_to_the_relay(
    chromium: Chromium, path: str, leg: tuple[str, int]
) -> None:
    account = made(chromium, Plan(media="audio", path=path, seconds=SECONDS))
    assert account.connected
    assert account.ends[0].relays == (path.removeprefix("turn-"),)
    flows = account.ends[0].flows
    assert [(one.proto, one.remote_port, one.role) for one in flows] == [(*leg, RELAY)]
    assert flows[0].remote == RELAY_ADDRESS
    assert min(received_counts(account, "audio")) > 20


def test_a_data_channel_is_no_call(chromium: Chromium) -> None:
    account = made(chromium, Plan(media="data", seconds=SECONDS))
    assert min(received_counts(account, "data")) > 0
    assert {one.kind for one in account.ends[0].streams} == {"data"}


def test_browsers_end_with_their_caller(line: Line) -> None:
    needs("chromium")
    with caller("chromium", line) as one:
        assert isinstance(one, Chromium)
        one.prepare(Plan(media="data"))
        assert one.driver is not None
        family = descendants(one.driver.program.pid)
        assert len(family) > 5
    assert not [pid for pid in family if started(pid)]


def test_sockets_of_other_programs_are_not_told(line: Line) -> None:
    with inside(line.caller_pid), socket.socket(type=socket.SOCK_DGRAM) as one:
        one.bind((CALLER, 40404))
        assert held(line.caller_pid, 2**22) == []


@pytest.mark.parametrize(
    ("security", "registrar", "profile"), [("srtp", False, "RTP/SAVP"), ("rtp", True, "RTP/AVP")]
)
def test_a_sip_call_is_heard_and_says_by_which_ports(
    line: Line, security: str, registrar: bool, profile: str
) -> None:
    needs("baresip")
    plan = Plan("baresip", seconds=SECONDS, security=security, registrar=registrar)
    with caller("baresip", line) as one:
        account = made(one, plan)
    assert account.connected
    assert account.error == ""
    assert profile in account.ends[0].sdp
    at_caller, at_callee = (
        {(f.local_port, f.remote_port, f.role) for f in e.flows} for e in account.ends
    )
    assert {role for _, _, role in at_caller} == {MEDIA, SIGNALLING, CONTROL}
    assert at_caller == {(far, near, role) for near, far, role in at_callee}
    for end in account.ends:
        stream = end.stream("audio", out=False)
        assert stream is not None
        assert stream.received > 20
        assert stream.heard_s is not None
        assert stream.heard_s > SECONDS / 2
    servers = {one.remote for one in account.ends[0].flows if one.role == SIGNALLING}
    assert servers == ({REGISTRAR, CALLEE} if registrar else {CALLEE})


def test_a_sip_call_without_an_answer_is_not_connected(make: Any) -> None:
    needs("baresip")
    with (
        Network() as network,
        Box(network, make.dropping(5060), 1),
        Line(network) as line,
        caller("baresip", line) as one,
    ):
        account = made(one, Plan("baresip", seconds=SECONDS))
    assert not account.connected
    assert account.error == ""
    assert "established" not in [state.word for state in account.ends[0].states]
    assert account.ends[0].stream("audio", out=False) is None


def test_many_sip_calls_are_made_at_once(line: Line) -> None:
    needs("sipp")
    with caller("sipp", line) as one:
        account = made(one, Plan("sipp", calls=5, seconds=SECONDS))
    assert account.connected
    assert account.made == 5
    media = [one for one in account.ends[0].flows if one.role == MEDIA]
    assert len({(one.local_port, one.remote_port) for one in media}) == 5
    assert "sent BYE" in " ".join(one.word for one in account.ends[0].states)


@pytest.mark.parametrize(("media", "calls"), [("audio", 3), ("data", 1)])
def test_one_process_makes_many_webrtc_calls(line: Line, media: str, calls: int) -> None:
    needs("aiortc")
    plan = Plan("aiortc", media=media, calls=calls, seconds=SECONDS)
    with caller("aiortc", line) as one:
        account = made(one, plan)
    assert account.connected
    assert account.made == calls
    assert min(received_counts(account, media)) > 5
    at_caller, at_callee = (
        {(f.local_port, f.remote_port) for f in end.flows} for end in account.ends
    )
    assert len(at_caller) == calls
    assert at_caller == {(far, near) for near, far in at_callee}


LAB = """
import sys, time
from midcall.testbed.programs.calls.caller import caller
from midcall.testbed.programs.calls.plan import Plan
from midcall.testbed.live.box.process import Box
from midcall.testbed.live.network.subscriber_line import Line
from midcall.testbed.live.network.network import Network
name = sys.argv[1]
with Network() as n, Box(n, None, 1), Line(n) as line, caller(name, line) as one:
    one.prepare(Plan(name, path="direct"))
    one.call()
    print("in a call", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("name", ["chromium", "baresip"])
def test_no_program_outlives_a_lab_that_is_killed(name: str) -> None:
    needs(name)
    lab = subprocess.Popen(
        [sys.executable, "-c", LAB, name],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert lab.stdout is not None
    assert lab.stdout.readline() == "in a call\n"
    family = [networks.identity(pid) for pid in descendants(lab.pid) - {lab.pid}]
    assert len(family) > 5
    lab.kill()
    lab.wait(10)
    lab.stdout.close()
    assert wait_until(lambda: not programs(family))
    with Network():  # a next lab sweeps what the kernel does not
        pass
    assert wait_until(lambda: not [one for one in family if networks.alive(one)])


def programs(family: list[list[int]]) -> list[list[int]]:
    """Return the processes that run and are no shell that holds a namespace."""
    running = []
    for one in family:
        with suppress(OSError):
            if networks.alive(one) and Path(f"/proc/{one[0]}/comm").read_text() != "bash\n":
                running.append(one)
    return running


def wait_until(done: Any, seconds: float = 10.0) -> bool:
    """Wait until something holds; tells whether it does."""
    until = time.monotonic() + seconds
    while not done() and time.monotonic() < until:
        time.sleep(0.05)
    return bool(done())
