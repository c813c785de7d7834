# SPDX-License-Identifier: BSD-3-Clause
"""Conformance: every word of the language does what its scenario says, and is needed for it."""

from __future__ import annotations

from typing import Any

import pytest

from midcall.captures.packets.pcap import Packets
from midcall.testbed.conformance import coverage, run
from midcall.testbed.conformance.run import check, rules_of
from midcall.testbed.conformance.scenarios import SCENARIOS, Scenario
from midcall.testbed.middlebox.rule_table import ANY, FOREVER, table
from midcall.testbed.policy.language import ACTS, PARAMETERS, After, Match, Rule
from midcall.testbed.replay.simulator import simulate

#: Keys of a rule that do nothing to packets, and those that a scenario's name spells otherwise.
WORDS = {
    "name",
    "match",
    "act",
    "scope",
    "after",
    "digest",
    "grade",
    "source",
    "hypothesis",
    "aims",
    "note",
}
SPELT = {"begin": "from", "end": "to"}

OPEN = (-FOREVER, FOREVER)
NOTHING = (0, 0)
#: key -> columns of testbed.rules.RULE, as they are where the key is ignored.
IGNORED: dict[str, dict[str, Any]] = {
    "match.app": {"apps": 0, "verdict": 0, "roles": 0},
    "match.role": {"roles": 0},
    "match.verdict": {"verdict": 3},
    "match.stun": {"stun": ANY},
    "match.stun_method": {"methods": NOTHING},
    "match.stun_attribute": {"attributes": NOTHING},
    "match.payload": {"payloads": 0},
    "match.name": {"names": NOTHING},
    "match.name_in": {"name_kinds": 0xFF},
    "match.dns": {"questions": NOTHING},
    "match.resolved": {"more": 0},
    "match.hello": {"hellos": NOTHING},
    "match.size": {"size": OPEN},
    "match.dscp": {"dscp": -1},
    "match.one_in": {"one_in": 1 << 31},
    "match.entropy": {"entropy": OPEN},
    "match.direction": {"direction": ANY},
    "match.addresses": {"prefixes": NOTHING},
    "match.ports": {"ports": ANY},
    "match.protocol": {"proto": ANY},
    "match.packets": {"packets": OPEN},
    "match.bytes": {"bytes": OPEN},
    "match.seconds": {"age": OPEN},
    "rule.way": {"way": ANY},
    "rule.on_s": {"phase": (30 * 10**9, 30 * 10**9)},
    "rule.off_s": {"phase": (10**10, 10**10)},
    "rule.probability": {"chance": 1 << 31},
    "rule.per": {"per_client": 0},
    "rule.path": {"on_path": 0},
    "rule.towards": {"towards": 3},
    "rule.lasts_s": {"lasts": FOREVER},
    "after.packets": {"waits": 0},
    "after.bytes": {"waits": 0},
    "after.seconds": {"waits": 0},
    "after.flows": {"waits": 0},
    "after.direction": {"after_way": ANY},
    "after.per": {"after_scope": 1},
    "after.every_s": {"renewal": (0, 0)},
    "after.idle_s": {"renewal": (0, 0)},
    "rule.resets": {"resets": (0, ANY, ANY, ANY, ANY, ANY, ANY, ANY)},
    "rule.hops": {"hops": 64},
    "rule.ip_id": {"ip_id": 0},
    "rule.code": {"icmp": (0x030D, 0x0101)},
    "rule.answer": {"answer": (1, 0xC6120042, 0, 0, 0, 0)},
}
#: Keys that decide before there is a table, so that no column holds them.
BEFORE = ("rule.access", "rule.from", "rule.to", "rule.hours")
FAIL = ("fail.open", "fail.closed")
SEES = ("sees.up", "sees.down")
#: Columns of testbed.link.LINK that a parameter of an act becomes.
LINKS = {
    "act.delay": ("delay",), "act.jitter": ("jitter",), "rule.jitter_ms": ("jitter",),
    "act.loss": ("loss",), "rule.burst": ("to_bad",), "act.police": ("police",),
    "act.shape": ("rate",), "act.prioritise": ("first",), "act.reorder": ("reorder",),
}  # fmt: skip


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda one: f"{one.key} {one.says[:40]}")
def test_a_scenario_comes_out_as_its_table_says(scenario: Scenario) -> None:
    assert check(scenario).problem == ""


@pytest.mark.parametrize(
    "scenario", [one for one in SCENARIOS if not one.measured], ids=lambda one: one.says[:40]
)
def test_a_scenario_comes_out_the_same_at_another_time(scenario: Scenario) -> None:
    def later(packets: Packets, policy: Any, access: str, seed: int, seen: Any) -> Any:
        shift = 12_345_678_901_234
        moved = packets._replace(time=packets.time + shift)
        seen = None if seen is None else seen._replace(time=seen.time + shift)
        return simulate(moved, [], [], policy, access, seed, dressed=seen)

    assert check(scenario, later).problem == ""


