# SPDX-License-Identifier: BSD-3-Clause
"""Chromium as a caller: WebRTC between two headless browsers, with fake microphone and camera.

Playwright drives the installed browser. The driver carries offer, answer and candidates, so only
ICE, DTLS and media cross the line. A second call reuses the browsers with new pages: ports, keys
and candidates are new.
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
from midcall.testbed.programs.json_worker import JsonWorker
from midcall.testbed.programs.process import Program, lacking

#: How long browsers may take to start and to answer an order, and a call to be connected: ICE gives
#: up later.
START_SECONDS, ORDER_SECONDS, CONNECT_SECONDS = 60.0, 40.0, 12.0
WRAPPER = """#!/bin/sh
exec nsenter --net={network} -- {browser} "$@"
"""


def missing() -> list[str]:
    """Return what Chromium calls lack on this machine and how to get it, a sentence each."""
    lacks = lacking({"chromium": "chromium", "nsenter": "util-linux", "ss": "iproute2"})
    if find_spec("playwright") is None:
        lacks.append("Playwright cannot be imported: pip install 'midcall[callers]'")
    return lacks


@contextmanager
def start(line: Line) -> Iterator[Chromium]:
    """Yield a driver that has started nothing yet; end all its programs afterwards."""
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
        self.driver: JsonWorker | None = None
        self.relay: Program | None = None
        self.plan = Plan()
        self.placed, self.ended = 0, 0.0
        self.connected = False
        self.sockets: dict[str, list[Held]] = {}

    def prepare(self, plan: Plan) -> None:
        """Start the browsers (and the relay), and open both ends' pages. Raises TestbedError."""
        self.plan, self.placed, self.connected = plan, 0, False
        self.sockets = {}
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

    def launch(self) -> JsonWorker:
        """Start both browsers and wait until they are ready."""
        folder = self.line.network.folder
        wrappers = {}
        for end in ("caller", "callee"):
            wrapper = folder / f"chromium.{end}"
            wrapper.write_text(WRAPPER.format(network=folder / f"{end}.net", browser="chromium"))
            wrapper.chmod(0o755)
            wrappers[end] = str(wrapper)
        flags = [f"--host-resolver-rules=MAP {relay.NAME} {RELAY}"]
        orders = json.dumps(wrappers | {"flags": flags})
        command = [sys.executable, "-m", "midcall.testbed.programs.calls.browsers", orders]
        program = Program(self.line, 0, command, "browsers", talks=True)
        return JsonWorker(program, START_SECONDS)

    def ask(self, **order: Any) -> dict[str, Any]:
        """Send an order to the driver; returns its answer."""
        assert self.driver is not None
        done: dict[str, Any] = self.driver.ask(ORDER_SECONDS, **order)
        return done

    def call(self) -> bool:
        """Place the call; returns whether both ends were connected in time."""
        result = self.ask(do="call", patience_s=CONNECT_SECONDS)
        self.placed, self.connected = result["placed"], result["connected"]
        self.record_sockets()
        return self.connected

    def record_sockets(self) -> None:
        """Record the sockets that both browsers have open now."""
        assert self.driver is not None
        ends = {"caller": self.line.caller_pid, "callee": self.line.server_pid}
        for name, namespace in ends.items():
            known = self.sockets.setdefault(name, [])
            known += [one for one in held(namespace, self.driver.program.pid) if one not in known]

    def statistics(self) -> Account:
        """Return the account of both browsers so far."""
        self.record_sockets()
        assert self.driver is not None
        reports = self.ask(do="report")
        self.ended = (time.time_ns() - self.placed) / 1e9
        ends = tuple(
            end_of(name, address, reports[name], self.placed, self.sockets[name])
            for name, address in (("caller", CALLER), ("callee", CALLEE))
        )
        return Account(
            self.plan, self.connected, self.placed, self.ended, ends, int(self.connected),
            version=f"Chromium {self.driver.ready}",
        )  # fmt: skip

    def hang_up(self) -> Account:
        """Return the final account of both ends; closes their connections and pages."""
        account = self.statistics()
        self.ask(do="close")
        return account

    def close(self) -> None:
        """End browsers and relay."""
        driver, relay_program = self.driver, self.relay
        self.driver = self.relay = None
        if driver is not None:
            driver.program.end()
        if relay_program is not None:
            relay_program.end()
