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

from midcall.captures.fetch.locate import locate_capture
from midcall.captures.packets.pcap import read
from midcall.captures.packets.writer import PcapngWriter
from midcall.errors import ExperimentError
from midcall.experiments.engines import edge_cases
from midcall.experiments.localise.delta_debugging import needed, shortest_prefix
from midcall.experiments.spec import policy_names
from midcall.testbed.engines.engine_import import imported, joined
from midcall.testbed.engines.export import KeyPlaces, export, places_of, sentence
from midcall.testbed.engines.kernel_engine import KernelEngine
from midcall.testbed.engines.lab_capture import (
    ERROR_CODE,
    ERROR_TO_FAR,
    ERROR_TO_SUBSCRIBER,
    FOREIGN,
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
from midcall.testbed.engines.nftables_import import without_rules
from midcall.testbed.engines.offline_engines import Ndpi, Suricata
from midcall.testbed.engines.written import NETFILTER_ERROR, NETFILTER_RESET, Refusal
from midcall.testbed.policy.loader import files_of
from midcall.testbed.policy.operator import Policy

Passes = NDArray[np.bool_]
#: In what replies of netfilter differ from the box's, whoever wrote the rules; by act.
REPLIES = {"unreachable": NETFILTER_ERROR, "reset": NETFILTER_RESET}
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

    def play(self, chosen: Sequence[LabPacket]) -> Answers:
        """Return what becomes of packets."""
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
    """A capture in which the two differ, reduced: its packets, and both answers to them."""

    capture: str
    packets: list[LabPacket]
    ours: Answers
    engine: Answers


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

    def __init__(self, running: Engine, path: Path, engine: str, translated: bool) -> None:
        """Read the rules; translated: without the lines that the import leaves out.

        Raises errors that a user can correct.
        """
        if isinstance(running, Ndpi):
            raise ExperimentError("nDPI acts on nothing: give --rules of another engine")
        try:
            lines = joined(path.read_text(encoding="utf-8").splitlines())
        except (OSError, UnicodeDecodeError) as error:
            raise ExperimentError(f"{path}: cannot be read ({error})") from None
        self.left_out = [one.line for one in imported(path, engine).left_out] if translated else []
        for number in self.left_out:
            lines[number - 1] = without_rules(lines[number - 1])
        self.text = "\n".join([*lines, ""])
        self.running = running

    def load(self, policy: Policy) -> None:
        """Load the rules, not the policy."""
        del policy
        assert isinstance(self.running, (Suricata, KernelEngine))
        self.running.load_text(self.text)

    def clear(self) -> None:
        """Unload every rule."""
        self.running.clear()

    def play(self, chosen: Sequence[LabPacket]) -> Answers:
        """Return what becomes of packets."""
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
    translated: bool = False,
) -> Proof:
    """Compare an engine with the lab's box under a policy; raises errors that a user can correct.

    captures: files or names of the catalogue; out: the file of the smallest capture that differs;
    rules: a file of rules that the engine gets instead of the exported policy; translated: without
    the lines of it that the import leaves out.
    """
    named = policy_names.named(words, access, date)
    policy, where = named.policy, places(named)
    made = export(policy, engine)
    if made.refused and rules is None:
        reason = "; ".join(sentence(one, where) for one in made.refused)
        return nothing(f"refused: {reason}")
    if out.exists():
        raise ExperimentError(f"{out}: exists already; give another file as -o")
    nearly = made.nearly
    if rules is not None:
        own = REPLIES if engine in ("nftables", "iptables") else {}
        nearly = [Refusal(one.name, own[one.act]) for one in policy.rules if one.act in own]
    reason = "; ".join(dict.fromkeys(f"{one.rule}: {one.reason}" for one in nearly))
    with opened(engine) as running:
        left_out: list[int] = []
        if rules is not None:
            running = OwnRules(running, rules, engine, translated)
            left_out = running.left_out
        inputs = Inputs(captures, corpus)
        total, differs, found = compared(running, policy, engine, inputs, access, step)
    smallest: Smallest | None = None
    if found is not None:
        write(out, found, engine)
        smallest = {"file": str(out), "packets": len(found.packets)}
    exact = (rules is not None or made.exact) and not differs
    if left_out:
        lines = f"without lines {', '.join(map(str, left_out))}, which the import leaves out"
        reason = "; ".join(filter(None, (lines, reason)))
    elif differs and not reason:
        reason = f"{differs} packets differ; see {out}"
    return {
        "packets": total,
        "equal": total - differs,
        "differs": differs,
        "smallest": smallest,
        "exact": exact,
        "reason": reason,
    }


