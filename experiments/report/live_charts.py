# SPDX-License-Identifier: BSD-3-Clause
"""Charts of the live bench: how late packets are by path, and what becomes of that under load."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import altair as alt

from midcall.experiments.report.charts import PALETTE, WIDE, Chart, Row, _colours, _data, chart

#: Colour of each path, the same in every chart; a path that is not here is grey.
COLOURS = {
    "kernel": "grey",
    "conntrack": "grey",
    "empty": "ochre",
    "classifier": "through",
    "classifier-spin": "through",
    "offload": "violet",
    "suricata": "blocked",
    "nfqueue": "ink",
}
#: Paths that share a colour with another are dashed.
DASHED = ("conntrack", "classifier-spin")


def spread(rows: Sequence[Row], text: str) -> Chart:
    """Draw one-way latency, a row per path with dots at p50, p99 and p99.9, on a log scale.

    Rows: load, path, percentile ("p50", ...), us, low, high (the row's ends), tip.
    """
    loads = list(dict.fromkeys(row["load"] for row in rows))
    marks = ["p50", "p99", "p99.9"]

    def panel(width: int, load: str) -> Any:
        mine = [row for row in rows if row["load"] == load]
        paths = list(dict.fromkeys(row["path"] for row in mine))
        base = alt.Chart(_data(mine)).encode(
            y=alt.Y("path:N", sort=paths, axis=alt.Axis(title=None, domain=False, ticks=False)),
            description=alt.Description("tip:N"),
        )
        x = alt.X("us:Q", title="µs, log scale", scale=alt.Scale(type="log", nice=True),
                  axis=alt.Axis(format="~s", tickCount=4))  # fmt: skip
        span = base.mark_rule(strokeWidth=2, color=PALETTE["hair"], aria=False)
        dots = base.mark_point(size=70, filled=True, opacity=1).encode(
            x=x,
            color=alt.Color("percentile:N", scale=_colours(marks, ("through", "ochre", "blocked")),
                            legend=alt.Legend(title=None)),
            shape=alt.Shape("percentile:N", legend=alt.Legend(title=None),
                            scale=alt.Scale(domain=marks, range=["circle", "square", "diamond"])),
        )  # fmt: skip
        drawn = span.encode(x=alt.X("low:Q"), x2="high:Q") + dots
        title = alt.Title(load, anchor="start", fontSize=12, color=PALETTE["muted"])
        return drawn.properties(
            width=width - (60 if width == WIDE else 40), height=26 * len(paths), title=title
        )

    def draw(width: int) -> Any:
        return alt.vconcat(*(panel(width, load) for load in loads), spacing=16)

    return chart("live-latency", "One-way latency, from when a packet was due", text, rows, draw)


def curves(rows: Sequence[Row], text: str) -> Chart:
    """Draw p99 latency against the load offered, a line per path; a cross: packets were lost.

    Rows: path, kpps, us, lost (packets), tip.
    """
    paths = list(dict.fromkeys(row["path"] for row in rows))
    colours = [COLOURS.get(path, "grey") for path in paths]
    dashes = [[4, 3] if path in DASHED else [1, 0] for path in paths]

    def draw(width: int) -> Any:
        legend = alt.Legend(title=None, columns=0 if width == WIDE else 2)
        base = alt.Chart(_data(rows)).encode(
            x=alt.X("kpps:Q", title="load offered, thousand packets/s",
                    axis=alt.Axis(grid=False, tickCount=6)),
            y=alt.Y("us:Q", title="p99, µs (log scale)", scale=alt.Scale(type="log", nice=True),
                    axis=alt.Axis(format="~s", tickCount=4, domain=False, ticks=False)),
            color=alt.Color("path:N", scale=_colours(paths, colours), legend=legend),
            description=alt.Description("tip:N"),
        )  # fmt: skip
        dash = alt.StrokeDash("path:N", scale=alt.Scale(domain=paths, range=dashes), legend=legend)
        line = base.mark_line(strokeWidth=2, aria=False).encode(strokeDash=dash)
        dots = base.transform_filter("datum.lost == 0").mark_circle(size=60, opacity=1)
        crosses = base.transform_filter("datum.lost > 0").mark_point(
            size=90, shape="cross", filled=True, opacity=1, angle=45
        )
        return (line + dots + crosses).properties(
            width=width + (0 if width == WIDE else 20), height=260
        )

    return chart("live-load", "Latency under load", text, rows, draw)


def rates(rows: Sequence[Row], text: str) -> Chart:
    """Draw the highest loss-free rate of each path, a bar per path: path, pps, tip, short."""
    order = [row["path"] for row in rows]

    def draw(width: int) -> Any:
        base = alt.Chart(_data(rows)).encode(
            y=alt.Y("path:N", sort=order, axis=alt.Axis(title=None, domain=False, ticks=False)),
            x=alt.X("pps:Q", title="packets per second without loss",
                    axis=alt.Axis(format="~s", tickCount=4)),
            description=alt.Description("tip:N"),
        )  # fmt: skip
        bars = base.mark_bar(color=PALETTE["through"], height=16)
        words = base.mark_text(align="left", dx=5, fontSize=11, aria=False).encode(text="short:N")
        return (bars + words).properties(
            width=width - (120 if width == WIDE else 90), height=28 * len(rows)
        )

    return chart("live-rates", "Highest rate without loss", text, rows, draw)
