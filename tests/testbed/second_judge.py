"""A second judge: the verdict of one call, from the two pcapng files of a replay and nothing else.

It is written from docs/howto/replay.md, the call files and the standards, and shares no code with
the
product: what both say is the documentation's meaning, what they differ in is a fault of one of
them. `judge(trace, control, call)` takes the file that `midcall replay --policy P -o` wrote, the
one that `--policy none -o` wrote with the same access network and seed, and one [[call]] table.

- INCONCLUSIVE is never given: it depends on the policy's text. The caller must skip those.
- NOT COVERED is given where the packets cannot tell, with the reason.
"""

import math
import re
import struct
from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.int64]
Marks = NDArray[np.bool_]
FlowKey = tuple[Any, ...]

S = 1_000_000_000
STRETCH = 5 * S  # of media time
LONGEST_PAUSE = S
FEW = 0.01
LOST = 0.10
LATE_NS = 400_000_000
FALL = 15.0
FLOOR = 50.0
FEWEST_OF_WAY = 5
FEWEST_RATED = 50  # arrivals that a direction needs for R
FEWEST_OF_WINDOW = 10  # packets that a window needs for R
BPL, IE, CODEC_MS = 25.1, 0.0, 20.0  # G.711, ITU-T G.113 appendix I
BUFFER_LEAST, BUFFER_MOST = 20_000_000, 200_000_000
TCP, UDP, SCTP = 6, 17, 132
COOKIE = b"\x21\x12\xa4\x42"
DTLS = (b"\xfe\xff", b"\xfe\xfd", b"\xfe\xfc")  # 1.0, 1.2, 1.3
BLOCKED = {"SIGNALLING_BLOCKED", "SETUP_BLOCKED", "CONNECTED_NO_MEDIA", "ONE_WAY", "CUT"}
COMMENT = re.compile(r"frame (\d+), sending (\d+): (.*)")


class Judged(NamedTuple):
    """What the second judge says; usable: None where the verdict says nothing of that."""

    verdict: str
    blocked: bool
    usable: bool | None
    reason: str


# The files.


class Block(NamedTuple):
    """One frame of a pcapng file; at: ns since 1970."""

    side: int
    at: int
    frame: bytes
    comments: list[str]


@dataclass(slots=True)
class Packet:
    """One packet of the capture in one replay; arrived: -1 where no sending did."""

    number: int
    side: int
    sent: int
    arrived: int
    ip: bytes


Trace = dict[int, Packet]


def options(data: bytes, order: str) -> Iterator[tuple[int, bytes]]:
    """Yield code and value of each pcapng option."""
    at = 0
    while at + 4 <= len(data):
        code, size = struct.unpack_from(order + "HH", data, at)
        if code == 0:
            return
        yield code, data[at + 4 : at + 4 + size]
        at += 4 + (size + 3) // 4 * 4


def ticks_per_s(data: bytes, order: str) -> int:
    """Return the clock of an interface: option 9, 10^-n or 2^-n, default microseconds."""
    for code, value in options(data, order):
        if code == 9 and value:
            return int(2 ** (value[0] & 127) if value[0] & 128 else 10 ** value[0])
    return 1_000_000


def blocks(path: Path) -> Iterator[Block]:
    """Yield the Enhanced Packet Blocks of a pcapng file."""
    data = path.read_bytes()
    order, at = "<", 0
    clocks: list[int] = []
    while at + 12 <= len(data):
        if data[at : at + 4] == b"\x0a\x0d\x0d\x0a":
            order = "<" if data[at + 8 : at + 12] == b"\x4d\x3c\x2b\x1a" else ">"
            clocks = []
        kind, size = struct.unpack_from(order + "II", data, at)
        if size < 12:
            raise ValueError(f"{path.name}: a block of {size} octets")
        if kind == 1:
            clocks.append(ticks_per_s(data[at + 16 : at + size - 4], order))
        elif kind == 6:
            side, high, low, kept = struct.unpack_from(order + "IIII", data, at + 8)
            end = at + 28 + kept
            tail = at + 28 + (kept + 3) // 4 * 4
            said = options(data[tail : at + size - 4], order)
            comments = [value.decode() for code, value in said if code == 1]
            moment = ((high << 32) | low) * S // clocks[side]
            yield Block(side, moment, data[at + 28 : end], comments)
        at += size


