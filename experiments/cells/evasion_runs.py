# SPDX-License-Identifier: BSD-3-Clause
"""Calls in every variant (as captured, control arms, disguises) under every rule set.

A verdict is the difference from the same call in the same variant under no rules. One file per
capture and variant in the cache of cells has the outcome, so that a repeated run reuses it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypedDict

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.pcap import Packets, read
from midcall.captures.truth.calls import Call
from midcall.experiments.cells.virtual_cell import cached, keep, policy_text
from midcall.experiments.jobs.workers import run_here, run_in_pool
from midcall.experiments.measure.intervals import derived_seed
from midcall.experiments.results.provenance import code_digest
from midcall.experiments.results.tables import (
    Dress,
    DressCost,
    DressCostRow,
    DressedRow,
    DressVerdict,
    Tables,
)
from midcall.experiments.spec.corpus import Item
from midcall.experiments.spec.grid import Cell

if TYPE_CHECKING:
    from midcall.testbed.evasion.tunnel import Rewritten
    from midcall.testbed.policy.operator import Policy
    from midcall.testbed.replay.simulator import Simulation

#: Raise when the content of a kept file changes its meaning.
FORMAT = 1
#: Media packets that a call must have to take part: two seconds of voice, one way.
TALK = 100
#: With fewer outcomes than this no processes are started, because each loads everything again.
FEW = 12
PLAIN, ARM, DISGUISE = "none", "arm", "disguise"

Mask = NDArray[np.bool_]


class Outcome(TypedDict):
    """The verdicts on a capture's calls in one variant under every rule set, and its costs."""

    calls: list[DressVerdict]
    costs: list[DressCost]


class KeptOutcome(Outcome):
    """An outcome with its key in the cache."""

    key: str


class Variant(NamedTuple):
    """A variant of a call: its name, its sort, and what it does and needs as text."""

    name: str
    sort: str
    says: str
    needs: str


def variants(arms: bool, disguises: bool) -> list[Variant]:
    """Return the variants that a spec asks for, the captured one first; [] for none."""
    from midcall.testbed.evasion.controls import ARMS
    from midcall.testbed.evasion.disguises import DISGUISES

    variants = [Variant(one.name, ARM, one.says, "") for one in ARMS] if arms else []
    if disguises:
        variants += [Variant(one.name, DISGUISE, one.says, one.needs) for one in DISGUISES]
    return [Variant(PLAIN, PLAIN, "as captured", ""), *variants] if variants else []


def rule_sets(grid: Sequence[Cell]) -> list[Cell]:
    """Return the first cell of the grid in which each distinct set of rules is in force."""
    sets: dict[tuple[str, str], Cell] = {}
    for cell in grid:
        if cell.documented and cell.policy.rules:
            sets.setdefault((cell.access, policy_text(cell.policy)), cell)
    first = next(iter(sets), ("", ""))[0]
    return [cell for (access, _), cell in sets.items() if access == first]


# ---- one capture in one variant


def rewrite(name: str, packets: Packets, item: Item, seed: int) -> Rewritten:
    """Return a capture as rewritten by the variant of a name."""
    from midcall.testbed.evasion import controls as arms
    from midcall.testbed.evasion.disguises import DISGUISES, disguised
    from midcall.testbed.evasion.rewriter import Rewriter
    from midcall.testbed.evasion.tunnel import Rewritten
    from midcall.testbed.evasion.workarounds import WORKAROUNDS
    from midcall.testbed.replay.script import script

    for one in (*DISGUISES, *WORKAROUNDS):
        if one.name == name:
            return disguised(one, packets, item.calls, seed)
    orders = script(packets, item.calls)
    dress = Rewriter(orders.held) if name == PLAIN else arms.arm(name).make(orders, seed)
    return Rewritten(orders, tuple(item.calls), dress)


