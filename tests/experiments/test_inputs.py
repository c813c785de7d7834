# SPDX-License-Identifier: BSD-3-Clause
"""Commands on what people have: pipes, compressed files, odd names, full disks, pcapng out."""

from __future__ import annotations

import csv
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import get_args

import dpkt
import pytest
import zstandard
from typer.testing import CliRunner, Result

from midcall.apps import APPS
from midcall.captures.own.add import Kind
from midcall.captures.packets.pcap import packets_of, read
from midcall.captures.packets.writer import write_pcap
from midcall.experiments.cells.classify import classify_file
from midcall.experiments.cli.app import app
from midcall.experiments.tools.annotate import classified, comments

ROOT = Path(__file__).resolve().parents[2]
CALL = ROOT / "captures" / "samples" / "sample-whatsapp-audio.pcap"
DNS = CALL.with_name("sample-dns.pcap")
COMMAND = [sys.executable, "-m", "midcall.experiments.cli.app"]
PLACE = os.environ | {"PYTHONPATH": str(ROOT)}


def midcall(*words: object) -> Result:
    """Run a command in this process."""
    return CliRunner().invoke(app, [str(word) for word in words])


def piped(content: bytes, *words: str) -> subprocess.CompletedProcess[bytes]:
    """Run a command that reads a capture from a pipe."""
    return subprocess.run(
        [*COMMAND, *words], input=content, capture_output=True, check=False, env=PLACE
    )


def said(done: subprocess.CompletedProcess[bytes]) -> str:
    """Return what a process said, but not that it compiled."""
    return without_notice(done.stderr)


def without_notice(stderr: bytes) -> str:
    """Return what was said, but not that the packet path was compiled."""
    return stderr.decode().replace("midcall: compiling the packet path, once\n", "")


def table(text: str) -> list[dict[str, str]]:
    """Return rows of CSV without the file."""
    rows = list(csv.DictReader(io.StringIO(text)))
    return [{key: value for key, value in row.items() if key != "file"} for row in rows]


# ---- the standard input


def test_rows_of_a_pipe_are_those_of_the_file() -> None:
    done = piped(CALL.read_bytes(), "classify", "-", "--format", "csv")
    assert (done.returncode, said(done)) == (0, "")
    assert table(done.stdout.decode()) == table(midcall("classify", CALL, "--format", "csv").stdout)
    assert done.stdout.splitlines()[1].startswith(b'"-",')


def test_explain_and_replay_read_a_compressed_pipe() -> None:
    packed = zstandard.ZstdCompressor().compress(CALL.read_bytes())
    result = piped(packed, "explain", "-")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(b"standard input: 698 packets, 12 flows\n")
    played = piped(packed, "replay", "-", "--policy", "none")
    assert played.returncode == 0, played.stderr
    assert played.stdout.startswith(b"standard input through none on 4g\n")


