# SPDX-License-Identifier: BSD-3-Clause
"""Ordinary sockets of the operating system at both ends of a real line.

LocalEnd holds the sockets of one end: it binds, connects, sends and receives, and nothing else.
RemoteSockets is the caller with its own end here and the helper's end behind a control stream; it
is a Sockets object, so the same search runs over it as in virtual time. The helper sends on a flow
only after it has heard from the flow's other end; what is due before waits for that. Datagrams have
the time at which the kernel received them (SO_TIMESTAMPNS), so that a busy program does not look
like a slow line. The code point of a datagram is ancillary data (IP_TOS, IPV6_TCLASS), both ways.
The socket of a stream has one for all that it sends, and does not show with which a segment came.
"""

from __future__ import annotations

import ipaddress
import select
import selectors
import socket
import struct
import sys
import time
from contextlib import suppress
from types import TracebackType
from typing import Any

from midcall.captures.packets.numbers import TCP
from midcall.errors import TestbedError
from midcall.testbed.probing.control import Control, ends_of, ends_words, greet, packed, unpacked
from midcall.testbed.probing.leash import Budget, allowed
from midcall.testbed.probing.probe import Ends
from midcall.testbed.probing.sockets import (
    DATA,
    DATAGRAM_HEADERS,
    ENDED,
    OPENED,
    RESET,
    Event,
)

#: Octets that one call receives.
ROOM = 65_536
#: Seconds after which a wait for packets or messages ends.
IDLE = 0.5
#: Datagrams of one flow that wait until its other end is heard, at most.
WAITING = 64
#: Linux: the option by which a socket tells when a datagram came, and the octets of its answer.
SO_TIMESTAMPNS, STAMP = 35, struct.Struct("qq")
#: Level and name of the octet with the code point and the two bits of ECN, as an option and as
#: ancillary data, and the option by which a socket tells it (ip(7), RFC 3542 section 6.5); by the
#: octets of an address.
TRAFFIC_CLASS = {4: (socket.IPPROTO_IP, socket.IP_TOS, socket.IP_RECVTOS),
                 16: (socket.IPPROTO_IPV6, socket.IPV6_TCLASS, socket.IPV6_RECVTCLASS)}  # fmt: skip
TRAFFIC_CLASSES = {(level, kind) for level, kind, _ in TRAFFIC_CLASS.values()}


def words_of(address: bytes) -> str:
    """Return an address of 4 or 16 octets as text. Raises TestbedError outside the lab."""
    return allowed(str(ipaddress.ip_address(address)))