def outcome(item: Item, name: str, sets: Sequence[Cell], base_seed: int, link: str) -> Outcome:
    """Play a capture's calls in one variant under every rule set; returns plain values."""
    from midcall.testbed.assess.call_verdict import judge
    from midcall.testbed.replay.simulator import simulate

    variant = rewrite(
        name, read(item.path), item, derived_seed(base_seed, item.capture.sha256, name)
    )
    seed = derived_seed(base_seed, item.capture.sha256, sets[0].access)
    rewritten = None if name == PLAIN else variant.dress.packets()

    def play(policy: Policy | None, access: str) -> Simulation:
        return simulate(
            variant.script.held.packets, variant.calls, (), policy, access, seed, link=link,
            dressed=rewritten, openings=variant.openings,
        )  # fmt: skip

    control = play(None, sets[0].access)
    calls: list[DressVerdict] = []
    for cell in sets:
        simulation = play(cell.policy, cell.access)
        for call in variant.calls:
            verdict = judge(simulation, control, call)
            calls.append(
                {
                    **cell.place(),
                    "call": call.id,
                    "verdict": verdict.verdict,
                    "blocked": verdict.blocked,
                    "rule": verdict.rule,
                    "media_lost": verdict.media_lost,
                    "mos": None if is_arm(name) else worst_mos(variant, simulation, call),
                }
            )
    costs = [] if is_arm(name) else [cost(variant, control, call) for call in variant.calls]
    return {"calls": calls, "costs": costs}


def is_arm(name: str) -> bool:
    """Return whether a variant is a control arm, whose costs are not measured."""
    from midcall.testbed.evasion.controls import ARMS

    return any(one.name == name for one in ARMS)


def own_packets(variant: Rewritten, call: Call) -> tuple[Mask, Mask]:
    """Return bool[packets]: those of a call, and those of its media."""
    part = next(one for one in variant.script.calls if one.id == call.id)
    own = np.isin(variant.script.flow, part.flows) & (variant.script.side <= 1)
    return own, own & (variant.script.media == 1)


def worst_mos(variant: Rewritten, simulation: Simulation, call: Call) -> float | None:
    """Return the lower MOS of a voice call's two directions, None where none can be rated.

    The delay that a disguise itself adds counts.
    """
    from midcall.testbed.assess.quality import hear

    if call.kind != "audio":
        return None
    _, media = own_packets(variant, call)
    shift = variant.dress.time - variant.script.held.packets.time
    came = simulation.fates["arrival_time"]
    ratings = []
    for side in (0, 1):
        own = np.flatnonzero(media & (variant.script.side == side))
        quality = hear(came[own] - simulation.one_way[own] - shift[own], came[own], True)
        if quality is not None and quality.mos is not None:
            ratings.append(quality.mos)
    return min(ratings) if ratings else None


def cost(variant: Rewritten, control: Simulation, call: Call) -> DressCost:
    """Return the cost of a variant for a call without any rules: bytes, packets, delay.

    bytes_plain: of the call's IP packets as captured; bytes: as rewritten, including packets that
    the variant added in the call's flows (or for its tunnel); setup_ms: of a tunnel's handshake;
    delay_ms: mean wait of a media packet for its slot.
    """
    own, media = own_packets(variant, call)
    size, index = variant.dress.size, variant.script.held
    added = added_packets(variant, own)
    shift = (variant.dress.time - index.packets.time)[media]
    captured = index.facts["ip_size"]
    return {
        "call": call.id,
        "bytes_plain": int(captured[own].sum()),
        "bytes": int(size[own].sum() + size[added].sum()),
        "packets": int(own.sum()),
        "packets_added": int(added.sum()),
        "setup_ms": opening_ms(variant, control, own),
        "delay_ms": float(shift.mean()) / 1e6 if len(shift) else 0.0,
        "mos": worst_mos(variant, control, call),
    }


def added_packets(variant: Rewritten, own: Mask) -> Mask:
    """Return bool[packets]: those that the variant added for a call.

    They are between the call's first and last packet, or of its tunnel's handshake. own:
    bool[packets], those of the call.
    """
    added = np.array(variant.added, np.int64)
    mask = np.zeros(len(own), bool)
    if not own.any():
        return mask
    time = variant.dress.time
    begin, end = time[own].min(), time[own].max()
    handshakes = [one for one in variant.openings if own[one.inside].any()]
    lead = min((int(time[one.begin]) for one in handshakes), default=int(begin))
    inside = added[(time[added] >= min(begin, lead)) & (time[added] <= end)]
    mask[inside] = True
    return mask


def opening_ms(variant: Rewritten, control: Simulation, own: Mask) -> float:
    """Return the duration of the handshake of a call's tunnel in ms, 0 for no tunnel.

    own: bool[packets], those of the call.
    """
    came, left = control.fates["arrival_time"], variant.dress.time
    took = [
        (int(came[one.by]) - int(left[one.begin])) / 1e6
        for one in variant.openings
        if own[one.inside].any() and came[one.by] >= 0
    ]
    return max(took, default=0.0)


