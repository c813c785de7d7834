# SPDX-License-Identifier: BSD-3-Clause
"""Specs: the shipped ones load, and every problem of a wrong one is told at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from midcall.errors import ExperimentError
from midcall.experiments.spec import grid, spec
from midcall.testbed.policy.loader import available

GOOD = """
schema = 1
name = "tiny"
title = "Tiny"
question = "What?"
seed = 7
operators = ["maroc-telecom"]
access = ["4g"]
apps = ["whatsapp"]
[[dates]]
date = 2016-01-20
label = "mobile only"
"""


def problems(text: str) -> str:
    with pytest.raises(ExperimentError) as caught:
        spec.parse(text.encode(), "tiny.toml")
    return str(caught.value)


def test_every_shipped_spec_loads_and_is_named_like_its_file() -> None:
    found = spec.shipped()
    assert {"morocco-2016", "smoke"} <= found.keys()
    for name in found:
        assert spec.load(name)[0].name == name


def test_the_default_spec_asks_the_question_of_the_mission() -> None:
    held, raw = spec.load("morocco-2016")
    assert held.operators == ["maroc-telecom", "inwi", "meditel"]
    assert held.access == ["3g", "4g", "adsl", "wifi"]
    assert held.apps == ["whatsapp", "skype", "viber", "facetime", "messenger"]
    assert [day.date.isoformat() for day in held.dates] == [
        "2015-12-15",
        "2016-01-20",
        "2016-03-15",
        "2016-11-15",
    ]
    assert held.captures.innocents == "all"
    assert held.scenario_year == 2016
    assert raw == spec.shipped()["morocco-2016"].read_bytes()


def test_an_unknown_key_is_an_error_with_the_closest_match() -> None:
    assert problems(GOOD.replace("access =", "acess =")) == (
        "tiny.toml: 2 problems\n  access: is missing\n  acess: unknown key (did you mean access?)"
    )


def test_an_unknown_key_of_an_inner_table_is_told_with_its_path() -> None:
    assert problems(GOOD + 'lable = "x"\n') == (
        "tiny.toml: dates[0].lable: unknown key (did you mean label?)"
    )
    assert problems(GOOD + "[captures]\nsynthetics = true\n") == (
        "tiny.toml: captures.synthetics: unknown key (did you mean synthetic?)"
    )


def test_an_unknown_word_is_an_error_with_the_closest_match() -> None:
    assert problems(GOOD.replace('"whatsapp"', '"whatsap"')) == (
        "tiny.toml: apps[0]: 'whatsap' is not known (did you mean whatsapp?)"
    )
    assert problems(GOOD.replace('"4g"', '"dialup"')) == (
        "tiny.toml: access[0]: 'dialup' is not known (known: 3g, 4g, adsl, fibre, wifi)"
    )


def test_all_problems_are_told_at_once() -> None:
    text = GOOD.replace("seed = 7", 'seed = "7"').replace('["4g"]', "[]").replace("= 1\n", "= 2\n")
    assert problems(text) == (
        "tiny.toml: 3 problems\n"
        "  schema: 2 is not known (known: 1)\n"
        "  seed: input should be a valid integer, got '7'\n"
        "  access: list should have at least 1 item after validation, not 0"
    )


def test_a_word_given_twice_and_dates_out_of_order_are_errors() -> None:
    assert problems(GOOD.replace('["4g"]', '["4g", "4g"]')) == (
        "tiny.toml: access: 4g given more than once"
    )
    assert problems(GOOD + '[[dates]]\ndate = 2015-01-20\nlabel = "x"\n') == (
        "tiny.toml: dates: must be in order, each once"
    )


def test_text_that_is_no_toml_is_told_with_its_line() -> None:
    assert problems("seed = = 1").startswith("tiny.toml: no valid TOML: ")


def test_a_spec_is_found_by_name_and_by_path(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    assert spec.load(str(path))[0].name == "tiny"
    assert spec.find("smoke") == spec.shipped()["smoke"]


def test_a_spec_that_is_not_there_is_told_with_the_closest_name(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"^unknown spec moroco-2016 \(did you mean morocco"):
        spec.find("moroco-2016")
    missing = str(tmp_path / "smok.toml")
    with pytest.raises(ExperimentError) as caught:
        spec.find(missing)
    assert str(caught.value) == f"{missing}: no such spec file (did you mean smoke?)"


def test_a_middlebox_of_somebody_elses_stands_alone_and_live() -> None:
    box = GOOD.replace('operators = ["maroc-telecom"]\n', 'middlebox = "suricata"\n')
    assert problems(box) == (
        'tiny.toml: backend: suricata is a live box, expected backend = "live"'
    )
    live = box.replace("seed = 7", 'seed = 7\nbackend = "live"')
    assert spec.parse(live.encode(), "tiny.toml").middlebox == "suricata"
    assert problems(live.replace("access =", 'operators = ["inwi"]\naccess =')) == (
        "tiny.toml: operators, hypotheses: suricata knows no operator's policy, so none may "
        "stand here"
    )
    assert problems(live.replace("seed = 7", 'seed = 7\nlink = "preset"')) == (
        'tiny.toml: link: suricata stands between plain links, expected link = "captured" or none'
    )
    assert problems(live.replace("seed = 7", "seed = 7\ndisguises = true")) == (
        "tiny.toml: disguises: is played in virtual time, where suricata cannot stand"
    )
    assert problems(live.replace("suricata", "command:")) == (
        'tiny.toml: middlebox: got \'command:\', expected "midcall", "suricata", "nfqueue" or '
        '"command: PROGRAM WORDS"'
    )
    assert problems(GOOD.replace('operators = ["maroc-telecom"]\n', "")) == (
        "tiny.toml: operators: none given, expected at least one"
    )
    assert problems(GOOD.replace("seed = 7", 'seed = 7\nbackend = "liv"')) == (
        "tiny.toml: backend: 'liv' is not known (did you mean live?)"
    )


def test_a_date_may_have_a_time_of_day_and_rules_of_other_hours_are_not_in_force() -> None:
    text = GOOD.replace("maroc-telecom", "china-2025-08").replace("2016-01-20", "2025-08-20")
    for line, rules in (("", 1), ("time = 01:00:00", 1), ("time = 12:00:00", 0)):
        held = spec.parse(f"{text}{line}\n".encode(), "tiny.toml")
        (cell,) = grid.cells(held, grid.load_operators(held))
        assert len(cell.policy.rules) == rules


def test_the_world_has_each_profile_of_it_on_a_day_on_which_its_rules_are_in_force() -> None:
    held, _ = spec.load("world")
    assert set(held.operators) == set(available()) - {
        "maroc-telecom", "inwi", "meditel", "mechanisms", "followers",
    }  # fmt: skip
    every = grid.cells(held, grid.load_operators(held))
    forced = {cell.operator for cell in every if cell.policy.rules}
    assert forced == {cell.operator for cell in every}


def test_engines_get_named_captures_or_all() -> None:
    engines = '[engines]\ncaptures = {}\ncells = "exact"\n'
    for words, wanted in (('"all"', "all"), ('["a"]', ["a"])):
        held = spec.parse((GOOD + engines.format(words)).encode(), "tiny.toml")
        assert held.engines is not None
        assert (held.engines.captures, held.engines.cells) == (wanted, "exact")
    for words in ("[]", '"some"'):
        assert "engines.captures" in problems(GOOD + engines.format(words))
