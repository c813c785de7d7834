# SPDX-License-Identifier: BSD-3-Clause
"""Charts of the live bench: latency by path, latency under load, rates without loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import altair as alt

from midcall.experiments.measure.formatting import gettext
from midcall.experiments.report.charts import (
    PALETTE,
    WIDE,
    Chart,
    Drawing,
    _colours,
    _data,
    chart,
)

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


class SpreadDot(TypedDict):
    """One-way latency in µs of a path at a percentile ("p50"); low, high: over percentiles."""

    load: str
    path: str
    percentile: str
    us: float
    low: float
    high: float
    n: int
    tip: str


class LoadPoint(TypedDict):
    """p99 of the latency in µs at a load in thousand packets/s, and the packets lost."""

    path: str
    kpps: float
    us: float
    trials: int
    lost: int
    tip: str


class PathRate(TypedDict):
    """The highest rate of a path without loss, in packets/s."""

    path: str
    pps: int
    short: str
    tip: str


def spread(rows: Sequence[SpreadDot], text: str) -> Chart:
    """Draw one-way latency, a row per path with dots at p50, p99 and p99.9, on a log scale."""
    loads = list(dict.fromkeys(row["load"] for row in rows))
    marks = ["p50", "p99", "p99.9"]

    def panel(width: int, load: str) -> Drawing:
        mine = [row for row in rows if row["load"] == load]
        paths = list(dict.fromkeys(row["path"] for row in mine))
        base = alt.Chart(_data(mine)).encode(
            y=alt.Y("path:N", sort=paths, axis=alt.Axis(title=None, domain=False, ticks=False)),
            description=alt.Description("tip:N"),
        )
        x = alt.X("us:Q", title=gettext("µs, log scale"), scale=alt.Scale(type="log", nice=True),
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

    def draw(width: int) -> Drawing:
        return alt.vconcat(*(panel(width, load) for load in loads), spacing=16)

    return chart(
        "live-latency", gettext("One-way latency, from when a packet was due"), text, rows, draw
    )


def curves(rows: Sequence[LoadPoint], text: str) -> Chart:
    """Draw p99 latency against the load offered, a line per path; a cross: packets were lost."""
    paths = list(dict.fromkeys(row["path"] for row in rows))
    colours = [COLOURS.get(path, "grey") for path in paths]
    dashes = [[4, 3] if path in DASHED else [1, 0] for path in paths]

    def draw(width: int) -> Drawing:
        legend = alt.Legend(title=None, columns=0 if width == WIDE else 2)
        base = alt.Chart(_data(rows)).encode(
            x=alt.X("kpps:Q", title=gettext("load offered, thousand packets/s"),
                    axis=alt.Axis(grid=False, tickCount=6)),
            y=alt.Y("us:Q", title=gettext("p99, µs (log scale)"),
                    scale=alt.Scale(type="log", nice=True),
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

    return chart("live-load", gettext("Latency under load"), text, rows, draw)


def rates(rows: Sequence[PathRate], text: str) -> Chart:
    """Draw the highest loss-free rate of each path, a bar per path."""
    order = [row["path"] for row in rows]

    def draw(width: int) -> Drawing:
        base = alt.Chart(_data(rows)).encode(
            y=alt.Y("path:N", sort=order, axis=alt.Axis(title=None, domain=False, ticks=False)),
            x=alt.X("pps:Q", title=gettext("packets per second without loss"),
                    axis=alt.Axis(format="~s", tickCount=4)),
            description=alt.Description("tip:N"),
        )  # fmt: skip
        bars = base.mark_bar(color=PALETTE["through"], height=16)
        words = base.mark_text(align="left", dx=5, fontSize=11, aria=False).encode(text="short:N")
        return (bars + words).properties(
            width=width - (120 if width == WIDE else 90), height=28 * len(rows)
        )

    return chart("live-rates", gettext("Highest rate without loss"), text, rows, draw)
