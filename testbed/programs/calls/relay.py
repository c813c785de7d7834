# SPDX-License-Identifier: BSD-3-Clause
"""The relay of calls: coturn at the callee's side of a line, over UDP, TCP and TLS."""

from __future__ import annotations

import socket
import subprocess

from midcall.errors import TestbedError
from midcall.testbed.live.box.rings import inside
from midcall.testbed.live.network.subscriber_line import RELAY, Line
from midcall.testbed.programs.process import Program, lacking

PORT, TLS_PORT = 3478, 443
#: The relay's name in TLS; the browser gets its address as an option, so there is no DNS query.
NAME = "relay.example"
REALM, USER, PASSWORD = "call.example", "caller", "midcall"
READY_SECONDS = 10.0


def missing() -> list[str]:
    """Return what the relay lacks on this machine, a sentence each."""
    return lacking({"turnserver": "coturn", "openssl": "openssl"})


def servers(path: str) -> list[dict[str, str]]:
    """Return the `iceServers` of RTCPeerConnection for a path of testbed.programs.calls.plan."""
    urls = {
        "turn-udp": f"turn:{RELAY}:{PORT}?transport=udp",
        "turn-tcp": f"turn:{RELAY}:{PORT}?transport=tcp",
        "turn-tls": f"turns:{NAME}:{TLS_PORT}?transport=tcp",
    }
    chosen = list(urls) if path == "any" else [path] if path in urls else []
    return [{"urls": urls[path], "username": USER, "credential": PASSWORD} for path in chosen]


def start(line: Line) -> Program:
    """Start the relay and wait until it listens; raises TestbedError."""
    folder = line.network.folder
    key, certificate = folder / "relay.key", folder / "relay.pem"
    certify(str(key), str(certificate))
    command = [
        "turnserver", "-n", "--no-cli", "--listening-ip", RELAY, "--relay-ip", RELAY,
        "--listening-port", str(PORT), "--tls-listening-port", str(TLS_PORT), "--lt-cred-mech",
        "--user", f"{USER}:{PASSWORD}", "--realm", REALM, "--cert", str(certificate), "--pkey",
        str(key), "--min-port", "50000", "--max-port", "59999", "--no-rfc5780", "--no-dtls",
        "--relay-threads", "1", "--log-file", "stdout", "--simple-log", "--pidfile",
        str(folder / "relay.pid"), "--userdb", str(folder / "relay.db"),
    ]  # fmt: skip
    program = Program(line, line.server_pid, command, "relay")
    try:
        program.wait_for(
            lambda: all(listens(line, port) for port in (PORT, TLS_PORT)), READY_SECONDS,
            "its listeners",
        )  # fmt: skip
    except BaseException:
        program.end()
        raise
    return program


def listens(line: Line, port: int) -> bool:
    """Tell whether the relay accepts connections at a port."""
    with inside(line.server_pid), socket.socket() as one:
        return one.connect_ex((RELAY, port)) == 0


def certify(key: str, certificate: str) -> None:
    """Make a key and a certificate for the relay's name, good for a day; raises TestbedError."""
    command = [
        "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
        "-nodes", "-days", "1", "-subj", f"/CN={NAME}", "-addext", f"subjectAltName=DNS:{NAME}",
        "-keyout", key, "-out", certificate,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    if done.returncode:
        raise TestbedError(f"relay: openssl: {done.stderr.strip()}")
