# SPDX-License-Identifier: BSD-3-Clause
"""`python -m tests.fuzz [-max_total_time=60 ...]`: fuzz every reader, guided by coverage.

Runs as plain Python, so that coverage is seen and every read is checked. Arguments are libFuzzer's.
An input that finds something is kept as crash-..., and belongs into tests/fuzz/crashes under a name
that says what it was.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

#: What is instrumented: the readers, and what they read packets with.
GUIDED = ("midcall.captures", "midcall.classifier")


def main() -> int:
    """Start from the minimal cases; returns the exit code of the fuzzer, which ends its own process
    when it is done."""
    if importlib.util.find_spec("atheris") is None:
        print("fuzz: not run, atheris is missing (pip install 'midcall[fuzz]')")
        return 0
    os.environ["NUMBA_DISABLE_JIT"] = "1"
    from tests.fuzz import targets

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
    with tempfile.TemporaryDirectory(prefix="midcall-fuzz-") as place:
        for data in targets.cases():
            (Path(place) / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
        command = [sys.executable, "-c", "from tests.fuzz.__main__ import guided; guided()"]
        with subprocess.Popen([*command, *sys.argv[1:], place]) as running:
            try:
                return running.wait()
            finally:
                running.kill()


def guided() -> None:
    """Fuzz; never returns."""
    import atheris

    with atheris.instrument_imports(include=list(GUIDED)):
        from tests.fuzz import targets
    atheris.Setup(sys.argv, targets.one)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
