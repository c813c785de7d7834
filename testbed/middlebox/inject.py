# SPDX-License-Identifier: BSD-3-Clause
"""Forged frames: frames that a box sends with another host's address, ready for its link.

TCP resets and FINs with the sequence numbers that their receiver expects (RFC 9293 section
3.10.7.4, RFC 5961), false DNS answers (RFC 1035), and a block page over HTTP. Each is a whole frame
with right checksums, in GTP-U or PPPoE where the access network asks for that. Frames are written
into a box's `mail`, one LETTER row each; the program that runs the box sends them.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets, u8, u16, u32
from midcall.captures.packets.numbers import ICMP, ICMP6, IP4, IP6, TCP, UDP
from midcall.classifier.state.flow_table import Records
from midcall.classifier.state.packet_fields import (
    SIGN_IP_AT,
    SIGN_IP_END,
    SIGN_IP_SIZE,
    SIGN_PAYLOAD_AT,
    SIGN_PAYLOAD_END,
    SIGN_PAYLOAD_SIZE,
    SIGN_PROTO,
    SIGN_TCP_FLAGS,
    SIGN_TCP_SEQUENCE,
    SIGN_UP,
    SIGN_VERSION,
)
from midcall.testbed.network.access import (
    ETHERNET_LENGTH,
    GTP,
    PLAIN,
    PPPOE,
    put16,
    put32,
    write_ethernet,
    write_gtp,
    write_pppoe,
)
from midcall.testbed.network.tcp import ACK, FIN, RST, SYN, find_tcp

Numbers = NDArray[np.int64]

# Kinds of letter.
# SYN_REFUSED: unreachable, in answer to a SYN.
# After SYN_REFUSED: frames that end or deceive nothing at the end that receives them.
FRAME_KINDS = (
    "reset", "finish", "dns answer", "block page", "refused", "unreachable", "duplicate",
    "corrupted",
)  # fmt: skip
RESET, FINISH, ANSWER, PAGE, SYN_REFUSED, UNREACHABLE, DUPLICATE, CORRUPTED = range(8)

LETTER = np.dtype(
    [
        ("at", "i8"),  # of its frame in the mail
        ("length", "i8"),
        ("toward", "i8"),  # testbed.rules.UP or DOWN: to the far end, or to the subscriber
        ("time", "i8"),  # ns
        ("rule", "i8"),
        ("kind", "i8"),
        ("packet", "i8"),  # number of the packet that it answers
    ]
)

#: Slots of a box's `meter` for its mail: letters, octets, letters dropped for lack of room, kind of
#: the access network's encapsulation, octets around an IP packet.
METER_LETTERS, METER_OCTETS, METER_UNSENT, METER_KIND, METER_OVERHEAD = 2, 3, 4, 5, 6

#: Room for the letters of one batch (or one simulation), and for their octets.
LETTER_ROOM, MAIL_ROOM = 4096, 1 << 20
#: The same for a box that sends packets again.
COPY_LETTER_ROOM, COPY_MAIL_ROOM = 1 << 16, 1 << 25

PSH = 0x08
HOPS = 64
#: The value of a rule's `hops` or `ip_id` for the one of the end whose address is used.
OWN = -1
#: The smallest MTU of IPv4 hosts, which an ICMP error must not exceed (RFC 1812 section 4.3.2.3),
#: and that of IPv6 (RFC 4443 section 2.4).
ICMP_ROOM_4, ICMP_ROOM_6 = 576, 1280
#: Unreachable and prohibited: type and code of ICMP (RFC 792, RFC 1812) and ICMPv6 (RFC 4443).
UNREACHABLES = {
    "net": ((3, 0), (1, 0)),
    "host": ((3, 1), (1, 3)),
    "port": ((3, 3), (1, 4)),
    "prohibited": ((3, 13), (1, 1)),
}
NO_SUCH_NAME = 3
TTL = 300
#: Default addresses of false answers: of the lab, assigned to no host (RFC 2544, 4193).
NOWHERE_4, NOWHERE_6 = 0xC6120042, (0xFD000000, 0, 0, 0x42)
#: The longest question section that is answered.
QUESTION = 512

PAGE_TEXT = b"<html><body><p>This service is not available.</p></body></html>\n"
BLOCK_PAGE = np.frombuffer(
    b"HTTP/1.1 403 Forbidden\r\nContent-Type: text/html\r\nContent-Length: %d\r\n"
    b"Connection: close\r\n\r\n%s" % (len(PAGE_TEXT), PAGE_TEXT),
    np.uint8,
).copy()


# ---- sums


@kernel
def summed(b: Octets, at: int, end: int) -> int:
    """Return the sum of b[at:end] as big-endian 16-bit words, the last one padded with 0."""
    total = I(0)
    place = I(at)
    while end - place >= 2:
        total += u16(b, place)
        place += 2
    if end - place == 1:
        total += u8(b, place) << 8
    return total


@kernel
def checksum(total: int) -> int:
    """Return the Internet checksum of a sum of 16-bit words (RFC 1071)."""
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return 0xFFFF - total


# ---- headers


@kernel
def put_address(b: Octets, at: int, lanes: Any, version: int) -> None:
    """Write an address of 4 or 16 octets."""
    for lane in range(4 if version == 6 else 1):
        put32(b, at + 4 * lane, I(lanes[lane]))


@kernel
def put_ip(
    b: Octets,
    at: int,
    version: int,
    proto: int,
    size: int,
    source: Any,
    target: Any,
    hops: int,
    number: int,
) -> int:
    """Write an IP header for `size` octets after it; returns the sum of its pseudo-header.

    hops: TTL or hop limit; number: identification of IPv4.
    """
    if version == 6:
        put32(b, at, 0x60000000)
        put16(b, at + 4, size)
        b[at + 6], b[at + 7] = proto, hops
        put_address(b, at + 8, source, 6)
        put_address(b, at + 24, target, 6)
        return summed(b, at + 8, at + 40) + proto + size
    put16(b, at, 0x4500)
    put16(b, at + 2, size + 20)
    put16(b, at + 4, number & 0xFFFF)
    put16(b, at + 6, 0x4000)
    b[at + 8], b[at + 9] = hops, proto
    put16(b, at + 10, 0)
    put_address(b, at + 12, source, 4)
    put_address(b, at + 16, target, 4)
    put16(b, at + 10, checksum(summed(b, at, at + 20)))
    return summed(b, at + 12, at + 20) + proto + size


@kernel
def open_letter(mail: Octets, meter: Numbers, letters: Records, version: int, size: int,
                toward: int) -> int:  # fmt: skip
    """Write the link's headers of a frame with an IP packet of `size` octets.

    Returns where the IP packet goes; -1, and counts it, where there is no room.
    """
    at = meter[METER_OCTETS]
    whole = ETHERNET_LENGTH + meter[METER_OVERHEAD] + size
    if meter[METER_LETTERS] >= len(letters) or at + whole > len(mail):
        meter[METER_UNSENT] += 1
        return I(-1)
    for place in range(at, at + whole):
        mail[place] = 0
    up = 1 if toward == 0 else 0
    write_ethernet(mail, at, up)
    kind = meter[METER_KIND]
    if kind == GTP:
        put16(mail, at + 12, IP4)
        write_gtp(mail, at + 14, size, up)
    elif kind == PPPOE:
        put16(mail, at + 12, 0x8864)
        write_pppoe(mail, at + 14, size, 0x0057 if version == 6 else 0x0021)
    elif kind == PLAIN:
        put16(mail, at + 12, IP6 if version == 6 else IP4)
    return I(at + whole - size)


@kernel
def close_letter(meter: Numbers, letters: Records, size: int, toward: int, kind: int, time: int,
                 rule: int, packet: int) -> None:  # fmt: skip
    """Add the LETTER row of a frame that is complete."""
    letter = letters[meter[METER_LETTERS]]
    whole = ETHERNET_LENGTH + meter[METER_OVERHEAD] + size
    letter["at"], letter["length"] = meter[METER_OCTETS], whole
    letter["toward"], letter["kind"], letter["time"] = toward, kind, time
    letter["rule"], letter["packet"] = rule, packet
    meter[METER_LETTERS] += 1
    meter[METER_OCTETS] += whole


# ---- letters


@kernel
def send_segment(
    mail: Octets,
    meter: Numbers,
    letters: Records,
    flow: Any,
    b: Octets,
    signs: Numbers,
    side: int,
    back: bool,
    passes: bool,
    kind: int,
    ahead: int,
    hops: int,
    number: int,
    time: int,
    rule: int,
    packet: int,
) -> None:
    """Forge a TCP segment in answer to the current packet: a reset, a FIN or a block page.

    side: the packet's direction; back: to its sender, else to its receiver, with the other end as
    source; passes: whether the packet continues, so that its receiver gets its bytes; ahead: octets
    that its sequence number lies beyond what its receiver expects; hops, number: of its IP header.
    """
    header = find_tcp(b, signs[SIGN_IP_AT], signs[SIGN_IP_END])
    if header == 0 or signs[SIGN_IP_END] - header < 20:
        meter[METER_UNSENT] += 1
        return
    version = I(flow["version"])
    page = len(BLOCK_PAGE) if kind == PAGE else 0
    head = 40 if version == 6 else 20
    toward = 1 - side if back else side
    ip = open_letter(mail, meter, letters, version, head + 20 + page, toward)
    if ip < 0:
        return
    forward = (signs[SIGN_UP] == 1) != back
    source = flow["source"] if forward else flow["target"]
    target = flow["target"] if forward else flow["source"]
    total = put_ip(mail, ip, version, TCP, 20 + page, source, target, hops, number)
    at = ip + head
    put16(mail, at, I(flow["source_port"]) if forward else I(flow["target_port"]))
    put16(mail, at + 2, I(flow["target_port"]) if forward else I(flow["source_port"]))
    put_numbers(mail, at, b, header, signs, back, passes, ahead)
    flags = (RST if kind == RESET else FIN) | ACK
    put16(mail, at + 12, 0x5000 | flags | (PSH if kind == PAGE else 0))
    for octet in range(page):
        mail[at + 20 + octet] = BLOCK_PAGE[octet]
    put16(mail, at + 16, checksum(total + summed(mail, at, at + 20 + page)))
    close_letter(meter, letters, head + 20 + page, toward, kind, time, rule, packet)


@kernel
def put_numbers(
    mail: Octets,
    at: int,
    b: Octets,
    header: int,
    signs: Numbers,
    back: bool,
    passes: bool,
    ahead: int,
) -> None:
    """Write the sequence and acknowledgement numbers that the receiver of a forgery expects.

    ahead: octets that are added to the sequence number.
    """
    flags, sequence = signs[SIGN_TCP_FLAGS], signs[SIGN_TCP_SEQUENCE]
    flag_bytes = (1 if flags & SYN else 0) + (1 if flags & FIN else 0)
    next_sequence = sequence + signs[SIGN_PAYLOAD_SIZE] + flag_bytes
    acknowledged = u32(b, header + 8) if flags & ACK else 0
    if back:
        put32(mail, at + 4, (acknowledged + ahead) & 0xFFFFFFFF)
        put32(mail, at + 8, next_sequence & 0xFFFFFFFF)
    else:
        begin = next_sequence if passes else sequence
        put32(mail, at + 4, (begin + ahead) & 0xFFFFFFFF)
        put32(mail, at + 8, acknowledged)


@kernel
def may_answer(b: Octets, signs: Numbers) -> bool:
    """Tell whether an ICMP error may answer a packet: not ICMP, not a later fragment of IPv4.

    RFC 1122 section 3.2.2, RFC 4443 section 2.4 (e).
    """
    if signs[SIGN_PROTO] == ICMP or signs[SIGN_PROTO] == ICMP6:
        return False
    return bool(signs[SIGN_VERSION] == 6 or u16(b, signs[SIGN_IP_AT] + 6) & 0x1FFF == 0)


@kernel
def send_unreachable(
    mail: Octets,
    meter: Numbers,
    letters: Records,
    flow: Any,
    b: Octets,
    signs: Numbers,
    side: int,
    code: Any,
    time: int,
    rule: int,
    packet: int,
) -> None:
    """Forge an ICMP error in answer to the current packet, as its target would send it.

    code: int64[2], type * 256 + code of ICMP and of ICMPv6. The message holds as much of the packet
    as its smallest MTU allows (RFC 1812 section 4.3.2.3, RFC 4443 section 3.1).
    """
    begin, end = signs[SIGN_IP_AT], signs[SIGN_IP_END]
    version = I(flow["version"])
    head = 40 if version == 6 else 20
    room = (ICMP_ROOM_6 if version == 6 else ICMP_ROOM_4) - head - 8
    copied = min(end - begin, room)
    ip = open_letter(mail, meter, letters, version, head + 8 + copied, 1 - side)
    if ip < 0:
        return
    forward = signs[SIGN_UP] != 1
    source = flow["source"] if forward else flow["target"]
    target = flow["target"] if forward else flow["source"]
    proto = ICMP6 if version == 6 else ICMP
    total = put_ip(mail, ip, version, proto, 8 + copied, source, target, HOPS, 0)
    at = ip + head
    put16(mail, at, I(code[1]) if version == 6 else I(code[0]))
    for octet in range(copied):
        mail[at + 8 + octet] = b[begin + octet]
    pseudo = total if version == 6 else I(0)
    put16(mail, at + 2, checksum(pseudo + summed(mail, at, at + 8 + copied)))
    opens = signs[SIGN_PROTO] == TCP and signs[SIGN_TCP_FLAGS] & (SYN | ACK) == SYN
    kind = SYN_REFUSED if opens else UNREACHABLE
    close_letter(meter, letters, head + 8 + copied, 1 - side, kind, time, rule, packet)


@kernel
def send_copy(
    mail: Octets,
    meter: Numbers,
    letters: Records,
    b: Octets,
    signs: Numbers,
    side: int,
    kind: int,
    time: int,
    rule: int,
    packet: int,
) -> None:
    """Send the current packet again: DUPLICATE, or CORRUPTED in the last bit of its payload.

    Nothing is sent, and counted, where the packet was not captured whole.
    """
    begin, size = signs[SIGN_IP_AT], signs[SIGN_IP_SIZE]
    if signs[SIGN_IP_END] - begin != size:
        meter[METER_UNSENT] += 1
        return
    ip = open_letter(mail, meter, letters, signs[SIGN_VERSION], size, side)
    if ip < 0:
        return
    for octet in range(size):
        mail[ip + octet] = b[begin + octet]
    if kind == CORRUPTED:
        mail[ip + signs[SIGN_PAYLOAD_END] - begin - 1] ^= 1
    close_letter(meter, letters, size, side, kind, time, rule, packet)


@kernel
def copy_kind(b: Octets, at: int, end: int, sent: Octets, place: int, size: int) -> int:
    """Return the kind of a frame b[at:end] that may be a packet sent again, -1 where it is none.

    sent[place : place + size]: the packet's own frame. Ethernet addresses are not compared.
    """
    if end - at != size:
        return I(-1)
    changed = I(0)
    for octet in range(ETHERNET_LENGTH, size):
        if b[at + octet] != sent[place + octet]:
            changed += 1
            if changed > 1:
                return I(-1)
    return I(CORRUPTED if changed == 1 else DUPLICATE)


@kernel
def after_question(b: Octets, at: int, end: int) -> int:
    """Return the end of a DNS message's first question, 0 where it is truncated or compressed."""
    place = I(at + 12)
    while place < end and place - at < QUESTION:
        length = u8(b, place)
        if length == 0:
            return place + 5 if place + 5 <= end else I(0)
        if length > 63:
            return I(0)
        place += 1 + length
    return I(0)


