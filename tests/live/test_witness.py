# SPDX-License-Identifier: BSD-3-Clause
"""Captures through somebody else's box: its fates are what the taps saw, its rules are unknown."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from midcall.captures.jit.reads import Octets
from midcall.captures.packets.pcap import read
from midcall.captures.truth.calls import calls
from midcall.errors import TestbedError
from midcall.testbed.assess.call_verdict import judge
from midcall.testbed.live.devices import blackbox
from midcall.testbed.live.network.network import Network
from midcall.testbed.live.network.untagged import of_one_flow, same_packet
from midcall.testbed.live.replay.blackbox_proof import without_hop_fields
from midcall.testbed.live.replay.merge import write_checksums
from midcall.testbed.live.replay.run import Capture, Replay, simulate
from midcall.testbed.middlebox.decide import DELIVERED, DROPPED
from midcall.testbed.policy.language import Rule
from midcall.testbed.policy.operator import Policy
from midcall.testbed.replay.excerpt import excerpt
from midcall.testbed.replay.sides import CALLER

SAMPLES = Path(__file__).resolve().parents[2] / "captures" / "samples"
DROP_RTP = f"command: {sys.executable} -m midcall.testbed.live.devices.drop_rtp"

#: What an inline program does with each frame that it has read: `frame`, `back` (the port it came
#: in by) and `on` (the other one).
INLINE = """
import os, select, socket, time
ports = []
for name in (os.environ["MIDCALL_CALLER_PORT"], os.environ["MIDCALL_SERVER_PORT"]):
    port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    port.setsockopt(263, 23, 1)
    port.bind((name, 3))
    ports.append(port)
count = 0
while True:
    for back in select.select(ports, [], [])[0]:
        on = ports[1 - ports.index(back)]
        frame = back.recv(4096)
        count += 1
        DOES
"""
#: Ethernet addresses of its own, and a hop less, as a router.
AS_ROUTER = "on.send(bytes(12) + frame[12:22] + bytes((frame[22] - 1,)) + frame[23:])"
#: Every DNS question answered by itself with the question, flagged as an answer, and kept.
AS_LIAR = """
        asked = frame[36:38] == b"\\0\\x35" and frame[23] == 17
        if asked and frame[44] < 128:
            swapped = frame[30:34] + frame[26:30] + frame[36:38] + frame[34:36]
            body = frame[38:44] + bytes((frame[44] | 128,)) + frame[45:]
            back.send(bytes(12) + frame[12:26] + swapped + body)
        else:
            on.send(frame)
"""
#: It ends some way into the run.
AS_MORTAL = "on.send(frame) if count < 60 else os._exit(7)"


def sample(name: str, seconds: float = 5.0) -> Capture:
    """Return the first seconds of a committed sample's call."""
    path = next(SAMPLES.glob(f"{name}.pcap*"))
    truth = calls(hashlib.sha256(path.read_bytes()).hexdigest())
    part = excerpt(read(path), truth, [], seconds)
    return Capture(name, part.packets, part.calls)


def program(folder: Path, does: str) -> str:
    """Return the middlebox that does that with each frame."""
    path = folder / "inline.py"
    path.write_text(INLINE.replace("DOES", does.strip()))
    return f"command: {sys.executable} {path}"


@pytest.fixture(scope="module")
def wide() -> Iterator[Network]:
    with Network(mtu=1900) as made:
        yield made


@pytest.fixture(scope="module")
def control(wide: Network) -> Replay:
    captures = [sample("sample-whatsapp-audio"), sample("sample-dns")]
    return simulate(captures, None, "fibre", 7, network=wide)


def assert_proven(replay: Replay) -> None:
    """Assert that every packet that was sent has a fate that the tap traces confirm."""
    assert replay.fates["packets"] == replay.fates["proven"] > 0


@pytest.mark.live
def test_a_program_that_drops_rtp_silences_a_call_and_the_taps_say_so(
    wide: Network, control: Replay, tmp_path: Path
) -> None:
    captures = [sample("sample-whatsapp-audio"), sample("sample-dns")]
    replay = simulate(captures, None, "fibre", 7, network=wide, middlebox=DROP_RTP, taps=tmp_path)
    assert_proven(replay)
    voice, null = replay.simulations[0], control.simulations[0]
    verdict = judge(voice, null, captures[0].calls[0])
    assert (verdict.verdict, verdict.rule) == ("CONNECTED_NO_MEDIA", "blackbox:command")
    assert verdict.media_control > 50
    kept = [one.attempts["fate"] == DROPPED for one in replay.simulations]
    assert replay.counters["dropped_by_box"] == sum(int(one.sum()) for one in kept)
    asked = read(next(SAMPLES.glob("sample-dns.pcap*")))
    first = [asked.data[at + 42] >> 6 for at in asked.offset.tolist()]
    dropped = replay.simulations[1].attempts["packet"][kept[1]]
    assert set(dropped.tolist()) <= set(np.flatnonzero(np.array(first) == 2))
    assert (replay.simulations[1].fates["fate"] == DELIVERED).any()
    up = kept[0] & (voice.script.side == CALLER)
    number = int(np.flatnonzero(up)[0]) + 1
    words = f"sample-whatsapp-audio packet {number}: dropped by rule blackbox:command".encode()
    assert words in (tmp_path / "caller.pcapng").read_bytes()
    assert words not in (tmp_path / "server.pcapng").read_bytes()


