# SPDX-License-Identifier: BSD-3-Clause
"""Operator files: strict, dated, and honest about what is not known."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import pytest

from midcall import errors
from midcall.access import ACCESS
from midcall.testbed.policy.language import METHODS
from midcall.testbed.policy.loader import available, load
from midcall.testbed.policy.operator import EMPTY
from midcall.testbed.policy.syntax import host_address, port_range, span

Write = Callable[[str, str], Path]

HEAD = """
id = "op"
title = "Op"
country = "MA"
"""
RULE = """
[[hypothesis]]
id = "h"
title = "H"
description = "d"

[[hypothesis.rule]]
name = "r"
match = { ports = [5060] }
act = "drop"
grade = "C"
source = "s"
"""

# operator, access, date -> whether calls were blocked
DATED = [
    ("3g", date(2016, 1, 4), False),
    ("3g", date(2016, 1, 5), True),
    ("4g", date(2016, 1, 5), True),
    ("adsl", date(2016, 1, 5), False),
    ("wifi", date(2016, 2, 25), False),
    ("adsl", date(2016, 2, 26), True),
    ("wifi", date(2016, 2, 26), True),
    ("4g", date(2016, 11, 3), True),
    ("4g", date(2016, 11, 4), False),
    ("adsl", date(2016, 11, 4), False),
    ("fibre", date(2016, 6, 1), False),
]


def problems(path: Path) -> list[str]:
    with pytest.raises(errors.TestbedError) as error:
        load(path)
    return [line.removeprefix(f"{path}: ") for line in str(error.value).splitlines()]


@pytest.mark.parametrize("operator", ["maroc-telecom", "inwi", "meditel"])
@pytest.mark.parametrize(("access", "day", "blocked"), DATED)
def test_shipped_operators_block_where_and_when_the_dated_table_says(
    operator: str, access: str, day: date, blocked: bool
) -> None:
    policy = load(operator).policy("signature", access, day)
    assert bool(policy.rules) is blocked


@pytest.mark.parametrize(
    ("operator", "documented"), [("maroc-telecom", True), ("inwi", False), ("meditel", False)]
)
def test_only_maroc_telecom_has_a_documented_adsl_service(operator: str, documented: bool) -> None:
    loaded = load(operator)
    assert loaded.service("adsl") is documented
    assert loaded.service("4g")


@pytest.mark.parametrize("operator", ["maroc-telecom", "inwi", "meditel"])
def test_every_shipped_rule_is_a_hypothesis_with_a_grade_and_a_source(operator: str) -> None:
    loaded = load(operator)
    rules = [rule for one in loaded.hypotheses for rule in loaded.rules_of(one)]
    assert len(rules) > 20
    assert all(rule.hypothesis and rule.grade in "CD" and rule.source for rule in rules)


def test_intermittent_blocking_of_fixed_lines_holds_for_its_hypothesis_alone() -> None:
    loaded = load("maroc-telecom")
    day = date(2016, 1, 20)
    early = loaded.policy("intermittent", "adsl", day)
    assert {rule.probability for rule in early.rules} == {0.5}
    assert {rule.per for rule in early.rules} == {"client"}
    assert loaded.policy("signature", "adsl", day).rules == ()
    full = loaded.policy("intermittent", "adsl", date(2016, 3, 1))
    assert {rule.probability for rule in full.rules} == {1.0}


def test_policies_of_equal_rules_are_equal_whatever_they_are_in_force_for() -> None:
    one = load("inwi").policy("address", "3g", date(2016, 1, 20))
    two = load("meditel").policy("address", "4g", date(2016, 5, 1))
    assert one == two
    assert repr(one) == repr(two)
    assert repr(load("inwi").policy("stun", "3g", date(2015, 1, 1))) == repr(EMPTY)
    assert one.hypothesis == "address"


def test_an_address_set_is_spelt_out_where_a_rule_names_it() -> None:
    policy = load("inwi").policy("address", "3g", date(2016, 1, 20))
    meta = next(rule for rule in policy.rules if rule.name == "meta-addresses")
    assert "31.13.64.0/18" in policy.prefixes(meta)


def test_all_problems_of_a_file_are_told_at_once(write: Write) -> None:
    rule = RULE.replace("ports = [5060]", 'protocl = "udp", app = ["whatsap"], ports = ["9-7"]')
    text = HEAD + rule.replace('act = "drop"', 'act = "dropp"\nscop = "flow"')
    assert problems(write("op.toml", text)) == [
        "hypothesis h: rule r: match: app: got 'whatsap', expected some of whatsapp, skype, viber, "
        "facetime, messenger, signal, telegram, zoom, teams, meet, webex, discord, line, "
        "kakaotalk, wechat, imo, snapchat, agora, sip, other-rtc, meta, "
        "microsoft, rtc; did you mean whatsapp?",
        "hypothesis h: rule r: match: ports: got '9-7', expected a port (5060) or a range "
        '("3478-3481")',
        "hypothesis h: rule r: match: protocl: unknown key; did you mean protocol?",
        "hypothesis h: rule r: act: got 'dropp', expected one of pass, drop, stall, drop-media, "
        "dns-lie, reset, finish, block-page, unreachable, mark, duplicate, corrupt, delay, "
        "jitter, loss, police, shape, prioritise, reorder, censor; did you mean drop?",
        "hypothesis h: rule r: scop: unknown key; did you mean scope?",
    ]


# text of the rule's match and act -> the one problem
BAD_RULES = [
    (
        "match = { }",
        'act = "drop"',
        "match is empty and would meet every packet; say what it must meet",
    ),
    (
        "match = { ports = [53] }",
        'act = "dns-lie"',
        "act dns-lie needs match.dns, the names to lie about",
    ),
    (
        'match = { role = ["media"] }',
        'act = "drop-media"\nscope = "flow"',
        'act drop-media is decided packet by packet; leave scope out, or give "packet"',
    ),
    (
        'match = { name = ["https://a.example"] }',
        'act = "drop"',
        "match: name: got 'https://a.example', expected a host name in lower case, or *. and a "
        "host name",
    ),
    (
        'match = { addresses = ["10.0.0.1/8"] }',
        'act = "drop"',
        "match: addresses: got '10.0.0.1/8', expected an address prefix such as 198.18.0.0/15 "
        "(10.0.0.1/8 has host bits set)",
    ),
    (
        'match = { addresses = ["mta"] }',
        'act = "drop"',
        "match: addresses: no [[set]] 'mta'; did you mean meta?",
    ),
    (
        "match = { ports = [70000] }",
        'act = "drop"',
        'match: ports: got 70000, expected a port (5060) or a range ("3478-3481")',
    ),
]


@pytest.mark.parametrize(("match", "act", "problem"), BAD_RULES)
def test_a_bad_rule_is_told_by_its_place_and_its_mend(
    write: Write, match: str, act: str, problem: str
) -> None:
    text = RULE.replace("match = { ports = [5060] }", match).replace('act = "drop"', act)
    known = '[[set]]\nname = "meta"\naddresses = ["31.13.64.0/18"]\ngrade = "C"\nsource = "s"\n'
    assert problems(write("op.toml", HEAD + known + text)) == [f"hypothesis h: rule r: {problem}"]


def test_a_period_must_hold_a_day(write: Write) -> None:
    period = (
        '[[period]]\naccess = ["3g"]\nfrom = 2016-01-05\nto = 2016-01-05\n'
        'grade = "C"\nsource = "s"\nonly = ["hh"]\n'
    )
    assert problems(write("op.toml", HEAD + period + RULE)) == [
        "period 1: from 2016-01-05 to 2016-01-05 holds no day; `to` is excluded",
        "period 1: only: no hypothesis 'hh'; did you mean h?",
    ]


def test_a_hypothesis_takes_rules_over_or_has_its_own(write: Write) -> None:
    both = RULE.replace('id = "h"', 'id = "h"\nrules_of = "h2"')
    path = write("op.toml", HEAD + both)
    assert problems(path) == [
        "hypothesis h: give either [[hypothesis.rule]] tables or rules_of, one of the two",
        "hypothesis h: rules_of: no hypothesis 'h2' with rules of its own",
    ]


def test_a_missing_include_is_told_with_the_file_that_is_missing(write: Write) -> None:
    path = write("op.toml", HEAD.replace('"MA"', '"MA"\ninclude = ["shared.toml"]') + RULE)
    with pytest.raises(errors.TestbedError, match=r"shared\.toml: no such file"):
        load(path)


def test_problems_of_an_included_file_are_told_with_its_own_name(write: Write) -> None:
    write("shared.toml", RULE.replace('id = "h"', 'id = "k"').replace("grade", "grad"))
    path = write("op.toml", HEAD + 'include = ["shared.toml"]\n' + RULE.replace("title", "titel"))
    with pytest.raises(errors.TestbedError) as error:
        load(path)
    text = str(error.value)
    assert "op.toml: hypothesis h: titel: unknown key; did you mean title?" in text
    assert "shared.toml: hypothesis k: rule r: grad: unknown key; did you mean grade?" in text


def test_an_unknown_operator_is_told_with_the_closest_match() -> None:
    with pytest.raises(errors.TestbedError) as error:
        load("maroc-telekom")
    known = ", ".join(available())
    assert str(error.value) == (
        f"no operator 'maroc-telekom' ships with the lab; give one of {known}, or the path of a "
        ".toml file; did you mean maroc-telecom?"
    )


def test_an_unknown_hypothesis_or_access_is_told() -> None:
    loaded = load("inwi")
    with pytest.raises(errors.TestbedError, match="'signatur'; did you mean signature"):
        loaded.policy("signatur", "3g", date(2016, 2, 1))
    with pytest.raises(errors.TestbedError, match=f"expected one of {', '.join(ACCESS)}"):
        loaded.policy("signature", "5g", date(2016, 2, 1))


def test_a_range_of_ports_holds_both_its_ends() -> None:
    assert port_range("3478-3481") == (3478, 3481)
    assert port_range(5060) == (5060, 5060)
    assert port_range("1-65535") == (1, 65535)


@pytest.mark.parametrize("word", [-1, 0, 65536, "0-9", "9-65536", "9-8", "9", "9-"])
def test_a_range_of_ports_lies_within_them_and_does_not_run_backwards(word: int | str) -> None:
    with pytest.raises(ValueError, match=f"got {word!r}, expected a port"):
        port_range(word)


@pytest.mark.parametrize(
    ("match", "problem"),
    [
        ('role = ["medla"]', "match: role: got 'medla', expected some of "),
        ('payload = ["rtq"]', "match: payload: got 'rtq', expected some of unknown, stun, "),
        ('stun_method = ["bind"]', "match: stun_method: got 'bind', expected some of binding, "),
        ('hello = ["4" ]', "match: hello: got '4', expected 16 hexadecimal digits in lower case"),
        ('dns = ["A.example"]', "match: dns: got 'A.example', expected a host name in lower case"),
        ('size = "a-b"', "match: size: got 'a-b', expected "),
        ('size = "-"', "match: size: got '-', expected "),
        ('ports = [5060]\nname_in = ["tls"]', "match: name_in says where `name` is looked for, "),
        ('ports = [5060]\nverdict = "unsure"', "match: verdict says how sure app or role must be"),
    ],
)
def test_a_word_that_the_language_does_not_have_is_refused(
    write: Write, match: str, problem: str
) -> None:
    words = match.replace("\n", ", ")
    text = HEAD + RULE.replace("ports = [5060]", words)
    (line,) = problems(write("op.toml", text))
    assert line.startswith(f"hypothesis h: rule r: {problem}")


def test_methods_have_the_numbers_of_their_rfcs() -> None:
    turn = {"allocate": 0x3, "refresh": 0x4, "send": 0x6, "data": 0x7}  # RFC 8656 section 18.1
    turn |= {"create-permission": 0x8, "channel-bind": 0x9}
    assert {"binding": 0x1} | turn == METHODS  # RFC 8489 section 18.2


def test_a_range_may_be_open_at_an_end_and_holds_both_ends() -> None:
    assert span("100-200") == (100.0, 200.0)
    assert span("-200") == (0.0, 200.0)
    assert span("100-") == (100.0, float("inf"))


def test_what_is_no_address_is_told_as_such() -> None:
    with pytest.raises(ValueError, match="got 'nx', expected an address, or nxdomain"):
        host_address("nx")


PERIOD = (
    '[[period]]\naccess = ["3g"]\nfrom = 2016-01-05\nto = 2016-02-05\ngrade = "C"\nsource = "s"\n'
)
DAY = date(2016, 1, 6)


@pytest.mark.parametrize(("own", "whole"), [("", 0.5), ("probability = 0.5\n", 0.25)])
def test_a_period_makes_its_rules_as_rare_as_it_is(write: Write, own: str, whole: float) -> None:
    text = HEAD + 'fail = "closed"\n' + PERIOD + "probability = 0.5\n" + RULE + own
    policy = load(write("op.toml", text)).policy("h", "3g", DAY)
    assert [rule.probability for rule in policy.rules] == [whole]
    assert policy.fail == "closed"


def test_a_period_that_ends_before_it_begins_and_rules_of_one_name_are_refused(
    write: Write,
) -> None:
    second = RULE.partition("[[hypothesis.rule]]")[2]
    text = HEAD + PERIOD.replace("02-05", "01-04") + RULE + "[[hypothesis.rule]]" + second
    assert problems(write("op.toml", text)) == [
        "hypothesis h: two rules are called 'r'; give each a name of its own",
        "period 1: from 2016-01-05 to 2016-01-04 holds no day; `to` is excluded",
    ]
