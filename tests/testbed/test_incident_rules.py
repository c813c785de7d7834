# SPDX-License-Identifier: BSD-3-Clause
"""What the shipped rules of the incidents of 2023 to 2026 do to packets.

Each call is played between two pairs of sockets: which packets still arrive. What users said of the
incidents, and whole calls under the same rules, are in experiments/probe/incidents.toml.
"""

from __future__ import annotations

import datetime
import ipaddress
from typing import NamedTuple

import pytest

from midcall.captures.packets.numbers import TCP, UDP
from midcall.errors import ExperimentError
from midcall.experiments.localise.messages import exemplars, noise
from midcall.experiments.spec.policy_names import policy_named
from midcall.testbed.probing.probe import Ends, Probe, Sent
from midcall.testbed.probing.sockets import play
from midcall.testbed.probing.virtual_line import VirtualSockets

MS = 1_000_000
NEAR, ANYWHERE = bytes([198, 18, 0, 1]), bytes([203, 0, 113, 5])
TELEGRAM = ipaddress.ip_address("149.154.167.50").packed
MESSAGES, STREAMS = exemplars(UDP), exemplars(TCP)


def flow(proto: int = UDP, port: int = 3478, far: bytes = ANYWHERE) -> Ends:
    return Ends(proto, NEAR, 40_000, far, port)


def both_ways(ends: Ends, bodies: list[bytes], count: int = 30, begin: int = 0) -> Probe:
    return tuple(
        Sent(begin + n * 20 * MS, n % 2 == 0, ends, bodies[n % len(bodies)][:-2] + bytes([n, 7]))
        for n in range(count)
    )


def dtls(size: int) -> bytes:
    return b"\x17\xfe\xfd" + bytes(8) + (size - 13).to_bytes(2, "big") + noise(size - 13, "record")


VOICE = both_ways(flow(), [MESSAGES["rtp"]])
STUN = (Sent(0, True, flow(), MESSAGES["stun binding"]),)
CALL = (*STUN, *(one._replace(time=one.time + 50 * MS) for one in VOICE))
TCP_CALL = tuple(one._replace(ends=flow(TCP)) for one in CALL)
HELLO = (Sent(0, True, flow(port=50_000), MESSAGES["dtls-hello"]),)
SRTP = both_ways(flow(port=50_000), [MESSAGES["rtp"]], begin=50 * MS)


class Case(NamedTuple):
    """The packets, the rule, and the least and largest share that arrives: of all packets behind
    the first, upwards and downwards."""

    words: str
    policy: str
    plan: Probe
    up: tuple[float, float]
    down: tuple[float, float]
    date: datetime.date | None = None


ALL, NONE = (1.0, 1.0), (0.0, 0.0)
MARCH = datetime.date(2026, 3, 30)
CASES = [
    Case("a call over UDP begins with STUN", "russia-2025-08/stun-everywhere", CALL, NONE, NONE),
    Case("the same call over TCP", "russia-2025-08/stun-everywhere", TCP_CALL, ALL, ALL),
    Case("media without STUN before them", "russia-2025-08/stun-everywhere", VOICE,
              ALL, ALL),
    Case("QUIC", "russia-2025-08/stun-everywhere",
              both_ways(flow(port=443), [MESSAGES["quic"]], 8), ALL, ALL),
    Case("junk before STUN",
              "russia-2025-08/stun-everywhere",
              (Sent(0, True, flow(), noise(50, "junk")),
               *(one._replace(time=one.time + 30 * MS) for one in CALL)), NONE, NONE),
    Case("media at Telegram's relays", "russia-2025-08/stun-and-lists",
              both_ways(flow(port=1400, far=TELEGRAM), [noise(120, "reflector")], 200),
              (0.3, 0.95), (0.3, 0.95)),
    Case("a call at other relays", "russia-2025-08/stun-and-lists", CALL, ALL, ALL),
    Case("encrypted UDP", "russia-2025-12/udp-allow-list",
              both_ways(flow(port=51_820), [noise(90, "wireguard")]), NONE, NONE),
    Case("a call over TCP", "russia-2025-12/udp-allow-list", TCP_CALL, ALL, ALL),
    Case("QUIC on a mobile network", "russia-2025-12/udp-allow-list",
              both_ways(flow(port=443), [MESSAGES["quic"]], 8), ALL, ALL),
    Case("UDP on NTP's port", "russia-2025-12/udp-allow-list",
              both_ways(flow(port=123), [noise(48, "time")]), ALL, ALL),
    Case("media at Telegram's addresses, upwards alone", "russia-2026-03/upstream-loss",
              both_ways(flow(port=1400, far=TELEGRAM), [noise(120, "reflector")], 200),
              (0.5, 0.9), ALL),
    Case("SRTP behind a DTLS hello", "russia-2026-03/dtls-hello",
              (*HELLO, *SRTP), (0.05, 0.4), (0.05, 0.4), MARCH),
    Case("SRTP without DTLS", "russia-2026-03/dtls-hello", SRTP, ALL, ALL, MARCH),
    Case("large DTLS records", "china-2023/large-dtls",
              both_ways(flow(), [dtls(900)]), NONE, NONE),
    Case("small DTLS records", "china-2023/large-dtls", both_ways(flow(), [dtls(150)]),
              ALL, ALL),
    Case("DTLS records of any size", "china-2023/half-of-dtls",
              both_ways(flow(), [dtls(150)], 200), (0.3, 0.7), (0.3, 0.7)),
]  # fmt: skip


@pytest.mark.parametrize("one", CASES, ids=lambda one: one.words)
def test_packets_arrive_as_the_rule_says(one: Case) -> None:
    played = None
    for access in ("4g", "wifi"):
        try:
            policy = policy_named(one.policy, access, one.date)
        except ExperimentError:  # not in force on this access network
            continue
        played = play(VirtualSockets(policy, access, 7, ideal=True), one.plan, 1_500 * MS)
        break
    assert played is not None, f"{one.policy} is in force nowhere"
    for up, (low, high) in ((True, one.up), (False, one.down)):
        own = [at for at in range(1, len(one.plan)) if one.plan[at].up == up]
        share = sum(played.arrived[at] >= 0 for at in own) / len(own)
        assert low <= share <= high, f"{'up' if up else 'down'}: {share:.2f}"
