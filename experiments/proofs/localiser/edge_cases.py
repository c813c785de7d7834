# SPDX-License-Identifier: BSD-3-Clause
"""Edge cases: packets whose names, addresses, transport or entropy are close to those of a rule."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from midcall.experiments.localise.mutations import flipped_bit
from midcall.experiments.localise.packet_fields import read
from midcall.testbed.conformance.transcript import hello, question, record
from midcall.testbed.middlebox.payload_type import WHOLE, entropy
from midcall.testbed.probing.probe import Probe, Sent
from midcall.testbed.probing.quic_initial import quic_initial

#: Largest number of packets that are changed for one name or prefix.
SOME = 4
#: Distance of an entropy from the end of a range: the tolerance of the localiser.
NEAR = 0.05


def edge_probes(
    edge_words: dict[str, tuple[str, ...]], base: Probe, matching: Sequence[Probe]
) -> list[Probe]:
    """Return probes close to the names and prefixes of a rule; none for a rule without them."""
    probes: list[Probe] = []
    for pattern in edge_words.get("name", ()):
        probes += name_probes(pattern, base)
    for prefix in edge_words.get("prefix", ()):
        probes += prefix_probes(prefix, matching)
    return probes


def is_observable(probe: Probe, unseen: Sequence[str]) -> bool:
    """Return whether a probe has no far address in prefixes that do not occur in the rule's
    call."""
    nets = [ipaddress.ip_network(one) for one in unseen]
    return not any(ipaddress.ip_address(one.ends.far) in net for one in probe for net in nets)


def name_probes(pattern: str, base: Probe) -> Iterator[Probe]:
    """Yield packets of a capture that contain a name, with names that a pattern matches or just
    fails to match."""
    named = [one for one in base if read(one).where][: 2 * SOME]
    for one in named:
        for name in names(pattern):
            for payload in messages(one, name):
                yield (one._replace(time=0, payload=payload),)


def names(pattern: str) -> list[str]:
    """Return names that a pattern matches, and names that it just fails to match."""
    host = pattern.removeprefix("*.")
    parent = host.partition(".")[2]
    return [host, f"www.{host}", f"a.b.{host}", f"x{host}", parent, f"other.{parent}",
            f"{host}.example"]  # fmt: skip


def messages(packet: Sent, name: str) -> Iterator[bytes]:
    """Yield messages with a name that a packet's transport carries."""
    if packet.ends.proto == 6:
        yield record(22, hello(name, 0x0303))
        yield f"GET / HTTP/1.1\r\nHost: {name}\r\n\r\n".encode()
        return
    yield question(name)
    yield quic_initial(name)


def prefix_probes(prefix: str, matching: Sequence[Probe]) -> Iterator[Probe]:
    """Yield matching packets with far addresses just inside and just outside a prefix."""
    bits = ipaddress.ip_network(prefix).prefixlen
    for probe in matching[:SOME]:
        size = 8 * len(probe[0].ends.far)
        for bit in (bits - 1, bits, bits + 1, size - 1):
            if 0 <= bit < size:
                yield tuple(
                    one._replace(ends=one.ends._replace(far=flipped_bit(one.ends.far, bit)))
                    for one in probe
                )


def edge_protocol(
    base: Probe, matching: Sequence[Probe], number: float, rng: random.Random
) -> Iterator[Probe]:
    """Yield matching flows over another transport."""
    for probe in matching[:SOME]:
        yield tuple(one._replace(ends=one.ends._replace(proto=int(number))) for one in probe)


def edge_entropy(
    base: Probe, matching: Sequence[Probe], number: float, rng: random.Random
) -> Iterator[Probe]:
    """Yield matching packets whose entropy is just below, and just above, a share."""
    for probe in matching[: 4 * SOME]:
        one = probe[-1]
        bodies = [mixed(len(one.payload), share / 40, rng) for share in range(41)]
        for wanted in (number - NEAR, number + NEAR):
            body = min(bodies, key=lambda body: abs(entropy_of(body) - wanted))
            if (entropy_of(body) - number) * (wanted - number) > 0:
                yield (*probe[:-1], one._replace(payload=body))


def mixed(size: int, share: float, rng: random.Random) -> bytes:
    """Return `size` octets of which a share is random and the rest are equal."""
    random_octets = round(size * share)
    return rng.randbytes(random_octets) + b"\x55" * (size - random_octets)


def entropy_of(body: bytes) -> float:
    """Return the entropy of octets as match.entropy of a policy computes it."""
    octets = np.frombuffer(body, np.uint8)
    return int(entropy(octets, 0, len(body), np.zeros(256, np.int64))) / WHOLE


Edge = Callable[[Probe, Sequence[Probe], float, random.Random], Iterator[Probe]]
EDGES: dict[str, Edge] = {"protocol": edge_protocol, "entropy": edge_entropy}
