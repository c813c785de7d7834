# SPDX-License-Identifier: BSD-3-Clause
"""Call verdicts: a policy, a call, and the word for what became of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from testbed import errors
from testbed.call import SILENCE, cut, judge
from testbed.replay import MODELS

UP = {"direction": "up"}
DOWN = {"direction": "down"}


def verdict(run: Any, scene: Any, policy: Any, call: Any, **how: Any) -> Any:
    """Return the verdict on a call under a policy, against its control."""
    return judge(run(scene, policy, call, **how), run(scene, None, call, **how), call)


# what the rule meets, its act and scope -> verdict, whether the rule is named
TABLE: list[tuple[dict[str, Any], str, str | None, str, bool]] = [
    ({"ports": [9]}, "drop", "flow", "OK", False),
    ({"ports": [3478]}, "pass", None, "OK", False),
    ({"ports": [3478]}, "drop", "flow", "SETUP_BLOCKED", True),
    ({"stun": True}, "drop", "flow", "SETUP_BLOCKED", True),
    ({"stun": True}, "drop", "packet", "SETUP_BLOCKED", True),
    ({"stun": True, **DOWN}, "drop", "packet", "SETUP_BLOCKED", True),
    ({"ports": [3478]}, "drop-media", None, "CONNECTED_NO_MEDIA", True),
    ({"stun": False}, "drop", "packet", "CONNECTED_NO_MEDIA", True),
    ({"stun": False, **UP}, "drop", "packet", "ONE_WAY", True),
    ({"stun": False, **DOWN}, "drop", "packet", "ONE_WAY", True),
    ({"ports": [3478], **UP}, "drop-media", None, "ONE_WAY", True),
]


@pytest.mark.parametrize(("match", "act", "scope", "word", "named"), TABLE)
def test_a_policy_does_to_a_call_what_the_verdict_says(
    scene: Any, make: Any, run: Any, policy: Any, match: dict[str, Any], act: str,
    scope: str | None, word: str, named: bool,
) -> None:  # fmt: skip
    call = make.webrtc_call(scene)
    rule = {"match": match, "act": act} | ({"scope": scope} if scope else {})
    told = verdict(run, scene, policy(rule), call)
    assert told.verdict == word
    assert told.blocked is (word != "OK")
    assert told.rule == ("r0" if named else None)
    assert told.reason.endswith(".")
    assert (told.media_lost == 0) is (word == "OK")


@pytest.mark.parametrize("access", ["3g", "adsl", "fibre"])
@pytest.mark.parametrize("model", MODELS)
def test_the_same_holds_on_every_access_network_and_under_every_timer_model(
    scene: Any, make: Any, run: Any, policy: Any, access: str, model: str
) -> None:
    call = make.webrtc_call(scene)
    rule = policy({"match": {"stun": False, **UP}, "act": "drop", "scope": "packet"})
    told = verdict(run, scene, rule, call, access=access, model=model)
    assert told.verdict == "ONE_WAY"


def test_the_empty_policy_is_ok_and_loses_nothing(scene: Any, make: Any, run: Any) -> None:
    told = verdict(run, scene, None, make.webrtc_call(scene))
    assert told[:5] == ("OK", False, None, None, None)
    assert (told.media_sent, told.media_delivered, told.media_control) == (1200, 1200, 1200)
    assert told.media_lost == 0.0


def test_a_call_that_fails_without_a_policy_is_invalid(scene: Any, make: Any, run: Any) -> None:
    scene.udp(0.0, ">", make.RELAY, 3478, make.rtp(1, 5) + bytes(1500))
    told = verdict(run, scene, None, make.call_of(media=[1]), access="adsl")
    assert (told.verdict, told.blocked) == ("INVALID", False)
    assert told.reason == "no packet of the call arrives under the empty policy."


def test_packets_to_block_counts_what_the_box_let_through_before(
    scene: Any, make: Any, run: Any, policy: Any
) -> None:
    call = make.webrtc_call(scene)
    media = policy({"match": {"ports": [3478]}, "act": "drop-media"})
    told = verdict(run, scene, media, call)
    assert told.packets_to_block == 4
    assert told.ms_to_block == pytest.approx(185 + 5, abs=10)
    first = policy({"match": {"ports": [3478]}, "act": "drop"})
    told = verdict(run, scene, first, call)
    assert (told.packets_to_block, told.ms_to_block) == (0, 0.0)


def signalled(scene: Any, make: Any) -> Any:
    """Add a chat connection, named by DNS and TLS, over which a call is announced."""
    scene.udp(0.00, ">", make.RESOLVER, 53, make.question(1, "chat.example"), near=5353)
    scene.udp(0.03, "<", make.RESOLVER, 53, make.answer(1, "chat.example", make.PEER), near=5353)
    chat = scene.hello(0.05, make.PEER, 443)
    scene.tcp(0.20, ">", make.PEER, 443, make.client_hello("chat.example"))
    scene.tcp(0.30, "<", make.PEER, 443, b"\x17\3\3\0\3you")
    call = make.webrtc_call(scene, begin=1.0)
    return call.model_copy(update={"signalling": [chat], "app": "signal"})


@pytest.mark.parametrize(
    ("match", "act", "rule", "packets"),
    [
        ({"name": ["*.example"]}, "drop", "r0", 5),
        ({"dns": ["*.example"]}, "dns-lie", "r0", 0),
        ({"ports": [443]}, "drop", "r0", 2),
    ],
)
def test_a_call_whose_signalling_is_cut_off_is_never_set_up(
    scene: Any, make: Any, run: Any, policy: Any, match: Any, act: str, rule: str, packets: int
) -> None:
    call = signalled(scene, make)
    told = verdict(run, scene, policy({"match": match, "act": act}), call)
    assert (told.verdict, told.blocked, told.rule) == ("SIGNALLING_BLOCKED", True, rule)
    assert (told.media_sent, told.media_lost) == (0, 1.0)
    assert told.packets_to_block == packets


@pytest.mark.parametrize(
    ("match", "act", "words"),
    [
        ({"name": ["a.test"]}, "drop", "the capture holds no host name that rule r0 asks for."),
        ({"dns": ["a.test"]}, "dns-lie", "the capture holds no host name that rule r0 asks for."),
        (
            {"addresses": ["31.13.64.0/18"]},
            "drop",
            "rule r0 asks for addresses, and the capture's are made up.",
        ),
    ],
)
def test_a_rule_that_no_packet_could_have_met_proves_nothing(
    scene: Any, make: Any, run: Any, policy: Any, match: Any, act: str, words: str
) -> None:
    call = signalled(scene, make)
    told = verdict(run, scene, policy({"match": match, "act": act}), call)
    assert (told.verdict, told.blocked, told.reason) == ("INCONCLUSIVE", False, words)
    assert told.media_delivered == told.media_control


def test_a_rule_aimed_at_another_app_is_no_excuse(
    scene: Any, make: Any, run: Any, policy: Any
) -> None:
    call = signalled(scene, make)
    other = {"match": {"name": ["a.test"]}, "act": "drop", "aims": ["skype"]}
    assert verdict(run, scene, policy(other), call).verdict == "OK"
    seen = {"match": {"ports": [7]}, "act": "drop", "aims": ["signal"]}
    mine = {**other, "aims": ["signal"]}
    assert verdict(run, scene, policy(mine), call).verdict == "INCONCLUSIVE"
    assert verdict(run, scene, policy(mine, seen), call).verdict == "OK"


def test_media_that_stop_for_five_seconds_are_cut(
    scene: Any, make: Any, run: Any, policy: Any
) -> None:
    call = make.webrtc_call(scene, seconds=4.0)
    moved = scene.media(4.2, 8.0, make.PEER, 9000)
    call = call.model_copy(update={"media": [*call.media, moved]})
    told = verdict(run, scene, policy({"match": {"ports": [9000]}, "act": "drop"}), call)
    assert (told.verdict, told.rule) == ("CUT", "r0")
    assert told.reason == "media to the caller stopped 4.0 s into the call's media."
    assert told.packets_to_block == 404


def test_media_that_go_another_way_are_not_blocked_and_the_reason_says_so(
    scene: Any, make: Any, run: Any, policy: Any
) -> None:
    call = make.webrtc_call(scene, seconds=1.0)
    moved = scene.media(4.2, 8.0, make.PEER, 9000)
    ways = [{"flow": moved, "path": "peer"}, {"flow": 1, "path": "relay"}]
    call = make.call_of(
        media=[1, moved],
        alternative=ways,
        gate=[gate.model_dump() for gate in call.gates],
        timer_s=None,
        timer_models=list(MODELS),
    )
    told = verdict(run, scene, policy({"match": {"ports": [3478]}, "act": "drop"}), call)
    assert (told.verdict, told.rule) == ("OK", "r0")
    assert told.models == "strict: SETUP_BLOCKED"
    assert told.reason == (
        "the relay path failed and media went by the peer path; it depends on unknown timers "
        "(strict: SETUP_BLOCKED)."
    )


@pytest.mark.parametrize("way", ["<", ">"])
def test_a_direction_that_the_capture_does_not_hold_is_not_lost(
    scene: Any, make: Any, run: Any, policy: Any, way: str
) -> None:
    scene.media(0.0, 3.0, make.RELAY, 3478, way)
    call = make.call_of(media=[1])
    assert verdict(run, scene, None, call).verdict == "OK"
    told = verdict(run, scene, policy({"match": {"ports": [3478]}, "act": "drop"}), call)
    assert told.verdict == "CONNECTED_NO_MEDIA"
    assert told.reason.startswith("the capture holds no reply to a set-up")


def test_a_capture_of_set_up_alone_gets_an_honest_verdict(
    scene: Any, make: Any, run: Any, policy: Any
) -> None:
    whole = make.webrtc_call(scene, seconds=0.0)
    call = make.call_of(setup=[1], gate=[gate.model_dump() for gate in whole.gates])
    drop_media = policy({"match": {"ports": [3478]}, "act": "drop-media"})
    told = verdict(run, scene, drop_media, call)
    assert (told.verdict, told.media_lost) == ("INCONCLUSIVE", None)
    assert told.reason.endswith("strikes media alone, and the capture holds none.")
    told = verdict(run, scene, policy({"match": {"ports": [9]}, "act": "drop"}), call)
    assert (told.verdict, told.media_lost) == ("OK", None)
    assert told.reason == "set-up succeeded; the capture holds no media, so none could be lost."
    told = verdict(run, scene, policy({"match": {"stun": True}, "act": "drop"}), call)
    assert (told.verdict, told.blocked) == ("SETUP_BLOCKED", True)


def test_a_verdict_needs_the_control_and_the_call_of_its_own_capture(
    scene: Any, make: Any, run: Any
) -> None:
    call = make.webrtc_call(scene, seconds=1.0)
    one, two = run(scene, None, call), run(scene, None)
    with pytest.raises(errors.TestbedError) as told:
        judge(two, one, call)
    assert str(told.value) == "call C1: the simulation was not given this call, only none"
    scene.media(9.0, 1.0, make.PEER, 9)
    with pytest.raises(errors.TestbedError, match="both must be of one capture"):
        judge(run(scene, None, call), one, call)


SECOND = 1_000_000_000

# arrivals in the control and under a policy, in half seconds -> when the silence begins
CUTS = [
    (range(40), range(40), None),
    (range(40), [*range(10), *range(20, 40)], 9),
    (range(40), [*range(10), *range(18, 40)], None),
    (range(40), range(35), 34),
    (range(40), range(36), None),  # 4 packets are no silence
    ([*range(10), *range(30, 40)], [*range(10), *range(30, 40)], None),  # the call's own
    (range(40), [], None),  # silent from the start: another verdict
]


@pytest.mark.parametrize(("due", "came", "begins"), CUTS)
def test_a_cut_is_a_silence_of_five_seconds_or_to_the_end(
    due: Any, came: Any, begins: int | None
) -> None:
    half = SECOND // 2
    expected = None if begins is None else begins * half
    ticks: Callable[[Any], Any] = lambda some: np.array(list(some), np.int64) * half  # noqa: E731
    assert cut(ticks(due), ticks(came)) == expected
    assert SILENCE == 5 * SECOND


# rules -> verdict, and a word of the reason
BAD = [
    ({"act": "loss", "loss": 0.25}, "DEGRADED", "lost"),
    ({"act": "loss", "loss": 0.25, "way": "up"}, "DEGRADED", "from the caller were lost"),
    ({"act": "loss", "loss": 0.05}, "OK", "media arrived"),
    ({"act": "delay", "delay_ms": 500}, "DEGRADED", "came 510 ms after they were sent"),
    ({"act": "delay", "delay_ms": 200}, "OK", "media arrived"),
    ({"act": "police", "rate_kbit": 24, "bucket_bytes": 2000}, "DEGRADED", "lost"),
]


@pytest.mark.parametrize(("act", "word", "why"), BAD)
def test_a_call_whose_media_are_lost_in_part_or_late_is_degraded_and_not_blocked(
    scene: Any, make: Any, run: Any, policy: Any, act: Any, word: str, why: str
) -> None:
    call = make.webrtc_call(scene, seconds=30.0)
    packets = scene.packets
    rule = {"match": {"payload": ["rtp"]}, **act}
    told = judge(run(packets, policy(rule), call), run(packets, None, call), call)
    assert (told.verdict, told.blocked) == (word, False)
    assert why in told.reason
    assert told.rule == "r0"
