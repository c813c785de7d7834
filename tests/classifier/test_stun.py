# SPDX-License-Identifier: BSD-3-Clause
"""STUN: a message counts as a whole, in three dialects, alone or inside what relays wrap it in."""

from __future__ import annotations

import struct
from typing import NamedTuple

import pytest

from midcall.captures.wire import stun
from midcall.captures.wire.host import Host
from midcall.classifier.protocols.stun import (
    CLASSIC,
    ICE,
    INTEGRITY,
    LIBWEBRTC,
    META_ATTRIBUTE,
    MICROSOFT_ATTRIBUTE,
    NONE,
    OLD,
    REALM,
    STANDARD,
    TURN,
    USERNAME,
    ends_with,
    is_channel_data,
    is_microsoft_frame,
    read_stun,
)
from midcall.classifier.state.endpoint_table import endpoint_key, stun_key
from midcall.classifier.state.packet_fields import (
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
)
from tests.classifier.payloads import (
    HAND_MADE,
    HOST,
    HOST6,
    ICE_USER,
    ID,
    binding,
    classic_binding,
    ice_check,
    indication,
    mapped,
    microsoft_frame,
    realm,
    whatsapp_allocate,
)
from tests.classifier.wire import Wire, blank_signs, noise, octets


class Message(NamedTuple):
    """What reading found."""

    dialect: int
    kind: int
    traits: int
    count: int
    signs: dict[int, int]


def opened(payload: bytes, exact: int = 1, size: int | None = None) -> Message:
    """Return what reading a payload finds."""
    signs = blank_signs()
    wire = len(payload) if size is None else size
    dialect = int(read_stun(octets(payload), 0, len(payload), wire, exact, signs))
    kind, traits = int(signs[SIGN_STUN]) - 1, int(signs[SIGN_STUN_TRAITS])
    return Message(dialect, kind, traits, int(signs[SIGN_STUN_COUNT]), dict(enumerate(signs)))


@pytest.mark.parametrize(
    ("payload", "kind", "traits"),
    [
        (binding(), 0x0001, 0),
        (binding(mapped(), kind=0x0101), 0x0101, 0),
        (ice_check(), 0x0001, USERNAME | ICE | INTEGRITY),
        (binding((0xC057, bytes(4))), 0x0001, LIBWEBRTC),
        (binding((stun.USE_CANDIDATE, b"")), 0x0001, ICE),
        (realm(b"example.org"), 0x0113, REALM | TURN),
        (whatsapp_allocate(), 0x0003, META_ATTRIBUTE | TURN),
        (binding((0x4007, b"\0" * 4)), 0x0001, META_ATTRIBUTE),
        (binding((0x4008, b"\0" * 4)), 0x0001, 0),
        (binding((0x8070, bytes(4)), (0x8054, bytes(4))), 0x0001, MICROSOFT_ATTRIBUTE),
        (indication(b"data"), 0x0016, TURN),
        (indication(b"data", stun.DATA_INDICATION), 0x0017, TURN),
        (binding(kind=0x0801), 0x0801, 0),
    ],
)
def test_a_message_is_read_with_its_type_and_traits(payload: bytes, kind: int, traits: int) -> None:
    message = opened(payload)
    assert (message.dialect, message.kind, message.traits) == (STANDARD, kind, traits)


def test_attributes_are_counted_and_the_first_is_named() -> None:
    message = opened(ice_check())
    assert message.count == 4
    assert message.signs[SIGN_STUN_FIRST] == stun.USERNAME + 1


