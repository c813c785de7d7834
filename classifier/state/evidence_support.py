# SPDX-License-Identifier: BSD-3-Clause
"""Support: in which recordings each evidence was seen, and which verdict it may therefore give.

`support.csv` in this folder is written by `midcall support` and committed. A line counts one
evidence on flows of one kind in one repository: `kind` is "own" where the truth agrees with the
evidence, "innocent" where the flow belongs to no call, else the other app whose call it is.
Evidences that all apps share (midcall.classifier.state.evidence.SHARED) have the app "none".

The verdict of an evidence follows from the sessions in which it was right (r) and wrong (w). Its
confidence is the mean of a Beta distribution (Jeffreys' prior, 1/2 and 1/2) after r + p right and w
wrong sessions, where p counts published descriptions, each as one session, and a specification as
SPEC_SESSIONS. "Certain" needs two independent right sessions (a published description counts), and
no more than TOLERATED wrong ones. If all wrong sessions belong to apps of the same maker, the maker
is certain instead. Less than that is "unsure". Two different signs of one app in one flow, each
unsure, are certain together (midcall.classifier.path.verdict.agreed).
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Collection, Iterable
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from midcall.classifier.state.evidence import BASES, SENTENCES, SHARED, Basis
from midcall.classifier.state.flow_table import CLAIM_KEYS, MAKER_AT, Numbers
from midcall.classifier.state.verdicts import (
    APPS,
    CERTAIN,
    MADE_BY,
    MAKER_OF,
    NOT_CALL,
    RTC,
    UNSURE,
)
from midcall.errors import ClassifierError
from midcall.locations import CLASSIFIER

COMMITTED = CLASSIFIER / "support.csv"
COLUMNS = ("app", "number", "kind", "repository", "sessions", "flows")
OWN, INNOCENT = "own", "innocent"

#: The number of right sessions that a specification, or the service's own name, counts as.
SPEC_SESSIONS = 8
#: Independent right sessions that "certain" needs.
NEEDED = 2
#: The largest share of wrong sessions of a certain evidence.
TOLERATED = 0.02
#: Evidences whose confidence is computed for each flow (the early model), by their key.
COMPUTED = (RTC << 8 | 10,)


class Seen(NamedTuple):
    """In how many sessions and flows of one repository and kind an evidence was seen."""

    app: int
    number: int
    kind: str
    repository: str
    sessions: int
    flows: int

    @property
    def key(self) -> int:
        """Return the evidence's key, as in midcall.classifier.state.evidence.SENTENCES."""
        return self.app << 8 | self.number


class Claim(NamedTuple):
    """The verdict that an evidence may give, and the counts from which it follows."""

    verdict: int
    app: int
    confidence: int  # percent
    right: int  # sessions
    wrong: int
    maker: int  # those of the wrong sessions that are of other apps of the same maker


