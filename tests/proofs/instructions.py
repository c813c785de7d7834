# SPDX-License-Identifier: BSD-3-Clause
"""Instructions: how many the processor carries out per packet, held against a committed count.

`python -m tests.proofs.instructions` (make instructions) runs the samples, interleaved, through the
reader, the path and a box under valgrind's cachegrind, once and many times more; the difference,
per packet, is what one packet costs without start-up. NUMBA_CPU_NAME is generic, so that every
x86-64 carries out the same code, whatever else it does meanwhile. More than TOLERANCE above the
baseline fails.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from midcall.experiments.results.provenance import library_versions
from midcall.locations import ROOT
from tests.proofs.ledger import settle

BASELINE = Path(__file__).with_suffix(".json")
SAMPLES = ROOT / "captures" / "samples"
PARTS = ("read", "path", "box")
#: How often each part is done more: start-up varies by some ten million instructions, which is
#: less than 1 % of every part.
TIMES = {"read": 4000, "path": 300, "box": 300}
TOLERANCE = 0.05
REFERENCES = re.compile(r"I\s+refs:\s+([\d,]+)")


# ---- what is counted


def work(read: int, path: int, box: int) -> int:
    """Carry out each part so often; returns the packets of one pass."""
    import datetime

    import numpy as np

    from midcall.captures.packets.pcap import batches
    from midcall.captures.packets.pcap import read as read_file
    from midcall.captures.packets.writer import write_pcapng
    from midcall.classifier.engine import Engine
    from midcall.experiments.measure.timing import mix
    from midcall.experiments.proofs.fuzz.path import walk
    from midcall.testbed.middlebox.rule_table import table
    from midcall.testbed.policy.loader import load

    packets = mix([read_file(one) for one in samples()])
    count = packets.total
    numbers, fates = np.empty(count, np.int64), np.empty(count, np.int64)
    operator = load("maroc-telecom")
    policy = operator.policy(operator.hypotheses[0].id, "4g", datetime.date(2016, 3, 15))
    with tempfile.TemporaryDirectory(prefix="midcall-") as folder:
        file = Path(folder) / "mix.pcapng"
        write_pcapng(file, packets)
        for _ in range(read):
            for batch in batches(file):
                del batch
    for _ in range(path):
        Engine(seed=0).feed(packets)
    for _ in range(box):
        engine = Engine(seed=0)
        engine.reserve(count)
        rules = table(policy, 0)
        walk(engine.tables, packets, 0, engine.signs, rules, numbers, fates)
    return count


def samples() -> list[Path]:
    """Return the files that are walked."""
    return sorted(SAMPLES.glob("*.pcap*"))


def samples_digest() -> str:
    """Return the sha256 (hex) of what is walked."""
    return hashlib.sha256(b"".join(one.read_bytes() for one in samples())).hexdigest()


# ---- counting


def environment() -> dict[str, str]:
    """Return the environment in which every run does the same."""
    return {**os.environ, "NUMBA_CPU_NAME": "generic", "PYTHONHASHSEED": "0"}


def run(prefix: Sequence[str], times: Sequence[int]) -> subprocess.CompletedProcess[str]:
    """Run the work in a process of its own."""
    command = [*prefix, sys.executable, "-m", "tests.proofs.instructions", "--work"]
    return subprocess.run(
        [*command, *map(str, times)],
        env=environment(), cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip


def instructions(times: Sequence[int]) -> int:
    """Return the instructions of a process that does each part so often."""
    prefix = ["valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null"]
    done = run(prefix, times)
    found = REFERENCES.search(done.stderr)
    if done.returncode or found is None:
        raise SystemExit(f"instructions: valgrind gave no count: {done.stderr[-600:]}")
    return int(found.group(1).replace(",", ""))


def counted() -> dict[str, float]:
    """Return instructions per packet of each part."""
    warm = run([], (1, 1, 1))
    if warm.returncode:
        raise SystemExit(f"instructions: the work failed: {warm.stderr[-600:]}")
    packets = int(warm.stdout)
    more = [tuple(1 + TIMES[part] * (part == one) for one in PARTS) for part in PARTS]
    with ThreadPoolExecutor(2) as pool:
        base, *rest = pool.map(instructions, [(1, 1, 1), *more])
    return {
        part: round((count - base) / TIMES[part] / packets, 1)
        for part, count in zip(PARTS, rest, strict=True)
    }


# ---- the gate


def key() -> str:
    """Return what a baseline holds for: the architecture and what compiles."""
    versions = library_versions()
    return f"{platform.machine()}, numba {versions['numba']}, llvmlite {versions['llvmlite']}"


def baseline() -> dict[str, Any]:
    """Return the committed counts, {} where there are none yet."""
    return json.loads(BASELINE.read_text(encoding="utf-8")) if BASELINE.exists() else {}


def judged(now: dict[str, float], then: dict[str, float]) -> list[str]:
    """Return a sentence for every part that costs more than is tolerated."""
    return [
        f"{part}: {now[part]} instructions per packet, {then[part]} in the baseline: "
        f"{now[part] / then[part] - 1:+.1%}, tolerated are {TOLERANCE:+.0%}. If it is worth it: "
        "python -m tests.proofs.instructions --accept"
        for part in PARTS
        if now[part] > then[part] * (1 + TOLERANCE)
    ]


def accept(now: dict[str, float]) -> None:
    """Make the counts the baseline of machines like this one."""
    held = baseline()
    held["samples_sha256"] = samples_digest()
    held.setdefault("counts", {})[key()] = now
    BASELINE.write_text(json.dumps(held, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def main(words: Sequence[str] | None = None) -> int:
    """Count, compare, write down; exit code 1 where a packet costs more."""
    parser = argparse.ArgumentParser(prog="instructions", description=__doc__)
    parser.add_argument("--accept", action="store_true", help="make this the baseline")
    parser.add_argument("--work", nargs=3, type=int, metavar="N", help=argparse.SUPPRESS)
    asked = parser.parse_args(words)
    if asked.work:
        print(work(*asked.work))
        return 0
    if shutil.which("valgrind") is None:
        print("instructions: not counted, valgrind is missing (apt-get install valgrind)")
        return 0
    now = counted()
    result = ", ".join(f"{part} {count}" for part, count in now.items())
    if asked.accept:
        accept(now)
    held = baseline()
    if held and held["samples_sha256"] != samples_digest():
        problems = ["the samples changed: python -m tests.proofs.instructions --accept"]
        return settle("instructions", problems, "", {"per_packet": now})
    then = held.get("counts", {}).get(key())
    if then is None:
        print(f"instructions per packet: {result}; no baseline for {key()}, so nothing is judged")
        return 0
    fine = f"instructions per packet: {result}; none above the baseline by {TOLERANCE:.0%}"
    facts = {"per_packet": now, "baseline": then, "for": key()}
    return settle("instructions", judged(now, then), fine, facts)


if __name__ == "__main__":
    sys.exit(main())
