# SPDX-License-Identifier: BSD-3-Clause
"""Boxes that can be asked, by their words in a spec or on the command line.

    OPERATOR/HYPOTHESIS[/RULE]          our own box under these rules, in virtual time
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

#: Boxes between real interfaces, by what stands before the colon.
LIVE = ("live", "suricata", "command")


class Asked(NamedTuple):
    """A box that is open to questions: in words, a digest of its rules, and whether real packets go
    through it."""

    oracle: Oracle
    words: str
    rules: str
    live: bool = False


@contextmanager
def opened(
    words: str, access: str, date: datetime.date | None, seed: int = 0, wrong: float = 0.0
) -> Iterator[Asked]:
    """Give a box by its words; a live one is there as long as the context.

    wrong: the share of answers that are given wrongly, to try it. Raises ExperimentError or
    TestbedError.
    """
    kind, _, rest = words.partition(":")
    if kind in LIVE and rest.strip():
        with live(kind, rest.strip(), access, date, seed) as asked:
            yield asked._replace(words=words)
        return
    policy = policy_named(words, access, date)
    oracle: Oracle = PolicyOracle(policy, access, seed)
    if wrong:
        oracle = NoisyOracle(oracle, wrong, seed)
    yield Asked(oracle, f"{words} on {access}", digest_of(policy))


@contextmanager
def live(
    kind: str, rest: str, access: str, date: datetime.date | None, seed: int
) -> Iterator[Asked]:
    """Give a live box of one of LIVE."""
    from midcall.testbed.live.devices.oracle import LiveOracle

    if kind == "live":
        policy = policy_named(rest, access, date)
        with LiveOracle(policy, seed=seed) as oracle:
            yield Asked(oracle, "", digest_of(policy), True)
        return
    file = Path(rest) if kind == "suricata" else None
    middlebox = kind if file else f"{kind}: {rest}"
    with LiveOracle(middlebox, file, seed) as oracle:
        result = file.read_bytes() if file else rest.encode()
        yield Asked(oracle, "", hashlib.sha256(result).hexdigest()[:12], True)


def digest_of(policy: Policy) -> str:
    """Return what tells a policy from others."""
    return hashlib.sha256(repr(policy).encode()).hexdigest()[:12]
