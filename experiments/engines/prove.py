# SPDX-License-Identifier: BSD-3-Clause
"""Compare an engine under an exported policy with the lab's box, packet by packet.

Every capture goes through the engine without rules first: packets that do not pass then say nothing
and are not compared. Where the two differ, the capture is reduced to the packets that show it.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import NamedTuple, Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.pcap import read
from midcall.captures.packets.writer import PcapngWriter
from midcall.errors import ExperimentError
from midcall.experiments.engines import edge_cases
from midcall.experiments.localise.delta_debugging import needed, shortest_prefix
from midcall.experiments.spec import policy_names
from midcall.experiments.tools.replay import locate_capture
from midcall.testbed.engines.export import export
from midcall.testbed.engines.kernel_engine import KernelEngine
from midcall.testbed.engines.lab_capture import (
    RAW,
    TO_FAR,
    TO_SUBSCRIBER,
    Answers,
    LabCapture,
    LabPacket,
    as_packets,
    lab_capture,
    our_box,
)
from midcall.testbed.engines.offline_engines import Ndpi, Suricata
from midcall.testbed.policy.operator import Policy

Passes = NDArray[np.bool_]
#: Plays of the engine that a reduction may take.
PLAYS = 600


class Engine(Protocol):
    """An engine that can be loaded with a policy and given packets."""

    def load(self, policy: Policy) -> None:
        """Load a policy."""
        ...

    def clear(self) -> None:
        """Unload every rule."""
        ...

    def play(self, chosen: Sequence[LabPacket]) -> Passes:
        """Return which packets pass."""
        ...


class Smallest(TypedDict):
    """The smallest capture that shows a difference: its file and how many packets it has."""

    file: str
    packets: int


class Proof(TypedDict):
    """The result of a comparison, as --json prints it.

    exact: whether the translation is exact and no packet differs; reason: why it is not.
    """

    packets: int
    equal: int
    differs: int
    smallest: Smallest | None
    exact: bool
    reason: str


class Difference(NamedTuple):
    """A capture in which the two differ, reduced: its packets and both answers.

    rules: of the box; resets: as in Answers, engine_resets None where they cannot be seen.
    """

    capture: str
    packets: list[LabPacket]
    ours: Passes
    engine: Passes
    rules: list[str]
    resets: NDArray[np.int8]
    engine_resets: NDArray[np.int8] | None


class Played(NamedTuple):
    """An engine's answers to packets; resets: as in Answers, None where they cannot be seen."""

    passes: Passes
    resets: NDArray[np.int8] | None

    def resets_differ(self, ours: Answers) -> Passes:
        """Return bool[n], where resets go to other ends than those of the box."""
        if self.resets is None:
            return np.zeros(len(self.passes), np.bool_)
        return np.asarray(self.resets != ours.resets)


def played(running: Engine, chosen: Sequence[LabPacket]) -> Played:
    """Return an engine's answers to packets."""
    passes = running.play(chosen)
    return Played(passes, running.resets if isinstance(running, KernelEngine) else None)


@contextmanager
def opened(engine: str) -> Iterator[Engine]:
    """Start an engine; raises TestbedError where it cannot run."""
    if engine == "suricata":
        yield Suricata()
    elif engine == "ndpi":
        yield Ndpi()
    else:
        with KernelEngine(engine) as kernel:
            yield kernel


class OwnRules:
    """An engine under rules of somebody else, whatever policy it is compared with."""

    def __init__(self, running: Engine, path: Path) -> None:
        """Read the rules; raises ExperimentError."""
        if isinstance(running, Ndpi):
            raise ExperimentError("nDPI acts on nothing: give --rules of another engine")
        try:
            self.text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ExperimentError(f"{path}: cannot be read ({error})") from None
        self.running = running

    def load(self, policy: Policy) -> None:
        """Load the rules, not the policy."""
        del policy
        assert isinstance(self.running, (Suricata, KernelEngine))
        self.running.load_text(self.text)

    def clear(self) -> None:
        """Unload every rule."""
        self.running.clear()

    def play(self, chosen: Sequence[LabPacket]) -> Passes:
        """Return which packets pass."""
        return self.running.play(chosen)


