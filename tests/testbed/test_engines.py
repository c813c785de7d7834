# SPDX-License-Identifier: BSD-3-Clause
"""Policies for packet engines: what is written, what is refused, what is read back."""

from __future__ import annotations

import datetime
import itertools
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from midcall.captures.packets.pcap import read
from midcall.errors import TestbedError
from midcall.testbed.engines.condition import octets
from midcall.testbed.engines.engine_import import imported, write
from midcall.testbed.engines.export import ENGINES, export, places_of
from midcall.testbed.engines.export import write as write_files
from midcall.testbed.engines.iptables_rules import word_test
from midcall.testbed.engines.lab_capture import lab_capture, our_box
from midcall.testbed.engines.nftables_rules import test_of as nft_test_of
from midcall.testbed.engines.suricata_rules import octet_tests
from midcall.testbed.policy.language import Match, Rule
from midcall.testbed.policy.loader import available, files_of, load, try_load
from midcall.testbed.policy.operator import EMPTY, Policy

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
        ({"protocol": "udp"}, {"lasts_s": 60.0, "scope": "client"}),
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
        file, _, line = places[one.name].partition(":")
        path = next(path for path in files_of("inwi") if path.name == file)
        assert path.read_text().splitlines()[int(line) - 1] == f'name = "{one.name}"'
    made = export(chosen, "nftables", places)
    paths = write_files(tmp_path / "out", made)
    text = (tmp_path / "out" / "README.md").read_text()
    rules = (tmp_path / "out" / "midcall.nft").read_text().splitlines()
    assert len(paths) == 2
    for one in chosen.rules:
        row = next(row for row in text.splitlines() if row.startswith(f"| {one.name} |"))
        assert places[one.name] in row
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
    for number, one in enumerate(shipped()):
        made = export(one, engine)
        if made.files:
            path = tmp_path / f"{number}-{file}"
            path.write_text(made.files[file])
            done = subprocess.run(
                [*program, str(path)], capture_output=True, text=True, check=False, timeout=20
            )
            assert (done.returncode, done.stdout + done.stderr) == (0, ""), one.hypothesis


def test_the_box_without_its_ends_drops_what_the_rule_meets() -> None:
    packets = read(SAMPLES / "sample-web.pcap")
    every = lab_capture(packets, policy(rule({"protocol": "tcp"}, scope="packet")))
    ours = our_box(every.packets, every.policy, "4g")
    tcp = np.array([one.data[9 if one.data[0] >> 4 == 4 else 6] == 6 for one in every.packets])
    assert tcp.any()
    assert ours.passes.tolist() == (~tcp).tolist()
    assert our_box(every.packets, EMPTY, "4g").passes.all()


# ---- import

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
                ("drop", {"protocol": "udp", "ports": [3478], "direction": "up"}),
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


@pytest.mark.parametrize("engine", ["nftables", "suricata"])
def test_what_is_exported_of_ports_is_imported_again(engine: str, tmp_path: Path) -> None:
    match = {"protocol": "udp", "ports": ["3478-3481"], "direction": "up"}
    made = export(policy(rule(match, scope="packet")), engine)
    file = tmp_path / next(name for name in made.files if name != "README.md")
    text = made.files[file.name].replace("goto rule1", "drop")  # a chain of one act
    file.write_text(text)
    found = imported(file, engine)
    assert match in [one["match"] for one in found.rules.values()]
