# SPDX-License-Identifier: BSD-3-Clause
"""The names that a pack keeps: those that the classifier's rules read, and no others."""

from __future__ import annotations

import ast
import inspect
import ipaddress
import itertools
import re

import pytest

from midcall.captures.own.pseudonyms import Pseudonyms
from midcall.captures.own.public_names import in_text, public_names, server_lists
from midcall.classifier.apps import realms
from midcall.classifier.state.hostnames import NAMES


def test_the_suffixes_are_those_of_the_classifier() -> None:
    assert sorted(public_names().suffixes) == sorted(suffix for suffix, _, _ in NAMES)


def test_the_realms_are_those_of_the_classifier() -> None:
    texts = {
        node.value.decode()
        for node in ast.walk(ast.parse(inspect.getsource(realms)))
        if isinstance(node, ast.Constant) and isinstance(node.value, bytes)
    }
    assert sorted(public_names().realms) == sorted(texts)


def test_the_networks_are_public_and_apart() -> None:
    nets = [*public_names().networks(), *public_names().cloud_networks()]
    assert all(net.is_global for net in nets)
    for version in (4, 6):
        of_version = sorted(
            (net for net in nets if net.version == version), key=lambda net: net.network_address
        )
        for one, other in itertools.pairwise(of_version):
            assert not one.overlaps(other), f"{one} and {other}"  # type: ignore[arg-type]


def test_other_services_are_not_repeated() -> None:
    names = public_names()
    every = [*names.suffixes, *names.services]
    assert len(set(every)) == len(every)
    assert all(re.fullmatch(r"[a-z0-9.-]+", one) for one in every)
    assert names.jobs.keys() <= set(every)


def addresses_of(net: str, count: int) -> list[bytes]:
    """Return the first addresses of a network, packed."""
    return [one.packed for one in itertools.islice(ipaddress.ip_network(net).hosts(), count)]


@pytest.mark.parametrize("octets", [False, True])
@pytest.mark.parametrize("net", public_names().clouds[::60])
def test_of_a_cloud_24_bits_stay_and_the_rest_is_mapped(net: str, octets: bool) -> None:
    names = Pseudonyms(b"key", octets)
    own = addresses_of(net, 40)
    images = [names.address(one) for one in own]
    assert [one[:3] for one in images] == [one[:3] for one in own]
    assert len(set(images)) == len(own)
    assert sum(one == image for one, image in zip(own, images, strict=True)) < len(own) / 2
    coarse = Pseudonyms(b"key", octets, {str(ipaddress.ip_network(net)): 1})
    assert {coarse.address(one) for one in own} != set(images)


@pytest.mark.parametrize("octets", [False, True])
@pytest.mark.parametrize("name", sorted(server_lists()))
def test_a_server_becomes_another_one_of_its_list(name: str, octets: bool) -> None:
    names = Pseudonyms(b"key", octets)
    own = {number.to_bytes(4, "big") for number in server_lists()[name]}
    images = {names.address(one) for one in own}
    assert images == own
    assert names.kept_prefixes == {f"servers of {name}"}
    for net in public_names().networks()[::5]:  # no other address becomes one of them
        if net.version == 4:
            for one in set(addresses_of(str(net), 20)) - own:
                assert names.address(one) not in own


def test_the_longest_kept_suffix_counts() -> None:
    names = public_names()
    assert names.kept_suffix(b"a.voip.signal.org") == b"voip.signal.org"
    assert names.kept_suffix(b"whatsapp.net") == b"whatsapp.net"
    assert names.kept_suffix(b"notwhatsapp.net") == b""
    assert names.kept_suffix(b"whatsapp.net.example.org") == b""


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        (b"Host: e1.whatsapp.net\r\n", b"whatsapp.net"),
        (b"*.webex.com", b"webex.com"),
        (b"notwhatsapp.net", None),
        (b"whatsapp.net.example.org", None),
    ],
)
def test_a_kept_name_is_found_in_a_text(text: bytes, kept: bytes | None) -> None:
    hit = in_text().search(text)
    assert (hit[2] if hit else None) == kept


def test_no_kept_network_is_one_of_private_addresses() -> None:
    for text in ("10.0.0.0/8", "192.168.0.0/16", "100.64.0.0/10"):
        private = ipaddress.ip_network(text)
        assert not any(
            net.version == 4 and net.overlaps(private) for net in public_names().networks()
        )
