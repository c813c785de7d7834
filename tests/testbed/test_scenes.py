# SPDX-License-Identifier: BSD-3-Clause
"""Scenes: a transcript becomes the packets it says, in order of time."""

from __future__ import annotations

import struct
from typing import Any

import pytest

from midcall.errors import TestbedError
from midcall.testbed.conformance.transcript import scene, transcript


def test_a_line_is_repeated_and_lines_are_put_in_order() -> None:
    text = "0.1 > udp peer:9999 noise 20 x3 0.5\n0.3 < udp peer:9999/b7 zeros"
    assert transcript(text) == [
        "  0.100 > udp peer:9999 noise 20",
        "  0.300 < udp peer:9999/b7 zeros",
        "  0.600 > udp peer:9999 noise 20",
        "  1.100 > udp peer:9999 noise 20",
    ]
    assert scene(text).total == 4
    assert scene(text).data.tobytes() == scene(text).data.tobytes()


@pytest.mark.parametrize(
    "row",
    ["0.1 > udp nobody:1 noise", "0.1 = udp peer:1 noise", "soon > udp peer:1 noise", "0.1 > udp"],
)
def test_a_line_that_nobody_can_read_is_told(row: str) -> None:
    with pytest.raises(TestbedError, match="scene: got"):
        scene(row)


def test_an_unknown_word_is_told_with_those_that_are_known() -> None:
    with pytest.raises(TestbedError, match="got 'musik', expected one of stun-"):
        scene("0.1 > udp peer:9 musik")


def test_lengths_numbers_and_checksums_of_a_scene_are_right(make: Any) -> None:
    packets = scene(
        "0.1 > udp peer:9 noise 21 x2 0.1\n0.3 < tcp peer:9 tls 40\n0.4 > esp peer:1 noise 9"
    )
    for number in range(packets.total):
        packet = packets.frame(number)[14:]
        assert struct.unpack_from(">HH", packet, 2) == (len(packet), number)
        assert make.checksum(packet[:20]) == 0
        if packet[9] in (6, 17):
            assert packet[26:28] != b"\0\0"
            pseudo_header = struct.pack(">HH", packet[9], len(packet) - 20)
            assert make.checksum(packet[12:20] + pseudo_header + packet[20:]) == 0
