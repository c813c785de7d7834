# SPDX-License-Identifier: BSD-3-Clause
"""From evidence to the verdict in a flow's record: the better evidence stays.

Order: undecided < not a call < unsure < certain without an app's name < certain of an app. Between
equals the first stays, but a call's role grows from set-up over control to media. A flow is
settled, and never inspected again, when no later packet could change what is said of it.
"""

from __future__ import annotations

from typing import Any

from captures.compiled import I, kernel
from classifier.apps.webrtc import IS_RTSP
from classifier.flow import AWAITS, QUIC, SETTLED, WITHOUT
from classifier.verdicts import (
    CERTAIN,
    CONTROL,
    MEDIA,
    MESSAGING,
    NOT_CALL,
    OTHER_RTC,
    SETUP,
    SKYPE,
    TEAMS,
    UNSURE,
)

#: Payload packets after which a flow without media, or without a name, is left as it is.
PATIENCE = 4096
#: The same for flows of real-time media whose app stays unknown.
NAMELESS_PATIENCE = 256
#: The same for QUIC, enough to see RTCP between its packets, and for RTSP.
QUIC_PATIENCE = 64
#: The same for TLS whose server's certificate is awaited.
CERTIFICATE_PATIENCE = 16


@kernel
def rank(verdict: int, app: int) -> int:
    """Return how much is known: 0 nothing ... 4 certain of an app."""
    if verdict == CERTAIN and app != OTHER_RTC:
        return 4
    return verdict


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

    An engine without Skype knows nothing of Teams either: they share a stack.
    """
    without = I(flow["state"]) >> WITHOUT
    if without:
        app = (found >> 8) & 0xFF
        if app == without or (app == TEAMS and without == SKYPE):
            return 0
    return found


@kernel
def conclude(flow: Any, found: int, argument: int, time: int) -> bool:
    """Put an evidence into a flow's record where it says more; returns whether it did.

    found: a packed evidence (classifier.evidence), 0 for none; argument: the number its sentence
    shows; time: the packet's, in ns.
    """
    if heard(flow, found) == 0:
        return False
    verdict, role = (found >> 20) & 15, (found >> 16) & 15
    app = (found >> 8) & 0xFF
    old, new = rank(I(flow["verdict"]), I(flow["app"])), rank(verdict, app)
    if new < old:
        return False
    if new == old:
        if app == I(flow["app"]) and role_rank(role) > role_rank(I(flow["role"])) > 0:
            flow["role"] = role
            return True
        return False
    if old == 3 and role_rank(I(flow["role"])) > role_rank(role) and role != MESSAGING:
        role = I(flow["role"])
    flow["verdict"], flow["app"], flow["role"] = verdict, app, role
    flow["confidence"] = (found >> 24) & 0x7F
    flow["evidence"] = found & 0xFFFF
    flow["argument"] = argument
    flow["verdict_packets"] = min(I(flow["payload_packets"]), 65535)
    flow["verdict_time"] = time
    return True


@kernel
def is_final(flow: Any) -> bool:
    """Tell whether no later packet could change what is said of a flow."""
    verdict, role = I(flow["verdict"]), I(flow["role"])
    if verdict == CERTAIN:
        if role in (MEDIA, MESSAGING) and flow["app"] != OTHER_RTC:
            return True
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
