# SPDX-License-Identifier: BSD-3-Clause
"""The evaluation: measures of hand-made rows, and a small one from captures to page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from midcall.captures.packets.pcap import read
from midcall.captures.truth import calls as call_truth
from midcall.captures.truth import labels as label_truth
from midcall.captures.truth.catalogue import load
from midcall.classifier.engine import Engine
from midcall.classifier.state.verdicts import APPS, SKYPE, TEAMS, WHATSAPP
from midcall.experiments.accuracy import baseline_tree, measure_flows, run, scores, traffic_kinds
from midcall.experiments.accuracy.peers import labels
from midcall.experiments.accuracy.perturb import COLUMNS, disturb
from midcall.experiments.cells import offline
from midcall.experiments.report import evaluation
from midcall.experiments.report.html import environment, render
from midcall.experiments.results import schema
from midcall.experiments.spec.corpus import Item
from midcall.testbed.replay.packet_index import index_packets
from tests.experiments.small_spec import small_spec

SAMPLES = Path(__file__).resolve().parents[2] / "captures" / "samples"
Row = dict[str, Any]

SPEC = small_spec("sample-whatsapp-audio", "sample-viber-audio", "sample-dns")


def row(truth: str, said: str, verdict: str = "certain", **more: Any) -> Row:
    """Return a media flow of an app that the engine called another."""
    made: Row = {
        "truth_app": truth, "truth_role": "media", "truth_confidence": "high", "truth_call": "c",
        "verdict": verdict, "app": said, "role": "media", "packets": 9, "confidence": 0.9,
        "group": "g", "synthetic": False, "innocent": False, "why": "", "features": [0.0],
        "packets_to_verdict": 3, "ms_to_verdict": 1.0, "octets": 100, "bare": False, "left": "",
        "content": "",
    }  # fmt: skip
    made |= more
    return made | {"outcome": "unscored" if made["why"] else scores.outcome(made)}


def quiet(said: str = "none", verdict: str = "not-call", **more: Any) -> Row:
    """Return an innocent flow."""
    claim = {"truth_role": "other", "innocent": True, "truth_call": None}
    role = "media" if verdict == "certain" else "other"
    return row("none", said, verdict, **{"role": role, **claim, **more})


def item(name: str) -> Item:
    """Return a committed sample with its truth."""
    one = load(local=False).named(name)
    calls, labels = call_truth.calls(one.sha256), label_truth.labels(one.sha256)
    return Item(one, SAMPLES / one.file, calls, labels)


ROWS = [
    row("whatsapp", "whatsapp"),
    row("whatsapp", "rtc"),
    row("viber", "whatsapp"),
    row("viber", "viber", truth_role="setup"),
    row("viber", "none", "not-call", role="other"),
    row("teams", "skype", why="short"),
    quiet(),
    quiet("sip", "certain"),
]


# ---- measures


def test_a_call_without_a_name_is_unsure_whose_and_not_a_wrong_app() -> None:
    assert [one["outcome"] for one in ROWS] == [
        "right", "unsure", "other_call", "right", "missed", "unscored", "quiet", "false_call",
    ]  # fmt: skip


def test_one_line_counts_every_outcome_role_call_and_flow_that_is_not_scored() -> None:
    line = scores.summary(ROWS, 7, "x")
    assert [line[key] for key in ("n", "right", "other_call", "unsure", "missed")] == [
        5, 2, 1, 1, 1,
    ]  # fmt: skip
    assert [line[key] for key in ("call_tp", "call_fp", "call_fn")] == [4, 1, 1]
    assert line["call_f1"] == pytest.approx(8 / 10)
    assert (line["role_n"], line["role_right"]) == (2, 1)
    assert (line["innocent"], line["false_calls"]) == (2, 1)
    assert (line["short"], line["absent"]) == (1, 0)
    assert (line["calls"], line["calls_right"], line["calls_low"]) == (1, 1, None)
    assert line["low"] is None  # one capture group
    whatsapp, viber = 2 * 1 / (2 * 1 + 1 + 1), 2 * 1 / (2 * 1 + 2)
    assert line["macro_f1"] == pytest.approx((whatsapp + viber) / 2)
    assert line["macro_f1_often"] is None
    assert (line["p50"], line["p95"], line["p99"]) == (3, 3, 3)
    assert (line["ms_p50"], line["ms_p95"], line["ms_p99"]) == (1.0, 1.0, 1.0)
    assert (line["bytes"], line["bytes_right"], line["bytes_low"]) == (500, 200, None)
    assert line["balanced"] == pytest.approx((4 / 5 + 1 / 2) / 2)


def test_an_undefined_measure_is_none() -> None:
    line = scores.summary([quiet()], 7, "x")
    assert [line[key] for key in ("macro_f1", "call_f1", "p50", "low", "balanced")] == [None] * 5
    assert scores.precision_at(line)[0]["precision"] is None
    assert scores.calibration([quiet()]) == {"n": 0, "bins": [], "error": None}
    assert scores.coverage_risk([quiet()]) == []


def test_precision_is_a_floor_from_recall_and_the_bound_of_false_calls() -> None:
    line = {"call_tp": 9, "call_fn": 1, "false_per_million": 10_000.0}
    found = {entry["share"]: entry["precision"] for entry in scores.precision_at(line)}
    assert found[0.01] == pytest.approx(0.01 * 0.9 / (0.01 * 0.9 + 0.99 * 0.01))
    assert found[0.001] < found[0.01] < found[0.1]


def test_calibration_compares_what_was_said_with_what_was_right() -> None:
    rows = [row("viber", "viber", confidence=0.9), row("viber", "skype", confidence=0.9)]
    rows += [row("viber", "rtc", "unsure", confidence=0.5), quiet()]
    found = scores.calibration(rows)
    assert [(one["n"], one["right"]) for one in found["bins"]] == [(1, 1), (2, 1)]
    assert found["error"] == pytest.approx((1 * 0.5 + 2 * 0.4) / 3)


def test_risk_and_coverage_grow_as_less_confidence_is_asked_for() -> None:
    rows = [row("viber", "viber", confidence=0.99), row("viber", "skype", confidence=0.6)]
    rows.append(row("viber", "none", "not-call", role="other"))
    points = [(p["confidence"], p["coverage"], p["risk"]) for p in scores.coverage_risk(rows)]
    assert points == [(0.99, pytest.approx(1 / 3), 0.0), (0.6, pytest.approx(2 / 3), 0.5)]


def test_a_lead_is_an_interval_over_pairs_of_groups_and_none_below_ten() -> None:
    ours = [row("viber", "viber", group=f"g{i}") for i in range(12)]
    theirs = [scores.judged(one, labels.NO_CLAIM) for one in ours]
    assert scores.lead(ours, theirs, 7, "x") == (1.0, 1.0)
    assert scores.lead(ours, ours, 7, "x") == (0.0, 0.0)
    assert scores.lead(ours[:9], theirs[:9], 7, "x") is None


def test_bytes_of_a_flow_count_where_its_name_is_right_and_have_an_interval_from_ten_groups() -> (
    None
):
    rows = [row("viber", "viber", octets=10, group=f"g{at}") for at in range(10)]
    rows.append(row("viber", "skype", octets=900))
    found = scores.octets(rows, 7, "x")
    assert (found["bytes"], found["bytes_right"]) == (1000, 100)
    assert found["bytes_low"] < 0.1 < found["bytes_high"] == 1.0
    assert scores.octets([], 7, "x")["bytes_low"] is None


def test_a_call_is_right_once_wrong_once_and_heard_by_its_media_alone() -> None:
    rows = [
        row("viber", "viber", truth_role="setup", truth_call="one"),
        row("viber", "none", "not-call", role="other", truth_call="one"),
        row("viber", "skype", truth_call="two"),
        row("viber", "viber", truth_call="two"),
        row("viber", "viber", truth_role="setup", truth_call="three"),
        row("viber", "viber", truth_call=None),
    ]
    found = scores.calls(rows)
    assert (found["calls"], found["calls_right"], found["calls_wrong"]) == (3, 3, 1)
    assert (found["media_calls"], found["media_calls_right"]) == (2, 1)
    assert found["media_calls_low"] is None


def test_a_bare_flow_is_honest_as_a_call_without_a_name_or_unsure() -> None:
    rows = [
        row("viber", "rtc", bare=True),
        row("viber", "meet", "unsure", bare=True),
        row("viber", "skype", bare=True),
        row("viber", "none", "not-call", role="other", bare=True, truth_role="control"),
        row("viber", "rtc"),
    ]
    assert scores.bare(rows) == {"bare": 4, "bare_honest": 2}


def test_innocent_flows_are_counted_by_kind_with_the_bound_that_their_number_allows() -> None:
    rows = [quiet(content="game"), quiet("sip", "certain", content="game"), quiet(content="ntp")]
    rows.append(quiet(innocent=False, truth_role="messaging"))
    rows += [row("zoom", "whatsapp"), row("zoom", "zoom"), row("viber", "skype")]
    found = {line["kind"]: line for line in scores.innocents(rows)}
    assert list(found)[-2:] == [traffic_kinds.ALL, traffic_kinds.OTHER_CALLS]
    assert (found["games"]["hits"], found["games"]["flows"]) == (1, 2)
    assert found[traffic_kinds.REST]["per_million"] is None  # one recording proves nothing
    assert found[traffic_kinds.CHAT]["flows"] == 1
    assert (found[traffic_kinds.ALL]["hits"], found[traffic_kinds.ALL]["flows"]) == (1, 4)
    assert (
        found[traffic_kinds.OTHER_CALLS]["hits"],
        found[traffic_kinds.OTHER_CALLS]["flows"],
    ) == (1, 2)
    many = [quiet(content="ntp", group=f"g{n % 30}") for n in range(3000)]
    *_, every = scores.innocents(many)
    assert every["per_million"] == pytest.approx(1e6 * (1 - 0.025 ** (1 / 30)))
    many.append(quiet("sip", "certain", content="ntp", group="h"))
    *_, every = scores.innocents(many)
    assert 1e6 / 3001 < every["per_million"] < 200_000
    assert scores.innocents([row("viber", "viber")]) == []


def test_precision_at_base_rates_stands_in_every_line() -> None:
    line = scores.summary(ROWS, 7, "x")
    result = scores.precision_at(line)
    assert [line[f"precision_{one['key']}"] for one in result] == [
        one["precision"] for one in result
    ]


# ---- the small tree


def tree_rows() -> list[Row]:
    """Return flows of six groups whose sizes tell a call from none."""
    out = []
    for group in range(6):
        for turn in range(10):
            sizes = np.full(20, 100 + turn if turn % 2 else 1200)
            seen = baseline_tree.features(sizes, np.arange(20) * 20_000_000, np.ones(20, np.int64))
            made = row("viber", "viber") if turn % 2 else quiet()
            out.append(made | {"group": f"g{group}", "features": seen})
    return out


def test_the_tree_learns_what_sizes_tell_and_never_from_the_group_it_judges() -> None:
    rows = tree_rows()
    trees_per_group = baseline_tree.TreePerGroup(rows, 7)
    said = [claim["app"] for claim in trees_per_group.judge(rows)]
    assert said == ["viber" if one["truth_app"] == "viber" else "none" for one in rows]
    lone = [one | {"group": "alone"} for one in rows if one["truth_app"] == "viber"]
    others = [one for one in rows if one["truth_app"] == "none"]
    assert {c["app"] for c in baseline_tree.TreePerGroup([*lone, *others], 7).judge(lone)} == {
        "none"
    }
    assert {c["app"] for c in baseline_tree.leaks([*lone, *others], 7)} == {"viber", "none"}


def test_a_flow_without_payload_has_features_of_nothing() -> None:
    nothing = np.zeros(0, np.int64)
    assert set(baseline_tree.features(nothing, nothing, nothing)) == {0.0}
    assert baseline_tree.TreePerGroup([], 7).judge([row("viber", "viber")]) == [
        baseline_tree.claim("none", 1.0)
    ]


# ---- the engine's switches


def test_an_engine_without_an_app_never_names_it_and_asks_the_others() -> None:
    packets = read(SAMPLES / "sample-whatsapp-audio.pcap")
    whole, without = Engine(), Engine(without=WHATSAPP)
    whole.feed(packets)
    without.feed(packets)
    assert WHATSAPP in whole.flows()["app"]
    assert WHATSAPP not in without.flows()["app"]
    assert APPS.index("rtc") in without.flows()["app"]


def test_skype_and_teams_are_left_out_together() -> None:
    packets = read(SAMPLES / "sample-skype-audio.pcapng")
    for app in (SKYPE, TEAMS):
        engine = Engine(without=app)
        engine.feed(packets)
        assert not {SKYPE, TEAMS} & set(engine.flows()["app"].tolist())


def test_an_engine_that_believes_no_name_has_no_app_of_a_name() -> None:
    packets = read(SAMPLES / "sample-whatsapp-chat.pcap")
    whole, nameless = Engine(), Engine(names=False)
    whole.feed(packets)
    nameless.feed(packets)
    assert WHATSAPP in whole.flows()["app"]
    assert (nameless.flows()["app"] == WHATSAPP).sum() < (whole.flows()["app"] == WHATSAPP).sum()


# ---- from captures to page


def test_as_captured_every_flow_has_the_outcome_of_the_ordinary_run() -> None:
    held = item("sample-whatsapp-audio")
    seen = index_packets(read(held.path))
    made = disturb(COLUMNS[0], seen, 7, held.capture.sha256)
    known = measure_flows.truths(held, seen)
    rows = measure_flows.column_rows(held, seen, known, COLUMNS[0], made)
    usual = [one for one in offline.examine(held).rows if one["outcome"] != "unscored"]
    result = {one["frame"]: (one["outcome"], one["app"], one["packets"]) for one in usual}
    assert {one["frame"]: (one["outcome"], one["app"], one["packets"]) for one in rows} == result
    strict = {one["frame"]: one["strict_rtp"] for one in usual}
    assert {one["frame"]: one["strict_rtp"] for one in rows} == strict


def test_a_label_that_names_no_packet_is_a_missed_flow() -> None:
    held = item("sample-viber-audio")
    seen = index_packets(read(held.path))
    ghost = label_truth.Label(10**6, "udp", 1, "viber", "media", "x", "high")
    known = measure_flows.truths(held._replace(labels=[ghost]), seen)
    made = disturb(COLUMNS[0], seen, 7, held.capture.sha256)
    rows = measure_flows.column_rows(held, seen, known, COLUMNS[0], made)
    assert [(one["outcome"], one["key"], one["why"]) for one in rows] == [("missed", None, "")]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> run.Finished:
    """Evaluate three samples without a peer."""
    folder = tmp_path_factory.mktemp("evaluate")
    (folder / "small.toml").write_text(SPEC)
    options = run.Options(runs=folder / "runs", peers="none", flows=200)
    return run.evaluate(str(folder / "small.toml"), options)


def test_synthetic_captures_have_rows_of_their_own_and_none_in_the_table(
    done: run.Finished,
) -> None:
    result = json.loads((done.folder / "summary.json").read_text())
    assert result["schema"] == 1
    assert result["evaluation"]["columns"] == []
    assert result["evaluation"]["open_set"] == []
    ours = [one for one in result["evaluation"]["synthetic"] if one["engine"] == "midcall"]
    assert [one["column"] for one in ours] == [column.name for column in COLUMNS]
    assert ours[0]["right"] == ours[0]["n"] > 0
    assert [one["reason"] for one in result["evaluation"]["peers"]] == ["was not asked to"] * 3
    assert result["evaluation"]["regression"]["flows"] >= 200
    assert "without any claim of a rate" in result["evaluation"]["regression"]["note"]
    rows = schema.read_table(done.folder, "evaluation")
    assert {one["synthetic"] for one in rows} == {True}
    assert (done.folder / "evaluation.csv").is_file()


def test_no_address_stands_in_a_result_file(done: run.Finished) -> None:
    for path in done.folder.glob("evaluation*.csv"):
        assert "_ip" not in path.read_text().splitlines()[0]


def test_the_page_says_what_was_not_measured_and_is_drawn_again_by_report(
    done: run.Finished,
) -> None:
    page = done.page.read_text()
    assert "nothing was measured on real calls" in page
    assert "nfstream took no part: was not asked to" in page
    assert "a regression count without any claim of a rate" in page
    assert "http://" not in page.replace("http://www.w3.org", "")
    assert render(done.folder) == done.page
    assert done.page.read_text() == page


def test_the_page_shows_real_flows_and_where_a_name_was_lost(
    done: run.Finished, tmp_path: Path
) -> None:
    for name in schema.EVALUATED:
        rows = schema.read_table(done.folder, name)
        real = [{**one, "synthetic": False} if "synthetic" in one else one for one in rows]
        schema.write_table(tmp_path, name, real)
    for name in ("summary.json", "spec.toml", "provenance.json"):
        (tmp_path / name).write_bytes((done.folder / name).read_bytes())
    summary = json.loads((tmp_path / "summary.json").read_text())
    summary["evaluation"]["peers"][0] |= {"version": "9.9", "how": "-x", "reason": ""}
    (tmp_path / "summary.json").write_text(json.dumps(summary))
    page = evaluation.render(tmp_path).read_text()
    absent = 'took no part: <bdi lang="en">was not asked to</bdi>'
    for words in (absent, "nDPI 9.9 was asked with: -x"):
        assert words in page
    assert "the same tree on a random split: optimistic (leaks)" in page
    assert "What it sees, disturbance by disturbance" in page
    assert "nothing was measured on real calls" not in page
    assert 'id="fig-disturbed"' in page
    view = evaluation.view(tmp_path)
    part = (
        environment().get_template("disturbance.html").render(evaluated=view, files=view["files"])
    )
    assert "figures on known material" in part
    assert 'href="evaluation.html"' in part
    lines = [one for one in schema.read_table(tmp_path, "evaluation") if one["engine"] == "midcall"]
    assert f"{lines[0]['right']} of {lines[0]['n']}" in page


def test_disturbances_are_told_by_what_is_fewer() -> None:
    titles = ["As captured", "Ports replaced", *(f"{share} % lost" for share in range(5))]
    assert evaluation.places(titles, titles) == "everywhere"
    assert evaluation.places(titles[1:], titles) == "everywhere but: as captured"
    assert evaluation.places(titles[:2], titles) == "as captured and ports replaced"


def test_the_last_lines_are_one_per_disturbance_and_the_open_set() -> None:
    line = {"engine": "midcall", "title": "As captured", "macro_f1": None, "false_calls": 0}
    line |= {"right": 1, "n": 2, "other_call": 0, "innocent": 3}
    result = {"columns": [line, line | {"engine": "null"}],
            "open_set": [{"app": "viber", "n": 2, "other_app": 1},
                         {"app": "all", "n": 2, "other_app": 1}]}  # fmt: skip
    words = run.lines({"evaluation": result})
    assert len(words) == 2
    assert words[0].startswith("As captured")
    assert "macro-F1 n/a" in words[0]
    assert words[1].endswith("1 of 2 flows named as another app")
