# SPDX-License-Identifier: BSD-3-Clause
"""`midcall train`: fits the early model on real captures and their truth, and writes its card.

The rows are flows of real captures; synthetic captures are neither trained on nor counted. A media
flow is a call; a flow of an innocent capture, or of no call, is none; set-up and control flows are
neither and are reported separately. The same captures, seed and versions give the same bytes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.fetch.fetch import obtain
from midcall.captures.packets.pcap import read_with_notices
from midcall.captures.truth.catalogue import Capture, load
from midcall.captures.truth.labels import labels
from midcall.classifier.apps.webrtc import NOTHING_FOUND
from midcall.classifier.engine import Engine
from midcall.classifier.state.features import LENGTHS
from midcall.classifier.statistical import inference, training
from midcall.classifier.training_windows import windows
from midcall.errors import ExperimentError
from midcall.experiments.results import schema

#: The truth of a row. Flows of calls without media are neither call nor none.
NONE, CALL, NEITHER = 0, 1, 2
SEED = 20161105


class Rows(NamedTuple):
    """Windows of all captures that train, one row each.

    truth: NONE, CALL or NEITHER; group: number of the capture's group; app: name; start: payload
    packets before the window; packets: packets in it; silent: True where the fingerprints find no
    sign of a call in the flow; columns: length -> float32[n, COLUMNS].
    """

    truth: NDArray[np.int64]
    group: NDArray[np.int64]
    app: NDArray[np.object_]
    start: NDArray[np.int64]
    packets: NDArray[np.int64]
    silent: NDArray[np.bool_]
    columns: dict[int, NDArray[np.float32]]


class Data(NamedTuple):
    """Training data: the rows, their captures, the names of groups, and missing captures."""

    rows: Rows
    captures: list[Capture]
    groups: list[str]
    missing: list[str]


def truths(capture: Capture) -> dict[int, tuple[int, str]]:
    """Return first frame -> (truth, app) of a call capture's scored UDP flows."""
    truth_of = {}
    for label in labels(capture.sha256, with_local=False):
        if label.scored and label.proto == "udp":
            quiet = label.role in ("other", "messaging")
            truth = CALL if label.role == "media" else NONE if quiet else NEITHER
            truth_of[label.frame] = (truth, label.app)
    return truth_of


def rows_of(capture: Capture, path: Path, group: int) -> Rows:
    """Return the rows of one capture; flows without a scored label are left out."""
    packets, _ = read_with_notices(path)
    cut = windows(packets)
    truth_of = truths(capture)
    if capture.role == "innocent":
        truth_of = {int(frame): (NONE, "none") for frame in cut.frame}
    keep = np.array([int(frame) in truth_of for frame in cut.frame], bool)
    row_truths = [truth_of[int(frame)] for frame in cut.frame[keep]]
    engine = Engine(model=None)
    engine.feed(packets)
    flows = engine.flows()
    silent = flows["first_record"][flows["evidence"] == NOTHING_FOUND & 0xFFFF] + 1
    return Rows(
        np.array([truth for truth, _ in row_truths], np.int64),
        np.full(len(row_truths), group, np.int64),
        np.array([app for _, app in row_truths], object),
        cut.start[keep],
        cut.packets[keep],
        np.isin(cut.frame[keep], silent),
        {n: cut.columns[n][keep] for n in LENGTHS},
    )


def joined(parts: list[Rows]) -> Rows:
    """Return the rows of several captures as one table."""
    return Rows(
        np.concatenate([part.truth for part in parts]),
        np.concatenate([part.group for part in parts]),
        np.concatenate([part.app for part in parts]),
        np.concatenate([part.start for part in parts]),
        np.concatenate([part.packets for part in parts]),
        np.concatenate([part.silent for part in parts]),
        {n: np.concatenate([part.columns[n] for part in parts]) for n in LENGTHS},
    )


def gather(corpus: Path | None, progress: Callable[[str], None] | None = None) -> Data:
    """Obtain the real captures of the catalogue and read their rows.

    corpus: a folder of captures, searched first. Raises ExperimentError if none could be obtained.
    """
    catalogue = load(local=False)
    wanted = sorted((one for one in catalogue.captures if not one.ours), key=lambda c: c.name)
    obtained = obtain(catalogue, corpus=corpus)
    available = [one for one in wanted if one.sha256 in obtained.paths]
    missing = [one.name for one in wanted if one.sha256 not in obtained.paths]
    if not available:
        raise ExperimentError(
            "midcall train: no real capture could be obtained; give a folder of them with --corpus"
        )
    groups = sorted({one.group for one in available})
    parts = []
    for one in available:
        if progress is not None:
            progress(one.name)
        parts.append(rows_of(one, Path(obtained.paths[one.sha256]), groups.index(one.group)))
    return Data(joined(parts), available, groups, missing)


def fitted(rows: Rows, seed: int) -> dict[int, training.Forest]:
    """Return the forests trained on every row that is a call or none."""
    clear = rows.truth != NEITHER
    return training.train(
        {n: rows.columns[n][clear] for n in LENGTHS},
        {n: rows.packets[clear] >= n for n in LENGTHS},
        rows.truth[clear] == CALL,
        rows.group[clear],
        seed,
    )


def train(
    corpus: Path | None, out: Path, progress: Callable[[str], None] | None = None, seed: int = SEED
) -> tuple[Path, Path]:
    """Train on all captures that can be obtained; write early.npz, early.md, early.json to `out`.

    Returns the paths of the first two. Raises ExperimentError or ClassifierError if there are too
    few captures.
    """
    from midcall.experiments.accuracy.model_card import card

    data = gather(corpus, progress)
    if progress is not None:
        progress("folds")
    compiled = training.compiled(fitted(data.rows, seed))
    model_card = card(data, compiled, seed)
    out.mkdir(parents=True, exist_ok=True)
    arrays, page = out / "early.npz", out / "early.md"
    inference.save(arrays, compiled)
    page.write_text(model_card.text, encoding="utf-8")
    schema.write_json(out / "early.json", model_card.figures)
    return arrays, page
