# SPDX-License-Identifier: BSD-3-Clause
"""The result of a search as a JSON document and as text: clauses, sets, marked octets, cost."""

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
from midcall.experiments.localise.clause import (
    FOREVER,
    Clause,
    PacketCondition,
    Range,
    Windows,
    blocks,
)
from midcall.experiments.localise.found_clause import FoundClause
from midcall.experiments.localise.oracle_session import OracleSession
from midcall.experiments.localise.search import Localisation
from midcall.experiments.measure.redact import masked
from midcall.experiments.tools.explain_text import FORMATS, hex_lines, rendered
from midcall.experiments.tools.hexdump_view import text
from midcall.suggestions import hint
from midcall.testbed.probing.probe import Ends, Probe, Sent, flows_of, ip_size, packets_of_probe

SCHEMA = 3
#: Largest numbers of packets shown per clause, and of checks shown that refute a rule.
SHOWN, REFUTED = 3, 20

Document = dict[str, Any]


def document(
    result: Localisation, session: OracleSession, base: Probe, about: Document, reveal: bool
) -> Document:
    """Return the result of a search as a JSON document (SCHEMA).

    about: file, policy and other inputs; they become part of the document.
    """
    return {
        "schema": SCHEMA,
        **about,
        "masked": not reveal,
        "packets": len(base),
        "flows": len(flows_of(base)),
        "blocked": result.blocked,
        "complete": result.complete,
        "notes": result.notes,
        "checks": result.checks,
        "refuted": [refutation(one, result, reveal) for one in result.refuted[:REFUTED]],
        "noise": session.noise,
        "error": session.error if session.noise else 0.0,
        "budget": session.budget,
        "cost": result.cost._asdict(),
        "clauses": [clause_document(located, base, reveal) for located in result.found_clauses],
        "sufficient": [sorted(one) for one in result.sufficient],
        "necessary": [sorted(one) for one in result.necessary],
    }


def refutation(probe: Probe, result: Localisation, reveal: bool) -> Document:
    """Return a check on which the box and the rule disagree: its flows, its packets, and whether
    the box blocks it."""
    return {
        "flows": [flow_words(ends, reveal) for ends in flows_of(probe)],
        "packets": len(probe),
        "box_blocks": not blocks(result.clauses, probe),
    }


def clause_document(located: FoundClause, base: Probe, reveal: bool) -> Document:
    """Return one clause, with the packets of the capture that show it."""
    probe, places = shown_in(located, base)
    return {
        "words": located.clause.words(reveal),
        "calls": sorted(located.clause.factors),
        "of_capture": probe is base,
        "needs_packets": len(located.probe),
        "windows": list(windows_of(located.clause)),
        "struck": position(probe, places[-1]),
        "packets": [
            packet_document(probe[at], at, conditions_of(located.clause, probe[at]), reveal)
            for at in places
        ],
    }


def windows_of(clause: Clause) -> Iterator[Document]:
    """Yield the windows of a clause: the point they count from, and ranges (None: any) of packets,
    of earlier packets with a payload, of bytes (IP) and of seconds; an end that is None is open."""
    yield {"since": "the flow's first packet", **window(clause.windows)}
    if clause.earlier is not None:
        yield {"since": "the packet that must come before", **window(clause.earlier.since)}


def window(limits: Windows) -> Document:
    """Return windows by their units."""
    return {
        "packets": ends_of(limits.packets),
        "loaded": ends_of(limits.loaded),
        "bytes": ends_of(limits.octets),
        "seconds": ends_of(limits.age, 1e9),
    }


def ends_of(span: Range, unit: float = 1) -> list[float | None] | None:
    """Return the two ends of a range in a unit, None for an open end or an unlimited range."""
    low, high = span
    if low <= 0 and high >= FOREVER:
        return None
    return [low / unit if unit != 1 else low,
            None if high >= FOREVER else high / unit if unit != 1 else high]  # fmt: skip


def position(probe: Probe, at: int) -> Document:
    """Return the position of a packet in its flow, itself counted: packets, bytes (IP), seconds."""
    own = [one for one in probe[: at + 1] if one.ends == probe[at].ends]
    return {
        "packets": len(own),
        "bytes": sum(map(ip_size, own)),
        "seconds": round((own[-1].time - own[0].time) / 1e9, 6),
    }


