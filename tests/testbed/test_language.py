# SPDX-License-Identifier: BSD-3-Clause
"""The language of rules: what may be said, what it then means, and what is refused."""

from __future__ import annotations

import tomllib
from datetime import date
from typing import Any

import pytest
from pydantic import ValidationError

from midcall.captures.truth.strict_toml import sentences
from midcall.testbed.network.link import Link
from midcall.testbed.policy.language import PARAMETERS, Rule

HEAD = 'name = "r"\ngrade = "C"\nsource = "s"\n'
STUN = "match = { stun = true }\n"
DROP = 'act = "drop"\n'


def table(text: str) -> dict[str, Any]:
    """Return a rule as it stands in a file; it asks for STUN where the text has no match."""
    return tomllib.loads(HEAD + (text if "match" in text else STUN + text))


def rule(text: str) -> Rule:
    return Rule.model_validate(table(text))


def problems(text: str) -> list[str]:
    try:
        rule(text)
    except ValidationError as error:
        return list(sentences(error, table(text), Rule))
    return []


# a rule, the least and the most that may stand for @, and what is too little and too much
BOUNDS = [
    (DROP + "lasts_s = @", (0.001, 1e6), (0.0, -1.0)),
    (DROP + "probability = @", (0.001, 1.0), (0.0, 1.001)),
    ('act = "delay"\ndelay_ms = @', (0.0, 60_000.0), (-0.1, 60_000.1)),
    ('act = "jitter"\njitter_ms = @', (0.0, 10_000.0), (-0.1, 10_000.1)),
    ('act = "loss"\nloss = @', (0.0, 1.0), (-0.1, 1.001)),
    ('act = "loss"\nloss = 0.1\nburst = @', (0.0, 0.5), (-0.1,)),
    ('act = "police"\nbucket_bytes = 9\nrate_kbit = @', (0.0, 0.5), (-0.1,)),
    ('act = "police"\nrate_kbit = 9.0\nbucket_bytes = @', (0, 1), (-1,)),
    ('act = "shape"\nrate_kbit = 9.0\nqueue_ms = @', (0.0, 0.5), (-0.1,)),
    (DROP + "after = { packets = @, seconds = 9.0 }", (0, 1), (-1,)),
    (DROP + "after = { bytes = @, seconds = 9.0 }", (0, 1), (-1,)),
    (DROP + "after = { seconds = @, packets = 9 }", (0.0, 0.5), (-0.1,)),
]


@pytest.mark.parametrize(("text", "fine", "refused"), BOUNDS)
def test_a_number_lies_within_what_can_be(
    text: str, fine: tuple[float, ...], refused: tuple[float, ...]
) -> None:
    for number in fine:
        assert problems(text.replace("@", str(number))) == []
    for number in refused:
        (problem,) = problems(text.replace("@", str(number)))
        assert f": got {number}, expected: input should be " in f": {problem}"


