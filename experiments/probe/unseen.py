# SPDX-License-Identifier: BSD-3-Clause
"""What the plays of a capture could not have shown, and how likely a line without effects is clean.

An effect of each flow and direction shows if its expected score reaches SHOWN. The share of effects
that would not have shown is the mean over flows and directions, and over five equally likely kinds:
dropped packets, forged answers, a share of losses (uniform), a delay (uniform in its logarithm over
DELAYS), and a rate limit. A limit above a flow's rate has no effect on it. Before the first probe a
rule with an effect is as likely as none.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.experiments.probe.baseline import Baseline, more_than
from midcall.experiments.probe.effects import (
    DOUBT,
    LEAST_SHARE,
    SHOWN,
    groups_of,
    lateness_score,
    least_lateness,
    loss_penalty,
)
from midcall.experiments.probe.prober import MS, Outcome

#: Delays in ns that a rule may have.
DELAYS = (10.0 * MS, 1000.0 * MS)
#: Kinds of acts: dropped packets, forged answers and limits below a flow's rate always show.
KINDS = 5


class Unseen(NamedTuple):
    """The least effects that would have shown in the median flow and direction.

    loss: share of packets beyond the line's own; delay: ns; rate: kbit/s, a limit above it leaves
    no trace as it has no effect; missed: share of all effects that would not have shown; left_out:
    packets of the capture that were not played; played_s: how long the longest play lasted, in s,
    where the capture lasts longer, else 0.
    """

    loss: float
    delay: float
    rate: float
    missed: float
    left_out: int = 0
    played_s: float = 0.0

    @property
    def clean(self) -> float:
        """Return the probability that no rule has an effect on the capture (Bayes)."""
        return 1 / (1 + self.missed)

    @property
    def words(self) -> str:
        """Return it in words."""
        later = (
            f"; {self.left_out:,} packets of the capture were not played, and a rule that begins "
            "with them would not have shown" if self.left_out else ""
        )  # fmt: skip
        if self.played_s:
            later += (
                f"; the longest play lasted {self.played_s:.0f} s, and a rule that begins later "
                "would not have shown"
            )
        return (
            f"in the median flow and direction, less than {self.loss:.0%} of additional loss, less "
            f"than {self.delay / MS:.0f} ms of delay, and a limit above {self.rate:.0f} kbit/s "
            "would not have shown; nor would a rule that the capture does not meet, or a delay of "
            f"all traffic, which looks like a longer line{later}"
        )


def unseen(outcome: Outcome, base: Baseline) -> Unseen:
    """Return what the copies of a capture could not have shown."""
    groups = [(up, places) for _, up, places in groups_of(outcome)]
    rows = [(least_loss(outcome, base, up, places, len(groups)),
             least_delay(outcome, base, up, len(groups)),
             rate_of(outcome, places)) for up, places in groups]  # fmt: skip
    losses, delays, rates = np.array(rows, np.float64).T
    missed = losses + part_of(delays, DELAYS)
    return Unseen(
        float(np.median(losses)), float(np.median(delays)), float(np.median(rates)),
        float(missed.mean()) / KINDS,
    )  # fmt: skip


def least_loss(
    outcome: Outcome, base: Baseline, up: bool, places: NDArray[np.int64], groups: int
) -> float:
    """Return the least share of losses of a group that would have shown, 1 for none."""
    count, own, known = int(outcome.sent[:, places].sum()), base.loss[int(up)], base.counts[int(up)]
    for percent in range(math.ceil(100 * LEAST_SHARE), 100):
        gone = round(count * (own + percent / 100 * (1 - own)))
        if more_than(gone, count, *known) - loss_penalty(groups) > SHOWN:
            return percent / 100
    return 1.0


def least_delay(outcome: Outcome, base: Baseline, up: bool, groups: int) -> float:
    """Return the least delay of a group that would have shown, in ns."""
    spread, copies = base.spread[int(up)], len(outcome.delay)
    delay = least_lateness(outcome, base, int(up), DOUBT)
    while lateness_score(delay, spread, copies, groups) <= SHOWN:
        delay += MS
    return delay


def rate_of(outcome: Outcome, places: NDArray[np.int64]) -> float:
    """Return the rate of a group in kbit/s, 0 for a single packet."""
    times = [outcome.unit[at].time for at in places]
    span = (max(times) - min(times)) / 1e9
    return float(outcome.size[places].sum()) * 8 / 1000 / span if span > 0 else 0.0


def part_of(values: NDArray[np.float64], span: tuple[float, float]) -> NDArray[np.float64]:
    """Return which part of a span lies below values, on a logarithmic scale."""
    low, high = np.log(span)
    return np.asarray((np.log(np.clip(values, *span)) - low) / (high - low))
