# SPDX-License-Identifier: BSD-3-Clause
"""Fragments: the HTML of every view of the first screens, each piece of it once.

A slot is an element of the page whose content depends on the filters. Its content is a sequence of
fragments, which macros of templates/views.html write. The page holds the content of the view
without a filter; a table in it, which report.js reads, has the contents of all views.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import NamedTuple, Protocol

from markupsafe import Markup

from midcall.experiments.measure.situations import Hardest
from midcall.experiments.report.views import KEYS, View, Views


class Macros(Protocol):
    """The module of templates/views.html."""

    def __getattr__(self, name: str) -> Callable[..., str]: ...


class Piece(NamedTuple):
    """A call of a macro; equal keys of one macro give equal text."""

    macro: str
    key: Hashable
    values: tuple[object, ...]


def plain(macro: str, *values: Hashable) -> Piece:
    """Return a call of a macro whose values are their own key."""
    return Piece(macro, values, values)


def of_lede(macro: str, lede: Hardest, *values: Hashable) -> Piece:
    """Return a call of a macro about operators where they block most."""
    key = lede.operators, id(lede.most), id(lede.least), lede.unclear, values
    return Piece(macro, key, (lede, *values))


def sentences(view: View) -> Iterator[Piece]:
    """Yield the sentences of the answer."""
    if view.nothing:
        yield plain("nothing")
    for lede in view.ledes:
        yield of_lede("lede", lede)


def one_sentence(macro: str) -> Callable[[View], Iterator[Piece]]:
    """Return what yields one sentence about all operators or hypotheses; macro: writes it."""

    def pieces(view: View) -> Iterator[Piece]:
        if view.nothing:
            yield plain("nothing")
        if view.ledes:
            key = tuple((one.operators, *map(id, one.lines)) for one in view.ledes)
            yield Piece(macro, key, (view.ledes,))

    return pieces


def yours(view: View) -> Iterator[Piece]:
    """Yield the sentences about the user's own captures."""
    for lede in view.yours:
        yield of_lede("yours", lede, view.yours_n)


def matrix(view: View) -> Iterator[Piece]:
    """Yield the rows of the picture of apps."""
    for row in view.matrix:
        key = row.operators, id(row.line), row.apps
        yield Piece("matrix_row", key, (row, len(view.ledes) > 1))


def calendar(view: View) -> Iterator[Piece]:
    """Yield the rows of the calendar."""
    yield Piece("calendar_rows", view.choice.app, (view.calendar,))


def costs(view: View) -> Iterator[Piece]:
    """Yield the rows of the cost table."""
    for one in view.costs[: view.shown]:
        yield plain("cost_row", one, len(view.ledes) > 1)
    if not view.costs:
        yield plain("cost_none")


def rest(view: View) -> Iterator[Piece]:
    """Yield the sentence about what the cost table leaves out, and where it is."""
    if len(view.costs) > view.shown:
        yield plain("cost_rest", len(view.costs) - view.shown)
    places = tuple((one.operators, one.situation.places) for one in view.ledes)
    if view.costs and len(places) <= 3:
        yield Piece("cost_where", places, (view.ledes,))


#: Slot -> its pieces in a view; `ledes` depends on the kind of run, see `slots_of`.
SLOTS: Mapping[str, Callable[[View], Iterator[Piece]]] = {
    "yours": yours,
    "evidence": lambda view: iter([plain("evidence", view.rules)]),
    "calls": lambda view: iter([plain("calls_figure", view.calls_n, view.sessions_n)]),
    "named": lambda view: iter([plain("named_figure", view.named)]),
    "false": lambda view: iter([plain("false_figure", view.false_calls, view.choice.app)]),
    "calendar": calendar,
    "apps": lambda view: (plain("app_row", row) for row in view.apps),
    "matrix": matrix,
    "costs": costs,
    "rest": rest,
    "right": lambda view: iter([plain("named_sentence", view.named, view.choice.app)]),
    "few": lambda view: iter([plain("few", view.calls_n, view.sessions_n)]),
    "numbers": lambda view: iter([plain("numbers", view.calls_n, view.sessions_n)]),
}
#: Picture of a kind of run -> the pieces of its sentences.
LEDES = {
    "": sentences,
    "operators": one_sentence("of_operators"),
    "hypotheses": one_sentence("of_mechanisms"),
}


class Layout:
    """Which pieces each view of a run needs, in any language; equal ones are there once."""

    def __init__(self, views: Views) -> None:
        self.slots = {"ledes": LEDES[views.picture], **SLOTS}
        self.options = views.options
        self.pieces: dict[tuple[str, Hashable], Piece] = {}
        self._numbers: dict[tuple[str, Hashable], int] = {}
        self.contents: dict[tuple[int, ...], int] = {}
        self.views: dict[tuple[int, ...], int] = {}
        self.choices = [self._add(view) for view in views.every()]

    def _add(self, view: View) -> int:
        """Return the number of a view that shows the same."""
        own = tuple(self._content(pieces(view)) for pieces in self.slots.values())
        return self.views.setdefault(own, len(self.views))

    def _content(self, pieces: Iterator[Piece]) -> int:
        own = tuple(map(self._number, pieces))
        return self.contents.setdefault(own, len(self.contents))

    def _number(self, piece: Piece) -> int:
        key = piece.macro, piece.key
        number = self._numbers.setdefault(key, len(self._numbers))
        self.pieces.setdefault(key, piece)
        return number


class Fragments:
    """The pieces of a layout in one language; macros: of templates/views.html."""

    def __init__(self, layout: Layout, macros: Macros) -> None:
        self.layout = layout
        self.texts = [
            str(getattr(macros, piece.macro)(*piece.values)).strip() + "\n"
            for piece in layout.pieces.values()
        ]

    def base(self) -> dict[str, Markup]:
        """Return slot -> HTML of the view without a filter, which is the first."""
        contents, first = list(self.layout.contents), next(iter(self.layout.views))
        return {
            slot: Markup("".join(self.texts[at] for at in contents[number]))
            for slot, number in zip(self.layout.slots, first, strict=True)
        }

    def table(self) -> Markup:
        """Return the table of all views as JSON that can stand in a script element.

        keys: of the filters; options: the values of each; choices: for each choice, in the order of
        Options.choices, the number of its view; views: the number of the content of each slot;
        contents: numbers of fragments; fragments: HTML.
        """
        table = {
            "keys": KEYS, "options": self.layout.options, "slots": list(self.layout.slots),
            "choices": self.layout.choices, "views": list(self.layout.views),
            "contents": list(self.layout.contents), "fragments": self.texts,
        }  # fmt: skip
        text = json.dumps(table, ensure_ascii=False, separators=(",", ":"))
        return Markup(text.replace("</", "<\\/").replace("<!--", "<\\u0021--"))
