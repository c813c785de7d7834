# SPDX-License-Identifier: BSD-3-Clause
"""SIP dialogues in a capture: which message answers which (RFC 3261 sections 8.1.3 and 17.1.1)."""

from __future__ import annotations

import re

FIELDS = re.compile(rb"\r?\n(call-id|i|cseq)[ \t]*:[ \t]*([^\r\n]+)", re.IGNORECASE)
METHODS = (b"INVITE ", b"REGISTER ", b"OPTIONS ", b"BYE ", b"CANCEL ", b"ACK ", b"INFO ", b"PRACK ",
           b"UPDATE ", b"SUBSCRIBE ", b"NOTIFY ", b"MESSAGE ", b"REFER ", b"PUBLISH ")  # fmt: skip
STATUS = b"SIP/2.0 "


def transaction(message: bytes) -> tuple[bool, tuple[bytes, bytes]] | None:
    """Return (whether it is a response, (Call-ID, CSeq)), None where the payload is not SIP.

    An ACK counts as a response: it answers the final response to the INVITE of its number.
    """
    if not message.startswith((STATUS, *METHODS)):
        return None
    headers = {name.lower()[:2]: value.strip() for name, value in FIELDS.findall(message)}
    call = headers.get(b"ca", headers.get(b"i"))
    sequence = headers.get(b"cs", b"").split()
    if call is None or not sequence:
        return None
    if message.startswith(b"ACK "):
        return True, (call, sequence[0] + b" INVITE final")
    return message.startswith(STATUS), (call, sequence[0] + b" " + sequence[-1])


def final_invite(message: bytes) -> tuple[bytes, bytes] | None:
    """Return the key under which an ACK looks for this final response to an INVITE, else None."""
    key = transaction(message)
    if key is None or not message.startswith(STATUS) or message[8:9] == b"1":
        return None
    call, sequence = key[1]
    return (call, sequence + b" final") if sequence.endswith(b" INVITE") else None
