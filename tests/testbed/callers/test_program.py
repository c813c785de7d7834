# SPDX-License-Identifier: BSD-3-Clause
"""Programs of a call are ended once, and one that does not answer is not asked again."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from midcall.errors import TestbedError
from midcall.testbed.programs.json_worker import JsonWorker
from midcall.testbed.programs.process import Program

#: Is ready at once and answers each order after as many seconds as it names.
SLOW = """
import json, sys, time
print(json.dumps({"ready": ""}), flush=True)
for line in sys.stdin:
    order = json.loads(line)
    time.sleep(order["after"])
    print(json.dumps({"done": order["do"]}), flush=True)
"""


def program(folder: Path, *command: str) -> Program:
    """Return a program that runs as a plain child, without the namespaces that need root."""
    made = Program.__new__(Program)
    made.name, made.words, made.limit_s = "plain", folder / "words", 60.0
    with open(made.words, "wb") as words:
        made.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=words, start_new_session=True
        )
    made.timer = made.clock()
    return made


@pytest.fixture
def killed(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the groups that are sent a signal, which are sent it nonetheless."""
    groups: list[int] = []
    send = os.killpg

    def noted(group: int, number: int) -> None:
        groups.append(group)
        send(group, number)

    monkeypatch.setattr(os, "killpg", noted)
    return groups


def test_a_program_that_was_waited_for_is_sent_no_signal(tmp_path: Path, killed: list[int]) -> None:
    one = program(tmp_path, "true")
    one.process.wait()
    one.end()
    assert killed == []


def test_a_program_that_runs_is_ended_once(tmp_path: Path, killed: list[int]) -> None:
    one = program(tmp_path, "sleep", "60")
    one.end()
    one.end()
    assert killed == [one.pid]
    assert isinstance(one.timer, threading.Timer)
    assert not one.alive


def test_a_servant_that_does_not_answer_in_time_is_ended(tmp_path: Path) -> None:
    servant: Any = JsonWorker(program(tmp_path, sys.executable, "-c", SLOW), 30)
    assert servant.ask(30, do="first", after=0) == "first"
    with pytest.raises(TestbedError, match="second took over"):
        servant.ask(0.05, do="second", after=5)
    assert not servant.program.alive
    with pytest.raises(TestbedError, match="ended before third"):
        servant.ask(30, do="third", after=0)
