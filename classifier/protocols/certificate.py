# SPDX-License-Identifier: BSD-3-Clause
"""Names in unencrypted server certificates: TLS and DTLS up to 1.2 (RFC 5246, 7.4.2).

Nothing is reassembled: a certificate's names are searched in the octets of one packet by their
object identifiers (RFC 5280: 2.5.4.3, the common name; 2.5.29.17, alternative names), and a name
that two packets share is not recognised. From TLS 1.3 on certificates are encrypted.
"""

from __future__ import annotations

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets, u8, u16, u24, u32
from midcall.classifier.state.flow_table import Numbers
from midcall.classifier.state.hostnames import name_rule
from midcall.classifier.state.packet_fields import SIGN_NAMELESS
from midcall.classifier.state.verdicts import MEET, SETUP

CERTIFICATE, SERVER_HELLO = 11, 2
#: Types of strings that a common name has: UTF8String, PrintableString, T61String, IA5String.
STRINGS = (0x0C, 0x13, 0x14, 0x16)
DNS_NAME = 0x82
#: DTLS records of a datagram that are looked at.
RECORDS = 8


@kernel
def says_hangouts(b: Octets, at: int, length: int, signs: Numbers) -> bool:
    """Return whether a common name is "hangouts", as Google's media servers call themselves."""
    if signs[SIGN_NAMELESS]:
        return False
    return length == 8 and u32(b, at) == 0x68616E67 and u32(b, at + 4) == 0x6F757473


@kernel
def certificate_rule(b: Octets, o: int, stop: int, signs: Numbers) -> int:
    """Return `app << 8 | role` of the first known name in b[o:stop], 0 where none is known.

    Only the first name of each field counts: a certificate may be for many services.
    """
    while stop - o >= 8:
        if u24(b, o) == 0x060355:
            if u16(b, o + 3) == 0x0403 and u8(b, o + 5) in STRINGS:
                length = min(u8(b, o + 6), stop - o - 7)
                if says_hangouts(b, o + 7, length, signs):
                    return MEET << 8 | SETUP
                rule = name_rule(b, o + 7, length, 0, signs)
                if rule:
                    return rule
            elif u16(b, o + 3) == 0x1D11:
                rule = alternative_rule(b, o + 5, stop, signs)
                if rule:
                    return rule
            o += 4
        o += 1
    return 0


@kernel
def alternative_rule(b: Octets, o: int, stop: int, signs: Numbers) -> int:
    """Return the rule of the first name of a subjectAltName behind its identifier.

    The others may be of other services: one certificate serves facebook.com and messenger.com.
    """
    for _ in range(2):  # the octet string's header, the sequence's
        if stop - o < 4 or u8(b, o) not in (0x04, 0x30):
            return 0
        o += 2 + (u8(b, o + 1) & 0x7F if u8(b, o + 1) & 0x80 else 0)
    if stop - o < 2 or u8(b, o) != DNS_NAME or u8(b, o + 1) & 0x80:
        return 0
    return name_rule(b, o + 2, min(u8(b, o + 1), stop - o - 2), 0, signs)


@kernel
def dtls_certificate(b: Octets, at: int, end: int, signs: Numbers) -> int:
    """Return the rule of the Certificate messages, or fragments of one, in a datagram of DTLS."""
    for _ in range(RECORDS):
        if end - at < 26 or u8(b, at) != 22 or u16(b, at + 3) != 0:
            return 0
        stop = at + 13 + u16(b, at + 11)
        if u8(b, at + 13) == CERTIFICATE:
            rule = certificate_rule(b, at + 25, min(stop, end), signs)
            if rule:
                return rule
        at = stop
    return 0


@kernel
def ends_plain(b: Octets, at: int, end: int) -> bool:
    """Return whether a segment that starts with a TLS record shows where plain text ends.

    That is a ChangeCipherSpec, application data or an alert, as far as whole records lead.
    """
    for _ in range(RECORDS):
        if end - at < 5 or u8(b, at + 1) != 3:
            return False
        if u8(b, at) in (20, 21, 23):
            return True
        if u8(b, at) != 22:
            return False
        at += 5 + u16(b, at + 3)
    return False


@kernel
def is_server_hello(b: Octets, at: int, end: int) -> bool:
    """Return whether a TLS record with a ServerHello starts here."""
    if end - at < 6 or u8(b, at) != 22 or u8(b, at + 1) != 3:
        return False
    return I(b[at + 5]) == SERVER_HELLO