def shown_in(located: FoundClause, base: Probe) -> tuple[Probe, list[int]]:
    """Return the probe and the indices of the packets that show a clause: of the capture, if it
    holds there.

    Otherwise of the neutral probe in which it was found.
    """
    clause = located.clause
    matching = clause.first_match(base)
    if matching is None:
        return located.probe, list(located.decisive[:SHOWN])
    places = [matching]
    if clause.earlier is not None:
        ends = base[matching].ends
        before = [
            at for at in range(matching + 1)
            if clause.earlier.condition.meets(base[at]) and base[at].ends.near == ends.near
            and (base[at].ends == ends or not clause.earlier.same_flow)
        ]  # fmt: skip
        places = sorted({*before[:1], matching})
    elif clause.times > 1:
        matches = [
            at for at in range(matching + 1)
            if base[at].ends == base[matching].ends and clause.condition.meets(base[at])
        ]  # fmt: skip
        places = matches[-min(clause.times, SHOWN) :]
    return base, places


def conditions_of(clause: Clause, packet: Sent) -> list[PacketCondition]:
    """Return the conditions of a clause that a packet meets."""
    conditions = [clause.condition] + ([clause.earlier.condition] if clause.earlier else [])
    return [condition for condition in conditions if condition.meets(packet)]


def packet_document(
    one: Sent, number: int, conditions: Sequence[PacketCondition], reveal: bool
) -> Document:
    """Return one packet with its decisive octets marked."""
    engine = Engine(room=64, model=None)
    packets = packets_of_probe((one,))
    engine.feed(packets)
    packet = walk(packets.data, engine.signs)
    marks = sorted({mark for condition in conditions for mark in marks_of(packet, one, condition)})
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


def marks_of(packet: Packet, one: Sent, condition: PacketCondition) -> Iterator[Mark]:
    """Yield the octets of a packet that a condition describes."""
    start, ip = int(packet.signs[SIGN_PAYLOAD_AT]), int(packet.signs[SIGN_IP_AT])
    is_ipv4 = packet.signs[SIGN_VERSION] == 4
    if condition.payload is not None:
        for at, length, caption in condition.payload.spans(one):
            if at >= 0 and length > 0:
                yield Mark(start + at, length, caption, bool(condition.payload.secret))
    if condition.proto is not None:
        yield Mark(ip + (9 if is_ipv4 else 6), 1, "transport")
    if condition.size is not None:
        yield Mark(ip + (2 if is_ipv4 else 4), 2, "length")
    for ports, of_far, word in (
        (condition.ports, True, "far"),
        (condition.near_ports, False, "near"),
    ):
        if ports is not None:
            yield Mark(transport_at(packet) + (2 if one.up == of_far else 0), 2, f"{word} port")
    for prefix, of_far, word in ((condition.far, True, "far"), (condition.near, False, "near")):
        if prefix is not None:
            slot = SIGN_TARGET_AT if one.up == of_far else SIGN_SOURCE_AT
            size = -(-prefix[1] // 8)
            yield Mark(int(packet.signs[slot]), size, f"{word} address", True)


def flow_words(ends: Ends, reveal: bool) -> str:
    """Return a flow in words; addresses are masked unless `reveal`."""
    addresses = [str(ipaddress.ip_address(one)) for one in (ends.near, ends.far)]
    near, far = addresses if reveal else (masked(addresses[0]), masked(addresses[1]))
    word = {6: "tcp", 17: "udp"}.get(ends.proto, f"IP protocol {ends.proto}")
    return f"{word} {near}:{ends.near_port}-{far}:{ends.far_port}"


# ---- as text


def lines(result: Document, terminal: bool) -> Iterator[Text]:
    """Yield a document as lines of text."""
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
    """Yield one packet with its decisive octets marked."""
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
        listed = "  |  ".join(" + ".join(one) or "anything" for one in result[key])
        yield Text(f"{key:11} {listed or 'nothing found'}   ({words})")
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


def formatted(result: Document, form: str, terminal: bool) -> str:
    """Return a document as text or as JSON. Raises ExperimentError for an unknown format."""
    if form not in FORMATS:
        raise ExperimentError(f"unknown format {form} ({hint(form, FORMATS)})")
    if form == "json":
        return json.dumps(result, ensure_ascii=False, indent=1) + "\n"
    return rendered(lines(result, terminal), terminal)
