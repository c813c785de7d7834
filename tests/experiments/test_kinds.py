# SPDX-License-Identifier: BSD-3-Clause
"""Kinds of innocent traffic: by the catalogue's words, never by what an engine said."""

from __future__ import annotations

import pytest

from midcall.captures.truth.catalogue import load
from midcall.experiments.accuracy import traffic_kinds


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ("WhatsApp: login+chat", "chat, log-in and presence of call apps"),
        ("Apple (no FaceTime call)", "chat, log-in and presence of call apps"),
        ("Facebook (web)", "web"),
        ("https web", "web"),
        ("vpn cloudflare warp", "WireGuard-like VPN"),
        ("vpn openvpn", "other VPN, proxy, circumvention"),
        ("tor", "other VPN, proxy, circumvention"),
        ("dtls (no use_srtp)", "DTLS that is a VPN"),
        ("dns tunnel", "other VPN, proxy, circumvention"),
        ("dns abnormal", "name resolution"),
        ("http on port 5060", "HTTP on the SIP port"),
        ("udp look-alike of gtp", "look-alikes"),
        ("mail", traffic_kinds.REST),
    ],
)
def test_the_words_of_a_capture_give_its_kind(content: str, kind: str) -> None:
    assert traffic_kinds.of_content(content) == kind


def test_every_kind_has_a_capture_in_the_catalogue() -> None:
    innocent = [one for one in load(local=False).captures if one.role == "innocent"]
    assert {traffic_kinds.of_content(one.content) for one in innocent} == {
        *traffic_kinds.WORDS,
        traffic_kinds.REST,
    }


def test_in_captures_of_calls_the_label_tells_chat_from_the_rest() -> None:
    assert traffic_kinds.kind({"innocent": False, "truth_role": "messaging"}) == traffic_kinds.CHAT
    assert traffic_kinds.kind({"innocent": False, "truth_role": "other"}) == traffic_kinds.BESIDE
    assert traffic_kinds.kind({"innocent": True, "content": "game"}) == "games"
