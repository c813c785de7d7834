# SPDX-License-Identifier: BSD-3-Clause
"""From a payload to the readers that may understand it, in the order its first octet suggests.

RFC 9443 orders the attempts; it never discards: many of these apps break it. A standard reader that
does not validate the whole payload leaves it to the proprietary ones.
"""

from __future__ import annotations

from typing import Any

from captures.compiled import I, kernel
from captures.octets import Octets, u8, u16, u32
from classifier.apps.agora import agora_message
from classifier.apps.discord import discord_message, discord_rtp
from classifier.apps.facetime import OPENING as FACETIME_OPENING
from classifier.apps.facetime import SIP_ON_PORT, facetime_message, facetime_rtp
from classifier.apps.facetime import own_port as facetime_port
from classifier.apps.imo import imo_message
from classifier.apps.line import line_message, line_rtp
from classifier.apps.meet import PORT as MEET_PORT
from classifier.apps.meet import own_port as meet_port
from classifier.apps.messenger import messenger_tcp
from classifier.apps.realms import realm_app
from classifier.apps.skype import FRAME, classic_skype, family_rtp, family_stun
from classifier.apps.snapchat import REPORTS as SNAPCHAT_REPORTS
from classifier.apps.snapchat import STREAM as SNAPCHAT_STREAM
from classifier.apps.teams import teams_message
from classifier.apps.telegram import STREAM as TELEGRAM_STREAM
from classifier.apps.telegram import telegram_message
from classifier.apps.telephony import MESSAGE as SIP_MESSAGE
from classifier.apps.telephony import telephony_tcp, telephony_udp
from classifier.apps.viber import STREAM as VIBER_STREAM
from classifier.apps.viber import viber_message, viber_tcp
from classifier.apps.webex import webex_message
from classifier.apps.webrtc import (
    BARE_STUN,
    DTLS_SRTP,
    ICE_CHECK,
    IS_DNS,
    IS_QUIC,
    IS_TLS,
    MEDIA_OF_CALL,
    NAMED_DNS,
    NAMED_QUIC,
    NAMED_SDP,
    NAMED_SOCKET,
    NAMED_STUN,
    NAMED_TLS,
    NO_PAYLOAD,
    NOT_INSPECTED,
    NOTHING_FOUND,
    OPEN_QUIC,
    RELAYED_MEDIA,
    RTCP_HINT,
    RTCP_STREAM,
    RTP_HINT,
    RTP_STREAM,
    TURN_USE,
)
from classifier.apps.whatsapp import whatsapp_probe, whatsapp_rtp, whatsapp_stun, whatsapp_tcp
from classifier.apps.zoom import zoom_message, zoom_stun
from classifier.context import (
    LEARN_DNS,
    LEARN_SDP,
    LEARN_SOCKET,
    LEARN_STUN,
    learn,
    names_nobody,
    packet_key,
    recall,
    stun_key,
)
from classifier.decode import TCP, UDP
from classifier.early import ask, asked_with
from classifier.evidence import pack
from classifier.features import KEPT, observe
from classifier.flow import (
    ALLOCATED,
    METER_BLIND,
    METER_INITIALS,
    METER_INSPECTED,
    METER_RECYCLED,
    QUIC,
    Numbers,
    Records,
)
from classifier.hellos import (
    BASE,
    EARLY_AT,
    EARLY_ROW,
    FILLED,
    GREETED,
    ID,
    ID_SIZE,
    KIND,
    NAMED,
    NEED,
    QUIC_ROW,
    ROOM,
    SIDE,
    TLS_ROW,
    drop_row,
    keep_id,
    put32,
    put_piece,
    row_of,
    shift_row,
    take_row,
)
from classifier.judge import conclude, heard, is_final, settle_flow
from classifier.names import name_rule, text_rule
from classifier.note import TRACKS, clear, give_back, next_victim, take_note
from classifier.protocols.dns import PORTS as DNS_PORTS
from classifier.protocols.dns import read_dns
from classifier.protocols.dtls import (
    CLIENT_HELLO_SRTP,
    NOT_DTLS,
    SERVER_HELLO_SRTP,
    read_dtls,
    read_greeting,
)
from classifier.protocols.http import read_http
from classifier.protocols.quic import FIRST_ID, initial_at, is_quic, make_keys, open_initial
from classifier.protocols.quic import read_row as read_quic_row
from classifier.protocols.rtp import (
    clock_rate,
    is_report,
    looks_like_rtp,
    read_rtcp,
    ticks_per_packet,
    track_rtp,
)
from classifier.protocols.sdp import learn_sdp
from classifier.protocols.stun import (
    ICE,
    MICROSOFT,
    TURN,
    USERNAME,
    is_channel_data,
    is_microsoft_frame,
    read_stun,
)
from classifier.protocols.tls import CLIENT_HELLO as TLS_HELLO
from classifier.protocols.tls import NOT_TLS, hello_size, may_begin, read_tls
from classifier.protocols.tls import read_row as read_tls_row
from classifier.signs import (
    NAME_SNI,
    SIGN_NAME_AT,
    SIGN_NAME_KIND,
    SIGN_NAME_LENGTH,
    SIGN_PAYLOAD_AT,
    SIGN_PAYLOAD_END,
    SIGN_PAYLOAD_SIZE,
    SIGN_PROTO,
    SIGN_RTP_PROFILE,
    SIGN_SOURCE_AT,
    SIGN_SOURCE_PORT,
    SIGN_STUN,
    SIGN_STUN_AT,
    SIGN_STUN_COUNT,
    SIGN_STUN_DATA,
    SIGN_STUN_DATA_END,
    SIGN_STUN_FIRST,
    SIGN_STUN_MAPPED,
    SIGN_STUN_PEER,
    SIGN_STUN_REALM,
    SIGN_STUN_REALM_LENGTH,
    SIGN_STUN_RELAYED,
    SIGN_STUN_TRAITS,
    SIGN_STUN_USER,
    SIGN_STUN_USER_LENGTH,
    SIGN_TARGET_AT,
    SIGN_TARGET_PORT,
    SIGN_TCP_SEQUENCE,
    SIGN_UP,
    SIGN_VERSION,
)
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
    TELEGRAM,
    UNDECIDED,
    VIBER,
)
from classifier.verdicts import NONE as NOBODY

