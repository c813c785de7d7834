# SPDX-License-Identifier: BSD-3-Clause
"""The causal script: what waits for what, and for how long."""

from __future__ import annotations

import ipaddress
from typing import Any

import numpy as np
import pytest

from midcall import errors
from midcall.testbed.network.ip_packets import ip_packet
from midcall.testbed.replay.script import BASE_DELAY, MODELS, NEVER, script
from midcall.testbed.replay.sides import CALLER, FAR, LOCAL

SIP = (
    "{first}\r\nVia: SIP/2.0/UDP caller\r\nCall-ID: {call}@caller\r\n"
    "CSeq: {number} {method}\r\nContent-Length: 0\r\n\r\n"
)


def sip(first: str, call: str, number: int, method: str) -> bytes:
    return SIP.format(first=first, call=call, number=number, method=method).encode()


def test_a_stun_answer_waits_for_the_last_request_of_its_transaction(scene: Any, make: Any) -> None:
    scene.udp(0.000, ">", make.RELAY, 3478, make.stun(3, 7))
    scene.udp(0.001, ">", make.RELAY, 3478, make.stun(3, 7))
    scene.udp(0.002, ">", make.RELAY, 3478, make.stun(3, 8))
    scene.udp(0.040, "<", make.RELAY, 3478, make.stun(0x103, 7))
    scene.udp(0.041, "<", make.RELAY, 3478, make.stun(0x113, 8))
    scene.udp(0.050, "<", make.RELAY, 3478, make.stun(0x101, 99))
    assert script(scene.packets).gate.tolist() == [-1, -1, -1, 1, 2, -1]


def test_a_dns_answer_waits_for_its_question(scene: Any, make: Any) -> None:
    for number in (1, 2):
        scene.udp(0.1, ">", make.RESOLVER, 53, make.question(number, "a.example"), near=5353)
    for number in (2, 1):
        answer = make.answer(number, "a.example", make.PEER)
        scene.udp(0.2, "<", make.RESOLVER, 53, answer, near=5353)
    assert script(scene.packets).gate.tolist() == [-1, -1, 1, 0]


def test_a_sip_response_waits_for_its_request_and_an_ack_for_the_final_response(
    scene: Any, make: Any
) -> None:
    for when, way, message in (
        (0.0, ">", sip("INVITE sip:b SIP/2.0", "x", 1, "INVITE")),
        (0.1, ">", sip("OPTIONS sip:b SIP/2.0", "y", 1, "OPTIONS")),
        (0.2, "<", sip("SIP/2.0 180 Ringing", "x", 1, "INVITE")),
        (0.3, "<", sip("SIP/2.0 200 OK", "x", 1, "INVITE")),
        (0.4, ">", sip("ACK sip:b SIP/2.0", "x", 1, "ACK")),
        (0.5, "<", sip("SIP/2.0 200 OK", "y", 1, "OPTIONS")),
    ):
        scene.udp(when, way, make.RELAY, 5060, message, near=5060)
    assert script(scene.packets).gate.tolist() == [-1, -1, 0, 0, 3, 1]


def test_a_tcp_segment_waits_for_the_segment_it_acknowledges(scene: Any, make: Any) -> None:
    scene.hello(0.0, make.PEER, 80)
    scene.tcp(0.050, ">", make.PEER, 80, b"GET / HTTP/1.1\r\n\r\n")
    scene.tcp(0.090, "<", make.PEER, 80, b"a" * 100)
    scene.tcp(0.091, "<", make.PEER, 80, b"b" * 100)
    scene.tcp(0.092, ">", make.PEER, 80, flags=0x10)
    assert script(scene.packets).gate.tolist() == [-1, 0, 1, 1, 3, 3, 5]


def test_a_reply_leaves_its_think_time_after_the_request_came(scene: Any, make: Any) -> None:
    scene.udp(0.0, ">", make.RELAY, 3478, make.stun(1, 7))
    scene.udp(0.1, "<", make.RELAY, 3478, make.stun(0x101, 7))
    orders = script(scene.packets)
    assert orders.base.tolist() == [BASE_DELAY, BASE_DELAY]
    assert orders.think.tolist() == [0, 80_000_000]
    assert (orders.send - scene.packets.time).tolist() == [0, -BASE_DELAY]


