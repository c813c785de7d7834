# SPDX-License-Identifier: BSD-3-Clause
"""Peers: other engines on the same packets, where they are installed; absent, they give a reason.

Each is asked in a process of its own, with a bounded time, about one capture file after the other;
its answer is its own labels per flow. What such a label is worth stands in `labels`, for all peers
in one table. Answers are kept in the user's cache by the file's sha256 and the peer's version.

Imports results.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from midcall.errors import ExperimentError
from midcall.experiments.accuracy.peers.labels import Answer
from midcall.suggestions import hint

#: The names of all peers, in the order of tables.
NAMES = ("ndpi", "nfstream", "tshark")
#: How people write them.
TITLES = {"ndpi": "nDPI", "nfstream": "nfstream", "tshark": "tshark"}


class Peer(Protocol):
    """An engine that is installed. how: the words that, with the version, decide an answer."""

    @property
    def name(self) -> str:
        """Return one of NAMES."""

    @property
    def version(self) -> str:
        """Return the version that it tells of itself."""

    @property
    def how(self) -> str:
        """Return how it is asked."""

    def ask(self, capture: str) -> tuple[Answer, str]:
        """Return flow -> labels of a pcap file, or nothing and the reason."""

    def close(self) -> None:
        """End the peer's process, where it has one between questions."""


def find(name: str) -> tuple[Peer | None, str]:
    """Return a peer by name, or None and the reason why it takes no part."""
    from midcall.experiments.accuracy.peers import ndpi, nfstream, tshark

    if name == "ndpi":
        return ndpi.find()
    return nfstream.find() if name == "nfstream" else tshark.find()


def chosen(words: str) -> Sequence[str]:
    """Return the names in "all", "none" or a list with commas; raises ExperimentError."""
    if words in ("all", "none"):
        return NAMES if words == "all" else ()
    wanted = [word.strip() for word in words.split(",")]
    for word in wanted:
        if word not in NAMES:
            known = dict.fromkeys((*NAMES, "all", "none"))
            raise ExperimentError(f"--peers: no peer is called {word!r} ({hint(word, known)})")
    return tuple(name for name in NAMES if name in wanted)
