# SPDX-License-Identifier: BSD-3-Clause
"""The process that runs nfstream: reads file names, writes one line of JSON per file.

A flow is one row even after long pauses (the timeouts exceed every capture), as in the truth. A
label that nfstream guessed from port or address ends in "?".
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

#: Longer than any capture, seconds.
ENDLESS = 1_000_000


def rows(capture: str) -> list[list[Any]]:
    """Return a row per flow: protocol, source, port, target, port, label."""
    from nfstream import NFStreamer

    streamer = NFStreamer(source=capture, n_meters=1, idle_timeout=ENDLESS, active_timeout=ENDLESS)
    return [
        [
            flow.protocol,
            flow.src_ip,
            flow.src_port,
            flow.dst_ip,
            flow.dst_port,
            flow.application_name + ("?" if flow.application_is_guessed else ""),
        ]
        for flow in streamer
    ]


def reply(capture: str) -> dict[str, Any]:
    """Return the rows of a file and "", or no rows and the reason of a failure."""
    try:
        return {"flows": rows(capture), "reason": ""}
    except Exception as error:  # any error of the library is its answer to this file
        return {"flows": [], "reason": f"{type(error).__name__}: {error}".replace("\n", " ")}


def main() -> None:
    """Answer line by line; output that the library prints is discarded."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    for line in sys.stdin:
        out.write(json.dumps(reply(line.rstrip("\n"))) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
