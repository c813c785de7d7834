# SPDX-License-Identifier: BSD-3-Clause
"""Decide when inspection of a flow stops without a verdict, and which verdict it then gets."""

from __future__ import annotations

from typing import Any

from midcall.captures.jit.kernel import I, inlined, kernel
from midcall.captures.packets.numbers import TCP, UDP
from midcall.classifier.apps.skype import counts_groups
from midcall.classifier.apps.webrtc import (
    IS_TLS,
    NO_PAYLOAD,
    NOTHING_FOUND,
    RTCP_HINT,
    RTCP_STREAM,
    RTP_HINT,
)
from midcall.classifier.path.rtp_evidence import best_run
from midcall.classifier.path.verdict import apply_evidence
from midcall.classifier.state.features import KEPT
from midcall.classifier.state.flow_scratch import TRACKS
from midcall.classifier.state.flow_table import METER_NO_PAYLOAD, Numbers, Records
from midcall.classifier.state.verdicts import SKYPE, SNAPCHAT, UNDECIDED
from midcall.classifier.statistical.inference import ask, asked_with

#: Payloads after which inspection stops: without any sign of a call, and with a weak sign.
INSPECTION_LIMIT_UDP, INSPECTION_LIMIT_TCP, INSPECTION_LIMIT_HINT = 10, 6, 40
#: The same where groups of packets are counted.
INSPECTION_LIMIT_COUNTS = 160
#: Consecutive data packets of classic Skype that are a weak sign.
HINT_RUN = 6


@inlined
def limit_reached(flow: Any, note: Any, model: Records, proto: int) -> bool:
    """Return whether a flow is still undecided after the payloads that its kind is allowed."""
    if flow["verdict"] != UNDECIDED:
        return False
    payloads = I(note["seen"])
    if payloads < INSPECTION_LIMIT_TCP:
        return False
    if proto == TCP and note["hello"] and note["greets"] > 0:
        return payloads >= INSPECTION_LIMIT_HINT
    if proto == TCP:
        return (best_run(note) == 0 and note["hits"] == 0) or payloads >= INSPECTION_LIMIT_HINT
    if payloads < INSPECTION_LIMIT_UDP:
        return False
    framed = note["candidate"] > 0 and note["candidate"] != SNAPCHAT
    if note["candidate"] == SKYPE and note["word"] == 0:
        framed = note["hits"] >= HINT_RUN
    if counts_groups(note):
        return payloads >= INSPECTION_LIMIT_COUNTS
    hint = best_run(note) > 0 or note["rtcp"] > 0 or framed or note["tags"] > 2
    if hint:
        return payloads >= INSPECTION_LIMIT_HINT
    if payloads == INSPECTION_LIMIT_UDP:
        return ask(note, model, 0) == 0
    return payloads >= KEPT  # a flow that the early model takes for a call


@kernel
def finish(flow: Any, note: Any, meter: Numbers, model: Records) -> None:
    """Give an undecided flow the verdict that its payloads support.

    The statistical model is applied last, where no payload has a sign of a call.
    """
    if flow["verdict"] != UNDECIDED:
        return
    time = I(flow["last_time"])
    if note["hello"] and flow["proto"] == TCP and note["greets"] > 0:
        apply_evidence(flow, meter, IS_TLS, 0, time)
    for track in range(TRACKS):
        if note["rtp_type"][track] != 255 and note["rtp_run"][track] >= 2:
            apply_evidence(flow, meter, RTP_HINT, I(note["rtp_type"][track]), time)
    if note["rtcp_same"] >= 1:
        apply_evidence(flow, meter, RTCP_STREAM, 0, time)
    if note["rtcp"] >= 1 and note["rtcp"] == note["seen"]:
        apply_evidence(flow, meter, RTCP_HINT, 0, time)
    if flow["verdict"] == UNDECIDED and flow["proto"] == UDP:
        evidence = ask(note, model, I(meter[METER_NO_PAYLOAD]))
        apply_evidence(flow, meter, evidence, asked_with(note, model), time)
    apply_evidence(flow, meter, NOTHING_FOUND, I(note["seen"]), time)


@kernel
def settle(flow: Any, notes: Records, meter: Numbers, model: Records) -> None:
    """Give a flow its final verdict when the capture ends."""
    if flow["note"]:
        finish(flow, notes[I(flow["note"]) - 1], meter, model)
    elif flow["payload_packets"] == 0:
        apply_evidence(flow, meter, NO_PAYLOAD, 0, I(flow["last_time"]))
    else:
        apply_evidence(flow, meter, NOTHING_FOUND, 0, I(flow["last_time"]))
