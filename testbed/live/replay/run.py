# SPDX-License-Identifier: BSD-3-Clause
"""The live replay: captures played in real time between two ends, through a box that is a process.

`simulate` is `testbed.replay.simulator.simulate` with a clock that cannot be stopped: the same
inputs, the same causal rules at both ends (testbed.replay.endpoints), the same classifier and
policy in the box, and per capture the same `Simulation`, so that the same code computes verdicts,
quality and collateral. Several captures are played at once through one box; their addresses
are mapped to blocks of their own (testbed.replay.addressing.assigned), so that none meets another's
flows. A run lasts as long as its longest capture and a few seconds to start the box. One run at a
time and process: both ends and the box want a core each.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.kernel import compile_lock
from midcall.classifier.state.flow_table import Records
from midcall.errors import TestbedError
from midcall.testbed.live.box.process import Box
from midcall.testbed.live.box.rings import Ring
from midcall.testbed.live.box.system import urgent
from midcall.testbed.live.devices.blackbox import Blackbox, kind_of
from midcall.testbed.live.devices.blackbox import missing as missing_of
from midcall.testbed.live.devices.load_generator import preferred
from midcall.testbed.live.network.network import MAXIMUM_MTU, Network
from midcall.testbed.live.network.taps import Taps
from midcall.testbed.live.replay import blackbox_proof
from midcall.testbed.live.replay.endpoints import BEGAN, LACKING, ROWS, SIZE, Play, rows_for, turn
from midcall.testbed.live.replay.heard import Heard
from midcall.testbed.live.replay.outcome import (
    Outcome,
    Performed,
    Replay,
    foreign_box_report,
    own_box_report,
)
from midcall.testbed.live.replay.stage import Capture, Stage
from midcall.testbed.middlebox.decide import DELIVERED
from midcall.testbed.middlebox.rule_table import CENSOR, DELAY, table
from midcall.testbed.network import access as networks
from midcall.testbed.policy.operator import EMPTY, Policy
from midcall.testbed.replay.simulator import CAPTURED, LINK_MODES, PRESET, Simulation

__all__ = ["Capture", "Replay", "simulate"]

#: Frames that a ring of an end holds until the end reads them.
RING = 4096
#: The ends play for this long, in ns, between two checks of the box and of the user's Ctrl-C.
SLICE = 50_000_000
#: A run begins this long after everything is ready, in ns; it is over once nothing is due and
#: nothing in flight for this many slices.
READY, QUIET = 20_000_000, 4
#: How long, in ns, after the last planned packet lost packets are still sent again, live and in the
#: twins: a live run waits in real time.
UNTIL = 8_000_000_000
#: How long, in ns, a run may take beyond its last planned packet, and how long nothing may change
#: while a frame is still in flight.
BEYOND, STUCK = 90_000_000_000, 3_000_000_000


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
    middlebox: str | None = None,
    say: Callable[[str], None] | None = None,
) -> Replay:
    """Play captures live, all at once, through one operator's box; None is the empty policy.

    policy, access, seed, model, link, addressing: as in testbed.replay.simulator.simulate; the seed
    is one for all captures, as the box is one. "keep" takes one capture, and is refused where a
    route leads out of the namespaces. offload: of testbed.live.box.process. taps: a folder for
    pcapng files, each packet's comment naming its fate and rule; None writes none. network: one
    that is open already, for several runs after each other; None makes one (and needs root, see
    testbed.live.network.network.missing). middlebox: a third-party box of
    testbed.live.devices.blackbox instead of the lab's; it decides by itself, so it takes no policy,
    and no link but the captured one; its fates are derived from the tap traces
    (testbed.live.replay.blackbox_proof), and its one rule is named after it. say: called every few
    seconds with the quality of the calls so far (testbed.live.replay.heard).

    Cut long captures first (midcall.testbed.replay.excerpt): a run takes as long as they do.

    Raises TestbedError where a live run is impossible or failed: no root, the box died, a ring
    overflowed, the taps contradict the box's log, or a policy that blocks in the twin blocked
    nothing live.
    """
    begun_at = time.monotonic()
    policy = policy or EMPTY
    checked(captures, access, link)
    if middlebox is not None:
        checked_box(middlebox, policy, link, offload)
    stage = Stage(captures, access, model, addressing, mtu_of(network, access))
    twins = tuple(
        stage.twin(k, policy, seed, link, addressing, UNTIL) for k in range(len(captures))
    )
    with ExitStack() as stack:
        if network is None:
            network = stack.enter_context(Network(mtu=MAXIMUM_MTU))
        if addressing == "keep":
            assert_closed(network)
        if middlebox is not None:
            return foreign(middlebox, network, stage, link, seed, twins, taps, begun_at, say)
        box = Box(
            network,
            stage.policy(policy),
            seed,
            access=access,
            link=link,
            offload=offload,
            log_packets=rows_for(len(stage.joint.script.flow)),
            starts=stage.joint.starts,
            run=stage.run,
            core=sorted(os.sched_getaffinity(0))[-1],
        )
        acts = table(stage.policy(policy), seed, access).rules["act"]
        chancy = np.append((acts >= DELAY) & (acts < CENSOR), False).astype(np.uint8)
        with box:
            below = box.offload == "on"
            linked = link == PRESET
            played = performed(network, box, stage, chancy, box.log(), linked=linked, say=say)
        outcome = Outcome(stage, played, own_box_report(box), below)
    return outcome.replay(policy, link, seed, twins, taps, begun_at)


def foreign(
    middlebox: str, network: Network, stage: Stage, link: str, seed: int,
    twins: tuple[Simulation, ...], taps: Path | None, begun_at: float,
    say: Callable[[str], None] | None = None,
) -> Replay:  # fmt: skip
    """Play through a third-party box; the fate of each packet is derived from the tap traces."""
    plan = stage.joint.script.send
    limit = 60.0 + (BEYOND + (int(plan.max()) if len(plan) else 0)) / 1e9
    chancy = np.zeros(1, np.uint8)
    core = sorted(os.sched_getaffinity(0))[-1]
    log = blackbox_proof.blank(rows_for(len(plan)))
    with Blackbox(network, middlebox, limit_s=limit, core=core) as box:
        played = performed(network, box, stage, chancy, log, foreign=True, say=say)
    outcome = Outcome(stage, played, foreign_box_report(middlebox, stage), False)
    return outcome.replay(EMPTY, link, seed, twins, taps, begun_at)


def checked_box(middlebox: str, policy: Policy, link: str, offload: str) -> None:
    """Raise TestbedError where a third-party box is given options of the lab's own box."""
    kind = kind_of(middlebox)
    for line in missing_of(kind):
        raise TestbedError(f"middlebox {kind}: {line}")
    if policy.rules:
        raise TestbedError(
            f"middlebox {kind}: got a policy of {len(policy.rules)} rules, expected none: it "
            "decides by itself"
        )
    if link != CAPTURED or offload != "off":
        raise TestbedError(
            f"middlebox {kind}: got link {link!r} and offload {offload!r}; the lab's own box alone "
            f"has a link of its own or hands flows over, expected {CAPTURED!r} and 'off'"
        )


