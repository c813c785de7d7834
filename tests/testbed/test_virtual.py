# SPDX-License-Identifier: BSD-3-Clause
"""Virtual time: what a loss keeps from being sent, and that equal inputs give equal bytes."""

from __future__ import annotations

import os
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from midcall.captures.packets.pcap import read
from midcall.captures.truth.calls import calls
from midcall.captures.truth.catalogue import load as load_catalogue
from midcall.testbed.middlebox.decide import DELIVERED
from midcall.testbed.policy.loader import load
from midcall.testbed.replay.simulator import simulate

ROOT = Path(__file__).resolve().parents[2]


def test_the_control_sends_and_delivers_every_packet_at_its_captured_time(
    scene: Any, make: Any, run: Any
) -> None:
    call = make.webrtc_call(scene, seconds=2.0)
    simulation = run(scene, None, call, access="4g")
    assert (simulation.fates["fate"] == DELIVERED).all()
    down = simulation.script.side == 1
    assert (simulation.fates["arrival_time"][down] == scene.packets.time[down]).all()
    assert (simulation.script.send[~down] == scene.packets.time[~down]).all()
    assert simulation.counters["not_sent"] == 0


def test_the_box_stands_in_the_middle_of_the_way(scene: Any, make: Any, run: Any) -> None:
    scene.udp(0.0, ">", make.RELAY, 3478, make.stun(1, 7))
    scene.udp(0.1, "<", make.RELAY, 3478, make.stun(0x101, 7))
    simulation = run(scene)
    start = scene.START
    assert (simulation.fates["box_time"] - start).tolist() == [5_000_000, 95_000_000]
    assert (simulation.fates["arrival_time"] - start).tolist() == [10_000_000, 100_000_000]


def test_media_of_a_call_whose_set_up_is_lost_are_never_sent(
    scene: Any, make: Any, run: Any, policy: Any
) -> None:
    call = make.webrtc_call(scene, seconds=1.0)
    rules = policy({"match": {"stun": True, "direction": "up"}, "act": "drop", "scope": "packet"})
    simulation = run(scene, rules, call)
    assert simulation.fates["sent"].nonzero()[0].tolist() == [0, 2]
    assert simulation.opened.tolist() == [-1, -1]
    # RFC 8489: seven requests in 31.5 s; the far side's check has no answer, and comes again too.
    assert simulation.fates["attempts"][[0, 2]].tolist() == [7, 7]
    assert simulation.counters["resent"] == 12


def requests(make: Any, success: int) -> tuple[Any, Any]:
    """Return a capture of 50 s of requests to two relays, one of which answers once."""
    scene = make.Scene()
    for n in range(50):
        scene.udp(float(n), ">", make.RELAY, 3478, make.stun(3, n))
        scene.udp(float(n), ">", make.PEER, 3478, make.stun(3, n))
        if n == success:
            reply = scene.udp(n + 0.1, "<", make.PEER, 3478, make.stun(0x103, n))
    pair = [2 * success + 2, reply]
    gate = {"flow": 2, "by": [2], "kind": "transaction", "pairs": [pair]}
    return scene, make.call_of(setup=[1, 2], gate=[gate])


def test_requests_go_on_until_the_timer_and_not_beyond(make: Any, run: Any, policy: Any) -> None:
    scene, call = requests(make, 0)
    drop = policy({"match": {"direction": "down"}, "act": "drop", "scope": "packet"})
    simulation = run(scene, drop, call)
    relay = simulation.fates["sent"][simulation.script.flow == 0]
    assert relay.tolist() == [True] * 40 + [False] * 10
    assert simulation.counters["gave_up"] == 10
    assert run(scene, None, call).fates["sent"].all()


def test_a_timer_that_the_capture_itself_outlives_is_not_the_apps(make: Any, run: Any) -> None:
    scene, call = requests(make, 49)
    assert run(scene, None, call).fates["sent"].all()


def test_a_tcp_flow_stalls_behind_lost_bytes(
    scene: Any, make: Any, run: Any, policy: Any, fates: Any
) -> None:
    scene.hello(0.0, make.PEER, 80)
    scene.tcp(0.05, ">", make.PEER, 80, b"GET")
    scene.tcp(0.09, "<", make.PEER, 80, make.client_hello("a.example"))
    scene.tcp(0.10, "<", make.PEER, 80, b"b" * 100)
    scene.tcp(0.11, ">", make.PEER, 80, flags=0x10)
    scene.tcp(0.12, ">", make.PEER, 80, b"more")
    size = len(make.client_hello("a.example"))
    rules = policy({"match": {"size": size}, "act": "drop", "scope": "packet"})
    simulation = run(scene, rules)
    assert fates(simulation) == "ddddxd.."
    assert simulation.counters["stalled"] == 1
    assert simulation.fates["attempts"].tolist() == [1, 1, 1, 1, 7, 1, 0, 0]
    lost = simulation.attempts[simulation.attempts["packet"] == 4]
    waits = np.diff(lost["sent"]) / 1e9
    assert waits.tolist() == [1, 2, 4, 8, 16, 32]  # RFC 6298


