# SPDX-License-Identifier: BSD-3-Clause
"""Virtual time: a capture's script, an access network and a policy in one event loop.

A packet leaves its sender at its scripted time, once the events that it waits for have happened. It
enters the access network, meets the middlebox, and arrives or does not; an arrival releases other
packets. Events are a binary heap keyed (time, kind, packet), so equal inputs give equal bytes, on
any machine and in any order of runs. The loop needs no root, no wall clock and no random generator:
chances come from hashes of names. Every sending of a packet is a row of its own
(testbed.replay.endpoints.ATTEMPT) and meets the rules separately.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from midcall.captures.jit.kernel import I, kernel
from midcall.captures.jit.reads import Octets
from midcall.captures.packets.pcap import Packets
from midcall.captures.truth.calls import Call
from midcall.captures.truth.labels import Label
from midcall.classifier.engine import Engine, Tables, step
from midcall.classifier.state.flow_table import Records
from midcall.classifier.state.packet_fields import SIGN_IP_SIZE, SIGN_PAYLOAD_AT, SIGN_PAYLOAD_END
from midcall.errors import TestbedError
from midcall.testbed.middlebox.censor import complaint
from midcall.testbed.middlebox.decide import (
    DELIVERED,
    DROPPED,
    FATES,
    FORGED,
    LOST,
    TOO_BIG,
    decide,
    sees,
)
from midcall.testbed.middlebox.inject import LETTER, METER_LETTERS, METER_OCTETS, SYN_REFUSED
from midcall.testbed.middlebox.media import media_at
from midcall.testbed.middlebox.rule_table import (
    METER_CULPRIT,
    METER_FAILED,
    UP,
    RuleTable,
    name_hash,
    table,
)
from midcall.testbed.network import access as networks
from midcall.testbed.network.access import CLAMPED, FRAGMENTED, TOO_LARGE
from midcall.testbed.network.jitter import running_jitter
from midcall.testbed.network.link import STATE, access_links, admit, no_links
from midcall.testbed.policy.operator import EMPTY, Policy
from midcall.testbed.replay.addressing import Mapped, mapped
from midcall.testbed.replay.endpoints import (
    ARRIVE,
    ATTEMPT,
    BOX,
    COUNTS,
    NUMBER_BITS,
    NUMBERS,
    RESENT,
    SEND,
    STALLED,
    TO_CALLER,
    TO_FAR,
    WAITED,
    Ends,
    Orders,
    arrays,
    arrived,
    begin,
    count_stalled,
    event,
    first_events,
    first_sending,
    fresh,
    headroom,
    leg,
    next_interval,
    postponed,
    sends_again,
    sift_down,
    sift_up,
    suffer,
)
from midcall.testbed.replay.openings import Opening, through
from midcall.testbed.replay.packet_index import PacketIndex, index_packets
from midcall.testbed.replay.script import LEG, NEVER, Script, script, timed
from midcall.testbed.replay.sides import CALLER, FAR, LOCAL

Numbers = NDArray[np.int64]

#: Fate of a packet over all of its sendings: that of its first arrival, or else its last sending.
FATE = np.dtype(
    [
        ("sent", "?"),
        ("fate", "u1"),  # of testbed.middlebox.FATES
        ("rule", "i2"),  # that decided, -1 none
        ("attempts", "i2"),  # sendings
        ("left", "i8"),  # ns; when it was first sent, -1 never
        ("box_time", "i8"),  # ns; when it met the box, -1 never
        ("arrival_time", "i8"),  # ns; -1 never
        ("used_time", "i8"),  # ns; when its receiver could use it: TCP bytes come in order; -1
        ("letters", "i8"),  # frames that the box injected in answer to it, over all sendings
        ("struck", "?"),  # the box dropped a sending of it, or answered one itself
        ("struck_rule", "i2"),  # rule of the first such sending, -1
        ("struck_time", "i8"),  # ns; when that one met the box, -1
    ]
)

#: Delay and loss of the access network: as captured, or those of testbed.link.PRESETS as well.
CAPTURED, PRESET = "captured", "preset"
LINK_MODES = (CAPTURED, PRESET)


@dataclass(frozen=True, eq=False)
class Simulation:
    """The fate of every packet of a capture.

    fates: FATE[n]; flow: int64[n], the flow each packet had at the box (-1: never met it); flows:
    FLOW[m], as the box's classifier left them; rules: names; met: int64[rules], packets that met
    each rule's match; opened: int64, per latch of the script, ns or -1; counters: by name;
    letters: LETTER[k] of testbed.middlebox.inject, the frames that the box forged; their
    octets are in mail.
    held_up: bool[n], which packets a third party's box delayed; None where the box is the lab's,
    whose rules are known. attempts: ATTEMPT[k], every sending in the order of leaving.
    """

    fates: NDArray[np.void]
    flow: Numbers
    flows: Records
    rules: tuple[str, ...]
    met: Numbers
    opened: Numbers
    counters: dict[str, int]
    script: Script
    policy: Policy
    access: str
    calls: tuple[Call, ...]
    seed: int
    link: str = CAPTURED
    letters: Records = field(default_factory=lambda: np.zeros(0, LETTER), repr=False)
    mail: Octets = field(default_factory=lambda: np.zeros(0, np.uint8), repr=False)
    others: dict[str, Simulation] = field(default_factory=dict, repr=False)
    dressed: Packets | None = field(default=None, repr=False)
    lab: Mapped | None = field(default=None, repr=False)
    openings: tuple[Opening, ...] = ()
    held_up: NDArray[np.bool_] | None = field(default=None, repr=False)
    attempts: Records = field(default_factory=lambda: np.zeros(0, ATTEMPT), repr=False)
    until: int | None = None

    def under(self, model: str) -> Simulation:
        """Return the same simulation under another timer model (cached for the next call)."""
        if model == self.script.model:
            return self
        if model not in self.others:
            packets = self.script.held.packets
            self.others[model] = simulate(
                packets, self.calls, (), self.policy, self.access, self.seed, model, self.link,
                dressed=self.dressed, lab=self.lab, openings=self.openings, until=self.until,
            )  # fmt: skip
        return self.others[model]

    @property
    def delivered(self) -> NDArray[np.bool_]:
        """Return which packets arrived."""
        return np.asarray(self.fates["arrival_time"] >= 0)

    @property
    def struck(self) -> NDArray[np.bool_]:
        """Return which packets the box dropped, or answered itself, in one sending at least."""
        return np.asarray(self.fates["struck"])

    @property
    def slowed(self) -> NDArray[np.bool_]:
        """Return which packets a rule acted on but let through (delayed, for example)."""
        if self.held_up is not None:
            return self.held_up
        acts = np.array([rule.act != "pass" for rule in self.policy.rules] or [False])
        rule = np.maximum(self.fates["rule"], 0)
        ruled = (self.fates["fate"] == DELIVERED) & (self.fates["rule"] >= 0)
        return np.asarray(ruled & acts[rule])

    @property
    def usable(self) -> Numbers:
        """Return when each packet's receiver could use it, int64[n] ns; -1 never."""
        return np.asarray(self.fates["used_time"])

    @property
    def one_way(self) -> Numbers:
        """Return the one-way delay of each packet, int64[n] ns; undefined where it did not arrive.

        From the box's record: the time from the sender to the box is that of the script.
        """
        base, caller = self.script.base, self.script.side == CALLER
        leg = np.where(caller, base // LEG, base - base // LEG)
        return np.asarray(self.fates["arrival_time"] - self.fates["box_time"] + leg)


def simulate(
    packets: Packets,
    calls: Sequence[Call],
    labels: Sequence[Label],
    policy: Policy | None,
    access: str,
    seed: int,
    model: str = "pairwise",
    link: str = CAPTURED,
    addressing: str = "map",
    dressed: Packets | None = None,
    lab: Mapped | None = None,
    openings: tuple[Opening, ...] = (),
    until: int | None = None,
) -> Simulation:
    """Replay one capture through one operator's box; `policy` None is the empty policy.

    labels are not used here: the box never sees the truth (the caller needs them for scoring).
    seed: of the enforcement draws and the flow table; model: of testbed.replay.script; link:
    CAPTURED leaves delay and loss as the capture has them, PRESET adds those of the access network;
    addressing: of testbed.replay.addressing; dressed: the same packets as rewritten on the wire
    (same count and order, see testbed.evasion.rewriter), while both ends behave as in the capture;
    lab: the packets as mapped together with other captures, None to map this one alone; openings:
    of the tunnels among them (testbed.evasion.tunnel); until: ns after the last planned packet,
    after which nothing is sent again (a live run waits in real time), None for no end. Raises
    TestbedError for an unknown access network, model, link or addressing, or where dressed packets
    are not as many.
    """
    del labels
    policy = policy or EMPTY
    orders = through(script(packets, calls, model), openings)
    wire_index = orders.held if dressed is None else outfit(packets, dressed)
    network = networks.link(access)
    mapped_packets = lab or mapped(wire_index, addressing)
    frames, fits = link_frames(network, mapped_packets, wire_index.facts, orders.side)
    links = links_of(link, access, seed)
    box = table(mapped_packets.policy(policy), seed, access)
    engine = engine_for(orders.held)
    shifted = orders if dressed is None else retimed(orders, dressed.time - packets.time)
    planned = int(shifted.send.max(initial=0))
    last = NEVER if until is None else planned + until
    board = new_board(engine, box, policy.fail == "closed", links, frames, fits, shifted, last)
    board, rows = play_to_end(board, shifted)
    if box.meter[METER_FAILED] > 0:
        raise TestbedError(failure(policy, box, frames.data, engine.signs))
    attempts = board.attempts[:rows].copy()
    fates = summary(attempts, board.ends.used)
    count_waiting(board, shifted, attempts)
    return Simulation(
        fates,
        flow_numbers(attempts, len(fates)),
        engine.flows(),
        tuple(rule.name for rule in policy.rules),
        box.met,
        board.ends.opened,
        counters_of(fates, fits, board.counts, engine),
        orders,
        policy,
        access,
        tuple(calls),
        seed,
        link,
        box.letters[: box.meter[METER_LETTERS]],
        box.mail[: box.meter[METER_OCTETS]],
        dressed=dressed,
        lab=lab,
        openings=openings,
        attempts=attempts,
        until=until,
    )


def links_of(link: str, access: str, seed: int) -> Records:
    """Return LINK[2], the line up and down; raises TestbedError for an unknown mode or access."""
    if link not in LINK_MODES:
        raise TestbedError(f"link: got {link!r}, expected one of {', '.join(LINK_MODES)}")
    return access_links(access, seed) if link == PRESET else no_links()


def engine_for(index: PacketIndex) -> Engine:
    """Return an engine with room for the flows and the packets of a capture."""
    engine = Engine(room=max(64, min(len(index.flows) + 64, 1 << 16)))
    engine.reserve(index.packets.total)
    return engine


def count_waiting(board: Board, script: Script, attempts: Records) -> None:
    """Count the packets that never left, and those of stalled TCP streams, in board.counts."""
    ends = board.ends
    board.counts[WAITED] = np.count_nonzero(ends.left < 0)
    board.counts[STALLED] = count_stalled(script.streams, attempts, ends.used, ends.reached)


def summary(attempts: Records, used: Numbers) -> Records:
    """Return FATE[n], the fate of each packet over all of its sendings.

    attempts: ATTEMPT[k], in the order of leaving; used: int64[n], when each packet's receiver could
    use it, ns, -1 never.
    """
    count = len(used)
    fates = np.zeros(count, FATE)
    for name in ("rule", "left", "box_time", "arrival_time", "struck_rule", "struck_time"):
        fates[name] = -1
    packet = attempts["packet"]
    fates["used_time"] = used
    fates["attempts"] = np.bincount(packet, minlength=count)
    fates["sent"] = fates["attempts"] > 0
    np.add.at(fates["letters"], packet, attempts["letters"])
    # The last row written for a packet counts: sendings in turn, and then the first arrival.
    order = np.arange(len(attempts))
    came = np.flatnonzero(attempts["arrived"] >= 0)
    first_came = came[np.lexsort((came, attempts["arrived"][came]))][::-1]
    for rows in (order, first_came):
        for name, source in (("fate", "fate"), ("rule", "rule"), ("box_time", "box"),
                             ("arrival_time", "arrived")):  # fmt: skip
            fates[name][packet[rows]] = attempts[source][rows]
    fates["left"][packet[::-1]] = attempts["sent"][::-1]
    fate = attempts["fate"]
    answered = (attempts["letters"] > 0) & (attempts["forged"] <= SYN_REFUSED)
    hit = np.flatnonzero((fate == DROPPED) | (fate == FORGED) | answered)[::-1]
    fates["struck"][packet[hit]] = True
    fates["struck_rule"][packet[hit]] = attempts["rule"][hit]
    fates["struck_time"][packet[hit]] = attempts["box"][hit]
    return fates


def flow_numbers(attempts: Records, count: int) -> Numbers:
    """Return the flow that each packet had at the box, int64[count], -1 where it never met it."""
    flow = np.full(count, -1, np.int64)
    met = attempts["box"] >= 0
    flow[attempts["packet"][met]] = attempts["flow"][met]
    return flow


def link_frames(
    network: networks.Link, mapped_packets: Mapped, facts: Records, side: Numbers
) -> tuple[Frames, Octets]:
    """Return packets as frames of an access network, and whether each fits (network.access)."""
    up = (side == CALLER).astype(np.int64)
    wrapped = networks.wrap(
        network,
        mapped_packets.data,
        mapped_packets.ip_at,
        mapped_packets.ip_end,
        mapped_packets.size,
        up,
    )
    fits = networks.fit(
        network, mapped_packets.size, facts["proto"], facts["version"], facts["whole"] == 1
    )
    return Frames(wrapped.data, wrapped.offset, wrapped.captured, wrapped.wire), fits


_rewritten_index: tuple[Packets, PacketIndex] | None = None


def outfit(packets: Packets, dressed: Packets) -> PacketIndex:
    """Return the index of rewritten packets; raises TestbedError where their number differs.

    The last one is cached, since many boxes see the same rewritten packets.
    """
    global _rewritten_index  # noqa: PLW0603 - a cache of one
    if dressed.total != packets.total:
        raise TestbedError(
            f"dressed packets: got {dressed.total}, expected {packets.total}, one for each packet "
            "of the capture"
        )
    if _rewritten_index is None or _rewritten_index[0] is not dressed:
        _rewritten_index = dressed, index_packets(dressed)
    return _rewritten_index[1]


def retimed(orders: Script, shift: Numbers) -> Script:
    """Return a script whose packets leave `shift` ns later (int64[n]), with the pauses of that."""
    return timed(orders._replace(send=orders.send + shift)) if shift.any() else orders


def failure(policy: Policy, box: RuleTable, data: Octets, signs: Numbers) -> str:
    """Return a sentence that names the censor that failed, the line, and the packet.

    signs: as the engine left them at that packet, whose frame is in `data`.
    """
    rule = policy.rules[int(box.meter[METER_CULPRIT])]
    at, end = int(signs[SIGN_PAYLOAD_AT]), int(signs[SIGN_PAYLOAD_END])
    why = complaint(rule.file, data[at : max(at, end)].tobytes(), box.facts)
    packet = (int(box.meter[METER_FAILED]) - 1) & 0xFFFFFFFF
    return f"{why} (rule {rule.name}, packet {packet + 1})"


def counters_of(
    fates: NDArray[np.void], fits: NDArray[np.uint8], counts: Numbers, engine: Engine
) -> dict[str, int]:
    """Return the counters of a run by name."""
    met = fates["box_time"] >= 0
    counters = {
        name.replace(" ", "_"): int((fates["fate"] == i).sum()) for i, name in enumerate(FATES)
    }
    counters |= {name: int(n) for name, n in zip(COUNTS, counts, strict=True)}
    counters["clamped"] = int((met & (fits == CLAMPED)).sum())
    counters["fragmented"] = int((met & (fits == FRAGMENTED)).sum())
    return counters | {f"box_{name}": n for name, n in engine.counters.items()}


def warm_up() -> None:
    """Compile (or load) every kernel of the testbed; call this under captures' compile_lock."""
    empty = np.zeros(0, np.int64)
    nothing = Packets(np.zeros(64, np.uint8), empty, empty, empty, empty, empty)
    simulate(nothing, [], [], None, "fibre", 0)
    media_at(nothing.data, 0, 20, 0)
    name_hash(nothing.data, 1)
    running_jitter(empty, empty)


# ---- the event loop


class Frames(NamedTuple):
    """The frames that the box sees."""

    data: Octets
    offset: Numbers  # [n]
    captured: Numbers  # [n]
    wire: Numbers  # [n]


# Slots of a board's state: events on the heap, rows of attempts, whether the loop has begun, and
# the latest time at which a packet is sent again.
SIZE, ROWS, STARTED, UNTIL = range(4)
STATES = 4


class Board(NamedTuple):
    """The arrays of one event loop: the box, both ends, and the attempts."""

    tables: Tables
    signs: Numbers
    box: RuleTable
    closed: bool  # whether the box drops what it cannot read
    links: Records  # LINK[2], the access network's link up and down, behind the box
    link_states: Records  # STATE[2], the links' state
    frames: Frames
    fits: Octets  # [n], of testbed.access
    orders: Orders
    ends: Ends
    attempts: Records  # ATTEMPT[...]
    heap: Numbers  # [..., 2], events
    state: Numbers  # [STATES]
    counts: Numbers  # [COUNTS]


def new_board(
    engine: Engine,
    box: RuleTable,
    closed: bool,
    links: Records,
    frames: Frames,
    fits: Octets,
    script: Script,
    last: int,
) -> Board:
    """Return the board of a loop that has not begun; last: ns, see `simulate`'s until."""
    count = len(fits)
    state = np.zeros(STATES, np.int64)
    state[UNTIL] = last
    return Board(
        engine.tables,
        engine.signs,
        box,
        closed,
        links,
        np.zeros(2, STATE),
        frames,
        fits,
        arrays(script),
        fresh(script),
        np.zeros(count + count // 8 + 256, ATTEMPT),
        np.zeros((first_events(script) + 2 * headroom(script), 2), np.int64),
        state,
        np.zeros(len(COUNTS), np.int64),
    )


def play_to_end(board: Board, script: Script) -> tuple[Board, int]:
    """Process all events of a board; returns it (grown if it had no room), and its attempts."""
    room = headroom(script)
    while not play(board, room):
        board = board._replace(attempts=doubled(board.attempts), heap=doubled(board.heap))
    return board, int(board.state[ROWS])


def doubled(rows: NDArray[Any]) -> NDArray[Any]:
    """Return an array of twice the length, the second half zeros."""
    return np.concatenate((rows, np.zeros_like(rows)))


@kernel
def play(board: Board, room: int) -> bool:
    """Process events in order of time, until none is left or a censor of the box failed.

    room: events that one event may add. False: the heap or the attempts need more room.
    """
    orders, ends, heap, state = board.orders, board.ends, board.heap, board.state
    if state[STARTED] == 0:
        state[STARTED] = 1
        state[SIZE] = begin(orders, ends, heap)
    while state[SIZE] > 0 and board.box.meter[METER_FAILED] == 0:
        if state[SIZE] + room > len(heap) or state[ROWS] + 2 > len(board.attempts):
            return False
        time, code = heap[0, 0], heap[0, 1]
        size = sift_down(heap, state[SIZE])
        kind, number = code >> NUMBER_BITS, code & NUMBERS
        if kind == SEND:
            size = leave(number, time, board, size)
        elif kind == BOX:
            size = meet(number, time, board, size)
        elif kind == ARRIVE:
            size = reach(number, time, board, size)
        else:
            i = board.attempts[number]["packet"]
            end = I(FAR if kind == TO_FAR else CALLER)
            suffer(I(board.attempts[number]["forged"]), 2 * orders.flow[i] + end, i, ends)
        state[SIZE] = size
    return True


@kernel
def leave(i: int, time: int, board: Board, size: int) -> int:
    """Send packet i for the first time or again, unless something forbids it.

    Returns the heap's size.
    """
    orders, ends, heap = board.orders, board.ends, board.heap
    if ends.left[i] < 0:
        sent, size = first_sending(i, time, orders, ends, board.counts, heap, size)
        if not sent:
            return size
    elif not sends_again(i, time, orders, ends) or postponed(i, orders, ends):
        return size
    else:
        board.counts[RESENT] += 1
    ends.sendings[i] += 1
    row = I(board.state[ROWS])
    board.state[ROWS] += 1
    attempt = board.attempts[row]
    attempt["packet"], attempt["number"], attempt["sent"] = i, ends.sendings[i], time
    attempt["rule"] = attempt["box"] = attempt["arrived"] = attempt["flow"] = -1
    if orders.side[i] == LOCAL:
        attempt["fate"], attempt["arrived"] = DELIVERED, time
        return size
    if board.fits[i] == TOO_LARGE:
        attempt["fate"] = TOO_BIG
        return size
    if orders.laws[orders.law[i], 3] == 1:  # an answer may still come
        size = again(i, time, board, size)
    sender_leg = leg(orders.base[i], orders.side[i] == CALLER)
    return sift_up(heap, size, time + sender_leg, event(BOX, row))


@kernel
def again(i: int, time: int, board: Board, size: int) -> int:
    """Start packet i's timer at its sending; returns the heap's size."""
    wait = next_interval(i, board.orders, board.ends)
    if wait < 0 or time + wait > board.state[UNTIL]:
        return size
    return sift_up(board.heap, size, time + wait, event(SEND, i))


@kernel
def meet(row: int, time: int, board: Board, size: int) -> int:
    """Pass a sending through the box and the access network; returns the heap's size."""
    t, frames, orders, box = board.tables, board.frames, board.orders, board.box
    heap, attempt = board.heap, board.attempts[row]
    i = I(attempt["packet"])
    number, side = I(-1), orders.side[i]
    seen = sees(box, side)
    if seen:
        number = step(
            t,
            frames.data,
            frames.offset[i],
            frames.offset[i] + frames.captured[i],
            frames.wire[i],
            time,
            1,
            i,
            board.signs,
        )
    attempt["box"], attempt["flow"] = time, number
    posted = box.meter[METER_LETTERS]
    copy = i + (I(attempt["number"] - 1) << 32)  # each copy has its own chances
    lost = board.closed and seen and number < 0
    outcome, rule, out = I(DROPPED if lost else DELIVERED), I(-1), time
    if number >= 0:
        outcome, rule, out = decide(
            box, t.flows[number], side, frames.data, board.signs, time, copy
        )
    if outcome == DELIVERED:
        octets = board.signs[SIGN_IP_SIZE] if number >= 0 else frames.wire[i]
        late = admit(board.links[side], board.link_states[side], octets, time, copy)
        out += late - time
        outcome = I(DELIVERED if late >= 0 else LOST)
    attempt["fate"], attempt["rule"] = outcome, rule
    if box.meter[METER_FAILED] > 0:
        return size
    attempt["letters"] = box.meter[METER_LETTERS] - posted
    for place in range(posted, box.meter[METER_LETTERS]):
        box.letters[place]["packet"] = i  # not `copy`
        to_remote = box.letters[place]["toward"] == UP
        attempt["forged"] = box.letters[place]["kind"]
        word = event(TO_FAR if to_remote else TO_CALLER, row)
        size = sift_up(heap, size, time + leg(orders.base[i], not to_remote), word)
    if outcome == DELIVERED:
        rest = leg(orders.base[i], side != CALLER)
        return sift_up(heap, size, out + rest, event(ARRIVE, row))
    if orders.laws[orders.law[i], 3] == 0:
        size = again(i, I(attempt["sent"]), board, size)
    return size


@kernel
def reach(row: int, time: int, board: Board, size: int) -> int:
    """Process a sending at its receiver; returns the heap's size."""
    board.attempts[row]["arrived"] = time
    return arrived(
        I(board.attempts[row]["packet"]), time, board.orders, board.ends, board.heap, size
    )
