# SPDX-License-Identifier: BSD-3-Clause
"""Asking a box: each question is put until its answer is sure enough, counted, and remembered.

Where a share of the box's answers is wrong, Wald's sequential probability ratio test (Annals of
Mathematical Statistics 16, 1945) says how often one probe must be repeated: the log-likelihood
ratio moves by ln((1 - noise) / noise) with every answer and stops at +-ln((1 - error) / error). It
stops early where answers agree; the chance that a question ends with the wrong answer is at most
`error`. Answers are kept in a file, so that a search that was interrupted goes on where it stood:
the search asks the same questions in the same order.
"""

from __future__ import annotations

import hashlib
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from midcall.errors import ExperimentError
from midcall.experiments.results.schema import write_atomically
from midcall.testbed.probing.oracle import Oracle
from midcall.testbed.probing.probe import Probe, ip_size

#: Raise when the meaning of a state file changes.
STATE_FORMAT = 1
#: How long a probe may take, in ns, where nobody says.
LONGEST = 600_000_000_000
#: Seconds between two writings of the state file.
PAUSE = 2.0


class Spent(Exception):
    """The budget is spent: what is known by then stands."""


class Cost(NamedTuple):
    """What the asking cost. probes: sent, repeats included; packets, octets (IP), seconds: of them.

    seconds is the time that the probes themselves take, one after the other.
    """

    questions: int = 0
    probes: int = 0
    packets: int = 0
    octets: int = 0
    seconds: float = 0.0


class Asker:
    """Puts questions to an oracle. noise: the share of answers that are wrong, at most, below 0.5.

    step: told what the asking has cost so far, after each question;
    error: the chance, at most, that one question ends with the wrong answer (0 noise: none does);
    budget: probes that may be sent; state: the file that keeps answers, None for none; about: what
    the answers are of (a file with answers of anything else is an error); longest: how long a probe
    may take, in ns: windows and gaps in time are followed so far.
    """

    def __init__(
        self,
        oracle: Oracle,
        noise: float = 0.0,
        error: float = 1e-4,
        budget: int = 20_000,
        state: Path | None = None,
        about: str = "",
        step: Callable[[Cost], None] | None = None,
        longest: int = LONGEST,
    ) -> None:
        if not 0.0 <= noise < 0.5:
            raise ExperimentError(f"noise: got {noise}, expected a share from 0 to below 0.5")
        if not 0.0 < error < 0.5:
            raise ExperimentError(f"error: got {error}, expected a share above 0 and below 0.5")
        self.oracle, self.noise, self.error, self.budget = oracle, noise, error, budget
        self.cost, self.state, self.about = Cost(), state, about
        self.kept: dict[str, tuple[bool, int]] = {}
        self.told: dict[str, bool] = {}
        self.reused, self.step, self.longest = 0, step, longest
        self._written = time.monotonic()
        if state is not None and state.is_file():
            self.kept = read_state(state, self.label)

    @property
    def label(self) -> str:
        """Return what a state file must be of."""
        return f"{self.about} noise={self.noise} error={self.error}"

    def blocked(self, probe: Probe) -> bool:
        """Return whether the box blocks a probe; raises Spent where the budget does not allow it.

        A probe that was asked before is not sent again.
        """
        key = digest(probe)
        if key in self.told:
            return self.told[key]
        if key in self.kept:
            answer, times = self.kept[key]
            self.reused += 1
        else:
            answer, times = self._test(probe)
            self.kept[key] = answer, times
        self.told[key] = answer
        self._count(probe, times)
        self.save(PAUSE)
        if self.step is not None:
            self.step(self.cost)
        return answer

    def _test(self, probe: Probe) -> tuple[bool, int]:
        """Ask until sure enough; returns (answer, times asked)."""
        left = self.budget - self.cost.probes
        if self.noise == 0.0:
            if left < 1:
                raise Spent
            return self.oracle.blocked(probe), 1
        limit = math.log((1 - self.error) / self.error)
        step = math.log((1 - self.noise) / self.noise)
        score, times = 0.0, 0
        while abs(score) < limit:
            if times == left:
                raise Spent
            score += step if self.oracle.blocked(probe) else -step
            times += 1
        return score > 0, times

    def _count(self, probe: Probe, times: int) -> None:
        old = self.cost
        span = (probe[-1].time - probe[0].time) / 1e9 if probe else 0.0
        self.cost = Cost(
            old.questions + 1,
            old.probes + times,
            old.packets + times * len(probe),
            old.octets + times * sum(map(ip_size, probe)),
            old.seconds + times * span,
        )

    def save(self, pause: float = 0.0) -> None:
        """Write the state file, whole or not at all, if it is older than `pause` seconds."""
        if self.state is None or time.monotonic() - self._written < pause:
            return
        whole = {"format": STATE_FORMAT, "about": self.label, "answers": self.kept}
        write_atomically(self.state, json.dumps(whole).encode())
        self._written = time.monotonic()


def digest(probe: Probe) -> str:
    """Return a probe's name: equal probes, equal names."""
    return hashlib.blake2b(repr(probe).encode(), digest_size=12).hexdigest()


def read_state(path: Path, label: str) -> dict[str, tuple[bool, int]]:
    """Return the answers of a state file; raises ExperimentError where it is of something else."""
    try:
        held: dict[str, Any] = json.loads(path.read_bytes())
        same = held["format"] == STATE_FORMAT
        about, answers = held["about"], held["answers"]
        found = {key: (bool(one[0]), int(one[1])) for key, one in answers.items()}
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise ExperimentError(
            f"{path}: no state of a localisation ({error!r}); remove it to begin anew"
        ) from None
    if not same or about != label:
        raise ExperimentError(
            f"{path}: holds answers about {about!r}, expected {label!r}; give another --state, or "
            "remove it"
        )
    return found
