# SPDX-License-Identifier: BSD-3-Clause
"""Retransmission: what is lost is sent again as its protocol says, whatever lost it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from midcall.testbed.conformance.transcript import scene as transcript
from midcall.testbed.replay.packet_index import index_packets
from midcall.testbed.replay.retransmission import LAW_TABLE, LAWS, interval, laws

# line of a transcript -> seconds between its copies, if nothing comes back
COPIES = [
    ("> udp relay:3478 stun-binding", [0.5, 1, 2, 4, 8, 16]),
    ("> udp relay:3478 stun-binding-answer", []),
    ("> udp relay:3478 stun-send", []),
    ("> udp resolver:53/5353 question a.example", [5]),
    ("> udp peer:40100 dtls-hello", [1, 2, 4, 8, 16, 32]),
    ("> udp peer:40100 dtls", []),
    ("> udp peer:40100 rtp", []),
    ("> udp peer:9999 noise", []),
    ("> tcp peer:443 syn", [1, 2, 4, 8, 16, 32]),
    ("> tcp peer:443 tls", [1, 2, 4, 8, 16, 32]),
    ("> tcp peer:443 ack", []),
    ("> esp peer:0 noise", []),
]


@pytest.mark.parametrize(("line", "waits"), COPIES)
def test_a_sender_repeats_as_its_protocol_says(line: str, waits: list[float]) -> None:
    (law,) = laws(index_packets(transcript(f"0.0 {line}"))).tolist()
    intervals = [interval(LAW_TABLE, law, sent) / 1e9 for sent in range(1, 20)]
    assert intervals == waits + [-1e-9] * (19 - len(waits))
    assert len(LAWS) == len(LAW_TABLE)


SIP = (
    "{first}\r\nVia: SIP/2.0/UDP caller\r\nCall-ID: {call}@caller\r\n"
    "CSeq: {number} {method}\r\nContent-Length: 0\r\n\r\n"
)


def sip(first: str, call: str, number: int, method: str) -> bytes:
    return SIP.format(first=first, call=call, number=number, method=method).encode()


def sendings(simulation: Any, packet: int) -> list[float]:
    """Return when a packet was sent, in s after its first time."""
    sent = simulation.attempts["sent"][simulation.attempts["packet"] == packet]
    return [round(float(one), 3) for one in (sent - sent[0]) / 1e9]


def test_sip_repeats_by_timers_a_e_and_g(make: Any, run: Any, policy: Any) -> None:
    scene = make.Scene()
    for when, way, message in (
        (0.0, ">", sip("INVITE sip:b SIP/2.0", "x", 1, "INVITE")),
        (0.1, "<", sip("SIP/2.0 200 OK", "x", 1, "INVITE")),
        (0.2, ">", sip("ACK sip:b SIP/2.0", "x", 1, "ACK")),
        (0.3, ">", sip("OPTIONS sip:b SIP/2.0", "y", 1, "OPTIONS")),
        (0.4, "<", sip("SIP/2.0 200 OK", "y", 1, "OPTIONS")),
    ):
        scene.udp(when, way, make.RELAY, 5060, message, near=5060)
    none = {"act": "drop", "scope": "packet"}
    up = run(scene, policy({"match": {"ports": [5060], "direction": "up"}, **none}))
    assert sendings(up, 0) == [0, 0.5, 1.5, 3.5, 7.5, 15.5, 31.5]
    assert sendings(up, 3) == [0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert not up.fates["sent"][[1, 2, 4]].any()
    down = run(scene, policy({"match": {"ports": [5060], "direction": "down"}, **none}))
    # The final response comes by its own timer; the one to OPTIONS with each repeated request.
    assert sendings(down, 1) == [0, 0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert len(sendings(down, 4)) == len(sendings(down, 3)) == 11
    size = len(sip("ACK sip:b SIP/2.0", "x", 1, "ACK"))
    match = {"size": size, "direction": "up", "seconds": "-3"}
    acknowledged = run(scene, policy({"match": match, **none}))
    assert sendings(acknowledged, 1) == [0, 0.5, 1.5, 3.5]
    assert acknowledged.delivered.all()


def test_an_answer_that_is_lost_comes_again_with_its_request(
    make: Any, run: Any, policy: Any
) -> None:
    scene = make.Scene()
    scene.udp(0.0, ">", make.RELAY, 3478, make.stun(1, 7))
    scene.udp(0.1, "<", make.RELAY, 3478, make.stun(0x101, 7))
    early = {"match": {"stun": True, "direction": "down", "seconds": "-1.2"}, "act": "drop",
             "scope": "packet"}  # fmt: skip
    simulation = run(scene, policy(early))
    assert sendings(simulation, 0) == [0, 0.5, 1.5]
    assert sendings(simulation, 1) == [0, 0.5, 1.5]
    assert simulation.delivered.all()
    assert simulation.struck.tolist() == [False, True]


def test_a_question_whose_answer_is_late_comes_again_and_does_no_harm(
    make: Any, run: Any, policy: Any
) -> None:
    scene = make.Scene()
    scene.udp(0.0, ">", make.RELAY, 3478, make.stun(1, 7))
    scene.udp(0.1, "<", make.RELAY, 3478, make.stun(0x101, 7))
    simulation = run(scene, policy({"match": {"stun": True}, "act": "delay", "delay_ms": 400}))
    assert sendings(simulation, 0) == [0, 0.5]
    assert sendings(simulation, 1) == [0, 0.5]
    assert simulation.fates["arrival_time"][1] - scene.START == 900_000_000


def test_a_request_that_the_capture_holds_no_answer_to_is_not_repeated(
    make: Any, run: Any, policy: Any
) -> None:
    scene = make.Scene()
    scene.udp(0.0, ">", make.RELAY, 3478, make.stun(1, 7))
    simulation = run(scene, policy({"match": {"stun": True}, "act": "drop"}))
    assert (simulation.counters["resent"], simulation.met.tolist()) == (0, [1])


def test_set_up_survives_loss_by_chance_and_media_are_not_sent_again(
    make: Any, run: Any, policy: Any
) -> None:
    lost, opened = 0, 0
    for seed in range(20):
        scene = make.Scene()
        call = make.webrtc_call(scene, seconds=4.0)
        lossy = policy({"match": {"protocol": "udp"}, "act": "loss", "loss": 0.4})
        simulation = run(scene, lossy, call, seed=seed)
        opened += bool((simulation.opened >= 0).any())
        media = simulation.script.media == 1
        lost += int((media & simulation.fates["sent"] & ~simulation.delivered).sum())
        assert (simulation.fates["attempts"][media] <= 1).all()
    assert opened == 20
    assert lost > 1000


@pytest.mark.parametrize("window", ["packets", "seconds", "bytes"])
def test_drop_loss_and_a_censor_that_strike_the_same_packets_have_the_same_fates(
    make: Any, run: Any, policy: Any, tmp_path: Any, window: str
) -> None:
    """D6, law 3: a copy meets the rule again, and may fall out of its window."""
    scene = make.Scene()
    scene.udp(0.00, ">", make.RESOLVER, 53, make.question(1, "a.example"), near=5353)
    scene.udp(0.03, "<", make.RESOLVER, 53, make.answer(1, "a.example", make.PEER), near=5353)
    scene.hello(0.05, make.PEER, 443)
    scene.tcp(0.20, ">", make.PEER, 443, make.client_hello("www.b.example"))
    call = make.webrtc_call(scene, begin=1.0, seconds=2.0)
    match = {window: {"packets": "1-1", "seconds": "-0.02", "bytes": "-70"}[window]}
    values = [
        run(scene, policy({"match": match, "scope": "packet", **act}), call)
        for act in ({"act": "drop"}, {"act": "loss", "loss": 1.0})
    ]
    assert values[0].struck.any()
    assert values[0].attempts.tobytes() == values[1].attempts.tobytes()
    assert values[0].fates.tobytes() == values[1].fates.tobytes()
    assert (values[0].fates["sent"] == run(scene, None, call).fates["sent"]).all()


def test_a_connection_waits_for_a_name_that_comes_late(make: Any, run: Any, policy: Any) -> None:
    scene = make.Scene()
    scene.udp(0.00, ">", make.RESOLVER, 53, make.question(1, "a.example"), near=5353)
    scene.udp(0.03, "<", make.RESOLVER, 53, make.answer(1, "a.example", make.PEER), near=5353)
    scene.hello(0.05, make.PEER, 443)
    for delay in (900, 4000):
        late = run(scene, policy({"match": {"ports": [53]}, "act": "delay", "delay_ms": delay}))
        assert late.delivered.all()
        assert late.fates["left"][2] == late.script.send[2] + 2 * delay * 1_000_000


def test_a_pause_of_a_person_makes_up_for_lateness_and_a_short_one_does_not(
    make: Any, run: Any, policy: Any
) -> None:
    scene = make.Scene()
    scene.hello(0.0, make.PEER, 443)
    scene.tcp(0.10, ">", make.PEER, 443, b"ask")
    scene.tcp(0.30, "<", make.PEER, 443, b"tell")
    scene.tcp(0.90, ">", make.PEER, 443, b"soon")  # 0.6 s later
    scene.tcp(0.93, "<", make.PEER, 443, b"yes")
    scene.tcp(9.00, ">", make.PEER, 443, b"typed")  # 8 s later
    slow = {"match": {"protocol": "tcp"}, "act": "delay", "delay_ms": 100, "scope": "packet"}
    simulation = run(scene, policy(slow))
    late = ((simulation.fates["left"] - simulation.script.send) / 1e6).tolist()
    assert late == [0, 100, 200, 200, 300, 400, 500, 0]


def test_equal_orders_do_not_depend_on_room(make: Any, run: Any, policy: Any) -> None:
    """The table of sendings grows while it is played."""
    scene = make.Scene()
    for n in range(400):
        scene.udp(0.01 * n, ">", make.RELAY, 3478, make.stun(1, n), near=20000 + n)
        scene.udp(0.01 * n + 0.03, "<", make.RELAY, 3478, make.stun(0x101, n), near=20000 + n)
    simulation = run(scene, policy({"match": {"stun": True}, "act": "drop", "scope": "packet"}))
    assert len(simulation.attempts) == 400 * 7 > 800 + 100 + 256
    assert np.array_equal(simulation.fates["attempts"], np.tile([7, 0], 400))
