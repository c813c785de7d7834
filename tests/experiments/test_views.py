# SPDX-License-Identifier: BSD-3-Clause
"""Views: under a choice the page has the figures of a run that was restricted to the choice."""

from __future__ import annotations

import dataclasses
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest

from midcall.experiments.measure import formatting, situations
from midcall.experiments.report import html
from midcall.experiments.report.fragments import Layout
from midcall.experiments.report.front import kind_of, views_of
from midcall.experiments.report.language import PAGES
from midcall.experiments.report.policies import Evidence, PolicyFile
from midcall.experiments.report.sections.answer import of_mechanisms, of_operators, sentence
from midcall.experiments.report.views import Choice, View, Views
from midcall.experiments.results import reader
from midcall.experiments.results.reader import Findings
from tests.experiments.fake_run import HYPOTHESES, OPERATORS, fake_run

PICTURES = ("", "operators", "hypotheses")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Findings:
    return reader.read(fake_run(tmp_path_factory.mktemp("runs") / "20160105-fake-0badc0de"))


def restricted(run: Findings, choice: Choice) -> Findings:
    """Return a run that holds nothing but a choice."""
    tables: dict[str, Any] = dict(run.tables)
    for name in ("calls", "cells", "collateral"):
        rows = [row for row in tables[name] if choice.fits(situations.place_of(row))]
        tables[name] = [row for row in rows if choice.app in ("", row.get("app", choice.app))]
    spec = dict(run.spec)
    if choice.app:
        spec["apps"] = [choice.app]
    return dataclasses.replace(run, tables=tables, spec=spec)


def figures(view: View) -> dict[str, object]:
    """Return the sentences and counts of a view, without what depends on other places."""
    return {
        "sentences": [sentence(one) for one in view.ledes],
        "operators": of_operators(view.ledes) if view.ledes else None,
        "mechanisms": of_mechanisms(view.ledes) if view.ledes else None,
        "places": [sorted(one.situation.places) for one in view.ledes],
        "yours": [sentence(one) for one in view.yours],
        "counts": (view.yours_n, view.calls_n, view.sessions_n),
        "apps": view.apps,
        "matrix": [
            (row.operators, row.line.title if row.line else "", row.apps) for row in view.matrix
        ],
        "costs": view.costs,
    }


@pytest.mark.parametrize("picture", PICTURES)
def test_a_view_is_that_of_a_run_with_nothing_else(run: Findings, picture: str) -> None:
    views = Views(run, {}, picture)
    choices = list(views.options.choices())
    assert choices[0] == Choice()
    for choice in random.Random(20).sample(choices, 40):
        alone = Views(restricted(run, choice), {}, picture)
        assert figures(views.view(choice)) == figures(alone.view(Choice())), choice


def test_a_choice_that_was_not_run_has_no_figures(run: Findings) -> None:
    view = Views(run, {}).view(Choice("inwi", "adsl"))
    assert view.nothing
    assert (view.calls_n, view.costs) == (0, ())


def test_every_choice_has_its_view_in_the_order_of_the_filters(run: Findings) -> None:
    views = Views(run, {})
    options = views.options
    assert options.operator == OPERATORS
    assert options.app[:5] == ("whatsapp", "skype", "viber", "facetime", "messenger")
    assert len(list(options.choices())) == 4 * 5 * 5 * 6
    number = 0
    for own, wanted in zip(options, Choice("inwi", "4g", "", "viber"), strict=True):
        number = number * (len(own) + 1) + (own.index(wanted) + 1 if wanted else 0)
    assert list(options.choices())[number] == Choice("inwi", "4g", "", "viber")


def test_the_evidence_is_that_of_the_chosen_operator(run: Findings) -> None:
    rule = Evidence("rule", "A", "a paper")
    files = {
        name: PolicyFile(name.title(), name == "meditel", (), {HYPOTHESES[0][0]: (rule,) * n})
        for n, name in enumerate(OPERATORS, 1)
    }
    views = Views(run, files)
    rules = {name: views.view(Choice(name)).rules for name in ("", *OPERATORS)}
    assert [rules[name].rules for name in ("", *OPERATORS)] == [6, 1, 2, 3]
    assert [rules[name].invented for name in ("", *OPERATORS)] == [False, False, False, True]


def test_the_calendar_of_an_app_counts_its_calls_alone(run: Findings) -> None:
    squares = [
        square
        for group in Views(run, {}).view(Choice(app="viber")).calendar["groups"]
        for row in group.networks
        for square in row.squares
        if square is not None and square.documented
    ]
    assert {square.n for square in squares} == {2}
    assert {square.most for square in squares} == {0, 2}


@pytest.mark.parametrize(
    ("more", "kind"),
    [
        ({}, "operators"),
        ({"operators": ["mechanisms"]}, "mechanisms"),
        ({"operators": ["a", "b", "c", "d"]}, "world"),
        ({"operators": ["a", "b", "c", "d"], "disguises": True, "arms": True}, "disguises"),
        ({"operators": ["a"], "arms": True}, "operators"),
        ({"localise": {"captures": []}}, "localise"),
        ({"programs": {"plans": []}}, "programs"),
    ],
)
def test_the_kind_of_a_run_is_what_its_spec_asks(
    run: Findings, more: dict[str, object], kind: str
) -> None:
    assert kind_of(dataclasses.replace(run, spec={**run.spec, **more})) == kind


def english(run: Findings) -> str:
    """Return the page of a run in English."""
    views = views_of(run)
    view, _ = html.page(run, views)
    return html.written(html.environment(), view, PAGES[0], Layout(views))


@pytest.mark.parametrize(
    ("operators", "says", "table"),
    [
        (["mechanisms"], "3 of 4 rules block real calls", "t-matrix"),
        (["a", "b", "c", "d"], "The rules of 3 of 3 operators block real calls", "t-matrix"),
        (["a"], "If Maroc Telecom, Inwi and Meditel matched calls by", "t-calendar"),
    ],
)
def test_each_kind_has_its_sentence_and_its_picture(
    tmp_path: Path, operators: list[str], says: str, table: str
) -> None:
    folder = fake_run(tmp_path / "run")
    spec = (folder / "spec.toml").read_text()
    (folder / "spec.toml").write_text(f"operators = {json.dumps(operators)}\n{spec}")
    first = english(reader.read(folder)).partition('<div id="details">')[0]
    assert says in re.sub(r"<[^>]+>", "", first)
    assert f'id="{table}"' in first


def test_operators_have_the_names_of_their_files() -> None:
    with formatting.naming_operators({"uae": "United Arab Emirates"}):
        assert formatting.operator_name("uae") == "United Arab Emirates"
    assert formatting.operator_name("uae") == "Uae"
