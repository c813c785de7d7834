# SPDX-License-Identifier: BSD-3-Clause
"""Pseudonyms in what TLS, DTLS and QUIC show before they encrypt (RFC 8446, 5246, 9147, 9001).

Server names, tickets, session ids, certificates and names of authorities are mapped. Keys that are
exchanged and random numbers stay: every connection makes new ones.
"""

from __future__ import annotations

import struct

from midcall.captures.own import certificates
from midcall.captures.own.payload_pseudonyms import Payloads

CLIENT_HELLO, SERVER_HELLO, VERIFY, TICKET = 1, 2, 3, 4
CERTIFICATE, REQUEST, STATUS = 11, 13, 22
SERVER_NAME, SESSION_TICKET, PSK, COOKIE, TRANSPORT, OLD_TRANSPORT = 0, 35, 41, 44, 57, 0xFFA5
APPLICATION = 16


class Hellos(Payloads):
    """Maps handshake messages, in place."""

    def handshake(self, data: bytearray) -> None:
        """Map the TLS handshake messages in `data`, the last of which may be cut."""
        at = 0
        while at + 4 <= len(data):
            size = int.from_bytes(data[at + 1 : at + 4], "big")
            end = min(at + 4 + size, len(data))
            self.message(data, data[at], at + 4, end, False)
            at += 4 + size

    def message(self, data: bytearray, kind: int, at: int, end: int, datagram: bool) -> None:
        """Map the body data[at:end] of a handshake message of DTLS (datagram) or TLS."""
        if kind in (CLIENT_HELLO, SERVER_HELLO):
            self.hello(data, kind, at, end, datagram)
        elif kind == VERIFY and datagram:
            self.vector(data, at + 2, end, 1)
        elif kind == TICKET and end - at > 6:
            data[at + 6 : end] = self.names.opaque(b"\0" + bytes(data[at + 6 : end]))[1:]
        elif kind == CERTIFICATE:
            place = at + 3
            if end - at > 8 and data[at] == 0 and data[at + 1 : at + 4] != b"\0\0\0":
                if data[at + 6 : at + 7] != b"\x30" and data[at + 7 : at + 8] == b"\x30":
                    place = at + 4  # TLS 1.3: a context stands first
            while place + 3 < end:
                size = int.from_bytes(data[place : place + 3], "big")
                stop = min(place + 3 + size, end)
                certificates.mapped(data, place + 3, stop, self.names)
                place += 3 + size
        elif kind == REQUEST:
            self.request(data, at, end)
        elif kind == STATUS and end - at > 4:
            certificates.mapped(data, at + 4, end, self.names)

    def request(self, data: bytearray, at: int, end: int) -> None:
        """Map the names of authorities in a request for a certificate."""
        start = data.find(b"\x30", at, end)
        while start >= 0 and start < end:
            found = certificates.header(data, start, end)
            if found is not None and found[2] - found[1] > 8:
                certificates.mapped(data, start, found[2], self.names)
                start = data.find(b"\x30", found[2], end)
            else:
                start = data.find(b"\x30", start + 1, end)

    def hello(self, data: bytearray, kind: int, at: int, end: int, datagram: bool) -> None:
        """Map the session id, the cookie and the extensions of a hello."""
        if end - at < 35:
            return
        seconds = int.from_bytes(data[at + 2 : at + 6], "big")
        if self.shift and abs(seconds - self.now) < 2 * 86400:
            data[at + 2 : at + 6] = struct.pack(">I", seconds + self.shift & 0xFFFFFFFF)
        at = self.vector(data, at + 34, end, 1)
        if kind == CLIENT_HELLO:
            if datagram:
                at = self.vector(data, at, end, 1)
            at += 2 + int.from_bytes(data[at : at + 2], "big")
            at += 1 + (data[at] if at < end else 0)
        else:
            at += 3
        at += 2
        while at + 4 <= end:
            code, size = struct.unpack_from(">HH", data, at)
            stop = min(at + 4 + size, end)
            if stop > at + 4:
                data[at + 4 : stop] = self.extension(code, kind, bytes(data[at + 4 : stop]))
            at += 4 + size

    def vector(self, data: bytearray, at: int, end: int, width: int) -> int:
        """Map a vector of opaque bytes in place; returns the place behind it."""
        if at + width > end:
            return end
        size = int.from_bytes(data[at : at + width], "big")
        stop = min(at + width + size, end)
        if stop > at + width:
            data[at + width : stop] = self.names.opaque(b"\0" + bytes(data[at + width : stop]))[1:]
        return stop

    def extension(self, code: int, kind: int, value: bytes) -> bytes:
        """Return the image of an extension's content."""
        if code == SERVER_NAME and len(value) > 5:
            return value[:5] + self.names.hosts(value[5:])
        if code in (SESSION_TICKET, COOKIE):
            return self.names.opaque(b"\0" + value)[1:]
        if code == PSK and kind == CLIENT_HELLO:
            return self.keys(value)
        if code in (TRANSPORT, OLD_TRANSPORT):
            return self.short_runs(value)
        if code == APPLICATION:  # names of protocols, some of which hold the version of a program
            return self.names.text(value)
        return value

    def keys(self, value: bytes) -> bytes:
        """Return a list of pre-shared keys with identities, ages and binders mapped."""
        out, at = bytearray(value), 2
        end = min(2 + int.from_bytes(value[:2], "big"), len(value))
        while at + 2 <= end:
            at = self.vector(out, at, end, 2)
            out[at : at + 4] = self.names.opaque(b"\0" + bytes(out[at : at + 4]))[1:]
            at += 4
        at = end + 2
        while at < len(out):
            at = self.vector(out, at, len(out), 1)
        return bytes(out)

    # ---- records

    def tls(self, body: bytes) -> bytes:
        """Return a stream of TLS records with its plain handshake mapped.

        What follows the records is no TLS (Microsoft's relays begin with a false hello).
        """
        out, at = bytearray(body), 0
        spans: list[tuple[int, int]] = []
        encrypted = False
        while at + 5 <= len(body) and is_record(body, at):
            size = int.from_bytes(body[at + 3 : at + 5], "big")
            end = min(at + 5 + size, len(body))
            if body[at] in (20, 23):
                encrypted = True
            elif body[at] == 22 and (not encrypted or is_hello(body, at + 5, size)):
                spans.append((at + 5, end))
            at += 5 + size
        if at < len(body):
            out[at:] = self.generic(body[at:])
        whole = bytearray().join(body[start:end] for start, end in spans)
        self.handshake(whole)
        place = 0
        for start, end in spans:
            out[start:end] = whole[place : place + end - start]
            place += end - start
        return bytes(out)

    def chlo(self, body: bytes, at: int) -> bytes:
        """Return a payload of gQUIC with the tags of its hello at `at` mapped (gQUIC crypto)."""
        out = bytearray(body)
        count = int.from_bytes(body[at + 4 : at + 6], "little")
        values, start = at + 8 + 8 * count, 0
        for i in range(count):
            tag = body[at + 8 + 8 * i : at + 12 + 8 * i]
            stop = int.from_bytes(body[at + 12 + 8 * i : at + 16 + 8 * i], "little")
            first, last = values + start, min(values + stop, len(body))
            if tag in (b"SNI\0", b"UAID") and first < last:
                out[first:last] = self.names.hosts(body[first:last])
            elif tag in (b"STK\0", b"SNO\0", b"SCID", b"CETV", b"NONC", b"CCS\0", b"CCRT"):
                if first < last:
                    out[first:last] = self.names.opaque(b"\0" + body[first:last])[1:]
            start = stop
        return bytes(out)


def is_record(body: bytes, at: int = 0) -> bool:
    """Return whether a TLS record of a known type and version starts at `at`."""
    if at + 5 > len(body) or not 20 <= body[at] <= 24 or body[at + 1] != 3 or body[at + 2] > 4:
        return False
    return int.from_bytes(body[at + 3 : at + 5], "big") <= 18432


def is_hello(body: bytes, at: int, size: int) -> bool:
    """Return whether a record holds a plain hello: the second one follows a change of cipher."""
    length = int.from_bytes(body[at + 1 : at + 4], "big")
    return body[at : at + 1] in (b"\1", b"\2") and length == size - 4


def is_dtls(body: bytes, at: int = 0) -> bool:
    """Return whether a DTLS record of a known type and version starts at `at`."""
    return (
        at + 13 <= len(body)
        and 20 <= body[at] <= 26
        and (body[at + 1 : at + 3] in (b"\xfe\xff", b"\xfe\xfd", b"\1\0"))
    )
