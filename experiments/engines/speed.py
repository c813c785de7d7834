# SPDX-License-Identifier: BSD-3-Clause
"""The speed of engines that forward, under one policy, in one run: packets/s and added latency.

Each engine is the box between two ends of an emulated network (nDPI forwards nothing). The paths
and the load are those of the live bench: the trials of every path take turns, and only the path
that is measured runs.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import TypedDict

import numpy as np

from midcall.captures.wire import stun
from midcall.errors import ExperimentError, TestbedError
from midcall.experiments.bench import live
from midcall.experiments.bench.paths import NOWHERE, Path, resting, run_trial
from midcall.testbed.engines import iptables_rules, nftables_rules, suricata_rules
from midcall.testbed.engines.condition import Refused
from midcall.testbed.engines.kernel_engine import command
from midcall.testbed.live.box.process import Box
from midcall.testbed.live.box.rings import FRAME, inside
from midcall.testbed.live.devices.blackbox import Blackbox
from midcall.testbed.live.devices.forwarding import forward, mac
from midcall.testbed.live.devices.load_generator import (
    FIXED,
    Generator,
    Traffic,
    datagram,
    preferred,
)
from midcall.testbed.live.devices.paths import Held
from midcall.testbed.live.network.network import Network, require
from midcall.testbed.policy.operator import Policy

KERNEL, OWN = "kernel", "midcall"
#: Paths: the kernel without rules, the lab's box, and engines.
PATHS = (KERNEL, OWN, "suricata", "nftables", "iptables")
#: Rates that are tried, thousands of packets/s; trials of each, and their seconds.
KPPS = (10, 20, 35, 50, 75, 100, 150, 200, 250, 300, 400, 500, 650, 800, 1000)
TRIALS, SECONDS = 3, 0.5
#: Octets of a frame, and packets/s at which latency is measured.
FRAME_SIZE, LOAD = 200, 10_000
#: Messages of STUN that each path gets first, and their rate.
PROBES, PROBE_RATE = 200, 1000


class Speed(TypedDict):
    """A path: loss-free packets/s, and the time from end to end in us at LOAD packets/s.

    limit: what ended the ladder of rates (loss, sender, generator, ladder); stopped: the share of
    STUN messages that did not come out before the measurement; lost, sent: packets at LOAD.
    """

    path: str
    pps: int
    limit: str
    p50_us: float | None
    p99_us: float | None
    lost: int
    sent: int
    stopped: float


def speeds(
    policy: Policy,
    say: Callable[[str], None] = lambda _: None,
    kpps: tuple[int, ...] = KPPS,
    bursts: int = 3,
) -> list[Speed]:
    """Measure every path under a policy; raises TestbedError where the network cannot be made.

    kpps: the ladder of rates, thousands of packets/s; bursts: of each path at LOAD. The policy
    must be one that every engine can be given and that acts on STUN.
    """
    require()
    options = live.Options(
        paths=PATHS, kpps=kpps, trials=TRIALS, seconds=SECONDS, frames=(str(FRAME_SIZE),),
        loads=(LOAD,), bursts=bursts,
    )  # fmt: skip
    cores = sorted(os.sched_getaffinity(0))
    with ExitStack() as stack:
        paths = [stack.enter_context(opened(name, policy, cores[-1])) for name in PATHS]
        with preferred(cores[0]), resting(paths):
            stopped = {path.name: stopped_share(path) for path in paths}
            latency = live.latencies(paths, options, (FRAME_SIZE,), say)
            ladder = live.ladder(paths, options, options.frames[0], (FRAME_SIZE,), say)
    best = live.loss_free(ladder, options.frames[0])
    return [
        {
            "path": row["path"],
            "pps": best[row["path"]],
            "limit": live.limit_of(ladder, row["path"], options.frames[0], best[row["path"]]),
            "p50_us": row["latency_us"]["p50"],
            "p99_us": row["latency_us"]["p99"],
            "lost": row["lost"],
            "sent": row["sent"],
            "stopped": stopped[row["path"]],
        }
        for row in latency
    ]


@contextmanager
def opened(name: str, policy: Policy, core: int) -> Iterator[Path]:
    """Open a path in a network of its own; raises TestbedError."""
    with ExitStack() as stack:
        network = stack.enter_context(Network())
        device: Held = None
        if name == OWN:
            device = stack.enter_context(Box(network, policy, 1, core=core))
        elif name == "suricata":
            device = stack.enter_context(suricata(network, policy, core))
        else:
            forward(network)
            with inside(network.box_pid):
                rules(name, policy, network.ports.b0)
        target = mac(network.box_pid, network.ports.b0) if device is None else NOWHERE
        generator = stack.enter_context(Generator(network))
        yield Path(name, generator, device, target)


def suricata(network: Network, policy: Policy, core: int) -> Blackbox:
    """Return Suricata as an inline box under a policy; raises ExperimentError."""
    try:
        text = suricata_rules.written(policy).files[suricata_rules.FILE]
    except Refused as problem:
        raise ExperimentError(f"speed: suricata refuses the policy: {problem.args[0]}") from None
    if "$HOME_NET" in text:
        raise ExperimentError("speed: give a policy without ports, addresses and directions")
    path = network.folder / "speed.rules"
    path.write_text(text, encoding="utf-8")
    return Blackbox(network, "suricata", core=core, rules=path)


def rules(name: str, policy: Policy, subscriber: str) -> None:
    """Load the rules of nftables or iptables into this network namespace; none for the kernel."""
    try:
        if name == "nftables":
            text = nftables_rules.written(policy, subscriber).files[nftables_rules.FILE]
            command("nft", "-f", "-", text=text)
        elif name == "iptables":
            files = iptables_rules.written(policy, subscriber).files
            command("iptables-restore", text=files[iptables_rules.FILES[4]])
    except Refused as problem:
        raise ExperimentError(f"speed: {name} refuses the policy: {problem.args[0]}") from None


def stopped_share(path: Path) -> float:
    """Send messages of STUN through a path; return the share that does not come out.

    Raises TestbedError where the generator's own rings lost frames.
    """
    message = stun.message(stun.BINDING, bytes(12), [])
    octets = datagram(FRAME_SIZE, 9000, 9001, message, path.target, True)
    frames = np.zeros((1, FRAME), np.uint8)
    frames[0, : len(octets)] = np.frombuffer(octets, np.uint8)
    probes = Traffic(frames, np.array([len(octets)]), np.zeros(1, np.int64), FIXED, "STUN")
    trial = run_trial(path, probes, PROBE_RATE, PROBES / PROBE_RATE)
    if not trial.sent:
        raise TestbedError(f"path {path.name}: no message of STUN could be sent")
    return round(trial.lost / trial.sent, 4)
