# SPDX-License-Identifier: BSD-3-Clause
"""Suggested labels: listed, kept apart, and never truth."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from midcall.captures.truth import calls, labels
from midcall.experiments.cli.app import app

SAMPLE = Path(__file__).parents[2] / "captures" / "samples" / "sample-viber-audio.pcap"


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MIDCALL_LOCAL", str(tmp_path / "local"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    path = tmp_path / "mine.pcap"
    path.write_bytes(SAMPLE.read_bytes() + b"")
    return path


def changed(path: Path) -> Path:
    """Return the capture with its last octet changed: the sample itself is known already."""
    body = bytearray(path.read_bytes())
    body[-1] ^= 1
    path.write_bytes(bytes(body))
    return path


def test_suggestions_are_listed_and_are_no_truth(call: Path, tmp_path: Path) -> None:
    words = ["captures", "add", str(changed(call)), "--app", "viber", "--suggest", "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    kept = json.loads(done.stdout)
    result = kept["suggestions"]
    assert {one["status"] for one in result} == {"suggestion"}
    assert any((one["app"], one["role"]) == ("viber", "media") for one in result)
    assert labels.labels(kept["sha256"]) == []
    assert [one.media for one in calls.calls(kept["sha256"])] == [[]]
    file = tmp_path / "local" / "suggestions" / f"{kept['sha256']}.csv"
    assert file.read_text().startswith("status,frame,flow")
    removed = CliRunner().invoke(app, ["captures", "remove", kept["name"]])
    assert removed.exit_code == 0, removed.output
    assert not file.exists()


def test_without_the_flag_nothing_is_suggested(call: Path, tmp_path: Path) -> None:
    done = CliRunner().invoke(app, ["captures", "add", str(changed(call)), "--app", "viber"])
    assert done.exit_code == 0, done.output
    assert "suggest" not in done.stdout
    assert not (tmp_path / "local" / "suggestions").exists()
