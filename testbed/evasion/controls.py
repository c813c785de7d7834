# SPDX-License-Identifier: BSD-3-Clause
"""Control arms: one call with one thing changed on the wire, to find what a box matches on.

Each arm rewrites a capture (testbed.evasion.rewriter): both ends behave as before, only what the
box sees is different. An arm that unblocks a call shows that what it changed was needed for the
block. It attributes a block and never invalidates one. Draws come from hashes of names, so an arm
is the same for the same capture and seed.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.numbers import TCP, UDP
from midcall.captures.packets.pcap import Packets
from midcall.classifier.engine import Engine
from midcall.classifier.state.packet_fields import SIGN_NAME_KIND, SIGN_TEXT, SIGN_TEXT_LENGTH
from midcall.errors import TestbedError
from midcall.testbed.evasion.rewriter import Rewriter, carries
from midcall.testbed.replay.script import Script
from midcall.testbed.replay.sides import CALLER

Numbers = NDArray[np.int64]

#: Blocks that addresses are replaced from, remote and subscriber: RFC 2544's, not routed publicly.
REMOTE_BLOCK, SUBSCRIBER_BLOCK = 0xC6130000, 0xC612F000
#: IPv6 in a unique local block (RFC 4193).
BLOCK6 = bytes.fromhex("fd4d4944")
#: Range of replacement ports: none is registered for a protocol that boxes look for.
PORTS = (20_000, 29_999)


class Arm(NamedTuple):
    """One arm: its name, what it changes in words, and the function that rewrites."""

    name: str
    says: str
    make: Callable[[Script, int], Rewriter]


def octets(seed: int, *names: object, size: int) -> bytes:
    """Return `size` octets that depend on a seed and names alone."""
    text = "/".join(str(name) for name in (seed, *names))
    return hashlib.shake_128(text.encode()).digest(size)


def order(seed: int, *names: object, count: int) -> Numbers:
    """Return a permutation of `count` that depends on a seed and names alone."""
    keys = np.frombuffer(octets(seed, *names, size=8 * count), ">u8")
    return np.argsort(keys, kind="stable").astype(np.int64)


def streams_of(script: Script) -> Iterator[Numbers]:
    """Yield the packets of each flow and direction that carry a payload."""
    own = carries(script.held)
    own = own[script.side[own] <= 1]
    key = 2 * script.flow[own] + script.side[own]
    for one in np.unique(key):
        yield own[key == one]


# ---- the arms


def inverted(script: Script, seed: int) -> Rewriter:
    """Return packets whose payloads have every bit inverted: sizes, histogram and order stay."""
    del seed
    rewriter = Rewriter(script.held)
    for i in carries(script.held):
        body = np.frombuffer(rewriter.body(int(i)), np.uint8)
        rewriter.put(int(i), (255 - body).tobytes())
    return rewriter


def randomised(script: Script, seed: int) -> Rewriter:
    """Return packets whose payloads are random octets of the same sizes."""
    rewriter = Rewriter(script.held)
    for i in carries(script.held):
        rewriter.put(int(i), octets(seed, "payload", int(i), size=len(rewriter.body(int(i)))))
    return rewriter


def sizes_shuffled(script: Script, seed: int) -> Rewriter:
    """Return packets whose sizes are shuffled among those of their UDP flow and direction.

    A payload that becomes smaller is cut, one that becomes larger is filled up with random octets.
    TCP stays: the sender's stack chooses its sizes.
    """
    rewriter = Rewriter(script.held)
    facts = script.held.facts
    for own in streams_of(script):
        if facts["proto"][own[0]] != UDP:
            continue
        sizes = (facts["end"] - facts["at"])[own]
        mixed = sizes[order(seed, "sizes", int(own[0]), count=len(own))]
        for i, size in zip(own.tolist(), mixed.tolist(), strict=True):
            body = rewriter.body(i)
            if size != len(body):
                more = octets(seed, "filling", i, size=max(size - len(body), 0))
                rewriter.put(i, body[:size] + more)
    return rewriter


def gaps_shuffled(script: Script, seed: int) -> Rewriter:
    """Return packets whose gaps to the one before are shuffled within their flow and direction.

    First and last of each keep their times; replies keep their pauses.
    """
    rewriter = Rewriter(script.held)
    for own in streams_of(script):
        times = np.maximum.accumulate(rewriter.time[own])
        gaps = np.diff(times)
        mixed = gaps[order(seed, "gaps", int(own[0]), count=len(gaps))]
        rewriter.time[own] = times[0] + np.concatenate((np.zeros(1, np.int64), np.cumsum(mixed)))
    return rewriter


def names_replaced(script: Script, seed: int) -> Rewriter:
    """Return packets with every server name (TLS, DNS, HTTP) replaced by one of equal form.

    Names in QUIC Initials are encrypted and stay; `sealed_names` lists them.
    """
    rewriter = Rewriter(script.held)
    images = {name: other_name(name, seed) for name in names_of(script.held.packets)}
    forms = {
        form(name): form(image) for name, image in images.items() for form in (plain, labelled)
    }
    if not forms:
        return rewriter
    longest = sorted(forms, key=lambda one: (-len(one), one))
    pattern = re.compile(b"|".join(re.escape(one) for one in longest), re.IGNORECASE)
    for i in carries(script.held).tolist():
        old = rewriter.body(i)
        new = pattern.sub(lambda hit: forms[hit[0].lower()], old)
        if new != old:
            rewriter.put(i, new)
    return rewriter


def addresses_replaced(script: Script, seed: int) -> Rewriter:
    """Return packets with both addresses replaced, each captured address by one image.

    Only headers are rewritten: addresses in payloads stay.
    """
    rewriter = Rewriter(script.held)
    images: dict[tuple[bytes, bool], bytes] = {}
    for i in routed(script).tolist():
        is_ip4 = script.held.facts[i]["version"] == 4
        first, size = (12, 4) if is_ip4 else (8, 16)
        packet = rewriter.packet(i)
        for of_sender in (True, False):
            of_subscriber = (script.side[i] == CALLER) == of_sender
            at = first + (0 if of_sender else size)
            key = bytes(packet[at : at + size]), bool(of_subscriber)
            if key not in images:
                images[key] = other_address(key[0], bool(of_subscriber), len(images), seed)
            rewriter.address(i, of_sender, images[key])
    return rewriter


def ports_replaced(script: Script, seed: int) -> Rewriter:
    """Return packets with the remote port replaced, each flow's by one image."""
    rewriter = Rewriter(script.held)
    facts = script.held.facts
    first, last = PORTS
    for i in routed(script).tolist():
        if facts["proto"][i] in (TCP, UDP) and facts["at"][i] > facts["ip_at"][i]:
            draw = int.from_bytes(octets(seed, "port", int(script.flow[i]), size=4), "big")
            image = first + draw % (last - first + 1)
            rewriter.port(i, script.side[i] != CALLER, image)
    return rewriter


