# SPDX-License-Identifier: BSD-3-Clause
"""Charts: the pictures of the report, drawn by Altair and kept as inline SVG.

A chart is drawn twice, for a wide page and for a phone, as static SVG: it needs no script, can be
printed, and has some kilobytes instead of the Vega bundle's 900. Each colour of the palette becomes
a CSS class, so that one drawing serves light and dark; each mark keeps its values as text in
`data-tip`, which a small script shows on hover. Every chart has a text alternative and its rows.
"""

from __future__ import annotations

import functools
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Literal, NamedTuple, TypeAlias, TypedDict
from xml.etree import ElementTree

import altair as alt
import vl_convert

from midcall.experiments.measure.formatting import gettext, spoken

#: A drawing of Altair (which is not typed).
Drawing: TypeAlias = alt.TopLevelMixin
Draw = Callable[[int], Drawing]

#: Width of the plotting area in px: on a page, and on a phone of 360 px.
WIDE, NARROW = 560, 210
#: Vega expression that draws a label's lines below each other.
BY_LINE = "split(datum.label, '\\n')"
#: Raises a label of two lines by half a line, to the middle of its bar.
RAISED = {"condition": {"test": "indexof(datum.label, '\\n') > 0", "value": -7}, "value": 0}
PADDING = {"left": 2, "right": 40, "top": 4, "bottom": 4}

#: Separates the app of a mark from the mark's words; it is invisible.
OF_APP = "\u2063"
#: Fonts of equal widths; the first is part of the drawing library.
FONTS = "Liberation Sans, Arial, Helvetica, sans-serif"

#: Palette (light theme): name -> colour. The page's style sheet gives each name its dark twin.
#: Blue against vermilion, ochre and grey stay apart in every common form of colour blindness.
PALETTE = {
    "ink": "#1d2530",
    "muted": "#56616e",
    "hair": "#dfe3e8",
    "paper": "#fefefe",
    "through": "#2f6f9f",
    "blocked": "#c2481f",
    "ochre": "#b07d12",
    "grey": "#8d97a3",
    "violet": "#7b4a91",
}
SERIES = ("through", "ochre", "violet", "blocked", "grey")
_NAME_OF = {colour: name for name, colour in PALETTE.items()}
_SVG = "{http://www.w3.org/2000/svg}"
#: Attributes for assistive technology, and those that the page's style sheet sets.
_DROPPED = re.compile(r"^(aria-.*|role|pointer-events|font-family|class)$")


#: The classes of a chart, as its legend names them: (name, colour of the palette).
Classes = Sequence[tuple[str, str]]


class PriceBar(TypedDict):
    """A hypothesis: calls blocked and innocent flows hit; shares are 0..1.

    reach: the share of calls blocked and of inconclusive calls together.
    """

    label: str
    hypothesis: str
    blocked: int
    inconclusive: int
    calls: int
    blocked_share: float
    hit: int | None
    flows: int | None
    hit_share: float | None
    reach: float
    short_calls: str
    short_flows: str
    tip_calls: str
    tip_flows: str


class OutcomeBar(TypedDict):
    """Call flows of one app and role with one outcome."""

    label: str
    outcome: str
    n: int
    rank: int
    tip: str
    app: str


class DisturbedDot(TypedDict):
    """The share named right of one engine under one disturbance, with its interval (0..1)."""

    label: str
    engine: str
    share: float
    low: float
    high: float
    tip: str


class SettledPoint(TypedDict):
    """The share (0..1) of a series that has its right verdict at a value."""

    series: str
    value: float
    share: float
    tip: str


class LatencyPoint(TypedDict):
    """Nanoseconds per packet of a path at a percentile ("p99")."""

    path: str
    percentile: str
    ns_per_packet: float
    batch: int
    n: int
    short: str
    tip: str


class RateBar(TypedDict):
    """Packets per second."""

    label: str
    packets_per_s: float
    short: str
    tip: str


class GrowthPoint(TypedDict):
    """Nanoseconds per packet after a number of packets."""

    packets: int
    ns_per_packet: float
    tip: str


class ResponsePoint(TypedDict):
    """The mean response of an app's calls to a dose; title and response: words of the axes."""

    mechanism: str
    title: str
    response: str
    app: str
    dose: float
    value: float
    tip: str


