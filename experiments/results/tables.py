# SPDX-License-Identifier: BSD-3-Clause
"""Types of a run's results: a row of each table, a finished cell's file, blocks of summary.json.

A table is one TypedDict; `schema` derives its Arrow columns from it: str, bool, int (64 bits) and
float (64 bits), in the order in which they stand here. `| None`: the column can be null.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NotRequired, TypedDict

#: A value of a JSON file whose blocks are not typed: of summary.json, or of another version's.
Json = Any
#: A JSON object: summary.json, provenance.json, a spec, a localised box.
Document = dict[str, Json]

#: The two directions of a call, as columns and rows name them.
Direction = Literal["up", "down"]


# ---- columns that several tables share


class Place(TypedDict):
    """The columns that name a cell of the grid in every table."""

    operator: str
    hypothesis: str
    access: str
    date: str


class TitledPlace(TypedDict):
    """The columns that name a cell of the grid, with the title of its hypothesis."""

    operator: str
    hypothesis: str
    hypothesis_title: str
    access: str
    date: str


class CallFacts(TypedDict):
    """The columns of a call that do not depend on its outcome."""

    capture: str
    capture_year: int | None
    group: str
    app: str
    kind: str
    call: str
    synthetic: bool
    added: bool
    later_client: bool


class Dress(TypedDict):
    """The columns that name a disguise or control arm, and a capture in it."""

    dress: str
    sort: str
    capture: str
    synthetic: bool
    app: str
    kind: str


# ---- tables of every run


class CaptureFacts(TypedDict):
    """The columns of a capture that do not depend on its flows."""

    capture: str
    sha256: str
    synthetic: bool
    added: bool
    year: int | None
    group: str
    innocent: bool


class EngineFlow(TypedDict):
    """A flow and the verdict of the classifier; frame: the number of its first packet, from 1."""

    frame: int
    proto: str
    src_ip: str | None
    src_port: int | None
    dst_ip: str | None
    dst_port: int | None
    packets: int
    bytes: int | None
    first_ts: float | None
    last_ts: float | None
    verdict: str
    app: str
    family: str
    role: str
    confidence: float | None
    packets_to_verdict: int | None
    ms_to_verdict: float | None
    evidence: str


class FlowRow(CaptureFacts, EngineFlow):
    """A flow of a capture: the verdict of the classifier, and its truth (None: no label)."""

    truth_app: str | None
    truth_role: str | None
    truth_call: str | None
    truth_confidence: str | None
    outcome: str


class CallRow(CallFacts, TitledPlace):
    """The outcome of a call in a cell of the grid."""

    documented: bool
    verdict: str
    blocked: bool
    usable: bool | None
    rule: str | None
    grade: str | None
    packets_to_block: int | None
    ms_to_block: float | None
    media_sent: int | None
    media_delivered: int | None
    media_control: int | None
    media_lost: float | None
    recognised: bool
    reason: str


class CollateralRow(Place):
    """Innocent flows of one kind of traffic in a cell, and those of them hit."""

    protocol: str
    flows: int
    hit: int
    bytes: int
    bytes_hit: int
    groups: int
    low: float | None
    high: float | None
    all_low: float | None
    all_high: float | None


class CellRow(Place):
    """A cell of the grid: whether it was simulated, and for how long."""

    status: str
    error: str | None
    key: str | None
    seconds: float | None


class LatencyRow(TypedDict):
    """Time per packet at one percentile."""

    path: str
    percentile: float
    ns_per_packet: float | None
    batch: int
    n: int


class ThroughputRow(TypedDict):
    """Packets and bytes per second of one path on one file."""

    path: str
    file: str
    packets: int
    bytes: int
    seconds: float
    packets_per_s: float
    bytes_per_s: float


# ---- calls and flows that were not the target


class BystanderCallRow(Place):
    """Calls of one app that was no target of the operator, in a cell."""

    app: str
    calls: int
    blocked: int
    degraded: int
    seconds: int
    seconds_lost: int


class MixRow(Place):
    """Flows and bytes hit per million in a mix with a stated share of call flows."""

    share: float
    protocol: str
    flows_per_million: float
    flows_low: float | None
    flows_high: float | None
    bytes_per_million: float
    bytes_low: float | None
    bytes_high: float | None
    of_hits: float | None
    groups: int


# ---- timelines


class TimelineRow(TitledPlace):
    """One direction of a call that a rule touched: packets by slot, and quality."""

    places: str
    grade: str | None
    capture: str
    call: str
    app: str
    kind: str
    synthetic: bool
    verdict: str
    blocked: bool
    rule: str | None
    direction: str
    seconds: float
    recognised_s: float | None
    spoke_s: float | None
    media_lost: float | None
    mos: float | None
    mos_low: float | None
    mos_high: float | None
    mos_control: float | None
    delay_ms: float | None
    delay_control_ms: float | None
    jitter_ms: float | None
    due: int
    sent: int
    came: int
    struck: int
    due_slots: str
    sent_slots: str
    came_slots: str
    struck_slots: str


# ---- disguises and control arms


class DressVerdict(Place):
    """The verdict on a call in a disguise or control arm under one rule set."""

    call: str
    verdict: str
    blocked: bool
    rule: str | None
    media_lost: float | None
    mos: float | None


class DressCost(TypedDict):
    """The cost of a disguise for a call without any rule."""

    call: str
    bytes_plain: int
    bytes: int
    packets: int
    packets_added: int
    setup_ms: float
    delay_ms: float
    mos: float | None


class DressedRow(Dress, DressVerdict):
    """The verdict on a call in a disguise or control arm, with both named."""


class DressCostRow(Dress, DressCost):
    """The cost of a disguise for a call, with both named."""


# ---- the localiser and the laws


class LawRow(TypedDict):
    """A law of verdicts: cases tried and broken."""

    law: int
    title: str
    captures: int
    cases: int
    broken: int
    counterexample: str


class LocaliseRow(TypedDict):
    """A planted rule, and the result of the localiser for it."""

    set: str
    rule: str
    kind: str
    noise: float
    outcome: str
    recovered: bool
    complete: bool
    tests: int
    tests_blocked: int
    tests_wrong: int
    tests_missed: int
    sets_same: bool | None
    questions: int
    probes: int
    packets: int
    octets: int
    found: str
    cause: str


# ---- evaluation under disturbances


class EvaluationRow(TypedDict):
    """Everything counted of one engine under one disturbance."""

    column: str
    title: str
    engine: str
    synthetic: bool
    n: int
    right: int
    other_call: int
    unsure: int
    missed: int
    low: float | None
    high: float | None
    clusters: int
    lead_low: float | None
    lead_high: float | None
    five_n: int
    five_right: int
    macro_f1: float | None
    macro_f1_apps: int
    macro_f1_often: float | None
    macro_f1_often_apps: int
    call_tp: int
    call_fp: int
    call_fn: int
    call_f1: float | None
    balanced: float | None
    innocent: int
    false_calls: int
    false_per_million: float | None
    precision_01: float | None
    precision_1: float | None
    precision_10: float | None
    role_n: int
    role_right: int
    calls: int
    calls_right: int
    calls_low: float | None
    calls_high: float | None
    calls_wrong: int
    media_calls: int
    media_calls_right: int
    media_calls_low: float | None
    media_calls_high: float | None
    bytes: int
    bytes_right: int
    bytes_low: float | None
    bytes_high: float | None
    bare: int
    bare_honest: int
    waits: int
    p50: int | None
    p95: int | None
    p99: int | None
    ms_p50: float | None
    ms_p95: float | None
    ms_p99: float | None
    short: int
    absent: int


class EvaluationAppRow(TypedDict):
    """Outcomes of the flows of one app and role, of one engine under one disturbance."""

    column: str
    engine: str
    synthetic: bool
    app: str
    role: str
    n: int
    right: int
    other_call: int
    unsure: int
    missed: int
    low: float | None
    high: float | None
    clusters: int


class EvaluationInnocentRow(TypedDict):
    """Innocent flows of one kind, and those taken for a call, of one engine and disturbance."""

    column: str
    engine: str
    synthetic: bool
    kind: str
    flows: int
    hits: int
    per_million: float | None


class EvaluationOpenRow(TypedDict):
    """The verdicts of the engine without one app on that app's flows."""

    app: str
    n: int
    nameless: int
    unsure: int
    quiet: int
    other_app: int
    named: str
    clean: int
    clusters: int
    low: float | None
    high: float | None
    call_auroc: float | None
    call_auroc_low: float | None
    call_auroc_high: float | None
    innocent: int
    known_auroc: float | None
    known_auroc_low: float | None
    known_auroc_high: float | None
    known: int
    limit: float | None
    kept: int | None
    rejected: int | None


