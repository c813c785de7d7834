# SPDX-License-Identifier: GPL-2.0-or-later
"""Tunnels: one short innocent flow in every envelope, to prove that each is opened."""

from __future__ import annotations

import numpy as np

from midcall.captures.packets.pcap import Packets
from midcall.captures.synthetic.encapsulate import (
    ENVELOPES,
    ENVELOPES_OF_IPV6,
    ETHERNET,
    Envelope,
    envelope,
)
from midcall.captures.synthetic.scene import Crafted, Scene, Truth
from midcall.captures.wire.host import Host, phone, server
from midcall.captures.wire.seeded import MS, SECOND

PAYLOADS = (24, 60, 40, 120, 16, 32)  # up and down in turn
LONG = (24, 60, 1300, 120, 1400, 32)  # for what is cut in fragments

PHONE6, SERVER6 = Host("2001:2::12", True), Host("2001:2::99")


def tour(name: str, epoch: int) -> Crafted:
    """Return a capture with one flow of six packets per envelope, one after the other."""
    places = [(each, phone(0x1301), server(0x0D00)) for each in ENVELOPES]
    sixes = [*ENVELOPES_OF_IPV6, ETHERNET, envelope("gtp-u"), envelope("fragments")]
    places += [(each, PHONE6, SERVER6) for each in sixes]
    return splice(
        [
            visit(f"{name} {number}", epoch + number * SECOND, 40_000 + number, place)
            for number, place in enumerate(places)
        ]
    )


def visit(name: str, epoch: int, port: int, place: tuple[Envelope, Host, Host]) -> Crafted:
    """Return one flow in one envelope."""
    how, client, host = place
    scene = Scene(name, epoch)
    evidence = f"telemetry in {how.name}, IPv{client.version} inside"
    flow = scene.udp(client, port, host, 7400, Truth("none", "other", evidence))
    for number, size in enumerate(LONG if how.name == "fragments" else PAYLOADS):
        flow.either(epoch + number * 40 * MS, number % 2 == 0, b"telemetry" + bytes(size - 9))
    return scene.develop(how)


def splice(parts: list[Crafted]) -> Crafted:
    """Return the concatenation of captures; frame numbers of labels are adapted."""
    offsets = np.cumsum([0, *(len(part.packets.data) for part in parts)])
    frames = np.cumsum([0, *(part.packets.total for part in parts)])
    columns = [np.concatenate([part.packets[column] for part in parts]) for column in range(1, 6)]
    columns[0] = np.concatenate(
        [part.packets.offset + start for part, start in zip(parts, offsets, strict=False)]
    )
    data = np.concatenate([part.packets.data for part in parts])
    labels = [
        label._replace(frame=label.frame + int(start))
        for part, start in zip(parts, frames, strict=False)
        for label in part.labels
    ]
    return Crafted(Packets(data, *columns), labels, [])
