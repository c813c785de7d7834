# SPDX-License-Identifier: BSD-3-Clause
"""The third-party rules: each is run, and the result is compared with the rule."""

from __future__ import annotations

import tomllib
from importlib import resources

import pytest

from midcall.errors import ExperimentError
from midcall.experiments.localise.clause import Clause, PacketCondition
from midcall.experiments.localise.found_clause import FoundClause
from midcall.experiments.localise.oracle_session import OracleSession
from midcall.experiments.localise.search import Localisation
from midcall.experiments.measure.summary import by_noise
from midcall.experiments.proofs.localiser import (
    edge_cases,
    held_out_probes,
    score,
    third_party_rules,
)
from midcall.experiments.proofs.localiser.rule import BenchmarkRule, Box, either, match, sets
from midcall.testbed.probing.probe import Probe


def rule(name: str) -> BenchmarkRule:
    return next(one for one in third_party_rules.rules() if one.name == name)


def test_every_rule_of_the_file_is_a_rule_of_the_benchmark() -> None:
    text = (
        resources.files("midcall.experiments.proofs.localiser")
        .joinpath("third_party.toml")
        .read_text("utf-8")
    )
    result = tomllib.loads(text)["rule"]
    assert len(result) == len({one["id"] for one in result}) == 57
    assert [one.name for one in third_party_rules.rules()] == [one["id"] for one in result]
    assert all(("policy" in one) != ("wanted" in one) and one["accept"] for one in result)
    assert {one["id"] for one in result if "wanted" in one} == set(third_party_rules.PYTHON_RULES)


@pytest.mark.parametrize(
    "name", ["whatsapp-attribute", "sni-on-443-only", "relay-prefix", "octets-wa", "mobile-only"]
)
def test_rules_of_an_outsider_are_recovered(name: str) -> None:
    (row,) = score.run([0.0], 20_000, 5, [rule(name)], rule_set="outsider")
    assert row["outcome"] == "exactly", row


def test_a_rule_that_never_strikes_its_capture_is_counted_as_such() -> None:
    rows = score.run([0.0], 20_000, 5, [rule("quic-name")], rule_set="outsider")
    assert rows[0]["cause"] == "it never strikes its call"
    (result,) = by_noise(rows)
    assert (result["planted"], result["recovered"], result["never"]) == (0, 0, 1)


@pytest.mark.parametrize(
    ("name", "look"),
    [
        ("relay-prefix", PacketCondition(far=(bytes([198, 19, 1, 0]), 27))),
        ("udp-off", PacketCondition()),
    ],
)
def test_fresh_probes_lie_beside_a_rule(name: str, look: PacketCondition) -> None:
    def guess(asker: OracleSession, base: Probe) -> Localisation:
        return Localisation([FoundClause(Clause(look), base, (0,))], cost=asker.cost)

    one = rule(name)
    row = score.score_rule(one, one.base(), 0.0, 20_000, 5, guess)
    assert row["tests_wrong"] > 0
    assert row["outcome"] != "exactly"


def test_the_names_of_a_rule_are_among_its_fresh_probes() -> None:
    one = rule("sni-skype-reset")
    tests = held_out_probes.probes(one, one.base(), 5)
    held = b"".join(packet.payload for probe in tests for packet in probe)
    assert all(name.encode() in held for name in ("xapi.skype.com", "www.api.skype.com"))


def test_what_a_capture_cannot_show_of_a_rule_is_not_tested() -> None:
    one = rule("address-set")
    (unseen,) = one.edge_words["unseen"]
    assert all(
        edge_cases.is_observable(probe, [unseen])
        for probe in held_out_probes.probes(one, one.base(), 5)
    )


@pytest.mark.parametrize(
    ("wrong", "missed", "complete", "outcome"),
    [
        (0, 0, False, "partly"),
        (5, 5, True, "partly"),
        (6, 6, True, "wrong"),
        (11, 0, True, "wrong"),
        (11, 0, False, "unexplained"),
    ],
)
def test_an_outcome_counts_each_answer_by_itself(
    wrong: int, missed: int, complete: bool, outcome: str
) -> None:
    row = {"recovered": False, "complete": complete, "tests": 150, "tests_blocked": 50,
           "tests_wrong": wrong, "tests_missed": missed}  # fmt: skip
    assert score.outcome(row) == outcome


def test_a_capture_that_is_not_there_is_said() -> None:
    with pytest.raises(ExperimentError, match="no capture 'sample-nothing'"):
        third_party_rules.capture("sample-nothing")


# ---- what these rules showed the search to miss, mended since

#: A call that begins with a dozen checks of the path, and media both ways, each in step by itself.
LONG = """
    0.00 > udp peer:40100/40012 stun-binding 0006 x12 0.02
    0.30 > udp peer:40100/40012 dtls-hello
    0.35 < udp peer:40100/40012 dtls 700
    0.36 > udp peer:40100/40012 dtls 90
    0.40 > udp other:7985/40014 noise 300 x4 0.1
    1.00 > udp other:9000/40018 rtp 160 x20 0.02
    1.01 < udp other:9000/40018 rtp 160 x20 0.02
"""

SPARED = """
[[rule]]
match = { %s }
act = "pass"

[[rule]]
match = { protocol = "udp", size = "650-" }
scope = "packet"
"""


@pytest.mark.parametrize(
    ("rule", "needs", "says"),
    [
        (match("ports = [7985, 7987]"), "far port", "far port 7985, 7987"),
        (
            match('ports = ["8990-8993", "8996-9010"]'),
            "far port",
            "far port 8990 to 8993, 8996 to 9010",
        ),
        (
            match('addresses = ["198.51.100.76/31", "198.51.100.204/31"]'),
            "far address",
            "far address 198.51.100.76/31",
        ),
        (match('hello = ["DTLS"]'), "hello", "is a ClientHello of fingerprint 0e419e51db7f84b7"),
        (either("stun = true", 'hello = ["DTLS"]'), "hello|stun", "fingerprint 0e419e51db7f84b7"),
        (
            match('payload = ["dtls", "dtls-hello"], size = "200-"', 'scope = "packet"'),
            "kind, size",
            "payload of 200 or more octets; looks like dtls or dtls-hello",
        ),
        (
            SPARED % "ports = [443]",
            "protocol, size, far port",
            "far port 1 to 442, 444 to 65535",
        ),
        (
            SPARED % 'addresses = ["198.51.100.8/32"]',
            "protocol, size, far address",
            "except far address 198.51.100.8/32",
        ),
        (
            third_party_rules.in_step(0.01, 0.03, 10),
            "protocol, times, gap",
            "of the flow in one direction",
        ),
    ],
)
def test_what_the_outsiders_rules_showed_is_mended(rule: str | Box, needs: str, says: str) -> None:
    unseen = {"unseen": ("198.51.100.128/25",)} if "100.204" in str(rule) else {}
    one = BenchmarkRule(
        "mended", "mended", rule, sets(*needs.split("|")), call=LONG, edge_words=unseen
    )
    row = score.score_rule(one, one.base(), 0.0, 20_000, 5)
    assert row["outcome"] == "exactly", row
    assert says in row["found"]
