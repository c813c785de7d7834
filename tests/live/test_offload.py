# SPDX-License-Identifier: BSD-3-Clause
"""Decided flows leave user space, and fare there as they would have in the box."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from midcall.classifier.engine import Engine, step
from midcall.classifier.state.flow_table import SETTLED
from midcall.errors import TestbedError
from midcall.testbed.live.box.process import Box
from midcall.testbed.live.box.rings import FRAME, PORT_FRAMES, PORT_SLOTS, RX_USER, Port, inside
from midcall.testbed.live.network.network import Network
from midcall.testbed.live.offload import bpf, handover
from midcall.testbed.live.offload.handover import Offload
from midcall.testbed.live.offload.xdp import TRACE, shortcut
from midcall.testbed.middlebox.decide import CLOSED, DELIVERED, DROPPED
from midcall.testbed.middlebox.rule_table import RULE
from tests.live import frames

pytestmark = pytest.mark.live

PASSED, BLOCKED = 6000, 5000
#: Datagrams after which the classifier has seen enough for sure, and some more.
ENOUGH, MORE = 70, 30


def inner(port: int, answer: bool = False) -> bytes:
    """Return a datagram between caller and server."""
    if answer:
        return frames.ip4(frames.SERVER, frames.CALLER, frames.udp(port, 40000, b"hello"))
    return frames.between(frames.udp(40000, port, b"hello"))


def inner6(port: int) -> bytes:
    """Return a datagram from caller to server over IPv6."""
    return frames.ip6(frames.CALLER6, frames.SERVER6, frames.udp(40000, port, b"hello"))


# how a datagram to a port is wrapped, as packet N of the run
WRAPPED: dict[str, Callable[[int, int], bytes]] = {
    "plain": lambda port, n: frames.ethernet(inner(port), number=n),
    "IPv6": lambda port, n: frames.ethernet(inner6(port), number=n),
    "VLAN": lambda port, n: frames.ethernet(inner(port), (100,), number=n),
    "PPPoE": lambda port, n: frames.ethernet(inner(port), session=7, number=n),
    "PPPoE IPv6 in a VLAN": lambda port, n: frames.ethernet(inner6(port), (9,), 7, n),
    "GTP-U": lambda port, n: frames.ethernet(frames.tunnel(9, inner(port)), number=n),
    "GTP-U with an extension header": lambda port, n: frames.ethernet(
        frames.tunnel(9, inner(port), b"\x10\x01"), (3,), number=n
    ),
}


def numbers(received: list[bytes]) -> list[int]:
    """Return the packet numbers of the run's frames."""
    return [int.from_bytes(frame[8:12], "big") for frame in received if frame[6:8] == b"\x02\x77"]


def play(
    network: Network, taps: Any, policy: Any, wrap: Callable[[int, int], bytes], choice: str
) -> tuple[list[int], Any, dict[str, int], str]:
    """Send two flows through a box; returns (numbers that arrived, log, counters, offload)."""
    caller, server = taps
    count = 2 * (ENOUGH + MORE)
    options = {"log_packets": count, "run": frames.RUN, "offload": choice}
    with Box(network, policy, 1, **options) as box:
        for number in range(0, count, 2):
            caller.send(wrap(PASSED, number))
            caller.send(wrap(BLOCKED, number + 1))
            time.sleep(0.001)
        arrived = numbers(server.frames(count, 0.3))
        log = box.log()
    return arrived, log.copy(), box.counters(), box.offload


@pytest.mark.parametrize("how", WRAPPED)
def test_of_two_flows_in_one_tunnel_one_is_dropped_in_the_kernel(
    network: Network, taps: Any, make: Any, how: str
) -> None:
    arrived, log, counters, state = play(
        network, taps, make.dropping(BLOCKED), WRAPPED[how], "auto"
    )
    assert state == "on"
    assert arrived == list(range(0, 2 * (ENOUGH + MORE), 2))
    assert log["fate"].tolist() == [DELIVERED, DROPPED] * (ENOUGH + MORE)
    assert log["rule"].tolist() == [-1, 0] * (ENOUGH + MORE)
    assert (log["times"] == 1).all()
    assert counters["offload_redirected"] >= MORE - 5
    assert counters["offload_dropped"] >= MORE - 5
    assert counters["received"] == 2 * (ENOUGH + MORE)
    assert counters["forwarded"] == counters["dropped_by_policy"] == ENOUGH + MORE


