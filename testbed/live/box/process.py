# SPDX-License-Identifier: BSD-3-Clause
"""The box: the operator's middlebox as a process of its own, between two ports of a network.

`Box` is the lab's handle. It starts `python -m testbed.live.box.process FOLDER`, the keeper, which
opens the rings, compiles, and forks the worker that forwards. Both share the rings and the
counters, so when the worker dies under load the keeper takes over: it forwards everything (fail
open) or nothing (fail closed). The keeper dies with the lab, the worker with the keeper.
"""

from __future__ import annotations

import gc
import mmap
import os
import pickle
import select
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.kernel import compile_lock
from midcall.classifier.engine import Engine
from midcall.classifier.state.flow_table import (
    FLOW,
    METER_EVICTED_WAITING,
    METER_MALFORMED,
    METER_NOT_IP,
    METER_TOO_DEEP,
    METERS,
    Records,
)
from midcall.errors import TestbedError
from midcall.locations import ROOT
from midcall.testbed.live.box.pump import (
    BATCH,
    BOX_LOG,
    BUSY,
    BY_OVERLOAD,
    CLOSED,
    COUNTERS,
    ORDERS,
    PLACES,
    RUN,
    SLEPT,
    STOP,
    Work,
    late,
    readable,
    relay,
    run_box,
)
from midcall.testbed.live.box.rings import PORT_SLOTS, Ring, inside
from midcall.testbed.live.box.system import (
    DIE_WITH_PARENT,
    die_with_parent,
    prefer,
    urgent,
    wake_precisely,
)
from midcall.testbed.live.network.network import Network
from midcall.testbed.live.offload import handover as offloads
from midcall.testbed.live.offload.handover import Offload
from midcall.testbed.middlebox.rule_table import table
from midcall.testbed.network.link import STATE, access_links, no_links
from midcall.testbed.policy.operator import EMPTY, Policy

Numbers = NDArray[np.int64]

#: How long a box may take to be ready: a first start compiles everything.
READY_SECONDS = 300.0
STOP_SECONDS = 10.0
#: The pump returns to the interpreter after this long or this many packets, to make room.
TURN_NS, TURN_PACKETS = 50_000_000, 8192
#: A box that sleeps for less than the first share of its time loses real-time scheduling; one that
#: sleeps for more than the second gets it again. The kernel reserves 50 ms of each second of a core
#: for other processes, in one stretch (Linux 6.12), and the stretches of two seconds may adjoin.
SHARING, URGENT = 0.2, 0.3
#: Frames that can wait at each port (64 MiB): 131 ms of 250,000 a second. The host of a virtual
#: machine at times takes a core away for 100 ms.
WAITING = 1 << 15
#: Interval at which the kernel's drop counters and the box's share of sleep are read.
ASK_SECONDS = 0.1
#: waitid options: report whether a child has ended, without waiting and without reaping it.
GONE = os.WEXITED | os.WNOHANG | os.WNOWAIT

WHEN_DEAD = ("open", "closed")
LINKS = ("captured", "preset")
OFFLOADS = ("auto", "off")


