# SPDX-License-Identifier: BSD-3-Clause
"""A capture with pseudonyms for everything that tells about people, under a key that is lost."""

from __future__ import annotations

import secrets
from typing import NamedTuple

from midcall.captures.own.payload_pseudonyms import has_written_address
from midcall.captures.own.pseudonyms import DENSE, SERVERS, Pseudonyms
from midcall.captures.own.shared_packets import LINKS, SharedPackets
from midcall.captures.packets.pcap import Packets
from midcall.errors import CaptureError

#: Tries to find salts under which no image is an address of the capture.
TRIES = 200


class Shared(NamedTuple):
    """Mapped packets, and what was mapped and changed."""

    packets: Packets
    names: Pseudonyms
    mapper: SharedPackets


def shared(packets: Packets, shift_days: int = 0, key: bytes | None = None) -> Shared:
    """Return the packets of a capture with addresses, names and tokens mapped; key None: random.

    Raises CaptureError for a link type whose frames are not understood.
    """
    strange = sorted({int(link) for link in packets.link} - set(LINKS))
    if strange:
        raise CaptureError(
            f"frames of link type {strange[0]} are not understood, so nothing in them can be "
            f"mapped; expected one of {', '.join(map(str, LINKS))}"
        )
    key = key if key is not None else secrets.token_bytes(32)
    octets = any(has_written_address(packets.frame(i)) for i in range(packets.total))
    names = Pseudonyms(key, octets)
    mapper = SharedPackets(packets, names, shift_days)
    result = mapper.result()
    salts = fresh_salts(names, key, octets)
    if salts:
        names = Pseudonyms(key, octets, salts)
        mapper = SharedPackets(packets, names, shift_days)
        result = mapper.result()
    return Shared(result, names, mapper)


def fresh_salts(names: Pseudonyms, key: bytes, octets: bool) -> dict[str, int]:
    """Return salts under which no image of an address is itself an address of the capture."""
    originals = list(names.images.get("addresses", {}))
    salts: dict[str, int] = {}
    best: tuple[int, dict[str, int]] = (len(originals) + 1, {})
    for _ in range(TRIES):
        trial = Pseudonyms(key, octets, salts)
        for address in originals:
            trial.address(address)
        colliding = list(trial.collisions())
        if len(colliding) < best[0]:
            best = (len(colliding), dict(salts))
        if not colliding:
            break
        places = {(trial.block(one).text, trial.network(one).text) for one in colliding}
        for text, network in places:
            salts[text] = salts.get(text, 0) + 1
            if text != network and salts[text] >= DENSE and not text.startswith(SERVERS):
                salts[network] = 1
    return best[1]
