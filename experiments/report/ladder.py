# SPDX-License-Identifier: BSD-3-Clause
"""Ladders of calls in words: for the report, and as text for a terminal.

A ladder has the caller on the left, the operator's box in the middle and the callee on the right;
time goes down. The lines are made by midcall.experiments.tools.ladder; the page and the text have
the same words, in the language that formatting.speaking has set.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from midcall.experiments.measure import hexdump
from midcall.experiments.measure.formatting import (
    counted,
    duration_ms,
    gettext,
    measured,
    spoken,
)
from midcall.experiments.results.reader import Findings
from midcall.experiments.results.tables import LadderLine, LadderRow

#: Ladders in the page, at most; ladders.csv has all.
MOST = 160
#: The operator of a ladder that is drawn without any rule.
NO_OPERATOR = "none"
#: Octets of the payload that a hex dump shows even if they are not marked.
PAYLOAD = 64
#: Width of one leg of an arrow in text.
LEG = 9
#: Kinds of lines that are no arrow.
NOTES = ("not_sent", "others")


class Cell(NamedTuple):
    """An octet of a hex dump: its text, and the number of its mark and its meaning, -1 for none."""

    text: str
    mark: int
    meaning: str


class Rung(NamedTuple):
    """One line of a ladder, with its words."""

    row: LadderLine

    @property
    def note(self) -> bool:
        """Return whether the line is no arrow: packets never sent, or not of the call."""
        return self.row["kind"] in NOTES

    @property
    def several(self) -> bool:
        """Return whether the line stands for more than one packet."""
        return self.row["frame"] is None

    @property
    def fate(self) -> str:
        """Return all, some or none: which of the packets arrived; "forged" for injected ones."""
        if self.row["injected"]:
            return "forged"
        if not self.row["delivered"]:
            return "none"
        return "all" if self.row["delivered"] == self.row["sent"] else "some"

    @property
    def colour(self) -> str:
        """Return the class of the line's colour: by what became of most of the packets."""
        row = self.row
        if row["injected"]:
            return "violet"
        if 2 * row["delivered"] >= row["sent"]:
            return "ochre" if 2 * row["delayed"] >= row["sent"] else "through"
        return "grey" if row["lost"] > row["dropped"] else "blocked"

    @property
    def begin(self) -> str:
        """Return when the first packet left its sender, "" for a note."""
        return moment(self.row["begin_s"])

    @property
    def end(self) -> str:
        """Return when the last one did, "" for a single packet."""
        return moment(self.row["end_s"]) if self.several else ""

    @property
    def origin(self) -> str:
        """Return who sent the packets."""
        if self.row["injected"]:
            up, down = gettext("from the box to the callee"), gettext("from the box to the caller")
            return up if self.row["direction"] == "up" else down
        if self.row["direction"] == "local":
            return gettext("on the caller's own network")
        up, down = gettext("from the caller"), gettext("from the callee")
        return up if self.row["direction"] == "up" else down

    @property
    def words(self) -> str:
        """Return what was sent, and what became of it."""
        row = self.row
        what = isolated(row["what"])
        if row["kind"] == "not_sent":
            return counted(
                "%(num)s packet of the call was never sent",
                "%(num)s packets of the call were never sent",
                row["not_sent"],
            )
        if row["kind"] == "others":
            return gettext("Not of this call: %(packets)s; %(fates)s") % {
                "packets": packets(row["sent"]),
                "fates": self.fates,
            }
        if row["injected"]:
            frames = forged(row["injected"]) if self.several else gettext("forged by the box")
            return gettext("%(what)s: %(fate)s") % {"what": what, "fate": frames + self.by_rule}
        if self.several:
            return gettext("%(packets)s (%(what)s): %(fates)s") % {
                "packets": packets(row["sent"]),
                "what": what,
                "fates": self.fates + self.by_rule,
            }
        if (row["attempt"] or 1) > 1:
            what = gettext("%(what)s, sending %(n)s") % {"what": what, "n": row["attempt"]}
        size = counted("%(num)s byte", "%(num)s bytes", row["bytes"])
        return gettext("%(what)s, %(size)s: %(fate)s") % {
            "what": what, "size": size, "fate": self.single_fate(),
        }  # fmt: skip

    def single_fate(self) -> str:
        """Return the fate of a single packet."""
        row = self.row
        if row["delayed"]:
            late = gettext("arrived, kept for %(time)s") % {"time": duration_ms(row["delay_ms"])}
            return f"{late}{self.by_rule}"
        if row["delivered"]:
            return gettext("arrived")
        if row["lost"]:
            return gettext("lost on the access network")
        return gettext("dropped by the box") + self.by_rule

    @property
    def by_rule(self) -> str:
        """Return the rule that dropped, delayed or forged some of the packets, in brackets."""
        row = self.row
        if not row["rule"] or not (row["dropped"] or row["delayed"] or row["injected"]):
            return ""
        return " " + gettext("(rule %(rule)s)") % {"rule": isolated(row["rule"])}

    @property
    def fates(self) -> str:
        """Return the fates of several packets, with counts."""
        row = self.row
        if row["delivered"] == row["sent"]:
            parts = [gettext("all arrived")] if row["sent"] else []
        elif row["dropped"] == row["sent"]:
            parts = [gettext("all dropped by the box")]
        elif row["delivered"]:
            parts = [counted("%(num)s arrived", "%(num)s arrived", row["delivered"])]
        else:
            parts = [gettext("none arrived")]
        if row["delayed"]:
            kept = counted("%(num)s kept for a time", "%(num)s kept for a time", row["delayed"])
            mean = gettext("mean %(time)s") % {"time": duration_ms(row["delay_ms"])}
            parts.append(f"{kept} ({mean})")
        if 0 < (n := row["dropped"]) < row["sent"]:
            parts.append(counted("%(num)s dropped by the box", "%(num)s dropped by the box", n))
        if n := row["lost"]:
            parts.append(
                counted(
                    "%(num)s lost on the access network", "%(num)s lost on the access network", n
                )
            )
        if n := row["injected"]:
            parts.append(forged(n))
        if n := row["not_sent"]:
            parts.append(counted("%(num)s never sent", "%(num)s never sent", n))
        return gettext("; ").join(parts)

    @property
    def turns(self) -> str:
        """Return what the box did at this packet for the first time, "" for nothing."""
        row = self.row
        parts = []
        if row["recognises"]:
            parts.append(gettext("the box recognises the call here"))
        if row["decided_by"] == "rule":
            parts.append(gettext("the rule matches here"))
        if row["acts"]:
            parts.append(gettext("the rule acts from here on"))
        return gettext("; ").join(parts)

    @property
    def why(self) -> str:
        """Return the evidence: the classifier's, as `midcall explain` says it, or the match."""
        row = self.row
        if row["decided_by"] is None:
            return ""
        if row["decided_by"] == "rule":
            return gettext("The rule matches %(match)s") % {"match": isolated(row["evidence"])}
        return gettext("The classifier reads “%(evidence)s”: %(verdict)s") % {
            "evidence": isolated(row["evidence"]), "verdict": isolated(row["named"]),
        }  # fmt: skip

    @property
    def dump(self) -> list[tuple[int, list[Cell]]]:
        """Return the hex dump of the packet: for each row its position, and its octets."""
        row = self.row
        if row["octets"] is None or row["octets_at"] is None or row["payload_at"] is None:
            return []
        base = row["octets_at"] - row["octets_at"] % hexdump.WIDTH
        cells = ["  "] * (row["octets_at"] - base) + row["octets"].split(" ")
        spans = [(at - base, length) for at, length, _ in self.marks]
        meanings = [meaning for _, _, meaning in self.marks]
        shown = hexdump.rows(cells, spans, row["payload_at"] - base, PAYLOAD)
        return [
            (
                base + one.at,
                [
                    Cell(cell, mark, meanings[mark] if mark >= 0 else "")
                    for cell, mark in zip(one.cells, one.marked, strict=True)
                ],
            )
            for one in shown
        ]

    @property
    def marks(self) -> list[tuple[int, int, str]]:
        """Return the octets that decided: position in the frame, length, meaning."""
        return [
            (at, length, meaning) for at, length, meaning in json.loads(self.row["marks"] or "[]")
        ]