class LikesPoint(TypedDict):
    """Likes of an operator's page on a date (ISO)."""

    operator: str
    date: str
    likes: int
    tip: str


class LabPoint(TypedDict):
    """An operator on a date (ISO) of the run; blocked: whether some call was."""

    operator: str
    date: str
    blocked: bool
    tip: str


class Chart(NamedTuple):
    """A picture with its text alternative and its rows.

    wide, narrow: SVG for the page, whose legend the page draws; spec: the Vega-Lite specification
    of the wide one with its legend, for a picture outside the page.
    """

    name: str
    title: str
    text: str
    wide: str
    narrow: str
    rows: list[dict[str, object]]
    classes: Classes
    spec: str

    @property
    def alone(self) -> str:
        """Return the picture as an SVG file with its legend, light, without a script."""
        return as_svg(self.spec).replace('font-family="Arial"', f'font-family="{FONTS}"')

    @property
    def png(self) -> bytes:
        """Return the picture as a PNG file at three times its size."""
        return bytes(vl_convert.svg_to_png(self.alone, scale=3))


def chart(
    name: str,
    title: str,
    text: str,
    rows: Sequence[Mapping[str, object]],
    draw: Draw,
    classes: Classes = (),
    shown: bool = True,
) -> Chart:
    """Draw a chart for both widths; draw: returns an Altair chart of a width in px.

    shown: whether it stands on the page; else it is a figure in a file alone, and wide and narrow
    are "".
    """
    wide = narrow = ""
    if shown:
        wide, narrow = (svg(draw(width), f"{name}-{width}", text) for width in (WIDE, NARROW))
    spec = specified(draw(WIDE), legend=len(classes) > 1)
    return Chart(name, title, text, wide, narrow, [dict(row) for row in rows], classes, spec)


def svg(drawing: Drawing, prefix: str, text: str) -> str:
    """Return an Altair chart as SVG for inlining: colours as classes, ids prefixed, its name.

    Words that are written from right to left are isolated from the figures around them.
    """
    root = ElementTree.fromstring(as_svg(specified(drawing, legend=False)))
    _clean(root, prefix)
    if spoken().rtl:
        for element in root.iter():
            if element.text and any(letter > "\u0590" for letter in element.text):
                element.text = f"\u2067{element.text}\u2069"
    root.attrib = {
        "viewBox": root.attrib["viewBox"],
        "width": root.attrib["width"],
        "height": root.attrib["height"],
        "role": "img",
        "aria-label": text,
    }
    return ElementTree.tostring(root, encoding="unicode", short_empty_elements=False)


@functools.lru_cache(maxsize=64)
def as_svg(spec: str) -> str:
    """Return a Vega-Lite specification as SVG; a page shows some pictures more than once."""
    return str(vl_convert.vegalite_to_svg(spec, allowed_base_urls=[]))


def specified(drawing: Drawing, legend: bool) -> str:
    """Return an Altair chart in the page's theme as a Vega-Lite specification.

    It is not checked against Altair's schema, which takes half as long as drawing; tests check it.
    """
    ink, muted, hair = PALETTE["ink"], PALETTE["muted"], PALETTE["hair"]
    axis = {
        "labelColor": ink, "titleColor": muted, "gridColor": hair, "domainColor": hair,
        "tickColor": hair, "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal",
        "labelLimit": 260, "titlePadding": 8, "labelPadding": 6,
    }  # fmt: skip
    legends = {
        "disable": not legend, "labelColor": ink, "titleColor": muted, "labelFontSize": 12,
        "orient": "top", "title": None, "symbolSize": 110, "columnPadding": 16, "labelLimit": 240,
    }  # fmt: skip
    themed = drawing.configure(
        background=PALETTE["paper"],
        font="Arial",
        padding=PADDING,
        view={"stroke": None},
        axis=axis,
        legend=legends,
        header={"labelColor": ink, "titleColor": muted, "labelFontSize": 12},
        text={"fontSize": 12, "color": ink},
    )
    return str(themed.to_json(validate=False))


