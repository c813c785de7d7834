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
from numpy.typing import NDArray

from midcall.captures.packets.numbers import TCP
from midcall.experiments.probe import ooni, run
from midcall.experiments.probe.acts import policer, shaper
from midcall.experiments.probe.baseline import Baseline, more_than
from midcall.experiments.probe.beliefs import Beliefs, Seen, hypothesis
from midcall.experiments.probe.lasting import end_of, nearest_round
from midcall.experiments.probe.line_oracle import DROP, Effect
from midcall.experiments.probe.prober import STREAM_PATIENCE, Outcome
from midcall.experiments.probe.unseen import unseen
from midcall.experiments.proofs.prober.benchmark import calibration
from midcall.experiments.proofs.prober.random_policies import Case
from midcall.experiments.proofs.prober.score import score
from midcall.testbed.conformance.lint import check
from midcall.testbed.conformance.transcript import scene
from midcall.testbed.policy.language import Rule
from midcall.testbed.policy.loader import load
from midcall.testbed.policy.operator import EMPTY, Policy
from midcall.testbed.probing.probe import Probe, ip_size, probe_of
from midcall.testbed.probing.strikes import passing, strikes
from midcall.testbed.probing.virtual_line import Noise

KEYS = {"blocked", "verdict", "trigger", "act", "direction", "scope", "begin", "residual_s",
        "probability", "rule_toml", "probes", "line_s", "alternatives"}  # fmt: skip
CALL = """
0.00 > udp relay:3478/40001 stun-allocate 4000
0.04 < udp relay:3478/40001 stun-allocate-answer
0.20 > udp relay:3478/40001 rtp 160 x30 0.02
0.21 < udp relay:3478/40001 rtp 160 x30 0.02
0.10 > udp resolver:53/40002 question a.example
0.13 < udp resolver:53/40002 answer a.example
0.30 > tcp peer:443/40003 syn
0.34 < tcp peer:443/40003 syn-ack
0.35 > tcp peer:443/40003 ack
0.36 > tcp peer:443/40003 tls-hello a.example
0.40 < tcp peer:443/40003 tls 600
0.50 > tcp peer:443/40003 tls 100 x4 0.1
"""


def call() -> Probe:
    return probe_of(scene(CALL))


def probed(match: dict[str, Any], act: str, noise: Noise, **more: Any) -> run.Probed:
    rule = Rule.model_validate(
        {"name": "r", "match": match, "act": act, "grade": "C", "source": "test", **more}
    )
    return run.against(Policy((rule,)), call(), "4g", 11, noise)


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


def test_a_share_of_losses(tmp_path: Path) -> None:
    answer = probed({"ports": [3478]}, "loss", NOISES[1], loss=0.4).answer
    about = answer["act"]["parameters"]["loss"]
    assert answer["act"]["name"] == "loss"
    assert about["low"] <= 0.4 <= about["high"] or abs(about["value"] - 0.4) < 0.04
    checked(answer, tmp_path)


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
        assert 0.5 < answer["probability"] < 1.0
        assert f"{limits.loss:.0%} of additional loss" in answer["alternatives"][-1]["why"]


@pytest.mark.parametrize("most", [1, 2])
def test_a_line_that_was_not_looked_at_enough_is_not_clean(most: int) -> None:
    answer = run.against(EMPTY, call(), "4g", 0, NOISES[1], most).answer
    assert answer["verdict"] == "cannot tell"
    assert answer["probability"] == 0.0
    assert "budget" in answer["alternatives"][0]["why"]


def outcome_of(struck: NDArray[np.bool_], copies: int) -> Outcome:
    """Return a play of the call in which some packets are lost in every copy."""
    unit = call()
    delay = np.where(struck, -1, 50_000_000) * np.ones((copies, 1), np.int64)
    return Outcome(
        unit, delay, np.array([ip_size(one) for one in unit]), np.array([one.up for one in unit]),
        [[] for _ in range(copies)], [[] for _ in range(copies)],
    )  # fmt: skip


LINE = Baseline((0.02, 0.02), (5e7, 5e7), (0.0, 0.0), (1e6, 1e6), ((2, 100), (2, 100)))


def test_an_effect_that_no_hypothesis_explains_leaves_none_probable() -> None:
    through = passing(call(), "4g", STREAM_PATIENCE)
    named = hypothesis({"stun": True}, "flow")
    rule = named.rule()
    assert rule is not None
    own = strikes(through, [rule]).lost[0]
    other = np.array([one.ends.proto == TCP and bool(one.payload) for one in call()])
    assert own.any()
    assert other.any()
    for struck, likely in ((own, True), (other, False), (own | other, False)):
        beliefs = Beliefs(LINE, Effect(DROP))
        beliefs.observe(Seen(through, outcome_of(struck, 12)))
        beliefs.add([named])
        assert beliefs.weights.max() == 1.0
        assert (beliefs.covered > 0.99) == likely
        assert (beliefs.covered < 0.01) != likely


def test_more_copies_leave_less_unseen() -> None:
    nothing = np.zeros(len(call()), bool)
    few, many = (unseen(outcome_of(nothing, copies), LINE) for copies in (2, 40))
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
    assert end_of([True, True, False, False]) == 2
    assert end_of([True, False, True, True, False, False]) == 4
    assert end_of([True, True]) is None
    assert nearest_round(118.0, 121.5) == 120.0