#: Payloads without any sign of a call after which a flow is left alone, and with a half sign.
PATIENCE_UDP, PATIENCE_TCP, PATIENCE_HINT = 10, 6, 40
#: How deep TURN and its like may nest packets.
NESTING = 4
#: The port under which an address is remembered as a client of Teams' names.
CLIENT_HINT = 1
#: Packets within STEADY_TIME (ns) that make a named flow without RTP its call's media.
STEADY_PACKETS, STEADY_TIME = 40, 8_000_000_000

#: Initials of a flow that are opened, Initials of one datagram, segments of one hello.
INITIALS, COALESCED, SEGMENTS = 8, 3, 64
#: Packets of a flow within which a segment may have come before the start of its hello.
EARLY = 5

ZOOM_PORTS = (8801, 8802, 8803, 8804, 8805, 8806, 8807, 8808, 8809, 8810)


@kernel
def inspect(
    flows: Records,
    number: int,
    notes: Records,
    context: Records,
    hellos: Octets,
    meter: Numbers,
    model: Records,
    b: Octets,
    time: int,
    signs: Numbers,
) -> None:
    """Look into one payload of a flow that is not settled."""
    flow = flows[number]
    meter[METER_INSPECTED] += 1
    proto = signs[SIGN_PROTO]
    if meter[METER_BLIND]:
        watch(flows, number, notes, meter, model, time, signs)
        return
    if proto == UDP:
        if signs[SIGN_SOURCE_PORT] in DNS_PORTS or signs[SIGN_TARGET_PORT] in DNS_PORTS:
            if inspect_dns(flow, context, meter, b, time, signs):
                return
    elif proto != TCP:
        conclude(flow, NOT_INSPECTED, 0, time)
        settle_flow(flow)
        return
    note = notes[note_of(flows, number, notes, meter, model, time)]
    note["seen"] = min(I(note["seen"]) + 1, 65535)
    if proto == UDP:
        observe(note, signs[SIGN_PAYLOAD_SIZE], time, signs[SIGN_UP])
        inspect_udp(flow, note, context, hellos, meter, b, time, signs)
        ask_context(flow, note, context, b, time, signs)
    else:
        inspect_tcp(flow, note, context, hellos, meter, b, time, signs)
    if lost_patience(flow, note, model, proto):
        finish(flow, note, meter, model)
    if is_final(flow) and row_of(hellos, note, TLS_ROW) == 0:
        settle_flow(flow)
        drop_row(hellos, note)
        give_back(notes, meter, I(flow["note"]) - 1)
        flow["note"] = 0


@kernel
def watch(
    flows: Records,
    number: int,
    notes: Records,
    meter: Numbers,
    model: Records,
    time: int,
    signs: Numbers,
) -> None:
    """Judge a flow by sizes, gaps and directions alone: no octet of its payload is read."""
    flow = flows[number]
    if signs[SIGN_PROTO] != UDP:
        conclude(flow, NOT_INSPECTED if signs[SIGN_PROTO] != TCP else NOTHING_FOUND, 0, time)
        settle_flow(flow)
        return
    note = notes[note_of(flows, number, notes, meter, model, time)]
    note["seen"] = min(I(note["seen"]) + 1, 65535)
    observe(note, signs[SIGN_PAYLOAD_SIZE], time, signs[SIGN_UP])
    if note["seen"] >= KEPT:
        finish(flow, note, meter, model)
        settle_flow(flow)
        give_back(notes, meter, I(flow["note"]) - 1)
        flow["note"] = 0


@kernel
def note_of(
    flows: Records, number: int, notes: Records, meter: Numbers, model: Records, time: int
) -> int:
    """Return the number of a flow's note, a fresh one (or another flow's) where it has none."""
    flow = flows[number]
    if flow["note"]:
        return I(flow["note"]) - 1
    which = take_note(notes, meter)
    if which < 0:
        which = next_victim(notes, meter)
        victim = flows[notes[which]["flow"]]
        finish(victim, notes[which], meter, model)
        settle_flow(victim)
        victim["note"] = 0
        meter[METER_RECYCLED] += 1
    clear(notes[which], number, time)
    flow["note"] = which + 1
    return which


@kernel
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
    hint = best_run(note) > 0 or note["rtcp"] > 0 or note["candidate"] > 0 or note["tags"] > 2
    if hint:
        return seen >= PATIENCE_HINT
    if seen == PATIENCE_UDP:
        return ask(note, model, 0) == 0
    return seen >= KEPT  # what looks like a call must do so for longer


