# SPDX-License-Identifier: BSD-3-Clause
"""Patience: what is lost by chance is sent again by who waits for an answer, and by nobody else."""

from __future__ import annotations

from typing import Any

import pytest

from testbed.patience import patience
from testbed.scenes import scene
from testbed.survey import survey

# line of a transcript -> ms until it is sent again
WAITS = [
    ("> udp relay:3478 stun-binding", 500),
    ("> udp relay:3478 stun-binding-answer", 500),
    ("> udp relay:3478 stun-send", 0),
    ("> udp peer:5060 sip", 500),
    ("> udp resolver:53/5353 question a.example", 1000),
    ("> udp peer:40100 dtls-hello", 1000),
    ("> udp peer:40100 dtls", 0),
    ("> udp peer:40100 rtp", 0),
    ("> udp peer:9999 noise", 0),
    ("> tcp peer:443 syn", 300),
    ("> tcp peer:443 tls", 300),
    ("> tcp peer:443 ack", 0),
    ("> esp peer:0 noise", 0),
]


@pytest.mark.parametrize(("line", "ms"), WAITS)
def test_a_sender_waits_as_its_protocol_says(line: str, ms: int) -> None:
    assert patience(survey(scene(f"0.0 {line}"))).tolist() == [ms * 1_000_000]


def test_set_up_survives_loss_by_chance_and_media_are_not_sent_again(
    make: Any, run: Any, policy: Any
) -> None:
    lost, opened = 0, 0
    for seed in range(20):
        scene = make.Scene()
        call = make.webrtc_call(scene, seconds=4.0)
        told = run(scene, policy({"match": {"protocol": "udp"}, "act": "loss", "loss": 0.4}), call,
                   seed=seed)  # fmt: skip
        opened += bool((told.opened >= 0).any())
        media = told.script.media == 1
        lost += int((media & told.fates["sent"] & ~told.delivered).sum())
    assert opened == 20
    assert lost > 1000


def test_a_rule_that_drops_is_met_by_no_second_copy(make: Any, run: Any, policy: Any) -> None:
    scene = make.Scene()
    scene.udp(0.0, ">", make.RELAY, 3478, make.stun(1, 7))
    told = run(scene, policy({"match": {"stun": True}, "act": "drop"}))
    assert (told.counters["resent"], told.met.tolist()) == (0, [1])


def test_a_connection_waits_for_a_name_that_comes_late(make: Any, run: Any, policy: Any) -> None:
    scene = make.Scene()
    scene.udp(0.00, ">", make.RESOLVER, 53, make.question(1, "a.example"), near=5353)
    scene.udp(0.03, "<", make.RESOLVER, 53, make.answer(1, "a.example", make.PEER), near=5353)
    scene.hello(0.05, make.PEER, 443)
    late = run(scene, policy({"match": {"ports": [53]}, "act": "delay", "delay_ms": 900}))
    assert late.delivered.all()
    assert late.fates["box_time"][2] - late.script.send[2] > 1_700_000_000
    never = run(scene, policy({"match": {"ports": [53]}, "act": "delay", "delay_ms": 4000}))
    assert not never.fates["sent"][2:].any()