def _clean(element: ElementTree.Element, prefix: str) -> None:
    """Clean an element in place, children first: attributes, classes, ids; remove empty paths."""
    for child in list(element):
        _clean(child, prefix)
        if child.tag in (f"{_SVG}path", "path") and not child.attrib.get("d"):
            element.remove(child)
    element.tag = element.tag.removeprefix(_SVG)
    tip = element.attrib.get("aria-label")
    is_mark = element.attrib.get("role") == "graphics-symbol" and element.tag != "g"
    kept = {key: value for key, value in element.attrib.items() if not _DROPPED.match(key)}
    if tip and is_mark:
        app, apart, words = tip.rpartition(OF_APP)
        kept["data-tip"] = words
        if apart:
            kept["data-app"] = app
    names = [
        f"{letter}-{_NAME_OF[kept[key].lower()]}"
        for letter, key in (("f", "fill"), ("s", "stroke"))
        if kept.get(key, "").lower() in _NAME_OF
    ]
    if names:
        kept["class"] = " ".join(names)
    for key, value in kept.items():
        if key == "id":
            kept[key] = f"{prefix}-{value}"
        elif value.startswith("url(#"):
            kept[key] = value.replace("url(#", f"url(#{prefix}-")
    element.attrib = kept


def _data(rows: Sequence[Mapping[str, object]]) -> alt.Data:
    return alt.Data(values=[dict(row) for row in rows])


def _colours(names: Sequence[str], colours: Sequence[str]) -> alt.Scale:
    return alt.Scale(domain=list(names), range=[PALETTE[colour] for colour in colours])


def wrapped(words: str, width: int) -> str:
    """Return a label on at most two lines of `width` characters, cut with an ellipsis."""
    return "\n".join(textwrap.wrap(words, width, max_lines=2, placeholder=" …"))


#: What the bars of the price chart are.
PRICE = (("calls blocked", "blocked"), ("calls about which it cannot tell", "grey"),
         ("innocent flows hit", "ochre"))  # fmt: skip


def price(rows: Sequence[PriceBar], text: str) -> Chart:
    """Draw calls blocked and innocent flows hit by each hypothesis; the page has a table of it."""
    title = "What each hypothesis blocks, and whom it hits"
    return chart("price", title, text, rows, price_drawing(rows), PRICE, shown=False)


Share = Literal["blocked_share", "hit_share"]


def price_drawing(rows: Sequence[PriceBar]) -> Draw:
    """Return a function that draws the price chart at a width.

    Both panels share the rows' order; the right one has its own scale.
    """

    def panel(
        width: int, field: Share, tip: str, title: str, colour: str, labels: bool
    ) -> alt.LayerChart:
        order = [wrapped(row["label"], 38 if width > 150 else 20) for row in rows]
        marks = [{**row, "words": words} for row, words in zip(rows, order, strict=True)]
        axis = (
            alt.Axis(
                title=None,
                domain=False,
                ticks=False,
                labelLimit=300,
                labelExpr=BY_LINE,
                labelOffset=RAISED,
            )
            if labels
            else alt.Axis(title=None, labels=False, domain=False, ticks=False)
        )
        y = alt.Y("words:N", sort=order, axis=axis)
        top = max([float(row[field] or 0) for row in rows] + [0.0])
        scale = alt.Scale(domain=[0, 1 if field == "blocked_share" else top or 0.01], nice=True)
        x = alt.X(
            f"{field}:Q",
            title=title,
            scale=scale,
            axis=alt.Axis(format="~%", tickCount=3 if labels else 4),
        )
        base = alt.Chart(_data(marks)).encode(y=y, x=x, description=alt.Description(f"{tip}:N"))
        bars = base.mark_bar(color=PALETTE[colour], height=14)
        if field == "blocked_share":
            unknown = base.mark_bar(color=PALETTE["grey"], height=14, opacity=0.45)
            bars = bars + unknown.encode(x2="reach:Q")
        end = "reach" if field == "blocked_share" else field
        words = base.mark_text(align="left", dx=5, fontSize=11, color=PALETTE["ink"]).encode(
            text=f"{tip.replace('tip', 'short')}:N", x=alt.X(f"{end}:Q")
        )
        return (bars + words).properties(width=width, height=34 * len(rows))

    def draw(width: int) -> Drawing:
        wide = width == WIDE
        half = width // 2 if wide else 105
        calls = panel(half, "blocked_share", "tip_calls", "calls blocked", "blocked", True)
        flows = panel(half, "hit_share", "tip_flows", "innocent flows hit", "ochre", not wide)
        if wide:
            return alt.hconcat(calls, flows, spacing=64)
        return alt.vconcat(calls, flows, spacing=18)

    return draw


