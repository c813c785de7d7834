# SPDX-License-Identifier: BSD-3-Clause
"""A game-like stream: an imitation, because no game's own client runs without a screen.

Both ends are this module's own program. A client sends 30 small inputs a second and the server 20
snapshots, over UDP, as shooters do. Every packet begins with its sequence number and the last one
received ("ack" kind: 16 bits each and a field of 32 bits, little endian; "counter": two words of 32
bits). The rest is random, like a packed state.

    python -m testbed.programs.background.game server|client ADDRESS PORT ack|counter SECONDS
"""

from __future__ import annotations

import random
import select
import socket
import struct
import sys
import time

from midcall.testbed.programs.background.driver import Act, Service, Stage
from midcall.testbed.programs.calls.sockets import listening

ADDRESS, PORT = "198.19.13.1", 27960
INPUTS, SNAPSHOTS = 30, 20  # a second
FORMS = {"game": "ack", "game-counter": "counter"}
#: Octets after the header, least and most: of an input, of a snapshot.
INPUT, SNAPSHOT = (12, 40), (60, 260)


def missing(kind: str) -> list[str]:
    """Return what is missing: nothing, as both ends are part of the lab."""
    del kind
    return []


def start(stage: Stage, kind: str) -> Act:
    """Start the server; a match is a run of the client."""
    base = [sys.executable, "-m", "midcall.testbed.programs.background.game"]
    rest = [ADDRESS, str(PORT), FORMS[kind]]
    server = stage.server([*base, "server", *rest, "600"], "game-server")
    server.wait_for(lambda: listening(stage.line.server_pid, "udp", PORT), 20, "listening")

    def act(seconds: float) -> None:
        stage.run([*base, "client", *rest, str(seconds)], "game", seconds + 30)

    return Act((Service("udp", ADDRESS, PORT, "the lab's game-like server"),), act)


def packet(form: str, sequence: int, last_received: int, room: tuple[int, int]) -> bytes:
    """Return one packet: sequence numbers, then random octets."""
    shape = "<HHI" if form == "ack" else "<II"
    words = (
        (sequence & 0xFFFF, last_received & 0xFFFF) if form == "ack" else (sequence, last_received)
    )
    more = (0xFFFFFFFF,) if form == "ack" else ()
    return struct.pack(shape, *words, *more) + random.randbytes(random.randint(*room))


def sequence_of(form: str, octets: bytes) -> int:
    """Return the sequence number of a packet."""
    return int(struct.unpack_from("<H" if form == "ack" else "<I", octets)[0])


def play(end: socket.socket, form: str, rate: int, room: tuple[int, int], seconds: float) -> None:
    """Send `rate` packets a second for some seconds and receive on a connected socket."""
    begun = due = time.monotonic()
    sequence = last_received = 0
    while (now := time.monotonic()) < begun + seconds:
        if now >= due:
            due += 1 / rate
            sequence += 1
            end.send(packet(form, sequence, last_received, room))
        elif select.select([end], [], [], due - now)[0]:
            last_received = sequence_of(form, end.recv(2048))


def main() -> None:
    """Run one end for some seconds."""
    role, address, port, form, seconds = sys.argv[1:]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as end:
        if role == "server":
            end.bind((address, int(port)))
            _, peer = end.recvfrom(2048)
            end.connect(peer)
            play(end, form, SNAPSHOTS, SNAPSHOT, float(seconds))
        else:
            end.connect((address, int(port)))
            play(end, form, INPUTS, INPUT, float(seconds))


if __name__ == "__main__":
    main()
