# SPDX-License-Identifier: BSD-3-Clause
"""`midcall support`: the recordings with each evidence, and the accuracy on other repositories.

An engine reads every real capture, gives each evidence the strongest claim that its rule allows,
and logs all evidence. The truth of the flow decides whether the evidence was right. The result is
the table of classifier.state.evidence_support and, for each repository, the accuracy on its
captures of an engine whose claims come from the other repositories.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from midcall.captures.fetch.fetch import obtain
from midcall.captures.packets.pcap import read
from midcall.captures.truth.calls import calls
from midcall.captures.truth.catalogue import Capture, load
from midcall.captures.truth.labels import labels
from midcall.classifier.engine import Engine
from midcall.classifier.state.evidence import SHARED
from midcall.classifier.state.evidence_support import INNOCENT, OWN, Seen, claims, committed, save
from midcall.classifier.state.flow_table import CLAIM_KEYS, Numbers
from midcall.classifier.state.verdicts import APPS, MADE_BY, NOT_CALL, RTC
from midcall.errors import ExperimentError
from midcall.experiments.accuracy.perturb import downward, original, second_half, snapped, upward
from midcall.experiments.cells.offline import classified_rows
from midcall.experiments.measure import metrics
from midcall.experiments.results.schema import CALL_ROLES
from midcall.experiments.spec.corpus import Item
from midcall.testbed.replay.packet_index import PacketIndex, index_packets

#: Repositories with captures from the tests of the same project.
SAME_PROJECT = {"debian-ndpi": "ndpi"}
#: Logged evidence per packet of a capture: a packet rarely gives more than one.
ROOM = 4

Row = dict[str, Any]


def repository(capture: Capture) -> str:
    """Return the repository of a capture; the Git history of a repository counts as the same."""
    name = capture.sources[0].origin.removesuffix("-history") if capture.sources else "none"
    return SAME_PROJECT.get(name, name)


def session(capture: Capture) -> str:
    """Return the name of a capture's session; both ends of a call are one session."""
    if capture.group.startswith("GIT-"):
        return min(capture.name, capture.other_end or capture.name)
    return capture.group


def counts_once(items: Iterable[Item]) -> list[Item]:
    """Return the items of real captures that are not a copy of another."""
    return [one for one in items if not one.capture.ours and not one.capture.copy_of]


def truths(item: Item, index: PacketIndex) -> dict[int, str]:
    """Return the truth of each flow of a packet index: the app of its call, or INNOCENT."""
    flow = index.facts["flow"]
    if item.innocent:
        inside = np.isin(index.facts["proto"], (6, 17)) & (flow >= 0)
        return dict.fromkeys(np.unique(flow[inside]).tolist(), INNOCENT)
    out = {}
    for label in item.labels:
        at = int(flow[label.frame - 1]) if 0 < label.frame <= len(flow) else -1
        if at < 0 or label.confidence not in metrics.SCORED_CONFIDENCE:
            continue
        if label.role in metrics.SCORED_ROLES:
            out[at] = label.app
        elif label.role in metrics.QUIET_ROLES:
            out[at] = INNOCENT
    return out


def kind_of(evidence: int, truth: str) -> str:
    """Return the kind of a flow for an evidence: OWN, INNOCENT or another app's name."""
    app, quiet = (evidence >> 8) & 0xFF, (evidence >> 20) & 15 == NOT_CALL
    if quiet or truth == INNOCENT:
        return OWN if quiet and truth == INNOCENT else truth
    agrees = app == RTC or truth in {APPS[one] for one in (app, *MADE_BY.get(app, ()))}
    return OWN if agrees else truth


def evidence_of(item: Item) -> Iterator[tuple[int, int, str, int]]:
    """Yield (app, number, kind, flow) of every evidence on every flow of known truth.

    Some evidence only shows if stronger evidence is missing. So the capture is also read with
    frames cut to 96 octets, from the middle of each flow, and in one direction only.
    """
    index = index_packets(read(item.path))
    truth = truths(item, index)
    for change in (original, snapped, second_half, upward, downward):
        after = change(index, np.random.default_rng(0))
        no_claims = np.zeros(2 * CLAIM_KEYS, np.int64)
        engine = Engine(claims=no_claims, listen=ROOM * after.packets.total)
        engine.feed(after.packets)
        engine.flows()
        for evidence, first in {(int(evidence), int(first)) for evidence, first in engine.spoken()}:
            flow = int(index.facts["flow"][after.origin[first]])
            if flow in truth:
                number = evidence & 0xFF
                app = 0 if number > SHARED else (evidence >> 8) & 0xFF
                yield app, number, kind_of(evidence, truth[flow]), flow


def gather(items: Iterable[Item]) -> list[Seen]:
    """Return the support table of some captures."""
    flows: Counter[tuple[int, int, str, str]] = Counter()
    sessions: dict[tuple[int, int, str, str], set[str]] = defaultdict(set)
    for item in counts_once(items):
        for app, number, kind, _ in set(evidence_of(item)):
            key = (app, number, kind, repository(item.capture))
            flows[key] += 1
            sessions[key].add(session(item.capture))
    return sorted(Seen(*key, len(sessions[key]), n) for key, n in flows.items())