@kernel
def best_run(note: Any) -> int:
    """Return the longest run of a note's RTP tracks."""
    best = I(0)
    for track in range(TRACKS):
        if note["rtp_type"][track] != 255:
            best = max(best, I(note["rtp_run"][track]))
    return best


@kernel
def finish(flow: Any, note: Any, meter: Numbers, model: Records) -> None:
    """Give a flow that stays undecided the verdict that its payloads allow.

    The early model is asked last: where nothing in the payloads speaks for a call.
    """
    if flow["verdict"] != UNDECIDED:
        return
    time = I(flow["last_time"])
    if note["hello"] and flow["proto"] == TCP and note["greets"] > 0:
        conclude(flow, IS_TLS, 0, time)
    for track in range(TRACKS):
        if note["rtp_type"][track] != 255 and note["rtp_run"][track] >= 2:
            conclude(flow, RTP_HINT, I(note["rtp_type"][track]), time)
    if note["rtcp_same"] >= 1:
        conclude(flow, RTCP_STREAM, 0, time)
    if note["rtcp"] >= 1 and note["rtcp"] == note["seen"]:
        conclude(flow, RTCP_HINT, 0, time)
    if flow["verdict"] == UNDECIDED and flow["proto"] == UDP:
        found = ask(note, model, I(meter[METER_BLIND]))
        conclude(flow, found, asked_with(note, model), time)
    conclude(flow, NOTHING_FOUND, I(note["seen"]), time)


@kernel
def settle(flow: Any, notes: Records, meter: Numbers, model: Records) -> None:
    """Give a flow of a finished table its verdict."""
    if flow["note"]:
        finish(flow, notes[I(flow["note"]) - 1], meter, model)
    elif flow["payload_packets"] == 0:
        conclude(flow, NO_PAYLOAD, 0, I(flow["last_time"]))
    else:
        conclude(flow, NOTHING_FOUND, 0, I(flow["last_time"]))


# ---- what was learned


@kernel
def inspect_dns(
    flow: Any, context: Records, meter: Numbers, b: Octets, time: int, signs: Numbers
) -> bool:
    """Read a payload on a DNS port; every packet may hold a name, so the flow is not settled."""
    at, end = signs[SIGN_PAYLOAD_AT], signs[SIGN_PAYLOAD_END]
    read = read_dns(b, at, end, time, context, meter, signs)
    if read == 0:
        return False
    conclude(flow, IS_DNS, 0, time)
    if (read - 1) >> 8 == TEAMS:
        client = SIGN_SOURCE_AT if signs[SIGN_TARGET_PORT] in DNS_PORTS else SIGN_TARGET_AT
        key = packet_key(b, signs[client], signs[SIGN_VERSION], CLIENT_HINT)
        learn(context, meter, key, TEAMS, MESSAGING, LEARN_DNS, time)
    return True


@kernel
def recall_both(context: Records, b: Octets, port: int, time: int, signs: Numbers) -> int:
    """Return what is known of either address of the packet under a port that stands for a hint."""
    version = signs[SIGN_VERSION]
    known = recall(context, packet_key(b, signs[SIGN_SOURCE_AT], version, port), time)
    if known:
        return known
    return recall(context, packet_key(b, signs[SIGN_TARGET_AT], version, port), time)


@kernel
def ask_context(
    flow: Any, note: Any, context: Records, b: Octets, time: int, signs: Numbers
) -> None:
    """Name a flow by its endpoints where set-up told them; asked at packets 1, 2, 4, 8, ..."""
    seen = I(note["seen"])
    if flow["verdict"] == NOT_CALL or (flow["verdict"] == CERTAIN and flow["app"] != OTHER_RTC):
        steady(flow, note, time)
        return
    if seen & (seen - 1):
        return
    version = signs[SIGN_VERSION]
    source = packet_key(b, signs[SIGN_SOURCE_AT], version, signs[SIGN_SOURCE_PORT])
    target = packet_key(b, signs[SIGN_TARGET_AT], version, signs[SIGN_TARGET_PORT])
    known = recall(context, source, time)
    if known == 0:
        known = recall(context, target, time)
    if known == 0 and flow["verdict"] != UNDECIDED:
        known = recall_both(context, b, 0, time, signs)
    if known == 0:
        return
    app, source, how = known & 0xFF, (known >> 8) & 0xFF, NAMED_SOCKET
    if source == LEARN_STUN:
        how = NAMED_STUN
    elif source == LEARN_SDP:
        how = NAMED_SDP
    elif source == LEARN_DNS:
        how = NAMED_DNS
    role = MEDIA if best_run(note) > 0 else SETUP
    if source == LEARN_SDP and note["rtcp"] and role == SETUP:
        role = CONTROL
    conclude(flow, pack(app, how, CERTAIN, role, 85), 0, time)


@kernel
def steady(flow: Any, note: Any, time: int) -> None:
    """Take a steady stream of an app whose media is not RTP for its media."""
    if flow["app"] != TELEGRAM or flow["role"] != SETUP or note["pings"]:
        return
    if note["seen"] == STEADY_PACKETS and time - I(note["first_time"]) < STEADY_TIME:
        conclude(flow, TELEGRAM_STREAM, 0, time)


