# SPDX-License-Identifier: BSD-3-Clause
"""Names and fingerprints of hellos in real captures, beside Wireshark's, where it is installed.

No name is in a message of these tests: they are third parties'.
"""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest

from midcall.captures.packets.pcap import read
from midcall.classifier.state.packet_fields import NAME_QUIC_SNI, NAME_SNI
from tests.classifier.wire import NameRead, names_read

#: Captures that are slow to read in Python, packet by packet, are left out.
LARGEST = 3_000_000
FIELDS = ("frame.number", "tls.handshake.extensions_server_name", "tls.handshake.ja4")

pytestmark = [
    pytest.mark.corpus,
    pytest.mark.skipif(shutil.which("tshark") is None, reason="tshark is not installed"),
]


class Seen(NamedTuple):
    """What Wireshark reads of one ClientHello."""

    record: int
    name: str
    ja4: str


def dissected(path: Path) -> list[Seen]:
    """Return the ClientHellos of TLS and QUIC that tshark finds."""
    command = ["tshark", "-r", str(path), "-Y", "tls.handshake.type==1", "-T", "fields"]
    command += ["-E", "occurrence=f", *(word for field in FIELDS for word in ("-e", field))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    rows = [line.split("\t") for line in done.stdout.splitlines()]
    return [Seen(int(row[0]) - 1, row[1], row[2]) for row in rows if len(row) == 3]


def earlier(ours: dict[int, NameRead], seen: Seen) -> set[str]:
    """Return the names read before: a name may be whole before its hello is. "" is one of them."""
    return {""} | {one.name for record, one in ours.items() if record < seen.record and one.kind}


@pytest.mark.parametrize(
    "part",
    [0, *(pytest.param(part, marks=pytest.mark.longest) for part in (1, 2))],
)
def test_hellos_of_real_captures_are_those_that_wireshark_reads(corpus: Path, part: int) -> None:
    """part: one capture in three, by its place in the list; a process per capture takes long."""
    spelt: dict[str, set[int]] = {}
    counts: Counter[str] = Counter()
    wrong: list[str] = []
    for path in sorted(corpus.rglob("*.pcap*"))[part::3]:
        if not path.is_file() or path.stat().st_size > LARGEST:
            continue
        wanted = dissected(path)
        if not wanted:
            continue
        ours = {one.record: one for one in names_read(read(path))}
        for seen in wanted:
            one = ours.get(seen.record)
            counts["hellos"] += 1
            if one is None or not one.print:
                counts["not read"] += 1  # second hellos of a connection, mostly
                continue
            if seen.ja4:
                spelt.setdefault(seen.ja4, set()).add(one.print)
            named = [one.name] if one.kind in (NAME_SNI, NAME_QUIC_SNI) else earlier(ours, seen)
            if seen.name.lower() not in named:
                wrong.append(f"{path.name}: frame {seen.record + 1}")
    assert wrong == []
    assert counts["hellos"] > 20
    assert counts["not read"] <= counts["hellos"] // 20
    numbers = [number for numbers_of_name in spelt.values() for number in numbers_of_name]
    assert len(numbers) == len(set(numbers)) == len(spelt)
