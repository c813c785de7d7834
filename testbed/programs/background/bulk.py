# SPDX-License-Identifier: BSD-3-Clause
"""Bulk: iperf3 at both ends, a transfer as fast as TCP goes or a constant stream of datagrams."""

from __future__ import annotations

from midcall.testbed.programs.background.driver import Act, Service, Stage
from midcall.testbed.programs.calls.sockets import listening
from midcall.testbed.programs.process import lacking

ADDRESS, PORT = "198.19.7.1", 5201
#: Octets of a transfer; datagrams of the size and pace of a telephone's voice.
TRANSFER = "60K"
DATAGRAMS = ("--udp", "--bitrate", "64k", "--length", "160")


def missing(kind: str) -> list[str]:
    """Return what is missing, a sentence each."""
    del kind
    return lacking({"iperf3": "iperf3"})


def start(stage: Stage, kind: str) -> Act:
    """Start the server; the client makes one transfer."""
    server = stage.server(["iperf3", "--server", "--bind", ADDRESS], "iperf3-server")
    server.wait_for(lambda: listening(stage.line.server_pid, "tcp", PORT), 10, "listening")
    base = ["iperf3", "--client", ADDRESS]
    how = {
        "bulk-tcp": ["--bytes", TRANSFER, "--length", "16K"],
        "bulk-tcp-down": ["--bytes", TRANSFER, "--length", "16K", "--reverse"],
        "bulk-udp": [*DATAGRAMS],
        "bulk-udp-both": [*DATAGRAMS, "--bidir"],
    }[kind]

    def act(seconds: float) -> None:
        timed = ["--time", str(max(1, round(seconds)))] if "udp" in kind else []
        stage.run([*base, *how, *timed], "iperf3", seconds + 30)

    control = Service("tcp", ADDRESS, PORT, "iperf3, its transfer or the control of it")
    return Act(
        (control, Service("udp", ADDRESS, PORT, "iperf3, datagrams at a constant pace")), act
    )
