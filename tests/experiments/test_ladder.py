# SPDX-License-Identifier: BSD-3-Clause
"""Ladders of calls: their counts, what they never fold, and what they say."""

from __future__ import annotations

import io
import json
import re
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from midcall.captures.fetch.locate import locate_capture
from midcall.captures.own.anonymise import anonymised
from midcall.captures.packets.pcap import Packets, read
from midcall.captures.truth import catalogue
from midcall.captures.truth.calls import Call, calls
from midcall.experiments.cells import run_cells
from midcall.experiments.cells.run_cells import Played
from midcall.experiments.cells.virtual_cell import Bench
from midcall.experiments.cli.app import app
from midcall.experiments.jobs.progress import Log
from midcall.experiments.measure import formatting
from midcall.experiments.report import html, language
from midcall.experiments.report import ladder as drawn
from midcall.experiments.report.sections import calls as sections_of_calls
from midcall.experiments.report.sections import your_captures as yours
from midcall.experiments.results import reader, schema
from midcall.experiments.results.tables import LadderLine
from midcall.experiments.run import ladders
from midcall.experiments.spec import corpus as corpora
from midcall.experiments.spec import policy_names
from midcall.experiments.spec import spec as specs
from midcall.experiments.spec.corpus import Corpus, Item
from midcall.experiments.spec.grid import Cell, cells, load_operators
from midcall.experiments.spec.options import Options
from midcall.experiments.tools import ladder as made
from midcall.experiments.tools.explain import explain
from midcall.testbed.replay import packet_trace
from midcall.testbed.replay.simulator import Simulation, simulate
from tests.experiments.fake_run import NASTY, fake_run
from tests.experiments.own_policy import own_policy

COUNTS = ("sent", "delivered", "dropped", "lost", "injected", "not_sent")
ADDRESS = re.compile(r"\b\d{1,3}(\.\d{1,3}){3}\b")
#: One of each kind of act: a rule that reads a verdict, a port, a name; one that answers, one that
#: delays, one that loses, one that waits.
PLAYS = [
    ("sample-whatsapp-audio", "maroc-telecom/signature"),
    ("sample-whatsapp-audio", "maroc-telecom/media-only"),
    ("sample-whatsapp-audio", "maroc-telecom/ports"),
    ("sample-whatsapp-audio", "maroc-telecom/dns-lie"),
    ("sample-skype-audio", "mechanisms/delay"),
    ("sample-messenger-audio", "mechanisms/loss"),
    ("sample-messenger-audio", "mechanisms/after-bytes"),
    ("sample-sip-audio", "mechanisms/sip"),
    ("sample-viber-audio", "none"),
]


def capture(name: str) -> tuple[Path, Packets, Call]:
    path, _ = locate_capture(name, None)
    entry = catalogue.load(local=False).named(name)
    return path, read(path), calls(entry.sha256)[0]


def play(packets: Packets, call: Call, policy: str) -> tuple[Simulation, Simulation]:
    named = policy_names.named(policy, "4g", None)
    return tuple(  # type: ignore[return-value]
        simulate(packets, [call], [], rules, "4g", 7, addressing="keep")
        for rules in (named.policy, None)
    )


@pytest.fixture(scope="module", params=PLAYS, ids=" ".join)
def played(request: pytest.FixtureRequest) -> tuple[Simulation, list[LadderLine]]:
    name, policy = request.param
    _, packets, call = capture(name)
    simulation, control = play(packets, call, policy)
    return simulation, made.ladder(simulation, control, call)


def test_the_counts_of_a_ladder_are_those_of_the_table_of_fates(
    played: tuple[Simulation, list[LadderLine]],
) -> None:
    simulation, lines = played
    fates = list(packet_trace.rows(simulation))
    by_fate = Counter(row["fate"] for row in fates)
    total = {key: sum(line[key] for line in lines) for key in COUNTS}  # type: ignore[literal-required]
    assert total == packet_trace.counts(simulation)
    assert total["dropped"] == by_fate["dropped"]
    assert total["not_sent"] == by_fate["not_sent"]
    arrived = sum(row["arrived_s"] is not None for row in fates if row["fate"] == "delivered")
    assert total["delivered"] == arrived
    for line in lines:
        assert line["sent"] == line["delivered"] + line["dropped"] + line["lost"]
        assert line["delayed"] <= line["delivered"]


