# SPDX-License-Identifier: BSD-3-Clause
"""Forged frames: whole, right in every number, and believed by both ends."""

from __future__ import annotations

import ipaddress
import struct
from functools import partial
from typing import Any, NamedTuple

import pytest

#: Octets before the IP packet, by access network.
AROUND = {"fibre": 14, "adsl": 22, "4g": 50}


@pytest.fixture
def run(run: Any) -> Any:
    """Return a runner that keeps captured addresses, so that they can be read in the frames."""
    return partial(run, addressing="keep")


class Packet(NamedTuple):
    """A forged IP packet, taken apart."""

    source: str
    target: str
    ports: tuple[int, int]
    flags: int
    sequence: int
    acknowledged: int
    payload: bytes


def total(data: bytes) -> int:
    """Return the sum of 16-bit words, carries added: 0xFFFF over what holds its checksum."""
    words = struct.unpack(f">{(len(data) + 1) // 2}H", data + b"\0" * (len(data) % 2))
    value = sum(words)
    while value >> 16:
        value = (value & 0xFFFF) + (value >> 16)
    return value


def opened(frame: bytes, access: str = "fibre") -> Packet:
    """Take a frame apart; both checksums must hold, and every length."""
    ip = frame[AROUND[access] :]
    if ip[0] >> 4 == 6:
        ends, body, proto = ip[8:40], ip[40:], ip[6]
        assert struct.unpack(">H", ip[4:6])[0] == len(body)
    else:
        assert total(ip[:20]) == 0xFFFF
        assert struct.unpack(">H", ip[2:4])[0] == len(ip)
        ends, body, proto = ip[12:20], ip[20:], ip[9]
    assert total(ends + struct.pack(">HH", proto, len(body)) + body) == 0xFFFF
    half = len(ends) // 2
    source, target = (str(ipaddress.ip_address(one)) for one in (ends[:half], ends[half:]))
    ports = struct.unpack(">HH", body[:4])
    if proto == 17:
        assert struct.unpack(">H", body[4:6])[0] == len(body)
        return Packet(source, target, ports, 0, 0, 0, body[8:])
    sequence, acknowledged, word = struct.unpack(">IIH", body[4:14])
    assert word >> 12 == 5
    return Packet(source, target, ports, word & 0xFF, sequence, acknowledged, body[20:])


def frames(simulation: Any) -> list[bytes]:
    """Return the forged frames of a simulation."""
    return [
        simulation.mail[letter["at"] : letter["at"] + letter["length"]].tobytes()
        for letter in simulation.letters
    ]


def talk(scene: Any, make: Any) -> None:
    """A TLS connection: handshake, hello, answer, more; then another packet each way."""
    scene.hello(0.0, make.PEER, 443)
    scene.tcp(0.05, ">", make.PEER, 443, make.client_hello("a.example"))
    scene.tcp(0.09, "<", make.PEER, 443, b"\x16\3\3\0\1\2")
    scene.tcp(0.10, ">", make.PEER, 443, b"\x17\3\3\0\1\2")
    scene.tcp(0.50, "<", make.PEER, 443, b"\x17\3\3\0\1\3")


@pytest.mark.parametrize("access", list(AROUND))
@pytest.mark.parametrize(("path", "expected"), [("in", "dddx..."), ("on", "dddd...")])
def test_a_reset_carries_the_numbers_that_each_end_expects_and_kills_the_connection(
    scene: Any, make: Any, run: Any, policy: Any, fates: Any, access: str, path: str, expected: str
) -> None:
    talk(scene, make)
    rule = {"match": {"name": ["a.example"]}, "act": "reset", "path": path, "scope": "packet"}
    simulation = run(scene, policy(rule), access=access)
    hello = len(make.client_hello("a.example"))
    assert fates(simulation)[:4] == expected[:4]
    to_client, to_server = (opened(frame, access) for frame in frames(simulation))
    assert to_client == (make.PEER, make.CALLER, (443, make.PORT), 0x14, 5001, 1001 + hello, b"")
    passed = hello if path == "on" else 0
    assert to_server == (make.CALLER, make.PEER, (make.PORT, 443), 0x14, 1001 + passed, 5001, b"")
    assert (
        simulation.counters["killed"] + simulation.counters["waited"]
        == simulation.counters["not_sent"]
    )
    # Where the hello still reaches the server, the reset is as fast, and nobody sends any more.
    assert not simulation.fates["sent"][5:].any()
    assert simulation.struck[3]


