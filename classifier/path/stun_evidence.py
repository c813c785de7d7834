# SPDX-License-Identifier: BSD-3-Clause
"""Classify STUN messages by an app's own marks, a realm, a dialect, then as plain STUN."""

from __future__ import annotations

from typing import Any

from midcall.captures.jit.kernel import I, inlined, kernel
from midcall.captures.jit.reads import Octets, find_octet
from midcall.captures.packets.numbers import UDP
from midcall.classifier.apps.facetime import facetime_stun
from midcall.classifier.apps.meet import PORT as MEET_PORT
from midcall.classifier.apps.meet import meet_stun
from midcall.classifier.apps.meet import own_port as meet_port
from midcall.classifier.apps.meta import is_challenge, meta_stun
from midcall.classifier.apps.realms import cut_realm_app, realm_app
from midcall.classifier.apps.skype import family_stun
from midcall.classifier.apps.telegram import OWN_PORT as TELEGRAM_OWN
from midcall.classifier.apps.telegram import PORT as TELEGRAM_PORT
from midcall.classifier.apps.webrtc import BARE_STUN, ICE_CHECK, NAMED_FRAGMENT, TURN_USE
from midcall.classifier.apps.zoom import PORT as ZOOM_PORT
from midcall.classifier.apps.zoom import own_port as zoom_port
from midcall.classifier.apps.zoom import zoom_stun
from midcall.classifier.path.endpoint_learning import CLIENT_HINT, recall_both, teach
from midcall.classifier.path.verdict import apply_evidence, unless_excluded
from midcall.classifier.protocols.sdp import COLON, fragment_key
from midcall.classifier.protocols.stun import (
    CHALLENGE,
    ICE,
    INTEGRITY,
    LONG_NONCE,
    MICROSOFT_ATTRIBUTE,
    TURN,
    USERNAME,
)
from midcall.classifier.state.endpoint_table import recall
from midcall.classifier.state.evidence import pack
from midcall.classifier.state.flow_table import ALLOCATED, METER_FRAGMENTS, Numbers, Records
from midcall.classifier.state.packet_fields import (
    SIGN_SOURCE_PORT,
    SIGN_STUN,
    SIGN_STUN_AT,
    SIGN_STUN_COUNT,
    SIGN_STUN_END,
    SIGN_STUN_FIRST,
    SIGN_STUN_REALM,
    SIGN_STUN_REALM_LENGTH,
    SIGN_STUN_TRAITS,
    SIGN_STUN_USER,
    SIGN_STUN_USER_LENGTH,
    SIGN_TARGET_PORT,
)
from midcall.classifier.state.verdicts import CERTAIN, SETUP, TEAMS


@inlined
def on_stun(
    flow: Any,
    note: Any,
    context: Records,
    meter: Numbers,
    b: Octets,
    size: int,
    time: int,
    signs: Numbers,
) -> None:
    """Classify a STUN message by its app's own marks, realm or dialect, else as plain STUN."""
    kind, first = I(signs[SIGN_STUN]) - 1, I(signs[SIGN_STUN_FIRST]) - 1
    traits = I(signs[SIGN_STUN_TRAITS])
    note["stun"] = min(I(note["stun"]) + 1, 65535)
    note["traits"] = I(note["traits"]) | traits
    argument = kind if 0x0800 <= kind <= 0x0805 else first
    evidence = app_of_stun(flow, note, context, meter, b, size, time, signs)
    if evidence == 0:
        evidence = general_stun(kind, traits)
    apply_evidence(flow, meter, evidence, argument, time)
    if evidence in (ICE_CHECK, TURN_USE) or (evidence == BARE_STUN and traits & INTEGRITY):
        by_port(flow, meter, time, signs)
    if traits & TURN:
        flow["state"] = I(flow["state"]) | ALLOCATED
    teach(flow, context, meter, b, time, signs)


