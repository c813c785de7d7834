# SPDX-License-Identifier: BSD-3-Clause
"""The plan of a run: its budget in cells, simulations, captures, seconds and disk, before it runs.

What a simulation costs is measured here and now on a few of the run's own captures; a live play
takes as long as its longest capture, which is known. Nothing is fetched and nothing is kept.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.pcap import read
from midcall.experiments.cells import offline
from midcall.experiments.cells import run_cells as play
from midcall.experiments.cells import virtual_cell as simulate
from midcall.experiments.cells.evasion_runs import PLAIN, Wardrobe, outcome
from midcall.experiments.cells.live_cell import PLAY_OVERHEAD_S
from midcall.experiments.cells.virtual_cell import Bench, Unit
from midcall.experiments.proofs.localiser import spec_run
from midcall.experiments.run import evasion_results
from midcall.experiments.spec import backends, corpus
from midcall.experiments.spec import spec as specs
from midcall.experiments.spec.corpus import Corpus, Item
from midcall.experiments.spec.grid import cells, load_operators
from midcall.experiments.spec.options import Options, default_jobs
from midcall.experiments.spec.spec import Spec
from midcall.experiments.spec.truncate import cut

#: Captures that a cost is measured on: up to so many packets.
PROBE_PACKETS = 15_000
#: Evaluating took 60 s for the 124 captures of morocco-2016, on 2 cores that did other work, too
#: (and 0.1 s for each of the small samples).
EVALUATION_S = 0.5
#: Finding a planted rule took 0.2 to 0.5 s, without and with 5 % wrong answers (means of 7 rules).
SEARCH_S = 0.35
#: What a run leaves per call and cell, and at least, in bytes: live-blackbox 0.40 MB (11 rows),
#: smoke 1.44 MB (352), morocco-2016 10.8 MB (4,608).
ROW_BYTES, LEAST_BYTES = 2_300, 400_000
#: A finished simulation in the cache, per call, in bytes: the median of 1,257 of them.
CACHED_BYTES = 225


class Plan(NamedTuple):
    """What a run will do.

    units: distinct policies on their access networks, of which `reused` are finished; packets: of
    the captures, played: of their cuts; dresses: captures in control arms and disguises, of which
    `dresses_reused` are finished, each played `dress_plays` times; boxes: of a localisation, asked
    about a capture each, planted: rules of its benchmark at each share of wrong answers, probes: at
    most, for one of either; seconds: by part, as estimated on this machine.
    """

    spec: Spec
    backend: str
    why: str
    cells: int
    undocumented: int
    units: int
    controls: int
    reused: int
    captures: int
    missing: int
    packets: int
    played: int
    calls: int
    longest_s: float
    dresses: int
    dresses_reused: int
    dress_plays: int
    boxes: int
    planted: int
    probes: int
    seconds: dict[str, float]
    jobs: int
    run_bytes: int
    cache_bytes: int


def plan(name: str, options: Options) -> Plan:
    """Return the budget of a run; raises ExperimentError as the run would."""
    spec, _ = specs.load(name)
    chosen = backends.choose(spec, options.backend, ready=False)
    spec = spec.model_copy(update={"backend": chosen.backend})
    grid = cells(spec, load_operators(spec))
    held = corpus.gather(spec, options.corpus, offline=True)
    items = corpus.in_grid(held, spec)
    cut_items = [cut(item, read(item.path), spec.seconds) for item in items]
    keys = play.unit_keys(spec, grid, items)
    units = {key: Unit(key, grid[at].policy, grid[at].access) for at, key in keys.items()}
    reused = finished(spec, options, units)
    todo = [unit for key, unit in units.items() if key not in reused]
    longest = max((span(one.packets.time) for one in cut_items), default=0.0)
    packets = sum(one.packets.total for one in cut_items)
    controls = len({unit.access for unit in todo})
    jobs = min(options.jobs or default_jobs(), max(len(todo), 1))
    cost = {"reading and classifying": probe_reading(held)}
    if chosen.backend == backends.LIVE:
        cost["plays"] = (len(todo) + controls) * (longest + PLAY_OVERHEAD_S)
        jobs = 1
    else:
        cost["simulations"] = probe(spec, items, todo, packets, controls) / jobs
    cost["timing"] = 2 * spec.timing.seconds
    if spec.evaluation.enabled:
        cost["evaluation"] = EVALUATION_S * len(held.items)
    if spec.programs is not None:
        from midcall.experiments.livecalls import arm

        cost["live calls"] = arm.estimate(spec.programs, grid)
    folder = options.cells or simulate.cache_folder()
    worn = evasion_results.wardrobe(spec, grid, corpus.calls_of(held.items, spec.apps), folder)
    bare = [] if worn is None else undressed(worn, options.force)
    if worn is not None:
        cost["dresses"] = probe_dresses(worn, bare) / (options.jobs or default_jobs())
    boxes, rules = searches(spec)
    if boxes or rules:
        cost["localiser"] = SEARCH_S * (boxes + rules)
    calls = sum(len(one.item.calls) for one in cut_items)
    return Plan(
        spec,
        chosen.backend,
        chosen.why,
        len(grid),
        sum(not cell.documented for cell in grid),
        len(units),
        controls,
        len(reused),
        len(held.items),
        len(held.missing),
        sum(item.capture.packets for item in held.items),
        packets,
        calls,
        longest,
        0 if worn is None else len(worn.tasks()),
        0 if worn is None else len(worn.tasks()) - len(bare),
        0 if worn is None else len(worn.sets) + 1,
        boxes,
        rules,
        spec.localise.budget if spec.localise is not None else 0,
        cost,
        jobs,
        LEAST_BYTES + ROW_BYTES * calls * len(grid),
        CACHED_BYTES * calls * len(todo) if chosen.backend == backends.VIRTUAL else 0,
    )


def finished(spec: Spec, options: Options, units: dict[str, Unit]) -> set[str]:
    """Return the keys of simulations that the cache holds; live plays are always made anew."""
    if spec.backend == backends.LIVE or options.force:
        return set()
    folder = options.cells or simulate.cache_folder()
    return {key for key in units if simulate.cached(folder, key) is not None}


def undressed(worn: Wardrobe, force: bool) -> list[tuple[Item, str]]:
    """Return the captures in their dresses that the cache does not hold."""
    folder = worn.folder
    return [
        (item, name)
        for item, name in worn.tasks()
        if force or simulate.cached(folder, worn.key(item, name)) is None
    ]


def searches(spec: Spec) -> tuple[int, int]:
    """Return how many boxes a spec asks about a capture each, and how many planted rules."""
    asked = spec.localise
    if asked is None:
        return 0, 0
    sets = spec_run.planted(spec) if asked.planted else {}
    return len(asked.captures) * len(asked.boxes), len(asked.noise) * sum(map(len, sets.values()))


def span(clock: NDArray[np.int64]) -> float:
    """Return how long packets take from first to last, in s."""
    return float(clock.max() - clock.min()) / 1e9 if len(clock) else 0.0


def probed(items: Sequence[Item]) -> list[Item]:
    """Return captures of middling size, up to PROBE_PACKETS packets in all."""
    order = sorted(items, key=lambda item: item.capture.packets)
    middle = order[len(order) // 3 :] + order[: len(order) // 3]
    chosen: list[Item] = []
    for item in middle:
        total = sum(one.capture.packets for one in chosen) + item.capture.packets
        if not chosen or total <= PROBE_PACKETS:
            chosen.append(item)
    return chosen


def probe_reading(held: Corpus) -> float:
    """Return how long reading and classifying every capture will take, in s."""
    some = probed(held.items)
    offline.examine(some[0])  # compiles
    begin = time.perf_counter()
    for item in some:
        offline.examine(item)
    return (time.perf_counter() - begin) * len(held.items) / len(some)


def probe(
    spec: Spec, items: Sequence[Item], todo: Sequence[Unit], packets: int, controls: int
) -> float:
    """Return how long the simulations take on one process, in s, as measured on a few captures.

    The first on an access network plays the captures without rules too; the second does not.
    """
    if not todo or not items:
        return 0.0
    some = probed(items)
    with tempfile.TemporaryDirectory(prefix="midcall-") as folder:
        bench = Bench(some, spec.seed, Path(folder), spec.link, spec.seconds)
        bench.outcome(todo[0])  # compiles, reads, writes the scripts
        share = packets / max(sum(bench.opened(item).packets.total for item in some), 1)
        begin = time.perf_counter()
        bench.outcome(todo[0])
        each = time.perf_counter() - begin
    return share * each * (len(todo) + 2 * controls)


def probe_dresses(worn: Wardrobe, bare: Sequence[tuple[Item, str]]) -> float:
    """Return how long captures in their dresses take on one process, in s, as measured on one.

    It is of middling size, worn in every dress under the first rule set: two plays a dress.
    """
    if not bare:
        return 0.0
    items = sorted((item for item, _ in worn.items), key=lambda item: item.capture.packets)
    one, few = items[(len(items) - 1) // 2], worn.sets[:1]
    outcome(one, PLAIN, few, worn.seed, worn.link)  # compiles
    begin = time.perf_counter()
    for dressing in worn.dressings:
        outcome(one, dressing.name, few, worn.seed, worn.link)
    each = (time.perf_counter() - begin) / len(worn.dressings) / one.capture.packets / 2
    return each * (len(worn.sets) + 1) * sum(item.capture.packets for item, _ in bare)


# ---- for people


def lines(found: Plan) -> list[str]:
    """Return a plan as text."""
    spec, live = found.spec, found.backend == backends.LIVE
    how = "live" if live else "virtual time"
    why = f" ({found.why})" if found.why else ""
    bare = f", {found.undocumented} without a documented service" if found.undocumented else ""
    out = [
        f"{spec.name}: {spec.title}",
        f"backend       {how}{why}",
        f"cells         {found.cells}{bare}",
    ]
    reused = f", {found.reused} finished already and reused" if found.reused else ""
    noun = "plays" if live else "simulations"
    out.append(
        f"{noun:14}{found.units} distinct policies on their access networks{reused}; "
        f"{found.controls} more without a policy to compare with"
    )
    fetch = "not on this machine: midcall captures fetch"
    lacking = f"; {found.missing} {fetch}" if found.missing else ""
    out.append(f"captures      {found.captures}, {found.packets:,} packets{lacking}")
    cut_words = f", cut to {spec.seconds:g} s of each call" if spec.seconds else ""
    longest = f"; the longest takes {duration(found.longest_s)}" if live else ""
    out.append(
        f"played        {found.played:,} packets with {found.calls} calls{cut_words}{longest}"
    )
    out += more(found)
    parts = ", ".join(f"{name} {duration(held)}" for name, held in found.seconds.items() if held)
    on = f" on {found.jobs} processes" if found.jobs > 1 else ""
    out.append(f"time          about {duration(sum(found.seconds.values()))}{on}: {parts}")
    cache = f", {found.cache_bytes / 1e6:.1f} MB in the cache" if found.cache_bytes else ""
    out.append(f"disk          about {found.run_bytes / 1e6:.1f} MB in runs/{cache}")
    return out


def more(found: Plan) -> list[str]:
    """Return what a run does beside its cells: calls in other dresses, localisations."""
    out = []
    if found.dresses:
        reused = f", {found.dresses_reused} finished already and reused"
        out.append(
            f"dresses       {found.dresses} captures as they are, in a control arm or a disguise"
            f"{reused if found.dresses_reused else ''}; {found.dress_plays} plays of each"
        )
    if found.boxes or found.planted:
        out.append(
            f"localiser     {found.boxes} boxes asked about a capture each and {found.planted} "
            f"planted rules, up to {found.probes:,} probes for one"
        )
    return out


def duration(seconds: float) -> str:
    """Return seconds as people say them."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 172_800:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86_400:,.0f} days"
