# SPDX-License-Identifier: BSD-3-Clause
"""The flow table: two directions in one record, bounded, and nothing lost without a count."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from midcall.captures.packets.pcap import Packets, packets_of
from midcall.classifier.engine import START, Engine
from midcall.classifier.state.flow_table import FLOW, METER_RECYCLED, SETTLED
from midcall.classifier.state.verdicts import APPS, RTC
from tests.classifier.payloads import ice_check, whatsapp_allocate
from tests.classifier.wire import EPOCH, FAR, FAR6, MOST, MS, NEAR, NEAR6, Wire, noise, rtp, sample

SYN, SYN_ACK, ACK = 0x02, 0x12, 0x10


def ends(flow: np.void) -> tuple[int, int]:
    """Return the ports of a flow, source first."""
    return int(flow["source_port"]), int(flow["target_port"])


def many(count: int, start: int = 0) -> Packets:
    """Return one datagram of each of so many flows, 1 ms apart."""
    passing = Wire(step=1)
    for number in range(start, start + count):
        passing.udp(b"hello", ports=(10_000 + number % 50_000, 7000 + number // 50_000))
    return passing.packets


def test_a_record_is_two_cache_lines() -> None:
    assert FLOW.itemsize == 128


def after(hosts: tuple[str, str], field: str | None) -> tuple[np.void, bytes, bytes]:
    """Return the record of a decided flow after two more packets of it, a field spoilt before them.

    With the field's octets as they were spoilt, and as they are then.
    """
    engine, ports, long = Engine(claims=MOST), (40000, 3478), Wire()
    for number in range(60):
        frame = b"\x21\x43" + rtp(107, number, 960 * number)
        long.udp(frame, number % 2 == 0, ports, hosts)
    engine.feed(long.packets)
    record = engine.tables.flows[0:1]
    assert record["state"][0] & SETTLED
    spoilt = b""
    if field:
        octets = record[field].view(np.uint8)
        octets ^= 0xFF
        record[field] = octets.view(record[field].dtype)
        spoilt = record[field].tobytes()
    more = Wire().wait(60_000).udp(whatsapp_allocate(), True, ports, hosts)
    engine.feed(more.udp(noise(99, 1), False, ports, hosts).packets)
    found = engine.tables.flows[0].copy()
    return found, spoilt, found[field].tobytes() if field else b""


@pytest.mark.parametrize("hosts", [(NEAR, FAR), (NEAR6, FAR6)])
def test_a_packet_of_a_decided_flow_touches_fewer_than_128_bytes(hosts: tuple[str, str]) -> None:
    plain, _, _ = after(hosts, None)
    assert (plain["packets_up"], plain["packets_down"]) == (31, 31)
    assert APPS[plain["app"]] == "viber"
    untouched = set()
    for field in FLOW.names or ():
        found, spoilt, then = after(hosts, field)
        others = [name for name in FLOW.names or () if name != field]
        if spoilt == then and all(
            found[name].tobytes() == plain[name].tobytes() for name in others
        ):
            untouched.add(field)
    assert untouched == {
        "first_time", "first_record", "argument", "hint", "spare", "verdict_time", "verdict", "app",
        "role", "confidence", "evidence", "verdict_packets", "note", "mark",
    }  # fmt: skip
    word = np.dtype(np.int64).itemsize  # in the index
    touched = FLOW.itemsize - sum(FLOW[name].itemsize for name in untouched) + word
    assert touched == 84


@pytest.mark.parametrize("hosts", [(NEAR, FAR), (NEAR6, FAR6), (NEAR, NEAR)])
@pytest.mark.parametrize("ports", [(40000, 7000), (7000, 40000), (7000, 7000)])
def test_both_directions_are_one_record(hosts: tuple[str, str], ports: tuple[int, int]) -> None:
    passing = Wire().udp(b"ab", True, ports, hosts)
    passing.udp(b"abcd", False, ports, hosts).udp(b"abcd", False, ports, hosts)
    (flow,) = passing.flows()
    assert ends(flow) == ports
    if hosts[0] == hosts[1] and ports[0] == ports[1]:
        assert flow["packets_up"] == 3  # both directions look the same
        return
    header = 28 if hosts[0] == NEAR else 48
    assert (flow["packets_up"], flow["packets_down"]) == (1, 2)
    assert (flow["bytes_up"], flow["bytes_down"]) == (header + 2, 2 * (header + 4))


def test_the_same_ports_over_udp_and_tcp_are_two_flows() -> None:
    assert len(Wire().udp(b"a", ports=(4, 443)).tcp(b"a", ports=(4, 443)).flows()) == 2


def test_the_same_numbers_in_ipv4_and_ipv6_are_two_flows() -> None:
    mapped = ("::198.18.0.1", "::198.19.0.1")
    assert len(Wire().udp(b"a").udp(b"a", hosts=mapped).flows()) == 2


def test_the_first_sender_is_the_source() -> None:
    (flow,) = Wire().udp(b"a", up=False).udp(b"a").flows()
    assert ends(flow) == (7000, 40000)


def test_a_syn_ack_that_comes_first_shows_who_the_client_is() -> None:
    passing = Wire().tcp(b"", up=False, flags=SYN_ACK).tcp(b"", flags=ACK).tcp(b"x")
    (flow,) = passing.flows()
    assert ends(flow) == (40000, 443)
    assert (flow["packets_up"], flow["packets_down"]) == (2, 1)


def test_a_syn_that_comes_first_leaves_the_source() -> None:
    (flow,) = Wire().tcp(b"", flags=SYN).tcp(b"", up=False, flags=SYN_ACK).flows()
    assert ends(flow) == (40000, 443)


def test_times_are_those_of_the_first_and_the_latest_packet() -> None:
    late = Wire().udp(b"a").wait(500).udp(b"a")
    frames = [late.frames[0]] * 3
    flows = Engine()
    flows.feed(packets_of(frames, [EPOCH, EPOCH + 900 * MS, EPOCH + 300 * MS]))
    (flow,) = flows.flows()
    assert (flow["first_time"], flow["last_time"]) == (EPOCH, EPOCH + 900 * MS)


def test_the_table_grows_and_keeps_every_flow() -> None:
    engine, count = Engine(room=64), 3 * START
    for start in range(0, count, 500):
        engine.feed(many(min(500, count - start), start))
    again = engine.feed(many(count))
    assert engine.counters["flows"] == count
    assert again.tolist() == list(range(count))
    assert (engine.flows()["packets_up"] == 2).all()


def test_the_bound_holds_evictions_are_counted_and_no_row_is_lost() -> None:
    engine, count = Engine(max_flows=256, room=64), 2000
    for start in range(0, count, 300):
        engine.feed(many(min(300, count - start), start))
    counters, flows = engine.counters, engine.flows()
    assert len(engine.tables.flows) == 256
    assert counters["evicted"] == count - 256
    assert counters["flows"] == len(flows) == count
    assert flows["first_record"].tolist() == list(range(count))
    assert (flows["verdict"] > 0).all()


def test_eviction_takes_the_stalest_and_spares_a_busy_flow() -> None:
    passing = Wire(step=1)
    for number in range(400):
        passing.udp(b"hello", ports=(10_000 + number, 7000)).udp(b"busy", ports=(9, 9))
    flows = passing.flows(max_flows=64)
    busy = flows[flows["source_port"] == 9]
    assert busy["packets_up"].tolist() == [400]


def test_an_evicted_flow_keeps_the_verdict_that_it_had() -> None:
    engine = Engine(max_flows=64)
    engine.feed(Wire().udp(whatsapp_allocate(), ports=(5, 3478)).packets)
    engine.feed(many(300))
    flows = engine.flows()
    assert engine.counters["evicted"] > 0
    assert int(flows[0]["app"]) == 1
    assert int(flows[0]["verdict"]) == 3


def test_an_evicted_flow_that_was_undecided_gets_its_verdict() -> None:
    engine = Engine(max_flows=64)
    undecided = Wire().udp(noise(50))
    engine.feed(undecided.packets)
    engine.feed(many(300))
    assert Engine.flows(engine)["verdict"].min() == 1


def test_a_flow_that_comes_back_after_eviction_is_a_new_row() -> None:
    engine = Engine(max_flows=64)
    first = Wire().udp(b"a", ports=(5, 5)).packets
    engine.feed(first)
    engine.feed(many(300))
    engine.feed(first)
    flows = engine.flows()
    assert flows["first_record"][flows["source_port"] == 5].tolist() == [0, 301]


@settings(max_examples=60, deadline=None, derandomize=True, database=None)
@given(
    picks=st.lists(st.integers(0, 200), min_size=1, max_size=400),
    bound=st.sampled_from([64, 100, 128, 1 << 20]),
    batch=st.integers(1, 90),
)
def test_packets_of_all_rows_are_the_packets_that_passed(
    picks: list[int], bound: int, batch: int
) -> None:
    passing = Wire(step=1)
    for pick in picks:
        passing.udp(b"x", up=bool(pick % 3), ports=(1000 + pick, 7000))
    engine, packets = Engine(max_flows=bound, room=64), passing.packets
    for start in range(0, len(picks), batch):
        engine.feed(packets.take(slice(start, start + batch)))
    flows = engine.flows()
    assert int((flows["packets_up"] + flows["packets_down"]).sum()) == len(picks)
    assert engine.counters["flows"] == len(flows)
    if bound > 201:
        assert len(flows) == len(set(picks))


SAMPLED = ["sample-whatsapp-audio", "sample-skype-presence", "sample-tunnels", "sample-sip-audio"]


@pytest.mark.parametrize("name", SAMPLED)
def test_the_hash_seed_changes_nothing_that_is_said(name: str) -> None:
    tables = []
    for seed in (0, 1, 77):
        engine = Engine(seed=seed)
        engine.feed(sample(name))
        tables.append(engine.flows().tobytes())
    assert tables[0] == tables[1] == tables[2]


@pytest.mark.parametrize("name", SAMPLED)
def test_batches_change_nothing_that_is_said(name: str) -> None:
    packets = sample(name)
    whole = Engine()
    whole.feed(packets)
    parts = Engine(room=64)
    for start in range(0, packets.total, 7):
        parts.feed(packets.take(slice(start, start + 7)))
    assert parts.flows().tobytes() == whole.flows().tobytes()


def test_looking_at_the_table_between_batches_changes_nothing_that_is_said_later() -> None:
    packets = sample("sample-skype-classic")
    watched, unwatched = Engine(), Engine()
    for start in range(0, packets.total, 25):
        part = packets.take(slice(start, start + 25))
        watched.feed(part)
        watched.flows()
        unwatched.feed(part)
    assert watched.flows().tobytes() == unwatched.flows().tobytes()


class Crowded(Engine):
    """An engine that gets no more than four notes."""

    def reserve(self, packets: int) -> None:
        """Make room for flows alone."""
        super().reserve(packets)
        self.tables = self.tables._replace(notes=self.tables.notes[:4].copy())


def test_notes_that_run_out_settle_the_oldest_flow_with_what_is_known_of_it() -> None:
    engine, passing = Crowded(), Wire(step=1)
    passing.udp(ice_check(), ports=(5, 5))
    for number in range(9):
        passing.udp(noise(50, number), ports=(2000 + number, 7000))
    passing.udp(whatsapp_allocate(), ports=(5, 5))
    engine.feed(passing.packets)
    flows = engine.flows()
    assert engine.tables.meter[METER_RECYCLED] == 6
    assert (engine.tables.flows["state"][:10] & SETTLED > 0).tolist() == [True] * 6 + [False] * 4
    assert len(flows) == 10
    assert [int(flow["verdict"]) for flow in flows] == [3] + [1] * 9
    assert int(flows[0]["app"]) == RTC  # what came after it was settled is not read


def test_a_negative_and_a_zero_time_are_times_like_others() -> None:
    engine = Engine()
    frames = Wire().udp(whatsapp_allocate(), ports=(5, 3478)).frames * 2
    engine.feed(packets_of(frames, [-5 * MS, 0]))
    (flow,) = engine.flows()
    assert (flow["first_time"], flow["last_time"]) == (-5 * MS, 0)
    assert int(flow["app"]) == 1


def test_packets_one_by_one_become_the_flows_that_they_become_together() -> None:
    packets, engine = many(300), Engine(room=64)
    one = np.zeros(1, np.int64)
    slot = Packets(np.zeros(2048, np.uint8), *(one.copy() for _ in range(5)))
    classify = engine.one_by_one(slot)
    numbers = []
    for at in range(packets.total):
        frame = packets.frame(at)
        slot.data[: len(frame)] = np.frombuffer(frame, np.uint8)
        slot.captured[0] = slot.wire[0] = len(frame)
        slot.time[0], slot.link[0] = packets.time[at], packets.link[at]
        numbers.append(classify())
    whole = Engine()
    assert numbers == whole.feed(packets).tolist()
    assert len(engine.tables.flows) > 64
    assert (engine.flows() == whole.flows()).all()
