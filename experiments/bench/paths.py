# SPDX-License-Identifier: BSD-3-Clause
"""The paths of a live bench: several are open at once, and only the measured one runs.

All boxes share one core. A box that polls, or wakes now and then, would take time from the measured
one, so the processes of all others are stopped (SIGSTOP) meanwhile.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

from midcall.errors import ExperimentError, TestbedError
from midcall.testbed.live.box.process import Box
from midcall.testbed.live.devices.forwarding import mac
from midcall.testbed.live.devices.load_generator import (
    FIXED,
    FRESH,
    Generator,
    Traffic,
    Trial,
    traffic,
)
from midcall.testbed.live.devices.paths import DECIDED, IN_KERNEL, Held
from midcall.testbed.live.network.network import Network

#: Concurrent flows of a load.
FLOWS = 64
#: Target of frames that no router handles: an address of no interface of the lab. A bridge would
#: deliver locally what is addressed to one of its own.
NOWHERE = bytes.fromhex("02ff00000002")
#: Rate and seconds of a warm-up trial, and largest number of them until flows are decided.
WARM_RATE, WARM_SECONDS, WARM_TRIALS = 10_000, 0.2, 20
#: Time in s after which the box has the counters of flows handed to the kernel.
FOLD_SECONDS = 0.2
#: Largest number of attempts of a trial whose frames were lost in the generator's own rings.
TRIES = 3


class Path(NamedTuple):
    """One open path: its name, its generator, the device that runs as its box, and the target of
    frames."""

    name: str
    generator: Generator
    device: Held
    target: bytes

    @property
    def box(self) -> Box | None:
        """Return the lab's own box, None on other paths."""
        return self.device if isinstance(self.device, Box) else None


def path_of(name: str, network: Network, generator: Generator, device: Held) -> Path:
    """Return a path that was opened."""
    routed = name in IN_KERNEL and device is None
    target = mac(network.box_pid, network.ports.b0) if routed else NOWHERE
    return Path(name, generator, device, target)


def load_of(path: Path, sizes: Sequence[int], name: str) -> Traffic:
    """Return the flows of a path: undecided ones, a new one every few packets; or decided ones."""
    return traffic(FIXED if path.name in DECIDED else FRESH, tuple(sizes), FLOWS, path.target, name)


def signalled(path: Path, number: int) -> None:
    """Send a signal to the processes of a path's box, if it runs.

    The process id of one that ended, and was waited for, may be reused.
    """
    process = None if path.device is None else path.device.process
    if process is not None and process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)


@contextmanager
def resting(paths: Sequence[Path]) -> Iterator[None]:
    """Keep the boxes of all paths stopped; `awake` resumes one."""
    for path in paths:
        signalled(path, signal.SIGSTOP)
    try:
        yield
    finally:
        for path in paths:
            signalled(path, signal.SIGCONT)


@contextmanager
def awake(path: Path) -> Iterator[None]:
    """Let one path's box run, and stop it again."""
    signalled(path, signal.SIGCONT)
    try:
        yield
    finally:
        signalled(path, signal.SIGSTOP)


def run_trial(path: Path, load: Traffic, rate: int, seconds: float | None) -> Trial:
    """Run one trial, a burst if `seconds` is None; repeat it if the lab's own rings lost frames.

    Raises TestbedError if they did so every time.
    """
    for _ in range(TRIES - 1):
        with suppress(TestbedError):
            return sent(path, load, rate, seconds)
    return sent(path, load, rate, seconds)


def sent(path: Path, load: Traffic, rate: int, seconds: float | None) -> Trial:
    """Resume a path's box, hand its flows to the kernel if the path does so, and send.

    Raises TestbedError if the box ended: its losses are then no measurement.
    """
    with awake(path):
        warm(path, load)
        if seconds is None:
            trial = path.generator.burst(load, rate)
        else:
            trial = path.generator.trial(load, rate, seconds)
    if path.device is not None and not path.device.alive:
        raise TestbedError(f"path {path.name}: its box ended, so this trial is no measurement")
    return trial


def warm(path: Path, load: Traffic) -> None:
    """Send a load's flows until all of them are handed to the kernel. Raises ExperimentError.

    A flow without packets for a minute is taken back, so this precedes each measurement.
    """
    box = path.box
    if box is None or path.name not in DECIDED:
        return
    for _ in range(WARM_TRIALS):
        before = box.counters()["offload_redirected"]
        count = path.generator.trial(load, WARM_RATE, WARM_SECONDS).sent
        time.sleep(FOLD_SECONDS)
        if box.counters()["offload_redirected"] - before == count:
            return
    raise ExperimentError(
        f"path {path.name}: its flows were not all handed to the kernel after {WARM_TRIALS} trials "
        f"of {WARM_SECONDS:g} s"
    )
