# SPDX-License-Identifier: BSD-3-Clause
"""Hostile input: traffic made to exhaust, slow down or mislead, and what the path makes of it.

`python -m tests.proofs.hostile` (make hostile) sends each attack through one engine and tells its
verdicts, the bytes of its state, and its processor time per packet beside plain traffic of the same
run: p50 and p99.99 of calls of one packet each, the call from Python included. State must not grow
beyond what was laid out for the flow table's bound, every packet must be counted, and no flow of an
attack may be named a call. Times are figures, no verdicts.
"""

from __future__ import annotations

import argparse
import struct
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from midcall.captures.packets.pcap import Packets, packets_of, read
from midcall.classifier.engine import Engine
from midcall.classifier.path.decode import MAX_DEPTH
from midcall.classifier.state.flow_table import FLOW, METER_EVICTED_WAITING
from midcall.classifier.state.verdicts import NOT_CALL, UNDECIDED
from midcall.experiments.measure.timing import mix
from midcall.locations import ROOT
from tests.classifier.wire import EPOCH, ether, ip, noise, tcp_packet, udp_packet
from tests.proofs.ledger import settle

BATCH = 8192
#: Bound of the flow table here: a million flows, as in the lab's goals.
FLOWS = 1 << 20
#: Packets whose times are taken.
TIMED = 50_000


class Attack(NamedTuple):
    """One kind of hostile traffic: batches of packets, so many in all."""

    name: str
    what: str
    batches: Callable[[int], Iterator[Packets]]


# ---- floods: every packet from one frame, some words of it counted up


def flood(frame: bytes, vary: Callable[[Any, Any], None], count: int) -> Iterator[Packets]:
    """Yield packets that copy a frame; vary(octets[n, size], numbers[n]) makes them differ."""
    for first in range(0, count, BATCH):
        numbers = np.arange(first, min(first + BATCH, count))
        data = np.tile(np.frombuffer(frame, np.uint8), (len(numbers), 1))
        vary(data, numbers)
        sizes = np.full(len(numbers), len(frame))
        yield Packets(
            data.reshape(-1), np.arange(len(numbers)) * len(frame), sizes, sizes.copy(),
            EPOCH + numbers * 1000, np.ones(len(numbers), np.int64),
        )  # fmt: skip


def put(data: Any, at: int, numbers: Any, width: int) -> None:
    """Write numbers, big-endian, into a column of frames."""
    for place in range(width):
        data[:, at + place] = (numbers >> 8 * (width - 1 - place)) & 0xFF


UDP4 = ether(udp_packet(noise(32)))
UDP6 = ether(udp_packet(noise(32), hosts=("2001:2::1", "2001:2::99")))


def new_flows(data: Any, numbers: Any) -> None:
    """Give every packet a flow of its own."""
    put(data, 28, numbers >> 8, 2)
    put(data, 36, 1024 + (numbers & 0xFF), 2)
    put(data, 30, 0xC613 + (numbers >> 24), 2)


def cancelling(data: Any, numbers: Any) -> None:
    """Give IPv6 packets addresses whose differences cancel in a chain of multiply and shift."""
    pattern = (numbers & 4095).astype(np.int64)
    put(data, 30, (numbers >> 12) << 20, 4)
    put(data, 34, (pattern << 20) ^ (pattern << 5), 4)


def equal_sums(data: Any, numbers: Any) -> None:
    """Give packets ends whose numbers add up to the same."""
    put(data, 28, numbers & 0xFFFF, 2)
    put(data, 32, 0xFFFF - (numbers & 0xFFFF), 2)
    put(data, 36, 0x4000, 1)


def fragments(data: Any, numbers: Any) -> None:
    """Make each packet a first fragment whose rest never comes, or a rest without a first."""
    put(data, 18, numbers, 2)
    put(data, 20, np.where(numbers % 2, 0x2000, 0x2010), 2)


# ---- sequences of frames


def frames(made: Iterator[bytes], times: Callable[[int], int]) -> Iterator[Packets]:
    """Yield frames as batches; times(n) is that of frame n."""
    held: list[bytes] = []
    begin = 0
    for frame in made:
        held.append(frame)
        if len(held) == BATCH:
            yield packets_of(held, [times(begin + n) for n in range(BATCH)])
            begin, held = begin + BATCH, []
    if held:
        yield packets_of(held, [times(begin + n) for n in range(len(held))])


def forwards(number: int) -> int:
    """Return the time of a frame, a millisecond after the one before."""
    return EPOCH + number * 1_000_000


def nested(count: int) -> Iterator[bytes]:
    """Yield frames of 1 to 60 headers around one datagram: more than are followed."""
    made, packet = [], udp_packet(noise(32))
    for _ in range(60):
        packet = ip(4, packet, "198.18.0.1", "198.19.0.1")
        made.append(ether(packet))
    tags = [b"\x81\0\0\1", b"\x88\xa8\0\1", b"\x81\0\0\1"]
    for depth in range(1, 200, 7):
        head = b"\2\0\0\0\0\1\2\0\0\0\0\2" + b"".join(tags[n % 3] for n in range(depth))
        made.append(head + b"\x08\0" + udp_packet(noise(32)))
        made.append(head + b"\x88\x47" + b"\0\0\0\0" * depth + udp_packet(noise(32)))
    options = ip(0, b"\x3c\0" + bytes(6) + (b"\0\0" + bytes(6)) * 150, "2001:2::1", "2001:2::99")
    made.append(ether(options))
    return (made[n % len(made)] for n in range(count))


