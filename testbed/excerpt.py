# SPDX-License-Identifier: BSD-3-Clause
"""Excerpts: the first seconds of a capture's call, with the set-up that it needs, renumbered.

What is played in real time has to be short. An excerpt keeps everything from the first packet of
the capture's first call on, for some seconds; of the time before, only what that call waits for
(its signalling and the names it asked for), with long pauses shortened. A capture without a call is
cut to its first seconds. Calls and labels follow, renumbered to the frames that are left.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from captures.calls import Call
from captures.labels import Label
from captures.pcap import Packets

Numbers = NDArray[np.int64]


class Excerpt(NamedTuple):
    """A part of a capture as a capture: frame k of it is frame `frames[k - 1]` of the whole.

    calls: those that have a packet of their own flows in it, others are left out.
    """

    packets: Packets
    calls: list[Call]
    labels: list[Label]
    frames: Numbers


def excerpt(
    packets: Packets, calls: Sequence[Call], labels: Sequence[Label], seconds: float
) -> Excerpt:
    """Return the first `seconds` of a capture's first call, or of a capture without one.

    A capture that is no longer is returned whole.
    """
    raise NotImplementedError
