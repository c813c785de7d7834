# SPDX-License-Identifier: BSD-3-Clause
"""Beside: packets whose names, addresses, transport or disorder are nearly those of a rule."""

from __future__ import annotations

import ipaddress
import random
from collections.abc import Callable, Iterator, Sequence

import numpy as np

from midcall.experiments.localise.mutations import turned_bit
from midcall.experiments.localise.packet_fields import read
from midcall.testbed.conformance.transcript import hello, question, record
from midcall.testbed.middlebox.payload_type import WHOLE, entropy
from midcall.testbed.probing.probe import Probe, Sent
from midcall.testbed.probing.quic_initial import quic_initial

#: Packets that are changed for one word, at most.
SOME = 4
#: How near an entropy is to the end of a range; the localiser may miss it by so much.
NEAR = 0.05


def words(beside: dict[str, tuple[str, ...]], base: Probe, struck: Sequence[Probe]) -> list[Probe]:
    """Return probes beside the names and prefixes of a rule; none for a rule without them."""
    found: list[Probe] = []
    for pattern in beside.get("name", ()):
        found += named(pattern, base)
    for prefix in beside.get("prefix", ()):
        found += placed(prefix, struck)
    return found


def shown(probe: Probe, unseen: Sequence[str]) -> bool:
    """Tell whether a probe has nothing of the prefixes that a rule's call cannot show."""
    nets = [ipaddress.ip_network(one) for one in unseen]
    return not any(ipaddress.ip_address(one.ends.far) in net for one in probe for net in nets)


def named(pattern: str, base: Probe) -> Iterator[Probe]:
    """Yield packets of a capture that tell a name, with names that a pattern meets or just not."""
    told = [one for one in base if read(one).where][: 2 * SOME]
    for one in told:
        for name in names(pattern):
            for payload in messages(one, name):
                yield (one._replace(time=0, payload=payload),)


def names(pattern: str) -> list[str]:
    """Return names that a pattern meets, and names that it only nearly meets."""
    host = pattern.removeprefix("*.")
    parent = host.partition(".")[2]
    return [host, f"www.{host}", f"a.b.{host}", f"x{host}", parent, f"other.{parent}",
            f"{host}.example"]  # fmt: skip


def messages(one: Sent, name: str) -> Iterator[bytes]:
    """Yield messages that tell a name, of those that a packet's transport carries."""
    if one.ends.proto == 6:
        yield record(22, hello(name, 0x0303))
        yield f"GET / HTTP/1.1\r\nHost: {name}\r\n\r\n".encode()
        return
    yield question(name)
    yield quic_initial(name)


def placed(prefix: str, struck: Sequence[Probe]) -> Iterator[Probe]:
    """Yield struck packets with far addresses just within and just outside a prefix."""
    bits = ipaddress.ip_network(prefix).prefixlen
    for probe in struck[:SOME]:
        size = 8 * len(probe[0].ends.far)
        for bit in (bits - 1, bits, bits + 1, size - 1):
            if 0 <= bit < size:
                yield tuple(
                    one._replace(ends=one.ends._replace(far=turned_bit(one.ends.far, bit)))
                    for one in probe
                )


def edge_protocol(
    base: Probe, struck: Sequence[Probe], number: float, draws: random.Random
) -> Iterator[Probe]:
    """Yield struck flows over another transport."""
    for probe in struck[:SOME]:
        yield tuple(one._replace(ends=one.ends._replace(proto=int(number))) for one in probe)


def edge_entropy(
    base: Probe, struck: Sequence[Probe], number: float, draws: random.Random
) -> Iterator[Probe]:
    """Yield struck packets whose disorder is just less, and just more, than a share."""
    for probe in struck[: 4 * SOME]:
        one = probe[-1]
        bodies = [mixed(len(one.payload), share / 40, draws) for share in range(41)]
        for wanted in (number - NEAR, number + NEAR):
            body = min(bodies, key=lambda body: abs(disorder(body) - wanted))
            if (disorder(body) - number) * (wanted - number) > 0:
                yield (*probe[:-1], one._replace(payload=body))


def mixed(size: int, share: float, draws: random.Random) -> bytes:
    """Return octets of which a share is drawn and the rest is all the same."""
    drawn = round(size * share)
    return draws.randbytes(drawn) + b"\x55" * (size - drawn)


def disorder(body: bytes) -> float:
    """Return the entropy of octets as match.entropy of a policy counts it."""
    octets = np.frombuffer(body, np.uint8)
    return int(entropy(octets, 0, len(body), np.zeros(256, np.int64))) / WHOLE


Edge = Callable[[Probe, Sequence[Probe], float, random.Random], Iterator[Probe]]
EDGES: dict[str, Edge] = {"protocol": edge_protocol, "entropy": edge_entropy}
