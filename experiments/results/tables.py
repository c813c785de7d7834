# SPDX-License-Identifier: BSD-3-Clause
"""Types of a run's results: a row of each table, a finished cell's file, blocks of summary.json.

A table is one TypedDict; `schema` derives its Arrow columns from it: str, bool, int (64 bits) and
float (64 bits), in the order in which they stand here. `| None`: the column can be null. The
annotation of a column has its type, its unit, its meaning and its source (`column`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal, NotRequired, TypedDict

from midcall.experiments.results.column import (
    BENCH,
    CALLS,
    CATALOGUE,
    COLLATERAL,
    DECIDING,
    ENGINE,
    EVASION,
    INCIDENTS,
    JUDGE,
    LABELS,
    LADDER,
    LAWS,
    LIVE,
    LOCALISER,
    METRICS,
    OPENSET,
    PERTURB,
    POLICY,
    PROBE_PAIRS,
    PROGRAMS,
    QUALITY,
    RUN,
    RUNNER,
    SCORES,
    SPEC,
    SUMMARY,
    TIMELINE,
    TIMING,
    Column,
)

#: A value of a JSON file whose blocks are not typed: of summary.json, or of another version's.
Json = Any
#: A JSON object: summary.json, provenance.json, a spec, a localised box.
Document = dict[str, Json]

#: The two directions of a call, as columns and rows name them.
Direction = Literal["up", "down"]


# ---- columns of several tables

OperatorColumn = Annotated[
    str,
    Column(
        "id",
        "The operator: the id of its policy file, also of a file of one's own; "
        '"blackbox:NAME" for a third-party box.',
        SPEC,
    ),
]
HypothesisColumn = Annotated[
    str,
    Column(
        "id",
        'The hypothesis on how the operator recognised calls; "as-it-is" for a third-party box.',
        POLICY,
    ),
]
AccessColumn = Annotated[
    str, Column("name", "The access network: 3g, 4g, adsl, fibre or wifi.", SPEC)
]
DateColumn = Annotated[str, Column("date", "The day whose rules are in force.", SPEC)]
HypothesisTitleColumn = Annotated[str, Column("text", "The hypothesis in words.", POLICY)]
CaptureColumn = Annotated[str, Column("name", "The capture that holds the call.", CATALOGUE)]
AnyCaptureColumn = Annotated[str, Column("name", "The capture.", CATALOGUE)]
GroupColumn = Annotated[
    str,
    Column(
        "name",
        "The capture group: captures of one group are not independent of each other.",
        CATALOGUE,
    ),
]
AppColumn = Annotated[str, Column("name", "The app with which the call was made.", CALLS)]
KindColumn = Annotated[str, Column("name", "The kind of the call: audio, video or unknown.", CALLS)]
CallColumn = Annotated[str, Column("id", "The call, within its capture.", CALLS)]
SyntheticColumn = Annotated[
    bool, Column("true or false", "Whether a program of this project made the capture.", CATALOGUE)
]
CountsSyntheticColumn = Annotated[
    bool,
    Column(
        "true or false",
        "Whether the row counts synthetic captures, instead of real ones.",
        CATALOGUE,
    ),
]
AddedColumn = Annotated[
    bool, Column("true or false", "Whether the user added the capture.", CATALOGUE)
]
EvidenceColumn = Annotated[str, Column("text", "The sign that led to the verdict.", ENGINE)]
TruthCallColumn = Annotated[str | None, Column("id", "The call to which the flow belongs.", LABELS)]
BlockedColumn = Annotated[bool, Column("true or false", "Whether there was no call at all.", JUDGE)]
RuleColumn = Annotated[str | None, Column("name", "The rule that acted on the call.", JUDGE)]
GradeColumn = Annotated[
    str | None,
    Column("grade", 'How well the rule is documented, A to D; "?" marks a hypothesis.', POLICY),
]
PathColumn = Annotated[str, Column("name", "The measured path: offline.", TIMING)]
VerdictColumn = Annotated[str, Column("name", "The verdict of the call, as in `calls`.", JUDGE)]
ColumnColumn = Annotated[
    str, Column("id", "The disturbance, or the way in which the engine is reduced.", PERTURB)
]
RightColumn = Annotated[int, Column("flows", "Those with the right app.", SCORES)]
OtherCallColumn = Annotated[int, Column("flows", "Those named as another app.", SCORES)]
UnsureColumn = Annotated[int, Column("flows", "Those with an unsure or nameless verdict.", SCORES)]
MissedColumn = Annotated[int, Column("flows", "Those not taken for a call.", SCORES)]
LowColumn = Annotated[
    float | None,
    Column("share", "Low end of the 95 % interval of `right` / `n`, over capture groups.", SCORES),
]
HighColumn = Annotated[float | None, Column("share", "High end of the same interval.", SCORES)]
ClustersColumn = Annotated[int, Column("groups", "Capture groups of these flows.", SCORES)]
EngineColumn = Annotated[
    str,
    Column(
        "name", "The engine: midcall, a simple rule, a peer, or a classifier of the user.", SCORES
    ),
]


# ---- groups of columns that several tables share


class Place(TypedDict):
    """The columns that name a cell of the grid in every table."""

    operator: OperatorColumn
    hypothesis: HypothesisColumn
    access: AccessColumn
    date: DateColumn


class TitledPlace(TypedDict):
    """The columns that name a cell of the grid, with the title of its hypothesis."""

    operator: OperatorColumn
    hypothesis: HypothesisColumn
    hypothesis_title: HypothesisTitleColumn
    access: AccessColumn
    date: DateColumn


class CallFacts(TypedDict):
    """The columns of a call that do not depend on its outcome."""

    capture: CaptureColumn
    capture_year: Annotated[
        int | None,
        Column(
            "year",
            "The year of the recording: the call's own if its file gives one, else the capture's.",
            CATALOGUE,
        ),
    ]
    group: GroupColumn
    app: AppColumn
    kind: KindColumn
    call: CallColumn
    synthetic: SyntheticColumn
    added: AddedColumn
    later_client: Annotated[
        bool,
        Column(
            "true or false",
            "Whether the call was recorded after the last year of the scenario.",
            CATALOGUE,
        ),
    ]


class Dress(TypedDict):
    """The columns that name a disguise or control arm, and a capture in it."""

    dress: Annotated[
        str,
        Column("name", 'The disguise or control arm; "none" for the call as captured.', EVASION),
    ]
    sort: Annotated[
        str, Column("name", "What `dress` is: none (as captured), arm or disguise.", EVASION)
    ]
    capture: CaptureColumn
    synthetic: SyntheticColumn
    app: AppColumn
    kind: KindColumn


# ---- tables of every run


class CaptureFacts(TypedDict):
    """The columns of a capture that do not depend on its flows."""

    capture: AnyCaptureColumn
    sha256: Annotated[str, Column("hex", "The SHA-256 sum of the capture file.", CATALOGUE)]
    synthetic: SyntheticColumn
    added: AddedColumn
    year: Annotated[
        int | None,
        Column("year", "The year of the recording; null where it is unknown.", CATALOGUE),
    ]
    group: GroupColumn
    innocent: Annotated[
        bool, Column("true or false", "Whether the capture holds no call at all.", CATALOGUE)
    ]


class EngineFlow(TypedDict):
    """A flow and the verdict of the classifier; frame: the number of its first packet, from 1."""

    frame: Annotated[
        int,
        Column(
            "packet number", "The number of the flow's first packet in the capture, from 1.", ENGINE
        ),
    ]
    proto: Annotated[
        str,
        Column(
            "name", "The transport protocol of the innermost packet: udp, tcp, icmp, ...", ENGINE
        ),
    ]
    src_ip: Annotated[
        str | None,
        Column(
            "address",
            "The address that sent the first packet; masked unless the run reveals addresses.",
            ENGINE,
        ),
    ]
    src_port: Annotated[
        int | None,
        Column(
            "port", "The port that sent the first packet; 0 for protocols without ports.", ENGINE
        ),
    ]
    dst_ip: Annotated[
        str | None,
        Column(
            "address",
            "The address that received the first packet; masked unless the run reveals addresses.",
            ENGINE,
        ),
    ]
    dst_port: Annotated[
        int | None,
        Column(
            "port",
            "The port that received the first packet; 0 for protocols without ports.",
            ENGINE,
        ),
    ]
    packets: Annotated[int, Column("packets", "Packets of the flow, both directions.", ENGINE)]
    bytes: Annotated[
        int | None, Column("bytes", "Bytes of the flow on the wire, both directions.", ENGINE)
    ]
    first_ts: Annotated[
        float | None, Column("s since 1970", "Time of the flow's first packet (UTC).", ENGINE)
    ]
    last_ts: Annotated[
        float | None, Column("s since 1970", "Time of the flow's last packet (UTC).", ENGINE)
    ]
    verdict: Annotated[str, Column("name", "The verdict: certain, unsure or not-call.", ENGINE)]
    app: Annotated[
        str,
        Column(
            "name",
            "The app of the verdict; meta or microsoft where only the maker is known, rtc "
            "for a call of an unknown app, none for no call.",
            ENGINE,
        ),
    ]
    family: Annotated[
        str,
        Column("name", "The maker of the app, where several apps share a protocol stack.", ENGINE),
    ]
    role: Annotated[
        str,
        Column("name", "The role of the flow: media, setup, control, messaging or other.", ENGINE),
    ]
    confidence: Annotated[
        float | None,
        Column(
            "share",
            "The confidence of the verdict, from the recordings that show its sign.",
            ENGINE,
        ),
    ]
    packets_to_verdict: Annotated[
        int | None,
        Column(
            "packets", "Packets with payload up to the verdict; null without a verdict.", ENGINE
        ),
    ]
    ms_to_verdict: Annotated[
        float | None,
        Column(
            "ms",
            "Time from the flow's first packet to the verdict; null without a verdict.",
            ENGINE,
        ),
    ]
    evidence: EvidenceColumn


class FlowRow(CaptureFacts, EngineFlow):
    """A flow of a capture: the verdict of the classifier, and its truth (None: no label)."""

    truth_app: Annotated[
        str | None,
        Column("name", 'The app to which the flow belongs; "none" for an innocent flow.', LABELS),
    ]
    truth_role: Annotated[
        str | None,
        Column(
            "name",
            "The true role of the flow: media, setup, control, messaging, other or unknown.",
            LABELS,
        ),
    ]
    truth_call: TruthCallColumn
    truth_confidence: Annotated[
        str | None,
        Column(
            "name", "How well the label is founded: high, medium or low; low is not scored.", LABELS
        ),
    ]
    outcome: Annotated[
        str,
        Column(
            "name",
            "The verdict against the truth: right, other_call, unsure, missed, false_call, "
            "quiet or unscored.",
            METRICS,
        ),
    ]
    replayed: Annotated[
        bool,
        Column(
            "true or false",
            "Whether the flow is among those that cells replay: its capture takes part in the "
            "grid, and routers forward it.",
            RUNNER,
        ),
    ]


class CallRow(CallFacts, TitledPlace):
    """The outcome of a call in a cell of the grid."""

    documented: Annotated[
        bool,
        Column(
            "true or false",
            "Whether the operator's service on this access network is documented.",
            POLICY,
        ),
    ]
    verdict: Annotated[
        str,
        Column(
            "name",
            "What the callers would see: OK, FALLBACK, DEGRADED, CUT, ONE_WAY, "
            "CONNECTED_NO_MEDIA, SETUP_BLOCKED, SIGNALLING_BLOCKED, INCONCLUSIVE or "
            "INVALID.",
            JUDGE,
        ),
    ]
    blocked: BlockedColumn
    usable: Annotated[
        bool | None,
        Column(
            "true or false",
            "Whether the call connected with acceptable quality (ITU-T G.107, G.109); null "
            "for INVALID and INCONCLUSIVE.",
            JUDGE,
        ),
    ]
    rule: RuleColumn
    grade: GradeColumn
    packets_to_block: Annotated[
        int | None,
        Column(
            "packets",
            "Packets of the call that passed before the first one that the box dropped or "
            "answered; null where it struck none.",
            JUDGE,
        ),
    ]
    ms_to_block: Annotated[
        float | None,
        Column(
            "ms",
            "Time at the box from the first of these packets to that first strike, in "
            "virtual time.",
            JUDGE,
        ),
    ]
    media_sent: Annotated[
        int | None,
        Column("packets", "Media packets sent under the policy, both directions.", JUDGE),
    ]
    media_delivered: Annotated[
        int | None,
        Column("packets", "Media packets that arrived under the policy, both directions.", JUDGE),
    ]
    media_control: Annotated[
        int | None,
        Column("packets", "Media packets that arrived in the control run, under no policy.", JUDGE),
    ]
    media_lost: Annotated[
        float | None,
        Column(
            "share",
            "The share of `media_control` that did not arrive; null where that is 0.",
            JUDGE,
        ),
    ]
    recognised: Annotated[
        bool,
        Column(
            "true or false",
            "Whether a flow of the call was certainly named as a call of its app, offline.",
            METRICS,
        ),
    ]
    reason: Annotated[str, Column("text", "Why the verdict is what it is.", JUDGE)]


class CollateralRow(Place):
    """Innocent flows of one kind of traffic in a cell, and those of them hit."""

    protocol: Annotated[str, Column("name", "The kind of traffic.", COLLATERAL)]
    flows: Annotated[
        int, Column("flows", "Innocent flows of this kind that the cell tests.", COLLATERAL)
    ]
    untested: Annotated[
        int,
        Column(
            "flows",
            "Further innocent flows of this kind: they do not reach the box under no policy, or a "
            "rule reads a field that their capture changed.",
            COLLATERAL,
        ),
    ]
    hit: Annotated[
        int,
        Column(
            "flows",
            "Those of which the box struck a packet, or from which it withheld one.",
            COLLATERAL,
        ),
    ]
    bytes: Annotated[
        int, Column("bytes", "IP bytes of the innocent flows of this kind.", COLLATERAL)
    ]
    bytes_hit: Annotated[
        int, Column("bytes", "Those that did not arrive because of the policy.", COLLATERAL)
    ]
    groups: Annotated[
        int, Column("groups", "Capture groups that have this kind of traffic.", COLLATERAL)
    ]
    low: Annotated[
        float | None,
        Column(
            "share",
            "Low end of the 95 % interval of `hit` / `flows`; null below ten groups.",
            COLLATERAL,
        ),
    ]
    high: Annotated[float | None, Column("share", "High end of the same interval.", COLLATERAL)]
    all_low: Annotated[
        float | None,
        Column(
            "share",
            "Low end of the 95 % interval of the share of hit flows of all kinds in this cell.",
            COLLATERAL,
        ),
    ]
    all_high: Annotated[float | None, Column("share", "High end of the same interval.", COLLATERAL)]


class CellRow(Place):
    """A cell of the grid: whether it was simulated, and for how long."""

    status: Annotated[
        str, Column("name", "done, reused (from the cache), failed or undocumented.", RUNNER)
    ]
    error: Annotated[str | None, Column("text", "Why the cell failed.", RUNNER)]
    key: Annotated[
        str | None,
        Column(
            "hex",
            "The sum of everything on which the outcome depends; cells of one key share a "
            "simulation.",
            RUNNER,
        ),
    ]
    seconds: Annotated[
        float | None, Column("s", "Wall time of the simulation, when it was made.", RUNNER)
    ]


class LatencyRow(TypedDict):
    """Time per packet at one percentile."""

    path: PathColumn
    percentile: Annotated[float, Column("percent", "The percentile over batches.", TIMING)]
    ns_per_packet: Annotated[
        float | None,
        Column("ns per packet", "Wall time of a batch divided by its packets.", TIMING),
    ]
    batch: Annotated[int, Column("packets", "Packets per timed batch.", TIMING)]
    n: Annotated[int, Column("batches", "Batches timed.", TIMING)]


class ThroughputRow(TypedDict):
    """Packets and bytes per second of one path on one file."""

    path: PathColumn
    file: Annotated[str, Column("text", "The load: which captures were mixed.", TIMING)]
    packets: Annotated[int, Column("packets", "Packets classified.", TIMING)]
    bytes: Annotated[int, Column("bytes", "Bytes of these packets on the wire.", TIMING)]
    seconds: Annotated[float, Column("s", "Wall time, reading included.", TIMING)]
    packets_per_s: Annotated[float, Column("packets/s", "`packets` / `seconds`.", TIMING)]
    bytes_per_s: Annotated[float, Column("bytes/s", "`bytes` / `seconds`.", TIMING)]


# ---- calls and flows that were not the target


class BystanderCallRow(Place):
    """Calls of one app that was no target of the operator, in a cell."""

    app: Annotated[str, Column("name", "The app with which the calls were made.", CALLS)]
    calls: Annotated[int, Column("calls", "Calls of this app.", COLLATERAL)]
    blocked: Annotated[int, Column("calls", "Those with no call at all.", COLLATERAL)]
    degraded: Annotated[int, Column("calls", "Those with the verdict DEGRADED.", COLLATERAL)]
    seconds: Annotated[int, Column("s", "Seconds of talk of these calls.", COLLATERAL)]
    seconds_lost: Annotated[
        int,
        Column(
            "s", "Those in which under half of a direction's media arrived in time.", COLLATERAL
        ),
    ]


class MixRow(Place):
    """Flows and bytes hit per million in a mix with a stated share of call flows."""

    share: Annotated[float, Column("share", "Call flows among all flows of the mix.", COLLATERAL)]
    protocol: Annotated[
        str,
        Column(
            "name", 'The part: "all innocent", a kind of innocent traffic, or "calls".', COLLATERAL
        ),
    ]
    flows_per_million: Annotated[
        float,
        Column(
            "flows per million",
            "Flows of this part that are hit, per million flows of the mix.",
            COLLATERAL,
        ),
    ]
    flows_low: Annotated[
        float | None,
        Column(
            "flows per million", "Low end of its 95 % interval; null below ten groups.", COLLATERAL
        ),
    ]
    flows_high: Annotated[
        float | None, Column("flows per million", "High end of the same interval.", COLLATERAL)
    ]
    bytes_per_million: Annotated[
        float,
        Column(
            "bytes per million",
            "Bytes of this part that do not arrive, per million bytes of the mix.",
            COLLATERAL,
        ),
    ]
    bytes_low: Annotated[
        float | None, Column("bytes per million", "Low end of its 95 % interval.", COLLATERAL)
    ]
    bytes_high: Annotated[
        float | None, Column("bytes per million", "High end of the same interval.", COLLATERAL)
    ]
    of_hits: Annotated[
        float | None,
        Column("share", "This part's share of all flows hit; null where none is hit.", COLLATERAL),
    ]
    groups: Annotated[int, Column("groups", "Capture groups of this part.", COLLATERAL)]


# ---- timelines


class TimelineRow(TitledPlace):
    """One direction of a call that a rule touched: packets by slot, and quality."""

    places: Annotated[
        str,
        Column(
            "text",
            "Every OPERATOR/ACCESS/DATE that shares this simulation, separated by spaces.",
            TIMELINE,
        ),
    ]
    grade: GradeColumn
    capture: CaptureColumn
    call: CallColumn
    app: AppColumn
    kind: KindColumn
    synthetic: SyntheticColumn
    verdict: VerdictColumn
    blocked: BlockedColumn
    rule: RuleColumn
    direction: Annotated[
        str, Column("name", "up (from the caller) or down (to the caller).", TIMELINE)
    ]
    seconds: Annotated[
        float,
        Column(
            "s",
            "Length of the timeline, from the call's first packet at the box, in virtual time.",
            TIMELINE,
        ),
    ]
    recognised_s: Annotated[
        float | None,
        Column("s", "When the box was certain of the app; null where it never was.", TIMELINE),
    ]
    spoke_s: Annotated[
        float | None,
        Column("s", "When a rule first acted on a packet of this direction.", TIMELINE),
    ]
    media_lost: Annotated[
        float | None,
        Column(
            "share",
            "Media of the control run that did not arrive, in this direction; null without media.",
            QUALITY,
        ),
    ]
    mos: Annotated[
        float | None,
        Column("MOS", "Estimated mean opinion score of this direction (voice only).", QUALITY),
    ]
    mos_low: Annotated[float | None, Column("MOS", "The least over the assumed codecs.", QUALITY)]
    mos_high: Annotated[float | None, Column("MOS", "The most over the assumed codecs.", QUALITY)]
    mos_control: Annotated[
        float | None, Column("MOS", "The same estimate in the control run.", QUALITY)
    ]
    mos_seconds: Annotated[
        str,
        Column(
            "MOS per second",
            "The same estimate of each second of the direction's media; empty where it is no "
            "voice call.",
            QUALITY,
        ),
    ]
    mos_control_seconds: Annotated[
        str, Column("MOS per second", "The same in the control run.", QUALITY)
    ]
    delay_ms: Annotated[
        float | None, Column("ms", "One-way network delay of the replayed leg.", QUALITY)
    ]
    delay_control_ms: Annotated[float | None, Column("ms", "The same in the control run.", QUALITY)]
    jitter_ms: Annotated[
        float | None,
        Column("ms", "Interarrival jitter (RFC 3550) that the network added.", QUALITY),
    ]
    due: Annotated[int, Column("packets", "Packets that met the box in the control run.", TIMELINE)]
    sent: Annotated[int, Column("packets", "Packets that met the box under the policy.", TIMELINE)]
    came: Annotated[int, Column("packets", "Those of `sent` that arrived.", TIMELINE)]
    struck: Annotated[
        int, Column("packets", "Those of `sent` that a rule dropped, answered or slowed.", TIMELINE)
    ]
    due_slots: Annotated[
        str,
        Column(
            "packets per slot", "`due` in 60 slots of equal length, separated by spaces.", TIMELINE
        ),
    ]
    sent_slots: Annotated[str, Column("packets per slot", "`sent` in the same slots.", TIMELINE)]
    came_slots: Annotated[str, Column("packets per slot", "`came` in the same slots.", TIMELINE)]
    struck_slots: Annotated[
        str, Column("packets per slot", "`struck` in the same slots.", TIMELINE)
    ]


# ---- ladders


class LadderLine(TypedDict):
    """One line of a call's ladder: a packet, several packets of one direction, or a remainder."""

    line: Annotated[int, Column("number", "Position in the ladder, from 1.", LADDER)]
    kind: Annotated[
        str,
        Column(
            "name",
            "packet, packets, injected (a frame that the box made; also for several), not_sent "
            "(packets of the call that were never sent) or others (the rest of the capture).",
            LADDER,
        ),
    ]
    direction: Annotated[
        str,
        Column(
            "name", "up (to the callee), down, local, or empty for not_sent and others.", LADDER
        ),
    ]
    frame: Annotated[
        int | None,
        Column(
            "packet number",
            "The packet in its capture; of an injected frame, the packet that it answers; null for "
            "several.",
            LADDER,
        ),
    ]
    attempt: Annotated[
        int | None, Column("number", "Sending of this packet, from 1; null for several.", LADDER)
    ]
    remote: Annotated[
        str | None,
        Column("text", "Transport and remote end, address masked; null for several.", LADDER),
    ]
    what: Annotated[str, Column("text", "What the packet holds, or the packets hold.", LADDER)]
    begin_s: Annotated[
        float | None,
        Column(
            "s",
            "When the first of them left its sender (injected: the box), since the first line.",
            LADDER,
        ),
    ]
    end_s: Annotated[
        float | None, Column("s", "The same of the last; equal for one packet.", LADDER)
    ]
    arrived_s: Annotated[
        float | None, Column("s", "When a single packet arrived; null: never, or several.", LADDER)
    ]
    bytes: Annotated[int, Column("bytes", "IP bytes of all these packets.", LADDER)]
    sent: Annotated[int, Column("packets", "Sendings of packets, copies included.", LADDER)]
    delivered: Annotated[int, Column("packets", "Those of `sent` that arrived.", LADDER)]
    delayed: Annotated[
        int, Column("packets", "Those of `delivered` that a rule kept for a time.", LADDER)
    ]
    delay_ms: Annotated[
        float | None, Column("ms", "Mean time for which a rule kept `delayed` packets.", LADDER)
    ]
    dropped: Annotated[
        int, Column("packets", "Those of `sent` that the box dropped or answered itself.", LADDER)
    ]
    lost: Annotated[int, Column("packets", "Those of `sent` that the access link lost.", LADDER)]
    injected: Annotated[int, Column("packets", "Frames that the box made.", LADDER)]
    not_sent: Annotated[int, Column("packets", "Packets that were never sent.", LADDER)]
    rule: Annotated[
        str | None, Column("name", "The rules that decided, separated by commas.", LADDER)
    ]
    recognises: Annotated[
        bool,
        Column(
            "true or false", "Whether the classifier recognised the call at this packet.", LADDER
        ),
    ]
    acts: Annotated[
        bool,
        Column("true or false", "Whether a rule first acted on the call at this packet.", LADDER),
    ]
    decided_by: Annotated[
        str | None,
        Column(
            "name",
            "What decided at this packet: classifier, or rule (its match reads no verdict of the "
            "classifier); null for every other packet.",
            DECIDING,
        ),
    ]
    evidence: Annotated[
        str | None,
        Column("text", "Why: the classifier's evidence, or the match of the rule.", DECIDING),
    ]
    named: Annotated[
        str | None,
        Column("text", "The verdict that the classifier gave: verdict, app and role.", DECIDING),
    ]
    octets_at: Annotated[
        int | None, Column("bytes", "Position of the first of `octets` in its frame.", DECIDING)
    ]
    payload_at: Annotated[
        int | None, Column("bytes", "Position of the payload in the frame.", DECIDING)
    ]
    octets: Annotated[
        str | None,
        Column(
            "text",
            'Octets of the frame in hexadecimal, ".." for those that may be private.',
            DECIDING,
        ),
    ]
    marks: Annotated[
        str | None,
        Column(
            "text",
            "The octets that decided, as JSON: a list of [position in the frame, octets, meaning].",
            DECIDING,
        ),
    ]
    no_marks: Annotated[
        str | None, Column("text", "Why no octets are marked; null where some are.", DECIDING)
    ]


