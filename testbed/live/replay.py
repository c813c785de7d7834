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

import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from captures.calls import Call
from captures.compiled import compile_lock
from captures.pcap import Packets
from classifier.flow import Records
from testbed import access as networks
from testbed import virtual
from testbed.access import CLAMPED, FRAGMENTED, TOO_LARGE
from testbed.addressing import Mapped, on_lab, together
from testbed.endpoints import COUNTS, arrays, begin, fresh, stalled, waited
from testbed.errors import TestbedError
from testbed.link import PRESETS
from testbed.live import evidence
from testbed.live.box import Box
from testbed.live.ends import BEGAN, REFUSED, SIZE, STRANGE, Orders, Play, begun, turn
from testbed.live.evidence import Record
from testbed.live.joint import Frames, Joint, frames, joined
from testbed.live.load import preferred
from testbed.live.network import MAXIMUM_MTU, Network
from testbed.live.rings import Ring
from testbed.live.system import urgent
from testbed.live.taps import Taps
from testbed.middlebox import DELIVERED, FATES, LOST, TOO_BIG
from testbed.patience import patience
from testbed.places import CALLER, LOCAL
from testbed.policy import EMPTY, Policy
from testbed.replay import Script, script
from testbed.rules import CENSOR, DELAY, table
from testbed.virtual import CAPTURED, FATE, LINK_MODES, PRESET, Simulation, outfit, retimed

Numbers = NDArray[np.int64]

#: Frames that a ring of an end holds until its end comes round.
RING = 4096
#: The ends play for so long, in ns, before the lab looks at the box and at the user's Ctrl-C.
SLICE = 50_000_000
#: A run begins this long after everything stands ready, in ns; and it is over once nothing is due
#: and nothing on its way for so many slices.
READY, QUIET = 20_000_000, 4
#: How long, in ns, a run may take beyond its last planned packet (what lost packets are sent again
#: after is in it), and how long nothing may change while a frame is still on its way.
BEYOND, STUCK = 90_000_000_000, 3_000_000_000
ETHERNET = networks.ETHERNET_LENGTH


class Capture(NamedTuple):
    """One capture of a replay: what `testbed.virtual.simulate` is given of it.

    name: for errors and files; dressed: of testbed.dress, None where it goes as captured.
    """

    name: str
    packets: Packets
    calls: Sequence[Call] = ()
    dressed: Packets | None = None


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
    leads out of the namespaces. offload: of testbed.live.box. taps: a folder for pcapng files,
    each packet's comment naming its fate and rule; None writes none. network: one that is open
    already, for several runs after each other; None makes one (and needs root, see
    testbed.live.network.missing).

    Cut long captures first (testbed.excerpt): a run takes as long as they do.

    Raises TestbedError where a live run cannot be or went wrong: no root, the box died, a ring
    overflowed, the taps contradict the box's record, or a policy that blocks in the twin blocked
    nothing here.
    """
    begun_at = time.monotonic()
    policy = policy or EMPTY
    checked(captures, access, link)
    stage = Stage(captures, access, model, addressing, mtu_of(network, access))
    twins = tuple(stage.twin(k, policy, seed, link, addressing) for k in range(len(captures)))
    with ExitStack() as stack:
        if network is None:
            network = stack.enter_context(Network(mtu=MAXIMUM_MTU))
        if addressing == "keep":
            assert_closed(network)
        box = Box(
            network,
            stage.policy(policy),
            seed,
            access=access,
            link=link,
            offload=offload,
            log_packets=len(stage.joint.script.flow),
            starts=stage.joint.starts,
            run=stage.run,
            core=sorted(os.sched_getaffinity(0))[-1],
        )
        with box:
            below = box.offload == "on"
            play, rows, store, missed = performed(network, box, stage, policy, seed, access)
        outcome = Outcome(stage, play, box, rows, store, below)
    return outcome.replay(policy, link, seed, twins, missed, taps, begun_at)


def checked(captures: Sequence[Capture], access: str, link: str) -> None:
    """Raise TestbedError where the orders of a run cannot be."""
    if not captures:
        raise TestbedError("captures: got none, expected one at least")
    networks.link(access)
    if link not in LINK_MODES:
        raise TestbedError(f"link: got {link!r}, expected one of {', '.join(LINK_MODES)}")
    assert access in PRESETS


def mtu_of(network: Network | None, access: str) -> int:
    """Return the MTU of a network's links; raises TestbedError where packets do not fit through."""
    if network is None:
        return MAXIMUM_MTU
    about = networks.link(access)
    needed = about.room + about.overhead
    if network.mtu < needed:
        raise TestbedError(
            f"network: its links have an MTU of {network.mtu}, and {access} needs {needed}"
        )
    return network.mtu


