# SPDX-License-Identifier: BSD-3-Clause
"""Disguises: what each changes on the wire, what it adds, and that both ends notice nothing."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest

from midcall.captures.packets.pcap import Packets
from midcall.captures.truth.calls import Call
from midcall.testbed.conformance.run import policy_of
from midcall.testbed.conformance.scenarios import SCENARIOS
from midcall.testbed.conformance.transcript import scene
from midcall.testbed.evasion.disguises import DISGUISES, Disguise, disguised, last_suite, slots
from midcall.testbed.evasion.tunnel import SERVER4, ip
from midcall.testbed.policy.language import Rule
from midcall.testbed.policy.operator import Policy
from midcall.testbed.replay.openings import Opening, through
from midcall.testbed.replay.packet_index import index_packets
from midcall.testbed.replay.script import SUCCESS, script
from midcall.testbed.replay.simulator import simulate
from midcall.testbed.replay.splice import Added, spliced

#: A hello, two set-up exchanges, DTLS, and a talk in one flow.
TEXT = """
    0.00 > tcp other:443/40001 tls-hello a.example
    0.10 > udp relay:3478 stun-allocate
    0.14 < udp relay:3478 stun-allocate-answer
    0.20 > udp relay:3478 dtls-hello
    0.30 > udp relay:3478 rtp 60 x50 0.02
    0.31 < udp relay:3478 rtp 60 x50 0.02
"""
CALL = Call(
    id="c", app="other-rtc", kind="audio", media=[2], inferred=False, timer_s=30, timer_source="t"
)
BY_NAME = {one.name: one for one in DISGUISES}


def played(one: Disguise, policy: Policy | None, text: str = TEXT) -> tuple[Any, Any]:
    """Return a scene as a disguise wears it, and what a box makes of it."""
    worn = disguised(one, scene(text), [CALL], 1)
    simulation = simulate(
        worn.script.held.packets, worn.calls, [], policy, "fibre", 1, dressed=worn.dress.packets(),
        openings=worn.openings, addressing="keep",
    )  # fmt: skip
    return worn, simulation


def rule(**match: Any) -> Policy:
    """Return a policy that drops the flows that meet a match."""
    about = {"name": "r", "act": "drop", "grade": "D", "source": "test", "hypothesis": True}
    return Policy((Rule.model_validate({**about, "match": match}),))


@pytest.mark.parametrize("one", DISGUISES, ids=list(BY_NAME))
def test_in_a_disguise_and_under_no_rules_everything_is_sent_and_arrives(one: Disguise) -> None:
    _, simulation = played(one, None)
    assert simulation.fates["sent"].all()
    assert simulation.delivered.all()


@pytest.mark.parametrize("one", DISGUISES, ids=list(BY_NAME))
def test_every_checksum_and_length_in_a_disguise_is_right(one: Disguise, make: Any) -> None:
    worn, _ = played(one, None)
    dressed = worn.dress.packets()
    for i in range(dressed.total):
        packet = dressed.frame(i)
        assert struct.unpack_from(">H", packet, 2)[0] == len(packet) == worn.dress.size[i]
        assert make.checksum(packet[:20]) == 0
        if packet[9] == 17 and (packet[26:28] == b"\0\0" or packet[6] & 0x3F or packet[7]):
            continue
        pseudo_header = struct.pack(">HH", packet[9], len(packet) - 20)
        assert make.checksum(packet[12:20] + pseudo_header + packet[20:]) in (0, 0xFFFF)


@pytest.mark.parametrize(
    ("key", "passing"),
    [
        ("match.stun", {"stun-masked", "split", "turn-tls", "wireguard", "tls-tunnel"}),
        # Cover traffic fills a flow's first packets, of which alone the box reads hellos.
        (
            "match.hello",
            {"dtls-hello", "split", "constant-rate", "turn-tls", "wireguard", "tls-tunnel"},
        ),
        ("match.ports", {"hopping", "turn-tls", "wireguard", "tls-tunnel"}),
    ],
)
def test_disguises_pass_the_rules_that_need_what_they_change(key: str, passing: set[str]) -> None:
    policy = policy_of(next(one for one in SCENARIOS if one.key == key))
    passed = set()
    for one in DISGUISES:
        worn, simulation = played(one, policy)
        own = np.isin(worn.script.flow, worn.script.calls[0].flows)
        if simulation.delivered[own].all():
            passed.add(one.name)
    assert passed == passing


@pytest.mark.parametrize("name", ["turn-tls", "tls-tunnel"])
def test_what_is_inside_a_tunnel_is_not_sent_where_its_handshake_is_blocked(name: str) -> None:
    worn, simulation = played(BY_NAME[name], rule(name=["static.example"]))
    (door,) = worn.openings
    assert not simulation.fates["sent"][door.inside[door.inside > door.by]].any()
    assert simulation.fates["rule"].max() == 0


def test_what_waits_for_its_calls_success_waits_for_it_inside_a_tunnel_too(
    scene: Any, make: Any
) -> None:
    make.webrtc_call(scene, seconds=0.1)
    orders = script(scene.packets)
    orders.latches[:, SUCCESS] = 0
    inside = np.arange(1, len(orders.flow))
    opened = through(orders, (Opening(0, inside, 0),))
    assert (opened.latches[:, SUCCESS] == 0).all()
    waits = [sorted({0, len(orders.need)} & set(row)) for row in opened.latches.tolist()]
    assert waits == [[0], *[[0, len(orders.need)]] * len(inside)]


def test_a_box_sees_one_flow_of_a_tunnel_and_its_two_first_messages() -> None:
    worn, simulation = played(BY_NAME["wireguard"], None)
    assert len(set(simulation.flow.tolist())) == 1
    sizes = index_packets(worn.dress.packets()).facts["size"]
    assert sizes[list(worn.added)].tolist() == [148, 92]
    inside = np.isin(np.arange(len(sizes)), worn.added, invert=True)
    assert set((sizes[inside] % 16).tolist()) == {0}


def test_padding_makes_all_datagrams_one_of_few_sizes() -> None:
    worn, _ = played(BY_NAME["padding"], None)
    facts = index_packets(worn.dress.packets()).facts
    assert set(facts["size"][worn.script.call >= 0].tolist()) == {256}


def test_a_constant_rate_has_one_size_and_even_gaps_each_way() -> None:
    pauses = TEXT + "    2.50 > udp relay:3478 rtp 30\n    2.61 < udp relay:3478 rtp 31\n"
    worn, _ = played(BY_NAME["constant-rate"], None, pauses)
    dressed = worn.dress.packets()
    facts = index_packets(dressed).facts
    (flow,) = set(facts["flow"][worn.script.call >= 0].tolist())
    for up in (0, 1):
        own = np.flatnonzero((facts["flow"] == flow) & (facts["up"] == up))
        gaps = np.diff(np.sort(worn.dress.time[own]))
        assert len(set(gaps.tolist())) == 1
        assert len(set(facts["size"][own].tolist())) == 1
    assert len(worn.added) > 50


def test_slots_keep_order_delay_what_waits_and_leave_out_long_silences() -> None:
    sent, empty = slots(np.array([0, 1, 2, 100, 60_000_000, 20_000_000_000], np.int64))
    assert sent == sorted(sent)
    assert all(a >= b for a, b in zip(sent, [0, 1, 2, 100, 60_000_000], strict=False))
    assert sent[-1] == 20_000_000_000
    assert not set(sent) & set(empty)


def test_hopping_takes_the_same_port_both_ways_and_another_one_later() -> None:
    late = TEXT + "    9.00 > udp relay:3478 rtp 60\n    9.01 < udp relay:3478 rtp 60\n"
    worn, _ = played(BY_NAME["hopping"], None, late)
    index = index_packets(worn.dress.packets())
    flows = index.facts["flow"][worn.script.call >= 0]
    assert len(set(flows[:-2].tolist())) == 1
    assert flows[-1] == flows[-2] != flows[0]


def test_another_hello_is_as_long_and_has_another_fingerprint() -> None:
    worn, _ = played(BY_NAME["dtls-hello"], None)
    before = worn.script.held.packets
    changed = [i for i in range(before.total) if worn.dress.body(i) != plain_body(before, worn, i)]
    (hello,) = changed
    at = last_suite(worn.dress.body(hello))
    assert at is not None
    assert worn.dress.body(hello)[at : at + 2] == b"\xc0\xac"


def plain_body(packets: Packets, worn: Any, i: int) -> bytes:
    """Return a packet's payload as captured."""
    fact = worn.script.held.facts[i]
    return packets.data[int(fact["at"]) : int(fact["end"])].tobytes()