def outcomes(rows: Sequence[OutcomeBar], order: Sequence[str], text: str) -> Chart:
    """Draw the outcomes of call flows, one bar per app and role; order: of the outcomes."""
    labels = list(dict.fromkeys(row["label"] for row in rows))
    marks = [{**row, "words": f"{row['app']}{OF_APP}{row['tip']}"} for row in rows]
    colours = ("through", "grey", "violet", "blocked")[: len(order)]

    def draw(width: int) -> Drawing:
        return (
            alt.Chart(_data(marks))
            .mark_bar(height=15)
            .encode(
                y=alt.Y("label:N", sort=labels, axis=alt.Axis(title=None, domain=False,
                                                              ticks=False)),
                x=alt.X("n:Q", title=gettext("flows"), axis=alt.Axis(tickMinStep=1, tickCount=5)),
                color=alt.Color("outcome:N", scale=_colours(order, colours)),
                order=alt.Order("rank:Q"),
                description=alt.Description("words:N"),
            )
            .properties(width=width, height=24 * len(labels))
        )  # fmt: skip

    classes = list(zip(order, colours, strict=True))
    return chart("outcomes", gettext("Call flows by outcome"), text, rows, draw, classes)


def disturbed(rows: Sequence[DisturbedDot], text: str) -> Chart:
    """Draw the share named right under each disturbance, a dot per engine, with its interval."""
    names = list(dict.fromkeys(row["engine"] for row in rows))

    def draw(width: int) -> Drawing:
        room = 40 if width == WIDE else 18
        words = [wrapped(row["label"], room) for row in rows]
        marks = [{**row, "words": label} for row, label in zip(rows, words, strict=True)]
        labels = list(dict.fromkeys(words))
        base = alt.Chart(_data(marks)).encode(
            y=alt.Y("words:N", sort=labels, axis=alt.Axis(title=None, domain=False, ticks=False,
                                                          labelExpr=BY_LINE, labelOffset=RAISED,
                                                          labelLimit=300)),
            color=alt.Color("engine:N", scale=_colours(names, SERIES[: len(names)])),
            description=alt.Description("tip:N"),
        )  # fmt: skip
        x = alt.X("share:Q", title=gettext("call flows named right"),
                  scale=alt.Scale(domain=[0, 1]),
                  axis=alt.Axis(format="%", tickCount=5))  # fmt: skip
        span = base.mark_rule(strokeWidth=2, opacity=0.5, aria=False)
        dots = base.mark_circle(size=70, opacity=1)
        return (span.encode(x=alt.X("low:Q"), x2="high:Q") + dots.encode(x=x)).properties(
            width=width - (40 if width == WIDE else 20),
            height=(24 if width == WIDE else 34) * len(labels),
        )

    classes = list(zip(names, SERIES, strict=False))
    return chart(
        "disturbed", gettext("Call flows named right, by disturbance"), text, rows, draw, classes
    )


def settled(
    name: str, title: str, axis: str, rows: Sequence[SettledPoint], text: str, *, log: bool
) -> Chart:
    """Draw the share of call flows that have their right verdict after x packets or milliseconds.

    Each series rises from its first value.
    """
    series = list(dict.fromkeys(row["series"] for row in rows))
    scale = alt.Scale(type="log", nice=False) if log else alt.Scale(nice=True, zero=True)

    def draw(width: int) -> Drawing:
        base = alt.Chart(_data(rows)).encode(
            x=alt.X("value:Q", title=axis, scale=scale,
                    axis=alt.Axis(grid=False, tickCount=6, format="~g" if log else "d")),
            y=alt.Y("share:Q", title=None, scale=alt.Scale(domain=[0, 1]),
                    axis=alt.Axis(format="%", tickCount=5, domain=False, ticks=False)),
            color=alt.Color("series:N", scale=_colours(series, SERIES[: len(series)])),
            description=alt.Description("tip:N"),
        )  # fmt: skip
        line = base.mark_line(interpolate="step-after", strokeWidth=2, aria=False)
        dots = base.mark_circle(size=44, opacity=1)
        return (line + dots).properties(width=width + (0 if width == WIDE else 30), height=220)

    return chart(name, title, text, rows, draw, list(zip(series, SERIES, strict=False)))