def test_a_retransmission_in_the_capture_fills_the_hole(
    scene: Any, make: Any, run: Any, policy: Any, fates: Any
) -> None:
    scene.hello(0.0, make.PEER, 80)
    scene.tcp(0.05, ">", make.PEER, 80, b"GET")
    key = (make.PEER, 80, make.PORT, "<")
    hello = make.client_hello("a.example")
    scene.tcp(0.09, "<", make.PEER, 80, hello)
    scene.sequences[key] -= len(hello)
    scene.tcp(0.30, "<", make.PEER, 80, hello)
    scene.tcp(0.31, ">", make.PEER, 80, b"thanks")
    early = {"match": {"size": len(hello), "seconds": "-0.2"}, "act": "drop", "scope": "packet"}
    simulation = run(scene, policy(early))
    # The copy of the capture arrives first, then the one that the retransmission timer sends.
    assert fates(simulation) == "ddddddd"
    assert simulation.fates["attempts"].tolist() == [1, 1, 1, 1, 2, 1, 1]
    used = (simulation.fates["used_time"] - scene.START) / 1e9
    assert used[5:].tolist() == [0.3, 0.32]
    assert used[4] == 1.09


def test_a_lost_dns_answer_keeps_the_connection_from_being_opened(
    scene: Any, make: Any, run: Any, policy: Any, fates: Any
) -> None:
    scene.udp(0.00, ">", make.RESOLVER, 53, make.question(1, "a.example"), near=5353)
    scene.udp(0.03, "<", make.RESOLVER, 53, make.answer(1, "a.example", make.PEER), near=5353)
    scene.hello(0.05, make.PEER, 443)
    drop = {"match": {"ports": [53], "direction": "down"}, "act": "drop", "scope": "packet"}
    assert fates(run(scene, policy(drop))) == "dx..."


def test_equal_inputs_give_equal_bytes_and_another_seed_other_draws(
    make: Any, run: Any, policy: Any
) -> None:
    def log(seed: int) -> bytes:
        scene = make.Scene()
        for n in range(64):
            scene.udp(0.01 * n, ">", make.PEER, 1000 + n, b"x" * 40, near=20000 + n)
        rule = {"match": {"protocol": "udp"}, "act": "drop", "probability": 0.5}
        simulation = run(scene, policy(rule), access="4g", seed=seed)
        return bytes(
            simulation.fates.tobytes() + simulation.flow.tobytes() + simulation.flows.tobytes()
        )

    assert log(1) == log(1)
    assert log(1) != log(2)


def test_another_policy_does_not_change_the_script_of_a_capture(
    scene: Any, make: Any, run: Any, policy: Any
) -> None:
    call = make.webrtc_call(scene, seconds=1.0)
    packets = scene.packets
    before = run(packets, None, call)
    run(packets, policy({"match": {"stun": True}, "act": "drop"}), call)
    after = run(packets, None, call)
    assert after.script is before.script
    assert after.fates.tobytes() == before.fates.tobytes()