def assert_closed(network: Network) -> None:
    """Raise TestbedError where a route leads out of a network's namespaces.

    Captured addresses are somebody's: their packets must not get anywhere.
    """
    for pid, name in zip(
        (network.caller_pid, network.box_pid, network.server_pid), ("caller", "box", "server"),
        strict=True,
    ):  # fmt: skip
        table4 = Path(f"/proc/{pid}/net/route").read_text().splitlines()[1:]
        six = Path(f"/proc/{pid}/net/ipv6_route")
        table6 = six.read_text().splitlines() if six.exists() else []
        ways = {line.split()[0] for line in table4} | {line.split()[-1] for line in table6}
        if out := sorted(ways - {"lo"}):
            raise TestbedError(
                f'addressing "keep": a route leads out of the {name}\'s namespace by '
                f"{', '.join(out)}; take it away, or map addresses"
            )


# ---- what is put on the stage


class Stage:
    """Captures ready to be played: scripts, frames, and what stands behind each."""

    def __init__(
        self, captures: Sequence[Capture], access: str, model: str, addressing: str, mtu: int
    ) -> None:
        """Write scripts and frames; mtu: of the network's links."""
        self.captures, self.access, self.model = captures, access, model
        self.run = secrets.randbelow(255) + 1
        self.about = networks.link(access)
        self.scripts = [script(one.packets, one.calls, model) for one in captures]
        worn = [
            orders.held if one.dressed is None else outfit(one.packets, one.dressed)
            for one, orders in zip(captures, self.scripts, strict=True)
        ]
        self.labs: list[Mapped] = together(worn, addressing)
        self.fits, shown, moved = [], [], []
        for one, orders, held, lab in zip(captures, self.scripts, worn, self.labs, strict=True):
            facts, up = held.facts, (orders.side == CALLER).astype(np.int64)
            shown.append(networks.wrap(self.about, lab.data, lab.ip_at, lab.ip_end, lab.size, up))
            self.fits.append(
                networks.fit(
                    self.about, lab.size, facts["proto"], facts["version"], facts["whole"] == 1
                )
            )
            shift = None if one.dressed is None else one.dressed.time - one.packets.time
            moved.append(orders if shift is None else retimed(orders, shift))
        self.joint: Joint = joined(moved)
        self.frames: Frames = frames(shown, self.run, mtu + ETHERNET)

    def policy(self, policy: Policy) -> Policy:
        """Return a policy whose address sets hold what they held in the captures."""
        images = [lab.addresses for lab in self.labs if lab.addresses is not None]
        return on_lab(policy, images) if images else policy

    def twin(
        self, number: int, policy: Policy, seed: int, link: str, addressing: str
    ) -> Simulation:
        """Return one capture in virtual time, with the addresses that it has here."""
        one = self.captures[number]
        return virtual.simulate(
            one.packets, one.calls, (), policy, self.access, seed, self.model, link, addressing,
            one.dressed, self.labs[number],
        )  # fmt: skip

    def name(self, packet: int) -> str:
        """Return what a packet of the joint script is called."""
        number = int(np.searchsorted(self.joint.starts, packet, "right")) - 1
        return f"{self.captures[number].name} packet {packet - self.joint.starts[number] + 1}"

    def play(
        self, ports: tuple[Ring, Ring], log: Records, chancy: NDArray[np.uint8], linked: bool
    ) -> Play:
        """Return what both ends work on, everything that waits for nothing scheduled."""
        orders, count = self.joint.script, len(self.joint.starts)
        whose = np.repeat(np.arange(count), [len(one.flow) for one in self.scripts])
        large = np.concatenate(self.fits) == TOO_LARGE
        told = Orders._make(
            (
                *arrays(orders),
                orders.media,
                whose.astype(np.int64),
                large.astype(np.uint8),
                np.concatenate([patience(one.held) for one in self.scripts]),
                chancy,
            )
        )
        ends = fresh(orders)
        play = begun(
            orders, ends, told, self.frames, log, count, (ports[0].port, ports[1].port), self.run,
            ETHERNET + self.about.overhead, linked,
        )  # fmt: skip
        play.state[SIZE] = begin(orders.send, orders.gate, ends.heap)
        return play


# ---- the run


@contextmanager
def hurried(core: int) -> Iterator[None]:
    """Run on one core, the moment something is due."""
    with preferred(core):
        urgent(True)
        yield


