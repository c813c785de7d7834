# SPDX-License-Identifier: BSD-3-Clause
"""A probe between network namespaces: caller and helper as processes, a real box between them.

The box is our own under a policy, or a third-party program, named as the localiser's boxes are:

    suricata: FILE      Suricata, inline, with a file of rules
    nfqueue             a bridge whose packets wait in a netfilter queue for a Python process
    command: WORDS      any inline program; see testbed.live.devices.blackbox

The helper is a process in the server's namespace, the caller this process in the subscriber's. Both
use ordinary sockets. They exchange what arrived over a pair of sockets that does not cross the
line; a probe between two hosts has no such pair. All addresses are the lab's: those of a capture
are mapped, so a rule on address prefixes cannot be found.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

from midcall.experiments.probe.run import Probed, Request, capture_of, over
from midcall.experiments.spec.policy_names import policy_named
from midcall.testbed.live.box.process import Box
from midcall.testbed.live.box.rings import inside
from midcall.testbed.live.devices.blackbox import KINDS, Blackbox
from midcall.testbed.live.network.network import Network
from midcall.testbed.live.network.subscriber_line import NEAR, Line, ip
from midcall.testbed.policy.operator import Policy
from midcall.testbed.probing.control import Control
from midcall.testbed.probing.helper import attend
from midcall.testbed.probing.leash import Budget
from midcall.testbed.probing.probe import Probe
from midcall.testbed.probing.real_sockets import RemoteSockets

#: Budget of a live probe: packets, octets, seconds.
BUDGET = (2_000_000, 2_000_000_000, 3_600.0)
#: How long a condemnation is watched at most, in s of real time.
WATCH = 14.0
ACCESS = "fibre"


def far_end(pid: int, end: socket.socket, session: bytes) -> None:
    """Be the helper: enter a namespace and do what the caller asks for."""
    with inside(pid):
        attend(Control(end, session), Budget(*BUDGET))


def is_program(words: str) -> bool:
    """Return whether words name a third-party program instead of a policy."""
    return words.partition(":")[0].strip() in KINDS


def device(network: Network, against: Policy | str, seed: int) -> Box | Blackbox:
    """Return the box of a network: ours under a policy, or the program that words name.

    Raises TestbedError for words that name none, or a program that is missing.
    """
    if not isinstance(against, str):
        return Box(network, against, seed)
    kind, _, rest = against.partition(":")
    if kind.strip() == "suricata" and rest.strip():
        return Blackbox(network, "suricata", rules=Path(rest.strip()))
    return Blackbox(network, against)


@contextmanager
def live_sockets(
    against: Policy | str, seed: int, seconds: float = BUDGET[2]
) -> Iterator[RemoteSockets]:
    """Make a network with a box, and sockets at both ends of it (root).

    against: a policy, or words for a program; seconds: after which the sockets refuse to send.
    """
    budget = Budget(*BUDGET[:2], seconds)
    with (
        Network() as network,
        Line(network, ACCESS) as line,
        device(network, against, seed),
    ):
        ip(line.caller_pid, "route", "replace", "local", str(NEAR), "dev", "lo")
        near, far = socket.socketpair()
        session = os.urandom(32)
        helper = get_context("fork").Process(
            target=far_end, args=(line.server_pid, far, session), daemon=True
        )
        helper.start()
        far.close()
        try:
            with (
                inside(line.caller_pid),
                RemoteSockets("", 0, b"", budget, Control(near, session)) as sockets,
            ):
                yield sockets
        finally:
            helper.join(5)
            if helper.is_alive():
                helper.terminate()


def probe(request: Request) -> Probed:
    """Probe a box between namespaces. Raises TestbedError where the machine lacks something."""
    box: Policy | str = request.against
    if not is_program(request.against):
        box = policy_named(request.against, request.access, request.date)
    return against(box, capture_of(request), request.seed, request.probes)


def against(
    box: Policy | str, capture: Probe, seed: int, probes: int = 2_000, seconds: float = BUDGET[2]
) -> Probed:
    """Probe a box between namespaces: ours under a policy, or a program that words name.

    seconds: of the whole search, at most; then the answer has the rules found until then. Raises
    TestbedError where the machine lacks something.
    """
    with live_sockets(box, seed, seconds) as sockets:
        return over(sockets, capture, ACCESS, seed, probes, lab_only=True, watch=WATCH)
