# SPDX-License-Identifier: BSD-3-Clause
"""What SIP user agents write of themselves: traces of messages (RFC 3261), SDP (RFC 4566)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import zip_longest
from typing import NamedTuple

from midcall.testbed.programs.calls.report import CONTROL, MEDIA, SIGNALLING, Flow

COLOURS = re.compile(r"\x1b\[[0-9;]*m")
WAY = re.compile(r"^(UDP|TCP) ([0-9.]+):(\d+) -> ([0-9.]+):(\d+)$", re.MULTILINE)


class Message(NamedTuple):
    """A message of a trace: where from, where to, and its text."""

    proto: str
    source: tuple[str, int]
    target: tuple[str, int]
    text: str

    @property
    def first(self) -> str:
        """Return its first line."""
        return self.text.partition("\n")[0].strip()

    @property
    def sdp(self) -> str:
        """Return the SDP that it carries, "" for none."""
        return sdp_of(self.text)


def trace(words: str) -> list[Message]:
    """Return the messages of baresip's trace (baresip -s), in order."""
    words = COLOURS.sub("", words).replace("\r", "")
    ways = list(WAY.finditer(words))
    found = []
    for one, after in zip_longest(ways, ways[1:]):
        text = words[one.end() : after.start() if after else len(words)].strip("\n #")
        source, target = (one[2], int(one[3])), (one[4], int(one[5]))
        found.append(Message(one[1].lower(), source, target, text))
    return found


def sdp_of(text: str) -> str:
    """Return the SDP that a message carries, "" for none."""
    head, _, body = text.partition("\n\n")
    return body.strip() if "application/sdp" in head else ""


def media_of(sdp: str) -> tuple[str, int] | None:
    """Return where SDP says that its author receives audio; None where it says nothing."""
    address = re.search(r"^c=IN IP4 (\S+)", sdp, re.MULTILINE)
    port = re.search(r"^m=audio (\d+) ", sdp, re.MULTILINE)
    return (address[1], int(port[1])) if address and port else None


def codec_of(sdp: str) -> str:
    """Return the first codec of SDP's audio, in small letters: "pcmu"."""
    found = re.search(r"^a=rtpmap:\d+ ([^/\s]+)", sdp, re.MULTILINE)
    return found[1].lower() if found else ""


def flows(address: str, messages: Sequence[Message], own: str, other: str) -> tuple[Flow, ...]:
    """Return the 5-tuples of an end: its signalling, and media and RTCP where both SDPs are known.

    own, other: SDP of this end and of the other. RTCP stands one port higher (RFC 3550 section 11).
    """
    found = []
    for one in messages:
        here, there = (one.source, one.target)
        if here[0] != address:
            here, there = there, here
        found.append(Flow(one.proto, address, here[1], there[0], there[1], SIGNALLING))
    near, far = media_of(own), media_of(other)
    if near and far:
        for step, role in ((0, MEDIA), (1, CONTROL)):
            found.append(Flow("udp", address, near[1] + step, far[0], far[1] + step, role))
    return tuple(dict.fromkeys(found))