@kernel
def teach(
    flow: Any, context: Records, meter: Numbers, b: Octets, time: int, signs: Numbers
) -> None:
    """Remember the endpoints of a flow that certainly belongs to an app's call."""
    if flow["verdict"] != CERTAIN or flow["app"] == OTHER_RTC or flow["role"] == MESSAGING:
        return
    app, version = I(flow["app"]), signs[SIGN_VERSION]
    for side in range(2):
        where = SIGN_SOURCE_AT if side == 0 else SIGN_TARGET_AT
        port = signs[SIGN_SOURCE_PORT] if side == 0 else signs[SIGN_TARGET_PORT]
        if not names_nobody(port):
            key = packet_key(b, signs[where], version, port)
            learn(context, meter, key, app, SETUP, LEARN_SOCKET, time)
    if signs[SIGN_STUN]:
        header = signs[SIGN_STUN_AT]
        for slot in (SIGN_STUN_MAPPED, SIGN_STUN_PEER, SIGN_STUN_RELAYED):
            key = stun_key(b, signs[slot], header)
            learn(context, meter, key, app, SETUP, LEARN_STUN, time)


# ---- UDP


@kernel
def inspect_udp(
    flow: Any,
    note: Any,
    context: Records,
    hellos: Octets,
    meter: Numbers,
    b: Octets,
    time: int,
    signs: Numbers,
) -> None:
    """Read a UDP payload, and what TURN nests in it."""
    at, end, size = signs[SIGN_PAYLOAD_AT], signs[SIGN_PAYLOAD_END], signs[SIGN_PAYLOAD_SIZE]
    outer, relayed = I(0), False
    for _ in range(NESTING):
        if end - at < 1:
            break
        if read_stun(b, at, end, size, 1, signs):
            outer = outer or I(signs[SIGN_STUN])
            on_stun(flow, note, context, meter, b, size, time, signs)
            if signs[SIGN_STUN_DATA] == 0:
                break
            at, stop = signs[SIGN_STUN_DATA], signs[SIGN_STUN_DATA_END]
            end, size, relayed = min(end, stop), stop - at, True
            continue
        if is_channel_data(b, at, end, size) and carries(b, at + 4, end, u16(b, at + 2)):
            size = u16(b, at + 2)
            at, relayed = at + 4, True
            end = min(end, at + size)
            conclude(flow, TURN_USE, 0, time)
            continue
        if is_microsoft_frame(b, at, end, size):
            conclude(flow, FRAME, 0, time)
            at, size, relayed = at + 12, size - 12, True
            continue
        on_payload(flow, note, context, hellos, meter, b, at, end, size, relayed, time, signs)
        break
    signs[SIGN_STUN] = outer


@kernel
def carries(b: Octets, at: int, end: int, size: int) -> bool:
    """Tell whether a relayed packet inside ChannelData is one that calls relay."""
    if end - at < 8:
        return False
    first = u8(b, at)
    if first >> 6 == 2:
        return read_rtcp(b, at, end, size) > 0 or looks_like_rtp(b, at, end, size)
    if first < 2:
        return end - at >= 20 and u32(b, at + 4) == 0x2112A442
    return read_dtls(b, at, end, size) != NOT_DTLS


@kernel
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
    """Judge a STUN message by its app's own marks, its realm, its dialect, then in general."""
    kind, first = I(signs[SIGN_STUN]) - 1, I(signs[SIGN_STUN_FIRST]) - 1
    traits = I(signs[SIGN_STUN_TRAITS])
    note["stun"] = min(I(note["stun"]) + 1, 65535)
    note["traits"] = I(note["traits"]) | traits
    at = signs[SIGN_STUN_AT]
    found = whatsapp_stun(b, at, size, kind, first, traits, I(signs[SIGN_STUN_COUNT]))
    found = heard(flow, found)
    argument = kind if 0x0800 <= kind <= 0x0805 else first
    if found == 0 and signs[SIGN_STUN_REALM]:
        found = realm_app(b, signs[SIGN_STUN_REALM], I(signs[SIGN_STUN_REALM_LENGTH]))
        found = heard(flow, found)
    if found == 0 and traits & MICROSOFT:
        teams = recall_both(context, b, CLIENT_HINT, time, signs) & 0xFF == TEAMS
        found = heard(flow, family_stun(traits, teams))
    if found == 0 and signs[SIGN_STUN_USER]:
        found = zoom_stun(b, signs[SIGN_STUN_USER], I(signs[SIGN_STUN_USER_LENGTH]))
        found = heard(flow, found)
    if found == 0:
        found = general_stun(kind, traits)
    conclude(flow, found, argument, time)
    if found in (ICE_CHECK, TURN_USE):
        by_port(flow, time, signs)
    if traits & TURN:
        flow["state"] = I(flow["state"]) | ALLOCATED
    teach(flow, context, meter, b, time, signs)


@kernel
def by_port(flow: Any, time: int, signs: Numbers) -> None:
    """Name a flow of proven WebRTC by a port that only one app's servers use."""
    port = meet_port(I(signs[SIGN_SOURCE_PORT]), I(signs[SIGN_TARGET_PORT]))
    if port:
        conclude(flow, MEET_PORT, port, time)


@kernel
def general_stun(kind: int, traits: int) -> int:
    """Return what a STUN message without an app's mark says."""
    if traits & TURN:
        return TURN_USE
    if traits & ICE or (traits & USERNAME and kind in (0x0001, 0x0101)):
        return ICE_CHECK
    return BARE_STUN


