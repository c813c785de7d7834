# SPDX-License-Identifier: BSD-3-Clause
"""Listings of captures as text and JSON: a table of all, the details of one."""

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
    """Return the marks of a capture: innocent, synthetic, recorded, added, copy of another."""
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
    """Return the citation of a capture: repository, commit and path, or Debian package."""
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
    for capture in sorted(catalogue.captures, key=lambda capture: capture.name):
        year = "-" if capture.year is None else str(capture.year)
        cited = citation(capture, catalogue.origins)
        facts = (
            capture.name,
            capture.app,
            capture.kind,
            year,
            capture.access,
            str(capture.packets),
        )
        rows.append((*facts, marks(capture), capture.licence, cited))
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
    """Return everything known about a capture as values for JSON; labels have frame numbers.

    ends: loss, delay variation and NAT of a call that was captured at both ends
    (experiments.measure.both_ends).
    """
    return row(shown.capture, origins) | {
        "both_ends": ends,
        "path": shown.path,
        "calls": [call.model_dump(mode="json") for call in shown.calls],
        "labels": [label._asdict() for label in shown.labels],
    }


def details(shown: Shown, origins: Sequence[Origin], ends: Table | None) -> str:
    """Return everything known about a capture as text: facts, path, calls and labels."""
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
    counts = Counter((one.app, one.role) for one in shown.labels)
    for (app, role), n in sorted(counts.items()):
        lines.append(f"{'flows':12}{n} {app} {role}")
    if not counts and capture.role == "call":
        lines.append(f"{'flows':12}not labelled: only whether the call is seen and blocked counts")
    if ends is not None:
        lines += both_ends.lines(ends, capture.other_end)
    return "\n".join(lines)
