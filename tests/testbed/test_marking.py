# SPDX-License-Identifier: BSD-3-Clause
"""Code points of IP headers: what is written is read again, and nothing else changes."""

from __future__ import annotations

import numpy as np
import pytest

from midcall.testbed.middlebox.marking import dscp_of, write_dscp
from midcall.testbed.network.checksums import folded, word_sum
from midcall.testbed.network.ip_packets import ip_packet

FOUR = bytes([198, 18, 0, 1]), bytes([198, 19, 0, 1])
SIX = bytes(16), bytes([0xFD, *[0] * 15])


@pytest.mark.parametrize("ends", [FOUR, SIX], ids=["IPv4", "IPv6"])
@pytest.mark.parametrize("ecn", [0, 1, 3])
def test_a_code_point_is_read_as_it_was_written(ends: tuple[bytes, bytes], ecn: int) -> None:
    version = 4 if len(ends[0]) == 4 else 6
    before = np.frombuffer(b"??" + ip_packet(*ends, 17, bytes(30)), np.uint8).copy()
    before[3] |= ecn if version == 4 else ecn << 4
    for dscp in range(64):
        packet = before.copy()
        write_dscp(packet, 2, version, dscp)
        assert dscp_of(packet, 2, version) == dscp
        changed = set(np.flatnonzero(packet != before).tolist())
        assert changed <= ({3, 12, 13} if version == 4 else {2, 3})
        assert (packet[3] if version == 4 else packet[3] >> 4) & 3 == ecn
        if version == 4:
            assert folded(word_sum(packet[2:22].tobytes())) == 0xFFFF
