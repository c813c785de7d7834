# SPDX-License-Identifier: BSD-3-Clause
"""The hash of the flow table: nobody who does not know the key can choose flows that collide."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from midcall.classifier.engine import Engine, hash_key
from midcall.classifier.state.flow_table import METER_KEY, PRIME, endpoint_hash, flow_hash
from tests.classifier.test_flow import many

FAR = (0xC6130009, 0, 0, 0, 4, 7000)
FAR6 = (0x20010002, 0, 0, 9, 6, 7000)
KEYS = [
    *(pytest.param(hash_key(seed), id=f"seed {seed}") for seed in range(4)),
    pytest.param(hash_key(None), id="the process's own"),
]

End = tuple[int, int, int, int, int, int]


def hashes(ends: list[tuple[End, End]], key: int) -> set[int]:
    """Return the distinct hashes of flows between ends."""
    return {
        int(flow_hash(*(int(endpoint_hash(*end, key)) for end in pair), 17, key)) for pair in ends
    }


def paired_bits() -> list[End]:
    """Return IPv6 ends whose difference in one lane is undone by one in the next.

    A chain of multiply and shift (the hash of earlier versions) sends these to 64 places whatever
    its key: differences in the highest bits pass through a product unchanged.
    """
    patterns = [(d << 26) ^ (d << 11) for d in range(64)]
    return [
        (0x20010002, 7, 0x1234 ^ (a << 26), 0x5678 ^ pattern, 6, 40000)
        for a, pattern in itertools.product(range(64), patterns)
    ]


SETS = {
    "ports counted up": [((0xC6120001, 0, 0, 0, 4, 1024 + i), FAR) for i in range(4096)],
    "addresses counted up": [((0xC6120000 + i, 0, 0, 0, 4, 40000), FAR) for i in range(4096)],
    "ends of equal sums": [
        ((0xC6120000 + i, 0, 0, 0, 4, 20000), (0xC6130000 - i, 0, 0, 0, 4, 20000))
        for i in range(4096)
    ],
    "ports of equal sums": [
        ((0xC6120001, 0, 0, 0, 4, 10000 + i), (0xC6130001, 0, 0, 0, 4, 30000 - i))
        for i in range(4096)
    ],
    "differences that cancel": [(end, FAR6) for end in paired_bits()],
    "highest bits": [
        ((a << 30, b << 30, c << 30, d << 30, 6, port), FAR6)
        for a, b, c, d in itertools.product(range(4), repeat=4)
        for port in (1, 1 << 15, 3, 40000)
    ],
}


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("key", KEYS)
def test_flows_that_look_alike_do_not_meet(name: str, key: int) -> None:
    ends = SETS[name]
    assert len(hashes(ends, key)) >= len(ends) - 4


@pytest.mark.parametrize("key", KEYS)
def test_both_directions_meet(key: int) -> None:
    for one, other in SETS["ends of equal sums"][:200]:
        assert hashes([(one, other)], key) == hashes([(other, one)], key)


def test_no_product_leaves_63_bits() -> None:
    worst = (1 << 60) - 1
    for lanes in itertools.product((0, 1, 0xFFFFFFFF), repeat=4):
        for version, port in itertools.product((4, 6), (0, 0xFFFF)):
            end = exact_end(lanes, version, port, worst)
            assert int(endpoint_hash(*lanes, version, port, worst)) % PRIME == end % PRIME
    high = int(endpoint_hash(*[0xFFFFFFFF] * 4, 6, 0xFFFF, worst))
    assert 0 <= high < 1 << 33
    assert 0 <= int(flow_hash(high, high, 255, worst)) < 1 << 31


def exact_end(lanes: tuple[int, ...], version: int, port: int, key: int) -> int:
    """Return an end's hash modulo PRIME by integers that have no bound."""
    count = 1 if version == 4 else 4
    number = port
    for place, lane in enumerate(reversed(lanes[:count])):
        number |= lane << (16 + 32 * place)
    total, size = 0, 2 * count if version == 4 else 6
    words = [number >> 24 * i & 0xFFFFFF for i in range(size)]
    for power, word in enumerate(words, 1):
        total += word * pow(key & (1 << 30) - 1, power, PRIME)
    return total % PRIME


def test_a_process_has_a_key_of_its_own_and_a_seed_always_the_same() -> None:
    keys = [int(Engine(seed=seed).tables.meter[METER_KEY]) for seed in (None, None, 0, 0, 1)]
    assert keys[0] == keys[1] != keys[2] == keys[3] != keys[4]
    assert all(key & (1 << 30) - 1 and 0 < key >> 30 < 1 << 30 for key in keys)


def test_no_result_depends_on_the_key_though_flows_are_evicted() -> None:
    packets = many(3000)
    tables, places = [], []
    for seed in (None, 0, 5):
        engine = Engine(max_flows=256, seed=seed)
        numbers = engine.feed(packets)
        tables.append((engine.flows().tobytes(), numbers.tobytes()))
        places.append(np.flatnonzero(engine.tables.slots).tobytes())
    assert tables[0] == tables[1] == tables[2]
    assert len(set(places)) == 3
