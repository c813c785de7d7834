# SPDX-License-Identifier: BSD-3-Clause
"""What papers and repositories take from a fake run: figures, report.md, the LaTeX table."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import vl_convert

from midcall.experiments.report import html, paper
from tests.experiments.fake_run import NASTY, fake_calls, fake_run
from tests.experiments.test_charts import price


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a fake run's folder with its report rendered."""
    folder = fake_run(tmp_path_factory.mktemp("runs") / "20160105-fake-0badc0de")
    html.render(folder)
    return folder


def test_every_figure_is_there_as_csv_svg_and_png(run: Path) -> None:
    names = {path.stem for path in (run / "figures").iterdir()}
    assert len(names) == 6
    for name in names:
        picture = ElementTree.parse(run / "figures" / f"{name}.svg").getroot()
        assert picture.tag.endswith("svg")
        assert (run / "figures" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert len((run / "figures" / f"{name}.csv").read_text().splitlines()) > 1


def test_a_png_shows_its_words() -> None:
    chart = price()
    wordless = re.sub(r"<text.*?</text>", "", chart.alone)
    assert wordless != chart.alone
    assert chart.png != vl_convert.svg_to_png(wordless, scale=3)


def test_a_figure_that_stands_alone_has_its_legend_and_the_pages_has_not(run: Path) -> None:
    alone = (run / "figures" / "outcomes.svg").read_text()
    assert "taken for another call" in re.findall(r"<text[^>]*>([^<]*)</text>", alone)
    page = (run / "report.html").read_text()
    figure = page[page.index('id="fig-outcomes"') :]
    drawn = figure[figure.index("<svg") : figure.index("</svg>")]
    assert "taken for another call" not in re.findall(r"<text[^>]*>([^<]*)</text>", drawn)


def tables(text: str) -> list[list[str]]:
    """Return the lines of each Markdown table."""
    blocks = re.split(r"\n(?!\|)", "\n" + text)
    return [lines for block in blocks if len(lines := re.findall(r"(?m)^\|.*$", block)) > 1]


def cells(line: str) -> int:
    """Return how many cells a line of a Markdown table has."""
    return len(re.findall(r"(?<!\\)\|", line)) - 1


def test_the_markdown_tables_are_whole_and_say_what_the_page_says(run: Path) -> None:
    text = (run / "report.md").read_text()
    found = tables(text)
    assert len(found) >= 4
    for lines in found:
        assert len({cells(line) for line in lines}) == 1, lines[0]
    assert (
        "**8 of 8** real calls fail (no call at all), and 0 of 5,170 innocent flows are hit."
        in text
    )
    assert "| Maroc Telecom | 3G and 4G | 0 of 8 |" in text
    assert re.search(r"\| Fake: drop STUN on any port \| .*never connects", text)
    assert re.search(r"\| Fake: let the set-up pass and drop the media \(h\) \|", text)


def test_pictures_and_files_of_the_markdown_are_there(run: Path) -> None:
    links = re.findall(r"\]\(([^)]+)\)", (run / "report.md").read_text())
    assert len(links) > 10
    assert [link for link in links if not (run / link).is_file()] == []


def test_what_captures_bring_is_only_text_in_markdown() -> None:
    assert paper.escaped(NASTY + "|`[x](y)`\nz") == (
        '">&lt;script>alert(1)&lt;/script>&lt;img src=x onerror=alert(2)>\\|\\`\\[x\\](y)\\` z'
    )


def test_the_latex_table_has_a_row_per_hypothesis_and_equal_columns(run: Path) -> None:
    text = (run / "main-result.tex").read_text()
    body = text[text.index("\\toprule") : text.index("\\bottomrule")]
    rows = [row for row in body.replace("\\midrule", "").split("\\\\\n") if "&" in row]
    assert len(rows) == 5
    assert {len(re.findall(r"(?<!\\)&", row)) for row in rows} == {7}
    assert "WhatsApp & Skype & Viber & FaceTime & Messenger & All & Innocent flows" in rows[0]
    assert "classifier names as calls$^h$ & 4/4 & 1/1 & 2/2 & -- & 1/1 & 8/8 & 0/5,170" in rows[1]
    assert text.count("{") == text.count("}")


def test_latex_prints_names_as_they_stand() -> None:
    assert paper.tex(r"50 % of A_B & #1 {~} \x") == (
        r"50 \% of A\_B \& \#1 \{\textasciitilde{}\} \textbackslash{}x"
    )


def test_without_real_calls_nothing_is_told_as_a_result(tmp_path: Path) -> None:
    made = [row for row in fake_calls() if row["synthetic"]]
    html.render(fake_run(tmp_path / "run", calls=made))
    text = (tmp_path / "run" / "report.md").read_text()
    assert "there is no finding about calls" in text
    assert "tabular" not in (tmp_path / "run" / "main-result.tex").read_text()
