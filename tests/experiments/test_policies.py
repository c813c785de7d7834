# SPDX-License-Identifier: BSD-3-Clause
"""Policies and conformance on the command line."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from midcall.captures.packets.writer import write_pcap
from midcall.errors import ExperimentError
from midcall.experiments.cli import policy_text
from midcall.experiments.cli.app import app
from midcall.experiments.spec.policy_names import policy_named
from midcall.experiments.tools import conformance_text
from midcall.locations import OPERATORS
from midcall.testbed.conformance.run import Outcome
from midcall.testbed.conformance.scenarios import SCENARIOS
from midcall.testbed.conformance.transcript import scene
from tests.experiments.own_policy import own_policy

RUN = CliRunner()


def test_what_ships_is_listed_and_shown_rule_by_rule() -> None:
    listed = RUN.invoke(app, ["policy", "show"])
    assert listed.exit_code == 0
    assert "maroc-telecom" in listed.output
    shown = RUN.invoke(app, ["policy", "show", "maroc-telecom"]).output
    assert "stun-any-port: stun = true -> drop" in shown
    assert "[C, hypothesis]" in shown
    assert "2016-01-05 to 2016-11-04 on 3g, 4g" in shown


def test_checking_a_file_says_that_it_is_sound_or_what_is_not(tmp_path: Path) -> None:
    sound = OPERATORS / "inwi.toml"
    assert RUN.invoke(app, ["policy", "check", str(sound)]).exit_code == 0
    bad = tmp_path / "op.toml"
    bad.write_text('id = "op"\ntitel = "Op"\ncountry = "MA"\n', encoding="utf-8")
    result = RUN.invoke(app, ["policy", "check", str(bad)])
    assert result.exit_code == 2
    assert "titel: unknown key; did you mean title?" in result.output


def test_hellos_of_a_capture_are_listed_as_a_rule_takes_them(tmp_path: Path) -> None:
    path = tmp_path / "a.pcap"
    write_pcap(path, scene("0.0 > udp peer:40100 dtls-hello\n0.1 > udp peer:40100 dtls"))
    (hello,) = policy_text.hellos(str(path))
    assert hello.line == "0e419e51db7f84b7  frame 1, udp 40100"
    write_pcap(path, scene("0.1 > udp peer:40100 dtls"))
    with pytest.raises(ExperimentError, match="no ClientHello"):
        policy_text.hellos(str(path))


def test_conformance_counts_what_passed_and_shows_what_did_not() -> None:
    outcomes = [Outcome(SCENARIOS[0], ""), Outcome(SCENARIOS[1], "fates: got x, expected d")]
    assert conformance_text.counts(outcomes) == {"scenarios": 2, "passed": 1}
    result = conformance_text.lines(outcomes)
    assert result[0].startswith("ok  match.app")
    assert result[1].startswith("NO  match.role")
    assert result[1].endswith("fates: got x, expected d")
    assert result[2] == "1 of 2 scenarios as the table says"


def test_a_policy_that_is_never_in_force_says_what_to_change(tmp_path: Path) -> None:
    name = own_policy(tmp_path, 'match = { stun = true }\nact = "drop"')
    with pytest.raises(ExperimentError, match="never in force on 3g; give another --access"):
        policy_named(name, "3g", None)
    path = tmp_path / "own.toml"
    begin, _, rest = path.read_text().partition("[[period]]")
    path.write_text(begin + "[[hypothesis]]" + rest.partition("[[hypothesis]]")[2])
    with pytest.raises(ExperimentError, match=r"no \[\[period\]\]"):
        policy_named(name, "4g", None)
