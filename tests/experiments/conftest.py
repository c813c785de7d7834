# SPDX-License-Identifier: BSD-3-Clause
"""A testbed made of paper: it drops what a policy of one rule says, so that runs can be checked."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from midcall.experiments.cells.offline import classify_packets

SPEC = """
schema = 1
name = "paper"
title = "Paper"
question = "What?"
seed = 7
operators = ["maroc-telecom"]
hypotheses = ["media-only"]
access = ["4g"]
apps = ["whatsapp", "viber"]
[[dates]]
date = 2015-12-15
label = "before"
[[dates]]
date = 2016-01-20
label = "during"
[[dates]]
date = 2016-11-15
label = "after"
[captures]
real = false
added = false
names = ["sample-whatsapp-audio", "sample-viber-audio", "sample-dns"]
[timing]
packets = 200
seconds = 0.2
[evaluation]
enabled = false
"""

FATE = np.dtype([("fate", "u1"), ("struck_rule", "i2")])
LOSS = ("flows", "hit", "bytes", "bytes_hit", "seconds", "seconds_lost")


class Paper:
    """The fake testbed: counts its simulations, and fails for captures of `fails` packets."""

    def __init__(self) -> None:
        self.simulations = 0
        self.fails: int | None = None

    def simulate(
        self,
        packets: Any,
        calls: Any,
        labels: Any,
        policy: Any,
        access: str,
        seed: int,
        link: str = "captured",
    ) -> Any:
        """Drop every packet under a policy with rules, none otherwise."""
        self.simulations += 1
        active = policy is not None and bool(policy.rules)
        if active and packets.total == self.fails:
            raise ArithmeticError("the paper tore")
        _, numbers = classify_packets(packets, "paper")
        fates = np.zeros(packets.total, FATE)
        fates["fate"], fates["struck_rule"] = (2, 0) if active else (1, -1)
        return SimpleNamespace(
            fates=fates,
            flow=numbers,
            flows=None,
            active=active,
            struck=fates["fate"] == 2,
            delivered=fates["fate"] == 1,
        )

    def judge(self, simulation: Any, control: Any, call: Any, changed: Any) -> Any:
        """Call it blocked where anything was dropped."""
        assert changed == ["addresses"]
        assert not control.active
        hit = simulation.active
        return SimpleNamespace(
            verdict="CONNECTED_NO_MEDIA" if hit else "OK",
            blocked=hit,
            rule="paper" if hit else None,
            packets_to_block=1 if hit else None,
            ms_to_block=2.5 if hit else None,
            media_sent=100,
            media_delivered=0 if hit else 100,
            media_control=100,
            media_lost=1.0 if hit else 0.0,
            usable=not hit,
            reason="paper",
            up=None,
            down=None,
        )


@pytest.fixture
def paper(monkeypatch: pytest.MonkeyPatch) -> Paper:
    """Put the fake testbed in the place of the real one."""
    made = Paper()
    virtual, call = (
        ModuleType("midcall.testbed.replay.simulator"),
        ModuleType("midcall.testbed.assess.call_verdict"),
    )
    timeline, loss = (
        ModuleType("midcall.testbed.assess.timeline"),
        ModuleType("midcall.testbed.assess.loss"),
    )
    timeline.timeline = lambda *result: None  # type: ignore[attr-defined]
    nothing = SimpleNamespace(_asdict=lambda: dict.fromkeys(LOSS, 0))
    loss.loss = lambda *result: nothing  # type: ignore[attr-defined]
    ladders = ModuleType("midcall.experiments.tools.ladder")
    ladders.ladder = lambda *result: []  # type: ignore[attr-defined]
    virtual.simulate = made.simulate  # type: ignore[attr-defined]
    virtual.warm_up = lambda: None  # type: ignore[attr-defined]
    call.judge = made.judge  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "midcall.testbed.replay.simulator", virtual)
    monkeypatch.setitem(sys.modules, "midcall.testbed.assess.call_verdict", call)
    monkeypatch.setitem(sys.modules, "midcall.testbed.assess.timeline", timeline)
    monkeypatch.setitem(sys.modules, "midcall.testbed.assess.loss", loss)
    monkeypatch.setitem(sys.modules, "midcall.experiments.tools.ladder", ladders)
    return made


@pytest.fixture
def paper_spec(tmp_path: Path) -> Path:
    """Return a spec of three cells over three samples."""
    path = tmp_path / "paper.toml"
    path.write_text(SPEC)
    return path
