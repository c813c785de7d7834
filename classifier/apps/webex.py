# SPDX-License-Identifier: BSD-3-Clause
"""Webex meetings before WebRTC: a hello of eight octets and its answer.

Facts. UDP 9000: 01, six zeros, 01; answered by 02, four zeros, a number of two octets, 01. Shown by
webex (2015), where media then went over TLS. Behind it 06 and seven zeros start what the client
repeats once a second. Where one side alone is seen, its port (published list for firewalls) and two
such messages must agree. Later clients are plain WebRTC or TLS.
"""

from __future__ import annotations

from typing import Any

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets, u32
from midcall.classifier.state.evidence import evidence
from midcall.classifier.state.verdicts import CERTAIN, SETUP, WEBEX

HELLO = evidence(
    WEBEX,
    1,
    CERTAIN,
    SETUP,
    "Webex hello of eight octets, answered",
    shows=(
        (0, 4, "answer to a hello"),
        (7, 1, "01"),
    ),
)

ON_PORT = evidence(
    WEBEX,
    2,
    CERTAIN,
    SETUP,
    "two Webex messages on its port 9000",
    published=("Webex's list for firewalls",),
)

PORT = 9000


@kernel
def webex_message(
    note: Any, b: Octets, at: int, end: int, size: int, up: int, here: int, there: int
) -> int:
    """Return the evidence in an answer to a hello of the other side, or in two on Webex's port."""
    if end - at < 8:
        return 0
    word, rest = u32(b, at), u32(b, at + 4)
    hello = size == 8 and word == 0x01000000 and rest == 1
    answer = size == 8 and word == 0x02000000 and rest & 0xFF0000FF == 1
    if not hello and not answer and not (size >= 24 and word == 0x06000000 and rest == 0):
        return 0
    if note["candidate"] != WEBEX:
        note["candidate"], note["word"], note["hits"] = WEBEX, 0, 0
    if answer and I(note["word"]) == 2 - up:
        return HELLO
    if hello:
        note["word"] = 1 + up
    note["hits"] = min(I(note["hits"]) + 1, 255)
    return ON_PORT if note["hits"] >= 2 and PORT in (here, there) else 0
