# SPDX-License-Identifier: BSD-3-Clause
"""The model card: accuracy of the early model on groups of captures outside its training data.

Every figure is from leave-one-group-out: the rows of a group are scored by a forest whose trees,
calibration and limits were fitted on the other groups. Only the row "optimistic (leaks)" uses a
random split, which separates flows of one capture. The figures of the main table are also in
early.json, for programs.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.classifier.state.features import COLUMNS, LENGTHS
from midcall.classifier.state.flow_table import Records
from midcall.classifier.statistical import training
from midcall.experiments.accuracy.train import CALL, NEITHER, NONE, Data, Rows
from midcall.experiments.measure.intervals import derived_seed, rule_of_three
from midcall.locations import TEMPLATES

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

RANDOM_FOLDS = 10
COVERAGES = (1.0, 0.9, 0.75, 0.5)
RESAMPLES = 1000
TEMPLATE = TEMPLATES / "early.md"

#: Row numbers, and the forest that scores them.
Scored = tuple[NDArray[np.int64], training.Forest]
#: One row of the main table.
Figures = dict[str, Any]


class Card(NamedTuple):
    """A model card: its text (Markdown) and the content of early.json."""

    text: str
    figures: dict[str, Any]


class Held(NamedTuple):
    """Predictions for rows, each by a forest that was fitted without the row's group.

    truth: NONE or CALL; score; probability (calibrated); says: 1 call, 0 none, -1 in doubt.
    """

    truth: Ints
    group: Ints
    score: Floats
    probability: Floats
    says: Ints

    def take(self, which: Flags) -> Held:
        """Return some of the rows."""
        return Held(
            self.truth[which],
            self.group[which],
            self.score[which],
            self.probability[which],
            self.says[which],
        )


def says(forest: training.Forest, scores: Floats) -> Ints:
    """Return the decision for each score: 1 call, 0 no call, -1 in doubt."""
    return np.where(scores >= forest.call, 1, np.where(scores < forest.quiet, 0, -1))


def held_out(rows: Rows, n: int, seed: int, by_group: bool, extra: Flags) -> tuple[Held, Held]:
    """Return predictions for the rows of n packets with a class, and for the `extra` rows.

    by_group: leave one group out; else a random split. extra: bool[rows], rows that are only
    scored, never trained on, each by the forest that left out its group.
    """
    whole = rows.packets >= n
    at = np.flatnonzero(whole & (rows.truth != NEITHER))
    also = np.flatnonzero(whole & extra)
    calls, groups = rows.truth[at] == CALL, rows.group[at]
    unit = groups if by_group else np.arange(len(at))
    count = len(np.unique(unit)) if by_group else RANDOM_FOLDS
    parts: tuple[list[Scored], list[Scored]] = ([], [])
    for train, test in training.folds(calls, unit, count, seed):
        forest = training.fit(rows.columns[n][at[train]], calls[train], unit[train], seed)
        parts[0].append((at[test], forest))
        if by_group:
            mine = also[np.isin(rows.group[also], np.unique(groups[test]))]
            parts[1].append((mine, forest))
    unseen = also[~np.isin(rows.group[also], groups)]
    if by_group and len(unseen):
        whole_forest = training.fit(rows.columns[n][at], calls, groups, seed)
        parts[1].append((unseen, whole_forest))
    return scored(rows, n, parts[0]), scored(rows, n, parts[1])


def scored(rows: Rows, n: int, parts: list[Scored]) -> Held:
    """Return the predictions of each part by its own forest, in the order of the table."""
    parts = [(which, forest) for which, forest in parts if len(which)]
    if not parts:
        none = np.zeros(0)
        return Held(none.astype(int), none.astype(int), none, none, none.astype(int))
    which = np.concatenate([places for places, _ in parts])
    scores = [forest.score(rows.columns[n][places]) for places, forest in parts]
    likely = [forest.probability(values) for (_, forest), values in zip(parts, scores, strict=True)]
    decisions = [says(forest, values) for (_, forest), values in zip(parts, scores, strict=True)]
    order = np.argsort(which, kind="stable")
    return Held(
        rows.truth[which][order],
        rows.group[which][order],
        np.concatenate(scores)[order],
        np.concatenate(likely)[order],
        np.concatenate(decisions)[order],
    )


# ---- figures


def balanced(predictions: Held, weights: Floats | None = None) -> float | None:
    """Return the balanced accuracy at probability 0.5, None if a class is missing."""
    weights = np.ones(len(predictions.truth)) if weights is None else weights
    right = (predictions.probability >= 0.5) == (predictions.truth == CALL)
    shares = []
    for side in (NONE, CALL):
        mine = predictions.truth == side
        if weights[mine].sum() == 0:
            return None
        shares.append(float((weights * right)[mine].sum() / weights[mine].sum()))
    return float(np.mean(shares))


def weights_of(predictions: Held) -> Floats:
    """Return weights such that each group counts once per class."""
    return training.group_weights(predictions.truth == CALL, predictions.group)


def interval(predictions: Held, seed: int) -> tuple[float, float] | None:
    """Return the 95 % interval of the group-weighted balanced accuracy (groups resampled)."""
    rng = np.random.default_rng(derived_seed(seed, "card", "balanced"))
    groups, which = np.unique(predictions.group, return_inverse=True)
    base, values = weights_of(predictions), []
    for _ in range(RESAMPLES):
        drawn = np.bincount(rng.integers(0, len(groups), len(groups)), minlength=len(groups))
        value = balanced(predictions, base * drawn[which])
        if value is not None:
            values.append(value)
    if not values:
        return None
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def auroc(predictions: Held) -> float | None:
    """Return the group-weighted area under the ROC curve, None if a class is missing."""
    from sklearn.metrics import roc_auc_score

    if len(np.unique(predictions.truth)) < 2:
        return None
    value = roc_auc_score(
        predictions.truth == CALL, predictions.probability, sample_weight=weights_of(predictions)
    )
    return float(value)


def calibration_error(predictions: Held, bins: int = 10) -> float | None:
    """Return the expected calibration error over equal bins, None if a class is missing.

    Groups and classes have equal weight.
    """
    if len(np.unique(predictions.truth)) < 2:
        return None
    weights, error = weights_of(predictions), 0.0
    place = np.minimum((predictions.probability * bins).astype(int), bins - 1)
    for index in range(bins):
        mine = place == index
        if mine.any():
            share = weights[mine] / weights[mine].sum()
            distance = float(
                share @ (predictions.probability[mine] - (predictions.truth[mine] == CALL))
            )
            error += float(weights[mine].sum()) * abs(distance)
    return error / float(weights.sum())


def risk(predictions: Held, coverage: float) -> tuple[int, int]:
    """Return (wrong, answered) if only a share of the rows is answered: the most certain ones."""
    order = np.argsort(-np.abs(predictions.probability - 0.5), kind="stable")
    answered = order[: max(round(coverage * len(order)), 1)] if len(order) else order
    wrong = (predictions.probability[answered] >= 0.5) != (predictions.truth[answered] == CALL)
    return int(wrong.sum()), len(answered)


def counts(predictions: Held) -> tuple[str, str, str]:
    """Return calls found, false calls and rows in doubt at the model's limits, as "k of n"."""
    call = predictions.truth == CALL
    right, false = (
        int((predictions.says[call] == 1).sum()),
        int((predictions.says[~call] == 1).sum()),
    )
    doubt = int((predictions.says == -1).sum())
    totals = int(call.sum()), int((~call).sum()), len(call)
    return (
        f"{right} of {totals[0]}",
        f"{false} of {totals[1]}",
        f"{doubt} of {totals[2]}",
    )


