# SPDX-License-Identifier: BSD-3-Clause
"""The budget reads a run's log by phases, and counts the memory of a whole process tree."""

from __future__ import annotations

import os
import subprocess
import sys

from tests.proofs.budget import phases, shares

LOG = """\
    1.00 s  captures: 1/2 a
    1.50 s  captures: 2/2 b
    1.75 s  cells: 4, simulations: 2 to do, 0 reused
    3.75 s  simulations: 1/2 4g ab
    9.00 s  innocent flows, tenths: 1/10 16000 innocent flows
"""


def test_a_phase_lasts_from_the_line_before_it() -> None:
    assert phases(LOG) == {
        "captures": 1.5, "cells": 0.25, "simulations": 2.0, "innocent flows, tenths": 5.25,
    }  # fmt: skip


def test_memory_of_children_counts() -> None:
    program = (
        "import subprocess, sys\n"
        "child = 'held = bytearray(80_000_000); print(1, flush=True); input()'\n"
        "one = subprocess.Popen([sys.executable, '-c', child], stdout=subprocess.PIPE)\n"
        "one.stdout.readline()\n"
        "print(1, flush=True)\n"
        "one.wait()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stdin is not None
    process.stdout.readline()
    assert 80_000_000 < shares(process.pid) < 400_000_000
    process.stdin.close()
    process.wait()
    process.stdout.close()
    assert shares(process.pid) == 0
    assert shares(os.getpid()) > 0