def moment(seconds: float | None) -> str:
    """Return a time of a ladder, "" for None."""
    return "" if seconds is None else measured(f"{seconds:.3f}", "s")


def packets(n: int) -> str:
    """Return a number of packets."""
    return counted("%(num)s packet", "%(num)s packets", n)


def forged(n: int) -> str:
    """Return a number of frames that the box made."""
    return counted("%(num)s frame forged by the box", "%(num)s frames forged by the box", n)


def isolated(text: str | None) -> str:
    """Return English words; in a text from right to left they are isolated from it."""
    return f"\u2068{text or ''}\u2069" if spoken().rtl else text or ""


# ---- the page


class Ladder(NamedTuple):
    """A call's ladder and the cell of the grid for which it is drawn; about: its first row."""

    about: LadderRow
    rungs: list[Rung]

    @property
    def control(self) -> bool:
        """Return whether the ladder is drawn without rules, as none acts on the call."""
        return self.about["operator"] == NO_OPERATOR

    @property
    def title(self) -> str:
        """Return the title of the hypothesis."""
        return isolated(self.about["hypothesis_title"])

    @property
    def decided(self) -> bool:
        """Return whether a packet decided: recognised the call, or matched the rule."""
        return any(rung.row["decided_by"] for rung in self.rungs)


