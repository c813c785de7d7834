# SPDX-License-Identifier: BSD-3-Clause
"""The small tree: a depth-limited decision tree over sizes, gaps and directions, as a baseline.

It sees no payload, no address and no port. It is trained on undisturbed flows of all capture groups
but one and judges the flows of that one, so nothing of a call is on both sides. `leaks` trains and
judges on a random split of the same flows instead: the optimistic figure that literature reports.
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

#: Payload packets of a flow that the tree sees, its depth, and the flows a leaf must hold.
PACKETS, DEPTH, LEAF = 16, 6, 5
#: A leaf below this share of one class is unsure.
SURE = 0.5
FOLDS = 10
QUIET = "none"


def features(
    sizes: NDArray[np.int64], times: NDArray[np.int64], up: NDArray[np.int64]
) -> list[float]:
    """Return what the tree sees of a flow's payload packets, in order.

    sizes: payload bytes; times: ns; up: 1 for the opener's direction. Signed sizes (the first
    packet's direction is positive) and gaps in ms of the first PACKETS, then their means.
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
    held: list[float] = row.tolist()
    return held


def truth(row: Row) -> str:
    """Return the class of a flow: its app's family, or none for a flow of no call."""
    return metrics.family(row["truth_app"]) if row["outcome"] in metrics.OUTCOMES else QUIET


def trainable(row: Row) -> bool:
    """Tell whether a row may teach: real, scored, and of a role that is a call or is none."""
    scored = row["outcome"] != "unscored" and row["truth_role"] != "control"
    return scored and not row["synthetic"]


def fit(rows: Sequence[Row], seed: int) -> DecisionTreeClassifier:
    """Return a tree that learned from the given rows (each with its `features`)."""
    tree = DecisionTreeClassifier(
        max_depth=DEPTH, min_samples_leaf=LEAF, random_state=derived_seed(seed, "tree") % 2**32
    )
    return tree.fit(np.array([row["features"] for row in rows]), [truth(row) for row in rows])


def claims(tree: DecisionTreeClassifier, rows: Sequence[Row]) -> list[Claim]:
    """Return what the tree says of each row."""
    if not rows:
        return []
    seen = np.array([row["features"] for row in rows], np.float32)  # what scikit-learn makes of it
    chances = tree.predict_proba(seen, check_input=False)
    best = chances.argmax(axis=1)
    return [claim(str(tree.classes_[at]), float(chances[i, at])) for i, at in enumerate(best)]


def claim(app: str, chance: float) -> Claim:
    """Return a class and its chance as a verdict."""
    if app == QUIET:
        return {"verdict": "not-call", "app": "none", "role": "other"}
    verdict = "certain" if chance > SURE else "unsure"
    return {"verdict": verdict, "app": app, "role": "media"}


class Forester:
    """Holds one tree per capture group, trained without it, and one of all for unknown groups."""

    def __init__(self, rows: Sequence[Row], seed: int) -> None:
        known = [row for row in rows if trainable(row)]
        self.trees: dict[str, DecisionTreeClassifier] = {}
        self.whole = fit(known, seed) if known else None
        for group in sorted({row["group"] for row in known}):
            others = [row for row in known if row["group"] != group]
            if others:
                self.trees[group] = fit(others, seed)

    def judge(self, rows: Sequence[Row]) -> list[Claim]:
        """Return a claim per row, each by the tree that never saw the row's group."""
        out: list[Claim] = [claim(QUIET, 1.0)] * len(rows)
        groups: dict[str, list[int]] = {}
        for at, row in enumerate(rows):
            groups.setdefault(row["group"], []).append(at)
        for group, places in groups.items():
            tree = self.trees.get(group, self.whole)
            if tree is not None:
                said = claims(tree, [rows[at] for at in places])
                for at, word in zip(places, said, strict=True):
                    out[at] = word
        return out


def leaks(rows: Sequence[Row], seed: int) -> list[Claim]:
    """Return claims by a random split of flows: calls are on both sides, so this is optimistic."""
    known = np.array([trainable(row) for row in rows], bool)
    generator = np.random.default_rng(derived_seed(seed, "tree", "leaks"))
    fold = generator.integers(0, FOLDS, len(rows))
    out: list[Claim] = [claim(QUIET, 1.0)] * len(rows)
    for turn in range(FOLDS):
        learn = [row for at, row in enumerate(rows) if known[at] and fold[at] != turn]
        places = np.flatnonzero(fold == turn).tolist()
        if not learn or not places:
            continue
        said = claims(fit(learn, seed), [rows[at] for at in places])
        for at, word in zip(places, said, strict=True):
            out[at] = word
    return out
