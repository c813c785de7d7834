# SPDX-License-Identifier: BSD-3-Clause
"""Metrics on rows made by hand, whose counts can be checked by eye."""

from __future__ import annotations

from typing import Any

import pytest

from midcall.experiments.measure import metrics
from midcall.experiments.measure.intervals import clopper_pearson

Row = dict[str, Any]


def row(truth: str = "whatsapp media", said: str = "certain whatsapp media", **more: Any) -> Row:
    """Return a flow row with its outcome, from "app role" of the truth and of the verdict."""
    truth_app, truth_role = truth.split()
    verdict, app, role = said.split()
    base = {
        "capture": "c",
        "group": "g",
        "innocent": False,
        "proto": "udp",
        "src_ip": "10.0.0.1",
        "src_port": 1000,
        "dst_ip": "10.0.0.2",
        "dst_port": 2000,
        "packets": 10,
        "packets_to_verdict": 2,
        "ms_to_verdict": 5.0,
        "truth_app": truth_app,
        "truth_role": truth_role,
        "truth_call": None,
        "truth_confidence": "high",
        "verdict": verdict,
        "app": app,
        "role": role,
    }
    made = base | more
    made["outcome"] = metrics.outcome(truth_app, truth_role, made["truth_confidence"], made)
    return made


@pytest.mark.parametrize(
    ("truth", "said", "expected"),
    [
        ("whatsapp media", "certain whatsapp media", "right"),
        ("whatsapp setup", "certain whatsapp control", "right"),
        ("skype media", "certain teams media", "right"),
        ("teams setup", "certain skype setup", "right"),
        ("whatsapp media", "certain messenger media", "other_call"),
        ("whatsapp media", "certain other-rtc media", "other_call"),
        ("other-rtc media", "certain other-rtc media", "right"),
        ("whatsapp media", "unsure other-rtc media", "unsure"),
        ("whatsapp media", "unsure whatsapp media", "unsure"),
        ("whatsapp media", "unsure none media", "unsure"),
        ("whatsapp media", "certain none media", "unsure"),
        ("whatsapp media", "certain whatsapp messaging", "missed"),
        ("whatsapp media", "unsure whatsapp other", "missed"),
        ("whatsapp media", "not-call none other", "missed"),
        ("none other", "not-call none other", "quiet"),
        ("none other", "unsure whatsapp media", "quiet"),
        ("whatsapp messaging", "certain whatsapp messaging", "quiet"),
        ("whatsapp messaging", "certain whatsapp setup", "false_call"),
        ("none other", "certain other-rtc media", "false_call"),
        ("none unknown", "certain whatsapp media", "unscored"),
    ],
)
def test_a_flow_has_the_outcome_that_the_scorer_gives_it(
    truth: str, said: str, expected: str
) -> None:
    assert row(truth, said)["outcome"] == expected


def test_labels_of_low_confidence_are_not_scored() -> None:
    assert row(truth_confidence="low")["outcome"] == "unscored"
    assert row(truth_confidence="medium")["outcome"] == "right"


def test_flows_of_calls_are_scored_and_of_the_roles_asked_for() -> None:
    rows = [row(), row(truth_confidence="low"), row("whatsapp control"), row("none other")]
    assert metrics.call_flows(rows) == rows[:1]
    assert metrics.call_flows(rows, ("control",)) == rows[2:3]


def test_the_strongest_record_of_a_flow_answers_for_it() -> None:
    weak, strong = row(said="unsure none media", packets=99), row(packets=1)
    assert max([weak, strong], key=metrics.rank) is strong
    none = row(said="not-call none other")
    assert [metrics.rank(one) for one in (none, weak, strong)] == [(0, 10), (1, 99), (2, 1)]
    assert metrics.rank(row(packets=None)) == (2, 0)


def test_counts_stand_per_app_and_role_without_an_interval_for_one_session() -> None:
    rows = [row(), row(said="not-call none other"), row("whatsapp setup", "unsure none setup")]
    table = metrics.by_app_and_role([*rows, row("none other", "not-call none other")], seed=1)
    assert table == {
        "whatsapp": {
            "media": {
                "n": 2, "right": 1, "other_call": 0, "unsure": 0, "missed": 1,
                "share": 0.5, "interval": None, "clusters": 1,
            },
            "setup": {
                "n": 1, "right": 0, "other_call": 0, "unsure": 1, "missed": 0,
                "share": 0.0, "interval": None, "clusters": 1,
            },
        }
    }  # fmt: skip


def test_ten_sessions_get_an_interval() -> None:
    rows = [row(group=f"g{at}", said="certain whatsapp media") for at in range(9)]
    rows.append(row(group="g9", said="not-call none other"))
    share = metrics.right_share(rows, 1, "x")
    assert (share["n"], share["right"], share["clusters"]) == (10, 9, 10)
    assert share["interval"][0] < 0.9 <= share["interval"][1]


def test_f1_counts_a_wrong_name_against_both_apps() -> None:
    rows = [
        row(),
        row(),
        row("whatsapp setup", "certain viber setup"),
        row("viber media", "certain viber media"),
        row("other-rtc media", "certain viber media"),
        row("facetime media", "certain facetime media"),
    ]
    table = metrics.f1_counts(rows)
    assert table["whatsapp"] == {
        "tp": 2, "fp": 0, "fn": 1, "precision": 1.0, "recall": 2 / 3, "f1": 0.8,
    }  # fmt: skip
    assert table["viber"] == {
        "tp": 1, "fp": 2, "fn": 0, "precision": 1 / 3, "recall": 1.0, "f1": 0.5,
    }  # fmt: skip
    assert table["facetime"]["fp"] == 0
    assert "other-rtc" not in table


