# SPDX-License-Identifier: BSD-3-Clause
"""Truth: what each recorded flow was, from what its programs did, never from a classifier.

A flow of a call is known by its 5-tuple from the program's own account (getStats, SDP, SIP: see
testbed.programs.calls.report). Any other flow is known by the server that listens at its far end,
which the lab itself started. Whose sockets both ends were is looked up by process. A flow that
nobody accounts for is a problem, and a recording with one is not kept.
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
from midcall.testbed.programs.recording.socket_owner import Witness

#: The app of a caller's calls, as labels name it.
APPS = {"chromium": "other-rtc", "aiortc": "other-rtc", "baresip": "sip", "sipp": "sip"}
#: What a flow of an account is in a label.
ROLES = {MEDIA: "media", SIGNALLING: "setup", CONTROL: "control", RELAY: "setup"}


class Truth:
    """The truth of a recording: labels, and the sentences of what could not be told."""

    def __init__(
        self,
        line: Line,
        witness: Witness,
        services: Sequence[Service] = (),
        account: Account | None = None,
    ) -> None:
        """Gather what is known; services: of the bystanders; account: of a call."""
        self.line, self.witness = line, witness
        self.services = {(one.proto, one.address, one.port): one for one in services}
        self.account = account

    def labels(self, packets: Packets) -> tuple[list[Label], list[str]]:
        """Return a label per flow of what the caller's tap saw, and problems, a sentence each."""
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
        near, far = flow.source, flow.target
        if ipaddress.ip_address(near[0]) not in NEAR:
            near, far = far, near
        here = self.witness.owner(self.line.caller_pid, flow.proto, near)
        there = self.witness.owner(self.line.server_pid, flow.proto, far)
        own = here.name if here else "a socket too short-lived to be seen"
        seen = sum(one is not None for one in (here, there))
        proof = ("no socket was seen", "one socket by process", "both sockets by process")[seen]
        confidence = "high" if here or there else "medium"
        told = self.of_call(flow)
        if told is not None:
            app, role, call, words = told
            evidence = f"recorded: {own}, {words}; {proof}"
            return Label(
                flow.frame, flow.proto, flow.packets, app, role, call, confidence, evidence
            )
        service = self.services.get((flow.proto, str(ipaddress.ip_address(far[0])), far[1]))
        if service is None:
            return None
        evidence = f"recorded: {own} to {service.speaks}; {proof}"
        return Label(
            flow.frame, flow.proto, flow.packets, "none", "other", "", confidence, evidence
        )

    def of_call(self, flow: Tuple) -> tuple[str, str, str, str] | None:
        """Return (app, role, call, words) of a flow that a call's program told of, else None."""
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
    """Yield both ends of an account's flow as frames have them."""
    yield ipaddress.ip_address(flow.local).packed, flow.local_port
    yield ipaddress.ip_address(flow.remote).packed, flow.remote_port


def spare(plan: Plan) -> tuple[str, str, str, str]:
    """Return (app, role, call, words) of a flow to the callee or the relay that was not chosen."""
    if plan.media == "data":
        return "none", "other", "", "a data channel's way that was not chosen"
    return APPS[plan.caller], "setup", "call-1", "a way that was tried and not chosen"


def described(account: Account, flow: Flow) -> tuple[str, str, str, str]:
    """Return (app, role, call, words) of a flow that a program told of."""
    plan = account.plan
    if plan.media == "data":
        return "none", "other", "", "a data channel: no voice, no picture"
    role = ROLES[flow.role]
    if flow.role == RELAY and account.end(CALLER).relays[-1:] != ("",):
        role = "media"
    return APPS[plan.caller], role, "call-1", f"{flow.role} by its own account"