@kernel
def on_payload(
    flow: Any,
    note: Any,
    context: Records,
    hellos: Octets,
    meter: Numbers,
    b: Octets,
    at: int,
    end: int,
    size: int,
    relayed: bool,
    time: int,
    signs: Numbers,
) -> None:
    """Read a payload that is neither STUN nor a relay's frame."""
    first = u8(b, at)
    if first >> 6 == 2 and on_media(flow, note, b, at, end, size, relayed, time, signs):
        teach(flow, context, meter, b, time, signs)
        return
    if 20 <= first <= 25:
        dtls = read_dtls(b, at, end, size)
        if dtls != NOT_DTLS:
            srtp = read_greeting(note, hellos, meter, b, at, end, signs)
            if srtp or dtls in (CLIENT_HELLO_SRTP, SERVER_HELLO_SRTP):
                conclude(flow, DTLS_SRTP, 0, time)
                by_port(flow, time, signs)
            return
    if is_quic(b, at, end):
        flow["state"] = I(flow["state"]) | QUIC
        if note["greets"] < INITIALS:
            on_initials(flow, note, hellos, meter, b, at, end, time, signs)
        conclude(flow, IS_QUIC, 0, time)
        return
    here, there = signs[SIGN_SOURCE_PORT], signs[SIGN_TARGET_PORT]
    found = heard(flow, telephony_udp(b, at, end, size, here, there))
    argument = u16(b, at) if end - at >= 4 else I(0)
    if found == SIP_MESSAGE:
        if facetime_port(here) and facetime_port(there):
            found, argument = SIP_ON_PORT, min(here, there)
        else:
            learn_sdp(b, at, end, (found >> 8) & 0xFF, time, context, meter)
    if found == 0:
        found = on_proprietary(flow, note, b, at, end, size, time, signs)
    if (found >> 8) & 0xFF == VIBER and end - at >= 4:
        argument = u8(b, at + 2) | (u8(b, at + 3) << 8)
    if conclude(flow, found, argument, time):
        teach(flow, context, meter, b, time, signs)


@kernel
def on_proprietary(
    flow: Any,
    note: Any,
    b: Octets,
    at: int,
    end: int,
    size: int,
    time: int,
    signs: Numbers,
) -> int:
    """Ask the apps that frame their packets in a way of their own; the first answer counts."""
    up = I(signs[SIGN_UP])
    found = heard(flow, discord_message(b, at, end, size))
    if found == 0:
        found = heard(flow, line_message(note, b, at, end, size, up))
    if found == 0:
        found = heard(flow, on_viber(flow, note, b, at, end, size, time, signs))
    if found == 0:
        found = heard(flow, telegram_message(note, b, at, end, size, up))
    if found == 0:
        here, there = signs[SIGN_SOURCE_PORT], signs[SIGN_TARGET_PORT]
        port = I(there) if there in ZOOM_PORTS else (I(here) if here in ZOOM_PORTS else I(0))
        found = heard(flow, zoom_message(note, b, at, end, size, port, up))
    if found == 0:
        found = heard(flow, teams_message(b, at, end, size))
        found = found or heard(flow, agora_message(b, at, end, size))
    if found == 0:
        found = heard(flow, webex_message(note, b, at, end, size, up))
        found = found or heard(flow, imo_message(note, b, at, end, size))
    if found == 0:
        found = heard(flow, facetime_message(note, b, at, end, size, up))
    if found == 0:
        found = classic_skype(
            note, b, at, end, up, time - I(note["first_time"]), I(flow["app"]) == SKYPE
        )
    return found


@kernel
def on_viber(
    flow: Any, note: Any, b: Octets, at: int, end: int, size: int, time: int, signs: Numbers
) -> int:
    """Return the evidence of a Viber message, or of RTP behind its session word."""
    found = viber_message(note, b, at, end, size)
    if found or end - at < 14 or u8(b, at + 1) & 0x80:
        return found
    if not looks_like_rtp(b, at + 2, end, size - 2) or u32(b, at + 10) == 0:
        return 0
    track = track_rtp(note, b, at + 2, end, time, signs)
    if track < 0:
        return 0
    needed = 1 if flow["app"] == VIBER else 3
    return VIBER_STREAM if note["rtp_run"][track] >= needed else 0


@kernel
def on_media(
    flow: Any,
    note: Any,
    b: Octets,
    at: int,
    end: int,
    size: int,
    relayed: bool,
    time: int,
    signs: Numbers,
) -> bool:
    """Read RTP or RTCP; returns whether the payload surely is one of them."""
    source = read_rtcp(b, at, end, size)
    if source:
        conclude(flow, whatsapp_probe(b, at, end), 0, time)
        return on_rtcp(flow, note, b, at, source - 1, time)
    if not looks_like_rtp(b, at, end, size):
        return False
    track = track_rtp(note, b, at, end, time, signs)
    if track < 0:
        if signs[SIGN_RTP_PROFILE] - 1 == 0xDEBE:
            conclude(flow, whatsapp_rtp(u8(b, at + 1) & 0x7F, 0xDEBE, 0, 0, 1), 0, time)
        return False
    run, kind = I(note["rtp_run"][track]), I(note["rtp_type"][track])
    profile, clock = I(signs[SIGN_RTP_PROFILE]) - 1, clock_rate(note, track, time)
    found = whatsapp_rtp(kind, profile, clock, ticks_per_packet(note, track), run)
    found = heard(flow, found)
    if found == 0:
        found = heard(flow, line_rtp(profile, run))
    argument = kind
    if found == 0:
        here, there = I(signs[SIGN_SOURCE_PORT]), I(signs[SIGN_TARGET_PORT])
        opened = I(flow["evidence"]) == FACETIME_OPENING & 0xFFFF
        found = heard(flow, facetime_rtp(kind, profile, run, here, there, opened))
        argument = min(here, there) if found else kind
    if found == 0 and not is_named(flow):
        found = heard(flow, discord_rtp(kind, profile, clock, run))
        found = found or heard(flow, family_rtp(kind, profile, clock, run))
    if found and conclude(flow, found, argument, time):
        return True
    on_stream(flow, note, b, at, run, kind, relayed, time)
    return run >= 1


