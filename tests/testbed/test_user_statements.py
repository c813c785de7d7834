# SPDX-License-Identifier: BSD-3-Clause
"""What users said about the blocks of 2023 to 2026, as regression tests of the shipped rules.

Each statement is played between two pairs of sockets: which packets still arrive, and which
work-around that users reported revives the call. Sources: remittor/zapret-openwrt#377 and #520,
Waujito/youtubeUnblock#265 and #269 (Russia, August 2025); net4people/bbs#546 (December 2025) and
#603 (March 2026); china-2023 as the operator's file says.
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


class Statement(NamedTuple):
    """What a user said, the rule, the packets, and the least and largest share that arrives: of all
    packets behind the first, upwards and downwards."""

    words: str
    policy: str
    plan: Probe
    up: tuple[float, float]
    down: tuple[float, float]
    date: datetime.date | None = None


ALL, NONE = (1.0, 1.0), (0.0, 0.0)
MARCH = datetime.date(2026, 3, 30)
STATEMENTS = [
    Statement("calls do not connect", "russia-2025-08/stun-everywhere", CALL, NONE, NONE),
    Statement("works when forced to TCP", "russia-2025-08/stun-everywhere", TCP_CALL, ALL, ALL),
    Statement("media without STUN before it passes", "russia-2025-08/stun-everywhere", VOICE,
              ALL, ALL),
    Statement("the site works, over QUIC too", "russia-2025-08/stun-everywhere",
              both_ways(flow(port=443), [MESSAGES["quic"]], 8), ALL, ALL),
    Statement("junk before STUN does not help where every packet is read",
              "russia-2025-08/stun-everywhere",
              (Sent(0, True, flow(), noise(50, "junk")),
               *(one._replace(time=one.time + 30 * MS) for one in CALL)), NONE, NONE),
    Statement("voice breaks up in Telegram's relays", "russia-2025-08/stun-and-lists",
              both_ways(flow(port=1400, far=TELEGRAM), [noise(120, "reflector")], 200),
              (0.3, 0.95), (0.3, 0.95)),
    Statement("other relays are not hit", "russia-2025-08/stun-and-lists", CALL, ALL, ALL),
    Statement("all unknown UDP is dropped on mobile", "russia-2025-12/udp-allow-list",
              both_ways(flow(port=51_820), [noise(90, "wireguard")]), NONE, NONE),
    Statement("Zoom lives by TCP", "russia-2025-12/udp-allow-list", TCP_CALL, ALL, ALL),
    Statement("QUIC and DNS work", "russia-2025-12/udp-allow-list",
              both_ways(flow(port=443), [MESSAGES["quic"]], 8), ALL, ALL),
    Statement("what looks like NTP by its port passes", "russia-2025-12/udp-allow-list",
              both_ways(flow(port=123), [noise(48, "time")]), ALL, ALL),
    Statement("they do not hear me, I hear them", "russia-2026-03/upstream-loss",
              both_ways(flow(port=1400, far=TELEGRAM), [noise(120, "reflector")], 200),
              (0.5, 0.9), ALL),
    Statement("the call connects and dies after a moment", "russia-2026-03/dtls-hello",
              (*HELLO, *SRTP), (0.05, 0.4), (0.05, 0.4), MARCH),
    Statement("a call without DTLS lives", "russia-2026-03/dtls-hello", SRTP, ALL, ALL, MARCH),
    Statement("connected, no video: large records are dropped", "china-2023/large-dtls",
              both_ways(flow(), [dtls(900)]), NONE, NONE),
    Statement("small records pass", "china-2023/large-dtls", both_ways(flow(), [dtls(150)]),
              ALL, ALL),
    Statement("half of all records are lost", "china-2023/half-of-dtls",
              both_ways(flow(), [dtls(150)], 200), (0.3, 0.7), (0.3, 0.7)),
]  # fmt: skip


@pytest.mark.parametrize("one", STATEMENTS, ids=lambda one: one.words)
def test_a_statement_of_a_user_holds(one: Statement) -> None:
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
