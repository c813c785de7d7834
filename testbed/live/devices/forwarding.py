# SPDX-License-Identifier: BSD-3-Clause
"""Kernel forwarding: the box host as a plain router, which every other path is compared with."""

from __future__ import annotations

import subprocess

from midcall.errors import TestbedError
from midcall.testbed.live.box.rings import inside
from midcall.testbed.live.network.network import Network

#: Networks of the load's sources and targets (testbed.live.devices.load_generator).
NEAR, FAR = "198.18.0.0/16", "198.19.0.0/16"


def forward(network: Network) -> None:
    """Make the kernel of the box host route between its two ports; raises TestbedError.

    The links have no address resolution, so a route names the port only.
    """
    _, b0, b1, _ = network.ports
    lines = [
        "echo 1 > /proc/sys/net/ipv4/ip_forward",
        *(f"echo 0 > /proc/sys/net/ipv4/conf/{name}/rp_filter" for name in ("all", b0, b1)),
        f"ip route add {NEAR} dev {b0}",
        f"ip route add {FAR} dev {b1}",
    ]
    with inside(network.box_pid):
        process = subprocess.run(
            ["sh", "-ec", "\n".join(lines)], capture_output=True, text=True, check=False
        )
    if process.returncode:
        raise TestbedError(f"kernel forwarding in the box host: {process.stderr.strip()}")


def track(network: Network) -> None:
    """Enable connection tracking in the box host's kernel; raises TestbedError."""
    rule = "-m conntrack --ctstate NEW,ESTABLISHED,RELATED -j ACCEPT"
    with inside(network.box_pid):
        process = subprocess.run(
            ["iptables", "-A", "FORWARD", *rule.split()],
            capture_output=True,
            text=True,
            check=False,
        )
    if process.returncode:
        raise TestbedError(f"forwarding with conntrack in the box host: {process.stderr.strip()}")


def mac(pid: int, interface: str) -> bytes:
    """Return the MAC address of an interface inside the namespace of a process."""
    with inside(pid):
        process = subprocess.run(
            ["ip", "-o", "link", "show", "dev", interface],
            capture_output=True,
            text=True,
            check=True,
        )
    return bytes.fromhex(process.stdout.split("link/ether ")[1].split()[0].replace(":", ""))
