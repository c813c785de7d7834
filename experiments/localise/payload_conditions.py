# SPDX-License-Identifier: BSD-3-Clause
"""Conditions on one packet's payload: what a box may look for in it.

Each says whether a packet meets it, which octets of a packet show it, what it is called in a set of
what decides, and itself in words. "As the lab's readers read it" is
experiments.localise.packet_fields.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from midcall.experiments.localise.packet_fields import attribute_types, read
from midcall.testbed.policy.language import METHODS
from midcall.testbed.probing.probe import Sent

#: Octets: where, how many, what they are.
Span = tuple[int, int, str]

METHOD_WORDS = {number: word for word, number in METHODS.items()}


class Condition(Protocol):
    """Something that a payload must be or hold."""

    @property
    def called(self) -> str:
        """Return its name in a set of what decides."""
        ...

    @property
    def words(self) -> str:
        """Return it in words."""
        ...

    @property
    def cost(self) -> int:
        """Return how much it says; of two that explain all, the one that says less is taken."""
        ...

    @property
    def of_message(self) -> bool:
        """Tell whether it is about a message that may take several packets."""
        ...

    @property
    def secret(self) -> str:
        """Return it in words that tell of no person, "" where `words` do not."""
        ...

    def meets(self, one: Sent) -> bool:
        """Tell whether a packet meets it."""
        ...

    def spans(self, one: Sent) -> list[Span]:
        """Return the octets of a payload that show it."""
        ...


@dataclass(frozen=True)
class IsStun:
    """STUN, by its cookie or (classic STUN) by its form."""

    called = "stun"
    secret = ""
    of_message = False
    words = "is a STUN message"
    cost = 1

    def meets(self, one: Sent) -> bool:
        """Tell whether the payload is STUN."""
        return read(one).method >= 0

    def spans(self, one: Sent) -> list[Span]:
        """Return the cookie."""
        at = one.payload.find(bytes.fromhex("2112a442"))
        return [(at, 4, "STUN cookie")] if at >= 0 else [(0, 4, "STUN type and length")]


@dataclass(frozen=True)
class Method:
    """STUN of one of some methods."""

    methods: frozenset[int]
    called = "stun method"
    secret = ""
    of_message = False
    cost = 2

    @property
    def words(self) -> str:
        """Return it in words."""
        result = ", ".join(METHOD_WORDS.get(one, f"0x{one:03x}") for one in sorted(self.methods))
        return f"is STUN of method {result}"

    def meets(self, one: Sent) -> bool:
        """Tell whether the payload is STUN of such a method."""
        return read(one).method in self.methods

    def spans(self, one: Sent) -> list[Span]:
        """Return the type and the cookie."""
        return [(0, 2, "STUN type"), (4, 4, "STUN cookie")]


@dataclass(frozen=True)
class Attribute:
    """STUN that holds an attribute of a type."""

    type: int
    called = "stun attribute"
    secret = ""
    of_message = False
    cost = 2

    @property
    def words(self) -> str:
        """Return it in words."""
        return f"is STUN with attribute 0x{self.type:04x}"

    def meets(self, one: Sent) -> bool:
        """Tell whether the payload holds the attribute."""
        return self.type in attribute_types(one.payload)

    def spans(self, one: Sent) -> list[Span]:
        """Return the attribute's type and the cookie."""
        at = one.payload.find(self.type.to_bytes(2, "big"), 20)
        result = [(at, 2, f"attribute {self.type:04x}")] if at >= 0 else []
        return [(4, 4, "STUN cookie"), *result]


@dataclass(frozen=True)
class Kind:
    """A payload that looks like one of some kinds by its first octets."""

    kinds: frozenset[str]
    called = "kind"
    secret = ""
    of_message = False
    cost = 3

    @property
    def words(self) -> str:
        """Return it in words."""
        return f"looks like {' or '.join(sorted(self.kinds))}"

    def meets(self, one: Sent) -> bool:
        """Tell whether the payload looks like that."""
        return read(one).kind in self.kinds

    def spans(self, one: Sent) -> list[Span]:
        """Return the first octets."""
        size = min(len(one.payload), 14 if "hello" in read(one).kind else 8)
        return [(0, size, read(one).kind)] if size else []


@dataclass(frozen=True)
class Named:
    """A host name, stated in one of some places; a pattern `*.x` is x and every name under it."""

    where: frozenset[str]
    pattern: str
    called = "name"
    secret = "tells one host name, or one under it (--reveal shows it)"
    of_message = True

    @property
    def cost(self) -> int:
        """Return how much it says: fewer places and a longer pattern say more."""
        return 10 - len(self.where)

    @property
    def words(self) -> str:
        """Return it in words."""
        return f"tells the name {self.pattern} ({', '.join(sorted(self.where))})"

    def meets(self, one: Sent) -> bool:
        """Tell whether the payload tells such a name."""
        result = read(one)
        return result.where in self.where and name_meets(result.name, self.pattern)

    def spans(self, one: Sent) -> list[Span]:
        """Return the name where it stands in plain, else the whole payload."""
        name = read(one).name
        labels = b"".join(bytes([len(part) & 63]) + part.encode() for part in name.split("."))
        for form in (name.encode("latin-1"), labels):
            at = one.payload.lower().find(form.lower())
            if form and at >= 0:
                return [(at, len(form), "host name")]
        return [(0, len(one.payload), "sealed hello")]


def name_meets(name: str, pattern: str) -> bool:
    """Tell whether a host name meets a pattern."""
    host = pattern.removeprefix("*.")
    return name == host or (pattern != host and name.endswith("." + host))