def lengths(count: int) -> Iterator[bytes]:
    """Yield frames whose length fields lie: nothing, everything, less than the header."""
    made = [b"", b"\0", bytes(13), bytes(14)]
    for value in (0, 1, 7, 8, 19, 20, 27, 28, 0x7FFF, 0x8000, 0xFFFF):
        word = struct.pack(">H", value)
        udp, tcp = bytearray(UDP4), bytearray(ether(tcp_packet(noise(40))))
        six = bytearray(UDP6)
        for frame, places in ((udp, (16, 38)), (tcp, (16, 46)), (six, (18, 58))):
            for at in places:
                changed = frame.copy()
                changed[at : at + 2] = word
                made += [bytes(changed), bytes(changed[:48])]
    for head in range(16):
        changed = bytearray(UDP4)
        changed[14] = 0x40 | head
        made.append(bytes(changed))
    return (made[n % len(made)] for n in range(count))


def same_ends(count: int) -> Iterator[bytes]:
    """Yield datagrams and segments from an endpoint to itself."""
    hosts = ("198.18.0.1", "198.18.0.1")
    made = [
        ether(udp_packet(noise(40), (port, port), hosts)) for port in (0, 53, 443, 3478, 65535)
    ] + [ether(tcp_packet(noise(40), (443, 443), hosts, flags)) for flags in (2, 18, 4, 17, 0, 255)]
    return (made[n % len(made)] for n in range(count))


def segments(count: int) -> Iterator[bytes]:
    """Yield TCP segments of one connection that overlap in every way, never a hello."""
    content = noise(2000, 3)
    dice = np.random.default_rng(5)
    for _ in range(count):
        at, size = int(dice.integers(1900)), int(dice.integers(1, 100))
        yield ether(tcp_packet(content[at : at + size], sequence=int(dice.integers(1 << 32))))


def hellos(count: int) -> Iterator[bytes]:
    """Yield first pieces of TLS hellos, each of another connection, whose rest never comes."""
    piece = b"\x16\3\1\x0f\xf0\1\0\x0f\xec\3\3" + noise(60)
    for number in range(count):
        ports = (1024 + number % 60_000, 443)
        yield ether(tcp_packet(piece, ports, (f"198.18.{number // 60_000 % 256}.1", "198.19.0.1")))


def backwards(number: int) -> int:
    """Return the time of a frame, a second before the one before."""
    return EPOCH - number * 1_000_000_000


ATTACKS = (
    Attack("new flows", "every packet a flow of its own", lambda n: flood(UDP4, new_flows, n)),
    Attack(
        "cancelling ends", "IPv6 ends that met in the hash of earlier versions, whatever its key",
        lambda n: flood(UDP6, cancelling, n),
    ),
    Attack("equal sums", "ends whose numbers add up to the same",
           lambda n: flood(UDP4, equal_sums, n)),
    Attack("fragments", "first fragments without a rest, rests without a first",
           lambda n: flood(UDP4, fragments, n)),
    Attack("nesting", f"up to 200 headers, of which {MAX_DEPTH} are followed",
           lambda n: frames(nested(n), forwards)),
    Attack("lengths", "length fields of nothing, too much, too little; cut frames",
           lambda n: frames(lengths(n), forwards)),
    Attack("time backwards", "each packet a second before the one before",
           lambda n: frames((UDP4 for _ in range(n)), backwards)),
    Attack("equal ends", "from an endpoint to itself", lambda n: frames(same_ends(n), forwards)),
    Attack("overlapping segments", "TCP segments over one another, at any sequence number",
           lambda n: frames(segments(n), forwards)),
    Attack("unfinished hellos", "first pieces of TLS hellos, thousands at once",
           lambda n: frames(hellos(n), forwards)),
)  # fmt: skip


# ---- what came of it


def state_of(engine: Engine) -> int:
    """Return the bytes of an engine's arrays."""
    return sum(table.nbytes for table in engine.tables)


def bound_of(flows: int) -> int:
    """Return the bytes that an engine of so many flows may lay out."""
    engine = Engine(max_flows=flows, room=flows)
    engine.reserve(flows)
    return state_of(engine) - engine.tables.spill.nbytes + BATCH * FLOW.itemsize


