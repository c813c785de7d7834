# SPDX-License-Identifier: BSD-3-Clause
"""The call of a capture that nobody described: what the classifier takes for it.

A capture of the catalogue has its calls in a file. For any other, the flows of the call are those
that the classifier is certain of, and those that the user names; what gates the media is read from
the packets (captures.gates). The same packets give the same call whether flows are named or not,
as long as the classifier knows them. This is for replay: it is never truth that something is scored
by.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from captures.calls import TIMER_MODELS, Call, Gate, Kind
from captures.gates import RFC3261_TIMER, Said, gate_of, payloads
from captures.layers import Flow
from captures.pcap import Packets

Row = dict[str, Any]

ROLES = ("media", "setup", "control")
#: Apps whose calls are ICE's: consent is renewed as RFC 7675 says, where the capture shows it.
ICE_APPS = ("meet", "messenger", "other-rtc", "signal", "skype", "teams")
NOTE = "the flows are what the classifier takes for the call, and those that the user named"


def inferred_call(
    packets: Packets,
    name: str,
    app: str | None = None,
    named: Iterable[Flow] = (),
    kind: Kind = "unknown",
) -> Call | None:
    """Return the call of a capture, None where neither classifier nor user names a flow of it.

    name: the call's id; app: what the user says that it is, None for what the classifier says;
    named: flows that the user says are the call's, as captures.add.named_flows returns them.
    """
    from experiments.offline import classify_packets

    said, _ = classify_packets(packets, name)
    found = certain(said, app)
    roles: dict[int, str] = {row["frame"]: row["role"] for row in found}
    apps = Counter(row["app"] for row in found)
    for flow in named:
        roles.setdefault(flow.frame, "media")
    if not roles:
        return None
    by_role = {role: sorted(f for f, r in roles.items() if r == role) for role in ROLES}
    known = app if app not in (None, "none") else None
    return assembled(
        name, known or (apps.most_common(1)[0][0] if apps else "other-rtc"), kind, by_role, packets
    )


def certain(said: Sequence[Row], app: str | None) -> list[Row]:
    """Return the flows that the classifier is certain are a call's: of one app.

    Of the user's app where there are some, else of the app with the most packets in media.
    """
    calls = [row for row in said if row["verdict"] == "certain" and row["role"] in ROLES]
    of_app = [row for row in calls if row["app"] == app]
    if of_app:
        return of_app
    weight: Counter[str] = Counter()
    for row in calls:
        weight[row["app"]] += 1 + 1000 * row["packets"] * (row["role"] == "media")
    best = max(weight, key=lambda one: (weight[one], one), default=None)
    return [row for row in calls if row["app"] == best]


def assembled(
    name: str, app: str, kind: Kind, by_role: dict[str, list[int]], packets: Packets
) -> Call:
    """Return a call with what gates its media."""
    said = dict(payloads(packets))
    gates = [one for frame in by_role["media"] if (one := gating(frame, by_role["setup"], said))]
    sip = app == "sip"
    return Call(
        id=name,
        app=app,
        kind=kind,
        media=by_role["media"],
        setup=by_role["setup"],
        control=by_role["control"],
        inferred=True,
        timer_s=32.0 if sip else None,
        timer_models=[] if sip else TIMER_MODELS,
        timer_source=RFC3261_TIMER if sip else "not documented",
        consent_s=30.0 if app in ICE_APPS else None,
        note=NOTE,
        gates=gates,
    )


def gating(media: int, setup: Sequence[int], said: dict[int, list[Said]]) -> Gate | None:
    """Return what gates a media flow: its own transactions, or those of the call's set-up flows."""
    for by in ([media], list(setup)):
        found = gate_of(media, [frame for frame in by if frame in said], said)
        if found is not None:
            return found
    return None