class LocalEnd:
    """The sockets of one end. is_near: the caller's, which connects; else the helper's."""

    def __init__(self, is_near: bool, budget: Budget) -> None:
        self.is_near, self.budget = is_near, budget
        self.selector = selectors.EpollSelector()
        self.flows: dict[Ends, socket.socket] = {}
        self.listening: dict[tuple[int, bytes, int], socket.socket] = {}
        self.waiting: dict[tuple[int, bytes, int], list[Ends]] = {}
        self.unsent: dict[Ends, list[tuple[bytes, int]]] = {}
        self.points: dict[Ends, int] = {}  # code points of streams, where not 0
        self.heard: dict[Ends, Any] = {}
        self.opened: set[Ends] = set()
        self.events: list[Event] = []

    def open(self, ends: Ends, dscp: int = 0) -> None:
        """Bind this end of a flow; the caller connects its streams. dscp: code point of a SYN."""
        if self.is_near:
            self._open_near(ends, dscp)
        else:
            self._open_far(ends)

    def _open_near(self, ends: Ends, dscp: int) -> None:
        one = self._socket(ends)
        if ends.proto == TCP:
            self._mark(ends, one, dscp)
        one.bind((words_of(ends.near), ends.near_port))
        if ends.proto == TCP:
            one.connect_ex((words_of(ends.far), ends.far_port))
        else:
            one.connect((words_of(ends.far), ends.far_port))
        self.flows[ends] = one
        self.selector.register(one, selectors.EVENT_READ | self._writes(ends), ends)

    def _open_far(self, ends: Ends) -> None:
        place = ends.proto, ends.far, ends.far_port
        self.waiting.setdefault(place, []).append(ends)
        if place in self.listening:
            return
        one = self._socket(ends)
        one.bind((words_of(ends.far), ends.far_port))
        if ends.proto == TCP:
            one.listen(64)
        self.listening[place] = one
        self.selector.register(one, selectors.EVENT_READ, place)

    @staticmethod
    def _writes(ends: Ends) -> int:
        return selectors.EVENT_WRITE if ends.proto == TCP else 0

    @staticmethod
    def _socket(ends: Ends) -> socket.socket:
        family = socket.AF_INET if len(ends.near) == 4 else socket.AF_INET6
        kind = socket.SOCK_STREAM if ends.proto == TCP else socket.SOCK_DGRAM
        one = socket.socket(family, kind)
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if ends.proto == TCP:
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        else:
            level, _, option = TRAFFIC_CLASS[len(ends.near)]
            with suppress(OSError):
                one.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
                one.setsockopt(level, option, 1)
        one.setblocking(False)
        return one

    def _mark(self, ends: Ends, one: socket.socket, dscp: int) -> None:
        """Give all that a stream sends from now on a code point."""
        if self.points.get(ends, 0) != dscp:
            self.points[ends] = dscp
            level, option, _ = TRAFFIC_CLASS[len(ends.near)]
            one.setsockopt(level, option, dscp << 2)

    def send(self, ends: Ends, payload: bytes, dscp: int = 0) -> None:
        """Send octets of a flow; the helper only where it has heard from the other end."""
        self.budget.spend(len(payload) + DATAGRAM_HEADERS)
        if ends.proto == TCP:
            if ends not in self.opened:
                self.unsent.setdefault(ends, []).append((payload, dscp))
                return
            self._write(ends, payload, dscp)
            return
        try:
            if self.is_near:
                sent_as(self.flows[ends], payload, dscp, ends)
            elif ends in self.heard:
                place = ends.proto, ends.far, ends.far_port
                sent_as(self.listening[place], payload, dscp, ends, self.heard[ends])
            else:
                waiting = self.unsent.setdefault(ends, [])
                if len(waiting) < WAITING:
                    waiting.append((payload, dscp))
        except OSError:
            return  # an ICMP error of an earlier datagram; the loss shows by itself

    def _write(self, ends: Ends, payload: bytes, dscp: int) -> None:
        one = self.flows.get(ends)
        if one is None:
            return
        try:
            self._mark(ends, one, dscp)
            one.sendall(payload)
        except OSError:
            self._gone(ends, RESET)

    def look(self, wait: float) -> None:
        """Note what has come, after at most `wait` seconds."""
        for key, mask in self.selector.select(wait):
            now = time.time_ns()
            if isinstance(key.data, Ends):
                self._of_flow(key.data, key.fileobj, mask, now)
            else:
                self._of_place(key.data, key.fileobj, now)

    def _of_flow(self, ends: Ends, one: Any, mask: int, now: int) -> None:
        if ends.proto == TCP and mask & selectors.EVENT_WRITE and ends not in self.opened:
            error = one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error:
                self._gone(ends, RESET)
                return
            self._established(ends, one, now)
        if mask & selectors.EVENT_READ:
            try:
                octets, now, _, dscp = taken(one, now)
            except ConnectionResetError:
                self._gone(ends, RESET)
                return
            except OSError:
                return
            if ends.proto == TCP and not octets:
                self._gone(ends, ENDED)
                return
            self.events.append(Event(now, not self.is_near, ends, DATA, octets, dscp))

    def _established(self, ends: Ends, one: socket.socket, now: int) -> None:
        self.opened.add(ends)
        self.events.append(Event(now, not self.is_near, ends, OPENED))
        self.selector.modify(one, selectors.EVENT_READ, ends)
        for payload, dscp in self.unsent.pop(ends, []):
            self._write(ends, payload, dscp)

    def _of_place(self, place: tuple[int, bytes, int], one: Any, now: int) -> None:
        try:
            if place[0] == TCP:
                stream, peer = one.accept()
                stream.setblocking(False)
            else:
                octets, now, peer, dscp = taken(one, now)
        except OSError:
            return
        ends = self._flow_of(place, peer)
        if ends is None:
            if place[0] == TCP:
                stream.close()
            return
        if place[0] == TCP:
            stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.flows[ends] = stream
            self.selector.register(stream, selectors.EVENT_READ, ends)
            self._established(ends, stream, now)
        else:
            self.heard[ends] = peer
            self.events.append(Event(now, True, ends, DATA, octets, dscp))
            for payload, own in self.unsent.pop(ends, []):
                with suppress(OSError):
                    sent_as(one, payload, own, ends, peer)

    def _flow_of(self, place: tuple[int, bytes, int], peer: Any) -> Ends | None:
        """Return the flow of a peer: by its address and port, or by its address alone (NAT)."""
        near = ipaddress.ip_address(peer[0]).packed
        known = self.waiting.get(place, [])
        for ends in known:
            if ends.near == near and ends.near_port == peer[1]:
                return ends
        return next((ends for ends in known if ends.near == near and ends not in self.heard), None)

    def _gone(self, ends: Ends, kind: str) -> None:
        one = self.flows.pop(ends, None)
        if one is None:
            return
        self.selector.unregister(one)
        one.close()
        self.events.append(Event(time.time_ns(), not self.is_near, ends, kind))

    def abort(self, ends: Ends) -> None:
        """Close a stream at once (SO_LINGER of 0 s: no octet is sent again)."""
        one = self.flows.pop(ends, None)
        if one is not None and ends.proto == TCP:
            self.selector.unregister(one)
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            one.close()

    def take(self) -> list[Event]:
        """Return what came since the last call."""
        events, self.events = self.events, []
        return events

    def close(self) -> None:
        """Close all sockets."""
        for one in (*self.flows.values(), *self.listening.values()):
            self.selector.unregister(one)
            one.close()
        for table in (self.flows, self.listening, self.waiting, self.unsent, self.heard):
            table.clear()
        self.points.clear()
        self.opened.clear()
        self.events.clear()


