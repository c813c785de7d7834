# SPDX-License-Identifier: BSD-3-Clause
"""What a browser's statistics say becomes flows, pairs and streams of an end."""

from __future__ import annotations

from typing import Any

from midcall.testbed.programs.calls import relay
from midcall.testbed.programs.calls.report import CONTROL, MEDIA, RELAY, Flow
from midcall.testbed.programs.calls.sockets import Held
from midcall.testbed.programs.calls.webrtc import end_of

NEAR, FAR, TURN = "198.18.1.1", "198.19.1.1", "198.19.2.1"
HOST = {"id": "L", "type": "local-candidate", "candidateType": "host", "address": NEAR,
        "port": 4000, "protocol": "udp"}  # fmt: skip
PEER = {"id": "R", "type": "remote-candidate", "candidateType": "host", "address": FAR,
        "port": 5000, "protocol": "udp"}  # fmt: skip
OTHER = PEER | {"id": "Q", "port": 5001}
BY_TLS = {"id": "T", "type": "local-candidate", "candidateType": "relay", "address": TURN,
          "port": 50000, "protocol": "udp", "relayProtocol": "tls", "url": "turns:"}  # fmt: skip


def pair(name: str, local: str, remote: str, sent: int) -> dict[str, Any]:
    return {"id": name, "type": "candidate-pair", "localCandidateId": local,
            "remoteCandidateId": remote, "requestsSent": sent, "responsesSent": 0,
            "currentRoundTripTime": 0.08}  # fmt: skip


def report(rows: list[dict[str, Any]], chosen: tuple[dict[str, Any], dict[str, Any]]) -> Any:
    local, remote = chosen
    return {
        "rows": rows, "sdp": "v=0", "sent": 0, "heard": 0,
        "states": [{"at": 1500, "kind": "ice", "word": "connected"},
                   {"at": 1200, "kind": "ice", "word": "checking"}],
        "samples": [{"at": 2000, "audio": 20, "video": 0, "data": 0}],
        "pairs": [{"at": 1600, "local": local, "remote": remote}],
    }  # fmt: skip


def test_the_chosen_pair_is_media_and_a_tried_one_is_control() -> None:
    rows = [HOST, PEER, OTHER, pair("P", "L", "R", 5), pair("S", "L", "Q", 2),
            pair("N", "L", "Q", 0)]  # fmt: skip
    end = end_of("caller", NEAR, report(rows, (HOST, PEER)), 1_000_000_000, [])
    assert end.flows == (
        Flow("udp", NEAR, 4000, FAR, 5000, MEDIA),
        Flow("udp", NEAR, 4000, FAR, 5001, CONTROL),
    )
    assert [(one.at_s, one.word) for one in end.states] == [(0.2, "checking"), (0.5, "connected")]
    assert end.samples[0].audio == 20
    assert end.relays == ("",)


def test_a_relayed_pair_is_the_socket_that_the_program_holds_to_the_relay() -> None:
    rows = [BY_TLS, PEER, pair("P", "T", "R", 5)]
    open_sockets = [Held("tcp", NEAR, 41000, TURN, 443), Held("udp", NEAR, 42000, "", 0),
            Held("tcp", NEAR, 43000, FAR, 80)]  # fmt: skip
    end = end_of("caller", NEAR, report(rows, (BY_TLS, PEER)), 0, open_sockets)
    assert end.flows == (Flow("tcp", NEAR, 41000, TURN, 443, RELAY),)
    assert end.relays == ("tls",)


def test_streams_carry_what_was_heard_and_a_round_trip_of_the_pair_where_rtcp_has_none() -> None:
    rows = [
        HOST, PEER, pair("P", "L", "R", 5),
        {"id": "T01", "type": "transport", "selectedCandidatePairId": "P"},
        {"id": "O", "type": "outbound-rtp", "kind": "audio", "packetsSent": 50, "bytesSent": 900},
        {"id": "I", "type": "inbound-rtp", "kind": "audio", "packetsReceived": 48,
         "packetsLost": 2, "bytesReceived": 800, "totalSamplesReceived": 48000,
         "concealedSamples": 4800, "jitter": 0.003, "jitterBufferDelay": 4800,
         "jitterBufferEmittedCount": 48000},
    ]  # fmt: skip
    end = end_of("caller", NEAR, report(rows, (HOST, PEER)), 0, [])
    out, came = end.stream("audio", out=True), end.stream("audio", out=False)
    assert out is not None
    assert came is not None
    assert out.round_trip_ms == 80.0
    assert (came.concealed, came.heard_s, came.delay_ms) == (0.1, 0.9, 100.0)


def test_any_path_offers_every_relay_and_direct_none() -> None:
    assert relay.servers("direct") == []
    assert [one["urls"] for one in relay.servers("turn-tls")] == [
        "turns:relay.example:443?transport=tcp"
    ]
    assert len(relay.servers("any")) == 3
