# SPDX-License-Identifier: BSD-3-Clause
"""Disguises and control arms in a run: every call of the spec in every dress, under every rule set.

A verdict is the difference from the same call in the same dress under no rules. One file per
capture and dress in the cache of cells holds what came of it, so that a repeated run reuses it.
"""

from __future__ import annotations

import hashlib
import json
import statistics
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from captures.pcap import Packets, read
from experiments.corpus import Item
from experiments.grid import Cell
from experiments.provenance import code_digest
from experiments.simulate import cached, keep, policy_text
from experiments.statistics import derived_seed, ratio, share_interval

Row = dict[str, Any]

#: Raise when the content of a kept file changes its meaning.
FORMAT = 1
#: A rule follows a disguise where it blocks at least this share of the calls that wear it.
FOLLOWS = 0.9
PLAIN, ARM, DISGUISE = "none", "arm", "disguise"


class Dressing(NamedTuple):
    """One way to dress a call: its name, which sort it is, what it does and needs, in words."""

    name: str
    sort: str
    says: str
    needs: str


class Told(NamedTuple):
    """What came of all calls in all dresses: rows of two tables, and `disguises` of summary.json."""

    tables: dict[str, list[Row]]
    summary: list[Row]


def dressings(arms: bool, disguises: bool) -> list[Dressing]:
    """Return the dresses that a spec asks for, the plain one first; [] for none."""
    from testbed.arms import ARMS
    from testbed.disguises import DISGUISES

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
    """Return a capture in a dress (testbed.tunnel.Worn)."""
    from testbed import arms
    from testbed.disguises import DISGUISES, disguised
    from testbed.dress import Dress
    from testbed.replay import script
    from testbed.tunnel import Worn

    for one in DISGUISES:
        if one.name == name:
            return disguised(one, packets, item.calls, seed)
    orders = script(packets, item.calls)
    dress = Dress(orders.held) if name == PLAIN else arms.arm(name).make(orders, seed)
    return Worn(orders, tuple(item.calls), dress)


def outcome(item: Item, name: str, sets: Sequence[Cell], base_seed: int, link: str) -> Row:
    """Play a capture's calls in one dress under every rule set; returns plain values."""
    from testbed.call import judge
    from testbed.virtual import simulate

    seed = derived_seed(base_seed, item.capture.sha256, name)
    worn = wear(name, read(item.path), item, seed)
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
                    "mos": worst_mos(worn, told, call),
                }
            )
    costs = [cost(worn, control, call) for call in worn.calls]
    return {"calls": calls, "costs": costs}


def own_packets(worn: Any, call: Any) -> Any:
    """Return which packets are of a call, and which of these its media: two masks."""
    part = next(one for one in worn.script.calls if one.id == call.id)
    own = np.isin(worn.script.flow, part.flows) & (worn.script.side <= 1)
    return own, own & (worn.script.media == 1)


def worst_mos(worn: Any, told: Any, call: Any) -> float | None:
    """Return the lower MOS of a voice call's two directions, None where none can be rated.

    What the disguise itself adds to the delay counts.
    """
    from testbed.quality import hear

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

    def played(self, step: Callable[[str], None], force: bool = False) -> dict[str, list[Row]]:
        """Return rows `dressed` (a call in a dress under rules) and `dress_costs`."""
        rows: dict[str, list[Row]] = {"dressed": [], "dress_costs": []}
        for item, calls in self.items:
            for dressing in self.dressings:
                told = self.one(item, dressing.name, force)
                facts = {call.id: call for call in item.calls}
                for table, name in (("calls", "dressed"), ("costs", "dress_costs")):
                    rows[name] += [
                        {
                            "dress": dressing.name,
                            "sort": dressing.sort,
                            "capture": item.capture.name,
                            "synthetic": item.capture.synthetic,
                            "app": facts[one["call"]].app,
                            "kind": facts[one["call"]].kind,
                            **one,
                        }
                        for one in told[table]
                        if one["call"] in calls
                    ]
                step(f"{item.capture.name} {dressing.name}")
        return rows

    def one(self, item: Item, name: str, force: bool) -> Row:
        """Return a capture's outcome in a dress, from the cache where it is there."""
        key = key_of(item, name, self.sets, self.seed, self.link)
        found = None if force else cached(self.folder, key)
        if found is None:
            found = {"key": key, **outcome(item, name, self.sets, self.seed, self.link)}
            keep(self.folder, found)
        return found


# ---- in figures


