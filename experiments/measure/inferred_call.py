# SPDX-License-Identifier: BSD-3-Clause
"""The call of a capture without a full description: its flows, and the gates of its media.

A capture of the catalogue has its calls in a file. In any other, the call's flows are those with a
certain verdict, together with those that the user named. Without any such flow, the busiest UDP
flow is taken as the media (of a web port only where there is no other, TCP where there is no UDP).
The other UDP flows of a media flow's socket are set-up. The gates of the media are read from the
packets (captures.truth.media_gates). So the same packets give the same call whether flows are named
or not, as long as the classifier knows them. Inferred calls are for replay alone, never for scores.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from midcall.captures.packets.pcap import Packets
from midcall.captures.truth.calls import TIMER_MODELS, Call, Gate, Kind
from midcall.captures.truth.media_gates import RFC3261_TIMER, FlowPacket, gate_of, payloads
from midcall.experiments.measure.metrics import MAKERS, NAMELESS, NO_APP
from midcall.experiments.results.tables import EngineFlow
from midcall.experiments.spec.corpus import Item

ROLES = ("media", "setup", "control")
#: Apps whose calls are ICE's: consent is renewed as RFC 7675 says, where the capture shows it.
ICE_APPS = ("meet", "messenger", "microsoft", NO_APP, "signal", "skype", "teams")
#: A flow with fewer packets than this is no call.
FEWEST_PACKETS = 20
#: Ports of flows that are unlikely to be media: names, time, discovery, sharing, web.
UNLIKELY = frozenset((53, 67, 123, 137, 138, 443, 546, 547, 1900, 3702, 5353, 5355))

CLASSIFIED = "its flows are those that the classifier is certain of, and those that the user named"
BUSIEST = "neither the user nor the classifier names its flows, the busiest flow stands for it"
NOTES = (CLASSIFIED, BUSIEST)


def with_flows(item: Item, rows: Sequence[EngineFlow], packets: Packets) -> Item:
    """Return an added capture with the flows of its calls; rows: the capture's flows.

    A capture of the catalogue, and a call with a description, stay as they are.
    """
    if not item.capture.added or not any(call.inferred for call in item.calls):
        return item
    calls = [
        (inferred_call(rows, packets, call.id, call.app, call.media, call.kind) or call)
        if call.inferred
        else call
        for call in item.calls
    ]
    return item._replace(calls=calls)


def inferred_call(
    rows: Sequence[EngineFlow],
    packets: Packets,
    name: str,
    app: str | None = None,
    named: Iterable[int] = (),
    kind: Kind = "unknown",
) -> Call | None:
    """Return the call of a capture, None where no flow can be one.

    rows: its flows as experiments.cells.offline.classify_packets returns them; name: the call's id;
    app: the user's, None for the classifier's; named: first frames of flows that the user named as
    the call's media.
    """
    flows = certain(rows, app)
    roles = {int(row["frame"]): str(row["role"]) for row in flows}
    for frame in named:
        roles.setdefault(frame, "media")
    if "media" not in roles.values() and (roles or app is not None):
        media = busiest([row for row in rows if row["frame"] not in roles])
        if media is not None:
            roles[int(media["frame"])] = "media"
    if not roles:
        return None
    for row in rows:
        if any(shares_socket(row, one) for one in rows if roles.get(one["frame"]) == "media"):
            roles.setdefault(int(row["frame"]), "setup")
    names = Counter(str(row["app"]) for row in flows)
    common = names.most_common(1)[0][0] if names else NAMELESS
    title = app or (NO_APP if common == NAMELESS else common)
    by_role = {role: sorted(f for f, one in roles.items() if one == role) for role in ROLES}
    note = CLASSIFIED if flows or named else BUSIEST
    return assembled(name, title, kind, by_role, packets, note)


def certain(rows: Sequence[EngineFlow], app: str | None) -> list[EngineFlow]:
    """Return the flows of one app's call whose verdict is certain.

    The app is the user's if it has any, else the app with the most packets in media.
    """
    calls = [row for row in rows if row["verdict"] == "certain" and row["role"] in ROLES]
    of_app = [row for row in calls if row["app"] == app or app in MAKERS.get(row["app"], ())]
    if of_app:
        return of_app
    weight: Counter[str] = Counter()
    for row in calls:
        weight[str(row["app"])] += 1 + 1000 * int(row["packets"]) * (row["role"] == "media")
    best = max(weight, key=lambda one: (weight[one], one), default=None)
    return [row for row in calls if row["app"] == best]


def busiest(rows: Sequence[EngineFlow]) -> EngineFlow | None:
    """Return the flow that is most likely the media, None where no flow is busy."""
    busy = [row for row in rows if row["packets"] >= FEWEST_PACKETS]

    def likelihood(row: EngineFlow) -> tuple[bool, bool, int]:
        likely = row["src_port"] not in UNLIKELY and row["dst_port"] not in UNLIKELY
        return row["proto"] == "udp", likely, int(row["packets"])

    known = [row for row in busy if row["proto"] in ("udp", "tcp")]
    return max(known, key=likelihood, default=None)


def shares_socket(row: EngineFlow, media: EngineFlow) -> bool:
    """Return whether a flow is another UDP flow of a media flow's socket (address and port)."""
    if row is media or not row["proto"] == media["proto"] == "udp":
        return False
    return bool(sockets(row) & sockets(media))


def sockets(row: EngineFlow) -> set[tuple[str | None, int | None]]:
    """Return both ends of a flow: address and port."""
    return {(row["src_ip"], row["src_port"]), (row["dst_ip"], row["dst_port"])}


def assembled(
    name: str, app: str, kind: Kind, by_role: dict[str, list[int]], packets: Packets, note: str
) -> Call:
    """Return a call with the gates of its media."""
    by_flow = dict(payloads(packets))
    gates = [one for frame in by_role["media"] if (one := gating(frame, by_role["setup"], by_flow))]
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
        note=note,
        gates=gates,
    )


def gating(media: int, setup: Sequence[int], by_flow: dict[int, list[FlowPacket]]) -> Gate | None:
    """Return the gate of a media flow: its own transactions, or those of the call's set-up flows.

    by_flow: packets with payload by the flow's first frame.
    """
    for by in ([media], list(setup)):
        gate = gate_of(media, [frame for frame in by if frame in by_flow], by_flow)
        if gate is not None:
            return gate
    return None
