# SPDX-License-Identifier: BSD-3-Clause
"""What a policy cost a call: flows hit, bytes, and seconds of talk."""

from __future__ import annotations

from typing import Any

import pytest

from midcall.testbed.assess.loss import loss

CUT = {"match": {"ports": [3478]}, "act": "stall", "after": {"seconds": 4.0}}


def cost(run: Any, scene: Any, policy: Any, call: Any) -> Any:
    return loss(run(scene, policy, call), run(scene, None, call), call)


def test_a_call_left_alone_loses_nothing(scene: Any, make: Any, run: Any) -> None:
    result = cost(run, scene, None, make.webrtc_call(scene))
    assert (result.flows, result.hit, result.bytes_hit, result.seconds_lost) == (1, 0, 0, 0)
    assert result.seconds == 12
    assert result.bytes == 4 * 48 + 1200 * 100


@pytest.mark.parametrize(
    ("rule", "lost"),
    [
        ({"match": {"ports": [3478]}, "act": "drop"}, 12),
        ({"match": {"stun": False, "direction": "up"}, "act": "drop", "scope": "packet"}, 12),
        (CUT, 8),
        ({"match": {"payload": ["rtp"]}, "act": "loss", "loss": 0.2}, 0),
        ({"match": {"payload": ["rtp"]}, "act": "delay", "delay_ms": 900}, 0),
        ({"match": {"payload": ["rtp"]}, "act": "delay", "delay_ms": 1500}, 12),
    ],
)
def test_seconds_in_which_half_of_a_direction_does_not_come_in_time_are_lost(
    scene: Any, make: Any, run: Any, policy: Any, rule: Any, lost: int
) -> None:
    result = cost(run, scene, policy(rule), make.webrtc_call(scene))
    assert (result.seconds, result.seconds_lost) == (12, lost)


def test_a_flow_is_hit_where_a_packet_of_it_was_struck_or_never_came(
    scene: Any, make: Any, run: Any, policy: Any
) -> None:
    call = make.webrtc_call(scene)
    result = cost(run, scene, policy({"match": {"stun": True}, "act": "drop"}), call)
    assert (result.flows, result.hit) == (1, 1)
    assert result.bytes_hit == result.bytes
    slow = cost(run, scene, policy({"match": {"stun": True}, "act": "delay", "delay_ms": 9}), call)
    assert (slow.hit, slow.bytes_hit) == (0, 0)


def test_a_call_without_media_has_no_seconds(scene: Any, make: Any, run: Any, policy: Any) -> None:
    scene.udp(0.0, ">", make.RELAY, 3478, make.stun(0x0001, 7))
    result = cost(
        run, scene, policy({"match": {"stun": True}, "act": "drop"}), make.call_of(setup=[1])
    )
    assert (result.hit, result.seconds, result.seconds_lost) == (1, 0, 0)
