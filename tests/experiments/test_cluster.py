# SPDX-License-Identifier: BSD-3-Clause
"""Work on a real Dask scheduler with worker processes, one of which is killed in the middle."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from midcall.errors import ExperimentError

distributed = pytest.importorskip(
    "distributed", reason="Dask is not installed: pip install 'midcall[dask]'"
)
pytestmark = pytest.mark.filterwarnings("ignore")  # Dask's own

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = sorted((ROOT / "captures" / "samples").glob("*.pcap*"))
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


@contextmanager
def process(*words: object) -> Iterator[subprocess.Popen[bytes]]:
    """Run a module of Python until the end of the block."""
    command = [sys.executable, "-m", *map(str, words)]
    quiet = subprocess.DEVNULL
    running = subprocess.Popen(command, env=ENVIRONMENT, stdout=quiet, stderr=quiet)
    try:
        yield running
    finally:
        running.kill()
        running.wait()


@contextmanager
def dask(folder: Path, count: int) -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    """Run a scheduler and its workers, a process each; yield its address and the workers."""
    file = folder / "scheduler.json"
    scheduler = ("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", 0)
    worker = ("distributed.cli.dask_worker", "--no-nanny", "--nthreads", 1, "--no-dashboard")
    with ExitStack() as stack:
        stack.enter_context(process(*scheduler, "--no-dashboard", "--scheduler-file", file))
        address = until(lambda: address_in(file))
        own = ("--local-directory", folder)
        workers = [stack.enter_context(process(*worker, *own, address)) for _ in range(count)]
        if workers:
            with distributed.Client(address) as client:
                client.wait_for_workers(count, timeout=120)
        yield address, workers


def address_in(file: Path) -> str | None:
    """Return a scheduler's address from its file, ``None`` while the file is not whole."""
    try:
        return str(json.loads(file.read_text())["address"])
    except (FileNotFoundError, json.JSONDecodeError):  # the scheduler creates it, then writes it
        return None


def until(done: Any, patience: float = 120.0) -> Any:
    """Wait until something is so; returns what it is."""
    end = time.monotonic() + patience
    while not (result := done()):
        assert time.monotonic() < end, "it did not come to pass"
        time.sleep(0.02)
    return result


def midcall(*words: object) -> tuple[str, ...]:
    """Return the words of a command."""
    return ("midcall.experiments.cli.app", *map(str, words))


def run(*words: object) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    command = [sys.executable, "-m", *midcall(*words)]
    return subprocess.run(command, env=ENVIRONMENT, capture_output=True, text=True, check=False)


def many(folder: Path, copies: int) -> Path:
    """Make a folder of captures, two of which cannot be read."""
    folder.mkdir()
    for turn in range(copies):
        for sample in SAMPLES:
            (folder / f"{turn:03d}-{sample.name}").symlink_to(sample)
    (folder / "000-empty.pcap").touch()
    (folder / "999-other.pcap").write_bytes(b"no capture at all")
    return folder


def parts_in(folder: Path) -> int:
    """Return how many parts of a dataset are whole."""
    return len(list(folder.glob("files/part-*")))


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a dataset."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_a_cluster_that_loses_a_worker_gives_the_same_bytes(tmp_path: Path) -> None:
    captures = many(tmp_path / "captures", 60)
    alone, together = tmp_path / "alone", tmp_path / "together"
    assert run("classify", captures, "-o", f"{alone}/").returncode == 2  # two cannot be read
    with dask(tmp_path, 3) as (address, workers):
        words = midcall("classify", captures, "--cluster", address, "-o", f"{together}/")
        command = [sys.executable, "-m", *words]
        with subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as going:
            until(lambda: parts_in(together))
            going.send_signal(signal.SIGINT)
            _, said = going.communicate(timeout=300)
        assert going.returncode == 130
        assert "the same command goes on from there" in said
        done = parts_in(together) + len(workers)  # each may still finish what it was at
        with subprocess.Popen(command, env=ENVIRONMENT, stderr=subprocess.PIPE, text=True) as going:
            until(lambda: parts_in(together) > done)
            workers[1].send_signal(signal.SIGKILL)
            _, said = going.communicate(timeout=300)
    assert going.returncode == 2
    assert "1 lost, their tasks were done again" in said
    assert contents(alone) == contents(together)
    rows = pq.read_table(together / "files").to_pylist()
    assert len(rows) == len(list(captures.iterdir()))
    bad = {Path(row["file"]).name: row["error"] for row in rows if row["error"]}
    assert set(bad) == {"000-empty.pcap", "999-other.pcap"}
    assert "the file is empty" in bad["000-empty.pcap"]
    flows = pq.read_table(together / "flows")
    assert flows.num_rows == sum(row["flows"] for row in rows)


