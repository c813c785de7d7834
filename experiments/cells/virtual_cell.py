# SPDX-License-Identifier: BSD-3-Clause
"""The simulations of cells: one policy on one access network, over all captures of a run.

Cells with equal rules (for example, at every date before the block) share one simulation. Its
outcome is one atomic file in a cache, named by a digest of everything it depends on, so a run that
was interrupted, or repeated, computes only missing outcomes.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, SupportsFloat, SupportsInt

import numpy as np

from midcall.captures.packets.pcap import Packets, read
from midcall.captures.truth.calls import Call
from midcall.experiments.measure import collateral, timelines
from midcall.experiments.measure.intervals import derived_seed
from midcall.experiments.results.provenance import code_digest
from midcall.experiments.results.schema import write_atomically
from midcall.experiments.results.tables import (
    CallEntry,
    CellOutcome,
    Json,
    KindHits,
)
from midcall.experiments.spec.corpus import Item, counts
from midcall.experiments.spec.truncate import Cut, cut

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from midcall.testbed.assess.call_verdict import CallVerdict
    from midcall.testbed.policy.operator import Policy
    from midcall.testbed.replay.simulator import Simulation

#: Raise when the content of a cell's file changes its meaning.
CELL_FORMAT = 3
Outcome = CellOutcome
#: Capture group -> kind of traffic -> [flows, hit, bytes, bytes that do not arrive].
Hits = dict[str, dict[str, list[int]]]


class Unit(NamedTuple):
    """One simulation to do: its key, the rules and the access network."""

    key: str
    policy: Policy | None
    access: str


def cache_folder() -> Path:
    """Return the folder of finished cells in the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home) / "midcall" / "cells"


def unit_key(
    policy: Policy | None,
    access: str,
    seed: int,
    items: Sequence[Item],
    link: str = "captured",
    seconds: float | None = None,
) -> str:
    """Return the sha256 (hex) of everything the simulation's outcome depends on."""
    depends = {
        "format": CELL_FORMAT,
        "code": code_digest(),
        "policy": policy_text(policy),
        "access": access,
        "seed": seed,
        "link": link,
        "seconds": seconds,
        "captures": [(item.capture.sha256, item.truth_digest()) for item in items],
    }
    return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()


def policy_text(policy: Policy | None) -> str:
    """Return a policy's rules as text that is equal for equal rules."""
    return repr(policy)


def cached(folder: Path | None, key: str) -> Json:
    """Return the outcome of a finished simulation, None where there is none or it is damaged."""
    if folder is None:
        return None
    try:
        outcome = json.loads((folder / key[:2] / f"{key}.json").read_bytes())
    except (OSError, ValueError):
        return None
    return outcome if isinstance(outcome, dict) and outcome.get("key") == key else None


def keep(folder: Path, outcome: Mapping[str, object]) -> None:
    """Write a finished simulation, whole or not at all; on a full disk it is not kept.

    outcome: plain values, its key under "key".
    """
    key = str(outcome["key"])
    with suppress(OSError):
        write_atomically(folder / key[:2] / f"{key}.json", json.dumps(outcome).encode())


class Bench:
    """The captures of a run, opened once per process, and the controls already simulated.

    A control is the same capture, access network and seed under no rules; verdicts are the
    difference from it. Controls of one access network are kept at a time. Finished simulations
    are kept in `folder`; with None the caller keeps them.
    """

    def __init__(
        self,
        items: Sequence[Item],
        seed: int,
        folder: Path | None,
        link: str = "captured",
        seconds: float | None = None,
    ) -> None:
        self.items, self.seed, self.folder, self.link = list(items), seed, folder, link
        self.seconds = seconds
        self._opened: dict[str, Cut] = {}
        self._controls: dict[str, Simulation] = {}
        self._access = ""

    def opened(self, item: Item) -> Cut:
        """Return the capture's packets, calls and labels, cut where the run cuts."""
        sha256 = item.capture.sha256
        if sha256 not in self._opened:
            self._opened[sha256] = cut(item, read(item.path), self.seconds)
        return self._opened[sha256]

    def run(self, item: Item, policy: Policy | None, access: str) -> Simulation:
        """Simulate one capture; the seed is derived from names, never from the order of work."""
        from midcall.testbed.replay.simulator import simulate

        seed = derived_seed(self.seed, item.capture.sha256, access)
        packets = self.opened(item).packets
        return simulate(packets, item.calls, item.labels, policy, access, seed, link=self.link)

    def control(self, item: Item, access: str) -> Simulation:
        """Return the capture's simulation under no rules."""
        if access != self._access:
            self._controls, self._access = {}, access
        sha256 = item.capture.sha256
        if sha256 not in self._controls:
            self._controls[sha256] = self.run(item, None, access)
        return self._controls[sha256]

    def outcome(self, unit: Unit) -> Outcome:
        """Do one simulation and keep its outcome. A note of an error names the capture."""
        begin = time.perf_counter()
        calls: list[CallEntry] = []
        hits = no_hits()
        for item in self.items:
            try:
                self._one(self.opened(item).item, unit, calls, hits)
            except Exception as error:
                error.add_note(f"capture {item.capture.name}")
                raise
        outcome: Outcome = {
            "key": unit.key,
            "calls": calls,
            "collateral": collateral_of(collateral.merged(hits)),
            "groups": collateral.of_groups(hits),
            "seconds": time.perf_counter() - begin,
        }
        if self.folder is not None:
            keep(self.folder, outcome)
        return outcome

    def _one(self, item: Item, unit: Unit, calls: list[CallEntry], hits: Hits) -> None:
        from midcall.testbed.assess.call_verdict import judge

        control = self.control(item, unit.access)
        simulation = self.run(item, unit.policy, unit.access)
        for call in item.calls:
            verdict = judge(simulation, control, call, item.capture.changed)
            calls.append(call_entry(item, call, verdict, simulation, control))
        readable = not reads(unit.policy) & set(item.capture.changed)
        if counts(item) and readable:
            own = hits[item.capture.group]
            count_hits(item, self.opened(item).packets, simulation, control, own)


