# SPDX-License-Identifier: BSD-3-Clause
"""A live replay gives what virtual time gives, and its taps prove what became of every packet."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from midcall.captures.packets.pcap import read
from midcall.captures.truth.calls import calls
from midcall.errors import TestbedError
from midcall.testbed.assess.call_verdict import judge
from midcall.testbed.live.box.rings import inside
from midcall.testbed.live.network import network as networks
from midcall.testbed.live.network.network import Network
from midcall.testbed.live.replay import run as replays
from midcall.testbed.live.replay.run import Capture, Replay, simulate
from midcall.testbed.middlebox.decide import DROPPED, FORGED
from midcall.testbed.middlebox.inject import CORRUPTED, DUPLICATE, RESET, UNREACHABLE
from midcall.testbed.middlebox.rule_table import DOWN, UP
from midcall.testbed.policy.language import Rule
from midcall.testbed.policy.operator import EMPTY, Policy
from midcall.testbed.replay.excerpt import excerpt
from midcall.testbed.replay.sides import CALLER, FAR

pytestmark = pytest.mark.live

SAMPLES = Path(__file__).resolve().parents[2] / "captures" / "samples"
SEED = 7


def sample(name: str, seconds: float = 3.0) -> Capture:
    """Return the first seconds of a committed sample's call."""
    path = next(SAMPLES.glob(f"{name}.pcap*"))
    truth = calls(hashlib.sha256(path.read_bytes()).hexdigest())
    part = excerpt(read(path), truth, [], seconds)
    return Capture(name, part.packets, part.calls)


def ruled(**words: Any) -> Policy:
    """Return a policy of one rule, named "made-up"."""
    about = {"name": "made-up", "grade": "C", "source": "made up for this test"}
    return Policy((Rule.model_validate(about | words),))


@pytest.fixture(scope="module")
def wide() -> Iterator[Network]:
    """A network whose links take what every access network makes of a packet."""
    with Network(mtu=1900) as made:
        yield made


@pytest.fixture(scope="module")
def control(wide: Network) -> Replay:
    """A voice call and a look-up, at once, under no rule."""
    captures = [sample("sample-whatsapp-audio", 5), sample("sample-dns")]
    return simulate(captures, None, "3g", SEED, network=wide)


def assert_as_twin(replay: Replay) -> None:
    """Assert that every packet's fate is the one it has in virtual time, and proven."""
    for live, twin in zip(replay.simulations, replay.twins, strict=True):
        for column in ("sent", "fate", "rule", "letters"):
            differing = np.flatnonzero(live.fates[column] != twin.fates[column])
            assert differing.tolist() == [], column
        assert live.met.tolist() == twin.met.tolist()
    assert replay.fates["packets"] == replay.fates["proven"] > 0


def test_without_a_rule_everything_passes_as_in_virtual_time(control: Replay) -> None:
    assert_as_twin(control)
    voice = control.simulations[0]
    for call in voice.calls:
        verdict = judge(voice, voice, call)
        assert verdict.verdict == judge(control.twins[0], control.twins[0], call).verdict == "OK"
        assert verdict.media_delivered > 0
    assert len(control.error_us) == control.counters["frames"] == control.fates["packets"]
    seen = np.concatenate(control.seen)
    on_wire = seen["times"] > 0
    for first, then in (("due", "sent"), ("sent", "box_in"), ("box_in", "came")):
        assert (seen[then] >= seen[first])[on_wire].all(), (first, then)
    assert (seen["box_out"] >= seen["box_in"])[on_wire].all()
    assert len(control.added_us) == int(on_wire.sum())


