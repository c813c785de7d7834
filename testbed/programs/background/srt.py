# SPDX-License-Identifier: BSD-3-Clause
"""SRT: one camera's stream to a studio, by SRT's own relay program at both ends; no call.

It is included because its control packets begin as RTP does, with a first octet of 80.
"""

from __future__ import annotations

from midcall.testbed.programs.background.driver import Act, Service, Stage
from midcall.testbed.programs.calls.sockets import listening
from midcall.testbed.programs.process import lacking

ADDRESS, PORT = "198.19.15.1", 4200
#: Output of the camera: seven cells of a transport stream at a time, 20 times a second.
CAMERA = 'while :; do head -c 1316 /dev/urandom; sleep 0.05; done | srt-live-transmit -q {} "{}"'


def missing(kind: str) -> list[str]:
    """Return what is missing, a sentence each."""
    del kind
    return lacking({"srt-live-transmit": "srt-tools"})


def start(stage: Stage, kind: str) -> Act:
    """Start the studio; the camera connects and sends while it is recorded."""
    del kind
    source = f"srt://{ADDRESS}:{PORT}?mode=listener"
    studio = ["sh", "-c", f'srt-live-transmit -q "{source}" file://con > /dev/null']
    server = stage.server(studio, "studio")
    server.wait_for(lambda: listening(stage.line.server_pid, "udp", PORT), 10, "listening")

    def act(seconds: float) -> None:
        sends = CAMERA.format("file://con", f"srt://{ADDRESS}:{PORT}")
        camera = stage.client(["sh", "-c", sends], "camera")
        stage.rest(seconds)
        camera.end()

    return Act((Service("udp", ADDRESS, PORT, "srt-live-transmit, an SRT stream"),), act)
