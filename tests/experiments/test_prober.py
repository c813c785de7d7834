# SPDX-License-Identifier: BSD-3-Clause
"""The prober: rules named from both ends of a line, clean lines, and OONI's data format."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from midcall.captures.packets.numbers import TCP
from midcall.experiments.probe import ooni, run
from midcall.experiments.probe.baseline import more_than
from midcall.experiments.probe.beliefs import Beliefs, Seen, hypothesis
from midcall.experiments.probe.effects import findings
from midcall.experiments.probe.excerpts import PACKETS, SECONDS, excerpt
from midcall.experiments.probe.lasting import end_of, nearest_round
from midcall.experiments.probe.line_oracle import DELAY, DROP, PARTIAL, Effect
from midcall.experiments.probe.prober import STREAM_PATIENCE
from midcall.experiments.probe.rates import policer, shaper
from midcall.experiments.probe.unseen import unseen
from midcall.experiments.proofs.prober.benchmark import calibration
from midcall.experiments.proofs.prober.random_policies import Case, effects_of
from midcall.experiments.proofs.prober.score import names, score
from midcall.testbed.conformance.lint import check
from midcall.testbed.conformance.transcript import scene
from midcall.testbed.policy.language import Rule
from midcall.testbed.policy.loader import load
from midcall.testbed.policy.operator import EMPTY, Policy
from midcall.testbed.probing.probe import Sent, probe_of
from midcall.testbed.probing.strikes import passing, strikes
from midcall.testbed.probing.virtual_line import Noise
from tests.experiments.prober_call import LINE, call, outcome_of, rule_of

KEYS = {"blocked", "verdict", "trigger", "act", "direction", "scope", "begin", "residual_s",
        "probability", "rule_toml", "probes", "line_s", "alternatives"}  # fmt: skip


def probed(match: dict[str, Any], act: str, noise: Noise, **more: Any) -> run.Probed:
    return run.against(Policy((rule_of(match, act, **more),)), call(), "4g", 11, noise)


def equal_acts(answer: dict[str, Any]) -> set[str]:
    return {answer["act"]["name"]} | {
        one["act"] for one in answer["alternatives"]
        if one["relation"] == "equal" and "act" in one
    }  # fmt: skip


def checked(answer: dict[str, Any], path: Path) -> Rule:
    """Return the answer's last rule, read back from its file, which must have no problem."""
    file = path / "found.toml"
    file.write_text(answer["rule_toml"])
    assert not check(file)
    return load(str(file)).hypothesis("found").rules[-1]


NOISES = [Noise(), Noise(loss=0.03, jitter_ms=5, reorder=0.005)]


@pytest.mark.parametrize("noise", NOISES, ids=["quiet", "noisy"])
def test_a_drop_by_its_bytes(noise: Noise, tmp_path: Path) -> None:
    answer = probed({"stun": True}, "drop", noise).answer
    assert set(answer) == KEYS
    assert answer["verdict"] == "blocked"
    assert (answer["act"]["name"], answer["scope"], answer["direction"]) == ("drop", "flow", "both")
    rule = checked(answer, tmp_path)
    assert rule.match.stun or rule.match.payload == ["stun"]
    assert answer["probes"] <= 200


def test_a_delay_of_one_direction_with_its_interval(tmp_path: Path) -> None:
    answer = probed({"payload": ["rtp"]}, "delay", NOISES[1], delay_ms=150.0, way="down").answer
    assert answer["verdict"] == "degraded"
    assert answer["act"]["name"] == "delay"
    assert answer["direction"] == "down"
    about = answer["act"]["parameters"]["delay_ms"]
    assert about["low"] <= about["value"] <= about["high"]
    assert abs(about["value"] - 150) < 15
    checked(answer, tmp_path)


@pytest.mark.slow
def test_a_share_of_losses(tmp_path: Path) -> None:
    answer = probed({"ports": [3478]}, "loss", NOISES[1], loss=0.4).answer
    about = answer["act"]["parameters"]["loss"]
    assert answer["act"]["name"] == "loss"
    assert about["low"] <= 0.4 <= about["high"] or abs(about["value"] - 0.4) < 0.04
    checked(answer, tmp_path)