def sent_as(one: socket.socket, payload: bytes, dscp: int, ends: Ends, peer: Any = None) -> None:
    """Send a datagram with a code point. peer: to whom, where the socket is not connected."""
    level, kind, _ = TRAFFIC_CLASS[len(ends.near)]
    one.sendmsg([payload], [(level, kind, struct.pack("i", dscp << 2))] if dscp else [], 0, peer)


def taken(one: socket.socket, now: int) -> tuple[bytes, int, Any, int]:
    """Return what a socket received, when, from whom, and with which code point (-1: not known).

    now: the time where the kernel states none.
    """
    room = socket.CMSG_SPACE(STAMP.size) + socket.CMSG_SPACE(struct.calcsize("i"))
    octets, control, _, peer = one.recvmsg(ROOM, room)
    dscp = -1
    for level, kind, value in control:
        if level == socket.SOL_SOCKET and kind == SO_TIMESTAMPNS and len(value) == STAMP.size:
            seconds, nanoseconds = STAMP.unpack(value)
            now = seconds * 1_000_000_000 + nanoseconds
        elif (level, kind) in TRAFFIC_CLASSES and value:
            dscp = int.from_bytes(value, sys.byteorder) >> 2  # without the two bits of ECN
    return octets, now, peer, dscp


def has_message(control: Control) -> bool:
    """Return whether a control stream has a message, or its end."""
    return bool(control.buffer or select.select([control.stream], [], [], 0)[0])


def wait_for(control: Control, end: LocalEnd, seconds: float) -> None:
    """Wait until a message or a packet has come, at most some seconds."""
    if not control.buffer:
        select.select([control.stream.fileno(), end.selector.fileno()], [], [], seconds)


class RemoteSockets:
    """Sockets with this end here and the other end at a helper; a context manager.

    Raises TestbedError where the helper does not prove the key, or the budget is spent.
    """

    answers_only = True

    def __init__(
        self, host: str, port: int, key: bytes, budget: Budget, control: Control | None = None
    ) -> None:
        self.near = LocalEnd(True, budget)
        if control is None:
            try:
                stream = socket.create_connection((allowed(host), port), timeout=10)
            except OSError as error:
                raise TestbedError(f"helper {host}: {error.strerror or error}") from None
            control = greet(stream, key)
        self.control = control
        self.far: list[Event] = []

    def __enter__(self) -> RemoteSockets:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        self.near.close()
        self.control.stream.close()

    def now(self) -> int:
        """Return the time, ns since 1970."""
        return time.time_ns()

    def open(self, ends: Ends, dscp: int = 0) -> None:
        """Bind both ends of a flow; over TCP the caller connects, once the helper listens."""
        self.control.tell({"do": "open", "ends": ends_words(ends)})
        while True:
            message = self._heard()
            if message.get("done") == "open":
                break
        self.near.open(ends, dscp)

    def send(self, ends: Ends, up: bool, payload: bytes, dscp: int = 0) -> None:
        """Send a datagram, or add octets to a stream."""
        if up:
            self.near.send(ends, payload, dscp)
        else:
            self.near.budget.spend(len(payload) + DATAGRAM_HEADERS)
            self.control.tell({"do": "send", "ends": ends_words(ends), "octets": packed(payload),
                               "dscp": dscp})  # fmt: skip

    def sleep(self, until: int) -> bool:
        """Wait; return True as soon as anything was received, False when the time has come."""
        while True:
            self._listen()
            if self.near.events or self.far:
                return True
            left = (until - time.time_ns()) / 1e9
            if left <= 0:
                return False
            wait_for(self.control, self.near, min(left, IDLE))
            self.near.look(0)

    def receive(self) -> list[Event]:
        """Return what both ends received since the last call."""
        far, self.far = self.far, []
        return sorted([*self.near.take(), *far], key=lambda event: event.time)

    def abort(self, ends: Ends) -> None:
        """Close a stream at once."""
        self.near.abort(ends)

    def close(self) -> None:
        """Close all sockets, here and at the helper."""
        self.near.close()
        self.control.tell({"do": "close"})
        while self._heard().get("done") != "close":
            continue
        self.far.clear()

    def _listen(self) -> None:
        """Take the helper's messages that have come."""
        while has_message(self.control):
            self._heard()

    def _heard(self) -> dict[str, Any]:
        message = self.control.hear()
        if message is None:
            raise TestbedError("the helper has closed")
        if "error" in message:
            raise TestbedError(f"the helper: {message['error']}")
        for words in message.get("events", []):
            time_, up, ends, kind, octets, dscp = words
            self.far.append(
                Event(int(time_), bool(up), ends_of(ends), kind, unpacked(octets), int(dscp))
            )
        return message
