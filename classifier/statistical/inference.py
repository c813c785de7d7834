# SPDX-License-Identifier: BSD-3-Clause
"""The early model in the packet path: fitted trees as flat records, evaluated in compiled code.

One array of NODE records holds the model: a head per forest (its number of packets, where its trees
begin, its limits), the scores at which each percent of confidence begins, the trees' roots, then
their other nodes. A score equals scikit-learn's `predict_proba` to the bit: columns are float32,
limits float64, and leaves are added in the order of the trees. The columns of the current flow are
in the `column` field of the first records, so every engine needs its own copy of the array.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.kernel import I, kernel
from midcall.classifier.state.evidence import evidence, pack
from midcall.classifier.state.features import COLUMNS, LENGTHS, write_columns
from midcall.classifier.state.flow_table import Numbers, Records
from midcall.classifier.state.verdicts import MEDIA, RTC, UNSURE
from midcall.errors import ClassifierError
from midcall.locations import CLASSIFIER

NODE = np.dtype(
    [
        ("limit", "f8"),  # go left up to here; of a head: the score from which it is a call
        ("value", "f8"),  # a leaf's share of calls; of a head: the score below which it is no call
        ("feature", "i4"),  # column; of a head: its number of packets
        ("left", "i4"),  # record of the left child, -1: a leaf; of a head: of the first root
        ("right", "i4"),  # record of the right child; of a head: the number of trees
        ("column", "f4"),  # scratch: record i holds column i of the current flow
    ]
)

#: Steps of confidence per forest: 1 to 99 percent.
PERCENTS = 99

#: The model that is committed.
SHIPPED = CLASSIFIER / "models" / "early.npz"

NUMBER = 10
MODEL_CALL = evidence(
    RTC,
    NUMBER,
    UNSURE,
    MEDIA,
    "sizes and timing of {n} packets look like a call (model)",
)


@kernel
def climb(model: Records, root: int) -> float:
    """Return the share of calls in the leaf that the columns lead to."""
    at = root
    while model[at]["left"] >= 0:
        column = model[I(model[at]["feature"])]["column"]
        at = I(model[at]["left"]) if column <= model[at]["limit"] else I(model[at]["right"])
    return model[at]["value"]  # type: ignore[no-any-return]


@kernel
def score(model: Records, head: int) -> float:
    """Return the mean over a forest's trees for the columns in the array."""
    first, trees = I(model[head]["left"]), I(model[head]["right"])
    total = 0.0
    for tree in range(trees):
        total += climb(model, first + tree)
    return total / trees


@kernel
def percent(model: Records, head: int, reached: float) -> int:
    """Return the calibrated probability of a call in percent, 0 to 99."""
    first = len(LENGTHS) + PERCENTS * head
    least, most = I(0), I(PERCENTS)
    while least < most:
        middle = (least + most) // 2
        if model[first + middle]["limit"] <= reached:
            least = middle + 1
        else:
            most = middle
    return least


@kernel
def head_for(model: Records, seen: int) -> int:
    """Return the forest with the largest number of packets up to `seen`, -1 if there is none."""
    best = I(-1)
    if len(model) == 0:
        return best
    for head in range(len(LENGTHS)):
        if I(model[head]["feature"]) <= seen:
            best = I(head)
    return best


@kernel
def ask(note: Any, model: Records, alone: int) -> int:
    """Return the evidence of a call by sizes and timing, 0 if the model finds no call.

    The largest forest whose 4, 8 or 16 packets the note holds is used. After fingerprints that
    found nothing, the smaller forests must agree with it. With `alone` = 1 it decides alone.
    """
    last = head_for(model, I(note["seen"]))
    if last < 0:
        return 0
    reached = 0.0
    for head in range(last if alone else 0, last + 1):
        write_columns(note, I(model[head]["feature"]), model)
        reached = score(model, head)
        if reached < model[head]["limit"]:
            return 0
    return pack(RTC, NUMBER, UNSURE, MEDIA, percent(model, last, reached))