@pytest.mark.parametrize(("act", "key", "value"),
                         [pytest.param("loss", "loss", 0.4, marks=pytest.mark.longest),
                          ("delay", "delay_ms", 300.0)])  # fmt: skip
def test_packets_behind_the_end_of_a_condemnation_do_not_count_for_its_act(
    act: str, key: str, value: float
) -> None:
    probe = probed({"entropy": "0.8-"}, act, NOISES[0], lasts_s=2.0, **{key: value})
    about = probe.answer["act"]["parameters"][key]
    assert probe.answer["residual_s"] == pytest.approx(2.0, rel=0.1)
    assert about["low"] <= value <= about["high"]
    asked = [one.question for one in probe.prober.record]
    assert asked.count("which act, slowly and fast") == 1
    assert asked.count("how long a delay") == (act == "delay")


def test_a_false_dns_answer(tmp_path: Path) -> None:
    answer = probed({"dns": ["a.example"]}, "dns-lie", NOISES[0], answer="198.18.5.5").answer
    assert answer["act"]["name"] == "dns-lie"
    assert answer["act"]["parameters"]["answer"] == "198.18.5.5"
    assert checked(answer, tmp_path).match.dns


def test_a_residual_block_of_a_client() -> None:
    answer = probed({"stun": True}, "drop", NOISES[0], scope="client", lasts_s=20.0).answer
    assert answer["scope"] == "client"
    assert answer["residual_s"] == pytest.approx(20.0, rel=0.1)


def test_a_clean_noisy_line_is_clean_as_far_as_the_probes_could_see() -> None:
    for seed in range(3):
        noise = Noise(loss=0.05, jitter_ms=8, reorder=0.01, nat=seed == 1)
        probed = run.against(EMPTY, call(), "4g", seed, noise)
        answer, limits = probed.answer, probed.result.unseen
        assert answer["verdict"] == "clean"
        assert not answer["blocked"]
        assert answer["rule_toml"] == ""
        assert limits is not None
        assert limits.left_out == 0
        assert 0.5 < answer["probability"] < 1.0
        assert f"{limits.loss:.0%} of additional loss" in answer["alternatives"][-1]["why"]


@pytest.mark.parametrize("seconds", [3, 90])
def test_a_clean_answer_says_after_how_many_seconds_a_rule_would_not_have_shown(
    seconds: int,
) -> None:
    flow = call()[0].ends
    capture = tuple(Sent(n * seconds * 10_000_000, n % 2 == 0, flow, n.to_bytes(2) + bytes(150))
                    for n in range(100))  # fmt: skip
    late = rule_of({"ports": [flow.far_port], "seconds": "75-"}, "drop")
    prober = run.against(Policy((late,)), capture, "fibre", 1, Noise())
    assert prober.answer["verdict"] == "clean"
    limits = prober.result.unseen
    assert limits is not None
    assert (limits.played_s > 0) == (seconds == 90)
    why = prober.answer["alternatives"][-1]["why"]
    if seconds == 90:
        assert 8 < limits.played_s < 75
        assert f"the longest play lasted {limits.played_s:.0f} s" in why
    else:
        assert "longest play" not in why


@pytest.mark.parametrize("most", [1, 2])
def test_a_line_that_was_not_looked_at_enough_is_not_clean(most: int) -> None:
    answer = run.against(EMPTY, call(), "4g", 0, NOISES[1], most).answer
    assert answer["verdict"] == "cannot tell"
    assert answer["probability"] == 0.0
    assert "budget" in answer["alternatives"][0]["why"]


def test_an_effect_that_no_hypothesis_explains_leaves_none_probable() -> None:
    through = passing(call(), "4g", STREAM_PATIENCE)
    named = hypothesis({"stun": True}, "flow")
    rule = named.rule()
    assert rule is not None
    own = strikes(through, [rule]).lost[0]
    other = np.array([one.ends.proto == TCP and bool(one.payload) for one in call()])
    assert own.any()
    assert other.any()
    for struck, likely in ((own, True), (other, False)):
        beliefs = Beliefs(LINE, [Effect(DROP)])
        beliefs.observe(Seen(through, outcome_of(call(), struck, 12)))
        beliefs.add([named])
        assert beliefs.weights.max() == 1.0
        assert (beliefs.covered * beliefs.explained > 0.99) == likely
        assert (beliefs.covered * beliefs.explained < 0.01) != likely
    beliefs = Beliefs(LINE, [Effect(DROP)])
    beliefs.observe(Seen(through, outcome_of(call(), own | other, 12)))
    beliefs.add([named])
    assert 0.1 < beliefs.explained < 0.99  # other packets are struck, too


