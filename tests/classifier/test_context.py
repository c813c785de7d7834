# SPDX-License-Identifier: BSD-3-Clause
"""Context: later flows get their name from set-up, each source can be off, and evidence says so."""

from __future__ import annotations

import socket

import numpy as np
import pytest

from midcall.captures.wire import dns, stun
from midcall.captures.wire.host import Host, server
from midcall.classifier.state.endpoint_table import (
    CONTEXT,
    LEARN_ALL,
    LEARN_DNS,
    LEARN_SDP,
    LEARN_SOCKET,
    LEARN_STUN,
    LIFETIME,
    SHARED_PORTS,
    WAYS,
    endpoint_key,
    is_shared_port,
    learn,
    recall,
)
from midcall.classifier.state.flow_table import METER_CONTEXT_LOST, METER_LEARN, METERS
from midcall.classifier.state.verdicts import SETUP, SIP, VIBER, WHATSAPP
from tests.classifier.payloads import HAND_MADE, ID, ice_check, invite, whatsapp_allocate
from tests.classifier.wire import EPOCH, FAR, MS, NEAR, FlowVerdict, Wire, noise, rtp

SECOND = 1000 * MS
RELAY, PEER, PROXY, RESOLVER = server(1), server(2), server(3), Host("192.0.2.53")