def test_the_base_delay_shrinks_to_half_of_the_shortest_reply(scene: Any, make: Any) -> None:
    for n, gap in enumerate((0.030, 0.004, 0.050)):
        scene.udp(0.1 * n, ">", make.RELAY, 3478, make.stun(1, n))
        scene.udp(0.1 * n + gap, "<", make.RELAY, 3478, make.stun(0x101, n))
    assert set(script(scene.packets).base.tolist()) == {2_000_000}


def test_who_did_not_begin_a_udp_flow_waits_to_hear_from_it(scene: Any, make: Any) -> None:
    scene.udp(0.00, ">", make.RELAY, 9000, b"hello")
    scene.udp(0.04, "<", make.RELAY, 9000, b"back")
    scene.udp(0.05, ">", make.RELAY, 9000, b"again")
    scene.udp(0.10, "<", make.PEER, 9000, make.rtp(1, 5))
    scene.udp(0.11, ">", make.PEER, 9000, make.stun(1, 4))
    scene.udp(0.12, ">", make.PEER, 9000, make.rtp(1, 6))
    assert script(scene.packets).heard.tolist() == [0, 1, 0, 0, 0, 1]


def test_only_the_near_end_of_a_flow_to_a_told_address_waits_for_the_answer(
    scene: Any, make: Any
) -> None:
    scene.udp(0.00, ">", make.RESOLVER, 53, make.question(1, "a.example"), near=5353)
    scene.udp(0.03, "<", make.RESOLVER, 53, make.answer(1, "a.example", make.PEER), near=5353)
    scene.udp(0.05, ">", make.PEER, 443, b"hello")
    scene.udp(0.09, "<", make.PEER, 443, b"back")
    scene.udp(0.10, ">", make.RELAY, 443, b"not told")
    assert (script(scene.packets).latches >= 0).any(axis=1).tolist() == [
        False, False, True, False, False,
    ]  # fmt: skip


def test_traffic_that_no_router_forwards_stays_on_the_callers_link(scene: Any, make: Any) -> None:
    scene.udp(0.0, ">", "224.0.0.251", 5353, b"mdns", near=5353)
    scene.udp(0.1, ">", "255.255.255.255", 67, b"dhcp", near=68)
    scene.udp(0.2, ">", make.PEER, 9000, b"out")
    scene.lines.append((scene.START + 300_000_000, bytes(12) + b"\x08\x06" + bytes(46)))
    assert script(scene.packets).side.tolist() == [LOCAL, LOCAL, CALLER, LOCAL]


@pytest.mark.parametrize(
    ("source", "target", "near"),
    [
        ("192.168.1.5", "203.0.113.1", True),
        ("203.0.113.1", "10.2.3.4", False),
        ("100.64.1.1", "203.0.113.1", True),
        ("203.0.113.1", "198.51.100.1", True),  # alike: a service's port is far
    ],
)
def test_the_private_end_of_a_flow_is_the_callers(
    scene: Any, make: Any, source: str, target: str, near: bool
) -> None:
    ports = (50000).to_bytes(2, "big") + (443).to_bytes(2, "big")
    scene.frame(0.0, make.ipv4(source, target, 17, ports + b"\0\x0c\0\0text"))
    assert script(scene.packets).side.tolist() == [CALLER if near else FAR]


@pytest.mark.parametrize("order", [1, -1])
def test_the_end_with_several_addresses_of_one_network_is_the_callers(
    scene: Any, order: int
) -> None:
    words = ["2001:db8:1:2::a", "2001:db8:1:2:8:7:6:5", "2001:db8:f::1", "2001:db8:a::2"]
    *phone, relay, other = [ipaddress.ip_address(one).packed for one in words]
    for time, ends in enumerate([(phone[0], relay), (phone[1], relay), (phone[0], other)] * 2):
        head = b"".join(port.to_bytes(2, "big") for port in (45395, 40003)[::order])
        scene.frame(time / 100, ip_packet(*ends[::order], 17, head + b"\0\x0c\0\0text"))
    assert set(script(scene.packets).side.tolist()) == {CALLER if order > 0 else FAR}


