# SPDX-License-Identifier: BSD-3-Clause
"""Disturbances: what each changes, what it must leave, and that the truth still meets its flows."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import pytest

from midcall.captures.packets.pcap import Packets, read
from midcall.experiments.accuracy.measure_flows import met
from midcall.experiments.accuracy.perturb import (
    BENCH4,
    BENCH6,
    COLUMNS,
    SHORTEST,
    SNAPLEN,
    Column,
    Disturbed,
    disturb,
    mapped,
    transport_at,
    unscored,
)
from midcall.experiments.cells.offline import classify_packets
from midcall.testbed.replay.packet_index import PacketIndex, index_packets

SAMPLES = Path(__file__).resolve().parents[2] / "captures" / "samples"
WHATSAPP = SAMPLES / "sample-whatsapp-audio.pcap"
BY_NAME = {column.name: column for column in COLUMNS}
UNTOUCHED = ("original", "unlearned", "nameless")


@cache
def held(path: Path = WHATSAPP) -> PacketIndex:
    """Return the packet index of a sample."""
    return index_packets(read(path))


def after(name: str, path: Path = WHATSAPP, seed: int = 7) -> Disturbed:
    """Return a sample under the column of that name."""
    return disturb(BY_NAME[name], held(path), seed, "sha")


def frames(packets: Packets) -> list[bytes]:
    """Return every packet's bytes."""
    return [packets.frame(i) for i in range(packets.total)]


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
def test_a_disturbance_is_the_same_for_the_same_seed_and_leaves_its_input_alone(
    column: Column,
) -> None:
    before = frames(held().packets)
    one, two = (disturb(column, held(), 7, "sha") for _ in range(2))
    assert frames(one.packets) == frames(two.packets)
    assert one.origin.tolist() == two.origin.tolist()
    assert frames(held().packets) == before
    assert len(one.origin) == one.packets.total


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
def test_every_flow_of_the_truth_meets_flows_of_its_own_or_is_told_absent(column: Column) -> None:
    made = disturb(column, held(), 7, "sha")
    said, numbers = classify_packets(made.packets, "x", column.engine)
    places = met(held(), made, numbers)
    why = unscored(column, held(), made)
    for flow in range(len(held().flows)):
        assert (flow in places) != (why.get(flow) == "absent")
    owners = [number for found in places.values() for number in found]
    assert len(owners) == len(set(owners)) == len(said)


@pytest.mark.parametrize("name", UNTOUCHED)
def test_a_column_about_the_engine_changes_no_packet(name: str) -> None:
    assert frames(after(name).packets) == frames(held().packets)
    assert bool(BY_NAME[name].engine) == (name != "original")


