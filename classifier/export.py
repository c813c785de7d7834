# SPDX-License-Identifier: BSD-3-Clause
"""The flow table as columns, for tables and files.

A column of words has a code for each flow and each distinct word once; addresses are written by
compiled code. So a row costs no Python object.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets
from midcall.classifier.state.evidence import sentence
from midcall.classifier.state.flow_table import Numbers, Records
from midcall.classifier.state.verdicts import APPS, FAMILIES, NOT_CALL, ROLES, UNDECIDED, VERDICTS

PROTOCOLS = {1: "icmp", 2: "igmp", 6: "tcp", 17: "udp", 47: "gre", 50: "esp", 51: "ah"}
PROTOCOLS |= {58: "icmpv6", 89: "ospf", 103: "pim", 132: "sctp", 136: "udplite"}

#: The columns of `midcall classify`, in order.
COLUMNS = (
    "file",
    "proto",
    "src_ip",
    "src_port",
    "dst_ip",
    "dst_port",
    "packets",
    "bytes",
    "first_ts",
    "last_ts",
    "verdict",
    "app",
    "family",
    "role",
    "confidence",
    "packets_to_verdict",
    "ms_to_verdict",
    "evidence",
)

#: The longest text of an IPv6 address, in octets.
LONGEST_ADDRESS = 39


class Words(NamedTuple):
    """A column of texts of which many are equal.

    codes: int32[n], the number of each row's word, -1 for none; words: each distinct one.
    """

    codes: NDArray[np.int32]
    words: Sequence[str]

    def tolist(self) -> list[str]:
        """Return the text of each row."""
        return [self.words[code] for code in self.codes.tolist()]


class Texts(NamedTuple):
    """A column of texts; row i is data[ends[i]:ends[i + 1]].

    data: uint8[m], UTF-8; ends: int64[n + 1].
    """

    data: Octets
    ends: Numbers

    def tolist(self) -> list[str]:
        """Return the text of each row."""
        whole, ends = self.data.tobytes(), self.ends.tolist()
        return [whole[a:b].decode() for a, b in pairwise(ends)]


Column = NDArray[Any] | Words | Texts


@kernel
def put_words(
    codes: NDArray[np.int32], data: Octets, starts: Numbers, out: Octets, ends: Numbers
) -> None:
    """Write the word of each row; word c is data[starts[c]:starts[c + 1]]. ends: int64[n + 1]."""
    at = I(0)
    for i in range(len(codes)):
        ends[i] = at
        code = codes[i]
        for octet in range(starts[code], starts[code + 1]):
            out[at] = data[octet]
            at += 1
    ends[len(codes)] = at


def spelled(column: Words) -> Texts:
    """Return a column of words as UTF-8 texts."""
    encoded = [word.encode() for word in column.words]
    starts = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
    data = np.frombuffer(b"".join(encoded) or b"\0", np.uint8)
    out = np.empty(int(np.diff(starts)[column.codes].sum()), np.uint8)
    ends = np.zeros(len(column.codes) + 1, np.int64)
    put_words(column.codes, data, starts, out, ends)
    return Texts(out, ends)


@kernel
def put_decimal(out: Octets, at: int, number: int) -> int:
    """Write a number from 0 to 255 in decimal; return the position after it."""
    if number >= 100:
        out[at] = 48 + number // 100
        at += 1
    if number >= 10:
        out[at] = 48 + number // 10 % 10
        at += 1
    out[at] = 48 + number % 10
    return at + 1


@kernel
def put_group(out: Octets, at: int, group: int) -> int:
    """Write 16 bits in hexadecimal without zeros in front; return the position after them."""
    started = False
    for shift in range(12, -4, -4):
        digit = group >> shift & 15
        if digit or started or shift == 0:
            out[at] = digit + (48 if digit < 10 else 87)
            at += 1
            started = True
    return at


@kernel
def group_of(lanes: Any, place: int) -> int:
    """Return one of the eight groups of an IPv6 address."""
    lane = I(lanes[place >> 1])
    return I(lane & 0xFFFF if place & 1 else lane >> 16)


@kernel
def put_address6(out: Octets, at: int, lanes: Any) -> int:
    """Write an IPv6 address as RFC 5952 section 4 says; return the position after it."""
    best, longest, run = I(-1), I(1), I(0)
    for place in range(8):
        run = run + 1 if group_of(lanes, place) == 0 else 0
        if run > longest:
            best, longest = place + 1 - run, run
    place = I(0)
    while place < 8:
        if place == best:
            out[at] = out[at + 1] = 58
            at += 2
            place += longest
            continue
        if place > 0 and (best < 0 or place != best + longest):
            out[at] = 58
            at += 1
        at = put_group(out, at, group_of(lanes, place))
        place += 1
    return at


@kernel
def put_addresses(
    lanes: NDArray[np.uint32], versions: NDArray[np.uint8], out: Octets, ends: Numbers
) -> int:
    """Write addresses as text; ends: int64[n + 1], where each begins; returns the last end."""
    at = I(0)
    for i in range(len(lanes)):
        ends[i] = at
        if versions[i] == 4:
            lane = I(lanes[i, 0])
            for shift in range(24, -8, -8):
                at = put_decimal(out, at, lane >> shift & 255)
                if shift:
                    out[at] = 46
                    at += 1
        else:
            at = put_address6(out, at, lanes[i])
    ends[len(lanes)] = at
    return at


def addresses(lanes: NDArray[np.uint32], versions: NDArray[np.uint8]) -> Texts:
    """Return addresses as text from uint32[n, 4] lanes; versions are 4 or 6."""
    out = np.empty(LONGEST_ADDRESS * len(lanes), np.uint8)
    ends = np.zeros(len(lanes) + 1, np.int64)
    return Texts(out[: put_addresses(lanes, versions, out, ends)], ends)


@kernel
def code_evidence(flows: Records, table: Numbers, codes: NDArray[np.int32], firsts: Numbers) -> int:
    """Number the distinct evidences of flows; returns how many there are.

    codes: int32[n], each flow's number; firsts: int64[n], a flow with each evidence. table:
    int64[power of two above n] of zeros, scratch.
    """
    mask, count = len(table) - 1, I(0)
    for i in range(len(flows)):
        flow = flows[i]
        packets = I(0 if flow["verdict"] == NOT_CALL else flow["verdict_packets"])
        key, argument = I(flow["evidence"]), I(flow["argument"])
        slot = ((argument * 0x9E3779B1 ^ key << 16 ^ packets) * 0x2C1B3C6D >> 15) & mask
        while True:
            number = table[slot] - 1
            if number < 0:
                table[slot] = count + 1
                firsts[count] = i
                codes[i] = count
                count += 1
                break
            one = flows[firsts[number]]
            one_packets = I(0 if one["verdict"] == NOT_CALL else one["verdict_packets"])
            if I(one["evidence"]) == key and I(one["argument"]) == argument:
                if one_packets == packets:
                    codes[i] = number
                    break
            slot = (slot + 1) & mask
    return count


def sentences(flows: Records) -> Words:
    """Return the evidence sentence of each of n flows."""
    codes, firsts = np.empty(len(flows), np.int32), np.empty(len(flows), np.int64)
    table = np.zeros(1 << (2 * len(flows) + 1).bit_length(), np.int64)
    chosen = flows[firsts[: code_evidence(flows, table, codes, firsts)]]
    packets = np.where(chosen["verdict"] == NOT_CALL, 0, chosen["verdict_packets"])
    keys = (chosen["evidence"].tolist(), chosen["argument"].tolist(), packets.tolist())
    return Words(codes, [sentence(*key) for key in zip(*keys, strict=True)])


def seconds(ns: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return times in seconds since the epoch, rounded to a microsecond."""
    return np.round(ns / 1e9, 6)


