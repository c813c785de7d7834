# SPDX-License-Identifier: BSD-3-Clause
"""Rows of a classifier that the user gives: one per flow, as CSV or as dicts, with COLUMNS.

A row that cannot be read is an error and does not count; the flow is then missed. The other rows
count. If a flow has several rows, the strongest verdict counts.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from midcall.captures.packets.numbers import TCP, UDP
from midcall.classifier.state.verdicts import APPS
from midcall.experiments.accuracy.peers.ends import key
from midcall.experiments.accuracy.peers.labels import NO_CLAIM, Answer, Claim, Key, named, strength
from midcall.experiments.measure.metrics import NAMELESS
from midcall.suggestions import hint

#: The columns of a row; others are ignored.
COLUMNS = ("proto", "src_ip", "src_port", "dst_ip", "dst_port", "app", "verdict")
VERDICTS = ("certain", "unsure", "not-call")
#: Protocols with ports, by word and number. Flows of OTHERS are allowed and never scored.
PROTOCOLS = {"tcp": TCP, "udp": UDP, str(TCP): TCP, str(UDP): UDP}
OTHERS = ("icmp", "icmp6", "icmpv6", "igmp", "sctp", "dccp", "gre", "esp", "ah", "other")
#: The greatest number of rows that is read.
MOST = 1_000_000


def of_csv(output: bytes) -> tuple[Answer, str]:
    """Return (flow -> labels, "" or what is wrong and in which line) of CSV with a header."""
    if not output.strip():
        return {}, "printed nothing, not even a header"
    reader = csv.DictReader(io.StringIO(output.decode("utf-8-sig", "replace"), newline=""))
    try:
        names = [name.strip().lower() for name in reader.fieldnames or ()]
    except csv.Error as error:
        return {}, f"line 1: {error}"
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        return {}, f"line {reader.line_num}: the header has no column {', '.join(missing)}"
    reader.fieldnames = names

    def numbered() -> Iterator[tuple[str, Mapping[str, Any]]]:
        for row in reader:
            yield f"line {reader.line_num}", row

    try:
        return answer(numbered())
    except csv.Error as error:
        return {}, f"line {reader.line_num + 1}: {error}"


def of_dicts(rows: Iterable[Mapping[str, Any]]) -> tuple[Answer, str]:
    """Return (flow -> labels, "" or what is wrong and in which row, counted from 1)."""
    return answer((f"row {at}", row) for at, row in enumerate(rows, start=1))


def answer(rows: Iterable[tuple[str, Mapping[str, Any]]]) -> tuple[Answer, str]:
    """Return (flow -> labels, "" or a reason) of rows with their places."""
    answers: Answer = {}
    first, wrong = "", 0
    for count, (place, row) in enumerate(rows, start=1):
        if count > MOST:
            return {}, f"{place}: more than {MOST} rows"
        try:
            found = read(row)
        except ValueError as error:
            first, wrong = first or f"{place}: {error}", wrong + 1
            continue
        if found is not None:
            flow, label = found
            answers[flow] = (*answers.get(flow, ()), label)
    more = f" (and {wrong - 1} more such rows)" if wrong > 1 else ""
    return answers, first + more


def read(row: Mapping[str, Any]) -> tuple[Key, str] | None:
    """Return a row's flow and label, None for a flow without ports; raises ValueError."""
    if not isinstance(row, Mapping):
        raise ValueError(f"a row is a mapping of columns, not {type(row).__name__}")
    words = {}
    for name in COLUMNS:
        if name not in row or (row[name] is None and name != "app"):
            raise ValueError(f"no value in column {name}")
        words[name] = "" if row[name] is None else str(row[name]).strip()
    label = label_of(words["verdict"].lower(), words["app"].lower())
    proto = words["proto"].lower()
    if proto in OTHERS or (proto.isdecimal() and proto not in PROTOCOLS):
        return None
    if proto not in PROTOCOLS:
        raise ValueError(f"unknown protocol {shown(proto)} ({hint(proto, (*PROTOCOLS, *OTHERS))})")
    ports = port(words["src_port"], "src_port"), port(words["dst_port"], "dst_port")
    flow = key(PROTOCOLS[proto], words["src_ip"], ports[0], words["dst_ip"], ports[1])
    return flow, label


def label_of(verdict: str, app: str) -> str:
    """Return the label of a verdict and an app; raises ValueError for unknown words."""
    if verdict not in VERDICTS:
        raise ValueError(f"unknown verdict {shown(verdict)} ({hint(verdict, VERDICTS)})")
    if app and app not in APPS:
        raise ValueError(f"unknown app {shown(app)} ({hint(app, APPS)})")
    if app == "none" and verdict != "not-call":
        raise ValueError(f"app none with verdict {verdict} (for a call without a name: no app)")
    return f"{verdict} {app}".rstrip()


def port(word: str, column: str) -> int:
    """Return a port; raises ValueError."""
    if not (word.isascii() and word.isdecimal() and int(word[:6]) < 65536 and len(word) < 7):
        raise ValueError(f"{column} is no port: {shown(word)}")
    return int(word)


def shown(word: str) -> str:
    """Return a word in quotes, cut to 40 characters."""
    return repr(word if len(word) <= 40 else word[:39] + "…")


def claim(labels: Iterable[str]) -> Claim:
    """Return the strongest claim of a flow's labels: verdict, app and role."""
    return max((meaning(label) for label in labels), key=strength, default=NO_CLAIM)


def meaning(label: str) -> Claim:
    """Return the claim of one label; a call without an app is of NAMELESS."""
    verdict, _, app = label.partition(" ")
    if verdict != "not-call":
        return {"verdict": verdict, "app": app or NAMELESS, "role": "media"}
    chat: Claim = {"verdict": verdict, "app": app, "role": "messaging"}
    return chat if app and named(chat) else NO_CLAIM
