# SPDX-License-Identifier: BSD-3-Clause
"""Listings of captures for people: a table of all, the details of one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from captures import calls as call_truth
from captures import labels as label_truth
from captures.catalogue import Capture

HEADS = ("name", "app", "kind", "year", "access", "packets", "marks")


def marks(capture: Capture) -> str:
    """Return what sets a capture apart: innocent, synthetic, added, a copy."""
    words = [
        word
        for word, holds in (
            ("innocent", capture.role == "innocent"),
            ("synthetic", capture.synthetic),
            ("added", capture.added),
        )
        if holds
    ]
    return " ".join(words + ([f"copy of {capture.copy_of}"] if capture.copy_of else []))


def table(captures: Sequence[Capture]) -> str:
    """Return one line per capture, in columns."""
    rows = [HEADS]
    for one in sorted(captures, key=lambda held: held.name):
        year = "-" if one.year is None else str(one.year)
        rows.append((one.name, one.app, one.kind, year, one.access, str(one.packets), marks(one)))
    widths = [max(len(row[at]) for row in rows) for at in range(len(HEADS))]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "\n".join(lines)


def details(capture: Capture) -> str:
    """Return all that the catalogue knows of a capture, with its calls and labels."""
    facts = capture.model_dump(exclude={"sources"}) | {"added": capture.added}
    lines = [f"{key:12}{value}" for key, value in facts.items() if value not in ("", None)]
    for source in capture.sources:
        lines.append(f"{'source':12}{source.origin}: {source.path}")
    for call in call_truth.calls(capture.sha256):
        flows = f"{len(call.media)} media, {len(call.setup)} setup flows"
        guess = ", gates inferred" if call.inferred else ""
        lines.append(f"{'call':12}{call.id}: {call.app} {call.kind}, {flows}{guess}")
    held = Counter((one.app, one.role) for one in label_truth.labels(capture.sha256))
    for (app, role), n in sorted(held.items()):
        lines.append(f"{'flows':12}{n} {app} {role}")
    if not held and capture.role == "call":
        lines.append(f"{'flows':12}not labelled: only whether the call is seen and blocked counts")
    return "\n".join(lines)
