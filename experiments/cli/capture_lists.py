# SPDX-License-Identifier: BSD-3-Clause
"""Listings of captures for people: a table of all, the details of one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from midcall.captures.own.add import Shown
from midcall.captures.truth.catalogue import Capture, Catalogue, Origin
from midcall.experiments.measure import both_ends
from midcall.experiments.measure.both_ends import Table

HEADS = ("name", "app", "kind", "year", "access", "packets", "marks", "licence", "citation")


def marks(capture: Capture) -> str:
    """Return what sets a capture apart: innocent, synthetic, recorded, added, a copy."""
    words = [
        word
        for word, holds in (
            ("innocent", capture.role == "innocent"),
            ("synthetic", capture.synthetic),
            ("recorded", capture.recorded),
            ("added", capture.added),
        )
        if holds
    ]
    return " ".join(words + ([f"copy of {capture.copy_of}"] if capture.copy_of else []))


def citation(capture: Capture, origins: Sequence[Origin]) -> str:
    """Return where a capture is from, as one cites it: repository, commit and path, or package."""
    for source in capture.sources:
        one = next((origin for origin in origins if origin.name == source.origin), None)
        if one is None:
            continue
        if one.repository:
            at = source.blob or one.commit
            place = one.repository.removeprefix("https://").removesuffix(".git")
            return f"{place}@{at[:12]}: {source.path}"
        return f"Debian source package {one.package}: {source.path}" if one.package else one.name
    return ""


def table(catalogue: Catalogue) -> str:
    """Return one line per capture, in columns."""
    rows = [HEADS]
    for one in sorted(catalogue.captures, key=lambda held: held.name):
        year = "-" if one.year is None else str(one.year)
        cited = citation(one, catalogue.origins)
        facts = (one.name, one.app, one.kind, year, one.access, str(one.packets))
        rows.append((*facts, marks(one), one.licence, cited))
    widths = [max(len(row[at]) for row in rows) for at in range(len(HEADS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join(lines)


def row(capture: Capture, origins: Sequence[Origin]) -> dict[str, Any]:
    """Return a capture's facts as plain values."""
    facts = capture.model_dump(mode="json")
    return facts | {"added": capture.added, "citation": citation(capture, origins)}


def value(shown: Shown, origins: Sequence[Origin], ends: Table | None) -> dict[str, Any]:
    """Return all that is known of a capture as plain values; a label is named by its frame.

    ends: what the path did to a call of which both ends were captured
    (experiments.measure.both_ends).
    """
    return row(shown.capture, origins) | {
        "both_ends": ends,
        "path": shown.path,
        "calls": [call.model_dump(mode="json") for call in shown.calls],
        "labels": [label._asdict() for label in shown.labels],
    }


def details(shown: Shown, origins: Sequence[Origin], ends: Table | None) -> str:
    """Return all that is known of a capture: its table, where it stands, its calls and labels."""
    capture = shown.capture
    facts = capture.model_dump(exclude={"sources"}) | {"added": capture.added}
    facts["path"] = shown.path or "not on this machine: midcall captures fetch"
    lines = [f"{key:12}{value}" for key, value in facts.items() if value not in ("", None)]
    if cited := citation(capture, origins):
        lines.append(f"{'citation':12}{cited}")
    for source in capture.sources:
        lines.append(f"{'source':12}{source.origin}: {source.path}")
    for call in shown.calls:
        flows = f"{len(call.media)} media, {len(call.setup)} setup flows"
        guess = ", gates inferred" if call.inferred else ""
        lines.append(f"{'call':12}{call.id}: {call.app} {call.kind}, {flows}{guess}")
    held = Counter((one.app, one.role) for one in shown.labels)
    for (app, role), n in sorted(held.items()):
        lines.append(f"{'flows':12}{n} {app} {role}")
    if not held and capture.role == "call":
        lines.append(f"{'flows':12}not labelled: only whether the call is seen and blocked counts")
    if ends is not None:
        lines += both_ends.lines(ends, capture.other_end)
    return "\n".join(lines)
