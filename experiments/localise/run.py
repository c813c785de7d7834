# SPDX-License-Identifier: BSD-3-Clause
"""A capture, a box: what of the capture's packets the box decides by."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from midcall.captures.packets.pcap import read
from midcall.errors import ExperimentError
from midcall.experiments.localise.boxes import Asked, opened
from midcall.experiments.localise.document import Document, document
from midcall.experiments.localise.oracle_session import LONGEST, Asker, Cost, digest
from midcall.experiments.localise.search import localise
from midcall.testbed.probing.probe import Probe, in_order, probe_of

#: A live box: how many answers are taken to be wrong at least (a machine under load is late now and
#: then), how far time is followed, and the longest gap of a capture that is played, in ns.
LIVE_NOISE, LIVE_LONGEST, LIVE_GAP = 0.02, 5_000_000_000, 2_000_000


class Options(NamedTuple):
    """How a box is asked. noise, error, step: of experiments.localise.oracle_session; wrong: the
    share of answers that the virtual box is made to give wrongly; state: of an interrupted
    search."""

    noise: float = 0.0
    error: float = 1e-4
    budget: int = 20_000
    state: Path | None = None
    reveal: bool = False
    seed: int = 0
    wrong: float = 0.0
    step: Callable[[Cost], None] | None = None


def of_capture(
    path: Path | str, words: str, access: str, date: datetime.date | None, options: Options
) -> Document:
    """Return what a box decides by in a capture, as a document.

    words: of midcall.experiments.localise.boxes.
    """
    base = probe_of(read(path))
    with opened(words, access, date, options.seed, options.wrong) as box:
        about = {"file": str(path), "box": box.words, "rules": box.rules}
        return examined(box, base, about, options)


def examined(box: Asked, base: Probe, about: Document, options: Options) -> Document:
    """Return what a box decides by in a probe that it blocks, as a document.

    about: what was asked, `file` and `box` at least, in words; a state file is of it and the probe.
    """
    asker = Asker(
        box.oracle,
        max(options.noise, LIVE_NOISE) if box.live else options.noise,
        options.error,
        options.budget,
        options.state,
        " ".join([*map(str, about.values()), digest(base)]),
        options.step,
        LIVE_LONGEST if box.live else LONGEST,
    )
    asked = base
    if box.live and asker.blocked(hurried(base)):
        asked = hurried(base)
    return document(localise(asker, asked), asker, base, about, options.reveal)


def hurried(probe: Probe) -> Probe:
    """Return a probe without its silences: no gap longer than LIVE_GAP."""
    out, time, last = [], 0, 0
    for one in probe:
        time += min(one.time - last, LIVE_GAP)
        last = one.time
        out.append(one._replace(time=time))
    return in_order(out)


def day_of(word: str | None) -> datetime.date | None:
    """Return a day as it was typed; raises ExperimentError."""
    try:
        return None if word is None else datetime.date.fromisoformat(word)
    except ValueError:
        raise ExperimentError(f"date {word!r}: expected a day such as 2016-03-15") from None