def checked(captures: Sequence[Capture], access: str, link: str) -> None:
    """Raise TestbedError where the arguments of a run are invalid."""
    if not captures:
        raise TestbedError("captures: got none, expected one at least")
    networks.link(access)
    if link not in LINK_MODES:
        raise TestbedError(f"link: got {link!r}, expected one of {', '.join(LINK_MODES)}")


def mtu_of(network: Network | None, access: str) -> int:
    """Return the MTU of a network's links; raises TestbedError where packets do not fit through."""
    if network is None:
        return MAXIMUM_MTU
    access_link = networks.link(access)
    needed = access_link.room + access_link.overhead
    if network.mtu < needed:
        raise TestbedError(
            f"network: its links have an MTU of {network.mtu}, and {access} needs {needed}"
        )
    return network.mtu


def assert_closed(network: Network) -> None:
    """Raise TestbedError where a route leads out of a network's namespaces.

    Captured addresses belong to real hosts: their packets must not leave the lab.
    """
    for pid, name in zip(
        (network.caller_pid, network.box_pid, network.server_pid), ("caller", "box", "server"),
        strict=True,
    ):  # fmt: skip
        table4 = Path(f"/proc/{pid}/net/route").read_text().splitlines()[1:]
        ipv6_routes = Path(f"/proc/{pid}/net/ipv6_route")
        table6 = ipv6_routes.read_text().splitlines() if ipv6_routes.exists() else []
        interfaces = {line.split()[0] for line in table4} | {line.split()[-1] for line in table6}
        if out := sorted(interfaces - {"lo"}):
            raise TestbedError(
                f'addressing "keep": a route leads out of the {name}\'s namespace by '
                f"{', '.join(out)}; take it away, or map addresses"
            )