# what a rule says -> the one problem, None where it is fine
SAID = [
    ('match = { }\nact = "drop"', "match is empty and would meet every packet; "),
    ('match = { }\nact = "censor"\nfile = "f.py"', None),
    (STUN + 'act = "censor"\nfile = "f.py"', None),
    ('match = { app = ["unknown"] }\nact = "drop"', "match: app: got 'unknown', expected some of "),
    ('match = { app = ["whatsapp"] }\nact = "drop"', None),
    ('aims = ["unknown"]\nact = "drop"', "aims: got 'unknown', expected some of whatsapp, "),
    ('aims = ["whatsapp"]\nact = "drop"', None),
    ('match = { role = ["media"], verdict = "unsure" }\nact = "drop"', None),
    ('match = { name = ["a.example"], name_in = ["tls"] }\nact = "drop"', None),
    ('match = { stun_method = ["binding", 4] }\nact = "drop"', None),
    ('match = { hello = ["0123456789abcdef"] }\nact = "drop"', None),
    ('match = { addresses = ["1.1.1.1", "meta", "fe80::/10"] }\nact = "drop"', None),
    ('match = { addresses = ["1"] }\nact = "drop"', "match: addresses: got '1', expected an addr"),
    ('match = { addresses = ["a/8"] }\nact = "drop"', "match: addresses: got 'a/8', expected an "),
    ('match = { dns = ["a.example"] }\nact = "dns-lie"', None),
    (STUN + 'act = "dns-lie"', "act dns-lie needs match.dns, the names to lie about"),
    ('match = { dns = ["a.example"] }\nact = "dns-lie"\nanswer = "nxdomain"', None),
    ('match = { dns = ["a.example"] }\nact = "dns-lie"\nanswer = "::1"', None),
    (
        'match = { dns = ["a.example"] }\nact = "dns-lie"\nanswer = "nx"',
        "got 'nx', expected an address, or nxdomain",
    ),
    ('act = "drop-media"', None),
    ('act = "drop-media"\nscope = "call"', "act drop-media is decided packet by packet; leave "),
    ('act = "drop-media"\nscope = "packet"', None),
    ('match = { dns = ["a.example"] }\nact = "dns-lie"\nscope = "packet"', None),
    ('act = "mark"\ncode_point = 8\nscope = "packet"', None),
    ('act = "drop"\nscope = "packet"', None),
    ('act = "drop"\nscope = "packet"\nlasts_s = 1.0', "lasts_s needs a scope that lasts: "),
    ('act = "drop-media"\nlasts_s = 1.0', "lasts_s needs a scope that lasts: flow, call, "),
    ('act = "drop"\nscope = "flow"\nlasts_s = 1.0', None),
    ('act = "drop"\nfrom = 2016-01-05', None),
    ('act = "drop"\nto = 2016-01-05', None),
    ('act = "drop"\nfrom = 2016-01-05\nto = 2016-01-06', None),
    ('act = "drop"\nfrom = 2016-01-05\nto = 2016-01-05', "from 2016-01-05 to 2016-01-05 holds no "),
    ('act = "drop"\nfrom = 2016-01-05\nto = 2016-01-04', "from 2016-01-05 to 2016-01-04 holds no "),
    ('act = "drop"\npath = "on"', "path on sees copies and can only inject (dns-lie, reset, "),
    ('act = "drop"\npath = "in"', None),
    ('act = "reset"\npath = "on"', None),
    ('act = "stall"', "act stall needs after: what the flow may still do"),
    ('act = "stall"\nafter = { packets = 1 }', None),
    ('act = "stall"\nafter = { bytes = 1 }', None),
    ('act = "stall"\nafter = { seconds = 0.5 }', None),
    ('act = "stall"\nafter = { }', "after: give packets, bytes, seconds or flows"),
    ('act = "stall"\nafter = { packets = 0 }', "after: give packets, bytes, seconds or flows"),
    ('act = "drop"\nafter = { flows = 2, per = "client" }', None),
    ('act = "drop"\nafter = { flows = 2 }', "after: flows counts a subject of several flows; give"),
    ('act = "drop"\nafter = { bytes = 2, every_s = 9.0 }', "after: every_s counts a subject of "),
    ('act = "drop"\nafter = { bytes = 2, idle_s = 9.0 }', "after: idle_s counts a subject of "),
    ('act = "drop"\nafter = { seconds = 2.0, direction = "up" }', "after: direction says which "),
    ('match = { dscp = ["ef", 0, 63, "af43"] }\nact = "drop"', None),
    (
        'match = { dscp = [64] }\nact = "drop"',
        "match: dscp: got 64, expected a code point from 0 to",
    ),
    (
        'match = { dscp = ["af14"] }\nact = "drop"',
        "match: dscp: got 'af14', expected a code point ",
    ),
    ('match = { stun = true, one_in = 1000 }\nact = "drop"', None),
    ('match = { one_in = 0 }\nact = "drop"', "match: one_in: got 0, expected: input should be "),
    ('match = { name = ["a.example"], name_in = ["http"] }\nact = "block-page"', None),
    ('match = { name = ["a.example"] }\nact = "block-page"', "act block-page answers HTTP; give "),
    (
        'match = { name = ["a.example"], name_in = ["http", "tls"] }\nact = "block-page"',
        "act block-page answers HTTP; give match.name and ",
    ),
    ('act = "drop"\ndigest = ""', "digest: unknown key; the lab finds it out"),
    ('act = "delay"', "act delay needs delay_ms"),
    ('act = "delay"\ndelay_ms = 9.0\njitter_ms = 1.0', None),
    ('act = "jitter"\njitter_ms = 9.0\ndelay_ms = 1.0', "delay_ms says nothing about act jitter; "),
    ('act = "police"\nrate_kbit = 9.0', "act police needs bucket_bytes"),
    ('act = "drop"\nloss = 0.5', "loss says nothing about act drop; leave it out"),
    ('act = "reset"\ntowards = "client"', None),
    ('act = "drop"\nhours = ["18:00-24:00", "22:30-06:00"]', None),
    ('act = "drop"\nhours = ["18-24"]', "hours: got '18-24', expected times of day"),
    (
        'act = "drop"\nhours = ["18:00-18:00"]',
        "hours: got '18:00-18:00', expected two times of day",
    ),
    (
        'act = "drop"\nhours = ["18:00-24:30"]',
        "hours: got '18:00-24:30', expected two times of day",
    ),
    ('act = "drop"\non_s = 1.0\noff_s = 9.0', None),
    ('act = "drop"\non_s = 1.0', "on_s and off_s go in turn; give both, or neither"),
    ('act = "reset"\nresets = [0, 1460]\nhops = "own"\nip_id = 7', None),
    ('act = "reset"\nresets = [1460]', "resets: got [1460], expected 0, then 0 to 1048576"),
    ('act = "reset"\nresets = []', "resets: got [], expected 0, then 0 to 1048576"),
    (f'act = "reset"\nresets = {[0] * 9}', "resets: got 9 entries, expected at most 8"),
    ('act = "reset"\nhops = 0', "hops: got 0, expected a number from 1 to 255, or own"),
    ('act = "reset"\nip_id = 65536', "ip_id: got 65536, expected a number from 0 to 65535, or own"),
    ('act = "finish"\nresets = [0]', "resets says nothing about act finish; leave it out"),
    ('act = "mark"\ncode_point = "le"', None),
    ('act = "mark"', "act mark needs code_point"),
    ('act = "mark"\ncode_point = 64', "code_point: got 64, expected a code point from 0 to 63"),
    (
        'act = "mark"\ncode_point = 8\nscope = "flow"',
        "act mark is decided packet by packet; leave ",
    ),
    ('act = "unreachable"\ncode = "net"\npath = "on"', None),
    ('act = "drop"\ncode = "net"', "code says nothing about act drop; leave it out"),
    ('act = "drop"\ntowards = "client"', "towards says nothing about act drop; leave it out"),
    ('act = "drop"\nhypothesis = "yes"', "hypothesis: got 'yes', expected: input should be a "),
]


