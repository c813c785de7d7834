# SPDX-License-Identifier: BSD-3-Clause
"""The simulations of cells: one policy on one access network, over all captures of a run.

Cells with equal rules (for example, at every date before the block) share one outcome. It is
assembled from one share per capture, because captures are simulated apart: each has a box, a flow
table and seeds of its own. A file of the cache has the shares of one policy on one access network,
each under a digest of its capture and truth. So a run that was interrupted or repeated, or that has
one capture more, simulates only what is missing.
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
from typing import TYPE_CHECKING, NamedTuple, SupportsFloat, SupportsInt, TypedDict

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

#: Raise when the content of a file of shares changes its meaning.
CELL_FORMAT = 5
#: Seconds of simulation after which the finished shares of a cell are written to its file.
KEEP_EVERY_S = 5.0
Outcome = CellOutcome
#: Capture group -> kind of traffic -> counts of `count_hits`.
Hits = dict[str, dict[str, list[int]]]


class Share(TypedDict):
    """One capture's part of an outcome, as plain values.

    sha256: of the capture; hits: kind of traffic -> counts of `count_hits`, empty for a capture
    whose innocent flows do not count; seconds: wall time of its simulations.
    """

    sha256: str
    calls: list[CallEntry]
    hits: dict[str, list[int]]
    seconds: float


#: Shares by the keys of their captures (`capture_key`).
Shares = dict[str, Share]


class Unit(NamedTuple):
    """One policy on one access network.

    key: of the outcome over all captures; rules: of the file of its shares; ready: the shares that
    the cache has.
    """

    key: str
    rules: str
    policy: Policy | None
    access: str
    ready: Shares


def cache_folder() -> Path:
    """Return the folder of finished cells in the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home) / "midcall" / "cells"


def rules_key(
    policy: Policy | None,
    access: str,
    seed: int,
    link: str = "captured",
    seconds: float | None = None,
) -> str:
    """Return the sha256 (hex) of what a share depends on besides its capture."""
    return _digest(
        {
            "format": CELL_FORMAT,
            "code": code_digest(),
            "policy": policy_text(policy),
            "access": access,
            "seed": seed,
            "link": link,
            "seconds": seconds,
        }
    )


def capture_key(item: Item) -> str:
    """Return the sha256 (hex) of what a share depends on of its capture: bytes, truth, standing.

    The catalogue entry of an added capture is not part of the code's digest, so what a share
    depends on of the entry is here. The capture group is not: `Bench.assembled` reads it.
    """
    one = item.capture
    standing = sorted(one.changed), item.innocent, counts(item)
    return _digest([one.sha256, item.truth_digest(), *standing])


def unit_key(rules: str, captures: Sequence[str]) -> str:
    """Return the sha256 (hex) of everything the outcome of a policy over captures depends on.

    rules: a `rules_key`; captures: the `capture_key` of each.
    """
    return _digest([rules, *captures])


def _digest(depends: object) -> str:
    return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()


def policy_text(policy: Policy | None) -> str:
    """Return a policy's rules as text that is equal for equal rules."""
    return repr(policy)


def cached(folder: Path | None, key: str) -> Json:
    """Return what `keep` wrote under a key, None where there is nothing or it is damaged."""
    if folder is None:
        return None
    try:
        outcome = json.loads((folder / key[:2] / f"{key}.json").read_bytes())
    except (OSError, ValueError):
        return None
    return outcome if isinstance(outcome, dict) and outcome.get("key") == key else None


def keep(folder: Path, outcome: Mapping[str, object]) -> None:
    """Write finished work, whole or not at all; on a full disk it is not kept.

    outcome: plain values, its key under "key".
    """
    key = str(outcome["key"])
    with suppress(OSError):
        write_atomically(folder / key[:2] / f"{key}.json", json.dumps(outcome).encode())


def kept_shares(folder: Path | None, rules: str) -> Shares:
    """Return the shares in the file of a `rules_key`, none where it is missing or damaged."""
    file = cached(folder, rules)
    shares: Shares = file.get("shares", {}) if file is not None else {}
    return shares


def keep_shares(folder: Path, rules: str, shares: Shares) -> None:
    """Add shares to the file of a `rules_key`; other shares of the same captures are dropped.

    Of two processes that add to one file in the same moment, the additions of one can be lost:
    they are simulated again where they are needed.
    """
    new = {share["sha256"] for share in shares.values()}
    old = kept_shares(folder, rules)
    others = {key: share for key, share in old.items() if share["sha256"] not in new}
    keep(folder, {"key": rules, "shares": others | shares})


