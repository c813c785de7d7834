# SPDX-License-Identifier: BSD-3-Clause
"""Profiles of the world: each does to a scene what was seen, in its time and not outside of it."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, time
from typing import Any, get_args

import pytest

from midcall.testbed.conformance.run import virtual
from midcall.testbed.conformance.transcript import scene
from midcall.testbed.policy.language import ACTS, PAYLOADS, After, Match, Rule, Scope
from midcall.testbed.policy.loader import available, load

WORLD = [
    "china-2023", "china-2024", "china-2025-08", "egypt-2015", "iran-2022", "patent-us8185040",
    "qatar-2017", "russia-2021", "russia-2024", "russia-2025-08", "russia-2025-12",
    "russia-2026-03", "turkey-2025", "uae",
    "uzbekistan-2021",
]  # fmt: skip
MOROCCO = ["inwi", "maroc-telecom", "meditel"]

WHATSAPP = """
    0.000 > udp relay:3478 stun-allocate 4000
    0.001 > udp relay:3478 stun-allocate 4000
    0.200 > udp peer:9999/50000 noise
"""
DTLS = """
    0.0 > udp peer:40100 dtls-hello
    0.1 < udp peer:40100 dtls 100 x10 0.1
    2.0 < udp peer:40100 dtls 300 x4 0.1
"""
WEB = """
    0.00 > tcp peer:443 syn
    0.04 < tcp peer:443 syn-ack
    0.05 > tcp peer:443 ack
    0.06 > tcp peer:443 tls-hello @
    0.10 < tcp peer:443 tls 1200 x20 0.01
"""
UDP = """
    0.0 > udp resolver:53/5353 question a.example
    0.1 > udp peer:443/40001 quic-hello
    0.2 > udp relay:3478/40002 stun-binding
    0.3 > udp peer:9999/40003 noise
    0.4 > tcp peer:443/40004 syn
