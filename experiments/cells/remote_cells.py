# SPDX-License-Identifier: BSD-3-Clause
"""The simulations of a run, spread over a cluster; what comes back is kept here.

A worker opens a capture at the path that it has here; where it is not there, it obtains it as the
catalogue says (samples, MIDCALL_CORPUS, its cache, the network), by its sha256.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from midcall.captures.fetch.fetch import obtain
from midcall.captures.truth.catalogue import Catalogue, load
from midcall.errors import ExperimentError
from midcall.experiments.cells import virtual_cell
from midcall.experiments.cells.virtual_cell import Bench, Outcome, Unit
from midcall.experiments.jobs import cluster
from midcall.experiments.spec.corpus import Item


class Given(NamedTuple):
    """What a worker makes its bench of."""

    items: Sequence[Item]
    seed: int
    link: str
    seconds: float | None


_OWN = threading.local()


def simulations(
    bench: Bench, units: Sequence[Unit], address: str, say: Callable[[str], None]
) -> Iterator[tuple[Unit, Outcome | None, str]]:
    """Do units on a cluster, yielded as they finish: (unit, outcome, error)."""
    with cluster.Cluster(address) as workers:
        name = workers.give(Given(bench.items, bench.seed, bench.link, bench.seconds))
        for answer in workers.each(simulated, [(name, unit) for unit in units]):
            if answer.value is not None and bench.folder is not None:
                virtual_cell.keep(bench.folder, answer.value)
            yield answer.task[1], answer.value, answer.error
        workers.take_back(name)
        say(workers.told)


def simulated(task: tuple[str, Unit]) -> Outcome:
    """Do one simulation on a worker; each of its threads has a bench, which is no one else's."""
    name, unit = task
    if getattr(_OWN, "name", None) != name:
        held: Given = cluster.given(name)
        _OWN.bench = Bench(near(held.items), held.seed, None, held.link, held.seconds)
        _OWN.name = name
    outcome: Outcome = _OWN.bench.outcome(unit)
    return outcome


def near(items: Sequence[Item]) -> list[Item]:
    """Return items at paths of this machine; raises ExperimentError for a capture not to be had."""
    away = [item.capture for item in items if not Path(item.path).is_file()]
    if not away:
        return list(items)
    had = obtain(Catalogue(away, load(local=False).origins))
    for capture in away:
        if capture.sha256 not in had.paths:
            raise ExperimentError(
                f"{capture.name}: the worker has it neither at its path nor in its catalogue "
                f"({had.missing.get(capture.sha256, 'not found')}); share the folder of captures, "
                "or name one with MIDCALL_CORPUS where the worker runs"
            )
    paths = {sha256: Path(path) for sha256, path in had.paths.items()}
    return [item._replace(path=paths.get(item.capture.sha256, item.path)) for item in items]
