# SPDX-License-Identifier: BSD-3-Clause
"""Turn evidence into the verdict of a flow's record. Stronger evidence replaces weaker evidence.

Order: undecided < not a call < unsure < unsure of an app < certain of a call < certain of its maker
< certain of its app. Between equals the first stays, but a call's role rises from set-up over
control to media. A maker's name is replaced only by one of that maker's apps. A flow is settled,
and never inspected again, when no later packet could change its verdict.
"""

from __future__ import annotations

from typing import Any

from midcall.captures.jit.kernel import I, kernel
from midcall.classifier.apps.webrtc import IS_RTSP
from midcall.classifier.state.flow_table import (
    AWAITS,
    CLAIM_KEYS,
    CLAIMS,
    LOG,
    MAKER_AT,
    METER_LOG_SIZE,
    METER_LOGGED,
    QUIC,
    SETTLED,
    WITHOUT,
    Numbers,
)
from midcall.classifier.state.verdicts import (
    CERTAIN,
    CONTROL,
    MEDIA,
    MESSAGING,
    META,
    MICROSOFT,
    NONE,
    NOT_CALL,
    OTHER_RTC,
    RTC,
    SETUP,
    SKYPE,
    TEAMS,
    UNDECIDED,
    UNSURE,
    maker_of,
)

#: Payload packets after which the verdict of a flow without media, or without a name, is final.
PATIENCE = 4096
#: The same for flows of real-time media whose app stays unknown.
NAMELESS_PATIENCE = 256
#: The same for QUIC, enough to see RTCP between its packets, and for RTSP.
QUIC_PATIENCE = 64
#: The same for TLS whose server's certificate is awaited.
CERTIFICATE_PATIENCE = 16


#: Ranks: a call of an unknown app, of a maker or another protocol, of an app.
CERTAIN_CALL, CERTAIN_MAKER, CERTAIN_APP = 4, 5, 6


@kernel
def rank(verdict: int, app: int) -> int:
    """Return the rank of a verdict and app: 0 undecided ... 6 certain of an app."""
    if verdict == CERTAIN:
        if app == RTC:
            return CERTAIN_CALL
        return CERTAIN_MAKER if app in (META, MICROSOFT, OTHER_RTC) else CERTAIN_APP
    if verdict == UNSURE and app not in (NONE, RTC):
        return UNSURE + 1
    return verdict


@kernel
def is_named(flow: Any) -> bool:
    """Return whether the verdict of a flow is certain of an app, not only of the app's maker."""
    return rank(I(flow["verdict"]), I(flow["app"])) == CERTAIN_APP


@kernel
def may_follow(old: int, current: int, app: int) -> bool:
    """Return whether `app` may replace the app `current` of a flow of rank `old`.

    A flow that is certain of a maker accepts only apps of that maker.
    """
    if old != CERTAIN_MAKER or maker_of(current) == 0:
        return True
    return maker_of(current) == maker_of(app)


@kernel
def role_rank(role: int) -> int:
    """Return the rank of a call role: set-up 1, control 2, media 3, others 0."""
    if role == MEDIA:
        return 3
    if role == CONTROL:
        return 2
    if role == SETUP:
        return 1
    return 0


@kernel
def unless_excluded(flow: Any, evidence: int) -> int:
    """Return a packed evidence, or 0 where it names the app that this engine excludes.

    Excluding Skype also excludes Teams, because they share a stack. Excluding an app also excludes
    its maker.
    """
    excluded = I(flow["state"]) >> WITHOUT
    if excluded:
        app = (evidence >> 8) & 0xFF
        if app == excluded or (app == TEAMS and excluded == SKYPE):
            return 0
        if app == maker_of(excluded) and app:
            return 0
    return evidence


@kernel
def claimed(evidence: int, meter: Numbers) -> int:
    """Return a packed evidence with the verdict, app and confidence that its support allows.

    Without a claim for it in the meter, the evidence is returned unchanged.
    """
    verdict_limit = (evidence >> 20) & 15
    key = evidence & 0xFFFF
    claim = meter[CLAIMS + key + (CLAIM_KEYS if verdict_limit == NOT_CALL else 0)]
    if claim == 0:
        return evidence
    verdict, app = min(verdict_limit, (claim >> 16) & 3), (claim >> 8) & 0xFF
    return I(
        ((claim & 0xFF) << 24) | (verdict << 20) | (evidence & 0xF0000) | (app << 8) | key & 0xFF
    )


