# SPDX-License-Identifier: BSD-3-Clause
"""Kernels: what is compiled for a caller is a part, and parts of one process fit another one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from midcall.captures.jit.code_folders import PLAIN
from midcall.locations import ROOT

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
from midcall.captures.jit.kernel import when_compiling
when_compiling(lambda: print("compiling"))
print(total(rows()), half(rows()))
"""
    assert run(lines) == ["compiling", "567", "4"]
    assert run(lines) == ["567", "4"]


TOTAL = "print(int(total(rows())))\n"
# (2 + 3) * (1 + 10 + 100) + 3 * (2 + 2)
SUM = str(5 * 111 + 12)


def test_what_a_kernel_calls_is_compiled_once_for_all_constants(run) -> None:  # type: ignore[no-untyped-def]
    printed = run(
        TOTAL + "from midcall.captures.jit.linker import dispatcher\n"
        "print(*(len(dispatcher(one).overloads) for one in (total, twice, weigh)))\n"
        "print(*(len(one.loaded) for one in (total, twice, weigh)))\n"
    )
    assert printed == [SUM, "1", "1", "1", "1", "0", "0"]


def test_a_kernel_that_others_call_is_called_by_python_too(run) -> None:  # type: ignore[no-untyped-def]
    printed = run(
        TOTAL + "print(int(weigh(rows(), 1, 3)), int(twice(rows(), 0)), int(total(rows())))"
    )
    assert printed == [SUM, "32", "9", SUM]


def test_a_kernel_with_its_first_arguments_does_what_it_does_with_all(run) -> None:  # type: ignore[no-untyped-def]
    printed = run(
        "from midcall.captures.jit.kernel import bound\n"
        "some = rows()\n"
        "part, whole = bound(weigh, some), bound(weigh, some, 1)\n"
        "print(int(part(1, 3)), int(part(0, 2)), int(whole(3)), int(weigh(some, 1, 3)))\n"
        "some['size'] *= 10\n"
        "print(int(part(1, 3)), float(part(1, 0.5)))\n"
        "try:\n    part(1 << 64, 3)\nexcept TypeError:\n    print('TypeError')\n"
    )
    assert printed == ["32", "4", "32", "32", "302", "50.5", "TypeError"]


def test_code_in_the_cache_runs_without_numba(run) -> None:  # type: ignore[no-untyped-def]
    assert run(TOTAL) == [SUM]
    assert run(TOTAL + "import sys\nprint('numba' in sys.modules)") == [SUM, "False"]


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


VALUES = """
from typing import Any, NamedTuple
import numpy as np
from midcall.captures.jit.kernel import kernel

KIND = np.dtype([("small", "u1"), ("wide", "i8"), ("lanes", "u4", (3,))])


@kernel
def several(a: int, b: bool, c: float, record, table, every, small):
    record["wide"] += a
    table[1, 2] = a
    return table.shape[0] * 10 + table.shape[1], b, c / 2, every[1], small + record["lanes"][2]


class Pair(NamedTuple):
    left: Any
    right: Any


@kernel
def paired(pair, both):
    pair.left[0] += pair.right
    return pair.left[0] + both[0] * both[1][1]


@kernel
def nothing(row):
    row[0] = 7


@kernel
def unsigned():
    return np.uint64(0xFFFFFFFFFFFFFFFF)


@kernel
def ratio(a: float = 1.0, b: int = 4):
    return a / b


record = np.zeros(2, KIND)
record["lanes"] = 5
table = np.zeros((3, 4))
every = np.arange(6, dtype=np.int16)[::2]
small = np.uint8(250)
print(several(np.int64(-3), np.True_, 0.5, record[1], table, every, small))
print(record["wide"].tolist(), table[1, 2], type(several(1, False, 1.0, record[1], table, every,
      small)[1]).__name__)
print(paired(Pair(np.ones(1), 2), (3, np.array([4, 5]))))
row = np.zeros(1, np.uint8)
print(nothing(row), row[0], unsigned(), ratio(), ratio(b=2), ratio(3.0))
for bad in ("text", 1 << 63, None):
    try:
        ratio(1.0, bad)
    except TypeError as error:
        print("TypeError:", error)
try:
    ratio(1.0, 2, 3)
except TypeError as error:
    print("TypeError:", error)
"""


def test_every_kind_of_value_goes_to_machine_code_and_back(run, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "values_kernels.py").write_text(VALUES)
    for _ in range(2):  # compiled, and loaded
        assert " ".join(run("import values_kernels")) == (
            "(34, False, 0.25, 2, 255) [0, -3] -3.0 bool "
            "18.0 None 7 18446744073709551615 0.25 0.5 0.75 "
            "TypeError: got a str, expected a number, an array, a record or a tuple of these "
            "TypeError: got 9223372036854775808, expected an integer of 64 bits with a sign "
            "TypeError: got a NoneType, expected a number, an array, a record or a tuple of these "
            "TypeError: too many positional arguments"
        ).replace("(34, False", "(34, True")


@pytest.mark.parametrize("damage", ["cut", "changed", "emptied"])
def test_a_damaged_file_of_the_cache_is_made_again(run, tmp_path: Path, damage: str) -> None:  # type: ignore[no-untyped-def]
    assert run(TOTAL) == [SUM]
    files = list(tmp_path.rglob("total-*.code"))
    assert len(files) == 1
    whole = files[0].read_bytes()
    other = {"cut": whole[:-9], "changed": whole[:-1] + b"\1", "emptied": b""}[damage]
    files[0].write_bytes(other)
    assert run(TOTAL) == [SUM]
    assert files[0].read_bytes() != other
