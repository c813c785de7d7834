# SPDX-License-Identifier: BSD-3-Clause
"""Copies of a recording, whatever was done to them, are one session (D17)."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from midcall.captures.own.anonymise import anonymised
from midcall.captures.packets.pcap import Packets, read
from midcall.captures.truth.catalogue import load
from midcall.captures.truth.paths import samples
from midcall.experiments.spec.copies import are_copies, one_session, payloads
from midcall.experiments.spec.corpus import Item


def item(name: str, group: str, added: bool) -> Item:
    known = load(local=False).named("sample-whatsapp-audio")
    result = {"name": name, "group": group, "added": added, "sha256": name * 8}
    return Item(known.model_copy(update=result), Path("x"), [], [])


def whole(name: str = "sample-whatsapp-audio") -> Packets:
    return read(samples().folder / load(local=False).named(name).file)


DONE: list[Callable[[Packets], Packets]] = [
    anonymised,
    lambda packets: packets._replace(time=packets.time + 86_400_000_000_000),
    lambda packets: packets.take(slice(0, packets.total * 2 // 3)),
]


@pytest.mark.parametrize("done", DONE)
def test_an_added_copy_is_of_the_session_of_what_it_copies(
    done: Callable[[Packets], Packets],
) -> None:
    packets = whole()
    items = [item("a", "public", False), item("b", "mine", True), item("c", "again", True)]
    held = {"a" * 8: packets, "b" * 8: done(packets), "c" * 8: whole("sample-viber-audio")}
    groups = [one.capture.group for one in one_session(items, held)]
    assert groups == ["public", "public", "again"]
    twice = one_session(items[1:], {"b" * 8: packets, "c" * 8: done(packets)})
    assert [one.capture.group for one in twice] == ["mine", "mine"]


def test_other_calls_of_one_app_are_no_copies() -> None:
    one, other = payloads(whole()), payloads(whole("sample-whatsapp-video"))
    assert are_copies(one, one)
    assert not are_copies(one, other)