def read(path: Path) -> Trace:
    """Return every packet of a replay by the number of its frame; injected frames are left out.

    The first block of a sending is its sender's interface, the second its receiver's. What stays on
    the subscriber's own link has one block alone and arrives when it leaves.
    """
    trace: Trace = {}
    seen: set[tuple[int, int]] = set()
    for block in blocks(path):
        found = next(filter(None, map(COMMENT.fullmatch, block.comments)), None)
        if found is None:
            continue
        number, sending = int(found[1]), int(found[2])
        packet = trace.get(number)
        if packet is None:
            packet = Packet(number, block.side, block.at, -1, block.frame[14:])
            trace[number] = packet
        came = (number, sending) in seen or "own link" in found[3]
        seen.add((number, sending))
        if came and (packet.arrived < 0 or block.at < packet.arrived):
            packet.arrived = block.at
    return trace


# The packets.


class Segment(NamedTuple):
    """What a packet holds; size: of the payload as sent, which may be more than was captured."""

    key: FlowKey
    protocol: int
    payload: bytes
    size: int
    seq: int


class Network(NamedTuple):
    """The IP layer of a packet; part: names the datagram of a fragment; later: not its first."""

    protocol: int
    ends: tuple[bytes, bytes]
    body: bytes
    size: int
    part: tuple[Any, ...] | None
    later: bool


def network(ip: bytes) -> Network | None:
    """Return the IP layer."""
    if len(ip) >= 20 and ip[0] >> 4 == 4:
        start = (ip[0] & 15) * 4
        total = int.from_bytes(ip[2:4], "big") or len(ip)
        split = int.from_bytes(ip[6:8], "big")
        ends = (ip[12:16], ip[16:20])
        part = (ends, ip[9], ip[4:6]) if split & 0x3FFF else None
        return Network(ip[9], ends, ip[start:total], total - start, part, bool(split & 0x1FFF))
    if len(ip) >= 40 and ip[0] >> 4 == 6:
        return network6(ip)
    return None


def network6(ip: bytes) -> Network:
    """Return the IP layer of version 6, past its extension headers."""
    total = 40 + int.from_bytes(ip[4:6], "big")
    ends, head, at = (ip[8:24], ip[24:40]), ip[6], 40
    part, later = None, False
    while head in (0, 43, 44, 60) and at + 8 <= len(ip):
        if head == 44:
            part = (ends, ip[at + 4 : at + 8])
            later = int.from_bytes(ip[at + 2 : at + 4], "big") >= 8
        step = 8 if head == 44 else (ip[at + 1] + 1) * 8
        head, at = ip[at], at + step
    return Network(head, ends, ip[at:total], total - at, part, later)


def segment(layer: Network) -> Segment:
    """Return what a packet that is no later fragment holds."""
    body, protocol = layer.body, layer.protocol
    if protocol not in (TCP, UDP, SCTP) or len(body) < 4:
        return Segment((protocol, *sorted(layer.ends)), protocol, b"", 0, 0)
    ends = sorted(zip(layer.ends, (body[:2], body[2:4]), strict=True))
    start, size, seq = len(body), 0, 0
    if protocol == UDP:
        start = 8
        said = int.from_bytes(body[4:6], "big")
        size = max((said if said >= 8 else layer.size) - 8, 0)
    elif protocol == TCP and len(body) >= 14:
        start = (body[12] >> 4) * 4
        size = max(layer.size - start, 0)
        seq = int.from_bytes(body[4:8], "big") + (body[13] >> 1 & 1)  # SYN takes one number
    return Segment((protocol, *ends), protocol, body[start : start + size], size, seq)


def segments(*traces: Trace) -> dict[int, Segment]:
    """Return what each packet of the traces holds; a later fragment has its first one's key."""
    packets = {number: packet for trace in traces for number, packet in trace.items()}
    firsts: dict[tuple[Any, ...], FlowKey] = {}
    held: dict[int, Segment] = {}
    for number in sorted(packets):
        layer = network(packets[number].ip)
        if layer is None:
            continue
        if layer.later and layer.part is not None:
            key = firsts.get(layer.part, (layer.protocol, *sorted(layer.ends)))
            held[number] = Segment(key, layer.protocol, b"", 0, 0)
            continue
        held[number] = segment(layer)
        if layer.part is not None:
            firsts[layer.part] = held[number].key
    return held


