# SPDX-License-Identifier: BSD-3-Clause
"""The command `midcall replay`: packets, fates and verdicts that fit together, and bad input."""

from __future__ import annotations

import csv
import json
import struct
from collections import Counter
from pathlib import Path
from typing import Any

import dpkt
import pytest
from typer.testing import CliRunner

from midcall.captures.fetch.locate import locate
from midcall.captures.packets.pcap import read
from midcall.captures.packets.writer import write_pcapng
from midcall.experiments.cli.app import app
from tests.experiments.own_policy import own_policy

SAMPLE = "sample-messenger-audio"


def replayed(*words: str) -> Any:
    return CliRunner().invoke(app, ["replay", *words])


@pytest.mark.parametrize(
    ("direction", "towards"),
    [("down", "client"), ("up", "server"), ("up", "client"), ("down", "server"), ("down", "both")],
)
def test_frames_that_a_box_injected_are_in_the_trace_and_in_the_fates(
    tmp_path: Path, direction: str, towards: str
) -> None:
    match = f'match = {{ protocol = "tcp", payload = ["tls"], direction = "{direction}" }}'
    policy = own_policy(tmp_path, f'{match}\nact = "reset"\ntowards = "{towards}"')
    trace, fates = tmp_path / "out.pcapng", tmp_path / "fates.csv"
    done = replayed(SAMPLE, "--policy", policy, "-o", str(trace), "--fates", str(fates),
                    "--json")  # fmt: skip
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)["packets"]
    rows = list(csv.DictReader(fates.read_text().splitlines()))
    kinds = Counter(row["fate"] for row in rows)
    assert result["injected"] == kinds["injected"] > 0
    assert result["sent"] == len(rows) - kinds["injected"] - kinds["not_sent"]
    assert result["delivered"] == kinds["delivered"]
    assert trace.read_bytes().count(b"injected by rule one") == kinds["injected"]


def test_a_trace_is_a_pcapng_file_that_others_read(tmp_path: Path) -> None:
    trace = tmp_path / "out.pcapng"
    assert replayed(SAMPLE, "--policy", "none", "-o", str(trace)).exit_code == 0
    with trace.open("rb") as file:
        frames = list(dpkt.pcapng.Reader(file))
    times = [time for time, _ in frames]
    assert times == sorted(times)
    assert all(isinstance(dpkt.ethernet.Ethernet(one).data, dpkt.ip.IP) for _, one in frames)


def test_fates_of_equal_seeds_are_equal(tmp_path: Path) -> None:
    texts = []
    for number in range(2):
        fates = tmp_path / f"{number}.csv"
        words = (SAMPLE, "--policy", "mechanisms/loss", "--link", "preset", "--fates", str(fates))
        assert replayed(*words).exit_code == 0
        texts.append(fates.read_text())
    assert texts[0] == texts[1]


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ((SAMPLE, "--policy", "nobody/stun"), "no operator 'nobody'"),
        ((SAMPLE, "--policy", "maroc-telecom/nothing"), "'nothing'"),
        ((SAMPLE, "--policy", "maroc-telecom/stun", "--date", "2014-01-01"), "no rule"),
        ((SAMPLE, "--policy", "mechanisms/evenings", "--time", "12:00"), "on 4g at 12:00"),
        ((SAMPLE, "--policy", "mechanisms/evenings", "--time", "noon"), "a time of day such as"),
        ((SAMPLE, "--policy", "maroc-telecom/stun", "--access", "5g"), "5g"),
        (("nothing.pcap", "--policy", "none"), "nothing.pcap"),
        ((SAMPLE, "--policy", "none", "-o", "/nowhere/at/all/out.pcapng"), "/nowhere/at/all"),
        ((SAMPLE, "--policy", "none", "--call", "no-such-call"), "no-such-call"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(words: tuple[str, ...], says: str) -> None:
    done = replayed(*words)
    assert done.exit_code == 2, done.output
    assert says in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_capture_without_a_flow_is_bad_input(tmp_path: Path) -> None:
    empty = tmp_path / "empty.pcap"
    empty.write_bytes(struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 1))
    done = replayed(str(empty), "--policy", "none")
    assert done.exit_code == 2
    assert len(done.stderr.strip().splitlines()) == 1


def test_a_rule_that_matches_nothing_is_a_result(tmp_path: Path) -> None:
    policy = own_policy(tmp_path, 'match = { protocol = "tcp", ports = [1] }\nact = "reset"')
    done = replayed(SAMPLE, "--policy", policy, "--json")
    assert done.exit_code == 0
    assert {call["verdict"] for call in json.loads(done.stdout)["calls"]} == {"OK"}


@pytest.mark.parametrize(
    ("rule", "described", "other"),
    [
        ('match = { protocol = "tcp" }\nact = "drop"', "SIGNALLING_BLOCKED", "OK"),
        ('match = { stun = true }\nact = "drop"\nscope = "packet"', *["SETUP_BLOCKED"] * 2),
    ],
)
def test_media_wait_for_signalling_where_the_call_is_described_and_for_a_readable_set_up_always(
    tmp_path: Path, rule: str, described: str, other: str
) -> None:
    name = "sample-whatsapp-audio"
    packets = read(locate(name))
    shorter = tmp_path / "shorter.pcapng"
    write_pcapng(shorter, packets.take(slice(0, packets.total - 1)))
    policy = own_policy(tmp_path, rule)
    for capture, verdict in ((name, described), (str(shorter), other)):
        result = json.loads(replayed(capture, "--policy", policy, "--json").stdout)
        (call,) = result["calls"]
        assert (call["verdict"], result["inferred"]) == (verdict, capture != name)
        assert (call["media_sent"] == 0) is (verdict != "OK")