@cache
def without(name: str) -> Numbers:
    """Return the claims of the committed table without the lines of one repository."""
    return claims([row for row in committed() if row.repository != name])


def left_out(
    items: Sequence[Item], support_rows: Sequence[Seen]
) -> Iterator[tuple[str, list[Row]]]:
    """Yield each repository with the rows of its captures' flows and their truth.

    The flows are classified by an engine whose claims come from the other repositories only.
    """
    items_of: dict[str, list[Item]] = defaultdict(list)
    for item in counts_once(items):
        items_of[repository(item.capture)].append(item)
    for name, own in sorted(items_of.items()):
        others = claims([row for row in support_rows if row.repository != name])
        rows = [row for item in own for row in classified_rows(item, {"claims": others})]
        yield name, [row | {"repository": name} for row in rows]


def support(corpus: Path | None, out: Path) -> tuple[Row, list[str]]:
    """Write the support table of the captures on this machine to a file.

    Returns the figures of `compared`, and the same as lines of text. Raises ExperimentError if
    there is no real capture.
    """
    items = real(corpus)
    support_rows = gather(items)
    if out.parent != Path("."):
        out.parent.mkdir(parents=True, exist_ok=True)
    save(support_rows, out)
    result = compared(items, support_rows)
    return result, lines(result, out)


def real(corpus: Path | None) -> list[Item]:
    """Return the public captures on this machine; raises ExperimentError if there is none."""
    paths = obtain(load(local=False), corpus=corpus, offline=True).paths
    items = [
        Item(one, paths[one.sha256], calls(one.sha256), labels(one.sha256))
        for one in load(local=False).captures
        if one.sha256 in paths and not one.ours
    ]
    if not items:
        raise ExperimentError("no real captures here: get them with `midcall captures fetch`")
    return items


def lines(result: Row, out: Path) -> list[str]:
    """Return the figures as lines of text."""

    def line(title: str, block: Row) -> str:
        value = "none" if block["macro_f1"] is None else f"{block['macro_f1']:.3f}"
        return (
            f"{title}: macro-F1 {value} over {len(block['apps'])} apps; of "
            f"{block['call_flows']} call flows {block['wrong']} have a wrong app, and "
            f"{block['false_calls']} innocent flows are called a call"
        )

    return [
        line("every repository in view", result["in_view"]["all"]),
        line("apps of two repositories or more, in view", result["in_view"]["often"]),
        line("the same, each repository left out in turn", result["left_out"]["often"]),
        line("apps of one repository, left out", result["left_out"]["once"]),
        str(out),
    ]


def figures(rows: Sequence[Mapping[str, Any]]) -> Row:
    """Return macro-F1 over apps, the number of wrong names, and false calls of some rows."""
    table = metrics.f1_counts(rows)
    flows = metrics.call_flows(rows, metrics.SCORED_ROLES)
    return {
        "apps": {app: line["f1"] for app, line in table.items()},
        "macro_f1": metrics.macro_f1(table, lambda app: True)["value"],
        "call_flows": len(flows),
        "wrong": sum(row["outcome"] == "other_call" for row in flows),
        "false_calls": sum(row["outcome"] == "false_call" for row in metrics.quiet_flows(rows)),
    }


def repositories_of_apps(items: Iterable[Item]) -> dict[str, set[str]]:
    """Return the repositories with call flows of each app (Skype and Teams count as one)."""
    out: dict[str, set[str]] = defaultdict(set)
    for item in counts_once(items):
        for label in item.labels:
            scored = label.confidence in metrics.SCORED_CONFIDENCE
            if scored and label.role in CALL_ROLES:
                out[metrics.family(label.app)].add(repository(item.capture))
    return out


def compared(items: Sequence[Item], support_rows: Sequence[Seen]) -> Row:
    """Return figures with every repository in view, and with each left out in turn.

    "often": apps in two or more repositories; "once": the other apps.
    """
    places = repositories_of_apps(items)
    often = sorted(app for app, names in places.items() if len(names) > 1 and app != metrics.NO_APP)
    whole = [row for item in counts_once(items) for row in classified_rows(item)]
    held_out = [row for _, rows in left_out(items, support_rows) for row in rows]

    def of(rows: Sequence[Mapping[str, Any]], repeated: bool) -> list[Mapping[str, Any]]:
        return [
            row
            for row in rows
            if row["truth_role"] not in metrics.SCORED_ROLES
            or (metrics.family(row["truth_app"]) in often) == repeated
        ]

    return {
        "often": often,
        "in_view": {"all": figures(whole), "often": figures(of(whole, True))},
        "left_out": {"often": figures(of(held_out, True)), "once": figures(of(held_out, False))},
    }
