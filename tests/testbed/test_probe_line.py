# SPDX-License-Identifier: BSD-3-Clause
"""The line in virtual time as sockets show it, and predictions of what rules strike."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from midcall.captures.packets.numbers import TCP, UDP
from midcall.errors import TestbedError
from midcall.testbed.conformance.transcript import question
from midcall.testbed.policy.language import Rule
from midcall.testbed.policy.operator import EMPTY, Policy
from midcall.testbed.probing.probe import Ends, Probe, Sent
from midcall.testbed.probing.sockets import RESET, Played, play
from midcall.testbed.probing.strikes import passing, strikes
from midcall.testbed.probing.virtual_line import QUIET, Noise, VirtualSockets, noise_of

MS = 1_000_000
NEAR, FAR = bytes([198, 18, 0, 1]), bytes([198, 19, 0, 1])
VOICE = Ends(UDP, NEAR, 40_000, FAR, 50_000)
WEB = Ends(TCP, NEAR, 40_001, FAR, 443)
STUN = bytes.fromhex("000100002112a442") + bytes(12)


def voice(count: int = 20, body: bytes | None = None) -> Probe:
    bodies = [body or n.to_bytes(2, "big") * 30 for n in range(count)]
    return tuple(Sent(n * 20 * MS, n % 2 == 0, VOICE, one) for n, one in enumerate(bodies))


def web(count: int = 8) -> Probe:
    return tuple(Sent(n * 50 * MS, n % 2 == 0, WEB, bytes([65 + n]) * 200) for n in range(count))


def rule(match: dict[str, object], act: str = "drop", **more: object) -> Rule:
    return Rule.model_validate(
        {"name": "r", "match": match, "act": act, "grade": "C", "source": "test", **more}
    )


def test_everything_arrives_once_on_a_quiet_line() -> None:
    played = play(VirtualSockets(EMPTY, ideal=True), (*voice(), *web()), 500 * MS)
    assert min(played.arrived) > 0
    assert not played.strange


def test_a_stream_delivers_in_spite_of_loss() -> None:
    lossy = VirtualSockets(EMPTY, noise=Noise(loss=0.2), seed=3)
    played = play(lossy, web(), 8_000 * MS)
    assert min(played.arrived) > 0
    assert not played.strange  # the octets are those that were written


def test_a_stalled_stream_sends_its_earliest_segment_again_and_no_other() -> None:
    box = Policy((rule({"ports": [443]}, "stall", after={"packets": 5}),))
    line = VirtualSockets(box, ideal=True)
    sent: Counter[bytes] = Counter()
    leave = line.leave

    def count(ends: Ends, up: bool, transport: bytes, *rest: object) -> None:
        sent[transport[20:]] += up
        leave(ends, up, transport, *rest)  # type: ignore[arg-type]

    line.leave = count  # type: ignore[method-assign]
    writes = tuple(Sent(n * 50 * MS, True, WEB, bytes([65 + n]) * 200) for n in range(10))
    play(line, writes, 2_000 * MS)
    again = [body for body, number in sent.items() if body and number > 1]
    assert len(again) == 1
    assert sent[again[0]] <= 6  # its timer backs off


def test_noise_loses_about_its_share() -> None:
    line = VirtualSockets(EMPTY, noise=Noise(loss=0.1), seed=1)
    played = play(line, voice(2_000), 500 * MS)
    lost = sum(time < 0 for time in played.arrived)
    assert 120 < lost < 290


@pytest.mark.parametrize("count", [40, 240])
def test_of_equal_datagrams_the_lost_one_is_located(count: int) -> None:
    line = VirtualSockets(EMPTY, noise=Noise(loss=0.15), seed=5)
    plan = tuple(one._replace(up=True) for one in voice(count, bytes(50)))
    played = play(line, plan, 500 * MS)
    delays = [played.delay(at) for at in range(len(plan)) if played.arrived[at] >= 0]
    assert 0 < len(delays) < len(plan)
    assert max(delays) - min(delays) < 60 * MS  # no loss is taken for a delay of the rest


def test_of_equal_datagrams_that_a_rule_drops_from_some_octet_on_the_first_ones_came() -> None:
    plan = tuple(Sent(n * 12 * MS, True, VOICE, bytes(170)) for n in range(24))
    distinct = tuple(one._replace(payload=bytes([n]) * 170) for n, one in enumerate(plan))
    known = play(VirtualSockets(EMPTY, noise=Noise(jitter_ms=15)), distinct, 500 * MS)
    usual = (0.0, 0.0), (float(np.median([known.delay(at) for at in range(len(plan))])), 0.0)
    box = Policy((rule({"protocol": "udp"}, after={"bytes": 12 * 198}),))
    for seed in range(8):
        line = VirtualSockets(box, noise=Noise(jitter_ms=15), seed=seed)
        played = play(line, plan, 500 * MS, usual)
        come = [at for at, time in enumerate(played.arrived) if time >= 0]
        assert len(come) == 12
        assert max(come) < 16
        assert max(abs(played.delay(at) - usual[1][0]) for at in come) < 60 * MS


def test_a_nat_lets_nothing_in_before_something_went_out() -> None:
    down_first = tuple(one._replace(up=not one.up) for one in voice(2))
    line = VirtualSockets(EMPTY, noise=Noise(nat=True), ideal=True)
    played = play(line, down_first, 300 * MS)
    assert played.arrived[0] < 0 < played.arrived[1]


def test_a_reset_shows_as_an_error_of_the_socket() -> None:
    box = Policy((rule({"ports": [443]}, "reset", towards="client"),))
    played = play(VirtualSockets(box, ideal=True), web(), 500 * MS)
    assert {(one.kind, one.up) for one in played.events} == {(RESET, False)}
    assert max(played.arrived) < 0


def test_a_false_dns_answer_is_data_that_was_not_sent() -> None:
    ends = VOICE._replace(far_port=53)
    box = Policy((rule({"dns": ["a.example"]}, "dns-lie", path="on"),))
    plan = (Sent(0, True, ends, question("a.example")),)
    played = play(VirtualSockets(box, ideal=True), plan, 500 * MS)
    assert played.arrived[0] > 0
    assert [one.up for one in played.strange] == [False]


def test_corrupted_packets_are_no_data_of_a_socket() -> None:
    box = Policy((rule({"protocol": "udp"}, "corrupt", share=1.0),))
    played = play(VirtualSockets(box, ideal=True), voice(), 500 * MS)
    assert max(played.arrived) < 0
    assert not played.strange
    box = Policy((rule({"protocol": "tcp"}, "corrupt", share=0.3),))
    played = play(VirtualSockets(box, ideal=True), web(), 8_000 * MS)
    assert min(played.arrived) > 0  # kernels send again what they discard
    assert not played.strange


def test_packets_that_come_twice_are_no_forged_answer() -> None:
    box = Policy((rule({"packets": "1-"}, "duplicate", share=1.0),))
    played = play(VirtualSockets(box, ideal=True), (*voice(), *web()), 500 * MS)
    assert min(played.arrived) > 0
    assert not played.strange


@pytest.mark.parametrize("code", ["net", "port", "prohibited"])
def test_an_icmp_error_refuses_a_connection_and_drops_datagrams(code: str) -> None:
    box = Policy((rule({"packets": "1-"}, "unreachable", code=code),))
    played = play(VirtualSockets(box, ideal=True), (*voice(), *web()), 500 * MS)
    assert [(one.kind, one.up, one.ends) for one in played.events] == [(RESET, False, WEB)]
    assert max(played.arrived) < 0
    later = Policy((rule({"size": "1-"}, "unreachable", code=code),))
    played = play(VirtualSockets(later, ideal=True), web(), 500 * MS)
    assert RESET not in {one.kind for one in played.events}  # the stream is open


@pytest.mark.parametrize("way", ["up", "down"])
def test_a_box_neither_strikes_nor_counts_what_it_does_not_see(way: str) -> None:
    plan = voice()
    for match, passed in (({"protocol": "udp"}, 0), ({"packets": "4-"}, 3)):
        box = Policy((rule(match, scope="packet"),), sees=way)  # type: ignore[arg-type]
        played = play(VirtualSockets(box, ideal=True), plan, 500 * MS)
        of_way = [time > 0 for one, time in zip(plan, played.arrived, strict=True)
                  if one.up == (way == "up")]  # fmt: skip
        assert of_way == [True] * passed + [False] * (10 - passed)
        assert sum(time > 0 for time in played.arrived) == 10 + passed


def test_a_box_remembers_from_one_play_to_the_next() -> None:
    box = Policy((rule({"stun": True}, scope="client", lasts_s=30.0),))
    line = VirtualSockets(box, ideal=True)
    assert max(play(line, (Sent(0, True, VOICE, STUN),), 100 * MS).arrived) < 0
    other = tuple(one._replace(ends=VOICE._replace(near_port=41_000)) for one in voice(4))
    assert max(play(line, other, 100 * MS).arrived) < 0
    line.sleep(line.now() + 40_000 * MS)
    assert min(play(line, other, 100 * MS).arrived) > 0


RULES = [
    rule({"stun": True}),
    rule({"protocol": "tcp"}, scope="packet", way="down"),
    rule({"packets": "5-"}),
    rule({"protocol": "udp"}, "stall", after={"bytes": 500}),
    rule({"size": "200-"}, scope="pair"),
    rule({"direction": "up"}, scope="packet"),
    rule({"protocol": "udp", "entropy": "0-0.5"}, scope="client"),
]


@pytest.mark.parametrize("one", RULES, ids=lambda one: ",".join(sorted(one.match.model_fields_set)))
def test_predictions_are_what_a_play_shows(one: Rule) -> None:
    unit = (*voice(), Sent(500 * MS, True, VOICE, STUN), *voice_later(), *web())
    unit = tuple(sorted(unit, key=lambda sent: sent.time))
    predicted = strikes(passing(unit, "4g", 2_500 * MS), [one, one]).lost
    played = play(VirtualSockets(Policy((one,)), ideal=True), unit, 2_500 * MS)
    lost = np.array([sent >= 0 > time
                     for sent, time in zip(played.sent, played.arrived, strict=True)])  # fmt: skip
    assert (predicted[0] == lost).all()
    assert (predicted[0] == predicted[1]).all()  # one rule leaves nothing behind for the next


def voice_later() -> Probe:
    return tuple(one._replace(time=one.time + 600 * MS, payload=one.payload[:-1] + b"x")
                 for one in voice(6))  # fmt: skip


def test_noise_is_read_from_words() -> None:
    assert noise_of("loss=0.02,jitter_ms=20") == Noise(loss=0.02, jitter_ms=20.0)
    assert noise_of("") == QUIET
    for words in ("loss=2", "lost=0.1", "loss", "jitter_ms=much"):
        with pytest.raises(TestbedError, match="noise"):
            noise_of(words)


def test_a_packet_that_came_before_its_sender_went_on_has_a_delay_of_zero() -> None:
    assert Played(voice(1), [5 * MS], [5 * MS - 1]).delay(0) == 0
    assert Played(voice(1), [5 * MS], [-1]).delay(0) == -1


def test_a_code_point_goes_through_the_line_and_a_mark_changes_it() -> None:
    plan = tuple(one._replace(dscp=46 if one.up else 34) for one in voice(8))
    bare = play(VirtualSockets(EMPTY, ideal=True), plan, 500 * MS)
    assert [bare.points[at] for at in range(8)] == [46, 34] * 4
    box = Policy((rule({"payload": ["unknown"]}, "mark", code_point="cs1", way="up"),))
    marked = play(VirtualSockets(box, ideal=True), plan, 500 * MS)
    assert [marked.points[at] for at in range(8)] == [8, 34] * 4


def test_a_rule_on_code_points_strikes_datagrams_and_streams() -> None:
    box = Policy((rule({"dscp": ["ef"]}, scope="packet"),))
    plan = (*(one._replace(dscp=46 * (n % 4 < 2)) for n, one in enumerate(voice(12))),
            *(one._replace(dscp=46, time=one.time + 300 * MS) for one in web(4)))  # fmt: skip
    played = play(VirtualSockets(box, ideal=True), plan, 500 * MS)
    assert [at for at in range(12) if played.arrived[at] < 0] == [0, 1, 4, 5, 8, 9]
    assert not any(at >= 12 for at in played.points)  # of a stream it is not known
    assert max(played.arrived[12:]) < 0
    struck = strikes(passing(plan, "4g", 500 * MS), box.rules)
    assert np.flatnonzero(struck.struck[0, :12]).tolist() == [0, 1, 4, 5, 8, 9]
    assert struck.lost[0, 12:].all()