def test_a_broadcast_within_a_private_network_stays_there_and_a_host_with_255_does_not(
    scene: Any, make: Any
) -> None:
    ports = (137).to_bytes(2, "big") * 2
    for time, ends in enumerate(
        [("192.168.1.5", "192.168.1.255"), ("10.1.0.5", "10.1.0.255"), ("10.1.0.255", "10.1.0.5")]
    ):
        scene.frame(time / 10, make.ipv4(*ends, 17, ports + b"\0\x0c\0\0text"))
    assert script(scene.packets).side.tolist()[0] == LOCAL
    assert LOCAL not in script(scene.packets).side.tolist()[1:]


def test_media_wait_at_each_end_for_the_reply_that_came_there(scene: Any, make: Any) -> None:
    call = make.webrtc_call(scene, seconds=0.1)
    orders = script(scene.packets, [call])
    gates = orders.latches[:, 1]
    assert len(orders.calls[0].latches) == 2
    up, down = orders.side == CALLER, orders.side == FAR
    media = np.arange(len(gates)) >= 4
    assert len(set(gates[up & media])) == len(set(gates[down & media])) == 1
    assert set(gates[up & media]) != set(gates[down & media])
    assert (orders.media == media).all()


def test_an_end_that_only_answers_waits_for_what_it_was_asked(
    scene: Any, make: Any, run: Any, policy: Any
) -> None:
    ask = sip("INVITE sip:b SIP/2.0", "x", 1, "INVITE")
    first = scene.udp(0.0, ">", make.RELAY, 5060, ask, near=5060)
    answer = sip("SIP/2.0 200 OK", "x", 1, "INVITE")
    reply = scene.udp(0.1, "<", make.RELAY, 5060, answer, near=5060)
    talk = scene.udp(0.2, "<", make.RELAY, 7000, make.rtp(1, 5), near=6000)
    scene.udp(0.3, ">", make.RELAY, 7000, make.rtp(1, 6), near=6000)
    gate = {"flow": talk, "by": [first], "kind": "transaction", "pairs": [[first, reply]]}
    call = make.call_of(setup=[first], media=[talk], gate=[gate])
    lost = {"act": "drop", "scope": "packet"}
    up = policy({"match": {"ports": [5060], "direction": "up"}, **lost})
    down = policy({"match": {"ports": [5060], "direction": "down"}, **lost})
    assert run(scene, up, call).fates["sent"].tolist() == [True, False, False, False]
    assert run(scene, down, call).fates["sent"].tolist() == [True, True, True, False]


def test_the_time_model_lets_nothing_wait(scene: Any, make: Any) -> None:
    call = make.webrtc_call(scene, seconds=0.1)
    orders = script(scene.packets, [call], "time")
    assert (orders.gate == -1).all()
    assert (orders.latches == -1).all()
    assert not orders.heard.any()
    assert orders.timer.tolist() == [NEVER]
    assert (orders.before == -1).all()


def test_the_strict_model_lets_later_flows_wait_for_the_first_success(
    scene: Any, make: Any
) -> None:
    call = make.webrtc_call(scene, seconds=0.1)
    peer = scene.udp(1.0, ">", make.PEER, 9000, make.rtp(1, 5))
    call = call.model_copy(update={"media": [*call.media, peer]})
    assert script(scene.packets, [call]).latches[peer - 1].tolist() == [-1, -1, -1, -1]
    assert script(scene.packets, [call], "strict").latches[peer - 1, 3] >= 0


def test_a_call_gives_up_at_its_timer_where_one_is_documented(scene: Any, make: Any) -> None:
    call = make.webrtc_call(scene, seconds=0.1)
    assert script(scene.packets, [call]).timer.tolist() == [39_500_000_000]
    unknown = call.model_copy(update={"timer_s": None, "timer_models": list(MODELS)})
    assert script(scene.packets, [unknown]).timer.tolist() == [NEVER]


def test_an_unknown_timer_model_is_told(scene: Any) -> None:
    with pytest.raises(errors.TestbedError) as error:
        script(scene.packets, [], "loose")
    assert str(error.value) == ("timer model: got 'loose', expected one of time, pairwise, strict")
