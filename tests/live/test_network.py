# SPDX-License-Identifier: BSD-3-Clause
"""Networks come up whole, are told apart, and leave nothing behind, however their lab ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from midcall.errors import TestbedError
from midcall.testbed.live.box.rings import inside
from midcall.testbed.live.network import network as networks
from midcall.testbed.live.network import nic_offloads
from midcall.testbed.live.network.network import Network

pytestmark = pytest.mark.live

#: A program under `nohup`, as the tests may be, ignores SIGHUP.
LAB = """
import signal, sys, time
from midcall.testbed.live.network.network import Network
signal.signal(signal.SIGHUP, signal.SIG_DFL)
with Network(run=sys.argv[1]) as network:
    print(network.caller_pid, network.box_pid, network.server_pid, flush=True)
    time.sleep(60)
"""


def lab(run: str, runs: Path) -> tuple[subprocess.Popen[str], list[int]]:
    """Start another lab with a network; returns it and the processes that hold its namespaces."""
    process = subprocess.Popen(
        [sys.executable, "-c", LAB, run],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"MIDCALL_LIVE": str(runs)},
    )
    assert process.stdout is not None
    return process, [int(word) for word in process.stdout.readline().split()]


def end(process: subprocess.Popen[str], number: int) -> int:
    """Send a signal and wait for the end; returns the exit code."""
    process.send_signal(number)
    code = process.wait(60)  # other programs may use the processor
    assert process.stdout is not None
    process.stdout.close()
    return code


def gone(pids: list[int]) -> bool:
    """Tell whether processes end within two seconds."""
    until = time.monotonic() + 2
    while time.monotonic() < until:
        if all(networks.start_time(pid) is None for pid in pids):
            return True
        time.sleep(0.02)
    return False


def test_a_network_has_no_address_no_route_and_no_offload(network: Network) -> None:
    for pid, name in network.ends():
        on = [word for word, state in nic_offloads.states(pid, name).items() if state]
        assert set(on) <= {"sg"}
        with inside(pid):
            shown = subprocess.run(["ip", "-o", "addr"], capture_output=True, text=True, check=True)
            routes = subprocess.run(
                ["ip", "route", "show", "table", "all"], capture_output=True, text=True, check=True
            )
        assert "inet" not in shown.stdout
        assert routes.stdout == ""


def test_the_probe_finds_a_checksum_that_offload_left_unwritten(network: Network) -> None:
    c0, b0 = network.ends()[:2]
    nic_offloads.assert_whole(*c0, *b0)
    with inside(c0[0]):
        import socket

        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            nic_offloads.ethtool(probe, c0[1], nic_offloads.SET["tx"], 1)
    try:
        with pytest.raises(TestbedError, match="checksum unwritten"):
            nic_offloads.assert_whole(*c0, *b0)
    finally:
        nic_offloads.switch_off(*c0)


def test_two_networks_at_once_do_not_see_each_other(network: Network, make: Any) -> None:
    with Network() as other:
        assert not set(other.ports) & set(network.ports)
        own_tap, other_tap = (make.Tap(n.box_pid, n.ports.b0) for n in (network, other))
        sender = make.Tap(network.caller_pid, network.ports.c0)
        sender.send(make.datagram())
        assert own_tap.frames(1) == [make.datagram()]
        assert other_tap.frames(1, 0.2) == []
        for tap in (own_tap, other_tap, sender):
            tap.socket.close()


def test_a_network_that_failed_half_way_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Network) -> None:
        raise TestbedError("made up for this test")

    monkeypatch.setattr(Network, "check_links", fail)
    network = Network()
    with pytest.raises(TestbedError, match="made up"):
        network.__enter__()
    assert not network.folder.exists()
    assert gone([network.caller_pid, network.box_pid, network.server_pid])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_lab_that_is_asked_to_end_takes_its_network_down(tmp_path: Path, number: int) -> None:
    process, pids = lab("a11ce0", tmp_path)
    assert len(pids) == 3
    assert end(process, number) != 0
    assert gone(pids)
    assert list(tmp_path.glob("mc*")) == []


def test_what_a_killed_lab_left_is_swept_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed, dead = lab("dead00", tmp_path)
    lives, living = lab("a11ce1", tmp_path)
    end(killed, signal.SIGKILL)
    assert (tmp_path / "mcdead00").exists()
    monkeypatch.setattr(networks, "RUNS", tmp_path)
    assert networks.sweep() == ["mcdead00"]
    assert gone(dead)
    assert not (tmp_path / "mcdead00").exists()
    assert all(networks.start_time(pid) for pid in living)
    end(lives, signal.SIGTERM)


def test_what_the_network_cannot_be_is_told_in_a_sentence() -> None:
    with pytest.raises(TestbedError, match="mtu: got 9000, expected 576 to 1900"):
        Network(mtu=9000)
    with pytest.raises(TestbedError, match="callers, servers: got 2 and 1"):
        Network(callers=2)


def test_capabilities_that_root_lacks_are_named_before_anything_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(networks.os, "geteuid", lambda: 0)
    monkeypatch.setattr(networks.Path, "read_text", lambda _: "CapEff:\t0000000000003000\nx:\t1\n")
    assert networks.missing()[0] == (
        "root here lacks SYS_ADMIN: in a container say --cap-add SYS_ADMIN"
    )