# ---- the page


def number(value: float | None) -> str:
    """Return a figure with three places, or n/a where it is undefined."""
    return "n/a" if value is None else f"{value:.3f}"


def measured(
    n: int, split: str, predictions: Held, seed: int, with_interval: bool = True
) -> Figures:
    """Return one row of the main table as numbers; n: packets."""
    call = predictions.truth == CALL
    low, high = (interval(predictions, seed) if with_interval else None) or (None, None)
    return {
        "packets": n,
        "split": split,
        "calls": int(call.sum()),
        "call_groups": len(np.unique(predictions.group[call])),
        "none": int((~call).sum()),
        "none_groups": len(np.unique(predictions.group[~call])),
        "balanced": balanced(predictions),
        "balanced_groups": balanced(predictions, weights_of(predictions)),
        "low": low,
        "high": high,
        "auroc": auroc(predictions),
        "calibration_error": calibration_error(predictions),
        "at_limits": list(counts(predictions)),
    }


def figures(row: Figures) -> str:
    """Return one row of the main table as Markdown."""
    around = f" [{row['low']:.2f}, {row['high']:.2f}]" if row["low"] is not None else ""
    cells = [
        str(row["packets"]),
        row["split"],
        f"{row['calls']} ({row['call_groups']})",
        f"{row['none']} ({row['none_groups']})",
        number(row["balanced"]),
        number(row["balanced_groups"]) + around,
        number(row["auroc"]),
        number(row["calibration_error"]),
        *row["at_limits"],
    ]
    return f"| {' | '.join(cells)} |"


