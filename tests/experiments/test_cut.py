# SPDX-License-Identifier: BSD-3-Clause
"""Cut captures: what is left of an item, and which calls are said to be left out."""

from __future__ import annotations

from midcall.captures.packets.pcap import read
from midcall.captures.truth import calls, labels
from midcall.captures.truth.catalogue import load
from midcall.captures.truth.paths import samples
from midcall.experiments.spec.corpus import Item
from midcall.experiments.spec.truncate import cut

NAME = "sample-whatsapp-audio"


def item() -> Item:
    capture = load().named(NAME)
    path = samples().folder / f"{NAME}.pcap"
    return Item(capture, path, calls.calls(capture.sha256), labels.labels(capture.sha256))


def test_without_seconds_nothing_is_cut() -> None:
    one = item()
    whole = read(one.path)
    assert cut(one, whole, None) == (one, whole, [])


def test_a_cut_has_fewer_packets_and_the_call_that_began() -> None:
    one = item()
    whole = read(one.path)
    part = cut(one, whole, 3.0)
    assert 0 < part.packets.total < whole.total
    assert [call.id for call in part.item.calls] == [call.id for call in one.calls]
    assert part.dropped == []


def test_a_call_that_begins_later_is_left_out_and_told() -> None:
    one = item()
    late = one.calls[0].model_copy(
        update={
            "id": "later", "media": [600], "setup": [], "control": [], "signalling": [],
            "gates": [], "alternatives": [],
        }
    )  # fmt: skip
    part = cut(one._replace(calls=[*one.calls, late]), read(one.path), 1.0)
    assert part.dropped == ["later"]
