# SPDX-License-Identifier: BSD-3-Clause
"""The call of a recording, in the form of the project's call files: flows by role, and gates.

The gates of the media are read from the packets: STUN transactions by their id (RFC 8489), an
INVITE and its 200 by its CSeq (RFC 3261). Content of TLS is not readable; there the remote side's
first answer is used instead, and the gate is marked as inferred.
"""

from __future__ import annotations

from collections.abc import Sequence

from midcall.captures.packets.pcap import Packets
from midcall.captures.truth.calls import Alternative, Call
from midcall.captures.truth.labels import Label
from midcall.captures.truth.media_gates import RFC3261_TIMER, gate, payloads
from midcall.testbed.programs.calls.report import CALLER, Account
from midcall.testbed.programs.calls.verdict import PATHS

RFC8489 = "RFC 8489 section 6.2.1: RTO 500 ms, Rc 7, Rm 16, a request is given up after 39.5 s"


def call_of(account: Account, packets: Packets, labels: Sequence[Label]) -> Call:
    """Return the call of a recording whose flows are labelled."""
    plan = account.plan
    sip = plan.caller in ("baresip", "sipp")
    by_role = {
        role: sorted(row.frame for row in labels if row.role == role and row.call)
        for role in ("media", "setup", "control")
    }
    flow_payloads = dict(payloads(packets))
    gates = [gate(frame, by_role["setup"], flow_payloads, sip) for frame in by_role["media"]]
    relay = account.end(CALLER).relays[-1:] or ("",)
    path = PATHS[relay[0]]
    return Call(
        id="call-1",
        app="sip" if sip else "other-rtc",
        kind="video" if plan.media in ("audio+video", "screen") else "audio",
        media=by_role["media"],
        setup=by_role["setup"],
        control=by_role["control"],
        alternatives=[Alternative(flow=frame, path=path) for frame in by_role["media"]],
        inferred=any(one.note for one in gates),
        timer_s=32.0 if sip else 39.5,
        timer_source=RFC3261_TIMER if sip else RFC8489,
        consent_s=None if sip else 30.0,
        note="recorded in the lab; its flows are what the program said of itself",
        gates=gates,
    )