@pytest.mark.parametrize("how", ["plain", "GTP-U with an extension header"])
def test_fates_are_the_same_without_the_kernel(
    network: Network, taps: Any, make: Any, how: str
) -> None:
    policy = make.dropping(BLOCKED)
    runs = [play(network, taps, policy, WRAPPED[how], choice) for choice in ("auto", "off")]
    (arrived, log, counters, _), (arrived_off, log_off, counters_off, state) = runs
    assert state == "off: not asked for"
    assert arrived == arrived_off
    assert log["fate"].tolist() == log_off["fate"].tolist()
    assert log["rule"].tolist() == log_off["rule"].tolist()
    assert counters["offload_redirected"] > 0 == counters_off["offload_redirected"]
    for name in ("received", "forwarded", "dropped_by_policy"):
        assert counters[name] == counters_off[name]


def test_flows_count_and_age_by_what_the_kernel_forwarded(
    network: Network, taps: Any, make: Any
) -> None:
    caller, server = taps
    count = ENOUGH + MORE
    with Box(network, make.dropping(BLOCKED), 1, offload="auto") as box:
        for number in range(count):
            if number == count - 5:
                late = time.time_ns()
            caller.send(frames.ethernet(inner(PASSED)))
            server.send(frames.ethernet(inner(PASSED, answer=True)))
            time.sleep(0.001)
        server.frames(count, 0.3)
    assert box.counters()["offload_entered"] == 2
    flow = box.flows()[0]
    assert (flow["packets_up"], flow["packets_down"]) == (count, count)
    assert flow["bytes_up"] == count * len(inner(PASSED))
    assert flow["last_time"] > late
    assert box.met() == {"drop-port": 0}


def test_a_delayed_network_hands_only_drops_over(network: Network, taps: Any, make: Any) -> None:
    caller, server = taps
    policy = make.dropping(BLOCKED)
    with Box(network, policy, 1, offload="auto", link="preset", access="wifi") as box:
        for _ in range(ENOUGH + MORE):
            caller.send(frames.ethernet(inner(PASSED)))
            caller.send(frames.ethernet(inner(BLOCKED)))
            time.sleep(0.001)
        server.frames(ENOUGH + MORE, 0.5)
    counters = box.counters()
    assert counters["offload_redirected"] == 0
    assert counters["offload_dropped"] >= MORE - 5


def test_the_program_is_gone_with_a_box_that_dies(network: Network, taps: Any, make: Any) -> None:
    caller, server = taps
    with Box(network, make.dropping(BLOCKED), 1, offload="auto", fail="open") as box:
        for _ in range(ENOUGH + MORE):
            caller.send(frames.ethernet(inner(BLOCKED)))
            time.sleep(0.001)
        assert server.frames(1, 0.2) == []
        box.kill()
        until = time.monotonic() + 5
        while box.alive and time.monotonic() < until:
            time.sleep(0.01)
        time.sleep(0.1)
        caller.send(frames.ethernet(inner(BLOCKED)))
        assert len(server.frames(1)) == 1


