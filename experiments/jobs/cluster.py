# SPDX-License-Identifier: BSD-3-Clause
"""Work on other machines: tasks on a Dask cluster, each answered once even if workers are lost.

A task is a function of this package and a picklable value. A worker that runs other code refuses
its tasks. If a worker is lost, another one does its task. A task that raises, or that kills its
workers several times, gives an answer with an error; the other tasks continue.
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

#: The address that means worker processes on this machine.
LOCAL = "local"
#: Seconds to wait for a scheduler, and for its first worker.
TIMEOUT = 20.0
#: Queued tasks per thread of a worker.
QUEUED = 3


class Answer(NamedTuple):
    """The result of a task: its value, or an error in one sentence; seconds: of work on it."""

    task: Any
    value: Any
    error: str
    seconds: float


class Cluster:
    """A Dask cluster by its scheduler's address, or LOCAL; use it as a context manager.

    timeout: seconds to wait for the scheduler, and for its first worker. Raises ExperimentError if
    no scheduler answers at the address or no worker connects.
    """

    def __init__(self, address: str, timeout: float = TIMEOUT) -> None:
        self.address, self.seconds = address, 0.0
        self._own: Any = None
        self._seen: set[str] = set()
        self._digest = code_digest((*CELL_PACKAGES, "experiments"))
        self._begin = time.monotonic()
        try:
            self._client = self._connect(timeout)
            self._client.wait_for_workers(1, timeout=timeout)
        except TimeoutError as error:
            raise ExperimentError(
                f"--cluster {address}: the scheduler has no workers, expected at least one; "
                f"start some: dask worker {address}"
            ) from error
        self._count_threads()

    def _connect(self, timeout: float) -> Any:
        if self.address == LOCAL:
            self._own = distributed.LocalCluster(
                threads_per_worker=1, processes=True, dashboard_address=None
            )
            return distributed.Client(self._own)
        try:
            return distributed.Client(self.address, timeout=timeout)
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

    def _count_threads(self) -> int:
        """Record the connected workers; return how many threads they have."""
        workers = self._client.scheduler_info(n_workers=-1)["workers"]
        self._seen |= workers.keys()
        return sum(worker["nthreads"] for worker in workers.values())

    @property
    def summary_line(self) -> str:
        """Return a line about the work so far: workers, seconds, lost workers."""
        now = self._client.scheduler_info(n_workers=-1)["workers"]
        lost = len(self._seen - now.keys())
        words = f"cluster {self.address}: {len(self._seen)} workers, {self.seconds:.1f} s of work "
        words += f"in {time.monotonic() - self._begin:.1f} s"
        return words + (f"; {lost} lost, their tasks were done again" if lost else "")

    def give(self, value: Any) -> str:
        """Send a value to every present and future worker; return the name of the value."""
        name = f"midcall-{distributed.client.tokenize(time.time_ns())}"
        self._client.register_plugin(SharedValue(name, value), name=name)
        return name

    def take_back(self, name: str) -> None:
        """Delete a value on the workers."""
        self._client.unregister_worker_plugin(name)

    def each(
        self, function: Callable[[Any], Any], tasks: Sequence[Any] | Iterator[Any]
    ) -> Iterator[Answer]:
        """Yield the answers of function(task) in order of completion; few tasks are out at a time.

        Raises ExperimentError if the scheduler is lost.
        """
        ahead, waiting = iter(tasks), {}
        answers = distributed.as_completed()

        def send(count: int) -> None:
            for _, task in zip(range(count), ahead, strict=False):
                future = self._client.submit(_guarded, self._digest, function, task, pure=False)
                waiting[future.key] = task
                answers.add(future)

        send(QUEUED * max(self._count_threads(), 1))
        try:
            for future in answers:
                answer = self._answer(waiting.pop(future.key), future)
                self.seconds += answer.seconds
                yield answer
                send(1 + max(QUEUED * self._count_threads() - len(waiting) - 1, 0))
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


class SharedValue(distributed.WorkerPlugin):  # type: ignore[misc]
    """A value that is sent to every process of the cluster; `values` has those of this process."""

    values: dict[str, Any] = {}  # noqa: RUF012 - of the process

    def __init__(self, name: str, value: Any) -> None:
        self.name, self.value = name, value

    def setup(self, worker: Any) -> None:
        """Store the value in the process of a worker."""
        SharedValue.values[self.name] = self.value

    def teardown(self, worker: Any) -> None:
        """Delete the value."""
        SharedValue.values.pop(self.name, None)


def given(name: str) -> Any:
    """Return, on a worker, the value that `Cluster.give` sent."""
    return SharedValue.values[name]


def _guarded(digest: str, function: Callable[[Any], Any], task: Any) -> tuple[Any, str, float]:
    """Run a task on a worker: (value, error in one sentence, seconds)."""
    if code_digest((*CELL_PACKAGES, "experiments")) != digest:
        return None, "the worker runs other code, or other versions, than the sender", 0.0
    begin = time.perf_counter()
    try:
        value, error = function(task), ""
    except ExperimentError as problem:
        value, error = None, str(problem)
    except Exception as problem:
        value, error = None, describe(problem)
    return value, error, time.perf_counter() - begin
