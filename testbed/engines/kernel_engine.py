# SPDX-License-Identifier: BSD-3-Clause
"""nftables and iptables: packets routed by the kernel of the lab's box, under a ruleset.

The box of a network of the lab becomes a router between its two ports. A packet is put on the
caller's or the server's link; the box forwards it, or does not. An ARP request to the box itself
follows the packets of one direction on the same link, and its answer comes when they are decided:
no waiting time decides anything.
"""

from __future__ import annotations

import os
import select
import socket
import struct
import subprocess
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.numbers import ICMP, ICMP6, TCP
from midcall.errors import TestbedError
from midcall.testbed.engines import iptables_rules, nftables_rules
from midcall.testbed.engines.iptables_import import restorable
from midcall.testbed.engines.lab_capture import (
    ERROR_CODE,
    ERROR_TO_FAR,
    ERROR_TO_SUBSCRIBER,
    FOREIGN,
    TO_FAR,
    TO_SUBSCRIBER,
    Answers,
    LabPacket,
)
from midcall.testbed.engines.written import SUBSCRIBER
from midcall.testbed.live.box.rings import inside
from midcall.testbed.live.network.network import Network
from midcall.testbed.live.network.subscriber_line import hardware
from midcall.testbed.network.tcp import RST
from midcall.testbed.policy.operator import Policy

#: Addresses of the box on its two links; no packet of a capture has them.
NEAR, FAR = "198.18.0.10", "198.18.0.11"
#: Its IPv6 addresses, from which it sends ICMPv6 errors.
NEAR6, FAR6 = "fd00::10", "fd00::11"
#: Next hops behind the two links: they exist as neighbours only.
HOPS = {4: ("198.18.0.12", "198.18.0.13"), 6: ("fd00::12", "fd00::13")}
MACS = (bytes.fromhex("02ff00000001"), bytes.fromhex("02ff00000002"))
TYPES = {4: b"\x08\x00", 6: b"\x86\xdd"}
#: The largest packet of a link, and seconds until an answer must have come.
MTU, ANSWER_SECONDS = 65_535, 5.0
#: The frame type of ARP, and the first octets of the hardware addresses that ask.
ARP, ASKING = b"\x08\x06", bytes.fromhex("02ff4d43")
#: Packets that are put on a link at once, and their octets; the buffer of a link's end.
GROUP, GROUP_OCTETS, BUFFER = 32, 48 << 10, 8 << 20
#: The bits of a reset and of an ICMP error that come out on the caller's link, and on the server's.
RESETS_OF = (TO_SUBSCRIBER, TO_FAR)
ERRORS_OF = (ERROR_TO_SUBSCRIBER, ERROR_TO_FAR)
#: Protocol and type of ICMP errors: destination unreachable (RFC 792, RFC 4443).
ERRORS = {(bytes([ICMP]), b"\x03"), (bytes([ICMP6]), b"\x01")}
SETTINGS = {
    "net/ipv4/ip_forward": "1",
    "net/ipv4/conf/all/rp_filter": "0",
    "net/ipv4/conf/default/rp_filter": "0",
    "net/ipv4/conf/all/send_redirects": "0",
    "net/ipv4/icmp_ratelimit": "0",
    "net/ipv4/icmp_ratemask": "0",
    "net/ipv6/icmp/ratelimit": "0",
    "net/ipv6/icmp/ratemask": "3-127",
    "net/ipv6/conf/all/disable_ipv6": "0",
    "net/ipv6/conf/all/forwarding": "1",
    "net/netfilter/nf_conntrack_acct": "1",
    "net/netfilter/nf_conntrack_checksum": "0",
    "net/netfilter/nf_conntrack_tcp_be_liberal": "1",
    "net/netfilter/nf_conntrack_tcp_loose": "1",
}
#: Tables of iptables without rules.
EMPTY_TABLES = "".join(
    f"*{table}\n:FORWARD ACCEPT [0:0]\nCOMMIT\n" for table in ("mangle", "filter")
)
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
        self.replies = self.points = np.zeros(0, np.int64)
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
            for name, own, own6 in ((names.b0, NEAR, NEAR6), (names.b1, FAR, FAR6)):
                command("ip", "link", "set", "dev", name, "arp", "on")
                for setting, value in (("rp_filter", "0"), ("arp_ignore", "1")):
                    with open(f"/proc/sys/net/ipv4/conf/{name}/{setting}", "w") as file:
                        file.write(value)
                with open(f"/proc/sys/net/ipv6/conf/{name}/disable_ipv6", "w") as file:
                    file.write("0")
                command("ip", "addr", "add", f"{own}/32", "dev", name)
                command("ip", "addr", "add", f"{own6}/128", "dev", name, "nodad")
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
        self.answers = any(rule.act in ("reset", "unreachable") for rule in policy.rules)
        with inside(self.network.box_pid):
            if self.engine == "nftables":
                files = nftables_rules.written(policy, subscriber).files
                text = "flush ruleset\n" + files[nftables_rules.FILE]
                command("nft", "-f", "-", text=text)
            else:
                files = iptables_rules.written(policy, subscriber).files
                for version, tool in ((4, "iptables-restore"), (6, "ip6tables-restore")):
                    command(tool, text=EMPTY_TABLES + files[iptables_rules.FILES[version]])

    def load_text(self, text: str) -> None:
        """Load rules of somebody else instead of the last ones; raises TestbedError.

        The interface `subscriber0` is that of the subscribers. A file of iptables-save is of IPv4,
        one of ip6tables-save of IPv6; a script may have commands of both.
        """
        self.clear()
        self.answers = True
        text = text.replace(SUBSCRIBER, self.network.ports.b0)
        with inside(self.network.box_pid):
            if self.engine == "nftables":
                command("nft", "-f", "-", text=text)
            else:
                for version, tool in (("ip", "iptables-restore"), ("ip6", "ip6tables-restore")):
                    command(tool, text=EMPTY_TABLES + restorable(text, version))

    def clear(self) -> None:
        """Unload every rule."""
        self.answers = False
        with inside(self.network.box_pid):
            if self.engine == "nftables":
                command("nft", "flush", "ruleset")
            else:
                for tool in ("iptables-restore", "ip6tables-restore"):
                    command(tool, text=EMPTY_TABLES)

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

    def play(self, chosen: Sequence[LabPacket]) -> Answers:
        """Return what the box does with packets; its connections begin empty."""
        self.route({one.subscriber for one in chosen})
        self.forget()
        passes = np.zeros(len(chosen), np.bool_)
        self.replies, self.points = (np.zeros(len(chosen), np.int64) for _ in range(2))
        with one_core():
            for begin, end in groups(chosen, 1 if self.answers else GROUP):
                self.pass_group(chosen, begin, end, passes)
        return Answers(passes, self.replies, self.points)

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
        """Put packets of one direction on their link; fill what comes out of it.

        A reply is one to the group's first packet.
        """
        here, there = (0, 1) if chosen[begin].up else (1, 0)
        wanted: dict[bytes, int] = {}
        for place in range(begin, end):
            data = chosen[place].data
            with suppress(OSError):
                self.ports[here].send(self.box_macs[here] + MACS[here] + TYPES[data[0] >> 4] + data)
                wanted[comparable(data)] = place
        first = chosen[begin].data
        self.replies[begin] |= self.wait(here, first, wanted)
        while True:
            try:
                frame = self.ports[there].recv(MTU + 64)
            except BlockingIOError:
                return
            came = wanted.get(comparable(frame[14:]))
            if came is not None:
                passes[came] = True
                self.points[came] = code_point(frame[14:])
            else:
                self.replies[begin] |= reply(frame[14:], first, there)

    def wait(self, here: int, packet: bytes, sent: Collection[bytes]) -> int:
        """Send an ARP request for the box's address on one link, and wait for the answer.

        No rule of IP can stop it. Returns the replies to a packet that came before it, as in
        Answers. sent: packets of the group, one of which may come back: to another subscriber.
        """
        replies = 0
        self.turn = self.turn + 1 & 0xFFFF
        mac = ASKING + self.turn.to_bytes(2, "big")
        self.ports[here].send(arp_request(mac, HOPS[4][here], (NEAR, FAR)[here]))
        port = self.ports[here]
        while True:
            if not select.select([port], [], [], ANSWER_SECONDS)[0]:
                raise TestbedError("the box no longer answers; is the machine overloaded?")
            frame = port.recv(MTU + 64)
            if frame[12:14] == ARP and frame[32:38] == mac:
                return replies
            if comparable(frame[14:]) not in sent:
                replies |= reply(frame[14:], packet, here)


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


