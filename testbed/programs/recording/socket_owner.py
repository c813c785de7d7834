# SPDX-License-Identifier: BSD-3-Clause
"""Record which process owned the socket at each end of a flow while the programs ran.

A thread polls both ends of a line. A socket that lived for less than the polling interval is
missed: then only the other end's owner is known.
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

#: Interval between two polls.
REST_SECONDS = 0.03
ANYWHERE = b"\0\0\0\0"


class Owner(NamedTuple):
    """A process that owned a socket."""

    pid: int
    name: str  # /proc/<pid>/comm


class SocketOwners:
    """Polls the socket owners at both ends of a line while it is open; a context manager."""

    def __init__(self, line: Line) -> None:
        """Prepare to poll both ends of a line."""
        self.line = line
        self.seen: dict[tuple[int, str, End], Owner] = {}
        self.done = threading.Event()
        self.thread = threading.Thread(target=self._watch, name="witness", daemon=True)

    def __enter__(self) -> SocketOwners:
        """Start polling."""
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop polling."""
        self.done.set()
        self.thread.join()

    def _watch(self) -> None:
        while not self.done.is_set():
            self.look()
            self.done.wait(REST_SECONDS)

    def look(self) -> None:
        """Record the owner of every socket that exists now."""
        namespaces = {
            os.stat(f"/proc/{pid}/ns/net").st_ino: pid
            for pid in (self.line.caller_pid, self.line.server_pid)
        }
        owners = dict(socket_owners(set(namespaces)))
        for pid in namespaces.values():
            for one in sockets(pid):
                if (owner := owners.get(one.inode)) is not None:
                    self.seen[pid, one.proto, one.near] = owner

    def owner(self, pid: int, proto: str, end: End) -> Owner | None:
        """Return the owner of an end's socket in a namespace, bound to its address or to any."""
        for one in (end, (ANYWHERE, end[1])):
            if (owner := self.seen.get((pid, proto, one))) is not None:
                return owner
        return None


def socket_owners(namespaces: set[int]) -> Iterator[tuple[int, Owner]]:
    """Yield (inode, owner) of the sockets of all processes in some network namespaces."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.stat(folder / "ns/net").st_ino not in namespaces:
                continue
            owner = Owner(int(folder.name), (folder / "comm").read_text().strip())
        except OSError:
            continue  # it ended
        for inode in inodes(owner.pid):
            yield inode, owner