def load(path: Path = COMMITTED) -> list[Seen]:
    """Return the lines of a support table; raises ClassifierError if it cannot be read as one."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
        return [
            Seen(
                APPS.index(row["app"]),
                int(row["number"]),
                row["kind"],
                row["repository"],
                int(row["sessions"]),
                int(row["flows"]),
            )
            for row in rows
        ]
    except (OSError, KeyError, ValueError) as error:
        raise ClassifierError(f"{path.name}: cannot be read as a support table: {error}") from error


def save(seen: Iterable[Seen], path: Path = COMMITTED) -> None:
    """Write a support table, in the order of its columns."""
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row in sorted(seen):
            writer.writerow((APPS[row.app], *row[1:]))


def claim(key: int, basis: Basis, rows: Collection[Seen]) -> Claim:
    """Return the claim of an evidence; rows: only the lines of this evidence."""
    app = key >> 8
    right = sum(row.sessions for row in rows if row.kind == OWN)
    wrong = sum(row.sessions for row in rows if row.kind != OWN)
    maker = MAKER_OF[app]
    names = {APPS[other] for other in MADE_BY.get(maker, ()) if maker != app}
    shared = sum(row.sessions for row in rows if row.kind in names)
    if shared and shared == wrong:
        app, right, wrong = maker, right + wrong, 0
    known = right + len(basis.published) + (SPEC_SESSIONS if basis.spec else 0)
    confidence = min(99, round(100 * (0.5 + known) / (1 + known + wrong)))
    sure = known >= NEEDED and wrong <= TOLERATED * (known + wrong)
    verdict = basis.verdict if sure or basis.verdict == NOT_CALL else min(basis.verdict, UNSURE)
    return Claim(verdict, app, confidence, right, wrong, shared)


def table(seen: Collection[Seen]) -> dict[int, Claim]:
    """Return the claim of every evidence by its key."""
    by_key: dict[int, list[Seen]] = {key: [] for key in BASES}
    for row in seen:
        if row.key in by_key:
            by_key[row.key].append(row)
    return {key: claim(key, BASES[key], rows) for key, rows in by_key.items()}


def claims(seen: Collection[Seen]) -> Numbers:
    """Return int64[2 * CLAIM_KEYS], the claims in the form that verdict.claimed reads."""
    out = np.zeros(2 * CLAIM_KEYS, np.int64)
    by_key = table(seen)
    for key, support in by_key.items():
        if key in COMPUTED:
            continue
        number, app = key & 0xFF, key >> 8
        apps = range(1, len(APPS)) if app == 0 and number > SHARED else (app,)
        for named in apps:
            name = support.app if app else named
            word = support.confidence | name << 8
            at = named << 8 | number
            if BASES[key].maker and support.verdict == UNSURE:
                word |= by_key[BASES[key].maker].confidence << MAKER_AT
            if number > SHARED or support.verdict == NOT_CALL:
                out[CLAIM_KEYS + at] = word | NOT_CALL << 16
            if number > SHARED or support.verdict != NOT_CALL:
                out[at] = (
                    word | (CERTAIN if number > SHARED and sure(support) else support.verdict) << 16
                )
    return out


def sure(support: Claim) -> bool:
    """Return whether a shared evidence may make a call certain."""
    return support.wrong <= TOLERATED * (support.right + support.wrong + SPEC_SESSIONS)


def in_words(key: int, seen: Collection[Seen] | None = None) -> str:
    """Return an evidence's support as text; key: the low 16 bits of the evidence.

    "seen in 4 sessions of 2 repositories, in 3 of messenger; described by nDPI".
    """
    number = key & 0xFF
    key = number if number > SHARED else key
    if key not in BASES:
        return ""
    rows = [row for row in (committed() if seen is None else seen) if row.key == key]
    own = [row for row in rows if row.kind == OWN]
    sessions = sum(row.sessions for row in own)
    parts = [
        f"seen in {counted(sessions, 'session')} of {counted(len(own), 'repository')}"
        if own
        else "seen in no public recording"
    ]
    others: Counter[str] = Counter()
    for row in rows:
        others[row.kind] += row.sessions if row.kind not in (OWN,) else 0
    for kind, n in sorted(others.items()):
        if n:
            parts.append(f"in {n} of {'innocent flows' if kind == INNOCENT else kind}")
    basis = BASES[key]
    about = "the service's own name" if basis.spec == "name" else basis.spec
    described = [f"described by {' and '.join(basis.published)}"] if basis.published else []
    return "; ".join([", ".join(parts), *([about] if about else []), *described])


def counted(n: int, noun: str) -> str:
    """Return a number with its noun, in the plural unless the number is 1."""
    plural = noun[:-1] + "ies" if noun.endswith("y") else noun + "s"
    return f"{n} {noun if n == 1 else plural}"


@lru_cache(maxsize=1)
def committed() -> tuple[Seen, ...]:
    """Return the lines of the committed table."""
    return tuple(load())


def unsupported(seen: Collection[Seen]) -> list[str]:
    """Return the sentences of evidences without a line, a specification or a description."""
    keys = {row.key for row in seen}
    return [
        f"{APPS[key >> 8]} {key & 0xFF}: {SENTENCES[key]}"
        for key, basis in sorted(BASES.items())
        if key not in keys and not basis.spec and not basis.published and key not in COMPUTED
    ]


@lru_cache(maxsize=1)
def shipped() -> Numbers:
    """Return the claims of the committed table, as a read-only array."""
    out = claims(committed())
    out.flags.writeable = False
    return out
