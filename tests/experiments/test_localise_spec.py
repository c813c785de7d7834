# SPDX-License-Identifier: BSD-3-Clause
"""Localisations that a spec orders: resumed, printed, and shown in the report with bytes marked."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from midcall.errors import ExperimentError
from midcall.experiments.cli.app import app
from midcall.experiments.localise import boxes
from midcall.experiments.proofs.localiser import spec_run
from midcall.experiments.report import html
from midcall.experiments.report.sections import localise as section
from midcall.experiments.results import reader
from midcall.experiments.spec import spec as specs
from midcall.testbed.probing.probe import Probe
from tests.experiments.fake_run import fake_run

SPEC = """
schema = 1
name = "two-boxes"
title = "Two boxes"
question = "What do they decide by?"
seed = 3
operators = ["maroc-telecom"]
access = ["4g"]
apps = ["whatsapp"]
dates = [{ date = 2016-01-20, label = "mobile only" }]

[localise]
captures = ["lab-chromium-audio-direct-4g"]
boxes = ["maroc-telecom/stun", "china-2023/large-dtls", "maroc-telecom/ports"]
planted = false
"""


@pytest.fixture(scope="module")
def spec() -> specs.Spec:
    return specs.parse(SPEC.encode(), "two-boxes.toml")


@pytest.fixture(scope="module")
def whole(spec: specs.Spec, tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    return spec_run.localise_spec(
        spec, spec_run.Locations(work_folder=tmp_path_factory.mktemp("kept"))
    )


def test_each_box_is_asked_and_one_that_lets_all_pass_is_said_to(whole: dict[str, list]) -> None:
    stun, dtls, ports = whole["boxes"]
    assert stun["sufficient"] == [["stun"]]
    assert stun["necessary"] == [["stun"]]
    assert dtls["sufficient"] == [["kind", "size"]]
    assert len(dtls["necessary"]) == 2
    assert (ports["blocked"], ports["complete"], ports["clauses"]) == (False, True, [])


@pytest.mark.parametrize("after", [10, 100])
def test_an_interrupted_localisation_goes_on_and_ends_with_the_same_bytes(
    after: int,
    spec: specs.Spec,
    whole: dict[str, object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = 0

    class Killing(boxes.PolicyOracle):
        def blocked(self, probe: Probe) -> bool:
            nonlocal asked
            asked += 1
            if asked == after:
                raise KeyboardInterrupt
            return super().blocked(probe)

    where = spec_run.Locations(work_folder=tmp_path)
    monkeypatch.setattr(boxes, "PolicyOracle", Killing)
    with pytest.raises(KeyboardInterrupt):
        spec_run.localise_spec(spec, where)
    kept = list(tmp_path.rglob("*.json"))
    assert kept
    again = spec_run.localise_spec(spec, where)
    assert json.dumps(again) == json.dumps(whole)
    total = sum(one["cost"]["probes"] for one in whole["boxes"])
    assert asked == total + 1  # the one that was interrupted is asked again
    assert not list(tmp_path.rglob("*.json"))


def test_the_command_prints_every_box_and_its_cost(tmp_path: Path) -> None:
    path = tmp_path / "two-boxes.toml"
    path.write_text(SPEC)
    done = CliRunner().invoke(app, ["localise", str(path)])
    assert done.exit_code == 0, done.output
    assert "blocked if is a STUN message" in done.stdout
    assert re.search(r"cost +(\d+) questions, \1 of 20000 probes", done.stdout)
    as_json = CliRunner().invoke(app, ["localise", str(path), "--format", "json"])
    assert [one["file"] for one in json.loads(as_json.stdout)["boxes"]] == [
        "lab-chromium-audio-direct-4g"
    ] * 3


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["smoke"], "spec smoke: orders no localisation"),
        (["nothing.toml"], "no such spec file"),
        (["localise", "--noise", "0.1"], "--noise: belongs to a capture and --policy"),
        (["captures/samples/sample-dns.pcap"], "a capture needs --policy"),
        (["x.pcap", "--policy", "inwi/stun", "--corpus", "y"], "y: no such folder"),
    ],
)
def test_what_belongs_elsewhere_is_told(words: list[str], says: str) -> None:
    done = CliRunner().invoke(app, ["localise", *words])
    assert done.exit_code == 2
    assert says in done.stderr


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('captures = ["lab-chromium-audio-direct-4g"]\n', "", "captures and boxes belong together"),
        ("box", "bax", "unknown key (did you mean boxes?)"),
    ],
)
def test_a_faulty_table_is_told(old: str, new: str, says: str) -> None:
    head, tail = SPEC.split("[localise]")
    with pytest.raises(ExperimentError, match=re.escape(says)):
        specs.parse(f"{head}[localise]{tail.replace(old, new)}".encode(), "faulty.toml")


def test_a_capture_nobody_has_is_told(spec: specs.Spec) -> None:
    assert spec.localise is not None
    other = spec.localise.model_copy(update={"captures": ["lab-chromium-audio-direct-4gs"]})
    with pytest.raises(ExperimentError, match="did you mean lab-chromium-audio-direct-4g"):
        spec_run.jobs(spec.model_copy(update={"localise": other}), None)


# ---- the report


@pytest.fixture(scope="module")
def page(whole: dict[str, object], tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("run") / "run"
    fake_run(folder)
    (folder / "localised.json").write_text(json.dumps(whole))
    return html.render(folder).read_text(encoding="utf-8")


def test_the_report_marks_decisive_octets_and_masks_the_others(page: str) -> None:
    part = page[page.index('<section id="localise"') :].split("</section>")[0]
    assert '<mark class="t0" title="STUN cookie">21 12 a4 42</mark>' in part
    assert "8 bytes from 28 on" in part
    assert "198.18.x.x" in part
    assert "198.18.0" not in part
    assert re.search(r"\d+ of 20,000 allowed", part)
    assert "<code>maroc-telecom/ports on 4g</code> (lab-chromium-audio-direct-4g)" in part


def test_windows_are_told_where_they_limit() -> None:
    open_ended = {"since": "x", "packets": [6, None], "loaded": None, "bytes": None,
                  "seconds": [0, 1.5]}  # fmt: skip
    free = {"since": "y", "packets": None, "loaded": None, "bytes": None, "seconds": None}
    assert list(section.limits({"windows": [open_ended, free]})) == [
        {"since": "x", "packets": "6 or more", "loaded": "any", "bytes": "any",
         "seconds": "up to 1.5"}
    ]  # fmt: skip


def test_planted_rules_that_were_missed_stand_with_their_cause(tmp_path: Path) -> None:
    from midcall.experiments.measure import summary
    from midcall.experiments.proofs.localiser import score
    from midcall.experiments.proofs.localiser.listed_rules import LISTED_RULES
    from midcall.experiments.results import schema

    fake_run(tmp_path)
    some = [one for one in LISTED_RULES if one.name in ("cookie", "size-range")]
    rows = score.run([0.0], 30, 5, some)
    schema.write_table(tmp_path, "localise", rows)
    result = json.loads((tmp_path / "summary.json").read_text())
    result["localise"] = summary.localise(rows)
    (tmp_path / "summary.json").write_text(json.dumps(result))
    shown = section.build(reader.read(tmp_path))
    assert shown is not None
    held = shown["localised"]
    assert held["by_noise"][0]["recovered"] == 0
    assert [row["rule"] for row in held["missed"]] == ["cookie", "size-range"]
    assert "the budget of 30 probes is spent" in held["missed"][0]["cause"]


def test_rows_of_the_benchmark_are_kept_and_not_made_twice(tmp_path: Path) -> None:
    from midcall.experiments.proofs.localiser import score
    from midcall.experiments.proofs.localiser.listed_rules import LISTED_RULES

    some = [one for one in LISTED_RULES if one.name == "cookie"]
    first = score.run([0.0], 5000, 5, some, cache=tmp_path)

    def never(*words: object) -> None:
        raise AssertionError

    assert score.run([0.0], 5000, 5, some, search=never, cache=tmp_path) == first
