# SPDX-License-Identifier: BSD-3-Clause
"""List sockets from /proc: those of a network namespace, and those that a process has open.

The kernel lists the former with their inodes (/proc/<pid>/net/udp, tcp), and the inodes that each
process has open (/proc/<pid>/fd).
"""

from __future__ import annotations

import os
import re
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from midcall.captures.packets.headers import End

TABLES = {"udp": "udp", "tcp": "tcp", "udp6": "udp", "tcp6": "tcp"}
INODE = re.compile(r"socket:\[(\d+)\]")
#: States of sockets without a peer.
LISTENING = {"tcp": "0A", "udp": "07"}


class Socket(NamedTuple):
    """A socket of a namespace; far: port 0 where it is not connected."""

    proto: str
    inode: int
    near: End
    far: End
    state: str


class Held(NamedTuple):
    """A socket of a program: remote "" and 0 where it is not connected."""

    proto: str
    local: str
    local_port: int
    remote: str
    remote_port: int


def sockets(pid: int) -> Iterator[Socket]:
    """Yield the sockets in the network namespace of a process."""
    for table, proto in TABLES.items():
        try:
            rows = Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue
        for words in map(str.split, rows):
            yield Socket(proto, int(words[9]), end(words[1]), end(words[2]), words[3])


def end(text: str) -> End:
    """Return an address and a port as the kernel writes them (proc(5))."""
    address, _, port = text.partition(":")
    return packed(address), int(port, 16)


def packed(text: str) -> bytes:
    """Return the IPv4 address of the kernel's hexadecimal words (proc(5)), mapped ones too.

    Each word of 32 bits is written in the machine's own order.
    """
    words = [int(text[at : at + 8], 16).to_bytes(4, sys.byteorder) for at in range(0, len(text), 8)]
    return words[-1]


def listening(pid: int, proto: str, port: int) -> bool:
    """Tell whether something listens at a port in the network namespace of a process."""
    return any(
        (one.proto, one.near[1], one.state) == (proto, port, LISTENING[proto])
        for one in sockets(pid)
    )


def inodes(pid: int) -> Iterator[int]:
    """Yield the inodes of the sockets that a process has open, none once it has ended."""
    folder = f"/proc/{pid}/fd"
    try:
        for entry in os.listdir(folder):
            if hit := INODE.match(os.readlink(f"{folder}/{entry}")):
                yield int(hit[1])
    except OSError:
        return


def held(namespace: int, program: int) -> list[Held]:
    """Return the sockets of a process and its children in the network namespace of another.

    namespace, program: process numbers. Sockets that only listen, or on the loopback, are left out.
    """
    own = {inode for pid in descendants(program) for inode in inodes(pid)}
    result = set()
    for one in sockets(namespace):
        listens = one.proto == "tcp" and one.state == LISTENING["tcp"]
        local, remote = (socket.inet_ntoa(address) for address, _ in (one.near, one.far))
        if one.inode in own and not listens and not local.startswith("127."):
            peer = (remote, one.far[1]) if one.far[1] else ("", 0)
            result.add(Held(one.proto, local, one.near[1], *peer))
    return sorted(result)


def descendants(pid: int) -> set[int]:
    """Return the ids of a process and all its descendants."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        children.setdefault(int(fields[1]), []).append(int(folder.name))
    family, waiting = set(), [pid]
    while waiting:
        one = waiting.pop()
        family.add(one)
        waiting += children.get(one, [])
    return family
