# SPDX-License-Identifier: BSD-3-Clause
"""Dose and response: quality of a call whose packets a box drops, limits or delays."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from midcall.captures.packets.pcap import Packets, packets_of
from midcall.captures.packets.writer import write_pcap
from midcall.captures.truth.catalogue import load as load_catalogue
from midcall.experiments.accuracy import quality_dose
from midcall.experiments.accuracy.quality_dose import (
    Response,
    comparable,
    curves,
    media_of,
    respond,
)
from midcall.experiments.report.sections import quality
from midcall.experiments.spec.corpus import Item
from midcall.experiments.spec.spec import load
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


def test_a_spec_with_doses_has_the_responses_of_its_captures(
    tmp_path: Path, voice: Voice, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quality_dose, "DOSES", {"loss": (0.0, 0.1)})
    path, spec = tmp_path / "call.pcap", load("quality")[0]
    write_pcap(path, voice.packets)
    call = load_catalogue(local=False).named("sample-whatsapp-audio")
    items = [Item(call, path, [object()], []), Item(call, path, [], [])]
    done: list[str] = []
    block = quality_dose.within(spec, items, done.append)["quality_dose"]
    assert done == [call.name]  # the other has no call
    assert [(row["dose"], row["synthetic"]) for row in block["curves"]] == [
        (0.0, True),
        (0.1, True),
    ]
    assert block["curves"][0]["mos"] > block["curves"][1]["mos"]
    assert len(block["calls"]) == 2
    none = spec.model_copy(update={"quality": None})
    assert quality_dose.within(none, items, done.append) == {}


def test_jitter_delivers_every_packet(voice: Voice) -> None:
    assert respond(voice.packets, voice.kbit, "jitter", 40.0).lost == 0


ONE = Response("skype", "a", False, "loss", 0.1, 0.1, 1.0, 0.1, 3.0, None)


def test_curves_are_means_over_calls_and_unknown_values_are_left_out() -> None:
    rows = curves([ONE, ONE._replace(capture="b", lost=0.2, mos=None, loss=None)])
    assert [(row["calls"], row["lost"], row["mos"]) for row in rows] == [(2, 0.15, 3.0)]
    assert rows[0]["frame_rate"] is None


def test_real_and_synthetic_calls_have_curves_of_their_own() -> None:
    rows = curves([ONE, ONE._replace(synthetic=True, mos=2.0)])
    assert [(row["synthetic"], row["mos"]) for row in rows] == [(False, 3.0), (True, 2.0)]


def test_a_mos_of_other_seconds_is_left_out() -> None:
    first = ONE._replace(dose=0.0, known=0.8, mos=4.4)
    kept, few, none = (
        list(comparable([first, ONE._replace(known=known)]))[1] for known in (0.7, 0.3, None)
    )
    assert kept.mos == 3.0
    assert few.mos is None
    assert none.mos is None


@pytest.mark.parametrize(("rate", "kept"), [(15.0, True), (1.0, False), (None, False)])
def test_a_slow_stream_is_no_video(rate: float | None, kept: bool) -> None:
    own = [ONE._replace(frame_rate=rate), ONE._replace(frame_rate=2.0)]
    assert all((one.frame_rate is not None) == kept for one in comparable(own))


def test_the_chart_has_a_panel_for_each_mechanism_and_shows_several_real_calls() -> None:
    some = [
        ONE._replace(mechanism=name, dose=dose, frame_rate=20.0, capture=capture)
        for name in quality.MECHANISMS
        for dose in (0.1, 0.2)
        for capture in ("a", "b")
    ]
    alone = [ONE._replace(app="viber"), ONE._replace(app="sip", synthetic=True)]
    chart = quality.response_chart(curves([*some, *alone]))
    assert {row["mechanism"] for row in chart.rows} == set(quality.MECHANISMS)
    assert {row["app"] for row in chart.rows} == {"Skype"}
    table = quality.table("loss", curves([*some, *alone]))
    assert [(row["app"], row["synthetic"]) for row in table["rows"]] == [
        ("skype", False), ("viber", False), ("sip", True),
    ]  # fmt: skip
    assert table["doses"] == [0.1, 0.2]


def test_a_strip_has_a_step_for_each_second_and_a_gap_where_nothing_is_known() -> None:
    assert quality.steps([4.5, 1.0, None, 1.0]) == "M0 0H1V20H2M3 20H4"
    assert quality.steps([]) == ""
