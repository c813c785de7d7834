# SPDX-License-Identifier: BSD-3-Clause
"""Timelines of a run: their rows, and how the report draws them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from midcall.captures.truth.calls import Call
from midcall.captures.truth.catalogue import load
from midcall.experiments.measure import timelines
from midcall.experiments.report import html
from midcall.experiments.report.sections import timelines as section
from midcall.experiments.results import reader, schema
from midcall.experiments.spec.corpus import Corpus, Item
from midcall.experiments.spec.grid import Cell
from tests.experiments.fake_run import fake_run, fake_timelines


def outcome(key: str, sha256: str, held: dict[str, Any]) -> dict[str, Any]:
    entry = {"sha256": sha256, "call": "call-1", "verdict": "CUT", "blocked": True, "rule": "r"}
    return {"key": key, "calls": [{**entry, "timeline": held}]}


def cell(operator: str, date: str) -> Cell:
    rules = (SimpleNamespace(name="r", grade="B", hypothesis=True),)
    return Cell(operator, "h", "A title", "4g", date, True, SimpleNamespace(rules=rules))


def lane(spoke: float | None) -> dict[str, Any]:
    counts = {key: [1, 2, 0] for key in ("due", "sent", "came", "struck")}
    return {**counts, "spoke_s": spoke, **timelines.worth(None)}


def test_a_play_is_told_once_with_all_its_places() -> None:
    one = load(local=False).named("sample-whatsapp-audio")
    about = {"id": "call-1", "app": "whatsapp", "kind": "audio", "inferred": False}
    about |= {"timer_s": 39.5, "timer_source": "RFC 8489"}
    call = Call.model_validate(about)
    held = Corpus([Item(one, Path(), [call], [])], [])
    drawn = {"seconds": 3.0, "recognised_s": None, "lanes": {"up": lane(0.5), "down": lane(None)}}
    outcomes = {
        0: outcome("same", one.sha256, drawn),
        1: outcome("same", one.sha256, drawn),
        2: outcome("quiet", one.sha256, {}),
    }
    grid = [cell("inwi", "2016-01-20"), cell("meditel", "2016-01-20"), cell("inwi", "2016-11-15")]
    rows = timelines.rows(grid, held, ["whatsapp"], outcomes)
    schema.table("timelines", rows)
    assert [row["direction"] for row in rows] == ["up", "down"]
    assert rows[0]["places"] == "inwi/4g/2016-01-20 meditel/4g/2016-01-20"
    assert (rows[0]["sent"], rows[0]["sent_slots"], rows[0]["grade"]) == (3, "1 2 0", "B?")
    assert (rows[0]["spoke_s"], rows[1]["spoke_s"]) == (0.5, None)
    assert timelines.rows(grid, held, ["viber"], outcomes) == []


def test_the_line_on_a_play_has_the_median_mos_of_its_seconds() -> None:
    rated = lane(0.5) | {"mos_seconds": [1.0, 3.0, None], "mos_control_seconds": [4.4, 4.4, None]}
    drawn = {"seconds": 3.0, "recognised_s": None, "lanes": {"up": rated, "down": lane(None)}}
    words = timelines.heard(outcome("key", "sha", drawn))
    assert words == "MOS 2.0, 4.4 without the rule (2 s of voice)"
    assert timelines.heard(outcome("key", "sha", {})) == ""
    assert timelines.scores([4.41, None, 1.0]) == "4.41 - 1.00"


@pytest.mark.parametrize(
    ("counts", "path"),
    [
        ([0, 0], "M0 20V20H2V20Z"),
        ([2, 2, 0], "M0 20V0H2V20H3V20Z"),
        ([1, 2, 4], "M0 20V15H1V10H2V0H3V20Z"),
    ],
)
def test_a_strip_is_one_outline_of_its_bars(counts: list[int], path: str) -> None:
    assert section.area(counts, max(*counts, 1)) == path


def test_one_call_is_drawn_for_each_app_and_ending_the_real_one_first(tmp_path: Path) -> None:
    rows = fake_timelines()
    made = [{**row, "capture": "made", "synthetic": True, "grade": "A"} for row in rows[:2]]
    fake_run(tmp_path / "run", timelines=[*made, *rows])
    result = section.timelines(reader.read(tmp_path / "run"))
    assert (result["calls"], result["kinds"], len(result["shown"])) == (4, 3, 3)
    assert [call["app"] for call in result["shown"]] == ["whatsapp", "viber", "facetime"]
    assert result["shown"][0]["capture"] == "fake-wa-2015-a"


def test_a_strip_says_what_it_shows(tmp_path: Path) -> None:
    fake_run(tmp_path / "run")
    html.render(tmp_path / "run")
    page = (tmp_path / "run" / "report.html").read_text()
    assert "300 of 300 packets sent, 80 arrived; the rule first acted at 4.0 s" in page
    assert "MOS 1.2 (1.0 to 2.1), 4.4 without the rule" in page
    assert 'aria-label="WhatsApp, from the caller: 300 of 300' in page
    assert "recognised at 250 ms" in page
    assert 'href="timelines.csv"' in page