@kernel
def is_named(flow: Any) -> bool:
    """Tell whether a flow certainly belongs to an app."""
    return I(flow["verdict"]) == CERTAIN and I(flow["app"]) != OTHER_RTC


@kernel
def on_stream(
    flow: Any, note: Any, b: Octets, at: int, run: int, kind: int, relayed: bool, time: int
) -> None:
    """Judge an RTP stream that has no app's mark by its run and its flow's set-up."""
    if flow["verdict"] == CERTAIN:
        if run >= 1 and flow["role"] in (SETUP, CONTROL):
            conclude(flow, pack(I(flow["app"]), MEDIA_OF_CALL, CERTAIN, MEDIA, 95), kind, time)
        return
    if u32(b, at + 8) == 0:
        return
    usual = kind >= 96 or kind <= 34 or note["stun"] > 0
    if run >= (3 if usual else 8):
        found = SNAPCHAT_STREAM if I(flow["state"]) & QUIC else RTP_STREAM
        conclude(flow, found, kind, time)
    elif relayed and run >= 1:
        conclude(flow, RELAYED_MEDIA, kind, time)


@kernel
def on_rtcp(flow: Any, note: Any, b: Octets, at: int, source: int, time: int) -> bool:
    """Judge an RTCP packet; returns whether it surely is one."""
    note["rtcp"] = min(I(note["rtcp"]) + 1, 65535)
    same = source != 0 and I(note["rtcp_ssrc"]) == source
    if same and is_report(b, at):
        note["rtcp_same"] = min(I(note["rtcp_same"]) + 1, 255)
    note["rtcp_ssrc"] = source
    if flow["verdict"] == CERTAIN:
        if flow["role"] == SETUP and is_report(b, at):
            conclude(flow, pack(I(flow["app"]), MEDIA_OF_CALL, CERTAIN, CONTROL, 90), 0, time)
        return True
    if note["rtcp_same"] >= 2:
        found = SNAPCHAT_REPORTS if I(flow["state"]) & QUIC else RTCP_STREAM
        conclude(flow, found, 0, time)
    return same


# ---- QUIC


@kernel
def on_initials(
    flow: Any,
    note: Any,
    hellos: Octets,
    meter: Numbers,
    b: Octets,
    at: int,
    end: int,
    time: int,
    signs: Numbers,
) -> None:
    """Open the Initials at the head of a datagram until the client's hello is whole."""
    for _ in range(COALESCED):
        salt, number, stop = initial_at(b, at, end)
        if salt < 0 or note["greets"] >= INITIALS:
            return
        which = row_of(hellos, note, QUIC_ROW)
        size = u8(b, at + 5)
        if which == 0 and size < FIRST_ID:
            return
        note["greets"] = I(note["greets"]) + 1
        fresh = which == 0
        if fresh:
            which = take_row(hellos, meter, note, QUIC_ROW, 0, I(signs[SIGN_UP]))
        row, plain = hellos[which], hellos[0]
        meter[METER_INITIALS] += 1
        make_keys(b, at + 6, size, salt, signs)
        opened = open_initial(b, at, end, salt, number, stop, row, plain, signs)
        if opened and fresh:
            keep_id(row, b, at + 6, size)
        elif not opened and not fresh:  # the server chose another id meanwhile; the keys stay
            make_keys(row, ID, u8(row, ID_SIZE), salt, signs)
            opened = open_initial(b, at, end, salt, number, stop, row, plain, signs)
        if opened:
            on_quic_hello(flow, note, hellos, which, time, signs)
        elif fresh:
            drop_row(hellos, note)
        at = stop


@kernel
def on_quic_hello(
    flow: Any, note: Any, hellos: Octets, which: int, time: int, signs: Numbers
) -> None:
    """Judge a QUIC flow by what its client's hello has said so far."""
    row = hellos[which]
    read_quic_row(row, signs)
    told = tell_name(row, signs)
    rule = text_rule(signs) if told else I(0)
    whole = 0 < u16(row, NEED) <= u16(row, FILLED)
    if rule or whole:
        # What was said before the name was whole gives way to it.
        if flow["verdict"] == NOT_CALL and flow["app"] == NOBODY:
            flow["verdict"] = UNDECIDED
    if rule:
        on_name(flow, rule, NAMED_QUIC, time)
    elif whole:
        conclude(flow, OPEN_QUIC, 0, time)
    if whole:
        note["greets"] = GREETED
        drop_row(hellos, note)


@kernel
def tell_name(row: Octets, signs: Numbers) -> bool:
    """Tell whether signs hold a name from a row that was not told before."""
    if signs[SIGN_NAME_KIND] and row[NAMED] == 0:
        row[NAMED] = 1
        signs[SIGN_NAME_AT] = 0
        return True
    signs[SIGN_NAME_AT] = signs[SIGN_NAME_LENGTH] = signs[SIGN_NAME_KIND] = 0
    return False