def latency(rows: Sequence[LatencyPoint], text: str) -> Chart:
    """Draw nanoseconds per packet against percentile, one line per path, on a log scale."""
    order = list(dict.fromkeys(row["percentile"] for row in rows))
    paths = list(dict.fromkeys(row["path"] for row in rows))

    def draw(width: int) -> Drawing:
        base = alt.Chart(_data(rows)).encode(
            x=alt.X("percentile:N", sort=order, title=gettext("percentile (over batches)"),
                    axis=alt.Axis(labelAngle=0, grid=False)),
            y=alt.Y("ns_per_packet:Q", title=gettext("ns per packet (log scale)"),
                    scale=alt.Scale(type="log", nice=True),
                    axis=alt.Axis(format="~s", tickCount=3, domain=False, ticks=False, grid=False)),
            color=alt.Color("path:N", scale=_colours(paths, SERIES[: len(paths)])),
            description=alt.Description("tip:N"),
        )  # fmt: skip
        line = base.mark_line(strokeWidth=2, aria=False)
        dots = base.mark_circle(size=70, opacity=1)
        words = base.mark_text(dy=-12, fontSize=11, color=PALETTE["ink"], aria=False).encode(
            text="short:N", color=alt.value(PALETTE["ink"])
        )
        return (line + dots + words).properties(width=width + (0 if width == WIDE else 40),
                                                height=200)  # fmt: skip

    classes = list(zip(paths, SERIES, strict=False))
    return chart("latency", gettext("Time per packet"), text, rows, draw, classes)


def throughput(
    rows: Sequence[RateBar], text: str, name: str = "throughput", title: str = ""
) -> Chart:
    """Draw packets per second, a bar per row."""
    title = title or gettext("Packets per second")
    order = [row["label"] for row in rows]

    def draw(width: int) -> Drawing:
        base = alt.Chart(_data(rows)).encode(
            y=alt.Y("label:N", sort=order, axis=alt.Axis(title=None, domain=False, ticks=False,
                                                         labelLimit=200 if width == WIDE else 110)),
            x=alt.X("packets_per_s:Q", title=gettext("packets per second"),
                    axis=alt.Axis(format="~s", tickCount=4)),
            description=alt.Description("tip:N"),
        )  # fmt: skip
        bars = base.mark_bar(color=PALETTE["through"], height=16)
        words = base.mark_text(align="left", dx=5, fontSize=11, aria=False).encode(text="short:N")
        return (bars + words).properties(width=width - (60 if width == WIDE else 70),
                                         height=30 * len(rows))  # fmt: skip

    return chart(name, title, text, rows, draw)


def growth(rows: Sequence[GrowthPoint], text: str) -> Chart:
    """Draw nanoseconds per packet over the packets so far."""

    def draw(width: int) -> Drawing:
        return (
            alt.Chart(_data(rows))
            .mark_circle(color=PALETTE["through"], size=40, opacity=1)
            .encode(
                x=alt.X("packets:Q", title=gettext("packets so far"),
                        axis=alt.Axis(format="~s", tickCount=5, grid=False)),
                y=alt.Y("ns_per_packet:Q", title=gettext("ns per packet"),
                        scale=alt.Scale(zero=True, nice=True),
                        axis=alt.Axis(tickCount=4, domain=False, ticks=False)),
                description=alt.Description("tip:N"),
            )
            .properties(width=width, height=180)
        )  # fmt: skip

    return chart("growth", gettext("Cost of a packet while the flow table fills"), text, rows, draw)


