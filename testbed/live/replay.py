# SPDX-License-Identifier: BSD-3-Clause
"""The live replay: captures played in real time between two ends, through a box that is a process.

`simulate` is `testbed.virtual.simulate` with a clock that cannot be stopped: the same inputs, the
same causal rules at both ends (testbed.endpoints), the same classifier and policy in the box, and
per capture the same `Simulation`, so that verdicts, quality and collateral are judged by the same
code. Several captures are played at once through one box; their addresses are mapped to blocks of
their own (testbed.addressing.assigned), so that none meets another's flows. A run lasts as long as
its longest capture and a few seconds to start the box. One run at a time and process: both ends
and the box want a core each.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from captures.calls import Call
from captures.pcap import Packets
from testbed.live.network import Network
from testbed.policy import Policy
from testbed.virtual import CAPTURED, Simulation

Numbers = NDArray[np.int64]


class Capture(NamedTuple):
    """One capture of a replay: what `testbed.virtual.simulate` is given of it.

    name: for errors and files; dressed: of testbed.dress, None where it goes as captured.
    """

    name: str
    packets: Packets
    calls: Sequence[Call] = ()
    dressed: Packets | None = None


#: What the taps saw of one packet of a capture. Times in ns of the time of day, 0: not seen there.
#: A packet that was sent again has its last sending here, and `times` counts all of them.
SEEN = np.dtype(
    [
        ("due", "i8"),  # when its end had to put it on the wire
        ("sent", "i8"),  # tap at its sender's end
        ("box_in", "i8"),  # tap at the box, where it came in
        ("box_out", "i8"),  # the box's record of when it sent the packet on
        ("came", "i8"),  # tap at its receiver's end
        ("times", "i8"),  # how often it was sent
        ("reordered", "?"),  # came after one of its flow and direction that was sent later
        ("whole", "?"),  # the taps saw the very octets that were sent, wherever they saw it
        ("proven", "?"),  # the taps bear out the fate that the box wrote down
    ]
)


@dataclass(frozen=True, eq=False)
class Replay:
    """What one live run gave.

    simulations: one per capture, in order, their times on the capture's own clock; twins: the same
    packets, addresses, policy and seed in virtual time, to tell parity by (judge each against
    the simulation, or twin, of a run under the empty policy); seen: SEEN[n] per capture;
    injected: per capture, int64[n], frames forged by the box in answer to each packet, as the ends
    received them; error_us: float64[k], how much later than due each packet stood on the wire;
    added_us: float64[k], from box in to receiver, of packets that no rule and no link delayed;
    counters: the box's, by name, and the ends' (frames, resent, overloads); met: packets that met
    each rule's match, by the rule's name; seconds: wall time of the run, start of the box included;
    taps: the pcapng files that were written.
    """

    simulations: tuple[Simulation, ...]
    twins: tuple[Simulation, ...]
    seen: tuple[NDArray[np.void], ...]
    injected: tuple[Numbers, ...]
    error_us: NDArray[np.float64]
    added_us: NDArray[np.float64]
    counters: dict[str, int]
    met: dict[str, int]
    seconds: float
    taps: tuple[Path, ...] = field(default=())

    @property
    def fates(self) -> dict[str, int]:
        """Return `packets` that were sent, and `proven`: those whose fate the taps bear out."""
        sent = [one["times"] > 0 for one in self.seen]
        proven = sum(int((one["proven"] & s).sum()) for one, s in zip(self.seen, sent, strict=True))
        return {"packets": sum(int(s.sum()) for s in sent), "proven": proven}


def simulate(
    captures: Sequence[Capture],
    policy: Policy | None,
    access: str,
    seed: int,
    model: str = "pairwise",
    link: str = CAPTURED,
    addressing: str = "map",
    *,
    offload: str = "off",
    taps: Path | None = None,
    network: Network | None = None,
) -> Replay:
    """Play captures live, all at once, through one operator's box; None is the empty policy.

    policy, access, seed, model, link, addressing: as in testbed.virtual.simulate; the seed is one
    for all captures, as the box is one. "keep" takes one capture, and is refused where a route
    leads out of the namespaces. offload: of testbed.live.box. taps: a folder for a pcapng file per tap,
    each packet's comment naming its fate and rule; None writes none. network: one that is open
    already, for several runs after each other; None makes one (and needs root, see
    testbed.live.network.missing).

    Cut long captures first (testbed.excerpt): a run takes as long as they do.

    Raises TestbedError where a live run cannot be or went wrong: no root, the box died, a ring
    overflowed, the taps contradict the box's record, or a policy that blocks in the twin blocked
    nothing here.
    """
    raise NotImplementedError
