# SPDX-License-Identifier: BSD-3-Clause
"""Kernel forwarding: the box host as a plain router, which every other path is compared with."""

from __future__ import annotations

import subprocess

from midcall.errors import TestbedError
from midcall.testbed.live.box.rings import inside
from midcall.testbed.live.network.network import Network

#: Where load comes from and goes to (testbed.live.load).
NEAR, FAR = "198.18.0.0/16", "198.19.0.0/16"


def forward(network: Network) -> None:
    """Have the kernel of the box host route between its two ports; raises TestbedError.

    The links have no address resolution, so a route names the port alone.
    """
    _, b0, b1, _ = network.ports
    lines = [
        "echo 1 > /proc/sys/net/ipv4/ip_forward",
        *(f"echo 0 > /proc/sys/net/ipv4/conf/{name}/rp_filter" for name in ("all", b0, b1)),
        f"ip route add {NEAR} dev {b0}",
        f"ip route add {FAR} dev {b1}",
    ]
    with inside(network.box_pid):
        done = subprocess.run(
            ["sh", "-ec", "\n".join(lines)], capture_output=True, text=True, check=False
        )
    if done.returncode:
        raise TestbedError(f"kernel forwarding in the box host: {done.stderr.strip()}")


def track(network: Network) -> None:
    """Have the box host's kernel keep connections of what it forwards; raises TestbedError."""
    rule = "-m conntrack --ctstate NEW,ESTABLISHED,RELATED -j ACCEPT"
    with inside(network.box_pid):
        done = subprocess.run(
            ["iptables", "-A", "FORWARD", *rule.split()],
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode:
        raise TestbedError(f"forwarding with conntrack in the box host: {done.stderr.strip()}")


def mac(pid: int, interface: str) -> bytes:
    """Return the MAC address of an interface inside the namespace of a process."""
    with inside(pid):
        done = subprocess.run(
            ["ip", "-o", "link", "show", "dev", interface],
            capture_output=True,
            text=True,
            check=True,
        )
    return bytes.fromhex(done.stdout.split("link/ether ")[1].split()[0].replace(":", ""))
