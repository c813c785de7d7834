# SPDX-License-Identifier: BSD-3-Clause
"""No reader looks past its packet: cut and changed packets read alike whatever lies around them.

Neither compiled code nor bounds checks see a read past the packet inside a larger buffer, so every
packet is read four times: alone in an array of its size, and between fillings that differ. In plain
Python (test_plain runs this file so) a read past the array is an IndexError too.
"""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midcall.captures.jit.code_folders import PLAIN
from midcall.captures.jit.reads import Octets
from midcall.captures.packets.pcap import Packets
from midcall.captures.wire import tls
from midcall.captures.wire.seeded import SeededRandom
from midcall.classifier.apps.agora import agora_message
from midcall.classifier.apps.discord import discord_message
from midcall.classifier.apps.facetime import facetime_message
from midcall.classifier.apps.gamevoice import gamevoice_message
from midcall.classifier.apps.imo import imo_message
from midcall.classifier.apps.line import line_message
from midcall.classifier.apps.meet import meet_stun
from midcall.classifier.apps.messenger import messenger_tcp
from midcall.classifier.apps.realms import cut_realm_app, realm_app
from midcall.classifier.apps.signal import signal_rtcp
from midcall.classifier.apps.skype import classic_skype
from midcall.classifier.apps.snapchat import repeats_id
from midcall.classifier.apps.teams import teams_message
from midcall.classifier.apps.telegram import telegram_message
from midcall.classifier.apps.telephony import telephony_tcp, telephony_udp
from midcall.classifier.apps.viber import viber_message, viber_tcp
from midcall.classifier.apps.webex import webex_message
from midcall.classifier.apps.wechat import wechat_message
from midcall.classifier.apps.whatsapp import whatsapp_probe, whatsapp_tcp
from midcall.classifier.apps.zoom import zoom_message, zoom_stun
from midcall.classifier.engine import Engine, step
from midcall.classifier.path.decode import FRAGMENTS, decode
from midcall.classifier.path.tcp import are_channels
from midcall.classifier.path.udp import carries
from midcall.classifier.protocols.certificate import (
    certificate_rule,
    dtls_certificate,
    ends_plain,
    is_server_hello,
)
from midcall.classifier.protocols.dns import read_dns
from midcall.classifier.protocols.dtls import read_dtls, read_greeting
from midcall.classifier.protocols.gquic import read_chlo
from midcall.classifier.protocols.h323 import learn_channels
from midcall.classifier.protocols.http import read_http
from midcall.classifier.protocols.quic import initial_at, is_quic, make_keys, open_initial
from midcall.classifier.protocols.quic import read_row as read_quic_row
from midcall.classifier.protocols.rtp import fills, looks_like_rtp, read_rtcp, track_rtp
from midcall.classifier.protocols.rtsp import is_rtsp, learn_transport
from midcall.classifier.protocols.sdp import learn_sdp, learn_types
from midcall.classifier.protocols.stun import is_channel_data, is_microsoft_frame, read_stun
from midcall.classifier.protocols.tls import hello_size, may_begin, read_tls
from midcall.classifier.state.endpoint_table import CONTEXT, LEARN_ALL, stun_key
from midcall.classifier.state.flow_table import METER_LEARN, METERS
from midcall.classifier.state.hello_buffers import ROW
from midcall.classifier.state.hostnames import name_rule
from midcall.classifier.state.packet_fields import (
    SIGN_IP_AT,
    SIGN_IP_END,
    SIGN_NAME_AT,
    SIGN_NAME_LENGTH,
    SIGN_PAYLOAD_AT,
    SIGN_PAYLOAD_END,
    SIGN_RTP_AT,
    SIGN_SOURCE_AT,
    SIGN_STUN,
    SIGN_STUN_AT,
    SIGN_STUN_DATA,
    SIGN_STUN_DATA_END,
    SIGN_STUN_END,
    SIGN_STUN_MAPPED,
    SIGN_STUN_PEER,
    SIGN_STUN_REALM,
    SIGN_STUN_REALM_LENGTH,
    SIGN_STUN_RELAYED,
    SIGN_STUN_USER,
    SIGN_STUN_USER_LENGTH,
    SIGN_TARGET_AT,
    SIGN_VERSION,
)
from tests.classifier.payloads import HAND_MADE
from tests.classifier.wire import (
    EPOCH,
    MS,
    ROOT,
    SAMPLES,
    Wire,
    blank_note,
    blank_signs,
    octets,
    sample,
)

