# SPDX-License-Identifier: BSD-3-Clause
"""Work on other machines: tasks on a Dask cluster, each done once, whatever becomes of workers.

A task is a plain function of this package and a plain value. Its worker must run the same code, or
it refuses. A worker that is lost loses its task to another one; a task under which workers die
again and again, or that raises, is an answer with an error, not the end.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from types import TracebackType
from typing import Any, NamedTuple

from midcall.errors import ExperimentError, describe
from midcall.experiments.results.provenance import CELL_PACKAGES, code_digest

try:
    import distributed
except ImportError as error:
    raise ExperimentError(
        "--cluster needs Dask, which is not installed: pip install 'midcall[dask]'"
    ) from error

#: The address that stands for worker processes on this machine.
LOCAL = "local"
#: Seconds to wait for a scheduler, and for its first worker.
PATIENCE = 20.0
#: Tasks that wait at each thread of a worker.
QUEUED = 3


class Answer(NamedTuple):
    """What came of a task: its value, or one sentence of error; seconds: of work on it."""

    task: Any
    value: Any
    error: str
    seconds: float


class Cluster:
    """A Dask cluster by its scheduler's address, or LOCAL; use it as a context manager.

    Raises ExperimentError where nobody answers at the address or no worker comes.
    """

    def __init__(self, address: str, patience: float = PATIENCE) -> None:
        self.address, self.seconds = address, 0.0
        self._own: Any = None
        self._seen: set[str] = set()
        self._digest = code_digest((*CELL_PACKAGES, "experiments"))
        self._begin = time.monotonic()
        try:
            self._client = self._connect(patience)
            self._client.wait_for_workers(1, timeout=patience)
        except TimeoutError as error:
            raise ExperimentError(
                f"--cluster {address}: the scheduler has no workers, expected at least one; "
                f"start some: dask worker {address}"
            ) from error
        self._look()

    def _connect(self, patience: float) -> Any:
        if self.address == LOCAL:
            self._own = distributed.LocalCluster(
                threads_per_worker=1, processes=True, dashboard_address=None
            )
            return distributed.Client(self._own)
        try:
            return distributed.Client(self.address, timeout=patience)
        except (OSError, ValueError) as error:
            raise ExperimentError(
                f"--cluster {self.address}: no scheduler answers there, expected the address of a "
                "Dask scheduler (tcp://host:8786) or local; start one: dask scheduler"
            ) from error

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._client.close()
        if self._own is not None:
            self._own.close()

    def _look(self) -> int:
        """Notice the workers that are here; return how many threads they have."""
        workers = self._client.scheduler_info(n_workers=-1)["workers"]
        self._seen |= workers.keys()
        return sum(worker["nthreads"] for worker in workers.values())

    @property
    def told(self) -> str:
        """Return what the work cost, in one line."""
        now = self._client.scheduler_info(n_workers=-1)["workers"]
        lost = len(self._seen - now.keys())
        words = f"cluster {self.address}: {len(self._seen)} workers, {self.seconds:.1f} s of work "
        words += f"in {time.monotonic() - self._begin:.1f} s"
        return words + (f"; {lost} lost, their tasks were done again" if lost else "")

    def give(self, value: Any) -> str:
        """Let every worker that is here, or will be, have a value; return its name."""
        name = f"midcall-{distributed.client.tokenize(time.time_ns())}"
        self._client.register_plugin(Given(name, value), name=name)
        return name

    def take_back(self, name: str) -> None:
        """Let workers forget a value."""
        self._client.unregister_worker_plugin(name)

    def each(
        self, function: Callable[[Any], Any], tasks: Sequence[Any] | Iterator[Any]
    ) -> Iterator[Answer]:
        """Yield the answers of function(task), as they come; few tasks are out at a time."""
        ahead, waiting = iter(tasks), {}
        answers = distributed.as_completed()

        def send(count: int) -> None:
            for _, task in zip(range(count), ahead, strict=False):
                future = self._client.submit(_guarded, self._digest, function, task, pure=False)
                waiting[future.key] = task
                answers.add(future)

        send(QUEUED * max(self._look(), 1))
        try:
            for future in answers:
                answer = self._answer(waiting.pop(future.key), future)
                self.seconds += answer.seconds
                yield answer
                send(1 + max(QUEUED * self._look() - len(waiting) - 1, 0))
        finally:
            self._client.cancel(list(answers.futures), force=True)

    def _answer(self, task: Any, future: Any) -> Answer:
        if future.status in ("cancelled", "lost"):
            raise ExperimentError(
                f"--cluster {self.address}: the scheduler was lost; what is finished is kept, "
                "the same command goes on from there"
            )
        try:
            return Answer(task, *future.result())
        except distributed.scheduler.KilledWorker as error:
            words = f"{error.allowed_failures + 1} workers died while they worked on this"
            return Answer(task, None, words, 0.0)


class Given(distributed.WorkerPlugin):  # type: ignore[misc]
    """A value that every process of the cluster has."""

    held: dict[str, Any] = {}  # noqa: RUF012 - of the process

    def __init__(self, name: str, value: Any) -> None:
        self.name, self.value = name, value

    def setup(self, worker: Any) -> None:
        """Keep the value in the process of a worker."""
        Given.held[self.name] = self.value

    def teardown(self, worker: Any) -> None:
        """Forget the value."""
        Given.held.pop(self.name, None)


def given(name: str) -> Any:
    """Return, on a worker, what `Cluster.give` gave."""
    return Given.held[name]


def _guarded(digest: str, function: Callable[[Any], Any], task: Any) -> tuple[Any, str, float]:
    """Do a task on a worker: (value, error in one sentence, seconds)."""
    if code_digest((*CELL_PACKAGES, "experiments")) != digest:
        return None, "the worker runs other code, or other versions, than who gave the task", 0.0
    begin = time.perf_counter()
    try:
        value, error = function(task), ""
    except ExperimentError as problem:
        value, error = None, str(problem)
    except Exception as problem:
        value, error = None, describe(problem)
    return value, error, time.perf_counter() - begin
