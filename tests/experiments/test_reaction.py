# SPDX-License-Identifier: BSD-3-Clause
"""A series of public reaction: what is taken, what is refused, and how it is told apart."""

from __future__ import annotations

from pathlib import Path

import pytest

from midcall.errors import ExperimentError
from midcall.experiments.report import html, reaction
from midcall.experiments.spec import spec as specs
from tests.experiments.fake_run import NASTY, fake_run
from tests.experiments.test_report import Outline

SERIES = """date,operator,likes
2016-01-20,inwi,900
2016-01-01,inwi,1000
2016-01-01,maroc-telecom,2000
2016-03-20,maroc-telecom,1500
"""


def series(folder: Path, text: str = SERIES) -> Path:
    """Write a series and return its path."""
    path = folder / "likes.csv"
    path.write_text(text)
    return path


def test_points_are_ordered_by_operator_and_date(tmp_path: Path) -> None:
    found = reaction.read(series(tmp_path))
    assert [(point.operator, point.date.isoformat(), point.likes) for point in found] == [
        ("inwi", "2016-01-01", 1000),
        ("inwi", "2016-01-20", 900),
        ("maroc-telecom", "2016-01-01", 2000),
        ("maroc-telecom", "2016-03-20", 1500),
    ]


def test_every_line_that_does_not_fit_is_told(tmp_path: Path) -> None:
    path = series(tmp_path, "date,operator,likes\n1.1.16,inwi,5\n2016-01-01,inwi,-3\n"
                            "2016-01-02,,3\n2016-01-03,inwi,1\n2016-01-03,inwi,2\n")  # fmt: skip
    with pytest.raises(ExperimentError) as result:
        reaction.read(path)
    assert str(result.value).removeprefix(f"{path}: ").split("\n  ") == [
        "line 2: date: got '1.1.16', expected YYYY-MM-DD",
        "line 3: likes: got '-3', expected a whole number from 0 on",
        "line 4: operator: is empty",
        "line 6: inwi has 2016-01-03 twice",
    ]


def test_a_missing_column_is_told_with_the_closest(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"no column likes \(did you mean like\?\)"):
        reaction.read(series(tmp_path, "date,operator,like\n2016-01-01,inwi,5\n"))
    with pytest.raises(ExperimentError, match="holds no line"):
        reaction.read(series(tmp_path, "date,operator,likes\n"))
    with pytest.raises(ExperimentError, match="cannot be read as CSV"):
        reaction.read(tmp_path / "nowhere.csv")


def test_the_report_draws_it_and_says_whose_it_is(tmp_path: Path) -> None:
    run = fake_run(tmp_path / "run")
    page = html.render(run, series(tmp_path))
    text = Outline(page.read_text()).text
    assert "Public reaction your data" in text
    assert "the lab measured none of it" in text
    assert "Inwi 2 1 Jan 2016 1,000 20 Jan 2016 900 -100" in text
    words = "Inwi, 20 Jan 2016: up to 8 of 8 real calls blocked in the lab"
    assert words in page.read_text()
    again = html.render(run).read_text()  # it stays with the run
    assert again == page.read_text()
    assert (run / "figures" / "reaction.csv").read_text().splitlines()[0] == "operator,date,likes"


def test_names_in_it_are_only_text(tmp_path: Path) -> None:
    name = NASTY.replace('"', "'")
    text = html.render(
        fake_run(tmp_path / "run"),
        series(tmp_path, f"date,operator,likes\n2016-01-01,{name},5\n"),
    ).read_text()
    assert "<script>alert" not in text.lower()
    assert "<img" not in text.lower()


def test_without_a_series_the_report_has_no_such_part(tmp_path: Path) -> None:
    outline = Outline(html.render(fake_run(tmp_path / "run")).read_text())
    assert "Public reaction" not in outline.text


def test_a_spec_can_name_one(tmp_path: Path) -> None:
    raw = specs.shipped()["smoke"].read_bytes()
    assert specs.parse(raw, "smoke").reaction is None
    assert specs.parse(b'reaction = "likes.csv"\n' + raw, "mine").reaction == "likes.csv"
