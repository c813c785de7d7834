# SPDX-License-Identifier: BSD-3-Clause
"""RTP and RTCP: a header proves little, a run of one source does."""

from __future__ import annotations

import struct

import pytest

from midcall.classifier.protocols.rtp import (
    WINDOW,
    clock_rate,
    extension_profile,
    is_report,
    looks_like_rtp,
    read_rtcp,
    track_rtp,
)
from midcall.classifier.state.flow_scratch import TRACKS
from midcall.classifier.state.packet_fields import SIGN_RTP_PROFILE
from tests.classifier.payloads import rtcp
from tests.classifier.wire import (
    EPOCH,
    FAR,
    MS,
    NEAR,
    Wire,
    blank_note,
    blank_signs,
    classify,
    noise,
    octets,
    rtp,
    sample,
)


def fits(payload: bytes, size: int | None = None) -> bool:
    """Tell whether a payload looks like RTP."""
    wire = len(payload) if size is None else size
    return bool(looks_like_rtp(octets(payload), 0, len(payload), wire))


def header(first: int, second: int) -> bytes:
    """Return a payload with these first octets."""
    return bytes([first, second]) + noise(60, first)


@pytest.mark.parametrize(
    ("payload", "expected"),
    [
        (rtp(0, 1, 160), True),
        (rtp(120 | 0x80, 1, 160), True),
        (rtp(35, 1, 160), True),
        (rtp(96, 1, 160, profile=0xBEDE), True),
        (header(0x8F, 0), False),  # fifteen sources do not fit in 62 octets with a payload
        (header(0x83, 0), True),
        (header(0x40, 0), False),
        (header(0xC0, 0), False),
        (header(0x80, 64), False),
        (header(0x80, 95), False),
        (header(0x80, 72), False),
        (rtp(0, 1, 160)[:11], False),
        (rtp(0, 1, 160)[:12], False),
        (b"\x90\0" + bytes(10) + b"\xbe\xde\x7f\xff" + bytes(40), False),
    ],
)
def test_a_header_fits_or_not(payload: bytes, expected: bool) -> None:
    assert fits(payload) is expected


def test_an_extension_behind_the_snaplen_is_believed_to_fit() -> None:
    payload = rtp(96, 1, 160, profile=0xBEDE)
    assert fits(payload[:14], len(payload))


@pytest.mark.parametrize("profile", [None, 0xBEDE, 0xDEBE, 0])
def test_the_extensions_profile_is_read(profile: int | None) -> None:
    payload = rtp(96, 1, 160, profile=profile)
    profile_found = extension_profile(octets(payload), 0, len(payload))
    assert profile_found == (0 if profile is None else profile + 1)


class Followed:
    """A flow's RTP tracks."""

    def __init__(self) -> None:
        self.note, self.signs, self.now = blank_note(), blank_signs(), EPOCH

    def put(self, payload: bytes, after: int = 20) -> int:
        """Follow a packet; returns its run, -1 for a source that is new."""
        b = octets(payload)
        self.now += after * MS
        track = int(track_rtp(self.note, b, 0, len(b), self.now, self.signs))
        return int(self.note["rtp_run"][track]) if track >= 0 else -1


def test_successors_of_one_source_make_a_run() -> None:
    stream = Followed()
    assert [stream.put(rtp(0, i, i * 160)) for i in range(5)] == [-1, 1, 2, 3, 4]


def test_a_run_goes_over_the_end_of_the_numbers() -> None:
    stream = Followed()
    runs = [stream.put(rtp(0, 65534 + i, 0xFFFFFFF0 + i * 160)) for i in range(4)]
    assert runs == [-1, 1, 2, 3]


@pytest.mark.parametrize(("ahead", "run"), [(WINDOW, 2), (WINDOW + 1, 0), (0, 1), (-3, 1)])
def test_losses_are_allowed_doubles_ignored_and_jumps_begin_anew(ahead: int, run: int) -> None:
    stream = Followed()
    stream.put(rtp(0, 100, 16000))
    stream.put(rtp(0, 101, 16160))
    assert stream.put(rtp(0, 101 + ahead, 16160 + ahead * 160)) == run


def test_a_timestamp_that_leaps_begins_the_run_anew() -> None:
    stream = Followed()
    stream.put(rtp(0, 1, 0))
    assert stream.put(rtp(0, 2, 0x40000000)) == 0


def test_several_sources_are_followed_at_once() -> None:
    stream = Followed()
    for i in range(4):
        runs = [stream.put(rtp(0, i, i * 160, ssrc)) for ssrc in range(1, TRACKS + 1)]
    assert runs == [3] * TRACKS


def test_one_source_too_many_takes_the_track_of_the_shortest_run() -> None:
    stream = Followed()
    for i in range(3):
        for ssrc in range(1, TRACKS + 1):
            if ssrc != 2 or i == 0:
                stream.put(rtp(0, i, i * 160, ssrc))
    assert stream.put(rtp(0, 9, 9, 99)) == -1
    assert stream.put(rtp(0, 3, 480, 1)) == 3
    assert stream.put(rtp(0, 1, 160, 2)) == -1


