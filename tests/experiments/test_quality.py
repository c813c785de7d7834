# SPDX-License-Identifier: BSD-3-Clause
"""`midcall quality`: its columns, its formats, and the truth from RTP headers."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import Result
from typer.testing import CliRunner

from midcall.captures.packets.pcap import Packets, join, packets_of, read
from midcall.captures.packets.writer import write_pcap
from midcall.errors import ExperimentError
from midcall.experiments.cells import classify
from midcall.experiments.cli.app import app
from midcall.experiments.measure import rtp_truth
from midcall.experiments.tools import quality
from midcall.testbed.assess.mos_by_second import mos_by_second
from tests.classifier.wire import ether, rtp, udp_packet

SAMPLES = Path(__file__).resolve().parents[2] / "captures" / "samples"
VIDEO, WEB = SAMPLES / "sample-whatsapp-video.pcap", SAMPLES / "sample-web.pcap"
#: The columns of the output, in order.
NAMES = [
    "capture",
    "flow",
    "direction",
    "second",
    "packets",
    "bytes",
    "media",
    "frame_rate",
    "frame_rate_low",
    "frame_rate_high",
    "loss",
    "gap_ms",
    "silent",
    "jitter_ms",
    "mos",
    "confidence",
]
MS = 1_000_000


def run(*words: str | Path) -> str:
    """Return what a command prints; it must succeed."""
    result = CliRunner().invoke(app, ["quality", *map(str, words)])
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_columns_are_those_of_the_documentation() -> None:
    rows = list(csv.DictReader(io.StringIO(run(VIDEO, "--format", "csv"))))
    assert list(rows[0]) == NAMES
    assert {row["direction"] for row in rows} == {"up", "down"}
    assert {row["media"] for row in rows} <= {"audio", "video", "screen", "data", ""}
    assert sum(row["media"] == "video" for row in rows) > 5


def test_truth_adds_columns_and_changes_no_other() -> None:
    plain = list(csv.DictReader(io.StringIO(run(VIDEO, "--format", "csv"))))
    true = list(csv.DictReader(io.StringIO(run(VIDEO, "--format", "csv", "--truth"))))
    assert [{name: row[name] for name in NAMES} for row in true] == plain
    assert {name for name in true[0] if name not in NAMES} == {
        f"{name}_true"
        for name in ("media", "frame_rate", "loss", "gap_ms", "silent", "jitter_ms", "mos")
    }
    assert any(row["frame_rate_true"] for row in true)


def test_a_capture_without_media_gives_the_header_alone() -> None:
    assert run(WEB, "--format", "csv").splitlines() == [",".join(f'"{name}"' for name in NAMES)]
    assert json.loads(run(WEB, "--format", "json")) == []
    assert run(WEB).split() == NAMES[1:]


def test_a_table_names_every_column_in_full() -> None:
    plain = list(csv.DictReader(io.StringIO(run(VIDEO, "--format", "csv", "--truth"))))
    assert run(VIDEO, "--truth").splitlines()[0].split() == list(plain[0])[1:]


def test_every_format_has_the_same_rows(tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(run(VIDEO, "--format", "csv"))))
    assert len(json.loads(run(VIDEO, "--format", "json"))) == len(rows)
    run(VIDEO, "-o", tmp_path / "quality.parquet")
    table = pq.read_table(tmp_path / "quality.parquet")
    assert table.num_rows == len(rows)
    assert table.column("second").to_pylist() == [int(row["second"]) for row in rows]
    assert len(run(VIDEO).splitlines()) == len(rows) + 1


def odd(packets: Packets, how: str) -> Packets:
    """Return packets with a property that no sound capture has."""
    half = np.arange(packets.total) >= packets.total // 2
    changed = {
        "no packet": packets.take(slice(0, 0)),
        "one packet": packets.take(slice(0, 1)),
        "one direction": packets.take(np.arange(0, packets.total, 2)),
        "all twice": packets.take(np.repeat(np.arange(packets.total), 2)),
        "one time": packets._replace(time=np.full(packets.total, packets.time[0])),
        "backwards": packets._replace(time=packets.time[::-1].copy()),
        "an hour back": packets._replace(time=packets.time - half * 3600 * 1000 * MS),
        "a year on": packets._replace(time=packets.time + half * 365 * 86_400 * 1000 * MS),
    }
    return changed[how]


@pytest.mark.parametrize(
    "how",
    ["no packet", "one packet", "one direction", "all twice", "one time", "backwards",
     "an hour back", "a year on"],
)  # fmt: skip
def test_an_odd_capture_gives_rows_and_no_loss_out_of_range(tmp_path: Path, how: str) -> None:
    path = tmp_path / "odd.pcap"
    write_pcap(path, odd(read(VIDEO), how))
    words = ("--format", "csv", "--truth", "--flows", "all", "--far", path)
    rows = list(csv.DictReader(io.StringIO(run(path, *words))))
    seconds = [(row["flow"], row["direction"], int(row["second"])) for row in rows]
    assert len(set(seconds)) == len(seconds)
    assert all(second >= 0 for _, _, second in seconds)
    shares = [row[name] for row in rows for name in ("loss", "confidence", "path_loss")]
    assert all(0 <= float(share) <= 1 for share in shares if share)


def test_all_flows_have_rows_if_asked(tmp_path: Path) -> None:
    every = list(csv.DictReader(io.StringIO(run(WEB, "--format", "csv", "--flows", "all"))))
    assert every
    assert not any(row["media"] == "audio" and row["loss"] not in ("", "0") for row in every)


def classified(*words: str | Path) -> Result:
    """Run `midcall classify` of the sample with video."""
    return CliRunner().invoke(app, ["classify", *map(str, (VIDEO, *words))])


def test_classify_writes_the_same_rows_in_the_same_pass(tmp_path: Path) -> None:
    out, flows = tmp_path / "quality.csv", tmp_path / "flows.csv"
    assert classified("--quality", out, "-o", flows).exit_code == 0
    assert out.read_text() == run(VIDEO, "--format", "csv")
    assert classified("-o", tmp_path / "plain.csv").exit_code == 0
    assert flows.read_text() == (tmp_path / "plain.csv").read_text()


def test_files_at_once_have_the_same_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classify, "WORTH", 0)
    names = [str(VIDEO), str(WEB), str(SAMPLES / "sample-messenger-audio.pcapng")]
    for jobs in ("1", "2"):
        words = ["classify", *names, "--quality", f"{tmp_path}/{jobs}.csv", "-j", jobs]
        assert CliRunner().invoke(app, words).exit_code == 0
    assert (tmp_path / "1.csv").read_text() == (tmp_path / "2.csv").read_text()
    assert (tmp_path / "1.csv").read_text() == run(*names, "--format", "csv")


def test_flows_of_the_standard_input_are_measured_as_they_end(tmp_path: Path) -> None:
    packets = read(VIDEO)
    later = packets._replace(time=packets.time + 200 * 10**9)
    write_pcap(tmp_path / "twice.pcap", join([packets, later]))
    out = tmp_path / "quality.csv"
    words = ["classify", "-", "--quality", str(out), "-o", f"{tmp_path}/flows.csv"]
    with (tmp_path / "twice.pcap").open("rb") as piped:
        subprocess.run([sys.executable, "-m", "midcall", *words], stdin=piped, check=True)
    rows = list(csv.DictReader(io.StringIO(out.read_text())))
    once = list(csv.DictReader(io.StringIO(run(VIDEO, "--format", "csv"))))
    assert len(rows) == 2 * len(once)
    for row, again in zip(rows, once + once, strict=True):
        row["second"] = str(int(row["second"]) % 200)
        row["capture"] = again["capture"]
        assert row == again


@pytest.mark.parametrize(
    "words", [("-o", "out/"), ("-o", "x.pcapng"), ("--cores", "2"), ("-o", "q.csv")]
)
def test_quality_beside_an_output_that_cannot_have_it_is_refused(words: tuple[str, str]) -> None:
    result = classified("--quality", "q.csv", *words)
    assert result.exit_code == 2
    assert result.output.count("--quality q.csv: ") == 1
    assert "Traceback" not in result.output


def test_rows_of_the_standard_input_are_written_as_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "call.pcap"
    write_pcap(path, call(audio(30, {77, 205})))
    whole, words = path.read_bytes(), ["quality", "-", "--format", "csv", "--flows", "all"]
    half = len(whole) // 2
    command = [sys.executable, "-m", "midcall", *words]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as running:
        assert running.stdin is not None
        assert running.stdout is not None
        running.stdin.write(whole[:half])
        running.stdin.flush()
        first = [running.stdout.readline() for _ in range(6)]  # while the input is open
        running.stdin.write(whole[half:])
        running.stdin.close()
        lines = b"".join([*first, *running.stdout]).decode()
    assert running.returncode == 0
    once = list(csv.DictReader(io.StringIO(run(path, "--format", "csv", "--flows", "all"))))
    rows = list(csv.DictReader(io.StringIO(lines)))
    assert [{**row, "capture": ""} for row in rows] == [{**row, "capture": ""} for row in once]


def test_bad_options_are_named() -> None:
    with pytest.raises(ExperimentError, match="unknown format cvs"):
        quality.write([str(VIDEO)], "cvs", None, "media", False, print)
    with pytest.raises(ExperimentError, match="--flows every: unknown"):
        quality.write([str(VIDEO)], "csv", None, "every", False, print)


def test_a_damaged_file_is_reported_and_the_others_are_measured(tmp_path: Path) -> None:
    bad = tmp_path / "bad.pcap"
    bad.write_bytes(b"no capture")
    result = CliRunner().invoke(app, ["quality", str(bad), str(VIDEO), "--format", "csv"])
    assert result.exit_code == 2
    assert len(result.stdout.splitlines()) > 5


def test_a_capture_of_the_other_end_adds_loss_and_delay_of_the_path(tmp_path: Path) -> None:
    near, far = tmp_path / "near.pcap", tmp_path / "far.pcap"
    sent = audio(6, set())
    write_pcap(near, call(sent))
    arrived = [(time + 40, payload) for n, (time, payload) in enumerate(sent) if n not in {60, 61}]
    write_pcap(far, call(arrived))
    plain = list(csv.DictReader(io.StringIO(run(far, "--format", "csv"))))
    rows = list(csv.DictReader(io.StringIO(run(far, "--format", "csv", "--far", near))))
    assert list(rows[0])[len(NAMES) :] == ["path_sent", "path_loss", "path_delay_ms"]
    assert [{name: row[name] for name in NAMES} for row in rows] == plain


@pytest.mark.parametrize("captures", [[str(SAMPLES)], ["-"]])
def test_the_other_end_goes_with_one_capture(captures: list[str]) -> None:
    with pytest.raises(ExperimentError, match=r"--far .*: goes with one capture file"):
        quality.write(captures, "csv", None, "media", False, print, str(VIDEO))


# ---- truth


def call(sent: list[tuple[float, bytes]]) -> Packets:
    """Return packets of one UDP flow; times in ms."""
    sent = sorted(sent, key=lambda one: one[0])
    frames = [ether(udp_packet(payload)) for _, payload in sent]
    return packets_of(frames, [round(time * MS) for time, _ in sent])


def truth_of(packets: Packets) -> dict[int, rtp_truth.TrueSecond]:
    """Return the truth of the only direction of a capture."""
    ones = np.ones(packets.total, np.int64)
    ((_, _, heard),) = rtp_truth.directions(rtp_truth.headers(packets, 0 * ones, ones))
    return rtp_truth.seconds(heard, int(packets.time[0]))


def audio(seconds: int, missing: set[int]) -> list[tuple[float, bytes]]:
    """Return audio of 20 ms and 48 kHz without the packets with some numbers."""
    numbers = [n for n in range(50 * seconds) if n not in missing]
    return [(20.0 * n, rtp(111, n, 960 * n, ssrc=7)) for n in numbers]


def test_lost_packets_are_those_whose_numbers_are_missing() -> None:
    truth = truth_of(call(audio(5, {60, 61, 130})))
    assert [truth[second].loss for second in range(5)] == [0, 2 / 50, 1 / 50, 0, 0]
    assert truth[1].gap_ms == 60
    assert all(truth[second].jitter_ms == 0 for second in range(4))


def test_silence_is_a_pause_while_the_clock_goes_on() -> None:
    sent = [(20.0 * n, rtp(111, n, 960 * n, ssrc=7)) for n in range(100)]
    sent += [(20.0 * (n + 150), rtp(111, n, 960 * (n + 150), ssrc=7)) for n in range(100, 200)]
    truth = truth_of(call(sent))
    assert [truth[second].silent for second in range(7)] == [False] * 2 + [True] * 3 + [False] * 2
    assert all(truth[second].loss == 0 for second in (0, 1, 5, 6))
    stopped = [(time, rtp(111, n, 960 * n, ssrc=7)) for n, (time, _) in enumerate(sent)]
    assert truth_of(call(stopped))[3].silent is False


def test_a_frame_is_a_timestamp_and_retransmissions_are_none() -> None:
    sent = audio(4, set())
    for frame in range(100):
        for part in range(3):
            time = 40.0 * frame + 3 * part
            sent.append((time, rtp(96, 3 * frame + part, 3600 * frame, ssrc=8, size=900)))
            if part == 0:
                again = rtp(97, frame, 3600 * (frame - frame % 2), ssrc=9, size=300)
                sent.append((time + 15, again))
    truth = truth_of(call(sent))
    assert [truth[second].frame_rate for second in range(4)] == [25] * 4
    assert all(truth[second].media == "video" for second in range(4))


def test_mos_falls_with_loss_and_is_unknown_without_it() -> None:
    loss, jitter = np.array([0, 0.02, 0.1, 1.0, np.nan]), np.array([1, 1, 1, np.nan, 1.0])
    scores = mos_by_second(loss, jitter)
    assert scores[0] > 4.3
    assert np.all(np.diff(scores[:4]) < 0)
    assert scores[3] == 1
    assert np.isnan(scores[4])


def test_true_columns_are_close_to_the_estimate_where_the_stream_is_plain(tmp_path: Path) -> None:
    path = tmp_path / "call.pcap"
    write_pcap(path, call(audio(10, {77, 205, 206})))
    rows = list(csv.DictReader(io.StringIO(run(path, "--format", "csv", "--truth"))))
    known = [row for row in rows if row["loss"] and row["loss_true"]]
    assert len(known) > 6
    assert all(abs(float(row["loss"]) - float(row["loss_true"])) <= 0.04 for row in known)
    assert all(abs(float(row["mos"]) - float(row["mos_true"])) <= 0.5 for row in known)
