# SPDX-License-Identifier: BSD-3-Clause
"""Evidence: why a verdict was given, as one integer that compiled code carries and people read.

An evidence packs everything that it decides: verdict, app, role and confidence, plus a number
within its app. Compiled code takes it apart by shifts, so no table can be stale; the sentence that
belongs to it is looked up only when a person asks.
"""

from __future__ import annotations

from captures.compiled import kernel
from classifier.verdicts import APPS

#: Sentences by `app << 8 | number`; "{x}" is the argument in hexadecimal, "{n}" in decimal.
SENTENCES: dict[int, str] = {}

#: Numbers from here on are shared by all apps (their sentence does not depend on the app).
SHARED = 200


def evidence(app: int, number: int, verdict: int, role: int, confidence: int, sentence: str) -> int:
    """Define an evidence and return its packed form.

    number: 1-255, unique within the app; confidence: percent, the author's estimate of how often
    the sign is right where it is seen. Raises ValueError for a number that is taken.
    """
    key = app << 8 | number
    if SENTENCES.setdefault(key, sentence) != sentence:
        raise ValueError(f"evidence {number} of {APPS[app]} is defined twice")
    return pack(app, number, verdict, role, confidence)


@kernel
def pack(app: int, number: int, verdict: int, role: int, confidence: int) -> int:
    """Return the packed form of an evidence."""
    return (confidence << 24) | (verdict << 20) | (role << 16) | (app << 8) | number


def sentence(key: int, argument: int, packets: int) -> str:
    """Return what a person reads: `key` is the low 16 bits of an evidence."""
    text = SENTENCES.get(key) or SENTENCES.get(key & 0xFF, "")
    if not text:
        return ""
    text = text.replace("{x}", f"0x{argument:04X}").replace("{n}", str(argument))
    return f"{text}, packet {packets}" if packets else text
