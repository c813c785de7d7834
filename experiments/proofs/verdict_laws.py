# SPDX-License-Identifier: BSD-3-Clause
"""The laws of a verdict, tested on every capture of a run: properties a verdict must always have.

Each law holds for all rules and all captures. A case that breaks one is a defect of the lab. The
table gives how many cases were tested and broken, with the first counterexample.
"""

from __future__ import annotations

import datetime
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from midcall.captures.own.anonymise import anonymised
from midcall.captures.packets.pcap import Packets, read
from midcall.captures.truth.calls import Call
from midcall.experiments.cells.offline import classify_packets
from midcall.experiments.measure.inferred_call import inferred_call
from midcall.experiments.measure.intervals import derived_seed
from midcall.experiments.results.tables import LawRow
from midcall.experiments.spec.corpus import Item
from midcall.locations import OPERATORS

#: Largest share of a line's queue that a capture may fill; retransmissions need the rest.
FILLED = 0.5
#: One-way delays in ms that must not block a call.
DELAYS = (20, 50, 100, 200, 400)
#: Seeds of the access networks' links.
SEEDS = (1, 2, 3)
#: The key under which captures are anonymised, so that equal runs give equal results.
KEY = bytes(range(32))
#: Number of rules drawn per capture for the law of supersets.
DRAWN = 8
#: Matches that apply to some packets of a flow and not to their copies.
WINDOWS: tuple[dict[str, Any], ...] = (
    {"packets": "1-1"}, {"packets": "2-4"}, {"seconds": "-0.5"}, {"seconds": "2-6"},
    {"bytes": "-600"}, {"size": "100-300"}, {"stun": True, "packets": "-3"},
)  # fmt: skip
#: Losses that exceed a link's own loss: standard deviations, and bursts.
DEVIATIONS, SPARE_BURSTS = 6.0, 6.0
#: A censor that drops every packet that its rule matches.
CENSOR = OPERATORS / "shared" / "drop.censor"


class Law(NamedTuple):
    """A law: its number, its statement, and the function that tests it on one capture."""

    number: int
    title: str
    cases: Callable[[Trial], Iterator[Case]]


class Case(NamedTuple):
    """One case: what was tested, and how it breaks the law, "" if it does not."""

    tried: str
    broken: str


class Trial(NamedTuple):
    """A capture with its calls, on which laws are tested."""

    item: Item
    packets: Packets
    seed: int

    def play(self, policy: Any, packets: Packets | None = None, **more: Any) -> Any:
        """Play the capture (or other packets with its calls) through a policy."""
        from midcall.testbed.replay.simulator import simulate

        calls = more.pop("calls", self.item.calls)
        access = more.pop("access", "fibre")
        seed = more.pop("seed", self.seed)
        played = self.packets if packets is None else packets
        return simulate(played, calls, [], policy, access, seed, **more)


def rule(**about: Any) -> Any:
    """Return a policy of one rule, without an operator."""
    return policy_of([about])


def policy_of(rules: Sequence[dict[str, Any]]) -> Any:
    """Return a policy of some rules, without an operator."""
    from midcall.testbed.policy.language import Rule
    from midcall.testbed.policy.operator import Policy

    common = {"grade": "D", "source": "a law of verdicts"}
    return Policy(
        tuple(
            Rule.model_validate({"name": f"r{n}", **common, **one}) for n, one in enumerate(rules)
        )
    )


# ---- the laws


def shift(trial: Trial) -> Iterator[Case]:
    """Law 1: the same delay for every packet blocks no call and cuts none."""
    from midcall.testbed.assess.call_verdict import judge

    control = trial.play(None)
    for delay in DELAYS:
        slow = rule(match={"bytes": "0-"}, act="delay", delay_ms=delay, scope="packet")
        ran = trial.play(slow)
        for call in trial.item.calls:
            verdict = judge(ran, control, call)
            lost = verdict.media_lost or 0
            broken = (
                f"{verdict.verdict}, {lost:.1%} of the media lost"
                if verdict.blocked or lost
                else ""
            )
            yield Case(f"call {call.id}, {delay} ms one way", broken)