def per_app(rows: Rows, seed: int) -> list[str]:
    """Return one line per app with media: accuracy of a model for that app, or n/a."""
    n = LENGTHS[-1]
    media = (rows.truth == CALL) & (rows.start == 0) & (rows.packets >= n)
    lines = []
    for app in sorted(set(rows.app[rows.truth == CALL]) - {"other-rtc"}):
        mine = rows.app[media] == app
        groups = len(np.unique(rows.group[media][mine]))
        if groups < training.LEAST_GROUPS:
            lines.append(f"| {app} | n/a ({groups} group{'s' * (groups != 1)}) |")
            continue
        table, unit = rows.columns[n][media], rows.group[media]
        right: dict[bool, list[bool]] = defaultdict(list)
        for train, test in training.folds(mine, unit, len(np.unique(unit)), seed):
            forest = training.grow(table[train], mine[train], unit[train], seed)
            chosen = forest.predict(table[test])
            for is_app, predicted in zip(mine[test].tolist(), chosen.tolist(), strict=True):
                right[is_app].append(is_app == predicted)
        shares = [float(np.mean(right[side])) for side in (False, True)]
        lines.append(f"| {app} | balanced accuracy {np.mean(shares):.3f}, {groups} groups |")
    return lines


def unseen_apps(rows: Rows, seed: int) -> list[str]:
    """Return one line per app: decisions of forests trained without any group of that app."""
    lines = []
    for app in sorted(set(rows.app[rows.truth == CALL])):
        cells = []
        for n in LENGTHS:
            whole = (rows.packets >= n) & (rows.truth != NEITHER)
            mine = whole & (rows.app == app) & (rows.truth == CALL) & (rows.start == 0)
            away = whole & ~np.isin(rows.group, rows.group[(rows.app == app)])
            calls, groups = rows.truth[away] == CALL, rows.group[away]
            if not mine.any() or not training.enough(calls, groups):
                cells.append("n/a")
                continue
            forest = training.fit(rows.columns[n][away], calls, groups, seed)
            decisions = says(forest, forest.score(rows.columns[n][mine]))
            cells.append(
                f"{int((decisions == 1).sum())} / {int((decisions == -1).sum())} "
                f"of {len(decisions)}"
            )
        lines.append(f"| {app} | " + " | ".join(cells) + " |")
    return lines


def part(rows: Rows, n: int, predictions: Held, start: bool, extra: bool = False) -> Held:
    """Return the predictions at the start of flows, or in mid-flow.

    extra: whether the predictions are those of the `extra` rows of `held_out`.
    """
    selected = (rows.packets >= n) & ((rows.truth == NEITHER) == extra)
    return predictions.take((rows.start[selected] == 0) == start)


