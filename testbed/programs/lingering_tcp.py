# SPDX-License-Identifier: BSD-3-Clause
"""Orphans: TCP connections of a call that is over, which the kernels still send again.

A connection that a box strikes lives on for minutes after its program closed it, and what its
kernel sends again would meet the rules during the next call. They are ended where the kernel can
(CONFIG_INET_DIAG_DESTROY); where it cannot, they stay.
"""

from __future__ import annotations

import subprocess

from midcall.testbed.live.box.rings import inside
from midcall.testbed.live.network.subscriber_line import FAR, NEAR, Line

PATIENCE_SECONDS = 10.0


def end(line: Line) -> None:
    """End every TCP connection over a line; for between calls, when no program needs one."""
    for pid, beyond in ((line.caller_pid, FAR), (line.server_pid, NEAR)):
        with inside(pid):
            subprocess.run(
                ["ss", "-K", "-t", "dst", str(beyond)],
                capture_output=True, check=False, timeout=PATIENCE_SECONDS,
            )  # fmt: skip
