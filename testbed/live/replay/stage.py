# SPDX-License-Identifier: BSD-3-Clause
"""Prepare captures for a live replay: merge their scripts and write their frames."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.pcap import Packets
from midcall.captures.truth.calls import Call
from midcall.classifier.state.flow_table import Records
from midcall.testbed.live.box.rings import Ring
from midcall.testbed.live.replay.endpoints import SIZE, Play, begun
from midcall.testbed.live.replay.merge import Frames, Joint, frames, joined, write_checksums
from midcall.testbed.network import access as networks
from midcall.testbed.network.access import ETHERNET_LENGTH, TOO_LARGE
from midcall.testbed.policy.operator import Policy
from midcall.testbed.replay import simulator
from midcall.testbed.replay.addressing import Mapped, on_lab, together
from midcall.testbed.replay.endpoints import arrays, begin, fresh
from midcall.testbed.replay.script import script
from midcall.testbed.replay.sides import CALLER
from midcall.testbed.replay.simulator import Simulation, outfit, retimed


class Capture(NamedTuple):
    """One capture of a replay: arguments of `midcall.testbed.replay.simulator.simulate`.

    name: for errors and files; dressed: packets rewritten by testbed.evasion.rewriter, None to send
    the capture as it is.
    """

    name: str
    packets: Packets
    calls: Sequence[Call] = ()
    dressed: Packets | None = None


class Stage:
    """Captures ready to be played: scripts, frames and address mappings."""

    def __init__(
        self, captures: Sequence[Capture], access: str, model: str, addressing: str, mtu: int
    ) -> None:
        """Write scripts and frames; mtu: of the network's links."""
        self.captures, self.access, self.model = captures, access, model
        self.run = secrets.randbelow(255) + 1
        self.about = networks.link(access)
        self.scripts = [script(one.packets, one.calls, model) for one in captures]
        indexes = [
            orders.held if one.dressed is None else outfit(one.packets, one.dressed)
            for one, orders in zip(captures, self.scripts, strict=True)
        ]
        self.labs: list[Mapped] = together(indexes, addressing)
        self.fits, shown, moved = [], [], []
        for one, orders, index, lab in zip(captures, self.scripts, indexes, self.labs, strict=True):
            facts, up = index.facts, (orders.side == CALLER).astype(np.int64)
            shown.append(networks.wrap(self.about, lab.data, lab.ip_at, lab.ip_end, lab.size, up))
            self.fits.append(
                networks.fit(
                    self.about, lab.size, facts["proto"], facts["version"], facts["whole"] == 1
                )
            )
            shift = None if one.dressed is None else one.dressed.time - one.packets.time
            moved.append(orders if shift is None else retimed(orders, shift))
        self.joint: Joint = joined(moved)
        self.frames: Frames = frames(shown, self.run, mtu + ETHERNET_LENGTH)
        around = ETHERNET_LENGTH + self.about.overhead
        write_checksums(self.frames.data, self.frames.at, self.frames.size, around)

    def policy(self, policy: Policy) -> Policy:
        """Return a policy whose address sets are mapped to the addresses of this run."""
        images = [lab.addresses for lab in self.labs if lab.addresses is not None]
        return on_lab(policy, images) if images else policy

    def twin(
        self, number: int, policy: Policy, seed: int, link: str, addressing: str, until: int
    ) -> Simulation:
        """Return the simulation of one capture in virtual time, with the addresses of this run.

        until: ns after its last planned packet, after which nothing is sent again.
        """
        one = self.captures[number]
        return simulator.simulate(
            one.packets, one.calls, (), policy, self.access, seed, self.model, link, addressing,
            one.dressed, self.labs[number], until=until,
        )  # fmt: skip

    def name(self, packet: int) -> str:
        """Return the name of a packet of the joint script."""
        number = int(np.searchsorted(self.joint.starts, packet, "right")) - 1
        return f"{self.captures[number].name} packet {packet - self.joint.starts[number] + 1}"

    def play(
        self, ports: tuple[Ring, Ring], log: Records, chancy: NDArray[np.uint8], linked: bool,
        until: int, foreign: bool = False,
    ) -> Play:  # fmt: skip
        """Return the state of both ends, with every packet that waits for nothing scheduled.

        until: ns after the last planned packet, after which nothing is sent again.
        """
        orders, count = self.joint.script, len(self.joint.starts)
        whose = np.repeat(np.arange(count), [len(one.flow) for one in self.scripts])
        large = np.concatenate(self.fits) == TOO_LARGE
        ends = fresh(orders)
        order_arrays = arrays(orders)
        planned = int(orders.send.max(initial=0))
        play = begun(
            orders, ends, order_arrays, whose.astype(np.int64), large.astype(np.uint8), chancy,
            self.frames, log, count, planned + until, (ports[0].port, ports[1].port), self.run,
            ETHERNET_LENGTH + self.about.overhead, linked, foreign,
        )  # fmt: skip
        play.state[SIZE] = begin(order_arrays, ends, play.heap)
        return play
