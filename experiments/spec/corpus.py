# SPDX-License-Identifier: BSD-3-Clause
"""The corpus of a run: the captures that take part, each with its file, calls and labels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from midcall.captures.truth import calls as call_truth
from midcall.captures.truth import catalogue as catalogues
from midcall.captures.truth import labels as label_truth
from midcall.captures.truth.calls import Call
from midcall.captures.truth.catalogue import Capture, Catalogue
from midcall.captures.truth.labels import Label
from midcall.errors import ExperimentError
from midcall.experiments.jobs.progress import Fetching
from midcall.experiments.spec import backends
from midcall.experiments.spec.spec import Spec
from midcall.suggestions import hint

#: Told what is being fetched, bytes so far, and bytes in all (None: unknown).
Fetched = Callable[[str, int, int | None], None]


class Item(NamedTuple):
    """One capture that takes part, with its truth."""

    capture: Capture
    path: Path
    calls: list[Call]
    labels: list[Label]

    @property
    def innocent(self) -> bool:
        """Tell whether the capture holds no call at all."""
        return self.capture.role == "innocent"

    def truth_digest(self) -> str:
        """Return the sha256 of the truth a cell depends on beside the capture's bytes."""
        calls = [call.model_dump(mode="json") for call in self.calls]
        return hashlib.sha256(repr((calls, self.labels)).encode()).hexdigest()


class Corpus(NamedTuple):
    """All captures of a run, in order of name, and those that could not be had."""

    items: list[Item]
    missing: list[dict[str, str]]
    notices: list[str] = []  # noqa: RUF012 - a NamedTuple's default, never changed


def wanted(catalogue: Catalogue, spec: Spec) -> list[Capture]:
    """Return the captures a spec asks for; raises ExperimentError for names nobody knows."""
    chosen = spec.captures
    known = {one.name: one for one in catalogue.captures}
    strange = [name for name in chosen.names or [] if name not in known]
    if strange:
        told = "; ".join(f"{name} ({hint(name, known)})" for name in strange)
        raise ExperimentError(f"spec {spec.name}: captures.names: unknown captures: {told}")

    def keep(one: Capture) -> bool:
        if chosen.names is not None and one.name not in chosen.names:
            return False
        if one.role == "innocent" and chosen.innocents == "none":
            return False
        if one.recorded:
            return chosen.recorded
        return chosen.synthetic if one.synthetic else chosen.added if one.added else chosen.real

    return sorted(filter(keep, catalogue.captures), key=lambda one: one.name)


def gather(
    spec: Spec, folder: Path | None, progress: Fetched | None = None, offline: bool = False
) -> Corpus:
    """Obtain the captures of a spec; what cannot be had is listed, never fatal.

    folder: of captures, looked in first; offline: fetch nothing. Raises ExperimentError when none
    is left.
    """
    from midcall.captures.fetch.fetch import obtain

    catalogue = catalogues.load()
    chosen = wanted(catalogue, spec)
    narrowed = Catalogue(chosen, catalogue.origins)
    had = obtain(narrowed, corpus=folder, progress=progress, offline=offline)
    items = [
        Item(
            one,
            Path(had.paths[one.sha256]),
            call_truth.calls(one.sha256),
            label_truth.labels(one.sha256),
        )
        for one in chosen
        if one.sha256 in had.paths
    ]
    missing = [
        {"capture": one.name, "sha256": one.sha256, "reason": had.missing.get(one.sha256, "")}
        for one in chosen
        if one.sha256 not in had.paths
    ]
    if not items:
        raise ExperimentError(
            f"spec {spec.name}: none of its {len(chosen)} captures could be obtained; "
            "give a folder of them with --corpus, or see midcall captures fetch"
        )
    return Corpus(items, missing, had.notices)


def obtain(spec: Spec, folder: Path | None, stream: TextIO | None) -> Corpus:
    """Obtain the captures of a spec, telling how far downloads are."""
    fetching = Fetching(stream)
    try:
        return gather(spec, folder, fetching)
    finally:
        fetching.close()


def later_client(capture: Capture, call: Call | None, spec: Spec) -> bool:
    """Tell whether a capture (or call) is younger than the scenario."""
    year = capture_year(capture, call)
    return year is not None and year > spec.scenario_year


def capture_year(capture: Capture, call: Call | None) -> int | None:
    """Return when the call was recorded: its own year where it differs from the capture's."""
    return call.year if call is not None and call.year is not None else capture.year