@pytest.mark.parametrize(("text", "problem"), SAID)
def test_a_rule_is_told_what_it_must_not_say_and_nothing_else(
    text: str, problem: str | None
) -> None:
    problem_lines = problems(text)
    assert len(problem_lines) == (problem is not None)
    assert all(line.startswith(problem or "") for line in problem_lines)


@pytest.mark.parametrize("act", list(PARAMETERS))
def test_an_act_lacks_all_that_it_needs_and_tells_the_first(act: str) -> None:
    matches = {
        "dns-lie": 'match = { dns = ["a.example"] }\n',
        "block-page": 'match = { name = ["a.example"], name_in = ["http"] }\n',
    }
    match = matches.get(act, STUN)
    needed = PARAMETERS[act][0]
    assert problems(f'{match}act = "{act}"') == [f"act {act} needs {key}" for key in needed[:1]]


# what a rule says -> what its act does in time
LINKS = [
    ('act = "drop"', Link()),
    ('act = "delay"\ndelay_ms = 40.0', Link(delay_ms=40.0)),
    ('act = "delay"\ndelay_ms = 40.0\njitter_ms = 20.0', Link(delay_ms=40.0, jitter_ms=20.0)),
    # jitter alone: its bell of 3.5 deviations just begins at no delay
    ('act = "jitter"\njitter_ms = 20.0', Link(delay_ms=70.0, jitter_ms=20.0)),
    ('act = "loss"\nloss = 0.2\nburst = 3.0', Link(loss=0.2, burst=3.0)),
    ('act = "police"\nrate_kbit = 64.0\nbucket_bytes = 999',
     Link(police_kbit=64.0, bucket_bytes=999)),
    ('act = "shape"\nrate_kbit = 64.0\nqueue_ms = 500.0', Link(rate_kbit=64.0, queue_ms=500.0)),
    ('act = "prioritise"\nscope = "client"\nrate_kbit = 64.0\nqueue_ms = 500.0\nfirst = ["ef", 0]\n'
     'cross_kbit = 32.0',
     Link(rate_kbit=64.0, queue_ms=500.0, cross_kbit=32.0, first=(46, 0))),
]  # fmt: skip