class EvaluationFlowRow(TypedDict):
    """A flow of a call, or a false call, under one disturbance."""

    column: str
    capture: str
    synthetic: bool
    group: str
    frame: int
    proto: str
    packets: int
    octets: int
    truth_app: str
    truth_role: str
    truth_call: str | None
    why: str
    left: str
    bare: bool
    verdict: str
    app: str
    role: str
    confidence: float | None
    packets_to_verdict: int | None
    ms_to_verdict: float | None
    evidence: str
    outcome: str


# ---- live runs


class LiveCallRow(Place):
    """A call of a live run, with its verdict in virtual time."""

    capture: str
    call: str
    app: str
    kind: str
    synthetic: bool
    verdict: str
    virtual: str | None
    agree: bool | None
    cause: str
    packets: int
    proven: int
    play: str


class LiveBenchRow(TypedDict):
    """A trial of the live bench."""

    path: str
    what: str
    frames: str
    pps: int
    trial: int
    seconds: float
    sent: int
    lost: int
    offered: bool
    n: int
    p50_us: float | None
    p99_us: float | None
    p999_us: float | None


# ---- live calls of programs


class ProgramPlace(TypedDict):
    """The columns that name a live call of programs."""

    operator: str
    hypothesis: str
    access: str
    date: str
    hypothesis_title: str
    plan: str
    caller: str
    media: str
    path: str
    repeat: int


