# SPDX-License-Identifier: BSD-3-Clause
"""Compare an engine under an exported policy with the lab's box, packet by packet.

Every capture goes through the engine without rules first: packets that do not pass then say nothing
and are not compared. Where the two differ, the capture is reduced to the packets that show it.
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray

from midcall.captures.packets.pcap import read
from midcall.captures.packets.writer import PcapngWriter
from midcall.errors import ExperimentError
from midcall.experiments.localise.delta_debugging import needed, shortest_prefix
from midcall.experiments.spec import policy_names
from midcall.experiments.tools.replay import locate_capture
from midcall.testbed.engines.export import export
from midcall.testbed.engines.kernel_engine import KernelEngine
from midcall.testbed.engines.lab_capture import (
    RAW,
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
    """A capture in which the two differ, reduced: its packets and both answers."""

    capture: str
    packets: list[LabPacket]
    ours: Passes
    engine: Passes
    rules: list[str]


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


def prove(
    words: str,
    engine: str,
    captures: Sequence[str],
    out: Path,
    access: str = "4g",
    date: datetime.date | None = None,
    corpus: Path | None = None,
    step: Callable[[str], None] = lambda _: None,
) -> Proof:
    """Compare an engine with the lab's box under a policy; raises errors that a user can correct.

    captures: files or names of the catalogue; out: the file of the smallest capture that differs.
    """
    policy = policy_names.named(words, access, date).policy
    made = export(policy, engine)
    if made.refused:
        reason = "; ".join(f"{one.rule}: {one.reason}" for one in made.refused)
        return nothing(f"refused: {reason}")
    if out.exists():
        raise ExperimentError(f"{out}: exists already; give another file as -o")
    reason = "; ".join(dict.fromkeys(f"{one.rule}: {one.reason}" for one in made.nearly))
    with opened(engine) as running:
        total, differs, found = compared(running, policy, engine, captures, access, corpus, step)
    smallest: Smallest | None = None
    if found is not None:
        write(out, found, engine)
        smallest = {"file": str(out), "packets": len(found.packets)}
    exact = made.exact and not differs
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


def compared(
    running: Engine,
    policy: Policy,
    engine: str,
    captures: Sequence[str],
    access: str,
    corpus: Path | None,
    step: Callable[[str], None],
) -> tuple[int, int, Difference | None]:
    """Return how many packets were compared, how many differ, and the first difference, reduced."""
    total = differs = 0
    found: Difference | None = None
    for name in captures:
        path, _ = locate_capture(name, corpus)
        lab = lab_capture(read(path), policy)
        comparison = Comparison(running, lab, engine, access)
        valid, differ, answers = comparison.answers(lab.packets)
        total += int(valid.sum())
        differs += int(differ.sum())
        if differ.any() and found is None:
            chosen = comparison.reduced(lab.packets, differ)
            _, _, answers = comparison.answers(chosen)
            found = Difference(name, chosen, answers[0], answers[1], answers[2])
        step(name)
    return total, differs, found


class Comparison:
    """One capture under one policy, through an engine and through the lab's box."""

    def __init__(self, running: Engine, lab: LabCapture, engine: str, access: str) -> None:
        self.running, self.engine, self.access, self.plays = running, engine, access, 0
        self.policy = as_matches(lab.policy) if engine == "ndpi" else lab.policy

    def answers(
        self, chosen: Sequence[LabPacket]
    ) -> tuple[Passes, Passes, tuple[Passes, Passes, list[str]]]:
        """Return which packets are compared, which differ, and what each of the two lets pass."""
        self.plays += 1
        ours = our_box(chosen, self.policy, self.access)
        passes = of_flows(chosen, ours.passes) if self.engine == "ndpi" else ours.passes
        self.running.clear()
        valid = self.running.play(chosen)
        self.running.load(self.policy)
        engine = self.running.play(chosen)
        return valid, valid & (passes != engine), (passes, engine, ours.rules)

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
        return bool(chosen) and self.plays < PLAYS and bool(self.answers(chosen)[1].any())


def as_matches(policy: Policy) -> Policy:
    """Return a policy whose rules drop the flows that they match: nDPI does not act."""
    rules = tuple(
        rule.model_copy(update={"act": "drop", "scope": "flow", "way": None, "lasts_s": None})
        for rule in policy.rules
    )
    return Policy(rules, policy.sets, policy.fail)


def of_flows(chosen: Sequence[LabPacket], passes: Passes) -> Passes:
    """Return bool[n], false for every packet of a flow of which one does not pass."""
    flows = np.array([one.flow for one in chosen], np.int64)
    return ~np.isin(flows, flows[~passes])


def write(path: Path, found: Difference, engine: str) -> None:
    """Write a difference as pcapng, with both answers as a comment of each packet."""
    words = {True: "passes", False: "does not pass"}
    comments = {
        i: f"midcall: {words[bool(ours)]}{f' ({rule})' if rule else ''}; "
        f"{engine}: {words[bool(other)]}; frame {one.frame + 1} of {found.capture}, "
        f"{'from' if one.up else 'to'} the subscriber"
        for i, (one, ours, other, rule) in enumerate(
            zip(found.packets, found.ours, found.engine, found.rules, strict=True)
        )
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as out:
            PcapngWriter(out, [RAW]).write(as_packets(found.packets), comments)
    except OSError as error:
        raise ExperimentError(f"{path}: cannot be written: {error.strerror or error}") from None
