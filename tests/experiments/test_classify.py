# SPDX-License-Identifier: BSD-3-Clause
"""Classification of files: what goes in, which formats come out, what happens to bad files."""

from __future__ import annotations

import csv
import io
import json
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from midcall.captures.packets.pcap import join, packets_of, read
from midcall.captures.packets.writer import write_pcap
from midcall.classifier.export import Words
from midcall.errors import CaptureError, ExperimentError
from midcall.experiments.cells import classify

SAMPLES = Path(__file__).resolve().parents[2] / "captures" / "samples"
DNS = SAMPLES / "sample-dns.pcap"


def columns(n: int, **more: Any) -> dict[str, Any]:
    """Return classifier columns of n equal flows."""
    one: dict[str, Any] = {
        "file": 'a "b"\\c.pcap',
        "proto": "udp",
        "src_ip": "10.0.0.1",
        "src_port": 1,
        "dst_ip": "10.0.0.2",
        "dst_port": 2,
        "packets": 3,
        "bytes": 400,
        "first_ts": 1.5,
        "last_ts": 2.25,
        "verdict": "certain",
        "app": "whatsapp",
        "family": "meta",
        "role": "media",
        "confidence": 0.99,
        "packets_to_verdict": 1,
        "ms_to_verdict": 0.5,
        "evidence": "é, \n x",
    }
    kinds = {int: np.int64, float: np.float64}
    return {
        key: Words(np.zeros(n, np.int32), [value])
        if isinstance(value, str)
        else np.array([value] * n, kinds[type(value)])
        for key, value in (one | more).items()
    }


def sunk(form: str, *parts: Any) -> bytes:
    out = io.BytesIO()
    sink = classify.open_sink(form, out, terminal=False)
    for part in parts:
        sink.write(classify.rows(part, sink.coded))
    sink.close()
    return out.getvalue()


def test_the_columns_are_exactly_those_of_the_interface() -> None:
    header = sunk("csv").decode().replace('"', "").strip()
    assert header == (
        "file,proto,src_ip,src_port,dst_ip,dst_port,packets,bytes,first_ts,last_ts,verdict,app,"
        "family,role,confidence,packets_to_verdict,ms_to_verdict,evidence"
    )


def test_all_formats_say_the_same_rows() -> None:
    table = columns(2)
    expected = classify.rows(table).to_pylist() * 2
    assert json.loads(sunk("json", table, table)) == expected
    assert pq.read_table(io.BytesIO(sunk("parquet", table, table))).to_pylist() == expected
    read = list(csv.DictReader(io.StringIO(sunk("csv", table, table).decode(), newline="")))
    assert [row["evidence"] for row in read] == [row["evidence"] for row in expected]
    assert [float(row["ms_to_verdict"]) for row in read] == [0.5] * 4


def test_small_tables_share_a_row_group(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classify, "CHUNK", 4)
    parts = [columns(1, evidence=word) for word in "aabacdbbe"]
    file = pq.ParquetFile(io.BytesIO(sunk("parquet", *parts)))
    groups = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
    assert groups == [4, 4, 1]
    assert file.read()["evidence"].to_pylist() == list("aabacdbbe")


def test_no_rows_are_a_whole_document_in_every_format() -> None:
    empty = columns(0)
    assert json.loads(sunk("json", empty)) == []
    assert json.loads(sunk("json")) == []
    assert len(sunk("csv", empty).splitlines()) == 1
    assert pq.read_table(io.BytesIO(sunk("parquet", empty))).num_rows == 0
    assert sunk("table") == b""


def test_an_empty_table_between_two_others_leaves_json_whole() -> None:
    full, empty = columns(1), columns(0)
    assert len(json.loads(sunk("json", empty, full, empty, full))) == 2


def test_a_wait_that_was_not_reached_is_null() -> None:
    table = columns(1, packets_to_verdict=-1, ms_to_verdict=-1.0)
    row = classify.rows(table).to_pylist()[0]
    assert row["packets_to_verdict"] is None
    assert row["ms_to_verdict"] is None
    assert json.loads(sunk("json", table))[0]["ms_to_verdict"] is None
    assert b',,,"' in sunk("csv", table)


