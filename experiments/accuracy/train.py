# SPDX-License-Identifier: BSD-3-Clause
"""Training: real captures and their truth in, the early model and its card out (`midcall train`).

The rows are flows of real captures alone; synthetic ones never train and never count. A flow that
carries media is a call, a flow of an innocent capture or of no call is none; set-up and control
are neither, they are reported apart. The same captures, seed and versions give the same bytes.
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

#: What a row is. Flows of calls that carry no media are neither call nor none.
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
    """What was obtained: the rows, the captures they come from, the names of their groups."""

    rows: Rows
    captures: list[Capture]
    groups: list[str]
    missing: list[str]


def truths(capture: Capture) -> dict[int, tuple[int, str]]:
    """Return first frame -> (truth, app) of a call capture's scored UDP flows."""
    found = {}
    for label in labels(capture.sha256, with_local=False):
        if label.scored and label.proto == "udp":
            quiet = label.role in ("other", "messaging")
            truth = CALL if label.role == "media" else NONE if quiet else NEITHER
            found[label.frame] = (truth, label.app)
    return found


def rows_of(capture: Capture, path: Path, group: int) -> Rows:
    """Return the rows of one capture; flows without a scored label are left out."""
    packets, _ = read_with_notices(path)
    found = windows(packets)
    known = truths(capture)
    if capture.role == "innocent":
        known = {int(frame): (NONE, "none") for frame in found.frame}
    keep = np.array([int(frame) in known for frame in found.frame], bool)
    told = [known[int(frame)] for frame in found.frame[keep]]
    engine = Engine(model=None)
    engine.feed(packets)
    flows = engine.flows()
    mute = flows["first_record"][flows["evidence"] == NOTHING_FOUND & 0xFFFF] + 1
    return Rows(
        np.array([truth for truth, _ in told], np.int64),
        np.full(len(told), group, np.int64),
        np.array([app for _, app in told], object),
        found.start[keep],
        found.packets[keep],
        np.isin(found.frame[keep], mute),
        {n: found.columns[n][keep] for n in LENGTHS},
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

    corpus: a folder looked in first. Raises ExperimentError when too few could be had.
    """
    catalogue = load(local=False)
    wanted = sorted((one for one in catalogue.captures if not one.ours), key=lambda c: c.name)
    had = obtain(catalogue, corpus=corpus)
    here = [one for one in wanted if one.sha256 in had.paths]
    missing = [one.name for one in wanted if one.sha256 not in had.paths]
    if not here:
        raise ExperimentError(
            "midcall train: no real capture could be obtained; give a folder of them with --corpus"
        )
    groups = sorted({one.group for one in here})
    parts = []
    for one in here:
        if progress is not None:
            progress(one.name)
        parts.append(rows_of(one, Path(had.paths[one.sha256]), groups.index(one.group)))
    return Data(joined(parts), here, groups, missing)


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
    """Train on what can be obtained; writes early.npz, early.md and early.json into `out`.

    Returns the first two.

    Raises ExperimentError or ClassifierError where the captures do not suffice.
    """
    from midcall.experiments.accuracy.model_card import card

    data = gather(corpus, progress)
    if progress is not None:
        progress("folds")
    compiled = training.compiled(fitted(data.rows, seed))
    told = card(data, compiled, seed)
    out.mkdir(parents=True, exist_ok=True)
    arrays, page = out / "early.npz", out / "early.md"
    inference.save(arrays, compiled)
    page.write_text(told.text, encoding="utf-8")
    schema.write_json(out / "early.json", told.figures)
    return arrays, page
