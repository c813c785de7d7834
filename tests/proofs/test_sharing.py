# SPDX-License-Identifier: BSD-3-Clause
"""The comparison of packs finds a changed answer, and what restores it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from midcall.captures.own.pseudonyms import Pseudonyms
from midcall.captures.packets.pcap import read
from tests.proofs import sharing

SAMPLES = Path(__file__).resolve().parents[2] / "captures" / "samples"


@pytest.fixture(autouse=True)
def tools() -> None:
    for program in ("ndpiReader", "tshark"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")


def test_a_sample_is_compared_flow_by_flow() -> None:
    result = sharing.compared(("web", SAMPLES / "sample-web.pcap"))
    assert result.refused == ""
    assert result.midcall[0] == result.midcall[1] > 0
    assert result.ndpi[1] > 0
    assert result.ndpi[1] - result.ndpi[0] == len(result.changed)
    assert result.tshark[1] == read(SAMPLES / "sample-web.pcap").total
    assert {row.reason for row in result.changed} <= {"texts", "addresses", "addresses and texts"}


def test_what_is_spared_stays_and_only_within_the_block() -> None:
    address = bytes((93, 184, 216, 34))
    with sharing.sparing(["addresses"]):
        assert Pseudonyms(b"key", octets=False).address(address) == address
        assert Pseudonyms(b"key", octets=False).text(b"liddell") != b"liddell"
    with sharing.sparing(["texts"]):
        assert Pseudonyms(b"key", octets=False).text(b"liddell") == b"liddell"
    assert Pseudonyms(b"key", octets=False).address(address) != address
    assert Pseudonyms(b"key", octets=False).text(b"liddell") != b"liddell"
