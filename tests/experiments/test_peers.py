# SPDX-License-Identifier: BSD-3-Clause
"""Peers: their output is read, their labels are mapped by the table, an absent one has a reason."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from experiments import peers

HEADER = "#flow_id,protocol,first_seen,src_ip,src_port,dst_ip,dst_port,ndpi_proto_num,ndpi_proto,x"
ROW = "7,17,1.5,198.18.0.1,50000,198.18.0.2,3478,78.45,STUN.WhatsAppCall,"
SIX = "8,6,1.5,2001:2::1,50000,2001:0002:0::2,443,91,TLS,"


def test_a_row_gives_its_flow_in_either_direction_its_label() -> None:
    found, reason = peers.parse([HEADER, ROW, SIX, "a line, that is no flow"])
    assert reason == ""
    ends = frozenset([("198.18.0.2", 3478), ("198.18.0.1", 50000)])
    six = frozenset([("2001:2::1", 50000), ("2001:2::2", 443)])
    assert found == {(17, ends): "STUN.WhatsAppCall", (6, six): "TLS"}


def test_an_output_of_another_form_is_a_reason_and_not_a_guess() -> None:
    found, reason = peers.parse(["flow,label", "1,x"])
    assert found == {}
    assert reason.startswith("its CSV has no column dst_ip")
    assert peers.parse([]) == ({}, reason)


@pytest.mark.parametrize(
    ("label", "proto", "said"),
    [
        ("STUN.WhatsAppCall", 17, ("certain", "whatsapp", "media")),
        ("Skype_Teams.SkypeCall", 17, ("certain", "skype", "media")),
        ("QUIC.SnapchatCall", 17, ("certain", "snapchat", "media")),
        ("Viber", 17, ("certain", "viber", "media")),
        ("Viber", 6, ("not-call", "viber", "messaging")),
        ("TLS.WhatsApp", 6, ("not-call", "whatsapp", "messaging")),
        ("DNS.Skype_Teams", 17, ("not-call", "skype", "messaging")),
        ("RTP", 17, ("certain", "other-rtc", "media")),
        ("STUN", 17, ("unsure", "other-rtc", "setup")),
        ("Unknown", 17, ("not-call", "none", "other")),
        ("HTTP", 6, ("not-call", "none", "other")),
        ("", 17, ("not-call", "none", "other")),
    ],
)
def test_a_label_is_worth_what_the_table_says(
    label: str, proto: int, said: tuple[str, str, str]
) -> None:
    claim = peers.claim(label, proto)
    assert (claim["verdict"], claim["app"], claim["role"]) == said


def test_an_absent_peer_gives_the_reason() -> None:
    peer, reason = peers.find("no-such-reader")
    assert peer is None
    assert reason.startswith("no-such-reader is not installed")


def program(folder: Path, text: str) -> peers.Peer:
    """Return a peer that is a shell script."""
    path = folder / "reader"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IEXEC)
    return peers.Peer("ndpi", "0", str(path))


def test_the_version_is_what_the_peer_says_of_itself(tmp_path: Path) -> None:
    made = program(tmp_path, "echo Welcome to nDPI 9.8.7-6")
    peer, reason = peers.find(made.program)
    assert peer is not None
    assert (peer.version, reason) == ("9.8.7-6", "")
    assert peers.find(program(tmp_path, "echo hello").program)[0] is None


def test_a_peer_that_writes_fails_or_hangs_is_read_or_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    capture = tmp_path / "call.pcap"
    writes = program(tmp_path, f'while [ "$1" != -C ]; do shift; done; echo "{HEADER}\n{ROW}" > $2')
    found, reason = peers.label_flows(writes, capture, tmp_path)
    assert (list(found.values()), reason) == (["STUN.WhatsAppCall"], "")
    fails = peers.label_flows(program(tmp_path, "exit 3"), capture, tmp_path)
    assert fails == ({}, "ended with code 3 and no output")
    monkeypatch.setattr(peers, "TIMEOUT", 0.2)
    hangs = peers.label_flows(program(tmp_path, "exec sleep 5"), capture, tmp_path)
    assert hangs == ({}, "took more than 0 s")
