# SPDX-License-Identifier: BSD-3-Clause
"""The charts: SVG that can stand inline in a page, in both themes, next to others."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import altair as alt
import pytest
import vl_convert

from midcall.experiments.report import charts
from midcall.locations import TEMPLATES

NASTY = '<script>alert(1)</script>" onload="alert(2)'
TEXT = "Bars: a fake text alternative."
CSS = TEMPLATES / "report.css"


def price(label: str = "Fake hypothesis") -> charts.Chart:
    """Return a chart of two rows, the second named by the caller."""
    rows = [
        {
            "label": name, "blocked": 3, "calls": 4, "blocked_share": 0.75, "reach": 1.0,
            "hit": 2, "flows": 100,
            "hit_share": 0.02, "short_calls": "3 of 4", "short_flows": "2 of 100",
            "tip_calls": f"{name}: 3 of 4 calls blocked",
            "tip_flows": f"{name}: 2 of 100 innocent flows hit",
        }
        for name in ("Fake first", label)
    ]  # fmt: skip
    return charts.price(rows, TEXT)


def bars(label: str = "Fake path") -> charts.Chart:
    """Return a chart of one bar."""
    row = {"label": label, "packets_per_s": 4e6, "short": "4 M", "tip": f"{label}: 4 M packets/s"}
    return charts.throughput([row], TEXT)


def settled(name: str) -> charts.Chart:
    """Return a cumulative chart of two steps."""
    rows = [
        {"series": "media flows (n = 2)", "value": value, "share": share, "tip": f"{share} done"}
        for value, share in ((1.0, 0.5), (3.0, 1.0))
    ]
    return charts.settled(name, "Fake", "packets", rows, TEXT, log=False)


def every() -> list[charts.Chart]:
    """Return one chart of each kind."""
    outcomes = [
        {
            "label": "fake media",
            "outcome": word,
            "n": n,
            "rank": n,
            "tip": f"{n} {word}",
            "app": "viber",
        }
        for n, word in enumerate(("right", "unsure", "other", "missed"), 1)
    ]
    latency = [
        {"path": "offline", "percentile": name, "ns_per_packet": ns, "short": "ns", "tip": name}
        for name, ns in (("p50", 90.0), ("p99", 300.0))
    ]
    speed = [{"label": "offline · fake", "packets_per_s": 4e6, "short": "4 M", "tip": "4 M/s"}]
    return [
        price(),
        settled("fake-packets"),
        charts.outcomes(outcomes, ("right", "unsure", "other", "missed"), TEXT),
        charts.latency(latency, TEXT),
        charts.throughput(speed, TEXT),
    ]


@pytest.fixture(scope="module")
def drawn() -> list[charts.Chart]:
    return every()


def test_every_specification_holds_to_the_schema(drawn: list[charts.Chart]) -> None:
    for one in drawn:
        alt.Chart.from_json(one.spec, validate=True)


def test_a_picture_that_is_shown_again_is_not_drawn_again(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    draw = vl_convert.vegalite_to_svg

    def counted(spec: str, **words: Any) -> str:
        made.append(spec)
        return draw(spec, **words)

    monkeypatch.setattr(vl_convert, "vegalite_to_svg", counted)
    charts.as_svg.cache_clear()
    one = settled("fake-once")
    assert one.png
    assert one.alone
    assert 0 < len(made) == len(set(made))


def roots(drawn: list[charts.Chart]) -> list[ElementTree.Element]:
    """Return both drawings of every chart, parsed."""
    return [
        ElementTree.fromstring(text) for one in drawn for text in (one.wide, one.narrow) if text
    ]


def test_a_chart_that_is_a_table_on_the_page_is_a_picture_in_a_file_alone() -> None:
    assert (price().wide, price().narrow) == ("", "")
    assert "Fake hypothesis" in price().alone


def test_a_chart_is_an_image_with_a_name_for_those_who_cannot_see_it(
    drawn: list[charts.Chart],
) -> None:
    for root in roots(drawn):
        assert (root.tag, root.attrib["role"], root.attrib["aria-label"]) == ("svg", "img", TEXT)
        below = [key for element in root.iter() for key in element.attrib if element is not root]
        assert not [key for key in below if key.startswith("aria-") or key == "role"]


def test_the_marks_keep_their_values_for_the_pointer() -> None:
    tips = [
        element.attrib["data-tip"]
        for element in ElementTree.fromstring(bars().wide).iter()
        if "data-tip" in element.attrib
    ]
    assert tips == ["Fake path: 4 M packets/s"]


def test_every_colour_drawn_has_a_class_that_the_style_sheet_gives_a_dark_twin(
    drawn: list[charts.Chart],
) -> None:
    css = CSS.read_text()
    for root in roots(drawn):
        for element in root.iter():
            for letter, key in (("f", "fill"), ("s", "stroke")):
                colour = element.attrib.get(key, "none")
                if colour not in ("none", "transparent") and not colour.startswith("url("):
                    names = element.attrib.get("class", "").split()
                    name = next((one for one in names if one.startswith(f"{letter}-")), None)
                    assert name is not None, f"{key}={colour} has no class"
                    assert f".{name} {{ {key}: var(--{name[2:]}); }}" in css


def test_the_light_palette_of_charts_and_page_is_one() -> None:
    light = CSS.read_text().split("@media")[0]
    for name, colour in charts.PALETTE.items():
        assert f"--{name}: {colour};" in light


def test_two_charts_on_one_page_share_no_id() -> None:
    pages = settled("one").wide, settled("two").wide, bars().wide, bars().narrow
    ids = [re.findall(r'\bid="([^"]+)"', page) for page in pages]
    everything = [name for held in ids for name in held]
    assert len(everything) == len(set(everything))


def test_what_a_chart_refers_to_is_in_the_chart(drawn: list[charts.Chart]) -> None:
    for one in drawn:
        for page in (one.wide, one.narrow):
            assert set(re.findall(r"url\(#([^)]+)\)", page)) <= set(
                re.findall(r'id="([^"]+)"', page)
            )


def test_names_in_a_chart_are_escaped() -> None:
    page = bars(NASTY).wide
    assert "<script" not in page
    tags = ElementTree.fromstring(page).iter()
    assert not [element for element in tags if "onload" in element.attrib]


def test_a_phones_drawing_is_at_most_360_pixels_wide(drawn: list[charts.Chart]) -> None:
    widths = {
        one.name: float(ElementTree.fromstring(one.narrow).attrib["width"])
        for one in drawn
        if one.narrow
    }
    assert {name: width for name, width in widths.items() if width > 360} == {}


def test_a_long_label_takes_two_lines_and_says_that_it_was_cut() -> None:
    assert charts.wrapped("a label of some words", 12) == "a label of\nsome words"
    assert charts.wrapped("a label of far more words than fit", 12) == "a label of\nfar more …"


def test_the_same_rows_draw_the_same_bytes() -> None:
    assert price() == price()


def test_rows_behind_a_chart_are_kept_as_given() -> None:
    rows: list[dict[str, Any]] = price().rows
    assert [row["label"] for row in rows] == ["Fake first", "Fake hypothesis"]
