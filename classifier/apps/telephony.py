# SPDX-License-Identifier: BSD-3-Clause
"""Telephony with open signalling: SIP, H.323, SCCP, MGCP, Megaco, IAX2.

Facts. SIP (RFC 3261): a method and " sip:", or "SIP/2.0 ", starts a message; HTTP and RTSP on the
same port do not. H.225 in Q.931 behind TPKT (RFC 1006, port 1720 or any); H.245 likewise. SCCP:
little-endian length, a zero or version word, a message id. MGCP (RFC 3435): a verb, and "MGCP" in
the first line. Megaco text: "!/1" or "MEGACO/1". IAX2 (RFC 5456): full frames on port 4569.
Megaco controls the gateways of SIP telephony and is counted with it. NOE: 00 06 "bl" starts its
longer datagrams (nDPI). libjingle opens TCP to relays with a fixed SSL 2 hello of 72 octets, behind
which STUN follows. Shown by sip, h323, skinny,
mgcp, FAX-Call; not tripped by http_on_sip_port.
"""

from __future__ import annotations

from typing import Any

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets, starts, u8, u16, u32, u32le
from midcall.classifier.state.evidence import evidence
from midcall.classifier.state.verdicts import CERTAIN, OTHER_RTC, SETUP, SIP

MESSAGE = evidence(SIP, 1, CERTAIN, SETUP, "SIP message", spec="RFC 3261")
H225 = evidence(
    OTHER_RTC, 20, CERTAIN, SETUP, "H.323 call signalling (Q.931 in TPKT)", spec="ITU-T H.225.0"
)
H245 = evidence(OTHER_RTC, 21, CERTAIN, SETUP, "H.245 media control in TPKT", spec="ITU-T H.245")
RAS = evidence(
    OTHER_RTC, 22, CERTAIN, SETUP, "H.323 RAS, by its object identifier", spec="ITU-T H.225.0"
)
SCCP = evidence(
    OTHER_RTC,
    23,
    CERTAIN,
    SETUP,
    "SCCP (Skinny) messages",
    published=("Wireshark", "Asterisk"),
    shows=(
        (0, 4, "length, little-endian"),
        (4, 8, "version and message"),
    ),
)
MGCP = evidence(OTHER_RTC, 24, CERTAIN, SETUP, "MGCP message", spec="RFC 3435")
MEGACO = evidence(
    SIP, 2, CERTAIN, SETUP, "Megaco (H.248) message of a media gateway", spec="ITU-T H.248.1"
)
NOE = evidence(
    OTHER_RTC,
    29,
    CERTAIN,
    SETUP,
    "NOE, Alcatel's telephone signalling (published)",
    published=("nDPI",),
    shows=((0, 4, '00 06 "bl"'),),
)
PSEUDO_TLS = evidence(
    OTHER_RTC,
    30,
    CERTAIN,
    SETUP,
    "libjingle's hello that only looks like SSL (published)",
    spec="libjingle's source",
    shows=((0, 12, "hello of SSL 2 that never changes"),),
)
KEEP_ALIVE = evidence(
    SIP, 5, CERTAIN, SETUP, "CRLF CRLF with SIP's port (RFC 5626)", spec="RFC 5626"
)
IAX2 = evidence(OTHER_RTC, 26, CERTAIN, SETUP, "IAX2 full frame on its port", spec="RFC 5456")

#: RFC 3261, section 18.
SIP_PORT = 5060
#: The port of a telephone's call manager, and the first number of the manager's messages.
SCCP_PORT, SCCP_MANAGER = 2000, 0x81


@kernel
def is_sip(b: Octets, at: int, end: int) -> bool:
    """Return whether a SIP request or response starts here (RFC 3261, section 7)."""
    if starts(b, at, end, b"SIP/2.0 "):
        return True
    o = at
    while o < end and o - at <= 12 and 65 <= I(b[o]) <= 90:
        o += 1
    if o == at or o - at > 12 or end - o < 5 or I(b[o]) != 32:
        return False
    o += 1
    return starts(b, o, end, b"sip:") or starts(b, o, end, b"sips:") or starts(b, o, end, b"tel:")


@kernel
def is_mgcp(b: Octets, at: int, end: int) -> bool:
    """Return whether an MGCP command starts here: four letters, then "MGCP" in the first line."""
    if end - at < 12 or I(b[at + 4]) != 32:
        return False
    for i in range(4):
        if not 65 <= I(b[at + i]) <= 90:
            return False
    o = at + 5
    while o < end and o - at < 256 and I(b[o]) not in (10, 13):
        if I(b[o]) == 77 and starts(b, o, end, b"MGCP "):
            return True
        o += 1
    return False