@pytest.mark.parametrize(("step", "every", "clock"), [(320, 20, 16000), (960, 20, 48000)])
def test_the_clock_is_measured_from_stamps_and_arrivals(step: int, every: int, clock: int) -> None:
    stream = Followed()
    for i in range(5):
        stream.put(rtp(120, i, i * step), every)
    assert clock_rate(stream.note, track_of(stream), stream.now) == clock


def track_of(stream: Followed) -> int:
    """Return the only track in use."""
    (track,) = [i for i in range(TRACKS) if stream.note["rtp_type"][i] != 255]
    return track


def test_a_clock_is_unknown_before_forty_milliseconds_and_two_successors() -> None:
    stream = Followed()
    for i in range(3):
        stream.put(rtp(120, i, i * 320), 1)
    assert clock_rate(stream.note, track_of(stream), stream.now) == 0


def test_the_profile_is_left_in_the_signs() -> None:
    stream = Followed()
    stream.put(rtp(120, 1, 320, profile=0xDEBE))
    assert stream.signs[SIGN_RTP_PROFILE] == 0xDEBE + 1
    stream.put(rtp(120, 2, 640))
    assert stream.signs[SIGN_RTP_PROFILE] == 0


@pytest.mark.parametrize(
    ("payload", "source"),
    [
        (rtcp(200), 0x11223344),
        (rtcp(201, words=1), 0x11223344),
        (rtcp(201, words=1) + rtcp(202, words=4), 0x11223344),
        (rtcp(201, words=1) + noise(30), 0x11223344),
        (rtcp(206, ssrc=0, words=3), 0),
    ],
)
def test_rtcp_names_its_sender(payload: bytes, source: int) -> None:
    assert read_rtcp(octets(payload), 0, len(payload), len(payload)) == source + 1


@pytest.mark.parametrize(
    "payload",
    [
        rtcp(200)[:7],
        rtcp(200)[:20],
        rtcp(200, words=3),
        b"\x40" + rtcp(200)[1:],
        b"\x80\xbf" + rtcp(200)[2:],
        b"\x80\xe0" + rtcp(200)[2:],
        struct.pack(">BBHI", 0x80, 201, 0, 7),
    ],
)
def test_a_near_miss_is_no_rtcp(payload: bytes) -> None:
    assert read_rtcp(octets(payload), 0, len(payload), len(payload)) == 0


@pytest.mark.parametrize(
    ("kind", "expected"), [(199, False), (200, True), (207, True), (208, False)]
)
def test_reports_have_registered_types(kind: int, expected: bool) -> None:
    assert bool(is_report(octets(struct.pack(">BB", 0x80, kind)), 0)) is expected


# ---- what a flow makes of it


def voice(kind: int, count: int, **how: int) -> Wire:
    """Return a stream of so many packets."""
    passing = Wire()
    for i in range(count):
        passing.udp(rtp(kind, i, i * 160, **how))
    return passing


def test_a_run_of_four_is_a_stream_of_somebodys_call() -> None:
    verdict = voice(8, 5).verdicts()[0]
    assert verdict == ("certain", "rtc", "media", "RTP stream, payload type 8, packet 4")
    assert voice(8, 3).verdicts()[0].verdict == "unsure"
    assert voice(8, 1).verdicts()[0].verdict == "not-call"


def test_unusual_payload_types_need_a_longer_run() -> None:
    assert voice(50, 7).verdicts()[0].verdict == "unsure"
    assert voice(50, 12).verdicts()[0].verdict == "certain"


def test_a_source_of_zero_makes_no_stream() -> None:
    assert voice(8, 12, ssrc=0).verdicts()[0].verdict != "certain"


def test_random_octets_with_rtps_first_bits_are_no_stream() -> None:
    passing = Wire()
    for i in range(400):
        passing.udp(bytes([0x80]) + noise(70, i), up=i % 2 == 0)
    assert passing.verdicts()[0].verdict == "not-call"


def test_two_reports_of_one_source_are_control() -> None:
    passing = Wire(step=1000)
    for _ in range(4):
        passing.udp(rtcp(200))
    assert passing.verdicts()[0][:3] == ("certain", "rtc", "control")


def test_games_of_the_samples_are_no_streams() -> None:
    flows = classify(sample("sample-games"))
    assert not (flows["role"] == 1).any()


@pytest.mark.parametrize(("group", "expected"), [("239.1.2.3", "not-call"), (FAR, "certain")])
def test_a_stream_for_a_multicast_group_is_a_broadcast(group: str, expected: str) -> None:
    passing = Wire()
    for i in range(6):
        passing.udp(rtp(97, i, i * 48), hosts=(NEAR, group))
    assert passing.verdicts()[0].verdict == expected