def test_macro_f1_is_undefined_without_apps() -> None:
    assert metrics.macro_f1({}, lambda app: True) == {"value": None, "apps": 0}
    table = {"viber": {"f1": 0.5}, "whatsapp": {"f1": 1.0}, "skype": {"f1": None}}
    assert metrics.macro_f1(table, lambda app: app != "whatsapp") == {"value": 0.5, "apps": 1}


def test_apps_of_five_flows_and_more_have_a_mean_of_their_own() -> None:
    missed = row(said="not-call none other")
    rows = [row()] * 4 + [missed]
    rows += [row("viber media", "certain viber media")] * 3
    rows += [row("viber media", "not-call none other")]
    rows += [row("skype media", "certain skype media")] * 6
    result = metrics.accuracy(rows, 1)["macro_f1_at_least_5_flows"]
    assert result == {"value": pytest.approx((8 / 9 + 1) / 2), "apps": 2}


def test_teams_does_not_count_among_the_five() -> None:
    block = metrics.accuracy([row("teams media", "not-call none other"), row()], 1)
    assert block["macro_f1_five"] == {"value": 1.0, "apps": 1}
    assert block["macro_f1"] == 0.5
    assert (block["five"]["n"], block["all"]["n"]) == (1, 2)


def test_false_calls_tell_their_kind_and_what_no_hit_bounds() -> None:
    rows = [
        row("none other", "not-call none other", innocent=True, group=f"g{n % 30}")
        for n in range(300)
    ]
    result = metrics.false_calls(rows)
    assert (result["flows"], result["hits"], result["groups"]) == (300, 0, 30)
    none_of_thirty, none_of_all = clopper_pearson(0, 30), clopper_pearson(0, 300)
    assert none_of_thirty is not None
    assert none_of_all is not None
    assert result["interval"] == pytest.approx((0.0, none_of_thirty[1]))
    assert result["independent_upper_per_million"] == pytest.approx(1e6 * none_of_all[1])
    hit = row("whatsapp messaging", "certain whatsapp setup")
    result = metrics.false_calls([*rows, hit])
    assert (result["hits"], result["five_hits"]) == (1, 1)
    _, high = clopper_pearson(1, 301) or (0.0, 0.0)
    assert result["per_million"] == pytest.approx(1e6 / 301, rel=1e-9)
    assert result["independent_upper_per_million"] == pytest.approx(1e6 * high)
    assert result["interval"] is not None
    assert result["interval"][1] > high
    few = metrics.false_calls(rows[:5])
    assert few["interval"] is None  # five recordings
    assert result["by_kind"] == [
        {"kind": "innocent captures", "flows": 300, "hits": 0},
        {"kind": "messaging flows", "flows": 1, "hits": 1},
    ]


@pytest.mark.parametrize(
    ("truth", "more", "kind"),
    [
        ("none other", {"innocent": True}, "innocent captures"),
        ("none other", {}, "other flows of call captures"),
        ("none other", {"innocent": True, "truth_call": "c1"}, "other flows of call captures"),
        ("viber other", {"innocent": True}, "other flows of call captures"),
        ("viber messaging", {}, "messaging flows"),
    ],
)
def test_an_innocent_flow_is_of_one_kind(truth: str, more: Row, kind: str) -> None:
    assert metrics.quiet_kind(row(truth, **more)) == kind


def test_no_innocent_flows_bound_nothing() -> None:
    result = metrics.false_calls([])
    assert result["flows"] == 0
    assert result["per_million"] is None
    assert result["interval"] is None


def test_a_flow_that_two_files_of_a_session_hold_counts_once_with_the_weaker_outcome() -> None:
    turned = {"src_ip": "10.0.0.2", "src_port": 2000, "dst_ip": "10.0.0.1", "dst_port": 1000}
    rows = [
        row(capture="full"),
        row(capture="cut", said="unsure none media", **turned),
        row(capture="else", group="h"),
    ]
    for order in (rows, rows[::-1]):
        kept = metrics.distinct([*order, row(capture="again", group="h")])
        assert sorted((one["capture"], one["outcome"]) for one in kept) == [
            ("cut", "unsure"),
            ("else", "right"),
        ]


def test_waits_are_those_of_right_verdicts_only() -> None:
    rows = [row(packets_to_verdict=n, ms_to_verdict=10.0 * n) for n in (1, 2, 3, 4)]
    rows.append(row(said="certain viber media", packets_to_verdict=99))
    result = metrics.waits(rows)
    assert result["packets"] == {"n": 4, "p50": 3, "p95": 4, "p99": 4}
    assert result["ms"] == {"n": 4, "p50": 30.0, "p95": 40.0, "p99": 40.0}


def test_confusion_has_columns_for_unsure_and_missed() -> None:
    rows = [row(), row(said="unsure none media"), row(said="certain viber media")]
    assert metrics.confusion(rows) == [
        {"truth": "whatsapp", "said": "unsure", "n": 1},
        {"truth": "whatsapp", "said": "viber", "n": 1},
        {"truth": "whatsapp", "said": "whatsapp", "n": 1},
    ]
