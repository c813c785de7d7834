# SPDX-License-Identifier: BSD-3-Clause
"""The walk to a frame's key: by the compiled twin, the kernel's program, and the classifier."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from midcall.captures.jit.reads import Octets
from midcall.captures.packets import pcap
from midcall.classifier.path.decode import DECODED, FRAGMENTS, decode
from midcall.classifier.state.packet_fields import (
    SIGN_IP_SIZE,
    SIGN_PROTO,
    SIGN_SOURCE_AT,
    SIGN_SOURCE_PORT,
    SIGN_TARGET_AT,
    SIGN_TARGET_PORT,
    SIGN_VERSION,
    SIGNS,
)
from midcall.testbed.live.offload import bpf
from midcall.testbed.live.offload.flow_key import read_key
from midcall.testbed.live.offload.xdp import COUNT, ENTRY, KEY, KEY_SIZE, TO_DROP, Shared, shortcut
from tests.live import frames

SAMPLES = Path(__file__).resolve().parents[2] / "captures" / "samples"

INNER = frames.ip4(frames.CALLER, frames.SERVER, frames.udp(5000, 3478))
INNER6 = frames.ip6(frames.CALLER6, frames.SERVER6, frames.tcp(5000, 443, b"hello"), 6)

# name, frame, what the key says
KEYED = [
    ("IPv4", frames.ethernet(INNER), {"version": 4, "proto": 17, "source_port": 5000}),
    ("IPv6", frames.ethernet(INNER6), {"version": 6, "proto": 6, "target_port": 443}),
    ("VLAN", frames.ethernet(INNER, (7,)), {"vlans": 7, "layers": 1}),
    ("two VLANs", frames.ethernet(INNER, (5, 7)), {"vlans": 5 << 12 | 7, "layers": 3}),
    ("PPPoE", frames.ethernet(INNER, session=9), {"session": 9, "layers": 4}),
    ("PPPoE IPv6", frames.ethernet(INNER6, (3,), 9), {"session": 9, "layers": 5, "version": 6}),
    ("GTP-U", frames.ethernet(frames.tunnel(77, INNER)), {"teid": 77, "layers": 8}),
    ("GTP-U IPv6", frames.ethernet(frames.tunnel(77, INNER6)), {"teid": 77, "version": 6}),
    (
        "GTP-U with a sequence number",
        frames.ethernet(frames.tunnel(1, INNER, sequence=True)),
        {"teid": 1, "target_port": 3478},
    ),
    (
        "GTP-U with an extension header",
        frames.ethernet(frames.tunnel(1 << 31, INNER, b"\x10\x01"), (2,)),
        {"teid": 1 << 31, "target_port": 3478, "layers": 9, "vlans": 2},
    ),
    (
        "GTP-U with a long extension header",
        frames.ethernet(frames.tunnel(5, INNER, bytes(1018))),
        {"teid": 5, "source_port": 5000},
    ),
]

# what goes up, and a frame of it
KEYLESS = [
    ("a fragment", frames.ethernet(frames.between(bytes(40), word=0x2000))),
    (
        "a later fragment",
        frames.ethernet(frames.between(bytes(40), word=9)),
    ),
    ("ICMP", frames.ethernet(frames.between(bytes(40), 1))),
    ("GRE", frames.ethernet(frames.between(bytes(40), 47))),
    ("ARP", frames.ethernet(INNER)[:12] + b"\x08\x06" + bytes(46)),
    ("IP options", frames.ethernet(b"\x46" + INNER[1:])),
    ("an IPv6 extension header", frames.ethernet(frames.ip6("fd00::1", "fd00::2", bytes(40), 0))),
    ("a packet cut short", frames.ethernet(INNER)[:-1]),
    ("three VLAN tags", frames.ethernet(INNER, (1, 2, 3))),
    ("PPP control", frames.ethernet(INNER, session=1)[:20] + b"\xc0\x21" + bytes(40)),
    ("a GTP-U echo", frames.ethernet(frames.tunnel(0, INNER).replace(b"\x30\xff", b"\x32\x01"))),
    ("GTP-U in GTP-U", frames.ethernet(frames.tunnel(1, frames.tunnel(2, INNER)))),
    ("L2TP", frames.ethernet(frames.between(frames.udp(9, 1701)))),
    ("Teredo", frames.ethernet(frames.between(frames.udp(3544, 9)))),
    ("VXLAN", frames.ethernet(frames.between(frames.udp(9, 4789)))),
    (
        "a TCP header too short",
        frames.ethernet(frames.between(bytes(20), 6)),
    ),
]


def key_of(frame: bytes) -> tuple[int, Any]:
    """Return the size of a frame's innermost packet (-1: no key) and its key."""
    key = np.zeros(KEY_SIZE, np.uint8)
    size = read_key(np.frombuffer(frame, np.uint8).copy(), 0, len(frame), key)
    return int(size), key.view(KEY)[0]


