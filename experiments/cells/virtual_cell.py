# SPDX-License-Identifier: BSD-3-Clause
"""The simulations behind cells: one policy on one access network, over all captures of a run.

Cells whose rules come out the same (every date before the block, say) share one simulation. Its
outcome is one atomic file in a cache, named by a digest of everything it depends on, so a run that
was interrupted, or repeated, computes only what is missing.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from midcall.captures.packets.pcap import Packets, read
from midcall.experiments.measure import collateral, timelines
from midcall.experiments.measure.intervals import derived_seed
from midcall.experiments.results.provenance import code_digest
from midcall.experiments.results.schema import write_atomically
from midcall.experiments.spec.corpus import Item, counts
from midcall.experiments.spec.truncate import Cut, cut

#: Raise when the content of a cell's file changes its meaning.
CELL_FORMAT = 3
Outcome = dict[str, Any]
Hits = dict[str, dict[str, list[int]]]


class Unit(NamedTuple):
    """One simulation to do: its key, the rules and the access network."""

    key: str
    policy: Any
    access: str


def cache_folder() -> Path:
    """Return where finished cells are kept: the user's cache."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(home) / "midcall" / "cells"


def unit_key(
    policy: Any,
    access: str,
    seed: int,
    items: Sequence[Item],
    link: str = "captured",
    seconds: float | None = None,
) -> str:
    """Return the sha256 (hex) over everything the simulation's outcome depends on."""
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


def policy_text(policy: Any) -> str:
    """Return a policy's rules as text that is equal for equal rules."""
    return repr(policy)


def cached(folder: Path | None, key: str) -> Outcome | None:
    """Return a finished simulation, None where there is none (or its file is damaged)."""
    if folder is None:
        return None
    try:
        outcome = json.loads((folder / key[:2] / f"{key}.json").read_bytes())
    except (OSError, ValueError):
        return None
    return outcome if isinstance(outcome, dict) and outcome.get("key") == key else None


def keep(folder: Path, outcome: Outcome) -> None:
    """Write a finished simulation, whole or not at all; a full disk only costs its reuse."""
    key = outcome["key"]
    with suppress(OSError):
        write_atomically(folder / key[:2] / f"{key}.json", json.dumps(outcome).encode())


class Bench:
    """The captures of a run, opened once per process, and the controls already simulated.

    A control is the same capture, access network and seed under no rules; verdicts are the
    difference from it. Controls of one access network are kept at a time. Finished simulations
    are kept in `folder`, None where whoever asked keeps them.
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
        self._controls: dict[str, Any] = {}
        self._access = ""

    def opened(self, item: Item) -> Cut:
        """Return the capture's packets, calls and labels, cut where the run cuts."""
        sha256 = item.capture.sha256
        if sha256 not in self._opened:
            self._opened[sha256] = cut(item, read(item.path), self.seconds)
        return self._opened[sha256]

    def run(self, item: Item, policy: Any, access: str) -> Any:
        """Simulate one capture; the seed is derived from names, never from the order of work."""
        from midcall.testbed.replay.simulator import simulate

        seed = derived_seed(self.seed, item.capture.sha256, access)
        packets = self.opened(item).packets
        return simulate(packets, item.calls, item.labels, policy, access, seed, link=self.link)

    def control(self, item: Item, access: str) -> Any:
        """Return the capture's simulation under no rules."""
        if access != self._access:
            self._controls, self._access = {}, access
        sha256 = item.capture.sha256
        if sha256 not in self._controls:
            self._controls[sha256] = self.run(item, None, access)
        return self._controls[sha256]

    def outcome(self, unit: Unit) -> Outcome:
        """Do one simulation and keep its outcome. A capture that fails is named in the error."""
        begin = time.perf_counter()
        calls: list[dict[str, Any]] = []
        hits = no_hits()
        for item in self.items:
            try:
                self._one(self.opened(item).item, unit, calls, hits)
            except Exception as error:
                error.add_note(f"capture {item.capture.name}")
                raise
        done = {
            "key": unit.key,
            "calls": calls,
            "collateral": collateral_of(collateral.merged(hits)),
            "groups": collateral.of_groups(hits),
            "seconds": time.perf_counter() - begin,
        }
        if self.folder is not None:
            keep(self.folder, done)
        return done

    def _one(self, item: Item, unit: Unit, calls: list[dict[str, Any]], hits: Hits) -> None:
        from midcall.testbed.assess.call_verdict import judge

        control = self.control(item, unit.access)
        simulation = self.run(item, unit.policy, unit.access)
        for call in item.calls:
            told = judge(simulation, control, call, item.capture.changed)
            shown = timelines.entry(simulation, control, call, told)
            lost = collateral.entry(simulation, control, call)
            calls.append(call_entry(item, call.id, told) | {"timeline": shown, "loss": lost})
        readable = not reads(unit.policy) & set(item.capture.changed)
        if counts(item) and readable:
            own = hits[item.capture.group]
            count_hits(item, self.opened(item).packets, simulation, control, own)


