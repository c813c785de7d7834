# SPDX-License-Identifier: BSD-3-Clause
"""The regression count: many thousand innocent flows, and how many the engine takes for a call.

Half of them are crafted (captures.synthetic.background), half are copies of real innocent captures
with other addresses, ports and times and the payloads that they had. Neither is a sample of any
network and copies are no new evidence, so the count claims no rate: it is there to be 0, and to
show when a change of the classifier makes it more.
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

#: Flows in all, unless said otherwise, and crafted ones in a batch.
FLOWS, BATCH = 150_000, 4_000
#: What this count is worth, said wherever it is shown.
NO_CLAIM = (
    "a regression count without any claim of a rate: crafted flows and re-addressed copies are no "
    "sample of a network, and all copies of one capture are one observation"
)


def count(batch: Batch) -> list[Row]:
    """Return per kind the flows of a batch, those called a call, those unsure, and what was said.

    Each batch meets an engine that remembers nothing.
    """
    engine = Engine()
    numbers = engine.feed(batch.packets)
    flows = engine.flows()
    kind = np.full(len(flows), -1, np.int64)
    known = np.flatnonzero(numbers >= 0)[::-1]
    kind[numbers[known]] = batch.kind[known]  # backwards: the first packet of a flow decides
    ours = (kind >= 0) & np.isin(flows["proto"], (TCP, UDP))
    loud = ~np.isin(flows["role"], (OTHER, MESSAGING)) & (flows["app"] != NONE)
    calls = ours & loud & (flows["verdict"] == CERTAIN)
    doubt = ours & (flows["verdict"] == UNSURE)
    total, called, unsure = (
        np.bincount(kind[which], minlength=len(batch.names)) for which in (ours, calls, doubt)
    )
    said: dict[int, Counter[str]] = {}
    for at, app, words in zip(
        kind[calls], flows["app"][calls], sentences(flows[calls]), strict=True
    ):
        said.setdefault(int(at), Counter())[f"{APPS[app]}: {words.rsplit(', packet', 1)[0]}"] += 1
    return [
        {"source": batch.source, "kind": name, "flows": int(total[at]), "calls": int(called[at]),
         "unsure": int(unsure[at]), "said": said.get(at, Counter())}
        for at, name in enumerate(batch.names) if total[at]
    ]  # fmt: skip


def parts(held: Original, flows: int, seed: int) -> list[tuple[int, int, int]]:
    """Return the batches of crafted flows, as `crafted` takes them: half of all flows, or all
    where nothing is to be copied."""
    wanted = flows // 2 if held.names else flows
    return [(first, min(BATCH, wanted - first), seed) for first in range(0, wanted, BATCH)]


def counted(part: tuple[int, int, int]) -> list[Row]:
    """Craft one batch and count it."""
    return count(crafted(*part))


def copies(held: Original, seed: int) -> Iterator[list[Row]]:
    """Yield the counts of copies, without end: whoever adds them up has enough at some point."""
    for turn in itertools.count() if held.names else ():
        yield count(held.copy(turn, seed))


def run(
    held: Original,
    flows: int,
    seed: int,
    made: Iterable[list[Row]] | None = None,
    told: Callable[[int], None] = lambda done: None,
) -> Row:
    """Count over at least `flows` innocent flows; told hears how many there were so far.

    made: what `counted` says of each of `parts`, where somebody has counted them already.
    Returns flows, calls, unsure, the counts per kind, and what the figure is worth.
    """
    made = map(counted, parts(held, flows, seed)) if made is None else made
    lines: dict[tuple[str, str], Row] = {}
    done = 0
    for rows in itertools.chain(made, copies(held, seed)):
        before = done
        for row in rows:
            blank = {**row, "flows": 0, "calls": 0, "unsure": 0, "said": Counter()}
            line = lines.setdefault((row["source"], row["kind"]), blank)
            for key in ("flows", "calls", "unsure", "said"):
                line[key] += row[key]
            done += row["flows"]
        told(done)
        # A copy without a flow: the next ones have none either.
        if done >= flows or done == before:
            break
    table = [lines[place] for place in sorted(lines)]
    return {
        **{key: sum(line[key] for line in table) for key in ("flows", "calls", "unsure")},
        "crafted": sum(line["flows"] for line in table if line["source"] == CRAFTED),
        "copied": sum(line["flows"] for line in table if line["source"] == COPIED),
        "captures": len(held.names),
        "note": NO_CLAIM,
        "kinds": [{**line, "said": told_of(line["said"])} for line in table],
    }


def told_of(said: Counter[str]) -> str:
    """Return what flows were called, with counts."""
    return "; ".join(f"{words} ({n})" for words, n in said.most_common())
