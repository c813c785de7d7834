# SPDX-License-Identifier: BSD-3-Clause
"""Wardrobe: calls in every dress (as captured, control arms, disguises) under every rule set.

A verdict is the difference from the same call in the same dress under no rules. One file per
capture and dress in the cache of cells holds what came of it, so that a repeated run reuses it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from midcall.captures.packets.pcap import Packets, read
from midcall.experiments.cells.virtual_cell import cached, keep, policy_text
from midcall.experiments.jobs.workers import alone, together
from midcall.experiments.measure.intervals import derived_seed
from midcall.experiments.results.provenance import code_digest
from midcall.experiments.spec.corpus import Item
from midcall.experiments.spec.grid import Cell

Row = dict[str, Any]

#: Raise when the content of a kept file changes its meaning.
FORMAT = 1
#: Media packets that a call must hold to take part: two seconds of voice, one way.
TALK = 100
#: Fewer outcomes than this are not worth processes that load everything anew.
FEW = 12
PLAIN, ARM, DISGUISE = "none", "arm", "disguise"


class Dressing(NamedTuple):
    """One way to dress a call: its name, which sort it is, what it does and needs, in words."""

    name: str
    sort: str
    says: str
    needs: str


def dressings(arms: bool, disguises: bool) -> list[Dressing]:
    """Return the dresses that a spec asks for, the plain one first; [] for none."""
    from midcall.testbed.evasion.controls import ARMS
    from midcall.testbed.evasion.disguises import DISGUISES

    found = [Dressing(one.name, ARM, one.says, "") for one in ARMS] if arms else []
    if disguises:
        found += [Dressing(one.name, DISGUISE, one.says, one.needs) for one in DISGUISES]
    return [Dressing(PLAIN, PLAIN, "as captured", ""), *found] if found else []


def rule_sets(grid: Sequence[Cell]) -> list[Cell]:
    """Return the first cell of the grid in which each distinct set of rules is in force."""
    found: dict[tuple[str, str], Cell] = {}
    for cell in grid:
        if cell.documented and cell.policy.rules:
            found.setdefault((cell.access, policy_text(cell.policy)), cell)
    first = next(iter(found), ("", ""))[0]
    return [cell for (access, _), cell in found.items() if access == first]


# ---- one capture in one dress


def wear(name: str, packets: Packets, item: Item, seed: int) -> Any:
    """Return a capture in a dress (midcall.testbed.evasion.tunnel.Worn)."""
    from midcall.testbed.evasion import controls as arms
    from midcall.testbed.evasion.disguises import DISGUISES, disguised
    from midcall.testbed.evasion.rewriter import Dress
    from midcall.testbed.evasion.tunnel import Worn
    from midcall.testbed.replay.script import script

    for one in DISGUISES:
        if one.name == name:
            return disguised(one, packets, item.calls, seed)
    orders = script(packets, item.calls)
    dress = Dress(orders.held) if name == PLAIN else arms.arm(name).make(orders, seed)
    return Worn(orders, tuple(item.calls), dress)


def outcome(item: Item, name: str, sets: Sequence[Cell], base_seed: int, link: str) -> Row:
    """Play a capture's calls in one dress under every rule set; returns plain values."""
    from midcall.testbed.assess.call_verdict import judge
    from midcall.testbed.replay.simulator import simulate

    worn = wear(name, read(item.path), item, derived_seed(base_seed, item.capture.sha256, name))
    seed = derived_seed(base_seed, item.capture.sha256, sets[0].access)
    dressed = None if name == PLAIN else worn.dress.packets()

    def play(policy: Any, access: str) -> Any:
        return simulate(
            worn.script.held.packets, worn.calls, (), policy, access, seed, link=link,
            dressed=dressed, openings=worn.openings,
        )  # fmt: skip

    control = play(None, sets[0].access)
    calls = []
    for cell in sets:
        told = play(cell.policy, cell.access)
        for call in worn.calls:
            verdict = judge(told, control, call)
            calls.append(
                {
                    **cell.place(),
                    "call": call.id,
                    "verdict": verdict.verdict,
                    "blocked": verdict.blocked,
                    "rule": verdict.rule,
                    "media_lost": verdict.media_lost,
                    "mos": None if is_arm(name) else worst_mos(worn, told, call),
                }
            )
    costs = [] if is_arm(name) else [cost(worn, control, call) for call in worn.calls]
    return {"calls": calls, "costs": costs}


