# SPDX-License-Identifier: GPL-2.0-or-later
"""A DNS lookup as a scene shows it: a question and its answer."""

from __future__ import annotations

from midcall.captures.synthetic.scene import Scene, Sent, Truth, Udp
from midcall.captures.wire.dns import AAAA, A, answer, question
from midcall.captures.wire.host import Host, resolver
from midcall.captures.wire.seeded import MS


def lookup(
    scene: Scene, at: int, client: Host, name: str, host: Host, truth: Truth | None = None
) -> tuple[Sent, Sent]:
    """Ask for a name and get its address; return question and answer."""
    dice = scene.dice.child(f"dns {name} {at}")
    flow: Udp = scene.udp(
        client,
        dice.number(49152, 65535),
        resolver(),
        53,
        truth or Truth("none", "other", f"DNS lookup of {name}"),
    )
    ident = dice.number(0, 65535)
    kind = AAAA if host.version == 6 else A
    asked = flow.up(at, question(ident, name, kind))
    answered = flow.down(at + dice.number(8, 40) * MS, answer(ident, name, host))
    return asked, answered
