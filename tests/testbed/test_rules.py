# SPDX-License-Identifier: BSD-3-Clause
"""The table that a box reads: names, prefixes, ports and draws, compared with plain Python."""

from __future__ import annotations

import datetime
import struct
from ipaddress import ip_address, ip_network
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from midcall.classifier.state.flow_table import FLOW
from midcall.classifier.state.packet_fields import NAME_HTTP_HOST, NAME_QUIC_SNI, NAME_SNI
from midcall.classifier.state.verdicts import APPS, ROLES
from midcall.testbed.middlebox import inject, rule_table
from midcall.testbed.middlebox.payload_type import WHOLE
from midcall.testbed.middlebox.rule_table import (
    ANY,
    BY_PACKET,
    BY_TAINT,
    BY_WAITING,
    FOREVER,
    METER_NEEDS,
    NEED_ENTROPY,
    NEED_KIND,
    NEED_MORE,
    NEED_STUN,
    RuleTable,
)
from midcall.testbed.middlebox.state import NO_ROOM, ROOM
from midcall.testbed.policy.language import PAYLOADS, Rule
from midcall.testbed.policy.operator import Policy

STUN = {"stun": True}


def rule(match: dict[str, Any] | None = None, act: str = "drop", **keys: Any) -> Rule:
    about = {"name": "r", "grade": "C", "source": "a test", "act": act, "match": match or STUN}
    return Rule.model_validate(about | keys)


def table(*some: Rule, seed: int = 1) -> RuleTable:
    return rule_table.table(Policy(some), seed)


def lanes(address: str) -> tuple[int, ...]:
    """Return the four lanes of an address, as flows hold it."""
    return struct.unpack(">4I", ip_address(address).packed.ljust(16, b"\0"))


def test_protocols_are_their_numbers_and_any_other_is_none_of_them() -> None:
    (row,) = table(rule({"protocol": "tcp"})).rules
    assert row["proto"] == 6
    (row,) = table(rule({"protocol": "udp"})).rules
    assert row["proto"] == 17
    (row,) = table(rule({"protocol": "other"})).rules
    assert row["proto"] not in {*range(256), ANY}
    (row,) = table(rule()).rules
    assert row["proto"] == ANY


def test_what_a_rule_does_not_ask_for_is_0() -> None:
    (row,) = table(rule()).rules
    assert (row["verdict"], row["censor"], row["apps"], row["roles"]) == (0, 0, 0, 0)


# ---- names


def test_only_letters_of_ascii_have_a_lower_case() -> None:
    assert bytes(rule_table.lower(octet) for octet in range(256)) == bytes(range(256)).lower()


PATTERNS = ["example.com", "*.example.com", "*.b.example.com", "a", "*.com", "az.org"]
HOSTS = [
    "example.com", "EXAMPLE.COM", "a.example.com", "a.B.example.com", "badexample.com", "com",
    "b.example.com", "a", "A", "b", "AZ.ORG", "a.org", "example.com.org", "xcom", ".com", "",
    "bad-example.com",
]  # fmt: skip


def alike(pattern: str, host: str) -> bool:
    """Tell whether a host is what a pattern names, letter by letter."""
    host, base = host.lower(), pattern.removeprefix("*.")
    return host == base or (pattern != base and host.endswith(f".{base}"))


@pytest.mark.parametrize("host", HOSTS)
def test_a_name_meets_the_patterns_of_its_stretch_alone(host: str) -> None:
    text = np.frombuffer(host.encode() + b"x", np.uint8).copy()
    box = table(rule({"name": PATTERNS}))
    for first, last in combinations(range(len(PATTERNS) + 1), 2):
        meets = rule_table.name_meets(text, len(host), box.suffixes, first, last)
        assert meets is any(alike(pattern, host) for pattern in PATTERNS[first:last])


# ---- addresses


PREFIXES = [
    "2001:db8::/32", "198.51.100.0/24", "198.51.100.7/32", "2001:db8:1:2::/64", "128.0.0.0/1",
    "2001:db8::5/128", "2001:db8:8000::/33", "fd00::/8", "0.0.0.0/32", "::/128",
]  # fmt: skip
ADDRESSES = [
    "198.51.100.7", "198.51.100.8", "198.51.101.7", "0.0.0.0", "127.255.255.255", "128.0.0.0",
    "2001:db8::5", "2001:db8::6", "2001:db8:1:2:3:4:5:6", "2001:db8:1:3::", "2001:db8:8000::1",
    "2001:db9::", "fdff::1", "::", "c633:6407::", "255.255.255.255",
]  # fmt: skip


