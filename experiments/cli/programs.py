# SPDX-License-Identifier: BSD-3-Clause
"""Programs that can be recorded on this machine: the lines of `midcall doctor` about them."""

from __future__ import annotations

from midcall.experiments.cli.doctor import OPTIONAL, Finding
from midcall.testbed.programs.background.driver import KINDS, missing


def bystanders() -> list[Finding]:
    """Return a finding per program of innocent traffic: installed, or how to install it."""
    kinds: dict[str, list[str]] = {}
    for kind, (module, _) in KINDS.items():
        kinds.setdefault(module, []).append(kind)
    findings = []
    for module, module_kinds in kinds.items():
        lacking = dict.fromkeys(line for kind in module_kinds for line in missing(kind))
        state = OPTIONAL if lacking else "ok"
        findings.append(
            Finding(f"by {module}", state, "; ".join(lacking) or ", ".join(module_kinds))
        )
    return findings
