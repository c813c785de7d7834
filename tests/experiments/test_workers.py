# SPDX-License-Identifier: BSD-3-Clause
"""Tasks on worker processes: what fails is an answer, and the others go on."""

from __future__ import annotations

import multiprocessing
import os

import pytest

from midcall.experiments.jobs import workers


def task(number: int) -> int:
    """Square a number; 3 is an error, and 4 ends its process."""
    if number == 3:
        raise ValueError("three is too many")
    if number == 4:
        os._exit(1)
    return number * number


def test_a_task_that_fails_is_an_answer_with_a_sentence() -> None:
    found = {number: (value, error) for number, value, error in workers.run_here(task, [1, 3, 2])}
    assert (found[1], found[2]) == ((1, ""), (4, ""))
    assert found[3][0] is None
    assert found[3][1].startswith("ValueError: three is too many")


def test_on_processes_it_is_the_same() -> None:
    found = {
        number: (value, error) for number, value, error in workers.run_in_pool(task, [1, 3], 2)
    }
    assert found[1] == (1, "")
    assert found[3][1].startswith("ValueError: three is too many")


def test_a_worker_that_dies_is_an_answer_too() -> None:
    ((number, value, error),) = workers.run_in_pool(task, [4], 1)
    assert (number, value) == (4, None)
    assert "BrokenProcessPool" in error


def fragile(number: int) -> tuple[int, bool]:
    """Return a number and whether a worker did it; 2 ends a worker, 3 is an error everywhere."""
    worker = multiprocessing.parent_process() is not None
    if number == 2 and worker:
        os._exit(1)
    if number == 3:
        raise ValueError("three is too many")
    return number, worker


def test_beside_other_work_values_come_in_order_and_from_here_where_nobody_is_to_help() -> None:
    with workers.run_in_background(fragile, [5, 4, 1], 1) as values:
        assert list(values) == [(5, True), (4, True), (1, True)]
    with workers.run_in_background(fragile, [5, 4, 1], 0) as values:
        assert list(values) == [(5, False), (4, False), (1, False)]


def test_what_a_worker_beside_could_not_do_is_done_here() -> None:
    with workers.run_in_background(fragile, [2], 1) as values:
        assert list(values) == [(2, False)]
    with (
        workers.run_in_background(fragile, [3], 1) as values,
        pytest.raises(ValueError, match="too many"),
    ):
        list(values)
