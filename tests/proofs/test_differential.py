# SPDX-License-Identifier: BSD-3-Clause
"""The samples' fields are those that Wireshark reads, where it is installed."""

from __future__ import annotations

import shutil

import pytest

from midcall.locations import ROOT
from tests.proofs import differential

CAPTURES = ROOT / "captures"


@pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed")
def test_no_field_of_the_samples_differs() -> None:
    paths = [
        CAPTURES / "recorded" / "lab-chromium-audio-direct-4g.pcapng",
        CAPTURES / "samples" / "sample-sip-audio.pcap",
        CAPTURES / "samples" / "sample-whatsapp-audio.pcap",
    ]
    counts, problems = differential.compare(paths)
    assert problems == []
    assert counts["stun"]["equal"] > 5
    assert counts["rtp"]["equal"] > 100
    assert counts["ends"]["equal"] > 300


def test_readings_agree_as_far_as_both_go() -> None:
    assert differential.same("stun", (1, ["a"], [6, 32822, 8]), (1, ["a"], [6, 8, 18]))
    assert not differential.same("stun", (1, ["a"], [6, 8]), (1, ["a"], [8, 6]))
    assert not differential.same("stun", (1, ["a"], [6]), (3, ["a"], [6]))
    assert differential.word_of("rtp", (0, 1, 2, 3, 0), (0, 1, 2, 3)) == "equal"
    assert differential.word_of("rtp", (0, 1, 2, 3, 0), (0, 1, 2, 4)) == "differs"
    assert differential.word_of("rtp", (0, 1, 2, 3, 4), (0, 1, 2, 4)) == "elsewhere"
    assert differential.word_of("quic", None, (1, "")) == "only theirs"
