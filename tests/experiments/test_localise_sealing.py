# SPDX-License-Identifier: BSD-3-Clause
"""Tests of the localiser's QUIC Initials."""

from __future__ import annotations

from midcall.experiments.localise.packet_fields import read
from midcall.testbed.probing.probe import Ends, Sent
from midcall.testbed.probing.quic_initial import quic_initial

ENDS = Ends(17, bytes([10, 0, 0, 1]), 40000, bytes([198, 51, 100, 9]), 443)


def test_a_sealed_hello_tells_its_name_to_whoever_opens_it() -> None:
    result = read(Sent(0, True, ENDS, quic_initial("calls.example")))
    assert (result.where, result.name, result.kind) == ("quic", "calls.example", "quic")
