# SPDX-License-Identifier: BSD-3-Clause
"""The loss of made-up audio, by kind of stream (experiments.accuracy.quality_made_up)."""

from __future__ import annotations

import numpy as np
import pytest

from midcall.experiments.accuracy.quality_made_up import NOISE, REFRESH, Kind, right, stream


@pytest.mark.parametrize("varies", [False, True])
def test_loss_is_right_where_packets_come_on_their_beat(varies: bool) -> None:
    found = right(Kind(20, varies, (0.5, 0.0), False), np.random.default_rng(1))
    assert len(found) > 60
    assert np.mean(found) > 0.85


def test_heavy_jitter_makes_the_loss_less_sure() -> None:
    rng = np.random.default_rng(2)
    calm, jittery = (
        right(Kind(20, True, delay, False), rng) for delay in ((0.5, 0.0), (10.0, 0.9))
    )
    assert np.mean(calm) > np.mean(jittery)


def test_a_pause_has_a_packet_of_comfort_noise_each_400_ms() -> None:
    times, sizes = stream(Kind(20, True, (0.5, 0.0), True), np.random.default_rng(3))
    gaps = np.diff(times)[np.diff(times) > 200]
    assert len(gaps) > 20
    assert gaps.max() < REFRESH + 20
    assert (sizes == NOISE).sum() >= len(gaps)
