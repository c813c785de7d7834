# SPDX-License-Identifier: BSD-3-Clause
"""Growth: one engine is fed the mix again and again, up to as many packets as asked for.

Every round has addresses of its own (an octet of both innermost addresses is changed) and begins
where the last one ended, so its flows are new to a table that keeps filling, up to its bound and
beyond. What counts is the processor's time while the engine is fed; reading and renumbering are
outside.
"""

from __future__ import annotations

import json
import statistics
import time
from pathlib import Path
from typing import Any

import altair as alt
import numpy as np

from midcall.captures.jit.kernel import kernel
from midcall.captures.jit.reads import Octets
from midcall.captures.packets.pcap import CaptureFile, Packets
from midcall.classifier.engine import Engine
from midcall.classifier.path.decode import DECODED, FRAGMENTS, decode
from midcall.classifier.state.flow_table import Numbers
from midcall.classifier.state.packet_fields import (
    SIGN_SOURCE_AT,
    SIGN_TARGET_AT,
    SIGN_VERSION,
    SIGNS,
)
from tests.bench.loads import Load
from tests.bench.worker import peak_memory, state_bytes

#: Between two rounds, in ns.
GAP = 1_000_000_000


@kernel
def renumber(
    data: Octets,
    offset: Numbers,
    captured: Numbers,
    wire: Numbers,
    link: Numbers,
    turn: int,
    signs: Numbers,
    fragments: Numbers,
) -> None:
    """Change the first two octets of what tells the innermost hosts, by the number of the round."""
    for i in range(len(offset)):
        end = offset[i] + captured[i]
        if decode(data, offset[i], end, wire[i], link[i], signs, fragments) != DECODED:
            continue
        for where in (SIGN_SOURCE_AT, SIGN_TARGET_AT):
            at = signs[where] + (0 if signs[SIGN_VERSION] == 4 else 8)
            data[at + 1] ^= turn & 0xFF
            data[at] ^= (turn >> 8) & 0x0F


def rounds(load: Load, packets: int) -> list[dict[str, Any]]:
    """Feed the load until there were so many packets; return a row per round."""
    engine, rows = Engine(), []
    signs, fragments = np.zeros(SIGNS, np.int64), np.zeros((FRAGMENTS, 2), np.int64)
    start = 0
    while engine.records < packets:
        turn, before, spent, latest = len(rows), engine.records, 0.0, 0
        origin = None
        for batch in CaptureFile(load.path).batches():
            renumber(batch.data, *batch[1:4], batch.link, turn, signs, fragments)
            origin = int(batch.time[0]) if origin is None else origin
            moved: Packets = batch._replace(time=batch.time - origin + start)
            begin = time.thread_time()
            engine.feed(moved)
            spent += time.thread_time() - begin
            latest = max(latest, int(moved.time.max()))
        engine.evicted.clear()  # who keeps the rows of evicted flows needs memory for them
        start = latest + GAP
        count = engine.records - before
        rows.append(
            {
                "packets": engine.records,
                "flows": engine.counters["flows"],
                "evicted": engine.counters["evicted"],
                "ns_per_packet": round(spent / count * 1e9, 1),
                "state_bytes": state_bytes(engine),
                "peak_memory_bytes": peak_memory(),
            }
        )
    return rows


def later(rows: list[dict[str, Any]]) -> float | None:
    """Return the cost of a packet in the last quarter by that in the first, the first round aside.

    None where there are too few rounds to say.
    """
    costs = [row["ns_per_packet"] for row in rows[1:]]
    part = len(costs) // 4
    if not part:
        return None
    return statistics.median(costs[-part:]) / statistics.median(costs[:part])


def picture(rows: list[dict[str, Any]], path: Path) -> None:
    """Draw cost and memory over packets."""
    result = [
        {"packets": row["packets"] / 1e6, "value": row[key] / unit, "what": what}
        for row in rows
        for key, unit, what in (
            ("ns_per_packet", 1, "ns per packet"),
            ("state_bytes", 1e6, "state, MB"),
            ("flows", 1e4, "flows, 10,000"),
        )
    ]
    chart = alt.Chart(alt.Data(values=result), width=560, height=240).mark_line(point=True)
    chart = chart.encode(
        x=alt.X("packets:Q", title="million packets"),
        y=alt.Y("value:Q", title=None, scale=alt.Scale(zero=True)),
        color=alt.Color("what:N", title=None),
    )
    chart.save(str(path))


def grow(load: Load, packets: int, out: Path, machine: dict[str, Any]) -> str:
    """Measure, write the figures as JSON and their picture beside it; return what to print."""
    rows = rounds(load, packets)
    value = {
        "schema": 1,
        "method": " ".join((__doc__ or "").split()),
        "machine": machine,
        "made_of": load.made_of,
        "synthetic": load.synthetic,
        "later_by_earlier": later(rows),
        "rounds": rows,
    }
    out.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    picture(rows, out.with_suffix(".svg"))
    last, factor = rows[-1], value["later_by_earlier"]
    words = f"{last['packets']:,} packets, {last['flows']:,} flows ({last['evicted']:,} evicted): "
    words += f"{rows[0]['ns_per_packet']:.0f} ns per packet at first, "
    words += f"{last['ns_per_packet']:.0f} at last, "
    if factor is not None:
        words += f"{factor:.2f} times in the last quarter of what it was in the first, "
    state, peak = last["state_bytes"] / 1e6, last["peak_memory_bytes"] / 1e6
    return f"{words}{state:.0f} MB of state, {peak:.0f} MB peak"