def test_a_rule_blocks_a_call_and_the_taps_prove_it(
    wide: Network, control: Replay, tmp_path: Path
) -> None:
    policy = ruled(match={"app": ["whatsapp"], "role": ["setup", "media"]}, act="drop")
    captures = [sample("sample-whatsapp-audio", 5), sample("sample-dns")]
    replay = simulate(captures, policy, "3g", SEED, network=wide, taps=tmp_path)
    assert_as_twin(replay)
    live, call = replay.simulations[0], captures[0].calls[0]
    verdict = judge(live, control.simulations[0], call)
    assert verdict.blocked
    twin = judge(replay.twins[0], control.twins[0], call)
    for name in ("verdict", "rule", "packets_to_block", "media_sent", "media_control"):
        assert getattr(verdict, name) == getattr(twin, name), name
    struck, seen = live.attempts["fate"] == DROPPED, replay.seen[0]
    assert struck.any()
    assert len(seen) == len(live.attempts) > int(live.fates["sent"].sum())
    assert (seen["box_in"][struck] > 0).all()
    assert not seen["came"][struck].any()
    assert seen["proven"][struck].all()
    assert not replay.simulations[1].struck.any()
    assert [path.name for path in replay.taps] == [
        "caller.pcapng", "box-caller-side.pcapng", "box-server-side.pcapng", "server.pcapng",
    ]  # fmt: skip
    number = int(live.attempts["packet"][struck][0]) + 1
    words = f"sample-whatsapp-audio packet {number}: dropped by rule made-up".encode()
    contents = {path.stem: path.read_bytes() for path in replay.taps}
    assert words in contents["caller"]
    assert words not in contents["server"]
    on_caller = sum(int((one["sent"] > 0).sum() + (one["came"] > 0).sum()) for one in replay.seen)
    ups = [one.script.side[one.attempts["packet"]] == 0 for one in replay.simulations]
    at_caller = [
        np.where(up, s["sent"], s["came"]) > 0 for up, s in zip(ups, replay.seen, strict=True)
    ]
    assert read(replay.taps[0]).total == sum(int(one.sum()) for one in at_caller) < on_caller


def test_a_forged_answer_is_believed_and_what_it_answers_is_kept(wide: Network) -> None:
    policy = ruled(match={"dns": ["*.example.org"]}, act="dns-lie")
    replay = simulate([sample("sample-dns")], policy, "fibre", SEED, network=wide)
    assert_as_twin(replay)
    live = replay.simulations[0]
    asked = live.fates["fate"] == FORGED
    assert asked.any()
    assert (live.fates["letters"][asked] == 1).all()
    assert live.fates["letters"].sum() == len(live.letters) == replay.counters["injected"]
    assert not replay.seen[0]["came"][asked[live.attempts["packet"]]].any()
    letters = live.letters
    assert set(letters["packet"].tolist()) == set(np.flatnonzero(asked).tolist())
    assert (letters["time"] >= live.fates["box_time"][letters["packet"]]).all()
    mail = live.mail[letters[0]["at"] :][: letters[0]["length"]].tobytes()
    assert bytes((198, 18, 0, 66)) in mail or len(mail) > 54


def test_a_reset_ends_a_connection_at_both_ends(wide: Network) -> None:
    policy = ruled(match={"name": ["*.example.org", "*.example.com"]}, act="reset")
    replay = simulate([sample("sample-web")], policy, "adsl", SEED, network=wide)
    assert_as_twin(replay)
    live, twin = replay.simulations[0], replay.twins[0]
    kinds = sorted(live.letters["kind"].tolist())
    assert kinds == sorted(twin.letters["kind"].tolist()) == [RESET] * len(kinds) != []
    assert set(live.letters["toward"].tolist()) == {UP, DOWN}
    assert live.counters["waited"] == twin.counters["waited"] > 0


@pytest.mark.parametrize(
    ("name", "rule", "kinds"),
    [
        ("sample-dns", {"match": {"protocol": "udp"}, "act": "unreachable"}, {UNREACHABLE}),
        (
            "sample-whatsapp-audio",
            {"match": {"protocol": "udp"}, "act": "duplicate", "share": 0.3},
            {DUPLICATE},
        ),
        (
            "sample-whatsapp-audio",
            {"match": {"protocol": "udp"}, "act": "corrupt", "share": 0.1, "scope": "packet"},
            {CORRUPTED},
        ),
        (
            "sample-whatsapp-audio",
            {"match": {"protocol": "udp"}, "act": "mark", "code_point": "le"},
            set(),
        ),
        (
            "sample-whatsapp-audio",
            {"match": {"protocol": "udp"}, "act": "drop", "scope": "packet",
             "after": {"packets": 4, "direction": "up", "per": "client"}},
            set(),
        ),
    ],
)  # fmt: skip
def test_an_act_does_on_the_wire_what_it_does_in_virtual_time(
    wide: Network, name: str, rule: dict[str, Any], kinds: set[int]
) -> None:
    replay = simulate([sample(name)], ruled(**rule), "4g", SEED, network=wide)
    assert_as_twin(replay)
    live, twin = replay.simulations[0], replay.twins[0]
    assert set(live.letters["kind"].tolist()) == set(twin.letters["kind"].tolist()) == kinds
    assert len(live.letters) == len(twin.letters) == replay.counters["injected"]
    assert (live.fates["rule"] >= 0).any() or rule["act"] == "mark"
    assert live.met.sum() > 0


