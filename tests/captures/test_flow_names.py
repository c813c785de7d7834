# SPDX-License-Identifier: BSD-3-Clause
"""Texts that name a flow, and streams as Wireshark counts them (asked of tshark where it is)."""

from __future__ import annotations

import ipaddress
import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

from midcall.captures.packets.flow_names import chosen, display_filter, parse
from midcall.captures.packets.headers import End
from midcall.captures.packets.numbers import TCP, UDP
from midcall.captures.packets.pcap import read
from midcall.captures.packets.streams import Counter, frames_of_stream

SAMPLES = Path(__file__).resolve().parents[2] / "captures" / "samples"


class Ended(NamedTuple):
    """A flow."""

    proto: str
    source: End
    target: End


def end(text: str, port: int) -> End:
    """Return an end."""
    return ipaddress.ip_address(text).packed, port


FLOWS = [
    Ended("udp", end("10.0.0.2", 51518), end("203.0.113.9", 3478)),
    Ended("udp", end("10.0.0.2", 51518), end("203.0.113.10", 3478)),
    Ended("tcp", end("10.0.0.2", 51518), end("203.0.113.9", 3478)),
    Ended("udp", end("2001:db8::1", 5000), end("2001:db8::2", 6000)),
]


def names(text: str) -> list[int]:
    """Return the flows that a text means; frame 1 is of flow 0, stream 7 of flow 1."""
    return chosen(
        parse(text, "FORM"), FLOWS, lambda frame: frame - 1 if frame < 5 else -1, lambda *_: [2]
    )


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("udp 10.0.0.2:51518-203.0.113.9:3478", [0]),
        ("UDP 203.0.113.9:3478 -> 10.0.0.2:51518", [0]),
        ("udp [2001:db8::1]:5000-[2001:db8:0::2]:6000", [3]),
        ("ip.addr==10.0.0.2 && udp.port==51518 && ip.addr==203.0.113.9", [0]),
        ("(ip.addr eq 10.0.0.2 and ip.addr eq 203.0.113.9) and (tcp.port eq 51518)", [2]),
        ("ip.src==203.0.113.9&&udp.srcport==3478 && ip.dst==10.0.0.2", [0]),
        ("ip.src==203.0.113.9 && udp.srcport==51518", []),
        ("ip.addr==203.0.113.8/31 && udp", [0]),
        ("ipv6.addr==2001:db8::1 && udp.port==6000", [3]),
        ("udp.port==3478", [0, 1]),
        ("udp.stream eq 7", [1]),
        ("udp.stream == 7 && ip.addr==10.0.0.2", [1]),
        ("frame.number == 3", [2]),
    ],
)
def test_a_text_names_flows(text: str, found: list[int]) -> None:
    assert names(text) == found


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("that one", "expected FORM"),
        ("udp.port == 1 || udp.port == 2", "names more than one flow"),
        ("!(udp.port == 1)", "names more than one flow"),
        ("udp.port > 5", "names more than one flow"),
        ("udp.length == 5", "'udp.length' is not understood; known: ip.addr, "),
        ("udp.port == 70000", "expected a number of at most 65535"),
        ("ip.addr == 10.0.0.256", "10.0.0.256"),
        ("ip.addr == ::1", "is of IPv6"),
        ("(udp.port == 5", "ends too early"),
        ("udp.port == 5 &&", "ends too early"),
        ("udp.port == 5)", "out of place"),
        ("udp.port == 5 tcp.port == 6", "out of place"),
        ("udp.stream eq x", "expected a number"),
        ("ip.addr = 10.0.0.1 && udp", "cannot be read"),
    ],
)
def test_a_text_that_names_no_flow_is_told_why(text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=r".") as caught:
        parse(text, "FORM")
    assert problem in str(caught.value)


def test_the_display_filter_of_a_flow_names_that_flow() -> None:
    for at, flow in enumerate(FLOWS):
        source, target = ((str(ipaddress.ip_address(a)), p) for a, p in (flow.source, flow.target))
        assert names(display_filter(flow.proto, source, target)) == [at]


def test_a_stream_that_is_not_there_is_told_with_those_that_are() -> None:
    packets = read(SAMPLES / "sample-web.pcap")
    with pytest.raises(ValueError, match=r"no udp\.stream 99; the capture has: 0 to \d+"):
        frames_of_stream([packets], "udp", 99)


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not here")
@pytest.mark.parametrize(
    "name",
    ["sample-web.pcap", "sample-whatsapp-gtp.pcap", "sample-viber-pppoe.pcap", "sample-games.pcap"],
)
def test_streams_are_numbered_as_wireshark_does(name: str) -> None:
    path = SAMPLES / name
    if not path.exists():
        pytest.skip(f"{name} is not among the samples")
    fields = ["-T", "fields", "-e", "udp.stream", "-e", "tcp.stream"]
    result = subprocess.run(
        ["tshark", "-r", str(path), *fields], capture_output=True, text=True, check=True
    ).stdout.split("\n")
    packets, udp, tcp = read(path), Counter(UDP), Counter(TCP)
    for i in range(packets.total):
        frame, link = packets.frame(i), int(packets.link[i])
        both = (",".join(map(str, one.numbers(frame, link))) for one in (udp, tcp))
        assert "\t".join(both) == result[i], i + 1
