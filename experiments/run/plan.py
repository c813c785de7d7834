# SPDX-License-Identifier: BSD-3-Clause
"""The plan of a run: its budget in cells, simulations, captures, seconds and disk, before it runs.

The cost of a simulation is measured on a few of the run's own captures. A live play takes as long
as its longest capture. Nothing is fetched and nothing is stored.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.pcap import read
from midcall.experiments.cells import offline
from midcall.experiments.cells import run_cells as play
from midcall.experiments.cells import virtual_cell as simulate
from midcall.experiments.cells.evasion_runs import PLAIN, EvasionRuns, outcome
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

#: The captures on which a cost is measured have at most this many packets.
PROBE_PACKETS = 15_000
#: Evaluating took 60 s for the 124 captures of morocco-2016, on 2 cores that were also busy
#: (and 0.1 s for each of the small samples).
EVALUATION_S = 0.5
#: Finding a planted rule took 0.2 to 0.5 s, without and with 5 % wrong answers (means of 7 rules).
SEARCH_S = 0.35
#: Size of a run's folder per call and cell, and at least, in bytes: live-blackbox 0.40 MB
#: (11 rows), smoke 1.44 MB (352), morocco-2016 10.8 MB (4,608).
ROW_BYTES, LEAST_BYTES = 2_300, 400_000
#: A finished simulation in the cache, per call, in bytes: the median of 1,257 of them.
CACHED_BYTES = 225


class Plan(NamedTuple):
    """The budget of a run.

    units: distinct policies on their access networks, of which `reused` are finished; packets: of
    the captures; played: of their cuts; dresses: captures in control arms and disguises, of which
    `dresses_reused` are finished, each played `dress_plays` times; boxes: pairs of capture and box
    to localise; planted: rules of the localiser's benchmark, times shares of wrong answers; probes:
    at most, per box or rule; seconds: per part, estimated on this machine.
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
    """Return the budget of a run; raises ExperimentError for the same errors as the run."""
    spec, _ = specs.load(name)
    chosen = backends.choose(spec, options.backend, ready=False)
    spec = spec.model_copy(update={"backend": chosen.backend})
    grid = cells(spec, load_operators(spec))
    captures = corpus.gather(spec, options.corpus, offline=True)
    items = corpus.in_grid(captures, spec)
    cut_items = [cut(item, read(item.path), spec.seconds) for item in items]
    folder = options.cells or simulate.cache_folder()
    bench = Bench(items, spec.seed, folder, spec.link, spec.seconds)
    virtual = chosen.backend == backends.VIRTUAL
    reuse = virtual and not options.force
    units = {unit.key: unit for unit in play.grid_units(grid, bench, reuse).values()}
    todo = [unit for unit in units.values() if bench.missing(unit)]
    longest = max((span(one.packets.time) for one in cut_items), default=0.0)
    packets = sum(one.packets.total for one in cut_items)
    controls = len({unit.access for unit in todo})
    jobs = min(options.jobs or default_jobs(), max(len(todo), 1))
    cost = {"reading and classifying": probe_reading(captures)}
    if chosen.backend == backends.LIVE:
        cost["plays"] = (len(todo) + controls) * (longest + PLAY_OVERHEAD_S)
        jobs = 1
    else:
        work = lacking(bench, todo) * (1 + 2 * controls / max(len(todo), 1))
        cost["simulations"] = work * probe(spec, items, todo, packets) / jobs
    cost["timing"] = 2 * spec.timing.seconds
    if spec.evaluation.enabled:
        cost["evaluation"] = EVALUATION_S * len(captures.items)
    if spec.programs is not None:
        from midcall.experiments.livecalls import arm

        cost["live calls"] = arm.estimate(spec.programs, grid)
    variants = evasion_results.wardrobe(
        spec, grid, corpus.calls_of(captures.items, spec.apps), folder
    )
    pending = [] if variants is None else pending_variants(variants, options.force)
    if variants is not None:
        cost["dresses"] = probe_dresses(variants, pending) / (options.jobs or default_jobs())
    boxes, rules = searches(spec)
    if boxes or rules:
        cost["localiser"] = SEARCH_S * (boxes + rules)
    calls = sum(len(one.item.calls) for one in cut_items)
    cached_bytes = CACHED_BYTES * calls * lacking(bench, todo) if virtual else 0
    return Plan(
        spec,
        chosen.backend,
        chosen.why,
        len(grid),
        sum(not cell.documented for cell in grid),
        len(units),
        controls,
        len(units) - len(todo),
        len(captures.items),
        len(captures.missing),
        sum(item.capture.packets for item in captures.items),
        packets,
        calls,
        longest,
        0 if variants is None else len(variants.tasks()),
        0 if variants is None else len(variants.tasks()) - len(pending),
        0 if variants is None else len(variants.sets) + 1,
        boxes,
        rules,
        spec.localise.budget if spec.localise is not None else 0,
        cost,
        jobs,
        LEAST_BYTES + ROW_BYTES * calls * len(grid),
        int(cached_bytes),
    )


def lacking(bench: Bench, todo: Sequence[Unit]) -> float:
    """Return the work of simulations as a number of simulations of all captures, by packets."""
    total = sum(item.capture.packets for item in bench.items)
    missing = sum(item.capture.packets for unit in todo for item in bench.missing(unit))
    return missing / max(total, 1)


def pending_variants(variants: EvasionRuns, force: bool) -> list[tuple[Item, str]]:
    """Return the captures and variants, (item, variant name), that are not in the cache."""
    folder = variants.folder
    return [
        (item, name)
        for item, name in variants.tasks()
        if force or simulate.cached(folder, variants.key(item, name)) is None
    ]


