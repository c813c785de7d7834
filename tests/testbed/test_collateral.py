# SPDX-License-Identifier: BSD-3-Clause
"""Collateral: innocent flows and bytes, by kind of traffic."""

from __future__ import annotations

from typing import Any

from captures.labels import Label
from testbed.collateral import collateral


def test_collateral_counts_flows_and_bytes_by_kind_of_traffic(
    scene: Any, make: Any, run: Any, policy: Any
) -> None:
    make.webrtc_call(scene, seconds=1.0)
    scene.udp(2.0, ">", make.RESOLVER, 53, make.question(1, "a.example"), near=5353)
    scene.udp(2.1, ">", make.PEER, 443, b"quic", near=50001)
    scene.hello(2.2, make.PEER, 443, near=50002)
    scene.udp(3.0, ">", "224.0.0.251", 5353, b"local", near=5353)
    told = run(scene, policy({"match": {"stun": True}, "act": "drop"}))
    rows = {row.protocol: row[1:] for row in collateral(told)}
    assert {name: row[:2] for name, row in rows.items()} == {
        "dns": (1, 0), "quic": (1, 0), "stun": (1, 1), "tls": (1, 0),
    }  # fmt: skip
    assert rows["stun"][3] == 2 * 48 + 50 * 100
    assert rows["quic"][2] == 32


def test_only_labelled_chat_and_other_traffic_of_a_calls_capture_is_innocent(
    scene: Any, make: Any, run: Any, policy: Any
) -> None:
    make.webrtc_call(scene, seconds=1.0)
    chat = scene.hello(2.0, make.PEER, 443, near=50001)
    other = scene.udp(3.0, ">", make.PEER, 9999, b"game", near=50002)
    odd = scene.udp(3.1, ">", make.PEER, 9998, b"what", near=50003)
    guess = scene.udp(3.2, ">", make.PEER, 9997, b"guess", near=50004)
    labels = [
        Label(1, "udp", 1, "other-rtc", "media", "C1", "high"),
        Label(chat, "tcp", 3, "signal", "messaging", "", "high"),
        Label(other, "udp", 1, "none", "other", "", "medium"),
        Label(odd, "udp", 1, "none", "unknown", "", "low"),
        Label(guess, "udp", 1, "none", "other", "", "low"),
        Label(9999, "udp", 1, "none", "other", "", "high"),
    ]
    told = run(scene, policy({"match": {"protocol": "udp"}, "act": "drop"}))
    rows = {row.protocol: row[1:] for row in collateral(told, labels)}
    assert rows == {"other udp": (1, 1, 32, 32), "tls": (1, 0, 120, 0)}
