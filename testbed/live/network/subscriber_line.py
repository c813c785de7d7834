# SPDX-License-Identifier: BSD-3-Clause
"""A subscriber's line: a live network with IP at both ends, for programs that make traffic.

    caller 198.18.1.1  c0 ------ b0  box  b1 ------ s0  198.19.1.1 callee
                                                    lo  198.19.0.0/16 relay, registrar, servers

The replay puts frames on the links itself; real programs need addresses and routes. The caller's
end has one address. The server's end has the callee's address on its interface, and accepts all of
198.19.0.0/16 behind it, so that a server program can listen at any of these addresses. Neighbour
entries are static, so there is no ARP. Any box that forwards frames can be between the two ends.
"""

from __future__ import annotations

import subprocess
from contextlib import suppress
from ipaddress import ip_address, ip_network

from midcall.errors import TestbedError
from midcall.testbed.live.box.rings import inside
from midcall.testbed.live.network.network import Network
from midcall.testbed.network.access import link

CALLER, CALLEE = "198.18.1.1", "198.19.1.1"
RELAY, REGISTRAR = "198.19.2.1", "198.19.3.1"
NEAR, FAR = ip_network("198.18.0.0/16"), ip_network("198.19.0.0/16")
#: Next hops, which exist in the neighbour tables only.
GATEWAY, GATEWAY_BACK = "198.18.0.254", "198.19.0.254"
#: Hardware addresses of both ends: those of the frames that the box forges (write_ethernet), which
#: an end with another address would discard.
CALLER_MAC, SERVER_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"
STEP_SECONDS = 10.0


class Line:
    """A network with IP at both ends; a context manager that removes the addresses at its exit.

    caller_pid, server_pid: processes that hold the namespaces of both ends.
    """

    def __init__(self, network: Network, access: str = "fibre") -> None:
        """Describe a line; access: network whose MTU both ends use. Raises TestbedError."""
        self.network = network
        self.room = min(link(access).room, network.mtu)

    @property
    def caller_pid(self) -> int:
        """Return the process that holds the caller's namespace."""
        return self.network.caller_pid

    @property
    def server_pid(self) -> int:
        """Return the process that holds the namespace of the callee and of all servers."""
        return self.network.server_pid

    def __enter__(self) -> Line:
        """Configure addresses and routes at both ends."""
        c0, _, _, s0 = self.network.ends()
        steps = (
            (c0, CALLER_MAC, CALLER, GATEWAY, SERVER_MAC, str(FAR)),
            (s0, SERVER_MAC, CALLEE, GATEWAY_BACK, CALLER_MAC, str(NEAR)),
        )
        try:
            for (pid, name), own, address, gateway, neighbour, beyond in steps:
                ip(pid, "link", "set", "lo", "up")
                ip(pid, "link", "set", "dev", name, "address", own)
                ip(pid, "address", "replace", f"{address}/32", "dev", name)
                ip(pid, "neighbour", "replace", gateway, "lladdr", neighbour, "dev", name,
                   "nud", "permanent")  # fmt: skip
                ip(pid, "route", "replace", beyond, "via", gateway, "dev", name, "onlink",
                   "mtu", str(self.room))  # fmt: skip
            ip(s0[0], "route", "replace", "local", str(FAR), "dev", "lo")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Remove addresses and routes."""
        self.close()

    def close(self) -> None:
        """Remove addresses and routes from both ends; missing ones are no error."""
        if self.network.net is None:
            return
        c0, _, _, s0 = self.network.ends()
        with suppress(TestbedError):
            ip(s0[0], "route", "flush", "table", "local", "root", str(FAR))
        for (pid, name), gateway in ((c0, GATEWAY), (s0, GATEWAY_BACK)):
            with suppress(TestbedError):
                ip(pid, "address", "flush", "dev", name)
                ip(pid, "neighbour", "delete", gateway, "dev", name)

    def pid(self, address: str) -> int:
        """Return the process whose namespace an address belongs to; raises TestbedError."""
        if ip_address(address) in NEAR:
            return self.caller_pid
        if ip_address(address) in FAR:
            return self.server_pid
        raise TestbedError(f"address: got {address}, expected one of {NEAR} or {FAR}")


def hardware(pid: int, interface: str) -> str:
    """Return the hardware address of an interface in the network namespace of a process."""
    words = ip(pid, "-brief", "link", "show", "dev", interface).split()
    return words[2]


def ip(pid: int, *words: str) -> str:
    """Run `ip` in the network namespace of a process; returns its output.

    Raises TestbedError with its error message.
    """
    with inside(pid):
        done = subprocess.run(
            ["ip", *words], capture_output=True, text=True, check=False, timeout=STEP_SECONDS
        )
    if done.returncode:
        reason = done.stderr.strip() or f"exit {done.returncode}"
        raise TestbedError(f"line: ip {' '.join(words)}: {reason}")
    return done.stdout
