# SPDX-License-Identifier: BSD-3-Clause
"""One capture through one policy: verdicts, fates of packets, and the packets themselves.

Simulation, seed and verdict are those of a run's cell. Files are written atomically.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, get_args

from midcall.captures.fetch.fetch import sum_of
from midcall.captures.fetch.locate import locate_capture
from midcall.captures.own.add import named_flows
from midcall.captures.packets.names import printable
from midcall.captures.packets.pcap import Packets, read_with_notices
from midcall.captures.packets.standard_input import NAME as STANDARD_INPUT
from midcall.captures.packets.standard_input import SHOWN, held
from midcall.captures.truth.calls import Call, calls
from midcall.captures.truth.catalogue import Change
from midcall.errors import ExperimentError
from midcall.experiments.cells.offline import classify_packets
from midcall.experiments.measure.inferred_call import inferred_call
from midcall.experiments.measure.intervals import derived_seed
from midcall.experiments.results.tables import LadderLine
from midcall.experiments.spec import policy_names
from midcall.experiments.spec.policy_names import Named
from midcall.suggestions import hint

Row = dict[str, Any]


class Played(NamedTuple):
    """A capture played under a policy and under none.

    verdicts: by call id; inferred: whether the calls are inferred by the classifier.
    """

    simulation: Any
    control: Any
    calls: list[Call]
    verdicts: dict[str, Any]
    inferred: bool
    notices: list[str]
    named: Named


class Order(NamedTuple):
    """The options of a replay, as the command takes them."""

    capture: str
    policy: str
    access: str = "4g"
    date: datetime.date | None = None
    call: str | None = None
    link: str = "captured"
    seed: int = 2016
    app: str | None = None
    flows: Sequence[str] = ()
    corpus: Path | None = None
    changed: Sequence[str] = ()
    clock: datetime.time | None = None


def clock_of(word: str | None) -> datetime.time | None:
    """Return a time of day given as HH:MM, None for None. Raises ExperimentError."""
    try:
        return None if word is None else datetime.datetime.strptime(word, "%H:%M").time()
    except ValueError:
        raise ExperimentError(f"time {word!r}: expected a time of day such as 20:30") from None


def play(order: Order) -> Played:
    """Play one capture through one policy. Raises ExperimentError for invalid options or
    captures."""
    with held(order.capture) as capture:
        if order.capture == STANDARD_INPUT:
            order = order._replace(capture=str(capture.path))
        return play_file(order, capture.shown)


def play_file(order: Order, shown: str) -> Played:
    """Play one capture that is a file, see `play`; shown: its name in messages."""
    from midcall.testbed.assess.call_verdict import judge
    from midcall.testbed.replay.simulator import simulate

    path, entry = locate_capture(order.capture, order.corpus)
    named = policy_names.named(order.policy, order.access, order.date, order.clock)
    packets, notices = read_with_notices(path, shown)
    sha256 = sum_of(path)
    capture_calls, inferred = calls_of(order, shown, packets, sha256)
    seed = derived_seed(order.seed, sha256, order.access)

    def ran(policy: Any) -> Any:
        return simulate(
            packets,
            capture_calls,
            [],
            policy,
            order.access,
            seed,
            link=order.link,
            addressing="keep",
        )

    simulation, control = ran(named.policy), ran(None)
    if not len(simulation.script.held.flows):
        raise ExperimentError(f"{shown}: holds no IP flow, there is nothing to replay")
    changed = [*(entry.changed if entry is not None else []), *checked(order.changed)]
    wanted = chosen(capture_calls, order.call)
    verdicts = {one.id: judge(simulation, control, one, changed) for one in wanted}
    return Played(simulation, control, wanted, verdicts, inferred, notices, named)


def checked(changed: Sequence[str]) -> Sequence[str]:
    """Return the declared changes of a capture. Raises ExperimentError for unknown words."""
    for word in changed:
        if word not in get_args(Change):
            raise ExperimentError(f"--changed {word!r}: {hint(word, get_args(Change))}")
    return changed


def calls_of(order: Order, shown: str, packets: Packets, sha256: str) -> tuple[list[Call], bool]:
    """Return the calls of a capture, and whether they are inferred."""
    described = [one for one in calls(sha256) if one.media or one.setup or one.control]
    if described and order.app is None and not order.flows:
        return described, False
    flows = named_flows(shown, packets, list(order.flows), order.app)
    rows, _ = classify_packets(packets, shown)
    one = inferred_call(rows, packets, "call-1", order.app, [flow.frame for flow in flows])
    return ([] if one is None else [one]), True


def chosen(all_calls: list[Call], name: str | None) -> list[Call]:
    """Return the call with a name, or all calls. Raises ExperimentError."""
    if name is None:
        return all_calls
    matches = [one for one in all_calls if one.id == name]
    if not matches:
        raise ExperimentError(f"call {name!r}: {hint(name, [one.id for one in all_calls])}")
    return matches


# ---- output


def document(played: Played) -> Row:
    """Return verdicts and counts as JSON values."""
    from midcall.testbed.replay import packet_trace

    return {
        "calls": [call_document(one, played.verdicts[one.id]) for one in played.calls],
        "packets": packet_trace.counts(played.simulation),
        "policy_sha256": played.named.sha256,
        "inferred": played.inferred,
    }


def call_document(call: Call, verdict: Any) -> Row:
    """Return a call's verdict as JSON values; media are packets of both directions."""
    up, down = verdict.up, verdict.down
    return {
        "call": call.id,
        "app": call.app,
        "verdict": verdict.verdict,
        "blocked": verdict.blocked,
        "usable": verdict.usable,
        "reason": verdict.reason,
        "mos_up": None if up is None else up.heard.mos,
        "mos_down": None if down is None else down.heard.mos,
        "media_sent": verdict.media_sent,
        "media_arrived": verdict.media_delivered,
    }


