# SPDX-License-Identifier: BSD-3-Clause
"""Kernels: what is compiled for a caller is a part, and parts of one process fit another one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from midcall.captures.jit.kernel import PLAIN, ROOT

pytestmark = pytest.mark.skipif(PLAIN, reason="nothing is compiled here: NUMBA_DISABLE_JIT is set")

KERNELS = """
import numpy as np
from midcall.captures.jit.kernel import kernel

ROW = np.dtype([("size", np.int64), ("kind", np.uint8)], align=True)

@kernel
def weigh(rows, at, factor):
    return rows[at]["size"] * factor + min(factor, 2)

@kernel
def twice(rows, at):
    return weigh(rows, at, 2) + weigh(rows, at, 3)

@kernel
def total(rows):
    found = 0
    for at in range(len(rows)):
        found += twice(rows, at)
    return found

@kernel
def half(rows):
    return weigh(rows, 0, 7) // 2

def rows():
    made = np.zeros(3, ROW)
    made["size"] = (1, 10, 100)
    return made
"""


@pytest.fixture
def run(tmp_path: Path):  # type: ignore[no-untyped-def]
    """Return what runs lines in a process of their own, all with one cache."""
    (tmp_path / "some_kernels.py").write_text(KERNELS)
    surroundings = {
        **os.environ,
        "XDG_CACHE_HOME": str(tmp_path),
        "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path}",
    }

    def in_a_process(lines: str) -> list[str]:
        done = subprocess.run(
            [sys.executable, "-c", f"from some_kernels import *\n{lines}"],
            env=surroundings,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    return in_a_process


def test_who_wants_to_know_hears_once_that_something_is_compiled(run) -> None:  # type: ignore[no-untyped-def]
    lines = """
from midcall.captures.jit.linker import when_compiling
when_compiling(lambda: print("compiling"))
print(total(rows()), half(rows()))
"""
    assert run(lines) == ["compiling", "567", "4"]
    assert run(lines) == ["567", "4"]


TOTAL = "print(int(total(rows())))\n"
# (2 + 3) * (1 + 10 + 100) + 3 * (2 + 2)
SUM = str(5 * 111 + 12)


def test_what_a_kernel_calls_is_a_part_compiled_once_for_all_constants(run) -> None:  # type: ignore[no-untyped-def]
    printed = run(
        TOTAL + "for one in (total, twice, weigh):\n"
        "    print(*(type(found.library).__name__ for found in one.overloads.values()))\n"
    )
    assert printed == [SUM, "Whole", "Part", "Part"]


def test_a_part_becomes_whole_when_python_calls_it(run) -> None:  # type: ignore[no-untyped-def]
    printed = run(
        TOTAL + "print(int(weigh(rows(), 1, 3)), int(twice(rows(), 0)), int(total(rows())))"
    )
    assert printed == [SUM, "32", "9", SUM]


def test_parts_of_one_process_fit_wholes_of_another(run) -> None:  # type: ignore[no-untyped-def]
    assert run(TOTAL) == [SUM]  # keeps parts of weigh and twice
    shifted = "import numba\nnumba.typeof(np.zeros(1, [('x', np.int8)]))\n"  # other type numbers
    assert run(shifted + "print(int(weigh(rows(), 2, 1)))") == ["101"]  # keeps weigh whole
    assert run("print(int(weigh(rows(), 2, 1)), int(half(rows())))\n" + TOTAL) == ["101", "4", SUM]
    assert run("print(int(half(rows())), int(twice(rows(), 1)), int(weigh(rows(), 0, 9)))") == [
        "4",
        "54",
        "11",
    ]


def test_an_exception_reaches_python_out_of_a_part(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    with (tmp_path / "some_kernels.py").open("a") as file:
        file.write(
            "\n@kernel\ndef strict(n):\n    if n < 0:\n        raise ValueError('below')\n"
            "    return n\n\n@kernel\ndef asks(n):\n    return strict(n) + 1\n"
        )
    lines = (
        "try:\n    asks(-1)\nexcept ValueError as error:\n    print(error)\nprint(int(asks(4)))\n"
    )
    assert run(lines) == ["below", "5"]
    assert run(lines) == ["below", "5"]