class LadderRow(TitledPlace, LadderLine):
    """One line of a call's ladder, and the cell of the grid for which it is drawn."""

    places: Annotated[
        str,
        Column(
            "text",
            "Every OPERATOR/ACCESS/DATE with the same rules, separated by spaces; empty without "
            "rules.",
            LADDER,
        ),
    ]
    capture: CaptureColumn
    call: CallColumn


# ---- disguises and control arms


class DressVerdict(Place):
    """The verdict on a call in a disguise or control arm under one rule set."""

    call: CallColumn
    verdict: VerdictColumn
    blocked: BlockedColumn
    rule: RuleColumn
    media_lost: Annotated[
        float | None, Column("share", "Media of the control run that did not arrive.", JUDGE)
    ]
    mos: Annotated[
        float | None,
        Column(
            "MOS", "The lower MOS of a voice call's two directions; null for control arms.", QUALITY
        ),
    ]


class DressCost(TypedDict):
    """The cost of a disguise for a call without any rule."""

    call: CallColumn
    bytes_plain: Annotated[int, Column("bytes", "IP bytes of the call as captured.", EVASION)]
    bytes: Annotated[int, Column("bytes", "IP bytes of the call in the disguise.", EVASION)]
    packets: Annotated[
        int,
        Column("packets", "Packets of the call, without those that the disguise adds.", EVASION),
    ]
    packets_added: Annotated[int, Column("packets", "Packets that the disguise adds.", EVASION)]
    setup_ms: Annotated[
        float, Column("ms", "Time of the handshake of the disguise's tunnel.", EVASION)
    ]
    delay_ms: Annotated[
        float, Column("ms", "Mean time for which the disguise holds a media packet back.", EVASION)
    ]
    mos: Annotated[
        float | None,
        Column("MOS", "The lower MOS of a voice call's two directions, under no rule.", QUALITY),
    ]