def test_the_cells_of_a_run_are_the_same_on_a_cluster(tmp_path: Path) -> None:
    from midcall.experiments.cells import remote_cells, run_cells
    from midcall.experiments.cells import virtual_cell as simulate
    from midcall.experiments.spec import corpus, spec
    from midcall.experiments.spec.grid import cells, load_operators

    chosen, _ = spec.load("smoke")
    items = corpus.gather(chosen, None, offline=True).items[:6]
    grid = [cell for cell in cells(chosen, load_operators(chosen)) if cell.documented]
    alone = simulate.Bench(items, chosen.seed, None)
    units = {unit.key: unit for unit in run_cells.grid_units(grid, alone).values()}
    expected = {key: timeless(alone.outcome(unit)) for key, unit in units.items()}
    bench = simulate.Bench(items, chosen.seed, tmp_path / "cells")
    said: list[str] = []
    with dask(tmp_path, 2) as (address, workers):
        work = remote_cells.simulations(bench, list(units.values()), address, said.append)
        found, errors = {}, []
        for unit, outcome, error in work:
            workers[0].kill()  # as soon as the first cell is there
            errors += [error] if error else []
            found[unit.key] = timeless(outcome or {})
    assert not errors
    assert found == expected
    assert "1 lost" in said[0]
    kept = run_cells.grid_units(grid, bench)
    assert not any(bench.missing(unit) for unit in kept.values())
    assert {unit.key: timeless(bench.assembled(unit, {})) for unit in kept.values()} == expected


def test_a_worker_finds_captures_by_their_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    from midcall.experiments.cells import remote_cells
    from midcall.experiments.spec import corpus, spec

    monkeypatch.delenv("MIDCALL_CORPUS", raising=False)
    items = corpus.gather(spec.load("smoke")[0], None, offline=True).items[:2]
    moved = [items[0], items[1]._replace(path=Path("/elsewhere") / items[1].path.name)]
    assert remote_cells.local_items(moved) == items
    unknown = items[1].capture.model_copy(update={"sha256": "0" * 64, "sources": []})
    with pytest.raises(ExperimentError, match="neither at its path nor in its catalogue"):
        remote_cells.local_items([moved[1]._replace(capture=unknown)])


def timeless(outcome: dict[str, Any]) -> dict[str, Any]:
    """Return an outcome without the seconds that it took."""
    return {key: value for key, value in outcome.items() if key != "seconds"}


def broken(task: int) -> int:
    """Fail, or bring the worker down."""
    if task == 1:
        raise ValueError("not this one")
    if task == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def test_a_task_that_fails_or_kills_its_workers_is_an_answer(tmp_path: Path) -> None:
    from midcall.experiments.jobs.cluster import Cluster

    with dask(tmp_path, 6) as (address, _), Cluster(address) as cluster:
        until(lambda: cluster._count_threads() == 6)
        answers = {answer.task: answer for answer in cluster.each(broken, range(5))}
    assert {answer.value for answer in answers.values()} == {0, None, 3, 4}
    assert answers[1].error.startswith("ValueError: not this one")
    assert "workers died while they worked on this" in answers[2].error


def test_who_gives_a_wrong_address_is_told(tmp_path: Path) -> None:
    from midcall.experiments.jobs.cluster import Cluster

    for address in ("tcp://127.0.0.1:9", "nonsense"):
        with pytest.raises(ExperimentError, match="no scheduler answers there"):
            Cluster(address, timeout=1)
    with (
        dask(tmp_path, 0) as (address, _),
        pytest.raises(ExperimentError, match="has no workers"),
    ):
        Cluster(address, timeout=1)


def test_a_worker_with_other_code_refuses(monkeypatch: pytest.MonkeyPatch) -> None:
    from midcall.experiments.jobs import cluster

    value, error, _ = cluster._guarded("another digest", broken, 0)
    assert value is None
    assert "other code" in error
