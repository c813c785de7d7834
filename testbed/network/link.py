# SPDX-License-Identifier: BSD-3-Clause
"""Links: loss and delay of packets on a part of a network, or by an act of a policy.

One LINK row has the parameters, applied in this order: loss (independent, or in bursts after
Gilbert and Elliott), a token bucket that drops what is above its rate, a queue that delays it,
delay, jitter, reordering. One STATE row is its state in one direction. `admit` passes a packet
through a link; `take_turn` passes it through a queue of two classes that carries others' packets,
too. Both allocate nothing and read no clock: time is an argument, and every draw is a hash of the
link's key and a number, so virtual time and a live box lose and delay the same packets.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.kernel import I, kernel
from midcall.classifier.state.flow_table import Records, mix
from midcall.errors import TestbedError

Numbers = NDArray[np.int64]

#: What `admit` returns for a packet that is dropped: the reason.
LOST, POLICED, OVERFLOW = -1, -2, -3

#: Chances are drawn from 31 bits.
CERTAIN = 1 << 31
SECOND = 1_000_000_000
#: After a pause of this length, in ns, the loss of the next packet does not depend on the one
#: before: a bad time takes milliseconds, less than any sender's timer.
FORGETS = 250_000_000
#: IP bytes of a packet of cross-traffic, and the most of them that one pause may bring.
CROSS_BYTES, CROSS_MOST = 1500, 4096
#: The purpose of draws of cross-traffic, one for each direction (7 is testbed.middlebox.decide's).
CROSSING = 8

LINK = np.dtype(
    [
        ("delay", "i8"),  # ns
        ("jitter", "i8"),  # ns; standard deviation of the delay
        ("loss", "i8"),  # chance outside of bad times, of 2**31
        ("loss_bad", "i8"),  # ... within
        ("to_bad", "i8"),  # chance per packet that a bad time begins
        ("to_good", "i8"),  # ... that it ends
        ("bad_share", "i8"),  # share of time in bad times, of 2**31
        ("rate", "i8"),  # bit/s that leave a queue; 0: no queue
        ("queue", "i8"),  # ns; a packet that would wait longer is dropped
        ("police", "i8"),  # bit/s that a token bucket lets through; 0: none
        ("depth", "i8"),  # ns that the bucket takes to fill
        ("reorder", "i8"),  # chance of 2**31 that the packets behind overtake this one
        ("hold", "i8"),  # ns that such a packet waits longer
        ("cross", "i8"),  # ns from one packet of cross-traffic to the next, on average; 0: none
        ("first", "i8"),  # bit per code point that goes before the other packets
        ("key", "i8"),  # 31 bits, of a name and the run's seed
    ]
)

#: State of a link in one direction, and of a rule for one subject (testbed.middlebox.state).
STATE = np.dtype(
    [
        ("key", "i8"),  # hash of its subject; 0: the row is free
        ("seen", "i8"),  # ns; when it was last used
        ("until", "i8"),  # ns; a taint's end
        ("begun", "i8"),  # ns; when a rule first met its subject
        ("packets", "i8"),  # ... and what the subject had sent by then
        ("bytes", "i8"),
        ("bad", "i8"),  # 1: within a bad time
        ("drawn", "i8"),  # ns; when a loss was last drawn
        ("due", "i8"),  # ns; the token bucket's theoretical arrival time
        ("busy", "i8"),  # ns; when the queue is empty
        ("last", "i8"),  # ns; release of the last packet that was not reordered
    ]
)


@dataclass(frozen=True)
class Link:
    """Parameters of a link in one direction; each is optional.

    delay_ms: the mean; jitter_ms: its standard deviation (a bell within 3.5 of it, never below 0);
    packets keep their order. loss: the share lost; burst: packets that a bad time lasts on average
    (0: losses are independent); loss_bad: the share lost within a bad time. rate_kbit, queue_ms: a
    queue and the longest wait in it. police_kbit, bucket_bytes: a token bucket. reorder: the share
    of packets that are delayed reorder_ms longer while others pass them. cross_kbit: what others
    send through the same queue; first: code points of the packets that leave it first.
    """

    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    loss: float = 0.0
    burst: float = 0.0
    loss_bad: float = 1.0
    rate_kbit: float = 0.0
    queue_ms: float = 0.0
    police_kbit: float = 0.0
    bucket_bytes: int = 0
    reorder: float = 0.0
    reorder_ms: float = 0.0
    cross_kbit: float = 0.0
    first: tuple[int, ...] = ()


class Preset(NamedTuple):
    """An access network's link: away from the subscriber, towards it, and the source of both."""

    up: Link
    down: Link
    source: str