def reaction(rows: Sequence[LikesPoint], lab: Sequence[LabPoint], text: str) -> Chart:
    """Draw likes over time, a line per operator, above the run's dates on the same axis.

    Each date of the run is a dot.
    """
    names = list(dict.fromkeys(row["operator"] for row in rows))
    known = list(dict.fromkeys(row["operator"] for row in lab))
    ends = sorted([*(row["date"] for row in rows), *(row["date"] for row in lab)])
    scale = alt.Scale(type="utc", domain=[ends[0], ends[-1]], nice="month")

    def draw(width: int) -> Drawing:
        count = 8 if width == WIDE else 3
        x = alt.X("date:T", title=None, scale=scale,
                  axis=alt.Axis(format="%b %Y", tickCount=count, grid=False))  # fmt: skip
        base = alt.Chart(_data(rows)).encode(
            x=x,
            y=alt.Y("likes:Q", title=gettext("likes (your data)"),
                    scale=alt.Scale(zero=False, nice=True),
                    axis=alt.Axis(format="~s", tickCount=4, domain=False, ticks=False)),
            color=alt.Color("operator:N", scale=_colours(names, SERIES[: len(names)])),
            description=alt.Description("tip:N"),
        )  # fmt: skip
        line = base.mark_line(strokeWidth=2, aria=False)
        dots = base.mark_circle(size=44, opacity=1)
        above = (line + dots).properties(width=width, height=180)
        if not lab:
            return above
        places = alt.Chart(_data(lab)).encode(
            x=x,
            y=alt.Y("operator:N", sort=known, title=None,
                    axis=alt.Axis(domain=False, ticks=False, labelLimit=120)),
            description=alt.Description("tip:N"),
        )  # fmt: skip
        blocked = places.transform_filter("datum.blocked").mark_circle(
            size=110, opacity=1, color=PALETTE["ink"]
        )
        free = places.transform_filter("!datum.blocked").mark_point(
            size=80, opacity=1, color=PALETTE["ink"]
        )
        below = (blocked + free).properties(
            width=width, height=24 * len(known), title=alt.TitleParams(
                gettext("in the lab"), anchor="start", fontSize=12, fontWeight="normal",
                color=PALETTE["muted"])
        )  # fmt: skip
        return alt.vconcat(above, below, spacing=14)

    classes = list(zip(names, SERIES, strict=False))
    return chart("reaction", gettext("Likes and the lab's dates"), text, rows, draw, classes)


#: Colours of apps; further apps have the same ones with dashes.
APP_COLOURS = (*SERIES, "ink", "muted")


def responses(rows: Sequence[ResponsePoint], text: str) -> Chart:
    """Draw the responses to doses: a panel per mechanism, a line per app."""
    apps = list(dict.fromkeys(row["app"] for row in rows))
    colours = [APP_COLOURS[at % len(APP_COLOURS)] for at in range(len(apps))]
    dashes = [[1, 0] if at < len(APP_COLOURS) else [4, 3] for at in range(len(apps))]

    def panel(mechanism: str, width: int) -> alt.LayerChart:
        own = [row for row in rows if row["mechanism"] == mechanism]
        is_mos = mechanism != "rate"
        base = alt.Chart(_data(own)).encode(
            x=alt.X("dose:Q", title=own[0]["title"], sort="descending" if mechanism == "rate" else
                    "ascending", axis=alt.Axis(grid=False, tickCount=4,
                                               format="d" if mechanism == "jitter" else "~%")),
            y=alt.Y("value:Q", title=own[0]["response"],
                    scale=alt.Scale(domain=[1, 4.5]) if is_mos else alt.Scale(zero=True),
                    axis=alt.Axis(tickCount=4, domain=False, ticks=False)),
            color=alt.Color("app:N", scale=_colours(apps, colours)),
            description=alt.Description("tip:N"),
        )  # fmt: skip
        dash = alt.StrokeDash("app:N", scale=alt.Scale(domain=apps, range=dashes), legend=None)
        line = base.mark_line(strokeWidth=2, aria=False).encode(strokeDash=dash)
        return (line + base.mark_circle(size=40, opacity=1)).properties(width=width, height=180)

    def draw(width: int) -> Drawing:
        named = list(dict.fromkeys(row["mechanism"] for row in rows))
        wide = width == WIDE
        panels = [panel(name, width // 4 if wide else width - 20) for name in named]
        return alt.hconcat(*panels, spacing=24) if wide else alt.vconcat(*panels, spacing=18)

    classes = list(zip(apps, colours, strict=True))
    return chart("responses", gettext("Quality by dose"), text, rows, draw, classes)
