# SPDX-License-Identifier: BSD-3-Clause
"""A line gives both ends of a network IP, through the box, and takes it away again."""

from __future__ import annotations

import socket
import subprocess
import time

import pytest

from midcall.errors import TestbedError
from midcall.testbed.live.box.process import Box
from midcall.testbed.live.box.rings import inside
from midcall.testbed.live.network import network as networks
from midcall.testbed.live.network.network import Network
from midcall.testbed.live.network.subscriber_line import CALLEE, RELAY, Line, ip
from midcall.testbed.programs.process import Program

pytestmark = pytest.mark.live


def refused(line: Line, address: str) -> bool:
    """Tell whether a host at an address refuses a connection, which needs both ways."""
    with inside(line.caller_pid), socket.socket() as one:
        one.settimeout(5)
        return one.connect_ex((address, 9)) == 111


def test_every_address_behind_the_box_answers_and_none_is_left_afterwards(
    network: Network,
) -> None:
    with Box(network, None, 1), Line(network, "adsl") as line:
        assert refused(line, CALLEE)
        assert refused(line, RELAY)
        assert "mtu 1492" in ip(line.caller_pid, "route")
    assert ip(network.caller_pid, "route") == ""
    assert "198.1" not in ip(network.server_pid, "address")
    assert "198.1" not in ip(network.server_pid, "route", "show", "table", "local")


def test_an_address_of_neither_end_is_an_error(network: Network) -> None:
    with pytest.raises(TestbedError, match=r"got 10\.0\.0\.1, expected one of 198"):
        Line(network).pid("10.0.0.1")


def test_a_program_ends_with_all_that_it_started(network: Network) -> None:
    line = Line(network)
    script = "sleep 77 & echo $(readlink /proc/self/ns/net) here; wait"
    with Program(line, line.caller_pid, ["sh", "-c", script], "sleeper") as program:
        program.wait_for(lambda: "here" in program.written(), 10, "its first word")
        inner = subprocess.run(
            ["pgrep", "-P", str(program.pid)], capture_output=True, text=True, check=True
        )
        pid = int(inner.stdout.split()[0])
        with inside(line.caller_pid):
            here = subprocess.run(
                ["readlink", "/proc/self/ns/net"], capture_output=True, text=True, check=True
            )
        assert program.written().split()[0] == here.stdout.strip()
    assert networks.start_time(program.pid) is None
    assert networks.start_time(pid) is None


def test_a_program_that_ends_too_soon_is_an_error_with_its_words(network: Network) -> None:
    line = Line(network)
    with (
        Program(line, line.server_pid, ["sh", "-c", "echo no such thing"], "brief") as program,
        pytest.raises(TestbedError, match="brief ended before never; it said:\n    no such thing"),
    ):
        program.wait_for(lambda: False, 10, "never")


def test_a_program_runs_for_a_bounded_time_that_a_next_call_renews(network: Network) -> None:
    line = Line(network)
    with Program(line, line.caller_pid, ["sleep", "77"], "bounded", limit_s=4.0) as program:
        time.sleep(2.5)
        assert program.renew()
        time.sleep(2.5)
        assert program.alive
        program.process.wait(10)
        assert not program.renew()