def test_a_line_of_one_packet_says_what_the_table_of_fates_says_of_it(
    played: tuple[Simulation, list[LadderLine]],
) -> None:
    simulation, lines = played
    fates = {
        (row["frame"], row["attempt"]): row
        for row in packet_trace.rows(simulation)
        if row["fate"] != "injected"
    }
    single = [line for line in lines if line["kind"] == "packet"]
    assert single
    for line in single:
        fate = fates[line["frame"], line["attempt"]]
        assert line["direction"] == fate["direction"]
        assert line["delivered"] == (fate["fate"] == "delivered")
        assert line["dropped"] == (fate["fate"] == "dropped")
        assert (line["rule"] or "") == fate["rule"]
        if fate["arrived_s"] is not None:
            took = fate["arrived_s"] - fate["sent_s"]
            assert line["arrived_s"] - line["begin_s"] == pytest.approx(took)  # type: ignore[operator]


def test_lines_are_few_and_in_order_of_time(played: tuple[Simulation, list[LadderLine]]) -> None:
    _, lines = played
    arrows = [line for line in lines if line["kind"] not in drawn.NOTES]
    assert len(arrows) <= made.LINES
    begins = [line["begin_s"] for line in arrows]
    assert begins[0] == 0
    assert begins == sorted(begins)  # type: ignore[type-var]
    assert [line["line"] for line in lines] == list(range(1, len(lines) + 1))


def test_no_address_is_in_a_ladder(played: tuple[Simulation, list[LadderLine]]) -> None:
    _, lines = played
    assert not ADDRESS.search(json.dumps(lines))
    assert any(line["remote"] and ".x.x" in line["remote"] for line in lines)


def test_the_first_packet_that_a_rule_acted_on_has_its_own_line(
    played: tuple[Simulation, list[LadderLine]],
) -> None:
    simulation, lines = played
    acting = [line for line in lines if line["acts"]]
    watched = made.own_packets(simulation, simulation, simulation.calls[0]).watched
    ruled = [
        row
        for row in packet_trace.rows(simulation)
        if row["rule"] and row["fate"] != "injected" and watched[row["frame"] - 1]
    ]
    if not ruled:
        assert not acting
        return
    [line] = acting
    first = min(ruled, key=lambda row: row["sent_s"])
    assert (line["kind"], line["frame"], line["rule"]) == ("packet", first["frame"], first["rule"])


@pytest.mark.parametrize("name", ["sample-whatsapp-audio", "sample-viber-audio"])
def test_a_control_arrives_whole_and_says_what_explain_says(name: str) -> None:
    path, packets, call = capture(name)
    _, control = play(packets, call, "none")
    lines = made.ladder(control, control, call)
    assert sum(line["delivered"] for line in lines) == sum(line["sent"] for line in lines) > 0
    assert not any(line["acts"] or line["rule"] for line in lines)
    [line] = [line for line in lines if line["decided_by"]]
    assert line["recognises"]
    explained, _ = explain(str(path), f"frame.number == {line['frame']}")
    [packet] = [one for one in explained["shown"] if one["frame"] == line["frame"]]
    assert line["evidence"] == packet["rule"]
    after = packet["after"]
    assert line["named"] == f"{after['verdict']} {after['app']} {after['role']}"
    marks = [[mark["at"], mark["length"], mark["caption"]] for mark in packet["marks"]]
    assert json.loads(line["marks"] or "[]") == marks
    cells = packet["hex"].split(" ")
    at = line["octets_at"]
    assert line["octets"]
    assert at is not None
    shown = line["octets"].split(" ")
    assert shown == cells[at : at + len(shown)]


