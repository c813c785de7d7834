# SPDX-License-Identifier: BSD-3-Clause
"""The simulations of a run, distributed over a cluster; shares are kept on this machine.

A worker opens a capture at its path on this machine; without such a file, it obtains the capture
from the sources of the catalogue (samples, MIDCALL_CORPUS, its cache, the network), by its sha256.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from midcall.captures.fetch.fetch import obtain
from midcall.captures.truth.catalogue import Catalogue, load
from midcall.errors import ExperimentError
from midcall.experiments.cells.virtual_cell import Bench, Outcome, Shares, Unit
from midcall.experiments.jobs import cluster
from midcall.experiments.spec.corpus import Item


class Given(NamedTuple):
    """The arguments of a worker's bench."""

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
            unit, shares = answer.task[1], answer.value
            outcome = None
            if shares is not None:
                bench.keep(unit, shares)
                outcome = bench.assembled(unit, shares)
            yield unit, outcome, answer.error
        workers.take_back(name)
        say(workers.summary_line)


def simulated(task: tuple[str, Unit]) -> Shares:
    """Do one simulation on a worker: the shares that it lacks.

    Each thread of a worker has a bench of its own.
    """
    name, unit = task
    if getattr(_OWN, "name", None) != name:
        given: Given = cluster.given(name)
        _OWN.bench = Bench(local_items(given.items), given.seed, None, given.link, given.seconds)
        _OWN.name = name
    shares: Shares = _OWN.bench.shares(unit)
    return shares


def local_items(items: Sequence[Item]) -> list[Item]:
    """Return items with paths of the worker's machine.

    Raises ExperimentError for a capture that cannot be obtained.
    """
    missing = [item.capture for item in items if not Path(item.path).is_file()]
    if not missing:
        return list(items)
    obtained = obtain(Catalogue(missing, load(local=False).origins))
    for capture in missing:
        if capture.sha256 not in obtained.paths:
            reason = obtained.missing.get(capture.sha256, "not found")
            raise ExperimentError(
                f"{capture.name}: the worker has it neither at its path nor in its catalogue "
                f"({reason}); share the folder of captures, "
                "or name one with MIDCALL_CORPUS where the worker runs"
            )
    paths = {sha256: Path(path) for sha256, path in obtained.paths.items()}
    return [item._replace(path=paths.get(item.capture.sha256, item.path)) for item in items]
