# SPDX-License-Identifier: BSD-3-Clause
"""Hostile input is counted, bounded and named nothing; what hides a name is in the book."""

from __future__ import annotations

import numpy as np
import pytest

from midcall.captures.packets.pcap import Packets, packets_of
from midcall.classifier.engine import Engine
from midcall.locations import ROOT
from tests.classifier.payloads import whatsapp_allocate
from tests.classifier.wire import EPOCH, Wire
from tests.proofs import hostile, vectors

BOOK = ROOT / "docs" / "explanation" / "reliability.md"


@pytest.mark.parametrize("attack", hostile.ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_breaks_no_bound(attack: hostile.Attack) -> None:
    figures, problems = hostile.suffered(attack, 20_000, 1024)
    assert problems == []
    assert figures["packets"] == 20_000
    assert figures["longest_probe"] < 64


def test_floods_of_flows_are_evicted_and_counted() -> None:
    (flood,) = (attack for attack in hostile.ATTACKS if attack.name == "new flows")
    figures, _ = hostile.suffered(flood, 20_000, 1024)
    assert figures["counters"]["flows"] == 20_000
    assert figures["counters"]["evicted"] == 20_000 - 1024


def test_headers_beyond_the_limit_are_counted_as_too_deep() -> None:
    (deep,) = (attack for attack in hostile.ATTACKS if attack.name == "nesting")
    figures, _ = hostile.suffered(deep, 200, 1024)
    assert figures["counters"]["too_deep"] > 50


def test_a_call_among_an_attack_is_a_problem_that_is_told() -> None:
    call = Wire().udp(whatsapp_allocate()).packets
    attack = hostile.Attack("a call", "", lambda _: iter([call]))
    _, problems = hostile.suffered(attack, 2, 64)
    assert problems == [
        "a call: 1 packets counted of 2",
        "a call: 1 flows were named a call",
    ]


def test_the_longest_probe_is_that_of_a_crowded_place() -> None:
    engine = Engine(seed=0)
    engine.tables.slots[10:15] = (10 << 32) + np.arange(1, 6)
    assert hostile.longest_probe(engine) == 4


def test_times_are_taken_of_single_packets() -> None:
    packets: Packets = packets_of([hostile.UDP4] * 40, [EPOCH + n for n in range(40)])
    result = hostile.times_of(iter([packets]), 30, 64)
    assert result["n"] == 30
    assert 0 < result["p50"] <= result["p99"] <= result["p9999"]


def test_the_book_says_what_vectors_do() -> None:
    text = BOOK.read_text(encoding="utf-8")
    begin = text.index("| vector | how |")
    assert text[begin:].split("\n\n")[0].splitlines()[2:] == vectors.rows()
