# SPDX-License-Identifier: BSD-3-Clause
"""The localiser: what it finds of boxes that it can only ask, and what it says of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from midcall.errors import ExperimentError
from midcall.experiments.localise import document, run
from midcall.experiments.localise.clause import ALL, Clause, Earlier, PacketCondition, Windows
from midcall.experiments.localise.delta_debugging import needed, shortest_prefix
from midcall.experiments.localise.found_clause import FoundClause
from midcall.experiments.localise.oracle_session import OracleSession
from midcall.experiments.localise.search import Localisation, localise, minimal_hitting_sets
from midcall.experiments.proofs.localiser import held_out_probes, score
from midcall.experiments.proofs.localiser import random_rules as drawing
from midcall.experiments.proofs.localiser.listed_rules import LISTED_RULES
from midcall.experiments.proofs.localiser.rule import (
    CALL,
    BenchmarkRule,
    Box,
    all_of,
    at,
    match,
    octet,
    sets,
)
from midcall.testbed.conformance.transcript import scene
from midcall.testbed.probing.oracle import NoisyOracle
from midcall.testbed.probing.probe import Ends, Probe, Sent, probe_of

SAMPLE = Path(__file__).parents[2] / "captures" / "samples" / "sample-whatsapp-audio.pcap"
ENDS = Ends(17, bytes([192, 168, 1, 10]), 40000, bytes([198, 51, 100, 9]), 3478)
#: One rule or two of each kind: seconds, where the whole table takes a minute.
FEW = (
    "cookie", "word", "invite", "allocate", "sni-under", "sni-quic", "dns", "ports-near",
    "prefix-24", "size-range", "port-late", "rtp-early", "fast-start", "steady-voice",
    "dns-then-relay", "stun-then-down", "dtls-hello", "tls-print", "size-and-port",
    "and-or-and", "stun-after-packets", "udp-allow-list",
)  # fmt: skip


class Scripted:
    """A box that answers as it is told, and counts how often it was asked."""

    def __init__(self, answers: list[bool]) -> None:
        self.answers, self.asked = answers, 0

    def blocked(self, probe: Probe) -> bool:
        self.asked += 1
        return self.answers[(self.asked - 1) % len(self.answers)]


def packet(time: float = 0, payload: bytes = b"x", up: bool = True, ends: Ends = ENDS) -> Sent:
    return Sent(round(time * 1e9), up, ends, payload)


# ---- reduction and asking


def test_what_is_needed_is_found_among_what_is_not() -> None:
    assert needed(range(100), lambda some: {17, 60, 61} <= set(some)) == [17, 60, 61]
    assert needed(range(5), lambda some: len(some) >= 3) == [2, 3, 4]
    assert shortest_prefix(range(100), lambda some: 41 in some) == list(range(42))


def test_without_noise_a_question_is_one_probe_and_is_not_put_twice() -> None:
    box = Scripted([True])
    asker = OracleSession(box)
    assert [asker.blocked((packet(),)) for _ in range(3)] == [True] * 3
    assert (box.asked, asker.cost.probes, asker.cost.octets) == (1, 1, 29)


def test_a_test_stops_when_answers_agree_and_goes_on_where_they_do_not() -> None:
    agreeing, torn = Scripted([True]), Scripted([True, False, True, True, True, True, True])
    assert OracleSession(agreeing, 0.05, 1e-4).blocked((packet(),))
    assert agreeing.asked == 4  # ln(9999) / ln(19) = 3.13
    assert OracleSession(torn, 0.05, 1e-4).blocked((packet(),))
    assert torn.asked == 6


def test_questions_end_wrongly_no_more_often_than_stated() -> None:
    box = NoisyOracle(Scripted([True]), 0.2, 3)
    asker = OracleSession(box, 0.2, 0.01, budget=10**6)
    wrong = sum(not asker.blocked((packet(payload=b"%d" % n),)) for n in range(2000))
    assert wrong <= 2000 * 0.01 + 3 * (2000 * 0.01) ** 0.5


def test_a_spent_budget_ends_the_search_with_what_is_known() -> None:
    found = localise(
        OracleSession(planted("size-range").oracle(), budget=20), probe_of(scene(CALL))
    )
    assert not found.complete
    assert found.notes == ["the budget of 20 probes is spent"]
    assert found.cost.probes == 20


def test_a_search_goes_on_from_its_state_without_asking_again(tmp_path: Path) -> None:
    base, state = probe_of(scene(CALL)), tmp_path / "state.json"
    first = OracleSession(planted("size-and-port").oracle(), budget=60, state=state, about="x")
    assert not localise(first, base).complete
    second = OracleSession(planted("size-and-port").oracle(), state=state, about="x")
    whole = localise(second, base)
    alone = localise(OracleSession(planted("size-and-port").oracle()), base)
    assert second.reused == 60
    assert (whole.clauses, whole.cost) == (alone.clauses, alone.cost)
    with pytest.raises(ExperimentError, match="holds answers about 'x noise"):
        OracleSession(Scripted([True]), state=state, about="y")


# ---- clauses


def test_a_clause_holds_where_all_that_it_asks_for_is_met() -> None:
    look = PacketCondition(ports=((3478, 3479),), size=(2, 3), up=True)
    clause = Clause(look, Windows(packets=(2, 3), age=(1_000_000_000, 1 << 62)))
    met = packet(1.5, b"xy")
    assert clause.holds((packet(0), met))
    assert not clause.holds((met,))
    assert not clause.holds((packet(0), packet(0.9, b"xy")))
    assert not clause.holds((packet(0), packet(1.5, b"xy", up=False)))
    other = ENDS._replace(far_port=3480)
    assert not clause.holds((packet(0, ends=other), packet(1.5, b"xy", ends=other)))


def test_rows_and_packets_that_come_before_are_counted() -> None:
    row = Clause(PacketCondition(), times=3, gap=(0, 20_000_000))
    assert row.holds(tuple(packet(n * 0.02) for n in range(3)))
    assert not row.holds((packet(0), packet(0.02), packet(0.05)))
    after = Clause(
        PacketCondition(),
        earlier=Earlier(PacketCondition(size=(2, 2)), True, Windows(packets=(3, 1 << 62))),
    )
    assert after.holds((packet(0, b"xy"), packet(1), packet(2)))
    assert not after.holds((packet(0), packet(1, b"xy"), packet(2)))


def test_what_must_be_broken_are_the_minimal_hitting_sets() -> None:
    sets = [frozenset("ab"), frozenset("bc")]
    assert minimal_hitting_sets(sets) == [frozenset("ac"), frozenset("b")]


# ---- the benchmark


def planted(name: str) -> BenchmarkRule:
    return next(one for one in LISTED_RULES if one.name == name)


def test_the_table_has_enough_rules_each_with_a_name_and_all_strike_the_capture() -> None:
    assert len(LISTED_RULES) >= 60
    assert len({one.name for one in LISTED_RULES}) == len(LISTED_RULES)
    base = probe_of(scene(CALL))
    assert all(one.oracle().blocked(base) for one in LISTED_RULES)


@pytest.mark.longest
def test_the_test_set_of_every_rule_has_both_answers() -> None:
    base = probe_of(scene(CALL))
    for one in (planted(name) for name in FEW):
        result = [one.oracle().blocked(probe) for probe in held_out_probes.probes(one, base, 5)]
        assert min(sum(result), len(result) - sum(result)) >= 8, one.name


@pytest.mark.parametrize("name", FEW)
def test_a_planted_rule_is_recovered(name: str) -> None:
    row = score.score_rule(planted(name), probe_of(scene(CALL)), 0.0, 5000, 5)
    assert row["recovered"], row


def test_a_planted_rule_is_recovered_though_one_answer_in_twenty_is_wrong() -> None:
    rows = score.run([0.05], 20_000, 5, [planted(name) for name in ("allocate", "size-and-port")])
    assert score.by_noise(rows)[0]["recovered"] == 2, rows


@pytest.mark.parametrize(
    ("name", "clause"),
    [
        ("size-range", Clause(PacketCondition(size=(151, 200)))),
        ("size-range", Clause(PacketCondition(size=(150, 200), up=True))),
        ("ports-near", Clause(PacketCondition(ports=((3478, 3480),)))),
        ("sni-under", Clause(PacketCondition())),
        ("port-late", Clause(PacketCondition(ports=((9000, 9000),)), Windows(packets=(6, ALL[1])))),
    ],
)
def test_a_wrong_finding_is_no_recovery(name: str, clause: Clause) -> None:
    def guess(asker: OracleSession, base: Probe) -> Localisation:
        asker.blocked(base)
        return Localisation([FoundClause(clause, base, (0,))], cost=asker.cost)

    base = probe_of(scene(CALL))
    row = score.score_rule(planted(name), base, 0.0, 5000, 5, guess)
    assert not row["recovered"]
    assert row["tests_wrong"] > 0


# ---- captures and words


def test_a_capture_is_localised_with_its_addresses_masked() -> None:
    result = run.localise_capture(
        SAMPLE, "maroc-telecom/stun", "4g", None, run.Options(reveal=False)
    )
    assert result["sufficient"] == [["stun"]]
    text = document.formatted(result, "text", False)
    assert "blocked if is a STUN message" in text
    assert "[21 12 a4 42]" in text
    assert "198.18.x.x" in text
    assert result["cost"]["probes"] < 200
    assert json.loads(document.formatted(result, "json", False)) == result


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ("maroc-telecom", "expected OPERATOR/HYPOTHESIS"),
        ("maroc-telecom/stun/nobody", "no rule 'nobody'"),
    ],
)
def test_what_cannot_be_asked_is_said(words: str, says: str) -> None:
    with pytest.raises(ExperimentError, match=says):
        run.localise_capture(SAMPLE, words, "4g", None, run.Options())


def test_the_report_shows_how_many_rules_were_recovered() -> None:
    from midcall.experiments.measure.summary import localise as figures
    from midcall.experiments.results.schema import table

    rows = score.run([0.0], 5000, 5, [planted("cookie"), planted("port-late")])
    assert table("localise", rows).num_rows == 2
    result = figures(rows)
    assert (result["planted"], result["recovered"], result["noise"]) == (2, 2, 0.0)
    assert result["probes_p50"] <= result["probes_p95"]


# ---- rules drawn by chance


@pytest.fixture(scope="module")
def drawn_rules() -> tuple[BenchmarkRule, ...]:
    return drawing.draw_rules(5, len(drawing.KINDS))


@pytest.mark.longest
def test_equal_seeds_draw_equal_rules_of_every_kind(
    drawn_rules: tuple[BenchmarkRule, ...],
) -> None:
    assert [one.kind for one in drawn_rules] == list(drawing.KINDS)
    again = drawing.draw_rules(5, 4)
    assert [(one.name, one.call, one.needs, one.edges) for one in again] == [
        (one.name, one.call, one.needs, one.edges) for one in drawn_rules[:4]
    ]
    assert drawn_rules[0].call != drawing.draw_rules(6, 1)[0].call


@pytest.mark.longest
def test_most_drawn_rules_are_recovered(drawn_rules: tuple[BenchmarkRule, ...]) -> None:
    rows = score.run([0.0], 5000, 5, drawn_rules, rule_set="drawn")
    missed = [(row["rule"], row["cause"]) for row in rows if not row["recovered"]]
    assert len(missed) <= 2, missed
    assert {row["set"] for row in rows} == {"drawn"}


@pytest.mark.parametrize(
    ("rule", "needs"),
    [
        (match('protocol = "udp", bytes = "273-603"', 'scope = "packet"'), "protocol, bytes"),
        (match('protocol = "tcp", bytes = "412-"', 'scope = "packet"'), "protocol, bytes"),
        (match('size = "1-57"', "after = { bytes = 952 }"), ""),
        (match('name = ["*.a.example"], name_in = ["quic"]'), "name"),
        (match('size = "1-113", protocol = "udp"', 'scope = "packet"'), "size, protocol"),
        (octet(22, lambda o: o == 0), "octets[22:23]"),
        (all_of(at(16, "2d"), at(18, "2d")), "octets[16:17] octets[18:19]"),
    ],
)
def test_what_looks_like_something_else_is_told_from_it(rule: str | Box, needs: str) -> None:
    hard = BenchmarkRule("hard", "hard", rule, sets(needs) if needs else ())
    row = score.score_rule(hard, probe_of(scene(CALL)), 0.0, 5000, 5)
    assert row["recovered"], row
