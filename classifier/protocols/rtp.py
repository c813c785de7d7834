# SPDX-License-Identifier: BSD-3-Clause
"""RTP and RTCP (RFC 3550, 5285/8285, 5761), plain or secured (RFC 3711: headers stay readable).

The version bits alone fit one random packet in four, so a stream counts only by its run: successive
packets of one synchronisation source whose sequence numbers rise and whose timestamps are sane.
"""

from __future__ import annotations

from typing import Any

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets, u8, u16, u32
from midcall.classifier.state.flow_scratch import TRACKS
from midcall.classifier.state.flow_table import Numbers
from midcall.classifier.state.packet_fields import SIGN_RTP_AT, SIGN_RTP_PROFILE

HEADER = 12

ONE_BYTE_EXTENSION = 0xBEDE  # RFC 8285
#: Sequence numbers a successor may be ahead (losses), or behind (reordering, ignored).
WINDOW = 64
#: The largest step of a timestamp between packets of a run: 90 s of a 90 kHz clock.
STAMP_STEP = 8_100_000
#: The longest silence within a run, in ns.
SILENCE = 12_000_000_000


@kernel
def looks_like_rtp(b: Octets, at: int, end: int, size: int) -> bool:
    """Return whether an RTP header fits here (RFC 3550, 5.1; payload types by RFC 5761, 4)."""
    if end - at < HEADER or u8(b, at) >> 6 != 2:
        return False
    kind = u8(b, at + 1) & 0x7F
    if 64 <= kind <= 95:
        return False
    need = HEADER + 4 * (u8(b, at) & 15)
    if u8(b, at) & 0x10:
        if size < need + 4:
            return False
        if end - at >= need + 4:
            need += 4 + 4 * u16(b, at + need + 2)
    return size > need


@kernel
def extension_profile(b: Octets, at: int, end: int) -> int:
    """Return the header extension's profile + 1, 0 where there is none."""
    if not u8(b, at) & 0x10:
        return 0
    o = at + HEADER + 4 * (u8(b, at) & 15)
    if end - o < 4:
        return 0
    return u16(b, o) + 1


@kernel
def track_rtp(note: Any, b: Octets, at: int, end: int, time: int, signs: Numbers) -> int:
    """Follow an RTP packet's source; returns its track (look at rtp_run), -1 for a new one.

    Call only where looks_like_rtp holds.
    """
    signs[SIGN_RTP_AT], signs[SIGN_RTP_PROFILE] = at, extension_profile(b, at, end)
    ssrc, sequence, stamp = u32(b, at + 8), u16(b, at + 2), u32(b, at + 4)
    kind = u8(b, at + 1) & 0x7F
    weakest, least = 0, 256
    for track in range(TRACKS):
        if note["rtp_type"][track] != 255 and I(note["rtp_ssrc"][track]) == ssrc:
            ahead = (sequence - I(note["rtp_sequence"][track])) & 0xFFFF
            step = (stamp - I(note["rtp_stamp"][track])) & 0xFFFFFFFF
            if ahead == 0 or ahead >= 0x10000 - WINDOW:
                return track
            sane = step <= STAMP_STEP or step >= 0x100000000 - STAMP_STEP
            if ahead <= WINDOW and sane:
                note["rtp_run"][track] = min(I(note["rtp_run"][track]) + 1, 255)
                note["rtp_type"][track] = kind
            else:
                note["rtp_run"][track] = 0
                note["rtp_first_time"][track], note["rtp_first_stamp"][track] = time, stamp
            note["rtp_sequence"][track], note["rtp_stamp"][track] = sequence, stamp
            return track
        if note["rtp_type"][track] == 255:
            weakest, least = track, -1
        elif I(note["rtp_run"][track]) < least:
            weakest, least = track, I(note["rtp_run"][track])
    note["rtp_ssrc"][weakest], note["rtp_type"][weakest] = ssrc, kind
    note["rtp_sequence"][weakest], note["rtp_stamp"][weakest] = sequence, stamp
    note["rtp_first_time"][weakest], note["rtp_first_stamp"][weakest] = time, stamp
    note["rtp_run"][weakest] = 0
    return -1


@kernel
def clock_rate(note: Any, track: int, time: int) -> int:
    """Return the rate of a track's timestamps in Hz as packets arrived, 0 where it is too early."""
    passed = time - I(note["rtp_first_time"][track])
    ticks = (I(note["rtp_stamp"][track]) - I(note["rtp_first_stamp"][track])) & 0xFFFFFFFF
    if passed < 40_000_000 or ticks > 0x7FFFFFFF or note["rtp_run"][track] < 2:
        return 0
    return ticks * 1_000_000 // (passed // 1000)


@kernel
def ticks_per_packet(note: Any, track: int) -> int:
    """Return how far a track's timestamp moved per packet of its run, on average."""
    run = I(note["rtp_run"][track])
    ticks = (I(note["rtp_stamp"][track]) - I(note["rtp_first_stamp"][track])) & 0xFFFFFFFF
    return ticks // run if run and ticks <= 0x7FFFFFFF else 0


@kernel
def read_rtcp(b: Octets, at: int, end: int, size: int) -> int:
    """Return 1 + the sender's SSRC when RTCP packets start the payload, 0 otherwise.

    Compound packets are walked (RFC 3550, 6.1); behind them SRTCP's index and tag may follow
    (RFC 3711, 3.4), or an encrypted rest after the first packet.
    """
    if end - at < 8 or u8(b, at) >> 6 != 2:
        return 0
    kind, length = u8(b, at + 1), (u16(b, at + 2) + 1) * 4
    if not 192 <= kind <= 223 or length > size:
        return 0
    if kind == 200 and length < 28:  # a sender report has at least its sender information
        return 0
    if kind in (201, 203) and length < 8 and kind == 201:
        return 0
    return u32(b, at + 4) + 1


@kernel
def fills(b: Octets, at: int, end: int, size: int) -> bool:
    """Return whether plain RTCP packets, two at least, a report first, fill it (RFC 3550, 6.1)."""
    if end - at != size or u8(b, at + 1) not in (200, 201):
        return False
    count, o = 0, at
    while end - o >= 4:
        if u8(b, o) >> 6 != 2 or not 200 <= u8(b, o + 1) <= 207:
            return False
        o += (u16(b, o + 2) + 1) * 4
        count += 1
    return count >= 2 and o == end


@kernel
def is_report(b: Octets, at: int) -> bool:
    """Return whether an RTCP packet has a registered type (sender report to extended report)."""
    return 200 <= u8(b, at + 1) <= 207
