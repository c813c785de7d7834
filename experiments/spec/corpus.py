# SPDX-License-Identifier: BSD-3-Clause
"""The corpus of a run: the captures that take part, each with its file, calls and labels."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple, TextIO

from midcall.captures.truth import calls as call_truth
from midcall.captures.truth import catalogue as catalogues
from midcall.captures.truth import labels as label_truth
from midcall.captures.truth.calls import Call
from midcall.captures.truth.catalogue import Capture, Catalogue
from midcall.captures.truth.labels import Label
from midcall.errors import ExperimentError
from midcall.experiments.jobs.progress import Fetching
from midcall.experiments.results.tables import CallEntry, CellOutcome
from midcall.experiments.spec import backends
from midcall.experiments.spec.spec import Spec
from midcall.suggestions import hint

#: Called with the name of the download, bytes so far, and total bytes (None: unknown).
Fetched = Callable[[str, int, int | None], None]


class Item(NamedTuple):
    """One capture of the run, with its truth."""

    capture: Capture
    path: Path
    calls: list[Call]
    labels: list[Label]

    @property
    def innocent(self) -> bool:
        """Return whether the capture has no call."""
        return self.capture.role == "innocent"

    def truth_digest(self) -> str:
        """Return the sha256 (hex) of the calls and labels, on which a cell depends too."""
        calls = [call.model_dump(mode="json") for call in self.calls]
        return hashlib.sha256(repr((calls, self.labels)).encode()).hexdigest()


class Corpus(NamedTuple):
    """All captures of a run, sorted by name, and those that could not be obtained."""

    items: list[Item]
    missing: list[dict[str, str]]
    notices: list[str] = []  # noqa: RUF012 - a NamedTuple's default, never changed


def wanted(catalogue: Catalogue, spec: Spec) -> list[Capture]:
    """Return the captures that a spec selects; raises ExperimentError for unknown names."""
    chosen = spec.captures
    known = {one.name: one for one in catalogue.captures}
    unknown = [name for name in chosen.names or [] if name not in known]
    if unknown:
        problems = "; ".join(f"{name} ({hint(name, known)})" for name in unknown)
        raise ExperimentError(f"spec {spec.name}: captures.names: unknown captures: {problems}")

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
    """Obtain the captures of a spec; those that cannot be obtained are listed in `missing`.

    folder: of captures, searched first; offline: fetch nothing. Raises ExperimentError if no
    capture could be obtained.
    """
    from midcall.captures.fetch.fetch import obtain

    catalogue = catalogues.load()
    chosen = wanted(catalogue, spec)
    narrowed = Catalogue(chosen, catalogue.origins)
    obtained = obtain(narrowed, corpus=folder, progress=progress, offline=offline)
    items = [
        Item(
            one,
            Path(obtained.paths[one.sha256]),
            call_truth.calls(one.sha256),
            label_truth.labels(one.sha256),
        )
        for one in chosen
        if one.sha256 in obtained.paths
    ]
    missing = [
        {"capture": one.name, "sha256": one.sha256, "reason": obtained.missing.get(one.sha256, "")}
        for one in chosen
        if one.sha256 not in obtained.paths
    ]
    if not items:
        raise ExperimentError(
            f"spec {spec.name}: none of its {len(chosen)} captures could be obtained; "
            "give a folder of them with --corpus, or see midcall captures fetch"
        )
    return Corpus(items, missing, obtained.notices)


def obtain(spec: Spec, folder: Path | None, stream: TextIO | None) -> Corpus:
    """Obtain the captures of a spec and show the progress of downloads."""
    fetching = Fetching(stream)
    try:
        return gather(spec, folder, fetching)
    finally:
        fetching.close()


def later_client(capture: Capture, call: Call | None, spec: Spec) -> bool:
    """Return whether a capture (or call) is younger than the scenario."""
    year = capture_year(capture, call)
    return year is not None and year > spec.scenario_year


def capture_year(capture: Capture, call: Call | None) -> int | None:
    """Return the year of recording: the call's own if it has one, else the capture's."""
    return call.year if call is not None and call.year is not None else capture.year


def identity(capture: Capture, call: Call) -> str:
    """Return the unique identity of a call.

    The catalogue gives a public capture's call one id in every capture that holds it; samples,
    recordings of the lab and added captures number their calls from 1.
    """
    own = capture.ours or capture.added
    return f"{capture.name}/{call.id}" if own else call.id


def counting_capture(items: Sequence[Item]) -> dict[str, str]:
    """Return call identity -> sha256 of the one capture in which it counts, sorted by identity.

    Several captures can hold the same call, some as a reduced copy. Counted twice, it would look
    like independent evidence. The call counts in the original, else in the capture with the fewest
    other calls.
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
    holder_of: dict[str, str] = {}
    for item in order:
        for call in item.calls:
            holder_of.setdefault(identity(item.capture, call), item.capture.sha256)
    return dict(sorted(holder_of.items()))


