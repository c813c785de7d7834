# SPDX-License-Identifier: BSD-3-Clause
"""A program of a lab ends with the lab, whenever that dies."""

from __future__ import annotations

import subprocess
import sys

import pytest

ORPHAN = """
import os, time
from midcall.testbed.live.box.system import die_with_parent
parent = os.getpid()
if os.fork():
    {parent}
while {wait}:
    time.sleep(0.01)
die_with_parent(parent)
os.write(1, b"leashed")
time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
@pytest.mark.parametrize(
    ("parent", "wait", "output"),
    [
        ("os._exit(0)", "os.getppid() == parent", b""),
        ("time.sleep(2); os._exit(0)", "False", b"leashed"),
    ],
    ids=["died before it was asked", "dies later"],
)
def test_a_child_ends_with_its_parent(parent: str, wait: str, output: bytes) -> None:
    code = ORPHAN.format(parent=parent, wait=wait)
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, timeout=30
    )
    assert (done.stdout, done.stderr) == (output, b"")
