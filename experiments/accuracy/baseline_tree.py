# SPDX-License-Identifier: BSD-3-Clause
"""The small tree: a depth-limited decision tree over sizes, gaps and directions, as a baseline.

It uses no payload, address or port. It is trained on undisturbed flows of all capture groups but
one and classifies the flows of that group, so no call is in both training and test data. `leaks`
uses a random split of the same flows instead: the optimistic figure that literature reports.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.tree import DecisionTreeClassifier  # type: ignore[import-untyped,unused-ignore]

from midcall.experiments.measure import metrics
from midcall.experiments.measure.intervals import derived_seed

Row = Mapping[str, Any]
Claim = dict[str, Any]
Features = NDArray[np.float64]

#: Payload packets per flow that the tree uses, its depth, and the least flows in a leaf.
PACKETS, DEPTH, LEAF = 16, 6, 5
#: A leaf with less than this share of one class gives unsure.
SURE = 0.5
FOLDS = 10
NO_CALL = "none"


def features(
    sizes: NDArray[np.int64], times: NDArray[np.int64], up: NDArray[np.int64]
) -> list[float]:
    """Return the features of a flow's payload packets, in order: 2 * PACKETS + 3 numbers.

    sizes: payload bytes; times: ns; up: 1 for the opener's direction. The features are signed sizes
    (the first packet's direction is positive) and gaps in ms of the first PACKETS packets, then
    mean size, mean gap, and the share of packets in the first packet's direction.
    """
    sizes, times, up = sizes[:PACKETS], times[:PACKETS], up[:PACKETS]
    count = len(sizes)
    if not count:
        return [0.0] * (2 * PACKETS + 3)
    signed = np.where(up == up[0], sizes, -sizes).astype(float)
    gaps = np.diff(times) / 1e6
    row = np.zeros(2 * PACKETS + 3)
    row[:count] = signed
    row[PACKETS : 2 * PACKETS] = -1
    row[PACKETS : PACKETS + len(gaps)] = gaps
    gap = np.add.reduce(gaps) / len(gaps) if len(gaps) else -1
    row[-3:] = np.add.reduce(sizes) / count, gap, np.count_nonzero(up == up[0]) / count
    values: list[float] = row.tolist()
    return values


def truth(row: Row) -> str:
    """Return the class of a flow: its app's family, or NO_CALL for a flow of no call."""
    return metrics.family(row["truth_app"]) if row["outcome"] in metrics.OUTCOMES else NO_CALL


def trainable(row: Row) -> bool:
    """Return whether a row may train: real, scored, and not of the role control."""
    scored = row["outcome"] != "unscored" and row["truth_role"] != "control"
    return scored and not row["synthetic"]


def fit(rows: Sequence[Row], seed: int) -> DecisionTreeClassifier:
    """Return a tree trained on the given rows (each with its `features`)."""
    tree = DecisionTreeClassifier(
        max_depth=DEPTH, min_samples_leaf=LEAF, random_state=derived_seed(seed, "tree") % 2**32
    )
    return tree.fit(np.array([row["features"] for row in rows]), [truth(row) for row in rows])


def claims(tree: DecisionTreeClassifier, rows: Sequence[Row]) -> list[Claim]:
    """Return the tree's claim for each row."""
    if not rows:
        return []
    table = np.array([row["features"] for row in rows], np.float32)  # scikit-learn's dtype
    chances = tree.predict_proba(table, check_input=False)
    best = chances.argmax(axis=1)
    return [claim(str(tree.classes_[at]), float(chances[i, at])) for i, at in enumerate(best)]


def claim(app: str, chance: float) -> Claim:
    """Return the claim of a class and its probability: verdict, app and role."""
    if app == NO_CALL:
        return {"verdict": "not-call", "app": "none", "role": "other"}
    verdict = "certain" if chance > SURE else "unsure"
    return {"verdict": verdict, "app": app, "role": "media"}


class TreePerGroup:
    """One tree per capture group, trained without that group, and one tree for unknown groups."""

    def __init__(self, rows: Sequence[Row], seed: int) -> None:
        known = [row for row in rows if trainable(row)]
        self.trees: dict[str, DecisionTreeClassifier] = {}
        self.whole = fit(known, seed) if known else None
        for group in sorted({row["group"] for row in known}):
            others = [row for row in known if row["group"] != group]
            if others:
                self.trees[group] = fit(others, seed)

    def judge(self, rows: Sequence[Row]) -> list[Claim]:
        """Return a claim per row, by the tree that was trained without the row's group."""
        out: list[Claim] = [claim(NO_CALL, 1.0)] * len(rows)
        groups: dict[str, list[int]] = {}
        for at, row in enumerate(rows):
            groups.setdefault(row["group"], []).append(at)
        for group, places in groups.items():
            tree = self.trees.get(group, self.whole)
            if tree is not None:
                group_claims = claims(tree, [rows[at] for at in places])
                for at, one in zip(places, group_claims, strict=True):
                    out[at] = one
        return out


def leaks(rows: Sequence[Row], seed: int) -> list[Claim]:
    """Return claims from a random split of flows; it leaks, because calls are in both parts."""
    known = np.array([trainable(row) for row in rows], bool)
    generator = np.random.default_rng(derived_seed(seed, "tree", "leaks"))
    fold = generator.integers(0, FOLDS, len(rows))
    out: list[Claim] = [claim(NO_CALL, 1.0)] * len(rows)
    for turn in range(FOLDS):
        learn = [row for at, row in enumerate(rows) if known[at] and fold[at] != turn]
        places = np.flatnonzero(fold == turn).tolist()
        if not learn or not places:
            continue
        fold_claims = claims(fit(learn, seed), [rows[at] for at in places])
        for at, one in zip(places, fold_claims, strict=True):
            out[at] = one
    return out
