# SPDX-License-Identifier: BSD-3-Clause
"""Collateral by kind of traffic: the worst place of each hypothesis, as rates with intervals."""

from __future__ import annotations

from typing import Any

import pytest

from midcall.experiments.measure.summary import by_protocol, collateral


def row(hit: int, date: str = "d", protocol: str = "dns", flows: int = 50) -> dict[str, Any]:
    place = {"operator": "o", "hypothesis": "h", "access": "a", "date": date}
    return {**place, "protocol": protocol, "flows": flows, "hit": hit, "bytes": 1000,
            "bytes_hit": 10 * hit, "groups": 10, "low": 0.01 * hit, "high": 0.04 * hit}  # fmt: skip


def test_the_place_where_most_is_hit_counts_and_kinds_never_hit_are_left_out() -> None:
    (found,) = by_protocol([row(1), row(5, "e"), row(0, protocol="quic")])
    assert (found["protocol"], found["hit"], found["flows"]) == ("dns", 5, 50)
    assert found["flows_per_million"] == pytest.approx(100_000)
    assert found["bytes_per_million"] == pytest.approx(50_000)
    assert found["interval"] == pytest.approx((0.05, 0.2))


def test_few_groups_have_a_count_and_no_interval() -> None:
    (found,) = by_protocol([row(1) | {"groups": 4, "low": None, "high": None}])
    assert (found["groups"], found["interval"]) == (4, None)
    assert collateral([])["by_protocol"] == []
