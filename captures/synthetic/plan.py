# SPDX-License-Identifier: GPL-2.0-or-later
"""Plan: a crafted call as its generator describes it, before frames have numbers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from midcall.captures.synthetic.scene import Flow, Sent

RFC8489 = "RFC 8489 section 6.2.1: RTO 500 ms, Rc 7, Rm 16, a request is given up after 39.5 s"
UNDOCUMENTED = "not documented by the maker; a replay tries all timer models"


class Gating(NamedTuple):
    """A flow that continues only after one of the pairs (request, reply) is complete."""

    flow: Flow
    by: list[Flow]
    kind: Literal["transaction", "request-reply", "time"]
    pairs: list[tuple[Sent, Sent]]
    needs: Literal["any", "all"] = "any"


@dataclass
class Plan:
    """One call: its flows by role, the gates of its media, and how long its app tries."""

    id: str
    app: str
    kind: Literal["audio", "video", "unknown"]
    media: list[Flow]
    setup: list[Flow] = field(default_factory=list)
    control: list[Flow] = field(default_factory=list)
    signalling: list[Flow] = field(default_factory=list)
    gates: list[Gating] = field(default_factory=list)
    alternatives: list[tuple[Flow, Literal["peer", "relay", "tcp", "tls"]]] = field(
        default_factory=list
    )
    timer_s: float | None = None
    timer_source: str = UNDOCUMENTED
    consent_s: float | None = None
