# SPDX-License-Identifier: BSD-3-Clause
"""The paths of a live bench: several stand ready at once, and the one that is measured runs.

All boxes share one core. One that spins, or only wakes now and then, would take it from the one
that is measured, so the processes of all others are stopped (SIGSTOP) meanwhile.
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
#: Where frames go that no router looks at: to no interface of the lab. A bridge would keep for
#: itself what is addressed to one of its own.
NOWHERE = bytes.fromhex("02ff00000002")
#: Flows are sent at this rate and for so long until they are decided, and so often at most.
WARM_RATE, WARM_SECONDS, WARM_TRIALS = 10_000, 0.2, 20
#: How long the box may take to tell what the kernel did with flows that it was handed.
FOLD_SECONDS = 0.2
#: How often a trial is tried whose frames the generator's own rings lost.
TRIES = 3


class Path(NamedTuple):
    """One path, up and ready: its name, generator, what runs as its box, and where frames go."""

    name: str
    generator: Generator
    held: Held
    target: bytes

    @property
    def box(self) -> Box | None:
        """Return the lab's own box, None on other paths."""
        return self.held if isinstance(self.held, Box) else None


def path_of(name: str, network: Network, generator: Generator, held: Held) -> Path:
    """Return a path that was opened."""
    routed = name in IN_KERNEL and held is None
    target = mac(network.box_pid, network.ports.b0) if routed else NOWHERE
    return Path(name, generator, held, target)


def load_of(path: Path, sizes: Sequence[int], name: str) -> Traffic:
    """Return the flows of a path: undecided ones, a new one after every few packets, or decided."""
    return traffic(FIXED if path.name in DECIDED else FRESH, tuple(sizes), FLOWS, path.target, name)


def signalled(path: Path, number: int) -> None:
    """Send a signal to the processes of a path's box, if it runs.

    One that ended, and was waited for, may have given its number away.
    """
    process = None if path.held is None else path.held.process
    if process is not None and process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)


@contextmanager
def resting(paths: Sequence[Path]) -> Iterator[None]:
    """Keep the boxes of all paths stopped; `awake` wakes one."""
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


def tried(path: Path, load: Traffic, rate: int, seconds: float | None) -> Trial:
    """Do one trial, a burst where no time is given; again where the lab's own rings lost frames.

    Raises TestbedError where they did so every time.
    """
    for _ in range(TRIES - 1):
        with suppress(TestbedError):
            return sent(path, load, rate, seconds)
    return sent(path, load, rate, seconds)


def sent(path: Path, load: Traffic, rate: int, seconds: float | None) -> Trial:
    """Wake a path's box, hand its flows over where that is its way, and send.

    Raises TestbedError where the box ended: what is not carried then is no loss of it.
    """
    with awake(path):
        warm(path, load)
        if seconds is None:
            trial = path.generator.burst(load, rate)
        else:
            trial = path.generator.trial(load, rate, seconds)
    if path.held is not None and not path.held.alive:
        raise TestbedError(f"path {path.name}: its box ended; nothing that was sent tells of it")
    return trial


def warm(path: Path, load: Traffic) -> None:
    """Send a load's flows until the kernel has been handed all of them; raises ExperimentError.

    A flow that was silent for a minute is taken back, so this comes before each measurement.
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
