# SPDX-License-Identifier: BSD-3-Clause
"""Worker processes: they leave Ctrl-C to who started them, and end when that one ends.

A task that fails, or takes its worker with it, is an answer with a sentence and not the end.
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


def obey() -> None:
    """Set up this process as a worker; called first in it.

    Without it, workers wait for ever once their parent was killed: each holds both ends of the
    queue that it reads from, so that it never sees an end.
    """
    from midcall.testbed.live.box.system import die_with_parent

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    spare()
    parent = multiprocessing.parent_process()
    if parent is not None and parent.pid is not None:
        die_with_parent(parent.pid)


def spare() -> None:
    """Have the garbage collector look seldom, as the command line does for its own process: a run
    makes millions of objects, cycles hardly ever.

    It took a fourth of the time in which flows are crafted.
    """
    gc.set_threshold(50_000)


def tried(work: Callable[[Task], Value], task: Task) -> tuple[Value | None, str]:
    """Do one task; an error becomes one sentence."""
    try:
        return work(task), ""
    except Exception as error:
        return None, describe(error)


def alone(
    work: Callable[[Task], Value], tasks: Sequence[Task]
) -> Iterator[tuple[Task, Value | None, str]]:
    """Do tasks here, one after the other: (task, what it gave, error)."""
    for task in tasks:
        yield (task, *tried(work, task))


def together(
    work: Callable[[Task], Value],
    tasks: Sequence[Task],
    jobs: int,
    begin: Callable[..., None] = obey,
    given: Sequence[Any] = (),
) -> Iterator[tuple[Task, Value | None, str]]:
    """Do tasks on `jobs` processes, yielded as they finish: (task, what it gave, error).

    begin: called with `given` first in each process, must call `obey`. What was not begun is
    dropped when the caller stops.
    """
    pool = begun(jobs, begin, given)
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
def beside(
    work: Callable[[Task], Value], tasks: Sequence[Task], jobs: int
) -> Iterator[Iterator[Value]]:
    """Do tasks on `jobs` processes while the caller does other things; gives values in order.

    What a process could not do is done here when its turn comes; all of it is where jobs is 0.
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
    """Submit tasks, as far as the pool can take any."""
    waiting = []
    try:
        for task in tasks:
            waiting.append(pool.submit(tried, work, task))
    except (BrokenProcessPool, OSError):
        pass
    return waiting


def begun(
    jobs: int, begin: Callable[..., None] = obey, given: Sequence[Any] = ()
) -> ProcessPoolExecutor:
    """Return a pool of processes that have not loaded anything yet."""
    return ProcessPoolExecutor(
        jobs,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=begin,
        initargs=tuple(given),
    )


def answer(future: Future[tuple[Value | None, str]]) -> tuple[Value | None, str]:
    """Return a worker's answer; that its worker died is an error too."""
    try:
        return future.result()
    except Exception as error:
        return None, describe(error)