class Bench:
    """The captures of a run, opened once per process, and the controls already simulated.

    A control is the same capture, access network and seed under no rules; verdicts are the
    difference from it. Controls of one access network are kept at a time. Shares are kept in
    `folder`; with None the caller keeps them.
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
        self.keys = [capture_key(item) for item in self.items]
        self._opened: dict[str, Cut] = {}
        self._controls: dict[str, Simulation] = {}
        self._access = ""

    def unit(self, policy: Policy | None, access: str, reuse: bool = True) -> Unit:
        """Return a policy on an access network as a unit; reuse: with the shares of the cache."""
        rules = rules_key(policy, access, self.seed, self.link, self.seconds)
        kept = kept_shares(self.folder, rules) if reuse else {}
        ready = {key: kept[key] for key in self.keys if key in kept}
        return Unit(unit_key(rules, self.keys), rules, policy, access, ready)

    def missing(self, unit: Unit) -> list[Item]:
        """Return the captures of which a unit has no share."""
        pairs = zip(self.items, self.keys, strict=True)
        return [item for item, key in pairs if key not in unit.ready]

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

    def shares(self, unit: Unit) -> Shares:
        """Simulate the captures of which a unit has no share, and keep their shares.

        Finished shares are kept although a later capture fails. A note of an error names the
        capture.
        """
        made: Shares = {}
        new: Shares = {}
        kept_at = time.monotonic()
        try:
            for item, key in zip(self.items, self.keys, strict=True):
                if key in unit.ready:
                    continue
                new[key] = self.share(item, unit)
                if time.monotonic() - kept_at >= KEEP_EVERY_S:
                    self.keep(unit, new)
                    made |= new
                    new, kept_at = {}, time.monotonic()
        finally:
            self.keep(unit, new)
        return made | new

    def share(self, item: Item, unit: Unit) -> Share:
        """Simulate one capture; a note of an error names it."""
        begin = time.perf_counter()
        try:
            calls, hits = self._judged(self.opened(item).item, unit)
        except Exception as error:
            error.add_note(f"capture {item.capture.name}")
            raise
        spent = time.perf_counter() - begin
        return {"sha256": item.capture.sha256, "calls": calls, "hits": hits, "seconds": spent}

    def keep(self, unit: Unit, shares: Shares) -> None:
        """Add shares of a unit to the cache, if there is one."""
        if self.folder is not None and shares:
            keep_shares(self.folder, unit.rules, shares)

    def assembled(self, unit: Unit, shares: Shares) -> Outcome:
        """Return the outcome of a unit over all captures; shares: those that it lacked.

        Raises KeyError for a share that is missing.
        """
        every = unit.ready | shares
        calls: list[CallEntry] = []
        hits = no_hits()
        spent = 0.0
        for item, key in zip(self.items, self.keys, strict=True):
            share = every[key]
            calls += share["calls"]
            spent += share["seconds"]
            for kind, own in share["hits"].items():
                total = hits[item.capture.group][kind]
                total[:] = [a + b for a, b in zip(total, own, strict=True)]
        return {
            "key": unit.key,
            "calls": calls,
            "collateral": collateral_of(collateral.merged(hits)),
            "groups": collateral.of_groups(hits),
            "seconds": spent,
        }

    def outcome(self, unit: Unit) -> Outcome:
        """Return the outcome of a unit over all captures; simulates those it has no share of."""
        return self.assembled(unit, self.shares(unit))

    def _judged(self, item: Item, unit: Unit) -> tuple[list[CallEntry], dict[str, list[int]]]:
        from midcall.testbed.assess.call_verdict import judge

        control = self.control(item, unit.access)
        simulation = self.run(item, unit.policy, unit.access)
        calls = [
            call_entry(
                item,
                call,
                judge(simulation, control, call, item.capture.changed),
                simulation,
                control,
            )
            for call in item.calls
        ]
        hits: dict[str, list[int]] = defaultdict(lambda: [0, 0, 0, 0, 0])
        readable = not reads(unit.policy) & set(item.capture.changed)
        if counts(item):
            packets = self.opened(item).packets
            count_hits(item, packets, simulation, control, hits, readable)
        return calls, dict(hits)


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
    return defaultdict(lambda: defaultdict(lambda: [0, 0, 0, 0, 0]))


def collateral_of(hits: Mapping[str, list[int]]) -> list[KindHits]:
    """Return the counts of `count_hits` by kind of traffic as rows."""
    return [
        {
            "protocol": kind,
            "flows": counts[0],
            "hit": counts[1],
            "bytes": counts[2],
            "bytes_hit": counts[3],
            "untested": counts[4],
        }
        for kind, counts in sorted(hits.items())
    ]


def count_hits(
    item: Item,
    packets: Packets,
    simulation: Simulation,
    control: Simulation,
    hits: dict[str, list[int]],
    readable: bool = True,
) -> None:
    """Add the innocent flows of a capture, and those that the policy hit, to `hits`.

    In an innocent capture every TCP and UDP flow is innocent; in a capture of a call, those
    labelled as chat or other traffic (of high or medium confidence). Flows that no router forwards
    are left out. A flow is hit when the box dropped or answered a packet of it, any copy of it, or
    when a packet that arrived under no rules does not arrive now: a flow that never starts after a
    false DNS answer is lost too. A flow is not tested where it does not reach the box under no
    rules, or where the capture is not readable: a rule reads a field that the capture changed. So
    flows and untested flows add up to the same number under every policy and on every network.

    hits: kind of traffic -> [flows, hit, bytes, bytes that do not arrive, flows not tested]; the
    first four are of the flows that are tested.
    """
    from midcall.testbed.replay.sides import places

    index = control.script.held
    numbers, local = index.facts["flow"], places(index.flows).local
    reached = np.asarray(control.flow) >= 0
    struck = simulation.struck & (simulation.fates["struck_rule"] >= 0)
    lost = control.delivered & ~simulation.delivered
    for number, kind in innocent_flows(item, index.flows, numbers).items():
        if local[number]:
            continue
        own, entry = numbers == number, hits[kind]
        if not readable or not (own & reached).any():
            entry[4] += 1
            continue
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