def test_a_box_without_offload_says_why(
    network: Network, taps: Any, make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its ports carry a program already."""
    with Offload(capacity=8) as other:
        with inside(network.box_pid):
            other.attach((network.ports.b0, network.ports.b1))
        with Box(network, None, 1, offload="auto") as box:
            taps[0].send(frames.ethernet(inner(PASSED)))
            assert len(taps[1].frames(1)) == 1
            assert "has an XDP program already" in box.offload


def test_interfaces_that_are_not_there_are_told() -> None:
    with Offload(capacity=8) as one, pytest.raises(TestbedError, match="one is not here"):
        one.attach(("no-such-port", "nor-this"))


# ---- the desk alone, against the program on trial


class Lone:
    """An engine, an offload without interfaces, and one settled flow; `mark` is its decision."""

    def __init__(self, mark: int, **options: Any) -> None:
        self.offload = Offload(trace=8, tag=frames.RUN, **options)
        self.program = bpf.load(shortcut(self.offload.shared, 1))
        self.engine = Engine()
        self.frame = frames.ethernet(inner(BLOCKED), number=3)
        self.met = np.zeros(1, np.int64)
        self.rules = np.zeros(1, RULE)
        self.octets = np.frombuffer(self.frame, np.uint8).copy()
        place = (self.octets, 0, len(self.frame), len(self.frame), time.time_ns(), 1, 0)
        self.number = int(step(self.engine.tables, *place, self.engine.signs))
        self.flow = self.engine.tables.flows[self.number]
        self.flow["state"], self.flow["mark"] = SETTLED, mark
        self.port, self.clock = empty_port(), time.time_ns()

    def offer(self) -> None:
        desk, flows = self.offload.desk, self.engine.tables.flows
        place = (self.octets, 0, len(self.frame), self.clock)
        handover.offer(desk, self.rules, flows, self.number, 1, 0, *place)

    def settle(self, later: int = 0) -> None:
        """Enter what waits, `later` ns after it was offered."""
        handover.settle_queue(self.offload.desk, self.clock + later, self.port, empty_port())

    def receive(self, frame: bytes) -> None:
        """Put a frame into the ring, as the kernel would."""
        self.port.octets[80 : 80 + len(frame)] = np.frombuffer(frame, np.uint8)
        self.port.words[:4] = RX_USER, len(frame), len(frame), 80

    def fold(self) -> None:
        flows = self.engine.tables.flows
        handover.fold(self.offload.desk, time.time_ns(), 64, flows, self.met)

    def answer(self) -> int:
        return bpf.try_out(self.program, self.frame)


def empty_port() -> Port:
    """Return a port of 32 frames without a socket, in which nothing is."""
    octets = np.zeros(2 * 32 * FRAME, np.uint8)
    row = np.zeros(PORT_SLOTS, np.int64)
    row[PORT_FRAMES] = 32
    return Port(octets, octets.view(np.uint32), row)


def test_a_redirect_waits_while_a_frame_of_the_flow_is_in_the_ring() -> None:
    lone = Lone(CLOSED)
    lone.receive(lone.frame)
    lone.offer()
    lone.settle()
    assert lone.answer() == bpf.XDP_PASS
    lone.settle(handover.FULL_SEARCH_NS + 1)
    assert lone.answer() == bpf.XDP_PASS
    lone.receive(frames.ethernet(inner(PASSED)))
    lone.settle()
    assert lone.answer() == bpf.XDP_REDIRECT
    assert lone.offload.counters["offload_forced"] == 0
    lone.offload.close()


def test_a_redirect_does_not_wait_for_ever() -> None:
    lone = Lone(CLOSED)
    lone.receive(lone.frame)
    lone.offer()
    lone.settle(handover.FORCE_NS + 1)
    assert lone.answer() == bpf.XDP_REDIRECT
    assert lone.offload.counters["offload_forced"] == 1
    lone.offload.close()


def test_what_may_still_change_is_not_handed_over() -> None:
    for mark, state in ((0, SETTLED), (CLOSED, 0)):
        lone = Lone(mark)
        lone.flow["state"] = state
        lone.offer()
        lone.settle()
        assert lone.answer() == bpf.XDP_PASS
        lone.offload.close()


def test_a_silent_entry_is_taken_out_and_comes_back() -> None:
    lone = Lone(CLOSED, idle_ns=20_000_000)
    for _ in range(2):
        lone.offer()
        lone.settle()
        assert lone.answer() == bpf.XDP_REDIRECT
        lone.fold()
        assert lone.answer() == bpf.XDP_REDIRECT
        time.sleep(0.03)
        lone.fold()
        assert lone.answer() == bpf.XDP_PASS
    assert lone.offload.counters["offload_returned"] == 2
    assert int(lone.flow["packets_up"]) == 1 + 4
    lone.offload.close()


def test_an_entry_of_a_forgotten_flow_is_taken_out() -> None:
    lone = Lone(CLOSED)
    lone.offer()
    lone.settle()
    lone.flow["first_record"] = 99
    lone.fold()
    assert lone.answer() == bpf.XDP_PASS
    lone.offload.close()


def test_no_more_is_handed_over_than_there_is_room() -> None:
    lone = Lone(CLOSED, capacity=1)
    for port in (1, 2):
        lone.octets[36:38] = 0, port
        lone.flow["target_port"] = port
        lone.offer()
        lone.settle()
    counters = lone.offload.counters
    assert (counters["offload_entered"], counters["offload_refused"]) == (1, 1)
    lone.offload.close()


def test_the_trace_tells_when_and_by_whom() -> None:
    lone = Lone(CLOSED)
    lone.offer()
    lone.settle()
    before = time.monotonic_ns()
    lone.answer()
    row = lone.offload.trace[3]
    assert before <= row["time"] <= time.monotonic_ns()
    assert (row["flow"], row["rule"]) == (lone.number, -1)
    assert (np.delete(lone.offload.trace, 3) == np.zeros(1, TRACE)).all()
    lone.offload.close()
