# SPDX-License-Identifier: BSD-3-Clause
"""The regression count: how many of many thousand innocent flows the engine classifies as a call.

Half of the flows are crafted (captures.synthetic.background). Half are copies of flows of real
innocent captures, with other addresses, ports and times but the same payloads. Neither half is a
sample of any network, and copies are not independent observations. So the count does not estimate a
rate. It should be 0, and it shows whether a change of the classifier increases it.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np

from midcall.captures.synthetic.background import TCP, UDP
from midcall.classifier.engine import Engine
from midcall.classifier.export import sentences
from midcall.classifier.state.verdicts import APPS, CERTAIN, MESSAGING, NONE, OTHER, UNSURE
from midcall.experiments.accuracy.innocent_batches import COPIED, CRAFTED, Batch, Original, crafted

Row = dict[str, Any]

#: Defaults: flows in total; crafted flows per batch.
FLOWS, BATCH = 150_000, 4_000
#: This note is shown wherever the count is shown.
NO_CLAIM = (
    "a regression count without any claim of a rate: crafted flows and re-addressed copies are no "
    "sample of a network, and all copies of one capture are one observation"
)


def count(batch: Batch) -> list[Row]:
    """Classify a batch by a new engine, and return a row for each kind of flow.

    flows: TCP and UDP flows of this kind; calls: those that are certain with the role of a call;
    unsure: those with the verdict unsure; said: evidence text -> number of the calls with it.
    """
    engine = Engine()
    numbers = engine.feed(batch.packets)
    flows = engine.flows()
    kind = np.full(len(flows), -1, np.int64)
    # The last assignment to a flow counts. In reverse order this is the one of its first packet.
    known = np.flatnonzero(numbers >= 0)[::-1]
    kind[numbers[known]] = batch.kind[known]
    scored = (kind >= 0) & np.isin(flows["proto"], (TCP, UDP))
    call_role = ~np.isin(flows["role"], (OTHER, MESSAGING)) & (flows["app"] != NONE)
    calls = scored & call_role & (flows["verdict"] == CERTAIN)
    doubtful = scored & (flows["verdict"] == UNSURE)
    total, called, unsure = (
        np.bincount(kind[which], minlength=len(batch.names)) for which in (scored, calls, doubtful)
    )
    evidence: dict[int, Counter[str]] = {}
    for at, app, sentence in zip(
        kind[calls], flows["app"][calls], sentences(flows[calls]).tolist(), strict=True
    ):
        evidence.setdefault(int(at), Counter())[
            f"{APPS[app]}: {sentence.rsplit(', packet', 1)[0]}"
        ] += 1
    return [
        {"source": batch.source, "kind": name, "flows": int(total[at]), "calls": int(called[at]),
         "unsure": int(unsure[at]), "said": evidence.get(at, Counter())}
        for at, name in enumerate(batch.names) if total[at]
    ]  # fmt: skip


def parts(source: Original, flows: int, seed: int) -> list[tuple[int, int, int]]:
    """Return the arguments of `crafted` for each batch of crafted flows.

    Half of `flows` are crafted, or all of them if there is nothing to copy.
    """
    wanted = flows // 2 if source.names else flows
    return [(first, min(BATCH, wanted - first), seed) for first in range(0, wanted, BATCH)]


def counted(part: tuple[int, int, int]) -> list[Row]:
    """Make one batch of crafted flows and count it; part: arguments of `crafted`."""
    return count(crafted(*part))


def copies(source: Original, seed: int) -> Iterator[list[Row]]:
    """Yield the count of one copy after another, without end; the caller stops.

    Yields nothing if there is nothing to copy.
    """
    for turn in itertools.count() if source.names else ():
        yield count(source.copy(turn, seed))


def run(
    source: Original,
    flows: int,
    seed: int,
    counts: Iterable[list[Row]] | None = None,
    progress: Callable[[int], None] = lambda done: None,
) -> Row:
    """Return the regression count over at least `flows` innocent flows.

    counts: results of `counted` for each of `parts`, None: they are computed here; progress: called
    with the number of flows counted so far. The result has the sums of flows, calls and unsure, the
    same figures per kind, and a note on what the count means.
    """
    counts = map(counted, parts(source, flows, seed)) if counts is None else counts
    lines: dict[tuple[str, str], Row] = {}
    done = 0
    for rows in itertools.chain(counts, copies(source, seed)):
        before = done
        for row in rows:
            blank = {**row, "flows": 0, "calls": 0, "unsure": 0, "said": Counter()}
            line = lines.setdefault((row["source"], row["kind"]), blank)
            for key in ("flows", "calls", "unsure", "said"):
                line[key] += row[key]
            done += row["flows"]
        progress(done)
        # If one copy has no flow, the next ones have none either.
        if done >= flows or done == before:
            break
    table = [lines[place] for place in sorted(lines)]
    return {
        **{key: sum(line[key] for line in table) for key in ("flows", "calls", "unsure")},
        "crafted": sum(line["flows"] for line in table if line["source"] == CRAFTED),
        "copied": sum(line["flows"] for line in table if line["source"] == COPIED),
        "captures": len(source.names),
        "note": NO_CLAIM,
        "kinds": [{**line, "said": told_of(line["said"])} for line in table],
    }


def told_of(evidence: Counter[str]) -> str:
    """Return evidence texts with their counts as one text, the most frequent first."""
    return "; ".join(f"{sentence} ({n})" for sentence, n in evidence.most_common())
