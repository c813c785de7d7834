# SPDX-License-Identifier: BSD-3-Clause
"""Flow keys from addresses and ports as text."""

from __future__ import annotations

import ipaddress
from functools import lru_cache

from midcall.experiments.accuracy.peers.labels import Key


@lru_cache(maxsize=65536)
def written(address: str) -> str:
    """Return an IP address in canonical form; raises ValueError for other text."""
    return str(ipaddress.ip_address(address))


def end(address: str, port: int) -> tuple[str, int]:
    """Return one end of a flow: (canonical address, port)."""
    return written(address), port


def key(proto: int, source: str, source_port: int, target: str, target_port: int) -> Key:
    """Return the key of a flow, equal for both its directions."""
    return proto, frozenset((end(source, source_port), end(target, target_port)))
