# SPDX-License-Identifier: BSD-3-Clause
"""The report in a real browser: Chromium, driven by Playwright, over a fake run's page.

Skipped where there is no Chromium (Debian: apt-get install chromium) or no Playwright.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import pytest

from midcall.experiments.accuracy import run
from midcall.experiments.measure import formatting
from midcall.experiments.report import evaluation, html
from midcall.experiments.report.fragments import Fragments, Layout
from midcall.experiments.report.front import views_of
from midcall.experiments.report.language import PAGES, language
from midcall.experiments.report.views import Choice
from midcall.experiments.results import reader, schema
from tests.experiments.fake_run import NASTY, fake_run
from tests.experiments.test_evaluate import SPEC
from tests.experiments.test_views import restricted

sync_api = pytest.importorskip(
    "playwright.sync_api", reason="Playwright is not installed (make setup installs it)"
)
axe_api = pytest.importorskip(
    "axe_playwright_python.sync_playwright", reason="axe is not installed (make setup installs it)"
)
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
BROWSER = next((path for path in map(shutil.which, BROWSERS) if path), None)
pytestmark = pytest.mark.skipif(
    BROWSER is None, reason="no Chromium here (Debian, Ubuntu: apt-get install chromium)"
)

PHONE, LAPTOP, PROJECTOR = (360, 740), (1280, 800), (1920, 1080)
LANGUAGES = tuple(one.code for one in PAGES)
#: A sheet of A4 between its margins, in CSS pixels: upright, and its width when it is turned.
SHEET, TURNED = (703, 1016), 1031
OVERFLOW = "document.documentElement.scrollWidth - document.documentElement.clientWidth"


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the address of a fake run's report."""
    folder = fake_run(tmp_path_factory.mktemp("runs") / "20160105-fake-0badc0de")
    return html.render(folder).as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Return a running Chromium; as root it runs without its sandbox, over our own page."""
    flags = ["--no-sandbox"] if os.getuid() == 0 else []
    with sync_api.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=BROWSER, args=flags)
        yield running
        running.close()


class Visit:
    """A page as one visitor sees it, with what it said and asked for."""

    def __init__(self, browser: Any, address: str, size: tuple[int, int], **more: Any) -> None:
        width, height = size
        self.context = browser.new_context(viewport={"width": width, "height": height}, **more)
        self.page = self.context.new_page()
        self.page.set_default_timeout(120_000)  # other tests may use the processor
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda line: self.said.append(line.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(address)

    def shown(self, selector: str) -> int:
        """Return how many of the elements take up room."""
        count = "(all) => all.filter((one) => one.checkVisibility()).length"
        return int(self.page.eval_on_selector_all(selector, count))

    def unfold(self) -> Visit:
        """Open every part of the details; returns itself."""
        self.page.evaluate("document.querySelectorAll('details').forEach((one) => one.open = true)")
        return self

    def choose(self, key: str, value: str) -> None:
        """Choose in a filter."""
        self.page.select_option(f".filters select[data-key={key}]", value)


@pytest.fixture
def visit(browser: Any, address: str) -> Iterator[Any]:
    """Return what opens the report for a visitor; every visit is closed."""
    opened: list[Visit] = []

    def open_page(size: tuple[int, int] = LAPTOP, **more: Any) -> Visit:
        opened.append(Visit(browser, address, size, **more))
        return opened[-1]

    yield open_page
    for one in opened:
        one.context.close()


@pytest.mark.parametrize("size", [PHONE, LAPTOP, PROJECTOR])
def test_the_page_says_no_error_asks_for_nothing_and_fits(
    visit: Any, address: str, size: tuple[int, int]
) -> None:
    one = visit(size)
    one.page.wait_for_load_state("networkidle")
    assert one.said == []
    assert one.asked == [address]
    assert one.page.evaluate(OVERFLOW) == 0


def test_it_still_fits_a_phone_with_everything_unfolded(visit: Any) -> None:
    one = visit(PHONE).unfold()
    assert one.page.evaluate(OVERFLOW) == 0


@pytest.mark.parametrize(("size", "drawn", "other"), [(LAPTOP, "wide", "narrow"),
                                                      (PHONE, "narrow", "wide")])  # fmt: skip
def test_every_chart_is_drawn_once_for_the_size_of_the_screen(
    visit: Any, size: tuple[int, int], drawn: str, other: str
) -> None:
    one = visit(size).unfold()
    figures = one.page.query_selector_all("figure.chart:has(svg)")
    assert len(figures) == 5
    for figure in figures:
        assert not figure.query_selector(f".{other}").is_visible()
        picture = figure.query_selector(f".{drawn} svg")
        room = picture.bounding_box()
        assert room["width"] > 200
        assert room["height"] > 50
        assert picture.query_selector("[data-tip]").is_visible()


def test_a_mark_tells_its_values_under_the_pointer(visit: Any) -> None:
    one = visit().unfold()
    mark = one.page.query_selector("#fig-outcomes .wide [data-tip]")
    assert not one.page.is_visible("#tip")
    mark.scroll_into_view_if_needed()
    mark.hover()
    assert one.page.inner_text("#tip") == mark.get_attribute("data-tip")
    one.page.mouse.move(1, 1)
    assert not one.page.is_visible("#tip")


def test_a_class_of_a_chart_goes_and_comes_back(visit: Any) -> None:
    one = visit().unfold()
    button = one.page.query_selector("#fig-outcomes .classes button")  # "right"
    hidden = "(all) => all.filter((one) => getComputedStyle(one).visibility === 'hidden').length"
    marks = "#fig-outcomes svg [data-tip]"
    assert one.page.eval_on_selector_all(marks, hidden) == 0
    button.click()
    assert button.get_attribute("aria-pressed") == "false"
    drawn = one.page.query_selector_all("#fig-outcomes svg [data-tip].f-through")
    assert one.page.eval_on_selector_all(marks, hidden) == len(drawn) > 0
    button.press("Enter")
    assert one.page.eval_on_selector_all(marks, hidden) == 0


@pytest.mark.parametrize("key", ["operator", "access", "date", "app"])
def test_a_filter_hides_what_does_not_fit_and_show_all_brings_it_back(visit: Any, key: str) -> None:
    one = visit()
    places = "#answer [data-place], #answer [data-date], #answer [data-app]"
    before = one.shown(places)
    value = {"operator": "inwi", "access": "adsl", "date": "2016-01-20", "app": "viber"}[key]
    one.choose(key, value)
    fits = {
        "operator": f"#answer [data-place*='{value}/']",
        "access": f"#answer [data-place*='/{value}/']",
        "date": f"#answer [data-place*='/{value}']",
        "app": f"#answer [data-app='{value}']",
    }[key]
    every = fits.split("[")[1].split("*")[0].split("=")[0]
    assert 0 < one.shown(fits) == one.shown(f"#answer [{every}]")
    assert one.shown(places) < before
    assert one.page.inner_text(".filters output").startswith("only ")
    one.page.click(".filters button[type=reset]")
    one.page.evaluate("() => new Promise((done) => setTimeout(done, 50))")
    assert one.shown(places) == before


def test_charts_follow_the_filters(visit: Any) -> None:
    one = visit().unfold()
    bars = "#fig-outcomes .wide svg [data-app]"
    every = one.shown(bars)
    one.choose("app", "viber")
    assert 0 < one.shown(bars) == one.shown("#fig-outcomes .wide svg [data-app=viber]") < every
    one.page.click(".filters button[type=reset]")
    one.page.evaluate("() => new Promise((done) => setTimeout(done, 50))")
    assert one.shown(bars) == every


# ---- every number follows the filters, or says that it does not


def text_of(markup: str) -> str:
    """Return the words of HTML, spaces joined."""
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", markup)).split())


def slots_of(folder: Path, choice: Choice, code: str) -> dict[str, str]:
    """Return slot -> words, on the page of a run that holds nothing but a choice."""
    run = restricted(reader.read(folder), choice)
    views = views_of(run)
    with formatting.speaking(language(code)):
        values, _ = html.page(run, views)
        macros = html.environment().get_template("views.html").make_module(values)
        slots = Fragments(Layout(views), macros).base()
    return {name: text_of(markup) for name, markup in slots.items()}


@pytest.mark.parametrize(
    ("code", "choice"),
    [
        ("en", Choice(operator="inwi")),
        ("en", Choice(access="adsl", app="viber")),
        ("en", Choice("inwi", "adsl")),
        ("fr", Choice(date="2016-01-20", app="skype")),
        ("ar", Choice("maroc-telecom", "wifi", "2016-03-15", "whatsapp")),
    ],
)
def test_under_a_filter_the_page_says_what_it_says_of_a_run_with_nothing_else(
    browser: Any, address: str, code: str, choice: Choice
) -> None:
    one = Visit(browser, in_language(address, code), LAPTOP)
    slots = "(all) => all.map((one) => [one.dataset.slot, one.innerHTML])"
    whole = dict(one.page.eval_on_selector_all("[data-slot]", slots))
    for key, value in choice._asdict().items():
        one.choose(key, value)
    shown = {
        name: text_of(markup)
        for name, markup in one.page.eval_on_selector_all("[data-slot]", slots)
    }
    wanted = slots_of(Path(unquote(urlparse(address).path)).parent, choice, code)
    # The calendar is of all places, of which the others are hidden; accuracy is of summary.json.
    followed = sorted(shown.keys() - {"calendar", "named", "right", "false"})
    assert {name: shown[name] for name in followed} == {name: wanted[name] for name in followed}
    changed = [name for name in followed if shown[name] != text_of(whole[name])]
    assert "ledes" in changed
    assert len(changed) >= 3
    one.page.click(".filters button[type=reset]")
    one.page.evaluate("() => new Promise((done) => setTimeout(done, 50))")
    assert dict(one.page.eval_on_selector_all("[data-slot]", slots)) == whole
    one.context.close()


def test_every_table_figure_and_key_figure_says_which_filters_it_follows(visit: Any) -> None:
    one = visit().unfold()
    parts = "main table, main figure, main .key > div"
    bare = "(all) => all.filter((one) => !one.closest('[data-follows]')).map((one) => one.id)"
    assert one.page.eval_on_selector_all(parts, bare) == []
    assert one.shown(".mark.unfiltered") == 0
    assert one.shown("#calls tr.total") == 1
    one.choose("date", "2016-01-20")
    text = one.page.inner_text("#figure-delay dt")
    assert "not filtered by date" in text
    assert one.page.query_selector("#figure-calls .mark.unfiltered") is None
    one.choose("app", "viber")
    assert "not filtered by date, app" in one.page.inner_text("#figure-delay dt")
    assert "not filtered by date" in one.page.inner_text("#figure-named dt")
    assert "app" not in one.page.inner_text("#figure-named .unfiltered")
    # A row that adds up all apps goes, and a count of all flows says that it is one.
    assert one.shown("#calls tr.total") == 0
    counts = one.page.locator("#accuracy summary > [data-follows]").all_inner_texts()
    assert counts
    assert all("not filtered by" in text for text in counts)
    one.page.click(".filters button[type=reset]")
    one.page.evaluate("() => new Promise((done) => setTimeout(done, 50))")
    assert one.shown(".mark.unfiltered") == 0


def test_paper_has_the_page_without_a_filter(visit: Any) -> None:
    one = visit()
    whole = one.page.inner_text("main")
    one.choose("operator", "inwi")
    filtered = one.page.inner_text("main")
    assert filtered != whole
    one.page.evaluate("dispatchEvent(new Event('beforeprint'))")
    only = one.page.inner_text(".filters output")
    assert one.page.inner_text("main") == whole
    assert only == ""
    one.page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert one.page.inner_text("main") == filtered


# ---- links


def test_each_part_has_a_link_of_its_own_that_keeps_the_filters(visit: Any, address: str) -> None:
    one = visit().unfold()
    links = "(all) => all.map((one) => one.getAttribute('href').slice(1))"
    targets = one.page.eval_on_selector_all("main a.anchor", links)
    assert len(targets) == len(set(targets))
    assert {"cost", "sure", "t-calendar", "t-apps", "fig-price", "figure-calls", "fig-outcomes",
            "t-outcomes", "collateral", "limits"} <= set(targets)  # fmt: skip
    missing = "(all) => all.filter((id) => !document.getElementById(id))"
    assert one.page.evaluate(f"({missing})({json.dumps(targets)})") == []
    link = one.page.query_selector("#cost h2 .anchor")
    opacity = "(one) => getComputedStyle(one).opacity"
    assert link.evaluate(opacity) == "0"
    link.focus()
    assert link.evaluate(opacity) == "1"
    one.choose("app", "viber")
    one.page.click("#cost h2 .anchor")
    assert one.page.url == f"{address}#cost?app=viber"
    assert one.page.input_value("select[data-key=app]") == "viber"


def test_a_cell_has_a_link_that_opens_and_marks_it(visit: Any, address: str) -> None:
    one = visit()
    cell = one.page.query_selector("#t-calendar td[data-date='2016-01-20']")
    cell.hover()
    href = cell.query_selector(".anchor").get_attribute("href")
    assert href == "#cell=maroc-telecom/3g/2016-01-20"
    one.page.goto(f"{address}{href}")
    marked = "#t-calendar .linked"
    assert one.shown(marked) == 1
    one.page.goto(f"{address}#cell=inwi/4g/2016-03-15/viber")
    assert one.shown(marked) == 0
    found = one.page.query_selector_all("#t-outcomes td.linked")
    assert len(found) == len(one.page.query_selector_all("#t-outcomes tbody:first-of-type tr")) - 1
    assert all(held.is_visible() for held in found)
    one.page.goto(f"{address}#cell=inwi/4g/2016-03-15/viber/fake-stun")
    assert one.shown("#t-outcomes td.linked") == 1
    one.page.goto(f"{address}#cell=////fake-stun")
    assert one.shown("#t-cost .linked") == 2
    one.page.goto(f"{address}#cell=nobody/4g/2016-03-15")
    assert one.page.query_selector(".linked") is None
    assert one.said == []


def test_a_link_to_a_cell_goes_with_a_filter(visit: Any, address: str) -> None:
    one = visit()
    one.page.goto(f"{address}#cell=inwi/4g/2016-03-15/viber/fake-stun?operator=inwi")
    one.page.reload()
    assert one.page.input_value("select[data-key=operator]") == "inwi"
    assert one.shown("#t-outcomes td.linked") == 1
    assert one.page.url.endswith("#cell=inwi/4g/2016-03-15/viber/fake-stun?operator=inwi")


def test_a_click_on_a_heading_sorts_a_table_and_a_second_one_turns_it(visit: Any) -> None:
    one = visit().unfold()
    table = one.page.query_selector("#accuracy table.sortable")
    heading = table.query_selector("thead th:nth-child(3)")  # "Right", k of n

    def column() -> list[float]:
        cells = table.query_selector_all("tbody td:nth-child(3)")
        return [float(cell.get_attribute("data-v")) for cell in cells]

    whole = column()
    heading.query_selector("button").click()
    assert heading.get_attribute("aria-sort") == "ascending"
    assert column() == sorted(whole)
    heading.query_selector("button").press("Enter")
    assert heading.get_attribute("aria-sort") == "descending"
    assert column() == sorted(whole, reverse=True)
    assert whole not in (sorted(whole), sorted(whole, reverse=True))


@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("size", [PHONE, LAPTOP])
def test_axe_finds_nothing_serious(visit: Any, size: tuple[int, int], theme: str) -> None:
    one = visit(size, color_scheme=theme)
    assert serious(one) == []
    one.unfold()
    assert serious(one) == []


def serious(one: Visit) -> list[str]:
    """Return what axe calls serious or critical in a page."""
    found = axe_api.Axe().run(one.page).response["violations"]
    return [f"{fault['id']}: {fault['nodes'][0]['html']}" for fault in found
            if fault["impact"] in ("serious", "critical")]  # fmt: skip


def test_dark_is_dark_and_light_is_light(visit: Any) -> None:
    grounds = [
        visit(color_scheme=theme).page.evaluate("getComputedStyle(document.body).backgroundColor")
        for theme in ("light", "dark")
    ]
    light, dark = (sum(map(int, ground[4:-1].split(", "))) for ground in grounds)
    assert light > 3 * 200
    assert dark < 3 * 60


def test_without_javascript_the_tables_and_charts_are_there_and_no_dead_control(
    visit: Any,
) -> None:
    one = visit(java_script_enabled=False)
    assert one.page.is_visible("table.calendar")
    assert one.page.is_visible("#t-cost")
    assert one.page.is_visible("#fig-price table")
    assert one.shown("form.filters") == 0
    assert one.shown("button") == 0
    assert one.page.query_selector("summary").is_visible()


def test_on_paper_everything_is_within_the_sheet(visit: Any) -> None:
    one = visit(SHEET).unfold()
    one.page.emulate_media(media="print")
    assert one.shown("nav, .filters") == 0
    right = """(all, side) => Math.max(0, ...all
      .filter((one) => side === Boolean(one.closest('.turned')) && one.checkVisibility())
      .map((one) => one.getBoundingClientRect().right))"""
    assert one.page.eval_on_selector_all("body *", right, False) <= SHEET[0] + 1
    assert one.page.eval_on_selector_all("body *", right, True) <= TURNED + 1


def test_the_answer_takes_few_screens_and_at_most_twelve_sheets(visit: Any) -> None:
    one = visit((1300, 900))
    assert one.page.evaluate("document.getElementById('details').offsetTop") <= 3 * 900
    sheets = one.page.pdf(format="A4")
    assert 1 <= len(re.findall(rb"/Type\s*/Page\b", sheets)) <= 12


def test_the_chosen_view_stands_in_the_address_and_comes_back(visit: Any, address: str) -> None:
    one = visit()
    one.choose("operator", "inwi")
    one.choose("app", "viber")
    assert one.page.url == f"{address}#answer?operator=inwi&app=viber"
    again = visit()
    again.page.goto(one.page.url)
    again.page.reload()
    assert again.page.input_value(".filters select[data-key=app]") == "viber"
    assert again.shown("#answer [data-app=skype]") == 0


def test_an_address_of_a_part_opens_it(visit: Any, address: str) -> None:
    one = visit()
    assert one.shown("#limits") == 0
    one.page.goto(f"{address}#limits")
    assert one.shown("#limits") == 1


def test_a_capture_with_a_nasty_name_runs_nothing(visit: Any) -> None:
    one = visit().unfold()
    assert one.said == []
    assert NASTY in one.page.inner_text("#yours")
    assert one.page.query_selector("img") is None


# ---- languages


def in_language(address: str, code: str) -> str:
    """Return the address of the same report in a language."""
    [file] = [one.file for one in PAGES if one.code == code]
    return f"{address.rpartition('/')[0]}/{file}"


@pytest.mark.parametrize("size", [PHONE, (1300, 900)])
@pytest.mark.parametrize("code", LANGUAGES[1:])
def test_a_translation_says_no_error_fits_and_axe_finds_nothing_serious(
    browser: Any, address: str, code: str, size: tuple[int, int]
) -> None:
    here = in_language(address, code)
    one = Visit(browser, here, size, color_scheme="light")
    assert one.said == []
    assert one.asked == [here]
    assert one.page.evaluate(OVERFLOW) == 0
    assert serious(one) == []
    one.page.emulate_media(color_scheme="dark")
    assert serious(one) == []
    one.unfold()
    assert one.page.evaluate(OVERFLOW) == 0
    one.context.close()


@pytest.mark.parametrize("code", LANGUAGES)
def test_the_filters_are_reached_by_keyboard_and_go_along_into_another_language(
    browser: Any, address: str, code: str
) -> None:
    one = Visit(browser, in_language(address, code), (1300, 900))
    focused = "document.activeElement.dataset.key || ''"
    reached = []
    for _ in range(20):
        one.page.keyboard.press("Tab")
        reached.append(one.page.evaluate(focused))
    assert [key for key in reached if key] == ["operator", "access", "date", "app"]
    one.page.focus("select[data-key=app]")
    one.page.keyboard.type("Vib")
    result = one.page.inner_text(".filters output")
    assert "Viber" in result
    assert "{" not in result
    assert one.page.url.endswith("#answer?app=viber")
    other = LANGUAGES[(LANGUAGES.index(code) + 1) % len(LANGUAGES)]
    one.page.click(f".languages a[lang={other}]")
    one.page.wait_for_url(f"{in_language(address, other)}#answer?app=viber")
    assert one.page.get_attribute("html", "lang") == other
    assert one.page.input_value("select[data-key=app]") == "viber"
    assert one.shown("#answer [data-app=skype]") == 0
    assert one.said == []
    one.context.close()


def test_a_page_from_right_to_left_keeps_its_charts_from_left_to_right(
    browser: Any, address: str
) -> None:
    one = Visit(browser, in_language(address, "ar"), (1300, 900))
    direction = "(one) => getComputedStyle(one).direction"
    assert one.page.eval_on_selector("h1", direction) == "rtl"
    one.unfold()
    assert one.page.eval_on_selector("#fig-outcomes .wide svg", direction) == "ltr"
    bar = one.page.query_selector("#fig-outcomes .wide [data-tip]")
    assert "من" in bar.get_attribute("data-tip")
    first, last = (
        one.page.query_selector(f"#t-apps thead th:nth-child({at})").bounding_box()["x"]
        for at in (1, 3)
    )
    assert first > last
    one.context.close()


# ---- the evaluation's page


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return the address of the page of a small evaluation, its rows told as if they were real."""
    folder = tmp_path_factory.mktemp("evaluate")
    (folder / "small.toml").write_text(SPEC)
    options = run.Options(runs=folder / "runs", peers="none", flows=200)
    done = run.evaluate(str(folder / "small.toml"), options)
    for name in schema.EVALUATED:
        rows = schema.read_table(done.folder, name)
        result = [{**one, "synthetic": False} if "synthetic" in one else one for one in rows]
        schema.write_table(done.folder, name, result)
    return evaluation.render(done.folder).as_uri()


@pytest.mark.parametrize("size", [PHONE, LAPTOP])
def test_the_evaluations_page_says_no_error_fits_and_draws(
    browser: Any, evaluated: str, size: tuple[int, int]
) -> None:
    one = Visit(browser, evaluated, size)
    one.page.wait_for_load_state("networkidle")
    assert one.said == []
    assert one.asked == [evaluated]
    one.page.evaluate("document.querySelectorAll('details').forEach((part) => part.open = true)")
    assert one.page.evaluate(OVERFLOW) == 0
    assert one.shown("figure.chart svg [data-tip]") > 0
    one.context.close()


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_axe_finds_nothing_serious_in_the_evaluations_page(
    browser: Any, evaluated: str, theme: str
) -> None:
    one = Visit(browser, evaluated, LAPTOP, color_scheme=theme)
    one.page.evaluate("document.querySelectorAll('details').forEach((part) => part.open = true)")
    assert serious(one) == []
    one.context.close()
