# SPDX-License-Identifier: BSD-3-Clause
"""Golden texts: what the classifier says of every capture, one reviewable file each.

`python -m tests.golden` (`make golden`) writes them anew for every capture that this machine has;
read the diff before you commit it. A line is a flow, in order of first frame; flows that are no
call and name no app are one line of counts. No address, port or name is in them.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from midcall.captures.fetch.fetch import obtain
from midcall.captures.packets.pcap import batches
from midcall.captures.truth.catalogue import Capture, load
from midcall.classifier.engine import Engine
from midcall.classifier.export import columns
from midcall.classifier.state.flow_table import Records

FOLDER = Path(__file__).resolve().parent / "golden"
HEAD = "frame proto packets verdict app role confidence packets_to_verdict evidence"


def flows_of(path: Path) -> tuple[Records, dict[str, int]]:
    """Return a capture's flows, and what was counted."""
    engine = Engine()
    for packets in batches(path):
        engine.feed(packets)
    return engine.flows(), engine.counters


def text(path: Path) -> str:
    """Return the golden text of a capture."""
    flows, counters = flows_of(path)
    counted = ", ".join(f"{name} {n}" for name, n in counters.items() if n) or "nothing"
    return "\n".join([f"# {counted}", f"# {HEAD}", *lines(flows)]) + "\n"


def lines(flows: Records) -> Iterator[str]:
    """Yield one line per flow that says something, then the counts of the others."""
    table = {name: values.tolist() for name, values in columns(flows, "").items()}
    rest: Counter[tuple[str, str]] = Counter()
    for i in range(len(flows)):
        row = {name: values[i] for name, values in table.items()}
        if row["verdict"] == "not-call" and row["app"] == "none":
            rest[row["proto"], str(row["evidence"]).split(" in ")[0]] += 1
            continue
        yield (
            f"{flows['first_record'][i] + 1} {row['proto']} {row['packets']} {row['verdict']} "
            f"{row['app']} {row['role']} {row['confidence']:.2f} {row['packets_to_verdict']} "
            f"{row['evidence']}"
        )
    for (proto, evidence), n in sorted(rest.items()):
        yield f"# {n} {proto} not-call: {evidence}"


def golden_file(capture: Capture) -> Path:
    """Return where a capture's golden text stands."""
    return FOLDER / f"{capture.name}.txt"


def available(corpus: Path | None) -> list[tuple[Capture, Path]]:
    """Return the committed catalogue's captures that this machine has; no network is used."""
    catalogue = load(local=False)
    paths = obtain(catalogue, corpus=corpus, offline=True).paths
    return [(one, paths[one.sha256]) for one in catalogue.captures if one.sha256 in paths]


def main() -> int:
    """Write the golden text of every capture that is here; keeps those of captures that are not."""
    from tests.conftest import corpus_folder

    FOLDER.mkdir(exist_ok=True)
    captures = load(local=False).captures
    for stale in set(FOLDER.glob("*.txt")) - {golden_file(one) for one in captures}:
        stale.unlink()
    found = available(corpus_folder())
    changed = 0
    for one, path in found:
        file, new = golden_file(one), text(path)
        changed += not file.exists() or file.read_text(encoding="utf-8") != new
        file.write_text(new, encoding="utf-8")
    print(
        f"wrote {len(found)} golden texts, {changed} of them changed; "
        f"{len(captures) - len(found)} captures are not on this machine"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
