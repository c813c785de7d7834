# SPDX-License-Identifier: BSD-3-Clause
"""TURN realms: a relay names its service (RFC 8489, 14.9), and so the app that asks it.

Facts. turner.facebook: Messenger (seen in stun_facebook, 2021; WhatsApp uses Meta's relays without
a realm). telegram.org, signal.org (before: whispersystems.org), google.com: published by peers,
google.com also seen in stun.
A realm names the relay's owner: Google's also serves other products.
"""

from __future__ import annotations

from midcall.captures.jit.kernel import kernel
from midcall.captures.jit.reads import Octets
from midcall.classifier.protocols.stun import begins_as, ends_with
from midcall.classifier.state.evidence import evidence
from midcall.classifier.state.verdicts import (
    CERTAIN,
    DISCORD,
    IMO,
    LINE,
    MEET,
    MESSENGER,
    SETUP,
    SIGNAL,
    TELEGRAM,
    UNSURE,
    VIBER,
    ZOOM,
)

MESSENGER_REALM = evidence(
    MESSENGER, 1, CERTAIN, SETUP, 'TURN realm "turner.facebook"', spec="name"
)
TELEGRAM_REALM = evidence(TELEGRAM, 1, CERTAIN, SETUP, 'TURN realm "telegram.org"', spec="name")
SIGNAL_REALM = evidence(SIGNAL, 1, CERTAIN, SETUP, 'TURN realm "signal.org"', spec="name")
GOOGLE_REALM = evidence(MEET, 1, UNSURE, SETUP, 'TURN realm of Google ("google.com")', spec="name")
VIBER_REALM = evidence(VIBER, 6, CERTAIN, SETUP, 'TURN realm "viber.com"', spec="name")
DISCORD_REALM = evidence(DISCORD, 5, CERTAIN, SETUP, "TURN realm of Discord", spec="name")
ZOOM_REALM = evidence(ZOOM, 8, CERTAIN, SETUP, "TURN realm of Zoom", spec="name")
LINE_REALM = evidence(LINE, 6, CERTAIN, SETUP, "TURN realm of LINE", spec="name")
IMO_REALM = evidence(IMO, 1, CERTAIN, SETUP, "TURN realm of imo", spec="name")


REALM_CUT_SHORT = evidence(
    MESSENGER,
    3,
    CERTAIN,
    SETUP,
    'TURN realm of 15 octets cut behind "tu...", and a nonce of 40 octets, as turner.facebook',
)


@kernel
def cut_realm_app(b: Octets, at: int, length: int, end: int, long_nonce: bool) -> int:
    """Return the evidence in a REALM that the snaplen cut; long_nonce: one of 40 octets was seen.

    Only Meta's relays are known to send such a nonce. Length and start of the name must fit.
    """
    if length == 15 and long_nonce and begins_as(b, at, end, b"turner.facebook"):
        return REALM_CUT_SHORT
    return 0


@kernel
def realm_app(b: Octets, at: int, length: int) -> int:
    """Return the evidence in a REALM attribute's value b[at:at+length]."""
    if ends_with(b, at, length, b"turner.facebook"):
        return MESSENGER_REALM
    if ends_with(b, at, length, b"telegram.org"):
        return TELEGRAM_REALM
    if ends_with(b, at, length, b"signal.org") or ends_with(b, at, length, b"whispersystems.org"):
        return SIGNAL_REALM
    if ends_with(b, at, length, b"google.com"):
        return GOOGLE_REALM
    if ends_with(b, at, length, b"viber.com"):
        return VIBER_REALM
    if ends_with(b, at, length, b"discord.media") or ends_with(b, at, length, b"discord.gg"):
        return DISCORD_REALM
    if ends_with(b, at, length, b"zoom.us"):
        return ZOOM_REALM
    if ends_with(b, at, length, b"line-apps.com") or ends_with(b, at, length, b"line.me"):
        return LINE_REALM
    if ends_with(b, at, length, b"imo.im"):
        return IMO_REALM
    return 0