def test_a_rule_that_reads_no_verdict_decides_by_its_match() -> None:
    _, packets, call = capture("sample-whatsapp-audio")
    lines = made.ladder(*play(packets, call, "maroc-telecom/dns-lie"), call)
    [line] = [line for line in lines if line["decided_by"]]
    assert (line["decided_by"], line["recognises"], line["acts"]) == ("rule", False, True)
    assert line["evidence"] == 'dns = ["*.whatsapp.net", "*.whatsapp.com"]'
    [(at, length, _)] = json.loads(line["marks"] or "[]")
    cells = (line["octets"] or "").split(" ")[at - (line["octets_at"] or 0) :][:length]
    assert bytes.fromhex("".join(cells)) == b"\x08whatsapp\x03net"


def test_a_verdict_with_an_allowance_decides_before_the_rule_acts(tmp_path: Path) -> None:
    _, packets, call = capture("sample-whatsapp-audio")
    policy = own_policy(
        tmp_path, 'match = { app = ["whatsapp"] }\nact = "drop"\nafter = { packets = 10 }'
    )
    lines = made.ladder(*play(packets, call, policy), call)
    [decided] = [line for line in lines if line["decided_by"]]
    [acting] = [line for line in lines if line["acts"]]
    assert (decided["decided_by"], decided["delivered"]) == ("classifier", 1)
    assert (acting["dropped"], acting["evidence"]) == (1, None)
    assert decided["line"] < acting["line"]
    assert decided["remote"] == acting["remote"]


def test_a_forged_frame_has_its_own_line_behind_the_packet_that_it_answers(tmp_path: Path) -> None:
    _, packets, call = capture("sample-messenger-audio")
    policy = own_policy(
        tmp_path, 'match = { protocol = "tcp", payload = ["stun"] }\nact = "reset"\n'
    )
    lines = made.ladder(*play(packets, call, policy), call)
    [acting] = [line for line in lines if line["acts"]]
    forged = [line for line in lines if line["kind"] == "injected"]
    assert {line["direction"] for line in forged} == {"up", "down"}
    assert all(line["frame"] == acting["frame"] for line in forged)
    assert all(line["line"] > acting["line"] for line in forged)
    words = {drawn.Rung(line).words for line in forged}
    assert words == {"TCP reset: forged by the box (rule one)"}


WITHOUT = ("remote", "octets", "marks", "octets_at")


def test_an_anonymised_capture_has_the_same_ladder_apart_from_addresses() -> None:
    _, packets, call = capture("sample-whatsapp-audio")
    ladders_of = [
        made.ladder(*play(some, call, "maroc-telecom/signature"), call)
        for some in (packets, anonymised(packets, b"k" * 32))
    ]
    plain, masked = (
        [{key: value for key, value in line.items() if key not in WITHOUT} for line in lines]
        for lines in ladders_of
    )
    for one in (*plain, *masked):  # a host name may get another length
        one["bytes"] = 0
    assert plain == masked


def test_a_shifted_clock_has_the_same_ladder() -> None:
    _, packets, call = capture("sample-skype-audio")
    later = packets._replace(time=packets.time + 86_400_000_000_000)
    one, other = (
        made.ladder(*play(some, call, "mechanisms/delay"), call) for some in (packets, later)
    )
    assert one == other


# ---- which packets have a line of their own


def events(groups: list[int]) -> made.Events:
    count = len(groups)
    zeros = np.zeros(count, np.int64)
    steps = np.arange(count)
    sort = np.array(groups, np.int64) % made.SORTS
    side = np.array(groups, np.int64) // made.SORTS
    return made.Events(
        steps, steps, steps, zeros - 1, side, steps, zeros, zeros + 1, zeros - 1, sort
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, made.GROUPS - 1), min_size=1, max_size=400), st.data())
def test_folding_never_hides_the_deciding_packet(groups: list[int], data: st.DataObject) -> None:
    some = events(groups)
    place = st.integers(-1, len(groups) - 1)
    deciding, acting = data.draw(place), data.draw(place)
    media = np.array(groups) % 2 == 0
    single = made.chosen(some, made.wanted(some, media, deciding, acting))
    assert all(single[at] for at in (deciding, acting) if at >= 0)
    lines = list(made.folded(some, single))
    assert len(lines) == made.lines_of(some.group, single) <= made.LINES
    assert sorted(np.concatenate(lines).tolist()) == list(range(len(groups)))
    assert all(len(set(some.group[line].tolist())) == 1 for line in lines)
    firsts = [int(line[0]) for line in lines]
    assert firsts == sorted(firsts)


