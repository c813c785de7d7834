# SPDX-License-Identifier: BSD-3-Clause
"""`midcall captures record`: what is asked for, where it goes, what is told if it cannot be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from midcall.captures.packets.pcap import packets_of
from midcall.experiments.cli import doctor, programs
from midcall.experiments.cli.app import app
from midcall.testbed.live.network import network
from midcall.testbed.programs.background.driver import KINDS
from midcall.testbed.programs.recording import recorder
from midcall.testbed.programs.recording.recorder import Recording


def asked(*words: object) -> Any:
    return CliRunner().invoke(app, ["captures", "record", *map(str, words)])


@pytest.fixture
def _as_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(network, "require", lambda: None)


@pytest.mark.parametrize("words", [(), ("--spec", "samples", "--caller", "sipp")])
def test_one_thing_is_to_be_recorded(words: tuple[str, ...]) -> None:
    done = asked(*words)
    assert done.exit_code == 2
    assert "say what to record: either --spec, or one of --caller and --bystander" in done.stderr


def test_a_wrong_word_is_told_with_what_is_expected() -> None:
    done = asked("--caller", "chromium", "--path", "turn-dtls")
    assert done.exit_code == 2
    assert "path: got 'turn-dtls', chromium can do direct, turn-udp" in done.stderr


def test_a_name_that_no_scene_has_is_told() -> None:
    done = asked("--spec", "samples", "--only", "nosuch")
    assert done.exit_code == 2
    assert "--only nosuch: no scene of samples has that in its name" in done.stderr


@pytest.mark.usefixtures("_as_root")
def test_recordings_are_kept_told_and_what_was_left_ends_with_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def record(scenes: Any, result: Any) -> Any:
        packets = packets_of([bytes(60)], [1_800_000_000_000_000_000])
        taps = dict.fromkeys(("c0", "b0", "b1", "s0"), packets)
        yield Recording(scenes[0], taps, [], None, "")
        result(scenes[1], "nginx is missing: apt-get install nginx-light")

    monkeypatch.setattr(recorder, "record", record)
    done = asked(
        "--spec", "samples", "--only", "web-plain", "--out", tmp_path, "--taps", tmp_path / "taps",
        "--json",
    )  # fmt: skip
    assert done.exit_code == 1
    result = json.loads(done.stdout)
    assert [row["name"] for row in result["recorded"]] == ["lab-web-plain-4g"]
    assert result["left"] == {"lab-web-plain-adsl": "nginx is missing: apt-get install nginx-light"}
    names = {f"lab-web-plain-4g-{tap}.pcapng" for tap in ("c0", "b0", "b1", "s0")}
    assert {path.name for path in (tmp_path / "taps").iterdir()} == names


def test_the_doctor_names_every_kind_of_bystander(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "missing", lambda _kind: [])
    found = programs.bystanders()
    assert {one.state for one in found} == {"ok"}
    assert {kind for one in found for kind in one.words.split(", ")} == set(KINDS)
    monkeypatch.setattr(programs, "missing", lambda _kind: ["x is missing: apt-get install x"])
    assert {one.state for one in programs.bystanders()} == {doctor.OPTIONAL}
    assert {one.words for one in programs.bystanders()} == {"x is missing: apt-get install x"}
