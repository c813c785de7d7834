# SPDX-License-Identifier: BSD-3-Clause
"""The report of an obviously fake run: what it says, what it escapes, what it leaves alone."""

from __future__ import annotations

import html.parser
import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
from babel.messages.catalog import Catalog, Message

from midcall.errors import ExperimentError
from midcall.experiments.measure import formatting, metrics, situations
from midcall.experiments.report import html as report
from midcall.experiments.report import language, messages
from midcall.experiments.report.sections import calendar
from midcall.experiments.report.views import Choice, Views
from midcall.experiments.results import reader, schema
from tests.experiments.fake_run import NASTY, Row, fake_calls, fake_cells, fake_collateral, fake_run


class Outline(html.parser.HTMLParser):
    """A strict reading of a page: open tags must close in order; attributes are collected."""

    VOID = frozenset({"meta", "link", "br", "wbr", "img", "input", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.english: list[int] = []
        self.local: list[str] = []
        self.faults: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)
            if dict(attrs).get("lang") == "en":
                self.english.append(len(self.open))

    def handle_endtag(self, tag: str) -> None:
        if self.english and self.english[-1] == len(self.open):
            self.english.pop()
        if not self.open or self.open.pop() != tag:
            self.faults.append(f"</{tag}> at {self.getpos()}")

    def handle_data(self, data: str) -> None:
        if not self.open or self.open[-1] not in ("script", "style"):
            self.words.append(data)
            if not self.english:
                self.local.append(data)

    def all(self, *names: str) -> list[dict[str, str | None]]:
        """Return the attributes of every element with one of the names."""
        return [attrs for tag, attrs in self.tags if tag in names]

    @property
    def text(self) -> str:
        """Return the words a reader sees, spaces joined."""
        return " ".join(" ".join(self.words).split())


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a fake run's folder with its report rendered."""
    folder = fake_run(tmp_path_factory.mktemp("runs") / "20160105-fake-0badc0de")
    report.render(folder)
    return folder


@pytest.fixture(scope="module")
def page(run: Path) -> str:
    return (run / "report.html").read_text()


@pytest.fixture(scope="module")
def outline(page: str) -> Outline:
    return Outline(page)


def bare(folder: Path, **replaced: Sequence[Row]) -> Outline:
    """Render a run in which every table is empty but the replaced ones."""
    empty: dict[str, Sequence[Row]] = dict.fromkeys(schema.COLUMNS, ())
    fake_run(folder, **(empty | replaced))
    (folder / "summary.json").write_text(json.dumps({"schema": 1} | _summary_of(replaced)))
    return Outline(report.render(folder).read_text())


def _summary_of(tables: Mapping[str, Sequence[Row]]) -> Row:
    return {"accuracy": metrics.accuracy(tables["flows"], 1)} if "flows" in tables else {}


def test_the_page_is_one_file_of_at_most_three_megabytes(run: Path) -> None:
    assert (run / "report.html").stat().st_size < 3_000_000


def test_nothing_in_the_page_asks_the_network(page: str, outline: Outline) -> None:
    fetched = [
        value
        for _, attrs in outline.tags
        for key, value in attrs.items()
        if key in ("src", "srcset", "data", "poster", "xlink:href", "action")
    ]
    assert fetched == []
    assert outline.all("link", "img", "iframe", "object", "embed") == []
    links = [attrs["href"] or "" for attrs in outline.all("a")]
    assert links
    assert not [link for link in links if re.match(r"[a-z]+:|//", link)]
    assert not re.search(r"https?://|@import|url\((?!#)", page)


def test_the_page_is_well_formed_and_ids_are_unique(outline: Outline) -> None:
    assert outline.faults == []
    assert outline.open == []
    ids = [attrs["id"] for _, attrs in outline.tags if attrs.get("id")]
    assert len(ids) == len(set(ids))


def test_every_link_leads_somewhere(run: Path, outline: Outline) -> None:
    ids = {attrs["id"] for _, attrs in outline.tags if attrs.get("id")}
    for link in (attrs["href"] or "" for attrs in outline.all("a")):
        assert link[1:] in ids if link.startswith("#") else (run / link).is_file(), link


def test_names_and_evidence_from_captures_are_escaped(page: str, outline: Outline) -> None:
    assert NASTY in outline.text  # it is shown, as text
    assert "<script>alert" not in page
    assert [attrs for _, attrs in outline.tags if "onerror" in attrs] == []
    assert [attrs.get("type") for attrs in outline.all("script")] == ["application/json", None]
    assert "Is <this> escaped?" in outline.text


def test_every_chart_has_a_text_alternative_and_a_csv(run: Path, outline: Outline) -> None:
    pictures = outline.all("svg")
    # Five charts, wide and for a phone, without the one that is a table; strips of three calls,
    # and in the section on quality strips of packets and of MOS.
    assert len(pictures) == 10 + 6 + 12
    for picture in pictures:
        assert picture["role"] == "img"
        assert len(picture["aria-label"] or "") > 40
    tables = sorted(path.name for path in (run / "figures").glob("*.csv"))
    assert len(tables) == 6
    linked = {attrs["href"] for attrs in outline.all("a")}
    assert {f"figures/{name}" for name in tables} <= linked


def test_headings_and_tables_can_be_heard(outline: Outline) -> None:
    assert len(outline.all("main")) == len(outline.all("h1")) == 1
    assert len(outline.all("caption")) == len(outline.all("table"))
    assert all("scope" in attrs for attrs in outline.all("th"))
    assert all(attrs.get("aria-label") for attrs in outline.all("nav", "aside", "form"))


def test_the_answer_names_the_harshest_hypothesis_with_its_price(outline: Outline) -> None:
    assert (
        "If Maroc Telecom, Inwi and Meditel matched calls by “Fake: drop the flows that the "
        "classifier names as calls”, 8 of 8 real calls fail (no call at all), and 0 of 5,170 "
        "innocent flows are hit." in outline.text
    )


def test_a_hypothesis_that_cannot_tell_is_not_told_as_the_mildest(outline: Outline) -> None:
    assert (
        "If by “Fake: let the set-up pass and drop the media”, 6 of 8 fail, and 5 innocent flows "
        "are hit. 1 more hypothesis cannot be judged for some calls" in outline.text
    )


def test_rules_without_packet_evidence_are_marked_and_others_are_not(run: Path) -> None:
    found = reader.read(run)
    lines = situations.situations(found["calls"], found["collateral"])[0].lines
    assert {line.hypothesis: line.hypothetical for line in lines} == {
        "fake-verdict": True, "fake-stun": False, "fake-media": True, "fake-names": True,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("grade", "supposed"),
    [("A", False), ("B", False), ("B?", True), ("C", True), ("D", True), (None, True)],
)
def test_a_rule_is_a_hypothesis_where_no_packets_stand_behind_it(
    grade: str | None, supposed: bool
) -> None:
    assert situations.hypothetical(grade) is supposed


def test_later_clients_synthetic_calls_and_gaps_are_told(outline: Outline) -> None:
    assert "later client" in outline.text
    assert "The same for synthetic calls synthetic" in outline.text
    assert "Inwi and Meditel on ADSL and home Wi-Fi: no documented service" in outline.text
    assert "no real capture" in outline.text  # FaceTime


def test_synthetic_calls_are_in_no_headline_count(run: Path) -> None:
    squares = situations.calendar(reader.read(run)["calls"], reader.read(run)["cells"])
    assert {square.n for square in squares if square.documented} == {8}


def test_recordings_of_the_lab_have_counts_of_their_own(run: Path, outline: Outline) -> None:
    assert "2 captures of calls and other traffic of real programs" in outline.text
    assert "Of the call flows 1 of 2 are right" in outline.text
    assert "of the innocent flows 1 of 2 are taken for a call and 1 left unsure" in outline.text
    result = json.loads((run / "summary.json").read_text())
    assert [row["capture"] for row in result["recorded"]["wrong"]] == ["lab-call", "lab-data"]
    assert result["recorded"]["total"]["captures"] == 2


def test_the_users_own_capture_has_a_section(outline: Outline) -> None:
    assert f"fake-own {NASTY} added WhatsApp call, audio, 2014: recognised" in outline.text


def test_without_added_captures_the_page_says_how_to_add_one(tmp_path: Path) -> None:
    kept = [row for row in fake_calls() if not row["added"]]
    assert "None yet. make add PCAP=mycall.pcap" in bare(tmp_path / "run", calls=kept).text


def test_masked_addresses_stay_masked(page: str, outline: Outline) -> None:
    assert "192.168.x.x:40000 ↔ 31.13.x.x:3478" in outline.text
    dotted = re.findall(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.])", outline.text)
    assert dotted == []