@kernel
def asked_with(note: Any, model: Records) -> int:
    """Return the number of packets that the model used, 0 if there are too few."""
    head = head_for(model, I(note["seen"]))
    return I(model[head]["feature"]) if head >= 0 else I(0)


# ---- from Python


@kernel
def score_rows(model: Records, head: int, rows: Any, out: Any) -> None:
    """Score float32[n, COLUMNS] rows; out[i] becomes row i's score."""
    for i in range(len(rows)):
        for column in range(rows.shape[1]):
            model[column]["column"] = rows[i, column]
        out[i] = score(model, head)


def scores(model: Records, length: int, rows: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the scores of float32[n, COLUMNS] rows of `length` packets each.

    Raises ClassifierError for a length without a forest and for rows of another width.
    """
    if length not in LENGTHS:
        raise ClassifierError(f"no forest for {length} packets: there are {LENGTHS}")
    if rows.ndim != 2 or rows.shape[1] != len(COLUMNS):
        raise ClassifierError(f"rows of shape {rows.shape}: expected (n, {len(COLUMNS)})")
    out = np.zeros(len(rows), np.float64)
    score_rows(model.copy(), LENGTHS.index(length), np.ascontiguousarray(rows, np.float32), out)
    return out


def check(model: Records) -> Records:
    """Return a model's records if every walk over them ends and stays inside the array.

    Raises ClassifierError otherwise. Every child must follow its parent, and every column exist.
    """
    count, heads = len(model), model[: len(LENGTHS)]
    sound = model.dtype == NODE and count >= max(len(COLUMNS), len(LENGTHS) * (1 + PERCENTS))
    if sound:
        first, trees = heads["left"].astype(np.int64), heads["right"].astype(np.int64)
        sound = tuple(heads["feature"].tolist()) == LENGTHS and bool(
            np.all(first >= len(LENGTHS) * (1 + PERCENTS))
            and np.all(trees >= 1)
            and np.all(first + trees <= count)
        )
    if sound:
        at = np.arange(count)
        inner = (model["left"] >= 0) & (at >= len(LENGTHS) * (1 + PERCENTS))
        left, right, feature = (model[name][inner] for name in ("left", "right", "feature"))
        sound = bool(
            np.all((left > at[inner]) & (left < count) & (right > at[inner]) & (right < count))
            and np.all((feature >= 0) & (feature < len(COLUMNS)))
        )
    if not sound:
        raise ClassifierError("early model: not a sound array of trees; make it with midcall train")
    return model


def save(path: Path, model: Records) -> None:
    """Write a model as compressed arrays (no pickle); the same model gives the same bytes."""
    fields = {name: model[name] for name in NODE.names or () if name != "column"}
    with open(path, "wb") as file:
        np.savez_compressed(file, allow_pickle=False, **fields)


def load(path: Path) -> Records:
    """Return the model of a file; raises ClassifierError if it cannot be read as one."""
    try:
        with np.load(path, allow_pickle=False) as file:
            count = len(file["limit"])
            model = np.zeros(count, NODE)
            for name in NODE.names or ():
                if name != "column":
                    model[name] = file[name]
    except (OSError, KeyError, ValueError) as error:
        raise ClassifierError(f"{path.name}: cannot be read as a model: {error}") from error
    return check(model)


@lru_cache(maxsize=1)
def shipped() -> Records:
    """Return the committed model, as a read-only array (an engine takes a copy)."""
    model = load(SHIPPED)
    model.flags.writeable = False
    return model


def none() -> Records:
    """Return NODE[0], which means: no model."""
    return np.zeros(0, NODE)


def heads_of(model: Records) -> Numbers:
    """Return int64[forests], the number of packets of each forest of a model."""
    return model[: len(LENGTHS)]["feature"].astype(np.int64)
