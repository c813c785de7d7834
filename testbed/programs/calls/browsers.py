# SPDX-License-Identifier: BSD-3-Clause
"""Two browsers at the two ends of a line, and the driver that carries the signalling between them.

A process of its own: `python -m testbed.programs.calls.browsers ORDERS`. It reads one order per
line from its input, {"do": "open" | "call" | "report" | "close", ...}, and answers each with a line
of JSON. Playwright's driver starts the installed Chromium through a script that enters a namespace
first.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path
from typing import Any

from midcall.testbed.programs.worker_main import obey

PAGE = Path(__file__).with_name("page.js")
ORIGIN = "https://call.example/"
HTML = "<!doctype html><title>call</title><body></body>"
#: Fake devices, real addresses in candidates, sound without a gesture, no background requests.
FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--mute-audio",
    "--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream",
    "--autoplay-policy=no-user-gesture-required", "--ignore-certificate-errors",
    "--disable-features=WebRtcHideLocalIpsWithMdns", "--disable-background-networking",
    "--disable-component-update", "--no-first-run", "--renderer-process-limit=1",
)  # fmt: skip
#: How often a lost connection is tried again with new candidates (ICE restart).
RESTARTS = 2


class Side:
    """One browser, and its page while there is a call."""

    def __init__(self, name: str, browser: Any) -> None:
        self.name, self.browser = name, browser
        self.page: Any = None
        self.other: Side
        self.connected = asyncio.Event()
        self.connection = "new"

    async def open(self, options: dict[str, Any], on_event: Any) -> None:
        """Open a new page and prepare its end of a call."""
        await self.close()
        self.connected.clear()
        self.connection = "new"
        context = await self.browser.new_context(ignore_https_errors=True)
        await context.grant_permissions(["microphone", "camera"], origin=ORIGIN)
        self.page = await context.new_page()
        await self.page.route(
            ORIGIN + "**", lambda route: route.fulfill(body=HTML, content_type="text/html")
        )
        await self.page.goto(ORIGIN)

        async def tell(kind: str, value: Any) -> None:
            await on_event(self, kind, value)

        await self.page.expose_function("tell", tell)
        await self.page.add_script_tag(content=PAGE.read_text())
        await self.page.evaluate("options => open(options)", options)

    async def close(self) -> None:
        """Close the page."""
        page, self.page = self.page, None
        if page is not None:
            await page.context.close()


class Driver:
    """Both browsers and the call between them."""

    def __init__(self, caller: Side, callee: Side) -> None:
        self.caller, self.callee = caller, callee
        caller.other, callee.other = callee, caller
        self.restarts = 0
        self.tasks: set[asyncio.Task[None]] = set()

    async def on_event(self, side: Side, kind: str, value: Any) -> None:
        """Handle an event of a page: a candidate or a connection state."""
        if kind == "candidate" and side.other.page is not None:
            await side.other.page.evaluate("one => candidate(one)", value)
        if kind == "connection":
            side.connection = value
            if value == "connected":
                side.connected.set()
            if (
                value in ("disconnected", "failed")
                and side is self.caller
                and self.restarts < RESTARTS
            ):
                self.restarts += 1
                task = asyncio.create_task(self.negotiate(True))
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)

    async def negotiate(self, restart: bool) -> None:
        """Carry an offer over and its answer back."""
        sdp = await self.caller.page.evaluate("restart => offer(restart)", restart)
        answer = await self.callee.page.evaluate("sdp => answer(sdp)", sdp)
        await self.caller.page.evaluate("sdp => take('answer', sdp)", answer)

    async def do(self, order: dict[str, Any]) -> dict[str, Any]:
        """Execute one order; returns its result."""
        what = order["do"]
        if what == "open":
            self.restarts = 0
            await self.caller.open(order["caller"], self.on_event)
            await self.callee.open(order["callee"], self.on_event)
            return {}
        if what == "call":
            return await self.call(order["patience_s"])
        if what == "report":
            return {
                side.name: await side.page.evaluate("report()")
                for side in (self.caller, self.callee)
            }
        for side in (self.caller, self.callee):
            if side.page is not None:
                await side.page.evaluate("close()")
            await side.close()
        return {}

    async def call(self, timeout: float) -> dict[str, Any]:
        """Place the call and wait until both ends are connected, at most `timeout` s."""
        placed = time.time_ns()
        await self.negotiate(False)
        both = asyncio.gather(self.caller.connected.wait(), self.callee.connected.wait())
        try:
            await asyncio.wait_for(both, timeout)
        except TimeoutError:
            return {"placed": placed, "connected": False}
        return {"placed": placed, "connected": True}


async def main(orders: dict[str, Any]) -> None:
    """Start both browsers, write their version, and execute orders until the input ends."""
    from playwright.async_api import async_playwright

    async with async_playwright() as play:
        sides = []
        for name in ("caller", "callee"):
            browser = await play.chromium.launch(
                executable_path=orders[name], headless=True, args=[*FLAGS, *orders["flags"]]
            )
            sides.append(Side(name, browser))
        await obey(sides[0].browser.version, Driver(*sides).do)
        for side in sides:
            await side.browser.close()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