@kernel
def send_answer(
    mail: Octets,
    meter: Numbers,
    letters: Records,
    flow: Any,
    b: Octets,
    signs: Numbers,
    side: int,
    answer: Any,
    time: int,
    rule: int,
    packet: int,
) -> None:
    """Forge a DNS answer to the current question, over UDP.

    answer: int64[6], [0: a name that does not exist, 1: addresses; an IPv4 address; four lanes of
    an IPv6 address]. A question for another type gets an answer without records.
    """
    at, end = signs[SIGN_PAYLOAD_AT], signs[SIGN_PAYLOAD_END]
    stop = after_question(b, at, end)
    if signs[SIGN_PROTO] != UDP or stop == 0 or u16(b, at + 4) == 0:
        meter[METER_UNSENT] += 1
        return
    wanted = u16(b, stop - 4)
    octets = (4 if wanted == 1 else 16 if wanted == 28 else 0) if answer[0] == 1 else 0
    record_size = 12 + octets if octets else 0
    version = I(flow["version"])
    head, size = 40 if version == 6 else 20, 8 + stop - at + record_size
    ip = open_letter(mail, meter, letters, version, head + size, 1 - side)
    if ip < 0:
        return
    forward = signs[SIGN_UP] != 1
    source = flow["source"] if forward else flow["target"]
    target = flow["target"] if forward else flow["source"]
    total = put_ip(mail, ip, version, UDP, size, source, target, HOPS, 0)
    place = ip + head
    put16(mail, place, I(flow["source_port"]) if forward else I(flow["target_port"]))
    put16(mail, place + 2, I(flow["target_port"]) if forward else I(flow["source_port"]))
    put16(mail, place + 4, size)
    put_dns(mail, place + 8, b, at, stop, answer, octets)
    udp_checksum = checksum(total + summed(mail, place, place + size))
    put16(mail, place + 6, udp_checksum if udp_checksum != 0 else 0xFFFF)
    close_letter(meter, letters, head + size, 1 - side, ANSWER, time, rule, packet)


@kernel
def put_dns(
    mail: Octets, place: int, b: Octets, at: int, stop: int, answer: Any, octets: int
) -> None:
    """Write a DNS answer after its UDP header: the question again, and one record (or none)."""
    for octet in range(stop - at):
        mail[place + octet] = b[at + octet]
    put16(mail, place + 2, 0x8180 | (0 if answer[0] == 1 else NO_SUCH_NAME))
    put16(mail, place + 4, 1)
    put16(mail, place + 6, 1 if octets else 0)
    put32(mail, place + 8, 0)
    if octets == 0:
        return
    record = place + stop - at
    put16(mail, record, 0xC00C)
    put16(mail, record + 2, 1 if octets == 4 else 28)
    put16(mail, record + 4, 1)
    put32(mail, record + 6, TTL)
    put16(mail, record + 10, octets)
    if octets == 4:
        put32(mail, record + 12, I(answer[1]))
    else:
        for lane in range(4):
            put32(mail, record + 12 + 4 * lane, I(answer[2 + lane]))
