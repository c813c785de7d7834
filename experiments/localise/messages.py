# SPDX-License-Identifier: BSD-3-Clause
"""Messages that are tried in a packet's place: other protocols, and variants of its own payload.

All random octets are hashes of names, so that a search sends the same messages each time.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator

from midcall.captures.packets.numbers import STUN_COOKIE, TCP
from midcall.captures.wire.stun import message, method_bits
from midcall.captures.wire.tls import extension
from midcall.experiments.localise.clause import Range, within
from midcall.experiments.localise.packet_fields import attribute_types, fields, read
from midcall.testbed.conformance.transcript import QUIC_HELLO, dtls, hello, question, record, rtp
from midcall.testbed.policy.language import METHODS
from midcall.testbed.probing.probe import Sent
from midcall.testbed.probing.quic_initial import quic_initial

#: An unassigned STUN attribute (comprehension-optional, RFC 8489), used as padding.
FILLING = 0xC0DE
#: A host name used only here, and cipher suites that the lab's other hellos do not have.
OTHER_NAME = "quiet.example"
OTHER_SUITES = bytes.fromhex("130213031304c02cc030cca9")


def noise(size: int, *names: object) -> bytes:
    """Return `size` pseudo-random octets that depend on the names alone."""
    text = "/".join(str(name) for name in names)
    return hashlib.shake_128(text.encode()).digest(size)


def unlike(payload: bytes, *names: object) -> bytes:
    """Return octets of the same length, each different from the one at its place."""
    draws = noise(len(payload), *names)
    return bytes(o ^ (1 + d % 255) for o, d in zip(payload, draws, strict=True))


def stun(method: int, attributes: tuple[int, ...] = (), answer: bool = False) -> bytes:
    """Return a STUN message (RFC 8489) with empty values of four octets."""
    transaction = noise(12, "transaction", method)
    values = [(one, bytes(4)) for one in attributes]
    return message(method_bits(method) | (0x0100 if answer else 0), transaction, values)


def client_hello(name: str, suites: bytes = b"", filling: int = -1) -> bytes:
    """Return a TLS record with a ClientHello for a name; filling: octets of padding (RFC 7685)."""
    padding = extension(21, bytes(filling)) if filling >= 0 else b""
    body = hello(name, 0x0303, suites, padding) if suites else hello(name, 0x0303, more=padding)
    return record(22, body)


def request(host: str) -> bytes:
    """Return an HTTP request."""
    return f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


def exemplars(proto: int) -> dict[str, bytes]:
    """Return a message of each kind that a transport carries, by its name."""
    result = {f"stun {word}": stun(method) for word, method in METHODS.items()}
    result |= {
        "stun answer": stun(1, answer=True),
        "stun attribute": stun(1, (0x0006, 0x8022)),
        "sip": b"OPTIONS sip:a@b.example SIP/2.0\r\nCSeq: 1 OPTIONS\r\n\r\n".replace(
            b"OPTIONS", b"REGISTER"
        ),
        "noise": noise(100, "exemplar"),
        "zeros": bytes(100),
    }
    if proto == TCP:
        result |= {
            "tls-hello": client_hello(OTHER_NAME),
            "tls-hello bare": client_hello(""),
            "tls": record(23, noise(60, "tls")),
            "http": request(OTHER_NAME),
        }
        return result
    return result | {
        "channel": struct.pack(">HH", 0x4001, 60) + noise(60, "channel"),
        "rtp": rtp(7, ">", 100),
        "rtcp": b"\x81\xc9\0\7" + noise(28, "rtcp"),
        "dtls-hello": dtls(22, hello("", 0xFEFD)),
        "dtls": dtls(23, noise(60, "dtls")),
        "quic": QUIC_HELLO,
        "dns": question(OTHER_NAME),
    }


# ---- sizes


def fitted(payload: bytes, size: int) -> bytes | None:
    """Return the same message with `size` octets, None if that is impossible."""
    more = size - len(payload)
    if more == 0:
        return payload
    if len(payload) >= 20 and payload[4:8] == struct.pack(">I", STUN_COOKIE):
        return fitted_stun(payload, more)
    if is_channel(payload):
        return fitted_channel(payload, size)
    if more < 0:
        return None
    return payload + noise(more, "filling")


def is_channel(payload: bytes) -> bool:
    """Return whether a payload is TURN ChannelData (RFC 8656) with a correct length."""
    if len(payload) < 4 or not 0x40 <= payload[0] <= 0x4F:
        return False
    return 0 <= len(payload) - 4 - int.from_bytes(payload[2:4], "big") <= 3


def fitted_channel(payload: bytes, size: int) -> bytes | None:
    """Return ChannelData of another size, with a correct length."""
    if size < 4:
        return None
    body = payload[4:size] + noise(max(size - len(payload), 0), "filling")
    return payload[:2] + struct.pack(">H", size - 4) + body


def fitted_stun(payload: bytes, more: int) -> bytes | None:
    """Return a STUN message `more` octets longer, with a correct length."""
    if more < 4 or more % 4:
        return None
    length = int.from_bytes(payload[2:4], "big") + more
    return (
        payload[:2] + struct.pack(">H", length) + payload[4:]
        + struct.pack(">HH", FILLING, more - 4) + bytes(more - 4)
    )  # fmt: skip


def resized(packet: Sent, size: int) -> Iterator[bytes]:
    """Yield a packet's payload with another size; forms that preserve most of it come first."""
    body, reading = packet.payload, read(packet)
    if size >= len(body):
        extended = fitted(body, size)
        if extended is not None:
            yield extended
        if reading.where == "tls":
            shortest = len(client_hello(reading.name, filling=0))
            if size >= shortest:
                yield client_hello(reading.name, filling=size - shortest)
        yield body + noise(size - len(body), "longer")
    else:
        if reading.method >= 0:
            yield from shorter_stun(body, size)
        if is_channel(body) and size >= 4:
            yield body[:2] + struct.pack(">H", size - 4) + body[4:size]
        if reading.where == "tls":
            shortest = len(client_hello(reading.name, filling=0))
            if size >= shortest:
                yield client_hello(reading.name, filling=size - shortest)
        yield body[:size]
    yield varied(size)