def test_an_empty_run_says_in_each_part_that_nothing_was_measured(tmp_path: Path) -> None:
    text = bare(tmp_path / "run").text
    for sentence in (
        "This run replayed no call, so it cannot say who could call whom.",
        "accuracy was not measured",
        "false calls were not measured",
        "there is no time to verdict to show",
        "No innocent traffic was replayed in this run, so its cost was not measured.",
        "This run measured neither latency nor throughput.",
        "The run's tables name no capture.",
    ):
        assert sentence in text


def test_without_a_real_capture_nothing_is_called_a_finding(tmp_path: Path) -> None:
    made = [row for row in fake_calls() if row["synthetic"]]
    text = bare(tmp_path / "run", calls=made, cells=fake_cells()).text
    assert "No real call took part in this run" in text
    assert "real calls fail" not in text


def test_recordings_of_the_lab_are_told_from_public_captures(tmp_path: Path) -> None:
    path = fake_run(tmp_path / "run") / "summary.json"
    result = json.loads(path.read_text())
    result["captures"] |= {"real": 0, "recorded": 47}
    path.write_text(json.dumps(result))
    text = Outline(report.render(tmp_path / "run").read_text()).text
    assert "47 captures of this run are not public: the lab recorded real programs" in text
    assert "0 real captures, 47 recorded in the lab" in text
    assert "47 captures of this run are not public" in (tmp_path / "run" / "report.md").read_text()


