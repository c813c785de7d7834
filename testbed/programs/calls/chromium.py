# SPDX-License-Identifier: BSD-3-Clause
"""Chromium as a caller: WebRTC between two headless browsers, with fake microphone and camera.

Playwright drives the browser that is installed. Offer, answer and candidates are carried by the
driver, so the line sees ICE, DTLS and media alone. A second call reuses the browsers, with fresh
pages: ports, keys and candidates are new.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import Any

from midcall.errors import TestbedError
from midcall.testbed.live.network.subscriber_line import CALLEE, CALLER, RELAY, Line
from midcall.testbed.programs.calls import relay
from midcall.testbed.programs.calls.plan import Plan
from midcall.testbed.programs.calls.report import Account
from midcall.testbed.programs.calls.sockets import Held, held
from midcall.testbed.programs.calls.webrtc import end_of
from midcall.testbed.programs.json_worker import Servant
from midcall.testbed.programs.process import Program, lacking

#: How long browsers may take to start, to obey, and a call to be connected: ICE gives up later.
START_SECONDS, ORDER_SECONDS, PATIENCE_SECONDS = 60.0, 40.0, 12.0
DOOR = """#!/bin/sh
exec nsenter --net={network} -- {browser} "$@"
"""


def missing() -> list[str]:
    """Return what Chromium calls lack on this machine and how to get it, a sentence each."""
    found = lacking({"chromium": "chromium", "nsenter": "util-linux", "ss": "iproute2"})
    if find_spec("playwright") is None:
        found.append("Playwright cannot be imported: pip install 'midcall[callers]'")
    return found


@contextmanager
def start(line: Line) -> Iterator[Chromium]:
    """Start nothing yet; end everything at the end."""
    one = Chromium(line)
    try:
        yield one
    finally:
        one.close()


class Chromium:
    """Two browsers on a line, and a relay where a plan needs one."""

    def __init__(self, line: Line) -> None:
        """Describe a caller; programs run once a call is prepared."""
        self.line = line
        self.driver: Servant | None = None
        self.relay: Program | None = None
        self.plan = Plan()
        self.placed, self.ended = 0, 0.0
        self.connected = False
        self.held: dict[str, list[Held]] = {}

    def prepare(self, plan: Plan) -> None:
        """Start the browsers (and the relay), and open both ends' pages. Raises TestbedError."""
        self.plan, self.placed, self.connected = plan, 0, False
        self.held = {}
        if self.relay is not None and not self.relay.renew():
            self.relay = None
        if self.driver is not None and not self.driver.program.renew():
            self.driver = None
        if plan.path != "direct" and self.relay is None:
            if lacks := relay.missing():
                raise TestbedError("caller chromium: " + "; ".join(lacks))
            self.relay = relay.start(self.line)
        if self.driver is None:
            self.driver = self.launch()
        options = {"media": plan.media, "servers": [], "relay": False}
        self.ask(
            do="open",
            callee=options | {"calls": False},
            caller=options
            | {
                "calls": True,
                "servers": relay.servers(plan.path),
                "relay": plan.path.startswith("turn-"),
            },
        )

    def launch(self) -> Servant:
        """Start both browsers and wait until they are there."""
        folder = self.line.network.folder
        doors = {}
        for end in ("caller", "callee"):
            door = folder / f"chromium.{end}"
            door.write_text(DOOR.format(network=folder / f"{end}.net", browser="chromium"))
            door.chmod(0o755)
            doors[end] = str(door)
        flags = [f"--host-resolver-rules=MAP {relay.NAME} {RELAY}"]
        orders = json.dumps(doors | {"flags": flags})
        command = [sys.executable, "-m", "midcall.testbed.programs.calls.browsers", orders]
        program = Program(self.line, 0, command, "browsers", talks=True)
        return Servant(program, START_SECONDS)

    def ask(self, **order: Any) -> dict[str, Any]:
        """Give the driver an order; returns what it gave."""
        assert self.driver is not None
        done: dict[str, Any] = self.driver.ask(ORDER_SECONDS, **order)
        return done

    def call(self) -> bool:
        """Place the call; returns whether both ends were connected in time."""
        told = self.ask(do="call", patience_s=PATIENCE_SECONDS)
        self.placed, self.connected = told["placed"], told["connected"]
        self.look()
        return self.connected

    def look(self) -> None:
        """Note the sockets that both browsers hold now."""
        assert self.driver is not None
        ends = {"caller": self.line.caller_pid, "callee": self.line.server_pid}
        for name, namespace in ends.items():
            seen = self.held.setdefault(name, [])
            seen += [one for one in held(namespace, self.driver.program.pid) if one not in seen]

    def statistics(self) -> Account:
        """Return what both browsers say by now."""
        self.look()
        assert self.driver is not None
        told = self.ask(do="report")
        self.ended = (time.time_ns() - self.placed) / 1e9
        ends = tuple(
            end_of(name, address, told[name], self.placed, self.held[name])
            for name, address in (("caller", CALLER), ("callee", CALLEE))
        )
        return Account(
            self.plan, self.connected, self.placed, self.ended, ends, int(self.connected),
            version=f"Chromium {self.driver.ready}",
        )  # fmt: skip

    def hang_up(self) -> Account:
        """Take both ends' last word, then close their connections and pages."""
        account = self.statistics()
        self.ask(do="close")
        return account

    def close(self) -> None:
        """End browsers and relay."""
        driver, standing = self.driver, self.relay
        self.driver = self.relay = None
        if driver is not None:
            driver.program.end()
        if standing is not None:
            standing.end()
