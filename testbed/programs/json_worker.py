# SPDX-License-Identifier: BSD-3-Clause
"""Client of a worker program that reads orders and writes answers, one line of JSON each."""

from __future__ import annotations

import json
from typing import Any

from midcall.errors import TestbedError
from midcall.testbed.programs.process import Program


class JsonWorker:
    """A program that writes {"ready": ...} first, then {"done": ...} or {"error": ...}."""

    def __init__(self, program: Program, seconds: float) -> None:
        """Wait `seconds` until it is ready; otherwise ends it and raises TestbedError."""
        self.program, self.answers = program, 0
        try:
            self.ready = str(self.answer(seconds, "being ready")["ready"])
        except BaseException:
            program.end()
            raise

    def lines(self) -> list[str]:
        """Return its complete answers so far."""
        return [one for one in self.program.written().split("\n")[:-1] if one.startswith("{")]

    def answer(self, seconds: float, what: str) -> dict[str, Any]:
        """Return its next answer. Raises TestbedError where the answer is an error.

        A program that does not answer in time is ended: a late answer would be taken for that to
        the next order.
        """
        try:
            self.program.wait_for(lambda: len(self.lines()) > self.answers, seconds, what)
        except TestbedError:
            self.program.end()
            raise
        answer: dict[str, Any] = json.loads(self.lines()[self.answers])
        self.answers += 1
        if "error" in answer:
            raise TestbedError(f"{self.program.name}: {what}: {answer['error']}")
        return answer

    def ask(self, seconds: float, **order: Any) -> Any:
        """Send it an order; returns the result."""
        self.program.say(json.dumps(order))
        return self.answer(seconds, order["do"])["done"]