def broken(scenario: Scenario, columns: dict[str, Any], links: tuple[str, ...] = ()) -> Any:
    """Return a player whose box ignores some columns of every rule and link."""

    def made(policy: Any, seed: int, access: str = "fibre") -> Any:
        box = table(policy, seed, access)
        for column, value in columns.items():
            box.rules[column] = value
        for column in links:
            box.links[column] = 0
        return box

    def play(packets: Any, policy: Any, access: str, seed: int, seen: Any) -> Any:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("midcall.testbed.replay.simulator.table", made)
            return simulate(packets, [], [], policy, access, seed, dressed=seen)

    return play


def keys(prefix: str) -> list[str]:
    return sorted({one.key for one in SCENARIOS if one.key.startswith(prefix)})


@pytest.mark.parametrize("key", list(IGNORED))
def test_a_scenario_fails_when_its_key_is_ignored(key: str) -> None:
    scenarios = [one for one in SCENARIOS if one.key == key]
    assert any(not check(one, broken(one, IGNORED[key])).passed for one in scenarios)


@pytest.mark.parametrize("key", list(LINKS))
def test_a_scenario_fails_when_its_link_does_nothing(key: str) -> None:
    scenarios = [one for one in SCENARIOS if one.key == key]
    assert all(not check(one, broken(one, {}, LINKS[key])).passed for one in scenarios)


@pytest.mark.parametrize("key", keys("act."))
def test_a_scenario_fails_when_another_act_is_done(key: str) -> None:
    scenarios = [one for one in SCENARIOS if one.key == key]
    other = "drop" if key == "act.pass" else "pass"
    assert all(not check(one, broken(one, {"act": ACTS.index(other)})).passed for one in scenarios)


@pytest.mark.parametrize("key", keys("scope."))
def test_a_scenario_fails_under_every_other_scope(key: str) -> None:
    (one,) = [one for one in SCENARIOS if one.key == key]
    word = key.removeprefix("scope.")
    scopes = ("packet", "flow", "call", "client", "pair", "server", "triple")
    for number, other in enumerate(scopes):
        assert check(one, broken(one, {"scope": number, "remembers": 1})).passed is (other == word)


@pytest.mark.parametrize("key", BEFORE)
def test_a_scenario_fails_when_a_rule_holds_always(
    key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenarios = [one for one in SCENARIOS if one.key == key]
    monkeypatch.setattr(Rule, "holds", lambda *arguments: True)
    assert any(not check(one).passed for one in scenarios)


@pytest.mark.parametrize("key", FAIL)
def test_a_scenario_fails_when_a_box_fails_the_other_way(key: str) -> None:
    (one,) = [one for one in SCENARIOS if one.key == key]
    assert not check(one._replace(closed=not one.closed)).passed


@pytest.mark.parametrize("key", SEES)
def test_a_scenario_fails_when_a_box_sees_both_directions(key: str) -> None:
    (one,) = [one for one in SCENARIOS if one.key == key]
    assert not check(one._replace(sees=None)).passed


def test_every_documented_match_act_and_scope_has_a_scenario_that_can_fail() -> None:
    proven = {one.key for one in SCENARIOS}
    broken_somewhere = {*IGNORED, *LINKS, *BEFORE, *FAIL, *SEES, *keys("act."), *keys("scope.")}
    rows = dict(coverage.EVERY)
    assert len(rows) == len(coverage.EVERY)
    for words, needed in rows.items():
        assert needed, words
        assert set(needed) <= proven & broken_somewhere, words
    assert proven == {key for needed in rows.values() for key in needed}


def test_every_word_of_the_language_has_a_scenario() -> None:
    proven = {one.key for one in SCENARIOS}
    fields = {SPELT.get(name, name) for name in Rule.model_fields} - WORDS
    parameters = {key for both in PARAMETERS.values() for keys in both for key in keys}
    shown = {key for one in SCENARIOS for rule in rules_of(one) for key in rule.model_fields_set}
    assert {f"match.{name}" for name in Match.model_fields} <= proven
    assert {f"rule.{name}" for name in fields - parameters} <= proven
    assert {f"after.{name}" for name in After.model_fields} <= proven
    assert {f"act.{name}" for name in ACTS} <= proven
    assert parameters <= shown
    broken_somewhere = {*IGNORED, *LINKS, *BEFORE, *FAIL, *SEES, *keys("act."), *keys("scope.")}
    assert proven <= broken_somewhere


def test_a_problem_tells_what_was_got_and_what_was_expected() -> None:
    one = SCENARIOS[0]._replace(fates="ddd")
    assert check(one).problem == "fates: got xxd, expected ddd"
    outcomes = run.check_all(some=[SCENARIOS[0], one])
    assert [outcome.passed for outcome in outcomes] == [True, False]
