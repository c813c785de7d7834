# SPDX-License-Identifier: BSD-3-Clause
"""End TCP connections of a finished call, which the kernels would still retransmit.

A blocked connection lives on for minutes after its program closed it, and its retransmissions would
meet the rules during the next call. They are ended where the kernel supports that
(CONFIG_INET_DIAG_DESTROY); elsewhere they stay.
"""

from __future__ import annotations

import subprocess

from midcall.testbed.live.box.rings import inside
from midcall.testbed.live.network.subscriber_line import FAR, NEAR, Line

LIMIT_SECONDS = 10.0


def end(line: Line) -> None:
    """End every TCP connection over a line; to be called between two calls."""
    for pid, beyond in ((line.caller_pid, FAR), (line.server_pid, NEAR)):
        with inside(pid):
            subprocess.run(
                ["ss", "-K", "-t", "dst", str(beyond)],
                capture_output=True, check=False, timeout=LIMIT_SECONDS,
            )  # fmt: skip
