# SPDX-License-Identifier: BSD-3-Clause
"""Differences: what the lab reads in packets beside what Wireshark reads, frame by frame.

`python -m tests.proofs.differential [FILE ...]` (make differential) walks captures with the lab's
readers and with tshark's dissectors, and counts per protocol the frames that both recognise, those
that only one does, and those whose fields differ. The lab reads what it takes for a call without
being told a port; tshark follows ports and conversations: so "only one" is counted, and explained
in docs/explanation/reliability.md, while a field that differs is a problem.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from midcall.captures.jit.reads import Octets, u16, u32
from midcall.captures.packets.numbers import STUN_COOKIE
from midcall.captures.packets.pcap import read
from midcall.classifier.engine import Engine, step
from midcall.classifier.explain.dissect import Packet, Piece, attributes, walk
from midcall.classifier.state.packet_fields import (
    SIGN_PAYLOAD_AT,
    SIGN_PROTO,
    SIGN_RTP_AT,
    SIGN_SOURCE_AT,
    SIGN_SOURCE_PORT,
    SIGN_TARGET_AT,
    SIGN_TARGET_PORT,
    SIGN_VERSION,
)
from tests.golden import available
from tests.proofs.ledger import settle

#: What is asked of tshark, per frame; several values of a frame stand in order.
FIELDS = (
    "frame.number", "ip.src", "ip.dst", "ipv6.src", "ipv6.dst",
    "udp.srcport", "udp.dstport", "tcp.srcport", "tcp.dstport",
    "stun.type", "stun.id", "stun.att.type",
    "rtp.p_type", "rtp.seq", "rtp.timestamp", "rtp.ssrc",
    "rtcp.pt", "rtcp.senderssrc", "tls.record.content_type", "tls.handshake.type",
    "dtls.record.content_type", "quic.version", "quic.dcid",
)  # fmt: skip
OPTIONS = ("-n", "--enable-heuristic", "rtp_udp", "--enable-heuristic", "stun_udp",
           "-o", "ip.defragment:FALSE", "-o", "ipv6.defragment:FALSE",
           "-o", "tcp.desegment_tcp_streams:FALSE")  # fmt: skip
PROTOCOLS = ("ends", "stun", "rtp", "rtcp", "tls", "dtls", "quic")
#: Captures that Python takes long to walk are left out.
LARGEST = 3_000_000

Fields = dict[str, Any]


# ---- tshark


def dissected(path: Path) -> list[Fields]:
    """Return per frame what tshark reads: protocol -> fields, as `ours` has them."""
    words = [word for field in FIELDS for word in ("-e", field)]
    done = subprocess.run(
        ["tshark", "-r", str(path), *OPTIONS, "-T", "fields", "-E", "separator=|", *words],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"differential: tshark cannot read {path.name}: {done.stderr.strip()}")
    return [theirs(line.split("|")) for line in done.stdout.splitlines()]


def theirs(columns: list[str]) -> Fields:
    """Return one frame's fields of tshark."""
    held = {name: column.split(",") if column else [] for name, column in
            zip(FIELDS, columns, strict=True)}  # fmt: skip
    found: Fields = {}
    sources = held["ip.src"] + held["ipv6.src"]
    ports = [*held["udp.srcport"], *held["tcp.srcport"]]
    if len(sources) == 1 and len(ports) == 1:
        targets = held["ip.dst"] + held["ipv6.dst"]
        ends = [*held["udp.dstport"], *held["tcp.dstport"]]
        found["ends"] = (sources[0], int(ports[0]), targets[0], int(ends[0]))
    if held["stun.type"]:
        found["stun"] = (
            number(held["stun.type"][0]), held["stun.id"][:1],
            [number(word) for word in held["stun.att.type"]],
        )  # fmt: skip
    if held["rtp.ssrc"]:
        names = ("rtp.p_type", "rtp.seq", "rtp.timestamp", "rtp.ssrc")
        found["rtp"] = tuple(number(held[name][0]) for name in names)
    if held["rtcp.pt"]:
        found["rtcp"] = tuple(number(held[name][0]) for name in ("rtcp.pt", "rtcp.senderssrc")
                              if held[name])  # fmt: skip
    if held["tls.record.content_type"]:
        found["tls"] = (number(held["tls.record.content_type"][0]),)
    if held["dtls.record.content_type"]:
        found["dtls"] = (number(held["dtls.record.content_type"][0]),)
    if held["quic.version"]:
        found["quic"] = (number(held["quic.version"][0]), "".join(held["quic.dcid"][:1]))
    return found


def number(word: str) -> int:
    """Return a number that is printed in tens or as 0x..."""
    return int(word, 0)


# ---- the lab


def walked(path: Path) -> Iterator[Fields]:
    """Yield per frame what the lab reads."""
    packets, engine = read(path), Engine()
    engine.reserve(packets.total)
    for i in range(packets.total):
        octets = np.frombuffer(packets.frame(i), np.uint8).copy()
        row = (int(packets.wire[i]), int(packets.time[i]), int(packets.link[i]), i)
        engine.signs[SIGN_RTP_AT] = 0
        placed = step(engine.tables, octets, 0, len(octets), *row, engine.signs)
        yield ours(walk(octets, engine.signs)) if placed >= 0 else {}


