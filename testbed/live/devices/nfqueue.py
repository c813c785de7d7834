# SPDX-License-Identifier: BSD-3-Clause
"""The reader of a netfilter queue, as a program: accepts every packet as soon as it is read.

Many filters are built on such a queue: each packet is passed to a process over netlink and waits
for its verdict. The loop is compiled; one verdict answers all packets that were read at once.
Sources: Linux's linux/netfilter/nfnetlink_queue.h and linux/netlink.h.

    python -m midcall.testbed.live.devices.nfqueue QUEUE
"""

from __future__ import annotations

import os
import socket
import struct
import sys

import numpy as np

from midcall.captures.jit.kernel import I, compile_lock, kernel
from midcall.captures.jit.reads import Octets, u32
from midcall.errors import TestbedError
from midcall.testbed.live.box.system import Numbers, external, low

NETLINK_NETFILTER = 12
SUBSYSTEM = 3 << 8
PACKET, CONFIG, VERDICT_BATCH = 0, 2, 3
REQUEST, ACKNOWLEDGE = 1, 4
ERROR = 2
# Attributes and commands.
CONFIG_COMMAND, CONFIG_PARAMETERS, CONFIG_LENGTH = 1, 2, 3
BIND = 1
COPY_PACKET = 2
PACKET_HEADER, VERDICT_HEADER = 1, 2
ACCEPT = 1

#: Packets that may wait, octets of each that are copied, and the buffer for them.
LENGTH, COPIED, BUFFER = 16384, 0xFFFF, 16 << 20
ROOM = 1 << 20

_recv = external("recv", 4)
_send = external("send", 4)


def message(kind: int, queue: int, attributes: bytes, flags: int = REQUEST | ACKNOWLEDGE) -> bytes:
    """Return a netlink message to the queue's subsystem."""
    body = struct.pack(">BBH", socket.AF_UNSPEC, 0, queue) + attributes
    return struct.pack("<IHHII", 16 + len(body), SUBSYSTEM | kind, flags, 0, 0) + body


def attribute(kind: int, content: bytes) -> bytes:
    """Return a netlink attribute, padded to four octets."""
    return struct.pack("<HH", 4 + len(content), kind) + content + bytes(-len(content) % 4)


def ask(link: socket.socket, text: bytes, about: str) -> None:
    """Send a message and read the answer; raises TestbedError where the kernel refuses."""
    link.send(text)
    answer = link.recv(4096)
    code = struct.unpack_from("<i", answer, 16)[0]
    if struct.unpack_from("<H", answer, 4)[0] == ERROR and code != 0:
        raise TestbedError(f"netfilter queue: {about}: {os.strerror(-code)}")


def bind(queue: int) -> socket.socket:
    """Return a netlink socket that receives the packets of a queue; raises TestbedError."""
    try:
        link = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        link.bind((0, 0))
    except OSError as error:
        raise TestbedError(f"netfilter queue: no netlink here ({error.strerror})") from None
    command = attribute(CONFIG_COMMAND, struct.pack(">BxH", BIND, 0))
    ask(link, message(CONFIG, queue, command), f"queue {queue} cannot be bound")
    shape = attribute(CONFIG_PARAMETERS, struct.pack(">IB", COPIED, COPY_PACKET))
    shape += attribute(CONFIG_LENGTH, struct.pack(">I", LENGTH))
    ask(link, message(CONFIG, queue, shape), f"queue {queue} cannot be shaped")
    force = 33  # SO_RCVBUFFORCE
    link.setsockopt(socket.SOL_SOCKET, force, BUFFER)
    link.setsockopt(270, 5, 1)  # SOL_NETLINK, NETLINK_NO_ENOBUFS: a full buffer is no error
    return link


@kernel
def last_packet(b: Octets, size: int) -> int:
    """Return the greatest packet id in netlink messages b[:size], -1 for none."""
    last_id, at = I(-1), I(0)
    while size - at >= 20:
        length = I(b[at]) | I(b[at + 1]) << 8 | I(b[at + 2]) << 16 | I(b[at + 3]) << 24
        if length < 20 or length > size - at:
            break
        if I(b[at + 4]) == PACKET and I(b[at + 5]) == SUBSYSTEM >> 8:
            place, end = at + 20, at + length
            while end - place >= 4:
                step = I(b[place]) | I(b[place + 1]) << 8
                if step < 4:
                    break
                if I(b[place + 2]) == PACKET_HEADER and end - place >= 8:
                    last_id = max(last_id, u32(b, place + 4))
                    break
                place += (step + 3) & ~3
        at += (length + 3) & ~3
    return last_id


@kernel
def accept(fd: int, b: Octets, verdict: Octets, turns: int, counts: Numbers) -> bool:
    """Read and accept packets, `turns` reads at most; returns whether the socket still works.

    verdict: a VERDICT_BATCH message whose last four octets are the packet id.
    """
    place = len(verdict) - 4
    for _ in range(turns):
        size = low(_recv(fd, b.ctypes.data, len(b), 0))
        if size < 0:
            return False
        last = last_packet(b, size)
        if last < 0:
            continue
        counts[0] += 1
        for i in range(4):
            verdict[place + i] = (last >> 8 * (3 - i)) & 0xFF
        if low(_send(fd, verdict.ctypes.data, len(verdict), 0)) < 0:
            return False
    return True


def main(queue: int) -> None:
    """Accept packets until the process is ended."""
    header = attribute(VERDICT_HEADER, struct.pack(">II", ACCEPT, 0))
    verdict = np.frombuffer(message(VERDICT_BATCH, queue, header, REQUEST), np.uint8).copy()
    room, counts = np.zeros(ROOM, np.uint8), np.zeros(1, np.int64)
    with compile_lock():
        accept(-1, room, verdict, 1, counts)
    link = bind(queue)
    while accept(link.fileno(), room, verdict, 1024, counts):
        pass
    raise TestbedError("netfilter queue: the socket failed")


if __name__ == "__main__":
    try:
        main(int(sys.argv[1]))
    except TestbedError as problem:
        print(problem, file=sys.stderr)
        raise SystemExit(2) from None