def test_a_box_that_sees_one_direction_decides_live_as_in_virtual_time(wide: Network) -> None:
    policy = ruled(match={"protocol": "udp", "packets": "2-"}, act="drop", scope="packet")
    one_way = dataclasses.replace(policy, sees="down")
    replay = simulate([sample("sample-whatsapp-audio")], one_way, "4g", SEED, network=wide)
    assert_as_twin(replay)
    live = replay.simulations[0]
    assert (live.fates["fate"][live.script.side == FAR] == DROPPED).any()
    assert not (live.fates["fate"][live.script.side == CALLER] == DROPPED).any()


def test_a_delay_is_measured_on_the_wire(wide: Network) -> None:
    policy = ruled(match={"protocol": "udp"}, act="delay", delay_ms=40)
    replay = simulate([sample("sample-sip-audio")], policy, "fibre", SEED, network=wide)
    assert_as_twin(replay)
    live, seen = replay.simulations[0], replay.seen[0]
    slowed = live.slowed
    assert slowed.any()
    assert (seen["came"] - seen["box_in"] >= 40_000_000)[slowed].all()
    assert (live.one_way[slowed] >= 40_000_000).all()
    assert len(replay.added_us) == int((~slowed & (seen["came"] > 0)).sum())


def test_marked_packets_leave_a_queue_with_cross_traffic_first_as_in_virtual_time(
    wide: Network,
) -> None:
    (mark,) = ruled(match={"direction": "up"}, act="mark", code_point="ef").rules
    (queue,) = ruled(
        name="queue", match={"protocol": "udp"}, act="prioritise", scope="client", rate_kbit=700,
        queue_ms=3000, first=["ef"], cross_kbit=600,
    ).rules  # fmt: skip
    policy = Policy((mark, queue))
    replay = simulate([sample("sample-whatsapp-audio")], policy, "fibre", SEED, network=wide)
    assert_as_twin(replay)
    live, twin = replay.simulations[0], replay.twins[0]
    queued = live.slowed & twin.slowed
    first = queued & (live.script.side == CALLER)
    other = queued & (live.script.side == FAR)
    assert min(first.sum(), other.sum()) > 20
    for run in (live, twin):
        assert run.one_way[first].mean() < run.one_way[other].mean() / 2
    for some in (first, other):
        assert 0.5 < live.one_way[some].mean() / twin.one_way[some].mean() < 2


def test_one_capture_twice_at_once_is_two_calls(wide: Network) -> None:
    policy = ruled(match={"stun": True}, act="drop")
    twice = [sample("sample-whatsapp-video", 2), sample("sample-whatsapp-video", 2)]
    replay = simulate(twice, policy, "fibre", SEED, network=wide)
    assert_as_twin(replay)
    one, other = replay.simulations
    assert one.fates["fate"].tolist() == other.fates["fate"].tolist()
    routed = one.flow >= 0
    assert not set(one.flow[routed].tolist()) & set(other.flow[routed].tolist())
    assert one.met.tolist() == other.met.tolist() != [0]


def test_what_a_link_loses_is_lost_and_sent_again_as_in_virtual_time(wide: Network) -> None:
    policy = ruled(match={"protocol": "tcp"}, act="loss", loss=0.2)
    replay = simulate([sample("sample-web")], policy, "fibre", SEED, network=wide)
    live, twin = replay.simulations[0], replay.twins[0]
    assert live.counters["resent"] == twin.counters["resent"] > 0
    assert replay.fates["packets"] == replay.fates["proven"]
    assert (live.attempts["number"] > 1).any()
    assert (live.fates["attempts"] == twin.fates["attempts"]).all()
    assert (live.fates["fate"] == twin.fates["fate"]).all()


