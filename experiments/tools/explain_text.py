# SPDX-License-Identifier: BSD-3-Clause
"""The output of an explanation: a document of experiments.tools.explain as text or JSON.

On a terminal decisive octets are bold and coloured; in plain text they are in brackets.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from rich.console import Console
from rich.text import Text

from midcall.errors import ExperimentError
from midcall.experiments.measure.hexdump import Row, rows, separators
from midcall.suggestions import hint

FORMATS = ("text", "json")
#: Largest number of flows in the list of the text.
LISTED = 40
#: Styles of marks in turn, and of verdicts.
MARKS = ("bold black on yellow", "bold black on cyan", "bold black on magenta")
SHADES = {"certain": "bold green", "unsure": "yellow"}

Document = dict[str, Any]
#: Makes the explanation; see experiments.tools.explain.explain.
Make = Callable[[], tuple[Document, list[str]]]


def write(make: Make, form: str, say: Callable[[str], None]) -> None:
    """Print an explanation; `say` receives one sentence per notice on the file."""
    if form not in FORMATS:
        raise ExperimentError(f"unknown format {form} ({hint(form, FORMATS)})")
    document, notices = make()
    for notice in notices:
        say(f"midcall: warning: {notice}")
    if form == "json":
        print(json.dumps(document, ensure_ascii=False, indent=1))
        return
    terminal = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
    print(render(document, terminal), end="")


def render(document: Document, terminal: bool) -> str:
    """Return the transcript as text, with escape codes for a terminal."""
    return rendered(lines(document, terminal), terminal)


def rendered(texts: Iterable[Text], terminal: bool) -> str:
    """Return lines as text, with escape codes for a terminal."""
    console = Console(
        force_terminal=terminal,
        no_color=None if terminal else True,
        color_system="auto" if terminal else None,
        width=None if terminal else 200,
        highlight=False,
    )
    with console.capture() as captured:
        for line in texts:
            console.print(line, soft_wrap=True)
    return "\n".join(line.rstrip() for line in captured.get().split("\n"))


def lines(document: Document, terminal: bool) -> Iterator[Text]:
    """Yield the lines of a transcript."""
    yield Text(f"{document['file']}: {document['packets']} packets, {len(document['flows'])} flows")
    if document["masked"]:
        yield Text(
            "Addresses, names and payload that decides nothing are masked (x, ..); "
            "--reveal shows them.",
            style="dim",
        )
    yield Text()
    yield Text("Flows, each with a display filter for Wireshark:", style="dim")
    yield from flow_list(document)
    yield Text()
    chosen = document["flows"][document["flow"] - 1]
    yield Text(f"flow {chosen['number']}: {chosen['flow']}, {chosen['packets']} packets", "bold")
    last = 0
    for packet in document["shown"]:
        yield from gap(packet["number"] - last - 1)
        yield Text()
        yield from packet_lines(packet, terminal)
        last = packet["number"]
    yield from gap(chosen["packets"] - last)
    yield Text()
    yield from ending(document, chosen)


def flow_list(document: Document) -> Iterator[Text]:
    """Yield one line per flow; if there are more than LISTED, flows of calls are preferred."""
    flows = document["flows"]
    strength = {"certain": 0, "unsure": 1}
    order = sorted(flows, key=lambda f: (strength.get(f["verdict"], 2), -f["packets"], f["number"]))
    listed = {flow["number"] for flow in order[:LISTED]} | {document["flow"]}
    width = max(len(flow["flow"]) for flow in flows if flow["number"] in listed)
    for flow in flows:
        if flow["number"] in listed:
            sign = ">" if flow["number"] == document["flow"] else " "
            yield Text(
                f"{sign}{flow['number']:5}  {flow['flow']:{width}}  {flow['packets']:7} packets  "
                f"{named(flow)}: {flow['evidence']}",
                SHADES.get(flow["verdict"], ""),
            )
            yield Text(f"        {flow['filter']}", "dim")
    if len(flows) > len(listed):
        yield Text(f"{len(flows) - len(listed)} more flows; --format json lists every one")


def gap(packets: int) -> Iterator[Text]:
    """Yield the placeholder for packets that are left out."""
    if packets > 0:
        yield Text()
        what = "1 packet" if packets == 1 else f"{packets} packets"
        yield Text(f"  ... {what} at which nothing changed", "dim")


def named(state: Document) -> str:
    """Return verdict, app and role as words."""
    if state["verdict"] == "undecided":
        return "undecided"
    words = [state["verdict"]]
    words += [state["app"]] if state["app"] != "none" else []
    words += [state["role"]] if state["role"] != "other" else []
    return " ".join(words)


def packet_lines(packet: Document, terminal: bool) -> Iterator[Text]:
    """Yield what one packet contains and what it changed."""
    arrow = "->" if packet["direction"] == "up" else "<-"
    yield Text(
        f"#{packet['number']} {arrow} frame {packet['frame']}, {packet['ms']:.3f} ms, "
        f"{' / '.join(packet['layers'])}, {packet['payload']} octets of payload",
        "bold" if packet["changed"] else "",
    )
    if not packet["inspected"]:
        yield Text("   not inspected: the flow is settled", "dim")
        return
    empty = "nothing: the packet has no payload"
    if packet["payload"]:
        empty = "nothing: no reader for this transport, or a fragment"
    for read in packet["read"] or [empty]:
        yield Text(f"   read     {read}")
    if packet["changed"]:
        yield from change(packet)
        if packet["marks"]:
            yield from hex_lines(packet, terminal)
    if packet["settles"]:
        yield Text("   settled  no later packet of this flow is inspected")


def change(packet: Document) -> Iterator[Text]:
    """Yield the rule that matched and what it changed."""
    before, after = packet["before"], packet["after"]
    yield Text(f"   rule     {packet['rule']}")
    yield Text(f"   support  {packet['support']}")
    text = Text(f"   verdict  {named(before)} -> ")
    text.append(named(after), SHADES.get(after["verdict"], "bold"))
    text.append(f", confidence {after['confidence']:.2f}")
    yield text
    if packet["counted"]:
        yield Text(f"   bytes    no single bytes: counted over packets ({packet['counted']})")
    elif not packet["marks"]:
        yield Text("   bytes    none in this packet: earlier packets decided")


def hex_lines(packet: Document, terminal: bool) -> Iterator[Text]:
    """Yield the rows of the hex view, each followed by the captions of marks that start in it."""
    marks = packet["marks"]
    spans = [(mark["at"], mark["length"]) for mark in marks]
    last = None
    for row in rows(packet["hex"].split(" "), spans, packet["payload_at"]):
        if last is not None and row.at != last + 16:
            yield Text("     *", "dim")
        last = row.at
        yield hex_row(row, terminal)
        for number, mark in enumerate(marks):
            if row.at <= mark["at"] < row.at + len(row.cells):
                pad = " " * (10 + 3 * (mark["at"] - row.at))
                yield Text(f"{pad}^ {mark['caption']}", style_of(number) if terminal else "")


def hex_row(row: Row, terminal: bool) -> Text:
    """Return one row of the hex view."""
    text = Text(f"     {row.at:04x}")
    for cell, mark, edge in zip(
        [*row.cells, ""], [*row.marked, -1], separators(row.marked), strict=True
    ):
        if terminal:
            text.append(" ")
            text.append(cell, MARKS[mark % len(MARKS)] if mark >= 0 else "dim")
        else:
            text.append(edge + cell)
    return text


def style_of(number: int) -> str:
    """Return the colour of a mark's caption: that of the mark, without background."""
    return f"bold {MARKS[number % len(MARKS)].rsplit(' ', 1)[1]}"


def ending(document: Document, chosen: Document) -> Iterator[Text]:
    """Yield the verdict as `midcall classify` reports it."""
    if document["settled_frame"]:
        yield Text(f"settled at frame {document['settled_frame']}")
    if document["decided_at_end"]:
        yield Text("undecided to the end; no single bytes: counted over packets")
    confidence = f"confidence {chosen['confidence']:.2f}"
    yield Text(
        f"verdict: {named(chosen)}, {confidence}: {chosen['evidence']}",
        SHADES.get(chosen["verdict"], "bold"),
    )