def inside(payload: bytes) -> bytes | None:
    """Return the payload in a TURN wrapping, b"" where STUN holds none, None for no wrapping."""
    if len(payload) >= 20 and payload[0] < 0x40 and payload[4:8] == COOKIE:
        return indication(payload)
    if len(payload) >= 4 and 0x40 <= payload[0] <= 0x4F:
        length = int.from_bytes(payload[2:4], "big")
        return payload[4 : 4 + length] if length <= len(payload) - 4 else None
    if payload[:2] == b"\xff\x10":
        return payload[12:]
    return None


def indication(payload: bytes) -> bytes:
    """Return the DATA attribute of a Send or Data indication; b"" of any other STUN message."""
    at = 20
    if payload[:2] not in (b"\x00\x16", b"\x00\x17"):
        return b""
    while at + 4 <= len(payload):
        kind, size = struct.unpack_from(">HH", payload, at)
        if kind == 0x0013:
            return payload[at + 4 : at + 4 + size]
        at += 4 + (size + 3) // 4 * 4
    return b""


def is_media(payload: bytes, size: int, viber: bool) -> bool:
    """Say whether a payload of a media flow is media."""
    if viber:
        return size >= 14 and len(payload) > 2 and payload[1] < 128 and payload[2] >> 6 == 2
    while (within := inside(payload)) is not None:
        payload, size = within, len(within)
    if size == 0:
        return False
    dtls = 20 <= payload[0] <= 26 and payload[1:3] in DTLS if payload else False
    zrtp = payload[:1] == b"\x10" and payload[4:8] == b"ZRTP"
    rtcp = len(payload) > 1 and 128 <= payload[0] <= 191 and 192 <= payload[1] <= 223
    return not (dtls or zrtp or rtcp)


# Arrival.


def members(held: dict[int, Segment], flows: Iterable[int]) -> dict[int, set[int]]:
    """Return the frames of each flow that a call names."""
    named: dict[FlowKey, list[int]] = defaultdict(list)
    found: dict[int, set[int]] = {flow: set() for flow in flows}
    for flow in sorted(found):
        if flow in held:
            named[held[flow].key].append(flow)
    for number, piece in held.items():
        before = [flow for flow in named.get(piece.key, ()) if flow <= number]
        if before:
            found[before[-1]].add(number)
    return found


def in_order(numbers: list[int], held: dict[int, Segment], control: Trace, now: Trace) -> Times:
    """Return when each TCP segment of one direction came with all bytes before it, -1 for never.

    numbers: those with payload, in order of capture. Bytes that no frame brings in the control are
    not waited for.
    """
    base = held[numbers[0]].seq
    start = np.array([(held[n].seq - base + 2**31) % 2**32 - 2**31 for n in numbers], np.int64)
    end = start + np.array([held[n].size for n in numbers], np.int64)
    never = np.iinfo(np.int64).max
    came = [np.array([arrival(trace, n) for n in numbers], np.int64) for trace in (control, now)]
    edges = np.unique(np.concatenate([start, end]))
    first, last = np.searchsorted(edges, start), np.searchsorted(edges, end)
    bytes_of = []
    for times in came:
        there = np.full(len(edges), never)
        for i in sorted(range(len(numbers)), key=lambda i: -int(times[i])):
            if times[i] >= 0:
                there[first[i] : last[i]] = times[i]
        bytes_of.append(there)
    waited = np.where(bytes_of[0] == never, -1, bytes_of[1])
    before = np.concatenate([[-1], np.maximum.accumulate(waited)])[first]
    late = np.maximum(before, came[1])
    return np.where((came[1] < 0) | (late == never), -1, late)


def arrival(trace: Trace, number: int) -> int:
    """Return when a packet arrived, -1 for never."""
    packet = trace.get(number)
    return -1 if packet is None else packet.arrived


class Replay(NamedTuple):
    """A trace with the arrival of each packet of the call; came: of media, in order for TCP."""

    trace: Trace
    came: dict[int, int]


