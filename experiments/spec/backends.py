# SPDX-License-Identifier: BSD-3-Clause
"""Backends: whether a run is played in virtual time or live, and why."""

from __future__ import annotations

from typing import NamedTuple

from midcall.errors import ExperimentError
from midcall.experiments.spec.spec import OWN, Spec

VIRTUAL, LIVE, AUTO = "virtual", "live", "auto"
BACKENDS = (VIRTUAL, LIVE, AUTO)


class Chosen(NamedTuple):
    """The backend of a run, and a sentence that says why where the user left it open."""

    backend: str
    why: str = ""


def choose(spec: Spec, asked: str | None, ready: bool = True) -> Chosen:
    """Return the backend: the one asked for, else the spec's; "auto" is live where it can be.

    ready: whether it must work on this machine; a plan may ask for one that does not yet.

    Raises ExperimentError for an unknown word, for live where it cannot be, and for a box of
    somebody else's in virtual time.
    """
    backend = asked or spec.backend
    if backend not in BACKENDS:
        raise ExperimentError(f"backend: got {backend!r}, expected one of {', '.join(BACKENDS)}")
    if spec.middlebox != OWN and backend != LIVE:
        raise ExperimentError(
            f"spec {spec.name}: backend: got {backend}, expected live: middlebox "
            f"{spec.middlebox!r} is a program and runs on real time (say --backend live)"
        )
    if backend == VIRTUAL:
        return Chosen(VIRTUAL)
    lacks = lacking(spec.middlebox)
    if backend == LIVE:
        if lacks and not ready:
            return Chosen(LIVE, f"not on this machine: {'; '.join(lacks)}")
        if lacks:
            other = " (or say --backend virtual)" if spec.middlebox == OWN else ""
            raise ExperimentError("; ".join(lacks) + other)
        return Chosen(LIVE)
    if lacks:
        return Chosen(VIRTUAL, f"backend auto: virtual time, since {'; '.join(lacks)}")
    return Chosen(LIVE, "backend auto: live, this machine has what it needs")


def lacking(middlebox: str = OWN) -> list[str]:
    """Return what this machine lacks for a live run and how to get it, a sentence each.

    middlebox: of a spec; somebody else's must be installed.
    """
    from midcall.testbed.live.devices import blackbox
    from midcall.testbed.live.network import network

    lines = network.missing()
    if middlebox != OWN:
        kind = blackbox.kind_of(middlebox)
        lines = lines + [f"middlebox {kind}: {line}" for line in blackbox.missing(kind)]
    return [f"live: {line}" for line in lines]
