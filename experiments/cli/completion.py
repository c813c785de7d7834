# SPDX-License-Identifier: BSD-3-Clause
"""Shell completion of arguments: specs, runs, operators, captures.

Each function takes the text typed so far and returns (word, help) of every possible completion.
An error gives no completions, because a shell cannot show a message at that point.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator
from pathlib import Path

Words = list[tuple[str, str]]


def starting_with(typed: str, candidates: Iterable[tuple[str, str]]) -> Words:
    """Return the candidates, (word, help), that start with the typed text."""
    return [(word, about) for word, about in candidates if word.startswith(typed)]


def specs(incomplete: str) -> Words:
    """Return the specs that ship, with their titles."""
    from midcall.experiments.spec.spec import shipped

    return starting_with(incomplete, ((name, title(path)) for name, path in shipped().items()))


def specs_and_captures(incomplete: str) -> Words:
    """Return the specs that ship and the captures of the catalogue."""
    return [*specs(incomplete), *captures(incomplete)]


def title(path: Path) -> str:
    """Return the title of a TOML file, "" if it has none or cannot be read."""
    try:
        return str(tomllib.loads(path.read_text(encoding="utf-8")).get("title", ""))
    except (OSError, ValueError):
        return ""


def runs(incomplete: str) -> Words:
    """Return the runs in the folder `runs`, newest first, and `latest`."""
    from midcall.experiments.results.runs import is_run

    folder = Path("runs")
    entries = sorted(folder.iterdir(), reverse=True) if folder.is_dir() else []
    names = [path.name for path in entries if not path.is_symlink() and is_run(path)]
    return starting_with(incomplete, [*([("latest", "the last run")] if names else []),
                              *((name, "") for name in names)])  # fmt: skip


def run_folders(incomplete: str) -> Words:
    """Return the runs as paths below the folder `runs`."""
    typed = incomplete.removeprefix("runs/")
    return [(f"runs/{name}", about) for name, about in runs(typed)]


def operators(incomplete: str) -> Words:
    """Return the operators that ship, with their names."""
    from midcall.locations import OPERATORS
    from midcall.testbed.policy.loader import available

    return starting_with(
        incomplete, ((name, title(OPERATORS / f"{name}.toml")) for name in available())
    )


def policies(incomplete: str) -> Words:
    """Return operators; after a slash, the hypotheses of the operator."""
    if "/" not in incomplete:
        return [(f"{name}/", about) for name, about in operators(incomplete)]
    return starting_with(incomplete, hypotheses(incomplete.partition("/")[0]))


def hypotheses(operator: str) -> Iterator[tuple[str, str]]:
    """Yield an operator's hypotheses as OPERATOR/HYPOTHESIS, with their titles."""
    from midcall.errors import TestbedError
    from midcall.testbed.policy.loader import load

    try:
        listed = load(operator).hypotheses
    except TestbedError:
        return
    for one in listed:
        yield f"{operator}/{one.id}", one.title


def captures(incomplete: str) -> Words:
    """Return the captures of the catalogue."""
    from midcall.captures.truth.catalogue import load
    from midcall.errors import CaptureError

    try:
        return starting_with(
            incomplete, ((one.name, one.app or one.role) for one in load().captures)
        )
    except CaptureError:
        return []
