# SPDX-License-Identifier: BSD-3-Clause
"""What packing changes for classifiers: every public capture is packed, and read by three of them.

`python -m tests.proofs.sharing` (make sharing) packs each capture under a fixed key and compares
Midcall's, nDPI's and tshark's answers about the original and the pack, flow by flow (tshark: frame
by frame). The reason of each flow that nDPI calls otherwise is proven by repetition: the capture is
mapped again with its addresses left as they are, and with its texts left as they are; what restores
the answer was its reason. docs/notes/sharing.md has the figures.

-o FOLDER: keeps changed.csv, one row per changed flow, with what nDPI found in the original (names
and addresses of the capture: not to be published).
"""

from __future__ import annotations

import argparse
import csv
import itertools
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple
from unittest import mock

from midcall.captures.fetch.fetch import obtain
from midcall.captures.own.leaks import Check
from midcall.captures.own.pack import checked_copy
from midcall.captures.own.pseudonyms import Pseudonyms
from midcall.captures.packets.headers import layers
from midcall.captures.packets.pcap import Packets, read
from midcall.captures.packets.writer import write_pcapng
from midcall.captures.truth.catalogue import Capture, load
from midcall.errors import CaptureError
from midcall.experiments.accuracy.peers import ndpi
from midcall.experiments.accuracy.peers.labels import Answer, Key
from midcall.experiments.cells.offline import classify_packets
from midcall.experiments.jobs.workers import run_in_pool

KEY = b"midcall: packs of the corpus"
#: What is left as it is when the reason of a change is looked for, and its name.
SPARED = (("addresses",), ("texts",), ("addresses", "texts"))
SERVICE, PROTOCOL = "service", "protocol"


class Changed(NamedTuple):
    """A flow that nDPI calls otherwise in the pack; kind: what differs; ends: of the original."""

    capture: str
    before: str
    after: str
    kind: str
    reason: str
    ends: str
    names: str


class Compared(NamedTuple):
    """What packing one capture changed.

    midcall, ndpi, protocols, tshark: [the same, compared]; frames: protocols of a frame before and
    after -> frames; refused: why it was not packed, "" if it was.
    """

    capture: str
    refused: str
    midcall: tuple[int, int]
    ndpi: tuple[int, int]
    protocols: tuple[int, int]
    tshark: tuple[int, int]
    changed: list[Changed]
    frames: Counter[tuple[str, str]]
    searched: dict[str, int]
    patterns: int
    chance: int
    expected: float


def compared(task: tuple[str, Path]) -> Compared:
    """Pack one capture and compare the answers about it and its original."""
    name, path = task
    packets = read(path)
    try:
        made, check = checked_copy(name, packets, 0, KEY, [])
    except CaptureError as error:
        none = (0, 0)
        return Compared(name, str(error), none, none, none, none, [], Counter(), {}, 0, 0, 0.0)
    with tempfile.TemporaryDirectory() as folder:
        old, new = Path(folder, f"old{path.suffix}"), Path(folder, "new.pcapng")
        shutil.copyfile(path, old)
        write_pcapng(new, made.packets)
        rows = midcall_rows(packets), midcall_rows(made.packets)
        same = sum(rows[1].get(frame) == row for frame, row in rows[0].items())
        asked = Asked(Path(folder), old)
        before, after = asked.about(packets, packets, old), asked.about(packets, made.packets, new)
        changed = list(differences(name, packets, asked, before, after))
        frames = frame_protocols(old), frame_protocols(new)
    pairs = Counter(zip(*frames, strict=True))
    total = sum(map(len, before.values()))
    other = sum(one.kind == PROTOCOL for one in changed)
    return Compared(
        name,
        "",
        (same, len(rows[0])),
        (total - len(changed), total),
        (total - other, total),
        (sum(n for (a, b), n in pairs.items() if a == b), len(frames[0])),
        changed,
        Counter({pair: n for pair, n in pairs.items() if pair[0] != pair[1]}),
        *facts(check),
    )


def facts(check: Check) -> tuple[dict[str, int], int, int, float]:
    """Return what a check looked for, and its hits by chance."""
    return check.searched, check.patterns, len(check.chance), check.expected