def counts_in(holder_of: dict[str, str], item: Item, call: Call) -> bool:
    """Return whether the call counts in this capture.

    holder_of: call identity -> sha256, from `counting_capture`.
    """
    return holder_of[identity(item.capture, call)] == item.capture.sha256


def in_grid(corpus: Corpus, spec: Spec) -> list[Item]:
    """Return the items with calls or innocent traffic for the grid, each call in one item only."""
    holder_of = counting_capture(corpus.items)
    return [
        item
        for item in corpus.items
        if any(call.app in spec.apps and counts_in(holder_of, item, call) for call in item.calls)
        or (item.innocent and not item.capture.synthetic)
        or innocent_calls(holder_of, item, spec)
    ]


def calls_of(items: Sequence[Item], apps: Sequence[str]) -> list[tuple[Item, list[str]]]:
    """Return items with the ids of their calls of some apps, each call in one item only."""
    holder_of = counting_capture(items)
    return [
        (item, ids)
        for item in items
        if (
            ids := [
                call.id
                for call in item.calls
                if call.app in apps and counts_in(holder_of, item, call)
            ]
        )
    ]


def innocent_calls(holder_of: dict[str, str], item: Item, spec: Spec) -> bool:
    """Return whether a capture takes part for calls that no operator targets.

    Those are calls of other apps in captures that are neither synthetic nor added by the user. A
    live play lasts as long as its longest capture, so live runs leave them out.
    """
    collateral = spec.captures.innocents == "all" and spec.backend != backends.LIVE
    usable = collateral and not (item.capture.synthetic or item.capture.added)
    return usable and any(counts_in(holder_of, item, call) for call in item.calls)


def copies(items: Sequence[Item]) -> list[str]:
    """Return the names of captures that are copies of another of the items."""
    present = {item.capture.name for item in items}
    return [item.capture.name for item in items if item.capture.copy_of in present]


def headline(items: Sequence[Item]) -> list[Item]:
    """Return the items that may enter a headline figure: neither synthetic nor added."""
    return [item for item in items if counts(item)]


def counts(item: Item) -> bool:
    """Return whether a capture may enter a headline figure."""
    return not item.capture.synthetic and not item.capture.added


def tally(items: Sequence[Item]) -> dict[str, int]:
    """Count captures: real (public or added), recorded in the lab, synthetic.

    Of all of them also those that are added and those without a call.
    """
    captures = [item.capture for item in items]
    return {
        "real": sum(not one.ours for one in captures),
        "recorded": sum(one.recorded for one in captures),
        "synthetic": sum(one.synthetic for one in captures),
        "added": sum(one.added for one in captures),
        "innocent": sum(one.role == "innocent" for one in captures),
    }


def counted(
    corpus: Corpus, apps: Sequence[str], outcomes: Mapping[int, CellOutcome]
) -> Iterator[tuple[int, Item, Call, CallEntry]]:
    """Yield (position in the grid, item, call, its entry), each call in one item only.

    apps: those of the spec; outcomes: of cells, by their position in the grid.
    """
    items = {item.capture.sha256: item for item in corpus.items}
    holder_of = counting_capture(corpus.items)
    for at, outcome in sorted(outcomes.items()):
        for entry in outcome["calls"]:
            item = items[entry["sha256"]]
            call = next(one for one in item.calls if one.id == entry["call"])
            if call.app in apps and holder_of[identity(item.capture, call)] == entry["sha256"]:
                yield at, item, call, entry
