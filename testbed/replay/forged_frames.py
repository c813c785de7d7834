# SPDX-License-Identifier: BSD-3-Clause
"""Forged frames, checked as their receivers check: a frame that an end discards has no effect.

Checksums, lengths, hop limits and ends are read from the octets; a reset or a FIN must have the
sequence number that its receiver expects (RFC 9293 section 3.10.7.4, RFC 5961 section 3.2),
computed from the segments that reached it; a DNS answer must repeat the question's id and question
(RFC 1035 section 4.1.1, RFC 5452 section 4.2).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any

from midcall.captures.packets.numbers import ICMP, TCP, UDP
from midcall.captures.packets.pcap import packets_of
from midcall.classifier.engine import Engine
from midcall.classifier.state.packet_fields import SIGN_IP_AT, SIGN_IP_END
from midcall.testbed.middlebox.inject import (
    ANSWER,
    CORRUPTED,
    DUPLICATE,
    FRAME_KINDS,
    RESET,
    SYN_REFUSED,
    UNREACHABLE,
)
from midcall.testbed.middlebox.rule_table import UP
from midcall.testbed.network.checksums import folded, word_sum
from midcall.testbed.network.tcp import ACK, SYN
from midcall.testbed.policy.language import Rule
from midcall.testbed.replay.addressing import mapped
from midcall.testbed.replay.sides import CALLER

#: The lowest initial hop limit of a forged packet that still reaches an end some networks away.
FEWEST_HOPS = 32
DEFAULT_HOPS = Rule.model_fields["hops"].default
ETHERNET_LINK = 1


def frame_problems(result: Any) -> Iterator[str]:
    """Yield why receivers would discard a run's forged frames, one sentence each."""
    for number, letter in enumerate(result.letters, 1):
        at = int(letter["at"])
        frame = result.mail[at : at + int(letter["length"])].tobytes()
        word = f"forged frame {number} ({FRAME_KINDS[letter['kind']]})"
        for problem in problems_of(frame, letter, result):
            yield f"{word}: {problem}"


def problems_of(frame: bytes, letter: Any, result: Any) -> Iterator[str]:
    """Yield what is wrong with one forged frame."""
    packet = innermost(frame)
    if not packet:
        yield "holds no IP packet"
        return
    if letter["kind"] in (DUPLICATE, CORRUPTED):
        yield from copy_problems(packet, letter, result)
        return
    is_ip6 = packet[0] >> 4 == 6
    head = 40 if is_ip6 else 4 * (packet[0] & 15)
    size = struct.unpack_from(">H", packet, 4 if is_ip6 else 2)[0] + (40 if is_ip6 else 0)
    if size != len(packet):
        yield f"its IP length is {size}, and {len(packet)} octets are there"
    if not is_ip6 and folded(word_sum(packet[:head])) != 0xFFFF:
        yield "its IP header checksum is wrong"
    rule = result.policy.rules[int(letter["rule"])]
    if rule.hops == DEFAULT_HOPS and packet[7 if is_ip6 else 8] < FEWEST_HOPS:
        yield f"its hop limit is {packet[7 if is_ip6 else 8]}"
    places = packet[8:40] if is_ip6 else packet[12:20]
    proto, body = packet[6 if is_ip6 else 9], packet[head:]
    pseudo = 0 if proto == ICMP else word_sum(places) + proto + len(body)
    if folded(pseudo + word_sum(body)) != 0xFFFF:
        yield "its transport checksum is wrong"
    about = packet_of(result, int(letter["packet"]))
    back = (result.script.side[letter["packet"]] == CALLER) != (letter["toward"] == UP)
    if letter["kind"] in (UNREACHABLE, SYN_REFUSED):
        yield from icmp_problems(body, about)
        return
    if ends_of(packet) != (ends_of(about)[::-1] if back else ends_of(about)):
        yield "its ends are not those of what it answers"
    if letter["kind"] == ANSWER:
        yield from answer_problems(body[8:], about, proto)
    elif proto == TCP:
        yield from number_problems(body, letter, result, back)
    else:
        yield "it is no TCP segment"


