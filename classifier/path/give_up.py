# SPDX-License-Identifier: BSD-3-Clause
"""When a flow was looked at long enough, and what is then said of it."""

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
from midcall.classifier.path.verdict import conclude
from midcall.classifier.state.features import KEPT
from midcall.classifier.state.flow_scratch import TRACKS
from midcall.classifier.state.flow_table import METER_BLIND, Numbers, Records
from midcall.classifier.state.verdicts import SKYPE, SNAPCHAT, UNDECIDED
from midcall.classifier.statistical.inference import ask, asked_with

#: Payloads without any sign of a call after which a flow is left alone, and with a half sign.
PATIENCE_UDP, PATIENCE_TCP, PATIENCE_HINT = 10, 6, 40
#: The same where groups are counted: until they are.
PATIENCE_COUNTS = 160
#: Data packets of classic Skype in a row that are half a sign.
HINT_RUN = 6


@inlined
def lost_patience(flow: Any, note: Any, model: Records, proto: int) -> bool:
    """Tell whether enough payloads were read without a verdict."""
    if flow["verdict"] != UNDECIDED:
        return False
    seen = I(note["seen"])
    if seen < PATIENCE_TCP:
        return False
    if proto == TCP and note["hello"] and note["greets"] > 0:
        return seen >= PATIENCE_HINT
    if proto == TCP:
        return (best_run(note) == 0 and note["hits"] == 0) or seen >= PATIENCE_HINT
    if seen < PATIENCE_UDP:
        return False
    framed = note["candidate"] > 0 and note["candidate"] != SNAPCHAT
    if note["candidate"] == SKYPE and note["word"] == 0:
        framed = note["hits"] >= HINT_RUN
    if counts_groups(note):
        return seen >= PATIENCE_COUNTS
    hint = best_run(note) > 0 or note["rtcp"] > 0 or framed or note["tags"] > 2
    if hint:
        return seen >= PATIENCE_HINT
    if seen == PATIENCE_UDP:
        return ask(note, model, 0) == 0
    return seen >= KEPT  # what looks like a call must do so for longer


@kernel
def finish(flow: Any, note: Any, meter: Numbers, model: Records) -> None:
    """Give a flow that stays undecided the verdict that its payloads allow.

    The early model is asked last: where nothing in the payloads speaks for a call.
    """
    if flow["verdict"] != UNDECIDED:
        return
    time = I(flow["last_time"])
    if note["hello"] and flow["proto"] == TCP and note["greets"] > 0:
        conclude(flow, meter, IS_TLS, 0, time)
    for track in range(TRACKS):
        if note["rtp_type"][track] != 255 and note["rtp_run"][track] >= 2:
            conclude(flow, meter, RTP_HINT, I(note["rtp_type"][track]), time)
    if note["rtcp_same"] >= 1:
        conclude(flow, meter, RTCP_STREAM, 0, time)
    if note["rtcp"] >= 1 and note["rtcp"] == note["seen"]:
        conclude(flow, meter, RTCP_HINT, 0, time)
    if flow["verdict"] == UNDECIDED and flow["proto"] == UDP:
        found = ask(note, model, I(meter[METER_BLIND]))
        conclude(flow, meter, found, asked_with(note, model), time)
    conclude(flow, meter, NOTHING_FOUND, I(note["seen"]), time)


@kernel
def settle(flow: Any, notes: Records, meter: Numbers, model: Records) -> None:
    """Give a flow of a finished table its verdict."""
    if flow["note"]:
        finish(flow, notes[I(flow["note"]) - 1], meter, model)
    elif flow["payload_packets"] == 0:
        conclude(flow, meter, NO_PAYLOAD, 0, I(flow["last_time"]))
    else:
        conclude(flow, meter, NOTHING_FOUND, 0, I(flow["last_time"]))