def prove(
    words: str,
    engine: str,
    captures: Sequence[str],
    out: Path,
    access: str = "4g",
    date: datetime.date | None = None,
    corpus: Path | None = None,
    step: Callable[[str], None] = lambda _: None,
    rules: Path | None = None,
) -> Proof:
    """Compare an engine with the lab's box under a policy; raises errors that a user can correct.

    captures: files or names of the catalogue; out: the file of the smallest capture that differs;
    rules: a file of rules that the engine gets instead of the exported policy.
    """
    policy = policy_names.named(words, access, date).policy
    made = export(policy, engine)
    if made.refused and rules is None:
        reason = "; ".join(f"{one.rule}: {one.reason}" for one in made.refused)
        return nothing(f"refused: {reason}")
    if out.exists():
        raise ExperimentError(f"{out}: exists already; give another file as -o")
    nearly = made.nearly if rules is None else []
    reason = "; ".join(dict.fromkeys(f"{one.rule}: {one.reason}" for one in nearly))
    with opened(engine) as running:
        running = running if rules is None else OwnRules(running, rules)
        inputs = Inputs(captures, corpus)
        total, differs, found = compared(running, policy, engine, inputs, access, step)
    smallest: Smallest | None = None
    if found is not None:
        write(out, found, engine)
        smallest = {"file": str(out), "packets": len(found.packets)}
    exact = (rules is not None or made.exact) and not differs
    if differs and not reason:
        reason = f"{differs} packets differ; see {out}"
    return {
        "packets": total,
        "equal": total - differs,
        "differs": differs,
        "smallest": smallest,
        "exact": exact,
        "reason": reason,
    }


def nothing(reason: str) -> Proof:
    """Return the result of a policy that the engine refuses."""
    return {
        "packets": 0, "equal": 0, "differs": 0, "smallest": None, "exact": False, "reason": reason,
    }  # fmt: skip


class Inputs:
    """Captures as every engine gets them, read once; with answers that do not change.

    names: files, names of the catalogue, or that of the synthetic edge cases.
    """

    def __init__(self, names: Sequence[str], corpus: Path | None) -> None:
        self.names, self.corpus = tuple(names), corpus
        self.labs: dict[str, LabCapture] = {}
        self.valid: dict[tuple[str, str], Passes] = {}
        self.ours: dict[tuple[str, str], Answers] = {}

    def lab(self, name: str) -> LabCapture:
        """Return a capture; raises errors that a user can correct."""
        if name not in self.labs:
            if name == edge_cases.NAME:
                self.labs[name] = lab_capture(edge_cases.edge_cases())
            else:
                self.labs[name] = lab_capture(read(locate_capture(name, self.corpus)[0]))
        return self.labs[name]

    def compared(self, running: Engine, engine: str) -> dict[str, Passes]:
        """Return bool[n] by capture: which packets pass the engine without rules, twice."""
        if any((engine, name) not in self.valid for name in self.names):
            running.clear()
            for name in self.names:
                packets = self.lab(name).packets
                self.valid[engine, name] = running.play(packets) & running.play(packets)
        return {name: self.valid[engine, name] for name in self.names}

    def box(self, name: str, policy: Policy, access: str, label: str) -> Answers:
        """Return the box's answers to a capture; label: of the policy, "" for one without."""
        if not label:
            return our_box(self.lab(name).packets, policy, access)
        if (label, name) not in self.ours:
            self.ours[label, name] = our_box(self.lab(name).packets, policy, access)
        return self.ours[label, name]


def compared(
    running: Engine,
    policy: Policy,
    engine: str,
    inputs: Inputs,
    access: str,
    step: Callable[[str], None] = lambda _: None,
    label: str = "",
) -> tuple[int, int, Difference | None]:
    """Return how many packets were compared, how many differ, and the first difference, reduced.

    label: the policy's name if its box's answers are asked for again, by another engine.
    """
    total = differs = 0
    found: Difference | None = None
    valid = inputs.compared(running, engine)
    for name in inputs.names:
        lab = inputs.lab(name)
        comparison = Comparison(running, lab.under(policy), engine, access)
        ours = inputs.box(name, comparison.policy, access, label and f"{label} {engine == 'ndpi'}")
        passes = comparison.of_engine(lab.packets, ours)
        differ = valid[name].copy()
        for _ in range(2):  # a difference that a second play does not show is none
            if differ.any():
                running.load(comparison.policy)  # with empty sets of flows
                answer = played(running, lab.packets)
                differ &= (passes != answer.passes) | answer.resets_differ(ours)
        total += int(valid[name].sum())
        differs += int(differ.sum())
        if differ.any() and found is None:
            chosen = comparison.reduced(lab.packets, differ)
            found = comparison.difference(name, chosen)
        step(name)
    return total, differs, found


