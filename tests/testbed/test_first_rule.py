# SPDX-License-Identifier: BSD-3-Clause
"""The first rule that applies decides a packet, also where its act leaves the packet alone."""

from __future__ import annotations

import pytest

from midcall.testbed.conformance.run import policy_of, scene, virtual
from midcall.testbed.conformance.scenarios import Scenario

RTP = 'match = { payload = ["rtp"] }'
SENT = 400


def deciders(first: str) -> tuple[int, int]:
    """Return how many packets arrived, and how many a rule dropped that drops every packet.

    first: the keys of the rule before it.
    """
    rules = f'[[rule]]\n{first}\n[[rule]]\n{RTP}\nact = "drop"\nscope = "packet"'
    one = Scenario("", "", rules, f"0.00 > udp relay:3478 rtp 172 x{SENT} 0.02")
    result = virtual(scene(one.scene), policy_of(one), one.access, 1)
    arrived = int((result.fates["arrival_time"] >= 0).sum())
    dropped = int((result.fates["rule"] == 1).sum())
    return arrived, dropped


@pytest.mark.parametrize(
    "act",
    [
        'act = "loss"\nloss = 0.3',
        'act = "corrupt"\nshare = 0.3',
        'act = "duplicate"\nshare = 0.3',
        'act = "reorder"\nshare = 0.3\ndelay_ms = 50',
        'act = "drop"\nway = "down"',
    ],
)
@pytest.mark.parametrize("scope", ["packet", "flow"])
def test_a_rule_decides_the_packets_that_its_act_leaves_alone(act: str, scope: str) -> None:
    arrived, dropped = deciders(f'{RTP}\n{act}\nscope = "{scope}"')
    assert dropped == 0
    assert arrived > SENT / 2


def test_media_rules_decide_set_up_too() -> None:
    rules = (
        '[[rule]]\nmatch = { protocol = "udp" }\nact = "drop-media"\nscope = "packet"\n'
        '[[rule]]\nmatch = { protocol = "udp" }\nact = "drop"\nscope = "packet"'
    )
    one = Scenario("", "", rules, "0.00 > udp relay:3478 stun-allocate\n0.10 > udp relay:3478 rtp")
    result = virtual(scene(one.scene), policy_of(one), one.access, 1)
    assert (result.fates["arrival_time"] >= 0).tolist() == [True, False]


def test_packets_that_do_not_meet_the_first_match_go_on() -> None:
    inspected = '{ payload = ["rtp"], one_in = 3 }'
    arrived, dropped = deciders(f'match = {inspected}\nact = "pass"\nscope = "packet"')
    assert arrived + dropped == SENT
    assert SENT / 4 < arrived < SENT / 2


def test_marked_packets_go_on() -> None:
    assert deciders(f'{RTP}\nact = "mark"\ncode_point = 8\nscope = "packet"') == (0, SENT)
