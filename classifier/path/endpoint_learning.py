# SPDX-License-Identifier: BSD-3-Clause
"""Learn endpoints from set-up and host names, and identify other flows by them."""

from __future__ import annotations

from typing import Any

from midcall.captures.jit.kernel import I, inlined, kernel
from midcall.captures.jit.reads import Octets, u32
from midcall.classifier.apps.telegram import STREAM as TELEGRAM_STREAM
from midcall.classifier.apps.webrtc import (
    IS_DNS,
    NAMED_CUT,
    NAMED_DNS,
    NAMED_PAIR,
    NAMED_SDP,
    NAMED_SOCKET,
    NAMED_STUN,
    STREAMED,
)
from midcall.classifier.path.rtp_evidence import best_run
from midcall.classifier.path.verdict import CERTAIN_MAKER, apply_evidence, is_named, rank
from midcall.classifier.protocols.dns import PORTS as DNS_PORTS
from midcall.classifier.protocols.dns import read_dns
from midcall.classifier.protocols.sdp import learn_types
from midcall.classifier.state.endpoint_table import (
    CUT_HINT,
    HOST_HINT,
    LEARN_DNS,
    LEARN_SDP,
    LEARN_SOCKET,
    LEARN_STUN,
    is_shared_port,
    learn,
    packet_key,
    pair_key,
    recall,
    recall_within,
    source_key,
    stun_key,
)
from midcall.classifier.state.evidence import pack
from midcall.classifier.state.flow_scratch import TRACKS
from midcall.classifier.state.flow_table import METER_CUTS, Numbers, Records
from midcall.classifier.state.packet_fields import (
    SIGN_PAYLOAD_AT,
    SIGN_PAYLOAD_END,
    SIGN_PAYLOAD_SIZE,
    SIGN_SOURCE_AT,
    SIGN_SOURCE_PORT,
    SIGN_STUN,
    SIGN_STUN_AT,
    SIGN_STUN_MAPPED,
    SIGN_STUN_PEER,
    SIGN_STUN_RELAYED,
    SIGN_TARGET_AT,
    SIGN_TARGET_PORT,
    SIGN_VERSION,
)
from midcall.classifier.state.verdicts import (
    CERTAIN,
    CONTROL,
    MEDIA,
    MESSAGING,
    NOT_CALL,
    OTHER_RTC,
    RTC,
    SETUP,
    SIP,
    TEAMS,
    TELEGRAM,
    UNDECIDED,
)
from midcall.classifier.state.verdicts import NONE as NO_APP

#: The port under which an address is remembered as a client of Teams' names.
CLIENT_HINT = 1
#: How SIP requests of a call begin: INVITE, ACK, BYE.
CALL_METHODS = (0x494E5649, 0x41434B20, 0x42594520)
#: Payloads after which the flow of an unidentified call takes the app of another flow between the
#: same hosts. An app's own marks would have appeared by then.
PAIR_PATIENCE = 4
#: Set-up that the snaplen cut identifies flows that begin within this time (ns).
CUT_LIFETIME = 30_000_000_000
#: Packets within STEADY_TIME (ns) that make a named flow without RTP its call's media.
STEADY_PACKETS, STEADY_TIME = 40, 8_000_000_000


@kernel
def inspect_dns(
    flow: Any, context: Records, meter: Numbers, b: Octets, time: int, signs: Numbers
) -> bool:
    """Inspect a payload on a DNS port; returns whether it is DNS.

    Every packet may hold a name, so the flow is not settled.
    """
    at, end = signs[SIGN_PAYLOAD_AT], signs[SIGN_PAYLOAD_END]
    answer = read_dns(b, at, end, time, context, meter, signs)
    if answer == 0:
        return False
    apply_evidence(flow, meter, IS_DNS, 0, time)
    client = SIGN_SOURCE_AT if signs[SIGN_TARGET_PORT] in DNS_PORTS else SIGN_TARGET_AT
    if (answer - 1) >> 8 == TEAMS:
        key = packet_key(b, signs[client], signs[SIGN_VERSION], CLIENT_HINT)
        learn(context, meter, key, TEAMS, MESSAGING, LEARN_DNS, time)
    if (answer - 1) & 0xFF == SETUP and at + signs[SIGN_PAYLOAD_SIZE] > end:
        key = packet_key(b, signs[client], signs[SIGN_VERSION], CUT_HINT)
        learn(context, meter, key, (answer - 1) >> 8, SETUP, LEARN_DNS, time)
        meter[METER_CUTS] = 1
    return True


@kernel
def recall_both(context: Records, b: Octets, port: int, time: int, signs: Numbers) -> int:
    """Return the endpoint entry of either address of a packet under a hint's port, 0 for none."""
    version = signs[SIGN_VERSION]
    known = recall(context, packet_key(b, signs[SIGN_SOURCE_AT], version, port), time)
    if known:
        return known
    return recall(context, packet_key(b, signs[SIGN_TARGET_AT], version, port), time)


@kernel
def recall_cut(context: Records, b: Octets, time: int, signs: Numbers) -> int:
    """Return the recent entry of set-up that the snaplen cut at either host, 0 for none."""
    for where in (SIGN_SOURCE_AT, SIGN_TARGET_AT):
        key = packet_key(b, signs[where], signs[SIGN_VERSION], CUT_HINT)
        known = recall_within(context, key, time, CUT_LIFETIME)
        if known:
            return known
    return 0


