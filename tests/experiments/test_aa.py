# SPDX-License-Identifier: BSD-3-Clause
"""A/A tests: what is counted as a test, what as a false positive, and what is kept."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from midcall.errors import ExperimentError
from midcall.experiments.cli.app import app
from midcall.experiments.proofs import null_tests
from midcall.experiments.report import html
from tests.experiments.fake_run import fake_run

CALL = ("capture", "call-1")


class Drawn:
    """A player of made-up plays: `shift` is what arm B has more than arm A."""

    def __init__(self, shift: float = 0.0, calls: int = 40, capture: str = "capture") -> None:
        self.shift, self.calls, self.capture, self.plays = shift, calls, capture, 0

    def play(self, round_: int, number: int) -> null_tests.Values:
        self.plays += 1
        draws = np.random.default_rng([round_, number]).normal(size=self.calls)
        more = self.shift if number % 4 in (1, 2) else 0.0
        return {(self.capture, f"c{n}", "up: delay"): float(v) + more for n, v in enumerate(draws)}


def quiet(n: int) -> None:
    """Say nothing."""


def test_of_equal_arms_about_one_test_in_a_hundred_says_different() -> None:
    found = null_tests.rounds(Drawn(calls=100), 1000, 8, 1, quiet)
    outcome = null_tests.false_positive_figures(found)
    assert outcome["tests"] == 1000
    assert outcome["interval"][0] <= null_tests.ALPHA <= outcome["interval"][1]


def test_of_arms_that_differ_nearly_every_test_says_so() -> None:
    found = null_tests.rounds(Drawn(shift=6.0), 40, 8, 1, quiet)
    assert sum(one.false_positive for one in found) > 36
    shifts = [one.shift for one in found if one.shift is not None]
    assert np.median(shifts) == pytest.approx(6.0, abs=0.5)
    assert "more than alpha" in null_tests.judgement(null_tests.false_positive_figures(found))


def test_rounds_are_made_until_enough_tests_are_pooled() -> None:
    player, heard = Drawn(calls=10), []
    found = null_tests.rounds(player, 25, 8, 1, heard.append)
    assert (len(found), player.plays, heard) == (30, 48, [10, 20, 30])


def test_what_never_differs_is_no_test() -> None:
    same = {(*CALL, "up: delay"): 1.0}
    other = [{(*CALL, "up: delay"): 1.0}] * 7 + [{(*CALL, "up: delay"): 2.0}]
    assert list(null_tests.null_tests(0, [same] * 8, [same] * 8, 1)) == []
    assert len(list(null_tests.null_tests(0, [same] * 8, other, 1))) == 1
    assert list(null_tests.null_tests(0, [same] * 8, [*other[:7], {}], 1)) == []


def test_nothing_to_test_is_an_error() -> None:
    class Still:
        def play(self, round_: int, number: int) -> null_tests.Values:
            return {(*CALL, "up: delay"): 1.0}

    with pytest.raises(ExperimentError, match="no call has a measure that differs"):
        null_tests.rounds(Still(), 10, 8, 1, quiet)


def test_blocks_are_tested_by_fisher() -> None:
    blocked = [{(*CALL, null_tests.BLOCKED): 1.0}] * 8
    free = [{(*CALL, null_tests.BLOCKED): 0.0}] * 8
    (one,) = null_tests.null_tests(0, blocked, free, 1)
    assert one.p == pytest.approx(2 / 12870)
    assert (one.shift, one.false_positive) == (None, True)


def result(runs: Path, name: str, tests: int = 200, hits: int = 2, **more: Any) -> None:
    outcome = {
        "schema": null_tests.SCHEMA,
        "ended": "2026-01-01T00:00:00+00:00",
        "code": null_tests.own_code(),
    }
    outcome |= {"backend": "live", "seed": 1, "access": "4g", "sha256": {"capture": "ab"}}
    place = {"round": 0, "capture": "capture", "call": "call-1"}
    outcome["rows"] = [
        {**place, "measure": str(n), "false_positive": n < hits} for n in range(tests)
    ]
    outcome |= more
    (runs / null_tests.FOLDER).mkdir(parents=True, exist_ok=True)
    (runs / null_tests.FOLDER / f"{name}.json").write_text(json.dumps(outcome))


def test_results_of_one_state_of_the_code_are_pooled(tmp_path: Path) -> None:
    assert null_tests.pooled(tmp_path) is None
    result(tmp_path, "one")
    result(tmp_path, "two", backend="virtual", tests=150, hits=0)
    result(tmp_path, "old", code="other", ended="2025-01-01T00:00:00+00:00", tests=9000)
    (tmp_path / null_tests.FOLDER / "torn.json").write_text("{")
    outcome = null_tests.pooled(tmp_path)
    assert outcome is not None
    assert (outcome["tests"], outcome["false_positives"], outcome["published"]) == (350, 2, True)
    assert outcome["backends"] == {"live": 200, "virtual": 150}
    assert outcome["same_code"]


@pytest.mark.parametrize(
    ("more", "tests"),
    [
        ({}, 150),
        ({"spec": "other", "pairs": 9}, 150),
        ({"seed": 2}, 300),
        ({"access": "adsl"}, 300),
        ({"sha256": {"capture": "cd"}}, 300),
        ({"backend": "live"}, 300),
    ],
)
def test_a_virtual_test_that_was_run_twice_counts_once(
    tmp_path: Path, more: dict[str, Any], tests: int
) -> None:
    result(tmp_path, "one", backend="virtual", tests=150)
    result(tmp_path, "two", tests=150, **{"backend": "virtual", **more})
    outcome = null_tests.pooled(tmp_path)
    assert outcome is not None
    assert outcome["tests"] == tests
    assert outcome["false_positives"] == (2 if tests == 150 else 4)


def test_two_live_results_are_tests_of_their_own(tmp_path: Path) -> None:
    result(tmp_path, "one")
    result(tmp_path, "two")
    outcome = null_tests.pooled(tmp_path)
    assert outcome is not None
    assert (outcome["tests"], outcome["false_positives"]) == (400, 4)


def test_results_of_an_older_code_are_told_as_such(tmp_path: Path) -> None:
    result(tmp_path, "old", code="other")
    outcome = null_tests.pooled(tmp_path)
    assert outcome is not None
    assert not outcome["same_code"]
    assert not outcome["published"]


def test_the_report_tells_the_rate(tmp_path: Path) -> None:
    result(tmp_path, "one", tests=400, hits=4)
    folder = fake_run(tmp_path / "run")
    summary = json.loads((folder / "summary.json").read_text())
    more = {"aa": null_tests.pooled(tmp_path), "conformance": {"scenarios": 63, "passed": 62}}
    (folder / "summary.json").write_text(json.dumps(summary | more))
    html.render(folder)
    page = (folder / "report.html").read_text()
    assert "4 of 400 null tests had an uncorrected p below 0.01, 1.0 %" in page
    assert "400 live, until 1 Jan 2026." in page
    assert "62 of 63 came out as written" in page


def test_the_command_plays_samples_and_keeps_what_it_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: Callable[..., Any] = lambda *outcome: Drawn(capture="sample-whatsapp-audio")  # noqa: E731
    monkeypatch.setattr(null_tests, "Virtual", made)
    done = CliRunner().invoke(app, ["aa", "smoke", "--tests", "40", "--runs", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "40 null tests in 1 rounds of 8 + 8 plays (virtual" in done.stdout
    pooled = null_tests.pooled(tmp_path)
    assert pooled is not None
    assert pooled["tests"] == 40
    wrong = CliRunner().invoke(app, ["aa", "smoke", "--backend", "vrtual"])
    assert (wrong.exit_code, "got 'vrtual'" in wrong.output) == (2, True)


def test_virtual_plays_differ_by_the_networks_chances_alone(sample: Callable[[str], Any]) -> None:
    player = null_tests.Virtual([sample("sample-whatsapp-audio")], 1, "4g")
    one, again, other = player.play(0, 0), player.play(0, 0), player.play(0, 1)
    assert one == again
    assert one.keys() == other.keys()
    assert {key[2] for key in one} >= {"up: delay", "down: media lost", null_tests.BLOCKED}
    assert (
        one["sample-whatsapp-audio", "call-1", "up: delay"]
        != (other["sample-whatsapp-audio", "call-1", "up: delay"])
    )


@pytest.fixture
def sample() -> Callable[[str], Any]:
    """Return a finder of a committed sample with its calls."""
    from midcall.experiments.spec import corpus, spec

    held = corpus.gather(spec.load("smoke")[0], None, offline=True)
    return lambda name: next(one for one in held.items if one.capture.name == name)