# ---- the cell for which a run draws a call


def cell(operator: str, grade: str) -> Cell:
    rules = (SimpleNamespace(name="r", grade=grade, hypothesis=False),)
    return Cell(operator, "h", "A title", "4g", "2016-01-20", True, SimpleNamespace(rules=rules))


@pytest.mark.parametrize(
    ("blocked", "touched", "chosen"),
    [
        ((False, True, True), (False, True, True), (2, True)),  # the better grade of two
        ((False, False, False), (False, True, False), (1, True)),
        ((False, False, False), (False, False, False), (0, False)),
    ],
)
def test_a_call_is_drawn_for_the_cell_that_blocks_it_by_the_best_rule(
    blocked: tuple[bool, ...], touched: tuple[bool, ...], chosen: tuple[int, bool]
) -> None:
    entry = catalogue.load(local=False).named("sample-whatsapp-audio")
    call = calls(entry.sha256)[0]
    outcomes: dict[int, Any] = {
        at: {
            "key": str(at),
            "calls": [
                {
                    "sha256": entry.sha256, "call": call.id, "rule": "r", "blocked": blocks,
                    "timeline": {"seconds": 1} if touches else {},
                }
            ],
        }
        for at, (blocks, touches) in enumerate(zip(blocked, touched, strict=True))
    }  # fmt: skip
    grid = [cell("inwi", "A"), cell("meditel", "C"), cell("maroc-telecom", "B")]
    captures = Corpus([Item(entry, Path(), [call], [])], [])
    [one] = ladders.chosen(grid, captures, ["whatsapp"], Played(outcomes, set(), {}))
    assert (one.at, one.acts) == chosen
    assert ladders.chosen(grid, captures, ["viber"], Played(outcomes, set(), {})) == []


def test_a_run_keeps_its_ladders_and_draws_a_call_under_what_blocks_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = specs.load("smoke")[0]
    found = corpora.gather(spec, None, offline=True)
    names = ("sample-viber-audio", "sample-whatsapp-audio")
    captures = Corpus([item for item in found.items if item.capture.name in names], [])
    grid = [
        one
        for one in cells(spec, load_operators(spec))
        if one.documented and one.access == "4g" and one.hypothesis in ("ports", "media-only")
    ]
    log = Log()
    options = Options(jobs=1, cells=tmp_path / "cells", stream=io.StringIO())
    bench = run_cells.bench_of(spec, captures.items, options, log)
    played = run_cells.simulate_all(grid, bench, options, log)
    rows = ladders.rows(grid, captures, spec.apps, played, bench, options, log)
    schema.table("ladders", rows)
    verdicts = {
        (entry["sha256"], entry["rule"]): entry["blocked"]
        for outcome in played.outcomes.values()
        for entry in outcome["calls"]
    }
    assert any(verdicts.values()), "no cell of this grid blocks a call, so nothing is compared"
    for item in captures.items:
        own = [row for row in rows if row["capture"] == item.capture.name]
        rules = {rule for row in own for rule in (row["rule"] or "").split(", ")} - {""}
        assert {row["operator"] for row in own} == {"maroc-telecom"}
        assert any(verdicts.get((item.capture.sha256, rule)) for rule in rules)
        assert "maroc-telecom/4g/2016-01-20" in own[0]["places"]
    monkeypatch.setattr(Bench, "run", None)  # any simulation would fail
    again = run_cells.bench_of(spec, captures.items, options, log)
    assert ladders.rows(grid, captures, spec.apps, played, again, options, log) == rows


# ---- words


