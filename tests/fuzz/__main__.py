# SPDX-License-Identifier: BSD-3-Clause
"""`python -m tests.fuzz [-max_total_time=60 ...]`: fuzz every reader, guided by coverage.

Runs as plain Python, so that coverage is seen and every read is checked. Arguments are libFuzzer's.
An input that finds something is kept as crash-..., and belongs into tests/fuzz/crashes under a name
that says what it was.
"""

from __future__ import annotations

import hashlib
import os
import sys
import tempfile
from pathlib import Path


def main() -> None:
    """Start from the minimal cases and whatever an earlier run found worth keeping."""
    os.environ["NUMBA_DISABLE_JIT"] = "1"
    try:
        import atheris
    except ImportError:
        print("fuzz: not run, atheris is missing (pip install 'midcall[fuzz]')")
        return
    with atheris.instrument_imports(include=["captures", "classifier"]):
        from tests.fuzz import targets
    with tempfile.TemporaryDirectory(prefix="midcall-fuzz-") as place:
        for data in targets.cases():
            (Path(place) / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
        atheris.Setup([sys.argv[0], *sys.argv[1:], place], targets.one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
