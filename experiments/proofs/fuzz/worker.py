# SPDX-License-Identifier: BSD-3-Clause
"""The worker: a process with bounds checks that fuzzes stand after stand and reports each one.

It prints one line of JSON per stand. A finding is in the last line; if the process dies instead, it
died in the stand after the last line.
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from midcall.captures.packets.pcap import Packets, read
from midcall.captures.packets.writer import write_pcapng
from midcall.experiments.measure.timing import mix
from midcall.experiments.proofs.fuzz.files import containers, damaged, read_twice
from midcall.experiments.proofs.fuzz.mutate import dice_of, draw
from midcall.experiments.proofs.fuzz.path import BATCH, ROUNDS, Finding, Stand, boxes

#: Packets of a capture in a pool, captures of a pool, and damaged files per stand.
FIRST, PARTS, FILES = 20_000, 3, 12


def pool_of(captures: list[Packets], seed: int, number: int) -> Packets:
    """Return the packets of a few captures, interleaved."""
    dice = dice_of("pool", seed, number)
    chosen = [captures[int(draw(dice, len(captures)))] for _ in range(PARTS)]
    return mix([one.take(slice(0, FIRST)) for one in chosen])


def one_stand(
    captures: list[Packets], policies: list[Any], seed: int, number: int, folder: Path
) -> dict[str, int]:
    """Fuzz one stand; returns its counts. An error has a note with its round."""
    pool = pool_of(captures, seed, number)
    stand = Stand(seed, number, pool, policies)
    counted = {"packets": 0, "mutated": 0, "files": 0, "files_refused": 0, "file_packets": 0}
    for round_ in range(ROUNDS):
        packets, changed = stand.batch(round_)
        try:
            stand.feed(packets)
        except Exception as error:
            error.add_note(f"round {round_}, {keep(packets, folder, seed, number, round_)}")
            raise
        counted["packets"] += BATCH
        counted["mutated"] += changed
    stand.close()
    for name, read_ in files(pool, seed, number, folder):
        counted["files"] += 1
        counted["files_refused"] += read_.refused
        counted["file_packets"] += read_.packets
        name.unlink()
    return counted


def files(pool: Packets, seed: int, number: int, folder: Path) -> Iterator[tuple[Path, Any]]:
    """Yield damaged files and the result of reading them; a file that is a finding stays in the
    folder."""
    forms = containers(pool, number * 977)
    for turn in range(FILES):
        path = folder / f"file-{seed}-{number}-{turn}.bin"
        path.write_bytes(damaged(forms[turn % len(forms)], seed, number, turn))
        try:
            yield path, read_twice(path, number + turn)
        except Exception as error:
            error.add_note(f"file {path}")
            raise


def keep(packets: Packets, folder: Path, seed: int, number: int, round_: int) -> Path:
    """Write the batch of a finding; returns its file."""
    path = folder / f"batch-{seed}-{number}-{round_}.pcapng"
    write_pcapng(path, packets)
    return path


def captures_of(paths: list[Path]) -> list[Packets]:
    """Return the captures that have packets."""
    captures = (read(path) for path in paths)
    return [one for one in captures if one.total and np.all(one.captured >= 0)]


def main() -> int:
    """Fuzz stands from a first number on; the task is one JSON object on the standard input."""
    task = json.loads(sys.stdin.readline())
    captures, policies = captures_of([Path(name) for name in task["captures"]]), boxes()
    folder = Path(task["folder"])
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="midcall-fuzz-") as work_folder:
        for number in range(task["first"], task["last"]):
            report: dict[str, Any] = {"stand": number}
            try:
                report |= one_stand(captures, policies, task["seed"], number, Path(work_folder))
            except Exception as error:
                for path in Path(work_folder).iterdir():
                    path.replace(folder / path.name)
                notes = "; ".join(getattr(error, "__notes__", [])).replace(work_folder, str(folder))
                kind = "" if isinstance(error, Finding) else f"{type(error).__name__}: "
                report["error"] = f"{kind}{error} ({notes})"
            print(json.dumps(report), flush=True)
            if "error" in report:
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
