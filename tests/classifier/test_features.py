# SPDX-License-Identifier: BSD-3-Clause
"""Feature columns: what they say of made-up packets, and what they do not depend on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from midcall.classifier.state.features import (
    COLUMNS,
    KEPT,
    LARGEST,
    LONGEST,
    observe,
    write_columns,
)
from midcall.classifier.state.flow_scratch import NOTE, clear
from midcall.classifier.statistical.inference import NODE
from tests.classifier.wire import EPOCH, MS

#: (payload size, ms since the first packet, 1 up)
Packet = tuple[int, float, int]
VOICE: list[Packet] = [(160 + i % 3, 20.0 * i, 1 if i % 2 else 0) for i in range(KEPT)]


def note_of(packets: Sequence[Packet]) -> Any:
    """Return a note that kept these packets."""
    note = np.zeros(1, NOTE)
    clear(note[0], 0, EPOCH)
    for at, (size, ms, up) in enumerate(packets):
        note[0]["seen"] = at + 1
        observe(note[0], size, EPOCH + int(ms * MS), up)
    return note[0]


def columns_of(packets: Sequence[Packet], n: int) -> dict[str, float]:
    """Return the columns of the first n packets by name."""
    scratch = np.zeros(len(COLUMNS), NODE)
    write_columns(note_of(packets), n, scratch)
    return dict(zip(COLUMNS, scratch["column"].tolist(), strict=True))


def test_sizes_gaps_and_directions_are_what_a_hand_would_count() -> None:
    by_name = columns_of([(100, 0, 1), (100, 20, 1), (300, 21, 0), (1000, 721, 1)], 4)
    assert by_name["size_sum"] == 1500
    assert (by_name["size_min"], by_name["size_median"], by_name["size_max"]) == (100, 100, 1000)
    assert by_name["size_step"] == 0 + 200 + 700
    assert by_name["size_spread"] == (1100 + 1100 + 300 + 2500) // 4
    assert (by_name["size_kinds"], by_name["size_commonest"]) == (3, 2)
    assert (by_name["size_small"], by_name["size_large"]) == (0, 1)
    assert (by_name["major_packets"], by_name["major_size_sum"]) == (3, 1200)
    assert (by_name["minor_size_sum"], by_name["minor_size_max"]) == (300, 300)
    assert (by_name["turns"], by_name["longest_run"]) == (2, 2)
    assert by_name["duration"] == 721_000
    assert (by_name["gap_min"], by_name["gap_median"], by_name["gap_max"]) == (
        1000,
        20_000,
        700_000,
    )
    assert (by_name["gap_bursts"], by_name["gap_frames"], by_name["gap_pauses"]) == (1, 1, 1)
    assert by_name["major_gap_mean"] == 721_000 // 2
    assert by_name["major_gap_spread"] == (abs(20_000 - 360_500) + abs(701_000 - 360_500)) // 2


@pytest.mark.parametrize("n", [4, 8, 16])
def test_a_flow_seen_from_its_other_end_has_the_same_columns(n: int) -> None:
    turned = [(size, ms, 1 - up) for size, ms, up in VOICE]
    assert columns_of(VOICE, n) == columns_of(turned, n)


def test_later_packets_change_nothing() -> None:
    longer = [*VOICE, (1400, 5000.0, 1), (9, 9000.0, 0)]
    assert columns_of(longer, 16) == columns_of(VOICE, 16)
    assert columns_of(longer, 4) == columns_of(VOICE[:4], 4)


def test_the_columns_hold_no_payload_address_or_port() -> None:
    kept = {"sizes", "moments", "ways", "seen", "first_time"}
    note = note_of(VOICE)
    blank = np.zeros(1, NOTE)[0]
    clear(blank, 0, EPOCH)
    for name in kept:
        blank[name] = note[name]
    others = [name for name in NOTE.names or () if name not in kept]
    for name in others:
        blank[name] = np.full_like(blank[name], 7)
    scratch = np.zeros(len(COLUMNS), NODE)
    write_columns(blank, KEPT, scratch)
    assert dict(zip(COLUMNS, scratch["column"].tolist(), strict=True)) == columns_of(VOICE, KEPT)


def test_time_that_goes_backwards_or_jumps_stays_within_bounds() -> None:
    by_name = columns_of([(70000, 0, 1), (10, -50, 1), (10, 1e10, 0), (10, 1e10, 0)], 4)
    assert by_name["gap_min"] == 0
    assert by_name["gap_max"] == np.float32(LONGEST)
    assert by_name["size_max"] == LARGEST


def test_packets_all_one_way_leave_the_other_ways_columns_empty() -> None:
    by_name = columns_of([(50, 30.0 * i, 1) for i in range(8)], 8)
    assert (by_name["minor_size_sum"], by_name["minor_size_max"], by_name["turns"]) == (0, 0, 0)
    assert (by_name["major_gap_mean"], by_name["major_gap_spread"]) == (30_000, 0)


def test_a_column_is_small_enough_for_a_float32_to_tell_it_from_its_neighbour() -> None:
    by_name = columns_of(VOICE, 16)
    assert all(value == int(value) for value in by_name.values())
