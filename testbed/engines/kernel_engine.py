# SPDX-License-Identifier: BSD-3-Clause
"""nftables and iptables: packets routed by the kernel of the lab's box, under a ruleset.

The box of a network of the lab becomes a router between its two ports. A packet is put on the
caller's or the server's link; the box forwards it, or does not. An echo request to the box itself
follows each packet on the same link, and its answer comes when the packet is decided: no waiting
time decides anything.
"""

from __future__ import annotations

import select
import socket
import struct
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.numbers import ICMP
from midcall.errors import TestbedError
from midcall.testbed.engines import iptables_rules, nftables_rules
from midcall.testbed.engines.lab_capture import LabPacket
from midcall.testbed.live.box.rings import inside
from midcall.testbed.live.network.network import Network
from midcall.testbed.live.network.subscriber_line import hardware
from midcall.testbed.network.checksums import word_sum
from midcall.testbed.network.ip_packets import internet_checksum, ip_packet
from midcall.testbed.policy.operator import Policy

#: Addresses of the box on its two links; no packet of a capture has them.
NEAR, FAR = "198.18.0.10", "198.18.0.11"
#: Next hops behind the two links: they exist as neighbours only.
HOPS = {4: ("198.18.0.12", "198.18.0.13"), 6: ("fd00::12", "fd00::13")}
MACS = (bytes.fromhex("02ff00000001"), bytes.fromhex("02ff00000002"))
TYPES = {4: b"\x08\x00", 6: b"\x86\xdd"}
#: The largest packet of a link, and seconds until an echo must have come back.
MTU, ECHO_SECONDS = 65_535, 5.0
#: The ICMP type of an echo request, and the identifier of ours.
ECHO_REQUEST, ECHO_ID = 8, 0x4D43
SETTINGS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv4/conf/all/send_redirects": "0",
    "net/ipv4/icmp_echo_ignore_all": "0",
    "net/ipv6/conf/all/disable_ipv6": "0",
    "net/ipv6/conf/all/forwarding": "1",
    "net/netfilter/nf_conntrack_acct": "1",
    "net/netfilter/nf_conntrack_checksum": "0",
    "net/netfilter/nf_conntrack_tcp_be_liberal": "1",
    "net/netfilter/nf_conntrack_tcp_loose": "1",
}
#: The message that empties the table of connections (ctnetlink): its type, flags.
DELETE_ALL, REQUEST_ACK = 0x0102, 0x0005
NETLINK_NETFILTER = 12


