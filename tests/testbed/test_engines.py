# SPDX-License-Identifier: BSD-3-Clause
"""Policies for packet engines: what is written, what is refused, what is read back."""

from __future__ import annotations

import datetime
import itertools
import re
import shutil
import socket
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from midcall.captures.packets.numbers import SCTP
from midcall.captures.packets.pcap import read
from midcall.errors import TestbedError
from midcall.experiments.engines.edge_cases import edge_cases
from midcall.experiments.engines.elements import elements
from midcall.testbed.engines.condition import octets
from midcall.testbed.engines.engine_import import imported, write
from midcall.testbed.engines.export import ENGINES, export, place_of, places_of, sentence
from midcall.testbed.engines.export import write as write_files
from midcall.testbed.engines.iptables_import import restorable
from midcall.testbed.engines.iptables_rules import word_test
from midcall.testbed.engines.lab_capture import Answers, LabPacket, lab_capture, our_box
from midcall.testbed.engines.nftables_import import without_rules
from midcall.testbed.engines.nftables_rules import test_of as nft_test_of
from midcall.testbed.engines.offline_engines import Suricata
from midcall.testbed.engines.suricata_rules import octet_tests
from midcall.testbed.policy.language import Match, Rule
from midcall.testbed.policy.loader import available, files_of, load, try_load
from midcall.testbed.policy.operator import EMPTY, Policy
from tests.classifier.wire import udp_packet
from tests.experiments.own_policy import own_policy

SAMPLES = Path(__file__).resolve().parents[2] / "captures" / "samples"
DAY = datetime.date(2016, 1, 20)


def rule(match: dict[str, Any], act: str = "drop", **more: Any) -> Rule:
    keys = {"name": "one", "match": match, "act": act, "grade": "D", "source": "a test", **more}
    return Rule.model_validate(keys)


def policy(*rules: Rule) -> Policy:
    return Policy(rules)


def shipped() -> list[Policy]:
    """Return every shipped policy that is in force on some day."""
    out = []
    for name in available():
        operator = load(name)
        for one, period in itertools.product(operator.hypotheses, operator.periods[:1]):
            out.append(operator.policy(one.id, period.access[0], period.begin))
    return [one for one in out if one.rules]


def exported() -> list[Policy]:
    """Return every shipped policy, and one for each element of the language."""
    return [*shipped(), *(one.policy for one in elements())]


@pytest.mark.parametrize("engine", ENGINES)
def test_each_policy_is_written_or_refused_with_reasons(engine: str) -> None:
    written = refused = 0
    for one in shipped():
        made = export(one, engine)
        assert bool(made.files) != bool(made.refused)
        names = {rule.name for rule in one.rules}
        assert {line.rule for line in (*made.refused, *made.nearly)} <= names
        assert all(line.reason for line in (*made.refused, *made.nearly))
        written, refused = written + bool(made.files), refused + bool(made.refused)
    assert written
    assert refused


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("match", "more"),
    [
        ({"app": ["whatsapp"]}, {}),
        ({"entropy": "0.9-"}, {}),
        ({"protocol": "udp"}, {"probability": 0.5}),
        ({"protocol": "udp"}, {"lasts_s": 60.0, "scope": "flow"}),
        ({"protocol": "udp"}, {"after": {"packets": 3}}),
    ],
)
def test_what_no_engine_can_express_is_refused_by_each(
    engine: str, match: dict[str, Any], more: dict[str, Any]
) -> None:
    made = export(policy(rule(match, **more)), engine)
    assert not made.files
    assert not made.exact
    assert [one.rule for one in made.refused] == ["one"]


def test_an_unknown_engine_is_one_sentence() -> None:
    with pytest.raises(TestbedError, match="expected one of suricata, nftables"):
        export(EMPTY, "pf")


def test_the_readme_names_the_line_of_each_rule(tmp_path: Path) -> None:
    operator = load("inwi")
    chosen = operator.policy("ports", "4g", DAY)
    places = places_of(files_of("inwi"), "ports", chosen.rules)
    assert places.keys() == {one.name for one in chosen.rules}
    for one in chosen.rules:
        file, _, line = places[one.name]["name"].partition(":")
        path = next(path for path in files_of("inwi") if path.name == file)
        assert path.read_text().splitlines()[int(line) - 1] == f'name = "{one.name}"'
    made = export(chosen, "nftables", places)
    paths = write_files(tmp_path / "out", made)
    text = (tmp_path / "out" / "README.md").read_text()
    rules = (tmp_path / "out" / "midcall.nft").read_text().splitlines()
    assert len(paths) == 2
    for one in chosen.rules:
        row = next(row for row in text.splitlines() if row.startswith(f"| {one.name} |"))
        assert places[one.name]["name"] in row
        numbers = [int(word.partition(":")[2]) for word in row.split("|")[3].split(",")]
        assert all(rules[number - 1].strip() for number in numbers)
    with pytest.raises(TestbedError, match="exists already"):
        write_files(tmp_path / "out", made)