# ---- the run


@contextmanager
def hurried(core: int) -> Iterator[None]:
    """Run on one core under real-time scheduling."""
    with preferred(core):
        urgent(True)
        yield


def assert_alive(box: Box | Blackbox, clock: float) -> None:
    """Raise TestbedError where a box ended, `clock` seconds into the run."""
    if box.alive:
        return
    if isinstance(box, Blackbox):
        raise TestbedError(
            f"middlebox {box.kind} ended {clock:.1f} s into the run, which is void; it said:\n"
            f"{box.last_words()}"
        )
    raise TestbedError(f"the box died {clock:.1f} s into the run; it is void")


def performed(
    network: Network, box: Box | Blackbox, stage: Stage, chancy: NDArray[np.uint8], log: Records,
    *, linked: bool = False, foreign: bool = False, say: Callable[[str], None] | None = None,
) -> Performed:  # fmt: skip
    """Play the whole run. log: the box's, or a blank one; chancy, linked: see endpoints."""
    pids = (network.caller_pid, network.ports.c0), (network.server_pid, network.ports.s0)
    with (
        closing(Ring(*pids[0], RING, visible=True)) as caller,
        closing(Ring(*pids[1], RING, visible=True)) as server,
        Taps(network, stage.frames, stage.run, log=log) as taps,
    ):
        play = stage.play((caller, server), log, chancy, linked, UNTIL, foreign)
        with compile_lock():
            turn(0, play, caller.port, server.port)
            heard = None if say is None else Heard(stage.joint.script, play.played, say)
        with hurried(sorted(os.sched_getaffinity(0))[0]):
            play.state[BEGAN] = time.time_ns() + READY
            to_the_end(play, box, caller, server, heard)
        taps.stop()
        missed = caller.overloads() + server.overloads()
        return Performed(play, taps.seen().copy(), taps.store, missed)


def to_the_end(
    play: Play, box: Box | Blackbox, caller: Ring, server: Ring, heard: Heard | None = None
) -> None:
    """Play until nothing is due and nothing in flight; raises TestbedError."""
    plan = play.orders.send
    planned = int(plan.max()) if len(plan) else 0
    limit = BEYOND + planned
    quiet, changed, before = 0, 0, (-1, -1)
    while quiet < QUIET:
        turn(SLICE, play, caller.port, server.port)
        clock = time.time_ns() - int(play.state[BEGAN])
        assert_alive(box, clock / 1e9)
        if heard is not None:
            heard.look(clock, int(play.state[ROWS]))
        if clock > limit:
            raise TestbedError(
                f"the ends still play {clock / 1e9:.0f} s into a run of {planned / 1e9:.0f} s"
            )
        if play.state[LACKING]:
            raise TestbedError(
                f"{int(play.state[LACKING])} packets had to be sent again more often than the lab "
                "has room for; the run is void"
            )
        in_flight = packets_in_flight(play)
        state = int(play.state[SIZE]), int(in_flight.sum())
        if state != before:
            before, changed = state, clock
        box_holds = bool(
            (in_flight & (play.log["fate"] == DELIVERED) & (play.log["out_time"] == 0)).any()
        )
        over = state == (0, 0) or (not box_holds and state[0] == 0 and clock - changed > STUCK)
        quiet = quiet + 1 if over else 0


def packets_in_flight(play: Play) -> NDArray[np.bool_]:
    """Return bool[rows]: sendings on the wire or in the box, by the records of ends and box."""
    out = (play.played["due"] >= 0) & (play.played["stamp"] < 0)
    undecided = play.log["times"] == 0
    return np.asarray(out & (undecided | (play.log["fate"] == DELIVERED)))
