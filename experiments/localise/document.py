# SPDX-License-Identifier: BSD-3-Clause
"""What a localisation found, as a JSON document and as text: clauses, sets, marked octets, cost."""

from __future__ import annotations

import ipaddress
import json
from collections.abc import Iterator, Sequence
from typing import Any

from rich.text import Text

from midcall.classifier.engine import Engine
from midcall.classifier.explain.dissect import Packet, walk
from midcall.classifier.explain.highlights import Mark, transport_at
from midcall.classifier.state.packet_fields import (
    SIGN_IP_AT,
    SIGN_PAYLOAD_AT,
    SIGN_SOURCE_AT,
    SIGN_TARGET_AT,
    SIGN_VERSION,
)
from midcall.errors import ExperimentError
from midcall.experiments.localise.clause import FOREVER, Clause, Look, Range, Windows, blocks
from midcall.experiments.localise.found_clause import Trace
from midcall.experiments.localise.oracle_session import Asker
from midcall.experiments.localise.search import Found
from midcall.experiments.measure.redact import masked
from midcall.experiments.tools.explain_text import FORMATS, hex_lines, rendered
from midcall.experiments.tools.hexdump_view import text
from midcall.suggestions import hint
from midcall.testbed.probing.probe import Ends, Probe, Sent, flows_of, ip_size, packets_of_probe

SCHEMA = 3
#: Packets of one clause that are shown, and checks that refute a rule.
SHOWN, REFUTED = 3, 20

Document = dict[str, Any]


def document(found: Found, asker: Asker, base: Probe, about: Document, reveal: bool) -> Document:
    """Return what was found as a JSON document (SCHEMA).

    about: file, policy and whatever else says what was asked; it becomes part of the document.
    """
    return {
        "schema": SCHEMA,
        **about,
        "masked": not reveal,
        "packets": len(base),
        "flows": len(flows_of(base)),
        "blocked": found.blocked,
        "complete": found.complete,
        "notes": found.notes,
        "checks": found.checks,
        "refuted": [refutation(one, found, reveal) for one in found.refuted[:REFUTED]],
        "noise": asker.noise,
        "error": asker.error if asker.noise else 0.0,
        "budget": asker.budget,
        "cost": found.cost._asdict(),
        "clauses": [clause_document(trace, base, reveal) for trace in found.traces],
        "sufficient": [sorted(one) for one in found.sufficient],
        "necessary": [sorted(one) for one in found.necessary],
    }


def refutation(probe: Probe, found: Found, reveal: bool) -> Document:
    """Return a check of which the box says otherwise than the rule: its flows, its packets, and
    whether the box blocks it."""
    return {
        "flows": [flow_words(ends, reveal) for ends in flows_of(probe)],
        "packets": len(probe),
        "box_blocks": not blocks(found.clauses, probe),
    }


def clause_document(trace: Trace, base: Probe, reveal: bool) -> Document:
    """Return one clause, with the packets of the capture in which it shows."""
    probe, places = shown_in(trace, base)
    return {
        "words": trace.clause.words(reveal),
        "calls": sorted(trace.clause.calls),
        "of_capture": probe is base,
        "needs_packets": len(trace.probe),
        "windows": list(windows_of(trace.clause)),
        "struck": position(probe, places[-1]),
        "packets": [
            packet_document(probe[at], at, looks_of(trace.clause, probe[at]), reveal)
            for at in places
        ],
    }


def windows_of(clause: Clause) -> Iterator[Document]:
    """Yield where a packet must stand: since what, and a range (None: any) of packets, of packets
    with a payload before it, of bytes (IP) and of seconds; an upper end that is None is open."""
    yield {"since": "the flow's first packet", **window(clause.windows)}
    if clause.earlier is not None:
        yield {"since": "the packet that must come before", **window(clause.earlier.since)}


def window(held: Windows) -> Document:
    """Return windows by their units."""
    return {
        "packets": ends_of(held.packets),
        "loaded": ends_of(held.loaded),
        "bytes": ends_of(held.octets),
        "seconds": ends_of(held.age, 1e9),
    }