def test_no_false_call_is_told_as_a_bound(outline: Outline) -> None:
    assert "0 of 900 innocent flows were certainly called a call" in outline.text
    assert re.search(
        r"They come from 1 independent recording. That is too few to bound the rate", outline.text
    )


def test_failed_cells_are_told_first(tmp_path: Path) -> None:
    cells = fake_cells()
    cells[0] |= {"status": "failed", "error": f"it broke {NASTY}"}
    fake_run(tmp_path / "run", cells=cells)
    text = Outline(report.render(tmp_path / "run").read_text()).text
    assert re.search(r"1 of \d+ cells failed and is missing from every count below", text)
    assert text.index("it broke") < text.index("real calls fail")


def test_missing_and_cut_captures_are_counted_with_reasons(outline: Outline) -> None:
    assert "1 capture could not be obtained and is in no count" in outline.text
    assert "fake-lost fake: no network" in outline.text
    assert "1 file had a fault" in outline.text
    assert f"fake-cut.pcap: cut in record 12 {NASTY}" in outline.text


def test_places_with_equal_results_are_shown_once(run: Path) -> None:
    found = reader.read(run)
    held = situations.situations(found["calls"], found["collateral"])
    assert [(one.quiet, one.label) for one in held] == [
        (False, [
            ("Maroc Telecom", "3G and 4G on 20 Jan and 15 Mar 2016; "
                              "ADSL and home Wi-Fi on 15 Mar 2016"),
            ("Inwi and Meditel", "3G and 4G on 20 Jan and 15 Mar 2016"),
        ]),
        (True, [
            ("Maroc Telecom", "3G and 4G on 15 Dec 2015 and 15 Nov 2016; ADSL and home Wi-Fi on "
                              "15 Dec 2015, 20 Jan 2016 and 15 Nov 2016"),
            ("Inwi and Meditel", "3G and 4G on 15 Dec 2015 and 15 Nov 2016"),
        ]),
    ]  # fmt: skip


def test_one_call_more_blocked_splits_a_situation() -> None:
    calls = fake_calls()
    odd = next(
        row for row in calls if (row["access"], row["date"]) == ("4g", "2016-01-20")
        and row["operator"] == "inwi" and row["verdict"] == "OK"
    )  # fmt: skip
    before = len(situations.situations(calls, fake_collateral()))
    odd |= {"verdict": "CUT", "blocked": True}
    assert len(situations.situations(calls, fake_collateral())) == before + 1