def words(numbers: NDArray[Any], table: Sequence[str]) -> Words:
    """Return the column of small integers whose words are in a table."""
    return Words(numbers.astype(np.int32), table)


def columns(flows: Records, file: str) -> dict[str, Column]:
    """Return the columns of `midcall classify` for FLOW[n], keyed and ordered as COLUMNS.

    Times are in seconds since the epoch, ms_to_verdict in milliseconds from the flow's first
    packet, packets_to_verdict in payload packets; both are -1 where no verdict was reached.
    """
    n = len(flows)
    verdict = np.where(flows["verdict"] == UNDECIDED, NOT_CALL, flows["verdict"])
    waited = np.round((flows["verdict_time"] - flows["first_time"]) / 1e6, 3)
    reached = flows["verdict"] != UNDECIDED
    proto = [PROTOCOLS.get(i, f"ip-{i}") for i in range(256)]
    values: tuple[Column, ...] = (
        Words(np.zeros(n, np.int32), (file,)),
        words(flows["proto"], proto),
        addresses(flows["source"], flows["version"]),
        flows["source_port"],
        addresses(flows["target"], flows["version"]),
        flows["target_port"],
        flows["packets_up"].astype(np.int64) + flows["packets_down"],
        flows["bytes_up"] + flows["bytes_down"],
        seconds(flows["first_time"]),
        seconds(flows["last_time"]),
        words(verdict, VERDICTS),
        words(flows["app"], APPS),
        words(flows["app"], FAMILIES),
        words(flows["role"], ROLES),
        flows["confidence"] / 100.0,
        np.where(reached, flows["verdict_packets"].astype(np.int64), -1),
        np.where(reached, waited, -1.0),
        sentences(flows),
    )
    return dict(zip(COLUMNS, values, strict=True))