def test_a_finish_closes_and_a_reset_may_go_to_one_end_alone(
    scene: Any, make: Any, run: Any, policy: Any
) -> None:
    talk(scene, make)
    rule = {"match": {"name": ["a.example"]}, "act": "finish", "towards": "client", "path": "on"}
    simulation = run(scene, policy(rule))
    assert [opened(frame).flags for frame in frames(simulation)] == [0x11] * len(simulation.letters)
    assert {opened(frame).target for frame in frames(simulation)} == {make.CALLER}


def test_what_is_injected_without_a_connection_is_counted_as_nothing(
    scene: Any, make: Any, run: Any, policy: Any, fates: Any
) -> None:
    scene.udp(0.0, ">", make.PEER, 3478, make.stun(1, 7))
    simulation = run(scene, policy({"match": {"stun": True}, "act": "reset"}))
    assert (fates(simulation), len(simulation.letters)) == ("x", 0)


def page(scene: Any, make: Any) -> None:
    """An HTTP request and its answer."""
    scene.hello(0.0, make.PEER, 80)
    scene.tcp(0.05, ">", make.PEER, 80, b"GET / HTTP/1.1\r\nHost: a.example\r\n\r\n")
    scene.tcp(0.09, "<", make.PEER, 80, b"HTTP/1.1 200 OK\r\n\r\n")


def test_a_block_page_answers_the_client_and_resets_the_server(
    scene: Any, make: Any, run: Any, policy: Any, fates: Any
) -> None:
    page(scene, make)
    match = {"name": ["a.example"], "name_in": ["http"]}
    simulation = run(scene, policy({"match": match, "act": "block-page"}))
    assert fates(simulation) == "dddx."
    shown, reset = (opened(frame) for frame in frames(simulation))
    assert shown.payload.startswith(b"HTTP/1.1 403 Forbidden\r\n")
    head, body = shown.payload.split(b"\r\n\r\n", 1)
    assert f"Content-Length: {len(body)}".encode() in head
    assert (shown.flags, shown.target, shown.sequence) == (0x19, make.CALLER, 5001)
    assert (reset.flags, reset.target, reset.sequence) == (0x14, make.PEER, 1001)


def names(scene: Any, make: Any, name: str = "a.example") -> None:
    """A question, its answer, and a connection to what was answered."""
    scene.udp(0.00, ">", make.RESOLVER, 53, make.question(77, name), near=5353)
    scene.udp(0.03, "<", make.RESOLVER, 53, make.answer(77, name, make.PEER), near=5353)
    scene.hello(0.05, make.PEER, 443)


@pytest.mark.parametrize(("path", "expected"), [("in", "f...."), ("on", "dd...")])
def test_a_false_dns_answer_is_believed_and_the_connection_that_needed_it_never_opened(
    scene: Any, make: Any, run: Any, policy: Any, fates: Any, path: str, expected: str
) -> None:
    names(scene, make)
    rule = {"match": {"dns": ["a.example"]}, "act": "dns-lie", "path": path}
    simulation = run(scene, policy(rule))
    assert fates(simulation) == expected
    (frame,) = frames(simulation)
    lie = opened(frame)
    assert lie[:3] == (make.RESOLVER, make.CALLER, (53, 5353))
    assert lie.payload == make.answer(77, "a.example", "198.18.0.66").replace(
        b"\0\0\0\x3c\0\4", b"\0\0\1\x2c\0\4"
    )


def test_a_false_dns_answer_may_deny_the_name_or_tell_an_address_of_ones_own(
    make: Any, run: Any, policy: Any
) -> None:
    values = []
    for answer in ("nxdomain", "203.0.113.80"):
        scene = make.Scene()
        names(scene, make)
        rule = {"match": {"dns": ["a.example"]}, "act": "dns-lie", "answer": answer}
        values.append(opened(frames(run(scene, policy(rule)))[0]).payload)
    denied, false = values
    assert denied[2:8] == b"\x81\x83\0\1\0\0"
    assert len(denied) == len(make.question(77, "a.example"))
    assert false.endswith(bytes([203, 0, 113, 80]))


def test_a_question_over_ipv6_for_an_ipv6_address_is_answered_with_one(
    scene: Any, make: Any, run: Any, policy: Any
) -> None:
    ask = make.question(5, "a.example")[:-3] + b"\x1c\0\1"
    body = struct.pack(">HHHH", 5353, 53, 8 + len(ask), 0) + ask
    ends = ipaddress.ip_address("fd00::7").packed + ipaddress.ip_address("2001:db8::53").packed
    scene.frame(0.0, struct.pack(">IHBB", 0x60000000, len(body), 17, 64) + ends + body)
    rule = {"match": {"dns": ["a.example"]}, "act": "dns-lie"}
    lie = opened(frames(run(scene, policy(rule)))[0])
    assert (lie.source, lie.target) == ("2001:db8::53", "fd00::7")
    assert lie.payload[-16:] == ipaddress.ip_address("fd00::42").packed