def reads(policy: Any) -> frozenset[str]:
    """Return what the rules of a policy read (midcall.testbed.policy.language.Rule.reads)."""
    rules = () if policy is None else policy.rules
    return frozenset[str]().union(*(rule.reads for rule in rules))


def call_entry(item: Item, call: str, told: Any) -> dict[str, Any]:
    """Return a call verdict as plain values."""
    return {
        "sha256": item.capture.sha256,
        "call": call,
        "verdict": str(told.verdict),
        "blocked": bool(told.blocked),
        "usable": None if told.usable is None else bool(told.usable),
        "rule": told.rule or None,
        "packets_to_block": _whole(told.packets_to_block),
        "ms_to_block": _real(told.ms_to_block),
        "media_sent": _whole(told.media_sent),
        "media_delivered": _whole(told.media_delivered),
        "media_control": _whole(told.media_control),
        "media_lost": _real(told.media_lost),
        "reason": str(told.reason),
    }


def _whole(value: Any) -> int | None:
    return None if value is None else int(value)


def _real(value: Any) -> float | None:
    return None if value is None else float(value)


# ---- bystanders


def no_hits() -> Hits:
    """Return nothing counted yet: capture group -> kind of traffic -> counts of `count_hits`."""
    return defaultdict(lambda: defaultdict(lambda: [0, 0, 0, 0]))


def collateral_of(hits: dict[str, list[int]]) -> list[dict[str, Any]]:
    """Return what `count_hits` added up as rows by kind of traffic."""
    names = ("protocol", "flows", "hit", "bytes", "bytes_hit")
    return [dict(zip(names, (kind, *held), strict=True)) for kind, held in sorted(hits.items())]


def count_hits(
    item: Item, packets: Packets, simulation: Any, control: Any, hits: dict[str, list[int]]
) -> None:
    """Add up the innocent flows of a capture and those that the policy hit.

    In an innocent capture every TCP and UDP flow is innocent; in a capture of a call, those
    labelled as chat or other traffic (of high or medium confidence). Flows are those of the
    control. One is hit when the box dropped or answered a packet of it, any copy of it, or when a
    packet that arrived under no rules does not arrive now: what never starts after a false DNS
    answer is lost too. `hits` maps a kind of traffic to [flows, hit, bytes, bytes that do not
    arrive].
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


def innocent_flows(item: Item, flows: Any, numbers: Any) -> dict[int, str]:
    """Return flow number -> kind of traffic for the innocent flows of a capture."""
    if item.innocent:
        found = {}
        for number in np.unique(numbers[numbers >= 0]):
            kind = transport_kind(flows[number])
            if kind is not None:
                found[int(number)] = kind
        return found
    found = {}
    for label in item.labels:
        quiet = label.role in ("messaging", "other") and label.confidence in ("high", "medium")
        number = int(numbers[label.frame - 1]) if 0 < label.frame <= len(numbers) else -1
        if quiet and number >= 0:
            kind = transport_kind(flows[number])
            if label.role == "messaging":
                kind = f"chat of {label.app}"
            if kind is not None:
                found[number] = kind
    return found


_SERVICES = {53: "dns", 80: "http", 123: "ntp", 443: "web", 5060: "sip port", 3478: "stun port"}


def transport_kind(flow: Any) -> str | None:
    """Name a flow by its transport and well-known port; None for neither TCP nor UDP."""
    proto = {6: "tcp", 17: "udp"}.get(int(flow["proto"]))
    if proto is None:
        return None
    for port in (int(flow["target_port"]), int(flow["source_port"])):
        if port in _SERVICES:
            name = "quic" if port == 443 and proto == "udp" else _SERVICES[port]
            return f"{name} ({proto} {port})"
    return f"other {proto}"
