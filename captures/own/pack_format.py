# SPDX-License-Identifier: BSD-3-Clause
"""The format of a pack: a pcapng file with the truth in comments of its section header.

docs/reference/pack-format.md describes it. A reader that does not know it sees a capture.
"""

from __future__ import annotations

import hashlib
import json
import os
import struct
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from midcall.access import CapturedAccess
from midcall.captures.packets.pcap import CaptureFile, Packets
from midcall.captures.packets.scan import ENHANCED_PACKET, INTERFACE, SECTION
from midcall.captures.packets.writer import block, option
from midcall.captures.truth.strict_toml import Table, sentences
from midcall.errors import CaptureError

MARK = "midcall-pack/1 "
#: Bytes of one comment at most; an option holds 65535.
PART = 60_000
COMMENT, PROGRAM, END = 1, 4, 0
#: A section header longer than this is not read.
LONGEST = 64 << 20

Role = Literal["media", "setup", "control", "messaging"]
ROLES: tuple[Role, ...] = ("media", "setup", "control", "messaging")


class PackedFlow(Table):
    """A flow of the call: its first frame counted from 1, packets, role, and ends after mapping."""

    frame: int = Field(ge=1)
    proto: str
    packets: int = Field(ge=1)
    role: Role
    ends: list[str]


class Times(Table):
    """When the call's flows begin and end, in ms from the first packet."""

    begin_ms: int
    end_ms: int


class Kept(Table):
    """What was not mapped: suffixes of names, networks of services, values that the maker declared.

    addresses: "bits" or "octets", in what steps prefixes are preserved.
    """

    names: list[str]
    networks: list[str]
    declared: list[str]
    addresses: Literal["bits", "octets"]


class Broken(Table):
    """What no longer is as it was on the wire.

    integrity: STUN messages whose MESSAGE-INTEGRITY cannot be right; media: RTP packets whose
    audio or video was replaced by noise; emptied: frames or packets of other protocols than IP and
    ARP, whose content is zero.
    """

    integrity: int
    media: int
    emptied: dict[str, int]


class Checked(Table):
    """What the checker did: distinct values it looked for, forms of these, and hits by chance."""

    values: dict[str, int]
    patterns: int
    chance_hits: int
    chance_expected: float


class Pack(Table):
    """The truth of a packed capture, and how it was made."""

    format: Literal["midcall-pack"]
    version: Literal[1]
    app: str
    kind: Literal["audio", "video", "unknown", "none"]
    access: CapturedAccess
    year: int | None
    packets: int
    packets_sha256: str
    flows: list[PackedFlow]
    call: Times
    licence: str
    consent: str
    made_by: str
    made_with: str
    mapped: dict[str, int]
    kept: Kept
    broken: Broken
    clock: Literal["as captured", "shifted by whole days"]
    check: Checked


def digest(packets: Packets) -> str:
    """Return the sha256 of all frames with their times and lengths."""
    total = hashlib.sha256()
    for i in range(packets.total):
        frame = packets.frame(i)
        about = struct.pack("<qII", int(packets.time[i]), len(frame), int(packets.wire[i]))
        total.update(about + frame)
    return total.hexdigest()


def write_pack(path: str | os.PathLike[str], packets: Packets, pack: Pack) -> None:
    """Write packets and their truth as one pcapng file."""
    links = sorted({int(link) for link in packets.link})
    with Path(path).open("wb") as out:
        out.write(block(SECTION, struct.pack("<IHHq", 0x1A2B3C4D, 1, 0, -1) + options(pack)))
        for link in links:
            resolution = option(9, b"\x09") + option(END, b"")
            out.write(block(INTERFACE, struct.pack("<HHI", link, 0, 262144) + resolution))
        for i in range(packets.total):
            stamp = int(packets.time[i]) & 0xFFFFFFFFFFFFFFFF
            frame, port = packets.frame(i), links.index(int(packets.link[i]))
            head = (port, stamp >> 32, stamp & 0xFFFFFFFF, len(frame), int(packets.wire[i]))
            out.write(block(ENHANCED_PACKET, struct.pack("<IIIII", *head) + frame))


def options(pack: Pack) -> bytes:
    """Return the options of the section header: a sentence for people, then the truth."""
    kind = "innocent traffic" if pack.app == "none" else f"a call ({pack.app}, {pack.kind})"
    sentence = (
        f"Capture of {kind}, made to be shared: addresses and names are replaced. "
        f"Licence: {pack.licence}. The next comments hold its truth as JSON (Midcall pack)."
    )
    text = json.dumps(pack.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    parts = [text[i : i + PART] for i in range(0, len(text), PART)]
    comments = [sentence]
    comments += [f"{MARK}{i + 1}/{len(parts)} {part}" for i, part in enumerate(parts)]
    whole = b"".join(option(COMMENT, comment.encode("ascii", "replace")) for comment in comments)
    return whole + option(PROGRAM, pack.made_with.encode()) + option(END, b"")


def read_pack(path: str | os.PathLike[str]) -> Pack | None:
    """Return the truth in a capture, None if it is no pack.

    Raises CaptureError if the file cannot be read, or if it is a pack whose truth is damaged.
    """
    text = "".join(parts(os.fspath(path)))
    if not text:
        return None
    try:
        raw = json.loads(text)
        return Pack.model_validate(raw)
    except ValidationError as error:
        problems = "; ".join(sentences(error, raw, Pack))
        raise CaptureError(f"{path}: the truth in the pack is invalid: {problems}") from None
    except ValueError as error:
        raise CaptureError(f"{path}: the truth in the pack is damaged: {error}") from None


def parts(path: str) -> list[str]:
    """Return the parts of the truth in a section header, in order; [] for no pack."""
    body = section_header(path, False)
    if len(body) >= 28 and body[:4] == b"\x0a\x0d\x0d\x0a":
        order = "<" if body[8:12] == b"\x4d\x3c\x2b\x1a" else ">"
        size = struct.unpack_from(order + "I", body, 4)[0]
        if size > LONGEST:
            return []
        body = body if size <= len(body) else section_header(path, True)
        return comments(body[24 : size - 4], order)
    return []


def section_header(path: str, whole: bool) -> bytes:
    """Return the begin of a file, unpacked; whole: all of it."""
    capture = CaptureFile(path, whole=whole)
    body = capture.data.tobytes()
    reading = capture.batches(1)
    next(reading, None)
    reading.close()
    return body


def comments(body: bytes, order: str) -> list[str]:
    """Return the parts of the truth in a section header's options."""
    found: dict[int, str] = {}
    at = 0
    while at + 4 <= len(body):
        code, length = struct.unpack_from(order + "HH", body, at)
        text = body[at + 4 : at + 4 + length].decode("utf-8", "replace")
        if code == COMMENT and text.startswith(MARK):
            place, _, part = text[len(MARK) :].partition(" ")
            number = place.partition("/")[0]
            if number.isdigit():
                found[int(number)] = part
        at += 4 + length + -length % 4
        if code == END:
            break
    return [found[number] for number in sorted(found)]
