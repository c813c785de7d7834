# SPDX-License-Identifier: BSD-3-Clause
"""The ledger: what each proof found when it was last carried out, one JSON file per proof."""

from __future__ import annotations

import datetime
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from midcall.experiments.results.provenance import git_state, library_versions, machine
from midcall.experiments.results.schema import write_json
from midcall.locations import ROOT

FOLDER = ROOT / "runs" / "reliability"


def record(name: str, held: bool, facts: dict[str, Any], folder: Path = FOLDER) -> Path:
    """Write down whether a promise held, and the figures; returns the file."""
    now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    result = {
        "schema": 1,
        "proof": name,
        "held": held,
        "when": now,
        "command": [Path(sys.argv[0]).stem, *sys.argv[1:]],
        "load_average": list(os.getloadavg()),
        "machine": machine(),
        "code": git_state(),
        "libraries": library_versions(),
        **facts,
    }
    path = folder / f"{name}.json"
    write_json(path, result)
    return path


def settle(
    name: str, problems: Sequence[str], fine: str, facts: dict[str, Any], folder: Path = FOLDER
) -> int:
    """Print what came out and write it down; returns the exit code."""
    path = record(name, not problems, {**facts, "problems": list(problems)}, folder)
    print("\n".join(problems) if problems else fine)
    print(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)
    return 1 if problems else 0
