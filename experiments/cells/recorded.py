# SPDX-License-Identifier: BSD-3-Clause
"""What the classifier says of the committed recordings: rows of their own beside public captures.

They are calls and other traffic of real programs in the lab (docs/howto/record.md). Nothing here is
added to a figure of public captures, and nothing is learned from them.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from midcall.captures.truth.calls import calls
from midcall.captures.truth.catalogue import Capture, load
from midcall.captures.truth.labels import labels
from midcall.captures.truth.paths import recorded
from midcall.experiments.cells import offline
from midcall.experiments.measure import metrics
from midcall.experiments.spec.corpus import Item
from midcall.experiments.spec.spec import Spec

Row = Mapping[str, Any]

COUNTED = (*metrics.OUTCOMES, "quiet", "false_call")
#: What is told of a flow that went wrong.
TOLD = ("capture", "frame", "truth_app", "truth_role", "verdict", "app", "role", "evidence")
WRONG = ("other_call", "unsure", "missed", "false_call")


def items() -> Iterator[Item]:
    """Yield the committed recordings with their truth, in order of name; CaptureError."""
    chosen = [one for one in load(local=False).captures if one.recorded]
    for one in sorted(chosen, key=lambda held: held.name):
        path = recorded().folder / one.file
        yield Item(one, path, calls(one.sha256, False), labels(one.sha256, False))


def beside(spec: Spec) -> dict[str, Any]:
    """Return what a run adds to its summary: `recorded`, where it looks at all public captures."""
    chosen = spec.captures
    return {"recorded": block()} if chosen.real and chosen.names is None else {}


def block() -> dict[str, Any]:
    """Return `recorded` of summary.json, see `told`; raises CaptureError."""
    return told((item.capture, offline.examine(item).rows) for item in items())


def told(seen: Iterable[tuple[Capture, Sequence[Row]]]) -> dict[str, Any]:
    """Return outcomes per kind of recording, and what went wrong.

    seen: recordings and the rows of their flows. rows: captures, flows, the outcomes of
    metrics.outcome, and of the quiet flows those that were unsure; wrong: each flow whose outcome
    is of WRONG. Counts alone: the recordings of one program are one cluster.
    """
    counts: dict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    wrong = []
    for capture, flows in seen:
        held = counts[capture.role, capture.content]
        held["captures"] += 1
        for row in flows:
            if row["outcome"] in COUNTED:
                held["flows"] += 1
                held[row["outcome"]] += 1
                held["quiet_unsure"] += row["outcome"] == "quiet" and row["verdict"] == "unsure"
            if row["outcome"] in WRONG:
                wrong.append({key: row[key] for key in TOLD} | {"outcome": row["outcome"]})
    keys = ("captures", "flows", *COUNTED, "quiet_unsure")
    rows = [
        {"role": role, "content": content} | {key: held[key] for key in keys}
        for (role, content), held in sorted(counts.items())
    ]
    total = sum(counts.values(), Counter[str]())
    return {"total": {key: total[key] for key in keys}, "rows": rows, "wrong": wrong}
