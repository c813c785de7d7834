# SPDX-License-Identifier: BSD-3-Clause
"""Reliability: what the lab's proofs, fuzzing and benches last gave on this machine."""

from __future__ import annotations

from typing import Any

from experiments.findings import Findings

#: Tools of a bench as the page names them; any other goes by its own name.
TOOLS = {"read": "reading the file alone", "two_cores": "itself on one core, when on two"}


def build(run: Findings) -> dict[str, Any] | None:
    """Return what the section shows; None where nothing was proven here."""
    told = run.at("proofs")
    if told is None:
        return None
    files = (told["bench"] or {}).get("files", [])
    compared = [
        {"file": one["file"], "packets": one["packets"], "tool": TOOLS.get(tool, tool)} | times
        for one in files
        for tool, times in one["spread"].items()
    ]
    return {"proven": {**told, "compared": compared}}