def ends_of(span: Range, unit: float = 1) -> list[float | None] | None:
    """Return the two ends of a range in a unit, None for an open one or a range of everything."""
    low, high = span
    if low <= 0 and high >= FOREVER:
        return None
    return [low / unit if unit != 1 else low,
            None if high >= FOREVER else high / unit if unit != 1 else high]  # fmt: skip


def position(probe: Probe, at: int) -> Document:
    """Return where a packet stands in its flow, itself counted: packets, bytes (IP), seconds."""
    own = [one for one in probe[: at + 1] if one.ends == probe[at].ends]
    return {
        "packets": len(own),
        "bytes": sum(map(ip_size, own)),
        "seconds": round((own[-1].time - own[0].time) / 1e9, 6),
    }


def shown_in(trace: Trace, base: Probe) -> tuple[Probe, list[int]]:
    """Return the probe and the packets in which a clause is shown: the capture, if it holds there.

    Else the neutral probe in which it was found.
    """
    clause = trace.clause
    struck = clause.strikes(base)
    if struck is None:
        return trace.probe, list(trace.decisive[:SHOWN])
    places = [struck]
    if clause.earlier is not None:
        ends = base[struck].ends
        before = [
            at for at in range(struck + 1)
            if clause.earlier.look.meets(base[at]) and base[at].ends.near == ends.near
            and (base[at].ends == ends or not clause.earlier.same_flow)
        ]  # fmt: skip
        places = sorted({*before[:1], struck})
    elif clause.times > 1:
        own = [at for at in range(struck + 1)
               if base[at].ends == base[struck].ends and clause.look.meets(base[at])]  # fmt: skip
        places = own[-min(clause.times, SHOWN) :]
    return base, places


def looks_of(clause: Clause, one: Sent) -> list[Look]:
    """Return the Looks of a clause that a packet meets."""
    looks = [clause.look] + ([clause.earlier.look] if clause.earlier else [])
    return [look for look in looks if look.meets(one)]


def packet_document(one: Sent, number: int, looks: Sequence[Look], reveal: bool) -> Document:
    """Return one packet with what decides in it marked."""
    engine = Engine(room=64, model=None)
    packets = packets_of_probe((one,))
    engine.feed(packets)
    packet = walk(packets.data, engine.signs)
    marks = sorted({mark for look in looks for mark in marks_of(packet, one, look)})
    return {
        "number": number + 1,
        "ms": round(one.time / 1e6, 3),
        "direction": "up" if one.up else "down",
        "flow": flow_words(one.ends, reveal),
        "payload": len(one.payload),
        "payload_at": int(engine.signs[SIGN_PAYLOAD_AT]),
        "marks": [mark._asdict() for mark in marks],
        "hex": " ".join(text(packet, marks, reveal)),
    }


