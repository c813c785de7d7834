# SPDX-License-Identifier: BSD-3-Clause
"""The line on the quality of calls that a live play says every few seconds."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np

from midcall.testbed.live.replay.endpoints import PLAYED
from midcall.testbed.live.replay.heard import EVERY, LATE, Heard
from midcall.testbed.replay.sides import CALLER, FAR

MS = 1_000_000


def play(count: int, lost: float = 0.0, seed: int = 1) -> tuple[Any, np.ndarray]:
    """Return the script and the ends' records of a voice call, a packet every 20 ms each way."""
    rng = np.random.default_rng(seed)
    facts = np.zeros(2 * count, [("size", "i8"), ("ip_size", "i8")])
    facts["size"] = rng.integers(90, 130, 2 * count)
    facts["ip_size"] = facts["size"] + 28
    script = SimpleNamespace(
        media=np.ones(2 * count, np.uint8),
        flow=np.full(2 * count, 4),
        side=np.tile([CALLER, FAR], count),
        held=SimpleNamespace(facts=facts),
    )
    played = np.zeros(2 * count, PLAYED)
    played["packet"] = np.arange(2 * count)
    played["left"] = np.arange(2 * count) // 2 * 20 * MS
    played["stamp"] = np.where(rng.random(2 * count) < lost, -1, played["left"] + 30 * MS)
    return script, played


def lines(script: Any, played: np.ndarray, seconds: int) -> list[str]:
    """Return what is said of a play whose records fill as time passes; looks come every 50 ms."""
    said: list[str] = []
    shown = played.copy()
    shown["packet"] = shown["stamp"] = -1
    heard = Heard(script, shown, said.append)
    for clock in range(0, seconds * 1000 * MS, 50 * MS):
        sent, came = played["left"] < clock, played["stamp"] < clock
        shown["packet"][sent] = played["packet"][sent]
        shown["stamp"][came] = played["stamp"][came]
        heard.look(clock, len(shown))
    return said


def test_a_call_without_loss_is_heard_well_in_both_directions() -> None:
    said = lines(*play(500), seconds=10)
    assert len(said) == (10 - LATE) // EVERY
    assert all("2 directions of media heard, loss 0.0 %" in line for line in said)


def test_losses_are_said_while_the_call_goes_on() -> None:
    said = lines(*play(500, lost=0.2), seconds=10)
    share = [float(line.split("loss ")[1].split(" %")[0]) for line in said]
    assert abs(np.mean(share) - 20) < 4


def test_a_call_of_which_nothing_comes_in_is_lost() -> None:
    said = lines(*play(200, lost=1.0), seconds=6)
    assert said[0] == "0-2 s: 0 directions of media heard, loss 100.0 %"


def test_nothing_is_said_of_seconds_without_media() -> None:
    assert len(lines(*play(100), seconds=10)) == 1


def test_packets_that_are_no_media_are_not_heard() -> None:
    script, played = play(200)
    script.media[script.side == FAR] = 0
    assert all("1 direction of" in line for line in lines(script, played, seconds=4))
