# SPDX-License-Identifier: BSD-3-Clause
"""Messages to try in a packet's place: other protocols, the same with one thing changed.

All draws come from hashes of names, so a search asks the same questions each time.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable, Iterator

from midcall.captures.packets.numbers import STUN_COOKIE, TCP
from midcall.experiments.localise.clause import Range, within
from midcall.experiments.localise.packet_fields import attribute_types, fields, read
from midcall.testbed.conformance.transcript import QUIC_HELLO, dtls, hello, question, record, rtp
from midcall.testbed.policy.language import METHODS
from midcall.testbed.probing.probe import Sent
from midcall.testbed.probing.quic_initial import quic_initial

#: An attribute that nobody gives a meaning (comprehension-optional, RFC 8489), to fill with.
FILLING = 0xC0DE
#: A name of the lab's own, and other suites than the lab's hellos have elsewhere.
OTHER_NAME = "quiet.example"
OTHER_SUITES = bytes.fromhex("130213031304c02cc030cca9")


def noise(size: int, *names: object) -> bytes:
    """Return octets without order that depend on names alone."""
    text = "/".join(str(name) for name in names)
    return hashlib.shake_128(text.encode()).digest(size)


def unlike(payload: bytes, *names: object) -> bytes:
    """Return octets as many as a payload's, each other than the one in its place."""
    draws = noise(len(payload), *names)
    return bytes(o ^ (1 + d % 255) for o, d in zip(payload, draws, strict=True))


def stun(method: int, attributes: tuple[int, ...] = (), answer: bool = False) -> bytes:
    """Return a STUN message (RFC 8489) with empty values of four octets."""
    kind = (method & 0x0F) | (method & 0x70) << 1 | (method & 0xF80) << 2
    body = b"".join(struct.pack(">HHI", one, 4, 0) for one in attributes)
    head = struct.pack(">HHI", kind | (0x0100 if answer else 0), len(body), STUN_COOKIE)
    return head + noise(12, "transaction", method) + body


def client_hello(name: str, suites: bytes = b"", filling: int = -1) -> bytes:
    """Return a TLS record with a ClientHello for a name; filling: octets of padding (RFC 7685)."""
    body = hello(name, 0x0303)
    if suites:
        at = 35 + 2
        old = int.from_bytes(body[35:37], "big")
        body = body[:35] + struct.pack(">H", len(suites)) + suites + body[at + old :]
    if filling >= 0:
        at = 37 + int.from_bytes(body[35:37], "big") + 2
        length = int.from_bytes(body[at : at + 2], "big") + 4 + filling
        extra = struct.pack(">HH", 21, filling) + bytes(filling)
        body = body[:at] + struct.pack(">H", length) + body[at + 2 :] + extra
    return record(22, body)


def request(host: str) -> bytes:
    """Return an HTTP request."""
    return f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()


def exemplars(proto: int) -> dict[str, bytes]:
    """Return a message of each kind that a transport carries, by a name."""
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
    """Return a message as one of `size` octets that says the same, None where that cannot be."""
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
    """Tell whether a payload is TURN ChannelData (RFC 8656) with the right length."""
    if len(payload) < 4 or not 0x40 <= payload[0] <= 0x4F:
        return False
    return 0 <= len(payload) - 4 - int.from_bytes(payload[2:4], "big") <= 3


def fitted_channel(payload: bytes, size: int) -> bytes | None:
    """Return ChannelData of another size, its length right."""
    if size < 4:
        return None
    body = payload[4:size] + noise(max(size - len(payload), 0), "filling")
    return payload[:2] + struct.pack(">H", size - 4) + body


def fitted_stun(payload: bytes, more: int) -> bytes | None:
    """Return a STUN message `more` octets longer, its length right."""
    if more < 4 or more % 4:
        return None
    length = int.from_bytes(payload[2:4], "big") + more
    return (
        payload[:2] + struct.pack(">H", length) + payload[4:]
        + struct.pack(">HH", FILLING, more - 4) + bytes(more - 4)
    )  # fmt: skip