SAMPLE = """
import sys
sys.path[:0] = ["tests/testbed"]
import conftest as make
from midcall.testbed.policy.language import Rule
from midcall.testbed.policy.operator import Policy
from midcall.testbed.replay.simulator import simulate
import hashlib

scene = make.Scene()
call = make.webrtc_call(scene, seconds=1.0)
scene.udp(1.5, ">", make.RESOLVER, 53, make.question(1, "a.example"), near=5353)
scene.udp(1.6, "<", make.RESOLVER, 53, make.answer(1, "a.example", make.PEER), near=5353)
scene.hello(1.7, make.PEER, 443)
scene.tcp(1.8, ">", make.PEER, 443, make.client_hello("www.b.example"))
scene.udp(1.9, ">", make.PEER, 1234, b"x" * 1480, near=20000)
out = hashlib.sha256()
rules = [
    {"match": {"role": ["media"], "verdict": "unsure"}, "act": "drop-media"},
    {"match": {"stun": True, "direction": "down"}, "act": "drop", "scope": "packet"},
    {"match": {"name": ["*.b.example"]}, "act": "drop"},
    {"match": {"dns": ["a.example"]}, "act": "dns-lie"},
    {"match": {"addresses": ["198.51.100.0/24"], "ports": ["1000-2000"]}, "act": "drop"},
    {"match": {"protocol": "udp"}, "act": "drop", "probability": 0.4, "per": "client"},
    {"match": {"protocol": "udp"}, "act": "drop", "probability": 0.6},
    {"match": {"payload": ["rtp"]}, "act": "delay", "delay_ms": 80, "jitter_ms": 9},
    {"match": {"stun_method": ["binding"]}, "act": "police", "rate_kbit": 24, "bucket_bytes": 900,
     "scope": "client"},
    {"match": {"entropy": "0.5-0.95"}, "act": "loss", "loss": 0.2, "burst": 4, "way": "down"},
    {"match": {"size": "60-"}, "act": "shape", "rate_kbit": 20, "queue_ms": 300, "lasts_s": 0.4},
    {"match": {"name": ["*.b.example"]}, "act": "drop", "after": {"packets": 1}, "scope": "pair"},
    {"match": {"name": ["*.b.example"]}, "act": "reset", "path": "on"},
    {"match": {"dns": ["a.example"]}, "act": "dns-lie", "path": "on", "answer": "nxdomain"},
    {"match": {"packets": "3-9", "seconds": "-0.5"}, "act": "jitter", "jitter_ms": 5},
]
for rule in [None, *rules]:
    about = {"name": "r", "grade": "C", "source": "a test"}
    told = () if rule is None else (Rule.model_validate({**about, **rule}),)
    for access in ("4g", "adsl", "fibre"):
        for model in ("time", "pairwise", "strict"):
            link = "preset" if access == "adsl" else "captured"
            s = simulate(scene.packets, [call], [], Policy(told), access, 3, model, link)
            out.update(s.fates.tobytes() + s.flow.tobytes() + s.flows.tobytes())
            out.update(s.letters.tobytes() + s.mail.tobytes())
print(out.hexdigest())
"""


@pytest.mark.slow
def test_plain_python_and_compiled_code_give_equal_bytes() -> None:
    values = []
    for disabled in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", SAMPLE],
            cwd=ROOT,
            env={**os.environ, "NUMBA_DISABLE_JIT": disabled, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        values.append(done.stdout.strip())
    assert len(values[0]) == 64
    assert values[0] == values[1]


def real_captures(corpus: Path) -> list[tuple[str, Path, Any]]:
    """Return (name, path, calls) of the real captures in a folder, by their digests' names."""
    by_file: dict[str, list[Path]] = {}
    for path in corpus.rglob("*.pcap*"):
        by_file.setdefault(path.name, []).append(path)
    out = []
    for capture in load_catalogue(local=False).captures:
        for path in by_file.get(capture.file, []):
            if not capture.synthetic and path.stat().st_size == capture.bytes:
                out.append((capture.name, path, calls(capture.sha256)))
                break
    return out


@pytest.mark.slow
@pytest.mark.corpus
def test_the_control_of_every_real_capture_sends_everything(corpus: Path) -> None:
    captures = real_captures(corpus)
    assert len(captures) > 50
    bad = []
    for name, path, known in captures:
        packets = read(path)
        for model in ("time", "pairwise", "strict"):
            simulation = simulate(packets, known, [], None, "4g", 1, model)
            unsent = simulation.counters["not_sent"] + simulation.counters["dropped"]
            if unsent or simulation.counters["box_malformed"]:
                bad.append((name, model, simulation.counters))
    assert bad == []


@pytest.mark.corpus
def test_nothing_is_dropped_outside_the_dated_table(corpus: Path) -> None:
    operator = load("maroc-telecom")
    for name, path, known in real_captures(corpus)[:20]:
        packets = read(path)
        for one in operator.hypotheses:
            policy = operator.policy(one.id, "adsl", date(2016, 11, 4))
            simulation = simulate(packets, known, [], policy, "adsl", 1)
            assert not simulation.struck.any(), (name, one.id)


def test_a_capture_without_packets_is_simulated_too(make: Any, run: Any) -> None:
    simulation = run(make.Scene())
    assert (len(simulation.fates), len(simulation.flows)) == (0, 0)


def test_counters_add_up_to_the_packets(scene: Any, make: Any, run: Any, policy: Any) -> None:
    call = make.webrtc_call(scene, seconds=1.0)
    simulation = run(scene, policy({"match": {"stun": True}, "act": "drop"}), call)
    names = ("not_sent", "delivered", "dropped", "forged", "too_big")
    assert sum(simulation.counters[name] for name in names) == len(simulation.fates)
    waits = ("waited", "gave_up", "without_consent", "killed")
    assert sum(simulation.counters[name] for name in waits) == simulation.counters["not_sent"]
    assert np.count_nonzero(simulation.struck) == simulation.counters["dropped"]