def test_octets_are_read_at_their_place_by_each_engine() -> None:
    test = octets(5, 1, 1)
    assert nft_test_of(test) == "@ih,40,8 0x1"
    assert octet_tests(test) == ['content:"|01|"', "offset:5", "depth:1"]
    assert word_test("udp", 4, test) == "0>>22&0x3C@10&0xff=0x1"
    assert word_test("udp", 6, test) == "50&0xff=0x1"
    assert word_test("tcp", 4, test) == "0>>22&0x3C@12>>26&0x3C@2&0xff=0x1"
    first = octets(0, 1, 20, 63)
    assert word_test("tcp", 4, first) == "0>>22&0x3C@12>>26&0x3C@0>>24&0xff=0x14:0x3f"


@pytest.mark.parametrize(("engine", "program", "file"), [
    ("nftables", ["unshare", "-n", "nft", "-c", "-f"], "midcall.nft"),
    ("iptables", ["unshare", "-n", "iptables-restore", "--test"], "midcall.v4"),
    ("iptables", ["unshare", "-n", "ip6tables-restore", "--test"], "midcall.v6"),
])  # fmt: skip
def test_an_exported_file_loads_without_a_word(
    engine: str, program: list[str], file: str, tmp_path: Path
) -> None:
    if shutil.which(program[2]) is None:
        pytest.skip(f"{program[2]} is not installed")
    if subprocess.run(["unshare", "-n", "true"], check=False, capture_output=True).returncode:
        pytest.skip("no network namespace can be made here (needs root)")
    loaded = 0
    for number, one in enumerate(exported()):
        made = export(one, engine)
        if made.files:
            loaded += 1
            path = tmp_path / f"{number}-{file}"
            path.write_text(made.files[file])
            done = subprocess.run(
                [*program, str(path)], capture_output=True, text=True, check=False, timeout=20
            )
            said = (done.returncode, done.stdout + done.stderr)
            assert said == (0, ""), made.files[file]
    assert loaded > 50


def test_suricata_loads_every_exported_policy_without_a_warning() -> None:
    if shutil.which("suricata") is None:
        pytest.skip("suricata is not installed")
    rules = []
    for one in exported():
        rules += export(one, "suricata").files.get("midcall.rules", "").splitlines()
    assert len(rules) > 150
    number = itertools.count(1)
    engine = Suricata()
    engine.rules = "\n".join(re.sub(r"sid:\d+", lambda _: f"sid:{next(number)}", one)
                             for one in rules)  # fmt: skip
    assert engine.test() == ""


