# SPDX-License-Identifier: BSD-3-Clause
"""Control arms: what each changes on the wire, what it leaves; both ends notice nothing."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest

from midcall.captures.packets.pcap import Packets
from midcall.errors import TestbedError
from midcall.testbed.conformance.run import policy_of
from midcall.testbed.conformance.scenarios import CALL, NAMES, SCENARIOS, WEB
from midcall.testbed.conformance.transcript import scene
from midcall.testbed.evasion import controls
from midcall.testbed.replay.packet_index import index_packets
from midcall.testbed.replay.script import script
from midcall.testbed.replay.simulator import simulate

TEXT = CALL + NAMES.replace("0.", "2.") + WEB.replace("0.", "4.")


def fates(dressed: Packets | None, key: str) -> str:
    """Return the fates of a call and a visit under the first scenario of a word."""
    policy = policy_of(next(one for one in SCENARIOS if one.key == key))
    packets = scene(TEXT)
    simulation = simulate(packets, [], [], policy, "fibre", 1, addressing="keep", dressed=dressed)
    return "".join(".dxfBl"[int(fate)] for fate in simulation.fates["fate"])


def worn(name: str, seed: int = 1) -> tuple[Any, Packets]:
    """Return the script of a call and a visit, and its packets as an arm dresses them."""
    made = script(scene(TEXT))
    return made, controls.dressed(name, made, seed)


@pytest.mark.parametrize("name", [one.name for one in controls.ARMS])
def test_under_an_arm_and_no_rules_everything_is_sent_and_arrives(name: str) -> None:
    _, dressed = worn(name)
    simulation = simulate(scene(TEXT), [], [], None, "4g", 1, dressed=dressed)
    assert simulation.delivered.all()


@pytest.mark.parametrize("name", [one.name for one in controls.ARMS])
def test_every_checksum_of_an_arm_is_right(name: str, make: Any) -> None:
    _, dressed = worn(name)
    for i in range(dressed.total):
        packet = dressed.frame(i)
        assert struct.unpack_from(">H", packet, 2)[0] == len(packet)
        assert make.checksum(packet[:20]) == 0
        pseudo_header = struct.pack(">HH", packet[9], len(packet) - 20)
        assert make.checksum(packet[12:20] + pseudo_header + packet[20:]) in (0, 0xFFFF)


@pytest.mark.parametrize(
    ("key", "freeing"),
    [
        ("match.stun", {"inverted", "random"}),
        ("match.dns", {"inverted", "random", "names"}),
        ("match.ports", {"ports"}),
        ("match.addresses", {"addresses"}),
    ],
)
def test_the_arms_that_unblock_say_what_a_box_keys_on(key: str, freeing: set[str]) -> None:
    before = fates(None, key)
    assert "x" in before
    assert {
        one.name for one in controls.ARMS if "x" not in fates(worn(one.name)[1], key)
    } == freeing


def test_shuffled_sizes_are_the_same_sizes_within_a_flow_and_direction() -> None:
    text = "".join(f"{n / 10:.1f} > udp peer:9999 zeros {40 + n * 10}\n" for n in range(20))
    packets = scene(text)
    made = controls.dressed("sizes", script(packets), 3)
    before, after = index_packets(packets).facts["size"], index_packets(made).facts["size"]
    assert sorted(before) == sorted(after)
    assert (before != after).any()


def test_shuffled_gaps_keep_the_order_the_first_and_the_last_packet() -> None:
    text = "".join(f"{n * n / 10:.2f} > udp peer:9999 noise\n" for n in range(20))
    packets = scene(text)
    made = controls.dressed("gaps", script(packets), 3)
    assert (np.diff(made.time) >= 0).all()
    assert made.time[[0, -1]].tolist() == packets.time[[0, -1]].tolist()
    assert sorted(np.diff(made.time)) == sorted(np.diff(packets.time))
    assert (made.time != packets.time).any()
    simulation = simulate(packets, [], [], None, "fibre", 1, dressed=made)
    assert (simulation.fates["box_time"] - made.time == 5_000_000).all()


def test_an_arm_is_the_same_for_a_seed_and_another_for_another() -> None:
    one, again, other = (worn("random", seed)[1].data for seed in (1, 1, 2))
    assert (one == again).all()
    assert (one != other).any()


def test_a_replaced_name_keeps_its_form_and_stands_in_no_packet_any_more() -> None:
    _, dressed = worn("names")
    image = controls.other_name("a.example", 1)
    assert [len(part) for part in image.split(".")] == [1, 7]
    assert controls.names_of(dressed) == {image}


def test_other_packets_than_the_captures_are_refused() -> None:
    packets = scene(TEXT)
    with pytest.raises(TestbedError, match="got 2, expected"):
        simulate(packets, [], [], None, "fibre", 1, dressed=packets.take(slice(0, 2)))


def test_an_unknown_arm_names_those_there_are() -> None:
    with pytest.raises(TestbedError, match="inverted, random, sizes"):
        controls.arm("nothing")
