# SPDX-License-Identifier: BSD-3-Clause
"""The badge: which day of the block it is, what it counts, and that it is embeddable."""

from __future__ import annotations

import datetime
import json
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from midcall.errors import ExperimentError
from midcall.experiments.cli.app import app
from midcall.experiments.tools import badge


def row(**more: Any) -> dict[str, Any]:
    """Return a row of a summary's mission table."""
    return {
        "operator": "inwi", "hypothesis": "signature", "access": "4g", "date": "2016-01-20",
        "app": "whatsapp", "kind": "audio", "synthetic": False, "blocked": 3, "ok": 1,
        "inconclusive": 0,
    } | more  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Return a run's folder with the rows of two hypotheses, and four that do not count."""
    rows = [
        row(),
        row(kind="video", blocked=2, ok=0),
        row(app="viber", blocked=0, ok=2),
        row(hypothesis="ports", blocked=1, ok=3),
        row(hypothesis="ports", kind="video", blocked=0, ok=2),
        row(hypothesis="ports", app="viber", blocked=2, ok=0),
        row(hypothesis="sni-drop", blocked=0, ok=0, inconclusive=6),
        row(date="2015-12-15", blocked=9),
        row(date="2016-11-15", blocked=9),
        row(synthetic=True, blocked=9),
        row(added=True, blocked=9),
    ]
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "spec.toml").write_text("")
    rows = [one | {"n": one["ok"] + one["blocked"] + one["inconclusive"]} for one in rows]
    (folder / "summary.json").write_text(json.dumps({"mission": rows}))
    return folder


@pytest.mark.parametrize(
    ("day", "headline"),
    [
        ("2015-12-31", "5 days before the block"),
        ("2016-01-05", "Day 1 of the block"),
        ("2016-11-03", "Day 304 of the block"),
        ("2016-11-04", "Blocked for 304 days"),
        ("2026-01-01", "Blocked for 304 days"),
    ],
)
def test_the_days_are_counted_from_the_operators_dated_table(
    run: Path, day: str, headline: str
) -> None:
    found = badge.draw(run, "inwi", "4g", day=datetime.date.fromisoformat(day))
    assert found.headline == headline


def test_real_calls_of_dates_within_the_block_are_counted_over_the_hypotheses(run: Path) -> None:
    found = badge.draw(run, "inwi", "4g")
    assert found.apps == [badge.App("WhatsApp", 1, 5, 6), badge.App("Viber", 0, 2, 2)]
    assert [app.words for app in found.apps] == [
        "1 to 5 of 6 calls blocked", "0 to 2 of 2 calls blocked"
    ]  # fmt: skip
    assert len(found.mechanisms) == 3
    assert found.supposed
    one = badge.draw(run, "inwi", "4g", "signature")
    assert [app.words for app in one.apps] == [
        "5 of 6 calls blocked", "0 of 2 calls blocked"
    ]  # fmt: skip


def test_that_it_is_a_hypothesis_stands_in_the_size_of_the_figures(run: Path) -> None:
    folder = run.parent / "out"
    files = badge.write(badge.draw(run, "inwi", "4g"), folder)
    picture = ElementTree.parse(files[0]).getroot()
    size = {
        "".join(text.itertext()): text.get("font-size")
        for text in picture.iter("{http://www.w3.org/2000/svg}text")
    }
    [figure] = [size[text] for text in size if text.startswith("1 to 5 of 6")]
    assert [size[text] for text in size if text.startswith("A hypothesis")] == [figure]
    height = int(picture.get("height") or 0)
    assert max(int(text.get("y") or 0) for text in picture.iter()
               if text.get("y")) < height  # fmt: skip


def test_the_three_files_say_the_same_and_load_nothing(run: Path, tmp_path: Path) -> None:
    words = ["badge", str(run), "--operator", "inwi", "--access", "4g", "--day", "2016-01-20"]
    done = CliRunner().invoke(app, [*words, "-o", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    files = [Path(line) for line in done.stdout.splitlines()]
    assert [path.name for path in files] == ["badge.svg", "badge.html", "midcall-badge.php"]
    for path in files:
        text = path.read_text()
        assert "1 to 5 of 6 calls blocked" in text
        assert "A hypothesis:" in text
        assert "No synthetic" in text
        assert "http" not in text.replace("http://www.w3.org/2000/svg", "")
    picture = ElementTree.parse(files[0]).getroot()
    assert "Day 16 of the block" in "".join(picture.itertext())


@pytest.mark.skipif(shutil.which("php") is None, reason="PHP is not installed")
def test_the_shortcode_is_php(run: Path, tmp_path: Path) -> None:
    files = badge.write(badge.draw(run, "inwi", "4g"), tmp_path)
    subprocess.run(["php", "-l", str(files[2])], check=True, capture_output=True)


def test_a_cell_that_is_not_there_is_named(run: Path) -> None:
    with pytest.raises(ExperimentError, match="no cell of operator inwi on adsl"):
        badge.draw(run, "inwi", "adsl")
    with pytest.raises(ExperimentError, match=r"no hypothesis 'signatur' of inwi.*did you mean"):
        badge.draw(run, "inwi", "4g", "signatur")
