# SPDX-License-Identifier: BSD-3-Clause
"""A small SIP registrar and stateless proxy over UDP (RFC 3261 sections 10.3 and 16.11).

A process of its own: `python -m testbed.programs.calls.registrar ADDRESS PORT`. A user agent that
registers is reachable by its user name until the process ends; no password is required. It adds no
Record-Route: requests after a call's set-up go directly between both ends.
"""

from __future__ import annotations

import hashlib
import re
import socket
import sys

CONTACT = re.compile(r"^(?:Contact|m): *<?sip:[^@>\s]+@([0-9.]+):?(\d+)?", re.IGNORECASE | re.M)
TO = re.compile(r"^(?:To|t): *[^<\n]*<?sip:([^@>;\s]+)@", re.IGNORECASE | re.M)
VIA = re.compile(r"^(?:Via|v): *SIP/2\.0/UDP ([0-9.]+):?(\d+)?([^\r\n]*)\r\n", re.I | re.M)
#: Headers of a request that its answer repeats.
REPEATED = ("via", "v", "from", "f", "to", "t", "call-id", "i", "cseq", "contact", "m")


class Registrar:
    """The contacts of registered users, and the routing of messages."""

    def __init__(self, address: str, port: int) -> None:
        """Start with no registered user."""
        self.address, self.port = address, port
        self.contacts: dict[str, tuple[str, int]] = {}

    def handle(self, message: str, sender: tuple[str, int]) -> tuple[str, tuple[str, int]] | None:
        """Return the message to send for a received one, and its target; None for nothing."""
        first = message.partition("\r\n")[0]
        if first.startswith("SIP/2.0"):
            return self.forward_answer(message)
        if first.startswith("REGISTER "):
            return self.register(message), sender
        return self.forward_request(message, sender)

    def register(self, message: str) -> str:
        """Store the contact of a registration; returns the answer."""
        user, contact = TO.search(message), CONTACT.search(message)
        if user and contact:
            self.contacts[user[1]] = (contact[1], int(contact[2] or 5060))
        return answer(message, "200 OK")

    def forward_request(
        self, message: str, sender: tuple[str, int]
    ) -> tuple[str, tuple[str, int]] | None:
        """Return a request for its target user, with its address; 404 for an unknown user."""
        user = re.match(r"\w+ sip:([^@;\s]+)@", message)
        target = self.contacts.get(user[1].partition("-")[0]) if user else None
        if target is None:
            return (
                None if message.startswith("ACK ") else (answer(message, "404 Not Found"), sender)
            )
        via = VIA.search(message)
        branch = hashlib.sha256(via[0].encode() if via else b"").hexdigest()[:16]
        own = f"Via: SIP/2.0/UDP {self.address}:{self.port};branch=z9hG4bK{branch}\r\n"
        first, _, rest = message.partition("\r\n")
        return f"{first}\r\n{own}{rest}", target

    def forward_answer(self, message: str) -> tuple[str, tuple[str, int]] | None:
        """Return an answer for the next Via, with its address; None where there is none."""
        message = VIA.sub("", message, count=1)
        via = VIA.search(message)
        return None if via is None else (message, (via[1], int(via[2] or 5060)))


def answer(message: str, status: str) -> str:
    """Return a request's answer without a body."""
    lines = message.partition("\r\n\r\n")[0].split("\r\n")[1:]
    headers = [line for line in lines if line.partition(":")[0].strip().lower() in REPEATED]
    return "\r\n".join((f"SIP/2.0 {status}", *headers, "Content-Length: 0", "", ""))


def main(address: str, port: int) -> None:
    """Answer until the process is ended."""
    registrar = Registrar(address, port)
    with socket.socket(type=socket.SOCK_DGRAM) as one:
        one.bind((address, port))
        print("ready", flush=True)
        while True:
            octets, sender = one.recvfrom(65535)
            sent = registrar.handle(octets.decode("utf-8", "replace"), sender)
            if sent is not None:
                one.sendto(sent[0].encode(), sent[1])


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