def test_columns_are_what_arrow_makes_of_them() -> None:
    texts = ["", "é", "x" * 300, "last"]
    numbers = {pa.int64(): np.array([1, -1, 1 << 40, 0]), pa.float64(): np.array([0.5, -1, 2, 3])}
    for field, coded in zip(classify.SCHEMA, classify.CODED_SCHEMA, strict=True):
        values = numbers.get(field.type)
        for chosen in ([0, 1, 2, 3], [2, 0, 0], []):
            if values is None:
                column = Words(np.array(chosen, np.int32), texts)
                expected = pa.array([texts[i] for i in chosen], pa.string())
                assert classify.as_arrow(column, coded).to_pylist() == expected.to_pylist()
            else:
                column = values[chosen]
                mask = column < 0 if field.name in classify.WAITS else None
                expected = pa.array(column, field.type, mask=mask)
            made = classify.as_arrow(column, field)
            made.validate(full=True)
            assert made.equals(expected), field.name


def test_classifying_loads_no_pandas() -> None:
    pytest.importorskip("pandas", reason="pandas is not here, so nothing can load it")
    code = f"""
import sys
from midcall.experiments.cells.classify import classify_file
classify_file({str(DNS)!r})
sys.exit("pandas" in sys.modules)
"""
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_other_columns_than_the_interface_are_refused() -> None:
    wrong = columns(1)
    wrong.pop("evidence")
    with pytest.raises(ValueError, match="classifier columns are"):
        classify.rows(wrong)


def test_the_table_for_people_shows_calls_first_and_says_what_it_leaves_out() -> None:
    quiet = columns(classify.SHOWN, verdict="not-call", app="none", packets=9)
    text = sunk("table", quiet, columns(1)).decode()
    assert text.count("whatsapp") == 1
    assert text.splitlines()[-1] == "1 more flows are not shown; --format csv gives every one"
    assert "\x1b" not in text


def test_the_format_follows_the_name_of_the_output() -> None:
    assert classify.format_of(None, "flows.csv") == "csv"
    assert classify.format_of(None, "flows.parquet") == "parquet"
    assert classify.format_of(None, "flows.txt") == "table"
    assert classify.format_of(None, None) == "table"
    assert classify.format_of("json", "flows.csv") == "json"
    with pytest.raises(ExperimentError, match=r"^unknown format jsn \(did you mean json\?\)$"):
        classify.format_of("jsn", None)


def test_a_folder_stands_for_the_captures_in_it(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b.pcap.gz").write_bytes(b"")
    (tmp_path / "a").write_bytes(DNS.read_bytes()[:100])
    (tmp_path / "notes.txt").write_text("nothing")
    found = classify.expand(str(tmp_path))
    assert found == [str(tmp_path / "a"), str(tmp_path / "deep" / "b.pcap.gz")]


def test_a_folder_without_captures_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ExperimentError) as caught:
        classify.expand(str(tmp_path))
    assert str(caught.value) == (
        f"{tmp_path}: the folder holds no captures, expected pcap or pcapng files in it"
    )


def test_a_batch_goes_on_after_a_bad_file(tmp_path: Path) -> None:
    said: list[str] = []

    def reader(path: str) -> classify.Classified:
        if "bad" in path:
            raise CaptureError(f"{path}: no such file")
        return classify.Classified(lambda _coded: iter([classify.rows(columns(1, file=path))]), [])

    out = tmp_path / "out.json"
    whole = classify.classify(["one", "bad", "two"], None, str(out), said.append, reader)
    assert not whole
    assert said == ["bad: no such file"]
    assert [row["file"] for row in json.loads(out.read_text())] == ["one", "two"]


def test_an_output_that_fails_leaves_the_old_file_as_it_was(tmp_path: Path) -> None:
    out = tmp_path / "out.csv"
    out.write_text("old")

    def reader(path: str) -> classify.Classified:
        raise RuntimeError("a mistake of ours")

    with pytest.raises(RuntimeError):
        classify.classify(["one"], None, str(out), lambda line: None, reader)
    assert out.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["out.csv"]


