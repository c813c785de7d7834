# SPDX-License-Identifier: BSD-3-Clause
"""A session with an oracle: sends probes, repeats them under noise, counts and stores answers.

Where a share of the box's answers is wrong, Wald's sequential probability ratio test (Annals of
Mathematical Statistics 16, 1945) gives how often one probe must be repeated: the log-likelihood
ratio moves by ln((1 - noise) / noise) with every answer and stops at +-ln((1 - error) / error). It
stops early where answers agree; the chance that a question ends with the wrong answer is at most
`error`. Answers are stored in a file, so that an interrupted search can be resumed: the search
sends the same probes in the same order.
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
#: Default for the longest duration of a probe, in ns.
LONGEST = 600_000_000_000
#: Seconds between two writes of the state file.
PAUSE = 2.0


class BudgetSpent(Exception):
    """The budget of probes is spent. Results up to then remain valid."""


class Cost(NamedTuple):
    """Cost of a session. probes: sent, repeats included; packets, octets (IP), seconds: of those
    probes.

    seconds is the sum of the probes' own durations.
    """

    questions: int = 0
    probes: int = 0
    packets: int = 0
    octets: int = 0
    seconds: float = 0.0


class OracleSession:
    """Sends probes to an oracle and stores the answers.

    noise: upper bound on the share of wrong answers, below 0.5; error: upper bound on the chance
    that one question ends with the wrong answer (with noise 0 no answer is wrong); budget: number
    of probes that may be sent; state: file that stores answers, or None; about: what the answers
    describe (a file with answers about anything else is an error); step: called with the cost after
    each question; longest: longest duration of a probe in ns, the limit for windows and gaps in
    time. Raises ExperimentError for a noise or an error out of range.
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
        self.stored: dict[str, tuple[bool, int]] = {}
        self.answered: dict[str, bool] = {}
        self.reused, self.step, self.longest = 0, step, longest
        self._written = time.monotonic()
        if state is not None and state.is_file():
            self.stored = read_state(state, self.label)

    @property
    def label(self) -> str:
        """Return the label that the state file of this session has."""
        return f"{self.about} noise={self.noise} error={self.error}"

    def blocked(self, probe: Probe) -> bool:
        """Return whether the box blocks a probe. Raises BudgetSpent.

        A probe that was sent before is not sent again.
        """
        key = digest(probe)
        if key in self.answered:
            return self.answered[key]
        if key in self.stored:
            answer, times = self.stored[key]
            self.reused += 1
        else:
            answer, times = self._test(probe)
            self.stored[key] = answer, times
        self.answered[key] = answer
        self._count(probe, times)
        self.save(PAUSE)
        if self.step is not None:
            self.step(self.cost)
        return answer

    def _test(self, probe: Probe) -> tuple[bool, int]:
        """Repeat a probe until the answer is sure enough; returns (answer, repeats)."""
        left = self.budget - self.cost.probes
        if self.noise == 0.0:
            if left < 1:
                raise BudgetSpent
            return self.oracle.blocked(probe), 1
        limit = math.log((1 - self.error) / self.error)
        step = math.log((1 - self.noise) / self.noise)
        score, times = 0.0, 0
        while abs(score) < limit:
            if times == left:
                raise BudgetSpent
            score += step if self.oracle.blocked(probe) else -step
            times += 1
        return score > 0, times

    def _count(self, probe: Probe, times: int) -> None:
        before = self.cost
        span = (probe[-1].time - probe[0].time) / 1e9 if probe else 0.0
        self.cost = Cost(
            before.questions + 1,
            before.probes + times,
            before.packets + times * len(probe),
            before.octets + times * sum(map(ip_size, probe)),
            before.seconds + times * span,
        )

    def save(self, pause: float = 0.0) -> None:
        """Write the state file atomically if it is older than `pause` seconds."""
        if self.state is None or time.monotonic() - self._written < pause:
            return
        content = {"format": STATE_FORMAT, "about": self.label, "answers": self.stored}
        write_atomically(self.state, json.dumps(content).encode())
        self._written = time.monotonic()


def digest(probe: Probe) -> str:
    """Return a key for a probe: 24 hex digits (BLAKE2b), equal for equal probes."""
    return hashlib.blake2b(repr(probe).encode(), digest_size=12).hexdigest()


def read_state(path: Path, label: str) -> dict[str, tuple[bool, int]]:
    """Return the answers of a state file by the digest of their probe.

    Raises ExperimentError if the file is invalid or has another label.
    """
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        same = content["format"] == STATE_FORMAT
        about, answers = content["about"], content["answers"]
        stored = {key: (bool(entry[0]), int(entry[1])) for key, entry in answers.items()}
    except (OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise ExperimentError(
            f"{path}: not a state file of a localisation ({error!r}); remove it to start again"
        ) from None
    if not same or about != label:
        raise ExperimentError(
            f"{path}: holds answers about {about!r}, expected {label!r}; give another --state, or "
            "remove it"
        )
    return stored