EXAMPLES = 60 if PLAIN else 400
thorough = settings(max_examples=EXAMPLES, deadline=None, derandomize=True, database=None)

#: Slots of `signs` that hold a place in the buffer.
PLACES = (
    SIGN_IP_AT,
    SIGN_IP_END,
    SIGN_NAME_AT,
    SIGN_PAYLOAD_AT,
    SIGN_PAYLOAD_END,
    SIGN_RTP_AT,
    SIGN_SOURCE_AT,
    SIGN_TARGET_AT,
    SIGN_STUN_AT,
    SIGN_STUN_END,
    SIGN_STUN_DATA,
    SIGN_STUN_DATA_END,
    SIGN_STUN_MAPPED,
    SIGN_STUN_PEER,
    SIGN_STUN_REALM,
    SIGN_STUN_RELAYED,
    SIGN_STUN_USER,
)

#: (octets before, octets behind) the packet.
MARGIN = 96
FILLINGS = (
    (b"", b""),
    (bytes(MARGIN), b""),
    (bytes(MARGIN), bytes(MARGIN)),
    (b"\xff" * MARGIN, b"\xff" * MARGIN),
    (b"\x01\x40" * (MARGIN // 2), b"\x02\x08\x00\x14" * (MARGIN // 4)),
)


class Place(NamedTuple):
    """A payload in a buffer: b[at:end], `size` octets on the wire."""

    b: Octets
    at: int
    end: int
    size: int


def places(payload: bytes, size: int, rest: bytes) -> list[Place]:
    """Return a payload alone, between fillings, and before the rest that was cut from it."""
    out = []
    for before, behind in (*FILLINGS, (b"", rest + bytes(MARGIN))):
        at = len(before)
        out.append(Place(octets(before + payload + behind), at, at + len(payload), size))
    return out


def seen(signs: np.ndarray, at: int) -> tuple[int, ...]:
    """Return signs with places counted from the packet's start."""
    plain = signs.copy()
    for slot in PLACES:
        if plain[slot]:
            plain[slot] -= at
    return tuple(plain.tolist())


def learning() -> tuple[np.ndarray, np.ndarray]:
    """Return an empty context and a meter that lets everything be learned."""
    meter = np.zeros(METERS, np.int64)
    meter[METER_LEARN] = LEARN_ALL
    return np.zeros(64, CONTEXT), meter


# ---- one function per reader: what it returns, and all that it leaves behind


def stun(p: Place, exact: int) -> object:
    signs = blank_signs()
    kind = read_stun(p.b, p.at, p.end, p.size, exact, signs)
    more: list[int] = []
    if signs[SIGN_STUN]:
        header = int(signs[SIGN_STUN_AT])
        for slot in (SIGN_STUN_MAPPED, SIGN_STUN_PEER, SIGN_STUN_RELAYED):
            more.append(int(stun_key(p.b, int(signs[slot]), header)))
    if signs[SIGN_STUN_REALM]:
        at, length = int(signs[SIGN_STUN_REALM]), int(signs[SIGN_STUN_REALM_LENGTH])
        if p.end - at >= length:
            more.append(int(realm_app(p.b, at, length)))
        else:
            more.append(int(cut_realm_app(p.b, at, length, p.end, True)))
    if signs[SIGN_STUN_USER]:
        at, length = int(signs[SIGN_STUN_USER]), int(signs[SIGN_STUN_USER_LENGTH])
        more.append(int(zoom_stun(p.b, at, length, p.end)))
        more.append(int(meet_stun(p.b, 0x0101, 6, 0, at, length, p.end)))
    return int(kind), seen(signs, p.at), more


def rtp(p: Place) -> object:
    if not looks_like_rtp(p.b, p.at, p.end, p.size):
        return False
    signs, note = blank_signs(), blank_note()
    tracks = [int(track_rtp(note, p.b, p.at, p.end, EPOCH + i, signs)) for i in range(2)]
    return tracks, seen(signs, p.at), note.tobytes()


def named(p: Place, reader: Callable[..., Any], wire: int, *rest: Any) -> object:
    signs = blank_signs()
    found = int(reader(p.b, p.at, p.end, *rest, signs))
    rule = name_rule(p.b, int(signs[SIGN_NAME_AT]), int(signs[SIGN_NAME_LENGTH]), wire, signs)
    return found, int(rule), seen(signs, p.at)


def dns(p: Place) -> object:
    context, meter = learning()
    return named(p, read_dns, 1, EPOCH, context, meter), context.tobytes(), meter.tobytes()


def sdp(p: Place) -> object:
    context, meter = learning()
    learn_sdp(p.b, p.at, p.end, 1, EPOCH, context, meter)
    return context.tobytes()


def types(p: Place) -> object:
    context, meter = learning()
    learn_types(p.b, p.at, p.end, p.at, 4, EPOCH, context, meter)
    return [int(entry["app"]) for entry in context] if p.end - p.at >= 4 else []


def h245(p: Place) -> object:
    context, meter = learning()
    signs = blank_signs()
    signs[SIGN_SOURCE_AT], signs[SIGN_VERSION] = p.at, 4
    if p.end - p.at >= 4:
        learn_channels(p.b, p.at, p.end, EPOCH, context, meter, signs)
    return context.tobytes()


def rtsp(p: Place) -> object:
    context, meter = learning()
    signs = blank_signs()
    signs[SIGN_SOURCE_AT] = signs[SIGN_TARGET_AT] = p.at
    signs[SIGN_VERSION] = 4
    if not is_rtsp(p.b, p.at, p.end):
        return False
    learn_transport(p.b, p.at, p.end, EPOCH, context, meter, signs)
    return context.tobytes()


def quic(p: Place) -> object:
    """What a QUIC payload is, and what its Initial says when it is opened."""
    salt, number, stop = initial_at(p.b, p.at, p.end)
    if salt < 0:
        return bool(is_quic(p.b, p.at, p.end))
    signs, pool = blank_signs(), np.zeros((2, ROW), np.uint8)
    make_keys(p.b, p.at + 6, int(p.b[p.at + 5]), salt, signs)
    found = open_initial(p.b, p.at, p.end, salt, number, stop, pool[1], pool[0], signs)
    read_quic_row(pool[1], signs)
    signs[SIGN_NAME_AT] = 0
    return int(salt), number - p.at, stop - p.at, bool(found), pool.tobytes(), tuple(signs.tolist())


def dtls(p: Place) -> object:
    """What a DTLS record is, and the hello that its fragments make."""
    signs, note, (_, meter) = blank_signs(), blank_note(), learning()
    pool = np.zeros((4, ROW), np.uint8)
    found = bool(read_greeting(note, pool, meter, p.b, p.at, p.end, signs))
    place = () if note["hello"] else seen(signs, p.at)
    return int(read_dtls(*p)), found, pool.tobytes(), note.tobytes(), place


def with_note(p: Place, reader: Callable[..., Any], *rest: Any) -> object:
    note = blank_note()
    note["word"], note["candidate"] = 0x11234, 2  # a classic Skype request is waited for
    found = [int(reader(note, p.b, p.at, p.end, *rest)) for _ in range(2)]
    return found, note.tobytes()


def framed(p: Place) -> object:
    relayed = bool(is_channel_data(*p)), bool(carries(*p)), bool(are_channels(*p))
    return relayed, bool(is_microsoft_frame(*p))


READERS: dict[str, Callable[[Place], object]] = {
    "stun over udp": lambda p: stun(p, 1),
    "stun over tcp": lambda p: stun(p, 0),
    "turn frames": framed,
    "rtp": rtp,
    "rtcp": lambda p: (int(read_rtcp(*p)), int(whatsapp_probe(p.b, p.at, p.end))),
    "dtls": dtls,
    "tls": lambda p: (named(p, read_tls, 0), int(hello_size(p.b, p.at, p.end))),
    "tls, its first octets": lambda p: bool(may_begin(p.b, p.at, p.end)),
    "http": lambda p: named(p, read_http, 0),
    "dns": dns,
    "quic": quic,
    "sdp": sdp,
    "telephony over udp": lambda p: [
        int(telephony_udp(*p, port, port)) for port in (5060, 1719, 2427, 4569)
    ],
    "telephony over tcp": lambda p: [
        with_note(p, telephony_tcp, p.size, port) for port in (5060, 2000, 1720)
    ],
    "discord": lambda p: int(discord_message(*p)),
    "facetime": lambda p: with_note(p, facetime_message, p.size, 1),
    "line": lambda p: with_note(p, line_message, p.size, 1),
    "messenger": lambda p: int(messenger_tcp(p.b, p.at, p.end, True)),
    "skype": lambda p: with_note(p, classic_skype, 0, 1000, True),
    "teams": lambda p: int(teams_message(*p)),
    "telegram": lambda p: with_note(p, telegram_message, p.size, 1),
    "viber": lambda p: with_note(p, viber_message, p.size),
    "viber over tcp": lambda p: int(viber_tcp(*p, 4244)),
    "whatsapp": lambda p: int(whatsapp_tcp(p.b, p.at, p.end, True)),
    "agora": lambda p: int(agora_message(*p)),
    "imo": lambda p: with_note(p, imo_message, p.size),
    "webex": lambda p: with_note(p, webex_message, p.size, 1, 40000, 9000),
    "wechat": lambda p: with_note(p, wechat_message, p.size, 1),
    "game voice": lambda p: with_note(p, gamevoice_message, p.size),
    "snapchat": lambda p: with_note(p, repeats_id),
    "certificates": lambda p: [
        (int(reader(p.b, p.at, p.end, signs)), tuple(signs.tolist()))
        for reader in (certificate_rule, dtls_certificate)
        for signs in (blank_signs(),)
    ],
    "tls servers": lambda p: [
        bool(reader(p.b, p.at, p.end)) for reader in (ends_plain, is_server_hello)
    ],
    "gquic": lambda p: named(p, read_chlo, 0),
    "signal's reports": lambda p: int(signal_rtcp(p.b, p.at, p.end, p.size, 1003)),
    "sdp, its types": types,
    "rtsp": rtsp,
    "h.245": h245,
    "rtcp that fills": lambda p: p.end - p.at >= 8 and bool(fills(*p)),
    "zoom": lambda p: with_note(p, zoom_message, p.size, 8801, 1),
}


def frame(p: Place, link: int) -> object:
    signs = blank_signs()
    fragments = np.zeros((FRAGMENTS, 2), np.int64)
    outcome = int(decode(p.b, p.at, p.end, p.size, link, signs, fragments))
    return outcome, seen(signs, p.at) if outcome == 0 else (), fragments.tobytes()


# ---- what is cut and changed


def pieces() -> Packets:
    """Return hellos that pass in pieces: TLS segments out of order, QUIC, DTLS fragments."""
    wire, hello = Wire(), tls.client_hello(SeededRandom("midcall", "pieces"), "web.whatsapp.com")
    for port, order in ((40000, (0, 1, 2)), (40001, (1, 0, 2)), (40002, (2, 0, 0, 1))):
        wire.tcp(b"", ports=(port, 443), flags=2, sequence=99)
        for which in order:
            part = slice((0, 4, 150)[which], (4, 150, None)[which])
            wire.tcp(hello[part], ports=(port, 443), sequence=100 + (part.start or 0))
    for title in ("quic initial", "quic initials, version 2"):
        wire.udp(HAND_MADE[title], ports=(50000 + len(title), 443))
    for title in ("dtls fragment", "dtls later fragments", "dtls fragment"):
        wire.udp(HAND_MADE[title], ports=(50001, 7000))
    return wire.packets


@functools.cache
def everything() -> tuple[Packets, ...]:
    """Return all samples, and hellos in pieces."""
    names = sorted(path.stem for path in SAMPLES.glob("*.pcap*"))
    return (pieces(), *(sample(name) for name in names))


@functools.cache
def frames() -> tuple[tuple[bytes, int], ...]:
    """Return (frame, link type) of the samples: one of each beginning and size."""
    found: dict[tuple[int, int, bytes], tuple[bytes, int]] = {}
    for packets in everything():
        for i in range(packets.total):
            frame, link = packets.frame(i), int(packets.link[i])
            found.setdefault((link, len(frame) // 64, frame[12:48:6]), (frame, link))
    return tuple(found.values())


@functools.cache
def payloads() -> tuple[bytes, ...]:
    """Return payloads of every kind: of the samples, and made by hand."""
    found: dict[tuple[int, bytes], bytes] = {}
    signs = blank_signs()
    memory = np.zeros((FRAGMENTS, 2), np.int64)
    for frame, link in frames():
        if decode(octets(frame), 0, len(frame), len(frame), link, signs, memory) == 0:
            payload = frame[signs[SIGN_PAYLOAD_AT] : signs[SIGN_PAYLOAD_END]]
            if payload:
                found.setdefault((len(payload) // 32, payload[:2]), payload)
    return (*HAND_MADE.values(), *found.values())


Change = tuple[float, int]


def damaged(packet: bytes, keep: float, changes: list[Change]) -> bytes:
    """Return a packet cut to a share of its octets, some of them changed."""
    out = bytearray(packet[: max(1, round(len(packet) * keep))])
    for where, octet in changes:
        # Most of what readers look at stands in the first 64 octets.
        room = min(len(out), 64) if octet & 1 else len(out)
        out[min(int(where * room), len(out) - 1)] = octet
    return bytes(out)


share = st.one_of(st.just(1.0), st.floats(0, 1))
changes = st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), max_size=3)


@pytest.mark.longest
@pytest.mark.parametrize("name", READERS)
def test_no_reader_looks_past_the_end_of_any_cut(name: str) -> None:
    """Every cut of every hand-made message, which Hypothesis need not find."""
    reader = READERS[name]
    for title, payload in HAND_MADE.items():
        for end in range(1, len(payload) + 1, 1 if len(payload) < 200 else 7):
            for size in {end, len(payload)}:
                results = [reader(place) for place in places(payload[:end], size, payload[end:])]
                assert all(result == results[0] for result in results), (title, end, size)


@pytest.mark.parametrize("name", READERS)
@thorough
@given(data=st.data())
def test_a_reader_is_deaf_to_what_lies_around_a_damaged_packet(name: str, data: Any) -> None:
    payload = data.draw(st.sampled_from(payloads()), "payload")
    cut = damaged(payload, data.draw(share, "kept"), data.draw(changes, "changed"))
    size = data.draw(st.sampled_from((len(cut), len(payload))), "on the wire")
    results = [READERS[name](place) for place in places(cut, size, payload[len(cut) :])]
    assert all(result == results[0] for result in results)


@thorough
@given(which=st.integers(0, 1 << 16), keep=share, changed=changes)
def test_decoding_is_deaf_to_what_lies_around_a_damaged_frame(
    which: int, keep: float, changed: list[Change]
) -> None:
    whole, link = frames()[which % len(frames())]
    cut = damaged(whole, keep, changed)
    results = [frame(place, link) for place in places(cut, len(whole), whole[len(cut) :])]
    assert all(result == results[0] for result in results)


def walk(rows: list[tuple[bytes, int, int, int]], filling: tuple[bytes, bytes]) -> object:
    """Return all that an engine knows after (frame, wire, time, link) rows, one array each."""
    engine, (before, behind) = Engine(), filling
    engine.reserve(len(rows))
    steps = []
    for record, (row, wire, time, link) in enumerate(rows):
        at = len(before)
        b = octets(before + row + behind)
        number = step(engine.tables, b, at, at + len(row), wire, time, link, record, engine.signs)
        steps.append(int(number))
    tables = engine.tables
    return (
        steps,
        engine.flows().tobytes(),
        tables.context.tobytes(),
        tables.meter.tobytes(),
        tables.hellos.tobytes(),
        tables.fragments.tobytes(),
    )


@pytest.mark.slow
def test_hellos_in_pieces_are_read_alike_whatever_lies_around_them() -> None:
    packets = pieces()
    rows = [(packets.frame(i), len(packets.frame(i)), EPOCH + i, 1) for i in range(packets.total)]
    results = [walk(rows, filling) for filling in FILLINGS]
    assert all(result == results[0] for result in results)


@pytest.mark.slow
@settings(thorough, max_examples=EXAMPLES)
@given(data=st.data())
def test_the_whole_path_is_deaf_to_what_lies_around_damaged_packets(data: Any) -> None:
    packets = data.draw(st.sampled_from(range(len(everything()))).map(lambda i: everything()[i]))
    first = data.draw(st.integers(0, max(0, packets.total - 8)), "first")
    rows = []
    for i in range(first, min(first + 24, packets.total)):
        whole = packets.frame(i)
        keep, changed = data.draw(share, "kept"), data.draw(changes, "changed")
        row = damaged(whole, keep, changed)
        cut = data.draw(st.booleans(), "cut by a snaplen")
        time = EPOCH + i * 20 * MS
        rows.append((row, len(whole) if cut else len(row), time, int(packets.link[i])))
    results = [walk(rows, filling) for filling in FILLINGS]
    assert all(result == results[0] for result in results)


@pytest.mark.longest
@pytest.mark.skipif(PLAIN, reason="this is the run in plain Python")
def test_plain_python_reads_no_octet_past_an_array_either() -> None:
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert " passed" in done.stdout
