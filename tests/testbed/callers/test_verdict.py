# SPDX-License-Identifier: BSD-3-Clause
"""The verdict on a live call, from what programs say: each word has a call that earns it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from midcall.testbed.policy.language import Rule
from midcall.testbed.policy.operator import EMPTY, Policy
from midcall.testbed.programs.calls.media_direction import (
    UP,
    by_report,
    is_media,
    paired,
    udp,
    ways,
)
from midcall.testbed.programs.calls.plan import Plan
from midcall.testbed.programs.calls.report import (
    CALLEE,
    CALLER,
    Account,
    Candidate,
    End,
    Pair,
    Sample,
    State,
    Stream,
)
from midcall.testbed.programs.calls.verdict import Called, judge

PLAN = Plan(seconds=8, path="any")
HOST = Candidate("host", "198.19.1.1", 5000, "udp")
RULE = {"name": "strike", "act": "drop", "grade": "D", "source": "made up for this test"}
POLICY = Policy((Rule.model_validate(RULE | {"match": {"protocol": "udp"}}),))
NAMES = Policy((Rule.model_validate(RULE | {"match": {"name": ["*.example"]}}),))


def end(name: str, until: float = 8.0, share: float = 1.0, relay: str = "") -> End:
    """Return an end that received 50 packets a second from its connection until a moment."""
    local = replace(HOST, kind="relay", relay=relay) if relay else HOST
    samples = [
        Sample(0.5 + 0.25 * i, audio=int(50 * share * min(0.25 * i, until))) for i in range(34)
    ]
    return End(
        name,
        "198.18.1.1",
        states=(State(0.5, "connection", "connected"),),
        pairs=(Pair(local, HOST, 0.6),),
        samples=tuple(samples),
        streams=(
            Stream("audio", True, sent=400, round_trip_ms=40.0),
            Stream("audio", False, received=samples[-1].audio, jitter_ms=1.0, heard_s=8.0),
        ),
    )


def called(caller: End, callee: End, met: int = 7, **more: object) -> Called:
    account = Account(PLAN, True, 0, 8.5, (caller, callee), **more)  # type: ignore[arg-type]
    nothing = np.zeros(0, [("tap", "u1"), ("out", "?"), ("stamp", "i8"), ("at", "i8"),
                           ("size", "i4")])  # fmt: skip
    by_stream = replace(
        account, ends=(replace(caller, pairs=end(CALLER, relay="tls").pairs), callee)
    )
    return Called(account, ways(by_stream, nothing, np.zeros(0, np.uint8)), {"strike": met})


CONTROL = called(end(CALLER), end(CALLEE), met=0)


def test_a_call_that_a_policy_leaves_alone_is_ok() -> None:
    result = judge(called(end(CALLER), end(CALLEE), met=0), CONTROL, POLICY)
    assert (result.verdict, result.blocked, result.rule, result.path) == ("OK", False, None, "peer")


@pytest.mark.parametrize(
    ("caller", "callee", "word"),
    [
        (end(CALLER, until=0), end(CALLEE, until=0), "CONNECTED_NO_MEDIA"),
        (end(CALLER), end(CALLEE, until=0), "ONE_WAY"),
        (end(CALLER), end(CALLEE, until=2), "CUT"),
        (end(CALLER, share=0.7), end(CALLEE), "DEGRADED"),
        (end(CALLER, relay="tls"), end(CALLEE), "FALLBACK"),
    ],
)
def test_what_both_programs_received_makes_the_verdict(caller: End, callee: End, word: str) -> None:
    assert judge(called(caller, callee), CONTROL, POLICY).verdict == word


def test_a_relay_without_media_is_no_way_out() -> None:
    result = judge(called(end(CALLER, until=0, relay="tls"), end(CALLEE, until=0)), CONTROL, POLICY)
    assert result.verdict == "CONNECTED_NO_MEDIA"


def test_a_call_that_is_never_connected_was_blocked_at_its_set_up() -> None:
    one = called(end(CALLER), end(CALLEE))
    one = one._replace(account=replace(one.account, connected=False))
    result = judge(one, CONTROL, POLICY)
    assert result.verdict == "SETUP_BLOCKED"
    assert "connection connected" in result.reason


def test_without_a_rule_that_was_met_nothing_is_blamed() -> None:
    result = judge(called(end(CALLER, until=0), end(CALLEE, until=0), met=0), CONTROL, POLICY)
    assert (result.verdict, result.blocked) == ("INCONCLUSIVE", False)
    assert result.reason.endswith("but no packet met a rule.")


def test_names_that_a_call_does_not_hold_are_no_finding() -> None:
    result = judge(called(end(CALLER), end(CALLEE), met=0), CONTROL, NAMES)
    assert result.reason == "the call holds no host name that rule strike asks for."
    assert result.verdict == "INCONCLUSIVE"


def test_a_program_that_died_and_a_control_that_failed_are_invalid() -> None:
    died = called(end(CALLER), end(CALLEE), error="baresip of the caller died")
    assert judge(died, CONTROL, POLICY).verdict == "INVALID"
    silent = called(end(CALLER, until=0), end(CALLEE, until=0), met=0)
    assert judge(CONTROL, silent, EMPTY).verdict == "INVALID"


def test_programs_words_give_loss_and_a_rating() -> None:
    one = called(end(CALLER), end(CALLEE, share=0.5))
    quality = by_report(one.account, CALLER, CALLEE, voice=True)
    assert quality is not None
    assert quality.loss == pytest.approx(0.5, abs=0.01)
    assert quality.delay_ms == 20.0
    assert quality.mos is not None
    assert quality.mos < 3
    assert one.ways[UP].heard_s == 8.0


RTP = bytes((0x80, 111)) + bytes(20)


def test_media_is_told_from_stun_dtls_and_rtcp() -> None:
    assert is_media(RTP)
    assert is_media(b"\x40\x00" + len(RTP).to_bytes(2, "big") + RTP)
    assert not is_media(bytes((0x80, 200)) + bytes(20))
    assert not is_media(b"\x00\x01" + bytes(20))
    assert not is_media(b"\x16\xfe\xfd" + bytes(20))


def test_datagrams_are_found_again_by_their_octets() -> None:
    key = ("198.18.1.1", 1, "198.19.1.1", 2)
    left = [(10, key, b"a"), (20, key, b"b"), (30, key, b"a")]
    came = [(15, key, b"a"), (37, key, b"a")]
    sent, arrived = paired(left, came)
    assert sent.tolist() == [10, 20, 30]
    assert arrived.tolist() == [15, -1, 37]


def test_other_frames_have_no_ports() -> None:
    assert udp(bytes(60)) == (("", 0, "", 0), b"")
