# SPDX-License-Identifier: BSD-3-Clause
"""The corpus of a run: who takes part, who is a copy, who is younger than the scenario."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from midcall.captures.truth.calls import Call
from midcall.captures.truth.catalogue import Capture, load
from midcall.errors import ExperimentError
from midcall.experiments.spec import corpus, spec
from midcall.experiments.spec.corpus import Item


def capture(name: str, **more: Any) -> Capture:
    """Return a capture of a call."""
    facts: dict[str, Any] = {
        "name": name,
        "file": f"{name}.pcap",
        "sha256": f"{abs(hash(name)):064x}"[-64:],
        "bytes": 1,
        "packets": 1,
        "role": "call",
        "app": "viber",
        "kind": "audio",
        "media": True,
        "year": 2016,
        "access": "wifi",
        "group": "g",
        "licence": "x",
    }
    return Capture(**facts | more)


def call(name: str, year: int | None = None) -> Call:
    """Return a call."""
    return Call(
        id=name,
        app="viber",
        kind="audio",
        year=year,
        inferred=True,
        timer_models=["time"],
        timer_source="x",
    )


def item(one: Capture, *calls: Call) -> Item:
    return Item(one, Path(one.file), list(calls), [])


def test_the_smoke_spec_takes_the_samples_alone() -> None:
    held = corpus.gather(spec.load("smoke")[0], None)
    assert held.items
    assert all(one.capture.synthetic for one in held.items)
    assert held.missing == []
    names = [one.capture.name for one in held.items]
    assert names == sorted(names)


def test_a_spec_can_leave_innocents_out() -> None:
    smoke = spec.load("smoke")[0]
    narrow = smoke.model_copy(
        update={"captures": smoke.captures.model_copy(update={"innocents": "none"})}
    )
    chosen = corpus.wanted(load(local=False), narrow)
    assert chosen
    assert all(one.role == "call" for one in chosen)


def test_a_spec_of_which_nothing_can_be_had_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(*words: Any, **more: Any) -> Any:
        from midcall.captures.fetch.fetch import Obtained

        return Obtained({}, {}, {}, [])

    monkeypatch.setattr("midcall.captures.fetch.fetch.obtain", nothing)
    with pytest.raises(ExperimentError, match="none of its 21 captures could be obtained"):
        corpus.gather(spec.load("smoke")[0], None)


def test_a_call_in_two_captures_is_counted_in_the_original() -> None:
    original = item(capture("full"), call("V-1"))
    copy = item(capture("cut", copy_of="full"), call("V-1"))
    found = corpus.counting_capture([copy, original])
    assert found == {"V-1": original.capture.sha256}
    assert corpus.copies([copy, original]) == ["cut"]
    assert corpus.counting_capture([copy]) == {"V-1": copy.capture.sha256}
    assert corpus.copies([copy]) == []


def test_a_call_in_a_collection_is_counted_where_it_stands_alone() -> None:
    many = item(capture("a-mix"), call("x"), call("y"))
    alone = item(capture("single"), call("x"))
    found = corpus.counting_capture([many, alone])
    assert found == {"x": alone.capture.sha256, "y": many.capture.sha256}


def test_calls_of_samples_recordings_and_added_captures_are_never_the_same() -> None:
    first = item(capture("s1", synthetic=True), call("call-1"))
    second = item(capture("s2", added=True), call("call-1"))
    third = item(capture("s3", recorded=True), call("call-1"))
    found = corpus.counting_capture([first, second, third])
    assert set(found) == {"s1/call-1", "s2/call-1", "s3/call-1"}


def test_a_recording_of_the_lab_is_not_counted_as_a_real_capture() -> None:
    held = [item(capture("a")), item(capture("b", recorded=True)), item(capture("c", added=True))]
    assert corpus.tally([*held, item(capture("d", synthetic=True))]) == {
        "real": 2, "recorded": 1, "synthetic": 1, "added": 1, "innocent": 0,
    }  # fmt: skip


def test_a_later_client_is_younger_than_the_last_date() -> None:
    default = spec.load("morocco-2016")[0]
    assert corpus.later_client(capture("a", year=2019), None, default)
    assert not corpus.later_client(capture("a", year=2016), None, default)
    assert not corpus.later_client(capture("a", year=None), None, default)
    assert corpus.later_client(capture("a", year=2015), call("c", 2022), default)


def test_another_label_makes_another_truth() -> None:
    one = item(capture("a"), call("x"))
    other = item(capture("a"), call("x", 2017))
    assert one.truth_digest() == item(capture("a"), call("x")).truth_digest()
    assert one.truth_digest() != other.truth_digest()