"""

# operator, hypothesis, access, day, scene -> fates
STRUCK = [
    ("uae", "service-and-calls", "4g", date(2016, 1, 1), WHATSAPP, "xxd"),
    ("uae", "service-and-calls", "fibre", date(2016, 1, 1), WEB.replace("@", "login.skype.com"),
     "dddx" + "." * 20),
    ("uae", "service-and-calls", "fibre", date(2013, 1, 1), WHATSAPP, "ddd"),
    ("qatar-2017", "signature", "4g", date(2017, 6, 1), WHATSAPP, "xxd"),
    ("qatar-2017", "endpoints", "4g", date(2017, 6, 1), WHATSAPP, "ddd"),
    ("russia-2024", "dtls-stall", "4g", date(2025, 1, 1), DTLS, "d" * 11 + "dxxx"),
    ("russia-2024", "late-stall", "4g", date(2025, 1, 1), WEB.replace("@", "a.example"),
     "d" * 17 + "x" * 7),
    ("russia-2025-08", "stun-everywhere", "4g", date(2025, 8, 20), WHATSAPP, "xxd"),
    ("russia-2025-08", "stun-and-lists", "4g", date(2025, 8, 20), WHATSAPP, "ddd"),
    ("russia-2025-12", "udp-allow-list", "4g", date(2025, 12, 20), UDP, "ddxxd"),
    ("russia-2025-12", "udp-allow-list", "fibre", date(2025, 12, 20), UDP, "ddddd"),
    ("russia-2026-03", "dtls-hello", "4g", date(2026, 3, 5), DTLS, "d" * 6 + "x" * 9),
    ("russia-2026-03", "dtls-hello", "4g", date(2026, 2, 5), DTLS, "d" * 15),
    ("china-2025-08", "port-443", "fibre", date(2025, 8, 20), WEB.replace("@", "a.example"),
     "d" + "." * 23),
    ("china-2025-08", "port-443", "fibre", date(2025, 8, 20),
     WEB.replace(":443", ":8443").replace("@", "a.example"),
     "d" * 24),
    ("iran-2022", "udp-allow-list", "4g", date(2022, 10, 1), UDP, "dxxxd"),
    ("china-2023", "large-dtls", "4g", date(2023, 6, 1), DTLS, "d" * 11 + "x" * 4),
]  # fmt: skip


@pytest.mark.parametrize(("operator", "hypothesis", "access", "day", "text", "expected"), STRUCK)
def test_a_profile_strikes_what_was_seen_where_and_when_it_was_seen(
    operator: str, hypothesis: str, access: str, day: date, text: str, expected: str
) -> None:
    policy = load(operator).policy(hypothesis, access, day)
    simulation = virtual(scene(text), policy, access, 1)
    assert "".join(".dxfBl"[int(fate)] for fate in simulation.fates["fate"]) == expected


def test_a_quic_hello_cuts_off_its_port_for_two_minutes_unless_noise_hides_it() -> None:
    hidden = load("china-2024").policy("quic-first-datagram", "fibre", date(2025, 1, 22))
    (rule,) = hidden.rules
    match = rule.match.model_copy(update={"name": ["a.example"]})  # what the scene's hello asks for
    policy = replace(hidden, rules=(rule.model_copy(update={"match": match}),))
    text = """
        0.0 > udp peer:443/40001 noise
        0.1 > udp peer:443/40001 quic-hello
        0.2 > udp peer:443/40001 noise
        1.0 > udp peer:443/40002 quic-hello
        1.1 > udp peer:443/40002 noise
        2.0 > udp peer:443/40003 noise
        2.1 > udp peer:8443/40004 noise
        2.2 > udp peer:443/b40005 noise
        130 > udp peer:443/40006 noise
    """
    fates = virtual(scene(text), policy, "fibre", 1).fates["fate"]
    assert "".join(".dxfBl"[int(fate)] for fate in fates) == "ddddxxddd"


def test_hours_are_those_of_the_day() -> None:
    profile, day = load("china-2025-08"), date(2025, 8, 20)
    for clock, rules in (
        (time(0, 33), 0),
        (time(0, 34), 1),
        (time(1, 47, 59), 1),
        (time(1, 48), 0),
    ):
        assert len(profile.policy("port-443", "4g", day, clock).rules) == rules
    assert len(profile.policy("port-443", "4g", day).rules) == 1


def played(operator: str, hypothesis: str, day: date, text: str) -> Any:
    """Return a simulation on 4G."""
    return virtual(scene(text), load(operator).policy(hypothesis, "4g", day), "4g", 1)


def seconds(simulation: Any) -> float:
    """Return how long the packets that came took, from first to last."""
    times = simulation.fates["arrival_time"][simulation.fates["arrival_time"] >= 0]
    return float(times.max() - times.min()) / 1e9


@pytest.mark.parametrize(
    ("operator", "hypothesis", "day", "name", "rate"),
    [
        ("russia-2021", "sni-police", date(2021, 3, 15), "abs.twimg.com", 140),
        ("turkey-2025", "sni-throttle", date(2025, 3, 20), "web.whatsapp.com", 16),
        ("uzbekistan-2021", "sni-shape", date(2021, 9, 1), "login.skype.com", 8),
    ],
)
def test_throttling_by_name_slows_what_it_names_and_nothing_else(
    operator: str, hypothesis: str, day: date, name: str, rate: float
) -> None:
    text = WEB.replace("x20 0.01", "x60 0.01")
    slow = played(operator, hypothesis, day, text.replace("@", name))
    octets = slow.script.held.facts["ip_size"][slow.delivered].sum() - 16_000
    assert octets * 8e-3 / seconds(slow) < 1.5 * rate
    free = played(operator, hypothesis, day, text.replace("@", "other.example"))
    assert seconds(free) < 0.8
    assert free.delivered.all()


def test_upload_throttling_spares_what_comes_to_the_subscriber() -> None:
    text = "0.0 > udp peer:9999 rtp 160 x400 0.02\n0.01 < udp peer:9999 rtp 160 x400 0.02"
    simulation = played("iran-2022", "upload-throttle", date(2022, 10, 1), text)
    up = simulation.script.side == 0
    assert simulation.delivered[~up].all()
    assert simulation.delivered[up].mean() < 0.4


def test_the_timing_only_patent_delays_a_call_and_spares_a_slow_flow() -> None:
    day = date(2020, 1, 1)
    call = "0.0 > udp peer:9999 noise 160 x300 0.02"
    late = played("patent-us8185040", "timing", day, call)
    behind = late.fates["arrival_time"] - late.script.send - late.script.base
    assert (behind[:99] == 0).all()
    assert 400e6 < behind[100:].mean() < 800e6
    slow = played("patent-us8185040", "timing", day, call.replace("0.02", "0.2"))
    assert (slow.fates["arrival_time"] - slow.script.send == slow.script.base).all()


def test_egypts_media_only_block_lets_set_up_pass() -> None:
    (rule,) = load("egypt-2015").policy("media-only", "4g", date(2015, 10, 9)).rules
    assert (rule.act, rule.match.role, rule.hypothesis) == ("drop-media", ["media"], True)


def test_what_ships_is_morocco_the_world_and_mechanisms_by_themselves() -> None:
    assert available() == sorted([*WORLD, *MOROCCO, "mechanisms", "followers"])


@pytest.mark.parametrize("name", WORLD)
def test_every_rule_has_a_grade_and_a_source_and_without_packets_seen_is_a_hypothesis(
    name: str,
) -> None:
    rules = [rule for one in load(name).hypotheses for rule in one.rules]
    assert rules
    for rule in rules:
        assert len(rule.source) > 20
        assert rule.grade in "AB" or rule.hypothesis


def test_the_study_of_mechanisms_has_every_word_of_the_language() -> None:
    study = load("mechanisms")
    rules = [rule for one in study.hypotheses for rule in study.rules_of(one)]
    assert {rule.act for rule in rules} == set(ACTS)
    assert {key for rule in rules for key in rule.match.model_fields_set} == set(Match.model_fields)
    assert {rule.scope for rule in rules} == set(get_args(Scope))
    waits = {key for rule in rules if rule.after for key in rule.after.model_fields_set}
    assert waits == set(After.model_fields)
    of_the_grid = {"access", "begin", "end", "aims", "digest", "note"}
    used_keys = {key for rule in rules for key in rule.model_fields_set}
    assert set(Rule.model_fields) - used_keys <= of_the_grid
    matches = [rule.match for rule in rules]
    assert {kind for one in matches for kind in one.payload} == set(PAYLOADS)
    assert {place for one in matches for place in one.name_in} == {"tls", "quic", "http"}
    assert {one.direction for one in matches} == {None, "up", "down"}


@pytest.mark.parametrize("operator", available())
def test_a_rule_without_packet_evidence_is_a_hypothesis_and_has_a_source(operator: str) -> None:
    profile = load(operator)
    for one in profile.hypotheses:
        for rule in profile.rules_of(one):
            assert rule.hypothesis or rule.grade in "AB", f"{one.id}, {rule.name}"
            assert len(rule.source) > 10