def identity(capture: Capture, call: Call) -> str:
    """Return what tells a call from all others.

    The catalogue gives a public capture's call one id in every capture that holds it; samples,
    recordings of the lab and added captures number their calls from 1.
    """
    own = capture.ours or capture.added
    return f"{capture.name}/{call.id}" if own else call.id


def holders(items: Sequence[Item]) -> dict[str, str]:
    """Return call identity -> sha256 of the one capture that stands for it, sorted by identity.

    Several captures can hold the same call, some as a reduced copy: counted twice it would look
    like evidence. The original stands for it, else the capture with the fewest other calls.
    """
    present = {item.capture.name for item in items}
    order = sorted(
        items,
        key=lambda item: (
            item.capture.copy_of in present,
            item.capture.synthetic,
            len(item.calls),
            item.capture.name,
        ),
    )
    found: dict[str, str] = {}
    for item in order:
        for call in item.calls:
            found.setdefault(identity(item.capture, call), item.capture.sha256)
    return dict(sorted(found.items()))


def stands_for(kept: dict[str, str], item: Item, call: Call) -> bool:
    """Tell whether this capture is the one in which the call is counted."""
    return kept[identity(item.capture, call)] == item.capture.sha256


def in_grid(held: Corpus, spec: Spec) -> list[Item]:
    """Return the items whose calls or bystanders the grid needs, each call in one item only."""
    kept = holders(held.items)
    return [
        item
        for item in held.items
        if any(call.app in spec.apps and stands_for(kept, item, call) for call in item.calls)
        or (item.innocent and not item.capture.synthetic)
        or bystanding(kept, item, spec)
    ]


def calls_of(items: Sequence[Item], apps: Sequence[str]) -> list[tuple[Item, list[str]]]:
    """Return items with the ids of their calls of some apps, each call in one item only."""
    kept = holders(items)
    return [
        (item, ids)
        for item in items
        if (
            ids := [
                call.id for call in item.calls if call.app in apps and stands_for(kept, item, call)
            ]
        )
    ]


def bystanding(kept: dict[str, str], item: Item, spec: Spec) -> bool:
    """Tell whether a capture takes part for calls that nobody aims at: of other apps, and neither
    invented nor the user's.

    A live play is as long as its longest capture, so it leaves them out.
    """
    wanted = spec.captures.innocents == "all" and spec.backend != backends.LIVE
    lent = wanted and not (item.capture.synthetic or item.capture.added)
    return lent and any(stands_for(kept, item, call) for call in item.calls)


def copies(items: Sequence[Item]) -> list[str]:
    """Return the names of captures that are copies of another one that is here."""
    present = {item.capture.name for item in items}
    return [item.capture.name for item in items if item.capture.copy_of in present]


def headline(items: Sequence[Item]) -> list[Item]:
    """Return the items that may enter a headline figure: of captures that no program invented and
    that the user did not add."""
    return [item for item in items if counts(item)]


def counts(item: Item) -> bool:
    """Tell whether a capture may enter a headline figure."""
    return not item.capture.synthetic and not item.capture.added


def tally(items: Sequence[Item]) -> dict[str, int]:
    """Count captures: real (public, or added by the user), recorded in the lab, synthetic; and of
    all of them those that are added and those without a call."""
    takes = [item.capture for item in items]
    return {
        "real": sum(not one.ours for one in takes),
        "recorded": sum(one.recorded for one in takes),
        "synthetic": sum(one.synthetic for one in takes),
        "added": sum(one.added for one in takes),
        "innocent": sum(one.role == "innocent" for one in takes),
    }


def counted(
    held: Corpus, apps: Sequence[str], outcomes: Mapping[int, Mapping[str, Any]]
) -> Iterator[tuple[int, Item, Call, dict[str, Any]]]:
    """Yield (position in the grid, item, call, its entry), each call in one item only.

    apps: those of the spec; outcomes: of cells, by their position in the grid.
    """
    items = {item.capture.sha256: item for item in held.items}
    kept = holders(held.items)
    for at, outcome in sorted(outcomes.items()):
        for entry in outcome["calls"]:
            item = items[entry["sha256"]]
            call = next(one for one in item.calls if one.id == entry["call"])
            if call.app in apps and kept[identity(item.capture, call)] == entry["sha256"]:
                yield at, item, call, entry