WEBPAGETEST = "WebPageTest, connectivity profiles (rates and round trip)"
FCC = "FCC, Measuring Broadband America 2014 (round trip by technology: fibre 24 ms, DSL 49 ms)"

#: What an access network adds each way: half of a measured round trip, rates, loss. Means of
#: healthy links, not of bad days; loss and jitter differ most between sources.
PRESETS = {
    "3g": Preset(
        Link(75, 15, loss=0.001, burst=3, rate_kbit=768, queue_ms=500),
        Link(75, 15, loss=0.001, burst=3, rate_kbit=1600, queue_ms=500),
        f"{WEBPAGETEST}: '3G fast', 1600/768 kbit/s, 150 ms; Jiang et al., Tackling Bufferbloat in "
        "3G/4G Networks, IMC 2012 (queues of hundreds of ms, little loss); jitter assumed",
    ),
    "4g": Preset(
        Link(35, 7, loss=0.0005, burst=3, rate_kbit=5640, queue_ms=300),
        Link(35, 7, loss=0.0005, burst=3, rate_kbit=12740, queue_ms=300),
        "Huang et al., A Close Examination of Performance and Power Characteristics of 4G LTE "
        f"Networks, MobiSys 2012 (median 13 and 6 Mbit/s); {WEBPAGETEST}: 'LTE', 70 ms; loss and "
        "jitter assumed",
    ),
    "adsl": Preset(
        Link(24.5, 2, loss=0.0005, rate_kbit=384, queue_ms=400),
        Link(24.5, 2, loss=0.0005, rate_kbit=1500, queue_ms=200),
        f"{FCC}; {WEBPAGETEST}: 'DSL', 1500/384 kbit/s; Dischinger et al., Characterizing "
        "Residential Broadband Networks, IMC 2007 (large upstream queues, loss well below 1 %); "
        "jitter assumed",
    ),
    "fibre": Preset(
        Link(12, 0.5, loss=0.0001, rate_kbit=20000, queue_ms=50),
        Link(12, 0.5, loss=0.0001, rate_kbit=50000, queue_ms=50),
        f"{FCC}; rates as sold then; loss and jitter assumed",
    ),
    "wifi": Preset(
        Link(34.5, 10, loss=0.002, burst=4, rate_kbit=384, queue_ms=400),
        Link(34.5, 10, loss=0.002, burst=4, rate_kbit=1500, queue_ms=200),
        "adsl, and Pei et al., WiFi Can Be the Weakest Link of Round Trip Network Latency in the "
        "Wild, INFOCOM 2016 (half of the packets wait more than 20 ms in the last hop, both ways "
        "together); loss and jitter assumed",
    ),
}


def access_links(access: str, seed: int) -> Records:
    """Return LINK[2], an access network's link up and down; raises TestbedError."""
    if access not in PRESETS:
        raise TestbedError(f"access: got {access!r}, expected one of {', '.join(PRESETS)}")
    preset = PRESETS[access]
    out = np.zeros(2, LINK)
    fill_link(out[0], preset.up, seed_of(seed, f"{access} up"))
    fill_link(out[1], preset.down, seed_of(seed, f"{access} down"))
    return out


def no_links() -> Records:
    """Return LINK[2] of a link without loss, delay or rate limit."""
    return np.zeros(2, LINK)