def reply(packet: bytes, answered: bytes, here: int) -> int:
    """Return the bits of a reply that comes out of a link, as in Answers; 0 where it is none.

    packet: an IP packet without extension headers; answered: the one that it may answer.
    """
    four = packet[:1] and packet[0] >> 4 == 4
    at, proto = (4 * (packet[0] & 15), packet[9:10]) if four else (40, packet[6:7])
    if proto == bytes([TCP]) and int.from_bytes(packet[at + 13 : at + 14], "big") & RST:
        return RESETS_OF[here]
    if (proto, packet[at : at + 1]) not in ERRORS:
        return 0
    source, target = (packet[12:16], answered[16:20]) if four else (packet[8:24], answered[24:40])
    code = int.from_bytes(packet[at : at + 2], "big")
    return ERRORS_OF[here] | code << ERROR_CODE | (0 if source == target else FOREIGN)


def code_point(packet: bytes) -> int:
    """Return the code point of an IP packet (RFC 2474)."""
    return packet[1] >> 2 if packet[0] >> 4 == 4 else int.from_bytes(packet[:2], "big") >> 6 & 0x3F


def comparable(packet: bytes) -> bytes:
    """Return a packet without what a router may change: hops left, code point, ECN, checksum.

    The checksum is that of IPv4's header.
    """
    if packet[:1] and packet[0] >> 4 == 4:
        size = int.from_bytes(packet[2:4], "big")
        return packet[:1] + packet[2:8] + packet[9:10] + packet[12:size]
    size = 40 + int.from_bytes(packet[4:6], "big")
    return packet[2:7] + packet[8:size]


def arp_request(mac: bytes, source: str, target: str) -> bytes:
    """Return a frame that asks for the hardware address of an IPv4 address (RFC 826)."""
    ends = mac + socket.inet_aton(source) + bytes(6) + socket.inet_aton(target)
    return b"\xff" * 6 + mac + ARP + struct.pack(">HHBBH", 1, 0x0800, 6, 4, 1) + ends


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
