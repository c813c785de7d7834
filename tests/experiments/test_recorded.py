# SPDX-License-Identifier: BSD-3-Clause
"""Recordings of the lab in a run: alone, or as rows of their own, never in a figure of others."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from midcall.captures.truth.catalogue import load
from midcall.experiments.cells import recorded
from midcall.experiments.spec import corpus, spec
from midcall.experiments.spec.spec import Captures


def test_no_shipped_spec_takes_recordings_among_other_captures() -> None:
    for name in ("smoke", "morocco-2016"):
        chosen = corpus.wanted(load(local=False), spec.load(name)[0])
        assert chosen
        assert not any(one.recorded for one in chosen)


def test_recordings_take_part_alone() -> None:
    with pytest.raises(ValidationError, match="recorded calls have figures of their own"):
        Captures(recorded=True)
    only = Captures(recorded=True, real=False, synthetic=False)
    smoke = spec.load("smoke")[0].model_copy(update={"captures": only})
    chosen = corpus.wanted(load(local=False), smoke)
    assert len(chosen) > 80
    assert all(one.recorded for one in chosen)


def test_a_run_over_public_captures_has_their_rows_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "block", lambda: {"rows": []})
    assert recorded.summary_block(spec.load("morocco-2016")[0]) == {"recorded": {"rows": []}}
    assert recorded.summary_block(spec.load("smoke")[0]) == {}


def test_each_recording_is_an_item_with_its_truth() -> None:
    held = list(recorded.items())
    assert len(held) > 80
    assert all(item.path.is_file() and item.labels for item in held)
    assert all(bool(item.calls) != item.innocent for item in held)


def test_a_recording_is_judged_by_what_its_program_did() -> None:
    wanted = ("lab-baresip-srtp-direct-4g", "lab-chromium-audio-turn-tls-4g", "lab-dns-3g")
    chosen = [item for item in recorded.items() if item.capture.name in wanted]
    result = recorded.summarise(
        (item.capture, recorded.offline.examine(item).rows) for item in chosen
    )
    assert result["total"]["captures"] == 3
    assert result["total"]["right"] == 3
    assert result["total"]["quiet"] == 16
    assert [row["capture"] for row in result["wrong"]] == ["lab-chromium-audio-turn-tls-4g"]
