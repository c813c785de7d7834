# SPDX-License-Identifier: BSD-3-Clause
"""Peers: other engines that classify the same packets, if they are installed.

Each peer runs in its own process, with a time limit, on one capture file after the other. Its
answer is its own label per flow. `labels` has the meaning of the labels of all peers in Midcall's
terms. Answers are cached for the user by the file's sha256 and the peer's version.

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
#: Their names in reports.
TITLES = {"ndpi": "nDPI", "nfstream": "nfstream", "tshark": "tshark"}


class Peer(Protocol):
    """An installed engine. how: its options; with the version they determine its answers."""

    @property
    def name(self) -> str:
        """Return one of NAMES."""

    @property
    def version(self) -> str:
        """Return the version that it reports."""

    @property
    def how(self) -> str:
        """Return the options with which it is run."""

    def ask(self, capture: str) -> tuple[Answer, str]:
        """Return (flow -> labels of a pcap file, ""), or ({}, the reason of a failure)."""

    def close(self) -> None:
        """End the peer's process, if one is running."""


def find(name: str) -> tuple[Peer | None, str]:
    """Return (peer, "") by name, or (None, the reason why it cannot be used)."""
    from midcall.experiments.accuracy.peers import ndpi, nfstream, tshark

    if name == "ndpi":
        return ndpi.find()
    return nfstream.find() if name == "nfstream" else tshark.find()


def chosen(words: str) -> Sequence[str]:
    """Return the names in "all", "none" or a comma-separated list; raises ExperimentError."""
    if words in ("all", "none"):
        return NAMES if words == "all" else ()
    wanted = [word.strip() for word in words.split(",")]
    for word in wanted:
        if word not in NAMES:
            known = dict.fromkeys((*NAMES, "all", "none"))
            raise ExperimentError(f"--peers: no peer is called {word!r} ({hint(word, known)})")
    return tuple(name for name in NAMES if name in wanted)
