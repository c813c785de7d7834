# SPDX-License-Identifier: BSD-3-Clause
"""Reuse of simulations: a run simulates the captures of which its cache has no share, no other."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from midcall.experiments.cells import run_cells
from midcall.experiments.cells import virtual_cell as simulate
from midcall.experiments.cells.run_cells import Played
from midcall.experiments.jobs.progress import Log
from midcall.experiments.spec import corpus
from midcall.experiments.spec import spec as specs
from midcall.experiments.spec.corpus import Item
from midcall.experiments.spec.grid import Cell, cells, load_operators
from midcall.experiments.spec.options import Options

NAMES = ["sample-dns", "sample-viber-audio", "sample-web", "sample-whatsapp-audio"]


class Lab:
    """A grid of few cells, a cache, and the captures that were simulated under each policy."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.spec = specs.load("smoke")[0]
        whole = cells(self.spec, load_operators(self.spec))
        self.grid: list[Cell] = [cell for cell in whole if cell.documented][:6]
        found = corpus.gather(self.spec, None, offline=True).items
        self.items = {item.capture.name: item for item in found}
        self.folder, self.stream = folder, io.StringIO()
        self.simulated: list[str] = []
        patch.setattr(simulate.Bench, "share", self.counted(simulate.Bench.share))

    def counted(self, share: Any) -> Any:
        def counting(bench: simulate.Bench, item: Item, unit: simulate.Unit) -> simulate.Share:
            made: simulate.Share = share(bench, item, unit)
            self.simulated.append(item.capture.name)
            return made

        return counting

    def play(self, names: Sequence[str], **more: Any) -> Played:
        """Play the grid over captures; `simulated` then has those that were simulated."""
        self.simulated.clear()
        options = Options(jobs=1, cells=self.folder, stream=self.stream, **more)
        items = [self.items[name] for name in names]
        bench = run_cells.bench_of(self.spec, items, options, Log())
        return run_cells.simulate_all(self.grid, bench, options, Log())

    @property
    def simulations(self) -> int:
        """Return how many simulations the grid has."""
        bench = simulate.Bench([], self.spec.seed, None)
        return len({unit.key for unit in run_cells.grid_units(self.grid, bench).values()})


@pytest.fixture
def lab(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Lab:
    return Lab(tmp_path / "cells", monkeypatch)


def timeless(played: Played) -> list[dict[str, Any]]:
    """Return the outcomes of a grid without their wall times, as JSON has them."""
    rows = [{**outcome, "seconds": 0} for _, outcome in sorted(played.outcomes.items())]
    return json.loads(json.dumps(rows))  # type: ignore[no-any-return]


def test_a_new_capture_alone_is_simulated_and_gives_what_a_cold_run_gives(lab: Lab) -> None:
    cold = lab.play(NAMES, force=True)
    assert lab.simulations > 1
    assert len(lab.simulated) == len(NAMES) * lab.simulations
    for path in lab.folder.rglob("*.json"):
        path.unlink()
    lab.play([NAMES[0], NAMES[1], NAMES[3]])
    grown = lab.play(NAMES)
    assert lab.simulated == [NAMES[2]] * lab.simulations
    assert not grown.reused
    assert timeless(grown) == timeless(cold)
    line = f"1 new capture: {lab.simulations} of {lab.simulations} simulations need it, "
    assert f"{line}3 captures reused\n" in lab.stream.getvalue()


def test_without_a_capture_nothing_is_simulated_and_its_share_is_not_counted(lab: Lab) -> None:
    lab.play(NAMES)
    fewer = lab.play(NAMES[1:])
    assert lab.simulated == []
    assert fewer.reused == set(range(len(lab.grid)))
    assert timeless(fewer) == timeless(lab.play(NAMES[1:], force=True))
    lab.play(NAMES)
    assert lab.simulated == []


def test_changed_truth_of_a_capture_simulates_it_and_its_old_share_is_dropped(lab: Lab) -> None:
    lab.play(NAMES)
    old = lab.items[NAMES[1]]
    lab.items[NAMES[1]] = old._replace(labels=old.labels[1:])
    lab.play(NAMES)
    assert lab.simulated == [NAMES[1]] * lab.simulations
    for path in lab.folder.rglob("*.json"):
        shares = json.loads(path.read_bytes())["shares"].values()
        assert sorted(one["sha256"] for one in shares) == sorted(
            lab.items[name].capture.sha256 for name in NAMES
        )


@pytest.mark.parametrize("every", [0.0, 60.0])
def test_a_run_that_was_stopped_goes_on_where_it_stopped(
    lab: Lab, monkeypatch: pytest.MonkeyPatch, every: float
) -> None:
    monkeypatch.setattr(simulate, "KEEP_EVERY_S", every)
    share = simulate.Bench.share

    def stops(bench: simulate.Bench, item: Item, unit: simulate.Unit) -> simulate.Share:
        if len(lab.simulated) == len(NAMES) + 2:
            raise KeyboardInterrupt
        return share(bench, item, unit)

    with monkeypatch.context() as patch:
        patch.setattr(simulate.Bench, "share", stops)
        with pytest.raises(KeyboardInterrupt):
            lab.play(NAMES)
    resumed = lab.play(NAMES)
    assert len(lab.simulated) == len(NAMES) * lab.simulations - len(NAMES) - 2
    assert timeless(resumed) == timeless(lab.play(NAMES, force=True))


def test_a_killed_process_keeps_the_shares_of_the_last_write(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(simulate, "KEEP_EVERY_S", 0.0)
    monkeypatch.setattr(simulate, "write_atomically", killing(simulate.write_atomically, after=3))
    with pytest.raises(Killed):
        lab.play(NAMES)
    monkeypatch.undo()
    bench = simulate.Bench([lab.items[name] for name in NAMES], lab.spec.seed, lab.folder)
    units = run_cells.grid_units(lab.grid, bench).values()
    assert {len(unit.ready) for unit in units} == {0, 3}


class Killed(BaseException):
    """The process ends here: no later write happens."""


def killing(write: Any, after: int) -> Any:
    left = [after]

    def writes(path: Path, data: bytes) -> None:
        if not left[0]:
            raise Killed
        left[0] -= 1
        write(path, data)

    return writes


def test_a_capture_that_fails_costs_the_shares_of_no_other(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    share = simulate.Bench.share

    def fails(bench: simulate.Bench, item: Item, unit: simulate.Unit) -> simulate.Share:
        if item.capture.name == NAMES[2]:
            raise ValueError("broken")
        return share(bench, item, unit)

    with monkeypatch.context() as patch:
        patch.setattr(simulate.Bench, "share", fails)
        failed = lab.play(NAMES)
    assert set(failed.errors) == set(range(len(lab.grid)))
    lab.play(NAMES)
    assert lab.simulated == NAMES[2:] * lab.simulations


def test_a_damaged_file_of_shares_is_simulated_again(lab: Lab) -> None:
    whole = lab.play(NAMES)
    one, *_ = lab.folder.rglob("*.json")
    one.write_bytes(one.read_bytes()[:-100])
    again = lab.play(NAMES)
    assert lab.simulated == NAMES
    assert timeless(again) == timeless(whole)