def is_arm(name: str) -> bool:
    """Tell whether a dress is a control arm, which costs nothing that anybody would pay."""
    from midcall.testbed.evasion.controls import ARMS

    return any(one.name == name for one in ARMS)


def own_packets(worn: Any, call: Any) -> Any:
    """Return which packets are of a call, and which of these its media: two masks."""
    part = next(one for one in worn.script.calls if one.id == call.id)
    own = np.isin(worn.script.flow, part.flows) & (worn.script.side <= 1)
    return own, own & (worn.script.media == 1)


def worst_mos(worn: Any, told: Any, call: Any) -> float | None:
    """Return the lower MOS of a voice call's two directions, None where none can be rated.

    What a disguise itself adds to the delay counts.
    """
    from midcall.testbed.assess.quality import hear

    if call.kind != "audio":
        return None
    _, media = own_packets(worn, call)
    shift = worn.dress.time - worn.script.held.packets.time
    came = told.fates["arrival_time"]
    found = []
    for side in (0, 1):
        own = np.flatnonzero(media & (worn.script.side == side))
        heard = hear(came[own] - told.one_way[own] - shift[own], came[own], True)
        if heard is not None and heard.mos is not None:
            found.append(heard.mos)
    return min(found) if found else None


def cost(worn: Any, control: Any, call: Any) -> Row:
    """Return what a dress costs a call without any rules: bytes, packets, delay.

    bytes_plain: of the call's IP packets as captured; bytes: as dressed, packets that the dress
    added in the call's flows (or for its tunnel) included; setup_ms: of a tunnel's handshake;
    delay_ms: mean wait of a media packet for its slot.
    """
    own, media = own_packets(worn, call)
    size, held = worn.dress.size, worn.script.held
    added = added_packets(worn, own)
    shift = (worn.dress.time - held.packets.time)[media]
    first = held.facts["ip_size"]
    return {
        "call": call.id,
        "bytes_plain": int(first[own].sum()),
        "bytes": int(size[own].sum() + size[added].sum()),
        "packets": int(own.sum()),
        "packets_added": int(added.sum()),
        "setup_ms": opening_ms(worn, control, own),
        "delay_ms": float(shift.mean()) / 1e6 if len(shift) else 0.0,
        "mos": worst_mos(worn, control, call),
    }


def added_packets(worn: Any, own: Any) -> Any:
    """Return which packets the dress added for a call: between its first and last, and doors."""
    added = np.array(worn.added, np.int64)
    mask = np.zeros(len(own), bool)
    if not own.any():
        return mask
    time = worn.dress.time
    begin, end = time[own].min(), time[own].max()
    doors = [one for one in worn.openings if own[one.inside].any()]
    lead = min((int(time[one.begin]) for one in doors), default=int(begin))
    inside = added[(time[added] >= min(begin, lead)) & (time[added] <= end)]
    mask[inside] = True
    return mask


def opening_ms(worn: Any, control: Any, own: Any) -> float:
    """Return how long the handshake of a call's tunnel took, 0 for no tunnel, in ms."""
    came, left = control.fates["arrival_time"], worn.dress.time
    took = [
        (int(came[one.by]) - int(left[one.begin])) / 1e6
        for one in worn.openings
        if own[one.inside].any() and came[one.by] >= 0
    ]
    return max(took, default=0.0)


# ---- all of them