@dataclass(frozen=True)
class Options:
    """The options of a box's process.

    core: the core it is pinned to, None for none; busy_poll: spin instead of sleeping (costs a
    core); fail: "open" or "closed", what happens to packets when it dies, by default the policy's;
    log_packets: rows of the log, 0 for none; starts: the first row of each capture in it; run: the
    octet that marks tagged frames; batch: frames between two sends; frames: of a ring, per
    direction; flows: bound of the flow table; places: packets that can be delayed at once;
    realtime: use real-time scheduling while the box sleeps between packets; access: the network
    whose tunnels the box sees; link: whether its delay and loss are added behind the box ("preset")
    or not ("captured"); offload: whether decided flows are handed to the kernel ("auto": where
    possible) or not ("off").
    """

    policy: Policy = EMPTY
    seed: int = 0
    busy_poll: bool = False
    core: int | None = None
    fail: str = "open"
    log_packets: int = 0
    starts: tuple[int, ...] = (0,)
    offload: str = "off"
    run: int = 0
    batch: int = 64
    frames: int = WAITING
    flows: int = 1 << 16
    places: int = 1 << 12
    realtime: bool = True
    access: str = "fibre"
    link: str = "captured"

    def problems(self) -> list[str]:
        """Return what is wrong with the options, a sentence each."""
        errors = []
        if self.fail not in WHEN_DEAD:
            errors.append(f"fail: got {self.fail!r}, expected one of {', '.join(WHEN_DEAD)}")
        if self.core is not None and self.core not in os.sched_getaffinity(0):
            cores = sorted(os.sched_getaffinity(0))
            errors.append(f"core: got {self.core}, expected one of {cores}")
        if self.frames < 32 or self.frames & (self.frames - 1):
            errors.append(f"frames: got {self.frames}, expected a power of two, 32 at least")
        if not 1 <= self.batch <= self.frames // 2:
            errors.append(f"batch: got {self.batch}, expected 1 to {self.frames // 2}")
        if not 1 <= self.places <= PLACES:
            errors.append(f"places: got {self.places}, expected 1 to {PLACES}")
        if self.starts[:1] != (0,) or list(self.starts) != sorted(self.starts):
            errors.append(f"starts: got {self.starts}, expected growing rows of the log from 0 on")
        if self.offload not in OFFLOADS:
            errors.append(f"offload: got {self.offload!r}, expected one of {', '.join(OFFLOADS)}")
        if self.link not in LINKS:
            errors.append(f"link: got {self.link!r}, expected one of {', '.join(LINKS)}")
        return errors