class DressedRow(Dress, DressVerdict):
    """The verdict on a call in a disguise or control arm, with both named."""


class DressCostRow(Dress, DressCost):
    """The cost of a disguise for a call, with both named."""


# ---- the localiser and the laws


class LawRow(TypedDict):
    """A law of verdicts: cases tried and broken."""

    law: Annotated[int, Column("number", "The law's number.", LAWS)]
    title: Annotated[str, Column("text", "The law in words.", LAWS)]
    captures: Annotated[int, Column("captures", "Captures on which the law has a case.", LAWS)]
    cases: Annotated[int, Column("cases", "Cases tried.", LAWS)]
    broken: Annotated[int, Column("cases", "Cases that break the law.", LAWS)]
    counterexample: Annotated[
        str, Column("text", 'The first case that breaks it; "" for none.', LAWS)
    ]


class LocaliseRow(TypedDict):
    """A planted rule, and the result of the localiser for it."""

    set: Annotated[
        str,
        Column(
            "name",
            "The set of planted rules: listed, drawn, outsider or outsider-AUTHOR.",
            LOCALISER,
        ),
    ]
    rule: Annotated[str, Column("name", "The planted rule.", LOCALISER)]
    kind: Annotated[str, Column("name", "The kind of the planted rule.", LOCALISER)]
    noise: Annotated[float, Column("share", "The box's answers that were falsified.", LOCALISER)]
    outcome: Annotated[
        str,
        Column(
            "name",
            "exactly, partly, unexplained, wrong, or never (the rule does not block its call).",
            LOCALISER,
        ),
    ]
    recovered: Annotated[
        bool, Column("true or false", "Whether the rule was found exactly.", LOCALISER)
    ]
    complete: Annotated[
        bool,
        Column(
            "true or false", "Whether the search reports that it explained everything.", LOCALISER
        ),
    ]
    tests: Annotated[
        int,
        Column(
            "probes",
            "Held-out probes on which the found rule was compared with the planted one.",
            LOCALISER,
        ),
    ]
    tests_blocked: Annotated[
        int, Column("probes", "Those that the planted rule blocks.", LOCALISER)
    ]
    tests_wrong: Annotated[int, Column("probes", "Those on which the two rules differ.", LOCALISER)]
    tests_missed: Annotated[
        int, Column("probes", "Those of `tests_wrong` that the planted rule blocks.", LOCALISER)
    ]
    sets_same: Annotated[
        bool | None,
        Column(
            "true or false",
            "Whether the found factors are those that the rule needs; null where none are stated.",
            LOCALISER,
        ),
    ]
    questions: Annotated[int, Column("questions", "Questions that the search asked.", LOCALISER)]
    probes: Annotated[
        int,
        Column("probes", "Probes sent to the box; noise makes several of one question.", LOCALISER),
    ]
    packets: Annotated[int, Column("packets", "Packets of these probes.", LOCALISER)]
    octets: Annotated[int, Column("bytes", "Bytes of these probes.", LOCALISER)]
    found: Annotated[str, Column("text", "The found rule in words.", LOCALISER)]
    cause: Annotated[
        str, Column("text", 'Why the rule was not found exactly; "" where it was.', LOCALISER)
    ]


