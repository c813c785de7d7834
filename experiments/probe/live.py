# SPDX-License-Identifier: BSD-3-Clause
"""A probe between network namespaces: caller and helper as processes, a real box between them.

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

from midcall.experiments.probe import answer
from midcall.experiments.probe.prober import Prober
from midcall.experiments.probe.run import Probed, Request, capture_of
from midcall.experiments.probe.search import Search
from midcall.experiments.spec.policy_names import policy_named
from midcall.testbed.live.box.process import Box
from midcall.testbed.live.box.rings import inside
from midcall.testbed.live.network.network import Network
from midcall.testbed.live.network.subscriber_line import NEAR, Line, ip
from midcall.testbed.policy.operator import Policy
from midcall.testbed.probing.control import Control
from midcall.testbed.probing.helper import attend
from midcall.testbed.probing.leash import Budget
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


@contextmanager
def live_sockets(policy: Policy, seed: int) -> Iterator[RemoteSockets]:
    """Make a network with our box under a policy, and sockets at both ends of it (root)."""
    with Network() as network, Line(network, ACCESS) as line:
        box = Box(network, policy, seed)
        box.start()
        try:
            ip(line.caller_pid, "route", "replace", "local", str(NEAR), "dev", "lo")
            near, far = socket.socketpair()
            session = os.urandom(32)
            helper = get_context("fork").Process(
                target=far_end, args=(line.server_pid, far, session), daemon=True
            )
            helper.start()
            far.close()
            with inside(line.caller_pid):
                sockets = RemoteSockets("", 0, b"", Budget(*BUDGET), Control(near, session))
                with sockets:
                    yield sockets
            helper.join(5)
            if helper.is_alive():
                helper.terminate()
        finally:
            box.stop()


def probe(request: Request) -> Probed:
    """Probe our box between namespaces. Raises TestbedError where the machine lacks something."""
    policy = policy_named(request.against, request.access, request.date)
    capture = capture_of(request)
    with live_sockets(policy, request.seed) as sockets:
        prober = Prober(sockets, ACCESS, request.seed, request.probes, lab_only=True)
        result = Search(prober, capture, WATCH).run()
        return Probed(answer.document(result, prober), result, prober)
