# SPDX-License-Identifier: BSD-3-Clause
"""Plain Python and compiled code say the same of every flow: all fields of all records."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from midcall.captures.jit.code_folders import PLAIN
from midcall.captures.packets.pcap import read
from midcall.classifier.engine import Engine
from midcall.classifier.state.flow_table import FLOW
from tests.classifier.wire import ROOT, SAMPLES

#: Packets of each real capture that are compared: plain Python walks about 20,000 a second.
FIRST = 4000

RUN = f"""
import json, sys
from pathlib import Path
from midcall.captures.jit.code_folders import PLAIN
from tests.classifier.test_plain import tables
assert PLAIN
print(json.dumps(tables([Path(line) for line in sys.stdin.read().split(chr(10)) if line], {FIRST})))
"""


def table(path: Path, first: int) -> dict[str, Any]:
    """Return everything that an engine knows after the first packets of a capture.

    Per field the digest of its column, so that a difference names the field.
    """
    engine = Engine(seed=0)
    packets = read(path)
    numbers = engine.feed(packets.take(slice(0, first)))
    flows = engine.flows()
    known = {name: flows[name].tobytes() for name in FLOW.names or ()}
    known |= {"numbers": numbers.tobytes(), "context": engine.tables.context.tobytes()}
    known |= {"meter": engine.tables.meter.tobytes(), "signs": engine.signs.tobytes()}
    digests: dict[str, Any] = {
        name: hashlib.sha256(content).hexdigest() for name, content in known.items()
    }
    return digests | {"flows": len(flows)}


def tables(paths: list[Path], first: int) -> dict[str, dict[str, Any]]:
    """Return the tables of captures by their paths."""
    return {str(path): table(path, first) for path in paths}


def in_plain_python(paths: list[Path]) -> dict[str, dict[str, Any]]:
    """Return the tables of captures as plain Python makes them."""
    environment = {**os.environ, "NUMBA_DISABLE_JIT": "1"}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", RUN],
        input="\n".join(map(str, paths)),
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, dict[str, Any]] = json.loads(done.stdout)
    return found


def differences(paths: list[Path]) -> list[str]:
    """Return capture and field of everything in which the two differ."""
    assert not PLAIN
    plain, compiled = in_plain_python(paths), tables(paths, FIRST)
    assert plain.keys() == compiled.keys()
    return [
        f"{Path(path).name}: {field}"
        for path, fields in compiled.items()
        for field, value in fields.items()
        if plain[path][field] != value
    ]


compiled_only = pytest.mark.skipif(PLAIN, reason="compares compiled code with plain Python")


@compiled_only
def test_plain_and_compiled_code_agree_on_every_sample() -> None:
    paths = sorted(SAMPLES.glob("*.pcap*"))
    assert len(paths) > 15
    assert differences(paths) == []


@pytest.mark.slow
@compiled_only
@pytest.mark.corpus
def test_plain_and_compiled_code_agree_on_real_captures(corpus: Path) -> None:
    paths = sorted(path for path in corpus.rglob("*.pcap*") if path.is_file())
    assert paths
    assert differences(paths) == []
