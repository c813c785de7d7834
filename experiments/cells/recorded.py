# SPDX-License-Identifier: BSD-3-Clause
"""Outcomes of the classifier on the committed recordings, apart from those on public captures.

The recordings are calls and other traffic of real programs in the lab (docs/howto/record.md). They
do not count in any figure of public captures, and nothing is learned from them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, TypedDict

from midcall.captures.truth.calls import calls
from midcall.captures.truth.catalogue import Capture, load
from midcall.captures.truth.labels import labels
from midcall.captures.truth.paths import recorded
from midcall.experiments.cells import offline
from midcall.experiments.measure import metrics
from midcall.experiments.results.tables import FlowRow
from midcall.experiments.spec.corpus import Item
from midcall.experiments.spec.spec import Spec

COUNTED = (*metrics.OUTCOMES, "quiet", "false_call")
#: Columns that are listed of a flow with a wrong outcome.
LISTED: tuple[
    Literal["capture", "frame", "truth_app", "truth_role", "verdict", "app", "role", "evidence",
            "outcome"], ...
] = ("capture", "frame", "truth_app", "truth_role", "verdict", "app", "role", "evidence",
     "outcome")  # fmt: skip
WRONG = ("other_call", "unsure", "missed", "false_call")


class Recorded(TypedDict):
    """Outcomes on the recordings: in all, by kind of recording, and the flows that are wrong."""

    total: dict[str, int]
    rows: list[dict[str, object]]
    wrong: list[dict[str, object]]


def items() -> Iterator[Item]:
    """Yield the committed recordings with their truth, sorted by name; raises CaptureError."""
    chosen = [one for one in load(local=False).captures if one.recorded]
    for one in sorted(chosen, key=lambda capture: capture.name):
        path = recorded().folder / one.file
        yield Item(one, path, calls(one.sha256, False), labels(one.sha256, False))


def summary_block(spec: Spec) -> dict[str, Recorded]:
    """Return `recorded` of a run's summary; {} unless the run uses all public captures."""
    chosen = spec.captures
    return {"recorded": block()} if chosen.real and chosen.names is None else {}


def block() -> Recorded:
    """Return `recorded` of summary.json, see `summarise`; raises CaptureError."""
    return summarise((item.capture, offline.examine(item).rows) for item in items())


def summarise(recordings: Iterable[tuple[Capture, Sequence[FlowRow]]]) -> Recorded:
    """Return outcomes by kind of recording, and the flows with a wrong outcome.

    recordings: with the rows of their flows. rows: captures, flows, the outcomes of
    metrics.outcome, and of the quiet flows those that were unsure; wrong: each flow whose outcome
    is of WRONG. Counts alone: the recordings of one program are one cluster.
    """
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    wrong: list[dict[str, object]] = []
    for capture, flows in recordings:
        tally = counts[capture.role, capture.content]
        tally["captures"] += 1
        for row in flows:
            if row["outcome"] in COUNTED:
                tally["flows"] += 1
                tally[row["outcome"]] += 1
                tally["quiet_unsure"] += row["outcome"] == "quiet" and row["verdict"] == "unsure"
            if row["outcome"] in WRONG:
                wrong.append({key: row[key] for key in LISTED})
    keys = ("captures", "flows", *COUNTED, "quiet_unsure")
    rows: list[dict[str, object]] = [
        {"role": role, "content": content} | {key: tally[key] for key in keys}
        for (role, content), tally in sorted(counts.items())
    ]
    total = sum(counts.values(), Counter[str]())
    return {"total": {key: total[key] for key in keys}, "rows": rows, "wrong": wrong}
