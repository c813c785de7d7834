# SPDX-License-Identifier: BSD-3-Clause
"""Worker processes: they ignore Ctrl-C, and end when their parent process ends.

A task that fails, or that kills its worker, gives an answer with an error; the others continue.
"""

from __future__ import annotations

import gc
import itertools
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

from midcall.errors import describe

Task = TypeVar("Task")
Value = TypeVar("Value")


def set_up_worker() -> None:
    """Set up this process as a worker; must be the first call in it.

    Without it, workers wait for ever after their parent was killed: each has both ends of the queue
    that it reads from open, so that it never reads an end of file.
    """
    from midcall.testbed.live.box.system import die_with_parent

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    spare()
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None:
        die_with_parent(parent.pid)


def spare() -> None:
    """Make garbage collection rare, as the command line does for its own process.

    A run makes millions of objects and almost no reference cycles. Collection took a fourth of the
    time in which flows are crafted.
    """
    gc.set_threshold(50_000)


def tried(work: Callable[[Task], Value], task: Task) -> tuple[Value | None, str]:
    """Run one task: (value, ""), or (None, the error in one sentence)."""
    try:
        return work(task), ""
    except Exception as error:
        return None, describe(error)


def run_here(
    work: Callable[[Task], Value], tasks: Sequence[Task]
) -> Iterator[tuple[Task, Value | None, str]]:
    """Run tasks in this process, one after the other: (task, value, error)."""
    for task in tasks:
        yield (task, *tried(work, task))


def run_in_pool(
    work: Callable[[Task], Value],
    tasks: Sequence[Task],
    jobs: int,
    begin: Callable[..., None] = set_up_worker,
    arguments: Sequence[Any] = (),
) -> Iterator[tuple[Task, Value | None, str]]:
    """Run tasks on `jobs` processes; yield them as they finish: (task, value, error).

    begin: called with `arguments` first in each process, must call `set_up_worker`. Tasks that have
    not started are dropped when the caller stops.
    """
    pool = begun(jobs, begin, arguments)
    try:
        waiting: dict[Future[tuple[Value | None, str]], Task] = {
            pool.submit(tried, work, task): task for task in tasks
        }
        while waiting:
            for future in wait(waiting, return_when=FIRST_COMPLETED).done:
                yield (waiting.pop(future), *answer(future))
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


@contextmanager
def run_in_background(
    work: Callable[[Task], Value], tasks: Sequence[Task], jobs: int
) -> Iterator[Iterator[Value]]:
    """Run tasks on `jobs` processes while the caller does other work; gives values in order.

    A task that fails in a worker is run again in this process when its turn comes. With jobs 0, all
    tasks are run in this process.
    """
    if jobs < 1:
        yield map(work, tasks)
        return
    pool = begun(jobs)
    try:
        waiting = handed_in(pool, work, tasks)
        answers = itertools.chain(map(answer, waiting), itertools.repeat((None, "not begun")))
        done = zip(tasks, answers, strict=False)
        yield (work(task) if error else value for task, (value, error) in done)  # type: ignore[misc]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def handed_in(
    pool: ProcessPoolExecutor, work: Callable[[Task], Value], tasks: Sequence[Task]
) -> list[Future[tuple[Value | None, str]]]:
    """Submit tasks until the pool is broken; return their futures."""
    waiting = []
    try:
        for task in tasks:
            waiting.append(pool.submit(tried, work, task))
    except (BrokenProcessPool, OSError):
        pass
    return waiting


def begun(
    jobs: int, begin: Callable[..., None] = set_up_worker, arguments: Sequence[Any] = ()
) -> ProcessPoolExecutor:
    """Return a pool of freshly started processes (spawn, not fork)."""
    return ProcessPoolExecutor(
        jobs,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=begin,
        initargs=tuple(arguments),
    )


def answer(future: Future[tuple[Value | None, str]]) -> tuple[Value | None, str]:
    """Return a worker's answer; the death of the worker is an error too."""
    try:
        return future.result()
    except Exception as error:
        return None, describe(error)
