# SPDX-License-Identifier: BSD-3-Clause
"""Callers: programs that make calls from a line's subscriber to the callee on the other side.

    with Line(network, "4g") as line, caller("chromium", line) as one:
        account = made(one, Plan("chromium", "audio"))

Every program runs as a child of this process in the network namespaces of the line, for a bounded
time; it is ended by its process number and dies with this process (testbed.programs.process).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import import_module
from typing import TYPE_CHECKING, Protocol

from midcall.errors import TestbedError
from midcall.testbed.programs.calls.plan import CALLERS, Plan
from midcall.testbed.programs.calls.report import Account

if TYPE_CHECKING:
    from midcall.testbed.live.network.subscriber_line import Line


class Caller(Protocol):
    """The interface of a program's driver; calls are made one after the other."""

    def prepare(self, plan: Plan) -> None:
        """Start what the plan needs and wait until both ends are ready. Raises TestbedError."""

    def call(self) -> bool:
        """Place the call; returns whether both ends were connected in time."""

    def statistics(self) -> Account:
        """Return the account of both ends so far."""

    def hang_up(self) -> Account:
        """End the call at the caller's side and return the final account of both ends."""

    def close(self) -> None:
        """End every program that was started."""


#: Modules, each with `missing() -> list[str]` and `start(line) -> context manager of a Caller`.
DRIVERS = {name: f"midcall.testbed.programs.calls.{name}" for name in CALLERS}


def missing(name: str) -> list[str]:
    """Return what a program lacks on this machine and how to get it, a sentence each."""
    if name not in DRIVERS:
        raise TestbedError(f"caller: got {name!r}, expected one of {', '.join(DRIVERS)}")
    lacks: list[str] = import_module(DRIVERS[name]).missing()
    return lacks


def caller(name: str, line: Line) -> AbstractContextManager[Caller]:
    """Return the driver of a program on a line; raises TestbedError with what is missing."""
    if lacks := missing(name):
        raise TestbedError(f"caller {name}: " + "; ".join(lacks))
    started: AbstractContextManager[Caller] = import_module(DRIVERS[name]).start(line)
    return started


def made(one: Caller, plan: Plan, meanwhile: Callable[[float], None] = time.sleep) -> Account:
    """Make one call as planned and return its account; meanwhile: called with its duration, s."""
    plan.check()
    one.prepare(plan)
    if one.call():
        meanwhile(plan.seconds)
    return one.hang_up()