def test_ctrl_c_ends_a_live_capture_and_its_rows_are_printed() -> None:
    worker = subprocess.Popen(
        [*COMMAND, "classify", "-", "--format", "csv"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=PLACE,
    )  # fmt: skip
    assert worker.stdin is not None
    assert worker.stdout is not None
    assert worker.stderr is not None
    worker.stdin.write(CALL.read_bytes()[:-7])
    worker.stdin.flush()
    limit = time.monotonic() + 60
    while b"pipe" not in waiting_for(worker.pid) and time.monotonic() < limit:
        time.sleep(0.1)
    worker.send_signal(signal.SIGINT)
    out, err = worker.stdout.read(), worker.stderr.read()
    assert worker.wait() == 0, err
    assert len(table(out.decode())) == 12
    assert without_notice(err) == (
        "midcall: warning: standard input: interrupted; what came before is read\n"
    )
    worker.stdin.close()
    worker.stdout.close()
    worker.stderr.close()


def waiting_for(process: int) -> bytes:
    """Return what a process waits for, b"pipe" where the handler of Ctrl-C is set and it sleeps."""
    status = Path(f"/proc/{process}/status").read_text(encoding="ascii")
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
    where = Path(f"/proc/{process}/wchan")
    sleeping = b"poll" in where.read_bytes() or b"select" in where.read_bytes()
    return b"pipe" if int(caught.split()[1], 16) & 2 and sleeping else b""


def test_a_standard_input_that_cannot_be_read_is_one_sentence() -> None:
    for words, content, sentence in (
        (("classify", "-"), b"", "standard input: the file is empty"),
        (("classify", "-"), b"hello, this is text", "standard input: not a capture"),
        (("classify", "-", "-"), b"", "-: the standard input is named more than once"),
        (("classify", "-", "-o", "out/"), b"", "-: the standard input cannot be classified into"),
        (("explain", "-"), b"hello", "standard input: not a capture"),
    ):
        done = piped(content, *words)
        assert done.returncode == 2
        assert sentence in said(done)
        assert len(said(done).splitlines()) == 1


# ---- names and disks


def test_a_name_that_is_not_utf_8_is_escaped(tmp_path: Path) -> None:
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.pcap")
    Path(odd).write_bytes(DNS.read_bytes())
    missing = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe8.pcap")
    command = [*COMMAND, "classify", missing, odd, str(DNS), "--format", "csv"]
    done = subprocess.run(command, capture_output=True, check=False, env=PLACE)
    assert done.returncode == 2
    assert said(done) == f"midcall: {tmp_path}/caf\\xe8.pcap: no such file\n"
    files = {row["file"] for row in csv.DictReader(io.StringIO(done.stdout.decode()))}
    assert files == {f"{tmp_path}/caf\\xe9.pcap", str(DNS)}
    result = subprocess.run([*COMMAND, "explain", odd], capture_output=True, check=False, env=PLACE)
    assert result.stdout.decode().startswith(f"{tmp_path}/caf\\xe9.pcap: ")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("form", ["table", "csv", "json", "parquet", "pcapng"])
def test_a_full_disk_is_told_with_the_option_of_the_command(form: str) -> None:
    result = midcall("classify", DNS, "--format", form, "-o", "/dev/full")
    assert result.exit_code == 2
    assert "No space left on device" in result.stderr
    assert "as -o OUT" in result.stderr
    assert "--runs" not in result.stderr


def test_a_suffix_without_a_format_is_refused_with_those_that_have_one(tmp_path: Path) -> None:
    result = midcall("classify", DNS, "-o", tmp_path / "x.xlsx")
    assert result.exit_code == 2
    assert "no format has the suffix .xlsx, expected one of .csv, .json, .parquet, .pcapng" in (
        result.stderr
    )
    assert list(tmp_path.iterdir()) == []


# ---- pcapng with comments


def test_a_pcapng_output_has_the_packets_and_the_verdicts_as_comments(tmp_path: Path) -> None:
    out = tmp_path / "out.pcapng"
    assert midcall("classify", CALL, "-o", out).exit_code == 0
    before, after = read(CALL), read(out)
    assert [after.frame(i) for i in range(after.total)] == [
        before.frame(i) for i in range(before.total)
    ]
    assert after.time.tolist() == before.time.tolist()
    assert after.wire.tolist() == before.wire.tolist()
    expected = comments(classified(str(CALL), "x"))
    with out.open("rb") as file:
        found = commented(file)
    assert found == expected
    rows = classify_file(str(CALL)).table.to_pylist()
    for at, row in enumerate(rows, 1):
        texts = [text for text in expected.values() if text.startswith(f"midcall: flow {at}, ")]
        assert len(texts) in (1, 2)
        for text in texts:
            assert f"verdict {row['verdict']}, app {row['app']}, role {row['role']}" in text
            assert text.endswith(f"evidence: {row['evidence']}")


def commented(file: io.BufferedReader) -> dict[int, str]:
    """Return the comments that dpkt reads, by the position of their packet."""
    found, position = {}, 0
    content = file.read()
    at = 0
    while at < len(content):
        kind, size = (int.from_bytes(content[at + i : at + i + 4], "little") for i in (0, 4))
        if kind == dpkt.pcapng.PCAPNG_BT_EPB:
            block = dpkt.pcapng.EnhancedPacketBlockLE(content[at : at + size])
            for one in block.opts:
                if one.code == dpkt.pcapng.PCAPNG_OPT_COMMENT:
                    found[position] = one.text
            position += 1
        at += size
    file.seek(0)
    assert len(list(dpkt.pcapng.Reader(file))) == position
    return found


def test_the_deciding_packet_is_found_among_packets_of_one_time(tmp_path: Path) -> None:
    whole, path = read(CALL), tmp_path / "same.pcap"
    write_pcap(path, packets_of([whole.frame(i) for i in range(60)], [5_000_000] * 60))
    decided = classified(str(path), "x")
    for at, packet in enumerate(decided.packets.tolist()):
        if packet >= 0:
            flow = decided.survey.flows[at]
            reference = classified(str(CALL), "x")
            same = int(reference.packets[at])
            assert packet == same or flow["verdict"] != reference.survey.flows[at]["verdict"]


def test_several_captures_or_the_input_itself_are_refused(tmp_path: Path) -> None:
    out = tmp_path / "a.pcapng"
    result = midcall("classify", CALL, DNS, "-o", out)
    assert result.exit_code == 2
    assert "has the packets of one capture, got 2 captures" in result.stderr
    assert midcall("classify", CALL, "-o", out).exit_code == 0
    result = midcall("classify", out, "-o", out)
    assert result.exit_code == 2
    assert "is the input" in result.stderr


# ---- flows by display filters


def test_a_flow_is_named_by_the_display_filter_that_explain_prints() -> None:
    listing = midcall("explain", CALL, "--flow", "5").stdout
    lines = listing.splitlines()
    at = next(i for i, line in enumerate(lines) if line.startswith(">"))
    result = midcall("explain", CALL, "--flow", lines[at + 1].strip())
    assert result.stdout == listing
    assert lines[at + 1].endswith(" && udp.stream==3")
    several = midcall("explain", CALL, "--flow", "ip.addr==198.18.10.1")
    assert several.exit_code == 2
    assert "names 12 flows (1, 2, 3, 4, 5, 6, 7, 8 ...), expected one" in several.stderr


def test_a_stream_number_names_a_flow_of_every_command(tmp_path: Path) -> None:
    assert "\nflow 3: udp " in midcall("explain", CALL, "--flow", "udp.stream eq 1").stdout
    assert midcall(
        "replay", CALL, "--policy", "none", "--app", "whatsapp", "--flow", "udp.stream eq 1"
    ).exit_code == 0  # fmt: skip
    result = midcall("explain", CALL, "--flow", "udp.stream eq 99")
    assert result.exit_code == 2
    assert "no udp.stream 99; the capture has: 0 to " in result.stderr


# ---- help, and small things


@pytest.mark.parametrize(
    "words", [(), ("classify",), ("captures",), ("captures", "add"), ("policy",), ("runs", "show")]
)
def test_h_is_help(words: tuple[str, ...]) -> None:
    short, long = midcall(*words, "-h"), midcall(*words, "--help")
    assert short.exit_code == 0
    assert short.stdout == long.stdout


def test_the_help_of_an_addition_lists_apps_and_kinds() -> None:
    words = " ".join(midcall("captures", "add", "--help").stdout.split())
    for word in (*APPS, *get_args(Kind)):
        assert word in words


def test_a_run_that_is_not_there_is_told(tmp_path: Path) -> None:
    for command in ("report", "badge"):
        result = midcall(command, "nope", "--runs", tmp_path)
        assert result.exit_code == 2
        assert result.stderr == (
            f"midcall: no run 'nope' in {tmp_path}: none is known; midcall runs list\n"
        )


POLICY = """
id = "p"
title = "P"
country = "MA"
[[hypothesis]]
id = "h"
title = "t"
description = "d"
[[hypothesis.rule]]
name = "a"
grade = "C"
source = "s"
"""


@pytest.mark.parametrize(
    ("rule", "sentence"),
    [
        ('act = "shape"\nmatch = { stun = true }\nqueue_ms = 5.0\nrate_kbit = 99999999999999999999',
         "rate_kbit: got 99999999999999999999"),
        ('act = "stall"\nmatch = { stun = true }\nafter = { seconds = inf }', "seconds: got inf"),
        ('act = "drop"\nmatch = { packets = "99999999999999999999-" }', "packets: got"),
        ('act = "drop"\nmatch = { seconds = inf }', "seconds: got inf"),
        ('act = "drop"\nmatch = { stun_attribute = [70000] }', "stun_attribute: got 70000"),
        ('act = "drop"\nmatch = { stun = true }\nlasts_s = inf', "lasts_s: got inf"),
        ('act = "censor"\nmatch = {}\nfile = "../censor.py"', "file: got '../censor.py'"),
        ('act = "censor"\nmatch = {}\nfile = "/etc/passwd"', "file: got '/etc/passwd'"),
    ],
)  # fmt: skip
def test_a_policy_with_a_value_out_of_range_is_refused(
    tmp_path: Path, rule: str, sentence: str
) -> None:
    path = tmp_path / "p.toml"
    path.write_text(POLICY + rule + "\n", encoding="utf-8")
    result = midcall("policy", "check", path)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"midcall: {path}: hypothesis h: rule a: ")
    assert sentence in result.stderr
    assert len(result.stderr.splitlines()) == 1
