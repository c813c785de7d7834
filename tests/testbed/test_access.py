# SPDX-License-Identifier: BSD-3-Clause
"""Access networks: what the box sees, byte by byte, and what is too big for the way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scapy.contrib.gtp import GTP_U_Header
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.layers.ppp import PPP, PPPoE

from midcall import errors
from midcall.testbed.network.access import (
    CLAMPED,
    FITS,
    FRAGMENTED,
    TEID_DOWN,
    TEID_UP,
    TOO_LARGE,
    fit,
    link,
    wrap,
)
from midcall.testbed.replay.packet_index import index_packets


def shown(scene: Any, access: str) -> list[bytes]:
    """Return the frames of a scene as the box on an access network sees them."""
    facts = index_packets(scene.packets).facts
    up = np.array([packet[30:34] != b"\xcb\x00\x71\x07" for _, packet in scene.lines])
    frames = wrap(
        link(access),
        scene.packets.data,
        facts["ip_at"],
        facts["ip_end"],
        facts["ip_size"],
        (~up).astype(np.int64),
    )
    return [frames.frame(i) for i in range(frames.total)]


def both_ways(scene: Any, make: Any) -> None:
    scene.udp(0.0, ">", make.RELAY, 3478, b"up there")
    scene.udp(0.1, "<", make.RELAY, 3478, b"down here")


@pytest.mark.parametrize("access", ["3g", "4g"])
def test_mobile_packets_stand_in_gtp_u_with_a_teid_per_direction(
    scene: Any, make: Any, access: str
) -> None:
    both_ways(scene, make)
    for frame, teid, text in zip(
        shown(scene, access), (TEID_UP, TEID_DOWN), (b"up there", b"down here"), strict=True
    ):
        outer = Ether(frame)
        tunnel = outer[GTP_U_Header]
        assert (outer[UDP].dport, tunnel.teid, tunnel.gtp_type) == (2152, teid, 255)
        assert bytes(tunnel.payload[UDP].payload) == text
        assert tunnel.length == len(tunnel.payload)
        again = IP(bytes(outer[IP]))
        good = again.chksum
        del again.chksum
        assert IP(bytes(again)).chksum == good
        assert outer[IP].len == tunnel.payload.len + 36


@pytest.mark.parametrize("access", ["adsl", "wifi"])
def test_fixed_line_packets_stand_in_a_pppoe_session(scene: Any, make: Any, access: str) -> None:
    both_ways(scene, make)
    for frame in shown(scene, access):
        outer = Ether(frame)
        assert (outer.type, outer[PPPoE].len) == (0x8864, outer[IP].len + 2)
        assert outer[PPP].proto == 0x21
        assert frame[14 + 8 :] == bytes(outer[IP])


def test_fibre_packets_stand_in_plain_ethernet(scene: Any, make: Any) -> None:
    both_ways(scene, make)
    for frame, (_, captured) in zip(shown(scene, "fibre"), scene.lines, strict=True):
        assert frame[12:] == captured[12:]


@pytest.mark.parametrize("access", ["3g", "adsl", "fibre"])
def test_the_box_finds_the_same_flows_on_every_access_network(
    scene: Any, make: Any, run: Any, access: str
) -> None:
    make.webrtc_call(scene, seconds=1.0)
    plain, wrapped = run(scene, access="fibre"), run(scene, access=access)
    assert len(wrapped.flows) == 1
    for column in ("source", "target", "source_port", "bytes_up", "bytes_down", "app", "role"):
        assert (plain.flows[column] == wrapped.flows[column]).all()


# access, IP bytes, protocol, version, DF -> how it gets through
SIZES = [
    ("4g", 1564, 17, 4, True, FITS),
    ("4g", 1565, 17, 4, True, TOO_LARGE),
    ("4g", 1565, 17, 4, False, FRAGMENTED),
    ("adsl", 1492, 17, 4, True, FITS),
    ("adsl", 1493, 17, 4, True, TOO_LARGE),
    ("adsl", 1500, 17, 4, False, FRAGMENTED),
    ("adsl", 1500, 6, 4, True, CLAMPED),
    ("wifi", 1493, 17, 6, False, TOO_LARGE),
    ("fibre", 1500, 17, 4, True, FITS),
    ("fibre", 2900, 6, 4, True, CLAMPED),
]


@pytest.mark.parametrize(("access", "size", "proto", "version", "keep", "expected"), SIZES)
def test_a_packet_gets_through_by_its_size(
    access: str, size: int, proto: int, version: int, keep: bool, expected: int
) -> None:
    one = [np.array([value], np.int64) for value in (size, proto, version)]
    assert fit(link(access), *one, np.array([keep])).tolist() == [expected]


def test_what_is_too_big_is_a_fate_of_its_own_and_never_meets_the_box(
    scene: Any, make: Any, run: Any, fates: Any
) -> None:
    scene.udp(0.0, ">", make.RELAY, 9999, bytes(1472))
    scene.udp(0.1, ">", make.RELAY, 9999, bytes(1472), flags=0)
    scene.udp(0.2, ">", make.RELAY, 9999, bytes(1464))
    simulation = run(scene, access="adsl")
    assert fates(simulation) == "Bdd"
    assert simulation.fates["box_time"][0] == -1
    assert (simulation.counters["too_big"], simulation.counters["fragmented"]) == (1, 1)
    assert fates(run(scene, access="4g")) == "ddd"


def test_an_unknown_access_network_is_told(scene: Any, run: Any) -> None:
    with pytest.raises(errors.TestbedError) as error:
        run(scene, access="5g")
    assert str(error.value) == "access: got '5g', expected one of 3g, 4g, adsl, fibre, wifi"
