# SPDX-License-Identifier: BSD-3-Clause
"""Train the early model: random forests on feature columns, with calibration and limits.

Training gets columns, labels and groups as arrays, and does not depend on captures or catalogue.
Trees, calibration and limits are all fitted on the rows given: for an unbiased measurement, pass
only rows of training groups. Limits come from scores of groups left out *within* those rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.classifier.state.features import COLUMNS, LENGTHS
from midcall.classifier.state.flow_table import Records
from midcall.classifier.statistical.inference import NODE, PERCENTS, check
from midcall.errors import ClassifierError

Rows = NDArray[np.float32]
Ints = NDArray[np.int64]
Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

TREES, DEPTH, LEAF = 30, 6, 3
#: Folds by group within the training rows, from whose scores calibration and limits come.
INNER = 5
#: Share of innocent weight (every group weighs the same) that may score above the call limit.
FALSE_CALLS = 0.005
#: Calibrated probability below which a flow is no call; between the limits it is undecided.
NO_CALL = 0.10
#: A model, or a figure of one, needs calls of at least this many groups.
LEAST_GROUPS = 3


class Forest(NamedTuple):
    """A fitted forest of one packet count.

    slope, intercept: logistic calibration of its score (Platt); call: the score from which a flow
    is classified as a call; quiet: the score below which it is classified as no call.
    """

    trees: Any  # sklearn.ensemble.RandomForestClassifier
    slope: float
    intercept: float
    call: float
    quiet: float

    def score(self, rows: Rows) -> Floats:
        """Return the share of calls (float64[n]) that the trees give each row."""
        share: Floats = self.trees.predict_proba(np.asarray(rows, np.float32))[:, 1]
        return share

    def probability(self, scores: Floats) -> Floats:
        """Return calibrated probabilities of scores."""
        return 1.0 / (1.0 + np.exp(-(self.slope * scores + self.intercept)))


def group_weights(calls: Flags, groups: Ints) -> Floats:
    """Return float64[n] weights: groups weigh the same within a class, both classes the same."""
    weights = np.zeros(len(calls))
    for side in (False, True):
        mine = calls == side
        present, which, sizes = np.unique(groups[mine], return_inverse=True, return_counts=True)
        weights[mine] = 0.5 / max(len(present), 1) / sizes[which]
    return weights


def grow(rows: Rows, calls: Flags, groups: Ints, seed: int) -> Any:
    """Return a random forest on the rows, groups and classes weighing the same."""
    from sklearn.ensemble import RandomForestClassifier

    forest = RandomForestClassifier(
        n_estimators=TREES, max_depth=DEPTH, min_samples_leaf=LEAF, random_state=seed, n_jobs=1
    )
    return forest.fit(rows, calls, sample_weight=group_weights(calls, groups) * len(calls))


def folds(calls: Flags, groups: Ints, count: int, seed: int) -> list[tuple[Ints, Ints]]:
    """Return (training, test) row numbers: no group in both, call groups spread over the folds."""
    rng = np.random.default_rng(seed)
    fold = np.zeros(len(calls), np.int64)
    with_calls = np.unique(groups[calls])
    others = np.setdiff1d(groups, with_calls)
    for some in (with_calls, others):
        for place, group in enumerate(rng.permutation(some)):
            fold[groups == group] = place % count
    cut = [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in range(count)]
    return [(train, test) for train, test in cut if len(test)]


def enough(calls: Flags, groups: Ints) -> bool:
    """Return whether both classes have at least LEAST_GROUPS independent groups."""
    sides = [len(np.unique(groups[calls == side])) for side in (False, True)]
    return min(sides) >= LEAST_GROUPS


def fit(rows: Rows, calls: Flags, groups: Ints, seed: int) -> Forest:
    """Return a forest fitted on the rows, with calibration and limits from folds within them.

    rows: float32[n, COLUMNS]; calls: bool[n]; groups: int64[n]; every draw comes from `seed`.
    Raises ClassifierError where a class has fewer than LEAST_GROUPS groups.
    """
    if not enough(calls, groups):
        raise ClassifierError(
            f"early model: calls and others each need {LEAST_GROUPS} independent groups of "
            f"captures, got {len(np.unique(groups[calls]))} and {len(np.unique(groups[~calls]))}"
        )
    held_out = np.zeros(len(rows))
    for number, (train, test) in enumerate(folds(calls, groups, INNER, seed)):
        if len(np.unique(calls[train])) < 2:
            raise ClassifierError("early model: a fold has no calls to learn from: more groups")
        inner = grow(rows[train], calls[train], groups[train], seed + 1 + number)
        held_out[test] = inner.predict_proba(rows[test])[:, 1]
    weights = group_weights(calls, groups)
    slope, intercept = platt(held_out, calls, weights)
    call = call_limit(held_out, calls, weights)
    trees = grow(rows, calls, groups, seed)
    quiet = min((float(np.log(NO_CALL / (1 - NO_CALL))) - intercept) / slope, call)
    return Forest(trees, slope, intercept, call, quiet)


def platt(scores: Floats, calls: Flags, weights: Floats) -> tuple[float, float]:
    """Return slope and intercept of the logistic calibration of held-out scores (Platt 1999).

    The slope is kept positive, so that a higher score never means less.
    """
    from sklearn.linear_model import LogisticRegression

    line = LogisticRegression(C=1e3).fit(
        scores.reshape(-1, 1), calls, sample_weight=weights * len(calls)
    )
    return max(float(line.coef_[0, 0]), 1e-3), float(line.intercept_[0])


def call_limit(scores: Floats, calls: Flags, weights: Floats) -> float:
    """Return the lowest score above which at most FALSE_CALLS of the innocent weight lies."""
    quiet = ~calls
    order = np.argsort(-scores[quiet], kind="stable")
    falling, share = scores[quiet][order], np.cumsum(weights[quiet][order]) / weights[quiet].sum()
    over = np.flatnonzero(share > FALSE_CALLS)
    highest = falling[over[0]] if len(over) else 0.0
    return float(np.nextafter(max(highest, 0.5), 2.0))


def compiled(forests: Mapping[int, Forest]) -> Records:
    """Return NODE[...], the records of the packet path, from one forest per count of LENGTHS.

    Raises ClassifierError if a count of LENGTHS has no forest.
    """
    if tuple(sorted(forests)) != LENGTHS:
        raise ClassifierError(f"early model: forests for {sorted(forests)}, expected {LENGTHS}")
    heads = len(LENGTHS) * (1 + PERCENTS)
    trees = {n: [one.tree_ for one in forests[n].trees.estimators_] for n in LENGTHS}
    total = heads + sum(tree.node_count for some in trees.values() for tree in some)
    model = np.zeros(total, NODE)
    free = heads
    for head, n in enumerate(LENGTHS):
        forest = forests[n]
        model[head] = (forest.call, forest.quiet, n, free, len(trees[n]), 0.0)
        model["limit"][len(LENGTHS) + PERCENTS * head :][:PERCENTS] = steps(forest)
        root, free = free, free + len(trees[n])
        for place, tree in enumerate(trees[n]):
            free = lay(model, tree, root + place, free)
    return check(model)


def steps(forest: Forest) -> Floats:
    """Return float64[99], the scores at which 1 to 99 percent of calibrated probability begin."""
    share = np.arange(1, PERCENTS + 1) / 100.0
    return (np.log(share / (1 - share)) - forest.intercept) / forest.slope


def lay(model: Records, tree: Any, root: int, free: int) -> int:
    """Write a scikit-learn tree, its root at `root`, the rest from `free`; returns the new free."""
    place = np.concatenate(([root], free + np.arange(tree.node_count - 1)))
    leaf = tree.children_left < 0
    model["limit"][place] = tree.threshold
    model["value"][place] = tree.value[:, 0, 1]
    model["feature"][place] = np.where(leaf, 0, tree.feature)
    model["left"][place] = np.where(leaf, -1, place[tree.children_left])
    model["right"][place] = np.where(leaf, -1, place[tree.children_right])
    return free + int(tree.node_count) - 1


def train(
    columns: Mapping[int, Rows], usable: Mapping[int, Flags], calls: Flags, groups: Ints, seed: int
) -> dict[int, Forest]:
    """Return one forest per packet count.

    columns: length -> float32[n, COLUMNS]; usable: length -> bool[n], rows with that many packets;
    calls: bool[n]; groups: int64[n], the group of each row's capture. Raises ClassifierError for
    columns of another shape, or too few groups.
    """
    for n in LENGTHS:
        if columns[n].shape != (len(calls), len(COLUMNS)):
            raise ClassifierError(
                f"early model: columns of {n} packets have shape {columns[n].shape}, "
                f"expected ({len(calls)}, {len(COLUMNS)})"
            )
    return {
        n: fit(columns[n][usable[n]], calls[usable[n]], groups[usable[n]], seed) for n in LENGTHS
    }
