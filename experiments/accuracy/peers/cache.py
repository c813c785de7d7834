# SPDX-License-Identifier: BSD-3-Clause
"""Cache of the answers of peers (other classifiers) about capture files.

A peer's answer depends only on the bytes of the capture file, and on the peer's version and
options. So a peer classifies each file once, and later runs read the answer from the cache, which
is in the user's cache folder. Failures are not cached.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
from pathlib import Path
from typing import Any

from midcall.experiments.accuracy.peers import Peer
from midcall.experiments.accuracy.peers.labels import Answer
from midcall.experiments.results.schema import write_atomically

#: Version of the cached answers, part of each key. Increase it when the same content gets another
#: meaning: answers of earlier versions are then not read.
FORMAT = 1


def cache_folder() -> Path:
    """Return the folder of cached answers, in the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home) / "midcall" / "peers"


class Answers:
    """Runs peers and caches their answers in `folder`; with None, nothing is cached."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder
        self.lock = threading.Lock()  # copies with the same bytes have the same file

    def place(self, peer: Peer, capture: Path) -> Path | None:
        """Return the file in which a peer's answer about a capture is cached, None if not cached.

        The file need not exist yet.
        """
        if self.folder is None:
            return None
        facts = (FORMAT, peer.name, peer.version, peer.how)
        digest = hashlib.sha256(repr(facts).encode())
        digest.update(capture.read_bytes())
        name = digest.hexdigest()
        return self.folder / name[:2] / f"{name}.json"

    def ask(self, peer: Peer, capture: Path) -> tuple[Answer, str]:
        """Return a peer's answer about a capture file, from the cache or from the peer.

        Returns (labels by flow, ""), or ({}, the reason) if the peer failed.
        """
        place = self.place(peer, capture)
        cached = read(place) if place is not None else None
        if cached is not None:
            return cached, ""
        answer, reason = peer.ask(str(capture))
        if place is not None and not reason:
            with self.lock:
                write_atomically(place, json.dumps(rows(answer)).encode())
        return answer, reason


def rows(answer: Answer) -> list[list[Any]]:
    """Return an answer as JSON rows: protocol number, both ends, labels; one row per flow."""
    return [[proto, sorted(ends), list(labels)] for (proto, ends), labels in answer.items()]


def read(path: Path) -> Answer | None:
    """Return the cached answer in a file, None if the file does not exist or is damaged."""
    try:
        return {
            (int(proto), frozenset((str(at), int(port)) for at, port in ends)): tuple(labels)
            for proto, ends, labels in json.loads(path.read_bytes())
        }
    except (OSError, ValueError, TypeError):
        return None