def inside(address: str, prefix: str) -> bool:
    return ip_address(address) in ip_network(prefix)


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("prefixes", [PREFIXES, PREFIXES[::-1], ["0.0.0.0/0"], ["::/0"]])
def test_an_address_meets_the_prefixes_of_its_stretch_alone(
    address: str, prefixes: list[str]
) -> None:
    box = table(rule({"addresses": prefixes}))
    place = ip_address(address).version, np.array(lanes(address), np.uint32), box.prefixes
    for first, last in combinations(range(len(prefixes) + 1), 2):
        expected = any(inside(address, prefix) for prefix in prefixes[first:last])
        assert rule_table.address_meets(*place, first, last) is expected


def test_each_rule_has_its_own_stretch_of_what_all_list() -> None:
    box = table(
        rule({"name": ["a.example", "b.example"], "stun_method": ["binding"]}),
        rule({"dns": ["c.example"], "stun_attribute": [0x4000], "addresses": ["10.0.0.0/8"]}),
        rule({"name": ["d.example"], "hello": ["0123456789abcdef"], "addresses": ["::/0"]}),
    )
    stretches = {
        "names": [2, 0, 1], "questions": [0, 1, 0], "prefixes": [0, 1, 1], "methods": [1, 0, 0],
        "attributes": [0, 1, 0], "hellos": [0, 0, 1],
    }  # fmt: skip
    for column, sizes in stretches.items():
        assert [int(last - first) for first, last in box.rules[column]] == sizes
    assert box.words.tolist() == [1, 0x4000, 0x0123456789ABCDEF]


# an address that a false answer tells -> what the forger is given
ANSWERS = [
    ("nxdomain", (0, 0, 0, 0, 0, 0)),
    ("192.0.2.1", (1, *lanes("192.0.2.1")[:1], *inject.NOWHERE_6)),
    ("2001:db8::1:2:3", (1, inject.NOWHERE_4, *lanes("2001:db8::1:2:3"))),
]


@pytest.mark.parametrize(("word", "answer"), ANSWERS)
def test_a_false_answer_tells_an_address_of_the_lab_for_the_other_family(
    word: str, answer: tuple[int, ...]
) -> None:
    (row,) = table(rule({"dns": ["a.example"]}, "dns-lie", answer=word)).rules
    assert tuple(row["answer"].tolist()) == answer


# ---- numbers


def test_a_row_of_ports_holds_both_ends_of_each_range() -> None:
    box = table(rule({"ports": [1, "3478-3481", 65535]}), rule(), rule({"ports": ["5000-5001"]}))
    port_sets = [np.flatnonzero(row == 1).tolist() for row in box.ports]
    assert port_sets == [[1, 3478, 3479, 3480, 3481, 65535], [5000, 5001]]
    assert box.rules["ports"].tolist() == [0, ANY, 1]


