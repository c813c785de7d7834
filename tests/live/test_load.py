# SPDX-License-Identifier: BSD-3-Clause
"""Load is sent on time, counted whole, and charged from when it was due."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from midcall.errors import TestbedError
from midcall.testbed.live.box.process import Box
from midcall.testbed.live.devices.forwarding import forward, mac
from midcall.testbed.live.devices.load_generator import (
    CALLS,
    FIXED,
    FRESH,
    FRESH_ROUNDS,
    IMIX,
    Generator,
    traffic,
)
from midcall.testbed.live.network.network import Network

pytestmark = pytest.mark.live


def test_the_kernel_forwards_every_packet_of_a_trial() -> None:
    with Network() as network:
        forward(network)
        target = mac(network.box_pid, network.ports.b0)
        for sizes in ((200,), IMIX):
            what = traffic(FIXED, sizes, 60, target, "test")
            with Generator(network) as generator:
                trial = generator.trial(what, 2000, 0.2)
            assert (trial.sent, trial.lost, trial.twice, trial.refused) == (400, 0, 0, 0)
            assert len(trial.late_us) == trial.percentiles()["n"] == 400
            assert (trial.late_us > 0).all()


def test_a_box_forwards_calls_both_ways_and_sees_as_many_flows(network: Network) -> None:
    what = traffic(CALLS, (214,), 50, b"\2\0\0\0\0\1", "calls")
    with Box(network, None, 1, log_packets=1000, run=9) as box, Generator(network) as generator:
        trial = generator.trial(what._replace(frames=tagged(what.frames, 9)), 5000, 0.2)
        assert trial.whole
        assert box.counters()["received"] == 1000
        log = box.log().copy()
    assert len(box.flows()) == 50
    assert (log["times"] == 1).all()
    assert (trial.arrivals >= log["in_time"]).all()


def tagged(frames: Any, run: int) -> Any:
    """Return frames whose MAC source carries the run."""
    frames[:, 7] = run
    return frames


def test_fresh_traffic_brings_a_new_flow_after_its_rounds(network: Network) -> None:
    what = traffic(FRESH, (200,), 4, b"\2\0\0\0\0\1", "fresh")
    rounds = 3
    with Box(network, None, 1) as box, Generator(network) as generator:
        assert generator.trial(what, 2000, 4 * FRESH_ROUNDS * rounds / 2000).whole
    assert len(box.flows()) == 4 * rounds
    assert (box.flows()["packets_up"] == FRESH_ROUNDS).all()


def test_what_a_rule_drops_is_lost_to_the_receiver(network: Network, make: Any) -> None:
    what = traffic(FIXED, (200,), 4, b"\2\0\0\0\0\1", "test")
    with Box(network, make.dropping(20001), 1) as box, Generator(network) as generator:
        trial = generator.trial(what, 2000, 0.1)
    assert trial.lost == 50
    assert box.counters()["dropped_by_policy"] == 50


def test_a_delay_is_charged_from_when_a_packet_was_due(network: Network, make: Any) -> None:
    what = traffic(FIXED, (200,), 4, b"\2\0\0\0\0\1", "test")
    with Box(network, make.delaying(20.0), 1) as box, Generator(network) as generator:
        trial = generator.trial(what, 1000, 0.2)
        assert box.counters()["held"] == 200
    assert trial.whole
    assert trial.late_us.min() >= 20_000
    assert np.median(trial.late_us) < 40_000


def test_a_frame_size_that_cannot_be_is_told() -> None:
    with pytest.raises(TestbedError, match="frame size: got 40, expected 50 to 1514 bytes"):
        traffic(FIXED, (40,), 1, bytes(6), "small")