def counted(rows: Sequence[Mapping[str, Any]]) -> Row:
    """Return n, blocked, inconclusive of some rows, and the median MOS of what gets through."""
    valid = [row for row in rows if row["verdict"] != "INVALID"]
    blocked = sum(row["blocked"] for row in valid)
    unclear = sum(row["verdict"] == "INCONCLUSIVE" for row in valid)
    through = [
        row["mos"]
        for row in valid
        if row["mos"] is not None and not row["blocked"] and row["verdict"] != "INCONCLUSIVE"
    ]
    return {
        "n": len(valid),
        "blocked": blocked,
        "inconclusive": unclear,
        "degraded": sum(row["verdict"] == "DEGRADED" for row in valid),
        "mos": statistics.median(through) if through else None,
        "mos_n": len(through),
    }


def figures(
    held: Sequence[Dressing], tables: Mapping[str, Sequence[Row]], collateral: Sequence[Row]
) -> list[Row]:
    """Return `disguises` of summary.json: per dress its cost, what each rule set does, who follows.

    Real calls alone, or synthetic ones where there are no others (`synthetic` says which).
    """
    invented = all(row["synthetic"] for row in tables["dressed"])
    rows = [row for row in tables["dressed"] if row["synthetic"] == invented]
    costs = [row for row in tables["dress_costs"] if row["synthetic"] == invented]
    hits = prices(collateral)
    return [one_figure(one, rows, costs, hits) | {"synthetic": invented} for one in held]


def one_figure(
    one: Dressing, rows: Sequence[Row], costs: Sequence[Row], hits: Mapping[Any, Row]
) -> Row:
    """Return the entry of one dress."""
    groups: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        if row["dress"] == one.name:
            groups[row["operator"], row["hypothesis"]].append(row)
    rules = [
        {"operator": operator, "hypothesis": hypothesis, **counted(held)}
        for (operator, hypothesis), held in groups.items()
    ]
    own = [row for row in costs if row["dress"] == one.name]
    plain = {(row["capture"], row["call"]): row for row in costs if row["dress"] == PLAIN}
    before = sum(plain[row["capture"], row["call"]]["bytes"] for row in own)
    rated = [row["mos"] for row in own if row["mos"] is not None]
    return {
        "name": one.name,
        "sort": one.sort,
        "says": one.says,
        "needs": one.needs,
        "calls": len(own),
        "overhead": ratio(sum(row["bytes"] for row in own) - before, before),
        "overhead_median": middle(
            [
                ratio(row["bytes"] - held["bytes"], held["bytes"])
                for row in own
                if (held := plain[row["capture"], row["call"]])["bytes"]
            ]
        ),
        "packets_added": sum(row["packets_added"] for row in own),
        "setup_ms": middle([row["setup_ms"] for row in own]),
        "delay_ms": middle([row["delay_ms"] for row in own]),
        "mos": middle(rated),
        "mos_n": len(rated),
        "rules": rules,
        "follower": follower(rules, hits) if one.sort != ARM else None,
    }


def middle(values: Sequence[float | None]) -> float | None:
    """Return the median of what is known, None for nothing."""
    known = [value for value in values if value is not None]
    return float(statistics.median(known)) if known else None


def prices(collateral: Sequence[Row]) -> dict[tuple[str, str], Row]:
    """Return what each rule set hits of innocent traffic, in the place where it hits most."""
    places: dict[tuple[str, ...], Row] = {}
    for row in collateral:
        place = tuple(str(row[key]) for key in ("operator", "hypothesis", "access", "date"))
        entry = places.setdefault(place, dict.fromkeys(("flows", "hit", "bytes", "bytes_hit"), 0))
        for key in entry:
            entry[key] += row[key]
    worst: dict[tuple[str, str], Row] = {}
    for place, entry in places.items():
        if entry["hit"] >= worst.get((place[0], place[1]), {"hit": -1})["hit"]:
            worst[place[0], place[1]] = entry
    return worst


def follower(rules: Sequence[Row], hits: Mapping[Any, Row]) -> Row | None:
    """Return the rule set that still blocks FOLLOWS of the calls at the least price to others.

    Where none does, the one that blocks most, `follows` false; None without innocent traffic.
    """
    priced = [
        {**{key: rule[key] for key in ("operator", "hypothesis", "n", "blocked")}, **price,
         "share": ratio(price["hit"], price["flows"]),
         "interval": share_interval(price["hit"], price["flows"])}
        for rule in rules
        if rule["n"] and (price := hits.get((rule["operator"], rule["hypothesis"]))) is not None
    ]  # fmt: skip
    if not priced:
        return None
    able = [one for one in priced if one["blocked"] >= FOLLOWS * one["n"]]
    if able:
        return min(able, key=lambda one: (one["share"] or 0.0, -one["blocked"])) | {"follows": True}
    return max(priced, key=lambda one: (one["blocked"], -(one["share"] or 0.0))) | {
        "follows": False
    }