def routed(script: Script) -> Numbers:
    """Return the packets that meet a box."""
    return np.flatnonzero((script.side <= 1) & (script.flow >= 0))


ARMS = (
    Arm("inverted", "payload bits inverted", inverted),
    Arm("random", "random payload of the same sizes", randomised),
    Arm("sizes", "sizes shuffled", sizes_shuffled),
    Arm("gaps", "gaps shuffled", gaps_shuffled),
    Arm("names", "server names replaced", names_replaced),
    Arm("addresses", "addresses replaced", addresses_replaced),
    Arm("ports", "far ports replaced", ports_replaced),
)


def arm(name: str) -> Arm:
    """Return an arm by its name; raises TestbedError."""
    for one in ARMS:
        if one.name == name:
            return one
    known = ", ".join(one.name for one in ARMS)
    raise TestbedError(f"arm: got {name!r}, expected one of {known}")


def dressed(name: str, script: Script, seed: int) -> Packets:
    """Return a capture's packets as rewritten by an arm; raises TestbedError for an unknown arm."""
    return arm(name).make(script, seed).packets()


# ---- names


def names_of(packets: Packets) -> set[str]:
    """Return the host names in a capture's packets (as the classifier reads them), lower case."""
    engine, names = Engine(model=None), set()
    for i in range(packets.total):
        engine.feed(packets.take(slice(i, i + 1)))
        if engine.signs[SIGN_NAME_KIND] > 0:
            length = int(engine.signs[SIGN_TEXT_LENGTH])
            text = bytes(engine.signs[SIGN_TEXT : SIGN_TEXT + length].astype(np.uint8))
            names.add(text.decode("latin-1").lower())
    return {name for name in names if len(name) > 3 and "." in name}


def sealed_names(script: Script) -> set[str]:
    """Return the names that are in no payload as plain text: those of QUIC Initials."""
    data = b"\0".join(Rewriter(script.held).body(int(i)).lower() for i in carries(script.held))
    return {
        name
        for name in names_of(script.held.packets)
        if plain(name) not in data and labelled(name) not in data
    }


def plain(name: str) -> bytes:
    """Return a name as text."""
    return name.encode("latin-1")


def labelled(name: str) -> bytes:
    """Return a name as DNS labels (RFC 1035 section 3.1)."""
    return b"".join(bytes([len(one) & 63]) + plain(one) for one in name.split("."))


def other_name(name: str, seed: int) -> str:
    """Return a pseudo-random name of the same length, with labels of the same lengths."""
    draws = octets(seed, "name", name, size=len(name))
    return "".join(
        one if one == "." else "abcdefghijklmnopqrstuvwxyz"[draw % 26]
        for one, draw in zip(name, draws, strict=True)
    )


def other_address(address: bytes, of_subscriber: bool, rank: int, seed: int) -> bytes:
    """Return an address of the same version; each `rank` gives another one."""
    if len(address) == 4:
        block = SUBSCRIBER_BLOCK if of_subscriber else REMOTE_BLOCK
        return (block + (rank & 0xFFF) + 1).to_bytes(4, "big")
    return BLOCK6 + octets(seed, "address", address.hex(), size=8) + rank.to_bytes(4, "big")
