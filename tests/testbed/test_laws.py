# SPDX-License-Identifier: BSD-3-Clause
"""The laws of a verdict as properties of made-up calls, and of the samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midcall.captures.truth.calls import Call, calls
from midcall.captures.truth.catalogue import load
from midcall.captures.truth.labels import labels
from midcall.captures.truth.paths import samples
from midcall.experiments.proofs import verdict_laws
from midcall.experiments.spec.corpus import Item
from midcall.testbed.assess.call_verdict import judge
from midcall.testbed.policy.language import Rule
from midcall.testbed.policy.operator import Policy
from midcall.testbed.replay.simulator import simulate
from tests.conftest import of_each_group
from tests.testbed import conftest as make

GAPS = st.lists(st.floats(0.005, 4.0), min_size=1, max_size=6)
PAUSES = st.lists(st.tuples(st.floats(0.5, 8.0), st.floats(0.0, 7.0)), min_size=1, max_size=3)
EASY = settings(max_examples=40, deadline=None, derandomize=True, database=None)


def made_up(gaps: list[float], talks: list[tuple[float, float]]) -> tuple[Any, Call]:
    """Return a call that a chat announces: gaps between the chat's messages, talk and pauses."""
    scene = make.Scene()
    scene.udp(0.0, ">", make.RESOLVER, 53, make.question(1, "chat.example"), near=5353)
    scene.udp(0.03, "<", make.RESOLVER, 53, make.answer(1, "chat.example", make.PEER), near=5353)
    chat, now = scene.hello(0.05, make.PEER, 443), 0.12
    for n, gap in enumerate(gaps):
        scene.tcp(now, "><"[n % 2], make.PEER, 443, b"message %d" % n)
        now += gap
    call = make.webrtc_call(scene, begin=now + 0.1, seconds=1.0)
    now += 1.4
    for pause, talk in talks:
        now += pause
        scene.media(now, talk, make.RELAY, 3478)
        now += talk
    return scene, call.model_copy(update={"signalling": [chat], "app": "signal"})


def ran(scene: Any, call: Call, *rules: dict[str, Any], **more: Any) -> Any:
    about = {"grade": "C", "source": "a test"}
    models = tuple(
        Rule.model_validate({"name": f"r{n}", **about, **r}) for n, r in enumerate(rules)
    )
    return simulate(scene.packets, [call], [], Policy(models), "fibre", 1, **more)


@EASY
@given(GAPS, PAUSES, st.integers(1, 400))
def test_law_1_a_delay_blocks_nothing(
    gaps: list[float], talks: list[tuple[float, float]], delay: int
) -> None:
    scene, call = made_up(gaps, talks)
    slow = {"match": {"bytes": "0-"}, "act": "delay", "delay_ms": delay, "scope": "packet"}
    late, control = ran(scene, call, slow), ran(scene, call)
    result = judge(late, control, call)
    assert not result.blocked
    assert result.media_lost == 0
    assert late.fates["sent"].all()
    assert (late.fates["left"] >= control.fates["left"]).all()


@EASY
@given(GAPS, PAUSES, st.integers(1, 40), st.integers(1, 1200), st.integers(0, 900))
def test_law_4_a_superset_of_struck_packets_unblocks_nothing(
    gaps: list[float], talks: list[tuple[float, float]], first: int, low: int, span: int
) -> None:
    scene, call = made_up(gaps, talks)
    control = ran(scene, call)
    few = {"match": {"size": f"{low % 120}-{low % 120 + span % 60}"}, "act": "drop",
           "scope": "packet"}  # fmt: skip
    more = {"match": {"stun": True, "direction": "down"}, "act": "drop", "scope": "packet"}
    one, two = (
        judge(ran(scene, call, few), control, call),
        judge(ran(scene, call, few, more), control, call),
    )
    assert two.blocked or not one.blocked


@EASY
@given(PAUSES, st.integers(1, 6), st.floats(0.0, 3.0))
def test_law_5_each_sending_is_a_row(
    talks: list[tuple[float, float]], packets: int, seconds: float
) -> None:
    scene, call = made_up([0.1], talks)
    rule = {"match": {"packets": f"1-{packets}"}, "act": "drop", "scope": "packet"}
    simulation = ran(scene, call, rule)
    counts = np.bincount(simulation.attempts["packet"], minlength=len(simulation.fates))
    assert (counts == simulation.fates["attempts"]).all()
    struck = simulation.attempts["packet"][simulation.attempts["rule"] == 0]
    assert set(struck.tolist()) == set(np.flatnonzero(simulation.struck).tolist())


NAMES = [one.name for one in load(local=False).captures if one.synthetic and one.role == "call"]


def trial(name: str) -> verdict_laws.Trial:
    one = load(local=False).named(name)
    path = samples().folder / one.file
    item = Item(one, Path(path), calls(one.sha256), labels(one.sha256))
    return verdict_laws.Trial(item, verdict_laws.read(path), 7)


@pytest.mark.parametrize("law", verdict_laws.LAWS, ids=lambda law: f"law-{law.number}")
@pytest.mark.parametrize("name", NAMES)
def test_the_samples_hold_every_law(name: str, law: verdict_laws.Law) -> None:
    cases = list(law.cases(trial(name)))
    assert cases
    assert [f"{case.tried}: {case.broken}" for case in cases if case.broken] == []


def test_a_broken_law_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Delays that are told as losses: law 1 has to say so, with its counterexample."""
    from midcall.testbed.assess import call_verdict as verdicts

    monkeypatch.setattr(verdicts, "silence", lambda sent, came: 0)
    case_trial = trial("sample-whatsapp-audio")
    broken = [case for case in verdict_laws.shift(case_trial) if case.broken]
    assert broken
    assert broken[0].broken.startswith("CUT")
    (row, *_) = verdict_laws.laws_table([case_trial.item], 7, lambda name: None)
    assert row["broken"] == len(broken)
    assert row["counterexample"].startswith("sample-whatsapp-audio, call ")


@pytest.mark.longest
@pytest.mark.corpus
def test_real_captures_of_each_group_hold_every_law(corpus: Path) -> None:
    from midcall.captures.fetch.fetch import obtain

    known = load(local=False)
    had = obtain(known, corpus=corpus, offline=True)
    items = [
        Item(one, Path(had.paths[one.sha256]), calls(one.sha256), labels(one.sha256))
        for one in of_each_group(one for one in known.captures if calls(one.sha256))
        if one.sha256 in had.paths and not one.ours
    ]
    rows = verdict_laws.laws_table(items, 2016, lambda name: None)
    assert [row["counterexample"] for row in rows if row["broken"]] == []
    assert min(row["cases"] for row in rows) > 30