class Box:
    """An operator's middlebox in the box host of a network.

    Options are those of `Options`. A context manager: `with Box(network, policy, seed):`.
    """

    def __init__(self, network: Network, policy: Policy | None, seed: int, **options: Any) -> None:
        """Describe a box; nothing runs before `start`. Raises TestbedError."""
        policy = policy or EMPTY
        try:
            self.options = Options(policy, seed, **{"fail": policy.fail} | options)
        except TypeError as error:
            raise TestbedError(f"box: {error}") from None
        if problems := self.options.problems():
            raise TestbedError("\n".join(f"box: {line}" for line in problems))
        self.network = network
        self.shared: Shared | None = None
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Box:
        """Start it."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self.stop()

    def start(self) -> None:
        """Start the process and wait until it forwards; raises TestbedError with its messages."""
        folder = self.network.folder
        for leftover in folder.glob("box.*"):  # an earlier box of this network
            leftover.unlink()
        self.shared = Shared(folder, self.options)
        with open(folder / "box.orders", "wb") as file:
            orders = (os.getpid(), self.network.box_pid, self.network.ports, self.options)
            pickle.dump(orders, file)
        command = [
            *DIE_WITH_PARENT,
            sys.executable,
            "-m",
            "midcall.testbed.live.box.process",
            str(folder),
        ]
        with open(folder / "box.errors", "wb") as errors:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,
                cwd=ROOT,
            )
        self.network.watch(self.process.pid)
        assert self.process.stdout is not None
        if not ready(self.process.stdout):
            self.stop()
            errors_text = (folder / "box.errors").read_text(errors="replace").strip()
            raise TestbedError(f"the box did not start: {errors_text or 'it wrote no error'}")

    def stop(self) -> None:
        """Stop forwarding, let the process write its flow table, and wait for its end."""
        process, self.process = self.process, None
        if process is None:
            return
        if self.shared is not None:
            self.shared.orders[STOP] = 1
        try:
            process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def kill(self) -> None:
        """Kill the worker as a crash would; the keeper then forwards according to `fail`."""
        worker = self.worker
        if worker:
            with suppress(ProcessLookupError):
                os.kill(worker, signal.SIGKILL)

    @property
    def worker(self) -> int:
        """Return the id of the process that forwards, 0 when it died."""
        return 0 if self.shared is None else int(self.shared.workers[0])

    @property
    def alive(self) -> bool:
        """Tell whether the box decides packets: its worker runs."""
        return self.process is not None and self.process.poll() is None and self.worker > 0

    def counters(self) -> dict[str, int]:
        """Return what the box counted so far, by name."""
        if self.shared is None:
            return dict.fromkeys((*COUNTERS, *offloads.COUNTED), 0)
        counters = {name: int(n) for name, n in zip(COUNTERS, self.shared.counters, strict=False)}
        offloaded = self.shared.counters[len(COUNTERS) :]
        counters |= {name: int(n) for name, n in zip(offloads.COUNTED, offloaded, strict=False)}
        below, dropped = counters["offload_redirected"], counters["offload_dropped"]
        counters["received"] += below + dropped
        counters["forwarded"] += below
        counters["dropped_by_policy"] += dropped
        meter = self.shared.meter
        counters["malformed"] += int(meter[METER_MALFORMED])
        counters["not_ip"] = int(meter[METER_NOT_IP])
        counters["too_deep"] = int(meter[METER_TOO_DEEP])
        return counters

    @property
    def offload(self) -> str:
        """Return "on", or "off: " and the reason why decided flows are not handed to the kernel."""
        if self.options.offload == "off":
            return "off: not asked for"
        path = self.network.folder / "box.offload"
        return f"off: {path.read_text()}" if path.exists() else "on"

    def met(self) -> dict[str, int]:
        """Return how many packets met each rule's match, by the rule's name."""
        rules = self.options.policy.rules
        counts = [0] * len(rules) if self.shared is None else self.shared.met
        return {rule.name: int(n) for rule, n in zip(rules, counts, strict=False)}

    def shares(self) -> Numbers:
        """Return int64[captures, rules]: tagged packets of each capture that met each rule.

        Packets of flows that were handed to the kernel are not included.
        """
        shape = len(self.options.starts), len(self.options.policy.rules)
        return np.zeros(shape, np.int64) if self.shared is None else self.shared.shares.copy()

    def log(self) -> Records:
        """Return BOX_LOG[log_packets]: the decision on each tagged packet, in shared memory."""
        return np.zeros(0, BOX_LOG) if self.shared is None else self.shared.log

    def flows(self) -> Records:
        """Return FLOW[n], the classifier's table as it was when the box stopped.

        Raises TestbedError where the box was killed or still runs.
        """
        try:
            return np.asarray(np.load(self.network.folder / "box.flows.npy"))
        except OSError:
            raise TestbedError("the box left no flow table: it was killed, or still runs") from None


def ready(output: IO[bytes]) -> bool:
    """Wait for a process's first line, at most READY_SECONDS; tells whether it is "ready"."""
    if not select.select([output], [], [], READY_SECONDS)[0]:
        return False
    return output.readline() == b"ready\n"


class Shared:
    """Memory that lab, keeper and worker share, in files of the run's folder."""

    def __init__(self, folder: Path, options: Options) -> None:
        """Map (and make) the files."""
        rules = len(options.policy.rules)
        # COUNTERS, then handover.COUNTED
        self.counters = mapped(folder / "box.counters", np.int64, 32)
        self.orders = mapped(folder / "box.commands", np.int64, ORDERS)
        self.workers = mapped(folder / "box.workers", np.int64, 1)
        self.meter = mapped(folder / "box.meter", np.int64, METERS)
        self.met = mapped(folder / "box.met", np.int64, max(rules, 1))[:rules]
        self.log: Records = mapped(folder / "box.log", BOX_LOG, options.log_packets)
        shape = len(options.starts), rules
        self.shares = mapped(folder / "box.shares", np.int64, shape[0] * rules).reshape(shape)