@inlined
def ask_context(
    flow: Any, meter: Numbers, note: Any, context: Records, b: Octets, time: int, signs: Numbers
) -> None:
    """Identify a flow by endpoints learned from set-up; looked up at packets 1, 2, 4, 8, ..."""
    packets = I(note["seen"])
    if flow["verdict"] == NOT_CALL or is_named(flow):
        steady(flow, meter, note, time)
        return
    if packets & (packets - 1):
        return
    version = signs[SIGN_VERSION]
    source = packet_key(b, signs[SIGN_SOURCE_AT], version, signs[SIGN_SOURCE_PORT])
    target = packet_key(b, signs[SIGN_TARGET_AT], version, signs[SIGN_TARGET_PORT])
    known = recall(context, source, time)
    if known == 0:
        known = recall(context, target, time)
    cut = False
    if known == 0 and flow["verdict"] != UNDECIDED:
        known = recall_both(context, b, 0, time, signs)
    paired = known == 0 and packets >= PAIR_PATIENCE and flow["app"] == RTC
    if paired:
        key = pair_key(b, signs[SIGN_SOURCE_AT], signs[SIGN_TARGET_AT], version)
        known = recall(context, key, time)
    if known == 0 and meter[METER_CUTS] and flow["app"] == RTC:
        known = recall_cut(context, b, time, signs)
        cut = known > 0
    if known == 0:
        return
    app, source, evidence_number = (
        known & 0xFF,
        (known >> 8) & 0xFF,
        NAMED_PAIR if paired else NAMED_SOCKET,
    )
    if app == NO_APP:
        if flow["verdict"] != CERTAIN:
            apply_evidence(flow, meter, STREAMED, 0, time)
        return
    if source == LEARN_STUN:
        evidence_number = NAMED_STUN
    elif source == LEARN_SDP:
        evidence_number = NAMED_SDP
    elif source == LEARN_DNS:
        evidence_number = NAMED_DNS
    if cut:
        evidence_number = NAMED_CUT
    role = MEDIA if best_run(note) > 0 else SETUP
    if source == LEARN_SDP and note["rtcp"] and role == SETUP:
        role = CONTROL
    apply_evidence(flow, meter, pack(app, evidence_number, CERTAIN, role), 0, time)


@kernel
def steady(flow: Any, meter: Numbers, note: Any, time: int) -> None:
    """Classify a steady packet stream of an app whose media is not RTP (Telegram) as media."""
    if flow["app"] != TELEGRAM or flow["role"] != SETUP or note["pings"]:
        return
    if note["seen"] == STEADY_PACKETS and time - I(note["first_time"]) < STEADY_TIME:
        apply_evidence(flow, meter, TELEGRAM_STREAM, 0, time)


@kernel
def is_identified(flow: Any) -> bool:
    """Return whether a flow certainly belongs to an app or to a maker."""
    known = rank(I(flow["verdict"]), I(flow["app"]))
    return known >= CERTAIN_MAKER and flow["app"] != OTHER_RTC


@kernel
def teach(
    flow: Any, context: Records, meter: Numbers, b: Octets, time: int, signs: Numbers
) -> None:
    """Store the endpoints of a flow that certainly belongs to an app's call."""
    if not is_identified(flow) or flow["role"] == MESSAGING:
        return
    app, version = I(flow["app"]), signs[SIGN_VERSION]
    for side in range(2):
        where = SIGN_SOURCE_AT if side == 0 else SIGN_TARGET_AT
        port = signs[SIGN_SOURCE_PORT] if side == 0 else signs[SIGN_TARGET_PORT]
        if not is_shared_port(port):
            key = packet_key(b, signs[where], version, port)
            learn(context, meter, key, app, SETUP, LEARN_SOCKET, time)
    if app != SIP:  # store_hosts stores the hosts of SIP
        key = pair_key(b, signs[SIGN_SOURCE_AT], signs[SIGN_TARGET_AT], version)
        learn(context, meter, key, app, SETUP, LEARN_SOCKET, time)
    if signs[SIGN_STUN]:
        header = signs[SIGN_STUN_AT]
        for slot in (SIGN_STUN_MAPPED, SIGN_STUN_PEER, SIGN_STUN_RELAYED):
            key = stun_key(b, signs[slot], header)
            learn(context, meter, key, app, SETUP, LEARN_STUN, time)


@kernel
def store_sources(flow: Any, note: Any, context: Records, meter: Numbers, time: int) -> None:
    """Store the media sources (SSRCs) of a flow that certainly carries an app's media."""
    if not is_identified(flow) or flow["role"] != MEDIA:
        return
    for track in range(TRACKS):
        if note["rtp_type"][track] != 255 and note["rtp_run"][track] >= 1:
            key = source_key(I(note["rtp_ssrc"][track]))
            learn(context, meter, key, I(flow["app"]), MEDIA, LEARN_SOCKET, time)


@kernel
def store_hosts(
    context: Records,
    meter: Numbers,
    b: Octets,
    at: int,
    end: int,
    size: int,
    time: int,
    signs: Numbers,
) -> None:
    """Store both hosts of a SIP request that belongs to a call, and the payload types of its SDP.

    size: of the request on the wire, in octets; a request that the snaplen cut is stored as such.
    """
    version = signs[SIGN_VERSION]
    if end - at >= 4 and u32(b, at) in CALL_METHODS:
        for where in (SIGN_SOURCE_AT, SIGN_TARGET_AT):
            key = packet_key(b, signs[where], version, HOST_HINT)
            learn(context, meter, key, SIP, MEDIA, LEARN_SDP, time)
            if at + size > end:
                key = packet_key(b, signs[where], version, CUT_HINT)
                learn(context, meter, key, SIP, SETUP, LEARN_SDP, time)
                meter[METER_CUTS] = 1
    learn_types(b, at, end, signs[SIGN_SOURCE_AT], version, time, context, meter)