def lines(order: Order, played: Played) -> Iterator[str]:
    """Yield the result as lines of text."""
    about = document(played)
    day = f" on {played.named.date}" if played.named.date else ""
    shown = SHOWN if order.capture == STANDARD_INPUT else printable(order.capture)
    yield f"{shown} through {order.policy} on {order.access}{day}"
    yield from played.notices
    if played.inferred:
        yield (
            "calls: the capture's calls are described nowhere, so the classifier's answer is taken"
            if about["calls"]
            else "calls: none; neither the classifier nor --flow names a flow of a call"
        )
    for one in about["calls"]:
        worth = {True: "usable", False: "not usable", None: "cannot tell"}[one["usable"]]
        yield f"call {one['call']} ({one['app']}): {one['verdict']}, {worth}: {one['reason']}"
        mos = [f"{way} {one[f'mos_{way}']:.2f}" for way in ("up", "down") if one[f"mos_{way}"]]
        quality = f"; MOS {', '.join(mos)}" if mos else ""
        yield f"  media packets: {one['media_sent']} sent, {one['media_arrived']} arrived{quality}"
    counted = ", ".join(f"{number} {name}" for name, number in about["packets"].items())
    yield f"packets: {counted.replace('_', ' ')}"


def ladders(played: Played) -> dict[str, list[LadderLine]]:
    """Return the ladder of each call by its id; without calls, that of all packets under ""."""
    from midcall.experiments.tools.ladder import ladder

    simulation, control = played.simulation, played.control
    if not played.calls:
        return {"": ladder(simulation, control, None)}
    return {call.id: ladder(simulation, control, call) for call in played.calls}


# ---- files


def write(played: Played, trace: Path | None, fates: Path | None) -> None:
    """Write the trace and the table of fates, both or none. Raises ExperimentError."""
    from midcall.testbed.replay import packet_trace

    wanted: list[tuple[Path, bytes]] = []
    if trace is not None:
        wanted.append((trace, packet_trace.trace(played.simulation)))
    if fates is not None:
        wanted.append((fates, packet_trace.table(played.simulation).encode()))
    with contextlib.ExitStack() as undo:
        try:
            drafts = [(target, part_of(target, data, undo)) for target, data in wanted]
            for target, part in drafts:
                os.replace(part, target)
        except OSError as error:
            places = ", ".join(str(target) for target, _ in wanted)
            raise ExperimentError(f"cannot write {places}: {error.strerror}") from None


def part_of(target: Path, data: bytes, undo: contextlib.ExitStack) -> Path:
    """Write the content to a temporary file next to its target; `undo` removes it unless it is
    moved."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    undo.callback(Path(name).unlink, missing_ok=True)
    with os.fdopen(handle, "wb") as out:
        out.write(data)
    os.chmod(name, 0o644)
    return Path(name)