def marks_of(packet: Packet, one: Sent, look: Look) -> Iterator[Mark]:
    """Yield the octets of a packet that a Look is about."""
    start, ip = int(packet.signs[SIGN_PAYLOAD_AT]), int(packet.signs[SIGN_IP_AT])
    four = packet.signs[SIGN_VERSION] == 4
    if look.payload is not None:
        for at, length, caption in look.payload.spans(one):
            if at >= 0 and length > 0:
                yield Mark(start + at, length, caption, bool(look.payload.secret))
    if look.proto is not None:
        yield Mark(ip + (9 if four else 6), 1, "transport")
    if look.size is not None:
        yield Mark(ip + (2 if four else 4), 2, "length")
    for ports, of_far, word in ((look.ports, True, "far"), (look.near_ports, False, "near")):
        if ports is not None:
            yield Mark(transport_at(packet) + (2 if one.up == of_far else 0), 2, f"{word} port")
    for prefix, of_far, word in ((look.far, True, "far"), (look.near, False, "near")):
        if prefix is not None:
            slot = SIGN_TARGET_AT if one.up == of_far else SIGN_SOURCE_AT
            size = -(-prefix[1] // 8)
            yield Mark(int(packet.signs[slot]), size, f"{word} address", True)


def flow_words(ends: Ends, reveal: bool) -> str:
    """Return a flow in words, addresses masked unless `reveal`."""
    result = [str(ipaddress.ip_address(one)) for one in (ends.near, ends.far)]
    near, far = result if reveal else (masked(result[0]), masked(result[1]))
    word = {6: "tcp", 17: "udp"}.get(ends.proto, f"IP protocol {ends.proto}")
    return f"{word} {near}:{ends.near_port}-{far}:{ends.far_port}"


# ---- as text


def lines(result: Document, terminal: bool) -> Iterator[Text]:
    """Yield a document as lines for people."""
    yield Text(
        f"{result['file']}: {result['packets']} packets, {result['flows']} flows; {result['box']}"
    )
    if result["masked"]:
        yield Text("Addresses and names are masked (x, ..); --reveal shows them.", style="dim")
    if not result["blocked"]:
        yield Text()
        yield Text("The box blocks no packet of this capture.", "bold")
        yield Text(f"checked     {result['checks']} probes: each flow alone, and single packets")
        for note in result["notes"]:
            yield Text(f"not checked: {note}", "yellow")
        return
    for number, clause in enumerate(result["clauses"], 1):
        yield Text()
        word = "blocked" if len(result["clauses"]) == 1 else f"{number}. blocked"
        yield Text(f"{word} if {'; '.join(clause['words'])}", "bold")
        if not clause["of_capture"]:
            yield Text("   shown in a packet made neutral, no packet of the capture", "dim")
        for packet in clause["packets"]:
            yield from packet_lines(packet, terminal)
    yield Text()
    yield from endings(result)


def packet_lines(packet: Document, terminal: bool) -> Iterator[Text]:
    """Yield one packet, the octets that decide marked."""
    arrow = "->" if packet["direction"] == "up" else "<-"
    yield Text(
        f"   packet {packet['number']} {arrow} {packet['ms']:.3f} ms, {packet['flow']}, "
        f"{packet['payload']} octets of payload"
    )
    if packet["marks"]:
        yield from hex_lines(packet, terminal)


def endings(result: Document) -> Iterator[Text]:
    """Yield the sets, what is not explained, and the cost."""
    sets = {"sufficient": "each of these suffices", "necessary": "each of these unblocks if broken"}
    for key, words in sets.items():
        held = "  |  ".join(" + ".join(one) or "anything" for one in result[key])
        yield Text(f"{key:11} {held or 'nothing found'}   ({words})")
    for note in result["notes"]:
        yield Text(f"not explained: {note}", "yellow")
    for one in result["refuted"]:
        word = "blocks" if one["box_blocks"] else "lets pass"
        flows = "; ".join(one["flows"])
        yield Text(f"   the box {word} {one['packets']} packets of {flows}", "dim")
    yield Text(
        f"checked     {result['checks']} probes: flows of the capture, single packets, other "
        "ports, addresses and packets before"
    )
    cost, noise = result["cost"], ""
    if result["noise"]:
        noise = (
            f"; up to {result['noise']:.0%} of the answers may be wrong, a question ends wrongly "
            f"with a chance of at most {result['error']:g}"
        )
    yield Text(
        f"cost        {cost['questions']} questions, {cost['probes']} of {result['budget']} "
        f"probes, {cost['packets']} packets, {cost['octets']} bytes, {cost['seconds']:.1f} s of "
        f"traffic{noise}"
    )


def shown(result: Document, form: str, terminal: bool) -> str:
    """Return a document as text for people, or as JSON; raises ExperimentError."""
    if form not in FORMATS:
        raise ExperimentError(f"unknown format {form} ({hint(form, FORMATS)})")
    if form == "json":
        return json.dumps(result, ensure_ascii=False, indent=1) + "\n"
    return rendered(lines(result, terminal), terminal)
