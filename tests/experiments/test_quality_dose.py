# SPDX-License-Identifier: BSD-3-Clause
"""Dose and response: quality of a call whose packets a box drops, limits or delays."""

from __future__ import annotations

from dataclasses import dataclass
from xml.etree import ElementTree

import pytest

from midcall.captures.packets.pcap import Packets, packets_of
from midcall.experiments.accuracy.quality_dose import (
    DOSES,
    Response,
    curves,
    media_of,
    picture,
    respond,
)
from tests.classifier.wire import ether, rtp, udp_packet

MS = 1_000_000


@dataclass(frozen=True)
class Voice:
    """A call's packets in one direction, and their rate in kbit/s."""

    packets: Packets
    kbit: float


@pytest.fixture(scope="module")
def voice() -> Voice:
    """Return 20 s of audio of one size, 50 packets a second."""
    frames = [ether(udp_packet(rtp(111, i, 960 * i, size=160))) for i in range(1000)]
    packets, kbit = media_of(packets_of(frames, [10**18 + 20 * MS * i for i in range(1000)]))
    return Voice(packets, kbit)


def test_the_rate_is_that_of_the_call(voice: Voice) -> None:
    frame = len(ether(udp_packet(rtp(111, 0, 0, size=160))))
    assert voice.packets.total == 1000
    assert voice.kbit == pytest.approx(50 * frame * 8 / 1000, rel=0.01)


@pytest.mark.parametrize("share", [0.02, 0.1])
def test_more_loss_is_a_lower_mos(voice: Voice, share: float) -> None:
    none, some = (respond(voice.packets, voice.kbit, "loss", dose) for dose in (0.0, share))
    assert none.lost == 0
    assert some.lost == pytest.approx(share, abs=0.03)
    assert some.loss == pytest.approx(some.lost, abs=0.02)
    assert some.mos is not None
    assert none.mos is not None
    assert some.mos < none.mos


def test_a_limit_below_the_own_rate_drops_packets_and_one_above_it_does_not(voice: Voice) -> None:
    assert respond(voice.packets, voice.kbit, "rate", 2.0).lost == 0
    assert respond(voice.packets, voice.kbit, "rate", 0.4).lost > 0.4


def test_jitter_delivers_every_packet(voice: Voice) -> None:
    assert respond(voice.packets, voice.kbit, "jitter", 40.0).lost == 0


def test_curves_are_means_over_calls_and_unknown_values_are_left_out() -> None:
    one = Response("skype", "a", "loss", 0.1, 0.1, 1.0, 0.1, 3.0, None)
    rows = curves([one, one._replace(capture="b", lost=0.2, mos=None, loss=None)])
    assert [(row["calls"], row["lost"], row["mos"]) for row in rows] == [(2, 0.15, 3.0)]
    assert rows[0]["frame_rate"] is None


def test_the_picture_has_a_panel_for_each_mechanism() -> None:
    one = Response("skype", "a", "loss", 0.1, 0.1, 1.0, 0.1, 3.0, 20.0)
    text = picture(curves([one._replace(mechanism=name) for name in DOSES]))
    root = ElementTree.fromstring(text)
    assert root.tag.endswith("svg")
    assert text.count("MOS") >= 2
