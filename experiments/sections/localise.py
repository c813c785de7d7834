# SPDX-License-Identifier: BSD-3-Clause
"""The localiser: planted rules, how many were recovered from answers alone, and at what cost."""

from __future__ import annotations

from typing import Any

from experiments.findings import Findings


def build(run: Findings) -> dict[str, Any] | None:
    """Return what the section shows, None where the spec asks for no benchmark."""
    told = run.at("localise", "by_noise")
    if not told:
        return None
    return {"localised": {"by_noise": told, "rows": run["localise"]}}
