# SPDX-License-Identifier: BSD-3-Clause
"""Webex meetings before WebRTC: a hello of eight octets and its answer.

Facts. UDP 9000: 01, six zeros, 01; answered by 02, four zeros, a number of two octets, 01. Shown by
webex (2015), where media then went over TLS. Later clients are plain WebRTC or TLS.
"""

from __future__ import annotations

from typing import Any

from captures.compiled import I, kernel
from captures.octets import Octets, u8, u32
from classifier.evidence import evidence
from classifier.verdicts import CERTAIN, SETUP, WEBEX

HELLO = evidence(WEBEX, 1, CERTAIN, SETUP, 85, "Webex hello of eight octets, answered")


@kernel
def webex_message(note: Any, b: Octets, at: int, end: int, size: int, up: int) -> int:
    """Return the evidence in an answer to a hello of the other side."""
    if size != 8 or end - at < 8 or u8(b, at + 7) != 1:
        return 0
    if u32(b, at) == 0x01000000 and u32(b, at + 4) == 1:
        note["candidate"], note["word"] = WEBEX, 1 + up
        return 0
    answer = u32(b, at) == 0x02000000 and u8(b, at + 4) == 0
    if answer and note["candidate"] == WEBEX and I(note["word"]) == 2 - up:
        return HELLO
    return 0
