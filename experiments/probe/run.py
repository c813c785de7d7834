# SPDX-License-Identifier: BSD-3-Clause
"""One probe from the command line: a policy, a capture, a line in virtual time, and the answer."""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from midcall.captures.fetch.locate import locate_capture
from midcall.captures.own.add import named_flows
from midcall.captures.packets.headers import of_flows
from midcall.captures.packets.names import printable
from midcall.captures.packets.pcap import read
from midcall.errors import ExperimentError
from midcall.experiments.probe import answer
from midcall.experiments.probe.found import Result
from midcall.experiments.probe.lasting import HORIZONS
from midcall.experiments.probe.prober import Prober
from midcall.experiments.probe.search import Search
from midcall.experiments.spec.policy_names import policy_named
from midcall.testbed.policy.operator import Policy
from midcall.testbed.probing.probe import Probe, probe_of
from midcall.testbed.probing.sockets import Sockets
from midcall.testbed.probing.virtual_line import Noise, VirtualSockets, noise_of


class Request(NamedTuple):
    """What is probed. against: a policy's name; capture: a file or a name of the catalogue; flows:
    names of flows, all without any; app: whose flows of an uncatalogued capture these are."""

    against: str
    capture: str
    access: str = "4g"
    seed: int = 0
    noise: str = ""
    date: datetime.date | None = None
    app: str | None = None
    flows: tuple[str, ...] = ()
    corpus: Path | None = None
    probes: int = 2_000


class Probed(NamedTuple):
    """A probe's answer, and what it was made of."""

    answer: answer.Document
    result: Result
    prober: Prober

    def lines(self) -> Iterator[str]:
        """Yield the answer for a person."""
        return answer.lines(self.answer, self.result, self.prober)


def capture_of(request: Request) -> Probe:
    """Return the packets of a capture that pass the box. Raises ExperimentError or CaptureError."""
    path, _ = locate_capture(request.capture, request.corpus)
    packets = read(path)
    if request.flows:
        named = named_flows(printable(str(path)), packets, list(request.flows), request.app)
        packets = of_flows(packets, named)
    elif request.app is not None:
        raise ExperimentError("--app: says whose flows they are; name them with --flow")
    return probe_of(packets)


def probe(request: Request) -> Probed:
    """Probe a policy in virtual time.

    Raises ExperimentError, TestbedError or CaptureError for what a user can correct.
    """
    policy = policy_named(request.against, request.access, request.date)
    noise = noise_of(request.noise)
    return against(policy, capture_of(request), request.access, request.seed, noise,
                   request.probes)  # fmt: skip


def against(
    policy: Policy, capture: Probe, access: str, seed: int, noise: Noise, probes: int = 2_000
) -> Probed:
    """Probe our own box under a policy, in virtual time."""
    return over(VirtualSockets(policy, access, seed, noise), capture, access, seed, probes)


def over(
    sockets: Sockets,
    capture: Probe,
    access: str,
    seed: int,
    probes: int = 2_000,
    lab_only: bool = False,
    watch: float = HORIZONS[-1],
) -> Probed:
    """Probe whatever stands between two pairs of sockets.

    lab_only: far addresses are mapped to the lab's; watch: how long a condemnation is watched at
    most, in s.
    """
    prober = Prober(sockets, access, seed, probes, lab_only=lab_only)
    result = Search(prober, capture, watch).run()
    return Probed(answer.document(result, prober), result, prober)