def test_decided_flows_in_the_kernel_have_the_same_fates(wide: Network) -> None:
    policy = ruled(match={"app": ["whatsapp"], "role": ["media"]}, act="drop")
    replay = simulate(
        [sample("sample-whatsapp-audio")], policy, "fibre", SEED, network=wide, offload="auto"
    )
    if not replay.counters["offload_entered"]:
        pytest.skip("this kernel takes no decided flows")
    assert (replay.simulations[0].fates["fate"] == replay.twins[0].fates["fate"]).all()
    assert replay.simulations[0].met.tolist() == replay.twins[0].met.tolist()
    assert replay.fates["packets"] == replay.fates["proven"]


def test_captured_addresses_are_kept_only_where_no_route_leads_out(wide: Network) -> None:
    one = sample("sample-dns", 1)
    with pytest.raises(TestbedError, match="got 2 captures at once, expected 1"):
        simulate([one, one], None, "fibre", SEED, addressing="keep", network=wide)
    assert_as_twin(simulate([one], None, "fibre", SEED, addressing="keep", network=wide))
    route = ["ip", "route", "add", "203.0.113.0/24", "dev", wide.ports.s0]
    with inside(wide.server_pid):
        subprocess.run(route, check=True)
    try:
        with pytest.raises(TestbedError, match=r"a route leads out of the server's namespace"):
            simulate([one], None, "fibre", SEED, addressing="keep", network=wide)
    finally:
        route[2] = "del"
        with inside(wide.server_pid):
            subprocess.run(route, check=True)


def test_a_policy_that_blocks_nothing_live_is_an_error(
    wide: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replays.Stage, "policy", lambda self, policy: EMPTY)
    policy = ruled(match={"stun": True}, act="drop")
    with pytest.raises(TestbedError, match="struck none live"):
        simulate([sample("sample-whatsapp-video", 1)], policy, "fibre", SEED, network=wide)


def test_a_box_that_dies_makes_the_run_void(wide: Network, monkeypatch: pytest.MonkeyPatch) -> None:
    inner = replays.to_the_end

    def to_the_end(play: Any, box: Any, *rest: Any) -> None:
        box.kill()
        inner(play, box, *rest)

    monkeypatch.setattr(replays, "to_the_end", to_the_end)
    with pytest.raises(TestbedError, match="the box died"):
        simulate([sample("sample-dns", 2)], None, "fibre", SEED, network=wide)


def test_what_cannot_be_played_is_told_before_anything_starts(network: Network) -> None:
    one = sample("sample-dns", 1)
    with pytest.raises(TestbedError, match="captures: got none"):
        simulate([], None, "fibre", SEED)
    with pytest.raises(TestbedError, match="MTU of 1500, and 3g needs 1600"):
        simulate([one], None, "3g", SEED, network=network)
    with pytest.raises(TestbedError, match="link: got 'fast'"):
        simulate([one], None, "3g", SEED, link="fast")


LAB = """
import sys
from pathlib import Path
from midcall.captures.packets.pcap import read
from midcall.testbed.live.replay import run as replay
inner = replay.to_the_end
def announced(play, box, *rest):
    print(box.process.pid, box.worker, flush=True)
    inner(play, box, *rest)
replay.to_the_end = announced
replay.simulate([replay.Capture("games", read(sys.argv[1]))], None, "fibre", 7)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_lab_that_ends_in_mid_replay_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    lab = subprocess.Popen(
        [sys.executable, "-c", LAB, str(SAMPLES / "sample-games.pcap")],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=os.environ | {"MIDCALL_LIVE": str(tmp_path)},
        cwd=SAMPLES.parents[1],
    )
    assert lab.stdout is not None
    pids = [int(word) for word in lab.stdout.readline().split()]
    folder = next(tmp_path.glob("mc*"))
    assert len(pids) == 2
    time.sleep(0.3)
    lab.send_signal(number)
    assert lab.wait(20) != 0
    lab.stdout.close()
    if number == signal.SIGKILL:
        monkeypatch.setattr(networks, "RUNS", tmp_path)
        assert networks.sweep() == [folder.name]
    until = time.monotonic() + 5
    while any(networks.start_time(pid) for pid in pids) and time.monotonic() < until:
        time.sleep(0.02)
    assert [networks.start_time(pid) for pid in pids] == [None, None]
    assert not folder.exists()
    links = Path("/proc/net/dev").read_text()
    assert folder.name not in links
