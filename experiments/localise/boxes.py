# SPDX-License-Identifier: BSD-3-Clause
"""Boxes that answer probes, opened by their name in a spec or on the command line.

    OPERATOR/HYPOTHESIS[/RULE]          our own box with these rules, in virtual time
    live: OPERATOR/HYPOTHESIS[/RULE]    the same as a process between real interfaces
    suricata: FILE                      Suricata, inline, with a file of rules
    command: WORDS                      any inline program; see testbed.live.devices.blackbox

All but the first need root and Mininet.
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from midcall.experiments.spec.policy_names import policy_named
from midcall.testbed.policy.operator import Policy
from midcall.testbed.probing.oracle import NoisyOracle, Oracle, PolicyOracle

#: Kinds of boxes between real interfaces: the word before the colon.
LIVE = ("live", "suricata", "command")


class TestedBox(NamedTuple):
    """An open box: its oracle, its name, a digest of its rules, and whether it handles real
    packets."""

    oracle: Oracle
    words: str
    rules: str
    live: bool = False


@contextmanager
def open_box(
    words: str, access: str, date: datetime.date | None, seed: int = 0, wrong: float = 0.0
) -> Iterator[TestedBox]:
    """Open a box by its name; yields a TestedBox. A live box is closed with the context.

    wrong: the share of answers that are inverted, to test the localiser against noise. Raises
    ExperimentError or TestbedError.
    """
    kind, _, rest = words.partition(":")
    if kind in LIVE and rest.strip():
        with live(kind, rest.strip(), access, date, seed) as box:
            yield box._replace(words=words)
        return
    policy = policy_named(words, access, date)
    oracle: Oracle = PolicyOracle(policy, access, seed)
    if wrong:
        oracle = NoisyOracle(oracle, wrong, seed)
    yield TestedBox(oracle, f"{words} on {access}", digest_of(policy))


@contextmanager
def live(
    kind: str, rest: str, access: str, date: datetime.date | None, seed: int
) -> Iterator[TestedBox]:
    """Open a live box of one kind of LIVE; yields a TestedBox."""
    from midcall.testbed.live.devices.oracle import LiveOracle

    if kind == "live":
        policy = policy_named(rest, access, date)
        with LiveOracle(policy, seed=seed) as oracle:
            yield TestedBox(oracle, "", digest_of(policy), True)
        return
    file = Path(rest) if kind == "suricata" else None
    middlebox = kind if file else f"{kind}: {rest}"
    with LiveOracle(middlebox, file, seed) as oracle:
        content = file.read_bytes() if file else rest.encode()
        yield TestedBox(oracle, "", hashlib.sha256(content).hexdigest()[:12], True)


def digest_of(policy: Policy) -> str:
    """Return the first 12 hex digits of the SHA-256 of a policy."""
    return hashlib.sha256(repr(policy).encode()).hexdigest()[:12]
