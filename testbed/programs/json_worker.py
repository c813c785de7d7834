# SPDX-License-Identifier: BSD-3-Clause
"""A servant: a program of ours that takes orders, a line of JSON each, and answers likewise."""

from __future__ import annotations

import json
from typing import Any

from midcall.errors import TestbedError
from midcall.testbed.programs.process import Program


class Servant:
    """A running program that says {"ready": ...} first, then {"done": ...} or {"error": ...}."""

    def __init__(self, program: Program, seconds: float) -> None:
        """Wait until it is ready, no longer than that; ends it and raises TestbedError if not."""
        self.program, self.answers = program, 0
        try:
            self.ready = str(self.answer(seconds, "being ready")["ready"])
        except BaseException:
            program.end()
            raise

    def lines(self) -> list[str]:
        """Return its answers so far, whole ones only."""
        return [one for one in self.program.written().split("\n")[:-1] if one.startswith("{")]

    def answer(self, seconds: float, what: str) -> dict[str, Any]:
        """Wait for its next answer. Raises TestbedError where it says what went wrong.

        One that does not answer in time is ended: a late answer would be taken for the next one's.
        """
        try:
            self.program.wait_for(lambda: len(self.lines()) > self.answers, seconds, what)
        except TestbedError:
            self.program.end()
            raise
        told: dict[str, Any] = json.loads(self.lines()[self.answers])
        self.answers += 1
        if "error" in told:
            raise TestbedError(f"{self.program.name}: {what}: {told['error']}")
        return told

    def ask(self, seconds: float, **order: Any) -> Any:
        """Give it an order; returns what it gave."""
        self.program.say(json.dumps(order))
        return self.answer(seconds, order["do"])["done"]
