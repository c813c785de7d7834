# SPDX-License-Identifier: BSD-3-Clause
"""Facts: nested values of a JSON file as flat pairs of a name and a text."""

from __future__ import annotations

from collections.abc import Mapping


def facts(value: object, prefix: str = "") -> list[tuple[str, str]]:
    """Return nested values as flat (name, text) pairs, lists joined; nothing is left out."""
    if isinstance(value, Mapping):
        return [pair for key, inner in value.items() for pair in facts(inner, f"{prefix}{key}.")]
    name = prefix.rstrip(".").replace("_", " ").replace(".", " › ")
    if isinstance(value, list) and any(isinstance(entry, Mapping) for entry in value):
        return [(name, f"{len(value)} entries, in provenance.json")]
    return [(name, "not known" if value is None else _text(value))]


def _text(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
