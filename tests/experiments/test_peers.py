# SPDX-License-Identifier: BSD-3-Clause
"""Peers: their output is read, their labels are mapped by the table, an absent one has a reason."""

from __future__ import annotations

import stat
import sys
from pathlib import Path
from typing import Any

import pytest

from midcall.classifier.state.verdicts import APPS
from midcall.errors import ExperimentError
from midcall.experiments.accuracy import peers
from midcall.experiments.accuracy.peers import labels, ndpi, nfstream, tshark
from midcall.experiments.accuracy.peers.cache import Answers
from midcall.experiments.accuracy.peers.ends import key
from midcall.experiments.accuracy.peers.labels import Answer

HEADER = "#flow_id,protocol,first_seen,src_ip,src_port,dst_ip,dst_port,ndpi_proto_num,ndpi_proto,x"
ROW = "7,17,1.5,198.18.0.1,50000,198.18.0.2,3478,78.45,STUN.WhatsAppCall,"
SIX = "8,6,1.5,2001:2::1,50000,2001:0002:0::2,443,91,TLS,"
FLOW = key(17, "198.18.0.2", 3478, "198.18.0.1", 50000)


# ---- the table


@pytest.mark.parametrize(
    ("peer", "said", "proto", "claim"),
    [
        ("ndpi", ("STUN.WhatsAppCall",), 17, ("certain", "whatsapp", "media")),
        ("ndpi", ("Skype_Teams.SkypeCall",), 17, ("certain", "skype", "media")),
        ("ndpi", ("QUIC.SnapchatCall",), 17, ("certain", "snapchat", "media")),
        ("ndpi", ("Viber",), 17, ("certain", "viber", "media")),
        ("ndpi", ("Viber",), 6, ("not-call", "viber", "messaging")),
        ("ndpi", ("TLS.WhatsApp",), 6, ("not-call", "whatsapp", "messaging")),
        ("ndpi", ("DNS.Skype_Teams",), 17, ("not-call", "skype", "messaging")),
        ("ndpi", ("RTP",), 17, ("certain", "rtc", "media")),
        ("ndpi", ("STUN",), 17, ("unsure", "rtc", "setup")),
        ("ndpi", ("Unknown",), 17, ("not-call", "none", "other")),
        ("ndpi", ("HTTP",), 6, ("not-call", "none", "other")),
        ("ndpi", ("",), 17, ("not-call", "none", "other")),
        ("ndpi", (), 17, ("not-call", "none", "other")),
        ("nfstream", ("STUN.WhatsAppCall?",), 17, ("unsure", "whatsapp", "media")),
        ("nfstream", ("STUN", "STUN.TelegramVoip"), 17, ("certain", "telegram", "media")),
        ("tshark", ("rtp.stun",), 17, ("certain", "rtc", "media")),
        ("tshark", ("stun",), 17, ("unsure", "rtc", "setup")),
        ("tshark", ("sdp.sip",), 17, ("certain", "sip", "media")),
        ("tshark", ("quic",), 17, ("not-call", "none", "other")),
    ],
)
def test_labels_are_worth_what_the_table_says(
    peer: str, said: tuple[str, ...], proto: int, claim: tuple[str, str, str]
) -> None:
    found = labels.claim(peer, said, proto)
    assert (found["verdict"], found["app"], found["role"]) == claim


def test_every_app_of_the_table_is_one_of_ours() -> None:
    named = {app for table in labels.TABLES.values() for _, app in table.values() if app}
    assert named <= set(APPS)
    assert set(labels.TABLES) == set(peers.NAMES) == set(peers.TITLES)


def test_peers_are_chosen_by_name_and_a_strange_name_is_told() -> None:
    assert list(peers.chosen("all")) == list(peers.NAMES)
    assert list(peers.chosen("none")) == []
    assert list(peers.chosen("tshark, ndpi")) == ["ndpi", "tshark"]
    with pytest.raises(ExperimentError, match=r"no peer is called 'tsark' .did you mean tshark"):
        peers.chosen("tsark")


# ---- nDPI