def midcall_rows(packets: Packets) -> dict[int, tuple[object, ...]]:
    """Return Midcall's verdict, app and role of each flow by its first frame."""
    return {
        row["frame"]: (row["verdict"], row["app"], row["role"])
        for row in classify_packets(packets, "x")[0]
    }


def frame_protocols(path: Path) -> list[str]:
    """Return the protocols that tshark finds in each frame."""
    command = ["tshark", "-n", "-r", str(path), "-T", "fields", "-e", "frame.protocols"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    return done.stdout.splitlines()


# ---- nDPI


class Asked:
    """nDPI's answers about copies of one capture, with the flows named as in the original."""

    def __init__(self, folder: Path, original: Path) -> None:
        reader, reason = ndpi.find()
        if reader is None:
            raise SystemExit(reason)
        self.reader, self.folder, self.original = reader, folder, original

    def about(self, packets: Packets, copy: Packets, path: Path) -> Answer:
        """Return flow of the original -> labels of the copy in a file."""
        answer, reason = self.reader.ask(str(path))
        if reason:
            raise SystemExit(f"{path}: {reason}")
        if copy is packets:
            return answer
        back = images(copy, packets)
        named: Answer = {}
        for (proto, ends), labels in answer.items():
            flow = proto, frozenset((back.get(address, address), port) for address, port in ends)
            named[flow] = (*named.get(flow, ()), *labels)
        return named

    def names(self) -> dict[Key, str]:
        """Return the server or host name that nDPI found in each flow of the original."""
        out = self.folder / "names.csv"
        command = [self.reader.program, "-i", str(self.original), "-q", "-t", "-C", str(out)]
        subprocess.run(command, capture_output=True, check=False, timeout=300)
        found: dict[Key, str] = {}
        with out.open(encoding="utf-8", errors="replace") as text:
            for row in csv.DictReader(line.lstrip("#") for line in text):
                try:
                    ports = int(row["src_port"]), int(row["dst_port"])
                    flow = ndpi.key(
                        int(row["protocol"]), row["src_ip"], ports[0], row["dst_ip"], ports[1]
                    )
                except (TypeError, ValueError):
                    continue
                columns = ("server_name_sni", "ndpi_server_info", "server_info", "host_info")
                found[flow] = next((row[one] for one in columns if row.get(one)), "")
        return found


def images(one: Packets, other: Packets) -> dict[str, str]:
    """Return address in one capture -> address at the same place in the other, as text."""
    found: dict[str, str] = {}
    for i in range(one.total):
        frame, twin, link = one.frame(i), other.frame(i), int(one.link[i])
        for layer in layers(frame, link):
            for at in layer.addresses[:2]:
                size = layer.addresses[2]
                found.setdefault(text_of(frame[at : at + size]), text_of(twin[at : at + size]))
    return found


def text_of(address: bytes) -> str:
    """Return a packed address as text."""
    from ipaddress import ip_address

    return str(ip_address(address))


def differences(
    name: str, packets: Packets, asked: Asked, before: Answer, after: Answer
) -> Iterator[Changed]:
    """Yield the flows that nDPI calls otherwise, each with its reason."""
    flows = [flow for flow, labels in before.items() if after.get(flow, ()) != labels]
    if not flows:
        return
    restored: dict[Key, str] = {}
    for spared in SPARED:
        with sparing(spared):
            made = checked_free(packets)
        path = asked.folder / "spared.pcapng"
        write_pcapng(path, made)
        answer = asked.about(packets, made, path)
        for flow in flows:
            if answer.get(flow) == before[flow]:
                restored.setdefault(flow, " and ".join(spared))
    hosts = asked.names()
    for flow in flows:
        ends = " ".join(sorted(f"{address}:{port}" for address, port in flow[1]))
        pairs = itertools.zip_longest(before[flow], after.get(flow, ()), fillvalue="none")
        for old, new in pairs:
            if old != new and old != "none":
                kind = SERVICE if old.split(".")[0] == new.split(".")[0] else PROTOCOL
                reason = restored.get(flow, "neither")
                yield Changed(name, old, new, kind, reason, ends, hosts.get(flow, ""))


def checked_free(packets: Packets) -> Packets:
    """Return mapped packets without a check."""
    from midcall.captures.own.sharing import shared

    return shared(packets, 0, KEY).packets


@contextmanager
def sparing(what: Sequence[str]) -> Iterator[None]:
    """Leave addresses or texts as they are, within the block."""
    same = {
        "addresses": ("new", lambda _, address: address),
        "texts": ("forced", lambda _, word: word),
    }
    with ExitStack() as stack:
        for one in what:
            name, function = same[one]
            stack.enter_context(mock.patch.object(Pseudonyms, name, function))
        if "texts" in what:
            for name in ("guid", "opaque", "text", "words", "hosts"):
                stack.enter_context(mock.patch.object(Pseudonyms, name, same["texts"][1]))
        yield


# ---- the tables


def print_tables(results: Sequence[Compared]) -> None:
    """Print the tables of docs/notes/sharing.md."""
    refused = [one for one in results if one.refused]
    print(f"captures packed: {len(results) - len(refused)}, refused: {len(refused)}")
    for one in refused:
        print(f"  {one.refused}")
    searched = sum((Counter(one.searched) for one in results), Counter())
    print("looked for:", ", ".join(f"{n:,} {kind}" for kind, n in sorted(searched.items())))
    print(f"forms: {sum(one.patterns for one in results):,}")
    chance, expected = sum(one.chance for one in results), sum(one.expected for one in results)
    print(f"four-byte hits in random data: {chance} ({expected:.1f} to expect)")
    for title, pairs in (
        ("Midcall, flows", [one.midcall for one in results]),
        ("nDPI, flows", [one.ndpi for one in results]),
        ("nDPI, protocol alone", [one.protocols for one in results]),
        ("tshark, frames", [one.tshark for one in results]),
    ):
        same, total = (sum(column) for column in zip(*pairs, strict=True))
        print(f"{title}: {same:,} of {total:,} the same ({100 * same / max(total, 1):.2f} %)")
    changed = [row for one in results for row in one.changed]
    print("\nnDPI: flows by reason (what, left as it is, restores the answer)")
    classes = Counter((row.reason, row.kind) for row in changed)
    for (reason, kind), count in classes.most_common():
        of_class = [row for row in changed if (row.reason, row.kind) == (reason, kind)]
        words = Counter(f"{row.before} to {row.after}" for row in of_class).most_common(4)
        print(f"{count:6} {kind:9} {reason:20} " + "; ".join(f"{n} {text}" for text, n in words))
    frames: Counter[tuple[str, str]] = sum((one.frames for one in results), Counter())
    print("\ntshark: frames by protocols before and after")
    for (old, new), count in frames.most_common(30):
        print(f"{count:6} {old} -> {new}")


def write_rows(path: Path, rows: Iterable[Changed]) -> None:
    """Write the changed flows as CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(Changed._fields)
        writer.writerows(rows)


def main() -> int:
    """Compare the captures named, or all that are here; 1 if one was refused."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", help="names of captures (default: all)")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("-o", "--out", type=Path, help="a folder for changed.csv")
    arguments = parser.parse_args()
    catalogue = load(local=False)
    paths = obtain(catalogue, offline=True).paths

    def wanted(one: Capture) -> bool:
        named = one.name in arguments.names if arguments.names else not one.ours
        return named and one.sha256 in paths

    tasks = [(one.name, Path(paths[one.sha256])) for one in catalogue.captures if wanted(one)]
    results = []
    for (name, _), result, error in run_in_pool(compared, tasks, arguments.jobs):
        if result is None:
            print(f"{name}: {error}", file=sys.stderr)
            return 2
        results.append(result)
    results.sort(key=lambda one: one.capture)
    print_tables(results)
    if arguments.out is not None:
        arguments.out.mkdir(parents=True, exist_ok=True)
        write_rows(arguments.out / "changed.csv", (row for one in results for row in one.changed))
    return 1 if any(one.refused for one in results) else 0


if __name__ == "__main__":
    sys.exit(main())
