# SPDX-License-Identifier: BSD-3-Clause
"""Live boxes as oracles: probes go through them, and what they decide by is found from answers."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from midcall.errors import TestbedError
from midcall.experiments.cli.app import app
from midcall.experiments.localise.oracle_session import OracleSession
from midcall.experiments.localise.payload_conditions import FixedOctets
from midcall.experiments.localise.search import localise
from midcall.testbed.conformance.transcript import scene
from midcall.testbed.live.devices import oracle as live
from midcall.testbed.live.devices.blackbox import missing
from midcall.testbed.live.devices.oracle import LiveOracle, far_image, fitted, on_lab
from midcall.testbed.policy.language import Rule
from midcall.testbed.policy.operator import Policy
from midcall.testbed.probing.probe import Ends, Probe, Sent, in_order, ip_size, probe_of

ENDS = Ends(17, bytes([192, 168, 1, 10]), 40000, bytes([198, 19, 100, 9]), 3478)
#: A short call, with STUN among what is no STUN.
CALL = """
    0.00 > udp relay:3478/40011 stun-allocate 4000
    0.02 < udp relay:3478/40011 stun-allocate-answer 4002
    0.03 > udp relay:3478/40011 rtp 160 x4 0.02
    0.04 > udp peer:9000/40012 noise 200 x3 0.01
    0.05 > tcp other:443/40013 syn
    0.06 < tcp other:443/40013 syn-ack
    0.07 > tcp other:443/40013 ack
    0.08 > tcp other:443/40013 tls-hello www.a.example
"""
#: An inline program that ends at a word.
MORTAL = """
import os, select, socket
ports = []
for name in (os.environ["MIDCALL_CALLER_PORT"], os.environ["MIDCALL_SERVER_PORT"]):
    port = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
    port.setsockopt(263, 23, 1)
    port.bind((name, 3))
    ports.append(port)
while True:
    for here in select.select(ports, [], [])[0]:
        frame = here.recv(4096)
        if b"deadly" in frame:
            raise SystemExit("it was deadly")
        ports[1 - ports.index(here)].send(frame)
"""
RULE = (
    'drop udp any any -> any any (msg:"cookie"; content:"|21 12 a4 42|"; offset:4; depth:4; '
    "sid:1000001; rev:1;)\n"
)


def packet(payload: bytes, time: float = 0.0, up: bool = True, ends: Ends = ENDS) -> Sent:
    return Sent(round(time * 1e9), up, ends, payload)


def needs_suricata() -> None:
    if lacks := missing("suricata"):
        pytest.skip("; ".join(lacks))


# ---- what goes onto the links


def test_a_packet_larger_than_the_link_goes_as_several_with_the_same_bytes() -> None:
    for size in (0, 1472, 1473, 1480, 1500, 5000, 60_000):
        parts = fitted((packet(bytes(size)),))
        assert sum(map(ip_size, parts)) == ip_size(packet(bytes(size)))
        assert max(map(ip_size, parts)) <= live.MTU


def test_each_probe_comes_from_a_subscriber_of_its_own_on_the_labs_addresses() -> None:
    far = ENDS._replace(far=bytes([203, 0, 113, 7]))
    probe: Probe = (packet(b"a"), packet(b"b", ends=far))
    one, two = on_lab(probe, 1), on_lab(probe, 2)
    assert one[0].ends.near != two[0].ends.near
    assert one[0].ends.near == one[1].ends.near
    assert one[0].ends.far == ENDS.far
    assert one[1].ends.far == two[1].ends.far == far_image(far.far)
    for sent in (*one, *two):
        assert sent.ends.near[:2] == bytes([198, 18])
        assert sent.ends.far[:2] == bytes([198, 19])
    six = ENDS._replace(near=bytes(16), far=bytes(15) + b"\1")
    assert all(part[0] == 0xFD for part in on_lab((packet(b"x", ends=six),), 3)[0].ends[1::2])


# ---- boxes


@pytest.mark.live
def test_our_own_box_is_asked_and_remembers_nothing_from_one_probe_to_the_next() -> None:
    rule = {"name": "r", "match": {"stun": True}, "act": "drop", "grade": "A", "source": "test"}
    stun, other = probe_of(scene("0.0 > udp relay:3478 stun-binding")), packet(b"plain words")
    with LiveOracle(Policy((Rule.model_validate(rule),)), patience=1.0) as box:
        assert box.blocked(stun)
        assert not box.blocked((stun[0]._replace(payload=b"plain words"),))
        assert box.blocked(in_order([other, *stun]))
        assert not box.blocked(tuple(packet(b"%d" % n, n / 1000, bool(n % 2)) for n in range(50)))


@pytest.mark.slow
@pytest.mark.live
def test_a_rule_of_suricata_is_found_from_its_answers(tmp_path: Path) -> None:
    needs_suricata()
    rules = tmp_path / "one.rules"
    rules.write_text(RULE)
    with LiveOracle("suricata", rules, patience=0.5) as box:
        finding = localise(
            OracleSession(box, noise=0.02, budget=3000, longest=1_000_000_000),
            probe_of(scene(CALL)),
        )
    assert finding.complete, finding.notes
    (clause,) = finding.clauses
    assert isinstance(clause.condition.payload, FixedOctets)
    assert clause.condition.payload.factor == "octets[4:8]"
    assert clause.condition.payload.meets(packet(bytes.fromhex("000000002112a442")))
    assert clause.factors == {"protocol", "octets[4:8]"}


@pytest.mark.live
def test_a_box_that_ends_is_told_and_is_no_answer(tmp_path: Path) -> None:
    program = tmp_path / "mortal.py"
    program.write_text(MORTAL)
    with LiveOracle(f"command: {sys.executable} {program}", patience=1.0) as box:
        assert not box.blocked((packet(b"fine"),))
        with pytest.raises(TestbedError, match="ended while it was asked"):
            box.blocked((packet(b"fine"), packet(b"deadly", 0.001)))


@pytest.mark.live
def test_the_command_asks_a_live_box(tmp_path: Path) -> None:
    needs_suricata()
    rules = tmp_path / "port.rules"
    rules.write_text('drop udp any any -> any 3478 (msg:"port"; sid:1000002; rev:1;)\n')
    sample = Path(__file__).parents[2] / "captures" / "samples" / "sample-whatsapp-gtp.pcap"
    words = ["localise", str(sample), "--box", f"suricata: {rules}", "--budget", "6"]
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "budget of 6 probes is spent" in done.stdout
    rules.write_text(rules.read_text().replace("3478", "3477"))
    done = CliRunner().invoke(app, words)
    assert done.exit_code == 0, done.output
    assert "The box blocks no packet of this capture" in done.stdout


def test_without_root_the_command_says_what_a_live_box_needs() -> None:
    if os.geteuid() == 0:
        pytest.skip("root may")
    sample = Path(__file__).parents[2] / "captures" / "samples" / "sample-dns.pcap"
    done = CliRunner().invoke(app, ["localise", str(sample), "--box", "command: true"])
    assert done.exit_code == 2
    assert "live: it needs root" in done.stderr


def test_rules_that_are_not_there_are_told(tmp_path: Path) -> None:
    from midcall.testbed.live.devices.blackbox import rules_of

    with pytest.raises(TestbedError, match="Suricata's rules cannot be read"):
        rules_of(tmp_path / "no.rules")