def performed(
    network: Network, box: Box, stage: Stage, policy: Policy, seed: int, access: str
) -> tuple[Play, Records, NDArray[np.uint8], int]:
    """Play to the end; returns the ends' record, what the taps saw, and frames the ends missed."""
    acts = table(stage.policy(policy), seed, access).rules["act"]
    chancy = np.append((acts >= DELAY) & (acts < CENSOR), False).astype(np.uint8)
    pids = (network.caller_pid, network.ports.c0), (network.server_pid, network.ports.s0)
    with (
        closing(Ring(*pids[0], RING, seen=True)) as caller,
        closing(Ring(*pids[1], RING, seen=True)) as server,
        Taps(network, stage.frames, stage.run) as taps,
    ):
        play = stage.play((caller, server), box.log(), chancy, box.options.link == PRESET)
        with compile_lock():
            turn(0, play, caller.port, server.port)
        with hurried(sorted(os.sched_getaffinity(0))[0]):
            play.state[BEGAN] = time.time_ns() + READY
            to_the_end(play, box, caller, server)
        taps.stop()
        missed = caller.overloads() + server.overloads()
        return play, taps.seen().copy(), taps.store, missed


def to_the_end(play: Play, box: Box, caller: Ring, server: Ring) -> None:
    """Play until nothing is due and nothing on its way; raises TestbedError."""
    plan = play.orders.send
    limit = BEYOND + (int(plan.max()) if len(plan) else 0)
    quiet, changed, before = 0, 0, (-1, -1)
    while quiet < QUIET:
        turn(SLICE, play, caller.port, server.port)
        clock = time.time_ns() - int(play.state[BEGAN])
        if not box.alive:
            raise TestbedError(f"the box died {clock / 1e9:.1f} s into the run; it is void")
        if clock > limit:
            raise TestbedError(
                f"the ends still play {clock / 1e9:.0f} s into a run of {plan.max() / 1e9:.0f} s"
            )
        way = on_its_way(play)
        state = int(play.state[SIZE]), int(way.sum())
        if state != before:
            before, changed = state, clock
        held = bool((way & (play.log["fate"] == DELIVERED) & (play.log["out_time"] == 0)).any())
        over = state == (0, 0) or (not held and state[0] == 0 and clock - changed > STUCK)
        quiet = quiet + 1 if over else 0


def on_its_way(play: Play) -> NDArray[np.bool_]:
    """Return which packets stand on the wire or in the box, as far as the ends and box know."""
    out = (play.played["times"] > 0) & (play.played["stamp"] < 0)
    undecided = play.log["times"] < play.played["times"]
    return np.asarray(out & (undecided | (play.log["fate"] == DELIVERED)))


# ---- what came of it


