# SPDX-License-Identifier: BSD-3-Clause
"""Answers: what peers said of capture files, kept in the user's cache.

An answer is a function of the file's bytes, the peer's version and how it is asked, so nobody need
be asked twice. A failure is not kept.
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

#: Raise when the content of a kept answer changes its meaning.
FORMAT = 1


def cache_folder() -> Path:
    """Return where answers are kept: the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home) / "midcall" / "peers"


class Answers:
    """Asks peers, and remembers what they said. folder None: nothing is remembered."""

    def __init__(self, folder: Path | None) -> None:
        self.folder = folder

    def place(self, peer: Peer, capture: Path) -> Path | None:
        """Return the file in which the answer is kept."""
        if self.folder is None:
            return None
        facts = (FORMAT, peer.name, peer.version, peer.how)
        digest = hashlib.sha256(repr(facts).encode())
        digest.update(capture.read_bytes())
        name = digest.hexdigest()
        return self.folder / name[:2] / f"{name}.json"

    def ask(self, peer: Peer, capture: Path) -> tuple[Answer, str]:
        """Return flow -> labels of a capture file, or nothing and the reason."""
        place = self.place(peer, capture)
        kept = read(place) if place is not None else None
        if kept is not None:
            return kept, ""
        found, reason = peer.ask(str(capture))
        if place is not None and not reason:
            write_atomically(place, json.dumps(rows(found)).encode())
        return found, reason


def rows(answer: Answer) -> list[list[Any]]:
    """Return an answer as JSON holds it: protocol, ends, labels."""
    return [[proto, sorted(ends), list(labels)] for (proto, ends), labels in answer.items()]


def read(path: Path) -> Answer | None:
    """Return a kept answer, None where there is none or its file is damaged."""
    try:
        return {
            (int(proto), frozenset((str(at), int(port)) for at, port in ends)): tuple(labels)
            for proto, ends, labels in json.loads(path.read_bytes())
        }
    except (OSError, ValueError, TypeError):
        return None