def reads(policy: Policy | None) -> frozenset[str]:
    """Return the fields that a policy's rules read (midcall.testbed.policy.language.Rule.reads)."""
    rules = () if policy is None else policy.rules
    return frozenset[str]().union(*(rule.reads for rule in rules))


def call_entry(
    item: Item, call: Call, verdict: CallVerdict, simulation: Simulation, control: Simulation
) -> CallEntry:
    """Return a call's verdict, timeline and loss as plain values."""
    return {
        "sha256": item.capture.sha256,
        "call": call.id,
        "verdict": str(verdict.verdict),
        "blocked": bool(verdict.blocked),
        "usable": None if verdict.usable is None else bool(verdict.usable),
        "rule": verdict.rule or None,
        "packets_to_block": _whole(verdict.packets_to_block),
        "ms_to_block": _real(verdict.ms_to_block),
        "media_sent": _whole(verdict.media_sent),
        "media_delivered": _whole(verdict.media_delivered),
        "media_control": _whole(verdict.media_control),
        "media_lost": _real(verdict.media_lost),
        "reason": str(verdict.reason),
        "timeline": timelines.entry(simulation, control, call, verdict),
        "loss": collateral.entry(simulation, control, call),
    }


def _whole(value: SupportsInt | None) -> int | None:
    return None if value is None else int(value)


def _real(value: SupportsFloat | None) -> float | None:
    return None if value is None else float(value)


# ---- innocent flows


def no_hits() -> Hits:
    """Return empty counts for `count_hits`."""
    return defaultdict(lambda: defaultdict(lambda: [0, 0, 0, 0]))


def collateral_of(hits: Mapping[str, list[int]]) -> list[KindHits]:
    """Return the counts of `count_hits` by kind of traffic as rows."""
    return [
        {
            "protocol": kind,
            "flows": counts[0],
            "hit": counts[1],
            "bytes": counts[2],
            "bytes_hit": counts[3],
        }
        for kind, counts in sorted(hits.items())
    ]


def count_hits(
    item: Item,
    packets: Packets,
    simulation: Simulation,
    control: Simulation,
    hits: dict[str, list[int]],
) -> None:
    """Add the innocent flows of a capture, and those that the policy hit, to `hits`.

    In an innocent capture every TCP and UDP flow is innocent; in a capture of a call, those
    labelled as chat or other traffic (of high or medium confidence). Flows are those of the
    control. One is hit when the box dropped or answered a packet of it, any copy of it, or when a
    packet that arrived under no rules does not arrive now: a flow that never starts after a false
    DNS answer is lost too. hits: kind of traffic -> [flows, hit, bytes, bytes that do not arrive].
    """
    numbers = np.asarray(control.flow)
    fates = simulation.fates
    struck = simulation.struck & (fates["struck_rule"] >= 0)
    lost = control.delivered & ~simulation.delivered
    for number, kind in innocent_flows(item, control.flows, numbers).items():
        own = numbers == number
        entry = hits[kind]
        entry[0] += 1
        entry[1] += bool((own & (struck | lost)).any())
        entry[2] += int(packets.wire[own].sum())
        entry[3] += int(packets.wire[own & lost].sum())


def innocent_flows(
    item: Item, flows: NDArray[np.void], numbers: NDArray[np.int64]
) -> dict[int, str]:
    """Return flow number -> kind of traffic for the innocent flows of a capture.

    flows: FLOW[flows]; numbers: int64[packets], the flow of each packet.
    """
    kinds: dict[int, str] = {}
    if item.innocent:
        for number in np.unique(numbers[numbers >= 0]):
            kind = transport_kind(flows[number])
            if kind is not None:
                kinds[int(number)] = kind
        return kinds
    for label in item.labels:
        quiet = label.role in ("messaging", "other") and label.confidence in ("high", "medium")
        number = int(numbers[label.frame - 1]) if 0 < label.frame <= len(numbers) else -1
        if quiet and number >= 0:
            kind = transport_kind(flows[number])
            if label.role == "messaging":
                kind = f"chat of {label.app}"
            if kind is not None:
                kinds[number] = kind
    return kinds


_SERVICES = {53: "dns", 80: "http", 123: "ntp", 443: "web", 5060: "sip port", 3478: "stun port"}


def transport_kind(flow: np.void) -> str | None:
    """Return the transport and well-known port of a flow; None for neither TCP nor UDP."""
    proto = {6: "tcp", 17: "udp"}.get(int(flow["proto"]))
    if proto is None:
        return None
    for port in (int(flow["target_port"]), int(flow["source_port"])):
        if port in _SERVICES:
            name = "quic" if port == 443 and proto == "udp" else _SERVICES[port]
            return f"{name} ({proto} {port})"
    return f"other {proto}"
