# SPDX-License-Identifier: BSD-3-Clause
"""Background traffic: programs that make traffic other than calls, from a subscriber to servers.

    with Line(network, "4g") as line, bystander("web-http2", line) as one:
        one.act(4.0)

The servers run in the namespace of the line's remote end, under example domains with certificates
made for the run. The `services` name the protocol and address of each server: one half of a flow's
truth. The other half is the owner of the socket at the caller's end
(testbed.programs.recording.socket_owner).
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from midcall.errors import TestbedError
from midcall.testbed.live.network.subscriber_line import Line
from midcall.testbed.programs.process import Program


class Service(NamedTuple):
    """A server at an address of the remote end. speaks: for evidence, as in "nginx, HTTP/2"."""

    proto: str  # "udp" or "tcp"
    address: str
    port: int
    speaks: str


@dataclass(frozen=True)
class Act:
    """Background traffic that is ready. act: makes it for about a given number of seconds."""

    services: tuple[Service, ...]
    act: Callable[[float], None]


@dataclass
class Stage:
    """The line on which background programs run; it ends every program that it started."""

    line: Line
    stack: ExitStack

    def folder(self, name: str) -> Path:
        """Make a folder for a server's files; removed after programs started later have ended."""
        folder = self.line.network.folder / name
        folder.mkdir(exist_ok=True)
        self.stack.callback(shutil.rmtree, folder, ignore_errors=True)
        return folder

    def server(self, command: list[str], name: str, talks: bool = False) -> Program:
        """Start a program at the remote end; raises TestbedError."""
        return self.stack.enter_context(
            Program(self.line, self.line.server_pid, command, name, talks=talks)
        )

    def client(self, command: list[str], name: str, talks: bool = False) -> Program:
        """Start a program at the caller's end; raises TestbedError."""
        return self.stack.enter_context(
            Program(self.line, self.line.caller_pid, command, name, talks=talks)
        )

    def run(self, command: list[str], name: str, seconds: float) -> str:
        """Run a client to its end, at most `seconds`; returns its output.

        Raises TestbedError where it failed or did not end.
        """
        with Program(self.line, self.line.caller_pid, command, name) as client:
            client.wait_for(lambda: not client.alive, seconds, "its end")
            if client.process.returncode:
                raise TestbedError(
                    f"{name}: exit {client.process.returncode}; it said:\n{client.last_words()}"
                )
            return client.written()

    def rest(self, seconds: float) -> None:
        """Wait for some seconds."""
        time.sleep(seconds)


#: Kind of background traffic -> its module and description. Each module has `missing(kind)`, which
#: returns what this machine lacks for it, a sentence each, and `start(stage, kind) -> Act`.
KINDS = {
    "web-plain": ("web", "pages over HTTP/1.1 in the clear, nginx and curl"),
    "web-http1": ("web", "pages over HTTP/1.1 and TLS, nginx and curl"),
    "web-http2": ("web", "pages over HTTP/2, nginx and curl"),
    "web-http3": ("web", "pages over HTTP/3, nginx and curl"),
    "quic-http3": ("quic", "pages over HTTP/3, aioquic at both ends"),
    "video-http2": ("web", "segments of a video fetched at their pace over HTTP/2, nginx and curl"),
    "browser-http2": ("browser", "a page with pictures over HTTP/2, Chromium and nginx"),
    "browser-http3": ("browser", "a page with pictures over HTTP/3, Chromium and nginx"),
    "dns": ("dns", "look-ups by UDP, dig and unbound"),
    "dns-tcp": ("dns", "look-ups by TCP, dig and unbound"),
    "dns-tls": ("dns", "look-ups by TLS (DoT), dig and unbound"),
    "dns-https": ("dns", "look-ups by HTTPS (DoH), dig and unbound"),
    "wireguard": ("wireguard", "pages inside WireGuard, wireguard-go at both ends"),
    "openvpn-udp": ("openvpn", "pages inside OpenVPN over UDP"),
    "openvpn-tcp": ("openvpn", "pages inside OpenVPN over TCP"),
    "openvpn-auth": ("openvpn", "pages inside OpenVPN over UDP with tls-crypt"),
    "bulk-tcp": ("bulk", "bulk upload by TCP, iperf3"),
    "bulk-tcp-down": ("bulk", "bulk download by TCP, iperf3"),
    "bulk-udp": ("bulk", "a constant stream of datagrams, iperf3"),
    "bulk-udp-both": ("bulk", "the same in both directions"),
    "chat-mqtt": ("chat", "chat over MQTT in the clear, mosquitto"),
    "chat-mqtts": ("chat", "chat over MQTT and TLS, mosquitto"),
    "game": ("game", "a game-like stream of datagrams: 30 inputs and 20 snapshots a second"),
    "game-counter": ("game", "the same with counters of 32 bits in front"),
    "srt": ("srt", "a camera's stream over SRT, srt-live-transmit at both ends"),
    "mosh": ("mosh", "a shell over Mosh, somebody types"),
    "dtls": ("dtls", "text over DTLS 1.2 without SRTP, OpenSSL at both ends"),
    "stun": ("stun", "STUN bindings alone, coturn's server and its client"),
    "turn": ("stun", "a TURN relay that carries no call, coturn's server and its load tool"),
}


def missing(kind: str) -> list[str]:
    """Return what a kind of background traffic lacks on this machine, a sentence each."""
    lacks: list[str] = import_module(module(kind)).missing(kind)
    return lacks


def module(kind: str) -> str:
    """Return the module that makes a kind of background traffic; raises TestbedError."""
    if kind not in KINDS:
        raise TestbedError(f"bystander: got {kind!r}, expected one of {', '.join(KINDS)}")
    return f"midcall.testbed.programs.background.{KINDS[kind][0]}"


@contextmanager
def bystander(kind: str, line: Line) -> Iterator[Act]:
    """Yield background traffic ready on a line; raises TestbedError with what is missing."""
    if lacks := missing(kind):
        raise TestbedError(f"bystander {kind}: " + "; ".join(lacks))
    with ExitStack() as stack:
        yield import_module(module(kind)).start(Stage(line, stack), kind)
