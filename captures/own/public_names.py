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
#: Bits of an address in the network of a cloud that stay.
CLOUD_BITS = 24


class PublicNames(Table):
    """The suffixes, realms, jobs of hosts, and networks that stay in a pack.

    suffixes: those that Midcall's rules read; services: other ones; prefixes: networks whose bits
    stay; clouds: IPv4 networks in which the first CLOUD_BITS of an address stay; servers: IPv4
    addresses and networks of single servers by the name of their list.
    """

    suffixes: list[str] = Field(min_length=1)
    services: list[str]
    realms: list[str] = Field(min_length=1)
    jobs: dict[str, list[str]]
    prefixes: list[str]
    clouds: list[str]
    servers: dict[str, list[str]]

    def kept_suffix(self, name: bytes) -> bytes:
        """Return the longest kept suffix of a lower-case name, b"" if it has none."""
        suffix = name
        while suffix:
            if suffix in kept():
                return suffix
            suffix = suffix.partition(b".")[2]
        return b""

    def networks(self) -> list[ipaddress.IPv4Network | ipaddress.IPv6Network]:
        """Return the networks of `prefixes`."""
        return [ipaddress.ip_network(text) for text in self.prefixes]

    def cloud_networks(self) -> list[ipaddress.IPv4Network]:
        """Return the networks of `clouds`."""
        return [ipaddress.IPv4Network(text) for text in self.clouds]


@lru_cache(maxsize=1)
def server_lists() -> dict[str, list[int]]:
    """Return the addresses of each list of servers, as numbers."""
    return {
        name: [int(one) for text in words for one in ipaddress.IPv4Network(text)]
        for name, words in public_names().servers.items()
    }


@lru_cache(maxsize=1)
def public_names() -> PublicNames:
    """Return the committed list; raises CaptureError if it is invalid."""
    return read_table(FILE, PublicNames)


@lru_cache(maxsize=1)
def kept() -> frozenset[bytes]:
    """Return every suffix and realm that is kept, in lower case."""
    names = public_names()
    return frozenset(name.encode() for name in (*names.suffixes, *names.services, *names.realms))


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
