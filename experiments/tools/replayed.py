# SPDX-License-Identifier: BSD-3-Clause
"""The result of one replay for programs: verdicts, fates, files. See `midcall.replay`."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import TypedDict, cast

import pyarrow as pa

from midcall.experiments.results.frame import Frame
from midcall.experiments.tools import replay
from midcall.experiments.tools.replay import Order, Played


class ReplayedCall(TypedDict):
    """The verdict on one call, as `midcall replay --json` gives it.

    verdict, blocked, usable, reason: see midcall.testbed.assess.call_verdict; mos_up, mos_down:
    MOS from and to the caller, None where it cannot be rated; media_sent, media_arrived: media
    packets of both directions.
    """

    call: str
    app: str
    verdict: str
    blocked: bool
    usable: bool | None
    reason: str
    mos_up: float | None
    mos_down: float | None
    media_sent: int
    media_arrived: int


class Fate(TypedDict):
    """What became of one sending of one packet, as `midcall replay --fates` writes it.

    frame: of the capture, from 1; attempt: 1 for the first sending, 0 for a packet that was never
    sent; direction: up, down or local; sent_s, box_s, arrived_s: seconds since the capture's first
    packet, None for never; fate: delivered, dropped, lost, injected or not_sent; rule: that
    decided, "" for none.
    """

    frame: int
    attempt: int
    direction: str
    sent_s: float | None
    box_s: float | None
    arrived_s: float | None
    fate: str
    rule: str


FATES = pa.schema(
    [
        ("frame", pa.int64()),
        ("attempt", pa.int64()),
        ("direction", pa.string()),
        ("sent_s", pa.float64()),
        ("box_s", pa.float64()),
        ("arrived_s", pa.float64()),
        ("fate", pa.string()),
        ("rule", pa.string()),
    ]
)


class Replayed:
    """One capture played under a policy, compared with the same capture under none.

    notices: what was wrong with the file; inferred: whether the calls are the classifier's answer,
    because no truth describes them.
    """

    def __init__(self, order: Order, played: Played) -> None:
        self._order, self._played = order, played
        self.notices = list(played.notices)
        self.inferred = played.inferred

    @cached_property
    def document(self) -> replay.Row:
        """Return what `midcall replay --json` prints."""
        return replay.document(self._played)

    @property
    def calls(self) -> list[ReplayedCall]:
        """Return the verdict on each call."""
        return cast("list[ReplayedCall]", self.document["calls"])

    @property
    def packets(self) -> dict[str, int]:
        """Return counts of sendings: sent, delivered, dropped, lost, injected, not_sent."""
        return cast("dict[str, int]", self.document["packets"])

    @cached_property
    def fates(self) -> Frame[Fate]:
        """Return the fate of each sending of each packet, in order of sending."""
        from midcall.testbed.replay import packet_trace

        rows = list(packet_trace.rows(self._played.simulation))
        return Frame(pa.Table.from_pylist(rows, schema=FATES))

    def write(self, trace: Path | str | None = None, fates: Path | str | None = None) -> None:
        """Write the packets with their fates (pcapng), the table of fates (CSV), or both.

        Raises ExperimentError where a file cannot be written; then neither is.
        """
        replay.write(
            self._played,
            None if trace is None else Path(trace),
            None if fates is None else Path(fates),
        )

    def __repr__(self) -> str:
        words = ", ".join(f"{one['call']} {one['verdict']}" for one in self.calls) or "no call"
        return f"<replay of {self._order.capture} through {self._order.policy}: {words}>"
