# SPDX-License-Identifier: BSD-3-Clause
"""Google's own QUIC up to Q046: its client's first message, CHLO, travels in plain.

A message is a tag, a 16-bit count and two octets of padding, then per value its tag and where it
ends (all little-endian), then the values. SNI holds the host name (Google's QUIC crypto document).
"""

from __future__ import annotations

from midcall.captures.jit.kernel import kernel
from midcall.captures.jit.reads import Octets, u16le, u32, u32le
from midcall.classifier.state.flow_table import Numbers
from midcall.classifier.state.hostnames import plain_name
from midcall.classifier.state.packet_fields import (
    NAME_QUIC_SNI,
    SIGN_NAME_AT,
    SIGN_NAME_KIND,
    SIGN_NAME_LENGTH,
)

CHLO, SNI = 0x43484C4F, 0x534E4900
#: How far behind the start of a datagram the message begins at most, and its values.
SEARCH, VALUES = 64, 64


@kernel
def read_chlo(b: Octets, at: int, end: int, signs: Numbers) -> bool:
    """Return whether a datagram holds a CHLO with a host name, which goes to signs."""
    o, last = at, min(end - 16, at + SEARCH)
    while o < last and u32(b, o) != CHLO:
        o += 1
    if o >= last:
        return False
    count = u16le(b, o + 4)
    values = o + 8 + 8 * count
    if count > VALUES or values > end:
        return False
    begins = 0
    for value in range(count):
        ends = u32le(b, o + 12 + 8 * value)
        if u32(b, o + 8 + 8 * value) == SNI:
            length = ends - begins
            if not 0 < length <= end - values - begins:
                return False
            signs[SIGN_NAME_AT], signs[SIGN_NAME_LENGTH] = values + begins, length
            signs[SIGN_NAME_KIND] = NAME_QUIC_SNI
            plain_name(b, values + begins, length, 0, signs)
            return True
        begins = ends
    return False
