# SPDX-License-Identifier: BSD-3-Clause
"""OpenVPN: web pages in a tunnel between two processes, over UDP, TCP, or with tls-crypt."""

from __future__ import annotations

import subprocess
from pathlib import Path

from midcall.testbed.programs.background import web
from midcall.testbed.programs.background.certificates import certificate
from midcall.testbed.programs.background.driver import Act, Service, Stage
from midcall.testbed.programs.process import lacking as lacking_tools

ADDRESS, NAME, PORT = "198.19.11.1", "vpn.example.net", 1194
CLIENT_IP, SERVER_IP = "10.78.0.2", "10.78.0.1"
READY = "Initialization Sequence Completed"


def missing(kind: str) -> list[str]:
    """Return what is missing, a sentence each."""
    lacks = lacking_tools({"openvpn": "openvpn"}) + web.missing(kind)
    if not Path("/dev/net/tun").exists():
        lacks.append("/dev/net/tun is missing: modprobe tun (Docker: --device /dev/net/tun)")
    return lacks


def start(stage: Stage, kind: str) -> Act:
    """Start the server and serve pages inside; the client connects while it is recorded."""
    folder = stage.folder("vpn")
    made = certificate(folder, NAME)
    base = [web.tool("openvpn"), "--dev", "tun", "--ca", str(made.authority), "--verb", "3"]
    base += ["--cert", str(made.chain), "--key", str(made.key), "--ping", "2"]
    if kind == "openvpn-auth":
        key = folder / "tls-crypt.key"
        command = [web.tool("openvpn"), "--genkey", "tls-crypt", str(key)]
        subprocess.run(command, check=True, capture_output=True, timeout=10)
        base += ["--tls-crypt", str(key)]
    tcp = kind == "openvpn-tcp"
    server_args = [*base, "--tls-server", "--dh", "none", "--local", ADDRESS, "--port", str(PORT)]
    server_args += ["--proto", "tcp-server" if tcp else "udp", "--ifconfig", SERVER_IP, CLIENT_IP]
    client_args = [*base, "--tls-client", "--remote", ADDRESS, str(PORT), "--nobind"]
    client_args += ["--proto", "tcp-client" if tcp else "udp", "--ifconfig", CLIENT_IP, SERVER_IP]
    server = stage.server(server_args, "openvpn-server")
    waiting = "Listening for incoming TCP" if tcp else "UDPv4 link remote"
    server.wait_for(lambda: waiting in server.written(), 15, "waiting for its peer")

    def act(seconds: float) -> None:
        client = stage.client(client_args, "openvpn")
        client.wait_for(lambda: READY in client.written(), 20, "a tunnel")
        server.wait_for(lambda: READY in server.written(), 20, "a tunnel")
        pages.act(seconds)
        client.end()

    pages = web.visits(stage, SERVER_IP, "web-http2")
    proto = "tcp" if tcp else "udp"
    return Act((Service(proto, ADDRESS, PORT, f"openvpn, a tunnel over {proto.upper()}"),), act)