def test_half_a_flow_is_its_second_half_and_a_short_flow_stays_and_is_not_scored() -> None:
    made, facts = after("midflow"), held().facts
    why = unscored(BY_NAME["midflow"], held(), made)
    for flow in range(len(held().flows)):
        was = np.flatnonzero(facts["flow"] == flow).tolist()
        left = [at for at in made.origin.tolist() if facts["flow"][at] == flow]
        if len(was) < SHORTEST:
            assert left == was
            assert why[flow] == "short"
        else:
            assert left == was[len(was) // 2 :]
            assert flow not in why
    assert {len(np.flatnonzero(facts["flow"] == flow)) >= SHORTEST
            for flow in range(len(held().flows))} == {True, False}  # fmt: skip


def test_the_two_directions_are_apart_and_whole_together() -> None:
    up, down = after("up").origin, after("down").origin
    facts = held().facts
    assert set(facts["up"][up].tolist()) == {1}
    assert set(facts["up"][down].tolist()) == {0}
    assert sorted([*up.tolist(), *down.tolist()]) == list(range(held().packets.total))


def test_a_snaplen_cuts_bytes_and_no_length() -> None:
    made = after("snap96").packets
    assert made.captured.max() == SNAPLEN
    assert made.wire.tolist() == held().packets.wire.tolist()
    for cut, whole in zip(frames(made), frames(held().packets), strict=True):
        assert whole.startswith(cut)
        assert len(cut) == min(len(whole), SNAPLEN)


def test_loss_loses_about_its_share_and_another_seed_loses_others() -> None:
    few, many, other = after("loss1"), after("loss5"), after("loss5", seed=8)
    total = held().packets.total
    assert total > few.packets.total > many.packets.total > 0.9 * total
    assert other.origin.tolist() != many.origin.tolist()
    assert frames(many.packets) == [held().packets.frame(int(at)) for at in many.origin]


def test_reordering_moves_packets_a_few_places_and_keeps_arrival_times() -> None:
    made = after("reordered")
    assert sorted(made.origin.tolist()) == list(range(held().packets.total))
    moved = made.origin - np.arange(len(made.origin))
    assert 0 < np.abs(moved).max() <= 12
    assert -moved.min() <= 3
    assert made.packets.time.tolist() == held().packets.time.tolist()


@pytest.mark.parametrize("name", ["ports", "portless"])
def test_mapped_ports_are_one_to_one_and_nothing_else_changes(name: str) -> None:
    made, at = after(name).packets, transport_at(held())
    pairs = set()
    for i in range(made.total):
        where = int(at[i] - held().packets.offset[i])
        old, new = held().packets.frame(i), made.frame(i)
        assert at[i] >= 0
        assert old[:where] == new[:where]
        assert old[where + 4 :] == new[where + 4 :]
        for side in (where, where + 2):
            pairs.add((old[side : side + 2], new[side : side + 2]))
    assert len({old for old, _ in pairs}) == len({new for _, new in pairs}) == len(pairs)
    assert all(old != new or old == b"\0\x35" for old, new in pairs)


def test_name_resolution_keeps_its_port_where_ports_are_mapped_and_loses_it_without_ports() -> None:
    dns = SAMPLES / "sample-dns.pcap"
    flows = {name: classify_packets(after(name, dns).packets, "x")[0] for name in BY_NAME}
    assert 53 in {row["dst_port"] for row in flows["ports"]}
    assert 53 not in {row["dst_port"] for row in flows["portless"]}


@pytest.mark.parametrize("name", ["sample-whatsapp-audio.pcap", "sample-tunnels.pcapng"])
def test_replaced_addresses_are_nobodys_and_payloads_stay(name: str) -> None:
    path = SAMPLES / name
    made, facts = after("addresses", path), held(path).facts
    data, old = made.packets.data, held(path).packets.data
    for fact in facts:
        if fact["flow"] < 0:
            continue
        ip, end = int(fact["ip_at"]), int(fact["ip_end"])
        size, where = (4, 12) if fact["version"] == 4 else (16, 8)
        both = data[ip + where : ip + where + 2 * size].tobytes()
        for address in (both[:size], both[size:]):
            prefix = BENCH4.to_bytes(4)[:1] if size == 4 else BENCH6
            assert address.startswith(prefix)
        header = where + 2 * size
        assert data[ip + header : end].tobytes() == old[ip + header : end].tobytes()
        if data[ip] == 0x45:
            words = np.frombuffer(data[ip : ip + 20].tobytes(), ">u2").astype(int)
            total = int(words.sum())
            assert (total & 0xFFFF) + (total >> 16) == 0xFFFF


def test_addresses_are_mapped_one_to_one_even_where_the_hash_collides() -> None:
    many = [i.to_bytes(4) for i in range(3000)]
    new = mapped(many, b"k")
    assert len(set(new)) == len(many)
    assert mapped(many, b"k") == new
    assert mapped(many, b"l") != new


def test_random_payload_changes_every_payload_and_nothing_else() -> None:
    made = after("payloadless")
    old, new = held().packets, made.packets
    facts = held().facts
    body = np.zeros(len(old.data), bool)
    for one in facts[facts["flow"] >= 0]:
        body[one["at"] : one["end"]] = True
    assert (old.data[~body] == new.data[~body]).all()
    assert (old.data[body] != new.data[body]).mean() > 0.98
    other = after("payloadless", seed=8).packets.data
    assert (other[body] != new.data[body]).any()


def test_peers_are_asked_where_packets_differ_and_of_the_captures_as_they_are() -> None:
    lacking = {column.name for column in COLUMNS if not column.packets}
    assert lacking == {"elsewhere", "unlearned", "nameless"}


@pytest.mark.parametrize("name", ["gtp", "pppoe"])
def test_inside_a_tunnel_every_flow_gets_the_verdict_it_had(name: str) -> None:
    made = after(name)
    kept = ("proto", "src_ip", "src_port", "dst_ip", "dst_port", "packets", "verdict", "app",
            "role", "packets_to_verdict")  # fmt: skip
    inside = [{key: row[key] for key in kept} for row in classify_packets(made.packets, "x")[0]]
    plain = classify_packets(held().packets, "x")[0]
    assert inside == [{key: row[key] for key in kept} for row in plain]
    assert (made.packets.captured > held().packets.captured[made.origin]).all()
    assert made.packets.time.tolist() == held().packets.time[made.origin].tolist()
