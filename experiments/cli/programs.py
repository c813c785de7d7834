# SPDX-License-Identifier: BSD-3-Clause
"""Programs that can be recorded here: what `midcall doctor` says of each, a line each."""

from __future__ import annotations

from midcall.experiments.cli.doctor import OPTIONAL, Finding
from midcall.testbed.programs.background.driver import KINDS, missing


def bystanders() -> list[Finding]:
    """Look at every program of bystanders: is it here, and how to get it."""
    kinds: dict[str, list[str]] = {}
    for kind, (module, _) in KINDS.items():
        kinds.setdefault(module, []).append(kind)
    found = []
    for module, held in kinds.items():
        lacks = dict.fromkeys(line for kind in held for line in missing(kind))
        state = OPTIONAL if lacks else "ok"
        found.append(Finding(f"by {module}", state, "; ".join(lacks) or ", ".join(held)))
    return found
