# SPDX-License-Identifier: BSD-3-Clause
"""The sockets that a program holds at one end of a line, as the kernel tells (ss of iproute2)."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from typing import NamedTuple

from testbed.live.rings import inside

PATIENCE_SECONDS = 10.0


class Held(NamedTuple):
    """A socket: remote "" and 0 where it is not connected."""

    proto: str
    local: str
    local_port: int
    remote: str
    remote_port: int


def held(namespace: int, program: int) -> list[Held]:
    """Return the sockets of a process and its children in the network namespace of another.

    namespace, program: process numbers. Sockets that only listen, or on the loopback, are left out.
    """
    with inside(namespace):
        done = subprocess.run(
            ["ss", "-H", "-n", "-t", "-u", "-a", "-p"],
            capture_output=True, text=True, check=False, timeout=PATIENCE_SECONDS,
        )  # fmt: skip
    family = descendants(program)
    found = []
    for words in map(str.split, done.stdout.splitlines()):
        owners = {int(pid) for pid in re.findall(r"pid=(\d+)", words[-1])}
        if words[1] == "LISTEN" or not owners & family:
            continue
        (local, local_port), (remote, remote_port) = map(parted, words[4:6])
        if not local.startswith("127."):
            found.append(Held(words[0], local, local_port, remote, remote_port))
    return sorted(set(found))


def parted(text: str) -> tuple[str, int]:
    """Split "address:port"; nowhere ("0.0.0.0:*") is "" and 0."""
    address, _, port = text.rpartition(":")
    return ("", 0) if port == "*" else (address.partition("%")[0], int(port))


def descendants(pid: int) -> set[int]:
    """Return a process and all that it started."""
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents.setdefault(int(fields[1]), []).append(int(folder.name))
    found, waiting = set(), [pid]
    while waiting:
        one = waiting.pop()
        found.add(one)
        waiting += parents.get(one, [])
    return found
