# SPDX-License-Identifier: BSD-3-Clause
"""Adding: a user's capture goes into the local catalogue, and nothing else is touched."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest
from scapy.layers.dns import DNS, DNSQR
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.l2 import Ether

from midcall.captures.fetch.fetch import obtain
from midcall.captures.own.add import add, own, remove, show
from midcall.captures.own.privacy import Privacy, privacy
from midcall.captures.packets.pcap import packets_of, read
from midcall.captures.packets.writer import write_pcap
from midcall.captures.truth.catalogue import check, load
from midcall.errors import CaptureError

A, B = "192.168.1.2", "203.0.113.7"
SECOND = 1_000_000_000
START = 1_457_940_000 * SECOND  # in March 2016


def hello(name: bytes) -> bytes:
    """Return a TLS ClientHello with a server name."""
    entry = struct.pack(">HBH", len(name) + 3, 0, len(name)) + name
    extensions = struct.pack(">HH", 0, len(entry)) + entry
    body = b"\x03\x03" + bytes(32) + b"\x00" + b"\x00\x02\x13\x01" + b"\x01\x00"
    body += struct.pack(">H", len(extensions)) + extensions
    shake = b"\x01" + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x01" + struct.pack(">H", len(shake)) + shake


def frames() -> list[bytes]:
    there = Ether(src="00:1b:21:00:00:01", dst="00:1b:21:00:00:02") / IP(src=A, dst=B)
    back = Ether(src="00:1b:21:00:00:02", dst="00:1b:21:00:00:01") / IP(src=B, dst=A)
    dns = DNS(qd=DNSQR(qname="who.example"))
    text = b"GET / HTTP/1.1\r\nHost: web.example\r\nX: +212600112233 bob@mail.example\r\n\r\n"
    packets = [
        there / UDP(sport=4000, dport=53) / dns,
        there / TCP(sport=4001, dport=443, flags="PA") / hello(b"sni.example"),
        there / UDP(sport=5000, dport=7985) / b"\x01\x02\x03\x04",
        back / UDP(sport=7985, dport=5000) / b"\x05\x06\x07\x08",
        there / TCP(sport=4002, dport=80, flags="PA") / text,
    ]
    return [bytes(packet) for packet in packets]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MIDCALL_LOCAL", str(tmp_path / "local"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("MIDCALL_CORPUS", raising=False)
    return tmp_path


@pytest.fixture
def call(home: Path) -> Path:
    """Return a small capture of a call."""
    path = home / "my call.2016.pcap"
    write_pcap(path, packets_of(frames(), [START + i * SECOND for i in range(5)]))
    return path


def test_an_added_capture_is_catalogued_copied_and_obtained(call: Path, home: Path) -> None:
    capture = add(call, "viber", "audio", access="wifi")
    assert (capture.name, capture.app, capture.kind, capture.packets) == (
        "my-call.2016", "viber", "audio", 5,
    )  # fmt: skip
    assert (capture.year, capture.access, capture.added, capture.media) == (
        2016,
        "wifi",
        True,
        True,
    )
    copy = home / "local" / "pcaps" / "my-call.2016.pcap"
    assert copy.read_bytes() == call.read_bytes()
    assert capture in load().captures
    got = obtain(load(), cache=home / "c", offline=True)
    assert got.paths[capture.sha256] == copy
    assert check() == []


def test_without_flows_the_truth_is_the_calls_alone(call: Path) -> None:
    add(call, "viber", "audio", name="mine")
    shown = show("mine")
    assert shown.labels == []
    assert [(one.id, one.media, one.inferred) for one in shown.calls] == [("mine-1", [], True)]


@pytest.mark.parametrize(
    "flow",
    ["4", "3", f"udp {A}:5000-{B}:7985", f"UDP {B}:7985 <-> {A}:5000", f"udp {A}:5000->{B}:7985"],
)
def test_a_flow_is_named_by_any_of_its_frames_or_by_its_ends(call: Path, flow: str) -> None:
    add(call, "viber", "audio", flows=[flow], name="mine")
    shown = show("mine")
    assert [(row.frame, row.packets, row.role, row.call) for row in shown.labels] == [
        (3, 2, "media", "mine-1")
    ]
    assert shown.calls[0].media == [3]
    assert check() == []


def test_wrong_words_are_all_told_at_once(call: Path) -> None:
    with pytest.raises(CaptureError) as caught:
        add(call, "vibre", "voice", access="5g", year=16, name="a b")
    lines = [line.removeprefix(f"{call}: ") for line in str(caught.value).splitlines()]
    assert lines[0].endswith("; did you mean viber?")
    assert lines[1].startswith("kind: got 'voice', expected one of audio, video, unknown")
    assert lines[2:] == [
        "access: got '5g', expected one of 3g, 4g, adsl, fibre, wifi, unknown",
        "year: got 16, expected one from 1980 to 2100",
        "name: got 'a b', expected letters, digits, '_', '-' and '.'",
    ]


def test_wrong_flows_are_all_told_and_the_busiest_is_named(call: Path, home: Path) -> None:
    with pytest.raises(CaptureError) as caught:
        add(call, "viber", "audio", flows=["9", "udp 192.0.2.1:1-192.0.2.2:2", "that one"])
    assert str(caught.value).splitlines() == [
        f"{call}: flow '9': the capture has frames 1 to 5",
        f"{call}: flow 'udp 192.0.2.1:1-192.0.2.2:2': no such flow; the busiest of its 4 is "
        f"'udp {A}:5000-{B}:7985'",
        f"{call}: flow 'that one': expected a frame number, "
        "'udp 192.0.2.1:5000-198.51.100.2:3478', or a display filter such as "
        "'ip.addr==192.0.2.1 && udp.port==5000' or 'udp.stream eq 3'",
    ]
    assert not (home / "local").exists()


def test_the_same_capture_is_not_added_twice(call: Path, tmp_path: Path) -> None:
    add(call, "viber", "audio", name="mine")
    again = tmp_path / "other name.pcap"
    again.write_bytes(call.read_bytes())
    with pytest.raises(CaptureError) as caught:
        add(again, "viber", "audio")
    assert str(caught.value) == f"{again}: is already catalogued, as mine"


@pytest.mark.corpus
def test_a_catalogued_capture_of_the_corpus_is_not_added(corpus: Path, home: Path) -> None:
    (path, *_) = corpus.rglob("wa_voice.pcap")
    with pytest.raises(CaptureError, match="is already catalogued, as wa_voice"):
        add(path, "whatsapp", "audio")


def test_a_taken_name_is_refused_when_asked_for_and_numbered_otherwise(call: Path) -> None:
    add(call, "viber", "audio")
    write_pcap(call, packets_of(frames()[:4], [START] * 4))
    with pytest.raises(CaptureError) as caught:
        add(call, "viber", "audio", name="wa_video")
    assert str(caught.value) == f"{call}: the name wa_video is taken; give another one"
    assert add(call, "viber", "audio").name == "my-call.2016-2"


def test_a_capture_without_packets_is_refused(home: Path) -> None:
    path = home / "empty.pcap"
    write_pcap(path, packets_of([], []))
    with pytest.raises(CaptureError) as caught:
        add(path, "viber", "audio")
    assert str(caught.value) == f"{path}: holds no packets, there is nothing to add"


def test_a_missing_file_is_refused(home: Path) -> None:
    with pytest.raises(CaptureError, match="no such file"):
        add(home / "none.pcap", "viber", "audio")


def test_a_clock_that_cannot_be_right_gives_no_year(home: Path) -> None:
    path = home / "old.pcap"
    write_pcap(path, packets_of(frames(), [5 * SECOND] * 5))
    assert add(path, "viber", "audio").year is None


def test_innocent_traffic_is_added_without_a_call(call: Path) -> None:
    capture = add(call, "none", "none")
    assert (capture.role, capture.app, capture.kind, capture.media) == (
        "innocent", "none", "none", False,
    )  # fmt: skip
    assert show(capture.name).calls == []
    assert check() == []


def test_a_gzipped_capture_is_kept_as_it_is(call: Path, home: Path) -> None:
    path = home / "mine.pcapng.gz"
    path.write_bytes(gzip.compress(call.read_bytes()))
    capture = add(path, "viber", "audio")
    assert (capture.name, capture.file) == ("mine", "mine.pcapng.gz")
    assert check() == []


def test_the_privacy_check_counts_and_shows_nothing(call: Path) -> None:
    items: list[Privacy] = []

    def confirm(one: Privacy) -> bool:
        items.append(one)
        return True

    add(call, "viber", "audio", confirm=confirm)
    assert items[0].counts() == {
        "public addresses": 0,
        "private addresses": 2,
        "MAC addresses": 2,
        "host names (SNI, DNS, Host)": 3,
        "STUN user names": 0,
        "strings like phone numbers": 1,
        "strings like e-mail or SIP addresses": 1,
    }
    text = "\n".join(items[0].sentences())
    assert "2 MAC addresses" in text
    assert "--anonymise" in text
    for secret in ("bob", "2126", "example", A):
        assert secret not in text


def test_a_no_stops_before_anything_is_copied(call: Path, home: Path) -> None:
    with pytest.raises(CaptureError, match="not added, as was answered"):
        add(call, "viber", "audio", confirm=lambda _found: False)
    assert not (home / "local").exists()


def test_an_anonymised_copy_shows_other_addresses_and_the_same_flows(
    call: Path, home: Path
) -> None:
    capture = add(call, "viber", "audio", flows=["3"], anonymise=True)
    copy = read(home / "local" / "pcaps" / capture.file)
    before, after = privacy(read(call)), privacy(copy)
    assert len(after.private | after.public) == len(before.private | before.public)
    assert not after.macs & before.macs
    assert [int(time) for time in copy.time] == [START + i * SECOND for i in range(5)]
    assert [row.frame for row in show(capture.name).labels] == [3]
    assert check() == []


def test_a_capture_that_cannot_be_written_leaves_nothing(
    call: Path, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_captures: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("midcall.captures.own.add.save", full)
    with pytest.raises(CaptureError) as caught:
        add(call, "viber", "audio", flows=["3"])
    assert str(caught.value) == f"{call}: cannot be added: No space left on device"
    assert [path for path in (home / "local").rglob("*") if path.is_file()] == []


def test_removing_takes_everything_of_a_capture_and_nothing_else(call: Path, home: Path) -> None:
    add(call, "viber", "audio", flows=["3"], name="mine")
    other = home / "other.pcap"
    write_pcap(other, packets_of(frames()[:3], [START] * 3))
    add(other, "skype", "video", name="kept")
    assert remove("mine").name == "mine"
    assert [one.name for one in own()] == ["kept"]
    left = sorted(path.name for path in (home / "local").rglob("*") if path.is_file())
    assert left == ["catalogue.toml", "kept.pcap", "kept.toml"]
    assert check() == []


def test_only_added_captures_can_be_removed(call: Path) -> None:
    add(call, "viber", "audio", name="mine")
    with pytest.raises(CaptureError) as caught:
        remove("mime")
    assert str(caught.value) == (
        "no capture named 'mime' was added; did you mean mine?; only added ones can be removed"
    )


def test_a_catalogued_capture_that_is_not_here_is_shown_without_a_path(home: Path) -> None:
    shown = show("wa_video")
    assert shown.path is None
    assert shown.calls[0].id == "WA2019-video"
    assert len(shown.labels) == 14