# key, what it says -> both ends, in octets, packets, ns and parts of the most entropy
RANGES = [
    ("size", "100-200", 100, 200),
    ("packets", 3, 3, 3),
    ("bytes", "-10", 0, 10),
    ("bytes", "10-", 10, FOREVER),
    ("seconds", "0.5-2", 500_000_000, 2_000_000_000),
    ("seconds", "2-", 2_000_000_000, FOREVER),
    ("entropy", "0.25-1", WHOLE // 4, WHOLE),
    ("entropy", None, -FOREVER, FOREVER),
    ("size", None, -FOREVER, FOREVER),
]


@pytest.mark.parametrize(("key", "value", "low", "high"), RANGES)
def test_a_range_is_held_in_whole_parts_of_its_unit(
    key: str, value: Any, low: int, high: int
) -> None:
    (row,) = table(rule(STUN | ({key: value} if value is not None else {}))).rules
    assert row["age" if key == "seconds" else key].tolist() == [low, high]


def test_times_of_a_rule_are_nanoseconds_and_what_never_comes_is_after_all_of_them() -> None:
    (row,) = table(rule(lasts_s=2.5, after={"packets": 3, "bytes": 4, "seconds": 1.5})).rules
    assert row["lasts"] == 2_500_000_000
    assert row["after"].tolist() == [3, 4, 1_500_000_000, 0]
    (row,) = table(rule()).rules
    assert row["lasts"] == FOREVER
    assert row["after"].tolist() == [0, 0, 0, 0]
    century = datetime.datetime(2100, 1, 1, tzinfo=datetime.UTC)
    assert century.timestamp() * 1e9 < FOREVER


# ---- draws


def flow_between(source: str, target: str, port: int) -> Any:
    (row,) = np.zeros(1, FLOW)
    row["source"], row["target"] = lanes(source), lanes(target)
    row["version"], row["target_port"], row["proto"] = ip_address(source).version, port, 17
    return row


def client_flows(client: str, peer: str, port: int) -> list[tuple[Any, bool]]:
    """Return a flow that a client began and one that it was sent, as `enforced` is asked."""
    return [(flow_between(client, peer, port), True), (flow_between(peer, client, port), False)]


@pytest.mark.parametrize(
    ("clients", "peer"), [("10.0.{}.{}", "192.0.2.1"), ("2001:db8::{}:{}", "2001:db8:1::1")]
)
def test_a_draw_per_client_is_the_same_for_all_its_flows_and_hits_that_share(
    clients: str, peer: str
) -> None:
    (row,) = table(rule(probability=0.25, per="client")).rules
    struck = []
    for number in range(400):
        flows = [
            one
            for port in (1, 2)
            for one in client_flows(clients.format(number // 100, number % 100), peer, port)
        ]
        (drawn,) = {rule_table.enforced(row, *one) for one in flows}
        struck.append(drawn)
    assert 70 <= sum(struck) <= 130  # 3.5 standard deviations of 100


@pytest.mark.parametrize("per", ["client", "flow"])
def test_a_rule_of_probability_1_strikes_every_flow(per: str) -> None:
    (row,) = table(rule(per=per)).rules
    assert all(
        rule_table.enforced(row, flow, near)
        for port in range(100)
        for flow, near in client_flows(f"10.0.0.{port}", "192.0.2.1", port)
    )


def test_a_draw_per_flow_differs_between_the_flows_of_a_client_and_by_seed() -> None:
    def drawn(seed: int) -> list[bool]:
        (row,) = table(rule(probability=0.25), seed=seed).rules
        flows = [flow_between("10.0.0.1", "192.0.2.1", port) for port in range(400)]
        return [rule_table.enforced(row, flow, True) for flow in flows]

    assert 70 <= sum(drawn(1)) <= 130
    assert drawn(1) != drawn(2)


# ---- what a box must find out and remember


@pytest.mark.parametrize(
    ("matches", "needed"),
    [
        ([{"ports": [5060]}], 0),
        ([STUN], NEED_STUN),
        ([{"one_in": 2}], NEED_MORE),
        ([{"dscp": ["ef"]}], NEED_MORE),
        ([{"payload": ["rtp"]}], NEED_KIND),
        ([{"entropy": "0-0.5"}], NEED_ENTROPY),
        (
            [STUN, {"payload": ["rtp"]}, {"entropy": "0.5-"}, STUN],
            NEED_STUN | NEED_KIND | NEED_ENTROPY,
        ),
    ],
)
def test_a_box_finds_out_of_each_packet_what_some_rule_asks(
    matches: list[dict[str, Any]], needed: int
) -> None:
    assert table(*map(rule, matches)).meter[METER_NEEDS] == needed


# a rule -> whether its box needs room for subjects
REMEMBERED = [
    (rule(), False),
    (rule(act="pass"), False),
    (rule(scope="packet"), False),
    (rule(act="reset"), False),
    (rule({"name": ["a.example"], "name_in": ["http"]}, "block-page"), False),
    (rule({"dns": ["a.example"]}, "dns-lie"), False),
    (rule(scope="call"), True),
    (rule(scope="server"), True),
    (rule(lasts_s=1.0), True),
    (rule(after={"packets": 1}), True),
    (rule(act="delay", delay_ms=1.0), True),
    (rule(act="shape", rate_kbit=1.0, queue_ms=1.0), True),
]


@pytest.mark.parametrize(("one", "remembered"), REMEMBERED)
def test_a_box_has_room_for_subjects_where_one_rule_remembers_them(
    one: Rule, remembered: bool
) -> None:
    box = table(rule(), one)
    assert box.rules["remembers"].tolist() == [0, remembered]
    assert len(box.memory) == (ROOM if remembered else NO_ROOM)


@pytest.mark.parametrize("keeps", [False, True])
def test_of_what_a_censor_decides_only_its_own_numbers_are_remembered(
    tmp_path: Path, keeps: bool
) -> None:
    file = tmp_path / "box.py"
    line = "    flow.memory[0] += 1\n" if keeps else ""
    file.write_text(f"def censor(packet, flow):\n{line}    return PASS\n")
    assert rule_table.remembers(rule(act="censor", file=str(file))) is keeps


# what a rule asks -> by what a settled flow that does not meet it may yet do
FLUID = [
    (rule({"ports": [443], "protocol": "udp", "addresses": ["10.0.0.0/8"]}), 0),
    (rule({"app": ["viber"], "role": ["media"]}), 0),
    (rule({"name": ["a.example"]}), 0),
    (rule({"name": ["a.example"], "size": "100-"}), 0),
    (rule({"dns": ["a.example"], "size": "100-"}), 0),
    (rule({"hello": ["0123456789abcdef"], "direction": "up"}), 0),
    (rule({"stun": True}), BY_PACKET),
    (rule({"stun": False}), BY_PACKET),
    (rule({"direction": "up"}), BY_PACKET),
    (rule({"size": "100-"}), BY_PACKET),
    (rule({"packets": "100-"}), BY_PACKET),
    (rule({"bytes": "100-"}), BY_PACKET),
    (rule({"seconds": "10-"}), BY_PACKET),
    (rule({"entropy": "0-0.5"}), BY_PACKET),
    (rule({"payload": ["rtp"]}), BY_PACKET),
    (rule({"stun_method": ["binding"]}), BY_PACKET),
    (rule({"stun_attribute": [6]}), BY_PACKET),
    (rule({"ports": [443]}, lasts_s=1.0), BY_TAINT),
    (rule({"ports": [443]}, scope="call"), BY_TAINT),
    (rule({"ports": [443]}, scope="packet"), 0),
    (rule({"ports": [443]}, "censor", file="f.py"), BY_TAINT),
    (rule({"ports": [443]}, after={"packets": 1}), BY_WAITING),
    (rule(STUN, scope="client", after={"packets": 1}), BY_PACKET | BY_TAINT | BY_WAITING),
]


@pytest.mark.parametrize(("one", "by"), FLUID)
def test_a_settled_flow_may_yet_meet_what_single_packets_hold_and_what_is_remembered(
    one: Rule, by: int
) -> None:
    assert rule_table.fluidity(one) == by


def test_only_a_box_that_forges_has_room_for_letters() -> None:
    plain, forging = table(rule()), table(rule(), rule(act="reset"))
    assert (len(plain.letters), len(plain.mail)) == (0, 0)
    assert (len(forging.letters), len(forging.mail)) == (inject.LETTER_ROOM, inject.MAIL_ROOM)


# ---- places and bits


@pytest.mark.parametrize(
    "bits",
    [
        (BY_PACKET, BY_TAINT, BY_WAITING),
        (NEED_KIND, NEED_ENTROPY, NEED_STUN, NEED_MORE),
    ],
    ids=["by", "need"],
)
def test_bits_do_not_overlap(bits: tuple[int, ...]) -> None:
    assert all(bits)
    assert not any(one & two for one, two in combinations(bits, 2))


def test_no_two_counters_of_a_box_share_a_place() -> None:
    named = {**vars(inject), **vars(rule_table)}
    places = [place for name, place in named.items() if name.startswith("METER_")]
    assert len(set(places)) == len(places)
    assert min(places) == 0
    assert max(places) < len(table(rule()).meter)


def test_what_a_packet_shows_leaves_room_to_count_its_octets() -> None:
    shown = [rule_table.SEEN_STUN, rule_table.SEEN_NAME, rule_table.SEEN_KIND,
             rule_table.SEEN_PAYLOAD, rule_table.SEEN_ENTROPY]  # fmt: skip
    assert sorted(shown) == list(range(5))
    assert max(shown) < rule_table.SEEN_TALLY
    assert len(table(rule()).seen) - rule_table.SEEN_TALLY >= 256


# column -> what sets its bits, each the number that a flow or packet has for it
BITS = {
    "apps": [({"app": [word]}, APPS.index(word)) for word in APPS[1:]],
    "roles": [({"role": [word]}, ROLES.index(word)) for word in ROLES],
    "payloads": [({"payload": [word]}, PAYLOADS.index(word)) for word in PAYLOADS],
    "name_kinds": [
        ({"name": ["a.example"], "name_in": [word]}, kind)
        for word, kind in (("tls", NAME_SNI), ("quic", NAME_QUIC_SNI), ("http", NAME_HTTP_HOST))
    ],
}


@pytest.mark.parametrize("column", list(BITS))
def test_a_word_sets_the_one_bit_that_stands_for_it(column: str) -> None:
    box = table(*(rule(match) for match, _ in BITS[column]))
    assert box.rules[column].tolist() == [1 << place for _, place in BITS[column]]


@pytest.mark.parametrize(
    ("towards", "client", "server"), [("client", 1, 0), ("server", 0, 1), ("both", 1, 1)]
)
def test_a_forgery_goes_to_the_ends_that_the_rule_says(
    towards: str, client: int, server: int
) -> None:
    (row,) = table(rule(act="reset", towards=towards)).rules
    assert [row["towards"] >> bit & 1 for bit in range(3)] == [client, server, 0]