@pytest.mark.live
def test_packets_of_a_box_that_writes_headers_anew_are_known_by_their_content(
    wide: Network, control: Replay, tmp_path: Path
) -> None:
    captures = [sample("sample-whatsapp-audio"), sample("sample-dns")]
    box = program(tmp_path, AS_ROUTER)
    replay = simulate(captures, None, "fibre", 7, network=wide, middlebox=box)
    assert_proven(replay)
    assert replay.counters["dropped_by_box"] == replay.counters["injected"] == 0
    for live, null in zip(replay.simulations, control.simulations, strict=True):
        assert live.fates["fate"].tolist() == null.fates["fate"].tolist()
    verdict = judge(replay.simulations[0], control.simulations[0], captures[0].calls[0])
    assert verdict.verdict == "OK"


@pytest.mark.live
def test_answers_that_a_box_makes_itself_are_counted_and_felt(
    wide: Network, control: Replay, tmp_path: Path
) -> None:
    captures = [sample("sample-whatsapp-audio"), sample("sample-dns")]
    box = program(tmp_path, AS_LIAR)
    replay = simulate(captures, None, "fibre", 7, network=wide, middlebox=box)
    assert_proven(replay)
    live = replay.simulations[1]
    questions = live.fates["letters"] > 0
    assert replay.counters["injected"] >= int(questions.sum()) > 0
    assert (live.fates["fate"][questions] == DROPPED).all()
    assert live.delivered.sum() < control.simulations[1].delivered.sum()


@pytest.mark.live
@pytest.mark.parametrize("kind", ["suricata", "nfqueue"])
def test_a_known_box_without_rules_lets_every_call_through(
    wide: Network, control: Replay, kind: str
) -> None:
    if lacks := blackbox.missing(kind):
        pytest.skip("; ".join(lacks))
    captures = [sample("sample-whatsapp-audio"), sample("sample-dns")]
    replay = simulate(captures, None, "fibre", 7, network=wide, middlebox=kind)
    assert_proven(replay)
    assert replay.counters["dropped_by_box"] == 0
    verdict = judge(replay.simulations[0], control.simulations[0], captures[0].calls[0])
    assert verdict.verdict == "OK"


@pytest.mark.live
def test_a_program_that_ends_in_the_middle_voids_the_run(wide: Network, tmp_path: Path) -> None:
    box = program(tmp_path, AS_MORTAL)
    with pytest.raises(TestbedError, match=r"middlebox command ended \d+\.\d s into the run"):
        simulate([sample("sample-whatsapp-audio")], None, "fibre", 7, network=wide, middlebox=box)


def test_somebody_elses_box_takes_no_policy_and_no_link() -> None:
    about = {"name": "made-up", "grade": "C", "source": "made up for this test"}
    policy = Policy((Rule.model_validate(about | {"match": {"protocol": "udp"}, "act": "drop"}),))
    captures = [sample("sample-dns")]
    with pytest.raises(TestbedError, match="got a policy of 1 rules, expected none"):
        simulate(captures, policy, "fibre", 7, middlebox=DROP_RTP)
    with pytest.raises(TestbedError, match="got link 'preset' and offload 'off'"):
        simulate(captures, None, "fibre", 7, link="preset", middlebox=DROP_RTP)


# ---- strays


def packet(ttl: int = 64, near: int = 1, far: int = 2, body: bytes = b"hello") -> Octets:
    """Return a UDP packet over IPv4 from host and port `near` to `far`."""
    head = bytes((0x45, 0, 0, 28 + len(body), 0, 0, 0, 0, ttl, 17, ttl, ttl))
    ends = bytes((10, 0, 0, near, 10, 0, 0, far)) + near.to_bytes(2, "big") + far.to_bytes(2, "big")
    return np.frombuffer(head + ends + bytes(4) + body, np.uint8)


def test_a_packet_is_the_same_one_hop_later_and_no_other() -> None:
    sent = packet()
    later = packet(ttl=63)
    assert same_packet(later, 0, len(later), sent, 0, len(sent), 0)
    assert without_hop_fields(later.tobytes()) == without_hop_fields(sent.tobytes())
    for other in (packet(body=b"hellO"), packet(body=b"hell"), packet(near=3)):
        assert not same_packet(other, 0, len(other), sent, 0, len(sent), 0)
        assert without_hop_fields(other.tobytes()) != without_hop_fields(sent.tobytes())


def test_a_flow_is_known_in_both_directions() -> None:
    sent, answer, other = packet(), packet(near=2, far=1, body=b"yes"), packet(near=3)
    size = len(sent)
    assert of_one_flow(sent, 0, size, sent, 0, size, 0, False)
    assert of_one_flow(answer, 0, len(answer), sent, 0, size, 0, True)
    assert not of_one_flow(answer, 0, len(answer), sent, 0, size, 0, False)
    assert not of_one_flow(other, 0, len(other), sent, 0, size, 0, False)


def test_a_header_checksum_that_the_capture_lacks_is_written() -> None:
    frame = np.concatenate((np.zeros(14, np.uint8), packet(), np.zeros(5, np.uint8)))
    at, size = np.zeros(1, np.int64), np.array([len(frame)], np.int64)
    assert write_checksums(frame, at, size, 14) == 1
    words = frame[14:34].view(">u2").astype(np.int64).sum()
    assert (int(words) & 0xFFFF) + (int(words) >> 16) == 0xFFFF
    assert write_checksums(frame, at, size, 14) == 0
    assert write_checksums(frame, at, np.array([30], np.int64), 14) == 0
