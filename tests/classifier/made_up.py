# SPDX-License-Identifier: BSD-3-Clause
"""Made-up feature rows: calls differ from the rest in three columns, each group a bit its own."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from midcall.classifier.state.features import COLUMNS, LENGTHS
from midcall.classifier.statistical import training

Table = tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.int64]]

GROUPS, EACH = 24, 8


def table(seed: int = 4) -> Table:
    """Return rows, calls and groups: half of the groups hold calls."""
    rng = np.random.default_rng(seed)
    groups = np.repeat(np.arange(GROUPS), EACH)
    calls = groups % 2 == 0
    rows = rng.normal(scale=100.0, size=(len(groups), len(COLUMNS)))
    rows += rng.normal(scale=30.0, size=(GROUPS, len(COLUMNS)))[groups]
    rows[calls, :3] += 500.0
    return rows.astype(np.float32), calls, groups.astype(np.int64)


def forests(made: Table, seed: int = 1) -> dict[int, training.Forest]:
    """Return forests for every packet count, trained on the made-up rows."""
    rows, calls, groups = made
    columns = {n: rows + np.float32(n) for n in LENGTHS}
    return training.train(
        columns, {n: np.ones(len(calls), bool) for n in LENGTHS}, calls, groups, seed
    )