class Comparison:
    """A policy under an engine and under the lab's box; policy: with the lab's addresses."""

    def __init__(self, running: Engine, policy: Policy, engine: str, access: str) -> None:
        self.running, self.engine, self.access, self.plays = running, engine, access, 0
        self.policy = as_matches(policy) if engine == "ndpi" else policy

    def of_engine(self, chosen: Sequence[LabPacket], ours: Answers) -> Passes:
        """Return the box's answers in the terms of the engine: nDPI's are of whole flows."""
        return of_flows(chosen, ours.passes) if self.engine == "ndpi" else ours.passes

    def differing(self, chosen: Sequence[LabPacket]) -> tuple[Passes, Answers, Played]:
        """Return in which packets the two differ, and what each of them does."""
        self.plays += 1
        ours = our_box(chosen, self.policy, self.access)
        self.running.clear()
        valid = self.running.play(chosen)
        self.running.load(self.policy)
        engine = played(self.running, chosen)
        differ = self.of_engine(chosen, ours) != engine.passes
        return valid & (differ | engine.resets_differ(ours)), ours, engine

    def difference(self, name: str, chosen: list[LabPacket]) -> Difference:
        """Return a difference that some packets of a capture show."""
        _, ours, engine = self.differing(chosen)
        passes = self.of_engine(chosen, ours)
        return Difference(
            name, chosen, passes, engine.passes, ours.rules, ours.resets, engine.resets
        )

    def reduced(self, packets: Sequence[LabPacket], differ: Passes) -> list[LabPacket]:
        """Return a smallest part of the packets, in which a packet still differs."""
        first = int(np.flatnonzero(differ)[0])
        own = [one for one in packets[: first + 1] if one.flow == packets[first].flow]
        start = own if self.differs(own) else list(packets[: first + 1])
        if not self.differs(start):
            start = list(packets)
        return needed(shortest_prefix(start, self.differs), self.differs)

    def differs(self, chosen: Sequence[LabPacket]) -> bool:
        """Return whether a packet of these differs; False when the plays are used up."""
        return bool(chosen) and self.plays < PLAYS and bool(self.differing(chosen)[0].any())


def as_matches(policy: Policy) -> Policy:
    """Return a policy whose rules drop the flows that they match: nDPI does not act."""
    rules = tuple(
        rule.model_copy(update={"act": "drop", "scope": "flow", "way": None, "lasts_s": None})
        for rule in policy.rules
    )
    return Policy(rules, policy.sets, policy.fail, sees=policy.sees)


def of_flows(chosen: Sequence[LabPacket], passes: Passes) -> Passes:
    """Return bool[n], false for every packet of a flow of which one does not pass."""
    flows = np.array([one.flow for one in chosen], np.int64)
    return ~np.isin(flows, flows[~passes])


def write(path: Path, found: Difference, engine: str) -> None:
    """Write a difference as pcapng, with both answers as a comment of each packet."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(as_pcapng(found, engine))
    except OSError as error:
        raise ExperimentError(f"{path}: cannot be written: {error.strerror or error}") from None


def as_pcapng(found: Difference, engine: str) -> bytes:
    """Return a difference as pcapng, with both answers as a comment of each packet."""
    comments = {}
    for i, one in enumerate(found.packets):
        rule = f" ({found.rules[i]})" if found.rules[i] else ""
        seen = found.engine_resets
        ours = answer_words(bool(found.ours[i]), 0 if seen is None else int(found.resets[i]))
        other = answer_words(bool(found.engine[i]), 0 if seen is None else int(seen[i]))
        side = "from" if one.up else "to"
        comments[i] = (
            f"midcall: {ours}{rule}; {engine}: {other}; frame {one.frame + 1} of "
            f"{found.capture}, {side} the subscriber"
        )
    out = BytesIO()
    PcapngWriter(out, [RAW]).write(as_packets(found.packets), comments)
    return out.getvalue()


def answer_words(passes: bool, resets: int) -> str:
    """Return what happens to a packet, as words; resets: as in Answers."""
    ends = [
        end
        for bit, end in ((TO_SUBSCRIBER, "the subscriber"), (TO_FAR, "the far end"))
        if resets & bit
    ]
    reset = f", reset to {' and '.join(ends)}" if ends else ""
    return f"{'passes' if passes else 'does not pass'}{reset}"