@pytest.mark.parametrize(("name", "frame", "says"), KEYED, ids=[row[0] for row in KEYED])
def test_a_frame_is_known_by_tunnel_and_inner_addresses(
    name: str, frame: bytes, says: dict[str, int]
) -> None:
    size, key = key_of(frame)
    assert size == (len(INNER6) if key["version"] == 6 else len(INNER))
    assert {field: int(key[field]) for field in says} == says
    assert bytes(key["source"]).rstrip(b"\0") == frames.packed(
        frames.CALLER6 if key["version"] == 6 else frames.CALLER
    )


@pytest.mark.parametrize(("name", "frame"), KEYLESS, ids=[row[0] for row in KEYLESS])
def test_what_the_program_does_not_know_has_no_key(name: str, frame: bytes) -> None:
    assert key_of(frame)[0] == -1


def test_tunnels_and_tags_tell_equal_inner_packets_apart() -> None:
    wrapped = [
        frames.ethernet(INNER),
        frames.ethernet(INNER, (1,)),
        frames.ethernet(INNER, (0, 1)),
        frames.ethernet(INNER, session=0),
        frames.ethernet(frames.tunnel(0, INNER)),
        frames.ethernet(frames.tunnel(1, INNER)),
    ]
    assert len({key_of(frame)[1].tobytes() for frame in wrapped}) == len(wrapped)


def test_the_way_into_a_tunnel_is_no_part_of_the_key() -> None:
    plain = key_of(frames.ethernet(frames.tunnel(4, INNER)))[1]
    other = frames.tunnel(4, INNER, b"\x10\x01").replace(
        frames.packed("198.18.255.1"), frames.packed("198.18.255.9")
    )
    assert key_of(frames.ethernet(other))[1] == plain


# ---- beside the kernel's program and the classifier


def sampled(per_file: int) -> Iterator[bytes]:
    """Yield frames of the samples, each as it is and damaged in three ways."""
    dice = random.Random(4)
    for path in sorted(SAMPLES.glob("*.pcap*")):
        packets = pcap.read(path)
        for i in range(0, packets.total, max(packets.total // per_file, 1)):
            start = int(packets.offset[i])
            frame = packets.data[start : start + int(packets.captured[i])].tobytes()
            if packets.link[i] == 1 and len(frame) >= 14:
                yield frame
                yield from (damaged(frame, dice, times) for times in (1, 2, 3))


def damaged(frame: bytes, dice: random.Random, times: int) -> bytes:
    """Return a frame with some octets of its headers changed, or cut."""
    octets = bytearray(frame)
    for _ in range(times):
        octets[dice.randrange(min(len(octets), 110))] = dice.choice((0, 1, 8, 17, 0x45, 0xFF))
    return bytes(octets[: dice.randrange(14, len(octets) + 1)] if times == 3 else octets)


def agrees(frame: bytes, key: Any, size: int, signs: Any, fragments: Any) -> bool:
    """Tell whether the classifier reads what the key says."""
    octets: Octets = np.frombuffer(frame, np.uint8)
    if decode(octets, 0, len(frame), len(frame), 1, signs, fragments) != DECODED:
        return False
    long = 16 if key["version"] == 6 else 4
    source, target = int(signs[SIGN_SOURCE_AT]), int(signs[SIGN_TARGET_AT])
    return (
        (signs[SIGN_VERSION], signs[SIGN_PROTO], signs[SIGN_IP_SIZE])
        == (key["version"], key["proto"], size)
        and (signs[SIGN_SOURCE_PORT], signs[SIGN_TARGET_PORT])
        == (key["source_port"], key["target_port"])
        and frame[source : source + long] == bytes(key["source"][:long])
        and frame[target : target + long] == bytes(key["target"][:long])
    )


def test_a_key_is_what_the_classifier_decodes() -> None:
    signs, fragments = np.zeros(SIGNS, np.int64), np.zeros((FRAGMENTS, 2), np.int64)
    keyed = 0
    for frame in sampled(60):
        size, key = key_of(frame)
        if size >= 0:
            keyed += 1
            assert agrees(frame, key, size, signs, fragments), frame.hex()
    assert keyed > 1000


@pytest.mark.live
def test_the_kernels_program_walks_as_the_compiled_twin() -> None:
    entries = bpf.Map(bpf.HASH, KEY_SIZE, ENTRY.itemsize, 64)
    counts = bpf.Map(bpf.ARRAY, 4, COUNT.itemsize, 8)
    counted = np.frombuffer(counts.memory(), COUNT)
    program = bpf.load(shortcut(Shared(entries.descriptor, counts.descriptor), 1))
    drop = np.array((TO_DROP, 5, 0, -1), ENTRY).tobytes()
    known = [row[1] for row in KEYED] + [row[1] for row in KEYLESS]
    keyed = 0
    for frame in (*known, *sampled(25)):
        size, key = key_of(frame)
        assert bpf.try_out(program, frame) == bpf.XDP_PASS, frame.hex()
        if size < 0:
            continue
        keyed += 1
        before = int(counted["bytes"][5])
        entries.update(key.tobytes(), drop)
        assert bpf.try_out(program, frame) == bpf.XDP_DROP, frame.hex()
        assert int(counted["bytes"][5]) - before == size
        entries.delete(key.tobytes())
    assert keyed > 500
    entries.close()
    counts.close()
