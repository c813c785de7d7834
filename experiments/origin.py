# SPDX-License-Identifier: BSD-3-Clause
"""The origin of a run's numbers, as provenance.json tells it."""

from __future__ import annotations

import datetime
import sys
from pathlib import Path
from typing import Any

from experiments import provenance
from experiments.corpus import Corpus
from experiments.spec import Spec


def origin(spec: Spec, raw: bytes, held: Corpus, now: datetime.datetime) -> dict[str, Any]:
    """Return provenance.json; `inputs` is the sha256 of all that decides the results."""
    takes = {item.capture.name: item.capture.sha256 for item in held.items}
    code = provenance.code_digest((*provenance.CELL_PACKAGES, "experiments"))
    inputs = repr((provenance.sha256(raw), spec.backend, code, sorted(takes.items())))
    return {
        "schema": 1,
        "inputs": provenance.sha256(inputs.encode()),
        "made": now.isoformat(timespec="seconds"),
        "command": [Path(sys.argv[0]).name, *sys.argv[1:]],
        "spec": {"name": spec.name, "sha256": provenance.sha256(raw), "seed": spec.seed},
        "backend": spec.backend,
        "code": {"digest": code, **provenance.git_state()},
        "versions": {"midcall": provenance.midcall_version(), **provenance.library_versions()},
        "machine": provenance.machine(),
        "captures": takes,
        "missing": held.missing,
    }
