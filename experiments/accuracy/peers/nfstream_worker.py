# SPDX-License-Identifier: BSD-3-Clause
"""The process that asks nfstream: names of files in, one line of JSON per file out.

A flow is one row however long it pauses (the timeouts are out of reach), as in the truth. A label
that nfstream guessed from port or address ends in "?".
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

#: Seconds no capture lasts.
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


def told(capture: str) -> dict[str, Any]:
    """Return the rows of a file, or none and the reason."""
    try:
        return {"flows": rows(capture), "reason": ""}
    except Exception as error:  # whatever the library throws is its answer to this file
        return {"flows": [], "reason": f"{type(error).__name__}: {error}".replace("\n", " ")}


def main() -> None:
    """Answer line by line; whatever the library prints goes nowhere."""
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    for line in sys.stdin:
        out.write(json.dumps(told(line.rstrip("\n"))) + "\n")
        out.flush()


if __name__ == "__main__":
    main()