def test_pair_taint_resets_the_next_connection_at_its_syn_until_the_taint_ends(
    make: Any, run: Any, policy: Any, fates: Any
) -> None:
    scene = make.Scene()
    talk(scene, make)
    scene.hello(20.0, make.PEER, 443, near=40001)
    scene.hello(20.0, make.RELAY, 443, near=40002)
    scene.hello(200.0, make.PEER, 443, near=40003)
    rule = {"match": {"name": ["a.example"]}, "act": "reset", "scope": "pair", "lasts_s": 90}
    simulation = run(scene, policy(rule))
    # The hello; the next connection to that server; one to another server; one after the taint.
    assert fates(simulation) == "dddx..." + "x.." + "ddd" + "ddd"
    syn = opened(frames(simulation)[2])
    assert (syn.flags, syn.sequence, syn.acknowledged) == (0x14, 0, 1001)


def udp6(make: Any, hops: int) -> bytes:
    """Return a question over UDP and IPv6."""
    ask = make.question(5, "a.example")
    body = struct.pack(">HHHH", 5353, 53, 8 + len(ask), 0) + ask
    ends = ipaddress.ip_address("fd00::7").packed + ipaddress.ip_address("2001:db8::53").packed
    return struct.pack(">IHBB", 0x60000000, len(body), 17, hops) + ends + body


@pytest.mark.parametrize(
    ("code", "expected"),
    [("net", (1, 0)), ("prohibited", (1, 1)), ("host", (1, 3)), ("port", (1, 4))],
)
def test_an_icmp_error_over_ipv6_has_its_own_codes_and_a_pseudo_header(
    scene: Any, make: Any, run: Any, policy: Any, code: str, expected: tuple[int, int]
) -> None:
    scene.frame(0.0, udp6(make, 64))
    rule = {"match": {"protocol": "udp"}, "act": "unreachable", "code": code, "scope": "packet"}
    frame = frames(run(scene, policy(rule)))[0][AROUND["fibre"] :]
    body = frame[40:]
    assert (frame[6], frame[7], tuple(body[:2])) == (58, 64, expected)
    assert total(frame[8:40] + struct.pack(">IHBB", len(body), 0, 0, 58) + body) == 0xFFFF
    assert (frame[8:24], frame[24:40]) == (body[8 + 24 : 8 + 40], body[8 + 8 : 8 + 24])
    assert body[8:] == udp6(make, 64)


def test_an_icmp_error_holds_no_more_of_a_large_packet_than_its_smallest_mtu(
    scene: Any, make: Any, run: Any, policy: Any
) -> None:
    scene.udp(0.0, ">", make.PEER, 9999, bytes(1200))
    simulation = run(scene, policy({"match": {"size": "1000-"}, "act": "unreachable"}))
    frame = frames(simulation)[0][AROUND["fibre"] :]
    assert len(frame) == 576
    assert (frame[9], tuple(frame[20:22])) == (1, (3, 13))
    assert total(frame[20:]) == 0xFFFF


def test_a_syn_that_icmp_refuses_is_not_sent_again_and_an_open_connection_goes_on(
    make: Any, run: Any, policy: Any, fates: Any
) -> None:
    scene = make.Scene()
    talk(scene, make)
    refused = run(scene, policy({"match": {"ports": [443]}, "act": "unreachable"}))
    assert fates(refused) == "x......"
    assert len(refused.letters) == 1
    match = {"payload": ["tls-hello"], "packets": "-4"}
    soft = run(scene, policy({"match": match, "act": "unreachable", "scope": "packet"}))
    assert fates(soft) == "ddddddd"
    assert soft.struck[3]
    assert int(soft.fates["attempts"][3]) == 2


def test_a_reset_with_own_headers_has_those_of_the_last_packet_that_its_end_sent(
    make: Any, run: Any, policy: Any
) -> None:
    scene = make.Scene()
    talk(scene, make)
    rule = {"match": {"name": ["a.example"]}, "act": "reset", "hops": "own", "ip_id": "own"}
    for access in AROUND:
        simulation = run(scene, policy(rule), access=access)
        packets = simulation.script.held.packets
        heads = [
            packets.data[int(at) + 14 : int(at) + 34].tobytes() for at in packets.offset[[1, 3]]
        ]
        for frame, like in zip(frames(simulation), heads, strict=True):
            head = frame[AROUND[access] :][:20]
            assert total(head) == 0xFFFF
            assert head[8] == like[8]
            last = struct.unpack(">H", like[4:6])[0]
            assert struct.unpack(">H", head[4:6])[0] == (last + 1) & 0xFFFF