# ---- TCP


@kernel
def inspect_tcp(
    flow: Any,
    note: Any,
    context: Records,
    hellos: Octets,
    meter: Numbers,
    b: Octets,
    time: int,
    signs: Numbers,
) -> None:
    """Read a TCP payload as it came; of streams, only a ClientHello is put together."""
    at, end, size = signs[SIGN_PAYLOAD_AT], signs[SIGN_PAYLOAD_END], signs[SIGN_PAYLOAD_SIZE]
    if end - at < 1:
        return
    first = note["seen"] == 1
    if note["hello"] and on_more(flow, note, context, hellos, meter, b, time, signs):
        return
    tls = read_tls(b, at, end, signs)
    if tls == TLS_HELLO or may_begin(b, at, end):
        on_segment(flow, note, context, hellos, meter, b, time, signs)
        return
    if tls != NOT_TLS and note["stun"] == 0:
        on_nameless_tls(flow, context, b, time, signs)
        return
    if read_http(b, at, end, signs):
        on_host(flow, b, time, signs)
        return
    found = heard(flow, whatsapp_tcp(b, at, end, first))
    found = found or heard(flow, messenger_tcp(b, at, end, first))
    if found == 0:
        port = min(I(signs[SIGN_SOURCE_PORT]), I(signs[SIGN_TARGET_PORT]))
        found = heard(flow, viber_tcp(b, at, end, size, port))
    if found == 0:
        found = heard(flow, telephony_tcp(note, b, at, end, size))
    if found:
        if found == SIP_MESSAGE:
            learn_sdp(b, at, end, (found >> 8) & 0xFF, time, context, meter)
        conclude(flow, found, size, time)
        return
    if first and note["hello"] == 0 and signs[SIGN_UP] and follows_handshake(flow):
        which = take_row(hellos, meter, note, EARLY_ROW, early_base(signs), I(signs[SIGN_UP]))
        put_piece(hellos[which], EARLY_AT, b, at, end)
    on_framed(flow, note, context, meter, b, at, end, size, time, signs)


@kernel
def follows_handshake(flow: Any) -> bool:
    """Tell whether a flow had a few packets without payload: perhaps its three-way handshake."""
    packets = I(flow["packets_up"]) + I(flow["packets_down"])
    return I(flow["payload_packets"]) < packets <= EARLY


@kernel
def early_base(signs: Numbers) -> int:
    """Return the sequence number at which the row of an early segment begins."""
    return (I(signs[SIGN_TCP_SEQUENCE]) - EARLY_AT) & 0xFFFFFFFF


@kernel
def on_segment(
    flow: Any,
    note: Any,
    context: Records,
    hellos: Octets,
    meter: Numbers,
    b: Octets,
    time: int,
    signs: Numbers,
) -> None:
    """Read a segment that begins a ClientHello; keep it where the hello goes on in others."""
    at, end, size = signs[SIGN_PAYLOAD_AT], signs[SIGN_PAYLOAD_END], signs[SIGN_PAYLOAD_SIZE]
    wanted = hello_size(b, at, end)
    named = signs[SIGN_NAME_KIND] != 0
    short = end - at == size and (wanted == 0 or wanted > size)
    if named or not short:
        on_hello(flow, context, meter, b, time, signs)
    if not short:
        return
    base, which = I(signs[SIGN_TCP_SEQUENCE]), row_of(hellos, note, EARLY_ROW)
    ahead = (base - u32(hellos[which], BASE)) & 0xFFFFFFFF
    if which and ahead <= EARLY_AT:
        row = hellos[which]
        row[KIND] = TLS_ROW
        put32(row, BASE, base)
        shift_row(row, ahead)
    else:
        which = take_row(hellos, meter, note, TLS_ROW, base, I(signs[SIGN_UP]))
        row = hellos[which]
    note["greets"] = 1
    row[NAMED] = 1 if named else 0
    put_piece(row, 0, b, at, end)
    if u16(row, FILLED) > size:
        on_row(flow, note, context, hellos, meter, which, b, time, signs)


@kernel
def on_more(
    flow: Any,
    note: Any,
    context: Records,
    hellos: Octets,
    meter: Numbers,
    b: Octets,
    time: int,
    signs: Numbers,
) -> bool:
    """Put a segment to the hello that its flow keeps; returns whether it belongs there."""
    at, end = signs[SIGN_PAYLOAD_AT], signs[SIGN_PAYLOAD_END]
    early = row_of(hellos, note, EARLY_ROW)
    which = early or row_of(hellos, note, TLS_ROW)
    same = which > 0 and u8(hellos[which], SIDE) == signs[SIGN_UP]
    if early and same and read_tls(b, at, end, signs) == TLS_HELLO:
        return False
    if same and end - at == signs[SIGN_PAYLOAD_SIZE] and note["greets"] < SEGMENTS:
        row = hellos[which]
        ahead = (I(signs[SIGN_TCP_SEQUENCE]) - u32(row, BASE)) & 0xFFFFFFFF
        if ahead < ROOM:
            put_piece(row, ahead, b, at, end)
            if early:
                return False
            note["greets"] = I(note["greets"]) + 1
            return on_row(flow, note, context, hellos, meter, which, b, time, signs)
        if ahead > 0xFFFF0000 and early == 0:  # sent again, or a probe of the connection
            note["greets"] = I(note["greets"]) + 1
            return True
    drop_row(hellos, note)
    if early == 0:
        on_nameless_tls(flow, context, b, time, signs)
    return False