def ladders(run: Findings) -> dict[tuple[str, str], Ladder]:
    """Return the ladders of a run by capture and call, MOST at most."""
    rows: dict[tuple[str, str], list[LadderRow]] = {}
    for row in run["ladders"]:
        rows.setdefault((row["capture"], row["call"]), []).append(row)
    return {
        call: Ladder(lines[0], [Rung(line) for line in lines])
        for call, lines in list(rows.items())[:MOST]
    }


# ---- text


def text(lines: Sequence[LadderLine]) -> Iterator[str]:
    """Yield a ladder as lines of text: times, arrows, words, and the bytes that decided."""
    rungs = [Rung(line) for line in lines]
    width = max([len(span(rung)) for rung in rungs], default=0)
    yield f"  {'':{width}}  caller{'box':^{2 * LEG - 6}}callee"
    for rung in rungs:
        turns = f"  <- {rung.turns}" if rung.turns else ""
        yield f"  {span(rung):>{width}}  {arrow(rung)}  {rung.words}{turns}".rstrip()
        if rung.why:
            yield from dump(rung, " " * (width + 4))


def span(rung: Rung) -> str:
    """Return the time of a line, from the first packet to the last."""
    return f"{rung.begin.removesuffix(' s')}-{rung.end}" if rung.end else rung.begin


def arrow(rung: Rung) -> str:
    """Return the arrow of a line: a leg to the box, and one behind it if a packet arrived."""
    row = rung.row
    if rung.note:
        return " " * (2 * LEG + 3)
    if row["direction"] == "local":
        return f"|{leg('', '-')}|{' ' * LEG}|".replace("->", "- ")
    if row["injected"]:
        legs = [" " * LEG, leg(str(row["injected"]) if rung.several else "", "=")]
        at_box = "|"
    else:
        number = row["sent"], row["delivered"]
        names = [str(n) if rung.several else "" for n in number]
        legs = [leg(names[0], "-"), leg(names[1], "-") if number[1] else " " * LEG]
        at_box = "|" if number[1] else "X"
    if row["direction"] == "up":
        return f"|{legs[0]}{at_box}{legs[1]}|"
    return f"|{mirrored(legs[1])}{at_box}{mirrored(legs[0])}|"


def leg(name: str, stroke: str) -> str:
    """Return one leg of an arrow to the right, with a name in its middle."""
    return f"{name:{stroke}^{LEG - 1}}>"


def mirrored(drawn: str) -> str:
    """Return a leg that points to the left."""
    return f"<{drawn[:-1]}" if drawn.endswith(">") else drawn


def dump(rung: Rung, indent: str) -> Iterator[str]:
    """Yield the evidence of a line, and its hex dump: marked octets are in brackets."""
    yield f"{indent}{rung.why}"
    last = None
    for at, cells in rung.dump:
        if last is not None and at != last + hexdump.WIDTH:
            yield f"{indent}*"
        last = at
        edges = hexdump.separators([cell.mark for cell in cells])
        octets = "".join(edge + cell.text for edge, cell in zip(edges, cells, strict=False))
        yield f"{indent}{at:04x}{octets}{edges[-1]}".rstrip()
    for at, length, meaning in rung.marks:
        yield f"{indent}[{at:04x}, {length}] {meaning}"
    if rung.row["no_marks"]:
        yield f"{indent}{rung.row['no_marks']}"