def test_a_row_gives_its_flow_in_either_direction_its_label() -> None:
    found, reason = ndpi.parse([HEADER, ROW, SIX, "a line, that is no flow"])
    assert reason == ""
    six = key(6, "2001:2::2", 443, "2001:2::1", 50000)
    assert found == {FLOW: ("STUN.WhatsAppCall",), six: ("TLS",)}


def test_an_output_of_another_form_is_a_reason_and_not_a_guess() -> None:
    found, reason = ndpi.parse(["flow,label", "1,x"])
    assert found == {}
    assert reason.startswith("its CSV has no column dst_ip")
    assert ndpi.parse([]) == ({}, reason)


def script(folder: Path, text: str) -> str:
    """Return the path of a shell script."""
    path = folder / "reader"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IEXEC)
    return str(path)


def test_an_absent_peer_gives_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    for find in (ndpi.find, tshark.find):
        peer, reason = find("no-such-reader")
        assert peer is None
        assert reason.startswith("no-such-reader is not installed")
    monkeypatch.setattr(nfstream.importlib.util, "find_spec", lambda name: None)
    assert nfstream.find()[1].startswith("nfstream is not installed")
    assert peers.find("nfstream")[0] is None


def test_the_version_is_what_the_peer_says_of_itself(tmp_path: Path) -> None:
    peer, reason = ndpi.find(script(tmp_path, "echo Welcome to nDPI 9.8.7-6"))
    assert peer is not None
    assert (peer.version, reason) == ("9.8.7-6", "")
    assert ndpi.find(script(tmp_path, "echo hello"))[0] is None
    shark, reason = tshark.find(script(tmp_path, "echo 'TShark (Wireshark) 4.4.9.'"))
    assert shark is not None
    assert (shark.version, reason) == ("4.4.9", "")


def test_a_peer_that_writes_fails_or_hangs_is_read_or_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    capture = str(tmp_path / "call.pcap")
    text = f'while [ "$1" != -C ]; do shift; done; echo "{HEADER}\n{ROW}" > $2'
    found, reason = ndpi.Reader("0", script(tmp_path, text)).ask(capture)
    assert (list(found.values()), reason) == ([("STUN.WhatsAppCall",)], "")
    assert [path.name for path in tmp_path.iterdir()] == ["reader"]
    fails = ndpi.Reader("0", script(tmp_path, "exit 3")).ask(capture)
    assert fails == ({}, "ended with code 3 and no output")
    for module, peer in ((ndpi, ndpi.Reader), (tshark, tshark.Tshark)):
        monkeypatch.setattr(module, "TIMEOUT", 0.2)
        hangs = peer("0", script(tmp_path, "exec sleep 5")).ask(capture)
        assert hangs == ({}, "took more than 0 s")


# ---- tshark


def packet(protocols: str, **more: str) -> str:
    """Return a line of tshark about a packet between two ends."""
    four = {"ip.src": "198.18.0.1", "ip.dst": "198.18.0.2"}
    ports = {"udp.srcport": "50000", "udp.dstport": "3478"}
    return "\t".join((four | ports | {"frame.protocols": protocols} | more).get(name, "")
                     for name in tshark.FIELDS)  # fmt: skip


def test_a_protocol_counts_for_a_flow_when_enough_of_its_packets_hold_it() -> None:
    lines = [packet("eth:ethertype:ip:udp:stun")] * 4 + [packet("raw:ip:udp:stun:rtp")] * 2
    assert tshark.parse(lines) == {FLOW: ("stun",)}
    assert tshark.parse([*lines, packet("raw:ip:udp:rtp")]) == {FLOW: ("rtp.stun",)}
    assert tshark.parse([packet("raw:ip:udp:sip:sdp"), packet("raw:ip:udp:data")]) == {
        FLOW: ("sdp.sip",)
    }


