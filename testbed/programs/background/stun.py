# SPDX-License-Identifier: BSD-3-Clause
"""STUN and TURN without a call: coturn's server with its own clients for tests and load."""

from __future__ import annotations

from midcall.testbed.programs.background.driver import Act, Service, Stage
from midcall.testbed.programs.calls.sockets import listening
from midcall.testbed.programs.process import lacking

ADDRESS, PORT, PEER = "198.19.12.1", 3478, "198.19.12.2"
USER, SECRET = "lab", "lab"
PAUSE_SECONDS = 1.0


def missing(kind: str) -> list[str]:
    """Return what is missing, a sentence each."""
    tool = "turnutils_stunclient" if kind == "stun" else "turnutils_uclient"
    return lacking({"turnserver": "coturn", tool: "coturn"})


def start(stage: Stage, kind: str) -> Act:
    """Start the server; for TURN also a peer that echoes."""
    command = ["turnserver", "-n", "--listening-ip", ADDRESS, "--relay-ip", ADDRESS]
    command += ["--listening-port", str(PORT), "--no-tls", "--no-dtls", "--no-cli"]
    command += ["--lt-cred-mech", "--user", f"{USER}:{SECRET}", "--realm", "relay.example.net"]
    command += ["--log-file", "stdout", "--allow-loopback-peers", "--pidfile", "/dev/null"]
    server = stage.server(command, "turnserver")
    server.wait_for(lambda: listening(stage.line.server_pid, "udp", PORT), 10, "listening")
    if kind == "turn":
        stage.server(["turnutils_peer", "-L", PEER, "-p", "3480"], "peer")

    def bindings(seconds: float) -> None:
        for _ in range(max(2, round(seconds / PAUSE_SECONDS))):
            stage.run(["turnutils_stunclient", "-p", str(PORT), ADDRESS], "stunclient", 20)
            stage.rest(PAUSE_SECONDS)

    def relayed(seconds: float) -> None:
        count = max(5, round(seconds * 20))
        load = ["turnutils_uclient", "-n", str(count), "-z", "50", "-l", "200", "-m", "1", "-c"]
        load += ["-e", PEER, "-r", "3480", "-u", USER, "-w", SECRET, "-p", str(PORT), ADDRESS]
        stage.run(load, "uclient", seconds + 30)

    speaks = "coturn, STUN bindings" if kind == "stun" else "coturn, a relay of a load test"
    return Act((Service("udp", ADDRESS, PORT, speaks),), bindings if kind == "stun" else relayed)
