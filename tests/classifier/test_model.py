# SPDX-License-Identifier: BSD-3-Clause
"""Training the early model on made-up columns: groups, limits, doubt, the same bytes twice."""

from __future__ import annotations

import numpy as np
import pytest

from midcall.classifier.state.features import COLUMNS, LENGTHS
from midcall.classifier.statistical import training
from midcall.errors import ClassifierError
from tests.classifier.made_up import Table, forests, table


def test_no_group_is_on_both_sides_of_a_fold() -> None:
    _, calls, groups = table()
    for train, test in training.folds(calls, groups, 5, 1):
        assert not set(groups[train]) & set(groups[test])
        assert calls[train].any()
        assert (~calls[train]).any()


def test_every_row_is_tested_once() -> None:
    _, calls, groups = table()
    tested = np.concatenate([test for _, test in training.folds(calls, groups, 7, 3)])
    assert sorted(tested) == list(range(len(calls)))


def test_a_group_of_many_flows_weighs_as_much_as_one_of_few() -> None:
    calls = np.array([True] * 3 + [False] * 8)
    groups = np.array([0, 0, 1, *[2] * 7, 3])
    weights = training.group_weights(calls, groups)
    assert np.isclose(weights[:2].sum(), weights[2])
    assert np.isclose(weights[3:10].sum(), weights[10])
    assert np.isclose(weights[calls].sum(), weights[~calls].sum())


def test_the_same_rows_and_seed_give_the_same_records() -> None:
    assert (
        training.compiled(forests(table())).tobytes()
        == training.compiled(forests(table())).tobytes()
    )


def test_another_seed_gives_other_trees() -> None:
    first, second = (training.compiled(forests(table(), seed)) for seed in (1, 2))
    assert first.tobytes() != second.tobytes()


def test_a_model_that_learned_finds_calls_of_groups_it_never_saw() -> None:
    rows, calls, groups = table()
    forest = training.fit(rows, calls, groups, 1)
    fresh, truth, _ = table(seed=99)
    likely = forest.probability(forest.score(fresh))
    assert likely[truth].mean() > 0.8
    assert likely[~truth].mean() < 0.2


def test_labels_without_meaning_make_a_model_that_doubts() -> None:
    rows, _, groups = table()
    coins = np.random.default_rng(5).permutation(len(np.unique(groups)))[groups] % 2 == 0
    forest = training.fit(noise(rows.shape), coins, groups, 1)
    fresh = forest.score(noise(rows.shape, 77))
    assert (fresh >= forest.call).mean() < 0.1


def noise(shape: tuple[int, int], seed: int = 6) -> np.ndarray:
    """Return columns without any meaning."""
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_few_innocent_rows_score_above_the_limit_of_a_call() -> None:
    scores = np.array([0.9, 0.8, 0.7, 0.95, 0.6])
    calls = np.array([False, False, False, True, True])
    limit = training.call_limit(scores, calls, np.ones(5))
    assert limit > 0.9
    assert limit <= 0.95


@pytest.mark.parametrize("few", [0, 1, 2])
def test_fewer_than_three_groups_of_calls_are_refused_with_their_number(few: int) -> None:
    rows, calls, groups = table()
    kept = ~calls | np.isin(groups, np.unique(groups[calls])[:few])
    with pytest.raises(ClassifierError, match=f"got {few} and"):
        training.fit(rows[kept], calls[kept], groups[kept], 1)


def test_columns_of_another_width_are_refused() -> None:
    rows, calls, groups = table()
    columns = dict.fromkeys(LENGTHS, rows[:, 1:])
    usable = {n: np.ones(len(calls), bool) for n in LENGTHS}
    with pytest.raises(ClassifierError, match=f"expected \\({len(calls)}, {len(COLUMNS)}\\)"):
        training.train(columns, usable, calls, groups, 1)


def test_a_missing_forest_is_refused() -> None:
    made: Table = table()
    two = {n: forest for n, forest in forests(made).items() if n != 8}
    with pytest.raises(ClassifierError, match="forests for"):
        training.compiled(two)
