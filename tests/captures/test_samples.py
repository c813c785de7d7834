# SPDX-License-Identifier: BSD-3-Clause
"""The committed samples: rebuilt byte for byte, sound, small, and of nobody's addresses."""

from __future__ import annotations

import hashlib
import ipaddress
from collections import Counter
from pathlib import Path

import pytest
from scapy.contrib.gtp import GTP_U_Header
from scapy.layers.inet import IP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Ether

from midcall.captures.packets.pcap import Packets, read_with_notices
from midcall.captures.synthetic import corpus
from midcall.captures.synthetic.samples import RECIPES
from midcall.captures.truth.calls import calls
from midcall.captures.truth.catalogue import Capture, check, load
from midcall.captures.truth.labels import Label, labels
from midcall.captures.truth.paths import samples
from midcall.captures.wire.host import RANGES

SAMPLES = [one for one in load(local=False).captures if one.synthetic]
NAMES = [one.name for one in SAMPLES]
#: All but the one with fragments, which carry no ports (test_craft counts its flows).
PORTED = [one for one in SAMPLES if one.name != "sample-tunnels"]
CALLS = [one for one in SAMPLES if one.role == "call"]


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder into which all samples were made anew."""
    folder = tmp_path_factory.mktemp("rebuilt")
    corpus.write(corpus.at(folder))
    return folder


def committed_files() -> list[Path]:
    home = samples().folder
    return [path for path in sorted(home.rglob("*")) if path.is_file() and path.suffix != ".py"]


def test_every_committed_file_is_rebuilt_byte_for_byte(rebuilt: Path) -> None:
    home = samples().folder
    names = {path.relative_to(home) for path in committed_files()}
    assert names == {path.relative_to(rebuilt) for path in rebuilt.rglob("*") if path.is_file()}
    differing = [
        str(name)
        for name in sorted(names)
        if hashlib.sha256((home / name).read_bytes()).digest()
        != hashlib.sha256((rebuilt / name).read_bytes()).digest()
    ]
    assert differing == []


def test_the_catalogue_finds_nothing_wrong_with_the_samples() -> None:
    ours = [problem for problem in check(local=False) if "sample" in problem]
    assert ours == []


def test_all_samples_together_stay_below_a_megabyte_and_a_half() -> None:
    assert sum(path.stat().st_size for path in committed_files()) < 1_500_000


def test_every_recipe_has_a_row_and_every_row_a_recipe() -> None:
    assert [recipe.name for recipe in RECIPES] == NAMES


def test_the_five_apps_have_a_call_and_chat_or_presence_each() -> None:
    called = {one.app for one in CALLS}
    assert called >= {"whatsapp", "skype", "viber", "facetime", "messenger"}
    quiet = {
        row.app
        for one in SAMPLES
        if one.role == "innocent"
        for row in labels(one.sha256)
        if row.role == "messaging"
    }
    assert quiet == {"whatsapp", "skype", "viber", "facetime", "messenger"}


@pytest.mark.parametrize("one", SAMPLES, ids=NAMES)
def test_a_sample_is_what_its_row_says(one: Capture) -> None:
    path = samples().folder / one.file
    content = path.read_bytes()
    packets, notices = read_with_notices(path)
    assert hashlib.sha256(content).hexdigest() == one.sha256
    assert (len(content), packets.total, notices) == (one.bytes, one.packets, [])
    assert one.licence == "CC0-1.0"
    assert one.synthetic


@pytest.mark.parametrize("one", SAMPLES, ids=NAMES)
def test_time_never_runs_backwards_in_a_sample(one: Capture) -> None:
    packets, _ = read_with_notices(samples().folder / one.file)
    assert (packets.time[1:] >= packets.time[:-1]).all()


@pytest.mark.parametrize("one", SAMPLES, ids=NAMES)
def test_all_addresses_of_a_sample_are_of_documentation_or_test_ranges(one: Capture) -> None:
    packets, _ = read_with_notices(samples().folder / one.file)
    ranges = [ipaddress.ip_network(each) for each in RANGES]
    for number in range(packets.total):
        for layer in network_layers(*frame_of(packets, number + 1)):
            for text in (layer.src, layer.dst):
                address = ipaddress.ip_address(text)
                assert any(address in each for each in ranges), f"{one.name}: {text}"


@pytest.mark.parametrize("one", PORTED, ids=[one.name for one in PORTED])
def test_labels_name_the_first_frame_and_the_number_of_packets_of_every_flow(one: Capture) -> None:
    packets, _ = read_with_notices(samples().folder / one.file)
    first: dict[tuple[object, ...], int] = {}
    counts: Counter[tuple[object, ...]] = Counter()
    for number in range(packets.total):
        flow = five_tuple(*frame_of(packets, number + 1))
        first.setdefault(flow, number + 1)
        counts[flow] += 1
    counted = {(first[flow], flow[0], counts[flow]) for flow in first}
    assert counted == {(row.frame, row.proto, row.packets) for row in labels(one.sha256)}


@pytest.mark.parametrize("one", CALLS, ids=[one.name for one in CALLS])
def test_media_of_a_call_flow_both_ways_for_more_than_five_seconds(one: Capture) -> None:
    packets, _ = read_with_notices(samples().folder / one.file)
    for call in calls(one.sha256):
        media = {five_tuple(*frame_of(packets, frame)) for frame in call.media}
        sent: dict[bool, list[int]] = {True: [], False: []}
        for number in range(1, packets.total + 1):
            frame = frame_of(packets, number)
            if five_tuple(*frame) in media:
                up = sender(*frame)[0].startswith("198.18.")
                sent[up].append(int(packets.time[number - 1]))
        assert min(max(times) - min(times) for times in sent.values()) > 5_000_000_000


@pytest.mark.parametrize("one", CALLS, ids=[one.name for one in CALLS])
def test_a_gate_pairs_a_request_with_a_later_reply_of_the_other_side(one: Capture) -> None:
    packets, _ = read_with_notices(samples().folder / one.file)
    for call in calls(one.sha256):
        assert {gate.flow for gate in call.gates} >= set(call.media)
        for gate in call.gates:
            assert gate.pairs
            for asked, answered in gate.pairs:
                ends = [sender(*frame_of(packets, frame)) for frame in (asked, answered)]
                assert asked < answered
                assert ends[0] != ends[1]


def frame_of(packets: Packets, number: int) -> tuple[bytes, int]:
    """Return a frame by its number, counted from 1, and its link type."""
    return packets.frame(number - 1), int(packets.link[number - 1])


def network_layers(frame: bytes, link: int) -> list[IP | IPv6]:
    """Return every IP header of a frame, outermost first."""
    layer = {1: Ether, 101: IP, 113: cooked}[link](frame)
    stack = []
    while layer:
        if isinstance(layer, IP | IPv6):
            stack.append(layer)
        layer = layer.payload
    return stack


def cooked(frame: bytes) -> IP:
    """Return the IPv4 packet after a Linux cooked header."""
    return IP(frame[16:])


def innermost(frame: bytes, link: int) -> IP | IPv6:
    """Return the innermost IP layer."""
    return network_layers(frame, link)[-1]


def five_tuple(frame: bytes, link: int) -> tuple[object, ...]:
    """Return protocol and both ends, the lesser first."""
    layer = innermost(frame, link)
    transport = layer.payload
    ends = sorted([(layer.src, transport.sport), (layer.dst, transport.dport)])
    return ({6: "tcp", 17: "udp"}[layer.proto], *ends)


def sender(frame: bytes, link: int) -> tuple[str, int]:
    """Return who sent a frame."""
    layer = innermost(frame, link)
    return layer.src, layer.payload.sport


def test_the_operator_samples_hold_their_calls_in_tunnels() -> None:
    for name, outer in (("sample-whatsapp-gtp", GTP_U_Header), ("sample-viber-pppoe", "PPPoE")):
        one = SAMPLES[NAMES.index(name)]
        packets, _ = read_with_notices(samples().folder / one.file)
        assert all(Ether(packets.frame(i)).haslayer(outer) for i in range(packets.total))


def test_no_label_of_a_sample_is_a_guess() -> None:
    rows: list[Label] = [row for one in SAMPLES for row in labels(one.sha256)]
    assert {row.confidence for row in rows} == {"high"}
    assert all(row.evidence.startswith("crafted: ") for row in rows)
