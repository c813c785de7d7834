# SPDX-License-Identifier: BSD-3-Clause
"""Lint: what can never happen is told, and nothing else is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from midcall.locations import OPERATORS
from midcall.testbed.conformance.lint import check
from midcall.testbed.policy.loader import available

Write = Callable[[str, str], Path]

HEAD = """
id = "op"
title = "Op"
country = "MA"

[[period]]
access = ["3g", "4g"]
from = 2026-01-01
to = 2026-02-01
grade = "C"
source = "s"

[[set]]
name = "meta"
addresses = ["31.13.64.0/18", "157.240.0.0/16"]
grade = "C"
source = "s"

[[hypothesis]]
id = "h"
title = "H"
description = "d"
"""


def rule(name: str, text: str) -> str:
    return f'\n[[hypothesis.rule]]\nname = "{name}"\n{text}\ngrade = "C"\nsource = "s"\n'


def problems_of(write: Write, *rules: str) -> list[str]:
    text = HEAD + "".join(rule(f"r{number}", one) for number, one in enumerate(rules, 1))
    path = write("op.toml", text)
    return [line.removeprefix(f"{path}: hypothesis h: rule ") for line in check(path)]


# match and act -> why no packet can meet it
NEVER = [
    ('match = { dns = ["a.example"], protocol = "tcp" }\nact = "drop"', "dns reads UDP questions"),
    (
        'match = { name = ["a.example"], name_in = ["quic"], protocol = "tcp" }\nact = "drop"',
        "QUIC goes over UDP",
    ),
    (
        'match = { name = ["a.example"], name_in = ["tls", "http"],protocol="udp" }\nact = "drop"',
        "http, tls go over TCP",
    ),
    ('match = { dns = ["a.example"] }\nact = "reset"', "act reset forges TCP"),
    ('match = { payload = ["rtp"] }\nact = "finish"', "act finish forges TCP"),
    (
        'match = { stun = true, size = "-19" }\nact = "drop"',
        "size = '-19', and STUN",
    ),
    (
        'match = { stun_attribute = [8], size = 20 }\nact = "drop"',
        "size = 20, and a STUN",
    ),
    (
        'match = { name = ["a.example"], size = 0 }\nact = "drop"',
        "size = 0, and a name",
    ),
    (
        'match = { entropy = "0.9-", size = "-1" }\nact = "drop"',
        "size = '-1', and an",
    ),
    (
        'match = { payload = ["rtp"], size = 0 }\nact = "drop"',
        "size = 0, and a",
    ),
    ('match = { packets = "10-", bytes = "-199" }\nact = "drop"', "10 packets have at least 200"),
    (
        'match = { packets = 1, seconds = "0.1-" }\nact = "drop"',
        "a flow's first",
    ),
    ('match = { name = ["a.example"], payload = ["rtp"] }\nact = "drop"', "name stands in no"),
    (
        'match = { dns = ["a.example"], payload = ["sip"] }\nact = "drop"',
        "dns is asked",
    ),
    (
        'match = { stun_method = [1], payload = ["rtp"] }\nact = "drop"',
        "STUN details are",
    ),
    ('match = { packets = "-0" }\nact = "drop"', "packets = '-0' lies outside of what there is"),
    ('match = { entropy = "1.5-" }\nact = "drop"', "entropy = '1.5-' lies outside"),
    ('match = { size = 70000 }\nact = "drop"', "size = 70000 lies outside"),
    ('match = { bytes = "-10" }\nact = "drop"', "bytes = '-10' lies outside"),
    ('match = { name = ["a.example"], dns = ["b.example"] }\nact = "drop"', "name and dns never"),
    ('match = { stun = false, stun_method = ["binding"] }\nact = "drop"', "stun = false, and STUN"),
    ('match = { stun = true, payload = ["rtp"] }\nact = "drop"', "stun = true, and payload"),
    ('match = { stun = false, payload = ["stun"] }\nact = "drop"', "stun = false, and payload"),
    ('match = { protocol = "tcp", payload = ["quic", "rtp"] }\nact = "drop"', "quic, rtp go over"),
    ('match = { protocol = "udp", payload = ["http"] }\nact = "drop"', "http go over TCP"),
    ('match = { protocol = "other", ports = [53] }\nact = "drop"', 'protocol = "other" has no'),
    ('match = { protocol = "udp" }\nact = "reset"', "act reset forges TCP"),
]


@pytest.mark.parametrize(("text", "why"), NEVER)
def test_a_rule_that_can_never_match_is_told_with_the_reason(
    write: Write, text: str, why: str
) -> None:
    (line,) = problems_of(write, text)
    assert line.startswith(f"r1: can never match: {why}")


# an earlier and a later rule; whether the later one is shadowed
PAIRS = [
    ("match = { stun = true, one_in = 4 }", "match = { stun = true, one_in = 4 }", False),
    ("match = { stun = true }", "match = { stun = true, one_in = 4 }", True),
    ('match = { dscp = ["ef"] }', "match = { dscp = [46] }", True),
    ('match = { dscp = ["ef"] }', "match = { dscp = [46, 0] }", False),
    (
        'match = { resolved = ["*.a.example"] }',
        'match = { resolved = ["b.a.example"] }',
        True,
    ),
    ('match = { stun = true }\nhours = ["08:00-20:00"]', "match = { stun = true }", False),
    ("match = { stun = true }\non_s = 1\noff_s = 1", "match = { stun = true }", False),
    ("match = { stun = true }", "match = { stun = true, ports = [3478] }", True),
    ("match = { stun = true, ports = [3478] }", "match = { stun = true }", False),
    ('match = { ports = ["3000-4000"] }', 'match = { ports = [3478, "3479-3481"] }', True),
    ('match = { ports = ["3000-4000"] }', 'match = { ports = [3478, "3999-4001"] }', False),
    ('match = { addresses = ["meta"] }', 'match = { addresses = ["31.13.64.0/20"] }', True),
    ('match = { addresses = ["31.13.64.0/20"] }', 'match = { addresses = ["meta"] }', False),
    ('match = { name = ["*.a.example"] }', 'match = { name = ["x.a.example"] }', True),
    ('match = { name = ["a.example"] }', 'match = { name = ["*.a.example"] }', False),
    ('match = { size = "100-" }', 'match = { size = "200-300" }', True),
    ('match = { size = "200-300" }', 'match = { size = "100-" }', False),
    ('match = { app = ["viber", "skype"] }', 'match = { app = ["viber"], role = ["media"] }', True),
    ('match = { app = ["viber"] }', 'match = { app = ["viber"], verdict = "unsure" }', False),
    ('match = { name = ["a.example"], name_in = ["tls"] }', 'match = { name = ["a.example"] }',
     False),
    ("match = { stun = true }\nprobability = 0.5", "match = { stun = true }", False),
    ("match = { stun = true }\nafter = { packets = 3 }", "match = { stun = true }", False),
    ('match = { stun = true }\naccess = ["3g"]', "match = { stun = true }", False),
    ("match = { stun = true }\nfrom = 2026-01-09", "match = { stun = true }", False),
    ("match = { stun = true }\nto = 2026-01-09", "match = { stun = true }", False),
    ("match = { stun = true }", "match = { stun = true }\nto = 2026-01-09", True),
]  # fmt: skip


def test_a_rule_that_only_marks_shadows_none(write: Write) -> None:
    mark = 'match = { stun = true }\nact = "mark"\ncode_point = "le"'
    assert problems_of(write, mark, 'match = { stun = true }\nact = "drop"') == []


@pytest.mark.parametrize(("earlier", "later", "shadowed"), PAIRS)
def test_a_rule_is_shadowed_by_an_earlier_one_that_meets_all_that_it_could(
    write: Write, earlier: str, later: str, shadowed: bool
) -> None:
    lines = problems_of(write, f'{earlier}\nact = "pass"', f'{later}\nact = "drop"')
    expected = [
        "r2: is shadowed: rule r1 stands before it and meets every packet that it could meet"
    ]
    assert lines == (expected if shadowed else [])


def test_a_rule_that_holds_nowhere_is_told(write: Write) -> None:
    text = 'match = { stun = true }\nact = "drop"\n'
    never = "r1: never holds: no period of the operator has its access networks and days"
    assert problems_of(write, text + 'access = ["adsl"]') == [never]
    assert problems_of(write, text + "from = 2026-03-01") == [never]
    assert problems_of(write, text + "from = 2026-01-31") == []


def test_a_file_that_cannot_be_read_as_a_policy_is_told_as_loading_it_would(write: Write) -> None:
    lines = problems_of(write, 'match = { protocl = "udp" }\nact = "drop"')
    assert lines == ["r1: match: protocl: unknown key; did you mean protocol?"]


@pytest.mark.parametrize("name", available())
def test_what_ships_has_no_problem(name: str) -> None:
    assert check(OPERATORS / f"{name}.toml") == []