def suffered(attack: Attack, packets: int, flows: int) -> tuple[dict[str, Any], list[str]]:
    """Send an attack through an engine; return its figures and what was broken."""
    engine = Engine(max_flows=flows)
    evicted_calls, largest, spent = 0, 0, 0
    for batch in attack.batches(packets):
        began = time.thread_time_ns()
        engine.feed(batch)
        spent += time.thread_time_ns() - began
        for rows in engine.evicted:
            evicted_calls += int((rows["verdict"] > NOT_CALL).sum())
        engine.evicted.clear()  # as the live box does: what is left of them is a count
        largest = max(largest, state_of(engine))
    rows, counters = engine.flows(), engine.counters
    named = evicted_calls + int((rows["verdict"] > NOT_CALL).sum())
    kinds = {UNDECIDED: "undecided", NOT_CALL: "not a call"}
    verdicts = {kinds.get(int(v), "call"): int((rows["verdict"] == v).sum())
                for v in np.unique(rows["verdict"])}  # fmt: skip
    problems = []
    if counters["packets"] != packets:
        problems.append(f"{attack.name}: {counters['packets']} packets counted of {packets}")
    if named:
        problems.append(f"{attack.name}: {named} flows were named a call")
    if largest > bound_of(flows):
        problems.append(f"{attack.name}: {largest} bytes of state, the bound is {bound_of(flows)}")
    if engine.tables.meter[METER_EVICTED_WAITING]:
        problems.append(f"{attack.name}: evicted flows were not drained")
    figures = {
        "attack": attack.name, "what": attack.what, "packets": packets,
        "packets_per_s": round(packets * 1e9 / spent), "state_bytes": largest,
        "counters": counters, "verdicts": verdicts, "named_a_call": named,
        "longest_probe": longest_probe(engine),
    }  # fmt: skip
    return figures, problems


def longest_probe(engine: Engine) -> int:
    """Return the most places of the index that one flow of it is away from its own."""
    index = engine.tables.slots
    held = np.flatnonzero(index)
    mask = len(index) - 1
    return int(((held - (index[held] >> 32)) & mask).max(initial=0))


def times_of(batches: Iterator[Packets], most: int, flows: int) -> dict[str, float]:
    """Return p50, p99 and p99.99 of the ns that a call of one packet takes."""
    engine, spent = Engine(max_flows=flows), []
    for batch in batches:
        for n in range(batch.total):
            one = batch.take(slice(n, n + 1))
            begin = time.thread_time_ns()
            engine.feed(one)
            spent.append(time.thread_time_ns() - begin)
            if len(spent) == most:
                return percentiles(spent)
    return percentiles(spent)


def percentiles(spent: list[int]) -> dict[str, float]:
    """Return the percentiles that are told, in ns."""
    names = {"p50": 50, "p99": 99, "p9999": 99.99}
    return {name: round(float(np.percentile(spent, q))) for name, q in names.items()} | {
        "n": len(spent)
    }


def plain(count: int) -> Iterator[Packets]:
    """Yield the samples, interleaved, as often as it takes."""
    packets = mix([read(one) for one in sorted((ROOT / "captures/samples").glob("*.pcap*"))])
    for first in range(0, count, BATCH):
        yield packets.take(np.arange(first, min(first + BATCH, count)) % packets.total)


def main(words: Sequence[str] | None = None) -> int:
    """Carry out every attack, tell and write down; exit code 1 where a bound was broken."""
    parser = argparse.ArgumentParser(prog="hostile", description=__doc__)
    parser.add_argument("--packets", type=int, default=1_000_000, help="of each attack")
    parser.add_argument("--flows", type=int, default=10_000_000, help="of the attack new flows")
    parser.add_argument("--timed", type=int, default=TIMED, help="packets whose times are taken")
    asked = parser.parse_args(words)
    rows, problems = [], []
    times_of(plain(BATCH), BATCH, FLOWS)  # compiles
    base = times_of(plain(asked.timed), asked.timed, FLOWS)
    print(f"{'attack':22}{'packets':>11}{'Mpkt/s':>8}{'state MB':>10}{'evicted':>10}"
          f"{'probe':>7}{'p50 us':>8}{'p99.99 us':>11}")  # fmt: skip
    print(f"{'(samples, plain)':22}{'':>46}{base['p50'] / 1e3:8.1f}{base['p9999'] / 1e3:11.1f}")
    for attack in ATTACKS:
        packets = asked.flows if attack.name == "new flows" else asked.packets
        figures, broken = suffered(attack, packets, FLOWS)
        figures["ns_per_call"] = times_of(attack.batches(asked.timed), asked.timed, FLOWS)
        rows.append(figures)
        problems += broken
        spent = figures["ns_per_call"]
        print(f"{attack.name:22}{packets:11,}{figures['packets_per_s'] / 1e6:8.2f}"
              f"{figures['state_bytes'] / 1e6:10.1f}{figures['counters']['evicted']:10,}"
              f"{figures['longest_probe']:7}{spent['p50'] / 1e3:8.1f}{spent['p9999'] / 1e3:11.1f}",
              flush=True)  # fmt: skip
    facts = {"attacks": rows, "plain_ns_per_call": base, "flow_bound": FLOWS}
    return settle("hostile", problems, "no bound was broken, no flow was named a call", facts)


if __name__ == "__main__":
    sys.exit(main())