@pytest.mark.parametrize(("text", "link"), LINKS)
def test_an_act_of_time_is_the_link_that_its_parameters_say(text: str, link: Link) -> None:
    assert rule(text).link == link


def test_what_a_rule_leaves_out_makes_it_hold_always_and_at_once() -> None:
    plain = rule('act = "drop"')
    assert (plain.probability, plain.per, plain.scope) == (1.0, "flow", "flow")
    assert (plain.lasts_s, plain.after, plain.way, plain.path) == (None, None, None, "in")
    assert not plain.hypothesis
    first = rule('act = "drop"\nafter = { packets = 3 }').after
    assert first is not None
    assert (first.packets, first.bytes, first.seconds) == (3, 0, 0.0)
    lie = rule('match = { dns = ["a.example"] }\nact = "dns-lie"')
    assert lie.answer == "198.18.0.66"  # of the prefix for benchmarks, RFC 2544


# days and access networks of a rule -> those of the four in which it holds
HOLDS = [
    ("", "3g 5, 3g 6, 3g 7, 4g 6"),
    ("from = 2016-01-06", "3g 6, 3g 7, 4g 6"),
    ("to = 2016-01-06", "3g 5"),
    ("from = 2016-01-06\nto = 2016-01-07", "3g 6, 4g 6"),
    ('access = ["3g"]', "3g 5, 3g 6, 3g 7"),
    ('access = ["3g"]\nfrom = 2016-01-06', "3g 6, 3g 7"),
    ('access = ["wifi", "4g"]', "4g 6"),
]


@pytest.mark.parametrize(("text", "expected"), HOLDS)
def test_a_rule_holds_on_its_networks_from_its_first_day_until_its_end(
    text: str, expected: str
) -> None:
    asked = [("3g", 5), ("3g", 6), ("3g", 7), ("4g", 6)]
    one = rule(f'act = "drop"\n{text}')
    in_force = [(access, day) for access, day in asked if one.holds(access, date(2016, 1, day))]
    assert ", ".join(f"{access} {day}" for access, day in in_force) == expected


# act and scope -> whom a match condemns
STRIKES = [
    ('act = "drop"', "flow"),
    ('act = "drop"\nscope = "client"', "client"),
    ('act = "drop-media"', "packet"),
    ('act = "drop-media"\nscope = "packet"', "packet"),
    ('act = "censor"\nfile = "f.py"', "packet"),
]


@pytest.mark.parametrize(("text", "scope"), STRIKES)
def test_an_act_by_packets_strikes_packets_and_another_its_scope(text: str, scope: str) -> None:
    assert rule(text).strikes == scope


# match and aims -> the apps that the rule is meant for
AIMS = [
    ('act = "drop"', []),
    ('match = { app = ["viber"] }\nact = "drop"', ["viber"]),
    ('act = "drop"\naims = ["skype"]', ["skype"]),
    ('match = { app = ["viber"] }\nact = "drop"\naims = ["skype"]', ["skype"]),
]


@pytest.mark.parametrize(("text", "apps"), AIMS)
def test_a_rule_is_aimed_at_what_it_says_or_at_the_apps_that_it_asks_for(
    text: str, apps: list[str]
) -> None:
    assert rule(text).aimed_at == apps


def test_what_the_lab_found_out_of_a_rule_is_not_among_what_it_says() -> None:
    censor_rule = rule('act = "censor"\nfile = "f.py"').model_copy(update={"digest": "0" * 64})
    dumped = censor_rule.model_dump(exclude_defaults=True, by_alias=True)
    assert Rule.model_validate(dumped) == censor_rule.model_copy(update={"digest": ""})