class Outcome:
    """A run that is over, taken apart into one simulation per capture."""

    def __init__(
        self, stage: Stage, play: Play, box: Box, rows: Records, store: NDArray[np.uint8],
        below: bool,
    ) -> None:  # fmt: skip
        """Read what the box left; it has stopped."""
        self.stage, self.play, self.box = stage, play, box
        self.log, self.flows = box.log().copy(), box.flows()
        self.shares, self.counters = box.shares(), box.counters()
        self.began = int(play.state[BEGAN])
        orders = stage.joint.script
        self.record = Record(
            rows, store, stage.frames, play.played, self.log, orders.side, orders.flow, self.began,
            ETHERNET + stage.about.overhead, below,
        )  # fmt: skip
        self.seen = evidence.seen_by_taps(self.record)

    def replay(
        self, policy: Policy, link: str, seed: int, twins: tuple[Simulation, ...], missed: int,
        taps: Path | None, begun_at: float,
    ) -> Replay:  # fmt: skip
        """Return everything; raises TestbedError where the run is void."""
        stage, played = self.stage, self.play.played
        if missed or self.play.state[REFUSED] or self.counters["dropped_by_overload"]:
            raise TestbedError(
                f"frames were lost by the lab itself: {missed} at the ends, "
                f"{int(self.play.state[REFUSED])} not sent, "
                f"{self.counters['dropped_by_overload']} at the box; the run is void, try it again"
            )
        paths: tuple[Path, ...] = ()
        if taps is not None:
            names = [stage.name(i) for i in range(len(played))]
            rules = tuple(rule.name for rule in policy.rules)
            paths = evidence.save(taps, self.record, self.seen, rules, names)
        doubtful = np.flatnonzero((played["times"] > 0) & ~self.seen["proven"])
        if len(doubtful):
            raise evidence.doubt(self.record, self.seen, doubtful, stage.name(int(doubtful[0])))
        letters, mail = evidence.injected(self.record)
        parts = [stage.joint.part(k) for k in range(len(stage.captures))]
        simulations = tuple(
            self.simulation(k, policy, link, seed, letters, mail, twin)
            for k, twin in enumerate(twins)
        )
        expect_blocking(simulations, twins)
        on_wire = self.seen["times"] > 0
        stood = np.where(self.seen["box_in"] > 0, self.seen["box_in"], self.seen["sent"])
        plain = on_wire & (self.log["rule"] < 0) & (self.seen["came"] > 0) & (link == CAPTURED)
        plain &= self.seen["box_in"] > 0
        return Replay(
            simulations,
            twins,
            tuple(self.seen[part] for part in parts),
            tuple(played["letters"][part].copy() for part in parts),
            (stood - self.seen["due"])[on_wire] / 1000,
            (self.seen["came"] - self.seen["box_in"])[plain] / 1000,
            self.counters | self.ends_counters(),
            self.box.met(),
            time.monotonic() - begun_at,
            paths,
        )

    def ends_counters(self) -> dict[str, int]:
        """Return what the ends counted, over all captures."""
        told = self.play.counts.sum(axis=0)
        found = {name: int(n) for name, n in zip(COUNTS, told, strict=True)}
        found["frames"] = int(self.play.played["times"].sum())
        found["clipped"], found["strange"] = (
            self.stage.frames.clipped,
            int(self.play.state[STRANGE]),
        )
        return found

    def simulation(
        self, number: int, policy: Policy, link: str, seed: int, letters: Records,
        mail: NDArray[np.uint8], twin: Simulation,
    ) -> Simulation:  # fmt: skip
        """Return what became of one capture, times on its own clock."""
        stage, part = self.stage, self.stage.joint.part(number)
        shift = int(stage.joint.begins[number])
        orders = stage.scripts[number]
        fates = self.fates(part, orders, shift, stage.fits[number])
        joint = stage.joint.script
        latches = slice_of([len(one.need) for one in stage.scripts], number)
        opened = self.play.ends.opened[latches].copy()
        counts = self.play.counts[number].copy()
        counts[COUNTS.index("stalled")] = stalled(
            joint.streams.stream[part], joint.streams.after[part], self.play.ends.reached, fates
        )
        counts[COUNTS.index("waited")] = waited(fates, counts)
        own = (letters["packet"] >= part.start) & (letters["packet"] < part.stop)
        mine = letters[own].copy()
        mine["packet"] -= part.start
        mine["time"] += shift - self.began
        met = fates["box_time"] >= 0
        fits = stage.fits[number]
        counters = {
            name.replace(" ", "_"): int((fates["fate"] == i).sum()) for i, name in enumerate(FATES)
        }
        counters |= {name: int(n) for name, n in zip(COUNTS, counts, strict=True)}
        counters["clamped"] = int((met & (fits == CLAMPED)).sum())
        counters["fragmented"] = int((met & (fits == FRAGMENTED)).sum())
        return replace(
            twin,
            fates=fates,
            flow=np.where(met, self.log["flow"][part], -1).astype(np.int64),
            flows=self.flows,
            met=self.shares[number],
            opened=np.where(opened >= 0, opened + shift, -1),
            counters=counters,
            letters=mine,
            mail=mail,
            others={},
        )

    def fates(
        self, part: slice, orders: Script, shift: int, fits: NDArray[np.uint8]
    ) -> NDArray[np.void]:
        """Return FATE[n] of one capture."""
        played, log = self.play.played[part], self.log[part]
        fates = np.zeros(len(played), FATE)
        fates["sent"] = played["sent"]
        fates["rule"] = fates["box_time"] = -1
        fates["arrival_time"] = np.where(played["arrival"] >= 0, played["arrival"] + shift, -1)
        local = played["sent"] & (orders.side == LOCAL)
        large = played["sent"] & ~local & (fits == TOO_LARGE)
        met = played["times"] > 0
        fates["fate"][local], fates["fate"][large] = DELIVERED, TOO_BIG
        fates["fate"][met], fates["rule"][met] = log["fate"][met], log["rule"][met]
        fates["box_time"][met] = log["in_time"][met] - self.began + shift
        fates["letters"] = played["letters"]
        assert not ((fates["fate"] == LOST) & (fates["arrival_time"] >= 0)).any()
        return fates


def slice_of(lengths: Sequence[int], number: int) -> slice:
    """Return where part `number` stands when parts of such lengths stand one after the other."""
    first = sum(lengths[:number])
    return slice(first, first + lengths[number])


def expect_blocking(live: Sequence[Simulation], twins: Sequence[Simulation]) -> None:
    """Raise TestbedError where a policy that strikes in virtual time struck nothing live."""
    due = sum(int(one.struck.sum()) for one in twins)
    if due and not any(one.struck.any() for one in live):
        raise TestbedError(
            f"the policy strikes {due} packets of these captures in virtual time and struck none "
            "live: the box did not do its work, and this is no result"
        )