def test_tables_are_read_from_csv_where_no_parquet_is(tmp_path: Path) -> None:
    fake_run(tmp_path / "run")
    for path in (tmp_path / "run").glob("*.parquet"):
        path.unlink()
    text = Outline(report.render(tmp_path / "run").read_text()).text
    assert "8 of 8 real calls fail" in text


def test_rendering_twice_gives_the_same_bytes(run: Path, page: str) -> None:
    report.render(run)
    assert (run / "report.html").read_text() == page


def test_a_folder_that_is_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError, match=r"no such run folder \(run an experiment first\)"):
        report.render(tmp_path / "nowhere")
    with pytest.raises(ExperimentError, match=r"holds no summary\.json, so it is no finished run"):
        report.render(tmp_path)


@pytest.mark.parametrize(
    ("name", "fault"),
    [
        ("summary.json", "no valid JSON"),
        ("calls.parquet", "cannot be read"),
        ("spec.toml", "no valid TOML"),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, fault: str) -> None:
    fake_run(tmp_path / "run")
    (tmp_path / "run" / name).write_text("{ not this")
    with pytest.raises(ExperimentError, match=f"{re.escape(name)}: {fault}"):
        report.render(tmp_path / "run")


def test_the_report_imports_neither_testbed_nor_classifier_nor_captures() -> None:
    code = "import sys, midcall.experiments.report.html; print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        cwd=Path(__file__).resolve().parents[2],
    )  # fmt: skip
    names = set(done.stdout.split()) - {"midcall.captures"}  # the package alone is empty
    loaded = {name.removeprefix("midcall.").split(".")[0] for name in names}
    assert "experiments" in loaded
    assert not loaded & {"testbed", "classifier", "captures", "numba", "scapy", "dpkt"}


def test_undefined_shares_are_not_zero() -> None:
    assert formatting.share(0, 0) == "n/a (0 positives)"
    assert formatting.percent(None) == "n/a"


def test_percentages_keep_the_digits_their_size_deserves() -> None:
    written = [formatting.percent(value) for value in (0, 0.00012, 0.0034, 0.0123, 0.5, 0.981, 1)]
    assert written == ["0 %", "0.012 %", "0.34 %", "1.2 %", "50 %", "98.1 %", "100 %"]


def luminance(colour: str) -> float:
    """Return the relative luminance of #rgb or #rrggbb (WCAG 2.2)."""
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[at : at + 2], 16) / 255 for at in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", [0, 1], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("ink", "ground"),
    [
        *((ink, "paper") for ink in ("ink", "muted", "link", "hot", "good")),
        ("muted", "panel"), ("ink", "hatch"), ("h0-ink", "h0"), ("h5-ink", "h5"),
        *(("h14-ink", f"h{step}") for step in (1, 2, 3, 4)),
    ],
)  # fmt: skip
def test_words_can_be_read_on_their_ground(theme: int, ink: str, ground: str) -> None:
    css = (report.TEMPLATES / "report.css").read_text()
    block = re.findall(r":root \{(.*?)\}", css, re.DOTALL)[theme]
    colours = dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]+);", block))
    dim, bright = sorted((luminance(colours[ink]), luminance(colours[ground])))
    assert (bright + 0.05) / (dim + 0.05) >= 4.5


def test_operators_and_networks_with_equal_squares_share_a_row(run: Path) -> None:
    found = reader.read(run)
    groups = calendar.calendar(found, found["calls"])["groups"]
    assert [(one.operators, [held.accesses for held in one.networks]) for one in groups] == [
        (("maroc-telecom",), [("3g", "4g"), ("adsl", "wifi")]),
        (("inwi", "meditel"), [("3g", "4g"), ("adsl", "wifi")]),
    ]
    assert [held.documented for held in groups[1].networks] == [True, False]


def test_each_app_is_told_with_the_hypotheses_that_can_tell(run: Path) -> None:
    apps = {row.app: row for row in Views(reader.read(run), {}).view(Choice()).apps}
    assert list(apps) == ["whatsapp", "skype", "viber", "facetime", "messenger"]
    skype = apps["skype"]
    assert (skype.fewest, skype.most, skype.n) == (0, 1, 1)
    assert (skype.blocking, skype.hypotheses, skype.unclear) == (2, 3, 1)
    assert apps["facetime"].n == 0


# ---- languages