def remembered(learn_bits: int = LEARN_ALL, size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Return an empty context and its meter."""
    meter = np.zeros(METERS, np.int64)
    meter[METER_LEARN] = learn_bits
    return np.zeros(size, CONTEXT), meter


def known(packed: int) -> tuple[int, int, int]:
    """Return (role, source, app) of what was recalled."""
    return packed >> 16, (packed >> 8) & 0xFF, packed & 0xFF


# ---- the table


def test_what_was_learned_is_recalled() -> None:
    context, meter = remembered()
    learn(context, meter, 77, WHATSAPP, SETUP, LEARN_STUN, EPOCH)
    assert known(recall(context, 77, EPOCH)) == (SETUP, LEARN_STUN, WHATSAPP)
    assert recall(context, 79, EPOCH) == 0


def test_what_is_learned_again_replaces_what_was_known() -> None:
    context, meter = remembered()
    learn(context, meter, 77, WHATSAPP, SETUP, LEARN_STUN, EPOCH)
    learn(context, meter, 77, VIBER, SETUP, LEARN_SDP, EPOCH + 1)
    assert known(recall(context, 77, EPOCH)) == (SETUP, LEARN_SDP, VIBER)
    assert np.count_nonzero(context["key"]) == 1


def test_what_is_old_is_not_believed() -> None:
    context, meter = remembered()
    learn(context, meter, 77, WHATSAPP, SETUP, LEARN_STUN, EPOCH)
    assert recall(context, 77, EPOCH + LIFETIME) != 0
    assert recall(context, 77, EPOCH + LIFETIME + 1) == 0


def test_what_is_learned_again_is_young_again() -> None:
    context, meter = remembered()
    for time in (EPOCH, EPOCH + LIFETIME):
        learn(context, meter, 77, WHATSAPP, SETUP, LEARN_STUN, time)
    assert recall(context, 77, EPOCH + 2 * LIFETIME) != 0


@pytest.mark.parametrize("source", [LEARN_STUN, LEARN_SOCKET, LEARN_SDP, LEARN_DNS])
def test_a_source_that_is_off_teaches_nothing(source: int) -> None:
    context, meter = remembered(LEARN_ALL & ~source)
    learn(context, meter, 77, WHATSAPP, SETUP, source, EPOCH)
    assert not context["key"].any()


def test_a_full_neighbourhood_loses_its_stalest_entry_and_counts_it() -> None:
    context, meter = remembered()
    same_home = [1 + (number << 32) for number in range(WAYS + 1)]
    for number, key in enumerate(same_home):
        learn(context, meter, key, WHATSAPP, SETUP, LEARN_STUN, EPOCH + number)
    assert recall(context, same_home[0], EPOCH) == 0
    assert all(recall(context, key, EPOCH) for key in same_home[1:])
    assert meter[METER_CONTEXT_LOST] == 1


def test_an_entry_that_was_stale_anyway_is_not_counted_as_lost() -> None:
    context, meter = remembered()
    for number in range(WAYS):
        learn(context, meter, 1 + (number << 32), WHATSAPP, SETUP, LEARN_STUN, EPOCH + number)
    learn(context, meter, 1 + (99 << 32), WHATSAPP, SETUP, LEARN_STUN, EPOCH + 2 * LIFETIME)
    assert meter[METER_CONTEXT_LOST] == 0


def test_keys_tell_endpoints_apart_and_are_never_zero() -> None:
    dice = np.random.default_rng(1)
    endpoints = {tuple(dice.integers(0, 1 << 32, 4).tolist()) for _ in range(3000)}
    keys = {endpoint_key(*lanes, port) for lanes in endpoints for port in (0, 1, 50000)}
    assert len(keys) == 3 * len(endpoints)
    assert min(keys) > 0
    assert endpoint_key(0, 0, 0, 0, 0) != 0


def test_ports_of_servers_of_many_apps_name_nobody() -> None:
    assert all(is_shared_port(port) for port in (*SHARED_PORTS, 1, 500, 1023))
    assert not any(is_shared_port(port) for port in (1024, 40000, 7985, 65535))


# ---- what flows get from it


def media(passing: Wire, ports: tuple[int, int], far: Host, kind: int = 96) -> Wire:
    """Let a stream of RTP pass that no octet gives a name."""
    for i in range(8):
        passing.udp(rtp(kind, i, i * 160), ports=ports, hosts=(NEAR, far.address))
    return passing


def hole_punched() -> Wire:
    """Return WhatsApp's set-up, whose relay names the peer, and a stream to that peer."""
    asked = whatsapp_allocate()
    peer = stun.xor_address(stun.XOR_PEER, PEER, 51000, ID)
    reply = stun.message(0x0103, ID, [(0x4002, bytes(8)), peer])
    hosts = (NEAR, RELAY.address)
    passing = Wire().udp(asked, ports=(40000, 3478), hosts=hosts)
    passing.udp(reply, up=False, ports=(40000, 3478), hosts=hosts)
    return media(passing, (41000, 51000), PEER)


def same_socket() -> Wire:
    """Return WhatsApp's set-up, and a stream of the same socket to somebody else."""
    hosts = (NEAR, RELAY.address)
    passing = Wire().udp(whatsapp_allocate(), ports=(40000, 3478), hosts=hosts)
    return media(passing, (40000, 52000), PEER)


def announced() -> Wire:
    """Return an INVITE whose session description names a port, and a stream to it."""
    passing = Wire().udp(
        invite(PEER.address, 40500), ports=(5060, 5060), hosts=(NEAR, PROXY.address)
    )
    return media(passing, (41000, 40500), PEER, 0)


def resolved() -> Wire:
    """Return the DNS answer for a name of Viber, and a stream to that address."""
    answer = dns.answer(7, "media.viber.com", PEER)
    hosts = (NEAR, RESOLVER.address)
    passing = Wire().udp(answer, up=False, ports=(42000, 53), hosts=hosts)
    return media(passing, (41000, 53000), PEER)


NAMED = {
    "hole punch": (
        hole_punched,
        LEARN_STUN,
        FlowVerdict(
            "certain", "whatsapp", "media", "address learned from STUN of this app's call, packet 1"
        ),
    ),
    "socket": (
        same_socket,
        LEARN_SOCKET,
        FlowVerdict(
            "certain", "whatsapp", "media", "same socket as a flow of this app's call, packet 1"
        ),
    ),
    "session description": (
        announced,
        LEARN_SDP,
        FlowVerdict("certain", "sip", "media", "address announced by SDP or H.245, packet 1"),
    ),
    "DNS": (
        resolved,
        LEARN_DNS,
        FlowVerdict(
            "certain", "viber", "media", "address that DNS gave for a name of this app, packet 4"
        ),
    ),
}
NAMELESS = FlowVerdict("certain", "rtc", "media", "")


@pytest.mark.parametrize("name", NAMED)
def test_a_stream_gets_its_name_from_set_up_and_says_how(name: str) -> None:
    play, _, expected = NAMED[name]
    assert play().verdicts()[-1] == expected


@pytest.mark.parametrize("name", NAMED)
def test_a_source_that_is_switched_off_names_nothing(name: str) -> None:
    play, source, _ = NAMED[name]
    verdict = play().verdicts(learn=LEARN_ALL & ~source)[-1]
    assert verdict[:3] == NAMELESS[:3]
    assert verdict.evidence.startswith("RTP stream")


@pytest.mark.parametrize("name", NAMED)
def test_one_source_alone_is_enough(name: str) -> None:
    play, source, expected = NAMED[name]
    assert play().verdicts(learn=source)[-1] == expected


def test_nothing_is_learned_with_all_sources_off() -> None:
    for play, _, _ in NAMED.values():
        assert play().verdicts(learn=0)[-1].app == "rtc"


def test_ten_minutes_later_an_endpoint_is_anybodys() -> None:
    hosts = (NEAR, RELAY.address)
    passing = Wire().udp(whatsapp_allocate(), ports=(40000, 3478), hosts=hosts)
    passing.wait(LIFETIME / MS + 1)
    assert media(passing, (40000, 52000), PEER).verdicts()[-1].app == "rtc"


def test_a_relays_shared_port_names_no_other_flow() -> None:
    hosts = (NEAR, RELAY.address)
    passing = Wire().udp(whatsapp_allocate(), ports=(40000, 3478), hosts=hosts)
    other = ("198.18.0.99", RELAY.address)
    for i in range(8):
        passing.udp(rtp(96, i, i * 160), ports=(47000, 3478), hosts=other)
    assert passing.verdicts()[-1].app == "rtc"


def test_a_chat_teaches_no_endpoint() -> None:
    passing = Wire().tcp(b"WA\1\5" + noise(40), ports=(40000, 5222), hosts=(NEAR, PEER.address))
    assert media(passing, (40000, 52000), PEER).verdicts()[-1].app == "rtc"


def test_a_name_from_dns_makes_no_call_of_other_traffic() -> None:
    passing = Wire().udp(
        dns.answer(7, "media.viber.com", PEER),
        up=False,
        ports=(42000, 53),
        hosts=(NEAR, RESOLVER.address),
    )
    for i in range(20):
        passing.udp(noise(60, i), ports=(41000, 53000), hosts=(NEAR, PEER.address))
    assert passing.verdicts()[-1].verdict == "not-call"


def test_an_announced_port_without_rtp_is_set_up_and_its_neighbour_is_control() -> None:
    from tests.classifier.payloads import rtcp

    hosts = (NEAR, PROXY.address)
    passing = Wire().udp(invite(PEER.address, 40500), ports=(5060, 5060), hosts=hosts)
    media(passing, (41000, 40500), PEER, 0)
    for _ in range(3):
        passing.wait(1000).udp(rtcp(200), ports=(41001, 40501), hosts=(NEAR, PEER.address))
    assert [verdict[:3] for verdict in passing.verdicts()] == [
        ("certain", "sip", "setup"),
        ("certain", "sip", "media"),
        ("certain", "sip", "control"),
    ]


def test_sip_is_what_an_announcement_names() -> None:
    flows = announced().flows()
    assert flows["app"].tolist() == [SIP, SIP]


def test_media_goes_where_h245_says_that_it_will_be_received() -> None:
    acknowledged = bytes.fromhex("22c0003c0280135c0000") + socket.inet_aton(NEAR) + b"\x9c\x40\1\0"
    message = bytes([3, 0]) + (4 + len(acknowledged)).to_bytes(2, "big") + acknowledged
    passing = Wire().tcp(HAND_MADE["h245"], ports=(40000, 5555))
    passing.tcp(message, ports=(40000, 5555))
    passing.udp(rtp(96, 1, 160), False, (40000, 41000))
    assert passing.verdicts()[1] == (
        "certain",
        "other-rtc",
        "setup",
        "address announced by SDP or H.245, packet 1",
    )
    passing.udp(rtp(96, 1, 160), False, (42000, 41000))
    assert passing.verdicts()[2].verdict == "not-call"


def test_media_goes_where_a_gateways_mgcp_says() -> None:
    words = f"200 1200 OK\r\n\r\nv=0\r\nc=IN IP4 {NEAR}\r\nm=audio 40000 RTP/AVP 0\r\n"
    passing = Wire().udp(words.encode(), ports=(2427, 2427))
    passing.udp(rtp(0, 1, 160), False, (40000, 41000))
    assert passing.verdicts()[1].app == "other-rtc"


def checked(ports: tuple[int, int], far: str, count: int = 6) -> Wire:
    """Return a call that WhatsApp's Allocate shows, then ICE on other ports with a host."""
    passing = Wire().udp(whatsapp_allocate(), ports=(50000, 3478))
    for _ in range(count):
        passing.udp(ice_check(), ports=ports, hosts=(NEAR, far))
    return passing


def test_nameless_ice_between_the_hosts_of_a_named_call_belongs_to_it() -> None:
    reply = checked((51000, 3480), FAR).verdicts()[1]
    assert reply[:3] == ("certain", "whatsapp", "setup")
    assert reply.evidence == "between the hosts of this app's call, packet 4"


def test_ice_with_another_host_or_of_few_packets_stays_nameless() -> None:
    assert checked((51000, 3480), server(9).address).verdicts()[1].app == "rtc"
    assert checked((51000, 3480), FAR, 3).verdicts()[1].app == "rtc"
