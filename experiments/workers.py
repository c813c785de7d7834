# SPDX-License-Identifier: BSD-3-Clause
"""Worker processes: they leave Ctrl-C to who started them, and end when that one ends."""

from __future__ import annotations

import multiprocessing
import os
import signal


def obey() -> None:
    """Set up this process as a worker; called first in it.

    Without it, workers wait for ever once their parent was killed: each holds both ends of the
    queue that it reads from, so that it never sees an end.
    """
    from testbed.live.system import die_with_parent

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent()
    parent = multiprocessing.parent_process()
    if parent is not None and not parent.is_alive():  # it died before the kernel was asked
        os._exit(1)