# ---- incidents, and live probes next to virtual ones


class WorkaroundRow(TypedDict):
    """A statement of a user on an incident, played under a hypothesis."""

    statement: Annotated[str, Column("id", "The statement.", INCIDENTS)]
    words: Annotated[str, Column("text", "What was said, in our words.", INCIDENTS)]
    source: Annotated[str, Column("text", "The thread in which it was said: a URL.", INCIDENTS)]
    date: Annotated[
        str, Column("date", "When it was said; the rules of that day are in force.", INCIDENTS)
    ]
    operator: OperatorColumn
    hypothesis: HypothesisColumn
    access: AccessColumn
    capture: CaptureColumn
    synthetic: SyntheticColumn
    call: CallColumn
    app: AppColumn
    dress: Annotated[
        str,
        Column(
            "name",
            "What was changed in the call: a work-around, a disguise or a control arm; "
            '"none" for the call as captured.',
            EVASION,
        ),
    ]
    unchanged: Annotated[str, Column("name", "`result` of the call without the change.", INCIDENTS)]
    says: Annotated[
        str,
        Column("name", "What became of the call, as said: works, degraded or fails.", INCIDENTS),
    ]
    result: Annotated[
        str,
        Column("name", "What became of it here: works, degraded, fails or cannot tell.", INCIDENTS),
    ]
    verdict: VerdictColumn
    agrees: Annotated[
        bool, Column("true or false", "Whether `result` is what was said.", INCIDENTS)
    ]
    media_lost: Annotated[
        float | None, Column("share", "Media of the control run that did not arrive.", JUDGE)
    ]
    reason: Annotated[str, Column("text", "The reason of the verdict.", JUDGE)]
    differs: Annotated[
        str, Column("text", 'Why the hypothesis disagrees; "" where it agrees.', INCIDENTS)
    ]
    stands_in: Annotated[
        str,
        Column(
            "text",
            'Why the capture is of another app, or was changed before; "" where it is neither.',
            INCIDENTS,
        ),
    ]


class ProbePairRow(TypedDict):
    """One drawn policy, probed in virtual time and between namespaces."""

    case: Annotated[str, Column("id", "The drawn policy.", PROBE_PAIRS)]
    rule: Annotated[str, Column("text", "The policy's rule.", PROBE_PAIRS)]
    virtual: Annotated[str, Column("name", "The verdict in virtual time.", PROBE_PAIRS)]
    live: Annotated[str, Column("name", "The verdict between namespaces.", PROBE_PAIRS)]
    virtual_answer: Annotated[
        str, Column("text", "Act, direction, scope and trigger in virtual time.", PROBE_PAIRS)
    ]
    live_answer: Annotated[
        str, Column("text", "Act, direction, scope and trigger live.", PROBE_PAIRS)
    ]
    virtual_right: Annotated[
        bool,
        Column(
            "true or false", "Whether the mechanism in virtual time is the rule's.", PROBE_PAIRS
        ),
    ]
    live_right: Annotated[
        bool,
        Column("true or false", "Whether the mechanism found live is the rule's.", PROBE_PAIRS),
    ]
    agreement: Annotated[
        str,
        Column("name", "agree, disagree, or cannot tell (one of the two cannot).", PROBE_PAIRS),
    ]
    reason: Annotated[str, Column("text", 'Why they do not agree; "" where they do.', PROBE_PAIRS)]
    probes: Annotated[int, Column("probes", "Probes of the live search.", PROBE_PAIRS)]
    seconds: Annotated[float, Column("s", "Time that the live search took.", PROBE_PAIRS)]


# ---- evaluation under disturbances


class EvaluationRow(TypedDict):
    """Everything counted of one engine under one disturbance."""

    column: ColumnColumn
    title: Annotated[str, Column("text", "The disturbance in words.", PERTURB)]
    engine: EngineColumn
    synthetic: CountsSyntheticColumn
    n: Annotated[int, Column("flows", "Scored call flows (media and set-up).", SCORES)]
    right: RightColumn
    other_call: OtherCallColumn
    unsure: UnsureColumn
    missed: MissedColumn
    low: LowColumn
    high: HighColumn
    clusters: ClustersColumn
    lead_low: Annotated[
        float | None,
        Column(
            "share",
            "Low end of the 95 % interval of midcall's share right minus this engine's, paired.",
            SCORES,
        ),
    ]
    lead_high: Annotated[
        float | None,
        Column("share", "High end of the same interval; null for midcall itself.", SCORES),
    ]
    five_n: Annotated[int, Column("flows", "Call flows of the five apps of the scenario.", SCORES)]
    five_right: RightColumn
    macro_f1: Annotated[float | None, Column("F1", "Mean F1 over apps.", SCORES)]
    macro_f1_apps: Annotated[int, Column("apps", "Apps in `macro_f1`.", SCORES)]
    macro_f1_often: Annotated[
        float | None, Column("F1", "Mean F1 over apps with at least 5 flows.", SCORES)
    ]
    macro_f1_often_apps: Annotated[int, Column("apps", "Apps in `macro_f1_often`.", SCORES)]
    call_tp: Annotated[int, Column("flows", "Call flows taken for a call.", SCORES)]
    call_fp: Annotated[int, Column("flows", "Innocent flows taken for a call.", SCORES)]
    call_fn: Annotated[int, Column("flows", "Call flows not taken for a call.", SCORES)]
    call_f1: Annotated[float | None, Column("F1", 'F1 of "call or not".', SCORES)]
    balanced: Annotated[
        float | None, Column("share", 'Balanced accuracy of "call or not".', SCORES)
    ]
    innocent: Annotated[int, Column("flows", "Innocent flows.", SCORES)]
    false_calls: Annotated[int, Column("flows", "Those taken for a call.", SCORES)]
    false_per_million: Annotated[
        float | None,
        Column("flows per million", "95 % upper bound of the rate of false calls.", SCORES),
    ]
    precision_01: Annotated[
        float | None,
        Column(
            "share",
            'Lower bound of the precision of "a call" where 0.1 % of flows are calls.',
            SCORES,
        ),
    ]
    precision_1: Annotated[
        float | None, Column("share", "The same where 1 % of flows are calls.", SCORES)
    ]
    precision_10: Annotated[
        float | None, Column("share", "The same where 10 % of flows are calls.", SCORES)
    ]
    role_n: Annotated[
        int,
        Column(
            "flows", "Flows with the right app, in the roles media, set-up and control.", SCORES
        ),
    ]
    role_right: Annotated[int, Column("flows", "Those with the right role too.", SCORES)]
    calls: Annotated[int, Column("calls", "Distinct calls.", SCORES)]
    calls_right: Annotated[int, Column("calls", "Those with a flow named right.", SCORES)]
    calls_low: Annotated[
        float | None,
        Column(
            "share",
            "Low end of the exact 95 % interval of `calls_right` / `calls`; null below ten calls.",
            SCORES,
        ),
    ]
    calls_high: HighColumn
    calls_wrong: Annotated[int, Column("calls", "Calls with a flow named as another app.", SCORES)]
    media_calls: Annotated[int, Column("calls", "Calls with media flows.", SCORES)]
    media_calls_right: Annotated[
        int, Column("calls", "Those with a media flow named right.", SCORES)
    ]
    media_calls_low: Annotated[
        float | None,
        Column(
            "share",
            "Low end of the exact 95 % interval of `media_calls_right` / `media_calls`.",
            SCORES,
        ),
    ]
    media_calls_high: HighColumn
    bytes: Annotated[
        int, Column("bytes", "Bytes of call flows on the wire, after the disturbance.", SCORES)
    ]
    bytes_right: Annotated[int, Column("bytes", "Those of flows named right.", SCORES)]
    bytes_low: Annotated[
        float | None,
        Column(
            "share",
            "Low end of the 95 % interval of `bytes_right` / `bytes`, over capture groups.",
            SCORES,
        ),
    ]
    bytes_high: HighColumn
    bare: Annotated[
        int,
        Column(
            "flows",
            "Call flows that are not named right and hold no byte specific to an app.",
            SCORES,
        ),
    ]
    bare_honest: Annotated[
        int, Column("flows", "Those of `bare` with a verdict that names no other app.", SCORES)
    ]
    waits: Annotated[int, Column("flows", "Right verdicts over which waits are counted.", SCORES)]
    p50: Annotated[int | None, Column("packets", "Median of packets to a right verdict.", SCORES)]
    p95: Annotated[int | None, Column("packets", "95th percentile of the same.", SCORES)]
    p99: Annotated[int | None, Column("packets", "99th percentile of the same.", SCORES)]
    ms_p50: Annotated[float | None, Column("ms", "Median of the time to a right verdict.", SCORES)]
    ms_p95: Annotated[float | None, Column("ms", "95th percentile of the same.", SCORES)]
    ms_p99: Annotated[float | None, Column("ms", "99th percentile of the same.", SCORES)]
    short: Annotated[
        int, Column("flows", "Flows that are not scored: too short to be halved.", PERTURB)
    ]
    absent: Annotated[
        int, Column("flows", "Flows that are not scored: the disturbance removed them.", PERTURB)
    ]


