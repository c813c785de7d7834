# SPDX-License-Identifier: GPL-2.0-or-later
"""Tunnels: one short innocent flow in every encapsulation, to test that each is decapsulated.

The module `encapsulate` calls an encapsulation an envelope.
"""

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

#: Payload sizes of a flow's packets in bytes; the directions alternate, up first.
PAYLOADS = (24, 60, 40, 120, 16, 32)
#: The same for the envelope "fragments": two of these packets are too large for one fragment.
LONG = (24, 60, 1300, 120, 1400, 32)

PHONE6, SERVER6 = Host("2001:2::12", True), Host("2001:2::99")


def tour(name: str, epoch: int) -> Crafted:
    """Return a capture with one flow of six packets per envelope; a flow begins each second.

    epoch: the start of the capture, in ns.
    """
    cases = [(each, phone(0x1301), server(0x0D00)) for each in ENVELOPES]
    with_ipv6 = [*ENVELOPES_OF_IPV6, ETHERNET, envelope("gtp-u"), envelope("fragments")]
    cases += [(each, PHONE6, SERVER6) for each in with_ipv6]
    return concatenated(
        [
            flow_in_envelope(f"{name} {number}", epoch + number * SECOND, 40_000 + number, case)
            for number, case in enumerate(cases)
        ]
    )


def flow_in_envelope(
    name: str, epoch: int, port: int, case: tuple[Envelope, Host, Host]
) -> Crafted:
    """Return a capture of one flow; case: its envelope, client and server; port: the client's."""
    wrapping, client, host = case
    scene = Scene(name, epoch)
    evidence = f"telemetry in {wrapping.name}, IPv{client.version} inside"
    flow = scene.udp(client, port, host, 7400, Truth("none", "other", evidence))
    for number, size in enumerate(LONG if wrapping.name == "fragments" else PAYLOADS):
        flow.either(epoch + number * 40 * MS, number % 2 == 0, b"telemetry" + bytes(size - 9))
    return scene.develop(wrapping)


def concatenated(parts: list[Crafted]) -> Crafted:
    """Return one capture of several; each label gets its frame number in the joined capture."""
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
