# SPDX-License-Identifier: BSD-3-Clause
"""Answers of peers about capture files, in the user's cache.

An answer depends only on the file's bytes, the peer's version and its options, so a peer need not
classify a file twice. Failures are not cached.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from midcall.experiments.accuracy.peers import Peer
from midcall.experiments.accuracy.peers.labels import Answer
from midcall.experiments.results.schema import write_atomically

#: Increase when the content of a cached answer changes its meaning.
FORMAT = 1


def cache_folder() -> Path:
    """Return the folder of cached answers, in the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home) / "midcall" / "peers"


class Answers:
    """Runs peers and caches their answers in a folder; None: no cache."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def place(self, peer: Peer, capture: Path) -> Path | None:
        """Return the file of the cached answer, None without a cache."""
        if self.folder is None:
            return None
        facts = (FORMAT, peer.name, peer.version, peer.how)
        digest = hashlib.sha256(repr(facts).encode())
        digest.update(capture.read_bytes())
        name = digest.hexdigest()
        return self.folder / name[:2] / f"{name}.json"

    def ask(self, peer: Peer, capture: Path) -> tuple[Answer, str]:
        """Return (flow -> labels of a capture file, ""), or ({}, the reason of a failure)."""
        place = self.place(peer, capture)
        cached = read(place) if place is not None else None
        if cached is not None:
            return cached, ""
        answer, reason = peer.ask(str(capture))
        if place is not None and not reason:
            write_atomically(place, json.dumps(rows(answer)).encode())
        return answer, reason


def rows(answer: Answer) -> list[list[Any]]:
    """Return an answer as rows for JSON: protocol, ends, labels."""
    return [[proto, sorted(ends), list(labels)] for (proto, ends), labels in answer.items()]


def read(path: Path) -> Answer | None:
    """Return a cached answer, None if there is none or its file is damaged."""
    try:
        return {
            (int(proto), frozenset((str(at), int(port)) for at, port in ends)): tuple(labels)
            for proto, ends, labels in json.loads(path.read_bytes())
        }
    except (OSError, ValueError, TypeError):
        return None
