# SPDX-License-Identifier: BSD-3-Clause
"""Account of a call by a WebRTC program (W3C Identifiers for WebRTC's Statistics API)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from midcall.testbed.live.network.subscriber_line import RELAY as RELAY_ADDRESS
from midcall.testbed.programs.calls.relay import PORT
from midcall.testbed.programs.calls.report import (
    CONTROL,
    MEDIA,
    RELAY,
    Candidate,
    End,
    Flow,
    Pair,
    Sample,
    State,
    Stream,
)
from midcall.testbed.programs.calls.sockets import Held

Row = Mapping[str, Any]
RATE = 48000


def end_of(name: str, address: str, report: Row, placed: int, open_sockets: Sequence[Held]) -> End:
    """Return an end's account.

    report: of testbed/programs/calls/page.js; placed: time of day in ns from which times count;
    open_sockets: the sockets of its program.
    """
    rows = {row["id"]: row for row in report["rows"]}
    pairs = tuple(
        Pair(candidate(one["local"]), candidate(one["remote"]), seconds(one, placed))
        for one in report["pairs"]
    )
    return End(
        name, address, states(report, placed), pairs,
        tuple(flows(address, rows, open_sockets, pairs)),
        tuple(streams(rows)), samples(report, placed), report["sdp"],
    )  # fmt: skip


def states(report: Row, placed: int) -> tuple[State, ...]:
    """Return the states that an end reported, in order of time."""
    rows = [State(seconds(one, placed), one["kind"], one["word"]) for one in report["states"]]
    return tuple(sorted(rows, key=lambda one: one.at_s))


def samples(report: Row, placed: int) -> tuple[Sample, ...]:
    """Return the packets that an end had received by each time."""
    return tuple(
        Sample(seconds(one, placed), one["audio"], one["video"], one["data"])
        for one in report["samples"]
    )


def seconds(row: Row, placed: int) -> float:
    """Return the time of a row, in s since the call was placed."""
    return round(float(row["at"]) / 1e3 - placed / 1e9, 3)


def candidate(row: Row) -> Candidate:
    """Return a candidate from its statistics."""
    return Candidate(
        row["candidateType"], row.get("address") or "", int(row["port"]), row["protocol"],
        row.get("relayProtocol", ""),
    )  # fmt: skip


def streams(rows: Mapping[str, Row]) -> Iterable[Stream]:
    """Return every medium in each direction."""
    for row in rows.values():
        if row["type"] == "inbound-rtp":
            yield received(row, rows)
        elif row["type"] == "outbound-rtp":
            remote = rows.get(row.get("remoteId", ""), {})
            trip = remote.get("roundTripTime") or pair_trip(rows)
            yield Stream(
                row["kind"],
                True,
                sent=int(row["packetsSent"]),
                octets=int(row["bytesSent"]),
                lost=remote.get("packetsLost"),
                jitter_ms=to_ms(remote.get("jitter")),
                round_trip_ms=to_ms(trip),
                codec=codec(row, rows),
            )
        elif row["type"] == "data-channel" and row.get("state") != "connecting":
            yield Stream("data", True, sent=row["messagesSent"], octets=row["bytesSent"])
            yield Stream(
                "data", False, received=row["messagesReceived"], octets=row["bytesReceived"]
            )


def pair_trip(rows: Mapping[str, Row]) -> float | None:
    """Return the round trip of the chosen pair's last connectivity check, in s."""
    transport = next((row for row in rows.values() if row["type"] == "transport"), {})
    pair = rows.get(transport.get("selectedCandidatePairId", ""), {})
    trip: float | None = pair.get("currentRoundTripTime")
    return trip


def received(row: Row, rows: Mapping[str, Row]) -> Stream:
    """Return a medium that was received."""
    played, made_up = row.get("totalSamplesReceived"), row.get("concealedSamples", 0)
    emitted = row.get("jitterBufferEmittedCount") or 0
    voice = row["kind"] == "audio"
    return Stream(
        row["kind"],
        False,
        received=int(row["packetsReceived"]),
        lost=row.get("packetsLost"),
        octets=int(row["bytesReceived"]),
        jitter_ms=to_ms(row.get("jitter")),
        delay_ms=1e3 * row["jitterBufferDelay"] / emitted if emitted else None,
        freezes=row.get("freezeCount"),
        frozen_s=row.get("totalFreezesDuration"),
        concealed=made_up / played if voice and played else None,
        heard_s=max(played - made_up, 0) / RATE if voice and played is not None else None,
        codec=codec(row, rows),
    )


def to_ms(value: float | None) -> float | None:
    """Return seconds as ms; None stays None."""
    return None if value is None else 1e3 * value


def codec(row: Row, rows: Mapping[str, Row]) -> str:
    """Return the name of a stream's codec: "opus"."""
    known = rows.get(row.get("codecId", ""), {})
    return str(known.get("mimeType", "")).partition("/")[2].lower()


def flows(
    address: str, rows: Mapping[str, Row], open_sockets: Sequence[Held], pairs: Sequence[Pair]
) -> list[Flow]:
    """Return the 5-tuples of an end: pairs that were checked, and its legs to a relay.

    The leg of a relayed candidate is taken from the sockets of its program, because the statistics
    of a relay-only connection lack the port of its base.
    """
    chosen = {(one.local.port, one.remote.address, one.remote.port) for one in pairs}
    tuples = []
    for row in rows.values():
        if row["type"] != "candidate-pair" or not row.get("requestsSent", 0) + row.get(
            "responsesSent", 0
        ):
            continue
        local, remote = rows[row["localCandidateId"]], rows[row["remoteCandidateId"]]
        if local["candidateType"] != "relay" and remote.get("address"):
            key = (local["port"], remote["address"], remote["port"])
            role = MEDIA if key in chosen else CONTROL
            tuples.append(Flow(local["protocol"], address, local["port"], key[1], key[2], role))
    relayed = [one for one in rows.values() if one["type"] == "local-candidate" and "url" in one]
    for one in open_sockets:
        if one.proto == "tcp" and one.remote == RELAY_ADDRESS:
            tuples.append(Flow("tcp", address, one.local_port, one.remote, one.remote_port, RELAY))
        elif one.proto == "udp" and any(row.get("relayProtocol") == "udp" for row in relayed):
            tuples.append(Flow("udp", address, one.local_port, RELAY_ADDRESS, PORT, RELAY))
    return sorted(set(tuples), key=lambda one: (one.proto, one.local_port, one.remote_port))
