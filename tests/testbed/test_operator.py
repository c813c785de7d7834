# SPDX-License-Identifier: BSD-3-Clause
"""What an operator's file says of periods, sets and services, and what it may not say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import FrozenInstanceError
from datetime import date
from pathlib import Path

import pytest

from midcall.testbed.policy.loader import load, try_load
from midcall.testbed.policy.operator import Operator, Policy

Write = Callable[[str, str], Path]

HEAD = 'id = "op"\ntitle = "Op"\ncountry = "MA"\n'
PERIOD = '[[period]]\naccess = ["3g"]\nfrom = 2016-01-05\nto = 2016-02-05\n'
SET = '[[set]]\nname = "meta"\naddresses = ["31.13.64.0/18"]\n'
SERVICE = '[[service]]\naccess = ["3g"]\ndocumented = false\nsource = "s"\n'
SAID = 'grade = "C"\nsource = "s"\n'
DAY = date(2016, 1, 6)


def rule(name: str, text: str) -> str:
    return f'[[hypothesis.rule]]\nname = "{name}"\n{text}\n{SAID}'


def hypothesis(name: str, *rules: str) -> str:
    return f'[[hypothesis]]\nid = "{name}"\ntitle = "{name}"\ndescription = "d"\n' + "".join(rules)


DROP = rule("r", 'match = { stun = true }\nact = "drop"')
WHOLE = PERIOD + SAID + SET + SAID + SERVICE + hypothesis("h", DROP)


def operator_of(write: Write, text: str) -> Operator:
    return load(write("op.toml", HEAD + text))


def problems(write: Write, text: str) -> list[str]:
    path = write("op.toml", HEAD + text)
    return [line.removeprefix(f"{path}: ") for line in try_load(path)[1]]


NONE = "got [], expected: list should have at least 1 item after validation, not 0"

# what stands in the file, what stands there instead -> the one problem
REFUSED = [
    (PERIOD, PERIOD.replace('"3g"', ""), f"period 1: access: {NONE}"),
    (SERVICE, SERVICE.replace('"3g"', ""), f"service 1: access: {NONE}"),
    ('"31.13.64.0/18"', "", f"set meta: addresses: {NONE}"),
    (
        "31.13.64.0/18",
        "31.13.64.0/8",
        "set meta: addresses: got '31.13.64.0/8', expected an address prefix such as "
        "198.18.0.0/15 (31.13.64.0/8 has host bits set)",
    ),
    (
        PERIOD,
        PERIOD + "probability = 0.0\n",
        "period 1: probability: got 0.0, expected: input should be greater than 0",
    ),
    (
        PERIOD,
        PERIOD + "probability = 1.5\n",
        "period 1: probability: got 1.5, expected: input should be less than or equal to 1",
    ),
]


@pytest.mark.parametrize(("text", "instead", "problem"), REFUSED)
def test_what_a_table_may_not_say_is_told_by_its_place(
    write: Write, text: str, instead: str, problem: str
) -> None:
    assert problems(write, WHOLE) == []
    assert problems(write, WHOLE.replace(text, instead, 1)) == [problem]


@pytest.mark.parametrize("word", ["whatsap", "unknown"])
def test_targets_are_apps_that_calls_can_be_of(write: Write, word: str) -> None:
    assert operator_of(write, WHOLE).targets is None
    assert operator_of(write, 'targets = ["whatsapp"]\n' + WHOLE).targets == ["whatsapp"]
    (problem,) = problems(write, f'targets = ["{word}"]\n' + WHOLE)
    assert problem.startswith(f"targets: got '{word}', expected some of whatsapp, ")


def test_a_service_that_is_not_documented_is_so_where_it_says(write: Write) -> None:
    operator = operator_of(write, WHOLE)
    assert [operator.service(access) for access in ("3g", "4g")] == [False, True]


def test_a_period_is_a_hypothesis_where_it_says_so(write: Write) -> None:
    (plain,) = operator_of(write, WHOLE).periods
    (guess,) = operator_of(write, WHOLE.replace(PERIOD, PERIOD + "hypothesis = true\n")).periods
    assert (plain.hypothesis, guess.hypothesis) == (False, True)


# day -> whether calls were blocked
DAYS = [(4, 1, False), (5, 1, True), (4, 2, True), (5, 2, False), (6, 2, False)]


@pytest.mark.parametrize(("day", "month", "blocked"), DAYS)
def test_a_period_holds_from_its_first_day_until_its_end(
    write: Write, day: int, month: int, blocked: bool
) -> None:
    policy = operator_of(write, WHOLE).policy("h", "3g", date(2016, month, day))
    assert bool(policy.rules) is blocked


def test_a_period_that_is_always_enforced_leaves_its_rules_draws_as_they_are(write: Write) -> None:
    rare = WHOLE + "probability = 0.5\n"
    (alone,) = operator_of(write, rare).policy("h", "3g", DAY).rules
    assert (alone.probability, alone.per) == (0.5, "flow")
    rarer = rare.replace(PERIOD, PERIOD + "probability = 0.5\n")
    (both,) = operator_of(write, rarer).policy("h", "3g", DAY).rules
    assert (both.probability, both.per) == (0.25, "client")


def test_policies_of_equal_rules_are_equal_under_every_name_and_period(write: Write) -> None:
    later = PERIOD.replace("3g", "4g") + 'note = "later"\n' + SAID
    same = hypothesis("k").replace("description", 'rules_of = "h"\ndescription')
    operator = operator_of(write, WHOLE + later + same)
    one, two = operator.policy("h", "3g", DAY), operator.policy("k", "4g", DAY)
    assert one == two
    assert repr(one) == repr(two)
    assert (one.title, two.title) == ("h", "k")
    assert one.period != two.period


def test_a_policy_in_force_is_not_changed() -> None:
    with pytest.raises(FrozenInstanceError):
        Policy().fail = "closed"  # type: ignore[misc]


def test_the_first_of_several_rules_that_share_a_name_is_told(write: Write) -> None:
    rules = [DROP.replace('"r"', f'"{name}"') for name in "bcabca"]
    assert problems(write, hypothesis("h", *rules)) == [
        "hypothesis h: two rules are called 'a'; give each a name of its own"
    ]


def test_hypotheses_of_one_id_are_told_also_where_one_is_included(write: Write) -> None:
    write("shared.toml", hypothesis("h", DROP) + hypothesis("k", DROP))
    text = 'include = ["shared.toml"]\n' + hypothesis("h", DROP) + hypothesis("own", DROP)
    assert problems(write, text) == ["hypothesis h: two hypotheses have this id; give each its own"]


def test_a_period_of_a_file_that_includes_others_names_hypotheses_of_both(write: Write) -> None:
    write("shared.toml", hypothesis("shared", DROP))
    text = 'include = ["shared.toml"]\n' + PERIOD + 'only = ["h", "shared"]\n' + SAID
    text += hypothesis("h", DROP)
    assert problems(write, text) == []
    assert problems(write, text.replace('"h", "shared"', '"hh", "share"')) == [
        "period 1: only: no hypothesis 'hh'; did you mean h?",
        "period 1: only: no hypothesis 'share'; did you mean shared?",
    ]


# an address that a rule names -> what it is taken for, or the beginning of what is told of it
ADDRESSES = [
    ("meta", "31.13.64.0/18"),
    ("1.1.1.1", "1.1.1.1"),
    ("2001:db8::/32", "2001:db8::/32"),
    ("fe80::/10", "fe80::/10"),
    ("mta", "match: addresses: no [[set]] 'mta'; did you mean meta?"),
    ("1.1.1.256", "match: addresses: got '1.1.1.256', expected an address prefix "),
    ("10.0.0.1/8", "match: addresses: got '10.0.0.1/8', expected an address prefix "),
    ("fe80::1/10", "match: addresses: got 'fe80::1/10', expected an address prefix "),
]


@pytest.mark.parametrize(("word", "meaning"), ADDRESSES)
def test_an_address_of_a_rule_is_a_set_an_address_or_a_prefix(
    write: Write, word: str, meaning: str
) -> None:
    text = WHOLE.replace("stun = true", f'addresses = ["{word}"]')
    problem_lines = problems(write, text)
    if problem_lines:
        assert len(problem_lines) == 1
        assert problem_lines[0].startswith(f"hypothesis h: rule r: {meaning}")
    else:
        policy = operator_of(write, text).policy("h", "3g", DAY)
        assert policy.prefixes(policy.rules[0]) == [meaning]


def test_a_censor_has_its_files_digest_and_none_where_there_is_no_file(write: Write) -> None:
    write("there.py", "")
    rules = [rule(name, f'match = {{ }}\nact = "censor"\nfile = "{name}.py"')
             for name in ("there", "gone")]  # fmt: skip
    (one,) = operator_of(write, hypothesis("h", *rules)).hypotheses
    empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"  # sha256 of nothing
    assert [rule.digest for rule in one.rules] == [empty, ""]
