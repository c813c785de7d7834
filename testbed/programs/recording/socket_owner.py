# SPDX-License-Identifier: BSD-3-Clause
"""The witness: whose socket each end of a flow was, by process number, while the programs ran.

A thread looks again and again at both ends of a line. A socket that lived shorter than two looks is
not seen: then the other end decides.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from midcall.captures.packets.headers import End
from midcall.testbed.live.network.subscriber_line import Line
from midcall.testbed.programs.calls.sockets import inodes, sockets

#: Between two looks.
REST_SECONDS = 0.03
ANYWHERE = b"\0\0\0\0"


class Owner(NamedTuple):
    """A process that held a socket."""

    pid: int
    name: str  # /proc/<pid>/comm


class Witness:
    """Looks at both ends of a line from entering to leaving it; a context manager."""

    def __init__(self, line: Line) -> None:
        """Describe who looks at what."""
        self.line = line
        self.seen: dict[tuple[int, str, End], Owner] = {}
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._watch, name="witness", daemon=True)

    def __enter__(self) -> Witness:
        """Look from now on."""
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop looking."""
        self.done.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self.done.is_set():
            self.look()
            self.done.wait(REST_SECONDS)

    def look(self) -> None:
        """Note the owner of every socket that is there now."""
        spaces = {
            os.stat(f"/proc/{pid}/ns/net").st_ino: pid
            for pid in (self.line.caller_pid, self.line.server_pid)
        }
        holders = dict(held_sockets(set(spaces)))
        for pid in spaces.values():
            for one in sockets(pid):
                if (owner := holders.get(one.inode)) is not None:
                    self.seen[pid, one.proto, one.near] = owner

    def owner(self, pid: int, proto: str, end: End) -> Owner | None:
        """Return who held the socket of an end in a namespace, by its address or bound to any."""
        for one in (end, (ANYWHERE, end[1])):
            if (found := self.seen.get((pid, proto, one))) is not None:
                return found
        return None


def held_sockets(spaces: set[int]) -> Iterator[tuple[int, Owner]]:
    """Yield (inode, owner) of the sockets of all processes in some network namespaces."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.stat(folder / "ns/net").st_ino not in spaces:
                continue
            owner = Owner(int(folder.name), (folder / "comm").read_text().strip())
        except OSError:
            continue  # it ended
        for inode in inodes(owner.pid):
            yield inode, owner