def key_of(item: Item, dressing: str, sets: Sequence[Cell], seed: int, link: str) -> str:
    """Return the sha256 (hex) over everything an outcome depends on."""
    depends = {
        "format": FORMAT,
        "what": "dress",
        "code": code_digest(),
        "dress": dressing,
        "seed": seed,
        "link": link,
        "capture": (item.capture.sha256, item.truth_digest()),
        "sets": [(cell.place(), policy_text(cell.policy)) for cell in sets],
    }
    return hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()


class Wardrobe(NamedTuple):
    """What is to be played: captures with the calls that count, dresses, rule sets."""

    items: list[tuple[Item, list[str]]]
    dressings: list[Dressing]
    sets: list[Cell]
    seed: int
    link: str
    folder: Path

    def tasks(self) -> list[tuple[Item, str]]:
        """Return every capture in every dress."""
        return [(item, one.name) for item, _ in self.items for one in self.dressings]

    def played(
        self, step: Callable[[str], None], jobs: int = 1, force: bool = False
    ) -> tuple[dict[str, list[Row]], dict[str, list[str]]]:
        """Return rows `dressed` (a call in a dress under rules) and `dress_costs`, and by dress the
        errors of what failed, which has no rows."""
        found, failed = self.outcomes(step, jobs, force)
        rows: dict[str, list[Row]] = {"dressed": [], "dress_costs": []}
        errors: dict[str, list[str]] = {one.name: [] for one in self.dressings}
        for item, calls in self.items:
            for dressing in self.dressings:
                key = self.key(item, dressing.name)
                if key in failed:
                    words = f"{item.capture.name} {dressing.name}: {failed[key]}"
                    errors[dressing.name].append(words)
                    continue
                for table, name in (("calls", "dressed"), ("costs", "dress_costs")):
                    held = [one for one in found[key][table] if one["call"] in calls]
                    rows[name] += [self.row(item, dressing, one) for one in held]
        return rows, errors

    def row(self, item: Item, dressing: Dressing, about: Row) -> Row:
        """Return a row of a table: what is known of a call and its dress, then what was found."""
        call = next(one for one in item.calls if one.id == about["call"])
        place = {"dress": dressing.name, "sort": dressing.sort, "capture": item.capture.name}
        facts = {"synthetic": item.capture.synthetic, "app": call.app, "kind": call.kind}
        return {**place, **facts, **about}

    def outcomes(
        self, step: Callable[[str], None], jobs: int, force: bool
    ) -> tuple[dict[str, Row], dict[str, str]]:
        """Return every outcome by its key, from the cache or made on `jobs` processes; and errors.

        Outcomes that were made are kept in the cache.
        """
        found: dict[str, Row] = {}
        missing = []
        for item, name in self.tasks():
            kept = None if force else cached(self.folder, self.key(item, name))
            if kept is None:
                missing.append((item, name))
            else:
                found[kept["key"]] = kept
                step(f"{item.capture.name} {name}")
        few = jobs <= 1 or len(missing) < FEW
        work = alone(self.made, missing) if few else together(self.made, missing, jobs)
        failed: dict[str, str] = {}
        for (item, name), row, error in work:
            if row is not None:
                found[row["key"]] = row
            else:
                failed[self.key(item, name)] = error
            step(f"{item.capture.name} {name}")
        return found, failed

    def key(self, item: Item, name: str) -> str:
        """Return the name of an outcome in the cache."""
        return key_of(item, name, self.sets, self.seed, self.link)

    def made(self, task: tuple[Item, str]) -> Row:
        """Make and keep the outcome of a capture in a dress."""
        item, name = task
        told = {"key": self.key(item, name), **outcome(item, name, self.sets, self.seed, self.link)}
        keep(self.folder, told)
        return told


def talks(item: Item, calls: Sequence[str]) -> list[str]:
    """Return the calls whose capture holds media enough to tell whether a talk goes on."""
    from midcall.testbed.replay.script import script

    orders = script(read(item.path), item.calls)
    media = {
        part.id: int((np.isin(orders.flow, part.flows) & (orders.media == 1)).sum())
        for part in orders.calls
    }
    return [call for call in calls if media.get(call, 0) >= TALK]
