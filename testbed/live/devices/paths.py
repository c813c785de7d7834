# SPDX-License-Identifier: BSD-3-Clause
"""Paths: what can connect the two ports of a network when forwarding is measured.

Each opens in a network of its own and is closed with it. The names are those of the results: kernel
forwards by the kernel's routes, conntrack the same with the kernel's connection tracking, empty is
the box without a rule, classifier the box with one operator's policy, classifier-spin the same
without ever sleeping, offload the same with decided flows handed to the kernel; suricata and
nfqueue are third-party boxes, which pass everything.
"""

from __future__ import annotations

import datetime
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial

from midcall.errors import TestbedError
from midcall.testbed.live.box.process import Box
from midcall.testbed.live.devices.blackbox import LIMIT_SECONDS, Blackbox, missing
from midcall.testbed.live.devices.forwarding import forward, track
from midcall.testbed.live.network.network import Network
from midcall.testbed.policy.loader import load
from midcall.testbed.policy.operator import EMPTY, Policy

#: The process on the box's core; None: the kernel alone.
Held = Box | Blackbox | None
Opener = Callable[[Network, int | None], AbstractContextManager[Held]]

#: The policy that the measured box decides by.
OPERATOR, HYPOTHESIS, ACCESS, DATE = "maroc-telecom", "signature", "3g", datetime.date(2016, 2, 1)


def measured_policy() -> Policy:
    """Return the policy of the path "classifier"."""
    return load(OPERATOR).policy(HYPOTHESIS, ACCESS, DATE)


@contextmanager
def _kernel(network: Network, core: int | None) -> Iterator[Held]:
    del core  # the kernel forwards where a packet comes in
    forward(network)
    yield None


@contextmanager
def _conntrack(network: Network, core: int | None) -> Iterator[Held]:
    del core
    forward(network)
    track(network)
    yield None


@contextmanager
def _empty(network: Network, core: int | None) -> Iterator[Held]:
    with Box(network, EMPTY, 1, core=core) as box:
        yield box


@contextmanager
def _classifier(network: Network, core: int | None) -> Iterator[Held]:
    with Box(network, measured_policy(), 1, core=core) as box:
        yield box


@contextmanager
def _spin(network: Network, core: int | None) -> Iterator[Held]:
    with Box(network, measured_policy(), 1, core=core, busy_poll=True) as box:
        yield box


@contextmanager
def _offload(network: Network, core: int | None) -> Iterator[Held]:
    with Box(network, measured_policy(), 1, core=core, offload="auto") as box:
        if box.offload != "on":
            raise TestbedError(f"path offload: {box.offload}")
        yield box


@contextmanager
def _peer(
    network: Network, core: int | None, *, kind: str, limit_s: float = LIMIT_SECONDS
) -> Iterator[Held]:
    with Blackbox(network, kind, core=core, limit_s=limit_s) as box:
        yield box


WAYS: dict[str, Opener] = {
    "kernel": _kernel,
    "conntrack": _conntrack,
    "empty": _empty,
    "classifier": _classifier,
    "classifier-spin": _spin,
    "offload": _offload,
    "suricata": partial(_peer, kind="suricata"),
    "nfqueue": partial(_peer, kind="nfqueue"),
}
#: Paths that are measured only where their programs are installed.
PEERS = ("suricata", "nfqueue")
#: Paths that are measured with decided flows; all others with undecided ones.
DECIDED = ("offload",)
#: Paths on which packets stay in the kernel: the sending process forwards its packets, too.
IN_KERNEL = ("kernel", "conntrack", "offload")


def installed() -> tuple[str, ...]:
    """Return the names of the paths that this machine can run."""
    return tuple(name for name in WAYS if not lacks(name))


def lacks(name: str) -> list[str]:
    """Return what a path lacks on this machine, a sentence each."""
    if name == "conntrack" and shutil.which("iptables") is None:
        return ["iptables is missing: apt-get install iptables"]
    return missing(name) if name in PEERS else []


def way(name: str, limit_s: float = LIMIT_SECONDS) -> Opener:
    """Return a path by its name; limit_s: how long a peer may run. Raises TestbedError."""
    if name not in WAYS:
        raise TestbedError(f"path: got {name!r}, expected some of {', '.join(WAYS)}")
    return partial(_peer, kind=name, limit_s=limit_s) if name in PEERS else WAYS[name]