def no_harm(trial: Trial) -> Iterator[Case]:
    """Law 2: on a healthy link without a rule every call works, and loses only what the link loses.

    A line whose queue the capture alone fills by more than FILLED is not healthy for it.
    """
    from midcall.testbed.assess.call_verdict import judge
    from midcall.testbed.network.link import PRESETS

    captured = trial.play(None)
    for access in PRESETS:
        if not is_wide_enough(captured.script, trial.packets, access):
            continue
        for seed in SEEDS:
            ran = trial.play(None, access=access, seed=seed, link="preset")
            for call in trial.item.calls:
                verdict = judge(ran, ran, call)
                yield Case(
                    f"call {call.id}, {access}, seed {seed}",
                    harm(ran, captured, call, access)
                    if verdict.verdict == "OK"
                    else verdict.verdict,
                )


def is_wide_enough(script: Any, packets: Packets, access: str) -> bool:
    """Return whether the packets of each side wait for at most FILLED of a line's queue.

    The wait of each packet follows from the waits before it (Lindley, The Theory of Queues with a
    Single Server, 1952) at the line's rate, packets leaving at the times of the capture.
    """
    from midcall.testbed.network.link import PRESETS
    from midcall.testbed.replay.sides import CALLER, FAR

    for side, link in ((CALLER, PRESETS[access].up), (FAR, PRESETS[access].down)):
        own = script.side == side
        if not link.rate_kbit or not own.any():
            continue
        arrival_ms = packets.time[own] / 1e6
        service = packets.wire[own] * 8 / link.rate_kbit
        before = np.cumsum(service) - service
        wait = np.maximum.accumulate(arrival_ms - before) + before - arrival_ms
        if wait.max() > FILLED * link.queue_ms:
            return False
    return True


def harm(ran: Any, captured: Any, call: Call, access: str) -> str:
    """Return what a healthy link did to a call beyond its own loss, "" for nothing."""
    from midcall.testbed.middlebox.decide import LOST
    from midcall.testbed.network.link import PRESETS

    script = ran.script
    call_flows = next(one for one in script.calls if one.id == call.id)
    own = np.isin(script.flow, call_flows.flows) & captured.delivered
    unsent = int((own & ~ran.fates["sent"]).sum())
    if unsent > int(
        (own & (ran.fates["fate"] == LOST)).sum()
    ):  # packets that waited for a lost one
        return f"{unsent} packets of the call were not sent"
    media = own & (script.media == 1)
    gone = media & ~ran.delivered
    odd = int((gone & (ran.fates["fate"] != LOST)).sum())
    if odd:
        return f"{odd} media packets were lost otherwise than by the link"
    link = PRESETS[access].up
    expected, burst = float(media.sum()) * link.loss, max(link.burst, 1.0)
    most = expected + DEVIATIONS * (2 * expected * burst) ** 0.5 + SPARE_BURSTS * burst
    lost = int(gone.sum())
    return f"{lost} of {int(media.sum())} media packets lost" if lost > most else ""


def same_packets(trial: Trial) -> Iterator[Case]:
    """Law 3: drop, certain loss and a censor that match the same packets give the same fates; a
    call whose flows are named has the verdict of one whose flows are inferred."""
    from midcall.testbed.assess.call_verdict import judge

    for match in WINDOWS:
        one, loss, censor = (
            trial.play(rule(match=match, **act))
            for act in (
                {"act": "drop", "scope": "packet"},
                {"act": "loss", "loss": 1.0, "scope": "packet"},
                {"act": "censor", "file": str(CENSOR)},
            )
        )
        for words, other in (("loss", loss), ("a censor", censor)):
            equal = one.attempts.tobytes() == other.attempts.tobytes()
            yield Case(f"drop and {words}, {match}", "" if equal else "fates differ")
    yield from named_or_not(trial, judge)