def test_an_output_that_cannot_be_written_is_one_sentence(tmp_path: Path) -> None:
    out = tmp_path / "no" / "out.csv"
    with pytest.raises(ExperimentError) as caught:
        classify.classify([str(DNS)], None, str(out), lambda line: None)
    assert str(caught.value) == f"{out}: cannot be written (No such file or directory)"


def test_a_real_file_gives_its_flows() -> None:
    done = classify.classify_file(str(DNS))
    assert done.notices == []
    assert set(done.table.column("evidence").to_pylist()) == {"DNS"}


def test_a_capture_of_no_packets_gives_no_rows_and_a_notice(tmp_path: Path) -> None:
    path = tmp_path / "none.pcap"
    path.write_bytes(DNS.read_bytes()[:24])
    done = classify.classify_file(str(path))
    assert done.table.num_rows == 0
    assert done.notices == [f"{path}: the capture holds 0 packets"]


def test_a_file_cut_in_the_middle_gives_its_whole_packets_and_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "cut.pcap"
    path.write_bytes(DNS.read_bytes()[:-10])
    done = classify.classify_file(str(path))
    full = classify.classify_file(str(DNS))
    lost = sum(full.table.column("packets").to_pylist()) - sum(
        done.table.column("packets").to_pylist()
    )
    assert lost == 1
    assert len(done.notices) == 1
    assert done.notices[0].startswith(f"{path}: record ")


def test_an_unknown_link_type_is_an_error_and_a_few_such_packets_a_notice(tmp_path: Path) -> None:
    from midcall.errors import ClassifierError

    path = tmp_path / "odd.pcap"
    write_pcap(path, packets_of([b"\0" * 60] * 2, [1, 2], link=147))
    with pytest.raises(ClassifierError, match=r"odd.pcap: unknown link type 147, expected one of "):
        classify.classify_file(str(path))


def test_rows_of_the_standard_input_come_as_flows_end(tmp_path: Path) -> None:
    packets = read(DNS)
    later = packets._replace(time=packets.time + 200 * 10**9)
    write_pcap(tmp_path / "twice.pcap", join([packets, later]))
    whole = (tmp_path / "twice.pcap").read_bytes()
    half = 24 + (len(whole) - 24) // 2
    out = tmp_path / "rows.csv"
    command = [sys.executable, "-m", "midcall", "classify", "-", "--format", "csv"]
    with (
        out.open("wb") as rows,
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=rows) as run,
    ):
        assert run.stdin is not None
        run.stdin.write(whole[: half + 200])
        run.stdin.flush()
        once = classify.classify_file(str(DNS)).table.num_rows
        deadline = time.monotonic() + 60
        while len(out.read_text().splitlines()) < 1 + once and time.monotonic() < deadline:
            time.sleep(0.05)
        first = out.read_text().splitlines()
        run.stdin.write(whole[half + 200 :])
        run.stdin.close()
        assert run.wait(60) == 0
    assert len(first) == 1 + once
    lines = out.read_text().splitlines()
    assert lines[: len(first)] == first
    assert len(lines) == 1 + 2 * once
    plain = classify.classify_file(str(DNS)).table.to_pylist()
    assert [row["packets"] for row in csv.DictReader(lines)] == [
        str(row["packets"]) for row in plain * 2
    ]


def test_several_processes_give_the_same_rows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(classify, "WORTH", 0)
    (tmp_path / "broken.pcap").write_bytes(b"no capture")
    names = [str(path) for path in sorted(DNS.parent.glob("sample-w*.pcap"))]
    names.insert(2, str(tmp_path / "broken.pcap"))
    results = []
    for jobs in (1, 2):
        lines: list[str] = []
        out = tmp_path / f"{jobs}.parquet"
        assert not classify.classify(names, None, str(out), lines.append, jobs=jobs)
        results.append((pq.read_table(out), lines))
    assert results[0][0].equals(results[1][0])
    assert results[0][1] == results[1][1]
    assert len(results[0][1]) == 1