def replay_of(
    numbers: set[int], held: dict[int, Segment], control: Trace, now: Trace
) -> dict[int, int]:
    """Return when each packet came, TCP segments in order."""
    came = {number: arrival(now, number) for number in numbers}
    streams: dict[tuple[FlowKey, int], list[int]] = defaultdict(list)
    for number in sorted(numbers):
        piece = held[number]
        if piece.protocol == TCP and piece.size:
            side = (control.get(number) or now[number]).side
            streams[piece.key, side].append(number)
    for stream in streams.values():
        times = in_order(stream, held, control, now)
        came.update(zip(stream, map(int, times), strict=True))
    return came


# Silence and quality.


class Direction(NamedTuple):
    """Packets of one direction that arrive in the control, in order of the capture; times in ns.

    media_time: at each packet; came and base: arrival now and in the control, -1 for never; sent
    and base_sent: first sending now (-1 for never) and in the control.
    """

    numbers: list[int]
    media_time: Times
    came: Times
    sent: Times
    base: Times
    base_sent: Times


class Case(NamedTuple):
    """One call in its two replays."""

    control: Replay
    now: Replay
    flows: dict[int, set[int]]
    media: set[int]
    voice: bool


def directions(case: Case, numbers: set[int]) -> list[Direction]:
    """Return both directions of some packets; one without packets in the control is left out."""
    found = []
    for side in (0, 1):
        ours = [n for n in numbers if case.control.came[n] >= 0]
        ours = [n for n in ours if case.control.trace[n].side == side]
        if ours:
            found.append(direction(case, ours))
    return found


def direction(case: Case, numbers: list[int]) -> Direction:
    """Return one direction."""
    base, now = case.control, case.now
    numbers = sorted(numbers, key=lambda n: (base.trace[n].sent, n))
    base_sent = np.array([base.trace[n].sent for n in numbers], np.int64)
    pauses = np.minimum(np.diff(base_sent, prepend=base_sent[0]), LONGEST_PAUSE)
    sent = [now.trace[n].sent if n in now.trace else -1 for n in numbers]
    return Direction(
        numbers,
        np.cumsum(pauses),
        np.array([now.came[n] for n in numbers], np.int64),
        np.array(sent, np.int64),
        np.array([base.came[n] for n in numbers], np.int64),
        base_sent,
    )


def dead(way: Direction) -> bool:
    """Say whether a direction is silent from its beginning."""
    there = way.came >= 0
    first = there[way.media_time < STRETCH]
    return bool(first.mean() < FEW or there.mean() < FEW)


def silence(time: Times, there: Marks) -> bool:
    """Say whether any stretch of 5 s of media time, from a packet to a packet, is a silence."""
    last = np.searchsorted(time, time + STRETCH)  # the first packet at or past the end
    whole = last < len(time)
    count = np.concatenate([[0], np.cumsum(there)])
    start = np.flatnonzero(whole)
    end = last[whole] + 1
    return bool(((count[end] - count[start]) < FEW * (end - start)).any())


def falls_silent(way: Direction) -> bool:
    """Say whether a direction holds a silence."""
    return silence(way.media_time, way.came >= 0)


def playout(sent: Times, came: Times) -> int:
    """Return the delay at which the adaptive buffer plays, ns."""
    delay = np.sort((came - sent)[came >= 0])
    late = delay[max(math.ceil(0.99 * len(delay)) - 1, 0)]
    return int(delay[0] + min(max(late - delay[0], BUFFER_LEAST), BUFFER_MOST))


def rating(delay_ns: int, gone: Marks) -> float:
    """Return R of the E-model: ITU-T G.107 with Id = Idd and Ie,eff under bursts."""
    share = float(gone.mean())
    bursts = int((np.diff(gone.astype(np.int8), prepend=0) == 1).sum())
    ratio = max(float(gone.sum()) / bursts * (1 - share), 1.0) if bursts else 1.0
    percent = share * 100
    loss = IE + (95 - IE) * percent / (percent / ratio + BPL)
    delay = delay_ns / 1e6 + CODEC_MS
    late = 0.0
    if delay > 100:
        x = math.log2(delay / 100)
        late = 25 * ((1 + x**6) ** (1 / 6) - 3 * (1 + (x / 3) ** 6) ** (1 / 6) + 2)
    return 93.2 - late - loss