@kernel
def on_row(
    flow: Any,
    note: Any,
    context: Records,
    hellos: Octets,
    meter: Numbers,
    which: int,
    b: Octets,
    time: int,
    signs: Numbers,
) -> bool:
    """Judge a TLS flow by what its client's hello has said so far; returns whether it is one."""
    row = hellos[which]
    named = signs[SIGN_NAME_KIND] != 0  # by the segment itself
    place, length = signs[SIGN_NAME_AT], signs[SIGN_NAME_LENGTH]
    found = read_tls_row(row, signs)
    told = tell_name(row, signs)
    if named:
        signs[SIGN_NAME_AT], signs[SIGN_NAME_LENGTH] = place, length
        signs[SIGN_NAME_KIND] = NAME_SNI
    whole = 0 < u16(row, NEED) <= u16(row, FILLED)
    if found != TLS_HELLO or whole:
        drop_row(hellos, note)
    if found != TLS_HELLO:
        return False
    if told or (whole and row[NAMED] == 0):
        on_hello(flow, context, meter, b, time, signs)
    return True


@kernel
def on_hello(
    flow: Any, context: Records, meter: Numbers, b: Octets, time: int, signs: Numbers
) -> None:
    """Judge a TLS ClientHello by its server name, else by what DNS said of the address."""
    rule = text_rule(signs) if signs[SIGN_NAME_KIND] else I(0)
    if rule == 0:
        on_nameless_tls(flow, context, b, time, signs)
        return
    on_name(flow, rule, NAMED_TLS, time)
    if rule >> 8 == TEAMS:
        key = packet_key(b, signs[SIGN_SOURCE_AT], signs[SIGN_VERSION], CLIENT_HINT)
        learn(context, meter, key, TEAMS, MESSAGING, LEARN_DNS, time)


@kernel
def on_name(flow: Any, rule: int, how: int, time: int) -> None:
    """Judge a flow by the app and role of a host name; how: the number of its evidence."""
    app, role = rule >> 8, rule & 0xFF
    verdict = CERTAIN if role == SETUP else NOT_CALL
    conclude(flow, pack(app, how, verdict, role, 85), 0, time)


@kernel
def on_nameless_tls(flow: Any, context: Records, b: Octets, time: int, signs: Numbers) -> None:
    """Judge TLS without a server name: by DNS, else it is nobody's."""
    known = recall_both(context, b, 0, time, signs)
    if known >> 16 == SETUP:
        conclude(flow, pack(known & 0xFF, NAMED_DNS, CERTAIN, SETUP, 75), 0, time)
    elif known:
        conclude(flow, pack(known & 0xFF, NAMED_DNS, NOT_CALL, MESSAGING, 70), 0, time)
    else:
        conclude(flow, IS_TLS, 0, time)


@kernel
def on_host(flow: Any, b: Octets, time: int, signs: Numbers) -> None:
    """Judge plain HTTP by its Host field."""
    rule = I(0)
    if signs[SIGN_NAME_KIND]:
        rule = name_rule(b, signs[SIGN_NAME_AT], signs[SIGN_NAME_LENGTH], 0, signs)
    if rule:
        conclude(flow, pack(rule >> 8, NAMED_TLS, NOT_CALL, MESSAGING, 80), 0, time)
    else:
        conclude(flow, NOTHING_FOUND, 1, time)


@kernel
def on_framed(
    flow: Any,
    note: Any,
    context: Records,
    meter: Numbers,
    b: Octets,
    at: int,
    end: int,
    size: int,
    time: int,
    signs: Numbers,
) -> None:
    """Read STUN as it is, or STUN, RTP and RTCP behind the length words of RFC 4571."""
    if size >= 20 and read_stun(b, at, end, size, 0, signs):
        if u32(b, at + 4) == 0x2112A442:
            on_stun(flow, note, context, meter, b, size, time, signs)
            return
    for _ in range(16):
        if end - at < 14:
            return
        length = u16(b, at)
        if length < 8 or length + 2 > size:
            return
        at, size = at + 2, size - 2
        stop = min(end, at + length)
        if u8(b, at) < 2 and read_stun(b, at, stop, length, 1, signs):
            if u32(b, at + 4) == 0x2112A442:
                on_stun(flow, note, context, meter, b, length, time, signs)
        elif u8(b, at) >> 6 == 2:
            on_framed_media(flow, note, b, at, stop, length, time, signs)
        at, size = at + length, size - length


@kernel
def on_framed_media(
    flow: Any, note: Any, b: Octets, at: int, end: int, size: int, time: int, signs: Numbers
) -> None:
    """Read RTP or RTCP in an RFC 4571 frame."""
    source = read_rtcp(b, at, end, size)
    if source:
        on_rtcp(flow, note, b, at, source - 1, time)
    elif looks_like_rtp(b, at, end, size):
        track = track_rtp(note, b, at, end, time, signs)
        if track >= 0:
            run, kind = I(note["rtp_run"][track]), I(note["rtp_type"][track])
            if flow["verdict"] == CERTAIN:
                on_stream(flow, note, b, at, run, kind, False, time)
            elif run >= 5:
                conclude(flow, RTP_STREAM, kind, time)