def seed_of(seed: int, name: str) -> int:
    """Return the key of a link's or rule's draws: 31 bits of sha256 over the seed and its name."""
    digest = hashlib.sha256(f"{seed}\0{name}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def chance(share: float) -> int:
    """Return a share (0 to 1) in parts of 2**31."""
    return round(min(max(share, 0.0), 1.0) * CERTAIN)


def fill_link(row: Any, about: Link, key: int) -> None:
    """Write a link into a LINK row.

    Bad times (Gilbert 1960, Elliott 1963): with a share L lost, H of it in bad times, a bad time
    takes L / H of all packets; it ends with chance 1 / burst, and begins so often that this holds.
    After a pause of FORGETS the next packet falls into one with chance L / H, whatever was before.
    """
    row["delay"], row["jitter"] = round(about.delay_ms * 1e6), round(about.jitter_ms * 1e6)
    if about.burst > 0:
        bad = min(about.loss / about.loss_bad, 1.0)
        row["loss_bad"] = chance(about.loss_bad)
        row["to_good"] = chance(1 / about.burst)
        row["to_bad"] = chance(bad / (1 - bad) / about.burst if bad < 1 else 1.0)
        row["bad_share"] = chance(bad)
    else:
        row["loss"] = chance(about.loss)
    row["rate"], row["queue"] = round(about.rate_kbit * 1000), round(about.queue_ms * 1e6)
    row["police"] = round(about.police_kbit * 1000)
    if row["police"] > 0:
        row["depth"] = about.bucket_bytes * 8 * SECOND // int(row["police"])
    row["reorder"], row["hold"] = chance(about.reorder), round(about.reorder_ms * 1e6)
    if about.cross_kbit > 0:
        row["cross"] = max(round(CROSS_BYTES * 8e6 / about.cross_kbit), 1)
    mask = sum(1 << point for point in set(about.first))
    row["first"] = mask - (1 << 64) if mask >> 63 else mask
    row["key"] = key


# ---- compiled


@kernel
def draw(key: int, number: int, purpose: int) -> int:
    """Return 31 bits that depend on nothing but the key, the packet's number and the purpose."""
    h = mix(mix(I(key), number & 0xFFFFFFFF), (number >> 32) & 0xFFFFFFFF)
    h = mix(mix(h, purpose), 0x9E3779B1)
    return I(mix(h, 0x85EBCA6B) & 0x7FFFFFFF)


@kernel
def wobble(key: int, number: int, jitter: int) -> int:
    """Return a packet's deviation from the mean delay, in ns: of mean 0 and deviation `jitter`.

    The sum of four uniform draws of 15 bits (Irwin and Hall): its deviation is 2**15 / sqrt(3).
    """
    one, two = draw(key, number, 3), draw(key, number, 4)
    total = (one & 0x7FFF) + (one >> 16) + (two & 0x7FFF) + (two >> 16)
    return I((total - 65534) * jitter // 18918)


@kernel
def lost(link: Any, state: Any, number: int, time: int) -> bool:
    """Draw whether a packet is lost; a bad time begins or ends before this packet."""
    if link["to_bad"] > 0:
        turn = draw(link["key"], number, 1)
        if time - state["drawn"] > FORGETS:
            state["bad"] = 1 if turn < link["bad_share"] else 0
        elif state["bad"] == 0:
            state["bad"] = 1 if turn < link["to_bad"] else 0
        else:
            state["bad"] = 0 if turn < link["to_good"] else 1
        state["drawn"] = time
    share = link["loss_bad"] if state["bad"] == 1 else link["loss"]
    return bool(share > 0 and draw(link["key"], number, 2) < share)


@kernel
def policed(link: Any, state: Any, size: int, time: int) -> bool:
    """Tell whether a token bucket drops a packet of `size` bytes (the GCRA of ITU-T I.371).

    The bucket's state is one number: the time at which it would be full again.
    """
    due = max(I(state["due"]), time) + size * 8 * SECOND // link["police"]
    if due - time > link["depth"]:
        return True
    state["due"] = due
    return False


@kernel
def admit(link: Any, state: Any, size: int, time: int, number: int) -> int:
    """Return when a packet leaves the link, in ns; LOST, POLICED or OVERFLOW when it does not.

    size: bytes on the wire; time: ns, of any clock, never smaller than at the last call; number:
    the packet's own, the same in every backend. `state` is the link's STATE row in this direction.
    """
    if lost(link, state, number, time):
        return LOST
    if link["police"] > 0 and policed(link, state, size, time):
        return POLICED
    out = time
    if link["rate"] > 0:
        begin = max(I(state["busy"]), time)
        if begin - time > link["queue"]:
            return OVERFLOW
        out = begin + size * 8 * SECOND // link["rate"]
        state["busy"] = out
    if link["delay"] > 0 or link["jitter"] > 0:
        late = I(link["delay"])
        if link["jitter"] > 0:
            late = max(late + wobble(link["key"], number, link["jitter"]), 0)
        out += late
    if link["reorder"] > 0 and draw(link["key"], number, 5) < link["reorder"]:
        return I(out + link["hold"])
    out = max(out, I(state["last"]))
    state["last"] = out
    return I(out)


@kernel
def cross_gap(key: int, number: int, purpose: int, mean: int) -> int:
    """Return the time in ns between two packets of cross-traffic: exponential, of a mean.

    By comparisons of uniform draws alone, so that every machine draws the same (J. von Neumann,
    Various Techniques Used in Connection with Random Digits, 1951).
    """
    whole, turn = I(0), I(0)
    while turn < 256:  # ends long before
        first = draw(key, number << 8 | turn, purpose)
        last, odd = first, True
        turn += 1
        while turn < 256:
            value = draw(key, number << 8 | turn, purpose)
            turn += 1
            if value >= last:
                break
            last, odd = value, not odd
        if odd:
            return I(
                whole * mean + ((first * (mean >> 16)) >> 15) + ((first * (mean & 0xFFFF)) >> 31)
            )
        whole += 1
    return I(whole * mean)


@kernel
def cross_traffic(link: Any, state: Any, time: int, purpose: int) -> None:
    """Put the packets of cross-traffic until now into a queue; they begin with its first packet.

    Of a long pause, the last CROSS_MOST packets are counted: a queue has forgotten those before.
    """
    mean, service = I(link["cross"]), CROSS_BYTES * 8 * SECOND // link["rate"]
    if state["drawn"] == 0:
        state["drawn"] = time + cross_gap(link["key"], I(0), purpose, mean)
    state["drawn"] = max(I(state["drawn"]), time - CROSS_MOST * mean)
    while state["drawn"] <= time:
        begin = max(I(state["busy"]), I(state["drawn"]))
        if begin - state["drawn"] <= link["queue"]:
            state["busy"] = begin + service
        state["packets"] += 1
        state["drawn"] += cross_gap(link["key"], I(state["packets"]), purpose, mean)


@kernel
def take_turn(link: Any, state: Any, size: int, time: int, side: int, dscp: int) -> int:
    """Return when a packet leaves a queue of two classes, in ns; OVERFLOW where it does not.

    A packet whose code point goes first waits for earlier ones of this kind and for the packet that
    is being sent, which is not interrupted; every other packet, and cross-traffic, waits for all
    that is in the queue when it comes. The time of a packet is fixed when it comes: one that comes
    later and goes first delays only packets that come after it. `state` is the queue's STATE row:
    `busy` is when all that waits is sent, `due` when all that goes first is; `drawn` and
    `packets` are the time and number of the next packet of cross-traffic, `begun` the ns that the
    last packet without priority takes: the packet being sent is taken to be as long, or as long as
    one of cross-traffic.
    """
    if link["cross"] > 0:
        cross_traffic(link, state, time, I(CROSSING + side))
    service = size * 8 * SECOND // link["rate"]
    busy = max(I(state["busy"]), time)
    if link["first"] >> dscp & 1 == 0:
        if busy - time > link["queue"]:
            return OVERFLOW
        state["busy"], state["begun"] = busy + service, service
        return I(busy + service)
    begin = I(state["due"])
    if begin <= time:
        one = CROSS_BYTES * 8 * SECOND // link["rate"] if link["cross"] > 0 else I(state["begun"])
        begin = time + ((busy - time) % one if one > 0 else 0)
    if begin - time > link["queue"]:
        return OVERFLOW
    state["due"], state["busy"] = begin + service, busy + service
    return I(begin + service)
