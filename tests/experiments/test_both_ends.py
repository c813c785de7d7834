# SPDX-License-Identifier: BSD-3-Clause
"""Both ends of a call: loss, delay variation and NAT from two captures whose clocks differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from midcall.captures.packets.pcap import packets_of
from midcall.captures.packets.writer import write_pcap
from midcall.experiments.measure import both_ends
from tests.classifier.wire import Wire, ether, rtp, udp_packet

INSIDE, OUTSIDE, PEER_INSIDE, PEER = "192.168.1.10", "203.0.113.5", "192.168.7.3", "198.51.100.9"
MS = 1_000_000
START = 1_600_000_000_000_000_000


def datagram(payload: bytes, ports: tuple[int, int], hosts: tuple[str, str]) -> bytes:
    """Return a frame with a UDP datagram."""
    return ether(udp_packet(payload, ports, hosts))


def captured(
    folder: Path,
    lost: set[int],
    offset: int = 0,
    slope: float = 0.0,
    late: dict[int, int] | None = None,
) -> tuple[Path, Path]:
    """Return two captures of 200 packets each way through a NAT at each end.

    lost: numbers of packets from here that never came; offset: of the far clock, ns; slope: how
    much it gains per second; late: ms that packets from here took beyond 30.
    """
    here: list[tuple[int, bytes]] = []
    there: list[tuple[int, bytes]] = []

    def clock(time: int) -> int:
        return round(time + offset + slope * (time - START))

    for n in range(200):
        sent = START + 20 * n * MS
        out, back = (b"%s packet %d of the call" % (way, n) for way in (b"out", b"in"))
        here.append((sent, datagram(out, (40000, 50000), (INSIDE, PEER))))
        took = 30 + (late or {}).get(n, 0)
        if n not in lost:
            there.append(
                (clock(sent + took * MS), datagram(out, (40000, 50000), (OUTSIDE, PEER_INSIDE)))
            )
        there.append((clock(sent + MS), datagram(back, (50000, 40000), (PEER_INSIDE, OUTSIDE))))
        here.append((sent + 41 * MS, datagram(back, (50000, 40000), (PEER, INSIDE))))
    paths = folder / "here.pcap", folder / "there.pcap"
    for path, rows in zip(paths, (here, there), strict=True):
        rows.sort()
        write_pcap(path, packets_of([frame for _, frame in rows], [time for time, _ in rows], 1))
    return paths


def test_loss_is_what_left_and_did_not_come(tmp_path: Path) -> None:
    found = both_ends.compared(*captured(tmp_path, {3, 50, 51}))
    assert found["ways"]["from here"]["lost"] == 3
    assert found["ways"]["from here"]["sent"] == 200
    assert found["ways"]["to here"]["lost"] == 0
    assert found["matched"] == 397


@pytest.mark.parametrize(("offset", "slope"), [(0, 0.0), (7_000_000_000, 0.0), (-90, 50e-6)])
def test_delay_variation_does_not_depend_on_the_clocks(
    tmp_path: Path, offset: int, slope: float
) -> None:
    late = dict.fromkeys(range(0, 200, 10), 25)
    found = both_ends.compared(*captured(tmp_path, set(), offset, slope, late))
    held = found["ways"]["from here"]["variation_ms"]
    assert held["p50"] == pytest.approx(0.0, abs=0.05)
    assert held["p95"] == pytest.approx(25.0, abs=0.05)
    assert found["ways"]["to here"]["variation_ms"]["p99"] == pytest.approx(0.0, abs=0.05)


def test_the_other_capture_first_gives_the_same_the_other_way(tmp_path: Path) -> None:
    here, there = captured(tmp_path, {9})
    one, other = both_ends.compared(here, there), both_ends.compared(there, here)
    assert one["ways"]["from here"] == other["ways"]["to here"]
    assert one["nat"] == other["nat"]


def test_nat_is_said_with_masked_addresses(tmp_path: Path) -> None:
    found = both_ends.compared(*captured(tmp_path, set()))
    assert found["nat"] == [
        "source 192.168.x.x became 198.51.x.x, port kept",
        "source 192.168.x.x became 203.0.x.x, port kept",
        "target 198.51.x.x became 192.168.x.x, port kept",
        "target 203.0.x.x became 192.168.x.x, port kept",
    ]
    result = "\n".join(both_ends.lines(found, "other"))
    assert "from here: 0 of 200 lost in 4.0 s" in result
    assert INSIDE not in result


def test_captures_without_a_packet_in_common_give_no_figures(tmp_path: Path) -> None:
    paths: list[Any] = [tmp_path / "a.pcap", tmp_path / "b.pcap"]
    for path, word in zip(paths, (b"one", b"two"), strict=True):
        passing = Wire()
        for n in range(5):
            passing.udp(b"%s call, packet %d, some octets" % (word, n))
        write_pcap(path, passing.packets)
    found = both_ends.compared(*paths)
    assert (found["matched"], found["nat"]) == (0, [])
    assert found["ways"] == {"from here": None, "to here": None}
    assert both_ends.lines(found, "b")[-1].strip() == "NAT: no address or port changed"


def test_two_packets_show_no_drift() -> None:
    assert np.array_equal(both_ends.drift(np.arange(2), np.arange(2)), np.zeros(2))


@pytest.mark.parametrize(("offset", "slope"), [(0, 0.0), (7_000_000_000, 0.0), (-90, 50e-6)])
def test_each_second_has_its_loss_and_its_delay(tmp_path: Path, offset: int, slope: float) -> None:
    late = {n: 25 for n in range(100, 150) if n % 3}  # most packets of second 2
    found = both_ends.by_second(*captured(tmp_path, {3, 50, 51}, offset, slope, late))
    out = [found[0, 1, second] for second in range(4)]
    assert [round(one.sent * one.loss) for one in out] == [1, 2, 0, 0]
    assert [one.sent for one in out] == [50] * 4
    # 30 ms out and 40 ms back: the smallest delays count as equal, 35 ms.
    delays = [one.delay_ms for one in out]
    assert delays == pytest.approx([35.0, 35.0, 60.0, 35.0], abs=0.1)
    back = [one for (_, up, _), one in found.items() if up == 0]
    assert sum(one.sent for one in back) == 200
    assert not any(one.loss for one in back)


def test_rtp_is_matched_inside_turn_and_other_packets_are_left_out(tmp_path: Path) -> None:
    """One end has RTP in ChannelData and sends requests to its relay, which go no further."""
    here: list[tuple[int, bytes]] = []
    there: list[tuple[int, bytes]] = []
    for n in range(100):
        sent, media = START + 20 * n * MS, rtp(111, n, 960 * n, ssrc=7)
        channel = b"\x40\x01" + len(media).to_bytes(2, "big") + media
        here.append((sent, datagram(channel, (40000, 3478), (INSIDE, PEER))))
        if n not in {20, 30, 40}:
            there.append((sent + 30 * MS, datagram(media, (50000, 50001), (OUTSIDE, PEER_INSIDE))))
        if n == 30:  # sent again, and this copy arrives
            here.append((sent + MS, datagram(channel, (40000, 3478), (INSIDE, PEER))))
            there.append((sent + 31 * MS, datagram(media, (50000, 50001), (OUTSIDE, PEER_INSIDE))))
        request = b"request to the relay, %d" % n
        here.append((sent + 2 * MS, datagram(request, (40000, 3478), (INSIDE, PEER))))
    paths = tmp_path / "here.pcap", tmp_path / "there.pcap"
    for path, rows in zip(paths, (here, there), strict=True):
        rows.sort()
        write_pcap(path, packets_of([frame for _, frame in rows], [time for time, _ in rows], 1))
    figures = both_ends.compared(*paths)["ways"]["from here"]
    assert figures is not None
    assert (figures["sent"], figures["lost"]) == (100, 2)
    seconds = both_ends.by_second(*paths)
    assert sum(round(one.sent * one.loss) for one in seconds.values()) == 2
    assert all(one.delay_ms is None for one in seconds.values())  # nothing came back
