# SPDX-License-Identifier: BSD-3-Clause
"""The names that a pack keeps: those that the classifier's rules read, and no others."""

from __future__ import annotations

import ast
import inspect
import ipaddress
import itertools

import pytest

from midcall.captures.own.public_names import in_text, public_names
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
    nets = public_names().networks()
    assert all(net.is_global for net in nets)
    for version in (4, 6):
        of_version = sorted(
            (net for net in nets if net.version == version), key=lambda net: net.network_address
        )
        for one, other in itertools.pairwise(of_version):
            assert not one.overlaps(other), f"{one} and {other}"  # type: ignore[arg-type]


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
