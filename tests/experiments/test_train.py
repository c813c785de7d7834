# SPDX-License-Identifier: BSD-3-Clause
"""`midcall train`: rows by truth, folds by group, a card that hides nothing, the same bytes."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from midcall.captures.truth.catalogue import load
from midcall.classifier.state.features import LENGTHS
from midcall.classifier.statistical import inference
from midcall.errors import ExperimentError
from midcall.experiments.accuracy import model_card, train
from tests.classifier.made_up import table

pytestmark = pytest.mark.slow


def made_up_rows() -> train.Rows:
    """Return made-up rows: two apps of six groups each, and one of a single group."""
    rows, calls, groups = table()
    app = np.where(calls, np.where(groups % 4 == 0, "skype", "viber"), "none").astype(object)
    app[groups == 0] = "line"
    truth = calls.astype(np.int64)
    truth[(groups == 2) & (np.arange(len(groups)) % 2 == 0)] = train.NEITHER
    return train.Rows(
        truth,
        groups,
        app,
        np.zeros(len(groups), np.int64),
        np.full(len(groups), 16, np.int64),
        np.arange(len(groups)) % 3 == 0,
        dict.fromkeys(LENGTHS, rows),
    )


def made_up_data() -> train.Data:
    """Return made-up rows as if captures had been read."""
    rows = made_up_rows()
    return train.Data(rows, [], [f"G{i}" for i in range(24)], ["lost"])


@pytest.fixture(scope="module")
def page() -> str:
    """Return the card of the made-up rows."""
    return model_card.card(made_up_data(), inference.shipped(), 1).text


@pytest.mark.longest
def test_an_app_of_few_groups_has_no_figure(page: str) -> None:
    assert "| line | n/a (1 group) |" in page
    assert "| skype | balanced accuracy" in page


def test_the_leaking_split_is_named_so(page: str) -> None:
    assert page.count("random split: optimistic (leaks)") == len(LENGTHS)
    assert page.count("leave one group out |") == len(LENGTHS)


def test_the_card_says_what_could_not_be_obtained(page: str) -> None:
    assert "could not be obtained: lost" in page


@pytest.mark.longest
def test_the_same_rows_give_the_same_card(page: str) -> None:
    again = model_card.card(made_up_data(), inference.shipped(), 1)
    assert again.text == page
    assert again.figures["model"] == model_card.digest(inference.shipped())
    assert [row["packets"] for row in again.figures["rows"]] == [n for n in LENGTHS for _ in "123"]


def test_the_committed_figures_belong_to_the_committed_model() -> None:
    result = json.loads(inference.SHIPPED.with_suffix(".json").read_text())
    assert result["model"] == model_card.digest(inference.shipped())
    text = inference.SHIPPED.with_suffix(".md").read_text()
    assert all(model_card.figures(row) in text for row in result["rows"])


def test_a_held_out_row_was_never_trained_on() -> None:
    """A group whose labels are turned round must come out wrong: only its own rows could tell."""
    rows = made_up_rows()
    turned = rows._replace(truth=np.where(rows.group == 5, 1 - rows.truth.clip(0, 1), rows.truth))
    extra = np.zeros(len(rows.truth), bool)
    held, _ = model_card.held_out(turned, 8, 1, True, extra)
    mine = held.group == 5
    assert (held.truth[mine] == 1).all()
    assert (held.probability[mine] < 0.5).all()


def test_flows_that_are_neither_are_scored_by_forests_without_their_group() -> None:
    rows = made_up_rows()
    _, extra = model_card.held_out(rows, 8, 1, True, rows.truth == train.NEITHER)
    assert len(extra.truth) == (rows.truth == train.NEITHER).sum()


def held(truth: list[int], probability: list[float], group: list[int]) -> model_card.Held:
    """Return rows as forests left them."""
    likely = np.array(probability)
    says = np.where(likely > 0.9, 1, np.where(likely < 0.1, 0, -1))
    return model_card.Held(np.array(truth), np.array(group), likely, likely, says)


def test_balanced_accuracy_is_the_mean_of_both_sides() -> None:
    rows = held([1, 1, 0, 0], [0.9, 0.2, 0.1, 0.3], [0, 1, 2, 3])
    assert model_card.balanced(rows) == 0.75


def test_a_large_group_does_not_outvote_a_small_one() -> None:
    rows = held([1, 0, 0, 0, 0], [0.9, 0.1, 0.1, 0.1, 0.8], [0, 1, 1, 1, 2])
    assert model_card.balanced(rows, model_card.weights_of(rows)) == pytest.approx(0.75)
    assert model_card.balanced(rows) == pytest.approx(0.875)


def test_figures_of_one_class_alone_are_undefined() -> None:
    rows = held([0, 0], [0.1, 0.2], [0, 1])
    assert (
        model_card.balanced(rows)
        is model_card.auroc(rows)
        is model_card.calibration_error(rows)
        is None
    )
    assert "n/a" in model_card.figures(model_card.measured(4, "x", rows, 1))


def test_probabilities_that_are_right_have_no_calibration_error() -> None:
    rows = held([1, 1, 0, 0], [1.0, 1.0, 0.0, 0.0], [0, 1, 2, 3])
    assert model_card.calibration_error(rows) == pytest.approx(0.0)


def test_the_least_decided_rows_are_the_first_to_be_left_out() -> None:
    rows = held([1, 0, 1, 0], [0.99, 0.01, 0.45, 0.55], [0, 1, 2, 3])
    assert model_card.risk(rows, 1.0) == (2, 4)
    assert model_card.risk(rows, 0.5) == (0, 2)


def test_counts_at_the_limits_tell_found_false_and_doubt_apart() -> None:
    rows = held([1, 1, 0, 0], [0.95, 0.5, 0.95, 0.05], [0, 1, 2, 3])
    assert model_card.counts(rows) == ("1 of 2", "1 of 2", "1 of 4")


def test_no_capture_at_all_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Nothing:
        paths: dict[str, Path] = {}  # noqa: RUF012 - never changed

    monkeypatch.setattr(train, "obtain", lambda *_, **__: Nothing())
    with pytest.raises(ExperimentError, match="no real capture could be obtained"):
        train.gather(tmp_path)


def test_synthetic_captures_never_train(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    asked: list[str] = []

    class Everything:
        paths = {one.sha256: tmp_path for one in load(local=False).captures}  # noqa: RUF012

    def note(capture: object, path: Path, group: int) -> train.Rows:
        asked.append(str(getattr(capture, "sha256", "")))
        return made_up_rows()

    monkeypatch.setattr(train, "obtain", lambda *_, **__: Everything())
    monkeypatch.setattr(train, "rows_of", note)
    train.gather(None)
    real = {one.sha256 for one in load(local=False).captures if not one.ours}
    assert set(asked) == real


def test_training_twice_writes_the_same_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(train, "gather", lambda *_: made_up_data())
    monkeypatch.setattr(model_card, "card", lambda *_: model_card.Card("a card", {"schema": 1}))
    first, second = (train.train(None, tmp_path / name, seed=3)[0] for name in ("a", "b"))
    assert first.read_bytes() == second.read_bytes()
    assert inference.load(first).dtype == inference.NODE


@pytest.mark.corpus
def test_real_captures_give_rows_of_both_kinds_in_many_groups(corpus: Path) -> None:
    data = train.gather(corpus)
    rows = data.rows
    for truth in (train.NONE, train.CALL):
        assert len(np.unique(rows.group[rows.truth == truth])) >= 3
    assert not any(one.synthetic for one in data.captures)
