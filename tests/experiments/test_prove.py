# SPDX-License-Identifier: BSD-3-Clause
"""An engine is compared with the lab's box, and a difference is reduced to the packets it needs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from midcall.captures.packets.pcap import read
from midcall.errors import ExperimentError
from midcall.experiments.cli.app import app
from midcall.experiments.engines import prove
from midcall.testbed.engines.lab_capture import Answers, LabPacket, our_box
from midcall.testbed.policy.operator import EMPTY, Policy

SAMPLES = Path(__file__).resolve().parents[2] / "captures" / "samples"
CAPTURES = [str(SAMPLES / "sample-whatsapp-audio.pcap"), str(SAMPLES / "sample-web.pcap")]


class Twin:
    """The lab's box as an engine; edit: what becomes of the policy before it is applied."""

    def __init__(self, edit: Any) -> None:
        self.edit, self.policy = edit, EMPTY

    def load(self, policy: Policy) -> None:
        self.policy = self.edit(policy)

    def clear(self) -> None:
        self.policy = EMPTY

    def play(self, chosen: Sequence[LabPacket]) -> Answers:
        return our_box(chosen, self.policy, "4g")


def as_engine(monkeypatch: pytest.MonkeyPatch, twin: Any) -> None:
    @contextmanager
    def opened(_: str) -> Iterator[Any]:
        yield twin

    monkeypatch.setattr(prove, "opened", opened)


def first_edit(policy: Policy, **keys: Any) -> Policy:
    """Return a policy with another first rule."""
    one = policy.rules[0].model_copy(update=keys)
    return Policy((one, *policy.rules[1:]), policy.sets, policy.fail)


def test_an_engine_that_does_the_same_differs_in_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_engine(monkeypatch, Twin(lambda policy: policy))
    out = tmp_path / "d.pcapng"
    proof = prove.prove("mechanisms/upstream", "nftables", CAPTURES, out)
    assert proof["packets"] == proof["equal"] > 0
    assert proof["differs"] == 0
    assert proof["smallest"] is None
    assert proof["exact"]
    assert not out.exists()


def test_a_difference_is_reduced_to_the_packets_that_show_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    as_engine(monkeypatch, Twin(lambda policy: first_edit(policy, scope="packet")))
    out = tmp_path / "d.pcapng"
    proof = prove.prove("mechanisms/stun", "nftables", CAPTURES, out)
    smallest = proof["smallest"]
    assert proof["differs"] > 0
    assert not proof["exact"]
    assert smallest is not None
    assert smallest["packets"] == read(out).total == 2  # one that meets the rule, and one after it
    comments = out.read_bytes()
    assert b"midcall: does not pass (stun); nftables: does not pass" in comments
    assert b"midcall: does not pass (stun); nftables: passes" in comments
    with pytest.raises(ExperimentError, match="exists already"):
        prove.prove("mechanisms/stun", "nftables", CAPTURES, out)


def test_a_packet_that_passes_no_engine_without_rules_is_not_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Deaf(Twin):
        def play(self, chosen: Sequence[LabPacket]) -> Answers:
            return Answers(np.zeros(len(chosen), np.bool_))

    as_engine(monkeypatch, Deaf(lambda policy: policy))
    proof = prove.prove("mechanisms/stun", "nftables", CAPTURES, tmp_path / "d.pcapng")
    assert (proof["packets"], proof["differs"]) == (0, 0)


@pytest.mark.parametrize(
    ("keys", "changes"),
    [
        ({"scope": "packet"}, True),
        ({"way": "up"}, True),
        ({"way": "down"}, True),
        ({"act": "pass"}, True),
        ({"note": "other"}, False),
    ],
)
def test_an_edit_is_noticed_where_it_changes_a_fate_and_only_there(
    keys: dict[str, Any], changes: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twin = Twin(lambda policy: first_edit(policy, **keys))
    as_engine(monkeypatch, twin)
    changed = 0
    for name in CAPTURES:
        packets = read(name)
        policy = prove.policy_names.named("mechanisms/stun", "4g", None).policy
        lab = prove.lab_capture(packets)
        one, other = (
            our_box(lab.packets, rules, "4g").passes for rules in (policy, twin.edit(policy))
        )
        changed += int((one != other).sum())
    proof = prove.prove("mechanisms/stun", "iptables", CAPTURES, tmp_path / "d.pcapng")
    assert proof["differs"] == changed
    assert bool(changed) == changes


def test_a_refusal_has_its_reason_and_writes_nothing(tmp_path: Path) -> None:
    words = ["policy", "prove", "egypt-2015/media-only", "--engine", "suricata", "--json"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 1
    proof = json.loads(done.stdout)
    assert proof["packets"] == 0
    assert not proof["exact"]
    assert "drop-media" in proof["reason"]
    out = tmp_path / "out"
    done = CliRunner().invoke(
        app, ["policy", "export", "egypt-2015/media-only", "--to", "suricata", "-o", str(out)]
    )
    assert done.exit_code == 1
    assert not out.exists()


@pytest.mark.parametrize("engine", ["suricata", "ndpi"])
def test_an_offline_engine_answers(engine: str, tmp_path: Path) -> None:
    program = {"suricata": "suricata", "ndpi": "ndpiReader"}[engine]
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    policy = {"suricata": "mechanisms/stun", "ndpi": "mechanisms/call-ports"}[engine]
    proof = prove.prove(policy, engine, CAPTURES, tmp_path / "d.pcapng")
    assert proof["packets"] > 0
    assert proof["differs"] == 0


def test_suricata_notices_a_rule_that_it_was_not_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if shutil.which("suricata") is None:
        pytest.skip("suricata is not installed")
    from midcall.testbed.engines.offline_engines import Suricata

    class Without(Suricata):
        def load(self, policy: Policy) -> None:
            super().load(first_edit(policy, scope="packet"))

    as_engine(monkeypatch, Without())
    proof = prove.prove("mechanisms/stun", "suricata", CAPTURES, tmp_path / "d.pcapng")
    assert proof["differs"] > 0
    assert proof["smallest"] == {"file": str(tmp_path / "d.pcapng"), "packets": 2}
