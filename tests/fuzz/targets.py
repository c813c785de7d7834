# SPDX-License-Identifier: BSD-3-Clause
"""Targets: what one input of a fuzzer is to a reader, and what must hold of it.

An input is an octet that names the target, one that says how much longer the packet was on the
wire, and the packet. Payload readers, decoding and the whole path must say the same whatever lies
around the packet; files of captures must give packets or a CaptureError, in batches as whole. In
plain Python a read past an array is an IndexError.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from midcall.classifier.path.decode import LINKS
from midcall.experiments.proofs.fuzz.files import read_twice
from tests.classifier.payloads import HAND_MADE
from tests.classifier.test_truncation import READERS, frame, frames, places, walk
from tests.classifier.wire import EPOCH, MS

SEEDS = Path(__file__).parent / "seeds"
CRASHES = Path(__file__).parent / "crashes"
PLACE = Path(tempfile.gettempdir()) / f"midcall-fuzz-{os.getpid()}.bin"


def alike(reader: Callable[..., object], packet: bytes, size: int) -> None:
    """Read a packet in every surrounding; raises AssertionError where that changes anything."""
    found = [reader(place) for place in places(packet, size, b"")]
    assert all(one == found[0] for one in found), "what lies around the packet changes the reading"


def a_frame(link: int) -> Callable[[bytes, int], None]:
    """Return the target that decodes frames of a link type."""
    return lambda packet, size: alike(lambda place: frame(place, link), packet, size)


def a_reader(name: str) -> Callable[[bytes, int], None]:
    """Return the target of a payload reader."""
    return lambda packet, size: alike(READERS[name], packet, size)


def the_path(packet: bytes, size: int) -> None:
    """Walk a row of frames, each led by its length in one octet, through one engine."""
    rows, at = [], 0
    while at < len(packet) and len(rows) < 16:
        end = at + 1 + packet[at]
        row = packet[at + 1 : end]
        rows.append((row, len(row) + size - len(packet), EPOCH + len(rows) * MS, 1))
        at = end
    found = [walk(rows, filling) for filling in ((b"", b""), (b"\xff" * 64, b"\xff" * 64))]
    assert found[0] == found[1], "what lies around the packets changes the flows"


def a_file(packet: bytes, size: int) -> None:
    """Read a capture file, in batches and whole."""
    PLACE.write_bytes(packet)
    try:
        read_twice(PLACE, size)
    finally:
        PLACE.unlink(missing_ok=True)


TARGETS: dict[str, Callable[[bytes, int], None]] = {
    **{name: a_reader(name) for name in READERS},
    **{f"link type {link}": a_frame(link) for link in LINKS},
    "path": the_path,
    "file": a_file,
}
NAMES = tuple(TARGETS)


def one(data: bytes) -> None:
    """Carry one input out; raises what the fuzzer is to find."""
    if len(data) > 2:
        target = TARGETS[NAMES[data[0] % len(NAMES)]]
        target(data[2:], len(data) - 2 + data[1])


def cases() -> Iterator[bytes]:
    """Yield minimal cases of every target: hand-made messages, frames and files."""
    for name in READERS:
        for payload in HAND_MADE.values():
            yield bytes([NAMES.index(name), 0]) + payload
    for octets, link in frames():
        yield bytes([NAMES.index(f"link type {link}"), 0]) + octets
    for path in sorted(SEEDS.glob("*.pcap*")):
        yield bytes([NAMES.index("file"), 0]) + path.read_bytes()
    for path in sorted(CRASHES.glob("*")):
        yield path.read_bytes()
