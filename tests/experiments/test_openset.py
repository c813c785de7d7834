# SPDX-License-Identifier: BSD-3-Clause
"""The open set: outcomes of unknown apps, areas under curves, thresholds that keep 95 %."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from midcall.experiments.accuracy import openset, scores

Row = dict[str, Any]


def flow(truth: str, said: str, verdict: str = "certain", **more: Any) -> Row:
    """Return a media flow of an app that the engine called another."""
    made: Row = {
        "truth_app": truth, "truth_role": "media", "truth_confidence": "high", "truth_call": "c",
        "verdict": verdict, "app": said, "role": "media", "confidence": 0.9, "group": "g",
    }  # fmt: skip
    made |= more
    return made | {"outcome": scores.outcome(made)}


def quiet(said: str = "none", verdict: str = "not-call", **more: Any) -> Row:
    """Return an innocent flow."""
    role = "media" if verdict != "not-call" else "other"
    return flow("none", said, verdict, truth_role="other", role=role, **more)


def test_an_unknown_apps_flow_is_wrong_only_under_another_apps_name() -> None:
    said = [
        ("rtc", "certain"),
        ("meet", "unsure"),
        ("none", "not-call"),
        ("skype", "certain"),
    ]
    rows = [flow("viber", *words, group=f"g{at}") for at, words in enumerate(said)]
    line = openset.line("viber", rows, [], 7)
    assert [line[key] for key in ("n", "nameless", "unsure", "quiet", "other_app")] == [4] + [1] * 4
    assert (line["named"], line["clean"], line["clusters"]) == ("skype 1", 3, 4)
    assert line["call_auroc"] is line["known_auroc"] is line["limit"] is None
    found = openset.lines({"viber": rows}, [], 7)
    assert [one["app"] for one in found] == ["viber", openset.ALL]
    assert openset.lines({}, [], 7) == []


def test_the_area_is_what_scikit_learn_computes_and_none_without_a_side() -> None:
    generator = np.random.default_rng(3)
    ours, theirs = generator.integers(0, 9, 40) / 4, generator.integers(0, 7, 60) / 4
    truth = [1] * len(ours) + [0] * len(theirs)
    expected = roc_auc_score(truth, np.concatenate((ours, theirs)))
    assert openset.auroc(ours, theirs) == pytest.approx(expected)
    assert openset.auroc(ours, np.zeros(0)) is None
    assert openset.auroc(np.zeros(0), theirs) is None


def test_the_areas_interval_holds_it_and_needs_ten_groups_a_side() -> None:
    generator = np.random.default_rng(5)
    ours = [(f"a{at % 12}", float(score)) for at, score in enumerate(generator.normal(1, 1, 60))]
    rest = [(f"b{at % 12}", float(score)) for at, score in enumerate(generator.normal(0, 1, 60))]
    area = openset.auroc(openset.values(ours), openset.values(rest))
    span = openset.auroc_interval(ours, rest, 7)
    assert span is not None
    assert area is not None
    assert span[0] < area < span[1]
    assert span[1] - span[0] < 0.4
    assert openset.auroc_interval(ours, rest, 7) == span
    assert openset.auroc_interval(ours[:9], rest, 7) is None


def test_a_group_on_both_sides_is_drawn_for_both() -> None:
    ours = [(f"g{at}", 1.0) for at in range(12)]
    rest = [(f"g{at}", 0.0) for at in range(12)]
    assert openset.auroc_interval(ours, rest, 7) == (1.0, 1.0)


def test_a_threshold_keeps_ninety_five_of_a_hundred_known_flows() -> None:
    known = np.array([2.0] * 90 + [1.5] * 5 + [1.0] * 5)
    unknown = np.array([0.0, 1.2, 1.5, 1.9])
    assert openset.rejection(known, unknown) == {"limit": 1.5, "kept": 95, "rejected": 2}


def test_where_fewer_known_flows_have_a_name_the_threshold_keeps_those() -> None:
    known = np.array([1.8] * 8 + [0.0] * 2)
    assert openset.rejection(known, np.array([0.0, 1.9])) == {
        "limit": 1.8, "kept": 8, "rejected": 1,
    }  # fmt: skip
    nothing = {"limit": None, "kept": None, "rejected": None}
    assert openset.rejection(np.zeros(4), np.zeros(4)) == nothing
    assert openset.rejection(np.zeros(0), np.zeros(4)) == nothing


def test_known_flows_are_those_of_named_apps_that_stayed() -> None:
    closed = [flow("viber", "viber"), flow("zoom", "zoom"), flow("other-rtc", "rtc"), quiet()]
    line = openset.line("viber", [flow("viber", "rtc")], closed, 7)
    assert (line["known"], line["innocent"]) == (1, 1)
    assert line["call_auroc"] == 1.0
    assert line["known_auroc"] == 1.0
    assert (line["kept"], line["rejected"]) == (1, 1)


def test_a_certain_call_scores_above_an_unsure_one_and_chat_scores_nothing() -> None:
    sure = flow("viber", "viber", confidence=0.5)
    unsure = flow("viber", "viber", "unsure", confidence=0.99)
    chat = flow("viber", "viber", "certain", role="messaging")
    assert openset.call_score(sure) > openset.call_score(unsure) > openset.call_score(chat) == 0.0
    assert openset.name_score(flow("viber", "rtc")) == 0.0