class ProgramCallRow(ProgramPlace):
    """A live call of programs, with the verdict of its replay, and both directions."""

    security: str
    program: str
    verdict: str
    blocked: bool
    rule: str | None
    reason: str
    connected: bool
    connected_s: float | None
    connected_control_s: float | None
    carried: str
    carried_control: str
    met: int
    replay: str | None
    replay_blocked: bool | None
    replay_reason: str | None
    agree: bool | None
    agree_blocked: bool | None
    seconds: float
    error: str
    up_sent: int | None
    up_arrived: int | None
    up_loss: float | None
    up_delay_ms: float | None
    up_jitter_ms: float | None
    up_mos: float | None
    up_mos_low: float | None
    up_mos_high: float | None
    up_mos_control: float | None
    up_heard_s: float | None
    up_heard_control_s: float | None
    up_concealed: float | None
    up_frozen_s: float | None
    up_counted_by: str
    up_slots: str
    up_control_slots: str
    down_sent: int | None
    down_arrived: int | None
    down_loss: float | None
    down_delay_ms: float | None
    down_jitter_ms: float | None
    down_mos: float | None
    down_mos_low: float | None
    down_mos_high: float | None
    down_mos_control: float | None
    down_heard_s: float | None
    down_heard_control_s: float | None
    down_concealed: float | None
    down_frozen_s: float | None
    down_counted_by: str
    down_slots: str
    down_control_slots: str


class ProgramStateRow(ProgramPlace):
    """A report of the program of one end, and its time."""

    end: str
    at_s: float
    kind: str
    word: str


class Tables(TypedDict, total=False):
    """The tables of a run, without those of an evaluation."""

    flows: list[FlowRow]
    calls: list[CallRow]
    timelines: list[TimelineRow]
    collateral: list[CollateralRow]
    bystander_calls: list[BystanderCallRow]
    mixes: list[MixRow]
    cells: list[CellRow]
    latency: list[LatencyRow]
    throughput: list[ThroughputRow]
    dressed: list[DressedRow]
    dress_costs: list[DressCostRow]
    live_calls: list[LiveCallRow]
    live_bench: list[LiveBenchRow]
    localise: list[LocaliseRow]
    laws: list[LawRow]
    program_calls: list[ProgramCallRow]
    program_states: list[ProgramStateRow]


