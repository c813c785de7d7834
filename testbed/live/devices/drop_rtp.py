# SPDX-License-Identifier: BSD-3-Clause
"""Example of a third-party inline program: it drops packets that look like RTP, passes the rest.

It imports nothing of this project; the project knows only the command that starts it:

    middlebox = "command: python3 -m midcall.testbed.live.devices.drop_rtp"

UDP over IPv4 without tunnels whose payload begins as RTP version 2 does is dropped.
"""

import os
import select
import socket

SOL_PACKET, IGNORE_OUTGOING, EVERYTHING = 263, 23, 3


def looks_like_rtp(frame: bytes) -> bool:
    """Tell whether a frame is UDP whose payload begins with 10 binary and is an RTP header long."""
    if frame[12:14] != b"\x08\x00" or len(frame) < 34 or frame[23] != socket.IPPROTO_UDP:
        return False
    payload = frame[14 + 4 * (frame[14] & 15) + 8 :]
    return len(payload) >= 12 and payload[0] >> 6 == 2


def opened(interface: str) -> socket.socket:
    """Return a packet socket on an interface that does not receive what it sends."""
    port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(EVERYTHING))
    port.setsockopt(SOL_PACKET, IGNORE_OUTGOING, 1)
    port.bind((interface, EVERYTHING))
    return port


def main() -> None:
    """Forward between the two interfaces that the environment names."""
    ports = [opened(os.environ[f"MIDCALL_{side}_PORT"]) for side in ("CALLER", "SERVER")]
    while True:
        for incoming in select.select(ports, [], [])[0]:
            frame = incoming.recv(4096)
            if not looks_like_rtp(frame):
                ports[1 - ports.index(incoming)].send(frame)


if __name__ == "__main__":
    main()
