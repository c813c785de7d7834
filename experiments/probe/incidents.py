# SPDX-License-Identifier: BSD-3-Clause
"""Incidents of 2025 and 2026: what users said of them, played under the shipped hypotheses.

incidents.toml has the statements with their sources. A statement is played as captured or with one
thing changed, and the verdict on its call is compared with what the user said.
"""

from __future__ import annotations

import datetime
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from pydantic import Field

from midcall.captures.fetch.locate import locate_capture
from midcall.captures.packets.pcap import Packets, read
from midcall.captures.truth.calls import Call, calls
from midcall.captures.truth.catalogue import Capture
from midcall.captures.truth.strict_toml import Table, read_table
from midcall.errors import CaptureError, ExperimentError
from midcall.experiments.cells.evasion_runs import PLAIN, rewrite
from midcall.experiments.measure.intervals import derived_seed
from midcall.experiments.results.tables import WorkaroundRow
from midcall.experiments.spec.corpus import Item
from midcall.experiments.spec.policy_names import policy_named
from midcall.testbed.assess.call_verdict import BLOCKED, CallVerdict, judge
from midcall.testbed.evasion.disguises import own_packets
from midcall.testbed.evasion.rewriter import Rewriter
from midcall.testbed.policy.operator import Policy
from midcall.testbed.replay.script import script
from midcall.testbed.replay.sides import CALLER
from midcall.testbed.replay.simulator import simulate

FILE = Path(__file__).with_name("incidents.toml")
#: What became of a call, in a user's words and in a verdict's.
Result = Literal["works", "degraded", "fails"]
UNKNOWN = "cannot tell"
Access = Literal["3g", "4g", "adsl", "fibre", "wifi"]


class Incident(Table):
    """A hypothesis on an incident, and the recorded call on which the prober is asked.

    far_port: the port at which the far ends of the call's UDP flows are put, 0 for the captured
    ones.
    """

    policy: str
    capture: str
    date: datetime.date
    access: Access = "4g"
    far_port: Annotated[int, Field(ge=0, lt=65_536)] = 0


class Statement(Incident):
    """What a user said of an incident.

    words: in our words; source: URL of the thread; change: of the call, PLAIN for none; says: what
    became of the call; differs: why the hypothesis disagrees, "" where it agrees; stands_in: why
    the capture is of another app, or was changed before anything else, "" if neither.
    """

    id: str
    words: str
    source: Annotated[str, Field(pattern=r"^https://")]
    change: str = PLAIN
    says: Result
    differs: str = ""
    stands_in: str = ""


class Incidents(Table):
    """The file of incidents and statements."""

    incident: list[Incident]
    statement: list[Statement]


def load() -> Incidents:
    """Return the shipped incidents and statements."""
    return read_table(FILE, Incidents)


class Heard(NamedTuple):
    """A statement as it was played: the verdict on its call, and its reason.

    unchanged: the verdict on the call without the change.
    """

    statement: Statement
    capture: Capture
    app: str
    call: str
    verdict: str
    reason: str
    media_lost: float | None
    unchanged: str

    @property
    def result(self) -> str:
        """Return what became of the call, in the words of statements; UNKNOWN where the verdict
        is neither."""
        return result_of(self.verdict)

    @property
    def agrees(self) -> bool:
        """Return whether the hypothesis does what the user said."""
        return self.result == self.statement.says

    def row(self) -> WorkaroundRow:
        """Return the statement as a row of the table `workarounds`."""
        one = self.statement
        operator, _, hypothesis = one.policy.partition("/")
        return {
            "statement": one.id,
            "words": one.words,
            "source": one.source,
            "date": one.date.isoformat(),
            "operator": operator,
            "hypothesis": hypothesis,
            "access": one.access,
            "capture": one.capture,
            "synthetic": self.capture.synthetic,
            "call": self.call,
            "app": self.app,
            "dress": one.change,
            "unchanged": result_of(self.unchanged),
            "says": one.says,
            "result": self.result,
            "verdict": self.verdict,
            "agrees": self.agrees,
            "media_lost": self.media_lost,
            "reason": self.reason,
            "differs": one.differs,
            "stands_in": one.stands_in,
        }


def result_of(verdict: str) -> str:
    """Return a verdict in the words of statements."""
    if verdict in BLOCKED:
        return "fails"
    return {"OK": "works", "FALLBACK": "works", "DEGRADED": "degraded"}.get(verdict, UNKNOWN)


def hear(
    one: Statement, seed: int, corpus: Path | None = None, policy: Policy | None = None
) -> Heard:
    """Play a statement. policy: instead of the statement's own.

    Raises CaptureError where the capture is not on this machine, ExperimentError where it has no
    call.
    """
    if policy is None:
        policy = policy_named(one.policy, one.access, one.date)
    item, packets = obtained(one, corpus)
    verdict, call = played(item, packets, one.change, policy, one.access, seed)
    unchanged = verdict
    if one.change != PLAIN:
        unchanged, _ = played(item, packets, PLAIN, policy, one.access, seed)
    return Heard(one, item.capture, call.app, call.id, verdict.verdict, verdict.reason,
                 verdict.media_lost, unchanged.verdict)  # fmt: skip


def obtained(one: Incident, corpus: Path | None) -> tuple[Item, Packets]:
    """Return the capture of an incident with its first call, and its packets.

    Raises CaptureError where the capture is not on this machine, ExperimentError where it has no
    call.
    """
    path, entry = locate_capture(one.capture, corpus)
    known = calls(entry.sha256) if entry is not None else []
    if entry is None or not known:
        raise ExperimentError(f"capture {one.capture}: the catalogue has no call of it")
    item = Item(entry, path, [known[0]], [])
    packets = read(path)
    return item, at_far_port(packets, item, one.far_port) if one.far_port else packets


def at_far_port(packets: Packets, item: Item, port: int) -> Packets:
    """Return a capture whose calls' UDP flows have their far ends at another port."""
    orders = script(packets, item.calls)
    rewriter = Rewriter(orders.held)
    for i in own_packets(orders).tolist():
        rewriter.port(i, bool(orders.side[i] != CALLER), port)
    return rewriter.packets()


def played(
    item: Item, packets: Packets, change: str, policy: Policy, access: str, seed: int
) -> tuple[CallVerdict, Call]:
    """Return the verdict on the first call of a capture with a change, and the call."""
    sha256 = item.capture.sha256
    variant = rewrite(change, packets, item, derived_seed(seed, sha256, change))
    rewritten = None if change == PLAIN else variant.dress.packets()
    with_policy, control = (
        simulate(
            variant.script.held.packets, variant.calls, (), rules, access,
            derived_seed(seed, sha256, access), addressing="keep", dressed=rewritten,
            openings=variant.openings,
        )
        for rules in (policy, None)
    )  # fmt: skip
    return judge(with_policy, control, variant.calls[0]), variant.calls[0]


def heard(seed: int, corpus: Path | None = None) -> tuple[list[Heard], list[str]]:
    """Play every statement; also returns why some could not be played."""
    played, missing = [], []
    for one in load().statement:
        try:
            played.append(hear(one, seed, corpus))
        except (CaptureError, ExperimentError) as error:
            missing.append(f"statement {one.id}: {error}")
    return played, missing