def test_a_rule_that_strikes_nothing_of_the_capture_explains_no_effect() -> None:
    through = passing(call(), "4g", STREAM_PATIENCE)
    named, idle = hypothesis({"stun": True}, "flow"), hypothesis({"ports": [7]}, "flow")
    large = '{"bytes": 9000000, "per": "server"}'
    allowance, never = (hypothesis(one, after=large) for one in ({"stun": True}, {"ports": [7]}))
    other = np.array([one.ends.proto == TCP and bool(one.payload) for one in call()])
    beliefs = Beliefs(LINE, [Effect(DROP), Effect(PARTIAL, 0.5)])
    beliefs.observe(Seen(through, outcome_of(call(), other, 12), True))
    beliefs.add([named, idle, allowance, never])
    assert beliefs.hypotheses == [named, allowance]  # copies together may use an allowance up
    unit = Beliefs(LINE, [Effect(DROP)])
    unit.observe(Seen(through, outcome_of(call(), other, 12)))
    unit.add([idle])
    assert unit.hypotheses == [idle]


def test_a_packet_that_meets_the_box_out_of_order_does_not_refute_a_rule() -> None:
    through = passing(call(), "4g", STREAM_PATIENCE)
    right = hypothesis({"payload": ["rtp"]}, "flow")
    wrong = hypothesis({"payload": ["rtp"], "direction": "down"}, "packet")
    rule = right.rule()
    assert rule is not None
    struck = strikes(through, [rule]).lost[0]
    struck[np.flatnonzero(struck)[:2]] = False  # two packets passed before the rule was met
    beliefs = Beliefs(LINE, [Effect(DROP)])
    beliefs.observe(Seen(through, outcome_of(call(), struck, 16)))
    beliefs.add([right, wrong])
    assert beliefs.best == right
    assert beliefs.weights.max() > 0.99
    assert beliefs.covered > 0.99
    assert 0.9 < beliefs.explained < 1.0


def test_the_kind_of_an_effect_is_weighed_with_the_rules() -> None:
    through = passing(call(), "4g", STREAM_PATIENCE)
    named = hypothesis({"payload": ["rtp"]}, "packet")
    rule = named.rule()
    assert rule is not None
    mask = strikes(through, [rule]).struck[0]
    whole = outcome_of(call(), mask, 12)
    rng = np.random.default_rng(1)
    part = whole._replace(
        delay=np.where(mask & (rng.random(whole.delay.shape) < 0.4), -1, 50_000_000)
    )
    for outcome, kind in ((whole, DROP), (part, PARTIAL)):
        beliefs = Beliefs(LINE, [Effect(DROP), Effect(PARTIAL, 0.5)])
        beliefs.observe(Seen(through, outcome))
        beliefs.add([named])
        assert beliefs.sought.kind == kind
        assert beliefs.chances.max() > 0.8


def test_a_limit_above_the_rate_of_a_call_has_no_effect_on_it() -> None:
    flags = []
    for rate in (16.0, 5_000.0):
        rule = Rule.model_validate(
            {"name": "r", "match": {"payload": ["rtp"]}, "act": "police", "rate_kbit": rate,
             "bucket_bytes": 1_500, "grade": "C", "source": "test"}
        )  # fmt: skip
        flags.append(effects_of(Case("x", "one", (rule,), call(), "4g", Noise(), 0)))
    assert flags == [(True,), (False,)]


def test_a_rule_without_an_effect_is_right_when_it_is_called_clean() -> None:
    rule = Rule.model_validate({"name": "r", "match": {"stun": True}, "act": "drop",
                                "grade": "C", "source": "test"})  # fmt: skip
    answer = {"verdict": "clean", "act": {"name": None, "parameters": {}}, "direction": None,
              "scope": None, "begin": {}, "residual_s": None, "probability": 0.9, "probes": 4,
              "line_s": 30.0, "alternatives": [], "trigger": {}}  # fmt: skip
    for effect in (False, True):
        case = Case("x", "one", (rule,), call(), "4g", Noise(), 0, (effect,))
        assert score(case, answer, []).mechanism == (not effect)