#: Table name -> its rows.
ROWS: dict[str, type] = {
    "flows": FlowRow,
    "calls": CallRow,
    "timelines": TimelineRow,
    "collateral": CollateralRow,
    "bystander_calls": BystanderCallRow,
    "mixes": MixRow,
    "cells": CellRow,
    "latency": LatencyRow,
    "throughput": ThroughputRow,
    "dressed": DressedRow,
    "dress_costs": DressCostRow,
    "live_calls": LiveCallRow,
    "live_bench": LiveBenchRow,
    "localise": LocaliseRow,
    "laws": LawRow,
    "program_calls": ProgramCallRow,
    "program_states": ProgramStateRow,
    "evaluation": EvaluationRow,
    "evaluation_apps": EvaluationAppRow,
    "evaluation_innocent": EvaluationInnocentRow,
    "evaluation_open": EvaluationOpenRow,
    "evaluation_flows": EvaluationFlowRow,
}


# ---- rows on their way to a table


class SeenFlow(FlowRow, total=False):
    """A row of `flows` before it is written; strict_rtp: the strict RTP rule calls it a call."""

    strict_rtp: bool


class RecognisedCall(CallFacts):
    """A distinct call of the run, and whether it was recognised."""

    recognised: bool


# ---- the file of a finished cell, from which rows of its tables are made


class QualityEntry(TypedDict):
    """Quality of a direction's media under the policy and under none; None without media."""

    media_lost: float | None
    mos: float | None
    mos_low: float | None
    mos_high: float | None
    delay_ms: float | None
    jitter_ms: float | None
    mos_control: float | None
    delay_control_ms: float | None


class LaneEntry(QualityEntry):
    """One direction of a timeline: packets per slot, when the rule first struck, quality."""

    due: list[int]
    sent: list[int]
    came: list[int]
    struck: list[int]
    spoke_s: float | None


class TimelineEntry(TypedDict, total=False):
    """The timeline of a call; without any key where no rule touched the call."""

    seconds: float
    recognised_s: float | None
    lanes: dict[str, LaneEntry]


class CallEntry(TypedDict):
    """A call of a cell: its verdict, timeline and loss; in a live cell, its parity too."""

    sha256: str
    call: str
    verdict: str
    blocked: bool
    usable: bool | None
    rule: str | None
    packets_to_block: int | None
    ms_to_block: float | None
    media_sent: int | None
    media_delivered: int | None
    media_control: int | None
    media_lost: float | None
    reason: str
    timeline: TimelineEntry
    loss: LossEntry
    packets: NotRequired[int]
    proven: NotRequired[int]
    twin: NotRequired[str | None]
    cause: NotRequired[str]


class HitCounts(TypedDict):
    """Flows and those hit, with their bytes."""

    flows: int
    hit: int
    bytes: int
    bytes_hit: int


class KindHits(HitCounts):
    """Innocent flows of one kind of traffic."""

    protocol: str


class GroupCounts(HitCounts):
    """Flows of one capture group."""

    group: str


class GroupHits(GroupCounts):
    """Innocent flows of one kind of traffic in one capture group."""

    protocol: str


class LossEntry(HitCounts):
    """Flows, IP bytes and seconds of talk of a call, and those hit or lost."""

    seconds: int
    seconds_lost: int


class CellOutcome(TypedDict):
    """The outcome of a cell's simulation."""

    key: str
    calls: list[CallEntry]
    collateral: list[KindHits]
    groups: list[GroupHits]
    seconds: float


# ---- blocks of summary.json

#: The low and the high end of an interval (a list in JSON), None where none can be given.
Ends = Sequence[float] | None


class Outcomes(TypedDict):
    """Outcomes of call flows: n in all, and each of metrics.OUTCOMES."""

    n: int
    right: int
    other_call: int
    unsure: int
    missed: int


class OutcomeShare(Outcomes):
    """Outcomes, and the share that is right with its interval over capture groups."""

    share: float | None
    interval: Ends
    clusters: int


class RightShare(TypedDict):
    """Call flows, those named right, and the share with its interval over capture groups."""

    n: int
    right: int
    share: float | None
    interval: Ends
    clusters: int


class NameCounts(TypedDict):
    """True and false positives and false negatives of an app's name."""

    tp: int
    fp: int
    fn: int
    precision: float | None
    recall: float | None
    f1: float | None


class MacroF1(TypedDict):
    """The mean F1 over apps, and the number of apps."""

    value: float | None
    apps: int


class Confused(TypedDict):
    """Call flows of one app (`truth`) with one verdict (`said`: an app, "unsure" or "missed")."""

    truth: str
    said: str
    n: int


