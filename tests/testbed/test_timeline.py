# SPDX-License-Identifier: BSD-3-Clause
"""Timelines of calls: what each side sent, what came, and when the rule spoke, by slot."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from midcall.testbed.assess.timeline import SLOTS, by_slot, timeline

MEDIA = {"match": {"ports": [3478]}, "act": "drop-media"}


def drawn(run: Any, scene: Any, policy: Any, call: Any) -> Any:
    return timeline(run(scene, policy, call), run(scene, None, call), call)


def test_a_call_that_no_rule_touched_has_no_timeline(
    scene: Any, make: Any, run: Any, policy: Any
) -> None:
    call = make.webrtc_call(scene)
    other = policy({"match": {"ports": [9]}, "act": "drop"})
    assert drawn(run, scene, None, call) is None
    assert drawn(run, scene, other, call) is None


def test_slots_hold_every_packet_that_was_sent_and_those_that_came(
    scene: Any, make: Any, run: Any, policy: Any
) -> None:
    call = make.webrtc_call(scene)
    result = drawn(run, scene, policy(MEDIA), call)
    for lane in result.lanes.values():
        assert [len(counts) for counts in lane[:4]] == [SLOTS] * 4
        assert (lane.due.sum(), lane.sent.sum()) == (602, 602)  # 2 of set-up, 600 of voice
        assert (lane.came.sum(), lane.struck.sum()) == (2, 600)
        assert (lane.came <= lane.sent).all()
    assert result.lanes["up"].came[0] == 2
    assert result.seconds == pytest.approx(12.19, abs=0.03)


def test_the_rule_speaks_when_it_first_strikes_each_way(
    scene: Any, make: Any, run: Any, policy: Any
) -> None:
    call = make.webrtc_call(scene)
    up = {"match": {"stun": False, "direction": "up"}, "act": "drop", "scope": "packet"}
    result = drawn(run, scene, policy(up), call)
    assert result.lanes["up"].spoke_s == pytest.approx(0.2, abs=0.03)
    assert result.lanes["down"].spoke_s is None
    assert result.lanes["down"].came.sum() == 602


def test_what_is_never_sent_is_due_and_not_sent(
    scene: Any, make: Any, run: Any, policy: Any
) -> None:
    call = make.webrtc_call(scene)
    result = drawn(run, scene, policy({"match": {"stun": True}, "act": "drop"}), call)
    assert result.lanes["up"].due.sum() == 602
    assert result.lanes["up"].sent.sum() < 20
    assert result.lanes["up"].came.sum() == 0
    assert result.lanes["up"].spoke_s == 0.0


def test_delaying_counts_as_speaking(scene: Any, make: Any, run: Any, policy: Any) -> None:
    call = make.webrtc_call(scene)
    slow = policy({"match": {"payload": ["rtp"]}, "act": "delay", "delay_ms": 80})
    result = drawn(run, scene, slow, call)
    assert result.lanes["up"].struck.sum() == 600
    assert result.lanes["up"].came.sum() == 602


def test_recognition_is_when_the_box_is_certain_of_the_app(
    scene: Any, make: Any, run: Any, policy: Any
) -> None:
    call = make.webrtc_call(scene)
    result = drawn(run, scene, policy(MEDIA), call)
    assert result.recognised_s is not None
    assert 0.0 < result.recognised_s < 2.0
    strange = call.model_copy(update={"app": "viber"})
    assert drawn(run, scene, policy(MEDIA), strange).recognised_s is None


def test_a_strike_at_what_the_call_waits_for_is_in_it(
    scene: Any, make: Any, run: Any, policy: Any
) -> None:
    scene.udp(0.00, ">", make.RESOLVER, 53, make.question(1, "chat.example"), near=5353)
    scene.udp(0.03, "<", make.RESOLVER, 53, make.answer(1, "chat.example", make.RELAY), near=5353)
    call = make.webrtc_call(scene, begin=1.0)
    lie = policy({"match": {"dns": ["chat.example"]}, "act": "dns-lie"})
    result = drawn(run, scene, lie, call)
    assert result.lanes["up"].spoke_s == 0.0
    assert result.lanes["up"].sent.sum() == 1
    assert result.lanes["up"].due.sum() == 603


def test_slots_are_half_open_and_leave_out_what_is_outside() -> None:
    counts = by_slot(np.array([0, 1, 59, 60, -1]), 0, 60)
    assert counts[[0, 1, 59]].tolist() == [1, 1, 1]
    assert counts.sum() == 3
