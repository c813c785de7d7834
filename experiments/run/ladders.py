# SPDX-License-Identifier: BSD-3-Clause
"""The ladders of a run: for each call one cell, simulated once more to draw its packets.

The cell is the first one that blocks the call, the best graded rule first. Where no cell blocks it,
it is one in which a rule acts on the call; where none does, the call is drawn without any rule. A
cell keeps verdicts and counts only, so its simulation runs again, with the same seed. Finished
ladders are kept in a cache of their own, next to that of the cells.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import NamedTuple, cast

from midcall.captures.truth.calls import Call
from midcall.experiments.cells.live_cell import LiveBench
from midcall.experiments.cells.run_cells import Played
from midcall.experiments.cells.virtual_cell import (
    Bench,
    cached,
    capture_key,
    keep,
    rules_key,
    unit_key,
)
from midcall.experiments.jobs import workers
from midcall.experiments.jobs.progress import Log, Progress
from midcall.experiments.measure.timelines import words_of
from midcall.experiments.report.ladder import NO_OPERATOR
from midcall.experiments.results.tables import LadderLine, LadderRow, TitledPlace
from midcall.experiments.spec import corpus as corpora
from midcall.experiments.spec.corpus import Corpus, Item
from midcall.experiments.spec.grid import Cell
from midcall.experiments.spec.options import Options

#: The folder of finished ladders, next to that of the cells.
FOLDER = "ladders"


class Drawn(NamedTuple):
    """A call and the cell for which its ladder is drawn; acts: whether a rule acts on the call."""

    at: int
    item: Item
    call: Call
    acts: bool


def rows(
    grid: Sequence[Cell],
    captures: Corpus,
    apps: Sequence[str],
    played: Played,
    bench: Bench | LiveBench,
    options: Options,
    log: Log,
) -> list[LadderRow]:
    """Return the rows of the table `ladders`, calls in the order of the captures.

    A live play is not repeated for its ladder: [] then. A ladder that fails is left out and logged.
    """
    calls = chosen(grid, captures, apps, played)
    if isinstance(bench, LiveBench) or not calls:
        return []
    made: dict[tuple[str, str], list[LadderRow]] = {}
    # The bench keeps the controls of one access network at a time.
    tasks = sorted(calls, key=lambda one: grid[one.at].access)
    with Progress("ladders", len(tasks), stream=options.stream, log=log) as bar:
        for drawn, lines, error in workers.run_here(
            partial(draw, grid, bench, options.force), tasks
        ):
            name = drawn.item.capture.name
            bar.step(name)
            if lines is None:
                log(f"failed: ladder of {name}, {drawn.call.id}: {error}")
            else:
                made[name, drawn.call.id] = [*placed(grid, played, drawn, lines)]
    order = [(one.item.capture.name, one.call.id) for one in calls]
    return [row for key in order for row in made.get(key, [])]


def chosen(
    grid: Sequence[Cell], captures: Corpus, apps: Sequence[str], played: Played
) -> list[Drawn]:
    """Return for each call the cell for which its ladder is drawn."""
    best: dict[tuple[str, str], tuple[tuple[bool, bool, str, int], Drawn]] = {}
    for at, item, call, entry in corpora.counted(captures, apps, played.outcomes):
        acts = bool(entry["timeline"])
        grade = grid[at].grade(entry["rule"]) or "Z"
        rank = not (entry["blocked"] and acts), not acts, grade if acts else "", at
        drawn = Drawn(at, item, call, acts)
        key = item.capture.sha256, call.id
        if key not in best or rank < best[key][0]:
            best[key] = rank, drawn
    position = {item.capture.sha256: number for number, item in enumerate(captures.items)}
    found = [drawn for _, drawn in best.values()]
    return sorted(found, key=lambda one: (position[one.item.capture.sha256], one.call.id))


def draw(grid: Sequence[Cell], bench: Bench, force: bool, drawn: Drawn) -> list[LadderLine]:
    """Return the lines of a call's ladder; force: without those that the bench's cache has."""
    cell = grid[drawn.at]
    item = bench.opened(drawn.item).item
    policy = cell.policy if drawn.acts else None
    rules = rules_key(policy, cell.access, bench.seed, bench.link, bench.seconds)
    key = unit_key(rules, ["ladder", capture_key(item), drawn.call.id])
    folder = None if bench.folder is None else bench.folder.with_name(FOLDER)
    known = None if force else cached(folder, key)
    if known is not None:
        return cast("list[LadderLine]", known["lines"])
    from midcall.experiments.tools.ladder import ladder

    control = bench.control(item, cell.access)
    simulation = bench.run(item, policy, cell.access) if drawn.acts else control
    lines = ladder(simulation, control, next(one for one in item.calls if one.id == drawn.call.id))
    if folder is not None:
        keep(folder, {"key": key, "lines": lines})
    return lines


def placed(
    grid: Sequence[Cell], played: Played, drawn: Drawn, lines: Sequence[LadderLine]
) -> Iterator[LadderRow]:
    """Yield the lines of a ladder as rows of the table."""
    cell = grid[drawn.at]
    places = ""
    title: TitledPlace = {
        "operator": NO_OPERATOR,
        "hypothesis": NO_OPERATOR,
        "hypothesis_title": "no rule",
        "access": cell.access,
        "date": cell.date,
    }
    if drawn.acts:
        key = played.outcomes[drawn.at]["key"]
        same = [grid[at] for at, one in sorted(played.outcomes.items()) if one["key"] == key]
        places = words_of(same)
        title = {**cell.place(), "hypothesis_title": cell.title}
    for line in lines:
        yield {
            **title,
            **line,
            "places": places,
            "capture": drawn.item.capture.name,
            "call": drawn.call.id,
        }