@pytest.mark.parametrize("body", [b"", b"\x16\xfe" + bytes(11) + b"\1" + b"\xff" * 60])
def test_what_is_no_whole_hello_has_no_suites(body: bytes) -> None:
    assert last_suite(body) is None


def test_pieces_of_a_split_packet_are_its_octets() -> None:
    worn, _ = played(BY_NAME["split"], None)
    dressed, kept = worn.dress.packets(), worn.script.held.packets
    for first in worn.added:
        one, two, whole = dressed.frame(first), dressed.frame(first + 1), kept.frame(first + 1)[14:]
        head = 20 if one[9] == 17 else 40
        assert one[head:] + two[head:] == whole[head:]
        assert one[6] & 0x20 if one[9] == 17 else len(one) == 43


def test_a_disguise_is_the_same_for_a_seed_and_another_for_another() -> None:
    packets = scene(TEXT)
    one, again, other = (
        disguised(BY_NAME["padding"], packets, [CALL], seed).dress.packets().data
        for seed in (1, 1, 2)
    )
    assert (one == again).all()
    assert (one != other).any()


def test_splicing_moves_every_frame_number_of_a_call() -> None:
    packets = scene(TEXT)
    gated = CALL.model_copy(update={"setup": [1]})
    near = bytes((192, 168, 1, 10))
    extra = [Added(int(packets.time[1]) - 1, ip(near, SERVER4, 17, True, bytes(8)))]
    made = spliced(packets, [gated], extra)
    assert made.packets.total == packets.total + 1
    assert made.added.tolist() == [1]
    assert (made.calls[0].setup, made.calls[0].media) == ([1], [3])
    assert [made.packets.frame(int(k)) for k in made.kept] == [
        packets.frame(i) for i in range(packets.total)
    ]
    assert (np.diff(made.packets.time) >= 0).all()