def varied(size: int) -> bytes:
    """Return octets of the highest possible entropy: as many different ones as possible."""
    row = bytes((167 * n + 13) % 256 for n in range(256))
    return (row * (size // 256 + 1))[:size]


def shorter_stun(body: bytes, size: int) -> Iterator[bytes]:
    """Yield a STUN message cut at its end, with a correct length."""
    if size >= 20:
        yield body[:2] + struct.pack(">H", size - 20) + body[4:size]


# ---- the same with one thing changed


def variants(packet: Sent, sizes: Range) -> list[bytes]:
    """Return payloads within some sizes to try in a packet's place."""
    bodies = [*by_field(packet), *by_place(packet), *by_stun(packet), *by_name(packet)]
    sized = resized_into(bodies, sizes, len(packet.payload))
    return [body for body in dict.fromkeys(sized) if body != packet.payload]


def resized_into(bodies: Iterable[bytes], sizes: Range, usual: int) -> Iterator[bytes]:
    """Yield messages whose sizes lie in a range; others are resized to `usual` octets if
    possible."""
    for body in bodies:
        sized = body if within(sizes, len(body)) else fitted(body, usual)
        if sized is not None:
            yield sized


def by_field(packet: Sent) -> Iterator[bytes]:
    """Yield the payload with each field in turn replaced, and with all of it replaced."""
    body = packet.payload
    for field in fields(packet):
        part = body[field.at : field.at + field.length]
        other = unlike(part, "field", field.at)
        yield body[: field.at] + other + body[field.at + field.length :]
        if field.name != "data":
            yield unlike(body[: field.at], 1) + part + unlike(body[field.at + field.length :], 2)
            yield unlike(body[: field.at], 3) + part
    yield unlike(body, "all")
    yield bytes(len(body))


def by_place(packet: Sent) -> Iterator[bytes]:
    """Yield the payload shifted, cut and extended."""
    body = packet.payload
    for shift in (1, 2, 4):
        yield noise(shift, "shift") + body[: len(body) - shift]
        yield noise(shift, "shift") + body
    yield body[: len(body) // 2]
    yield body + noise(9, "longer")


def by_stun(one: Sent) -> Iterator[bytes]:
    """Yield STUN messages that share the method or an attribute with the packet's."""
    reading = read(one)
    if reading.method < 0:
        return
    types = tuple(dict.fromkeys(attribute_types(one.payload)))
    others = [method for method in (1, 3, 4) if method != reading.method]
    yield stun(reading.method)
    yield struct.pack(">H", len(one.payload)) + one.payload
    yield stun(reading.method, (FILLING,))
    yield stun(reading.method, answer=True)
    for kind in types[:24]:
        yield stun(reading.method, (kind,))
        yield stun(reading.method, (FILLING, kind))
        for method in others[:2]:
            yield stun(method, (kind,))
    yield stun(others[0], types)
    for kind in types[:24]:
        yield stun(reading.method, tuple(FILLING if one == kind else one for one in types))
    yield stun(reading.method, tuple(reversed(types)))


def by_name(packet: Sent) -> Iterator[bytes]:
    """Yield other messages with the same name, and messages with similar names."""
    reading = read(packet)
    if not reading.where:
        return
    name = reading.name
    parts = name.split(".")
    names = [
        name, f"www.{name}", f"x{name}", f"a.b.{name}", ".".join(parts[1:]), OTHER_NAME,
        f"other.{'.'.join(parts[1:])}", ".".join(["y" * len(parts[0]), *parts[1:]]),
        f"z.{'.'.join(parts[2:])}", name[:-1] + ("n" if name[-1] != "n" else "m"),
    ]  # fmt: skip
    for other in names:
        if not other or other.startswith(".") or other.endswith("."):
            continue
        if packet.ends.proto == TCP:
            yield client_hello(other)
            yield client_hello(other, OTHER_SUITES)
            yield request(other)
        elif reading.where == "dns":
            yield question(other)
        else:
            yield quic_initial(other)