def mapped(path: Path, kind: Any, count: int) -> NDArray[Any]:
    """Return an array mapped from a file, which is created if missing; processes can share it."""
    size = count * np.dtype(kind).itemsize
    if size == 0:
        return np.zeros(0, kind)
    with open(path, "a+b") as file:
        file.truncate(size)
        return np.frombuffer(mmap.mmap(file.fileno(), size), kind)


# ---- the process


class Worker:
    """The arrays that the pump works on, and the calls that run it."""

    def __init__(self, pid: int, names: tuple[str, ...], options: Options, shared: Shared) -> None:
        """Open the rings and allocate all arrays, so that nothing is allocated under load."""
        self.options, self.shared = options, shared
        rows = np.frombuffer(mmap.mmap(-1, 16 * PORT_SLOTS), np.int64).reshape(2, PORT_SLOTS)
        self.rings = [
            Ring(pid, name, options.frames, row) for name, row in zip(names[1:3], rows, strict=True)
        ]
        self.ports = tuple(ring.port for ring in self.rings)
        self.engine = Engine(max_flows=options.flows, room=options.flows)
        self.engine.reserve(min(options.flows, 1 << 18))
        shared.meter[:] = self.engine.tables.meter
        self.engine.tables = self.engine.tables._replace(meter=shared.meter)
        orders = shared.orders
        orders[BUSY], orders[BATCH], orders[RUN] = options.busy_poll, options.batch, options.run
        orders[CLOSED] = options.policy.fail == "closed"
        links = no_links()
        if options.link == "preset":
            links = access_links(options.access, options.seed)
        logged = np.arange(options.log_packets)
        starts = np.array(options.starts, np.int64)
        whose = np.searchsorted(starts, logged, "right") - 1
        self.work = Work(
            self.engine.tables,
            self.engine.signs,
            table(options.policy, options.seed, options.access)._replace(met=shared.met),
            links,
            np.zeros(2 * len(starts), STATE),
            late(options.places),
            offloads.nothing(),
            shared.log,
            logged - starts[whose],
            whose.astype(np.int64),
            shared.shares,
            np.zeros(len(shared.met), np.int64),
            orders,
            shared.counters,
            readable(*self.ports),
            np.zeros(2, np.int64),
        )
        self.polled = self.looked = 0.0
        self.slept = 0
        self.urgent = False
        self.offload: Offload | None = None

    def touch_pages(self) -> None:
        """Write to every page of the arrays, so that this process owns them before it has load."""
        work = self.work
        for array in (*self.engine.tables, *work.box, *work.late, work.log):
            if array.size:
                array.reshape(-1).view(np.uint8)[:: mmap.PAGESIZE] |= 0

    def hand_over(self, pid: int, names: tuple[str, ...], folder: Path) -> None:
        """Hand decided flows to the kernel from now on; writes the reason to a file if it cannot.

        Redirected packets would miss the access link's delay: with one only drops are handed over.
        """
        options = self.options
        opened: Offload | None = None
        try:
            opened = Offload(
                redirect=options.link == "captured", trace=options.log_packets, tag=options.run
            )
            with inside(pid):
                opened.attach((names[1], names[2]))
        except TestbedError as error:
            if opened is not None:
                opened.close()
            (folder / "box.offload").write_text(str(error))
            return
        self.offload, self.work = opened, self.work._replace(desk=opened.desk)

    def fold(self, stretch: int) -> None:
        """Merge the kernel's counters of handed-over flows into the box's tables."""
        if self.offload is None:
            return
        desk, shared = self.offload.desk, self.shared
        flows = self.engine.tables.flows
        offloads.fold(desk, time.time_ns(), stretch, flows, shared.met)
        offloads.fold_trace(desk, stretch, self.offload.trace, shared.log)
        counts = list(self.offload.counters.values())
        shared.counters[len(COUNTERS) : len(COUNTERS) + len(counts)] = counts

    def turn(self, budget: int) -> None:
        """Let the pump run for at most `budget` ns."""
        caller, server = self.ports
        self.engine.reserve(TURN_PACKETS)
        run_box(budget, TURN_PACKETS, self.work._replace(tables=self.engine.tables), caller, server)
        self.engine.tables.meter[METER_EVICTED_WAITING] = 0
        self.fold(offloads.STRETCH)

    def bypass(self, budget: int) -> None:
        """Forward everything for at most `budget` ns."""
        relay(budget, self.work, *self.ports)

    def count_overloads(self) -> None:
        """Count frames that the kernel dropped because a ring was full, every ASK_SECONDS."""
        clock = time.monotonic()
        if clock - self.polled >= ASK_SECONDS:
            self.polled = clock
            self.shared.counters[BY_OVERLOAD] += sum(ring.overloads() for ring in self.rings)

    def hurry(self) -> None:
        """Use real-time scheduling while the worker sleeps enough between packets, else share."""
        clock = time.monotonic()
        passed = clock - self.looked
        if not self.options.realtime or self.options.busy_poll or passed < ASK_SECONDS:
            return
        slept = int(self.shared.counters[SLEPT])
        asleep = (slept - self.slept) / 1e9 / passed
        self.looked, self.slept = clock, slept
        if self.urgent != (wanted := asleep > (SHARING if self.urgent else URGENT)):
            self.urgent = urgent(wanted)