def test_text_has_one_line_per_line_of_the_ladder_and_the_bytes() -> None:
    _, packets, call = capture("sample-whatsapp-audio")
    lines = made.ladder(*play(packets, call, "maroc-telecom/signature"), call)
    text = list(drawn.text(lines))
    arrows = [line for line in text if re.search(r"[|X][-<>|= X\d]*\|", line)]
    assert len(arrows) == sum(line["kind"] not in drawn.NOTES for line in lines)
    [deciding] = [line for line in text if "the box recognises the call here" in line]
    assert "|-------->X         |" in deciding
    assert "STUN Allocate request, 154 bytes: dropped by the box (rule whatsapp-call)" in deciding
    assert any("[40 00]" in line for line in text)
    assert "packets of the call were never sent" in text[-1]


def test_arrows_show_the_way_and_where_it_ends() -> None:
    def line(**values: Any) -> str:
        return drawn.arrow(drawn.Rung({**made.EMPTY, "kind": "packet", **values}))  # type: ignore[typeddict-item]

    one = {"frame": 1, "sent": 1}
    assert line(**one, direction="up", delivered=1) == "|-------->|-------->|"
    assert line(**one, direction="down", delivered=1) == "|<--------|<--------|"
    assert line(**one, direction="up", dropped=1) == "|-------->X         |"
    assert line(**one, direction="down", dropped=1) == "|         X<--------|"
    assert line(frame=1, direction="down", injected=1) == "|<========|         |"
    assert line(frame=1, direction="up", injected=1) == "|         |========>|"
    assert line(direction="up", sent=412, delivered=3) == "|--412--->|---3---->|"
    assert line(direction="down", sent=412, delivered=3) == "|<---3----|<--412---|"


@pytest.mark.parametrize("code", ["fr", "ar"])
def test_words_of_a_ladder_are_translated(code: str) -> None:
    _, packets, call = capture("sample-whatsapp-audio")
    lines = made.ladder(*play(packets, call, "maroc-telecom/signature"), call)
    with formatting.speaking(language.language(code)):
        words = " ".join(
            f"{rung.words} {rung.turns} {rung.origin}" for rung in map(drawn.Rung, lines)
        )
    for english in ("arrived", "dropped", "packets", "never sent", "recognises", "caller"):
        assert english not in words


def sections(run: Path, code: str) -> tuple[str, str]:
    """Return the sections of all calls and of the user's captures in a language."""
    found, engine = reader.read(run), html.environment()
    with formatting.speaking(language.language(code)):
        view = {"files": ["ladders.csv"], **sections_of_calls.build(found), **yours.build(found)}
        pieces = engine.get_template("pieces.html").make_module(dict(view))
        values = view | {"pieces": pieces}
        every, own = (
            engine.get_template(name).render(values) for name in ("calls.html", "yours.html")
        )
    return every, own


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("en", "412 packets (media): 3 arrived; 409 dropped by the box (rule sig-rule)"),
        ("fr", "412 paquets (media) : 3 arrivés ; 409 jetés par le boîtier"),
        ("ar", "وصلت 3 حزم"),
    ],
)
def test_a_call_of_the_report_opens_as_a_ladder(tmp_path: Path, code: str, words: str) -> None:
    every, own = sections(fake_run(tmp_path / "run"), code)
    assert words in re.sub("[\u202f\xa0]", " ", every)
    assert every.count('<details class="ladder"') == 2
    assert own.count('<details class="ladder"') == 1
    assert '<details class="ladder" data-place="inwi/4g/2016-01-20">' in every
    assert '<mark class="t1" title="attribute 0x4000">40</mark>' in every
    assert 'href="ladders.csv"' in every
    assert NASTY not in every + own


def test_the_command_prints_the_ladder_and_gives_it_as_json() -> None:
    words = ["replay", "sample-messenger-audio", "--policy", "mechanisms/loss", "--ladder"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "ladder of call call-1:" in done.stdout
    listed = json.loads(CliRunner().invoke(app, [*words, "--json"]).stdout)
    lines = listed["ladders"]["call-1"]
    assert all(text in done.stdout for text in drawn.text(lines))
    assert "ladders" not in json.loads(CliRunner().invoke(app, [*words[:-1], "--json"]).stdout)
