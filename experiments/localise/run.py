# SPDX-License-Identifier: BSD-3-Clause
"""Find which packets and bytes of a capture make a middlebox block it."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from midcall.captures.own.add import named_flows
from midcall.captures.packets.headers import of_flows
from midcall.captures.packets.names import printable
from midcall.captures.packets.pcap import read
from midcall.errors import ExperimentError
from midcall.experiments.localise.boxes import TestedBox, open_box
from midcall.experiments.localise.document import Document, document
from midcall.experiments.localise.oracle_session import LONGEST, Cost, OracleSession, digest
from midcall.experiments.localise.search import localise
from midcall.testbed.probing.probe import Probe, in_order, probe_of

#: For a live box: least assumed share of wrong answers (a machine under load is sometimes late),
#: longest duration of a probe, and longest gap of a capture that is played, in ns.
LIVE_NOISE, LIVE_LONGEST, LIVE_GAP = 0.02, 5_000_000_000, 2_000_000


class Options(NamedTuple):
    """Options of a search. noise, error, step: of experiments.localise.oracle_session; wrong: the
    share of answers that the virtual box inverts; state: file of an interrupted search; flows:
    names of the flows whose packets are sent, all packets without any."""

    noise: float = 0.0
    error: float = 1e-4
    budget: int = 20_000
    state: Path | None = None
    reveal: bool = False
    seed: int = 0
    wrong: float = 0.0
    step: Callable[[Cost], None] | None = None
    flows: tuple[str, ...] = ()


def localise_capture(
    path: Path | str, words: str, access: str, date: datetime.date | None, options: Options
) -> Document:
    """Return the result for a capture and a box as a document.

    words: the name of the box, of midcall.experiments.localise.boxes.
    """
    packets = read(path)
    if options.flows:
        named = named_flows(printable(path), packets, list(options.flows), None)
        packets = of_flows(packets, named)
    base = probe_of(packets)
    with open_box(words, access, date, options.seed, options.wrong) as box:
        about = {"file": str(path), "box": box.words, "rules": box.rules}
        return localise_probe(box, base, about, options)


def localise_probe(box: TestedBox, base: Probe, about: Document, options: Options) -> Document:
    """Return the result for a probe and a box as a document.

    about: a description of the inputs, with `file` and `box` at least; it labels the state file
    together with the digest of the probe.
    """
    session = OracleSession(
        box.oracle,
        max(options.noise, LIVE_NOISE) if box.live else options.noise,
        options.error,
        options.budget,
        options.state,
        " ".join([*map(str, about.values()), digest(base)]),
        options.step,
        LIVE_LONGEST if box.live else LONGEST,
    )
    played = base
    if box.live and session.blocked(shorten_gaps(base)):
        played = shorten_gaps(base)
    return document(localise(session, played), session, base, about, options.reveal)


def shorten_gaps(probe: Probe, longest: int = LIVE_GAP) -> Probe:
    """Return a probe in which no gap is longer than `longest` ns."""
    packets, time, last = [], 0, 0
    for one in probe:
        time += min(one.time - last, longest)
        last = one.time
        packets.append(one._replace(time=time))
    return in_order(packets)


def day_of(word: str | None) -> datetime.date | None:
    """Return a day given as YYYY-MM-DD, None for None. Raises ExperimentError."""
    try:
        return None if word is None else datetime.date.fromisoformat(word)
    except ValueError:
        raise ExperimentError(f"date {word!r}: expected a day such as 2016-03-15") from None
