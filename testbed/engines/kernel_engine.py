# SPDX-License-Identifier: BSD-3-Clause
"""nftables and iptables: packets routed by the kernel of the lab's box, under a ruleset.

The box of a network of the lab becomes a router between its two ports. A packet is put on the
caller's or the server's link; the box forwards it, or does not. An echo request to the box itself
follows the packets of one direction on the same link, and its answer comes when they are decided:
no waiting time decides anything.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.numbers import ICMP, TCP
from midcall.errors import TestbedError
from midcall.testbed.engines import iptables_rules, nftables_rules
from midcall.testbed.engines.lab_capture import TO_FAR, TO_SUBSCRIBER, LabPacket
from midcall.testbed.engines.written import SUBSCRIBER
from midcall.testbed.live.box.rings import inside
from midcall.testbed.live.network.network import Network
from midcall.testbed.live.network.subscriber_line import hardware
from midcall.testbed.network.checksums import word_sum
from midcall.testbed.network.ip_packets import internet_checksum, ip_packet
from midcall.testbed.network.tcp import RST
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
#: Packets that are put on a link at once, and their octets; the buffer of a link's end.
GROUP, GROUP_OCTETS, BUFFER = 32, 48 << 10, 8 << 20
#: The bit of a reset that comes out on the caller's link, and on the server's.
RESETS_OF = (TO_SUBSCRIBER, TO_FAR)
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
        self.resets = np.zeros(0, np.int8)
        self.answers = False

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
        self.answers = any(rule.act == "reset" for rule in policy.rules)
        with inside(self.network.box_pid):
            if self.engine == "nftables":
                files = nftables_rules.written(policy, subscriber).files
                text = "flush ruleset\n" + files[nftables_rules.FILE]
                command("nft", "-f", "-", text=text)
            else:
                files = iptables_rules.written(policy, subscriber).files
                for version, tool in ((4, "iptables-restore"), (6, "ip6tables-restore")):
                    command(tool, text=files[iptables_rules.FILES[version]])

    def load_text(self, text: str) -> None:
        """Load rules of somebody else instead of the last ones; raises TestbedError.

        The interface `subscriber0` is that of the subscribers. Rules of iptables are of IPv4.
        """
        self.clear()
        self.answers = True
        text = text.replace(SUBSCRIBER, self.network.ports.b0)
        with inside(self.network.box_pid):
            if self.engine == "nftables":
                command("nft", "-f", "-", text=text)
            else:
                command("iptables-restore", text=text)

    def clear(self) -> None:
        """Unload every rule."""
        self.answers = False
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
        """Return bool[n], which packets the box forwards; its connections begin empty.

        `resets` is then int8[n], which ends got a TCP reset in answer to each.
        """
        self.route({one.subscriber for one in chosen})
        self.forget()
        passes, self.resets = np.zeros(len(chosen), np.bool_), np.zeros(len(chosen), np.int8)
        with one_core():
            for begin, end in groups(chosen, 1 if self.answers else GROUP):
                self.pass_group(chosen, begin, end, passes)
        return passes

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

    def pass_group(
        self, chosen: Sequence[LabPacket], begin: int, end: int, passes: NDArray[np.bool_]
    ) -> None:
        """Put packets of one direction on their link; fill which come out on the other, and resets.

        A reset is of the group's first packet.
        """
        here, there = (0, 1) if chosen[begin].up else (1, 0)
        wanted: dict[bytes, int] = {}
        for place in range(begin, end):
            data = chosen[place].data
            with suppress(OSError):
                self.ports[here].send(self.box_macs[here] + MACS[here] + TYPES[data[0] >> 4] + data)
                wanted[comparable(data)] = place
        if self.wait(here):
            self.resets[begin] |= RESETS_OF[here]
        while True:
            try:
                frame = self.ports[there].recv(MTU + 64)
            except BlockingIOError:
                return
            came = wanted.get(comparable(frame[14:]))
            if came is not None:
                passes[came] = True
            elif is_reset(frame[14:]):
                self.resets[begin] |= RESETS_OF[there]

    def wait(self, here: int) -> bool:
        """Send an echo request to the box on one link, and wait for the answer.

        Returns whether a TCP reset came before it.
        """
        reset = False
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
                return reset
            reset = reset or is_reset(frame[14:])


@contextmanager
def one_core() -> Iterator[None]:
    """Run the block on one core: the kernel keeps the order of frames that one core sends."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {max(cores)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, cores)


def groups(chosen: Sequence[LabPacket], most: int) -> Iterator[tuple[int, int]]:
    """Yield (begin, end) of packets that can be put on a link together: at most so many.

    They have one direction, no two are the same but for the hops, and they fit into a buffer.
    """
    begin, size, seen = 0, 0, set[bytes]()
    for place, one in enumerate(chosen):
        own = comparable(one.data)
        full = place - begin == most or size + len(one.data) > GROUP_OCTETS
        if place > begin and (full or one.up != chosen[begin].up or own in seen):
            yield begin, place
            begin, size, seen = place, 0, set()
        size += len(one.data)
        seen.add(own)
    if chosen:
        yield begin, len(chosen)


def is_reset(packet: bytes) -> bool:
    """Return whether an IP packet without extension headers is a TCP reset."""
    four = packet[:1] and packet[0] >> 4 == 4
    at, proto = (4 * (packet[0] & 15), packet[9:10]) if four else (40, packet[6:7])
    return proto == bytes([TCP]) and bool(int.from_bytes(packet[at + 13 : at + 14], "big") & RST)


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
        port.setsockopt(socket.SOL_SOCKET, 33, BUFFER)  # SO_RCVBUFFORCE
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