@dataclass(frozen=True)
class Hello:
    """A ClientHello with a fingerprint."""

    print: int
    called = "hello"
    secret = ""
    of_message = True
    cost = 4

    @property
    def words(self) -> str:
        """Return it in words."""
        return f"is a ClientHello of fingerprint {self.print:016x}"

    def meets(self, one: Sent) -> bool:
        """Tell whether the payload is that hello."""
        return read(one).hello == self.print

    def spans(self, one: Sent) -> list[Span]:
        """Return the hello."""
        return [(0, len(one.payload), "ClientHello")]


@dataclass(frozen=True)
class Disorder:
    """A payload whose entropy (of the most that its length allows) lies in a range."""

    low: float
    high: float
    called = "entropy"
    secret = ""
    of_message = False
    cost = 2

    @property
    def words(self) -> str:
        """Return it in words."""
        return f"has an entropy from {self.low:.3g} to {self.high:.3g} of what its length allows"

    def meets(self, one: Sent) -> bool:
        """Tell whether the payload's entropy lies in the range."""
        return self.low <= read(one).entropy <= self.high

    def spans(self, one: Sent) -> list[Span]:
        """Return the whole payload."""
        return [(0, len(one.payload), "entropy")] if one.payload else []


@dataclass(frozen=True)
class Octet:
    """What one octet may be: its bits under `mask` equal, and itself from `low` to `high`."""

    at: int
    mask: int
    value: int
    low: int = 0
    high: int = 255

    def holds(self, octet: int) -> bool:
        """Tell whether an octet is allowed."""
        return octet & self.mask == self.value & self.mask and self.low <= octet <= self.high

    @property
    def word(self) -> str:
        """Return it in words."""
        if self.mask == 255:
            return f"{self.value:02x}"
        if self.mask:
            return f"{self.value & self.mask:02x}/{self.mask:02x}"
        return f"{self.low:02x}..{self.high:02x}"


@dataclass(frozen=True)
class Fixed:
    """Octets at fixed places of the payload."""

    octets: tuple[Octet, ...]
    secret = ""
    of_message = False

    @property
    def called(self) -> str:
        """Return the places as stretches: octets[0:2] octets[8:9]."""
        return " ".join(f"octets[{at}:{at + size}]" for at, size in runs(self.places))

    @property
    def places(self) -> list[int]:
        """Return where the octets stand."""
        return [one.at for one in self.octets]

    @property
    def words(self) -> str:
        """Return it in words."""
        held = {one.at: one.word for one in self.octets}
        result = [
            f"{' '.join(held[o] for o in range(at, at + size))} at {at}"
            for at, size in runs(self.places)
        ]
        return f"has the octets {', '.join(result)}"

    @property
    def cost(self) -> int:
        """Return how much it says."""
        return 20 + len(self.octets)

    def meets(self, one: Sent) -> bool:
        """Tell whether the payload has the octets."""
        body = one.payload
        return all(part.at < len(body) and part.holds(body[part.at]) for part in self.octets)

    def spans(self, one: Sent) -> list[Span]:
        """Return the octets."""
        return [(at, size, "octets") for at, size in runs(self.places)]


def runs(places: list[int]) -> list[tuple[int, int]]:
    """Return numbers as stretches (first, how many)."""
    out: list[tuple[int, int]] = []
    for at in sorted(places):
        if out and sum(out[-1]) == at:
            out[-1] = out[-1][0], out[-1][1] + 1
        else:
            out.append((at, 1))
    return out


@dataclass(frozen=True)
class Anywhere:
    """Octets in a row, wherever they stand; `folded`: letters of either case."""

    text: bytes
    folded: bool = False
    called = "octets anywhere"
    secret = "has some octets in a row somewhere (--reveal shows them)"
    of_message = False

    @property
    def words(self) -> str:
        """Return it in words."""
        case = ", upper or lower case" if self.folded else ""
        return f"has the octets {self.text.hex(' ')} somewhere{case}"

    @property
    def cost(self) -> int:
        """Return how much it says."""
        return 10 + len(self.text)

    def meets(self, one: Sent) -> bool:
        """Tell whether the payload holds the octets."""
        if self.folded:
            return self.text.lower() in one.payload.lower()
        return self.text in one.payload

    def spans(self, one: Sent) -> list[Span]:
        """Return the first place where they stand."""
        at = one.payload.lower().find(self.text.lower())
        return [(at, len(self.text), "octets")] if at >= 0 else []


@dataclass(frozen=True)
class Both:
    """Two conditions that must hold together."""

    first: Condition
    second: Condition

    @property
    def secret(self) -> str:
        """Return both in words that tell of no person."""
        both = (self.first, self.second)
        if not any(one.secret for one in both):
            return ""
        return " and ".join(one.secret or one.words for one in both)

    @property
    def of_message(self) -> bool:
        """Tell whether one of them is about a message that may take several packets."""
        return self.first.of_message or self.second.of_message

    @property
    def called(self) -> str:
        """Return both names."""
        return f"{self.first.called} {self.second.called}"

    @property
    def words(self) -> str:
        """Return it in words."""
        return f"{self.first.words} and {self.second.words}"

    @property
    def cost(self) -> int:
        """Return how much it says."""
        return self.first.cost + self.second.cost + 1

    def meets(self, one: Sent) -> bool:
        """Tell whether a packet meets both."""
        return self.first.meets(one) and self.second.meets(one)

    def spans(self, one: Sent) -> list[Span]:
        """Return the octets of both."""
        return sorted({*self.first.spans(one), *self.second.spans(one)})
