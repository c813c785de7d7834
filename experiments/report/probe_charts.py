# SPDX-License-Identifier: BSD-3-Clause
"""The chart of a search of the prober: how the weights of the hypotheses changed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypedDict

import altair as alt

from midcall.experiments.measure.formatting import gettext
from midcall.experiments.report.charts import (
    SERIES,
    WIDE,
    Chart,
    Drawing,
    _colours,
    _data,
    chart,
)


class WeightBar(TypedDict):
    """The weight (0..1) of a hypothesis after a number of probes; rank: its place in the bar."""

    probe: int
    hypothesis: str
    weight: float
    rank: int
    tip: str


def weights(name: str, rows: Sequence[WeightBar], text: str) -> Chart:
    """Draw a bar per probe, divided by the weights of the hypotheses after it."""
    ranks = {row["hypothesis"]: row["rank"] for row in rows}
    names = sorted(ranks, key=ranks.__getitem__)
    colours = SERIES[: len(names)]

    def draw(width: int) -> Drawing:
        count = len({row["probe"] for row in rows})
        step = max(width // (8 if width == WIDE else 4), 1)
        return (
            alt.Chart(_data(rows))
            .mark_bar(size=max(min(width / count - 1, 40), 2))
            .encode(
                x=alt.X("probe:O", title=gettext("probes so far"),
                        axis=alt.Axis(labelAngle=0, labelOverlap=True, ticks=False,
                                      tickMinStep=max(count // step, 1))),
                y=alt.Y("weight:Q", title=None, scale=alt.Scale(domain=[0, 1]),
                        axis=alt.Axis(format="%", tickCount=4, domain=False, ticks=False)),
                color=alt.Color("hypothesis:N", scale=_colours(names, colours)),
                order=alt.Order("rank:Q"),
                description=alt.Description("tip:N"),
            )
            .properties(width=width + (0 if width == WIDE else 40), height=150)
        )  # fmt: skip

    classes = list(zip(names, colours, strict=True))
    title = gettext("How the hypotheses fell: their weights after each probe")
    return chart(name, title, text, rows, draw, classes)
