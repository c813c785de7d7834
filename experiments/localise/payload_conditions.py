# SPDX-License-Identifier: BSD-3-Clause
"""Conditions on one packet's payload that a box may match.

Each gives whether a packet meets it, which octets of a packet show it, its name in a set of
factors, and itself in words. The reading of a packet is that of experiments.localise.packet_fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from midcall.experiments.localise.packet_fields import attribute_types, read
from midcall.testbed.policy.language import METHODS
from midcall.testbed.probing.probe import Sent

#: Octets: offset in the payload, count, caption.
Span = tuple[int, int, str]

METHOD_WORDS = {number: word for word, number in METHODS.items()}


class PayloadCondition(Protocol):
    """A condition on a payload."""

    @property
    def factor(self) -> str:
        """Return its name in a set of factors."""
        ...

    @property
    def words(self) -> str:
        """Return the condition in words."""
        ...

    @property
    def cost(self) -> int:
        """Return its complexity; of two conditions that explain all answers the simpler one is
        taken."""
        ...

    @property
    def of_message(self) -> bool:
        """Return whether it describes a message that may take several packets."""
        ...

    @property
    def secret(self) -> str:
        """Return it in words without personal data, "" if `words` have none."""
        ...

    def meets(self, packet: Sent) -> bool:
        """Return whether a packet meets the condition."""
        ...

    def spans(self, packet: Sent) -> list[Span]:
        """Return the octets of a payload that show it."""
        ...


@dataclass(frozen=True)
class IsStun:
    """STUN, recognised by its magic cookie."""

    factor = "stun"
    secret = ""
    of_message = False
    words = "is a STUN message"
    cost = 1

    def meets(self, packet: Sent) -> bool:
        """Return whether the payload is STUN."""
        return read(packet).method >= 0

    def spans(self, packet: Sent) -> list[Span]:
        """Return the cookie."""
        at = packet.payload.find(bytes.fromhex("2112a442"))
        return [(at, 4, "STUN cookie")]


@dataclass(frozen=True)
class Method:
    """STUN with one of some methods."""

    methods: frozenset[int]
    factor = "stun method"
    secret = ""
    of_message = False
    cost = 2

    @property
    def words(self) -> str:
        """Return the condition in words."""
        names = ", ".join(METHOD_WORDS.get(one, f"0x{one:03x}") for one in sorted(self.methods))
        return f"is STUN of method {names}"

    def meets(self, packet: Sent) -> bool:
        """Return whether the payload is STUN with such a method."""
        return read(packet).method in self.methods

    def spans(self, packet: Sent) -> list[Span]:
        """Return the type and the cookie."""
        return [(0, 2, "STUN type"), (4, 4, "STUN cookie")]


@dataclass(frozen=True)
class Attribute:
    """STUN that has an attribute of a type."""

    type: int
    factor = "stun attribute"
    secret = ""
    of_message = False
    cost = 2

    @property
    def words(self) -> str:
        """Return the condition in words."""
        return f"is STUN with attribute 0x{self.type:04x}"

    def meets(self, packet: Sent) -> bool:
        """Return whether the payload has the attribute."""
        return self.type in attribute_types(packet.payload)

    def spans(self, packet: Sent) -> list[Span]:
        """Return the attribute's type and the cookie."""
        at = packet.payload.find(self.type.to_bytes(2, "big"), 20)
        attribute = [(at, 2, f"attribute {self.type:04x}")] if at >= 0 else []
        return [(4, 4, "STUN cookie"), *attribute]


@dataclass(frozen=True)
class PayloadKind:
    """A payload that has one of some kinds, judged by its first octets."""

    kinds: frozenset[str]
    factor = "kind"
    secret = ""
    of_message = False
    cost = 3

    @property
    def words(self) -> str:
        """Return the condition in words."""
        return f"looks like {' or '.join(sorted(self.kinds))}"

    def meets(self, packet: Sent) -> bool:
        """Return whether the payload has such a kind."""
        return read(packet).kind in self.kinds

    def spans(self, packet: Sent) -> list[Span]:
        """Return the first octets."""
        size = min(len(packet.payload), 14 if "hello" in read(packet).kind else 8)
        return [(0, size, read(packet).kind)] if size else []


@dataclass(frozen=True)
class HostName:
    """A host name in one of some protocols; a pattern `*.x` is x and every name under it."""

    where: frozenset[str]
    pattern: str
    factor = "name"
    secret = "tells one host name, or one under it (--reveal shows it)"
    of_message = True

    @property
    def cost(self) -> int:
        """Return its complexity: the fewer protocols, the higher."""
        return 10 - len(self.where)

    @property
    def words(self) -> str:
        """Return the condition in words."""
        return f"tells the name {self.pattern} ({', '.join(sorted(self.where))})"

    def meets(self, packet: Sent) -> bool:
        """Return whether the payload contains such a name."""
        reading = read(packet)
        return reading.where in self.where and name_meets(reading.name, self.pattern)

    def spans(self, packet: Sent) -> list[Span]:
        """Return the octets of the name if it is not encrypted, else the whole payload."""
        name = read(packet).name
        labels = b"".join(bytes([len(part) & 63]) + part.encode() for part in name.split("."))
        for form in (name.encode("latin-1"), labels):
            at = packet.payload.lower().find(form.lower())
            if form and at >= 0:
                return [(at, len(form), "host name")]
        return [(0, len(packet.payload), "sealed hello")]


def name_meets(name: str, pattern: str) -> bool:
    """Return whether a host name matches a pattern."""
    host = pattern.removeprefix("*.")
    return name == host or (pattern != host and name.endswith("." + host))