class EvaluationAppRow(TypedDict):
    """Outcomes of the flows of one app and role, of one engine under one disturbance."""

    column: ColumnColumn
    engine: EngineColumn
    synthetic: CountsSyntheticColumn
    app: Annotated[str, Column("name", "The true app.", LABELS)]
    role: Annotated[str, Column("name", "The true role.", LABELS)]
    n: Annotated[int, Column("flows", "Scored flows of this app and role.", SCORES)]
    right: RightColumn
    other_call: OtherCallColumn
    unsure: UnsureColumn
    missed: MissedColumn
    low: LowColumn
    high: HighColumn
    clusters: ClustersColumn


class EvaluationInnocentRow(TypedDict):
    """Innocent flows of one kind, and those taken for a call, of one engine and disturbance."""

    column: ColumnColumn
    engine: EngineColumn
    synthetic: CountsSyntheticColumn
    kind: Annotated[
        str,
        Column(
            "name",
            "The kind of traffic; two last rows: all kinds, and calls of other apps than the five.",
            SCORES,
        ),
    ]
    flows: Annotated[int, Column("flows", "Flows of this kind.", SCORES)]
    hits: Annotated[
        int,
        Column("flows", "Those taken for a call (of the five, in the row of other calls).", SCORES),
    ]
    per_million: Annotated[
        float | None,
        Column(
            "flows per million",
            "95 % upper bound of the rate; null below ten capture groups.",
            SCORES,
        ),
    ]


class EvaluationOpenRow(TypedDict):
    """The verdicts of the engine without one app on that app's flows."""

    app: Annotated[
        str,
        Column(
            "name",
            'The app that the engine does not know; "all" for all of them together.',
            OPENSET,
        ),
    ]
    n: Annotated[int, Column("flows", "Call flows of this app.", OPENSET)]
    nameless: Annotated[int, Column("flows", "Those taken for a call of an unknown app.", OPENSET)]
    unsure: Annotated[int, Column("flows", "Those with an unsure verdict.", OPENSET)]
    quiet: Annotated[int, Column("flows", "Those not taken for a call.", OPENSET)]
    other_app: Annotated[int, Column("flows", "Those named as another app.", OPENSET)]
    named: Annotated[
        str, Column("text", "The wrong names, each with its number of flows.", OPENSET)
    ]
    clean: Annotated[
        int, Column("groups", "Capture groups without a flow named as another app.", OPENSET)
    ]
    clusters: Annotated[int, Column("groups", "Capture groups of these flows.", OPENSET)]
    low: Annotated[
        float | None,
        Column(
            "share",
            "Low end of the exact 95 % interval of `clean` / `clusters`; null below ten groups.",
            OPENSET,
        ),
    ]
    high: Annotated[float | None, Column("share", "High end of the same interval.", OPENSET)]
    call_auroc: Annotated[
        float | None,
        Column(
            "AUROC", "These flows against innocent flows: are they still ranked as calls?", OPENSET
        ),
    ]
    call_auroc_low: Annotated[
        float | None, Column("AUROC", "Low end of its 95 % interval.", OPENSET)
    ]
    call_auroc_high: Annotated[
        float | None, Column("AUROC", "High end of the same interval.", OPENSET)
    ]
    innocent: Annotated[int, Column("flows", "Innocent flows in `call_auroc`.", OPENSET)]
    known_auroc: Annotated[
        float | None,
        Column(
            "AUROC",
            "These flows against flows of known apps: does the confidence tell them apart?",
            OPENSET,
        ),
    ]
    known_auroc_low: Annotated[
        float | None, Column("AUROC", "Low end of its 95 % interval.", OPENSET)
    ]
    known_auroc_high: Annotated[
        float | None, Column("AUROC", "High end of the same interval.", OPENSET)
    ]
    known: Annotated[int, Column("flows", "Flows of known apps in `known_auroc`.", OPENSET)]
    limit: Annotated[
        float | None, Column("share", "The confidence that 95 % of the known flows reach.", OPENSET)
    ]
    kept: Annotated[int | None, Column("flows", "Known flows that reach it.", OPENSET)]
    rejected: Annotated[int | None, Column("flows", "Flows of this app below it.", OPENSET)]


class EvaluationFlowRow(TypedDict):
    """A flow of a call, or a false call, under one disturbance."""

    column: ColumnColumn
    capture: AnyCaptureColumn
    synthetic: SyntheticColumn
    group: Annotated[str, Column("name", "The capture group.", CATALOGUE)]
    frame: Annotated[
        int,
        Column(
            "packet number", "The number of the flow's first packet in the capture, from 1.", LABELS
        ),
    ]
    proto: Annotated[str, Column("name", "The transport protocol: udp, tcp, ...", LABELS)]
    packets: Annotated[
        int, Column("packets", "Packets of the flow, after the disturbance.", PERTURB)
    ]
    octets: Annotated[
        int, Column("bytes", "Bytes of the flow on the wire, after the disturbance.", PERTURB)
    ]
    truth_app: Annotated[
        str,
        Column("name", 'The app to which the flow belongs; "none" for an innocent flow.', LABELS),
    ]
    truth_role: Annotated[str, Column("name", "The true role of the flow.", LABELS)]
    truth_call: TruthCallColumn
    why: Annotated[
        str, Column("name", 'Why the flow is not scored: short, absent, or "".', PERTURB)
    ]
    left: Annotated[
        str,
        Column(
            "text",
            'The content that could still identify the app; "" where that was not examined.',
            SCORES,
        ),
    ]
    bare: Annotated[
        bool, Column("true or false", "Whether no byte specific to an app is left.", SCORES)
    ]
    verdict: Annotated[
        str,
        Column(
            "name",
            'The verdict: certain, unsure or not-call; "" where the engine has no such flow.',
            ENGINE,
        ),
    ]
    app: Annotated[str, Column("name", "The app of the verdict.", ENGINE)]
    role: Annotated[str, Column("name", "The role of the verdict.", ENGINE)]
    confidence: Annotated[float | None, Column("share", "The confidence of the verdict.", ENGINE)]
    packets_to_verdict: Annotated[
        int | None, Column("packets", "Packets with payload up to the verdict.", ENGINE)
    ]
    ms_to_verdict: Annotated[
        float | None, Column("ms", "Time from the flow's first packet to the verdict.", ENGINE)
    ]
    evidence: EvidenceColumn
    outcome: Annotated[
        str,
        Column(
            "name",
            "The verdict against the truth: right, other_call, unsure, missed, false_call "
            "or unscored.",
            METRICS,
        ),
    ]


# ---- live runs


class LiveCallRow(Place):
    """A call of a live run, with its verdict in virtual time."""

    capture: CaptureColumn
    call: CallColumn
    app: AppColumn
    kind: KindColumn
    synthetic: SyntheticColumn
    verdict: Annotated[str, Column("name", "The verdict of the live replay, as in `calls`.", LIVE)]
    virtual: Annotated[
        str | None,
        Column(
            "name",
            "The verdict of the same replay in virtual time; null where there is none.",
            JUDGE,
        ),
    ]
    agree: Annotated[
        bool | None, Column("true or false", "Whether both verdicts are the same.", LIVE)
    ]
    cause: Annotated[str, Column("text", 'Why they differ; "" where they do not.', LIVE)]
    packets: Annotated[int, Column("packets", "Packets sent.", LIVE)]
    proven: Annotated[int, Column("packets", "Those whose fate the tap traces confirm.", LIVE)]
    play: Annotated[
        str, Column("hex", "The live replay, which cells with the same rules share.", LIVE)
    ]


class LiveBenchRow(TypedDict):
    """A trial of the live bench."""

    path: Annotated[str, Column("name", "The measured path: kernel, bridge, a box, ...", BENCH)]
    what: Annotated[
        str,
        Column("name", "What the trial measures: latency, ladder (rates without loss), ...", BENCH),
    ]
    frames: Annotated[
        str, Column("name", "The sizes of the frames: one size in bytes, or a mix.", BENCH)
    ]
    pps: Annotated[int, Column("packets/s", "The rate that was asked for.", BENCH)]
    trial: Annotated[int, Column("number", "The trial's number, from 1.", BENCH)]
    seconds: Annotated[float, Column("s", "Wall time of the trial.", BENCH)]
    sent: Annotated[int, Column("packets", "Packets sent.", BENCH)]
    lost: Annotated[int, Column("packets", "Those that did not arrive.", BENCH)]
    offered: Annotated[
        bool, Column("true or false", "Whether the generator kept up with the rate.", BENCH)
    ]
    n: Annotated[int, Column("packets", "Packets whose latency was measured.", BENCH)]
    p50_us: Annotated[float | None, Column("µs", "Median one-way latency.", BENCH)]
    p99_us: Annotated[float | None, Column("µs", "99th percentile of the same.", BENCH)]
    p999_us: Annotated[float | None, Column("µs", "99.9th percentile of the same.", BENCH)]


# ---- live calls of programs


