# SPDX-License-Identifier: BSD-3-Clause
"""The manifest of a run, provenance.json: inputs, code and machine that made its numbers."""

from __future__ import annotations

import datetime
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from midcall.experiments.results import provenance
from midcall.experiments.spec.corpus import Corpus
from midcall.experiments.spec.spec import Spec


def policy_files(spec: Spec) -> dict[str, bytes]:
    """Return every policy file of a run, including censors: name -> content.

    Names are paths below the run's folder `policies`. Each operator has its own folder, in which
    its file can be used unchanged.
    """
    from midcall.testbed.policy.loader import file_of, files_of

    files = {}
    for name in spec.operators:
        home = file_of(name).resolve().parent
        for path in files_of(name):
            inside = Path(os.path.relpath(path, home))
            place = Path(path.name) if ".." in inside.parts else inside
            files[f"{Path(name).stem}/{place.as_posix()}"] = path.read_bytes()
    return files


def origin(
    spec: Spec, raw: bytes, corpus: Corpus, policies: Mapping[str, bytes], now: datetime.datetime
) -> dict[str, Any]:
    """Return provenance.json; its `inputs` is the sha256 of everything that decides the results."""
    rules = {name: provenance.sha256(data) for name, data in sorted(policies.items())}
    captures = {item.capture.name: item.capture.sha256 for item in corpus.items}
    code = provenance.code_digest((*provenance.CELL_PACKAGES, "experiments"))
    decides = provenance.sha256(raw), spec.backend, code, sorted(captures.items()), rules
    inputs = repr(decides)
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
        "captures": captures,
        "policies": rules,
        "missing": corpus.missing,
    }
