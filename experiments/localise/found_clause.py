# SPDX-License-Identifier: BSD-3-Clause
"""A trace: a clause and where it was seen."""

from __future__ import annotations

from typing import NamedTuple

from midcall.experiments.localise.clause import Clause
from midcall.testbed.probing.probe import Probe


class Trace(NamedTuple):
    """A clause, the neutral probe in which it was seen, and the packets that decide there."""

    clause: Clause
    probe: Probe
    decisive: tuple[int, ...]
