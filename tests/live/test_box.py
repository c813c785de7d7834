# SPDX-License-Identifier: BSD-3-Clause
"""The box forwards, drops by policy, writes down what it did, and dies as it was told to."""

from __future__ import annotations

import select
import time
from typing import Any

import pytest

from midcall.errors import TestbedError
from midcall.testbed.live.box.process import Box
from midcall.testbed.live.network import network as networks
from midcall.testbed.live.network.network import Network
from midcall.testbed.middlebox.decide import DELIVERED, DROPPED

pytestmark = pytest.mark.live
RUN = 0x77


def settled(box: Box, name: str, count: int, seconds: float = 3.0) -> int:
    """Return a counter of the box as soon as it reached `count`, or as it is after that time."""
    until = time.monotonic() + seconds
    while box.counters()[name] < count and time.monotonic() < until:
        time.sleep(0.01)
    return box.counters()[name]


def test_frames_cross_both_ways_as_they_are(network: Network, taps: Any, make: Any) -> None:
    caller, server = taps
    frames = [make.datagram(bytes(size), number=size) for size in (0, 18, 500, 1472)]
    with Box(network, None, 1) as box:
        for frame in frames:
            caller.send(frame)
        assert server.frames(4) == frames
        for frame in frames:
            server.send(frame)
        assert caller.frames(4) == frames
        assert settled(box, "forwarded", 8) == 8
    assert box.counters()["received"] == 8
    assert len(box.flows()) == 1


def test_a_vlan_tag_crosses(network: Network, taps: Any, make: Any) -> None:
    caller, server = taps
    plain = make.datagram()
    with Box(network, None, 1):
        caller.send(plain[:12] + b"\x81\x00\x20\x64" + plain[12:])
        server.socket.setsockopt(263, 8, 1)
        assert select.select([server.socket], [], [], 3)[0]
        octets, notes, _, _ = server.socket.recvmsg(4096, 256)
    assert octets == plain  # the receiving kernel takes the tag off, and tells it beside
    tag = int.from_bytes(notes[0][2][16:18], "little")
    assert tag == 0x2064


def test_a_rule_drops_what_it_names_and_the_log_says_so(
    network: Network, taps: Any, make: Any
) -> None:
    caller, server = taps
    with Box(network, make.dropping(5001), 1, log_packets=8, run=RUN) as box:
        for number, port in enumerate((5000, 5001, 5000, 5001)):
            caller.send(make.datagram(port=port, number=number, near=40000 + port))
        expected = [make.datagram(port=5000, number=n, near=45000) for n in (0, 2)]
        assert server.frames(3, 1.0) == expected
        assert box.met() == {"drop-port": 2}
        assert box.counters()["dropped_by_policy"] == 2
        log = box.log()[:5].copy()
    assert log["fate"].tolist() == [DELIVERED, DROPPED, DELIVERED, DROPPED, 0]
    assert log["rule"].tolist() == [-1, 0, -1, 0, 0]
    assert log["times"].tolist() == [1, 1, 1, 1, 0]
    assert (log["out_time"][[0, 2]] > log["in_time"][[0, 2]]).all()
    assert log["out_time"][1] == 0


def test_frames_of_another_run_are_not_logged(network: Network, taps: Any, make: Any) -> None:
    caller, server = taps
    with Box(network, None, 1, log_packets=8, run=RUN + 1) as box:
        caller.send(make.datagram(number=3))
        assert len(server.frames(1)) == 1
        assert not box.log()["times"].any()


def test_a_box_that_died_open_forwards_everything_and_one_that_died_closed_nothing(
    network: Network, taps: Any, make: Any
) -> None:
    caller, server = taps
    for fail in ("open", "closed"):
        with Box(network, make.dropping(5001), 1, fail=fail) as box:
            caller.send(make.datagram(port=5001))
            assert server.frames(1, 0.3) == []
            box.kill()
            until = time.monotonic() + 3
            while box.alive and time.monotonic() < until:
                time.sleep(0.01)
            assert not box.alive
            caller.send(make.datagram(port=5001))
            assert server.frames(1, 0.5) == ([make.datagram(port=5001)] if fail == "open" else [])
            assert box.counters()["bypassed"] == (1 if fail == "open" else 0)


def test_a_box_leaves_no_process(network: Network) -> None:
    with Box(network, None, 1) as box:
        assert box.process is not None
        pids = [box.process.pid, box.worker]
        assert all(networks.start_time(pid) for pid in pids)
    assert [networks.start_time(pid) for pid in pids] == [None, None]


def test_an_option_that_cannot_be_is_told_in_a_sentence(network: Network) -> None:
    with pytest.raises(TestbedError, match="fail: got 'ajar', expected one of open, closed"):
        Box(network, None, 1, fail="ajar")
    with pytest.raises(TestbedError, match="frames: got 100, expected a power of two"):
        Box(network, None, 1, frames=100)
    with pytest.raises(TestbedError, match="unexpected keyword argument 'colour'"):
        Box(network, None, 1, colour="red")
