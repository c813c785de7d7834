# SPDX-License-Identifier: BSD-3-Clause
"""Call verdicts: a policy, a call, and the word for what became of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from midcall import errors
from midcall.captures.truth.calls import Alternative
from midcall.testbed.assess.call_verdict import (
    SILENCE,
    VERDICTS,
    judge,
    silence,
    silent_from_the_beginning,
)
from midcall.testbed.replay.script import MODELS

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
    result = verdict(run, scene, policy(rule), call)
    assert result.verdict == word
    assert result.blocked is (word != "OK")
    assert result.rule == ("r0" if named else None)
    assert result.reason.endswith(".")
    assert (result.media_lost == 0) is (word == "OK")


@pytest.mark.parametrize("access", ["3g", "adsl", "fibre"])
@pytest.mark.parametrize("model", MODELS)
def test_the_same_holds_on_every_access_network_and_under_every_timer_model(
    scene: Any, make: Any, run: Any, policy: Any, access: str, model: str
) -> None:
    call = make.webrtc_call(scene)
    rule = policy({"match": {"stun": False, **UP}, "act": "drop", "scope": "packet"})
    result = verdict(run, scene, rule, call, access=access, model=model)
    assert result.verdict == "ONE_WAY"


def test_the_empty_policy_is_ok_and_loses_nothing(scene: Any, make: Any, run: Any) -> None:
    result = verdict(run, scene, None, make.webrtc_call(scene))
    assert result[:5] == ("OK", False, None, None, None)
    assert (result.media_sent, result.media_delivered, result.media_control) == (1200, 1200, 1200)
    assert result.media_lost == 0.0


def test_a_call_that_fails_without_a_policy_is_invalid(scene: Any, make: Any, run: Any) -> None:
    scene.udp(0.0, ">", make.RELAY, 3478, make.rtp(1, 5) + bytes(1500))
    result = verdict(run, scene, None, make.call_of(media=[1]), access="adsl")
    assert (result.verdict, result.blocked) == ("INVALID", False)
    assert result.reason == "no packet of the call arrives under the empty policy."


def test_packets_to_block_counts_what_the_box_let_through_before(
    scene: Any, make: Any, run: Any, policy: Any
) -> None:
    call = make.webrtc_call(scene)
    media = policy({"match": {"ports": [3478]}, "act": "drop-media"})
    result = verdict(run, scene, media, call)
    assert result.packets_to_block == 4
    assert result.ms_to_block == pytest.approx(185 + 5, abs=10)
    first = policy({"match": {"ports": [3478]}, "act": "drop"})
    result = verdict(run, scene, first, call)
    assert (result.packets_to_block, result.ms_to_block) == (0, 0.0)


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
    result = verdict(run, scene, policy({"match": match, "act": act}), call)
    assert (result.verdict, result.blocked, result.rule) == ("SIGNALLING_BLOCKED", True, rule)
    assert (result.media_sent, result.media_lost) == (0, 1.0)
    assert result.packets_to_block == packets


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
    result = verdict(run, scene, policy({"match": match, "act": act}), call)
    assert (result.verdict, result.blocked, result.reason) == ("INCONCLUSIVE", False, words)
    assert result.media_delivered == result.media_control


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
    result = verdict(run, scene, policy({"match": {"ports": [9000]}, "act": "drop"}), call)
    assert (result.verdict, result.rule) == ("CUT", "r0")
    assert result.reason == "media to the caller stopped 4.0 s into the call's media."
    assert result.packets_to_block == 404


def two_ways(scene: Any, make: Any, better: str, lag: float = 0.0) -> Any:
    """Add a call over a relay, and media beside it between the peers, which the app likes better.

    better: "peer" or "relay", the way ranked first; lag: seconds that the peers' media come later.
    """
    call = make.webrtc_call(scene, seconds=8.0)
    beside = scene.media(0.4 + lag, 8.0 - lag, make.PEER, 9000, near=41000)
    ways = [{"flow": beside, "path": "peer"}, {"flow": 1, "path": "relay"}]
    return make.call_of(
        media=[1, beside],
        alternative=ways if better == "peer" else ways[::-1],
        gate=[gate.model_dump() for gate in call.gates],
    )


# which way is liked better, what is dropped -> verdict, and the path that it names
FALLBACKS = [
    ("peer", {"ports": [9000]}, "FALLBACK", "relay"),
    ("relay", {"ports": [3478]}, "FALLBACK", "peer"),
    ("relay", {"ports": [9000]}, "OK", None),
    ("peer", {"ports": [3478, 9000]}, "SETUP_BLOCKED", None),
    ("peer", {"ports": [7]}, "OK", None),
    ("peer", {"ports": [9000], **UP}, "FALLBACK", "relay"),
]


@pytest.mark.parametrize(("better", "match", "word", "path"), FALLBACKS)
def test_a_call_falls_back_where_its_better_path_fails_and_another_carries_the_media(
    scene: Any, make: Any, run: Any, policy: Any, better: str, match: Any, word: str,
    path: str | None,
) -> None:  # fmt: skip
    call = two_ways(scene, make, better)
    scope = "packet" if "direction" in match else "flow"
    result = verdict(run, scene, policy({"match": match, "act": "drop", "scope": scope}), call)
    assert (result.verdict, result.path) == (word, path)
    if word == "FALLBACK":
        assert not result.blocked
        assert result.rule == "r0"
        assert result.reason.endswith(f"path failed and media went by the {path} path.")
        assert result.down.lost == 0.0  # of the path that carried it
        assert result.media_lost > 0.2


def test_an_alternative_that_leaves_a_silence_is_no_fallback(
    scene: Any, make: Any, run: Any, policy: Any
) -> None:
    call = two_ways(scene, make, "relay", lag=6.0)  # the peers' media come 6 s into the call
    result = verdict(run, scene, policy({"match": {"stun": False, "ports": [3478]}, "act": "drop"}),
                   call)  # fmt: skip
    assert result.verdict == "CONNECTED_NO_MEDIA"


def test_a_path_of_less_rank_that_fails_leaves_the_call_ok_and_the_reason_says_so(
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
    result = verdict(run, scene, policy({"match": {"ports": [3478]}, "act": "drop"}), call)
    assert (result.verdict, result.rule) == ("OK", "r0")
    assert result.models == "strict: SETUP_BLOCKED"
    assert result.reason == (
        "the relay path failed and media went by the peer path; it depends on unknown timers "
        "(strict: SETUP_BLOCKED)."
    )


# what is done to all packets of the relay -> verdict, what the reason says
BAD = [
    ({"act": "loss", "loss": 0.15}, "DEGRADED", "% did not arrive"),
    ({"act": "loss", "loss": 0.25, "way": "up"}, "DEGRADED", "media from the caller came badly"),
    ({"act": "loss", "loss": 0.02}, "OK", "media arrived"),
    ({"act": "loss", "loss": 0.075}, "DEGRADED", "R fell by"),
    ({"act": "delay", "delay_ms": 450}, "DEGRADED", "they took 460 ms one way, 10 ms without"),
    ({"act": "delay", "delay_ms": 360}, "DEGRADED", "R fell by"),
    ({"act": "delay", "delay_ms": 60}, "OK", "media arrived"),
    ({"act": "police", "rate_kbit": 30, "bucket_bytes": 1000}, "DEGRADED", "did not arrive"),
]


@pytest.mark.parametrize(("act", "word", "words"), BAD)
def test_a_call_is_degraded_by_loss_delay_or_what_the_e_model_makes_of_them(
    scene: Any, make: Any, run: Any, policy: Any, act: Any, word: str, words: str
) -> None:
    call = make.webrtc_call(scene)
    result = verdict(run, scene, policy({"match": {"ports": [3478], "stun": False}, **act}), call)
    assert (result.verdict, result.blocked) == (word, False)
    assert words in result.reason
    assert result.rule == "r0"


def test_a_video_call_is_judged_by_loss_and_delay_without_an_opinion(
    scene: Any, make: Any, run: Any, policy: Any
) -> None:
    call = make.webrtc_call(scene).model_copy(update={"kind": "video"})
    some = {"match": {"ports": [3478], "stun": False}, "act": "loss", "loss": 0.075}
    result = verdict(run, scene, policy(some), call)
    assert result.verdict == "OK"
    assert result.down.heard.mos is None
    assert result.down.heard.loss > 0.05
    assert verdict(run, scene, policy({**some, "loss": 0.2}), call).verdict == "DEGRADED"


def test_quality_is_told_per_direction_against_the_control(
    scene: Any, make: Any, run: Any, policy: Any
) -> None:
    call = make.webrtc_call(scene)
    slow = {"match": {"ports": [3478], "stun": False, **DOWN}, "act": "delay", "delay_ms": 300,
            "scope": "packet"}  # fmt: skip
    result = verdict(run, scene, policy(slow), call)
    assert result.up.heard == result.up.control
    assert result.up.r_drop == 0.0
    assert result.down.heard.delay_ms == pytest.approx(result.down.control.delay_ms + 300)
    assert result.down.heard.mos < result.down.control.mos
    assert (result.down.heard.loss, result.down.lost) == (0.0, 0.0)


def test_a_blocked_direction_has_no_opinion_and_an_absent_one_no_quality(
    scene: Any, make: Any, run: Any, policy: Any
) -> None:
    call = make.webrtc_call(scene, ways=">")
    result = verdict(run, scene, policy({"match": {"ports": [3478]}, "act": "drop"}), call)
    assert result.down is None
    assert (result.up.heard.loss, result.up.heard.mos) == (1.0, None)
    assert result.up.control.mos == pytest.approx(4.41, abs=0.01)


@pytest.mark.parametrize("way", ["<", ">"])
def test_a_direction_that_the_capture_does_not_hold_is_not_lost(
    scene: Any, make: Any, run: Any, policy: Any, way: str
) -> None:
    scene.media(0.0, 3.0, make.RELAY, 3478, way)
    call = make.call_of(media=[1])
    assert verdict(run, scene, None, call).verdict == "OK"
    result = verdict(run, scene, policy({"match": {"ports": [3478]}, "act": "drop"}), call)
    assert result.verdict == "CONNECTED_NO_MEDIA"
    assert result.reason.startswith("the capture holds no reply to a set-up")


def test_a_capture_of_set_up_alone_gets_an_honest_verdict(
    scene: Any, make: Any, run: Any, policy: Any
) -> None:
    whole = make.webrtc_call(scene, seconds=0.0)
    call = make.call_of(setup=[1], gate=[gate.model_dump() for gate in whole.gates])
    drop_media = policy({"match": {"ports": [3478]}, "act": "drop-media"})
    result = verdict(run, scene, drop_media, call)
    assert (result.verdict, result.media_lost) == ("INCONCLUSIVE", None)
    assert result.reason.endswith("strikes media alone, and the capture holds none.")
    result = verdict(run, scene, policy({"match": {"ports": [9]}, "act": "drop"}), call)
    assert (result.verdict, result.media_lost) == ("OK", None)
    assert result.reason == (
        "packets of the call arrived; the capture holds no media, so none could be lost."
    )
    result = verdict(run, scene, policy({"match": {"stun": True}, "act": "drop"}), call)
    assert (result.verdict, result.blocked) == ("SETUP_BLOCKED", True)


def test_a_verdict_needs_the_control_and_the_call_of_its_own_capture(
    scene: Any, make: Any, run: Any
) -> None:
    call = make.webrtc_call(scene, seconds=1.0)
    one, two = run(scene, None, call), run(scene, None)
    with pytest.raises(errors.TestbedError) as error:
        judge(two, one, call)
    assert str(error.value) == "call C1: the simulation was not given this call, only none"
    scene.media(9.0, 1.0, make.PEER, 9)
    with pytest.raises(errors.TestbedError, match="both must be of one capture"):
        judge(run(scene, None, call), one, call)


SECOND = 1_000_000_000

# when media are sent and which arrive, in tenths of a second -> the first packet of a silence
SILENCES = [
    (range(200), range(200), None),
    (range(200), [*range(50), *range(110, 200)], 50),
    (range(200), [*range(50), *range(98, 200)], None),  # 4.8 s
    (range(200), range(120), 120),  # to the end of the recording, 8 s
    (range(200), range(160), None),  # the recording ends 4 s into it: nobody knows
    ([*range(50), *range(110, 160)], [*range(50), *range(110, 160)], None),  # the speaker's pause
    # 3 s lost, a pause of 6 s of which 1 s counts, and 0.5 s lost: 4.5 s of media
    ([*range(80), *range(140, 200)], [*range(50), *range(145, 200)], None),
    ([*range(80), *range(140, 200)], [*range(50), *range(156, 200)], 50),
]


@pytest.mark.parametrize(("sent", "came", "begins"), SILENCES)
def test_a_silence_is_five_seconds_of_media_that_were_sent_and_did_not_arrive(
    sent: Any, came: Any, begins: int | None
) -> None:
    times = np.array(list(sent), np.int64) * (SECOND // 10)
    arrived = np.isin(np.array(list(sent)), list(came))
    assert silence(times, arrived) == begins
    assert SILENCE == 5 * SECOND


def test_a_direction_is_silent_from_its_beginning_by_its_first_five_seconds_or_all() -> None:
    times = np.arange(200, dtype=np.int64) * (SECOND // 10)
    assert silent_from_the_beginning(times, np.arange(200) >= 60)
    assert not silent_from_the_beginning(times, np.arange(200) >= 40)
    assert silent_from_the_beginning(times[:15], np.zeros(15, bool))
    assert not silent_from_the_beginning(times[:15], np.arange(15) == 7)


def test_a_delay_never_blocks_a_call_that_holds_a_pause(make: Any, run: Any, policy: Any) -> None:
    """D1: six seconds of mute and any delay."""
    for delay in (20, 90, 200, 400, 900):
        scene = make.Scene()
        call = make.webrtc_call(scene, seconds=12.0)
        scene.media(18.2, 12.0, make.RELAY, 3478)
        slow = policy({"match": {"protocol": "udp"}, "act": "delay", "delay_ms": delay})
        result = verdict(run, scene, slow, call)
        assert result.verdict in ("OK", "DEGRADED")
        assert result.media_lost == 0


def test_consent_that_is_not_renewed_ends_the_media(
    scene: Any, make: Any, run: Any, policy: Any
) -> None:
    """D9: RFC 7675, 30 s after the last answer."""
    call = make.webrtc_call(scene, seconds=60.0)
    for n in range(12):
        for way, back, base in ((">", "<", 100), ("<", ">", 200)):
            scene.udp(4.9 * n + 0.5, way, make.RELAY, 3478, make.stun(1, base + n))
            scene.udp(4.9 * n + 0.54, back, make.RELAY, 3478, make.stun(0x101, base + n))
    call = call.model_copy(update={"consent_s": 30.0})
    checks = policy({"match": {"stun": True, "seconds": "5-"}, "act": "drop", "scope": "packet"})
    result = verdict(run, scene, checks, call)
    assert (result.verdict, result.blocked, result.usable) == ("CUT", True, False)
    assert result.reason == (
        "media to the caller stopped 30.3 s into the call's media; consent to send was not "
        "renewed for 30 s (RFC 7675)."
    )
    without = call.model_copy(update={"consent_s": None})
    assert verdict(run, scene, checks, without).verdict == "OK"


def test_a_call_below_the_floor_of_g109_is_not_usable(
    scene: Any, make: Any, run: Any, policy: Any
) -> None:
    """D15: most media lost, though not 5 s in a row."""
    call = make.webrtc_call(scene, seconds=30.0)
    lossy = {"match": {"ports": [3478], "stun": False}, "act": "loss", "scope": "packet"}
    result = verdict(run, scene, policy({**lossy, "loss": 0.85}), call)
    assert (result.verdict, result.blocked, result.usable) == ("DEGRADED", False, False)
    assert "; MOS below 2.6 in " in result.reason
    bad, whole = result.up.bad_seconds
    assert 0.5 * whole < bad <= whole == len(result.up.scores)
    result = verdict(run, scene, policy({**lossy, "loss": 0.12}), call)
    assert (result.verdict, result.usable) == ("DEGRADED", True)
    result = verdict(run, scene, policy({"match": {"ports": [9]}, "act": "drop"}), call)
    assert (result.verdict, result.usable) == ("OK", True)


def test_what_is_lost_at_the_very_end_is_no_cut(
    scene: Any, make: Any, run: Any, policy: Any
) -> None:
    call = make.webrtc_call(scene, seconds=20.0)
    late = {"match": {"ports": [3478], "seconds": "19.6-"}, "act": "drop", "scope": "packet"}
    result = verdict(run, scene, policy(late), call)
    assert (result.verdict, result.blocked) == ("OK", False)


def test_a_rule_that_reads_what_was_changed_in_the_capture_gives_no_verdict(
    scene: Any, make: Any, run: Any, policy: Any
) -> None:
    call = make.webrtc_call(scene)
    rules = policy({"match": {"addresses": ["198.0.0.0/8"]}, "act": "drop"},
                   {"match": {"stun": True}, "act": "drop"})  # fmt: skip
    ran, free = run(scene, rules, call), run(scene, None, call)
    assert judge(ran, free, call).verdict == "SETUP_BLOCKED"
    result = judge(ran, free, call, ["addresses"])
    assert (result.verdict, result.blocked, result.usable) == ("INCONCLUSIVE", False, None)
    assert result.reason == "rule r0 reads addresses, which were changed in this capture."
    assert judge(ran, free, call, ["times"]).verdict == "SETUP_BLOCKED"


def ten_verdicts(scene: Any, make: Any) -> Any:
    """Return a call over chat, a relay and a path between the peers that it likes better."""
    call = signalled(scene, make)
    beside = scene.media(1.4, 11.5, make.PEER, 9000, near=41000)
    ways = [{"flow": beside, "path": "peer"}, {"flow": call.media[0], "path": "relay"}]
    return call.model_copy(
        update={
            "media": [*call.media, beside],
            "alternatives": [Alternative.model_validate(way) for way in ways],
        }
    )


# one call, and a rule that leads to each of the ten verdicts
TEN = {
    "INVALID": {"match": {}, "act": "pass"},
    "INCONCLUSIVE": {"match": {"name": ["a.test"]}, "act": "drop"},
    "SIGNALLING_BLOCKED": {"match": {"name": ["*.example"]}, "act": "drop"},
    "SETUP_BLOCKED": {"match": {"ports": [3478, 9000]}, "act": "drop"},
    "FALLBACK": {"match": {"ports": [9000]}, "act": "drop"},
    "CONNECTED_NO_MEDIA": {"match": {"ports": [3478, 9000]}, "act": "drop-media"},
    "ONE_WAY": {"match": {"ports": [3478, 9000], **UP}, "act": "drop-media"},
    "CUT": {"match": {"ports": [3478, 9000]}, "act": "drop", "after": {"seconds": 4.0}},
    "DEGRADED": {"match": {"ports": [3478, 9000]}, "act": "loss", "loss": 0.3},
    "OK": {"match": {"ports": [9]}, "act": "drop"},
}


@pytest.mark.parametrize("word", TEN)
def test_each_of_the_ten_verdicts_has_its_scenario(
    scene: Any, make: Any, run: Any, policy: Any, word: str
) -> None:
    if word == "INVALID":
        scene.udp(0.0, ">", make.RELAY, 3478, make.rtp(1, 5) + bytes(1500))
        result = verdict(run, scene, None, make.call_of(media=[1]), access="adsl")
    else:
        result = verdict(run, scene, policy(TEN[word]), ten_verdicts(scene, make))
    assert result.verdict == word
    assert set(TEN) == set(VERDICTS)