@kernel
def app_of_stun(
    flow: Any,
    note: Any,
    context: Records,
    meter: Numbers,
    b: Octets,
    size: int,
    time: int,
    signs: Numbers,
) -> int:
    """Return the evidence of the first app whose marks a STUN message has, 0 for none."""
    kind, first = I(signs[SIGN_STUN]) - 1, I(signs[SIGN_STUN_FIRST]) - 1
    traits, end = I(signs[SIGN_STUN_TRAITS]), I(signs[SIGN_STUN_END])
    at, count = signs[SIGN_STUN_AT], I(signs[SIGN_STUN_COUNT])
    evidence = I(0)
    if signs[SIGN_STUN_REALM]:
        start, length = I(signs[SIGN_STUN_REALM]), I(signs[SIGN_STUN_REALM_LENGTH])
        if end - start >= length:
            evidence = unless_excluded(flow, realm_app(b, start, length))
        else:
            long_nonce = I(note["traits"]) & LONG_NONCE != 0
            evidence = unless_excluded(flow, cut_realm_app(b, start, length, end, long_nonce))
    earlier_traits = I(note["traits"])
    evidence = evidence or unless_excluded(
        flow, meta_stun(b, at, end, size, kind, first, traits, earlier_traits)
    )
    if kind == 0x0113 and is_challenge(b, at, end, size):
        note["traits"] = earlier_traits | CHALLENGE
    evidence = evidence or unless_excluded(
        flow, facetime_stun(b, at, end, size, kind, traits, count)
    )
    if evidence == 0 and traits & MICROSOFT_ATTRIBUTE:
        teams = recall_both(context, b, CLIENT_HINT, time, signs) & 0xFF == TEAMS
        evidence = unless_excluded(flow, family_stun(traits, teams))
    user, length = I(signs[SIGN_STUN_USER]), I(signs[SIGN_STUN_USER_LENGTH])
    if evidence == 0 and user:
        evidence = unless_excluded(flow, zoom_stun(b, user, length, end))
    if evidence == 0 and user and meter[METER_FRAGMENTS]:
        evidence = unless_excluded(flow, by_fragment(context, b, user, length, end, time))
    if evidence == 0:
        evidence = unless_excluded(flow, meet_stun(b, kind, first, traits, user, length, end))
    return evidence


@kernel
def by_fragment(context: Records, b: Octets, user: int, length: int, end: int, time: int) -> int:
    """Return the evidence of the app whose SDP announced an ICE user name fragment, 0 for none."""
    stop = min(end, user + length)
    colon = find_octet(b, user, stop, COLON)
    for part in (user, colon + 1):
        key = fragment_key(b, part, stop) if part < stop else I(0)
        app = recall(context, key, time) & 0xFF if key else I(0)
        if app:
            return pack(app, NAMED_FRAGMENT, CERTAIN, SETUP)
    return 0


@kernel
def by_port(flow: Any, meter: Numbers, time: int, signs: Numbers) -> None:
    """Identify the app of a WebRTC flow by a port that only one app's servers use."""
    source_port, target_port = I(signs[SIGN_SOURCE_PORT]), I(signs[SIGN_TARGET_PORT])
    port = meet_port(source_port, target_port)
    if port:
        apply_evidence(flow, meter, MEET_PORT, port, time)
        return
    port = zoom_port(source_port, target_port)
    if port:
        apply_evidence(flow, meter, ZOOM_PORT, port, time)
    elif (
        TELEGRAM_OWN in (source_port, target_port)
        and min(source_port, target_port) >= 1024
        and flow["proto"] == UDP
    ):
        apply_evidence(flow, meter, TELEGRAM_PORT, 0, time)


@kernel
def general_stun(kind: int, traits: int) -> int:
    """Return the evidence of a STUN message without a mark of an app: TURN, ICE or bare STUN."""
    if traits & TURN:
        return TURN_USE
    if traits & ICE or (traits & USERNAME and kind in (0x0001, 0x0101)):
        return ICE_CHECK
    return BARE_STUN