def test_of_tunnels_the_innermost_flow_counts_and_what_an_error_quotes_does_not() -> None:
    inner = packet("eth:ip:udp:gtp:ip:tcp:tls", **{"tcp.srcport": "9", "tcp.dstport": "443"})
    assert list(tshark.parse([inner])) == [key(6, "198.18.0.1", 9, "198.18.0.2", 443)]
    six = {"ipv6.src": "2001:2::1", "ipv6.dst": "2001:2::2"}
    within = packet("eth:ip:ipv6:udp:rtp", **six)
    assert list(tshark.parse([within])) == [key(17, "2001:2::1", 50000, "2001:2::2", 3478)]
    assert tshark.parse([packet("eth:ip:icmp:ip:udp:rtp"), packet("eth:arp"), "", "a\tb"]) == {}


# ---- nfstream's process

ECHO = """
import json, sys
for line in sys.stdin:
    if "slow" in line:
        import time
        time.sleep(60)
    if "dies" in line:
        sys.exit(1)
    row = [17, "198.18.0.1", 50000, "198.18.0.2", 3478, "STUN"]
    bad = [0, "", 0, "", 0, "ARP"]
    print(json.dumps({"flows": [row, bad, [*row[:5], "RTP?"]], "reason": ""}), flush=True)
"""


def test_one_process_answers_many_questions_and_a_slow_or_dead_one_is_started_anew(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    peer = nfstream.Streamer("0", (sys.executable, "-c", ECHO))
    try:
        assert peer.ask("a.pcap") == ({FLOW: ("STUN", "RTP?")}, "")
        first = peer.process
        assert peer.ask("b.pcap") == ({FLOW: ("STUN", "RTP?")}, "")
        assert peer.process is first
        assert peer.ask("dies.pcap") == ({}, "does not answer: its process ended")
        assert peer.process is None
        assert peer.ask("c.pcap")[1] == ""
        monkeypatch.setattr(nfstream, "TIMEOUT", 0.2)
        assert peer.ask("slow.pcap") == ({}, "took more than 0 s")
        assert peer.process is None
    finally:
        peer.close()


def test_an_answer_of_another_form_is_a_reason() -> None:
    peer = nfstream.Streamer("0", (sys.executable, "-c", "input(); print('[1]', flush=True)"))
    try:
        assert peer.ask("a.pcap") == ({}, "answered with what is no row of a flow")
    finally:
        peer.close()


# ---- what is kept


class Counting:
    """A peer that counts how often it is asked."""

    name, version, how = "ndpi", "1", "x"

    def __init__(self, reason: str = "") -> None:
        self.asked, self.reason = 0, reason

    def ask(self, capture: str) -> tuple[Answer, str]:
        """Answer with one flow, or with a reason."""
        self.asked += 1
        return ({}, self.reason) if self.reason else ({FLOW: ("RTP", "STUN")}, "")

    def close(self) -> None:
        """Do nothing."""


def test_nobody_is_asked_twice_about_the_same_bytes(tmp_path: Path) -> None:
    capture, peer = tmp_path / "a.pcap", Counting()
    capture.write_bytes(b"one")
    answers = Answers(tmp_path / "kept")
    first = answers.ask(peer, capture)
    assert answers.ask(peer, capture) == first == ({FLOW: ("RTP", "STUN")}, "")
    assert peer.asked == 1
    capture.write_bytes(b"two")
    answers.ask(peer, capture)
    assert peer.asked == 2


@pytest.mark.parametrize("damage", [b"", b"{}", b"[[1]]", b"\xff"])
def test_a_failure_is_not_kept_and_a_damaged_answer_is_asked_for_again(
    tmp_path: Path, damage: bytes
) -> None:
    capture, peer, answers = tmp_path / "a.pcap", Counting("broken"), Answers(tmp_path / "kept")
    capture.write_bytes(b"one")
    assert answers.ask(peer, capture)[1] == answers.ask(peer, capture)[1] == "broken"
    assert peer.asked == 2
    good: Any = Counting()
    answers.ask(good, capture)
    kept = next((tmp_path / "kept").rglob("*.json"))
    kept.write_bytes(damage)
    if damage == b"{}":  # an answer without a flow is one
        assert answers.ask(good, capture) == ({}, "")
    else:
        answers.ask(good, capture)
        assert good.asked == 2