@kernel
def telephony_udp(
    b: Octets, at: int, end: int, size: int, source_port: int, target_port: int
) -> int:
    """Return the evidence in a UDP payload, 0 for none."""
    if end - at < 4:
        return 0
    if is_sip(b, at, end):
        return MESSAGE
    if (
        size == 4
        and u32(b, at) == 0x0D0A0D0A
        and (source_port == SIP_PORT or target_port == SIP_PORT)
    ):
        return KEEP_ALIVE
    if is_mgcp(b, at, end):
        return MGCP
    if starts(b, at, end, b"!/1 ") or starts(b, at, end, b"MEGACO/1 "):
        return MEGACO
    if (source_port == 2427 or target_port == 2427) and is_mgcp_answer(b, at, end):
        return MGCP
    if is_ras(b, at, end):
        return RAS
    if size >= 25 and u32(b, at) == 0x0006626C:
        return NOE
    if (source_port == 4569 or target_port == 4569) and end - at >= 12:
        if u8(b, at) & 0x80 and 1 <= u8(b, at + 10) <= 12 and u8(b, at + 11) <= 0x28:
            return IAX2
    return 0


@kernel
def is_mgcp_answer(b: Octets, at: int, end: int) -> bool:
    """Return whether an MGCP response starts here: three digits and a transaction number."""
    if end - at < 6 or I(b[at + 3]) != 32:
        return False
    for i in (0, 1, 2, 4):
        if not 48 <= I(b[at + i]) <= 57:
            return False
    return True


@kernel
def is_ras(b: Octets, at: int, end: int) -> bool:
    """Return whether a payload has the protocol identifier of H.225 RAS (aligned PER).

    Its object identifier 0.0.8.2250.0.n is 06 00 08 91 4A 00 0n, in most messages.
    """
    for o in range(at, min(end - 6, at + 24)):
        if u32(b, o) == 0x0008914A and u8(b, o + 4) == 0:
            return True
    return False


@kernel
def telephony_tcp(note: Any, b: Octets, at: int, end: int, size: int, port: int) -> int:
    """Return the evidence in a TCP payload; port is the lower one."""
    if is_sip(b, at, end):
        return MESSAGE
    if size == 72 and end - at >= 12 and u32(b, at) == 0x80460103:
        if u32(b, at + 4) == 0x01002D00 and u32(b, at + 8) == 0x00001001:
            return PSEUDO_TLS
    if size == 4 and end - at >= 4 and u16(b, at) == 0x0300:  # the message follows in a segment
        note["other"] = u16(b, at + 2)
        return 0
    if note["other"] and I(note["other"]) == size + 4 and end - at >= 3 and u8(b, at) == 8:
        if u8(b, at + 1) in (1, 2) and note["candidate"] == 0:
            return H225
    if end - at >= 7 and u16(b, at) == 0x0300 and 4 < u16(b, at + 2) <= size:
        kind = u8(b, at + 4)
        if kind == 8 and u8(b, at + 5) in (0, 1, 2):  # Q.931 discriminator, call reference
            return H225
        if kind == 2 and u8(b, at + 5) == 0x70:  # terminalCapabilitySet
            return H245
    if end - at >= 12 and u32le(b, at) + 8 <= size and u32le(b, at) >= 4:
        if u32le(b, at + 4) <= 0x16 and u32le(b, at + 8) <= 0x160 and u16(b, at + 2) == 0:
            return skinny(note, u32le(b, at + 8), port)
    return 0


@kernel
def skinny(note: Any, message: int, port: int) -> int:
    """Return the evidence in a message of SCCP's form: two, with its port or from both its ends.

    Other protocols count in the same form, so that elsewhere one message of a telephone (below
    0x81) and one of its manager are asked for.
    """
    if note["candidate"] != OTHER_RTC:
        note["candidate"], note["hits"] = OTHER_RTC, 0
    if port == SCCP_PORT:
        note["hits"] = min(I(note["hits"]) + 1, 2)
        return SCCP if note["hits"] >= 2 else 0
    note["hits"] = I(note["hits"]) | (2 if message >= SCCP_MANAGER else 1)
    return SCCP if note["hits"] == 3 else 0
