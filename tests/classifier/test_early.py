# SPDX-License-Identifier: BSD-3-Clause
"""The early model in the packet path: equal to scikit-learn, careful, bounded, switched off."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from midcall.captures.jit.code_folders import PLAIN
from midcall.captures.packets.pcap import Packets, packets_of, read
from midcall.classifier.engine import Engine
from midcall.classifier.state.features import COLUMNS, KEPT, LENGTHS
from midcall.classifier.state.flow_scratch import NOTE
from midcall.classifier.state.flow_table import Records
from midcall.classifier.state.verdicts import APPS, CERTAIN, MEDIA, NOT_CALL, RTC, UNSURE
from midcall.classifier.statistical import inference, training
from midcall.classifier.training_windows import windows
from midcall.errors import ClassifierError
from tests.classifier.made_up import forests, table
from tests.classifier.wire import (
    EPOCH,
    FAR,
    MS,
    NEAR,
    ROOT,
    SAMPLES,
    Wire,
    ether,
    udp_packet,
    verdict_of,
)


def eager() -> Records:
    """Return the committed model with limits that call everything a call."""
    always = inference.shipped().copy()
    always["limit"][: len(LENGTHS)] = 0.0
    return always


def talk(count: int, seed: int = 1, pace: int = 20, size: int = 160) -> Packets:
    """Return a UDP flow of random payloads, evenly paced, both ways."""
    rng, wire = np.random.default_rng(seed), Wire(pace)
    for i in range(count):
        wire.udp(opaque(rng, size), up=i % 2 == 0)
    return wire.packets


def opaque(rng: np.random.Generator, size: int) -> bytes:
    """Return octets without a pattern, whose first two bits no reader of RTP or STUN likes."""
    payload = bytearray(rng.bytes(size))
    payload[0] |= 0xC0
    return bytes(payload)


def random_flows(count: int, seed: int) -> Packets:
    """Return flows of random payloads, sizes, gaps and directions."""
    rng, frames, times = np.random.default_rng(seed), [], []
    for flow in range(count):
        time = EPOCH + flow * 100 * MS
        for _ in range(int(rng.integers(4, 40))):
            payload = rng.bytes(int(rng.integers(1, 1400)))
            turn = slice(None) if rng.integers(0, 2) else slice(None, None, -1)
            ports, hosts = (20000 + flow, 7000), (NEAR, FAR)
            frames.append(ether(udp_packet(payload, ports[turn], hosts[turn])))
            times.append(time)
            time += int(rng.exponential(50)) * MS
    order = np.argsort(times, kind="stable")
    return packets_of([frames[i] for i in order], [times[i] for i in order])


# ---- equal to scikit-learn


@pytest.mark.parametrize("n", LENGTHS)
def test_a_score_equals_predict_proba_to_the_bit(n: int) -> None:
    made = table()
    trained = forests(made)
    records = training.compiled(trained)
    rows = np.concatenate((made[0], made[0] * np.float32(1.7), made[0] * 0)).astype(np.float32)
    ours, theirs = inference.scores(records, n, rows), trained[n].trees.predict_proba(rows)[:, 1]
    assert ours.tobytes() == np.ascontiguousarray(theirs).tobytes()


@pytest.mark.parametrize("n", LENGTHS)
def test_a_value_on_a_limit_goes_the_way_it_goes_in_scikit_learn(n: int) -> None:
    trained = forests(table())
    records = training.compiled(trained)
    inner = records[len(LENGTHS) * (1 + inference.PERCENTS) :]
    inner = inner[inner["left"] >= 0]
    rows = np.zeros((len(inner), len(COLUMNS)), np.float32)
    rows[np.arange(len(inner)), inner["feature"]] = inner["limit"].astype(np.float32)
    ours, theirs = inference.scores(records, n, rows), trained[n].trees.predict_proba(rows)[:, 1]
    assert ours.tobytes() == np.ascontiguousarray(theirs).tobytes()


def test_the_percent_is_the_calibrated_probability_rounded_down() -> None:
    trained = forests(table())
    records = training.compiled(trained)
    for head, n in enumerate(LENGTHS):
        for reached in np.linspace(0.003, 0.997, 101):
            exact = 100 * float(trained[n].probability(np.array([reached]))[0])
            if abs(exact - round(exact)) > 1e-6:
                assert inference.percent(records, head, float(reached)) == int(exact)


PLAIN_RUN = """
import json
from midcall.captures.jit.code_folders import PLAIN
from tests.classifier.test_early import digest
assert PLAIN
print(json.dumps(digest()))
"""


def digest() -> dict[str, Any]:
    """Return what the model says of made-up flows, as text that two modes can compare."""
    found: dict[str, Any] = {}
    packets = random_flows(30, 3)
    window_columns = windows(packets)
    for n in LENGTHS:
        whole = window_columns.packets >= n
        found[f"columns {n}"] = window_columns.columns[n].tobytes().hex()
        rows = window_columns.columns[n][whole]
        found[f"scores {n}"] = inference.scores(inference.shipped(), n, rows).tobytes().hex()
    for name, engine in (("all", Engine(model=eager())), ("blind", blind())):
        engine.feed(packets)
        found[name] = engine.flows().tobytes().hex()
    return found


def blind() -> Engine:
    """Return an engine that reads no payload."""
    return Engine(fingerprints=False)


@pytest.mark.slow
@pytest.mark.skipif(PLAIN, reason="this is plain Python already")
def test_plain_python_and_compiled_code_say_the_same() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PLAIN_RUN],
        env={**os.environ, "NUMBA_DISABLE_JIT": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
        cwd=ROOT,
    )
    assert json.loads(done.stdout) == digest()


# ---- the committed file


def test_the_committed_model_is_small_sound_and_without_pickle() -> None:
    assert inference.SHIPPED.stat().st_size < 300_000
    assert tuple(inference.heads_of(inference.shipped())) == LENGTHS
    with np.load(inference.SHIPPED, allow_pickle=False) as window_columns:
        assert set(window_columns.files) == set(inference.NODE.names or ()) - {"column"}


def test_the_model_card_names_the_hash_of_every_capture_and_the_leak() -> None:
    page = inference.SHIPPED.with_suffix(".md").read_text(encoding="utf-8")
    assert "optimistic (leaks)" in page
    assert "leave one group out" in page
    assert page.count("| `") > 50


def test_a_model_survives_saving_and_gives_the_same_bytes_twice(tmp_path: Path) -> None:
    records = training.compiled(forests(table()))
    inference.save(tmp_path / "a.npz", records)
    inference.save(tmp_path / "b.npz", records)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    assert inference.load(tmp_path / "a.npz").tobytes() == records.tobytes()


def test_a_file_that_is_no_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "early.npz"
    path.write_bytes(b"not a model")
    with pytest.raises(ClassifierError, match=r"early\.npz: cannot be read as a model"):
        inference.load(path)


def test_trees_that_lead_outside_or_in_a_circle_are_refused() -> None:
    sound = inference.shipped()
    inner = len(LENGTHS) * (1 + inference.PERCENTS) + np.flatnonzero(
        sound["left"][len(LENGTHS) * (1 + inference.PERCENTS) :] >= 0
    )
    for name, value in (("left", len(sound)), ("right", 0), ("feature", len(COLUMNS))):
        broken = sound.copy()
        broken[name][inner[0]] = value
        with pytest.raises(ClassifierError, match="not a sound array"):
            inference.check(broken)


# ---- in the path


def only(engine: Engine, packets: Packets) -> Any:
    """Return the one flow of these packets."""
    engine.feed(packets)
    (flow,) = engine.flows()
    return flow


@pytest.mark.parametrize(("count", "asked"), [(4, 4), (7, 4), (8, 8), (9, 8)])
def test_a_silent_flow_is_asked_with_the_most_packets_there_are(count: int, asked: int) -> None:
    flow = only(Engine(model=eager()), talk(count))
    assert (flow["verdict"], flow["app"], flow["role"]) == (UNSURE, RTC, MEDIA)
    assert verdict_of(flow).evidence.startswith(
        f"sizes and timing of {asked} packets look like a call"
    )


def test_beside_fingerprints_one_forest_that_sees_no_call_outvotes_the_others() -> None:
    for head in range(len(LENGTHS)):
        doubting = eager()
        doubting["limit"][head] = 2.0
        assert only(Engine(model=doubting), talk(20))["verdict"] == NOT_CALL
        alone = only(Engine(model=doubting, fingerprints=False), talk(20))
        assert alone["verdict"] == (NOT_CALL if head == len(LENGTHS) - 1 else UNSURE)


def test_what_looks_like_a_call_at_ten_packets_is_watched_until_sixteen() -> None:
    flow = only(Engine(model=eager()), talk(40))
    assert flow["verdict_packets"] == KEPT
    assert only(Engine(model=None), talk(40))["verdict_packets"] == 10


def test_three_packets_are_too_few_for_the_model() -> None:
    assert only(Engine(model=eager()), talk(3))["verdict"] == NOT_CALL


def test_the_model_never_makes_a_verdict_certain() -> None:
    for engine in (Engine(model=eager()), Engine(model=eager(), fingerprints=False)):
        engine.feed(random_flows(60, 8))
        verdicts = engine.flows()["verdict"]
        assert UNSURE in verdicts
        assert CERTAIN not in verdicts


def test_without_a_model_the_same_flow_has_no_sign_of_a_call() -> None:
    flow = only(Engine(model=None), talk(20))
    assert flow["verdict"] == NOT_CALL
    assert verdict_of(flow).evidence.startswith("no sign of a call")


def test_random_sizes_and_gaps_are_rarely_unsure_and_never_certain() -> None:
    for engine in (Engine(), blind()):
        engine.feed(random_flows(200, 21))
        flows = engine.flows()
        assert not (flows["verdict"] == CERTAIN).any()
        assert (flows["verdict"] == UNSURE).sum() <= 10


def test_with_fingerprints_off_no_app_is_named_whatever_the_payload() -> None:
    for path in sorted(SAMPLES.glob("*.pcap*")):
        engine = blind()
        engine.feed(read(path))
        flows = engine.flows()
        assert not (flows["verdict"] == CERTAIN).any()
        assert {APPS[app] for app in np.unique(flows["app"])} <= {"none", "rtc"}


def test_with_fingerprints_off_the_payload_changes_nothing() -> None:
    first, second = talk(30, seed=1), talk(30, seed=2)
    one, other = only(blind(), first), only(blind(), second)
    assert one.tobytes() == other.tobytes()


def test_a_flow_of_the_model_can_still_become_certain() -> None:
    sample = next(iter(sorted(SAMPLES.glob("sample-whatsapp-audio.pcap*"))))
    packets = read(sample)
    plain, helped = Engine(model=None), Engine(model=eager())
    plain.feed(packets)
    helped.feed(packets)
    before, after = plain.flows(), helped.flows()
    sure = before["verdict"] == CERTAIN
    assert sure.any()
    assert before[sure].tobytes() == after[sure].tobytes()


def test_engines_do_not_share_the_scratch_of_the_model() -> None:
    first, second = Engine(), Engine()
    first.feed(talk(12))
    first.flows()
    assert not second.tables.model["column"].any()
    assert not inference.shipped().flags.writeable


def test_a_note_stays_small() -> None:
    assert NOTE.itemsize <= 320
    assert NOTE["sizes"].shape == (KEPT,)


# ---- windows


def test_windows_begin_at_the_start_and_in_mid_flow() -> None:
    found = windows(talk(100))
    assert found.frame.tolist() == [1, 1]
    assert found.start.tolist() == [0, 64]
    assert found.packets.tolist() == [16, 16]


def test_a_flow_of_three_payloads_has_no_window() -> None:
    assert len(windows(talk(3)).frame) == 0


def test_wrong_lengths_and_widths_are_refused() -> None:
    with pytest.raises(ClassifierError, match="no forest for 5 packets"):
        inference.scores(inference.shipped(), 5, np.zeros((1, len(COLUMNS)), np.float32))
    with pytest.raises(ClassifierError, match="rows of shape"):
        inference.scores(inference.shipped(), 4, np.zeros((1, 2), np.float32))