def test_ndpi_loads_every_exported_policy_without_a_warning(tmp_path: Path) -> None:
    if shutil.which("ndpiReader") is None:
        pytest.skip("ndpiReader is not installed")
    texts = {export(one, "ndpi").files.get("midcall.protos", "") for one in exported()} - {""}
    assert len(texts) > 10
    path = tmp_path / "midcall.protos"
    for text in texts:
        path.write_text(text)
        command = ["ndpiReader", "-i", str(SAMPLES / "sample-dns.pcap"), "-q", "-p", str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
        said = (done.stdout + done.stderr).lower()
        assert done.returncode == 0, text
        assert not re.search(r"error|warning|invalid|unable", said), text


def test_no_range_of_ports_for_ndpi_reaches_the_last_port() -> None:
    made = export(policy(rule({"ports": [9, "60000-65535", 65535], "protocol": "udp"})), "ndpi")
    assert "65535" not in made.files["midcall.protos"]
    assert any("65535" in one.reason for one in made.nearly)


def test_no_rule_of_suricata_has_an_empty_option() -> None:
    for one in shipped():
        made = export(one, "suricata")
        assert "; ;" not in made.files.get("midcall.rules", ""), one.hypothesis


def test_a_reset_of_one_end_is_written_where_the_engine_resets_that_end() -> None:
    match = {"protocol": "tcp", "payload": ["tls-hello"], "direction": "up"}
    keys = {"act": "reset", "scope": "packet"}
    towards = policy(rule(match, **keys, towards="client"))
    assert export(towards, "nftables").exact
    assert "rejectsrc" in export(towards, "suricata").files["midcall.rules"]
    assert export(policy(rule(match, **keys, towards="server")), "nftables").refused
    assert not export(policy(rule(match, **keys)), "nftables").exact


@pytest.mark.parametrize("engine", ["nftables", "iptables"])
def test_a_code_point_is_written_for_both_versions_of_ip(engine: str) -> None:
    made = export(policy(rule({"dscp": ["ef", 34]}, scope="packet")), engine)
    assert made.exact
    text = "".join(made.files.values())
    assert ("ip6 dscp { 46, 34 }" in text) == (engine == "nftables")
    assert text.count("--dscp 46") == (2 if engine == "iptables" else 0)


def test_the_box_without_its_ends_drops_what_the_rule_meets() -> None:
    packets = read(SAMPLES / "sample-web.pcap")
    every = lab_capture(packets)
    ours = our_box(every.packets, policy(rule({"protocol": "tcp"}, scope="packet")), "4g")
    tcp = np.array([one.data[9 if one.data[0] >> 4 == 4 else 6] == 6 for one in every.packets])
    assert tcp.any()
    assert ours.passes.tolist() == (~tcp).tolist()
    assert our_box(every.packets, EMPTY, "4g").passes.all()


@pytest.mark.parametrize("per", ["flow", "client"])
@pytest.mark.parametrize("after", [{"packets": 2}, {"bytes": 90}])
def test_a_clock_that_goes_back_uses_up_no_allowance_again(after: dict[str, Any], per: str) -> None:
    rules = policy(rule({"protocol": "udp"}, scope="packet", after=after | {"per": per}))
    packet = udp_packet(b"x" * 10)
    times = [5, 6, 1, 2]
    sent = [LabPacket(packet, True, one * 10**9, at, 0) for at, one in enumerate(times)]
    assert our_box(sent, rules, "4g").passes.tolist() == [True, True, False, False]


def test_a_refusal_names_the_line_of_the_key_that_it_is_about(tmp_path: Path) -> None:
    own = own_policy(
        tmp_path,
        """match = { protocol = "udp" }
act = "drop"
scope = "client"
lasts_s = 60

[[hypothesis.rule]]
name = "two"
act = "drop"
scope = "packet"
grade = "C"
source = "s"

[hypothesis.rule.match]
protocol = "udp"
entropy = "0.9-"
""",
    )
    path = Path(own).parent
    chosen = load(path).policy("one", "4g", DAY)
    places = places_of([path], "one", chosen.rules)
    lines = path.read_text().splitlines()
    keys = {"one": "lasts_s", "two": "entropy"}
    refused = export(chosen, "nftables").refused
    assert [one.rule for one in refused] == list(keys)
    for one in refused:
        line = int(place_of(one, places).removeprefix("own.toml:"))
        assert lines[line - 1].startswith(keys[one.rule])
    (scope, _) = export(chosen, "iptables").refused
    line = lines.index('scope = "client"') + 1
    assert sentence(scope, places).startswith(f"own.toml:{line}: one: scope client")


@pytest.mark.parametrize("scope", ["client", "server", "pair", "triple", "flow"])
def test_nftables_keeps_a_table_of_each_subject_and_of_its_octets(scope: str) -> None:
    match = {"protocol": "udp", "ports": [3478]}
    met = export(policy(rule(match, scope=scope)), "nftables")
    assert met.exact
    assert met.files["midcall.nft"].count("add @met1v4") == 2  # from the subscriber, and to it
    counted = export(policy(rule(match, scope="packet", after={"bytes": 900, "per": scope})), "nftables")  # fmt: skip  # noqa: E501
    assert counted.exact
    assert counted.files["midcall.nft"].count("quota over 900 bytes") == 4
    for after in ({"packets": 3}, {"bytes": 9, "seconds": 1.0}, {"bytes": 9, "direction": "up"}):
        assert export(policy(rule(match, after=after)), "nftables").refused


def test_suricata_keeps_bits_of_clients_servers_and_pairs_for_whole_seconds() -> None:
    match = {"protocol": "udp", "ports": [3478]}
    tracks = {"client": ("ip_src", "ip_dst"), "server": ("ip_dst", "ip_src"), "pair": ("ip_pair",)}
    for scope, words in tracks.items():
        made = export(policy(rule(match, scope=scope, lasts_s=90)), "suricata")
        lines = made.files["midcall.rules"].splitlines()
        asked = [line for line in lines if "xbits:isset" in line]
        assert all(f"track {word};" in line for word, line in zip(words, asked, strict=False))
        assert all(",expire 90;" in line for line in lines if "xbits:set" in line)
        assert len(asked) == (1 if scope == "pair" else 2)
        assert any("whole seconds" in one.reason for one in made.nearly)
    for scope, lasts in (("pair", 1.5), ("triple", 60), ("flow", 60)):
        assert export(policy(rule(match, scope=scope, lasts_s=lasts)), "suricata").refused


def test_a_flow_of_suricata_is_exact_behind_rules_that_condemn_flows_alone() -> None:
    sip = rule({"payload": ["sip"]}, name="sip")
    for first, exact in (("flow", True), ("packet", False)):
        before = rule({"payload": ["http"]}, name="http", scope=first)
        made = export(policy(before, sip), "suricata")
        assert made.exact == exact
        assert [one.rule for one in made.nearly] == ([] if exact else ["sip"])


def test_payloads_other_than_stun_are_not_looked_for_on_port_53_by_suricata() -> None:
    def heads(ports: list[int | str], payload: str) -> list[str]:
        made = export(policy(rule({"payload": [payload], "ports": ports})), "suricata")
        lines = made.files.get("midcall.rules", "").splitlines()
        return [line.partition(" (")[0] for line in lines if "isset" not in line]

    assert any(" -> any [52,54:60] " in f"{head} " for head in heads(["52-60"], "sip"))
    assert any(" -> any 53 " in f"{head} " or "[53]" in head for head in heads([53], "stun"))
    made = export(policy(rule({"payload": ["sip"], "ports": [53]})), "suricata")
    assert "DNS" in made.refused[0].reason


def test_flows_of_other_transports_are_named_where_iptables_has_no_such_connections() -> None:
    later = rule({"protocol": "udp"}, name="later", scope="packet")
    for match, exact in (
        ({"direction": "up"}, False),
        ({"ports": [7000], "direction": "up"}, False),
        ({"protocol": "udp", "direction": "up"}, True),
        ({"ports": [7000]}, True),
    ):
        for_good = rule(match, "pass", scope="flow")
        assert export(policy(for_good, later), "iptables").exact == exact, match
        assert export(policy(for_good, later), "nftables").exact


def test_counts_of_netfilter_are_exact_where_no_first_packet_is_dropped() -> None:
    def exact(engine: str, match: dict[str, Any], scope: str, *more: Rule) -> bool:
        counted = rule({"protocol": "udp", **match}, scope=scope)
        return export(policy(counted, *more), engine).exact

    other = rule({"protocol": "tcp"}, name="other")
    for engine in ("nftables", "iptables"):
        assert exact(engine, {"packets": "2-"}, "packet")
        assert not exact(engine, {"packets": "-2"}, "packet")
        assert not exact(engine, {"packets": "2-"}, "packet", other)
        assert not exact(engine, {"bytes": "300-"}, "packet")
        assert exact(engine, {"bytes": "300-"}, "flow") == (engine == "nftables")


def test_marks_and_icmp_errors_are_written_for_netfilter_alone() -> None:
    match = {"protocol": "udp", "ports": [3478]}
    marks = rule(match, "mark", code_point="cs1", way="up")
    for engine, word in (("nftables", "ip6 dscp set 8"), ("iptables", "--set-dscp 8")):
        made = export(policy(marks), engine)
        assert made.exact
        assert word in "".join(made.files.values())
    errors = rule(match, "unreachable", code="host", scope="packet", name="two")
    made = export(policy(errors), "iptables")
    assert "icmp-host-unreachable" in made.files["midcall.v4"]
    assert "icmp6-addr-unreachable" in made.files["midcall.v6"]
    assert not made.exact
    assert export(policy(marks, errors), "nftables").files
    for engine, refused in (("iptables", ["two"]), ("suricata", ["one", "two"])):
        assert [one.rule for one in export(policy(marks, errors), engine).refused] == refused


def test_answers_differ_in_what_both_can_see() -> None:
    passes, none = np.array([True, True, False]), np.zeros(3, np.int64)
    one = Answers(passes, none, np.array([0, 8, 8]))
    assert not one.differ(one._replace(points=np.array([0, 8, 46]))).any()  # it does not pass
    assert one.differ(one._replace(points=np.array([0, 46, 8]))).tolist() == [False, True, False]
    assert one.differ(one._replace(replies=np.array([0, 0, 4]))).tolist() == [False, False, True]
    assert not one.differ(Answers(passes)).any()


# ---- import

#: Elements whose export tests what the import does not read: octets other than STUN's.
FOREIGN_TO_IMPORT = ("sip", "http", "tls-hello", "reset, packet", "towards = client, packet")
#: What a rule of IPv4 has where it tests no address.
FOUR = {"addresses": ["0.0.0.0/0"]}
NFT = """table inet f {
  chain forward {
    type filter hook forward priority 0; policy accept;
    udp dport { 3478-3481, 19302 } drop
    tcp dport 5060 counter reject with tcp reset
    ip daddr 203.0.113.0/24 drop
    meta l4proto udp @ih,32,32 0x2112a442 drop
    ct state established accept
    limit rate 5/second drop
  }
}
"""
IPTABLES = """*filter
:FORWARD ACCEPT [0:0]
-A FORWARD -p udp -m udp --dport 3478 -j DROP
-A FORWARD -d 203.0.113.0/24 -p tcp -m multiport --dports 5060:5061,443 -j REJECT --reject-with tcp-reset
-A FORWARD ! -s 192.0.2.1 -j DROP
-A INPUT -p udp -j DROP
COMMIT
"""  # noqa: E501
SURICATA = """# a comment
drop udp any any -> any 3478 (msg:"stun"; content:"|21 12 a4 42|"; offset:4; depth:4; sid:1; rev:1;)
drop tls any any -> any any (msg:"sni"; tls.sni; dotprefix; content:".a.example"; endswith; sid:2;)
drop dns any any -> any any (dns.query; content:"a.example.org"; startswith; endswith; sid:3;)
alert udp any any -> any any (sid:4;)
drop tcp any any -> any any (content:"abc"; sid:5;)
"""


@pytest.mark.parametrize(
    ("engine", "text", "matches", "left_out"),
    [
        (
            "nftables",
            NFT,
            [
                ("drop", {"protocol": "udp", "ports": ["3478-3481", 19302], "direction": "up"}),
                ("reset", {"protocol": "tcp", "ports": [5060], "direction": "up"}),
                ("drop", {"addresses": ["203.0.113.0/24"], "direction": "up"}),
                ("drop", {"protocol": "udp", "stun": True}),
            ],
            [8, 9],
        ),
        (
            "iptables",
            IPTABLES,
            [
                ("drop", {"protocol": "udp", "ports": [3478], "direction": "up", **FOUR}),
                ("reset", {"addresses": ["203.0.113.0/24"], "protocol": "tcp",
                           "ports": ["5060-5061", 443], "direction": "up"}),
            ],
            [5, 6],
        ),
        (
            "suricata",
            SURICATA,
            [
                ("drop", {"protocol": "udp", "ports": [3478], "direction": "up", "stun": True}),
                ("drop", {"name": ["*.a.example"], "name_in": ["tls"]}),
                ("drop", {"dns": ["a.example.org"]}),
            ],
            [5, 6],
        ),
    ],
)  # fmt: skip
def test_rules_are_imported_and_the_rest_is_listed(
    engine: str,
    text: str,
    matches: list[tuple[str, dict[str, Any]]],
    left_out: list[int],
    tmp_path: Path,
) -> None:
    source = tmp_path / "rules"
    source.write_text(text)
    found = imported(source, engine)
    assert [(one["act"], one["match"]) for one in found.rules.values()] == matches
    assert [one.line for one in found.left_out] == left_out
    assert all(one.reason for one in found.left_out)
    out = tmp_path / "mine.toml"
    write(out, found)
    operator, problems = try_load(out)
    assert problems == []
    assert operator is not None
    rules = operator.hypothesis("imported").rules
    assert [one.match for one in rules] == [Match.model_validate(one) for _, one in matches]


def read_back(text: str, engine: str, tmp_path: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the rules of a file, and the reasons of its lines that are left out."""
    source = tmp_path / "rules"
    source.write_text(text)
    found = imported(source, engine)
    return list(found.rules.values()), [one.reason for one in found.left_out]


def test_rules_of_nftables_that_share_a_line_are_read(tmp_path: Path) -> None:
    text = """
    table inet t {
        chain voip { udp dport 5060 counter drop; tcp dport 5061 drop; return; }
        chain f { type filter hook forward priority 0; policy accept; udp dport 9 drop; }
        chain g {
            type filter hook forward priority 1; policy accept; udp dport 11 drop
            iifname "subscriber0" jump voip  # calls
            udp dport 7; udp dport 8 drop; tcp dport 8 drop # ports
            udp dport 3478 ip dscp set cs1 counter
            @th,96,32 0x2112a442 drop
        }
    }
    """
    rules, left_out = read_back(text, "nftables", tmp_path)
    up = {"direction": "up"}
    assert [one["match"] for one in rules] == [
        {**up, "protocol": "udp", "ports": [9]},
        {**up, "protocol": "udp", "ports": [11]},
        {**up, "protocol": "udp", "ports": [5060]},
        {**up, "protocol": "tcp", "ports": [5061]},
        {**up, "protocol": "udp", "ports": [3478], "addresses": ["0.0.0.0/0"]},
        {"protocol": "udp", "stun": True},
    ]
    assert len(left_out) == 1  # its first part has no verdict
    line = "table ip t { chain f { type filter hook forward priority 0; udp dport 9 drop; } }"
    assert read_back(line, "nftables", tmp_path) == ([], ["a table in one line"])
    assert without_rules("chain a { type filter hook forward priority 0; udp dport 9 drop; }") == (
        "chain a { type filter hook forward priority 0; ; }"
    )
    assert without_rules("type filter hook forward priority 0; policy drop; udp dport 9 drop") == (
        "type filter hook forward priority 0; policy accept; "
    )
    assert without_rules("udp dport 9 drop") == ""


def test_commands_of_a_shell_are_read(tmp_path: Path) -> None:
    text = """#!/bin/sh
nft add table inet f
nft add chain inet f fw '{ type filter hook forward priority 0 ; policy accept ; }'
sudo nft add rule inet f fw iifname subscriber0 udp dport 5060 drop
/usr/sbin/nft "add rule inet f fw udp dport 9 drop"
"""
    rules, left_out = read_back(text, "nftables", tmp_path)
    assert [one["match"]["ports"] for one in rules] == [[5060], [9]]
    assert left_out == []
    text = """#!/bin/sh
iptables-nft --append FORWARD --in-interface subscriber0 --protocol udp --dport 9 --jump DROP
iptables -P FORWARD DROP
"""
    rules, left_out = read_back(text, "iptables", tmp_path)
    assert [one["match"]["ports"] for one in rules] == [[9]]
    assert "every packet" in left_out[0]
    assert "-A FORWARD -i subscriber0 -p udp --dport 9 -j DROP" in restorable(text, "ip")


def test_octets_in_hexadecimal_and_returns_of_iptables_have_their_reasons(tmp_path: Path) -> None:
    text = """*filter
:FORWARD ACCEPT [0:0]
:VOIP - [0:0]
-A FORWARD -i subscriber0 -p udp -j VOIP
-A FORWARD -i subscriber0 -p udp -m u32 --u32 "0x0>>0x16&0x3c@0xc=0x2112a442" -j DROP
-A VOIP -s 198.18.7.1/32 -j RETURN
-A VOIP -s 198.18.7.1/32 -j DROP
COMMIT
"""
    rules, left_out = read_back(text, "iptables", tmp_path)
    assert [one["match"].get("stun") for one in rules] == [True]
    assert "RETURN" in left_out[0]
    assert "the subscriber's end" in left_out[1]


def test_variables_sets_and_added_rules_of_nftables_are_read(tmp_path: Path) -> None:
    text = """define voip = { 3478, 5060 }
table ip f {
  set relays { type ipv4_addr; flags interval; elements = { 203.0.113.0/24 } }
  chain input {
    type filter hook input priority filter;
    udp dport 22 drop
  }
  chain forward {
    type filter hook forward priority filter; policy drop;
    udp dport $voip counter drop comment "voip"
    ip daddr @relays reject
    ip saddr 10.0.0.5 accept
    meta l4proto udp th dport 40000-65535 drop
    iifname "subscriber0" udp dport 40000-65535 drop
    tcp dport 80 udp dport 80 drop
  }
}
add rule ip f forward ip dscp ef drop
insert rule ip f forward udp length > 1200 drop
"""
    rules, reasons = read_back(text, "nftables", tmp_path)
    assert [(one["act"], one["match"]) for one in rules] == [
        ("drop", {"protocol": "udp", "size": "1193-", **FOUR}),
        ("drop", {"protocol": "udp", "ports": [3478, 5060], "direction": "up", **FOUR}),
        ("unreachable", {"addresses": ["203.0.113.0/24"], "direction": "up"}),
        ("drop", {"direction": "up", "protocol": "udp", "ports": ["40000-65535"], **FOUR}),
        ("drop", {"dscp": ["ef"], **FOUR}),
    ]
    assert len(reasons) == 5
    for word in ("hook forward", "policy drop", "of a subscriber", "answers", "two conditions"):
        assert sum(word in reason for reason in reasons) == 1, word
    assert "rules below it may meet what it accepts" in reasons[2]


def test_chains_and_scripts_of_iptables_are_read(tmp_path: Path) -> None:
    text = """iptables -N VOIP
iptables -A FORWARD -p udp -j VOIP
iptables -A VOIP --dport 3478 -j DROP
iptables -A VOIP -m string --string abc --algo bm -j DROP
iptables -A VOIP -p udp -m u32 --u32 "0>>22&0x3C@12=0x2112A442" -j DROP
iptables -I FORWARD -p udp -m length --length 68:128 -j REJECT
iptables -A FORWARD -m conntrack --ctstate ESTABLISHED -j ACCEPT
"""
    rules, reasons = read_back(text, "iptables", tmp_path)
    assert [(one["act"], one["match"]) for one in rules] == [
        ("unreachable", {"protocol": "udp", "size": "40-100", **FOUR}),
        ("drop", {"protocol": "udp", "ports": [3478], "direction": "up", **FOUR}),
        ("drop", {"protocol": "udp", "stun": True, **FOUR}),
    ]
    assert len(reasons) == 2
    assert "whether a connection is known" in reasons[-1]


@pytest.mark.parametrize(
    ("engine", "text"),
    [
        ("suricata", "drop udp any any -> any any (offset:4; sid:1;)"),
        ("suricata", "drop udp any any -> [ any (sid:3;)"),
        ("suricata", 'drop udp any any -> any 9 (msg:"open" sid:4;)'),
        ("iptables", "-A FORWARD -p udp !"),
        ("iptables", "-A FORWARD -p udp --dport 9 -j DSCP --set-dscp 64"),
        ("nftables", "add rule ip f forward ip dscp reject drop"),
        ("nftables", "add rule ip f forward udp dport { drop"),
    ],
)
def test_a_line_that_no_engine_loads_is_left_out(engine: str, text: str, tmp_path: Path) -> None:
    rules, reasons = read_back(text, engine, tmp_path)
    assert rules == []
    assert len(reasons) == 1 or text.endswith("!")  # a rule without a target only counts packets


def test_a_rule_of_suricata_without_a_test_of_the_packet_is_of_its_flow(tmp_path: Path) -> None:
    text = """drop udp $HOME_NET any <> any 5060 (msg:"a"; sid:1;)
drop udp any any -> any 3478 (dsize:>100; sid:2;)
drop tls $HOME_NET any -> any any (flow:established,to_server; tls.sni; content:"a.example"; bsize:9; sid:3;)
drop tcp any any -> any 80 (flow:established; sid:4;)
"""  # noqa: E501
    rules, reasons = read_back(text, "suricata", tmp_path)
    assert [(one["scope"], one["match"].get("direction")) for one in rules] == [
        ("flow", None), ("packet", "up"), ("flow", None),
    ]  # fmt: skip
    assert len(reasons) == 1


def test_maps_chains_and_lines_in_several_parts_of_nftables_are_read(tmp_path: Path) -> None:
    text = """table inet f {
  map verdicts {
    type inet_service : verdict
    elements = { 3480 : drop,
                 3481 : accept }
  }
  chain calls {
    counter
    ip6 daddr 2001:db8::/32 drop
    udp dport 5060 reject with icmpx admin-prohibited
    return
  }
  chain forward {
    type filter hook forward priority filter; policy accept;
    ct state vmap { established : accept, invalid : drop }
    iifname "subscriber0" meta l4proto { tcp, udp } jump calls
    udp dport vmap @verdicts
    udp dport {
      7001,
      7002
    } log prefix "x" drop
    iifname != "subscriber0" udp sport != 3478 drop
    ip dscp != { 1-63 } drop
    tcp dport 5222 reject with tcp reset
    udp dport 3478 ip dscp set cs1
    meta l4proto icmp drop
  }
}
"""
    rules, reasons = read_back(text, "nftables", tmp_path)
    near, six = {"direction": "up"}, {"addresses": ["2001:db8::/32"]}
    assert [(one["act"], one["match"]) for one in rules] == [
        ("drop", {**near, "protocol": "tcp", **six}),
        ("drop", {**near, "protocol": "udp", **six}),
        ("unreachable", {**near, "protocol": "udp", "ports": [5060]}),
        ("drop", {"protocol": "udp", "ports": [3480], **near}),
        ("pass", {"protocol": "udp", "ports": [3481], **near}),
        ("drop", {"protocol": "udp", "ports": [7001, 7002], **near}),
        ("drop", {"direction": "down", "protocol": "udp", "ports": ["1-3477", "3479-65535"]}),
        ("drop", {"dscp": [0], **FOUR}),
        ("reset", {"protocol": "tcp", "ports": [5222], **near}),
        ("mark", {"protocol": "udp", "ports": [3478], **near, **FOUR}),
    ]
    assert rules[2]["code"] == "prohibited"
    assert rules[8]["towards"] == "client"
    assert (rules[9]["code_point"], "scope" in rules[9]) == ("cs1", False)
    assert [reason.partition(":")[0] for reason in reasons] == [
        "ct state",
        "the policy language has no 'meta l4proto icmp'",
    ]


def test_targets_negations_and_both_versions_of_iptables_are_read(tmp_path: Path) -> None:
    text = """IPT=/sbin/iptables
iptables -P FORWARD ACCEPT
$IPT -A FORWARD -p udp --dport 3478 -j LOG --log-prefix "stun "
$IPT -A FORWARD -p udp \\
  --dport 3478: -i subscriber0 -j DROP
ip6tables -A FORWARD -p udp ! --dport 53 -i subscriber0 -j REJECT --reject-with icmp6-adm-prohibited
iptables -I FORWARD 1 -d 192.0.2.1 ! -i subscriber0 -j ACCEPT
iptables -t mangle -A FORWARD -p udp --dport 5060 -j DSCP --set-dscp-class CS1
iptables -A FORWARD -p tcp --dport 80 --syn -j DROP
"""
    rules, reasons = read_back(text, "iptables", tmp_path)
    port = {"protocol": "udp", "direction": "up"}
    assert [(one["act"], one["match"]) for one in rules] == [
        ("mark", {**port, "ports": [5060], **FOUR}),  # the table mangle comes first
        ("drop", {**port, "ports": ["3478-65535"], **FOUR}),
        ("unreachable", {**port, "ports": ["1-52", "54-65535"], "addresses": ["::/0"]}),
    ]
    assert len(reasons) == 2  # -d of a packet to the subscribers, and --syn


def test_tables_chains_and_ranges_of_nftables_are_read(tmp_path: Path) -> None:
    text = """table ip f {
  set relays {
    type ipv4_addr
    flags interval
    auto-merge
    elements = { 203.0.113.0-203.0.113.127,
                 198.51.100.1 }
  }
  set seen {
    type ipv4_addr
    flags dynamic,timeout
  }
  chain forward { type filter hook forward priority mangle; policy accept;
    udp dport 53 accept
    udp dport 3478 ip dscp set cs1
  }
}
table ip6 f {
  chain inner {
    tcp dport { 80, 443 } accept
    ip saddr 203.0.113.0/24 drop
    udp dport 5060 drop
  }
  chain unused {
    udp dport 9 drop
  }
  chain forward {
    type filter hook forward priority filter
    ct state new jump unused
    iifname "subscriber0" jump inner
    tcp dport 5222 counter queue num 0
    th dport 6000 drop
  }
}
add element ip f relays { 192.0.2.7 }
add chain ip f late { type filter hook forward priority filter + 1; policy drop; }
add rule ip f late ip daddr @relays drop
include "more.nft"
"""
    rules, reasons = read_back(text, "nftables", tmp_path)
    near, six = {"direction": "up"}, {"addresses": ["::/0"]}
    relays = ["203.0.113.0/25", "198.51.100.1/32", "192.0.2.7/32"]
    assert [(one["act"], one["match"]) for one in rules] == [
        ("mark", {"protocol": "udp", "ports": [3478], **near, **FOUR}),
        ("pass", {**near, "protocol": "tcp", "ports": [80, 443], **six}),
        ("drop", {**near, "protocol": "udp", "ports": [5060], **six}),
        ("drop", {"addresses": relays, **near}),
    ]
    words = ("a later chain", "two conditions", "no line that goes to it", "ct state", "queue",
             "others have no ports", "policy drop", "another file")  # fmt: skip
    assert len(reasons) == len(words)
    for word, reason in zip(words, reasons, strict=True):
        assert word in reason


def test_a_port_may_have_the_name_that_the_system_knows(tmp_path: Path) -> None:
    try:
        number = socket.getservbyname("domain")
    except OSError:
        pytest.skip("this system has no list of services")
    text = "iptables -A FORWARD -p udp -m multiport --dports domain,no-such-name -j DROP\n"
    assert read_back(text, "iptables", tmp_path)[0] == []
    ((rule, *_), _) = read_back(text.replace(",no-such-name", ""), "iptables", tmp_path)
    assert rule["match"]["ports"] == [number]


def test_a_rule_of_a_chain_is_traced_to_its_own_line(tmp_path: Path) -> None:
    source = tmp_path / "rules"
    source.write_text("""*filter
:FORWARD ACCEPT [0:0]
:CALLS - [0:0]
-A FORWARD -i subscriber0 -p udp -j CALLS
-A FORWARD -i subscriber0 -p tcp -j CALLS
-A CALLS -m string --string abc --algo bm -j DROP
-A CALLS -p udp -m udp --dport 3478 -j DROP
-A CALLS -d 203.0.113.9 -j DROP
COMMIT
""")
    found = imported(source, "iptables")
    assert [one.line for one in found.left_out] == [6]
    assert list(found.rules) == ["line-7", "line-8-1", "line-8-2"]
    write(tmp_path / "mine.toml", found)
    text = (tmp_path / "mine.toml").read_text()
    assert text.count('source = "rules:8"') == 2


def test_returns_gotos_and_the_sizes_of_ipv6_of_iptables_are_read(tmp_path: Path) -> None:
    text = """iptables -N CALLS
iptables -A FORWARD -p udp -j CALLS
iptables -A FORWARD -p 17 -m iprange --dst-range 203.0.113.0-203.0.113.3 -j DROP
iptables -A FORWARD -p udp -g OPEN
iptables -A CALLS -p udp --dport 53 -j RETURN
iptables -A CALLS -m u32 --u32 "0>>22&0x3C@12=0x2112A442" -j DROP
iptables -A CALLS -m length --length 68:128 -j DROP
iptables -A CALLS -j RETURN
iptables -A OPEN -p udp --dport 5060 -j DROP
iptables -A FORWARD -m u32 --u32 "0>>22&0x3C@12=0x2112A442" -j DROP
iptables -t mangle -A FORWARD -p udp --dport 443 -j ACCEPT
ip6tables -A FORWARD -p udp -m length --length 68:128 -j DROP
"""
    rules, reasons = read_back(text, "iptables", tmp_path)
    udp = {"protocol": "udp"}
    assert [(one["act"], one["match"]) for one in rules] == [
        ("drop", {**udp, "stun": True, **FOUR}),
        ("drop", {**udp, "size": "40-100", **FOUR}),
        ("drop", {**udp, "addresses": ["203.0.113.0/30"], "direction": "up"}),
        ("drop", {**udp, "size": "20-80", "addresses": ["::/0"]}),
    ]
    words = ("-g OPEN", "RETURN", "no line that goes to it", "UDP over IPv4", "a later table")
    assert len(reasons) == len(words)
    for word, reason in zip(words, reasons, strict=True):
        assert word in reason


def test_a_reset_of_suricata_goes_to_the_end_that_its_action_names(tmp_path: Path) -> None:
    text = """reject tcp $HOME_NET any -> any 5222 (dsize:>0; sid:1;)
rejectdst tcp $HOME_NET any -> any 5222 (dsize:>0; sid:2;)
rejectboth tcp $HOME_NET any -> any 5222 (dsize:>0; sid:3;)
reject tcp any 5222 -> $HOME_NET any (dsize:>0; sid:4;)
reject udp $HOME_NET any -> any 5222 (dsize:>0; sid:5;)
reject tcp $HOME_NET any <> any 5222 (dsize:>0; sid:6;)
"""
    rules, reasons = read_back(text, "suricata", tmp_path)
    assert [one.get("towards") for one in rules] == ["client", "server", None, "server"]
    assert {one["act"] for one in rules} == {"reset"}
    assert len(reasons) == 2


def test_sizes_and_names_that_suricata_never_meets_are_left_out(tmp_path: Path) -> None:
    text = """drop udp any any -> any 3478 (dsize:100<>101; sid:1;)
drop udp any any -> any 3478 (dsize:<0; sid:2;)
drop tls any any -> any any (tls.sni; content:"A.example"; bsize:9; sid:3;)
drop tls any any -> any any (tls.sni; content:"A.example"; bsize:9; nocase; fast_pattern; sid:4;)
drop udp $HOME_NET any -> 198.51.100.7 any (ttl:>0; sid:5;)
"""
    rules, reasons = read_back(text, "suricata", tmp_path)
    assert [(one["scope"], sorted(one["match"])) for one in rules] == [
        ("flow", ["name", "name_in"]),
        ("packet", ["addresses", "direction", "protocol"]),
    ]
    assert len(reasons) == 3


@pytest.mark.parametrize("engine", ["nftables", "iptables", "suricata"])
def test_what_is_exported_is_imported_with_the_same_fates(engine: str, tmp_path: Path) -> None:
    """The edge cases are packets of both versions of IP, from and to subscribers' own ports."""
    lab, compared = lab_capture(edge_cases()), 0
    rest = rule({"addresses": ["0.0.0.0/0", "::/0"]}, name="rest")
    every = {one.label: one.policy for one in elements() if one.name not in FOREIGN_TO_IMPORT}
    every["all but the ports"] = policy(rule({"ports": [443, 7000]}, "pass"), rest)
    for label, whole in every.items():
        made = export(whole, engine)
        file = tmp_path / f"{compared}"
        name = next((name for name in made.files if not name.endswith((".md", ".v6"))), "")
        if not name or not made.exact:
            continue
        file.write_text(made.files[name].replace('"subscriber0"', "subscriber0"))
        found = imported(file, engine)
        if found.left_out and not found.rules:
            continue
        rules = tuple(rule(keys.pop("match"), keys.pop("act"), **{**keys, "name": name})
                      for name, keys in found.rules.items())  # fmt: skip
        ours, other = (our_box(lab.packets, each, "4g") for each in (whole, policy(*rules)))
        four = np.array([packet.data[0] >> 4 == 4 for packet in lab.packets])
        sctp = np.array(
            [packet.data[9] == SCTP for packet in lab.packets]
        )  # its lines are left out
        differs = ours.differ(other) & ((four & ~sctp) | (engine != "iptables"))
        assert not differs.any(), (label, found.left_out)
        compared += 1
    assert compared > 2