def named_or_not(trial: Trial, judge: Any) -> Iterator[Case]:
    """Yield whether a verdict depends on naming media flows that are inferred anyway."""
    rows, _ = classify_packets(trial.packets, trial.item.capture.name)
    app = trial.item.calls[0].app
    inferred = inferred_call(rows, trial.packets, "c", app)
    if inferred is None or not inferred.media:
        return
    named = inferred_call(rows, trial.packets, "c", app, inferred.media[:1])
    assert named is not None
    for match in ({"stun": True}, {"protocol": "udp", "size": "100-"}):
        verdicts = []
        for call in (inferred, named):
            rules = rule(match=match, act="drop", scope="packet")
            ran, control = (trial.play(one, calls=[call]) for one in (rules, None))
            verdicts.append(judge(ran, control, call)[:2])
        yield Case(
            f"flow named or not, {match}",
            "" if verdicts[0] == verdicts[1] else f"{verdicts[0]}, {verdicts[1]}",
        )


def more_is_not_less(trial: Trial) -> Iterator[Case]:
    """Law 4: a rule on more packets never turns blocked into not blocked."""
    from midcall.testbed.assess.call_verdict import judge

    control = trial.play(None)
    for number in range(DRAWN):
        generator = np.random.default_rng(derived_seed(trial.seed, "superset", str(number)))
        matches = [drawn_match(generator) for _ in range(2)]
        scopes = "packet", ("packet", "flow")[int(generator.integers(2))]
        rules = [
            {"match": match, "act": "drop", "scope": scope}
            for match, scope in zip(matches, scopes, strict=True)
        ]
        few, more = trial.play(policy_of(rules[:1])), trial.play(policy_of(rules))
        for call in trial.item.calls:
            one, two = judge(few, control, call), judge(more, control, call)
            worse = one.blocked and not two.blocked
            yield Case(
                f"call {call.id}, {matches[0]} and also {matches[1]}",
                f"{one.verdict} became {two.verdict}" if worse else "",
            )


def drawn_match(generator: np.random.Generator) -> dict[str, Any]:
    """Return a random match on each packet by itself, so that copies meet it too."""
    low = int(generator.integers(0, 400))
    match: dict[str, Any] = {"size": f"{low}-{low + int(generator.integers(10, 400))}"}
    if generator.random() < 0.5:
        match["direction"] = ("up", "down")[int(generator.integers(2))]
    if generator.random() < 0.3:
        match["stun"] = bool(generator.integers(2))
    if generator.random() < 0.3:
        match["protocol"] = ("udp", "tcp")[int(generator.integers(2))]
    return match


def every_attempt(trial: Trial) -> Iterator[Case]:
    """Law 5: every sending is a row, numbered without a gap, and a hit if a rule acted on it."""
    from midcall.testbed.middlebox.decide import DROPPED, FORGED

    ran = trial.play(rule(match={"bytes": "0-"}, act="loss", loss=0.3, scope="packet"))
    order = np.lexsort((ran.attempts["number"], ran.attempts["packet"]))
    rows = ran.attempts[order]
    first = np.append(True, rows["packet"][1:] != rows["packet"][:-1])
    starts = np.maximum.accumulate(np.where(first, np.arange(len(rows)), 0))
    counted = rows["number"] == np.arange(len(rows)) - starts + 1
    yield Case("numbers of sendings", "" if counted.all() else "a number is missing")
    hit = np.isin(rows["fate"], (DROPPED, FORGED)) | (rows["letters"] > 0)
    hit_packets = np.zeros(len(ran.fates), bool)
    hit_packets[rows["packet"][hit]] = True
    equal = bool((hit_packets == ran.struck).all())
    yield Case("packets hit", "" if equal else "a struck sending is no hit")


