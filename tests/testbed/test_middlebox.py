# SPDX-License-Identifier: BSD-3-Clause
"""Matches and acts, each with the fate of every packet.

A row is: the rule, what the caller's tap saw, and the fates (. not sent, d delivered, x dropped,
f forged). Each row holds a packet that the rule must strike and one that it must spare.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.classifier.initial import crypto, initial

NAMES = {"*.example.com": [True, True, True, False, False], "b.example.com": [0, 1, 0, 0, 0]}
HOSTS = ["example.com", "b.example.com", "a.b.EXAMPLE.com", "badexample.com", "example.org"]


def datagrams(scene: Any, make: Any) -> None:
    """Five packets of three flows: STUN and its answer, a byte of media, two of another port."""
    scene.udp(0.00, ">", make.RELAY, 3478, make.stun(1, 7))
    scene.udp(0.04, "<", make.RELAY, 3478, make.stun(0x101, 7))
    scene.udp(0.10, ">", make.RELAY, 3478, make.rtp(1, 5))
    scene.udp(0.20, ">", make.PEER, 9999, b"one")
    scene.udp(0.30, "<", make.PEER, 9999, b"two")


# match, scope -> fates of the five packets
MATCHES = [
    ({"ports": ["3478-3481"]}, "flow", "x.xdd"),
    ({"ports": [3477, "3479-9998"]}, "flow", "ddddd"),
    ({"ports": [40000]}, "flow", "ddddd"),  # the subscriber's own port is not asked
    ({"addresses": ["198.51.100.0/24"]}, "flow", "dddx."),
    ({"addresses": ["mine"]}, "flow", "x.xdd"),
    ({"addresses": ["192.168.1.0/24"]}, "flow", "ddddd"),  # nor is its address
    ({"protocol": "udp", "direction": "down"}, "packet", "dxddx"),
    ({"direction": "up"}, "packet", "x.xx."),
    ({"protocol": "tcp"}, "flow", "ddddd"),
    ({"stun": True}, "flow", "x.xdd"),
    ({"stun": True}, "packet", "x.ddd"),
    ({"stun": False}, "packet", "ddxx."),
    ({"stun": False, "ports": [9999]}, "flow", "dddx."),
]


@pytest.mark.parametrize(("match", "scope", "expected"), MATCHES)
def test_a_match_strikes_what_it_says(
    scene: Any, make: Any, run: Any, policy: Any, fates: Any, match: Any, scope: str, expected: str
) -> None:
    datagrams(scene, make)
    rules = policy(
        {"match": match, "act": "drop", "scope": scope}, sets={"mine": ["203.0.113.0/25"]}
    )
    assert fates(run(scene, rules)) == expected


@pytest.mark.parametrize(
    "match", [{"stun": True}, {"stun_method": ["binding"]}, {"payload": ["stun"]}]
)
def test_stun_is_what_has_the_cookie_where_rfc_8489_has_it(
    scene: Any, make: Any, run: Any, policy: Any, fates: Any, match: Any
) -> None:
    request = make.stun(1, 7)
    scene.udp(0.0, ">", make.RELAY, 3478, request[:4] + b"\7" * 4 + request[8:])  # RFC 3489
    scene.udp(0.1, ">", make.RELAY, 3478, b"\x40\1\0\x14" + request)  # within TURN ChannelData
    scene.udp(0.2, ">", make.RELAY, 3478, request)
    scene.udp(0.3, ">", make.RELAY, 3478, b"\0\x14" + request)  # RFC 4571
    scene.udp(0.4, ">", make.RELAY, 3478, b"\0\x15" + request)  # ... longer than what is there
    rules = policy({"match": match, "act": "drop", "scope": "packet"})
    assert fates(run(scene, rules)) == "ddxxd"


def test_a_method_is_that_of_the_outermost_message(
    scene: Any, make: Any, run: Any, policy: Any, fates: Any
) -> None:
    request = make.stun(1, 7)
    data = b"\0\x13" + len(request).to_bytes(2, "big") + request
    scene.udp(0.0, ">", make.RELAY, 3478, make.stun(0x16, 8, data))
    for method, expected in (("send", "x"), ("binding", "d")):
        rule = {"match": {"stun_method": [method]}, "act": "drop"}
        assert fates(run(scene, policy(rule))) == expected


def test_no_policy_delivers_everything(scene: Any, make: Any, run: Any, fates: Any) -> None:
    datagrams(scene, make)
    assert fates(run(scene)) == "ddddd"


def test_pass_spares_a_packet_from_the_rules_behind_it(
    scene: Any, make: Any, run: Any, policy: Any, fates: Any
) -> None:
    datagrams(scene, make)
    spare = {"match": {"addresses": ["203.0.113.7/32"]}, "act": "pass"}
    drop = {"match": {"protocol": "udp"}, "act": "drop"}
    simulation = run(scene, policy(spare, drop))
    assert fates(simulation) == "dddx."
    assert simulation.fates["rule"].tolist() == [0, 0, 0, 1, -1]
    assert fates(run(scene, policy(drop, spare))) == "x.xx."


def test_drop_media_lets_set_up_through_and_stops_the_talk(
    scene: Any, make: Any, run: Any, policy: Any, fates: Any
) -> None:
    datagrams(scene, make)
    rules = policy({"match": {"ports": [3478]}, "act": "drop-media"})
    assert fates(run(scene, rules)) == "ddxdd"


@pytest.mark.parametrize("pattern", list(NAMES))
def test_a_server_name_in_tls_is_met_at_its_labels(
    make: Any, run: Any, policy: Any, pattern: str
) -> None:
    hit = []
    for host in HOSTS:
        scene = make.Scene()
        scene.hello(0.0, make.PEER, 443)
        scene.tcp(0.05, ">", make.PEER, 443, make.client_hello(host))
        scene.tcp(0.10, "<", make.PEER, 443, b"\x16\3\3\0\1\2")
        scene.tcp(0.11, ">", make.PEER, 443, b"\x17\3\3\0\1\2")
        simulation = run(scene, policy({"match": {"name": [pattern]}, "act": "drop"}))
        struck = simulation.struck.tolist()
        assert struck in ([False] * 6, [False, False, False, True, False, False])
        hit.append(struck[3])
        assert simulation.delivered[4:].all() != struck[3]
    assert hit == [bool(one) for one in NAMES[pattern]]


@pytest.mark.parametrize("cut", [3, 60, -2])
def test_a_server_name_in_two_segments_is_met_by_the_one_that_completes_it(
    make: Any, run: Any, policy: Any, cut: int
) -> None:
    hello = make.client_hello("b.example.com")
    scene = make.Scene()
    scene.hello(0.0, make.PEER, 443)
    scene.tcp(0.05, ">", make.PEER, 443, hello[:cut])
    scene.tcp(0.06, ">", make.PEER, 443, hello[cut:])
    simulation = run(scene, policy({"match": {"name": ["*.example.com"]}, "act": "drop"}))
    assert simulation.fates["rule"].tolist() == [-1, -1, -1, -1, 0]
    assert (simulation.fates["fate"][:4] == 1).all()
    spared = run(scene, policy({"match": {"name": ["example.org"]}, "act": "drop"}))
    assert not spared.struck.any()


def test_a_server_name_in_a_quic_initial_is_met_by_that_very_packet(
    make: Any, run: Any, policy: Any, fates: Any
) -> None:
    message = make.client_hello("b.example.com")[5:]
    scene = make.Scene()
    scene.udp(0.00, ">", make.PEER, 443, initial(crypto(0, message[:60]), number=0))
    scene.udp(0.01, ">", make.PEER, 443, initial(crypto(60, message[60:]), number=1))
    scene.udp(0.05, "<", make.PEER, 443, b"\x43" + bytes(range(40)))
    one = {"match": {"name": ["*.example.com"]}, "act": "drop", "scope": "packet"}
    assert fates(run(scene, policy(one))) == "dxd"
    assert fates(run(scene, policy({**one, "scope": "flow"}))) == "dxx"
    assert fates(run(scene, policy({**one, "match": {"name": ["*.example.org"]}}))) == "ddd"


@pytest.mark.parametrize("pattern", list(NAMES))
def test_a_dns_lie_kills_the_question_and_the_flow_that_needed_the_answer(
    make: Any, run: Any, policy: Any, fates: Any, pattern: str
) -> None:
    hit = []
    for host in HOSTS:
        scene = make.Scene()
        scene.udp(0.00, ">", make.RESOLVER, 53, make.question(77, host), near=5353)
        scene.udp(0.03, "<", make.RESOLVER, 53, make.answer(77, host, make.PEER), near=5353)
        scene.hello(0.05, make.PEER, 443)
        letters = fates(run(scene, policy({"match": {"dns": [pattern]}, "act": "dns-lie"})))
        assert letters in ("ddddd", "f....")
        hit.append(letters == "f....")
    assert hit == [bool(one) for one in NAMES[pattern]]


def test_a_rule_on_names_in_tls_does_not_meet_dns_nor_the_other_way_round(
    scene: Any, make: Any, run: Any, policy: Any, fates: Any
) -> None:
    scene.udp(0.0, ">", make.RESOLVER, 53, make.question(1, "a.example"), near=5353)
    scene.tcp(0.1, ">", make.PEER, 443, make.client_hello("a.example"))
    drop = {"act": "drop", "scope": "packet"}
    simulation = run(scene, policy({"match": {"name": ["*.example"]}, **drop}))
    assert fates(simulation) == "dx"
    assert simulation.fates["attempts"].tolist() == [1, 7]  # each copy of the hello holds the name
    assert fates(run(scene, policy({"match": {"dns": ["*.example"]}, **drop}))) == "xd"


def test_every_question_of_a_resolver_flow_is_looked_at(
    scene: Any, make: Any, run: Any, policy: Any, fates: Any
) -> None:
    names = ["a.org", "b.org", "c.org", "x.example", "d.org"]
    for n, name in enumerate(names):
        scene.udp(0.1 * n, ">", make.RESOLVER, 53, make.question(n, name), near=5353)
    simulation = run(scene, policy({"match": {"dns": ["x.example"]}, "act": "dns-lie"}))
    assert fates(simulation) == "dddfd"


def whatsapp_relay(scene: Any, make: Any) -> None:
    """What WhatsApp sends a relay: an Allocate with attribute 4000 and nothing else."""
    attribute = bytes.fromhex("40000066") + bytes(102)
    for when in (0.0, 0.001):
        scene.udp(when, ">", make.RELAY, 3478, make.stun(3, 7, attribute))
    scene.udp(0.2, ">", make.PEER, 9999, b"innocent", near=50000)


# match -> fates of the three packets
VERDICTS = [
    ({"app": ["whatsapp"]}, "xxd"),
    ({"app": ["whatsapp"], "role": ["setup"]}, "xxd"),
    ({"app": ["whatsapp"], "role": ["messaging"]}, "ddd"),
    ({"app": ["viber", "skype"]}, "ddd"),
    ({"role": ["setup", "media"], "verdict": "unsure"}, "xxd"),
]


@pytest.mark.parametrize(("match", "expected"), VERDICTS)
def test_the_classifiers_verdict_can_be_asked_for(
    scene: Any, make: Any, run: Any, policy: Any, fates: Any, match: Any, expected: str
) -> None:
    whatsapp_relay(scene, make)
    assert fates(run(scene, policy({"match": match, "act": "drop"}))) == expected


def test_a_probability_strikes_about_that_share_of_flows_and_all_packets_of_one_alike(
    scene: Any, make: Any, run: Any, policy: Any
) -> None:
    for n in range(400):
        for _ in range(3):
            scene.udp(0.001 * n, ">", make.PEER, 1000 + n, b"x", near=20000 + n)
    rules = policy({"match": {"protocol": "udp"}, "act": "drop", "probability": 0.25})
    simulation = run(scene, rules)
    per_flow = simulation.struck.reshape(400, 3)
    assert (per_flow.all(axis=1) | ~per_flow.any(axis=1)).all()
    assert 70 <= per_flow[:, 0].sum() <= 130  # 3.5 standard deviations of 100
    assert (simulation.struck != run(scene, rules, seed=2).struck).any()


def test_a_draw_per_client_strikes_all_flows_of_a_client_or_none(
    scene: Any, make: Any, run: Any, policy: Any
) -> None:
    for n in range(50):
        scene.udp(0.001 * n, ">", make.PEER, 1000 + n, b"x", near=20000 + n)
    rule = {"match": {"protocol": "udp"}, "act": "drop", "probability": 0.5, "per": "client"}
    shares = [run(scene, policy(rule), seed=seed).struck.mean() for seed in range(40)]
    assert set(shares) == {0.0, 1.0}
    assert 8 <= sum(shares) <= 32


def test_a_match_that_is_not_enforced_leaves_the_packet_to_the_next_rule(
    scene: Any, make: Any, run: Any, policy: Any
) -> None:
    for n in range(60):
        scene.udp(0.001 * n, ">", make.PEER, 1000 + n, b"x", near=20000 + n)
    rare = {"match": {"protocol": "udp"}, "act": "drop", "probability": 0.5}
    sure = {"match": {"protocol": "udp"}, "act": "drop"}
    simulation = run(scene, policy(rare, sure))
    assert simulation.struck.all()
    assert set(simulation.fates["rule"].tolist()) == {0, 1}
    assert simulation.met[0] == 60