class ProgramPlace(TypedDict):
    """The columns that name a live call of programs."""

    operator: Annotated[
        str,
        Column(
            "id",
            'The operator: the id of its policy file; "none" for a repetition of the control.',
            SPEC,
        ),
    ]
    hypothesis: Annotated[
        str, Column("id", "The hypothesis on how the operator recognised calls.", POLICY)
    ]
    access: AccessColumn
    date: DateColumn
    hypothesis_title: HypothesisTitleColumn
    plan: Annotated[
        str, Column("id", "The plan of the call: caller, media, path and length.", SPEC)
    ]
    caller: Annotated[
        str, Column("name", "The calling program: chromium, aiortc or baresip.", SPEC)
    ]
    media: Annotated[str, Column("name", "What is sent: audio, audio+video, screen or data.", SPEC)]
    path: Annotated[
        str, Column("name", "The planned path: direct, turn-udp, turn-tcp, turn-tls or any.", SPEC)
    ]
    repeat: Annotated[int, Column("number", "The repetition of this call, from 0.", SPEC)]


class ProgramCallRow(ProgramPlace):
    """A live call of programs, with the verdict of its replay, and both directions."""

    security: Annotated[str, Column("name", "rtp or srtp (baresip).", SPEC)]
    program: Annotated[str, Column("text", "The version of the calling program.", PROGRAMS)]
    verdict: Annotated[
        str, Column("name", "The verdict of the live call, as in `calls`.", PROGRAMS)
    ]
    blocked: Annotated[bool, Column("true or false", "Whether there was no call at all.", PROGRAMS)]
    rule: Annotated[str | None, Column("name", "The rule that packets of the call met.", PROGRAMS)]
    reason: Annotated[str, Column("text", "Why the verdict is what it is.", PROGRAMS)]
    connected: Annotated[bool, Column("true or false", "Whether the programs connected.", PROGRAMS)]
    connected_s: Annotated[
        float | None, Column("s", "Time until the caller was connected.", PROGRAMS)
    ]
    connected_control_s: Annotated[
        float | None, Column("s", "The same in the control call, under no policy.", PROGRAMS)
    ]
    carried: Annotated[str, Column("name", "The path that carried the media.", PROGRAMS)]
    carried_control: Annotated[str, Column("name", "The same in the control call.", PROGRAMS)]
    met: Annotated[int, Column("packets", "Packets that met a rule.", PROGRAMS)]
    replay: Annotated[
        str | None,
        Column(
            "name", "The verdict of the recorded control call, replayed under the policy.", JUDGE
        ),
    ]
    replay_blocked: Annotated[
        bool | None, Column("true or false", "Whether that replay is blocked.", JUDGE)
    ]
    replay_reason: Annotated[
        str | None, Column("text", "Why the verdict of the replay is what it is.", JUDGE)
    ]
    agree: Annotated[
        bool | None,
        Column(
            "true or false",
            "Whether live call and replay have the same verdict; null where one is INVALID "
            "or missing.",
            PROGRAMS,
        ),
    ]
    agree_blocked: Annotated[
        bool | None, Column("true or false", "Whether both are blocked, or neither is.", PROGRAMS)
    ]
    seconds: Annotated[float, Column("s", "Wall time of the live call.", PROGRAMS)]
    error: Annotated[str, Column("text", 'What failed in the programs; "" for nothing.', PROGRAMS)]
    up_sent: Annotated[
        int | None, Column("packets", "From the caller: media packets expected.", PROGRAMS)
    ]
    up_arrived: Annotated[
        int | None, Column("packets", "From the caller: media packets that arrived.", PROGRAMS)
    ]
    up_loss: Annotated[
        float | None,
        Column("share", "From the caller: media packets that did not arrive.", PROGRAMS),
    ]
    up_delay_ms: Annotated[float | None, Column("ms", "From the caller: one-way delay.", PROGRAMS)]
    up_jitter_ms: Annotated[
        float | None, Column("ms", "From the caller: interarrival jitter (RFC 3550).", PROGRAMS)
    ]
    up_mos: Annotated[
        float | None,
        Column("MOS", "From the caller: estimated mean opinion score (voice only).", QUALITY),
    ]
    up_mos_low: Annotated[
        float | None, Column("MOS", "From the caller: the least over the assumed codecs.", QUALITY)
    ]
    up_mos_high: Annotated[
        float | None, Column("MOS", "From the caller: the most over the assumed codecs.", QUALITY)
    ]
    up_mos_control: Annotated[
        float | None,
        Column(
            "MOS",
            "From the caller: the score of the control call, counted in the same way.",
            QUALITY,
        ),
    ]
    up_heard_s: Annotated[
        float | None,
        Column("s", "From the caller: received audio that the program played.", PROGRAMS),
    ]
    up_heard_control_s: Annotated[
        float | None, Column("s", "From the caller: the same in the control call.", PROGRAMS)
    ]
    up_concealed: Annotated[
        float | None,
        Column("share", "From the caller: audio that the program concealed.", PROGRAMS),
    ]
    up_frozen_s: Annotated[
        float | None, Column("s", "From the caller: time of frozen video.", PROGRAMS)
    ]
    up_counted_by: Annotated[
        str,
        Column(
            "name",
            'From the caller: who counted the packets, taps or program; "" for no call.',
            PROGRAMS,
        ),
    ]
    up_slots: Annotated[
        str,
        Column(
            "packets per slot",
            "From the caller: packets received in each 0.5 s, as a JSON list.",
            PROGRAMS,
        ),
    ]
    up_control_slots: Annotated[
        str, Column("packets per slot", "From the caller: the same in the control call.", PROGRAMS)
    ]
    down_sent: Annotated[
        int | None, Column("packets", "To the caller: media packets expected.", PROGRAMS)
    ]
    down_arrived: Annotated[
        int | None, Column("packets", "To the caller: media packets that arrived.", PROGRAMS)
    ]
    down_loss: Annotated[
        float | None, Column("share", "To the caller: media packets that did not arrive.", PROGRAMS)
    ]
    down_delay_ms: Annotated[float | None, Column("ms", "To the caller: one-way delay.", PROGRAMS)]
    down_jitter_ms: Annotated[
        float | None, Column("ms", "To the caller: interarrival jitter (RFC 3550).", PROGRAMS)
    ]
    down_mos: Annotated[
        float | None,
        Column("MOS", "To the caller: estimated mean opinion score (voice only).", QUALITY),
    ]
    down_mos_low: Annotated[
        float | None, Column("MOS", "To the caller: the least over the assumed codecs.", QUALITY)
    ]
    down_mos_high: Annotated[
        float | None, Column("MOS", "To the caller: the most over the assumed codecs.", QUALITY)
    ]
    down_mos_control: Annotated[
        float | None,
        Column(
            "MOS", "To the caller: the score of the control call, counted in the same way.", QUALITY
        ),
    ]
    down_heard_s: Annotated[
        float | None,
        Column("s", "To the caller: received audio that the program played.", PROGRAMS),
    ]
    down_heard_control_s: Annotated[
        float | None, Column("s", "To the caller: the same in the control call.", PROGRAMS)
    ]
    down_concealed: Annotated[
        float | None, Column("share", "To the caller: audio that the program concealed.", PROGRAMS)
    ]
    down_frozen_s: Annotated[
        float | None, Column("s", "To the caller: time of frozen video.", PROGRAMS)
    ]
    down_counted_by: Annotated[
        str,
        Column(
            "name",
            'To the caller: who counted the packets, taps or program; "" for no call.',
            PROGRAMS,
        ),
    ]
    down_slots: Annotated[
        str,
        Column(
            "packets per slot",
            "To the caller: packets received in each 0.5 s, as a JSON list.",
            PROGRAMS,
        ),
    ]
    down_control_slots: Annotated[
        str, Column("packets per slot", "To the caller: the same in the control call.", PROGRAMS)
    ]


class ProgramStateRow(ProgramPlace):
    """A report of the program of one end, and its time."""

    end: Annotated[str, Column("name", "The end that reports: the caller or the callee.", PROGRAMS)]
    at_s: Annotated[float, Column("s", "Time of the report, from the start of the call.", PROGRAMS)]
    kind: Annotated[
        str,
        Column(
            "name",
            "What the report is about: ice, connection, gathering, signalling, path, sip, rtp, ...",
            PROGRAMS,
        ),
    ]
    word: Annotated[str, Column("text", "The new state, in the program's word.", PROGRAMS)]


class Tables(TypedDict, total=False):
    """The tables of a run, without those of an evaluation."""

    flows: list[FlowRow]
    calls: list[CallRow]
    timelines: list[TimelineRow]
    ladders: list[LadderRow]
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
    workarounds: list[WorkaroundRow]
    probe_pairs: list[ProbePairRow]
    program_calls: list[ProgramCallRow]
    program_states: list[ProgramStateRow]


