# SPDX-License-Identifier: BSD-3-Clause
"""Kinds of innocent traffic, by how a capture was made: its `content` in the catalogue.

Kinds do not depend on any engine. In captures of calls, labels separate chat from other traffic.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

Row = Mapping[str, Any]

#: Kind -> words (a blank marks the start or end of a word); the first matching kind counts.
WORDS: dict[str, tuple[str, ...]] = {
    "chat, log-in and presence of call apps": (
        "chat", "login", "presence", "no facetime call", "no call", "signalling", "messenger",
    ),
    "HTTP on the SIP port": ("http on port 5060",),
    "DTLS that is a VPN": ("dtls",),
    "WireGuard-like VPN": ("warp", "wireguard"),
    "other VPN, proxy, circumvention": (
        "vpn", "proxy", "circumvention", " tor ", "tunnel", "encapsulation",
    ),
    "games": ("game",),
    "QUIC": ("quic",),
    "peer to peer": ("p2p", "bittorrent", "cryptocurrency", "kcp"),
    "name resolution": ("dns",),
    "remote desktop, streaming": ("desktop", "streaming", "dash"),
    "web": ("web", "https", "phone"),
    "look-alikes": ("look-alike",),
}  # fmt: skip
REST = "mail, shells, network services"
CHAT, BESIDE = "chat of an app, in captures of its calls", "other traffic in captures of calls"
#: The line of all kinds together, and the line of calls of apps other than the five.
ALL, OTHER_CALLS = "all innocent flows", "calls of other apps, named as one of the five"


@functools.cache
def of_content(content: str) -> str:
    """Return the kind of an innocent capture's traffic."""
    text = f" {content.lower()} "
    for kind, words in WORDS.items():
        if any(word in text for word in words):
            return kind
    return REST


def kind(row: Row) -> str:
    """Return the kind of a quiet flow."""
    if row["innocent"]:
        return of_content(str(row["content"]))
    return CHAT if row["truth_role"] == "messaging" else BESIDE
