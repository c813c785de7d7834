# SPDX-License-Identifier: BSD-3-Clause
"""Labels: per-flow truth of a capture, keyed by its sha256 and the flow's first frame number.

One CSV file per capture, `labels/<first 16 hex digits of the sha256>.csv`, with one row per
bidirectional flow (innermost 5-tuple). A flow is named by the 1-based number of its first frame,
so no file holds an address. Truth comes from how the capture was made and from its bytes,
never from another classifier. Only labels of high and medium confidence are scored.
"""

from __future__ import annotations

import csv
import difflib
import io
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from midcall.apps import APPS
from midcall.captures.truth.paths import Home, homes, shown
from midcall.errors import CaptureError

ROLES = ("media", "setup", "control", "messaging", "other", "unknown")
CONFIDENCES = ("high", "medium", "low")
PROTOS = ("udp", "tcp", "sctp", "icmp", "other")
COLUMNS = ("frame", "proto", "packets", "app", "role", "call", "confidence", "evidence")


class Label(NamedTuple):
    """The truth of one flow; `frame` is its first frame, counted from 1 in the capture."""

    frame: int
    proto: str
    packets: int
    app: str
    role: str
    call: str
    confidence: str
    evidence: str = ""

    @property
    def scored(self) -> bool:
        """Return whether this flow may be scored: it is decidable and the label is not a guess."""
        return self.role != "unknown" and self.confidence != "low"


def labels(sha256: str, with_local: bool = True) -> list[Label]:
    """Return a capture's flow labels in order of first frame; [] if only the call is labelled.

    Raises CaptureError with every problem of the file.
    """
    for home in reversed(homes(with_local)):
        path = label_file(home, sha256)
        if path.is_file():
            return read_labels(path)
    return []


def label_file(home: Home, sha256: str) -> Path:
    """Return the path of a capture's labels in a home."""
    return home.labels / f"{sha256[:16]}.csv"


def read_labels(path: Path) -> list[Label]:
    """Return the labels of one file; raises CaptureError with every problem, one a line."""
    rows, problems = try_labels(path)
    if problems:
        raise CaptureError("\n".join(problems))
    return rows


def try_labels(path: Path) -> tuple[list[Label], list[str]]:
    """Return the valid rows of a label file, and its problems."""
    where = shown(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        return [], [f"{where}: cannot be read: {error}"]
    rows = list(csv.reader(io.StringIO(text)))
    if not rows or tuple(rows[0]) != COLUMNS:
        got = ",".join(rows[0]) if rows else "nothing"
        return [], [f"{where}: line 1: got the columns {got}, expected {','.join(COLUMNS)}"]
    result: list[Label] = []
    problems: list[str] = []
    first_lines: dict[int, int] = {}
    for line, row in enumerate(rows[1:], 2):
        wrong = row_problems(row)
        problems += [f"{where}: line {line}: {problem}" for problem in wrong]
        if wrong:
            continue
        label = Label(int(row[0]), row[1], int(row[2]), *row[3:])
        if label.frame in first_lines:
            problems.append(
                f"{where}: line {line}: frame {label.frame} is labelled twice, "
                f"first in line {first_lines[label.frame]}"
            )
        first_lines.setdefault(label.frame, line)
        result.append(label)
    return sorted(result), problems


def row_problems(row: list[str]) -> list[str]:
    """Return the problems of one row."""
    if len(row) != len(COLUMNS):
        return [f"got {len(row)} columns, expected {len(COLUMNS)}"]
    problems = []
    for column, text in (("frame", row[0]), ("packets", row[2])):
        if not (text.isascii() and text.isdigit() and int(text) >= 1):
            problems.append(f"{column}: got {text!r}, expected a number from 1")
    for column, text, choices in (
        ("proto", row[1], PROTOS),
        ("app", row[3], APPS),
        ("role", row[4], ROLES),
        ("confidence", row[6], CONFIDENCES),
    ):
        if text not in choices:
            close = difflib.get_close_matches(text, choices, 1)
            suggestion = f"; did you mean {close[0]}?" if close else ""
            problems.append(
                f"{column}: got {text!r}, expected one of {', '.join(choices)}{suggestion}"
            )
    return problems


def write_labels(path: Path, rows: Iterable[Label]) -> None:
    """Write a label file, rows in order of first frame."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(sorted(rows))