def ours(packet: Packet) -> Fields:
    """Return one frame's fields as the lab reads them."""
    b, signs = packet.octets, packet.signs
    found: Fields = {}
    if int(signs[SIGN_PROTO]) in (6, 17):
        found["ends"] = (
            address(b, signs, SIGN_SOURCE_AT), int(signs[SIGN_SOURCE_PORT]),
            address(b, signs, SIGN_TARGET_AT), int(signs[SIGN_TARGET_PORT]),
        )  # fmt: skip
    for kind, fields in READERS.items():
        pieces = packet.of(kind)
        if pieces:
            found[kind] = fields(b, pieces[0])
    if "rtp" in found:
        found["rtp"] += (packet.of("rtp")[0].at - int(signs[SIGN_PAYLOAD_AT]),)
    return found


def address(b: Octets, signs: Any, slot: int) -> str:
    """Return an address of the innermost IP header, as text."""
    import ipaddress

    at, size = int(signs[slot]), 4 if signs[SIGN_VERSION] == 4 else 16
    return str(ipaddress.ip_address(b[at : at + size].tobytes()))


def stun(b: Octets, piece: Piece) -> Fields | tuple[Any, ...]:
    """Return type, transaction and attribute types of a STUN message."""
    classic = int(u32(b, piece.at + 4)) != STUN_COOKIE
    begin = piece.at + (4 if classic else 8)
    identity = b[begin : piece.at + 20].tobytes().hex()
    return int(u16(b, piece.at)), [identity], [one.kind for one in attributes(b, piece)]


def rtp(b: Octets, piece: Piece) -> tuple[int, ...]:
    """Return payload type, sequence number, timestamp and source of an RTP packet."""
    at = piece.at
    return int(b[at + 1]) & 127, int(u16(b, at + 2)), int(u32(b, at + 4)), int(u32(b, at + 8))


def rtcp(b: Octets, piece: Piece) -> tuple[int, ...]:
    """Return packet type and sender of an RTCP packet."""
    return int(b[piece.at + 1]), int(u32(b, piece.at + 4))


def record(b: Octets, piece: Piece) -> tuple[int, ...]:
    """Return the content type of a TLS or DTLS record."""
    return (int(b[piece.at]),)


def quic(b: Octets, piece: Piece) -> tuple[Any, ...]:
    """Return version and destination connection id of a QUIC long header."""
    at = piece.at
    return int(u32(b, at + 1)), b[at + 6 : at + 6 + int(b[at + 5])].tobytes().hex()


READERS = {"stun": stun, "rtp": rtp, "rtcp": rtcp, "tls": record, "dtls": record, "quic": quic}


# ---- beside one another


def compare(paths: Sequence[Path]) -> tuple[dict[str, Counter[str]], list[str]]:
    """Return the counts per protocol, and a sentence for every field that differs."""
    counts: dict[str, Counter[str]] = {name: Counter() for name in PROTOCOLS}
    problems = []
    for path in paths:
        for frame, (mine, other) in enumerate(zip(walked(path), dissected(path), strict=True), 1):
            for name in PROTOCOLS:
                here, there = mine.get(name), other.get(name)
                if here is None and there is None:
                    continue
                word = word_of(name, here, there)
                counts[name][word] += 1
                if word == "differs":
                    problems.append(f"{path.name}, frame {frame}: {name} {shown(name, here)} "
                                    f"and {shown(name, there)} by tshark")  # fmt: skip
    return counts, problems


def same(name: str, here: Any, there: Any) -> bool:
    """Tell whether two readings agree, as far as both go.

    tshark leaves attributes out that it does not know, and lists those of STUN in STUN as well.
    """
    if name == "stun":
        return bool(here[:2] == there[:2] and follows(here[2], there[2]))
    return tuple(here[: len(there)]) == tuple(there)


def follows(here: list[int], there: list[int]) -> bool:
    """Tell whether one list's common values stand in the other in the same order."""
    ours_of = [kind for kind in here if kind in there]
    theirs_of = [kind for kind in there if kind in here]
    return ours_of == theirs_of[: len(ours_of)]


def word_of(name: str, here: Any, there: Any) -> str:
    """Return under which heading a frame is counted."""
    if here is None or there is None:
        return "only ours" if there is None else "only theirs"
    if same(name, here, there):
        return "equal"
    return "elsewhere" if name == "rtp" and here[-1] else "differs"


def shown(name: str, fields: Any) -> str:
    """Return fields for a message; addresses of third parties are not told."""
    return re.sub(r"[\da-f.:]{4,}", "...", str(fields)) if name == "ends" else str(fields)


def lines(counts: dict[str, Counter[str]]) -> list[str]:
    """Return the table as text."""
    words = ("equal", "differs", "elsewhere", "only ours", "only theirs")
    result = [f"{'':8}" + "".join(f"{word:>13}" for word in words)]
    for name, held in counts.items():
        result.append(f"{name:8}" + "".join(f"{held[word]:13,}" for word in words))
    return result


def files(corpus: Path | None) -> list[Path]:
    """Return the captures that are small enough, the corpus' where there is one."""
    return [path for _, path in available(corpus) if path.stat().st_size <= LARGEST]


def main(given: Sequence[str] | None = None) -> int:
    """Compare, tell, write down; exit code 1 where a field differs."""
    parser = argparse.ArgumentParser(prog="differential", description=__doc__)
    parser.add_argument("files", nargs="*", type=Path)
    asked = parser.parse_args(given)
    if shutil.which("tshark") is None:
        print("differential: not compared, tshark is missing (apt-get install tshark)")
        return 0
    from tests.conftest import corpus_folder

    paths = asked.files or files(corpus_folder())
    counts, problems = compare(paths)
    print("\n".join(lines(counts)))
    facts = {"captures": len(paths), "frames": {name: dict(one) for name, one in counts.items()}}
    return settle("differential", problems, "no field differs", facts)


if __name__ == "__main__":
    sys.exit(main())