def ids(catalogue: Catalog) -> dict[object, Message]:
    """Return the messages of a catalogue, without its head."""
    return {message.id: message for message in catalogue if message.id}


@pytest.fixture(scope="module")
def said() -> dict[object, Message]:
    """Return every message of the code and the templates."""
    return ids(messages.extracted())


@pytest.mark.parametrize("code", [one.code for one in language.PAGES[1:]])
def test_a_catalogue_has_every_message_and_no_other(
    code: str, said: Mapping[object, Message]
) -> None:
    held = ids(language.catalogue(code))
    assert set(held) == set(said), "python -m midcall.experiments.report.messages updates them"
    for message in held.values():
        forms = message.string if isinstance(message.string, tuple) else (message.string,)
        assert all(forms), message.id
        assert not message.fuzzy, message.id
        assert len(forms) == (language.catalogue(code).num_plurals if message.pluralizable else 1)


@pytest.mark.parametrize("code", [one.code for one in language.PAGES[1:]])
def test_a_translation_has_the_values_and_links_of_its_message(code: str) -> None:
    kept = re.compile(r"%\(\w+\)s|\{\w+\}|<[^>]+>|%%")
    for message in ids(language.catalogue(code)).values():
        many = message.id if isinstance(message.id, tuple) else (message.id,)
        forms = message.string if isinstance(message.string, tuple) else (message.string,)
        for form in forms:
            wanted, found = sorted(kept.findall(many[-1])), sorted(kept.findall(form))
            if len(forms) > 1:  # "one call" can say it without the figure
                wanted, found = (
                    [one for one in all_ if one != "%(num)s"] for all_ in (wanted, found)
                )
            assert found == wanted, form


def test_arabic_has_six_plurals() -> None:
    with formatting.speaking(language.language("ar")):
        words = [
            formatting.counted("%(num)s call", "%(num)s calls", n) for n in (0, 1, 2, 3, 11, 100)
        ]
    assert words == [
        "لا مكالمة",
        "مكالمة واحدة",
        "مكالمتان",
        "3 مكالمات",
        "11 مكالمة",
        "100 مكالمة",
    ]


def test_numbers_and_dates_are_written_as_the_language_does() -> None:
    def written() -> list[str]:
        return [
            formatting.count(5170), formatting.percent(0.0034), formatting.span((0.009, 0.5)),
            formatting.days(["2016-01-20", "2016-03-15"]), formatting.of(2, 8),
            formatting.listed("abc"),
        ]  # fmt: skip

    with formatting.speaking(language.language("fr")):
        assert written() == [
            "5\u202f170", "0,34\xa0%", "0,90 à 50\xa0%", "20 janv. et 15 mars 2016", "2 sur 8",
            "a, b et c",
        ]  # fmt: skip
    assert written() == [
        "5,170", "0.34 %", "0.90 to 50 %", "20 Jan and 15 Mar 2016", "2 of 8", "a, b and c",
    ]  # fmt: skip


@pytest.mark.parametrize("one", language.PAGES, ids=lambda one: one.code)
def test_every_language_has_its_page_with_links_to_the_others(
    run: Path, one: language.Page
) -> None:
    read = Outline((run / one.file).read_text(encoding="utf-8"))
    assert read.faults == []
    [root] = read.all("html")
    assert (root["lang"], root.get("dir")) == (one.code, "rtl" if one.rtl else None)
    links = [(link["hreflang"], link["href"]) for link in read.all("a") if "hreflang" in link]
    assert links == [(page.code, page.file) for page in language.PAGES]
    english = "This translation has not yet been read by a native speaker."
    with formatting.speaking(language.language(one.code)):
        note = formatting.gettext(english)
    assert (note in read.text) == (one.code != "en")


@pytest.mark.parametrize("code", [one.code for one in language.PAGES[1:]])
def test_a_translation_holds_no_english_message(
    run: Path, said: Mapping[object, Message], code: str
) -> None:
    """What is not marked as English is a translation, or comes from the run's files."""
    read = Outline((run / f"report.{code}.html").read_text(encoding="utf-8"))
    shown = " ".join(" ".join(read.local).split())
    words = [one for one in said if isinstance(one, str) and re.fullmatch(r"[^%]*\w \w[^%]*", one)]
    assert len(words) > 400
    assert [one for one in words if one in shown] == []