def test_a_drop_is_no_answer_for_a_share_of_losses() -> None:
    truth = Rule.model_validate({"name": "r", "match": {"stun": True}, "act": "loss", "loss": 0.4,
                                 "grade": "C", "source": "test"})  # fmt: skip
    named = [{"act": word, "direction": "both", "scope": "flow"} for word in ("drop", "loss")]
    assert names(truth, named)[0] is False
    assert names(truth, named[::-1])[0] is True
    assert names(truth.model_copy(update={"loss": 1.0}), named)[0] is True
    assert names(truth, []) == (False, False, False)


def test_a_rule_of_a_box_that_sees_one_direction_is_one_of_that_direction() -> None:
    truth = Rule.model_validate({"name": "r", "match": {"stun": True}, "act": "drop",
                                 "grade": "C", "source": "test"})  # fmt: skip
    named = [{"act": "drop", "direction": "up", "scope": "flow"}]
    assert not names(truth, named)[1]
    assert names(truth, named, "up")[1]
    assert not names(truth, named, "down")[1]
    both = [named[0] | {"act": "reset", "direction": "both"}]  # it answers both ends
    assert names(truth.model_copy(update={"act": "reset"}), both, "up")[1]


@pytest.mark.parametrize(("act", "share", "more"), [
    ("drop", "loss", {}), ("delay", "reorder", {"delay_ms": 60.0}),
])  # fmt: skip
def test_an_act_on_a_share_is_the_whole_act_of_one_packet_in_so_many_alone(
    act: str, share: str, more: dict[str, float]
) -> None:
    named = [{"act": one, "direction": "both", "scope": "packet"} for one in (share, act)]
    for sampled, right in ((1, False), (2, True)):
        truth = rule_of({"payload": ["rtp"], "one_in": sampled}, act, scope="packet", **more)
        assert names(truth, named)[0] is right
    assert names(truth.model_copy(update={"match": truth.match.model_copy(update={"one_in": 1})}),
                 named[::-1])[0] is True  # fmt: skip


def test_a_call_late_in_a_long_capture_is_played() -> None:
    chat = "".join(f"{n * 0.05:.2f} > udp peer:5000/50000 noise 40\n" for n in range(400))
    late = "".join(f"{30 + n * 0.02:.2f} > udp relay:3478/40001 rtp 160\n" for n in range(50))
    whole = probe_of(scene(chat + late))
    played = excerpt(whole)
    assert len(played) <= PACKETS
    assert played[-1].time <= SECONDS * 1e9
    counts = [sum(one.ends.far_port == port for one in played) for port in (5000, 3478)]
    assert min(counts) >= 40
    assert excerpt(call()) == call()


def test_a_delay_counts_beyond_the_time_that_a_long_packet_takes() -> None:
    nothing = np.zeros(len(call()), bool)
    outcome = outcome_of(call(), nothing, 8)
    late = outcome._replace(delay=outcome.delay + np.where(outcome.up, 20_000_000, 0))
    fast, slow = LINE, LINE._replace(per_octet=(0.0, 100_000.0))
    own = np.where(outcome.up, 100_000.0 * outcome.size, 0).astype(np.int64)
    seen = [findings(late, fast), findings(late._replace(delay=late.delay + own), slow)]
    assert any(one.kind == DELAY for one in seen[0])
    assert not any(one.kind == DELAY for one in seen[1])


def test_more_copies_leave_less_unseen() -> None:
    nothing = np.zeros(len(call()), bool)
    few, many = (unseen(outcome_of(call(), nothing, copies), LINE) for copies in (2, 40))
    assert many.loss < few.loss
    assert many.delay <= few.delay
    assert 0.5 < few.clean < many.clean < 1.0


