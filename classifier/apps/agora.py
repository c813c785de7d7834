# SPDX-License-Identifier: BSD-3-Clause
"""Agora's network SD-RTN: a hello over UDP that carries a tag "SNI" and a host name.

Facts (published by nDPI; no capture here shows it). Octet 6 is 0x21; at 12 stands 04 and "SNI", the
name's length at 16, a zero at 18, the name at 19.
"""

from __future__ import annotations

from midcall.captures.jit.kernel import kernel
from midcall.captures.jit.reads import Octets, u8, u16, u32
from midcall.classifier.state.evidence import evidence
from midcall.classifier.state.verdicts import AGORA, CERTAIN, SETUP

HELLO = evidence(
    AGORA, 1, CERTAIN, SETUP, "SD-RTN hello with a server name (published)", published=("nDPI",)
)


@kernel
def agora_message(b: Octets, at: int, end: int, size: int) -> int:
    """Return the evidence in a payload."""
    if end - at < 20 or u8(b, at + 6) != 0x21 or u32(b, at + 12) != 0x04534E49:
        return 0
    return HELLO if u8(b, at + 18) == 0 and u16(b, at + 16) + 19 <= size else 0