def rated(sent: Times, came: Times, within: list[Marks]) -> list[float]:
    """Return R of each window of a direction; the buffer is the direction's."""
    if not (came >= 0).any():
        return [0.0] * len(within)
    buffer = playout(sent, came)
    gone = (came < 0) | (came - sent > buffer)
    return [rating(buffer, gone[window]) for window in within]


def delay_of(sent: Times, came: Times) -> float:
    """Return the mean one-way delay, ns; 0 where nothing came."""
    there = came >= 0
    return float((came - sent)[there].mean()) if there.any() else 0.0


def degraded(ways: list[Direction], voice: bool) -> str:
    """Return why the call is degraded, "" where it is not."""
    for way in ways:
        if (way.came < 0).mean() > LOST:
            return f"{(way.came < 0).mean():.1%} of a direction's media did not arrive"
        if delay_of(way.sent, way.came) > LATE_NS >= delay_of(way.base_sent, way.base):
            return "the mean delay of a direction grew above 400 ms"
        everything = [np.ones(len(way.came), np.bool_)]
        before = rated(way.base_sent, way.base, everything)[0]
        after = rated(way.sent, way.came, everything)[0]
        enough = min((way.came >= 0).sum(), (way.base >= 0).sum()) >= FEWEST_RATED
        if voice and enough and before - after >= FALL:
            return f"R fell from {before:.1f} to {after:.1f}"
    return ""


def worth_having(ways: list[Direction]) -> bool:
    """Say whether fewer than half of each direction's good windows fell below the floor."""
    for way in ways:
        index = way.media_time // STRETCH
        within = [index == i for i in np.unique(index)]
        within = [window for window in within if window.sum() >= FEWEST_OF_WINDOW]
        before = rated(way.base_sent, way.base, within)
        after = rated(way.sent, way.came, within)
        good = [now for was, now in zip(before, after, strict=True) if was >= FLOOR]
        if good and sum(now < FLOOR for now in good) * 2 >= len(good):
            return False
    return True


# The verdict, in the order of docs/howto/replay.md.


def judge(trace: Path, control: Path, call: dict[str, Any]) -> Judged:
    """Return the verdict of one call from the packets of its replay and of its control."""
    case = case_of(read(trace), read(control), call)
    for rule in (invalid, signalling_blocked, setup_blocked, fallback):
        if (found := rule(case, call)) is not None:
            return found
    ways = directions(case, case.media)
    return by_media(ways, case.voice) if ways else without_media(case)


def case_of(now: Trace, control: Trace, call: dict[str, Any]) -> Case:
    """Return the call in its two replays."""
    held = segments(now, control)
    named = {n for role in ("signalling", "setup", "media", "control") for n in call.get(role, ())}
    flows = members(held, named | {way["flow"] for way in call.get("alternative", ())})
    numbers = set().union(*flows.values()) if flows else set()
    viber = call["app"] == "viber"
    media = {
        n
        for n in frames(flows, call, "media")
        if held[n].protocol in (TCP, UDP) and is_media(held[n].payload, held[n].size, viber)
    }
    return Case(
        Replay(control, replay_of(numbers, held, control, control)),
        Replay(now, replay_of(numbers, held, control, now)),
        flows,
        media,
        call.get("kind") == "audio",
    )


def frames(flows: dict[int, set[int]], call: dict[str, Any], *roles: str) -> set[int]:
    """Return the frames of the call's flows of some roles."""
    return {n for role in roles for flow in call.get(role, ()) for n in flows[flow]}


def blocked(verdict: str, reason: str) -> Judged:
    """Return a verdict of no call at all."""
    return Judged(verdict, True, False, reason)


def invalid(case: Case, call: dict[str, Any]) -> Judged | None:
    """Rule 1."""
    ours = frames(case.flows, call, "signalling", "setup", "media", "control")
    if any(arrival(case.control.trace, n) >= 0 for n in ours):
        return None
    return Judged("INVALID", False, None, "no packet of the call arrives in the control")


