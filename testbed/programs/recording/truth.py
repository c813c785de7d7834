# SPDX-License-Identifier: BSD-3-Clause
"""Truth: the label of each recorded flow, from the programs that made it, never from a classifier.

A flow of a call is identified by its 5-tuple in the program's own account (getStats, SDP, SIP: see
testbed.programs.calls.report). Any other flow is identified by the server at its remote end, which
the lab itself started. The sockets of both ends are attributed to processes. A flow without such a
program is a problem, and a recording with one is not kept.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence

from midcall.captures.packets.headers import Flow as Tuple
from midcall.captures.packets.headers import flows, written
from midcall.captures.packets.pcap import Packets
from midcall.captures.truth.labels import Label
from midcall.testbed.live.network.subscriber_line import CALLEE, NEAR, Line
from midcall.testbed.live.network.subscriber_line import RELAY as RELAY_ADDRESS
from midcall.testbed.programs.background.driver import Service
from midcall.testbed.programs.calls.plan import Plan
from midcall.testbed.programs.calls.report import (
    CALLER,
    CONTROL,
    MEDIA,
    RELAY,
    SIGNALLING,
    Account,
    Flow,
)
from midcall.testbed.programs.recording.socket_owner import SocketOwners

#: The app of a caller's calls, as labels name it.
APPS = {"chromium": "other-rtc", "aiortc": "other-rtc", "baresip": "sip", "sipp": "sip"}
#: Role of an account's flow -> role of its label.
ROLES = {MEDIA: "media", SIGNALLING: "setup", CONTROL: "control", RELAY: "setup"}


class Truth:
    """The truth of a recording: labels, and a sentence for each flow without a label."""

    def __init__(
        self,
        line: Line,
        witness: SocketOwners,
        services: Sequence[Service] = (),
        account: Account | None = None,
    ) -> None:
        """Collect the sources; services: of the background traffic; account: of a call."""
        self.line, self.witness = line, witness
        self.services = {(one.proto, one.address, one.port): one for one in services}
        self.account = account

    def labels(self, packets: Packets) -> tuple[list[Label], list[str]]:
        """Return a label per flow of the caller's tap, and problems, a sentence each."""
        rows, problems = [], []
        for flow in flows(packets):
            row = self.label(flow)
            if row is None:
                problems.append(
                    f"frame {flow.frame}: {flow.proto} {written(flow.source)} - "
                    f"{written(flow.target)} is of no program that was started"
                )
            else:
                rows.append(row)
        return rows, problems

    def label(self, flow: Tuple) -> Label | None:
        """Return the label of one flow, None where no program accounts for it."""
        if flow.proto == "icmp":
            return Label(flow.frame, "icmp", flow.packets, "none", "other", "", "high",
                         "recorded: errors that the ends' kernels sent")  # fmt: skip
        subscriber, remote = flow.source, flow.target
        if ipaddress.ip_address(subscriber[0]) not in NEAR:
            subscriber, remote = remote, subscriber
        client = self.witness.owner(self.line.caller_pid, flow.proto, subscriber)
        server = self.witness.owner(self.line.server_pid, flow.proto, remote)
        own = client.name if client else "a socket too short-lived to be seen"
        count = sum(one is not None for one in (client, server))
        proof = ("no socket was seen", "one socket by process", "both sockets by process")[count]
        confidence = "high" if client or server else "medium"
        call_label = self.of_call(flow)
        if call_label is not None:
            app, role, call, words = call_label
            evidence = f"recorded: {own}, {words}; {proof}"
            return Label(
                flow.frame, flow.proto, flow.packets, app, role, call, confidence, evidence
            )
        service = self.services.get((flow.proto, str(ipaddress.ip_address(remote[0])), remote[1]))
        if service is None:
            return None
        evidence = f"recorded: {own} to {service.speaks}; {proof}"
        return Label(
            flow.frame, flow.proto, flow.packets, "none", "other", "", confidence, evidence
        )

    def of_call(self, flow: Tuple) -> tuple[str, str, str, str] | None:
        """Return (app, role, call, words) of a flow of the call, None for another flow."""
        if self.account is None:
            return None
        for one in self.account.end(CALLER).flows:
            if one.proto == flow.proto and set(ends(one)) == {flow.source, flow.target}:
                return described(self.account, one)
        hosts = {str(ipaddress.ip_address(end[0])) for end in (flow.source, flow.target)}
        if hosts & {CALLEE, RELAY_ADDRESS}:
            return spare(self.account.plan)
        return None


def ends(flow: Flow) -> Iterator[tuple[bytes, int]]:
    """Yield both ends of an account's flow as packed address and port."""
    yield ipaddress.ip_address(flow.local).packed, flow.local_port
    yield ipaddress.ip_address(flow.remote).packed, flow.remote_port


def spare(plan: Plan) -> tuple[str, str, str, str]:
    """Return (app, role, call, words) of a flow to callee or relay that ICE did not choose."""
    if plan.media == "data":
        return "none", "other", "", "a data channel's way that was not chosen"
    return APPS[plan.caller], "setup", "call-1", "a way that was tried and not chosen"


def described(account: Account, flow: Flow) -> tuple[str, str, str, str]:
    """Return (app, role, call, words) of a flow of an account."""
    plan = account.plan
    if plan.media == "data":
        return "none", "other", "", "a data channel: no voice, no picture"
    role = ROLES[flow.role]
    if flow.role == RELAY and account.end(CALLER).relays[-1:] != ("",):
        role = "media"
    return APPS[plan.caller], role, "call-1", f"{flow.role} by its own account"
