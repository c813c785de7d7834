# SPDX-License-Identifier: BSD-3-Clause
"""DTLS without a call: lines of text between OpenSSL's server and client."""

from __future__ import annotations

from midcall.testbed.programs.background.certificates import certificate, lacking
from midcall.testbed.programs.background.driver import Act, Service, Stage
from midcall.testbed.programs.calls.sockets import listening
from midcall.testbed.programs.process import lacking as lacking_tools

ADDRESS, NAME, PORT = "198.19.9.1", "sensor.example.net", 4433
PAUSE_SECONDS = 0.3


def missing(kind: str) -> list[str]:
    """Return what is missing, a sentence each."""
    del kind
    return lacking_tools({"openssl": "openssl"}) + lacking()


def start(stage: Stage, kind: str) -> Act:
    """Start the server; both ends write a line in turn."""
    del kind
    folder = stage.folder("sensor")
    made = certificate(folder, NAME)
    command = ["openssl", "s_server", "-dtls1_2", "-accept", f"{ADDRESS}:{PORT}", "-quiet"]
    command += ["-cert", str(made.chain), "-key", str(made.key)]
    server = stage.server(command, "openssl-server", talks=True)
    server.wait_for(lambda: listening(stage.line.server_pid, "udp", PORT), 10, "listening")

    def act(seconds: float) -> None:
        asks = ["openssl", "s_client", "-dtls1_2", "-connect", f"{ADDRESS}:{PORT}", "-quiet"]
        asks += ["-CAfile", str(made.authority), "-servername", NAME]
        client = stage.client(asks, "openssl", talks=True)
        stage.rest(1.0)
        for number in range(max(3, round(seconds / PAUSE_SECONDS))):
            client.say(f"temperature {20 + number % 7}.{number % 10} humidity {40 + number % 5}")
            server.say(f"ok {number}")
            stage.rest(PAUSE_SECONDS)
        client.end()

    return Act((Service("udp", ADDRESS, PORT, "OpenSSL, DTLS 1.2 without SRTP"),), act)
