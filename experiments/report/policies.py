# SPDX-License-Identifier: BSD-3-Clause
"""The operators of a run, from the copies of their policy files in the run's folder."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

#: Grades with evidence from measurements or packets; the others are reports, or official texts.
PACKET_GRADES = ("A", "B")


class Evidence(NamedTuple):
    """One statement of a policy file with its evidence grade (A to D) and its source."""

    what: str
    grade: str
    source: str

    @property
    def measured(self) -> bool:
        """Return whether the grade means measurements or packets."""
        return self.grade in PACKET_GRADES


class PolicyFile(NamedTuple):
    """An operator's title, and the evidence of its periods and of its hypotheses by id.

    invented: the file is of no operator (country ZZ of ISO 3166, "unknown"): a study of rules.
    """

    title: str
    invented: bool
    periods: tuple[Evidence, ...]
    hypotheses: Mapping[str, tuple[Evidence, ...]]


def policy_files(run: Path) -> dict[str, PolicyFile]:
    """Return operator id -> its file, for the files below `policies/` that can be read.

    run: a run's folder. A run of an older version has no copies: {} then.
    """
    files = {}
    for folder in sorted(path for path in (run / "policies").glob("*") if path.is_dir()):
        for path in sorted(folder.glob("*.toml")):
            document = tables(path)
            if "id" in document:
                files[str(document["id"])] = policy_file(document, folder)
    return files


def policy_file(document: Mapping[str, object], folder: Path) -> PolicyFile:
    """Return what the report shows of a policy file; its included files stand in `folder`."""
    parts = [document, *(tables(folder / str(name)) for name in items(document, "include"))]
    hypotheses: dict[str, tuple[Evidence, ...]] = {}
    for part in parts:
        for one in items(part, "hypothesis"):
            if isinstance(one, dict):
                rules = [rule for rule in items(one, "rule") if isinstance(rule, dict)]
                hypotheses[str(one.get("id"))] = tuple(evidence(rule, "name") for rule in rules)
    periods = [one for one in items(document, "period") if isinstance(one, dict)]
    return PolicyFile(
        str(document.get("title") or document["id"]),
        document.get("country") == "ZZ",
        tuple(evidence(one, "from") for one in periods),
        hypotheses,
    )


def evidence(table: Mapping[str, object], key: str) -> Evidence:
    """Return the evidence of a period or a rule; key: what names it."""
    grade = str(table.get("grade") or "")
    return Evidence(str(table.get(key) or ""), grade, str(table.get("source") or ""))


def items(table: Mapping[str, object], key: str) -> Iterator[object]:
    """Yield the entries of a list in a table, none where it is absent."""
    value = table.get(key)
    yield from value if isinstance(value, list) else ()


def tables(path: Path) -> dict[str, object]:
    """Return a TOML document, {} where the file is absent or damaged."""
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
