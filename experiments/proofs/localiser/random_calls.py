# SPDX-License-Identifier: BSD-3-Clause
"""Drawn calls: scenes of a call and what goes on beside it, put together by chance."""

from __future__ import annotations

import random
from collections.abc import Callable

NAMES = ("www.a.example", "call.b.example", "web.b.example", "a.example", "x.www.a.example")
HOSTS = ("relay", "peer", "other", "resolver")
#: Flows of one call, at least and at most.
FLOWS = (7, 12)

#: Draws the lines of one flow; near: its own port, begin: when it begins, in s.
Flow = Callable[[random.Random, int, float], list[str]]


def call(dice: random.Random) -> str:
    """Return a scene: a hello of TLS and of DTLS, STUN, voice, and other flows."""
    chosen = [tls, dtls, stun, voice, *dice.choices(FILL, k=dice.randint(*FLOWS) - 4)]
    dice.shuffle(chosen)
    lines: list[str] = []
    for number, flow in enumerate(chosen):
        lines += flow(dice, 40_010 + 3 * number + dice.randint(0, 2), round(dice.uniform(0, 4), 2))
    return "\n".join(lines)


def end(dice: random.Random, *usual: int) -> str:
    """Return a host and a port: a usual one, or any."""
    return f"{dice.choice(HOSTS)}:{dice.choice((*usual, dice.randint(1024, 65_000)))}"


def name(dice: random.Random) -> str:
    """Return a name."""
    return dice.choice(NAMES)


def dns(dice: random.Random, near: int, begin: float) -> list[str]:
    """Return a question and its answer."""
    host, asked = f"{dice.choice(HOSTS)}:53/{near}", name(dice)
    return [f"{begin:.2f} > udp {host} question {asked}",
            f"{begin + 0.03:.2f} < udp {host} answer {asked}"]  # fmt: skip


def opened(host: str, begin: float) -> list[str]:
    """Return the handshake of a TCP flow."""
    return [f"{begin:.2f} > tcp {host} syn", f"{begin + 0.04:.2f} < tcp {host} syn-ack",
            f"{begin + 0.05:.2f} > tcp {host} ack"]  # fmt: skip


def tls(dice: random.Random, near: int, begin: float) -> list[str]:
    """Return a TLS flow with a name."""
    host = f"{end(dice, 443, 443, 5223)}/{near}"
    return [
        *opened(host, begin),
        f"{begin + 0.06:.2f} > tcp {host} tls-hello {name(dice)}",
        f"{begin + 0.10:.2f} < tcp {host} tls {dice.randint(300, 1200)}",
        f"{begin + 0.20:.2f} > tcp {host} tls {dice.randint(30, 300)} x{dice.randint(1, 8)} "
        f"{dice.choice((0.05, 0.4, 1.0))}",
    ]


def http(dice: random.Random, near: int, begin: float) -> list[str]:
    """Return an HTTP flow with a name."""
    host = f"{end(dice, 80, 80, 8080)}/{near}"
    return [*opened(host, begin), f"{begin + 0.06:.2f} > tcp {host} http {name(dice)}",
            f"{begin + 0.10:.2f} < tcp {host} page"]  # fmt: skip


def stun(dice: random.Random, near: int, begin: float) -> list[str]:
    """Return STUN of several methods and attributes, some of it answered."""
    host = f"{end(dice, 3478, 3478, 19302)}/{near}"
    lines, at = [], begin
    for _ in range(dice.randint(1, 5)):
        word = dice.choice(("binding", "allocate", "refresh", "channel-bind", "send"))
        about = dice.choice(("", "0006", "4000", "0012", "8022"))
        lines.append(f"{at:.2f} > udp {host} stun-{word} {about}".rstrip())
        if dice.random() < 0.6:
            about = dice.choice(("", "0020", "4002"))
            lines.append(f"{at + 0.04:.2f} < udp {host} stun-{word}-answer {about}".rstrip())
        at += dice.choice((0.05, 0.2, 0.7))
    return lines


def dtls(dice: random.Random, near: int, begin: float) -> list[str]:
    """Return a DTLS handshake's beginning."""
    host = f"{end(dice)}/{near}"
    return [f"{begin:.2f} > udp {host} dtls-hello",
            f"{begin + 0.08:.2f} < udp {host} dtls {dice.randint(60, 700)} "
            f"x{dice.randint(1, 4)} 0.1"]  # fmt: skip


def voice(dice: random.Random, near: int, begin: float) -> list[str]:
    """Return RTP both ways, perhaps with RTCP."""
    host, pace = f"{end(dice, 3478)}/{near}", dice.choice((0.02, 0.03, 0.06))
    size, count = dice.randint(40, 300), dice.randint(10, 45)
    lines = [f"{begin:.2f} > udp {host} rtp {size} x{count} {pace}",
             f"{begin + 0.01:.2f} < udp {host} rtp {size} x{count} {pace}"]  # fmt: skip
    return [*lines, f"{begin + 0.5:.2f} < udp {host} rtcp"] if dice.random() < 0.5 else lines


def quic(dice: random.Random, near: int, begin: float) -> list[str]:
    """Return a QUIC hello and what follows it."""
    host = f"{end(dice, 443)}/{near}"
    return [f"{begin:.2f} > udp {host} quic-hello",
            f"{begin + 0.1:.2f} > udp {host} noise {dice.randint(300, 1200)} x3 0.1"]  # fmt: skip


def sip(dice: random.Random, near: int, begin: float) -> list[str]:
    """Return an INVITE."""
    return [f"{begin:.2f} > udp {end(dice, 5060, 5060)}/{near} sip"]


def channel(dice: random.Random, near: int, begin: float) -> list[str]:
    """Return TURN ChannelData."""
    return [f"{begin:.2f} > udp {end(dice, 3478, 3479)}/{near} channel"]


def noise(dice: random.Random, near: int, begin: float) -> list[str]:
    """Return packets of no order, or zeros."""
    word, count = dice.choice(("noise", "noise", "zeros")), dice.randint(3, 20)
    return [f"{begin:.2f} > udp {end(dice, 51820)}/{near} {word} {dice.randint(20, 1000)} "
            f"x{count} {dice.choice((0.01, 0.05, 0.5, 2.0))}"]  # fmt: skip


FILL: tuple[Flow, ...] = (dns, dns, http, tls, stun, voice, quic, sip, channel, noise, noise)