@dataclass(frozen=True)
class HelloFingerprint:
    """A ClientHello with a fingerprint."""

    fingerprint: int
    factor = "hello"
    secret = ""
    of_message = True
    cost = 4

    @property
    def words(self) -> str:
        """Return the condition in words."""
        return f"is a ClientHello of fingerprint {self.fingerprint:016x}"

    def meets(self, packet: Sent) -> bool:
        """Return whether the payload is a ClientHello with this fingerprint."""
        return read(packet).hello == self.fingerprint

    def spans(self, packet: Sent) -> list[Span]:
        """Return the whole ClientHello."""
        return [(0, len(packet.payload), "ClientHello")]


@dataclass(frozen=True)
class EntropyRange:
    """A payload whose entropy (as a share of the most that its length allows) lies in a range."""

    low: float
    high: float
    factor = "entropy"
    secret = ""
    of_message = False
    cost = 2

    @property
    def words(self) -> str:
        """Return the condition in words."""
        return f"has an entropy from {self.low:.3g} to {self.high:.3g} of what its length allows"

    def meets(self, packet: Sent) -> bool:
        """Return whether the payload's entropy lies in the range."""
        return self.low <= read(packet).entropy <= self.high

    def spans(self, packet: Sent) -> list[Span]:
        """Return the whole payload."""
        return [(0, len(packet.payload), "entropy")] if packet.payload else []


@dataclass(frozen=True)
class Octet:
    """A condition on one octet: equal to `value` under the bit mask `mask`, and from `low` to
    `high`."""

    at: int
    mask: int
    value: int
    low: int = 0
    high: int = 255

    def holds(self, octet: int) -> bool:
        """Return whether an octet meets the condition."""
        return octet & self.mask == self.value & self.mask and self.low <= octet <= self.high

    @property
    def word(self) -> str:
        """Return the condition in words."""
        if self.mask == 255:
            return f"{self.value:02x}"
        if self.mask:
            return f"{self.value & self.mask:02x}/{self.mask:02x}"
        return f"{self.low:02x}..{self.high:02x}"


@dataclass(frozen=True)
class FixedOctets:
    """Octets at fixed places of the payload."""

    octets: tuple[Octet, ...]
    secret = ""
    of_message = False

    @property
    def factor(self) -> str:
        """Return the places as ranges: octets[0:2] octets[8:9]."""
        return " ".join(f"octets[{at}:{at + size}]" for at, size in runs(self.places))

    @property
    def places(self) -> list[int]:
        """Return the offsets of the octets in the payload."""
        return [one.at for one in self.octets]

    @property
    def words(self) -> str:
        """Return the condition in words."""
        by_place = {one.at: one.word for one in self.octets}
        stretches = [
            f"{' '.join(by_place[o] for o in range(at, at + size))} at {at}"
            for at, size in runs(self.places)
        ]
        return f"has the octets {', '.join(stretches)}"

    @property
    def cost(self) -> int:
        """Return its complexity."""
        return 20 + len(self.octets)

    def meets(self, packet: Sent) -> bool:
        """Return whether the payload has the octets."""
        body = packet.payload
        return all(part.at < len(body) and part.holds(body[part.at]) for part in self.octets)

    def spans(self, packet: Sent) -> list[Span]:
        """Return the octets."""
        return [(at, size, "octets") for at, size in runs(self.places)]


def runs(places: list[int]) -> list[tuple[int, int]]:
    """Return numbers as runs of consecutive ones: (first, count)."""
    pairs: list[tuple[int, int]] = []
    for at in sorted(places):
        if pairs and sum(pairs[-1]) == at:
            pairs[-1] = pairs[-1][0], pairs[-1][1] + 1
        else:
            pairs.append((at, 1))
    return pairs


@dataclass(frozen=True)
class OctetsAnywhere:
    """A sequence of octets at any place; `folded`: letters match in either case."""

    text: bytes
    folded: bool = False
    factor = "octets anywhere"
    secret = "has some octets in a row somewhere (--reveal shows them)"
    of_message = False

    @property
    def words(self) -> str:
        """Return the condition in words."""
        case = ", upper or lower case" if self.folded else ""
        return f"has the octets {self.text.hex(' ')} somewhere{case}"

    @property
    def cost(self) -> int:
        """Return its complexity."""
        return 10 + len(self.text)

    def meets(self, packet: Sent) -> bool:
        """Return whether the payload contains the octets."""
        if self.folded:
            return self.text.lower() in packet.payload.lower()
        return self.text in packet.payload

    def spans(self, packet: Sent) -> list[Span]:
        """Return the first occurrence."""
        at = packet.payload.lower().find(self.text.lower())
        return [(at, len(self.text), "octets")] if at >= 0 else []


@dataclass(frozen=True)
class Both:
    """Two conditions that must hold together."""

    first: PayloadCondition
    second: PayloadCondition

    @property
    def secret(self) -> str:
        """Return both in words without personal data."""
        both = (self.first, self.second)
        if not any(one.secret for one in both):
            return ""
        return " and ".join(one.secret or one.words for one in both)

    @property
    def of_message(self) -> bool:
        """Return whether one of them describes a message that may take several packets."""
        return self.first.of_message or self.second.of_message

    @property
    def factor(self) -> str:
        """Return both names."""
        return f"{self.first.factor} {self.second.factor}"

    @property
    def words(self) -> str:
        """Return the condition in words."""
        return f"{self.first.words} and {self.second.words}"

    @property
    def cost(self) -> int:
        """Return its complexity."""
        return self.first.cost + self.second.cost + 1

    def meets(self, packet: Sent) -> bool:
        """Return whether a packet meets both."""
        return self.first.meets(packet) and self.second.meets(packet)

    def spans(self, packet: Sent) -> list[Span]:
        """Return the octets of both."""
        return sorted({*self.first.spans(packet), *self.second.spans(packet)})
