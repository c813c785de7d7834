# SPDX-License-Identifier: BSD-3-Clause
"""nftables and iptables decide a capture's packets in a namespace of the lab, and leave nothing."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from midcall.experiments.engines import edge_cases, edits, matrix, prove, speed
from midcall.experiments.engines.elements import elements
from midcall.testbed.engines.engine_import import imported, write
from midcall.testbed.engines.export import export
from midcall.testbed.live.network.network import RUNS
from tests.experiments.drawn_policies import exact_differences
from tests.experiments.own_policy import own_policy

pytestmark = pytest.mark.live

SAMPLES = Path(__file__).resolve().parents[2] / "captures" / "samples"
CAPTURES = [str(SAMPLES / "sample-whatsapp-audio.pcap"), str(SAMPLES / "sample-web.pcap")]
PROGRAMS = {"nftables": "nft", "iptables": "iptables-restore"}


@pytest.fixture(params=["nftables", "iptables"])
def engine(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    if shutil.which(PROGRAMS[name]) is None:
        pytest.skip(f"{PROGRAMS[name]} is not installed")
    return name


def test_the_kernel_does_what_the_box_does_and_leaves_nothing(engine: str, tmp_path: Path) -> None:
    before = sorted(RUNS.glob("mc*"))
    for policy in ("mechanisms/call-ports", "mechanisms/high-udp"):
        proof = prove.prove(policy, engine, CAPTURES, tmp_path / "d.pcapng")
        assert proof["packets"] > 100
        assert proof["differs"] == 0
        assert proof["exact"]
    assert sorted(RUNS.glob("mc*")) == before


@pytest.mark.longest
def test_exact_translations_differ_in_nothing_and_each_other_one_somewhere(engine: str) -> None:
    inputs = prove.Inputs([edge_cases.NAME, *CAPTURES], None)
    exact = 0
    with prove.opened(engine) as running:
        for one in elements():
            made = export(one.policy, engine)
            if made.refused:
                continue
            named = matrix.Named(one.kind, one.name, one.policy)
            cell, file = matrix.answered(named, engine, running, "", inputs, "4g")
            assert bool(cell["differs"]) != made.exact, one.label
            assert bool(file) == bool(cell["differs"])
            exact += made.exact
    assert exact > 8


@pytest.mark.slow
def test_random_policies_with_an_exact_translation_differ_in_nothing(engine: str) -> None:
    inputs = prove.Inputs([edge_cases.NAME, CAPTURES[1]], None)
    with prove.opened(engine) as running:
        assert exact_differences(running, engine, inputs, "1", 60) == []


@pytest.mark.slow
def test_edits_that_change_a_fate_are_noticed(engine: str) -> None:
    inputs = prove.Inputs([edge_cases.NAME, *CAPTURES], None)
    with prove.opened(engine) as running:
        found = edits.edits(running, engine, inputs, "4g", 24, 30)
    assert found["edits"] == 30
    assert 5 < found["changed"] == found["noticed"]
    assert found["exact"] == []


def test_flows_of_icmp_and_sctp_are_those_of_the_box(engine: str) -> None:
    router = {"addresses": [f"{edge_cases.ROUTER}/32"]}
    kept = {"act": "pass", "scope": "flow"}
    policies = [
        [{"match": router, "act": "drop", "scope": "flow"}],
        [{"match": {"ports": [7000]}, "act": "drop", "scope": "flow"}],
        [{"match": router, **kept}, {"match": {"protocol": "udp"}, "act": "drop"}],
        [{"match": {"direction": "up"}, **kept}, {"match": {"direction": "down"}, "act": "drop"}],
    ]
    inputs = prove.Inputs([edge_cases.NAME], None)
    with prove.opened(engine) as running:
        for rules in policies:
            policy = edits.policy_of(rules)
            assert policy is not None
            exact = export(policy, engine).exact
            assert exact or (engine == "iptables" and rules is policies[-1])
            differs = prove.compared(running, policy, engine, inputs, "4g")[1]
            assert bool(differs) != exact, rules


def test_rules_of_a_file_are_compared_with_the_policy_imported_from_them(
    engine: str, tmp_path: Path
) -> None:
    text = {
        "nftables": "table inet f {\n chain forward {\n"
        "  type filter hook forward priority filter;\n"
        '  iifname "subscriber0" udp dport 3478 drop\n  ip daddr 192.0.2.0/24 drop\n }\n}\n',
        "iptables": "*filter\n-A FORWARD -i subscriber0 -p udp --dport 3478 -j DROP\n"
        "-A FORWARD -d 192.0.2.0/24 -j DROP\nCOMMIT\n",
    }[engine]
    rules, toml, out = tmp_path / "rules", tmp_path / "mine.toml", tmp_path / "d.pcapng"
    rules.write_text(text)
    write(toml, imported(rules, engine))
    proof = prove.prove(f"{toml}/imported", engine, CAPTURES, out, rules=rules)
    assert (proof["differs"], proof["exact"]) == (0, True)
    rules.write_text(text.replace("3478", "443"))
    proof = prove.prove(f"{toml}/imported", engine, CAPTURES, out, rules=rules)
    assert proof["differs"] > 0


def test_icmp_errors_differ_from_the_box_s_in_their_source_alone(
    engine: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keys = 'match = { protocol = "udp", ports = [3478, 53] }\nact = "unreachable"\nscope = "packet"'
    own = own_policy(tmp_path, keys)
    proof = prove.prove(own, engine, CAPTURES, tmp_path / "d.pcapng")
    assert proof["differs"] > 10
    assert b"not from the packet's target" in (tmp_path / "d.pcapng").read_bytes()
    monkeypatch.setattr("midcall.testbed.engines.kernel_engine.FOREIGN", 0)
    proof = prove.prove(own, engine, CAPTURES, tmp_path / "e.pcapng")
    assert proof["differs"] == 0


def test_rules_at_other_hooks_do_not_stop_the_comparison(tmp_path: Path) -> None:
    if shutil.which("nft") is None:
        pytest.skip("nft is not installed")
    rules, toml = tmp_path / "rules.nft", tmp_path / "mine.toml"
    rules.write_text("""table inet f {
  chain input { type filter hook input priority 0; policy drop; }
  chain output { type filter hook output priority 0; policy drop; }
  chain forward {
    type filter hook forward priority 0; policy drop;
    ct state invalid drop
    iifname "subscriber0" udp dport 3478 drop
    ct bytes > 900 drop
  }
}
""")
    write(toml, imported(rules, "nftables"))
    words = f"{toml}/imported", "nftables", CAPTURES, tmp_path / "d.pcapng"
    proof = prove.prove(*words, rules=rules, translated=True)
    assert proof["differs"] == 0
    assert proof["reason"] == "without lines 5, 6, 8, which the import leaves out"
    assert prove.prove(*words, rules=rules)["differs"] > 0


@pytest.mark.slow
def test_the_speed_of_each_path_is_measured_under_a_policy_that_acts() -> None:
    for program in ("nft", "iptables-restore", "suricata"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    before = set(RUNS.glob("mc*"))
    policy = prove.policy_names.named("mechanisms/stun", "4g", None).policy
    found = {one["path"]: one for one in speed.speeds(policy, kpps=(2, 5), bursts=1)}
    assert set(found) == set(speed.PATHS)
    for name, one in found.items():
        assert one["stopped"] == (0.0 if name == speed.KERNEL else 1.0)
        assert one["sent"] > 0
    assert set(RUNS.glob("mc*")) <= before  # what a dead run left is swept


def test_a_flow_stays_dropped_in_nftables_and_not_in_iptables(engine: str, tmp_path: Path) -> None:
    out = tmp_path / "d.pcapng"
    proof = prove.prove("mechanisms/stun", engine, CAPTURES, out)
    if engine == "nftables":
        assert proof["differs"] == 0
    else:  # netfilter forgets a connection whose first packet is dropped
        assert proof["smallest"] == {"file": str(out), "packets": 2}
        assert "forgets a connection" in proof["reason"]
