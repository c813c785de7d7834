# SPDX-License-Identifier: BSD-3-Clause
"""Octets: where one stands, four looked at together, and never beyond the end."""

from __future__ import annotations

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from midcall.captures.jit.reads import find_octet

#: Octets that a test of four at a time may take for one another: by a bit, a carry or a borrow.
NEAR = st.lists(st.sampled_from([0x00, 0x01, 0x09, 0x0A, 0x0B, 0x80, 0x8A, 0xFF]), max_size=24)


@settings(max_examples=400, deadline=None, derandomize=True, database=None)
@given(NEAR, st.integers(0, 6), st.integers(0, 6), st.sampled_from([0x00, 0x0A, 0x80, 0xFF]))
@example([0x0B, 0x0A, 0x0B, 0x0B], 0, 0, 0x0A)
@example([0x0A], 0, 1, 0x0A)
def test_the_first_octet_of_a_kind_is_found(
    octets: list[int], start: int, left: int, wanted: int
) -> None:
    end = max(len(octets) - left, 0)
    start = min(start, end)
    at = bytes(octets[:end]).find(wanted, start)
    offset = int(find_octet(np.array([*octets, 0, 0, 0, 0], np.uint8), start, end, wanted))
    assert offset == (end if at < 0 else at)