# ---- all captures in all variants


def key_of(item: Item, dressing: str, sets: Sequence[Cell], seed: int, link: str) -> str:
    """Return the sha256 (hex) of everything that an outcome depends on."""
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


class EvasionRuns(NamedTuple):
    """The runs to play: captures with the calls that count, variants, rule sets."""

    items: list[tuple[Item, list[str]]]
    dressings: list[Variant]
    sets: list[Cell]
    seed: int
    link: str
    folder: Path

    def tasks(self) -> list[tuple[Item, str]]:
        """Return every capture in every variant."""
        return [(item, one.name) for item, _ in self.items for one in self.dressings]

    def played(
        self, step: Callable[[str], None], jobs: int = 1, force: bool = False
    ) -> tuple[Tables, dict[str, list[str]]]:
        """Return the tables `dressed` (a call in a variant under a rule set) and `dress_costs`, and
        the errors by variant: a run that failed has no rows."""
        outcomes, failed = self.outcomes(step, jobs, force)
        dressed: list[DressedRow] = []
        dress_costs: list[DressCostRow] = []
        errors: dict[str, list[str]] = {one.name: [] for one in self.dressings}
        for item, calls in self.items:
            for variant in self.dressings:
                key = self.key(item, variant.name)
                if key in failed:
                    message = f"{item.capture.name} {variant.name}: {failed[key]}"
                    errors[variant.name].append(message)
                    continue
                dressed += [
                    {**self.facts(item, variant, one["call"]), **one}
                    for one in outcomes[key]["calls"]
                    if one["call"] in calls
                ]
                dress_costs += [
                    {**self.facts(item, variant, one["call"]), **one}
                    for one in outcomes[key]["costs"]
                    if one["call"] in calls
                ]
        return {"dressed": dressed, "dress_costs": dress_costs}, errors

    def facts(self, item: Item, variant: Variant, name: str) -> Dress:
        """Return the columns of a variant, a capture and one of its calls."""
        call = next(one for one in item.calls if one.id == name)
        return {
            "dress": variant.name,
            "sort": variant.sort,
            "capture": item.capture.name,
            "synthetic": item.capture.synthetic,
            "app": call.app,
            "kind": call.kind,
        }

    def outcomes(
        self, step: Callable[[str], None], jobs: int, force: bool
    ) -> tuple[dict[str, KeptOutcome], dict[str, str]]:
        """Return every outcome by its key, from the cache or made on `jobs` processes; and errors.

        Outcomes that were made are kept in the cache.
        """
        outcomes: dict[str, KeptOutcome] = {}
        missing = []
        for item, name in self.tasks():
            kept: KeptOutcome | None = None if force else cached(self.folder, self.key(item, name))
            if kept is None:
                missing.append((item, name))
            else:
                outcomes[kept["key"]] = kept
                step(f"{item.capture.name} {name}")
        few = jobs <= 1 or len(missing) < FEW
        work = run_here(self.made, missing) if few else run_in_pool(self.made, missing, jobs)
        failed: dict[str, str] = {}
        for (item, name), result, error in work:
            if result is not None:
                outcomes[result["key"]] = result
            else:
                failed[self.key(item, name)] = error
            step(f"{item.capture.name} {name}")
        return outcomes, failed

    def key(self, item: Item, name: str) -> str:
        """Return the name of an outcome in the cache."""
        return key_of(item, name, self.sets, self.seed, self.link)

    def made(self, task: tuple[Item, str]) -> KeptOutcome:
        """Make and keep the outcome of a capture in a variant."""
        item, name = task
        result: KeptOutcome = {
            "key": self.key(item, name),
            **outcome(item, name, self.sets, self.seed, self.link),
        }
        keep(self.folder, result)
        return result


def playable_calls(item: Item, calls: Sequence[str]) -> list[str]:
    """Return the calls of a capture with enough media to take part (TALK)."""
    from midcall.testbed.replay.script import script

    orders = script(read(item.path), item.calls)
    media = {
        part.id: int((np.isin(orders.flow, part.flows) & (orders.media == 1)).sum())
        for part in orders.calls
    }
    return [call for call in calls if media.get(call, 0) >= TALK]