def silent_line(rows: Rows, n: int, agreed: Flags) -> str:
    """Return the line on flows in which the fingerprints find no sign of a call.

    agreed: bool[rows], whether all forests that left out the row's group decide for a call.
    """
    cells = []
    for truth in (NONE, CALL):
        selected = rows.silent & (rows.start == 0) & (rows.truth == truth) & (rows.packets >= n)
        called, total = int(agreed[selected].sum()), int(selected.sum())
        groups = len(np.unique(rows.group[selected]))
        bound = f", below {rule_of_three(groups):.2f} of groups" if groups and not called else ""
        cells.append(f"{called} of {total} ({groups} groups{bound if truth == NONE else ''})")
    every = (rows.start == 0) & (rows.packets >= n)
    for truth in (NONE, CALL):
        mine = every & (rows.truth == truth)
        cells.append(f"{int(agreed[mine].sum())} of {int(mine.sum())}")
    return f"| {n} | " + " | ".join(cells) + " |"


def card(data: Data, compiled: Records, seed: int) -> Card:
    """Return the model card."""
    rows = data.rows
    neither = rows.truth == NEITHER
    agreed = ~neither
    table: list[Figures] = []
    silent, curve, setup = [], [], []
    for n in LENGTHS:
        by_group = held_out(rows, n, seed, True, neither)
        leaky = held_out(rows, n, seed, False, neither)
        start = part(rows, n, by_group[0], True)
        table.append(measured(n, "leave one group out", start, seed))
        mid = part(rows, n, by_group[0], False)
        table.append(measured(n, "the same, mid-flow", mid, seed, False))
        leaks = part(rows, n, leaky[0], True)
        table.append(measured(n, "random split: optimistic (leaks)", leaks, seed, False))
        agreed[(rows.packets >= n) & ~neither] &= by_group[0].says == 1
        silent.append(silent_line(rows, n, agreed))
        pairs = (risk(start, share) for share in COVERAGES)
        curve.append(f"| {n} | " + " | ".join(f"{bad} of {all_}" for bad, all_ in pairs) + " |")
        other = part(rows, n, by_group[1], True, extra=True)
        setup.append(f"| {n} | {int((other.says == 1).sum())} of {len(other.says)} |")
    tables = {
        "table": [figures(row) for row in table],
        "mute": silent,
        "curve": curve,
        "setup": setup,
        "apps": per_app(rows, seed),
        "unseen": unseen_apps(rows, seed),
    }
    text = page(data, compiled, seed, {key: "\n".join(lines) for key, lines in tables.items()})
    return Card(text, {"schema": 1, "model": digest(compiled), "seed": seed, "rows": table})


def digest(compiled: Records) -> str:
    """Return the sha256 (hex) that identifies the model of the figures."""
    fields = [compiled[name] for name in compiled.dtype.names or () if name != "column"]
    return hashlib.sha256(
        b"".join(np.ascontiguousarray(one).tobytes() for one in fields)
    ).hexdigest()


def used(data: Data) -> list[Any]:
    """Return the captures that have a row, sorted by name."""
    groups = {data.groups[group] for group in data.rows.group}
    return [one for one in data.captures if one.group in groups]


def page(data: Data, compiled: Records, seed: int, tables: dict[str, str]) -> str:
    """Return the text of the card with its tables."""
    import sklearn

    heads = compiled[: len(LENGTHS)]
    members = used(data)
    facts: dict[str, object] = {
        "seed": seed,
        "sklearn": sklearn.__version__,
        "numpy": np.__version__,
        "records": len(compiled),
        "trees": training.TREES,
        "depth": training.DEPTH,
        "columns": len(COLUMNS),
        "inner": training.INNER,
        "least": training.LEAST_GROUPS,
        "false_calls": f"{training.FALSE_CALLS:.1%}",
        "limits": ", ".join(f"{one['limit']:.3f} at {one['feature']}" for one in heads),
        "count": len(members),
        "groups": len({one.group for one in members}),
        "missing": ", ".join(data.missing) or "none",
        "sources": "\n".join(f"| {one.name} | {one.group} | `{one.sha256}` |" for one in members),
    }
    return TEMPLATE.read_text(encoding="utf-8").format_map(facts | tables)