class KernelEngine:
    """A kernel with a ruleset of an engine; a context manager."""

    def __init__(self, engine: str) -> None:
        """Describe it; engine: "nftables" or "iptables". Nothing is made before it is entered."""
        self.engine = engine
        self.network = Network()
        self.ports: list[socket.socket] = []
        self.known: set[str] = set()
        self.turn = 0

    def __enter__(self) -> KernelEngine:
        """Make the network and configure the box as a router; raises TestbedError."""
        self.network.__enter__()
        try:
            self.set_up()
        except BaseException:
            self.network.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Remove everything."""
        for port in self.ports:
            port.close()
        self.network.close()

    def set_up(self) -> None:
        """Configure the box as a router, and open the ends of both links."""
        network, names = self.network, self.network.ports
        for pid, name in network.ends():
            with inside(pid):
                command("ip", "link", "set", "dev", name, "mtu", str(MTU))
        with inside(network.box_pid):
            for path, value in SETTINGS.items():
                with suppress(OSError), open(f"/proc/sys/{path}", "w", encoding="ascii") as file:
                    file.write(value)
            for name, own in ((names.b0, NEAR), (names.b1, FAR)):
                for setting, value in (("rp_filter", "0"), ("arp_ignore", "8")):
                    with open(f"/proc/sys/net/ipv4/conf/{name}/{setting}", "w") as file:
                        file.write(value)
                with open(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6", "w") as file:
                    file.write("0")
                command("ip", "addr", "add", f"{own}/32", "dev", name)
                for word in ("-4", "-6"):
                    command("ip", word, "route", "flush", "dev", name)
            for version, hops in HOPS.items():
                for hop, mac, name in zip(hops, MACS, (names.b0, names.b1), strict=True):
                    command("ip", "neigh", "replace", hop, "lladdr", mac.hex(":"), "dev", name,
                            "nud", "permanent")  # fmt: skip
                    command("ip", f"-{version}", "route", "replace", hop, "dev", name)
                command("ip", f"-{version}", "route", "replace", "default", "via", hops[1], "dev",
                        names.b1, "onlink")  # fmt: skip
        macs = [hardware(*network.ends()[at]) for at in (1, 2)]
        self.box_macs = [bytes.fromhex(mac.replace(":", "")) for mac in macs]
        for pid, name in (network.ends()[0], network.ends()[3]):
            self.ports.append(opened(pid, name))

    def load(self, policy: Policy) -> None:
        """Load the ruleset of a policy instead of the last one.

        Raises TestbedError where the engine rejects it, Refused where it cannot be written.
        """
        subscriber = self.network.ports.b0
        with inside(self.network.box_pid):
            if self.engine == "nftables":
                files = nftables_rules.written(policy, subscriber).files
                text = "flush ruleset\n" + files[nftables_rules.FILE]
                command("nft", "-f", "-", text=text)
            else:
                files = iptables_rules.written(policy, subscriber).files
                for version, tool in ((4, "iptables-restore"), (6, "ip6tables-restore")):
                    command(tool, text=files[iptables_rules.FILES[version]])

    def clear(self) -> None:
        """Unload every rule."""
        with inside(self.network.box_pid):
            if self.engine == "nftables":
                command("nft", "flush", "ruleset")
            else:
                for tool in ("iptables-restore", "ip6tables-restore"):
                    command(tool, text="*filter\n:FORWARD ACCEPT [0:0]\nCOMMIT\n")

    def forget(self) -> None:
        """Empty the box's table of connections."""
        body = struct.pack("=BBH", socket.AF_UNSPEC, 0, 0)
        head = struct.pack("=IHHII", 16 + len(body), DELETE_ALL, REQUEST_ACK, 1, 0)
        with inside(self.network.box_pid):
            netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        with netlink:
            netlink.sendto(head + body, (0, 0))
            answer = netlink.recv(4096)
        code = struct.unpack_from("=i", answer, 16)[0] if len(answer) >= 20 else 0
        if code:
            raise TestbedError(f"the table of connections cannot be emptied (error {-code})")

    def play(self, chosen: Sequence[LabPacket]) -> NDArray[np.bool_]:
        """Return bool[n], which packets the box forwards; its connections begin empty."""
        self.route({one.subscriber for one in chosen})
        self.forget()
        return np.array([self.forwards(one) for one in chosen], np.bool_)

    def route(self, subscribers: set[str]) -> None:
        """Route the subscribers' addresses to the caller's link, and no others."""
        port = self.network.ports.b0
        lines = [f"route delete {one} dev {port}" for one in sorted(self.known - subscribers)]
        lines += [
            f"route replace {one} via {HOPS[6 if ':' in one else 4][0]} dev {port} onlink"
            for one in sorted(subscribers - self.known)
        ]
        if lines:
            with inside(self.network.box_pid):
                command("ip", "-batch", "-", text="\n".join([*lines, ""]))
            self.known = subscribers

    def forwards(self, one: LabPacket) -> bool:
        """Put a packet on its link; return whether it comes out on the other one."""
        here, there = (0, 1) if one.up else (1, 0)
        version = one.data[0] >> 4
        head = self.box_macs[here] + MACS[here] + TYPES[version]
        try:
            self.ports[here].send(head + one.data)
        except OSError:
            return False
        self.wait(here)
        wanted, came = comparable(one.data), False
        while True:
            try:
                frame = self.ports[there].recv(MTU + 64)
            except BlockingIOError:
                return came
            came = came or comparable(frame[14:]) == wanted

    def wait(self, here: int) -> None:
        """Send an echo request to the box on one link, and wait for the answer."""
        self.turn = self.turn + 1 & 0xFFFF
        request = echo(HOPS[4][here], (NEAR, FAR)[here], self.turn)
        port = self.ports[here]
        port.send(self.box_macs[here] + MACS[here] + TYPES[4] + request)
        mark = struct.pack(">HH", ECHO_ID, self.turn)
        while True:
            if not select.select([port], [], [], ECHO_SECONDS)[0]:
                raise TestbedError("the box no longer answers; is the machine overloaded?")
            frame = port.recv(MTU + 64)
            if frame[12:14] == TYPES[4] and frame[34:35] == b"\0" and frame[38:42] == mark:
                return


def comparable(packet: bytes) -> bytes:
    """Return a packet without what a router changes: hops left and, of IPv4, the checksum."""
    if packet[:1] and packet[0] >> 4 == 4:
        size = int.from_bytes(packet[2:4], "big")
        return packet[:8] + packet[9:10] + packet[12:size]
    size = 40 + int.from_bytes(packet[4:6], "big")
    return packet[:7] + packet[8:size]


def echo(source: str, target: str, number: int) -> bytes:
    """Return an ICMP echo request (RFC 792) as an IPv4 packet."""
    total = word_sum(struct.pack(">BBHHH", ECHO_REQUEST, 0, 0, ECHO_ID, number))
    body = struct.pack(">BBHHH", ECHO_REQUEST, 0, internet_checksum(total), ECHO_ID, number)
    return ip_packet(socket.inet_aton(source), socket.inet_aton(target), ICMP, body)


def opened(pid: int, name: str) -> socket.socket:
    """Return a packet socket on an interface of a namespace, without frames that it sends."""
    with inside(pid):
        port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
        port.setsockopt(263, 23, 1)  # SOL_PACKET, PACKET_IGNORE_OUTGOING
        port.bind((name, 3))
    port.setblocking(False)
    return port


def command(*words: str, text: str = "") -> None:
    """Run a tool with its input; raises TestbedError where it fails."""
    done = subprocess.run(
        words, input=text, capture_output=True, text=True, check=False, timeout=60
    )
    output = (done.stdout + done.stderr).strip()
    if done.returncode:
        raise TestbedError(f"{' '.join(words)}: {output or f'exit {done.returncode}'}")
