# SPDX-License-Identifier: BSD-3-Clause
"""Parse the traces of SIP user agents: messages (RFC 3261) and SDP (RFC 4566)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import zip_longest
from typing import NamedTuple

from midcall.testbed.programs.calls.report import CONTROL, MEDIA, SIGNALLING, Flow

COLOURS = re.compile(r"\x1b\[[0-9;]*m")
ENDPOINTS = re.compile(r"^(UDP|TCP) ([0-9.]+):(\d+) -> ([0-9.]+):(\d+)$", re.MULTILINE)


class Message(NamedTuple):
    """A message of a trace: source, target and text."""

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
    headers = list(ENDPOINTS.finditer(words))
    messages = []
    for one, after in zip_longest(headers, headers[1:]):
        text = words[one.end() : after.start() if after else len(words)].strip("\n #")
        source, target = (one[2], int(one[3])), (one[4], int(one[5]))
        messages.append(Message(one[1].lower(), source, target, text))
    return messages


def sdp_of(text: str) -> str:
    """Return the SDP that a message carries, "" for none."""
    head, _, body = text.partition("\n\n")
    return body.strip() if "application/sdp" in head else ""


def media_of(sdp: str) -> tuple[str, int] | None:
    """Return the address and port of an SDP's audio; None where it has none."""
    address = re.search(r"^c=IN IP4 (\S+)", sdp, re.MULTILINE)
    port = re.search(r"^m=audio (\d+) ", sdp, re.MULTILINE)
    return (address[1], int(port[1])) if address and port else None


def codec_of(sdp: str) -> str:
    """Return the first codec of SDP's audio, in small letters: "pcmu"."""
    match = re.search(r"^a=rtpmap:\d+ ([^/\s]+)", sdp, re.MULTILINE)
    return match[1].lower() if match else ""


def flows(address: str, messages: Sequence[Message], own: str, other: str) -> tuple[Flow, ...]:
    """Return the 5-tuples of an end: its signalling, and media and RTCP where both SDPs are known.

    own, other: SDP of this end and of the other. RTCP is one port higher (RFC 3550 section 11).
    """
    tuples = []
    for one in messages:
        local, remote = (one.source, one.target)
        if local[0] != address:
            local, remote = remote, local
        tuples.append(Flow(one.proto, address, local[1], remote[0], remote[1], SIGNALLING))
    own_media, other_media = media_of(own), media_of(other)
    if own_media and other_media:
        for step, role in ((0, MEDIA), (1, CONTROL)):
            local_port, remote_port = own_media[1] + step, other_media[1] + step
            tuples.append(Flow("udp", address, local_port, other_media[0], remote_port, role))
    return tuple(dict.fromkeys(tuples))
