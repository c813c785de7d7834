# SPDX-License-Identifier: BSD-3-Clause
"""Evidence: the reason for a verdict, packed into one integer for compiled code.

An evidence packs the strongest verdict that it may lead to, its app, its role, and a number within
its app. The verdict and confidence that it leads to in fact are not part of the rule: they follow
from the recordings in which the sign was seen and from published descriptions
(classifier.state.evidence_support). Its sentence is looked up only for output.
"""

from __future__ import annotations

from typing import NamedTuple

from midcall.captures.jit.kernel import as_python, kernel
from midcall.classifier.state.verdicts import APPS

#: Sentences by `app << 8 | number`; "{x}" is the argument in hexadecimal, "{n}" in decimal.
SENTENCES: dict[int, str] = {}

#: Numbers from here on are shared by all apps (their sentence does not depend on the app).
SHARED = 200


class Basis(NamedTuple):
    """What is published about a sign, and the strongest verdict that it may lead to."""

    verdict: int
    role: int
    spec: str  # a specification that defines it, or the service's own name in it; "": none
    published: tuple[str, ...]  # published descriptions, each independent of the others
    maker: int  # evidence of the app's maker that every message with this sign also has; 0: none
    shows: tuple[tuple[int, int, str], ...] = ()  # the bytes that decide: offset, length, caption


#: The basis of each evidence by the key of SENTENCES.
BASES: dict[int, Basis] = {}


def evidence(
    app: int,
    number: int,
    verdict: int,
    role: int,
    sentence: str,
    *,
    spec: str = "",
    published: tuple[str, ...] = (),
    maker: int = 0,
    shows: tuple[tuple[int, int, str], ...] = (),
) -> int:
    """Define an evidence and return its packed form.

    number: 1-255, unique within the app; verdict: the strongest that the sign may lead to; spec:
    the specification that defines the sign, or "name" if it is the service's own name; published:
    descriptions by others, from their own recordings; maker: the evidence that replaces this one if
    its support does not suffice for the app; shows: offset, length and caption of the deciding
    bytes, in the innermost message. Raises ValueError for a number that is taken.
    """
    key = app << 8 | number
    if SENTENCES.setdefault(key, sentence) != sentence:
        raise ValueError(f"evidence {number} of {APPS[app]} is defined twice")
    BASES[key] = Basis(verdict, role, spec, published, maker & 0xFFFF, shows)
    return as_python(pack)(app, number, verdict, role)


@kernel
def pack(app: int, number: int, verdict: int, role: int, confidence: int = 0) -> int:
    """Return the packed form of an evidence; confidence: in percent, 0 if not computed."""
    return (confidence << 24) | (verdict << 20) | (role << 16) | (app << 8) | number


def sentence(key: int, argument: int, packets: int) -> str:
    """Return an evidence's sentence, "" for none; key: the low 16 bits of the evidence.

    argument: the number in the sentence; packets: payload packets up to the verdict, 0 for none.
    """
    text = SENTENCES.get(key) or SENTENCES.get(key & 0xFF, "")
    if not text:
        return ""
    text = text.replace("{x}", f"0x{argument:04X}").replace("{n}", str(argument))
    return f"{text}, packet {packets}" if packets else text
