# SPDX-License-Identifier: BSD-3-Clause
"""Probe a live box: send probes through it packet by packet and report which are blocked.

The box is any middlebox of a live network: the lab's own under a policy, or a third-party program.
It keeps state, so each probe comes from a new subscriber; rules on the subscriber's address cannot
be found this way. Addresses are those of the lab (198.18.0.0/15, fd00::/8): a remote address
outside 198.19.0.0/16 is mapped into it, so rules on address prefixes can only be found with
captures on the lab's addresses. A packet larger than the link is sent as several.
"""

from __future__ import annotations

import hashlib
import select
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType

from midcall.errors import TestbedError
from midcall.testbed.live.box.process import Box
from midcall.testbed.live.box.rings import PACKET_IGNORE_OUTGOING, SOL_PACKET
from midcall.testbed.live.devices.blackbox import Blackbox, port
from midcall.testbed.live.network.network import Network
from midcall.testbed.policy.operator import Policy
from midcall.testbed.probing.probe import (
    Ends,
    Probe,
    Sent,
    frames,
    ip_head,
    ip_size,
    transport_head,
)

#: How long a packet may take through the box before it counts as blocked, in s.
PATIENCE = 0.25
#: The largest IP packet that goes through the links.
MTU = 1500
#: Ethernet addresses of both ends.
CALLER, SERVER = bytes.fromhex("02ff00000001"), bytes.fromhex("02ff00000002")
#: The lab's networks: subscribers in the first, all other hosts in the second (RFC 2544).
NEAR, FAR = bytes((198, 18)), bytes((198, 19))
LAB6 = b"\xfd"
#: Number of subscribers; then the first address is used again.
SUBSCRIBERS = 60_000


class LiveOracle:
    """A live box to be probed; a context manager, which makes and removes network and box.

    middlebox: a policy for the lab's box, or a middlebox of testbed.live.devices.blackbox; rules:
    a file of Suricata rules; patience: s that a packet may take. Raises TestbedError where the
    machine lacks something, or the box ends.
    """

    def __init__(
        self,
        middlebox: Policy | str,
        rules: Path | None = None,
        seed: int = 0,
        patience: float = PATIENCE,
    ) -> None:
        self.middlebox, self.rules, self.seed, self.patience = middlebox, rules, seed, patience
        self.asked = 0
        self.cleanup = ExitStack()
        self.box: Blackbox | Box | None = None
        self.ports: dict[bool, socket.socket] = {}

    def __enter__(self) -> LiveOracle:
        """Make the network, start the box, open both ends."""
        with ExitStack() as cleanup:
            network = cleanup.enter_context(Network(mtu=MTU))
            self.box = box = self.made(network)
            box.start()
            cleanup.callback(box.stop)
            caller, _, _, server = network.ends()
            for up, end in ((True, caller), (False, server)):
                opened = cleanup.enter_context(port(*end))
                opened.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
                self.ports[up] = opened
            self.cleanup = cleanup.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove everything."""
        self.cleanup.close()

    def made(self, network: Network) -> Blackbox | Box:
        """Return the box, not started."""
        if isinstance(self.middlebox, Policy):
            return Box(network, self.middlebox, self.seed)
        return Blackbox(network, self.middlebox, rules=self.rules)

    def blocked(self, probe: Probe) -> bool:
        """Return whether a packet of a probe does not arrive as it was sent, or late."""
        self.asked += 1
        start = time.monotonic()
        sent = on_lab(fitted(probe), self.asked % SUBSCRIBERS)
        for one, packet in zip(sent, frames(sent), strict=True):
            ends = (SERVER, CALLER) if one.up else (CALLER, SERVER)
            frame = b"".join(ends) + (b"\x08\x00" if packet[0] >> 4 == 4 else b"\x86\xdd") + packet
            time.sleep(max(start + one.time / 1e9 - time.monotonic(), 0))
            if not self.passes(frame, one.up):
                return True
        return False

    def passes(self, frame: bytes, up: bool) -> bool:
        """Send a frame, wait, and tell whether it comes out of the box in time."""
        self.ports[up].send(frame)
        other = self.ports[not up]
        until = time.monotonic() + self.patience
        while (left := until - time.monotonic()) > 0:
            if not select.select([other], [], [], left)[0]:
                break
            if other.recv(4096) == frame:
                return True
        if isinstance(self.box, Blackbox) and not self.box.alive:
            raise TestbedError(
                f"middlebox {self.box.kind} ended while it was asked; it said:\n"
                f"{self.box.last_words()}"
            )
        return False


# ---- what goes onto the links


def fitted(probe: Probe) -> Probe:
    """Return a probe whose packets fit into the links: a larger packet as several that together
    have its number of IP octets."""
    return tuple(part for one in probe for part in parts(one))


def parts(one: Sent) -> Iterator[Sent]:
    """Yield a packet as packets of at most MTU octets."""
    head = ip_head(one) + transport_head(one)
    at, left = 0, ip_size(one)
    while left > MTU:
        size = MTU if left - MTU >= head else left - head
        yield one._replace(payload=one.payload[at : at + size - head])
        at, left = at + size - head, left - size
    yield one._replace(payload=one.payload[at : at + left - head])


def on_lab(probe: Probe, subscriber: int) -> Probe:
    """Return a probe on addresses of the lab; subscriber: number of its first subscriber."""
    subscribers = list(dict.fromkeys(one.ends.near for one in probe))
    images = {
        address: subscriber_image(address, subscriber + n * SUBSCRIBERS)
        for n, address in enumerate(subscribers)
    }
    return tuple(one._replace(ends=map_ends(one.ends, images)) for one in probe)


def map_ends(ends: Ends, subscribers: dict[bytes, bytes]) -> Ends:
    """Return a flow's ends on addresses of the lab."""
    return ends._replace(near=subscribers[ends.near], far=far_image(ends.far))


def subscriber_image(address: bytes, number: int) -> bytes:
    """Return a subscriber's address in the lab."""
    if len(address) == 4:
        return NEAR + (1 + number % 65_534).to_bytes(2, "big")
    return LAB6 + bytes(11) + number.to_bytes(4, "big")


def far_image(address: bytes) -> bytes:
    """Return a remote address in the lab: unchanged if it is there, else a hash of it."""
    draw = hashlib.blake2b(address, digest_size=15).digest()
    if len(address) == 4:
        return address if address[:2] == FAR else FAR + bytes((draw[0] | 0x80, 1 + draw[1] % 254))
    return address if address[:1] == LAB6 else LAB6 + draw
