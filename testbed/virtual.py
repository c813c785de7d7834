# SPDX-License-Identifier: BSD-3-Clause
"""Virtual time: a capture's script, an access network and a policy, played in one event loop.

A packet leaves its sender when its script says and what it waits for has come, enters the access
network, meets the middlebox, and arrives or does not; what arrived lets others leave. Events are a
binary heap keyed (time, kind, packet), so equal inputs give equal bytes, on any machine and in any
order of runs. No root, no wall clock, no drawn number: chances come from hashes of names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from captures.calls import Call
from captures.compiled import I, kernel
from captures.labels import Label
from captures.octets import Octets
from captures.pcap import Packets
from classifier.engine import Engine, Tables, step
from classifier.flow import Records
from classifier.signs import SIGN_IP_SIZE, SIGN_PAYLOAD_AT, SIGN_PAYLOAD_END
from testbed import access as networks
from testbed.access import CLAMPED, FRAGMENTED, TOO_LARGE
from testbed.addressing import Mapped, mapped
from testbed.censor import complaint
from testbed.endpoints import (
    ARRIVE,
    BOX,
    COUNTS,
    KILLED,
    LATCHED,
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
    event,
    fresh,
    leg,
    refused,
    sift_down,
    sift_up,
    stalled,
    suffer,
    waited,
)
from testbed.errors import TestbedError
from testbed.forge import LETTER, METER_LETTERS, METER_OCTETS
from testbed.link import STATE, access_links, admit, no_links
from testbed.media import media_at
from testbed.middlebox import (
    DELIVERED,
    DROPPED,
    FATES,
    FORGED,
    LOST,
    TOO_BIG,
    decide,
)
from testbed.patience import patience
from testbed.places import CALLER, FAR, LOCAL
from testbed.policy import EMPTY, Policy
from testbed.quality import running_jitter
from testbed.replay import LEG, Script, script
from testbed.rules import (
    CENSOR,
    DELAY,
    METER_CULPRIT,
    METER_FAILED,
    UP,
    RuleTable,
    name_hash,
    table,
)
from testbed.survey import Survey, survey
from testbed.tunnel import Opening, through

Numbers = NDArray[np.int64]

FATE = np.dtype(
    [
        ("sent", "?"),
        ("fate", "u1"),  # of testbed.middlebox.FATES
        ("rule", "i2"),  # that decided, -1 none
        ("box_time", "i8"),  # ns; when it met the box, -1 never
        ("arrival_time", "i8"),  # ns; -1 never
        ("letters", "i8"),  # frames that the box forged in answer to it
    ]
)

#: How often what a link lost is sent again by who waits for an answer, each time after twice as
#: long (testbed.patience says after how long at first). What a rule drops is not sent again: every
#: copy would meet the same rule.
RESENDS = 6

#: How long an end goes on waiting for what lets it set a call up, in ns, and how often: 5 s in all.
#: Voice and video do not wait: what was due before its gate opened is not sent later.
POLL, POLLS = 100_000_000, 50

#: Delay and loss of the access network: as captured, or those of testbed.link.PRESETS as well.
CAPTURED, PRESET = "captured", "preset"
LINK_MODES = (CAPTURED, PRESET)


@dataclass(frozen=True, eq=False)
class Simulation:
    """What became of every packet of a capture.

    fates: FATE[n]; flow: int64[n], the flow each packet had at the box (-1: never met it); flows:
    FLOW[m], as the box's classifier knew them; rules: names; met: int64[rules], packets that met
    each rule's match; opened: int64, per latch of the script, ns or -1; counters: by name;
    letters: LETTER[k] of testbed.forge, the frames that the box forged, which stand in mail.
    held_up: bool[n], which packets somebody else's box let through late; None where the box is the
    lab's, whose rules are known.
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

    def under(self, model: str) -> Simulation:
        """Return the same simulation under another timer model (kept for the next question)."""
        if model == self.script.model:
            return self
        if model not in self.others:
            packets = self.script.held.packets
            self.others[model] = simulate(
                packets, self.calls, (), self.policy, self.access, self.seed, model, self.link,
                dressed=self.dressed, lab=self.lab, openings=self.openings,
            )  # fmt: skip
        return self.others[model]

    @property
    def delivered(self) -> NDArray[np.bool_]:
        """Return which packets arrived."""
        return np.asarray(self.fates["arrival_time"] >= 0)

    @property
    def struck(self) -> NDArray[np.bool_]:
        """Return which packets the box dropped, or answered itself."""
        fate = self.fates["fate"]
        return np.asarray((fate == DROPPED) | (fate == FORGED) | (self.fates["letters"] > 0))

    @property
    def slowed(self) -> NDArray[np.bool_]:
        """Return which packets a rule had its hand in and let through: delayed, for one."""
        if self.held_up is not None:
            return self.held_up
        acts = np.array([rule.act != "pass" for rule in self.policy.rules] or [False])
        rule = np.maximum(self.fates["rule"], 0)
        ruled = (self.fates["fate"] == DELIVERED) & (self.fates["rule"] >= 0)
        return np.asarray(ruled & acts[rule])

    @property
    def one_way(self) -> Numbers:
        """Return how long each packet was on its way, in ns; of no meaning where it did not come.

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
) -> Simulation:
    """Play one capture through one operator's box; `policy` None is the empty policy.

    labels are not used here: the box is never told the truth (they are the caller's, for scoring).
    seed: of the enforcement draws and the flow table; model: of testbed.replay; link: CAPTURED
    leaves delay and loss as the capture has them, PRESET adds those of the access network;
    addressing: of testbed.addressing; dressed: the same packets as they look on the wire (same
    count and order, see testbed.dress), while both ends understand each other as in the capture;
    lab: the packets with the addresses that they have beside other captures, mapped anew if None;
    openings: of the tunnels among them (testbed.tunnel).
    Raises TestbedError for an unknown access network, model, link or addressing, or where
    dressed packets are not as many.
    """
    del labels
    policy = policy or EMPTY
    orders = through(script(packets, calls, model), openings)
    worn = orders.held if dressed is None else outfit(packets, dressed)
    about = networks.link(access)
    own = lab or mapped(worn, addressing)
    frames, fits = carried(about, own, worn.facts, orders.side)
    if link not in LINK_MODES:
        raise TestbedError(f"link: got {link!r}, expected one of {', '.join(LINK_MODES)}")
    links = access_links(access, seed) if link == PRESET else no_links()
    box = table(own.policy(policy), seed, access)
    engine = Engine(room=max(64, min(len(orders.held.flows) + 64, 1 << 16)))
    engine.reserve(packets.total)
    moved = orders if dressed is None else retimed(orders, dressed.time - packets.time)
    board = laid(engine, box, policy.fail == "closed", links, frames, fits, moved)
    play(board)
    if box.meter[METER_FAILED] > 0:
        raise TestbedError(failure(policy, box, frames.data, engine.signs))
    names = tuple(rule.name for rule in policy.rules)
    counters = told(board.fates, fits, board.counts, engine)
    flows = engine.flows()
    return Simulation(
        board.fates,
        board.numbers,
        flows,
        names,
        box.met,
        board.ends.opened,
        counters,
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
    )


def carried(
    about: networks.Link, own: Mapped, facts: Records, side: Numbers
) -> tuple[Frames, Octets]:
    """Return packets as frames of an access network, and whether each fits (testbed.access)."""
    up = (side == CALLER).astype(np.int64)
    shown = networks.wrap(about, own.data, own.ip_at, own.ip_end, own.size, up)
    fits = networks.fit(about, own.size, facts["proto"], facts["version"], facts["whole"] == 1)
    return Frames(shown.data, shown.offset, shown.captured, shown.wire), fits


_worn: tuple[Packets, Survey] | None = None


def outfit(packets: Packets, dressed: Packets) -> Survey:
    """Return the survey of dressed packets; raises TestbedError where they are not as many.

    The last one is kept, since one outfit is shown to many boxes.
    """
    global _worn  # noqa: PLW0603 - a cache of one
    if dressed.total != packets.total:
        raise TestbedError(
            f"dressed packets: got {dressed.total}, expected {packets.total}, one for each packet "
            "of the capture"
        )
    if _worn is None or _worn[0] is not dressed:
        _worn = dressed, survey(dressed)
    return _worn[1]


def retimed(orders: Script, shift: Numbers) -> Script:
    """Return a script whose packets leave `shift` ns later (int64[n]), answers counted from what
    they answer."""
    if not shift.any():
        return orders
    gated = orders.gate >= 0
    think = orders.think + np.where(gated, shift - shift[np.where(gated, orders.gate, 0)], 0)
    return orders._replace(send=orders.send + shift, think=np.maximum(think, 0))


def failure(policy: Policy, box: RuleTable, data: Octets, signs: Numbers) -> str:
    """Return in one sentence which censor failed, where, and on which packet.

    signs: as the engine left them at that packet, whose frame stands in `data`.
    """
    rule = policy.rules[int(box.meter[METER_CULPRIT])]
    at, end = int(signs[SIGN_PAYLOAD_AT]), int(signs[SIGN_PAYLOAD_END])
    why = complaint(rule.file, data[at : max(at, end)].tobytes(), box.facts)
    packet = (int(box.meter[METER_FAILED]) - 1) & 0xFFFFFFFF
    return f"{why} (rule {rule.name}, packet {packet + 1})"


def told(
    fates: NDArray[np.void], fits: NDArray[np.uint8], counts: Numbers, engine: Engine
) -> dict[str, int]:
    """Return every counter of a run by name."""
    met = fates["box_time"] >= 0
    found = {
        name.replace(" ", "_"): int((fates["fate"] == i).sum()) for i, name in enumerate(FATES)
    }
    found |= {name: int(n) for name, n in zip(COUNTS, counts, strict=True)}
    found["clamped"] = int((met & (fits == CLAMPED)).sum())
    found["fragmented"] = int((met & (fits == FRAGMENTED)).sum())
    return found | {f"box_{name}": n for name, n in engine.counters.items()}


def warm_up() -> None:
    """Compile (or load) every kernel of the testbed: to be called under captures' compile_lock."""
    empty = np.zeros(0, np.int64)
    nothing = Packets(np.zeros(64, np.uint8), empty, empty, empty, empty, empty)
    simulate(nothing, [], [], None, "fibre", 0)
    media_at(nothing.data, 0, 20, 0)
    name_hash(nothing.data, 1)
    running_jitter(empty, empty)


# ---- the event loop


@kernel
def by_chance(box: RuleTable, fate: int, rule: int) -> bool:
    """Tell whether a packet fell to a link's, a queue's or a bucket's doing: another may pass."""
    if fate != DROPPED or rule < 0:
        return fate == LOST
    return bool(DELAY <= box.rules[rule]["act"] < CENSOR)


class Frames(NamedTuple):
    """The frames that the box sees."""

    data: Octets
    offset: Numbers  # [n]
    captured: Numbers  # [n]
    wire: Numbers  # [n]


class Board(NamedTuple):
    """Everything that a play works on: the box, both ends, and what is written down."""

    tables: Tables
    signs: Numbers
    box: RuleTable
    closed: bool  # whether the box drops what it cannot read
    links: Records  # LINK[2], the access network's up and down, which stands behind the box
    ways: Records  # STATE[2], theirs
    frames: Frames
    fits: Octets  # [n], of testbed.access
    orders: Orders
    ends: Ends
    polls: Octets  # [n], how often each end looked again whether it may send
    resends: Octets  # [n]
    dead: Octets  # [2 * flows + 2] and the next: of testbed.endpoints.suffer
    deceived: Octets  # [n]
    forged: Octets  # [n], the kind of the last frame that the box forged in answer
    fates: Records  # FATE[n]
    numbers: Numbers  # [n], each packet's flow at the box
    counts: Numbers  # [COUNTS]


def laid(
    engine: Engine,
    box: RuleTable,
    closed: bool,
    links: Records,
    frames: Frames,
    fits: Octets,
    script: Script,
) -> Board:
    """Return a board on which nothing has been played yet."""
    count, flows = len(fits), len(script.held.flows)
    fates = np.zeros(count, FATE)
    fates["rule"] = fates["box_time"] = fates["arrival_time"] = -1
    return Board(
        engine.tables,
        engine.signs,
        box,
        closed,
        links,
        np.zeros(2, STATE),
        frames,
        fits,
        arrays(script, patience(script.held)),
        fresh(script),
        np.zeros(count, np.uint8),
        np.zeros(count, np.uint8),
        np.zeros(2 * flows + 2, np.uint8),
        np.zeros(count, np.uint8),
        np.zeros(count, np.uint8),
        fates,
        np.full(count, -1, np.int64),
        np.zeros(len(COUNTS), np.int64),
    )


@kernel
def play(board: Board) -> None:
    """Play every event in order of time, until none is left or a censor of the box failed."""
    orders, ends, fates = board.orders, board.ends, board.fates
    heap, count = ends.heap, len(fates)
    size = begin(orders.send, orders.gate, heap)
    while size > 0 and board.box.meter[METER_FAILED] == 0:
        time, code = heap[0, 0], heap[0, 1]
        size = sift_down(heap, size)
        kind, i = code // count, code % count
        if kind == SEND:
            size = leave(i, time, board, size)
        elif kind == BOX:
            size = meet(i, time, board, size)
        elif kind in (TO_CALLER, TO_FAR):
            end = I(FAR if kind == TO_FAR else CALLER)
            slot = 2 * orders.flow[i] + end
            suffer(I(board.forged[i]), slot, i, board.dead, board.deceived)
        else:
            size = reach(i, time, board, size)
    streams = orders.streams
    board.counts[STALLED] = stalled(streams.stream, streams.after, ends.reached, fates)
    board.counts[WAITED] = waited(fates, board.counts)


@kernel
def leave(i: int, time: int, board: Board, size: int) -> int:
    """Have packet i leave its sender, wait, or not leave at all; returns the heap's size."""
    orders, heap, fate = board.orders, board.ends.heap, board.fates[i]
    if orders.side[i] == LOCAL:
        fate["sent"], fate["fate"], fate["arrival_time"] = True, DELIVERED, time
        return size
    if board.dead[2 * orders.flow[i] + orders.side[i]] == 1:
        board.counts[KILLED] += 0 if fate["sent"] else 1
        return size
    if not fate["sent"]:
        why = refused(i, time, orders, board.ends)
        if why == LATCHED and orders.media[i] == 0 and board.polls[i] < POLLS:
            board.polls[i] += 1
            return sift_up(heap, size, time + POLL, event(SEND, i, len(board.fates)))
        if why >= 0:
            board.counts[why] += 1
            return size
    fate["sent"] = True
    if board.fits[i] == TOO_LARGE:
        fate["fate"] = TOO_BIG
        return size
    near = leg(orders.base[i], orders.side[i] == CALLER)
    return sift_up(heap, size, time + near, event(BOX, i, len(board.fates)))


@kernel
def meet(i: int, time: int, board: Board, size: int) -> int:
    """Have packet i meet the box, and the access network behind it; returns the heap's size."""
    t, frames, orders, box = board.tables, board.frames, board.orders, board.box
    heap, count, fate = board.ends.heap, len(board.fates), board.fates[i]
    number = step(
        t.flows,
        t.slots,
        t.notes,
        t.context,
        t.hellos,
        t.fragments,
        t.spill,
        t.meter,
        t.model,
        frames.data,
        frames.offset[i],
        frames.offset[i] + frames.captured[i],
        frames.wire[i],
        time,
        1,
        i,
        board.signs,
    )
    fate["box_time"], board.numbers[i] = time, number
    posted, side, resends = box.meter[METER_LETTERS], orders.side[i], board.resends
    copy = i + (I(resends[i]) << 32)  # chances of a copy are drawn anew
    outcome, rule, out = I(DROPPED if board.closed and number < 0 else DELIVERED), I(-1), time
    if number >= 0:
        outcome, rule, out = decide(
            box, t.flows[number], side, frames.data, board.signs, time, copy
        )
    if outcome == DELIVERED:
        octets = board.signs[SIGN_IP_SIZE] if number >= 0 else frames.wire[i]
        late = admit(board.links[side], board.ways[side], octets, time, copy)
        out += late - time
        outcome = I(DELIVERED if late >= 0 else LOST)
    fate["fate"], fate["rule"] = outcome, rule
    if box.meter[METER_FAILED] > 0:
        return size
    fate["letters"] += box.meter[METER_LETTERS] - posted
    for place in range(posted, box.meter[METER_LETTERS]):
        far = box.letters[place]["toward"] == UP
        word = event(TO_FAR if far else TO_CALLER, i, count)
        board.forged[i] = box.letters[place]["kind"]
        size = sift_up(heap, size, time + leg(orders.base[i], not far), word)
    wait = orders.patience[i]
    if wait > 0 and resends[i] < RESENDS and by_chance(box, outcome, rule):
        again = time + (wait << I(resends[i]))
        resends[i] += 1
        board.counts[RESENT] += 1
        size = sift_up(heap, size, again, event(SEND, i, count))
    if outcome == DELIVERED:
        rest = leg(orders.base[i], side != CALLER)
        size = sift_up(heap, size, out + rest, event(ARRIVE, i, count))
    return size


@kernel
def reach(i: int, time: int, board: Board, size: int) -> int:
    """Take packet i at its receiver, where that still listens; returns the heap's size."""
    orders = board.orders
    board.fates[i]["arrival_time"] = time
    if board.dead[2 * orders.flow[i] + 1 - orders.side[i]] == 1:
        return size
    if orders.gate[i] >= 0 and board.deceived[orders.gate[i]] == 1:
        return size
    return arrived(i, time, orders, board.ends, size)
