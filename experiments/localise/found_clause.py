# SPDX-License-Identifier: BSD-3-Clause
"""A clause together with the probe in which it was found."""

from __future__ import annotations

from typing import NamedTuple

from midcall.experiments.localise.clause import Clause
from midcall.testbed.probing.probe import Probe


class FoundClause(NamedTuple):
    """A clause, the neutral probe in which it was found, and the indices of its decisive
    packets."""

    clause: Clause
    probe: Probe
    decisive: tuple[int, ...]