def places(named: policy_names.Named) -> dict[str, KeyPlaces]:
    """Return where the rules of a policy stand in its TOML files."""
    if named.file is None:
        return {}
    return places_of(files_of(named.file), named.policy.hypothesis, named.policy.rules)


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
                self.valid[engine, name] = (
                    running.play(packets).passes & running.play(packets).passes
                )
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
        own = isinstance(running, OwnRules)  # whose addresses are not mapped
        comparison = Comparison(running, policy if own else lab.under(policy), engine, access)
        ours = inputs.box(name, comparison.policy, access, label and f"{label} {engine == 'ndpi'}")
        ours = comparison.of_engine(lab.packets, ours)
        differ = valid[name].copy()
        for _ in range(2):  # a difference that a second play does not show is none
            if differ.any():
                running.load(comparison.policy)  # with empty sets of flows
                differ &= ours.differ(running.play(lab.packets))
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

    def of_engine(self, chosen: Sequence[LabPacket], ours: Answers) -> Answers:
        """Return the box's answers in the terms of the engine: nDPI's are of whole flows."""
        if self.engine != "ndpi":
            return ours
        return ours._replace(passes=of_flows(chosen, ours.passes))

    def differing(self, chosen: Sequence[LabPacket]) -> tuple[Passes, Answers, Answers]:
        """Return in which packets the two differ, and what each of them does."""
        self.plays += 1
        ours = self.of_engine(chosen, our_box(chosen, self.policy, self.access))
        self.running.clear()
        valid = self.running.play(chosen).passes
        self.running.load(self.policy)
        engine = self.running.play(chosen)
        return valid & ours.differ(engine), ours, engine

    def difference(self, name: str, chosen: list[LabPacket]) -> Difference:
        """Return a difference that some packets of a capture show."""
        _, ours, engine = self.differing(chosen)
        return Difference(name, chosen, ours, engine)

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
    rules = found.ours.rules
    for i, one in enumerate(found.packets):
        rule = f" ({rules[i]})" if rules[i] else ""
        side = "from" if one.up else "to"
        comments[i] = (
            f"midcall: {answer_words(found.ours, found.engine, i)}{rule}; {engine}: "
            f"{answer_words(found.engine, found.engine, i)}; frame {one.frame + 1} of "
            f"{found.capture}, {side} the subscriber"
        )
    out = BytesIO()
    PcapngWriter(out, [RAW]).write(as_packets(found.packets), comments)
    return out.getvalue()


def answer_words(answers: Answers, seen: Answers, at: int) -> str:
    """Return what happens to a packet, as words.

    seen: of the engine, whose replies and code points say whether they can be seen at all.
    """
    words = ["passes" if answers.passes[at] else "does not pass"]
    replies = 0
    if answers.replies is not None and seen.replies is not None:
        replies = int(answers.replies[at])
    for what, bits in (("reset", (TO_SUBSCRIBER, TO_FAR)),
                       ("ICMP error", (ERROR_TO_SUBSCRIBER, ERROR_TO_FAR))):  # fmt: skip
        ends = zip(("the subscriber", "the far end"), bits, strict=True)
        if got := [end for end, bit in ends if replies & bit]:
            words.append(f"{what} to {' and '.join(got)}")
    if replies >> ERROR_CODE:
        code = replies >> ERROR_CODE
        foreign = ", not from the packet's target" if replies & FOREIGN else ""
        words.append(f"type {code >> 8}, code {code & 255}{foreign}")
    if answers.passes[at] and answers.points is not None and seen.points is not None:
        words.append(f"DSCP {answers.points[at]}")
    return ", ".join(words)
