# SPDX-License-Identifier: BSD-3-Clause
"""The prober and code points: rules that match, set or prefer them, and lines that rewrite them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from midcall.captures.packets.numbers import UDP
from midcall.experiments.probe import run
from midcall.experiments.probe.acts import Number
from midcall.experiments.probe.atoms import atoms, places
from midcall.experiments.probe.baseline import baseline_of, control_units
from midcall.experiments.probe.beliefs import hypothesis
from midcall.experiments.probe.code_points import code_points_tried, rewrites_of
from midcall.experiments.probe.line_oracle import PARTIAL, Effect
from midcall.experiments.probe.priorities import (
    LEAST_CROSS,
    Classes,
    classes,
    cross_traffic,
    goes_first,
)
from midcall.experiments.probe.prober import STREAM_PATIENCE, Prober
from midcall.experiments.probe.tails import Tail
from midcall.experiments.probe.units import changed_packets
from midcall.experiments.proofs.prober.random_policies import case, differ
from midcall.testbed.conformance.transcript import scene
from midcall.testbed.policy.language import Rule
from midcall.testbed.policy.operator import EMPTY, Policy
from midcall.testbed.probing.probe import Ends, Probe, Sent, probe_of
from midcall.testbed.probing.sockets import Event, play
from midcall.testbed.probing.strikes import passing
from midcall.testbed.probing.virtual_line import Noise, VirtualSockets
from tests.experiments.prober_call import rule_of

MS = 1_000_000
NOISE = Noise(loss=0.02, jitter_ms=4)
PLAIN = """
0.00 > udp relay:3478/40001 stun-allocate 4000
0.04 < udp relay:3478/40001 stun-allocate-answer
0.20 > udp relay:3478/40001 rtp 160 x25 0.02
0.21 < udp relay:3478/40001 rtp 160 x25 0.02
"""
MARKED = (
    PLAIN.replace("rtp 160", "rtp 160 dscp=46") + "0.205 > udp relay:3478/40001 rtp 600 x12 0.05\n"
)


class Bleaching(VirtualSockets):
    """A line whose access network sets all code points to 0."""

    def arrive(self, up: bool, news: Any) -> None:
        super().arrive(up, news._replace(dscp=0) if isinstance(news, Event) else news)


def probed(rules: Policy, text: str, line: type[VirtualSockets] = VirtualSockets) -> run.Probed:
    return run.over(line(rules, "4g", 5, NOISE), probe_of(scene(text)), "4g", 5)


def test_a_mark_is_named_with_its_code_point_and_direction() -> None:
    box = Policy((rule_of({"payload": ["rtp"]}, "mark", code_point="cs1", way="down"),))
    answer = probed(box, PLAIN).answer
    assert answer["verdict"] == "degraded"
    assert (answer["act"]["name"], answer["scope"], answer["direction"]) == (
        "mark", "packet", "down")  # fmt: skip
    assert answer["act"]["parameters"] == {"code_point": "cs1"}
    assert answer["trigger"]["match"]["payload"] == ["rtp"]


def test_a_drop_by_code_point_is_told_from_one_by_payload() -> None:
    box = Policy((rule_of({"dscp": ["ef"]}, "drop", scope="packet"),))
    answer = probed(box, MARKED).answer
    assert (answer["act"]["name"], answer["scope"]) == ("drop", "packet")
    assert answer["trigger"]["match"]["dscp"] == ["ef"]
    assert "payload" not in answer["trigger"]["match"]


@pytest.mark.parametrize("text", [PLAIN, MARKED])
def test_a_line_that_rewrites_code_points_is_clean(text: str) -> None:
    answer = probed(EMPTY, text, Bleaching).answer
    assert answer["verdict"] == "clean"
    noted = any("46 to 0 upwards" in one["why"] for one in answer["alternatives"])
    assert noted == (text == MARKED)


def test_what_the_line_rewrites_is_known_from_controls() -> None:
    units = control_units(4, (0, 34, 46))
    for line, rewritten in ((VirtualSockets, set()), (Bleaching, {34, 46})):
        prober = Prober(line(EMPTY, "4g", 2, NOISE), "4g")
        outcomes = prober.ask("controls", units, 3)
        found = rewrites_of(outcomes)
        assert {sent for (_, sent), came in found.items() if came != sent} == rewritten
        assert baseline_of(prober, outcomes) == baseline_of(prober, [*outcomes[:4], outcomes[5]])


def test_a_capture_without_code_points_costs_no_hypothesis_and_no_unit() -> None:
    plain, marked = probe_of(scene(PLAIN)), probe_of(scene(MARKED))
    assert (code_points_tried(plain), code_points_tried(marked)) == ((), (0, 46, 8))
    assert control_units(4, code_points_tried(plain)) == control_units(4)
    for unit, some in ((plain, False), (marked, True)):
        where = places(passing(unit, "4g", STREAM_PATIENCE))
        assert any("dscp" in one for at in where for one in atoms(unit, at, where[at])) == some
        words = [word for word, _ in changed_packets(unit[0], code_points_tried(unit))]
        assert any(word.startswith("code point") for word in words) == some


def test_code_points_that_do_not_wait_go_first_whatever_is_lost() -> None:
    points = [0, 46, 0, 34, 0, 8, 0]
    waits = np.full((6, len(points)), 100.0 * MS)
    waits[:, 1] = 4 * MS
    waits[::2, 3] = np.nan
    waits[1, 1] = waits[3, 2] = np.nan
    assert goes_first(points, waits, 0.6, 10 * MS, 3 * MS) == (46,)
    assert goes_first(points, waits[:, ::-1], 0.6, 10 * MS, 3 * MS) == (8,)
    assert goes_first(points, np.full_like(waits, 2 * MS), 0.6, 10 * MS, 3 * MS) is None


CORE: Probe = (
    Sent(0, True, Ends(UDP, bytes([198, 18, 0, 1]), 40_000, bytes([198, 19, 0, 1]), 50_000),
         bytes(range(80))),
)  # fmt: skip


def tail_of(box: Rule) -> Tail:
    """Return what makes units for a rule on the datagrams of a client, on a line with it."""
    prober = Prober(VirtualSockets(Policy((box,)), "4g", 3, NOISE), "4g", 3)
    base = baseline_of(prober, prober.ask("controls", control_units(), 3))
    best = hypothesis({"protocol": "udp"}, "client")
    return Tail(prober, base, Effect(PARTIAL, 0.5, 1.0, "shape"), best,
                lambda unit, _: passing(unit, "4g", STREAM_PATIENCE), CORE)  # fmt: skip


@pytest.mark.parametrize("act", ["shape", "prioritise"])
def test_a_queue_shows_which_code_points_go_first(act: str) -> None:
    more = {"first": ["ef", 3], "cross_kbit": 100} if act == "prioritise" else {}
    box = rule_of({"protocol": "udp"}, act, scope="client", rate_kbit=400, queue_ms=200, **more)
    found = classes(tail_of(box), CORE, {"act": "shape", "rate_kbit": 390.0, "queue_ms": 200.0})
    assert found is not None
    assert found.first == ((3, 46) if act == "prioritise" else ())
    if act == "prioritise":
        assert found.rate is not None
        assert found.cross is not None
        assert found.rate.low <= 400 <= found.rate.high
        assert found.cross.low <= 100 <= found.cross.high
        act = found.act({"act": "shape", "rate_kbit": 390.0, "queue_ms": 200.0})
        named = rule_of({"protocol": "udp"}, scope="client", **act)
        assert (named.act, named.rate_kbit, named.first) == ("prioritise", 400.0, [3, "ef"])


@pytest.mark.parametrize(("rate", "queue", "cross"), [(1500, 250, 700), (900, 400, 0)])
def test_the_rate_of_cross_traffic_lies_within_its_interval(
    rate: int, queue: int, cross: int
) -> None:
    tail = tail_of(rule_of({"protocol": "udp"}, "prioritise", scope="client", rate_kbit=rate,
                           queue_ms=queue, first=["ef"], cross_kbit=cross))  # fmt: skip
    known = Classes((46,), Number(rate, rate, rate))
    found = cross_traffic(tail, CORE, {"act": "shape", "rate_kbit": rate, "queue_ms": queue}, known)
    assert found is not None
    assert found.low <= cross <= found.high <= 2 * cross + LEAST_CROSS * rate + 1


@pytest.mark.longest
def test_a_priority_queue_is_named() -> None:
    box = Policy((rule_of({"payload": ["rtp"]}, "prioritise", scope="client", rate_kbit=48,
                       queue_ms=300, first=["ef", "af41"]),))  # fmt: skip
    answer = probed(box, PLAIN).answer
    assert answer["act"]["name"] == "prioritise"
    about = answer["act"]["parameters"]
    assert set(about["first"]) == {"ef", "af41"}
    assert about["rate_kbit"]["low"] <= 48 <= about["rate_kbit"]["high"]


def test_drawn_policies_have_effects_that_code_points_show() -> None:
    call = probe_of(scene(PLAIN))
    box = Policy((rule_of({"payload": ["rtp"]}, "mark", code_point="ef"),))
    plays = [play(VirtualSockets(one, ideal=True), call, 500 * MS) for one in (EMPTY, box, EMPTY)]
    assert differ(plays[0], plays[1])
    assert not differ(plays[0], plays[2])
    assert case(7, 1, "one").rules


@pytest.mark.longest
@pytest.mark.parametrize("read", [{"dscp": ["cs1"]}, {"payload": ["rtp"], "direction": "up"}],
                         ids=["the mark", "the packets"])  # fmt: skip
def test_a_rule_on_what_another_one_marks_is_distinguished_from_one_on_the_same_packets(
    read: dict[str, Any],
) -> None:
    mark = rule_of({"payload": ["rtp"], "direction": "up"}, "mark", code_point="cs1")
    loss = rule_of(read, "loss", scope="packet", loss=0.4)
    answer = probed(Policy((mark, loss.model_copy(update={"name": "l"}))), PLAIN).answer
    others = [one for one in answer["alternatives"] if one["relation"] == "as well"]
    rules = {one["act"]: one["trigger"]["match"] for one in others}
    rules[answer["act"]["name"]] = answer["trigger"]["match"]
    assert set(rules) == {"mark", "loss"}
    assert ("dscp" in rules["loss"]) == ("dscp" in read)
    assert ("direction" in rules["loss"]) == ("direction" in read)
    toml = answer["rule_toml"]
    assert "dscp" not in read or toml.index('act = "mark"') < toml.index('act = "loss"')