def searches(spec: Spec) -> tuple[int, int]:
    """Return how many pairs of capture and box a spec localises, and how many planted rules."""
    plan = spec.localise
    if plan is None:
        return 0, 0
    sets = spec_run.benchmark_rules(spec) if plan.planted else {}
    return len(plan.captures) * len(plan.boxes), len(plan.noise) * sum(map(len, sets.values()))


def span(clock: NDArray[np.int64]) -> float:
    """Return the time from the first packet to the last, in s; clock: ns per packet."""
    return float(clock.max() - clock.min()) / 1e9 if len(clock) else 0.0


def probed(items: Sequence[Item]) -> list[Item]:
    """Return captures of medium size, up to PROBE_PACKETS packets in total."""
    order = sorted(items, key=lambda item: item.capture.packets)
    middle = order[len(order) // 3 :] + order[: len(order) // 3]
    chosen: list[Item] = []
    for item in middle:
        total = sum(one.capture.packets for one in chosen) + item.capture.packets
        if not chosen or total <= PROBE_PACKETS:
            chosen.append(item)
    return chosen


def probe_reading(captures: Corpus) -> float:
    """Return how long reading and classifying every capture will take, in s."""
    sample = probed(captures.items)
    offline.examine(sample[0])  # compiles
    begin = time.perf_counter()
    for item in sample:
        offline.examine(item)
    return (time.perf_counter() - begin) * len(captures.items) / len(sample)


def probe(spec: Spec, items: Sequence[Item], todo: Sequence[Unit], packets: int) -> float:
    """Return the time of one simulation of all captures on one process, in s.

    It is measured on a few captures. The first simulation on an access network also plays the
    captures without rules; the second one, which is measured, does not.
    """
    if not todo or not items:
        return 0.0
    sample = probed(items)
    bench = Bench(sample, spec.seed, None, spec.link, spec.seconds)
    first = bench.unit(todo[0].policy, todo[0].access)
    bench.outcome(first)  # compiles, reads, writes the scripts
    share = packets / max(sum(bench.opened(item).packets.total for item in sample), 1)
    begin = time.perf_counter()
    bench.outcome(first)
    return share * (time.perf_counter() - begin)


def probe_dresses(variants: EvasionRuns, pending: Sequence[tuple[Item, str]]) -> float:
    """Return the time of all variants of captures on one process, in s, measured on one capture.

    The capture is of medium size. Each of its variants is played twice under the first rule set.
    """
    if not pending:
        return 0.0
    items = sorted((item for item, _ in variants.items), key=lambda item: item.capture.packets)
    one, few = items[(len(items) - 1) // 2], variants.sets[:1]
    outcome(one, PLAIN, few, variants.seed, variants.link)  # compiles
    begin = time.perf_counter()
    for dressing in variants.dressings:
        outcome(one, dressing.name, few, variants.seed, variants.link)
    each = (time.perf_counter() - begin) / len(variants.dressings) / one.capture.packets / 2
    return each * (len(variants.sets) + 1) * sum(item.capture.packets for item, _ in pending)


# ---- text


def lines(budget: Plan) -> list[str]:
    """Return a plan as text."""
    spec, live = budget.spec, budget.backend == backends.LIVE
    how = "live" if live else "virtual time"
    why = f" ({budget.why})" if budget.why else ""
    undocumented = (
        f", {budget.undocumented} without a documented service" if budget.undocumented else ""
    )
    out = [
        f"{spec.name}: {spec.title}",
        f"backend       {how}{why}",
        f"cells         {budget.cells}{undocumented}",
    ]
    reused = f", {budget.reused} finished already and reused" if budget.reused else ""
    noun = "plays" if live else "simulations"
    out.append(
        f"{noun:14}{budget.units} distinct policies on their access networks{reused}; "
        f"{budget.controls} more without a policy to compare with"
    )
    fetch = "not on this machine: midcall captures fetch"
    lacking = f"; {budget.missing} {fetch}" if budget.missing else ""
    out.append(f"captures      {budget.captures}, {budget.packets:,} packets{lacking}")
    cut_words = f", cut to {spec.seconds:g} s of each call" if spec.seconds else ""
    longest = f"; the longest takes {duration(budget.longest_s)}" if live else ""
    out.append(
        f"played        {budget.played:,} packets with {budget.calls} calls{cut_words}{longest}"
    )
    out += extra_lines(budget)
    parts = ", ".join(
        f"{name} {duration(seconds)}" for name, seconds in budget.seconds.items() if seconds
    )
    on = f" on {budget.jobs} processes" if budget.jobs > 1 else ""
    out.append(f"time          about {duration(sum(budget.seconds.values()))}{on}: {parts}")
    cache = f", {budget.cache_bytes / 1e6:.1f} MB in the cache" if budget.cache_bytes else ""
    out.append(f"disk          about {budget.run_bytes / 1e6:.1f} MB in runs/{cache}")
    return out


def extra_lines(budget: Plan) -> list[str]:
    """Return the lines about work besides the cells: variants of calls, localisations."""
    out = []
    if budget.dresses:
        reused = f", {budget.dresses_reused} finished already and reused"
        out.append(
            f"dresses       {budget.dresses} captures as they are, in a control arm or a disguise"
            f"{reused if budget.dresses_reused else ''}; {budget.dress_plays} plays of each"
        )
    if budget.boxes or budget.planted:
        out.append(
            f"localiser     {budget.boxes} boxes asked about a capture each and {budget.planted} "
            f"planted rules, up to {budget.probes:,} probes for one"
        )
    return out


def duration(seconds: float) -> str:
    """Return seconds as text with a suitable unit: s, min, h or days."""
    if seconds < 90:
        return f"{max(seconds, 1):.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    if seconds < 172_800:
        return f"{seconds / 3600:.1f} h"
    return f"{seconds / 86_400:,.0f} days"