@kernel
def agreed(flow: Any, evidence: int, supported: int, meter: Numbers) -> int:
    """Return `supported`, made certain where another sign of the same app was seen in the flow.

    A sign that may lead to certainty, but lacks support, is stored in the flow. Two different such
    signs of one app are certain together. The probability that both are wrong is the product of
    their error probabilities, as if they were independent.
    """
    verdict, app = (supported >> 20) & 15, (supported >> 8) & 0xFF
    if verdict != UNSURE or (evidence >> 20) & 15 != CERTAIN or app in (NONE, RTC):
        return supported
    key, hint = evidence & 0xFFFF, I(flow["hint"])
    if hint == 0 or hint >> 8 != key >> 8 or hint == key:
        flow["hint"] = key
        maker = I(meter[CLAIMS + key]) >> MAKER_AT
        if maker == 0:
            return supported
        return (supported & 0xF00FF) | (CERTAIN << 20) | (maker << 24) | (maker_of(app) << 8)
    doubt = (100 - (supported >> 24)) * (100 - (I(meter[CLAIMS + hint]) & 0xFF))
    return (supported & 0xFFFFF) | (CERTAIN << 20) | (min(99, (10_000 - doubt) // 100) << 24)


@kernel
def apply_evidence(flow: Any, meter: Numbers, evidence: int, argument: int, time: int) -> bool:
    """Write an evidence to a flow's record if its rank is higher; returns whether it was written.

    meter: the engine's int64 array, with the claim of each evidence; evidence: packed
    (classifier.state.evidence), 0 for none; argument: the number that its sentence shows;
    time: of the packet, in ns.
    """
    same = evidence & 0xFFFF == I(flow["evidence"]) and (evidence >> 16) & 15 == I(flow["role"])
    if same and flow["verdict"] != UNDECIDED:
        return False  # the evidence that the verdict already rests on
    if unless_excluded(flow, evidence) == 0:
        return False
    logged = meter[METER_LOGGED]
    if logged < meter[METER_LOG_SIZE]:
        meter[LOG + 2 * logged], meter[LOG + 2 * logged + 1] = evidence, flow["first_record"]
        meter[METER_LOGGED] = logged + 1
    supported = agreed(flow, evidence, claimed(evidence, meter), meter)
    verdict, role = (supported >> 20) & 15, (supported >> 16) & 15
    app = (supported >> 8) & 0xFF
    old, new = rank(I(flow["verdict"]), I(flow["app"])), rank(verdict, app)
    known = I(flow["app"])
    if new <= old:
        own = app == known or (verdict == CERTAIN and app > 0 and app == maker_of(known))
        if own and role_rank(role) > role_rank(I(flow["role"])) > 0:
            flow["role"] = role
            return True
        return False
    if not may_follow(old, known, app):
        return False
    if old >= CERTAIN_CALL and role_rank(I(flow["role"])) > role_rank(role) and role != MESSAGING:
        role = I(flow["role"])
    flow["verdict"], flow["app"], flow["role"] = verdict, app, role
    flow["confidence"] = (supported >> 24) & 0x7F
    flow["evidence"] = evidence & 0xFFFF
    flow["argument"] = argument & 0xFFFFFFFF
    flow["verdict_packets"] = min(I(flow["payload_packets"]), 65535)
    flow["verdict_time"] = time
    return True


@kernel
def is_final(flow: Any) -> bool:
    """Return whether no later packet could change the verdict of a flow."""
    verdict, role = I(flow["verdict"]), I(flow["role"])
    if verdict == CERTAIN:
        if role in (MEDIA, MESSAGING) and (is_named(flow) or flow["app"] == MICROSOFT):
            return True  # Skype and Teams media cannot be told apart
        if role == MEDIA:
            return I(flow["payload_packets"]) >= NAMELESS_PATIENCE
        return I(flow["payload_packets"]) >= PATIENCE
    if verdict == NOT_CALL and I(flow["state"]) & QUIC:  # calls may hide in a QUIC flow
        return I(flow["payload_packets"]) >= QUIC_PATIENCE
    if verdict == NOT_CALL and I(flow["state"]) & AWAITS:
        return I(flow["payload_packets"]) >= CERTIFICATE_PATIENCE
    if I(flow["evidence"]) == IS_RTSP & 0xFFFF:  # later answers name the ports of streams
        return I(flow["payload_packets"]) >= QUIC_PATIENCE
    undecided_role = verdict == NOT_CALL and flow["app"] == SKYPE and flow["role"] == MESSAGING
    if verdict == UNSURE or undecided_role:  # classic Skype's presence may become a call
        return I(flow["payload_packets"]) >= NAMELESS_PATIENCE
    return verdict == NOT_CALL


@kernel
def settle_flow(flow: Any) -> None:
    """Mark a flow as never to be inspected again."""
    flow["state"] = I(flow["state"]) | SETTLED
