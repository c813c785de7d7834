# SPDX-License-Identifier: BSD-3-Clause
"""The simulations of a run, spread over a cluster; what comes back is kept here.

Workers open the captures at the paths that they have here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from experiments import cluster, simulate
from experiments.corpus import Item
from experiments.simulate import Bench, Outcome, Unit


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
                simulate.keep(bench.folder, answer.value)
            yield answer.task[1], answer.value, answer.error
        workers.take_back(name)
        say(workers.told)


def simulated(task: tuple[str, Unit]) -> Outcome:
    """Do one simulation on a worker; each of its threads has a bench, which is no one else's."""
    name, unit = task
    if getattr(_OWN, "name", None) != name:
        held: Given = cluster.given(name)
        _OWN.bench = Bench(held.items, held.seed, None, held.link, held.seconds)
        _OWN.name = name
    outcome: Outcome = _OWN.bench.outcome(unit)
    return outcome
