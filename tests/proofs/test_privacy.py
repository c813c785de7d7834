# SPDX-License-Identifier: BSD-3-Clause
"""Captures never leave the machine: nothing but fetching opens a connection, and it is pinned."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
from pathlib import Path

from midcall.captures.truth.catalogue import load
from midcall.locations import ROOT

#: Where a connection may be opened: fetching; the emulated network; a Dask cluster that was named;
#: the two programs of `midcall probe`, which refuse every address outside the lab's ranges
#: (tests/testbed/test_probe_leash.py). The import of an engine's rules asks the system for ports by
#: their names, and connects to nothing.
OPENERS = ("captures/fetch/download.py", "testbed/live/", "testbed/programs/",
           "experiments/jobs/cluster.py", "testbed/engines/kernel_engine.py",
           "testbed/probing/control.py", "testbed/probing/helper.py",
           "testbed/probing/real_sockets.py", "experiments/probe/live.py",
           "testbed/engines/import_parts.py")  # fmt: skip
NETWORK = ("socket", "urllib.request", "http", "ssl", "ftplib", "smtplib", "asyncio", "requests",
           "distributed", "dask")  # fmt: skip

WATCH = """
import json, sys
seen = []
def watch(event, arguments):
    if event in ("socket.connect", "socket.sendto", "socket.getaddrinfo", "socket.gethostbyname"):
        if not (event != "socket.getaddrinfo" and isinstance(arguments[-1], (str, bytes))):
            seen.append([event, repr(arguments[1:])])
sys.addaudithook(watch)
"""

COMMANDS = """
import contextlib, io, os
from typer.testing import CliRunner
from midcall.experiments.cli.app import app
os.chdir(sys.argv[1])
sample = sys.argv[2]
codes = {}
for words in (
    ["run", "smoke", "-j", "1"], ["classify", sample, "-o", "flows.csv"], ["explain", sample],
    ["plan", "smoke"], ["captures", "list"], ["captures", "check"], ["report"], ["doctor"],
    ["runs", "show"], ["policy", "show", "inwi"], ["captures", "anonymise", sample, "other.pcap"],
):
    codes[" ".join(words[:2])] = CliRunner().invoke(app, words).exit_code
print(json.dumps([codes, seen]))
"""


def carried_out(program: str, *words: str) -> list[object]:
    done = subprocess.run(
        [sys.executable, "-c", WATCH + program, *words],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    found: list[object] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_no_command_but_fetching_opens_a_connection(tmp_path: Path) -> None:
    sample = ROOT / "captures" / "samples" / "sample-viber-chat.pcap"
    codes, seen = carried_out(COMMANDS, str(tmp_path), str(sample))
    assert isinstance(codes, dict)
    assert {name for name, code in codes.items() if code} <= {"doctor"}
    assert seen == []


def test_the_watch_sees_a_connection() -> None:
    program = """
import contextlib, socket
with contextlib.suppress(OSError):
    socket.create_connection(("127.0.0.1", 1), timeout=1)
print(json.dumps(seen))
"""
    events = [event for event, _ in carried_out(program)]  # type: ignore[misc]
    assert "socket.connect" in events


def imported(path: Path) -> set[str]:
    """Return the modules that a file imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{name.name}" for name in node.names)}
    return found


def test_only_fetching_and_the_emulated_network_know_how_to_connect() -> None:
    odd = []
    for package in ("captures", "classifier", "testbed", "experiments"):
        for path in sorted((ROOT / package).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            uses = {one for one in imported(path) if one.split(".")[0] in NETWORK or one in NETWORK}
            uses -= {"urllib.parse"}
            if uses and not name.startswith(OPENERS):
                odd.append(f"{name}: {', '.join(sorted(uses))}")
    assert odd == []


def test_everything_that_is_fetched_is_pinned_by_its_sum() -> None:
    for one in load(local=False).captures:
        assert re.fullmatch(r"[\da-f]{64}", one.sha256), one.name