def number_problems(body: bytes, letter: Any, result: Any, back: bool) -> Iterator[str]:
    """Yield what is wrong with the numbers of a forged segment."""
    sequence, acknowledged = struct.unpack_from(">II", body, 4)
    facts, sides = result.script.held.facts, result.script.side
    about = facts[letter["packet"]]
    arrived_before = (result.fates["arrival_time"] >= 0) & (
        result.fates["arrival_time"] <= int(letter["time"]) + int(result.script.base.max(initial=0))
    )
    towards = (sides == CALLER) == (letter["toward"] == UP)
    came = facts["until"][arrived_before & towards & (facts["flow"] == about["flow"])]
    ahead = result.policy.rules[int(letter["rule"])].resets if letter["kind"] == RESET else [0]
    if len(came) and (sequence - int(came.max())) & 0xFFFFFFFF not in ahead:
        yield f"its sequence number is {sequence}, its receiver expects {int(came.max())}"
    if not len(came) and back and about["flags"] & SYN and not about["flags"] & ACK:
        if acknowledged != (int(about["sequence"]) + 1) & 0xFFFFFFFF:
            yield "it does not acknowledge the SYN that it answers"


def packet_of(result: Any, number: int) -> bytes:
    """Return the IP packet of a number, as the box saw it."""
    lab = result.lab or mapped(result.script.held, "map")
    octets: bytes = lab.data[int(lab.ip_at[number]) : int(lab.ip_end[number])].tobytes()
    return octets


def copy_problems(packet: bytes, letter: Any, result: Any) -> Iterator[str]:
    """Yield what is wrong with a packet that was sent again, or corrupted in one bit."""
    about = packet_of(result, int(letter["packet"]))
    bits = sum((one ^ other).bit_count() for one, other in zip(packet, about, strict=False))
    expected = 1 if letter["kind"] == CORRUPTED else 0
    if len(packet) != len(about) or bits != expected:
        yield f"it differs from its packet in {bits} bits, expected {expected}"


def icmp_problems(body: bytes, about: bytes) -> Iterator[str]:
    """Yield why a host would not assign a forged ICMP error to a socket (RFC 1122 section 3.2.2).

    It must hold the IP header and at least 8 octets of the packet that it answers, and its source
    is taken from there.
    """
    inner = body[8:]
    is_ip6 = about[0] >> 4 == 6
    if body[0] != (1 if is_ip6 else 3):
        yield f"its type is {body[0]}"
    if not is_ip6 and struct.unpack_from(">H", about, 6)[0] & 0x1FFF:
        yield "it answers a later fragment"
    if len(inner) < min(28, len(about)) or about[: len(inner)] != inner:
        yield "it does not hold the packet that it answers"


def answer_problems(answer: bytes, about: bytes, proto: int) -> Iterator[str]:
    """Yield what is wrong with a forged DNS answer."""
    is_ip6 = about[0] >> 4 == 6
    question = about[(40 if is_ip6 else 4 * (about[0] & 15)) + 8 :]
    end = 12
    while end < len(question) and question[end]:
        end += 1 + question[end]
    end += 5
    if proto != UDP or answer[:2] != question[:2]:
        yield "it has another id than the question"
    if answer[12:end] != question[12:end] or answer[4:6] != b"\0\1":
        yield "it does not repeat the question"
    if not answer[2] & 0x80:
        yield "it is no answer"


def innermost(frame: bytes) -> bytes:
    """Return the innermost IP packet of an Ethernet frame, b"" for none."""
    engine = Engine(room=64, model=None)
    packets = packets_of([frame], [0], ETHERNET_LINK)
    if int(engine.feed(packets)[0]) < 0:
        return b""
    at, end = int(engine.signs[SIGN_IP_AT]), int(engine.signs[SIGN_IP_END])
    return frame[at:end]


def ends_of(packet: bytes) -> tuple[bytes, bytes]:
    """Return address and port of a packet's source and target."""
    is_ip6 = packet[0] >> 4 == 6
    head, size = (40, 16) if is_ip6 else (4 * (packet[0] & 15), 4)
    at = 8 if is_ip6 else 12
    return (
        packet[at : at + size] + packet[head : head + 2],
        packet[at + size : at + 2 * size] + packet[head + 2 : head + 4],
    )