def main(folder: Path) -> None:
    """Run the keeper: open, compile, fork the worker, and replace it if it dies."""
    with open(folder / "box.orders", "rb") as file:
        lab, pid, names, options = pickle.load(file)
    die_with_parent(lab)
    shared = Shared(folder, options)
    worker = Worker(pid, names, options, shared)
    with compile_lock():
        worker.turn(0)
        worker.bypass(0)
        offloads.warm_up(shared.met, shared.log)
    keeper, child = os.getpid(), os.fork()
    if child == 0:
        die_with_parent(keeper)  # before anything that takes long
        if options.offload == "auto":
            worker.hand_over(pid, names, folder)
        work(worker, folder)
    while shared.workers[0] == 0 and os.waitid(os.P_PID, child, GONE) is None:
        time.sleep(0.002)
    print("ready", flush=True)
    died = waited(child, shared.orders)
    shared.workers[0] = 0
    if died and options.fail == "open":
        wake_precisely()
        while shared.orders[STOP] == 0:
            worker.bypass(TURN_NS)
            worker.count_overloads()
    while shared.orders[STOP] == 0:
        time.sleep(0.02)


def waited(child: int, orders: Numbers) -> bool:
    """Wait for the worker's end; tells whether it ended without being asked to."""
    handle = os.pidfd_open(child)
    asked: float | None = None
    while not select.select([handle], [], [], 0.1)[0]:
        if orders[STOP] and asked is None:
            asked = time.monotonic()
        if asked is not None and time.monotonic() - asked > STOP_SECONDS / 2:
            os.kill(child, signal.SIGKILL)
    os.close(handle)
    os.waitpid(child, 0)
    return bool(orders[STOP] == 0)


def work(worker: Worker, folder: Path) -> None:
    """Forward until asked to stop, write the flow table, and exit the process."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    wake_precisely()
    prefer(worker.options.core)
    worker.touch_pages()
    gc.disable()
    worker.shared.workers[0] = os.getpid()
    try:
        while worker.shared.orders[STOP] == 0:
            worker.turn(TURN_NS)
            worker.count_overloads()
            worker.hurry()
        worker.polled = 0.0
        worker.count_overloads()
        worker.fold(1 << 32)
        np.save(folder / "box.flows.npy", worker.engine.flows())
    except BaseException as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(1)
    os._exit(0)


assert FLOW.itemsize == 128

if __name__ == "__main__":
    try:
        main(Path(sys.argv[1]))
    except TestbedError as problem:
        print(problem, file=sys.stderr)
        raise SystemExit(2) from None
