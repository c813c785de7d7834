# SPDX-License-Identifier: BSD-3-Clause
"""Masks keep a network recognisable and a person not."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from midcall.experiments.measure.redact import masked


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("31.13.86.48", "31.13.x.x"),
        ("192.168.2.12", "192.168.x.x"),
        ("2a03:2880:f01c:8000::25de", "2a03:2880:x"),
        ("fe80::1%eth0", "fe80:0:x"),
        ("::ffff:31.13.86.48", "::ffff:31.13.x.x"),
        ("", "x"),
        ("no address", "x"),
    ],
)
def test_an_address_shows_only_its_network(address: str, shown: str) -> None:
    assert masked(address) == shown


@given(st.ip_addresses(v=4), st.integers(0, 0xFFFF))
def test_two_hosts_of_one_network_look_the_same(address: ipaddress.IPv4Address, host: int) -> None:
    other = ipaddress.IPv4Address(int(address) & 0xFFFF0000 | host)
    assert masked(str(address)) == masked(str(other))


@given(st.ip_addresses(v=6), st.integers(0, 2**96 - 1))
def test_two_hosts_of_one_ipv6_network_look_the_same(
    address: ipaddress.IPv6Address, host: int
) -> None:
    whole = int(address) | 1 << 127  # outside of mapped IPv4
    other = ipaddress.IPv6Address(whole >> 96 << 96 | host)
    assert masked(str(ipaddress.IPv6Address(whole))) == masked(str(other))