class QuietKind(TypedDict):
    """Innocent flows of one kind, and those taken for a call."""

    kind: str
    flows: int
    hits: int


class FalseCalls(TypedDict):
    """Innocent flows taken for a call, and bounds of their rate per million."""

    flows: int
    hits: int
    groups: int
    groups_hit: int
    five_hits: int
    per_million: float | None
    upper_per_million: float | None
    independent_upper_per_million: float | None
    upper_method: str
    by_kind: list[QuietKind]


class Quantiles(TypedDict):
    """Quantiles of n values; None where n is 0."""

    n: int
    p50: float | None
    p95: float | None
    p99: float | None


class Waits(TypedDict):
    """Packets and milliseconds to a right verdict."""

    packets: Quantiles
    ms: Quantiles


class Baseline(TypedDict):
    """Counts of one simple rule, or of Midcall, over the same flows."""

    name: str
    call_flows: int
    called_a_call: int
    right: int
    five_flows: int
    five_right: int
    innocent_flows: int
    false_calls: int


class Recognition(TypedDict):
    """Calls of one app that were recognised, of n."""

    app: str
    synthetic: bool
    added: bool
    n: int
    hits: int
    share: float | None
    interval: Ends


class Accuracy(TypedDict, total=False):
    """Accuracy over the flows and calls of real captures; `synthetic`: over synthetic ones."""

    apps: dict[str, dict[str, OutcomeShare]]
    by_app: dict[str, NameCounts]
    macro_f1: float | None
    macro_f1_apps: int
    macro_f1_five: MacroF1
    macro_f1_at_least_5_flows: MacroF1
    five: RightShare
    five_without_copies: RightShare
    five_distinct: RightShare
    all: RightShare
    confusion: list[Confused]
    false_calls: FalseCalls
    scope: str
    calls_recognised: list[Recognition]
    baselines: list[Baseline]
    synthetic: SyntheticAccuracy


class SyntheticAccuracy(TypedDict):
    """Accuracy over the flows of synthetic captures."""

    apps: dict[str, dict[str, OutcomeShare]]
    false_calls: FalseCalls


class MissionRow(Place):
    """The outcomes of the calls of an app and kind in a cell."""

    app: str
    kind: str
    later_client: bool
    synthetic: bool
    added: bool
    ok: int
    blocked: int
    inconclusive: int
    invalid: int
    n: int
    blocked_interval: Ends


class OperatorCalls(TypedDict):
    """The outcomes of the (call, cell) pairs of an operator."""

    operator: str
    ok: int
    blocked: int
    inconclusive: int
    invalid: int
    unusable: int


class KindRate(TypedDict):
    """Innocent flows of one kind of traffic that a hypothesis hits, where it hits most."""

    operator: str
    hypothesis: str
    protocol: str
    flows: int
    hit: int
    bytes: int
    bytes_hit: int
    flows_per_million: float
    bytes_per_million: float
    groups: int
    interval: Ends


class WorstCell(Place):
    """The cell in which the largest share of innocent flows is hit."""

    flows: int
    hit: int


class OtherCalls(Place):
    """Calls of all apps that were no target, in a cell."""

    calls: int
    blocked: int
    degraded: int
    seconds: int
    seconds_lost: int


class OtherCosts(TypedDict):
    """Costs of hypotheses: flows hit in a mix of traffic, and calls that were no target."""

    mixes: list[MixRow]
    calls: list[OtherCalls]


class Collateral(TypedDict):
    """Innocent flows and hits over all cells."""

    by_protocol: list[KindRate]
    flows: int
    hit: int
    cells: int
    flows_per_cell: int
    worst: WorstCell | None


class NoiseLine(TypedDict):
    """Planted rules and those recovered at one share of wrong answers."""

    planted: int
    recovered: int
    partly: int
    unexplained: int
    wrong: int
    never: int
    noise: float
    probes_p50: int
    probes_p95: int


class LawCounts(TypedDict):
    """Cases of laws tried and broken."""

    cases: int
    broken: int
    by_law: list[LawRow]


class CellCounts(TypedDict):
    """Cells of the grid, those that failed, and those without a documented service."""

    n: int
    failed: int
    undocumented: int
    errors: list[str]