@pytest.mark.parametrize("host", [HOST, HOST6], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize(
    ("attribute", "slot"),
    [
        (stun.XOR_MAPPED, SIGN_STUN_MAPPED),
        (stun.XOR_PEER, SIGN_STUN_PEER),
        (stun.XOR_RELAYED, SIGN_STUN_RELAYED),
    ],
)
def test_an_address_comes_back_as_the_key_of_its_endpoint(
    host: Host, attribute: int, slot: int
) -> None:
    payload = binding(stun.xor_address(attribute, host, 50000, ID), kind=0x0101)
    message = opened(payload)
    lanes = [*struct.unpack(f">{len(host.packed) // 4}I", host.packed), 0, 0, 0][:4]
    key = stun_key(octets(payload), message.signs[slot], message.signs[SIGN_STUN_AT])
    assert key == endpoint_key(*lanes, 50000)


@pytest.mark.parametrize("value", [b"\0\2" + bytes(6), b"\0\1" + bytes(18), b"\0\3" + bytes(6)])
def test_an_address_whose_length_is_not_its_familys_is_no_address(value: bytes) -> None:
    assert opened(binding((stun.XOR_MAPPED, value))).signs[SIGN_STUN_MAPPED] == 0


def test_names_and_data_are_found_where_they_stand() -> None:
    payload = binding(ICE_USER, (stun.REALM, b"example.org"), (stun.DATA, b"inner packet"))
    signs = opened(payload).signs
    user, name = signs[SIGN_STUN_USER], signs[SIGN_STUN_REALM]
    assert payload[user : user + signs[SIGN_STUN_USER_LENGTH]] == b"abcd:efgh"
    assert payload[name : name + signs[SIGN_STUN_REALM_LENGTH]] == b"example.org"
    assert payload[signs[SIGN_STUN_DATA] : signs[SIGN_STUN_DATA_END]] == b"inner packet"


def unpadded(*attributes: tuple[int, bytes]) -> bytes:
    """Return a message whose attributes are not padded, as Microsoft and WhatsApp make them."""
    body = b"".join(struct.pack(">HH", kind, len(value)) + value for kind, value in attributes)
    return stun.header(1, len(body), ID) + body


def test_attributes_without_padding_are_read_too() -> None:
    message = opened(unpadded((0x0006, b"abc"), (0x8070, bytes(4)), (0x0008, bytes(20))))
    assert message.traits == USERNAME | MICROSOFT_ATTRIBUTE | INTEGRITY
    assert message.count == 3


def test_a_message_of_rfc_3489_has_no_cookie() -> None:
    assert opened(classic_binding())[:3] == (OLD, 1, CLASSIC)
    assert opened(classic_binding((3, bytes(4))))[:3] == (OLD, 1, CLASSIC)


NEAR_MISSES = {
    "shorter than a header": binding()[:19],
    "its length is too small by four": b"\0\1\0\0" + binding(ICE_USER)[4:],
    "its length is too large": b"\0\1\x01\0" + binding()[4:],
    "octets behind it": binding() + bytes(4),
    "first bits set": b"\x40\1" + binding()[2:],
    "no cookie and an unknown type": b"\0\5" + classic_binding()[2:],
    "no cookie and attributes that do not tile": b"\0\1\0\x08"
    + noise(16, 5)
    + b"\0\3\0\3"
    + bytes(4),
    "no cookie and an empty answer": b"\x01\1" + classic_binding()[2:],
    "no cookie and a transaction of zeros": b"\0\1\0\0" + bytes(16),
    "no cookie and an unknown attribute": classic_binding((0x4000, bytes(4))),
    "random octets": noise(40),
    "RTP": HAND_MADE["rtp"],
}


@pytest.mark.parametrize("name", NEAR_MISSES)
def test_a_near_miss_is_no_stun_and_leaves_no_trace(name: str) -> None:
    payload = NEAR_MISSES[name]
    message = opened(payload)
    assert (message.dialect, message.kind) == (NONE, -1)
    assert message.signs[SIGN_STUN_FIRST] == message.signs[SIGN_STUN_TRAITS] == 0


def test_over_tcp_more_may_follow_the_message() -> None:
    assert opened(ice_check() + bytes(40), exact=0).dialect == STANDARD
    assert opened(ice_check()[:60], exact=0).dialect == NONE


def test_a_message_cut_by_the_snaplen_is_read_as_far_as_it_goes() -> None:
    whole = ice_check()
    message = opened(whole[:40], size=len(whole))
    assert (message.dialect, message.traits) == (STANDARD, USERNAME | ICE)  # its type is there


def test_reading_forgets_the_message_before() -> None:
    signs = blank_signs()
    first, second = octets(realm(b"turner.facebook")), octets(binding())
    read_stun(first, 0, len(first), len(first), 1, signs)
    read_stun(second, 0, len(second), len(second), 1, signs)
    assert signs[SIGN_STUN_REALM] == signs[SIGN_STUN_TRAITS] == signs[SIGN_STUN_FIRST] == 0


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (stun.channel_data(0x4000, bytes(20)), True),
        (stun.channel_data(0x4FFF, bytes(21)) + bytes(3), True),
        (stun.channel_data(0x3FFF, bytes(20)), False),
        (stun.channel_data(0x5000, bytes(20)), False),
        (stun.channel_data(0x4000, bytes(20)) + bytes(4), False),
        (stun.channel_data(0x4000, bytes(20))[:-1], False),
        (stun.channel_data(0x4000, b"")[:4], False),
    ],
)
def test_channel_data_fills_its_payload(payload: bytes, expected: bool) -> None:
    assert is_channel_data(octets(payload), 0, len(payload), len(payload)) is expected


def test_a_microsoft_frame_is_known_by_its_length() -> None:
    frame = microsoft_frame(ice_check())
    assert is_microsoft_frame(octets(frame), 0, len(frame), len(frame))
    longer = frame + bytes(3)
    assert not is_microsoft_frame(octets(longer), 0, len(longer), len(longer))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (b"turner.facebook", True),
        (b"eu.Turner.FACEBOOK", True),
        (b"facebook", False),
        (b"turner.facebook.org", False),
        (b"", False),
    ],
)
def test_a_realm_is_compared_from_its_end_whatever_its_case(name: bytes, expected: bool) -> None:
    assert ends_with(octets(name + b"#"), 0, len(name), octets(b"turner.facebook")) is expected


NESTED = {
    "send indication": indication(ice_check()),
    "channel data": stun.channel_data(0x4001, ice_check()),
    "microsoft frame": microsoft_frame(ice_check()),
    "indication in channel data": stun.channel_data(0x4001, indication(ice_check())),
}


@pytest.mark.parametrize("name", NESTED)
def test_what_a_relay_wraps_is_read(name: str) -> None:
    verdict = Wire().udp(NESTED[name], ports=(40000, 3478)).verdicts()[0]
    assert verdict.verdict == "certain"
    assert verdict.app == "rtc"
    assert verdict.role == "setup"


def test_whatsapps_message_inside_another_relay_is_whatsapps() -> None:
    nested = indication(indication(whatsapp_allocate()))
    assert Wire().udp(nested).verdicts()[0].app == "whatsapp"


def test_nesting_of_relays_is_bounded() -> None:
    deep = whatsapp_allocate()
    for _ in range(5):
        deep = indication(deep)
    assert Wire().udp(deep).verdicts()[0].app == "rtc"