def signalling_blocked(case: Case, call: dict[str, Any]) -> Judged | None:
    """Rule 3."""
    base, now = case.control.trace, case.now.trace
    if any(n in now for n in frames(case.flows, call, "setup", "media", "control")):
        return None
    lost = [
        n
        for n in frames(case.flows, call, "signalling")
        if arrival(base, n) >= 0 and arrival(now, n) < 0
    ]
    if not lost:
        return None
    reason = f"nothing of the call was sent, and frame {min(lost)} of its signalling is lost"
    return blocked("SIGNALLING_BLOCKED", reason)


def setup_blocked(case: Case, call: dict[str, Any]) -> Judged | None:
    """Rule 4."""
    base, now = case.control, case.now
    pairs = [pair for gate in call.get("gate", ()) for pair in gate.get("pairs", ())]
    replies = {pair[1] for pair in pairs}
    if not replies:
        ours = frames(case.flows, call, "setup")
        replies = {n for n in ours if n in base.trace and base.trace[n].side == 1}
    media = [n for n in case.media if base.came[n] >= 0]
    heard = sum(now.came[n] >= 0 for n in media)
    came = any(arrival(base.trace, n) >= 0 for n in replies)
    if not came or any(arrival(now.trace, n) >= 0 for n in replies):
        return None
    if heard > FEW * len(media):
        return None
    return blocked("SETUP_BLOCKED", f"no set-up reply arrives, and {heard} of {len(media)} media")


class Way(NamedTuple):
    """One way for the media of a call; held: its media in the control; worked: None for neither."""

    media: set[int]
    held: int
    worked: bool | None


def way_of(case: Case, flow: int) -> Way:
    """Return whether one alternative worked."""
    media = case.media & case.flows[flow]
    both = directions(case, media)
    held = sum(len(each.numbers) for each in both)
    if held < FEWEST_OF_WAY:
        return Way(media, held, None)
    return Way(media, held, not any(dead(each) or falls_silent(each) for each in both))


def fallback(case: Case, call: dict[str, Any]) -> Judged | None:
    """Rule 5."""
    ways = [way_of(case, each["flow"]) for each in call.get("alternative", ())]
    failed = [i for i, way in enumerate(ways) if way.worked is False]
    worked = [i for i, way in enumerate(ways) if way.worked]
    if not failed or not worked:
        return None
    if max(worked) > min(failed) and carried(case, [ways[i] for i in worked]):
        heard = directions(case, set().union(*(ways[i].media for i in worked)))
        return Judged("FALLBACK", False, worth_having(heard), "a better way failed, a worse worked")
    best = ways[worked[0]]
    if max(failed) > worked[0] and best.held >= sum(ways[i].held for i in failed):
        return by_quality(directions(case, best.media), case.voice)
    return None


def carried(case: Case, worked: list[Way]) -> bool:
    """Say whether the media of the ways that worked leave no silence in those of the call."""
    good = set().union(*(way.media for way in worked))
    for way in directions(case, case.media):
        there = np.array([n in good for n in way.numbers]) & (way.came >= 0)
        if silence(way.media_time, there):
            return False
    return True


def by_media(ways: list[Direction], voice: bool) -> Judged:
    """Rules 6 to 10."""
    mute = [dead(way) for way in ways]
    cut = any(falls_silent(way) for way, silent in zip(ways, mute, strict=True) if not silent)
    if all(mute):
        return blocked("CONNECTED_NO_MEDIA", "every direction is silent from its beginning")
    if cut:
        return blocked("CUT", "a direction falls silent")
    if any(mute):
        return blocked("ONE_WAY", "one direction is silent from its beginning")
    return by_quality(ways, voice)


def by_quality(ways: list[Direction], voice: bool) -> Judged:
    """Rules 9 and 10."""
    reason = degraded(ways, voice)
    verdict = "DEGRADED" if reason else "OK"
    return Judged(verdict, False, worth_having(ways), reason or "media arrive as in the control")


def without_media(case: Case) -> Judged:
    """Return the verdict of a call whose recording holds no media."""
    ways = directions(case, set().union(*case.flows.values()))
    if not any((way.came >= 0).any() for way in ways):
        return blocked("SETUP_BLOCKED", "none of the call's packets arrive")
    if any(falls_silent(way) for way in ways if not dead(way)):
        return blocked("CUT", "a direction of the call's packets falls silent")
    return Judged("OK", False, True, "the call's packets arrive; its recording holds no media")
