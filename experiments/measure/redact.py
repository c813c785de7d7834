# SPDX-License-Identifier: BSD-3-Clause
"""Masks over addresses of third parties in result files, unless `--reveal` is given.

An IPv4 address keeps its first 16 bits (31.13.x.x) and an IPv6 address its first 32
(2a03:2880:x), enough to recognise a network and too little to recognise a person.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable


def masked(address: str) -> str:
    """Return the address with its host part replaced by x; text that is no address becomes "x"."""
    try:
        parsed = ipaddress.ip_address(address.split("%")[0].strip("[]"))
    except ValueError:
        return "x"
    if parsed.version == 4:
        first, second = parsed.packed[:2]
        return f"{first}.{second}.x.x"
    if parsed.ipv4_mapped is not None:
        return f"::ffff:{masked(str(parsed.ipv4_mapped))}"
    packed = parsed.packed
    return f"{int.from_bytes(packed[:2]):x}:{int.from_bytes(packed[2:4]):x}:x"


def mask_all(addresses: Iterable[str]) -> list[str]:
    """Return every address masked, each distinct one computed once."""
    cache: dict[str, str] = {}
    out = []
    for address in addresses:
        if address not in cache:
            cache[address] = masked(address)
        out.append(cache[address])
    return out