def test_a_verdict_that_claims_nothing_does_not_count_as_miscalibrated() -> None:
    case = Case("x", "clean", (), call(), "4g", Noise(), 0)
    rows = [score(case, run.against(EMPTY, call(), "4g", 0, Noise(), most).answer, [])
            for most in (1, 2_000)]  # fmt: skip
    assert [row.mechanism for row in rows] == [False, True]
    assert calibration(rows) == pytest.approx(1 - rows[1].probability, abs=1e-3)
    assert calibration(rows[:1]) is None


def test_the_answer_is_the_same_for_the_same_seed() -> None:
    one, two = (probed({"ports": [3478]}, "drop", NOISES[1]).answer for _ in range(2))
    assert one == two


def test_a_measurement_is_valid_in_oonis_format(tmp_path: Path) -> None:
    result = probed({"stun": True}, "drop", NOISES[0])
    request = run.Request("operator/rule", "call")
    path = tmp_path / "measurement.json"
    ooni.write(path, request, result)
    document = json.loads(path.read_text())
    schema = json.loads(ooni.SCHEMA.read_text())
    jsonschema.validate(document, schema)
    began = datetime.datetime(2026, 11, 27, 12, 0, 0)
    broken = ooni.measurement(request, result, began)
    broken["probe_ip"] = "10.1.2.3"  # nothing about the user may be written
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, schema)
    broken = ooni.measurement(request, result, began)
    broken["test_keys"]["verdict"] = "perhaps"
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(broken, schema)


@pytest.mark.corpus
@pytest.mark.slow
@pytest.mark.parametrize(("against", "capture", "act", "way", "keys"), [
    ("russia-2025-08/stun-everywhere", "wa_voice", "drop", "both", {"stun"}),
    pytest.param("russia-2026-03/upstream-loss", "telegram", "loss", "up", {"addresses"},
                 marks=pytest.mark.longest),
])  # fmt: skip
def test_the_rule_of_an_incident_is_named_on_a_recorded_call(
    corpus: Path, against: str, capture: str, act: str, way: str, keys: set[str]
) -> None:
    noise = "loss=0.01,jitter_ms=5"
    answer = run.probe(run.Request(against, capture, "4g", 3, noise, corpus=corpus)).answer
    assert answer["verdict"] in ("blocked", "degraded")
    assert act in equal_acts(answer)
    assert answer["direction"] == way
    assert keys <= answer["trigger"]["match"].keys()


# ---- single estimates


def test_two_shares_differ_only_where_chance_does_not_explain_it() -> None:
    assert more_than(3, 100, 3, 100) == 0.0
    assert more_than(5, 100, 3, 100) < 1.0
    assert more_than(40, 100, 3, 100) > 20.0


def test_the_rate_of_a_policer_and_of_a_shaper() -> None:
    times = np.arange(500) * 4e6
    sizes = np.full(500, 100.0)
    tokens, last, lost = 3_000.0, 0.0, []
    for time in times:
        tokens, last = min(3_000.0, tokens + (time - last) / 1e9 * 8_000), time
        lost.append(tokens < 100)
        tokens -= 0 if lost[-1] else 100
    fitted = policer(times, sizes, np.array(lost))
    assert fitted is not None
    assert fitted[0] == pytest.approx(64, rel=0.1)
    assert fitted[1] == pytest.approx(3_000, rel=0.1)
    busy, excess = 0.0, []
    for time in times:
        begin = max(busy, time)
        if begin - time > 200e6:
            excess.append(np.nan)
            continue
        busy = begin + 100 * 8 / 64_000 * 1e9
        excess.append(busy - time)
    rate = shaper(times, sizes, np.array(excess))
    assert rate is not None
    assert rate[0] == pytest.approx(64, rel=0.1)
    assert rate[1] == pytest.approx(200, rel=0.1)


def test_the_end_of_a_condemnation() -> None:
    assert end_of([8.0, 8.0, -8.0, -8.0]) == (2, 2)
    assert end_of([8.0, 8.0, 1.0, -8.0, -8.0]) == (2, 3)
    assert end_of([8.0, -2.0, 8.0, 8.0, -8.0, -8.0]) == (4, 4)
    assert end_of([8.0, 8.0]) is None
    assert end_of([-8.0, -8.0]) == (0, 0)
    assert nearest_round(118.0, 121.5) == 120.0