#: Table name -> its rows.
ROWS: dict[str, type] = {
    "flows": FlowRow,
    "calls": CallRow,
    "timelines": TimelineRow,
    "ladders": LadderRow,
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
    "workarounds": WorkaroundRow,
    "probe_pairs": ProbePairRow,
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
    mos_seconds: list[float | None]
    mos_control_seconds: list[float | None]


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
    """Innocent flows of one kind of traffic; untested: further flows, not tested."""

    protocol: str
    untested: int


class GroupCounts(HitCounts):
    """Flows of one capture group."""

    group: str


class GroupHits(GroupCounts):
    """Innocent flows of one kind of traffic in one capture group."""

    protocol: str
    untested: int


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


class RightCounts(TypedDict):
    """Call flows, and those named right."""

    n: Annotated[int, Column("flows", "Call flows.", METRICS)]
    right: Annotated[int, Column("flows", "Those with the right app.", METRICS)]


class Outcomes(RightCounts):
    """Outcomes of call flows: n in all, and each of metrics.OUTCOMES."""

    other_call: Annotated[int, Column("flows", "Those named as another app.", METRICS)]
    unsure: Annotated[int, Column("flows", "Those with an unsure or nameless verdict.", METRICS)]
    missed: Annotated[int, Column("flows", "Those not taken for a call.", METRICS)]


class ShareOfRight(TypedDict):
    """The share of call flows that is right, with its interval over capture groups."""

    share: Annotated[float | None, Column("share", "`right` / `n`.", METRICS)]
    interval: Annotated[
        Ends, Column("share", "Its 95 % interval, over capture groups; null below ten.", METRICS)
    ]
    clusters: Annotated[int, Column("groups", "Capture groups of these flows.", METRICS)]


class OutcomeShare(Outcomes, ShareOfRight):
    """Outcomes, and the share that is right."""


class RightShare(RightCounts, ShareOfRight):
    """Call flows, those named right, and their share."""


class NameCounts(TypedDict):
    """True and false positives and false negatives of an app's name."""

    tp: Annotated[int, Column("flows", "Flows of the app that are named as it.", METRICS)]
    fp: Annotated[int, Column("flows", "Other flows that are named as it.", METRICS)]
    fn: Annotated[int, Column("flows", "Flows of the app that are not named as it.", METRICS)]
    precision: Annotated[float | None, Column("share", "tp / (tp + fp).", METRICS)]
    recall: Annotated[float | None, Column("share", "tp / (tp + fn).", METRICS)]
    f1: Annotated[float | None, Column("F1", "2 tp / (2 tp + fp + fn).", METRICS)]


class MacroF1(TypedDict):
    """The mean F1 over apps, and the number of apps."""

    value: Annotated[float | None, Column("F1", "The mean F1.", METRICS)]
    apps: Annotated[int, Column("apps", "The apps in it.", METRICS)]


class Confused(TypedDict):
    """Call flows of one app (`truth`) with one verdict (`said`: an app, "unsure" or "missed")."""

    truth: Annotated[str, Column("name", "The true app.", METRICS)]
    said: Annotated[str, Column("name", 'The app of the verdict, "unsure" or "missed".', METRICS)]
    n: Annotated[int, Column("flows", "Flows.", METRICS)]


class QuietKind(TypedDict):
    """Innocent flows of one kind, and those taken for a call."""

    kind: Annotated[str, Column("name", "The kind of traffic.", METRICS)]
    flows: Annotated[int, Column("flows", "Innocent flows of this kind.", METRICS)]
    hits: Annotated[int, Column("flows", "Those taken for a call.", METRICS)]


class FalseCalls(TypedDict):
    """Innocent flows taken for a call, and bounds of their rate per million."""

    flows: Annotated[int, Column("flows", "Innocent flows.", METRICS)]
    hits: Annotated[int, Column("flows", "Those taken for a call.", METRICS)]
    groups: Annotated[int, Column("groups", "Their capture groups.", METRICS)]
    groups_hit: Annotated[int, Column("groups", "Those with a flow taken for a call.", METRICS)]
    five_hits: Annotated[int, Column("flows", "Flows taken for a call of the five apps.", METRICS)]
    per_million: Annotated[
        float | None, Column("flows per million", "`hits` per million `flows`.", METRICS)
    ]
    interval: Annotated[
        Ends,
        Column(
            "share", "95 % interval of hits / flows, by capture group; null below ten.", METRICS
        ),
    ]
    independent_upper_per_million: Annotated[
        float | None,
        Column(
            "flows per million",
            "Upper end of that interval, if all flows were independent.",
            METRICS,
        ),
    ]
    interval_method: Annotated[str, Column("text", "How the interval is made.", METRICS)]
    by_kind: Annotated[
        list[QuietKind], Column("list", "The same counts by kind of traffic.", METRICS)
    ]


class Quantiles(TypedDict):
    """Quantiles of n values; None where n is 0."""

    n: Annotated[int, Column("number", "How many values.", METRICS)]
    p50: Annotated[
        float | None, Column("number", "The median, in the unit of the key above.", METRICS)
    ]
    p95: Annotated[float | None, Column("number", "The 95th percentile.", METRICS)]
    p99: Annotated[float | None, Column("number", "The 99th percentile.", METRICS)]


class Waits(TypedDict):
    """Packets and milliseconds to a right verdict."""

    packets: Annotated[
        Quantiles, Column("block", "Packets with payload up to a right verdict.", METRICS)
    ]
    ms: Annotated[
        Quantiles,
        Column("block", "Milliseconds from a flow's first packet to a right verdict.", METRICS),
    ]


class Baseline(TypedDict):
    """Counts of one simple rule, or of Midcall, over the same flows."""

    name: Annotated[str, Column("name", "The rule, or midcall.", SUMMARY)]
    call_flows: Annotated[int, Column("flows", "Call flows.", SUMMARY)]
    called_a_call: Annotated[int, Column("flows", "Those taken for a call.", SUMMARY)]
    right: Annotated[int, Column("flows", "Those with the right app.", SUMMARY)]
    five_flows: Annotated[int, Column("flows", "Call flows of the five apps.", SUMMARY)]
    five_right: Annotated[int, Column("flows", "Those with the right app.", SUMMARY)]
    innocent_flows: Annotated[int, Column("flows", "Innocent flows.", SUMMARY)]
    false_calls: Annotated[int, Column("flows", "Those taken for a call.", SUMMARY)]


class Recognition(TypedDict):
    """Calls of one app that were recognised, of n."""

    app: Annotated[str, Column("name", "The app.", SUMMARY)]
    synthetic: Annotated[
        bool, Column("true or false", "Whether synthetic calls are counted.", SUMMARY)
    ]
    added: Annotated[
        bool, Column("true or false", "Whether the user's calls are counted.", SUMMARY)
    ]
    n: Annotated[int, Column("calls", "Distinct calls.", SUMMARY)]
    hits: Annotated[
        int, Column("calls", "Those of which a flow is certainly named right.", SUMMARY)
    ]
    share: Annotated[float | None, Column("share", "`hits` / `n`.", SUMMARY)]
    interval: Annotated[
        Ends, Column("share", "Its exact 95 % interval; null below ten calls.", SUMMARY)
    ]


class Accuracy(TypedDict, total=False):
    """Accuracy over the flows and calls of real captures; `synthetic`: over synthetic ones."""

    apps: Annotated[
        dict[str, dict[str, OutcomeShare]],
        Column("block", "Outcomes of call flows by true app and role.", SUMMARY),
    ]
    by_app: Annotated[dict[str, NameCounts], Column("block", "Counts of each app's name.", SUMMARY)]
    macro_f1: Annotated[float | None, Column("F1", "Mean F1 over all apps.", SUMMARY)]
    macro_f1_apps: Annotated[int, Column("apps", "Apps in it.", SUMMARY)]
    macro_f1_five: Annotated[MacroF1, Column("block", "Mean F1 over the five apps.", SUMMARY)]
    macro_f1_at_least_5_flows: Annotated[
        MacroF1, Column("block", "Mean F1 over apps with at least 5 flows.", SUMMARY)
    ]
    five: Annotated[RightShare, Column("block", "Call flows of the five apps.", SUMMARY)]
    five_without_copies: Annotated[
        RightShare,
        Column("block", "The same without captures that are copies of another.", SUMMARY),
    ]
    five_distinct: Annotated[
        RightShare, Column("block", "The same with each call in one capture only.", SUMMARY)
    ]
    all: Annotated[RightShare, Column("block", "Call flows of all apps.", SUMMARY)]
    confusion: Annotated[
        list[Confused], Column("list", "Call flows by true app and verdict.", SUMMARY)
    ]
    false_calls: Annotated[FalseCalls, Column("block", "Innocent flows taken for a call.", SUMMARY)]
    scope: Annotated[str, Column("text", "Which captures and labels count.", SUMMARY)]
    calls_recognised: Annotated[
        list[Recognition], Column("list", "Calls by app, and those recognised.", SUMMARY)
    ]
    baselines: Annotated[
        list[Baseline], Column("list", "Simple rules over the same flows.", SUMMARY)
    ]
    synthetic: Annotated[
        SyntheticAccuracy, Column("block", "The same for synthetic captures.", SUMMARY)
    ]
    named: Annotated[
        dict[str, RightShare], Column("block", "Call flows by true app, media and set-up.", SUMMARY)
    ]
    not_replayed: Annotated[
        NotReplayed,
        Column("block", "Innocent flows that no cell replays, in no other count.", SUMMARY),
    ]


class NotReplayed(TypedDict):
    """Innocent flows that no cell replays."""

    flows: Annotated[int, Column("flows", "Innocent flows.", SUMMARY)]
    hits: Annotated[int, Column("flows", "Those taken for a call.", SUMMARY)]


class SyntheticAccuracy(TypedDict):
    """Accuracy over the flows of synthetic captures."""

    apps: Annotated[
        dict[str, dict[str, OutcomeShare]],
        Column("block", "Outcomes of call flows by true app and role.", SUMMARY),
    ]
    false_calls: Annotated[FalseCalls, Column("block", "Innocent flows taken for a call.", SUMMARY)]


class MissionRow(Place):
    """The outcomes of the calls of an app and kind in a cell."""

    app: Annotated[str, Column("name", "The app.", SUMMARY)]
    kind: Annotated[str, Column("name", "audio, video or unknown.", SUMMARY)]
    later_client: Annotated[
        bool,
        Column("true or false", "Whether the calls were recorded after the scenario.", SUMMARY),
    ]
    synthetic: Annotated[bool, Column("true or false", "Whether the calls are synthetic.", SUMMARY)]
    added: Annotated[bool, Column("true or false", "Whether the user added the calls.", SUMMARY)]
    ok: Annotated[int, Column("calls", "Calls that get through (OK, FALLBACK, DEGRADED).", SUMMARY)]
    blocked: Annotated[int, Column("calls", "Calls that are blocked.", SUMMARY)]
    inconclusive: Annotated[int, Column("calls", "Calls whose capture cannot tell.", SUMMARY)]
    invalid: Annotated[
        int, Column("calls", "Calls that do not work without a policy either.", SUMMARY)
    ]
    n: Annotated[int, Column("calls", "`ok`, `blocked` and `inconclusive` together.", SUMMARY)]
    blocked_interval: Annotated[
        Ends,
        Column(
            "share", "Exact 95 % interval of `blocked` among those that can be judged.", SUMMARY
        ),
    ]


class OperatorCalls(TypedDict):
    """The outcomes of the (call, cell) pairs of an operator."""

    operator: Annotated[str, Column("id", "The operator.", SUMMARY)]
    ok: Annotated[int, Column("calls", "(call, cell) pairs that get through.", SUMMARY)]
    blocked: Annotated[int, Column("calls", "Pairs that are blocked.", SUMMARY)]
    inconclusive: Annotated[int, Column("calls", "Pairs that cannot be judged.", SUMMARY)]
    invalid: Annotated[
        int, Column("calls", "Pairs that do not work without a policy either.", SUMMARY)
    ]
    unusable: Annotated[
        int, Column("calls", "Pairs that get no usable call (blocked ones included).", SUMMARY)
    ]


class KindRate(TypedDict):
    """Innocent flows of one kind of traffic that a hypothesis hits, where it hits most."""

    operator: Annotated[str, Column("id", "The operator.", SUMMARY)]
    hypothesis: Annotated[str, Column("id", "The hypothesis.", SUMMARY)]
    protocol: Annotated[str, Column("name", "The kind of traffic.", SUMMARY)]
    flows: Annotated[int, Column("flows", "Innocent flows of this kind.", SUMMARY)]
    hit: Annotated[int, Column("flows", "Those that are hit.", SUMMARY)]
    bytes: Annotated[int, Column("bytes", "Their IP bytes.", SUMMARY)]
    bytes_hit: Annotated[int, Column("bytes", "Those that do not arrive.", SUMMARY)]
    flows_per_million: Annotated[
        float, Column("flows per million", "`hit` per million `flows`.", SUMMARY)
    ]
    bytes_per_million: Annotated[
        float, Column("bytes per million", "`bytes_hit` per million `bytes`.", SUMMARY)
    ]
    groups: Annotated[int, Column("groups", "Capture groups of this kind.", SUMMARY)]
    interval: Annotated[
        Ends, Column("share", "95 % interval of `hit` / `flows`; null below ten groups.", SUMMARY)
    ]


class WorstCell(Place):
    """The cell in which the largest share of innocent flows is hit."""

    flows: Annotated[int, Column("flows", "Innocent flows that the cell tests.", SUMMARY)]
    hit: Annotated[int, Column("flows", "Those that are hit.", SUMMARY)]
    untested: Annotated[int, Column("flows", "Further innocent flows.", SUMMARY)]


class AnswerLine(TypedDict):
    """Operators in the situation in which they block most, under the hypothesis that does."""

    operators: Annotated[list[str], Column("list", "Operators with one result.", SUMMARY)]
    hypothesis: Annotated[
        str | None,
        Column("name", "The hypothesis that blocks most; null: no call can be judged.", SUMMARY),
    ]
    blocked: Annotated[int, Column("calls", "Real calls that it blocks.", SUMMARY)]
    unusable: Annotated[int, Column("calls", "Those and real calls of unusable quality.", SUMMARY)]
    inconclusive: Annotated[int, Column("calls", "Calls about which it cannot tell.", SUMMARY)]
    n: Annotated[int, Column("calls", "Real calls that can be tested.", SUMMARY)]
    hit: Annotated[
        int | None, Column("flows", "Innocent flows that it hits; null: not measured.", SUMMARY)
    ]
    flows: Annotated[int | None, Column("flows", "All innocent flows of the run.", SUMMARY)]
    untested: Annotated[
        int | None, Column("flows", "Those of them that it does not test.", SUMMARY)
    ]


class OtherCalls(Place):
    """Calls of all apps that were no target, in a cell."""

    calls: Annotated[int, Column("calls", "Calls of apps that were no target.", COLLATERAL)]
    blocked: Annotated[int, Column("calls", "Those that are blocked.", COLLATERAL)]
    degraded: Annotated[int, Column("calls", "Those with the verdict DEGRADED.", COLLATERAL)]
    seconds: Annotated[int, Column("s", "Their seconds of talk.", COLLATERAL)]
    seconds_lost: Annotated[int, Column("s", "Those that are lost.", COLLATERAL)]


class OtherCosts(TypedDict):
    """Costs of hypotheses: flows hit in a mix of traffic, and calls that were no target."""

    mixes: Annotated[
        list[MixRow],
        Column(
            "list",
            "Flows hit in a mix of traffic, for each hypothesis where it hits most.",
            COLLATERAL,
        ),
    ]
    calls: Annotated[
        list[OtherCalls],
        Column(
            "list",
            "Calls that were no target, for each hypothesis where it costs most.",
            COLLATERAL,
        ),
    ]


class Collateral(TypedDict):
    """Innocent flows and hits over all cells."""

    by_protocol: Annotated[
        list[KindRate],
        Column("list", "Rates by hypothesis and kind of traffic, where it hits most.", SUMMARY),
    ]
    flows: Annotated[int, Column("flows", "Innocent flows, summed over the cells.", SUMMARY)]
    hit: Annotated[int, Column("flows", "Those that are hit.", SUMMARY)]
    cells: Annotated[int, Column("number", "Cells that were simulated.", SUMMARY)]
    flows_per_cell: Annotated[
        int,
        Column("flows", "Innocent flows of one cell, tested or not: the same in each.", SUMMARY),
    ]
    worst: Annotated[
        WorstCell | None, Column("block", "The cell in which the largest share is hit.", SUMMARY)
    ]


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

    cases: Annotated[int, Column("cases", "Cases tried.", SUMMARY)]
    broken: Annotated[int, Column("cases", "Cases that break a law.", SUMMARY)]
    by_law: Annotated[list[LawRow], Column("list", "The table `laws`.", SUMMARY)]


class CellCounts(TypedDict):
    """Cells of the grid, those that failed, and those without a documented service."""

    n: Annotated[int, Column("number", "Cells of the grid.", SUMMARY)]
    failed: Annotated[int, Column("number", "Cells that failed.", SUMMARY)]
    undocumented: Annotated[
        int, Column("number", "Cells without a documented service, which are not counted.", SUMMARY)
    ]
    errors: Annotated[list[str], Column("list", "The distinct errors.", SUMMARY)]


class SummaryDocument(TypedDict, total=False):
    """The keys of summary.json (schema 1). A key whose part the spec does not ask for is absent."""

    schema: Annotated[int, Column("number", "The version of this layout.", SUMMARY)]
    spec: Annotated[
        Document,
        Column(
            "block",
            "The spec: name, title, question, seed, sha256, scenario_year, backend, "
            "seconds, dates.",
            RUN,
        ),
    ]
    captures: Annotated[
        Document,
        Column(
            "block", "Captures of the run by kind, and those that are missing with the reason.", RUN
        ),
    ]
    warnings: Annotated[
        list[str],
        Column("list", "What was wrong with capture files, for example that one is cut.", RUN),
    ]
    accuracy: Annotated[
        Accuracy, Column("block", "Accuracy over the flows and calls of real captures.", SUMMARY)
    ]
    verdict: Annotated[
        Waits,
        Column(
            "block", "Packets and milliseconds to a right verdict, over real captures.", METRICS
        ),
    ]
    calls: Annotated[
        list[Document], Column("list", "The table `calls`, without some of its columns.", SUMMARY)
    ]
    mission: Annotated[
        list[MissionRow],
        Column(
            "list", "Outcomes of the calls by app and kind, for each cell of the grid.", SUMMARY
        ),
    ]
    operators: Annotated[
        list[OperatorCalls], Column("list", "Outcomes of (call, cell) pairs by operator.", SUMMARY)
    ]
    yours: Annotated[
        list[OperatorCalls], Column("list", "Outcomes of the calls that the user added.", SUMMARY)
    ]
    answer: Annotated[
        list[AnswerLine],
        Column("list", "Real calls blocked where each operator blocks most.", SUMMARY),
    ]
    your_answer: Annotated[
        list[AnswerLine], Column("list", "The same for the calls that the user added.", SUMMARY)
    ]
    collateral: Annotated[
        Collateral,
        Column(
            "block",
            "Innocent flows and hits, mixes of traffic, and calls that were no target.",
            SUMMARY,
        ),
    ]
    cells: Annotated[
        CellCounts, Column("block", "Cells of the grid, and those that failed.", SUMMARY)
    ]
    intervals: Annotated[str, Column("text", "How the intervals are made.", SUMMARY)]
    conformance: Annotated[
        Document, Column("block", "Scenarios of the policy language that were replayed.", RUN)
    ]
    localise: Annotated[
        Document,
        Column(
            "block",
            "Planted rules that the localiser recovered, by share of wrong answers.",
            SUMMARY,
        ),
    ]
    laws: Annotated[
        LawCounts, Column("block", "Cases of the laws of verdicts, tried and broken.", SUMMARY)
    ]
    throughput: Annotated[
        Document,
        Column(
            "block", "Packets and bytes per second of the offline path, with the method.", TIMING
        ),
    ]
    latency: Annotated[
        Document,
        Column(
            "block",
            "Nanoseconds per packet of the offline path at percentiles, with the method.",
            TIMING,
        ),
    ]
    machine: Annotated[Document, Column("block", "The machine on which the run was made.", RUN)]
    disguises: Annotated[
        list[Document],
        Column(
            "list",
            "Disguises and control arms: cost, verdicts by rule set, the rule that follows.",
            EVASION,
        ),
    ]
    recorded: Annotated[
        Document,
        Column("block", "Accuracy over calls of real programs that the lab recorded.", RUN),
    ]
    evaluation: Annotated[
        Document,
        Column(
            "block", "Accuracy under disturbances, compared with simple rules and peers.", SCORES
        ),
    ]
    live: Annotated[
        Document,
        Column("block", "A live run: parity with virtual time, proven fates, added delay.", LIVE),
    ]
    programs: Annotated[
        Document,
        Column(
            "block", "Live calls of programs: verdicts, and agreement with their replay.", PROGRAMS
        ),
    ]
    aa: Annotated[
        Document,
        Column("block", "Differences that the lab's tests find between two equal policies.", RUN),
    ]
    proofs: Annotated[Document, Column("block", "Results of the reliability tests.", RUN)]
