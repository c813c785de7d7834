# SPDX-License-Identifier: BSD-3-Clause
"""Backends: whether a run uses virtual time or the live network, and why."""

from __future__ import annotations

from typing import NamedTuple

from midcall.errors import ExperimentError
from midcall.experiments.spec.spec import OWN, Spec

VIRTUAL, LIVE, AUTO = "virtual", "live", "auto"
BACKENDS = (VIRTUAL, LIVE, AUTO)


class Chosen(NamedTuple):
    """The backend of a run, and the reason if the user did not choose it."""

    backend: str
    why: str = ""


def choose(spec: Spec, requested: str | None, ready: bool = True) -> Chosen:
    """Return the requested backend, else the spec's; "auto" means live if this machine can.

    ready: whether the backend must work on this machine; False for a plan.

    Raises ExperimentError for an unknown backend, for live on a machine that cannot, and for a
    third-party middlebox in virtual time.
    """
    backend = requested or spec.backend
    if backend not in BACKENDS:
        raise ExperimentError(f"backend: got {backend!r}, expected one of {', '.join(BACKENDS)}")
    if spec.middlebox != OWN and backend != LIVE:
        raise ExperimentError(
            f"spec {spec.name}: backend: got {backend}, expected live: middlebox "
            f"{spec.middlebox!r} is a program and runs on real time (say --backend live)"
        )
    if backend == VIRTUAL:
        return Chosen(VIRTUAL)
    missing = lacking(spec.middlebox)
    if backend == LIVE:
        if missing and not ready:
            return Chosen(LIVE, f"not on this machine: {'; '.join(missing)}")
        if missing:
            other = " (or say --backend virtual)" if spec.middlebox == OWN else ""
            raise ExperimentError("; ".join(missing) + other)
        return Chosen(LIVE)
    if missing:
        return Chosen(VIRTUAL, f"backend auto: virtual time, since {'; '.join(missing)}")
    return Chosen(LIVE, "backend auto: live, this machine has what it needs")


def lacking(middlebox: str = OWN) -> list[str]:
    """Return what this machine lacks for a live run and how to get it, a sentence each.

    middlebox: of the spec; a third-party one must be installed.
    """
    from midcall.testbed.live.devices import blackbox
    from midcall.testbed.live.network import network

    lines = network.missing()
    if middlebox != OWN:
        kind = blackbox.kind_of(middlebox)
        lines = lines + [f"middlebox {kind}: {line}" for line in blackbox.missing(kind)]
    return [f"live: {line}" for line in lines]
