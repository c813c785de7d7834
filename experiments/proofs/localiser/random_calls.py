# SPDX-License-Identifier: BSD-3-Clause
"""Random calls: scenes of a call with background traffic."""

from __future__ import annotations

import random
from collections.abc import Callable

NAMES = ("www.a.example", "call.b.example", "web.b.example", "a.example", "x.www.a.example")
HOSTS = ("relay", "peer", "other", "resolver")
#: Least and largest number of flows of one call.
FLOWS = (7, 12)

#: Draws the lines of one flow. Parameters: generator, the subscriber's port, start time in s.
Flow = Callable[[random.Random, int, float], list[str]]


def call(rng: random.Random) -> str:
    """Return a scene with ClientHellos of TLS and DTLS, STUN, voice, and other flows."""
    chosen = [tls, dtls, stun, voice, *rng.choices(FILL, k=rng.randint(*FLOWS) - 4)]
    rng.shuffle(chosen)
    lines: list[str] = []
    for number, flow in enumerate(chosen):
        lines += flow(rng, 40_010 + 3 * number + rng.randint(0, 2), round(rng.uniform(0, 4), 2))
    return "\n".join(lines)


def end(rng: random.Random, *usual: int) -> str:
    """Return a host and a port: one of the usual ports, or a random one."""
    return f"{rng.choice(HOSTS)}:{rng.choice((*usual, rng.randint(1024, 65_000)))}"


def name(rng: random.Random) -> str:
    """Return a name."""
    return rng.choice(NAMES)


def dns(rng: random.Random, near: int, begin: float) -> list[str]:
    """Return a question and its answer."""
    host, asked = f"{rng.choice(HOSTS)}:53/{near}", name(rng)
    return [f"{begin:.2f} > udp {host} question {asked}",
            f"{begin + 0.03:.2f} < udp {host} answer {asked}"]  # fmt: skip


def opened(host: str, begin: float) -> list[str]:
    """Return the handshake of a TCP flow."""
    return [f"{begin:.2f} > tcp {host} syn", f"{begin + 0.04:.2f} < tcp {host} syn-ack",
            f"{begin + 0.05:.2f} > tcp {host} ack"]  # fmt: skip


def tls(rng: random.Random, near: int, begin: float) -> list[str]:
    """Return a TLS flow with a name."""
    host = f"{end(rng, 443, 443, 5223)}/{near}"
    return [
        *opened(host, begin),
        f"{begin + 0.06:.2f} > tcp {host} tls-hello {name(rng)}",
        f"{begin + 0.10:.2f} < tcp {host} tls {rng.randint(300, 1200)}",
        f"{begin + 0.20:.2f} > tcp {host} tls {rng.randint(30, 300)} x{rng.randint(1, 8)} "
        f"{rng.choice((0.05, 0.4, 1.0))}",
    ]


def http(rng: random.Random, near: int, begin: float) -> list[str]:
    """Return an HTTP flow with a name."""
    host = f"{end(rng, 80, 80, 8080)}/{near}"
    return [*opened(host, begin), f"{begin + 0.06:.2f} > tcp {host} http {name(rng)}",
            f"{begin + 0.10:.2f} < tcp {host} page"]  # fmt: skip


def stun(rng: random.Random, near: int, begin: float) -> list[str]:
    """Return STUN messages of several methods and attributes, some of them answered."""
    host = f"{end(rng, 3478, 3478, 19302)}/{near}"
    lines, at = [], begin
    for _ in range(rng.randint(1, 5)):
        word = rng.choice(("binding", "allocate", "refresh", "channel-bind", "send"))
        about = rng.choice(("", "0006", "4000", "0012", "8022"))
        lines.append(f"{at:.2f} > udp {host} stun-{word} {about}".rstrip())
        if rng.random() < 0.6:
            about = rng.choice(("", "0020", "4002"))
            lines.append(f"{at + 0.04:.2f} < udp {host} stun-{word}-answer {about}".rstrip())
        at += rng.choice((0.05, 0.2, 0.7))
    return lines


def dtls(rng: random.Random, near: int, begin: float) -> list[str]:
    """Return the beginning of a DTLS handshake."""
    host = f"{end(rng)}/{near}"
    return [f"{begin:.2f} > udp {host} dtls-hello",
            f"{begin + 0.08:.2f} < udp {host} dtls {rng.randint(60, 700)} "
            f"x{rng.randint(1, 4)} 0.1"]  # fmt: skip


def voice(rng: random.Random, near: int, begin: float) -> list[str]:
    """Return RTP in both directions, perhaps with RTCP."""
    host, pace = f"{end(rng, 3478)}/{near}", rng.choice((0.02, 0.03, 0.06))
    size, count = rng.randint(40, 300), rng.randint(10, 45)
    lines = [f"{begin:.2f} > udp {host} rtp {size} x{count} {pace}",
             f"{begin + 0.01:.2f} < udp {host} rtp {size} x{count} {pace}"]  # fmt: skip
    return [*lines, f"{begin + 0.5:.2f} < udp {host} rtcp"] if rng.random() < 0.5 else lines


def quic(rng: random.Random, near: int, begin: float) -> list[str]:
    """Return a QUIC Initial with a ClientHello, and packets after it."""
    host = f"{end(rng, 443)}/{near}"
    return [f"{begin:.2f} > udp {host} quic-hello",
            f"{begin + 0.1:.2f} > udp {host} noise {rng.randint(300, 1200)} x3 0.1"]  # fmt: skip


def sip(rng: random.Random, near: int, begin: float) -> list[str]:
    """Return an INVITE."""
    return [f"{begin:.2f} > udp {end(rng, 5060, 5060)}/{near} sip"]


def channel(rng: random.Random, near: int, begin: float) -> list[str]:
    """Return TURN ChannelData."""
    return [f"{begin:.2f} > udp {end(rng, 3478, 3479)}/{near} channel"]


def noise(rng: random.Random, near: int, begin: float) -> list[str]:
    """Return packets of random octets or of zeros."""
    word, count = rng.choice(("noise", "noise", "zeros")), rng.randint(3, 20)
    return [f"{begin:.2f} > udp {end(rng, 51820)}/{near} {word} {rng.randint(20, 1000)} "
            f"x{count} {rng.choice((0.01, 0.05, 0.5, 2.0))}"]  # fmt: skip


FILL: tuple[Flow, ...] = (dns, dns, http, tls, stun, voice, quic, sip, channel, noise, noise)
