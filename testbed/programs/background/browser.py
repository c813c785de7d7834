# SPDX-License-Identifier: BSD-3-Clause
"""A browser that opens a page: Chromium at the caller's end, nginx at the remote end."""

from __future__ import annotations

import shutil

from midcall.testbed.programs.background import web
from midcall.testbed.programs.background.certificates import Certificate
from midcall.testbed.programs.background.driver import Act, Service, Stage

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome")
#: Only the page is loaded: no updates, no services of the vendor, no use of shared memory.
QUIET = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-default-apps", "--disable-extensions", "--no-pings", "--dump-dom",
)  # fmt: skip
LOAD_MS, LOAD_SECONDS = 8000, 60


def missing(kind: str) -> list[str]:
    """Return what is missing, a sentence each."""
    lacks = web.missing(kind)
    if chromium() is None:
        lacks.append("chromium is missing: apt-get install chromium")
    return lacks


def chromium() -> str | None:
    """Return the path of the browser, None where there is none."""
    return next(filter(None, map(shutil.which, CHROMIUMS)), None)


def start(stage: Stage, kind: str) -> Act:
    """Serve the page; the browser opens it in a profile of its own and ends."""
    folder = stage.line.network.folder / "site"
    authority = web.served(stage)
    made = Certificate(authority, folder / "chain.pem", folder / "key.pem")
    quic = kind == "browser-http3"
    command = [chromium() or CHROMIUMS[0], *QUIET, f"--timeout={LOAD_MS}"]
    command += [f"--user-data-dir={folder / 'profile'}"]
    command += [f"--host-resolver-rules=MAP {web.NAME} {web.ADDRESS}, MAP * ~NOTFOUND"]
    command += [f"--ignore-certificate-errors-spki-list={made.pin()}"]
    if quic:
        command += ["--enable-quic", f"--origin-to-force-quic-on={web.NAME}:443"]
    else:
        command += ["--disable-quic"]

    def act(seconds: float) -> None:
        for visit in range(max(1, round(seconds / 4))):
            number = visit % web.PAGES
            page = stage.run([*command, f"https://{web.NAME}/{number}.html"], "chromium",
                             LOAD_SECONDS)  # fmt: skip
            if f"Page {number}" not in page:
                raise_unopened(page)

    speaks = "HTTP/3 over QUIC" if quic else "HTTP/2 over TLS"
    proto = "udp" if quic else "tcp"
    return Act((Service(proto, web.ADDRESS, 443, f"nginx, {speaks}"),), act)


def raise_unopened(page: str) -> None:
    """Raise TestbedError: the browser showed something else."""
    from midcall.errors import TestbedError

    raise TestbedError(f"chromium: the page did not open; it showed {page[:200]!r}")
