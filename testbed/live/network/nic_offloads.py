# SPDX-License-Identifier: BSD-3-Clause
"""Switch off NIC offloads, which would show the box frames that never occur on a wire.

With checksum offload on, a frame crosses a virtual link with its checksum unwritten; with
segmentation offload, as one oversized frame. The ethtool ioctl (linux/ethtool.h, SIOCETHTOOL)
switches them off; a probe then sends a frame as an offloading host would and checks what arrives.
"""

from __future__ import annotations

import array
import fcntl
import select
import socket
import struct
import time

from midcall.errors import TestbedError
from midcall.testbed.live.box.rings import ETH_P_ALL, SOL_PACKET, inside
from midcall.testbed.network.checksums import folded, word_sum

SIOCETHTOOL = 0x8946
# ethtool commands that set, in the order of switching off: an offload before those it needs.
SET = {"tso": 0x1F, "gso": 0x24, "gro": 0x2C, "rx": 0x15, "tx": 0x17, "sg": 0x19}
GET = {"tso": 0x1E, "gso": 0x23, "gro": 0x2B, "rx": 0x14, "tx": 0x16, "sg": 0x18}
#: Scatter-gather stays on: it does not change frames.
OFF = ("tso", "gso", "gro", "rx", "tx")

PACKET_VNET_HDR, PACKET_AUXDATA = 15, 8
VNET_NEEDS_CHECKSUM = 1
STATUS_CHECKSUM_NOT_READY = 8
PROBE_TYPE = 0x88B5  # IEEE 802: local experiments; never on a real link
#: Where the sum begins: behind room for a network header, as the kernel demands.
PROBE_START = 34
PROBE_SECONDS = 2.0


def ethtool(probe: socket.socket, interface: str, command: int, value: int = 0) -> int:
    """Get or set one offload; returns its state. Raises OSError."""
    words = array.array("I", [command, value])
    request = struct.pack("16sP", interface.encode(), words.buffer_info()[0])
    fcntl.ioctl(probe, SIOCETHTOOL, request)
    return int(words[1])


def states(pid: int, interface: str) -> dict[str, bool]:
    """Return which offloads of an interface are on, inside the namespace of a process."""
    with inside(pid), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        return {name: bool(ethtool(probe, interface, command)) for name, command in GET.items()}


def switch_off(pid: int, interface: str) -> None:
    """Switch off every offload of an interface; raises TestbedError naming what stays on."""
    with inside(pid), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        for name in OFF:
            try:
                ethtool(probe, interface, SET[name])
            except OSError as error:
                raise TestbedError(
                    f"{interface}: offload {name} cannot be switched off: {error.strerror}"
                ) from None
        on = [name for name in OFF if ethtool(probe, interface, GET[name])]
    if on:
        raise TestbedError(f"{interface}: offloads stay on: {', '.join(on)}; expected all off")


def assert_whole(pid: int, interface: str, other_pid: int, other: str) -> None:
    """Send a frame whose checksum is left to the link, and check that it arrives written.

    Raises TestbedError where it does not: such frames would be forwarded with wrong checksums.
    """
    with inside(other_pid):
        receiver = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    with inside(pid):
        sender = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    with receiver, sender:
        receiver.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        receiver.bind((other, ETH_P_ALL))
        sender.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        sender.bind((interface, 0))
        frame = probe_frame()
        # struct virtio_net_hdr: flags, gso type, header length, gso size, checksum start, offset.
        sender.send(struct.pack("<BBHHHH", VNET_NEEDS_CHECKSUM, 0, 0, 0, PROBE_START, 2) + frame)
        state, octets = first_frame(receiver, frame[:14])
    if octets is None:
        raise TestbedError(f"{interface} to {other}: a probe frame did not arrive; is the link up?")
    if state & STATUS_CHECKSUM_NOT_READY or folded(word_sum(octets[PROBE_START:])) != 0xFFFF:
        raise TestbedError(
            f"{interface} to {other}: a frame arrived with its checksum unwritten: checksum "
            "offload is on though the driver says off; expected a finished frame"
        )


def probe_frame() -> bytes:
    """Return a frame of an unused type, whose 16-bit sum at octets 36-37 is to be written."""
    ends = b"\x02\0\0\0\0\x02" + b"\x02\0\0\0\0\x01"
    return ends + PROBE_TYPE.to_bytes(2, "big") + b"\x4d\x43\0\0" * 12


def first_frame(receiver: socket.socket, start: bytes) -> tuple[int, bytes | None]:
    """Return the packet status and octets of the first frame with this start, None after 2 s."""
    until = time.monotonic() + PROBE_SECONDS
    while (left := until - time.monotonic()) > 0:
        if not select.select([receiver], [], [], left)[0]:
            break
        octets, ancillary, _, _ = receiver.recvmsg(4096, 256)
        if octets.startswith(start):
            for level, kind, value in ancillary:
                if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
                    return int(struct.unpack_from("=I", value)[0]), octets
            return 0, octets
    return 0, None