def resized(one: Sent, size: int) -> Iterator[bytes]:
    """Yield a packet's payload with another size, the forms that keep most of it first."""
    body, result = one.payload, read(one)
    if size >= len(body):
        kept = fitted(body, size)
        if kept is not None:
            yield kept
        if result.where == "tls":
            bare = len(client_hello(result.name, filling=0))
            if size >= bare:
                yield client_hello(result.name, filling=size - bare)
        yield body + noise(size - len(body), "longer")
    else:
        if result.method >= 0:
            yield from shorter_stun(body, size)
        if is_channel(body) and size >= 4:
            yield body[:2] + struct.pack(">H", size - 4) + body[4:size]
        if result.where == "tls":
            bare = len(client_hello(result.name, filling=0))
            if size >= bare:
                yield client_hello(result.name, filling=size - bare)
        yield body[:size]
    yield varied(size)


def varied(size: int) -> bytes:
    """Return octets of which as many as possible differ, so that their entropy is the highest."""
    row = bytes((167 * n + 13) % 256 for n in range(256))
    return (row * (size // 256 + 1))[:size]


def shorter_stun(body: bytes, size: int) -> Iterator[bytes]:
    """Yield a STUN message cut at the end, its length right."""
    if size >= 20:
        yield body[:2] + struct.pack(">H", size - 20) + body[4:size]


# ---- the same with one thing changed


def variants(one: Sent, sizes: Range) -> list[bytes]:
    """Return payloads of some sizes to try in a packet's place."""
    found = [*by_field(one), *by_place(one), *by_stun(one), *by_name(one)]
    kept = resized_into(found, sizes, len(one.payload))
    return [body for body in dict.fromkeys(kept) if body != one.payload]


def resized_into(bodies: Iterable[bytes], sizes: Range, usual: int) -> Iterator[bytes]:
    """Yield messages whose sizes lie in a range; others are made `usual` octets if they can be."""
    for body in bodies:
        kept = body if within(sizes, len(body)) else fitted(body, usual)
        if kept is not None:
            yield kept


def by_field(one: Sent) -> Iterator[bytes]:
    """Yield the payload with one field after the other replaced, and with all of it."""
    body = one.payload
    for field in fields(one):
        part = body[field.at : field.at + field.length]
        other = unlike(part, "field", field.at)
        yield body[: field.at] + other + body[field.at + field.length :]
        if field.name != "data":
            yield unlike(body[: field.at], 1) + part + unlike(body[field.at + field.length :], 2)
            yield unlike(body[: field.at], 3) + part
    yield unlike(body, "all")
    yield bytes(len(body))


def by_place(one: Sent) -> Iterator[bytes]:
    """Yield the payload moved, cut and made longer."""
    body = one.payload
    for shift in (1, 2, 4):
        yield noise(shift, "shift") + body[: len(body) - shift]
        yield noise(shift, "shift") + body
    yield body[: len(body) // 2]
    yield body + noise(9, "longer")


def by_stun(one: Sent) -> Iterator[bytes]:
    """Yield STUN messages that share the method or an attribute with a packet's."""
    result = read(one)
    if result.method < 0:
        return
    held = tuple(dict.fromkeys(attribute_types(one.payload)))
    others = [method for method in (1, 3, 4) if method != result.method]
    yield stun(result.method)
    yield struct.pack(">H", len(one.payload)) + one.payload
    yield stun(result.method, (FILLING,))
    yield stun(result.method, answer=True)
    for kind in held[:24]:
        yield stun(result.method, (kind,))
        yield stun(result.method, (FILLING, kind))
        for method in others[:2]:
            yield stun(method, (kind,))
    yield stun(others[0], held)
    for kind in held[:24]:
        yield stun(result.method, tuple(FILLING if one == kind else one for one in held))
    yield stun(result.method, tuple(reversed(held)))


def by_name(one: Sent) -> Iterator[bytes]:
    """Yield messages that tell the same name otherwise, and other names likewise."""
    result = read(one)
    if not result.where:
        return
    name = result.name
    parts = name.split(".")
    names = [
        name, f"www.{name}", f"x{name}", f"a.b.{name}", ".".join(parts[1:]), OTHER_NAME,
        f"other.{'.'.join(parts[1:])}", ".".join(["y" * len(parts[0]), *parts[1:]]),
        f"z.{'.'.join(parts[2:])}", name[:-1] + ("n" if name[-1] != "n" else "m"),
    ]  # fmt: skip
    for other in names:
        if not other or other.startswith(".") or other.endswith("."):
            continue
        if one.ends.proto == TCP:
            yield client_hello(other)
            yield client_hello(other, OTHER_SUITES)
            yield request(other)
        elif result.where == "dns":
            yield question(other)
        else:
            yield quic_initial(other)
