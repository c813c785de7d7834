# SPDX-License-Identifier: BSD-3-Clause
"""From evidence to the verdict in a flow's record: the better evidence stays.

Order: undecided < not a call < unsure < unsure of an app < certain of a call < certain of its maker
< certain of its app. Between equals the first stays, but a call's role grows from set-up over
control to media. A maker's name gives way to its own apps alone. A flow is settled, and never
inspected again, when no later packet could change what is said of it.
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
    METER_LISTEN,
    METER_SPOKEN,
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

#: Payload packets after which a flow without media, or without a name, is left as it is.
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
    """Return how much is known: 0 nothing ... 6 certain of an app."""
    if verdict == CERTAIN:
        if app == RTC:
            return CERTAIN_CALL
        return CERTAIN_MAKER if app in (META, MICROSOFT, OTHER_RTC) else CERTAIN_APP
    if verdict == UNSURE and app not in (NONE, RTC):
        return UNSURE + 1
    return verdict


@kernel
def is_named(flow: Any) -> bool:
    """Tell whether a flow certainly belongs to an app, not to its maker alone."""
    return rank(I(flow["verdict"]), I(flow["app"])) == CERTAIN_APP


@kernel
def may_follow(old: int, known: int, app: int) -> bool:
    """Tell whether an app may be said of a flow of rank `old`, of which `known` was said.

    Of a flow that is certainly one maker's, no other maker's app can be said.
    """
    if old != CERTAIN_MAKER or maker_of(known) == 0:
        return True
    return maker_of(known) == maker_of(app)


@kernel
def role_rank(role: int) -> int:
    """Return how far a call role reaches: set-up 1, control 2, media 3, others 0."""
    if role == MEDIA:
        return 3
    if role == CONTROL:
        return 2
    if role == SETUP:
        return 1
    return 0


@kernel
def heard(flow: Any, found: int) -> int:
    """Return an evidence, 0 where it speaks of the app that this engine is to know nothing of.

    An engine without Skype knows nothing of Teams either: they share a stack. Without an app it
    does not know the app's maker.
    """
    without = I(flow["state"]) >> WITHOUT
    if without:
        app = (found >> 8) & 0xFF
        if app == without or (app == TEAMS and without == SKYPE):
            return 0
        if app == maker_of(without) and app:
            return 0
    return found


@kernel
def claimed(found: int, meter: Numbers) -> int:
    """Return an evidence with the verdict, app and confidence that its support allows it to say.

    It stays as it is where the meter holds no claim for it.
    """
    most = (found >> 20) & 15
    key = found & 0xFFFF
    claim = meter[CLAIMS + key + (CLAIM_KEYS if most == NOT_CALL else 0)]
    if claim == 0:
        return found
    verdict, app = min(most, (claim >> 16) & 3), (claim >> 8) & 0xFF
    return I(((claim & 0xFF) << 24) | (verdict << 20) | (found & 0xF0000) | (app << 8) | key & 0xFF)


@kernel
def agreed(flow: Any, found: int, said: int, meter: Numbers) -> int:
    """Return what an evidence says where another sign of the same app was seen in its flow.

    A sign that may lead to certainty, but is not supported enough, is remembered. Two different
    ones of one app are certain together: both are wrong less often than either, with the chance
    of either's error as if they were independent.
    """
    verdict, app = (said >> 20) & 15, (said >> 8) & 0xFF
    if verdict != UNSURE or (found >> 20) & 15 != CERTAIN or app in (NONE, RTC):
        return said
    key, hint = found & 0xFFFF, I(flow["hint"])
    if hint == 0 or hint >> 8 != key >> 8 or hint == key:
        flow["hint"] = key
        maker = I(meter[CLAIMS + key]) >> MAKER_AT
        if maker == 0:
            return said
        return (said & 0xF00FF) | (CERTAIN << 20) | (maker << 24) | (maker_of(app) << 8)
    doubt = (100 - (said >> 24)) * (100 - (I(meter[CLAIMS + hint]) & 0xFF))
    return (said & 0xFFFFF) | (CERTAIN << 20) | (min(99, (10_000 - doubt) // 100) << 24)


@kernel
def conclude(flow: Any, meter: Numbers, found: int, argument: int, time: int) -> bool:
    """Put an evidence into a flow's record where it says more; returns whether it did.

    meter: an engine's, with what each evidence may say; found: a packed evidence
    (classifier.state.evidence), 0 for none; argument: the number its sentence shows; time: the
    packet's, in ns.
    """
    same = found & 0xFFFF == I(flow["evidence"]) and (found >> 16) & 15 == I(flow["role"])
    if same and flow["verdict"] != UNDECIDED:
        return False  # what a flow rests on adds nothing when it is seen again
    if heard(flow, found) == 0:
        return False
    spoken = meter[METER_SPOKEN]
    if spoken < meter[METER_LISTEN]:
        meter[LOG + 2 * spoken], meter[LOG + 2 * spoken + 1] = found, flow["first_record"]
        meter[METER_SPOKEN] = spoken + 1
    said = agreed(flow, found, claimed(found, meter), meter)
    verdict, role = (said >> 20) & 15, (said >> 16) & 15
    app = (said >> 8) & 0xFF
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
    flow["confidence"] = (said >> 24) & 0x7F
    flow["evidence"] = found & 0xFFFF
    flow["argument"] = argument & 0xFFFFFFFF
    flow["verdict_packets"] = min(I(flow["payload_packets"]), 65535)
    flow["verdict_time"] = time
    return True


@kernel
def is_final(flow: Any) -> bool:
    """Tell whether no later packet could change what is said of a flow."""
    verdict, role = I(flow["verdict"]), I(flow["role"])
    if verdict == CERTAIN:
        if role in (MEDIA, MESSAGING) and (is_named(flow) or flow["app"] == MICROSOFT):
            return True  # no media of Skype or Teams tells which of the two it is
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
