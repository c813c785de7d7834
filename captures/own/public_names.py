# SPDX-License-Identifier: BSD-3-Clause
"""Names and networks of public services, which a pack keeps (`public_names.toml`)."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from pathlib import Path

from pydantic import Field

from midcall.captures.truth.strict_toml import Table, read_table

FILE = Path(__file__).with_name("public_names.toml")


class PublicNames(Table):
    """The suffixes, realms, jobs of hosts, and networks that stay in a pack."""

    suffixes: list[str] = Field(min_length=1)
    realms: list[str] = Field(min_length=1)
    jobs: list[str]
    prefixes: list[str]

    def kept_suffix(self, name: bytes) -> bytes:
        """Return the longest kept suffix of a lower-case name, b"" if it has none."""
        suffix = name
        while suffix:
            if suffix in kept():
                return suffix
            suffix = suffix.partition(b".")[2]
        return b""

    def networks(self) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
        """Return the kept networks."""
        return [ipaddress.ip_network(text) for text in self.prefixes]


@lru_cache(maxsize=1)
def public_names() -> PublicNames:
    """Return the committed list; raises CaptureError if it is invalid."""
    return read_table(FILE, PublicNames)


@lru_cache(maxsize=1)
def kept() -> frozenset[bytes]:
    """Return every suffix and realm that is kept, in lower case."""
    names = public_names()
    return frozenset(name.encode() for name in (*names.suffixes, *names.realms))


@lru_cache(maxsize=1)
def in_text() -> re.Pattern[bytes]:
    """Return a pattern of a host name in a text that ends with a kept suffix.

    Groups: the labels before it, and the suffix.
    """
    suffixes = sorted(kept(), key=len, reverse=True)
    choice = b"|".join(map(re.escape, suffixes))
    return re.compile(
        rb"(?<![\w-])(?<!\w\.)((?:[\w-]+\.)*?)(" + choice + rb")(?![\w-]|\.[A-Za-z0-9])", re.I
    )