def unknowable(trial: Trial) -> Iterator[Case]:
    """Law 6: an anonymised twin of a capture gets the same verdict, or none."""
    from midcall.testbed.assess.call_verdict import judge
    from midcall.testbed.policy.loader import load

    links = {int(link) for link in trial.packets.link}
    if len(links) > 1:
        return
    twin = anonymised(trial.packets, KEY)
    operator, day = load("maroc-telecom"), datetime.date(2016, 1, 20)
    control, blank = trial.play(None, access="4g"), trial.play(None, twin, access="4g")
    for hypothesis in operator.hypotheses:
        policy = operator.policy(hypothesis.id, "4g", day)
        ran, other = (trial.play(policy, p, access="4g") for p in (None, twin))
        for call in trial.item.calls:
            plain = judge(ran, control, call, trial.item.capture.changed)
            masked = judge(other, blank, call, ["addresses", *trial.item.capture.changed])
            same = masked.verdict in (plain.verdict, "INCONCLUSIVE")
            yield Case(
                f"call {call.id}, {hypothesis.id}",
                "" if same else f"{plain.verdict}, anonymised {masked.verdict}",
            )


def checkable(trial: Trial) -> Iterator[Case]:
    """Law 7: the packets that are written out are those of the verdict."""
    from midcall.testbed.replay import packet_trace
    from midcall.testbed.replay.sides import LOCAL

    ran = trial.play(rule(match={"stun": True}, act="drop", scope="packet"), addressing="keep")
    frames = list(packet_trace.frames(ran))
    packet, facts = ran.attempts["packet"], ran.script.held.facts
    arrived = (ran.attempts["arrived"] >= 0) & (ran.script.side[packet] != LOCAL)
    unwritten = ((facts["flow"] < 0) & (trial.packets.link != 1))[packet]
    expected = len(packet) + int(arrived.sum()) + len(ran.letters) - int(unwritten.sum())
    yield Case(
        "frames written", "" if len(frames) == expected else f"{len(frames)}, expected {expected}"
    )


LAWS = (
    Law(1, "Shift: a delay for every packet, up to 400 ms one way, blocks no call", shift),
    Law(2, "No harm: on a healthy access network without a rule every call works", no_harm),
    Law(3, "Same packets, same fates, whatever struck them and whoever named the flow",
        same_packets),
    Law(4, "More is not less: more packets struck never unblock a call", more_is_not_less),
    Law(5, "Every sending is a row, and a struck one is a hit", every_attempt),
    Law(6, "What cannot be known is said: an anonymised twin gets the same verdict or none",
        unknowable),
    Law(7, "Anyone can check: the packets written out are those of the verdict", checkable),
)  # fmt: skip


# ---- a run


def laws_table(items: Sequence[Item], seed: int, step: Callable[[str], None]) -> list[LawRow]:
    """Return the table `laws`: what was tested on the captures that have a call.

    step: called with each capture's name once it is done.
    """
    counts: dict[int, list[int]] = defaultdict(lambda: [0, 0, 0])
    first: dict[int, str] = {}
    for item in items:
        if not item.calls:
            continue
        packets = read(item.path)
        trial = Trial(item, packets, derived_seed(seed, "laws", item.capture.sha256))
        for law in LAWS:
            law_counts = counts[law.number]
            cases = list(law.cases(trial))
            law_counts[0] += bool(cases)
            law_counts[1] += len(cases)
            law_counts[2] += sum(bool(case.broken) for case in cases)
            for case in cases:
                if case.broken:
                    words = f"{item.capture.name}, {case.tried}: {case.broken}"
                    first.setdefault(law.number, words)
        step(item.capture.name)
    return [
        {
            "law": law.number,
            "title": law.title,
            "captures": counts[law.number][0],
            "cases": counts[law.number][1],
            "broken": counts[law.number][2],
            "counterexample": first.get(law.number, ""),
        }
        for law in LAWS
    ]
