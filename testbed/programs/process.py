# SPDX-License-Identifier: BSD-3-Clause
"""Programs on a line: child processes in its namespaces, limited in time and always ended.

A program runs in a process namespace of its own, so that everything it starts ends with it:
`setpriv` makes the kernel kill it when this process dies, `unshare` kills the rest.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import IO

from midcall.errors import TestbedError
from midcall.locations import ROOT
from midcall.testbed.live.box.rings import inside
from midcall.testbed.live.network.network import alive, identity
from midcall.testbed.live.network.subscriber_line import Line
from midcall.testbed.programs.calls.sockets import descendants

DIE_WITH_PARENT = (
    "setpriv", "--pdeathsig", "KILL", "unshare", "--pid", "--mount", "--fork", "--kill-child=KILL",
    "--", "sh", "-ec",
)  # fmt: skip
#: Set-up inside: both ends' network namespaces as files for nsenter, and a /proc of its own.
ENTRY = """
ulimit -c 0
mount --bind "/proc/$1/ns/net" "$3/caller.net"
mount --bind "/proc/$2/ns/net" "$3/callee.net"
mount -t proc proc /proc
shift 3
exec "$@"
"""
#: How long a killed program may take to end, and how long a program may run.
STOP_SECONDS, LIMIT_SECONDS = 10.0, 900.0
#: Lines of a program's output that an error shows, and characters of each.
LAST_LINES, LONGEST_LINE = 8, 200
#: Interval between two reads of a program's output.
LOOK_SECONDS = 0.02


def lacking(tools: Mapping[str, str]) -> list[str]:
    """Return which programs are missing, a sentence each; tools: name -> Debian package."""
    needed = {"setpriv": "util-linux", "unshare": "util-linux", "mount": "mount", **tools}
    return [
        f"{tool} is missing: apt-get install {package}"
        for tool, package in needed.items()
        if shutil.which(tool) is None
    ]


class Program:
    """A running program; a context manager that ends it.

    pid: of its `setpriv` parent, which ends with it; words: the file of its output.
    """

    def __init__(
        self,
        line: Line,
        pid: int,
        command: Sequence[str],
        name: str,
        *,
        limit_s: float = LIMIT_SECONDS,
        talks: bool = False,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start a command in the network namespace of a process (0: in this one's).

        name: of its folder, within the folder of the line's network; talks: whether it has an
        input, for `say`. Raises TestbedError.
        """
        self.name = name
        folder = line.network.folder / name
        folder.mkdir(exist_ok=True)
        self.folder, self.words = folder, folder / "words"
        home = {"HOME": str(folder), "TMPDIR": str(folder), "XDG_CONFIG_HOME": str(folder)}
        ends = (str(line.caller_pid), str(line.server_pid), str(line.network.folder))
        for end in ("caller", "callee"):
            (line.network.folder / f"{end}.net").touch()
        full_command = [*DIE_WITH_PARENT, ENTRY, "leash", *ends, *command]
        with open(self.words, "wb") as words, inside(pid or os.getpid()):
            try:
                self.process = subprocess.Popen(
                    full_command,
                    stdin=subprocess.PIPE if talks else subprocess.DEVNULL,
                    stdout=words,
                    stderr=subprocess.STDOUT,
                    env=os.environ | home | dict(environment or {}),
                    start_new_session=True,
                    cwd=ROOT,
                )
            except OSError as error:
                raise TestbedError(
                    f"{name}: {full_command[0]} cannot be started ({error})"
                ) from None
        line.network.watch(self.process.pid)
        self.limit_s = limit_s
        self.timer = self.clock()

    def clock(self) -> threading.Timer:
        """Return a running timer that ends it after limit_s."""
        timer = threading.Timer(self.limit_s, self.end)
        timer.daemon = True
        timer.start()
        return timer

    def renew(self) -> bool:
        """Restart its time limit, for a next call; tells whether it still runs."""
        self.timer.cancel()
        if self.alive:
            self.timer = self.clock()
        return self.alive

    def __enter__(self) -> Program:
        """Return it."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self.end()

    @property
    def pid(self) -> int:
        """Return the id of its `setpriv` process."""
        return self.process.pid

    @property
    def alive(self) -> bool:
        """Tell whether it runs."""
        return self.process.poll() is None

    def say(self, text: str) -> None:
        """Write a line to its input; ignored where it has closed that."""
        pipe: IO[bytes] | None = self.process.stdin
        if pipe is not None:
            with suppress(BrokenPipeError, ValueError):
                pipe.write(text.encode() + b"\n")
                pipe.flush()

    def written(self) -> str:
        """Return its output so far."""
        return self.words.read_text(errors="replace") if self.words.exists() else ""

    def last_words(self) -> str:
        """Return the last lines of its output, for errors."""
        lines = self.written().splitlines()[-LAST_LINES:]
        return "\n".join(f"    {one[:LONGEST_LINE]}" for one in lines) or "    nothing"

    def wait_for(self, done: Callable[[], bool], seconds: float, what: str) -> None:
        """Wait until `done()` is true; raises TestbedError if it ends first, or after `seconds`."""
        until = time.monotonic() + seconds
        while not done():
            if not self.alive and not done():
                raise TestbedError(
                    f"{self.name} ended before {what}; it said:\n{self.last_words()}"
                )
            if time.monotonic() > until:
                raise TestbedError(
                    f"{self.name}: {what} took over {seconds:g} s; it said:\n{self.last_words()}"
                )
            time.sleep(LOOK_SECONDS)

    def end(self) -> None:
        """End it and all its descendants.

        By SIGKILL: it is the first process of its namespace, which ignores other signals.
        """
        self.timer.cancel()
        family = [identity(pid) for pid in descendants(self.process.pid)] if self.alive else []
        if self.process.poll() is None:  # the id of a process that was waited for may be reused
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait(STOP_SECONDS)
        until = time.monotonic() + STOP_SECONDS
        while any(map(alive, family)) and time.monotonic() < until:
            time.sleep(LOOK_SECONDS)
        if self.process.stdin is not None:
            with suppress(BrokenPipeError):
                self.process.stdin.close()
